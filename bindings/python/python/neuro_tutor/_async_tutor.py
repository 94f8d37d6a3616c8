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
from ._async_conversations import AsyncConversations
from ._checks import duration, items, string, whole
from ._messages import Turn
from ._record import read
from ._reply import Reply, TypedReply, read_reply
from ._settings import (
    DEFAULT_LOCATION,
    Attachment,
    Location,
    MessageInput,
    Providers,
    FileSettings,
    Seconds,
    provider_settings,
    form_of,
    request,
    settings,
)
from ._stream import AsyncTurnStream, complete, in_thread
from ._tools import ClientTools, Tools, described_tools, own_tools
from .errors import from_failure

if TYPE_CHECKING:
    from ._files import AsyncFiles
    from ._provider import ModelInfo, ProviderInfo
    from ._server import AsyncServer
    from ._transfer import Counts, Erased, File, Imported, OnConflict
    from ._usage import Day, DayUsage, Quota, Status
    from ._tutor import Tutor

T = TypeVar("T")


class AsyncTutor(AsyncConversations):
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
        quota: Optional[Union[Quota, Mapping[str, Any]]] = None,
        files: Optional[FileSettings] = None,
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
            limits=limits,
            quota=quota,
            files=files,
            improve_titles=improve_titles or None,
            summarize=summarize or None,
            catalog=catalog,
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
        quota: Optional[Union[Quota, Mapping[str, Any]]] = None,
        files: Optional[FileSettings] = None,
        improve_titles: bool = False,
        summarize: bool = False,
        catalog: Optional[Mapping[str, Mapping[str, Any]]] = None,
    ) -> Opening:
        """Opens a tutor as the environment says: `await` it, or use it in `async with`. See
        `Tutor.from_env`."""
        environ = os.environ if environ is None else environ
        text, plugins = settings(
            environ.get("DATABASE_URL") or DEFAULT_LOCATION if location is None else location,
            None,
            environ,
            tools=tools,
            owner=owner,
            system_prompt=system_prompt,
            limits=limits,
            quota=quota,
            files=files,
            improve_titles=improve_titles or None,
            summarize=summarize or None,
            catalog=catalog,
        )
        return Opening(cls, lambda: _native.open(text, plugins))

    @property
    def owner(self) -> str:
        """Whose data this handle reads and writes."""
        return self._client.owner

    @property
    def files(self) -> AsyncFiles:
        """The uploaded files of this handle's owner."""
        from ._files import AsyncFiles

        return AsyncFiles(self._client.files())

    def for_owner(self, owner: str) -> AsyncTutor:
        """The same engine for another owner, who sees nothing of anybody else."""
        client = self._client.for_owner(string("owner", owner))
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
        client_tools: Optional[ClientTools] = None,
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
        client_tools: Optional[ClientTools] = None,
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
        client_tools: Optional[ClientTools] = None,
        output: Optional[Union[Type[Any], Mapping[str, Any]]] = None,
        model: Optional[str] = None,
        temperature: Optional[float] = None,
        max_tokens: Optional[int] = None,
        preferences: Optional[Mapping[str, Any]] = None,
        idempotency_key: Optional[str] = None,
        timeout: Optional[Seconds] = None,
    ) -> Reply:
        """Asks, and waits for the whole reply. Cancelling the task cancels the turn. See `Tutor.chat`."""
        form, read_value = form_of(output)
        asked = request(
            message,
            timeout,
            attachments,
            session=session,
            create_session=create_session or None,
            parent=parent,
            edit=edit,
            regenerate=regenerate,
            messages=items("messages", messages, "objects with role and content"),
            client_tools=described_tools(client_tools),
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
        client_tools: Optional[ClientTools] = None,
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
        form, read_value = form_of(output)
        asked = request(
            message,
            timeout,
            attachments,
            session=session,
            create_session=create_session or None,
            parent=parent,
            edit=edit,
            regenerate=regenerate,
            messages=items("messages", messages, "objects with role and content"),
            client_tools=described_tools(client_tools),
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
        return AsyncTurnStream(self._client, lambda: self._client.events(string("turn_id", turn_id), whole("after", after)))

    async def cancel(self, turn_id: str) -> Turn:
        """Stops a turn and returns it as it ended; what had arrived is kept. A turn that has ended is
        returned as it is."""
        return read(Turn, await complete(self._client.cancel(string("turn_id", turn_id))))

    async def turn(self, turn_id: str) -> Turn:
        """A turn."""
        return read(Turn, await complete(self._client.turn(string("turn_id", turn_id))))

    async def turn_by_key(self, idempotency_key: str) -> Optional[Turn]:
        """The turn that was begun with this idempotency key; None if there is none."""
        found = await complete(self._client.turn_by_key(string("idempotency_key", idempotency_key)))
        return None if found == "null" else read(Turn, found)

    async def cancel_all(self) -> None:
        """Stops all turns of this handle's owner that run here, and waits until they have ended."""
        await complete(self._client.cancel_all())

    async def erase(self) -> Erased:
        """Removes everything that is this handle's owner's, for good, cancelling what runs."""
        from ._transfer import Erased

        return read(Erased, await complete(self._client.erase()))

    async def usage(self, since: Optional[Day] = None, until: Optional[Day] = None) -> List[DayUsage]:
        """What this handle's owner used, in the order of days.

        Args:
            since: The first day; the earliest one by default.
            until: The last day; the latest one by default.
        """
        from ._usage import days, read_days

        return read_days(await complete(self._client.usage(days(since, until))))

    async def quota(self) -> Quota:
        """How much each owner may use in a day."""
        from ._usage import Quota

        return read(Quota, await complete(self._client.quota()))

    async def status(self) -> Status:
        """Where the data is, what an acknowledged write survives, and what runs."""
        from ._usage import Status

        return read(Status, await complete(self._client.status()))

    async def providers(self) -> List[ProviderInfo]:
        """The configured providers, the default first."""
        from ._provider import ProviderInfo

        return [ProviderInfo.from_dict(info) for info in json.loads(await complete(self._client.providers()))]

    async def replace_providers(self, providers: Providers, default_provider: Optional[str] = None) -> None:
        """Has others answer from now on, for all handles on this engine. Replies that are being written
        are not disturbed. If it raises, nothing is changed.

        Args:
            providers: As for `open`.
            default_provider: The name of the one that answers when a request names none.
        """
        text, plugins = provider_settings(providers, default_provider)
        await complete(self._client.replace_providers(text, plugins))

    async def models(self, provider: str) -> List[ModelInfo]:
        """The models of a provider."""
        from ._provider import ModelInfo

        models: List[Dict[str, Any]] = json.loads(await complete(self._client.models(string("provider", provider))))
        return [ModelInfo.from_dict(model) for model in models]

    async def export(
        self, file: File, *, everyone: bool = False, since: Optional[datetime] = None, skip_damaged: bool = False
    ) -> Counts:
        """Writes conversations as lines of JSON, exactly as they are, also while turns run.

        Args:
            file: A path, where the file is when all of it is written; or an open binary file.
            everyone: True for all owners' data; else only what is this handle's.
            since: Only sessions that changed then or later.
            skip_damaged: True to leave out what is damaged, instead of ending there.
        """
        from ._transfer import Counts, begin_export, written

        export = begin_export(self._client, everyone, since, skip_damaged)
        with written(file) as write:
            while (lines := await complete(export.next())) is not None:
                await in_thread(write, lines)
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
        from ._transfer import CHUNK, Imported, begin_import, opened, read_piece

        importing = begin_import(self._client, everyone, on_conflict)
        with opened(file) as source:
            while chunk := await in_thread(read_piece, source, CHUNK):
                await complete(importing.write(chunk))
        return read(Imported, await complete(importing.finish()))

    def serve(
        self, host: str = "127.0.0.1", port: int = 8000, *, cors_origins: Optional[Sequence[str]] = None
    ) -> AsyncServer:
        """Serves this tutor over HTTP: `await` it, or use it in `async with`. See `Tutor.serve`."""
        from ._server import AsyncServer, check_port, origins

        return AsyncServer(lambda: self._client.serve(string("host", host), check_port(port), origins(cors_origins)))

    async def close(self, grace: Optional[Seconds] = None) -> None:
        """Closes the tutor and all handles on it: takes no new turn, gives running ones a moment, ends
        the others as interrupted, and closes the store. Idempotent.

        Args:
            grace: How many seconds running turns have; the limit `close_grace` by default.
        """
        await complete(self._client.close(duration("grace", grace)))

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
