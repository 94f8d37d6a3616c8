"""`AsyncTutor`: the engine for asyncio programs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Generator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Type

from . import _native
from ._messages import Message, Session, Turn
from ._provider import ModelInfo, ProviderInfo
from ._record import Page, read, read_page
from ._reply import Reply
from ._server import AsyncServer, origins
from ._settings import DEFAULT_LOCATION, Location, MessageInput, Providers, Seconds, encode, request, settings
from ._stream import AsyncTurnStream, complete
from ._transfer import CHUNK, Counts, File, Imported, OnConflict, begin_export, begin_import, opened
from .errors import from_failure

if TYPE_CHECKING:
    from ._tutor import Tutor


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
        limits: Optional[Mapping[str, Any]] = None,
    ) -> Opening:
        """Opens a tutor: `await` it, or use it in `async with`. See `Tutor.open`."""
        text, plugins = settings(
            location,
            providers,
            default_provider=default_provider,
            owner=owner,
            system_prompt=system_prompt,
            limits=limits,
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
        limits: Optional[Mapping[str, Any]] = None,
    ) -> Opening:
        """Opens a tutor as the environment says: `await` it, or use it in `async with`. See
        `Tutor.from_env`."""
        environ = os.environ if environ is None else environ
        text, plugins = settings(
            location or environ.get("DATABASE_URL") or DEFAULT_LOCATION,
            None,
            environ,
            default_provider=None,
            owner=owner,
            system_prompt=system_prompt,
            limits=limits,
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

    async def chat(
        self,
        message: Optional[MessageInput] = None,
        *,
        session: Optional[str] = None,
        edit: Optional[str] = None,
        regenerate: Optional[str] = None,
        model: Optional[str] = None,
        temperature: Optional[float] = None,
        max_tokens: Optional[int] = None,
        preferences: Optional[Mapping[str, Any]] = None,
        idempotency_key: Optional[str] = None,
        timeout: Optional[Seconds] = None,
    ) -> Reply:
        """Asks, and waits for the whole reply. Cancelling the task cancels the turn. See `Tutor.chat`."""
        asked = request(
            message,
            timeout,
            session=session,
            edit=edit,
            regenerate=regenerate,
            model=model,
            temperature=temperature,
            max_tokens=max_tokens,
            preferences=preferences,
            idempotency_key=idempotency_key,
        )
        return read(Reply, await complete(self._client.chat(asked, True)))

    def stream(
        self,
        message: Optional[MessageInput] = None,
        *,
        session: Optional[str] = None,
        edit: Optional[str] = None,
        regenerate: Optional[str] = None,
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
        asked = request(
            message,
            timeout,
            session=session,
            edit=edit,
            regenerate=regenerate,
            model=model,
            temperature=temperature,
            max_tokens=max_tokens,
            preferences=preferences,
            idempotency_key=idempotency_key,
            detached=detached,
            streamed=True,
        )
        return AsyncTurnStream(self._client, lambda: self._client.stream(asked, True))

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
        text = None if metadata is None else encode(metadata)
        return read(Session, await complete(self._client.create_session(id, title, text)))

    async def rename_session(self, id: str, title: str) -> Session:
        """Changes a session's title and returns it."""
        return read(Session, await complete(self._client.update_session(id, title)))

    async def delete_session(self, id: str) -> bool:
        """Deletes a session with everything in it, cancelling its running turn. False if there was none."""
        return bool(await complete(self._client.delete_session(id)))

    async def messages(
        self, session_id: str, limit: Optional[int] = None, before: Optional[str] = None, after: Optional[str] = None
    ) -> Page[Message]:
        """A page of a session's messages in the order of the conversation. See `Tutor.messages`."""
        return read_page(Message, await complete(self._client.messages(session_id, limit, before, after)))

    async def providers(self) -> List[ProviderInfo]:
        """The configured providers, the default first."""
        return [ProviderInfo.from_dict(info) for info in json.loads(await complete(self._client.providers()))]

    async def models(self, provider: str) -> List[ModelInfo]:
        """The models of a provider."""
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
                await asyncio.to_thread(target.write, lines)
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
            while chunk := await asyncio.to_thread(source.read, CHUNK):
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
