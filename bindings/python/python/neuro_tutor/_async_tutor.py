"""`AsyncTutor`: the engine for asyncio programs."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Generator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Type, TypeVar, Union, overload

from . import _native
from ._messages import Feedback, Message, Rating, Session, Turn
from ._output import output_of
from ._record import Page, read, read_page
from ._reply import Reply, TypedReply, read_reply
from ._server import AsyncServer, origins
from ._settings import (
    DEFAULT_LOCATION,
    Attachment,
    Location,
    MessageInput,
    Providers,
    Seconds,
    encode,
    request,
    settings,
)
from ._stream import AsyncTurnStream, complete, in_thread
from ._tools import Tools, own_tools
from ._transfer import CHUNK, Counts, Erased, File, Imported, OnConflict, begin_export, begin_import, opened
from .errors import from_failure

if TYPE_CHECKING:
    from ._provider import Context, ModelInfo, ProviderInfo
    from ._tutor import Tutor

T = TypeVar("T")


class AsyncTutor:
    """Conversations with learners, durable and streamed: `Tutor` for asyncio, with the same names.

    ```python
    async with AsyncTutor.open("data") as tutor:
        async for event in tutor.stream("What is photosynthesis?"):
            if event.type == "text.delta":
                print(event.text, end="")
    ```

    Cancelling the task that waits for a call stops it. Providers that are written as `async`
    generators run on the event loop that calls.
    """

    def __init__(self, client: _native.Client) -> None:
        """Use `AsyncTutor.open` instead."""
        self._client = client

    @classmethod
    def open(
        cls,
        location: Location = DEFAULT_LOCATION,
        *,
        providers: Providers = None,
        default_provider: Optional[str] = None,
        owner: str = "local",
        system_prompt: Optional[str] = None,
        tools: Optional[Tools] = None,
        limits: Optional[Mapping[str, Any]] = None,
        improve_titles: bool = False,
        summarize: bool = False,
        catalog: Optional[Mapping[str, Mapping[str, Any]]] = None,
    ) -> Opening:
        """Opens a tutor: `await` it, or use it in `async with`. See `Tutor.open`."""
        text, plugins = settings(
            location,
            providers,
            default_provider=default_provider,
            tools=tools,
            owner=owner,
            system_prompt=system_prompt,
            limits=None if limits is None else dict(limits),
            improve_titles=improve_titles or None,
            summarize=summarize or None,
            catalog=None if catalog is None else dict(catalog),
        )
        return Opening(cls, lambda: _native.open(text, plugins))

    @classmethod
    def from_env(
        cls,
        location: Optional[Location] = None,
        *,
        environ: Optional[Mapping[str, str]] = None,
        owner: str = "local",
        system_prompt: Optional[str] = None,
        tools: Optional[Tools] = None,
        limits: Optional[Mapping[str, Any]] = None,
        improve_titles: bool = False,
        summarize: bool = False,
        catalog: Optional[Mapping[str, Mapping[str, Any]]] = None,
    ) -> Opening:
        """Opens a tutor as the environment says: `await` it, or use it in `async with`. See
        `Tutor.from_env`."""
        environ = os.environ if environ is None else environ
        text, plugins = settings(
            location or environ.get("DATABASE_URL") or DEFAULT_LOCATION,
            None,
            environ,
            tools=tools,
            owner=owner,
            system_prompt=system_prompt,
            limits=None if limits is None else dict(limits),
            improve_titles=improve_titles or None,
            summarize=summarize or None,
            catalog=None if catalog is None else dict(catalog),
        )
        return Opening(cls, lambda: _native.open(text, plugins))

    @property
    def owner(self) -> str:
        """Whose data this handle reads and writes."""
        return self._client.owner

    def for_owner(self, owner: str) -> AsyncTutor:
        """The same engine for another owner, who sees nothing of anybody else."""
        client = self._client.for_owner(owner)
        if isinstance(client, _native.Failure):
            raise from_failure(client)
        return type(self)(client)

    def to_sync(self) -> Tutor:
        """The same engine for blocking callers. Closing either closes both."""
        from ._tutor import Tutor

        return Tutor(self._client)

    @overload
    async def chat(
        self,
        message: Optional[MessageInput] = None,
        *,
        session: Optional[str] = None,
        create_session: bool = False,
        parent: Optional[str] = None,
        edit: Optional[str] = None,
        regenerate: Optional[str] = None,
        attachments: Optional[Sequence[Attachment]] = None,
        messages: Optional[Sequence[Mapping[str, Any]]] = None,
        tools: Optional[Tools] = None,
        output: Type[T],
        model: Optional[str] = None,
        temperature: Optional[float] = None,
        max_tokens: Optional[int] = None,
        preferences: Optional[Mapping[str, Any]] = None,
        idempotency_key: Optional[str] = None,
        timeout: Optional[Seconds] = None,
    ) -> TypedReply[T]: ...

    @overload
    async def chat(
        self,
        message: Optional[MessageInput] = None,
        *,
        session: Optional[str] = None,
        create_session: bool = False,
        parent: Optional[str] = None,
        edit: Optional[str] = None,
        regenerate: Optional[str] = None,
        attachments: Optional[Sequence[Attachment]] = None,
        messages: Optional[Sequence[Mapping[str, Any]]] = None,
        tools: Optional[Tools] = None,
        output: Optional[Mapping[str, Any]] = None,
        model: Optional[str] = None,
        temperature: Optional[float] = None,
        max_tokens: Optional[int] = None,
        preferences: Optional[Mapping[str, Any]] = None,
        idempotency_key: Optional[str] = None,
        timeout: Optional[Seconds] = None,
    ) -> Reply: ...

    async def chat(
        self,
        message: Optional[MessageInput] = None,
        *,
        session: Optional[str] = None,
        create_session: bool = False,
        parent: Optional[str] = None,
        edit: Optional[str] = None,
        regenerate: Optional[str] = None,
        attachments: Optional[Sequence[Attachment]] = None,
        messages: Optional[Sequence[Mapping[str, Any]]] = None,
        tools: Optional[Tools] = None,
        output: Optional[Union[Type[Any], Mapping[str, Any]]] = None,
        model: Optional[str] = None,
        temperature: Optional[float] = None,
        max_tokens: Optional[int] = None,
        preferences: Optional[Mapping[str, Any]] = None,
        idempotency_key: Optional[str] = None,
        timeout: Optional[Seconds] = None,
    ) -> Reply:
        """Asks, and waits for the whole reply. Cancelling the task cancels the turn. See `Tutor.chat`."""
        form, read_value = (None, None) if output is None else output_of(output)
        asked = request(
            message,
            timeout,
            attachments,
            session=session,
            create_session=create_session or None,
            parent=parent,
            edit=edit,
            regenerate=regenerate,
            messages=None if messages is None else list(messages),
            output=form,
            model=model,
            temperature=temperature,
            max_tokens=max_tokens,
            preferences=preferences,
            idempotency_key=idempotency_key,
        )
        text = await complete(self._client.chat(asked, True, own_tools(tools)))
        return read_reply(text, read_value)

    def stream(
        self,
        message: Optional[MessageInput] = None,
        *,
        session: Optional[str] = None,
        create_session: bool = False,
        parent: Optional[str] = None,
        edit: Optional[str] = None,
        regenerate: Optional[str] = None,
        attachments: Optional[Sequence[Attachment]] = None,
        messages: Optional[Sequence[Mapping[str, Any]]] = None,
        tools: Optional[Tools] = None,
        output: Optional[Union[Type[Any], Mapping[str, Any]]] = None,
        model: Optional[str] = None,
        temperature: Optional[float] = None,
        max_tokens: Optional[int] = None,
        preferences: Optional[Mapping[str, Any]] = None,
        idempotency_key: Optional[str] = None,
        timeout: Optional[Seconds] = None,
        detached: bool = False,
    ) -> AsyncTurnStream:
        """Asks, and gives the events as they come. The turn begins when the stream is first iterated,
        entered or awaited. See `Tutor.stream`."""
        form, read_value = (None, None) if output is None else output_of(output)
        asked = request(
            message,
            timeout,
            attachments,
            session=session,
            create_session=create_session or None,
            parent=parent,
            edit=edit,
            regenerate=regenerate,
            messages=None if messages is None else list(messages),
            output=form,
            model=model,
            temperature=temperature,
            max_tokens=max_tokens,
            preferences=preferences,
            idempotency_key=idempotency_key,
            detached=detached,
            streamed=True,
        )
        own = own_tools(tools)
        return AsyncTurnStream(self._client, lambda: self._client.stream(asked, True, own), read_value)

    def events(self, turn_id: str, after: int = 0) -> AsyncTurnStream:
        """The events of a turn behind number `after`: first those that have happened, then those that
        come. Closing this stream leaves the turn alone."""
        return AsyncTurnStream(self._client, lambda: self._client.events(turn_id, after))

    async def cancel(self, turn_id: str) -> Turn:
        """Stops a turn and returns it as it ended; what had arrived is kept. A turn that has ended is
        returned as it is."""
        return read(Turn, await complete(self._client.cancel(turn_id)))

    async def turn(self, turn_id: str) -> Turn:
        """A turn."""
        return read(Turn, await complete(self._client.turn(turn_id)))

    async def sessions(self, limit: int = 50, cursor: Optional[str] = None) -> Page[Session]:
        """A page of sessions, the latest used first. See `Tutor.sessions`."""
        return read_page(Session, await complete(self._client.sessions(limit, cursor)))

    async def session(self, id: str) -> Session:
        """A session."""
        return read(Session, await complete(self._client.session(id)))

    async def create_session(
        self, id: Optional[str] = None, title: Optional[str] = None, metadata: Optional[Mapping[str, Any]] = None
    ) -> Session:
        """Creates an empty session. `metadata` is the caller's own data."""
        members = encode({"id": id, "title": title, "metadata": metadata})
        return read(Session, await complete(self._client.create_session(members)))

    async def rename_session(self, id: str, title: str) -> Session:
        """Changes a session's title, which the engine then never replaces, and returns it."""
        return read(Session, await complete(self._client.update_session(id, encode({"title": title}))))

    async def update_session(
        self, id: str, *, title: Optional[str] = None, metadata: Optional[Mapping[str, Any]] = None
    ) -> Session:
        """Changes a session's title or metadata and returns it; what is None stays as it is."""
        changes = encode({"title": title, "metadata": metadata})
        return read(Session, await complete(self._client.update_session(id, changes)))

    async def delete_session(self, id: str) -> bool:
        """Deletes a session with everything in it, cancelling its running turn. False if there was none."""
        return bool(await complete(self._client.delete_session(id)))

    async def messages(
        self,
        session_id: str,
        limit: Optional[int] = None,
        before: Optional[str] = None,
        after: Optional[str] = None,
        *,
        leaf: Optional[str] = None,
        all: bool = False,
    ) -> Page[Message]:
        """A page of a session's messages in the order of the conversation. See `Tutor.messages`."""
        which = encode({"limit": limit, "before": before, "after": after, "leaf": leaf, "all": all})
        return read_page(Message, await complete(self._client.messages(session_id, which)))

    async def siblings(self, session_id: str, message_id: str) -> List[Message]:
        """The messages that follow what this one follows, itself among them: replies that were written
        again, or a learner's message as it was edited."""
        found = json.loads(await complete(self._client.siblings(session_id, message_id)))
        return [Message.from_dict(message) for message in found]

    async def set_head(self, session_id: str, message_id: str) -> Session:
        """Switches the active branch to the one that ends with this message: the next one follows it."""
        return read(Session, await complete(self._client.set_head(session_id, message_id)))

    async def delete_message(self, session_id: str, message_id: str, *, with_branch: bool = False) -> int:
        """Deletes a message for good, with the turn that wrote or answered it, and returns how many were
        deleted. If others follow it that is refused, unless they are to go with it."""
        return int(await complete(self._client.delete_message(session_id, message_id, with_branch)))

    async def context(self, session_id: str, tokens: Optional[int] = None) -> Context:
        """What a model would be sent of a conversation as it is now, before the next message: within so
        many tokens, or within what the limits and the model's window allow."""
        from ._provider import Context

        return read(Context, await complete(self._client.context(session_id, tokens)))

    async def search(self, text: str, limit: int = 50, cursor: Optional[str] = None) -> Page[Session]:
        """A page of the sessions in which every word of a text occurs, in the title or in messages, the
        latest used first. A page may be short or empty and have a cursor all the same: go on there."""
        return read_page(Session, await complete(self._client.search(text, limit, cursor)))

    async def rate(
        self, session_id: str, message_id: str, rating: Optional[Rating], comment: Optional[str] = None
    ) -> Optional[Feedback]:
        """Keeps what somebody thinks of a message, `up` or `down` and perhaps in words, in place of what they
        thought before; None takes it back. Returns what is kept."""
        kept = await complete(self._client.rate(session_id, message_id, rating, comment))
        return None if kept == "null" else read(Feedback, kept)

    async def feedback(self, session_id: str) -> List[Feedback]:
        """What somebody thought of messages of a session."""
        found = json.loads(await complete(self._client.feedback(session_id)))
        return [Feedback.from_dict(one) for one in found]

    async def erase(self) -> Erased:
        """Removes everything that is this handle's owner's, for good, cancelling what runs."""
        return read(Erased, await complete(self._client.erase()))

    async def providers(self) -> List[ProviderInfo]:
        """The configured providers, the default first."""
        from ._provider import ProviderInfo

        return [ProviderInfo.from_dict(info) for info in json.loads(await complete(self._client.providers()))]

    async def models(self, provider: str) -> List[ModelInfo]:
        """The models of a provider."""
        from ._provider import ModelInfo

        models: List[Dict[str, Any]] = json.loads(await complete(self._client.models(provider)))
        return [ModelInfo.from_dict(model) for model in models]

    async def export(
        self, file: File, *, everyone: bool = False, since: Optional[datetime] = None, skip_damaged: bool = False
    ) -> Counts:
        """Writes conversations as lines of JSON, exactly as they are, also while turns run.

        Args:
            file: A path, or an open binary file.
            everyone: True for all owners' data; else only what is this handle's.
            since: Only sessions that changed then or later.
            skip_damaged: True to leave out what is damaged, instead of ending there.
        """
        export = begin_export(self._client, everyone, since, skip_damaged)
        with opened(file, "wb") as target:
            while (lines := await complete(export.next())) is not None:
                await in_thread(target.write, lines)
        return read(Counts, await complete(export.counts()))

    async def import_(self, file: File, *, everyone: bool = False, on_conflict: OnConflict = "fail") -> Imported:
        """Reads what `export` wrote. Each session is written whole or not at all; doing it again does
        what is left to do.

        Args:
            file: A path, or an open binary file.
            everyone: True to keep the owners of the export; else everything becomes this handle's.
            on_conflict: What to do with a session that is there and differs: `fail`, `keep` it, or
                `replace` it.
        """
        importing = begin_import(self._client, everyone, on_conflict)
        with opened(file, "rb") as source:
            while chunk := await in_thread(source.read, CHUNK):
                await complete(importing.write(chunk))
        return read(Imported, await complete(importing.finish()))

    def serve(
        self, host: str = "127.0.0.1", port: int = 8000, *, cors_origins: Optional[Sequence[str]] = None
    ) -> AsyncServer:
        """Serves this tutor over HTTP: `await` it, or use it in `async with`. See `Tutor.serve`."""
        return AsyncServer(lambda: self._client.serve(host, port, origins(cors_origins)))

    async def close(self) -> None:
        """Closes the tutor and all handles on it: takes no new turn, gives running ones a moment, ends
        the others as interrupted, and closes the store. Idempotent."""
        await complete(self._client.close())

    async def aclose(self) -> None:
        """`close`, by the name that `contextlib.aclosing` wants."""
        await self.close()

    async def __aenter__(self) -> AsyncTutor:
        return self

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncTutor(owner={self.owner!r})"


class Opening(Awaitable[AsyncTutor], AbstractAsyncContextManager["AsyncTutor"]):
    """A tutor that is being opened: `await` it, or use it in `async with`."""

    def __init__(self, cls: Type[AsyncTutor], start: Callable[[], _native.Call]) -> None:
        self._cls = cls
        self._start = start
        self._tutor: Optional[AsyncTutor] = None

    async def _open(self) -> AsyncTutor:
        if self._tutor is None:
            self._tutor = self._cls(await complete(self._start()))
        return self._tutor

    def __await__(self) -> Generator[Any, Any, AsyncTutor]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncTutor:
        return await self._open()

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self._tutor is not None:
            await self._tutor.close()
