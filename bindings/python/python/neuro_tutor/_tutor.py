"""`Tutor`: the engine for ordinary, blocking programs."""

from __future__ import annotations

import json
import os
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Type, TypeVar, Union, overload

from . import _native
from ._checks import duration, items, string, whole
from ._conversations import Conversations
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
from ._stream import TurnStream, check_not_in_background, wait
from ._tools import ClientTools, Tools, described_tools, own_tools
from .errors import from_failure

if TYPE_CHECKING:
    from ._async_tutor import AsyncTutor
    from ._files import Files
    from ._provider import ModelInfo, ProviderInfo
    from ._server import Server
    from ._transfer import Counts, Erased, File, Imported, OnConflict
    from ._usage import Day, DayUsage, Quota, Status

T = TypeVar("T")


class Tutor(Conversations):
    """Conversations with learners, durable and streamed. `AsyncTutor` is the same for asyncio.

    ```python
    with Tutor.open("data") as tutor:
        reply = tutor.chat("What is photosynthesis?")
        print(reply.text)
        print(tutor.chat("And in one sentence?", session=reply.session_id).text)
    ```

    Safe to use from any number of threads. Ctrl-C stops any call at once, and other threads run while
    one waits. After `os.fork()` a child opens its own tutor; one that its parent opened raises
    `StoreUnavailableError`, and opening a directory `ConfigError` if one was opened before the fork.
    """

    def __init__(self, client: _native.Client) -> None:
        """Use `Tutor.open` instead."""
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
    ) -> Tutor:
        """Opens a tutor.

        Args:
            location: A directory (it is made if it is missing), or a URL: `sled:DIRECTORY`,
                `sqlite:///FILE`, `postgresql://…`, `memory:`; or a store of yours (see `Store`).
            providers: Who answers, the default first: `{"openai": {"api_key": "…"}}`, objects of
                yours (see `Provider`), or a list of such. Without any, the demo provider answers.
            default_provider: The name of the one that answers when a request names none.
            owner: Whose data this handle reads and writes.
            system_prompt: Instructions that precede every conversation.
            tools: Functions that models may call; see `tool`.
            limits: The engine's bounds by name, such as `{"max_live_turns": 8, "turn_timeout": 60}`;
                durations are seconds.
            quota: How much each owner may use in a day, such as `Quota(turns_per_day=50)`.
            files: Where uploaded files are kept: a directory, or an object of `directory`,
                `max_file_bytes`, `max_files`, `max_bytes` and `max_text_bytes`. By default beside the data,
                in `…-files`. It is made for the first file.
            improve_titles: True to have the provider make a better title after a conversation's first
                turn, in the background. Costs tokens. A title of yours is never replaced.
            summarize: True to have the provider summarize, in the background, messages that are too old
                to be sent, and to send the summary in their place. Costs tokens.
            catalog: What is known of models beyond the built-in catalog, by their names, such as
                `{"my-model": {"context_window": 8192, "input": 0.5, "output": 1.5}}`.

        Raises:
            StoreLockedError: Another process uses the directory.
            ConfigError: A setting is wrong.
            StoreUnavailableError, DataCorruptError: The data cannot be used.
        """
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
        return cls(wait(_native.open(text, plugins)))

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
    ) -> Tutor:
        """Opens a tutor as the environment says: `OPENAI_API_KEY`, `OPENAI_BASE_URL`, `OPENAI_MODEL`, the
        same for `ANTHROPIC_`, `DEMO_DELAY_MS`, and `DATABASE_URL` for the location.

        Args:
            environ: Variables instead of `os.environ`.
        """
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
        return cls(wait(_native.open(text, plugins)))

    @property
    def owner(self) -> str:
        """Whose data this handle reads and writes."""
        return self._client.owner

    @property
    def files(self) -> Files:
        """The uploaded files of this handle's owner."""
        from ._files import Files

        return Files(self._client.files(), self._wait)

    def for_owner(self, owner: str) -> Tutor:
        """The same engine for another owner, who sees nothing of anybody else."""
        client = self._client.for_owner(string("owner", owner))
        if isinstance(client, _native.Failure):
            raise from_failure(client)
        return type(self)(client)

    def to_async(self) -> AsyncTutor:
        """The same engine for asyncio. Closing either closes both."""
        from ._async_tutor import AsyncTutor

        return AsyncTutor(self._client)

    @overload
    def chat(
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
    def chat(
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

    def chat(
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
        """Asks, and waits for the whole reply. Interrupting it cancels the turn.

        Args:
            message: What the learner says: a text, or parts.
            session: The conversation to go on with; None for a new one.
            create_session: True to start the conversation under that id if there is none.
            parent: The message that this one follows, instead of the latest one.
            edit: The learner's message that `message` replaces, on a branch beside it.
            regenerate: The reply beside which another one is to be written; without `message`.
            attachments: Files that the learner sends along: paths, bytes, or `(name, bytes)`.
            messages: Instead of `message`: objects with `role` and `content`, the last one the
                learner's. In a new conversation the others are kept as imported.
            tools: Functions that the model may call, besides the tutor's; see `tool`.
            client_tools: Tools that the caller runs itself: `name`, `description` and `parameters`, or
                what `tool` makes. A reply that asks for some has them as `tool_calls`; the next message
                brings the results: `[ToolResultPart(call.call_id, result)]`.
            output: The form that the reply must have: a type, such as a pydantic model or a dataclass,
                of which `reply.output` is an instance; or a JSON Schema.
            model: A model's name, or `provider/name`.
            temperature: 0 to 2.
            max_tokens: The most tokens that the reply may have.
            preferences: Further preferences; unknown ones are kept and named in a warning.
            idempotency_key: A name for this request: sent again, it gives the same turn.
            timeout: Seconds that the turn may take.

        Raises:
            InvalidInputError, TooLargeError, NotFoundError, ConflictError, OverloadedError: Nothing
                is stored.
            TutorError: What ended the turn; what had arrived is stored.
        """
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
        own = own_tools(tools)
        if own or self._client.has_plugins:
            check_not_in_background()
        return read_reply(wait(self._client.chat(asked, False, own)), read_value)

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
    ) -> TurnStream:
        """Asks, and returns the events as they come. When this returns, the learner's words are stored.

        A turn that fails ends with a `TurnFailed` event and raises nothing; the stream's `error` is the
        exception, and its `reply()` raises it.

        Args:
            detached: True if the turn goes on when this stream is closed; else closing it cancels the
                turn.

        The other arguments and the errors are those of `chat`.
        """
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
        if own or self._client.has_plugins:
            check_not_in_background()
        return TurnStream(self._client, wait(self._client.stream(asked, False, own)), read_value)

    def events(self, turn_id: str, after: int = 0) -> TurnStream:
        """The events of a turn behind number `after`: first those that have happened, then those that
        come. Closing this stream leaves the turn alone."""
        return TurnStream(self._client, self._wait(self._client.events(string("turn_id", turn_id), whole("after", after))))

    def cancel(self, turn_id: str) -> Turn:
        """Stops a turn and returns it as it ended; what had arrived is kept. A turn that has ended is
        returned as it is."""
        return read(Turn, self._wait(self._client.cancel(string("turn_id", turn_id))))

    def turn(self, turn_id: str) -> Turn:
        """A turn."""
        return read(Turn, self._wait(self._client.turn(string("turn_id", turn_id))))

    def turn_by_key(self, idempotency_key: str) -> Optional[Turn]:
        """The turn that was begun with this idempotency key; None if there is none."""
        found = self._wait(self._client.turn_by_key(string("idempotency_key", idempotency_key)))
        return None if found == "null" else read(Turn, found)

    def cancel_all(self) -> None:
        """Stops all turns of this handle's owner that run here, and waits until they have ended."""
        self._wait(self._client.cancel_all())

    def erase(self) -> Erased:
        """Removes everything that is this handle's owner's, for good, cancelling what runs."""
        from ._transfer import Erased

        return read(Erased, self._wait(self._client.erase()))

    def usage(self, since: Optional[Day] = None, until: Optional[Day] = None) -> List[DayUsage]:
        """What this handle's owner used, in the order of days.

        Args:
            since: The first day; the earliest one by default.
            until: The last day; the latest one by default.
        """
        from ._usage import days, read_days

        return read_days(self._wait(self._client.usage(days(since, until))))

    def quota(self) -> Quota:
        """How much each owner may use in a day."""
        from ._usage import Quota

        return read(Quota, self._wait(self._client.quota()))

    def status(self) -> Status:
        """Where the data is, what an acknowledged write survives, and what runs."""
        from ._usage import Status

        return read(Status, self._wait(self._client.status()))

    def providers(self) -> List[ProviderInfo]:
        """The configured providers, the default first."""
        from ._provider import ProviderInfo

        return [ProviderInfo.from_dict(info) for info in json.loads(self._wait(self._client.providers()))]

    def replace_providers(self, providers: Providers, default_provider: Optional[str] = None) -> None:
        """Has others answer from now on, for all handles on this engine. Replies that are being written
        are not disturbed. If it raises, nothing is changed.

        Args:
            providers: As for `open`.
            default_provider: The name of the one that answers when a request names none.
        """
        text, plugins = provider_settings(providers, default_provider)
        self._wait(self._client.replace_providers(text, plugins))

    def models(self, provider: str) -> List[ModelInfo]:
        """The models of a provider."""
        from ._provider import ModelInfo

        models: List[Dict[str, Any]] = json.loads(self._wait(self._client.models(string("provider", provider))))
        return [ModelInfo.from_dict(model) for model in models]

    def export(
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
            while (lines := self._wait(export.next())) is not None:
                write(lines)
        return read(Counts, self._wait(export.counts()))

    def import_(self, file: File, *, everyone: bool = False, on_conflict: OnConflict = "fail") -> Imported:
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
            while chunk := read_piece(source, CHUNK):
                self._wait(importing.write(chunk))
        return read(Imported, self._wait(importing.finish()))

    def serve(
        self, host: str = "127.0.0.1", port: int = 8000, *, cors_origins: Optional[Sequence[str]] = None
    ) -> Server:
        """Serves this tutor over HTTP, in this process; it listens when this returns.

        ```python
        with Tutor.open("memory:") as tutor, tutor.serve(port=0) as server:
            print(server.url)  # server.wait() serves until Ctrl-C
        ```

        It asks nobody who they are: keep it on this machine, or behind a proxy that does.

        Args:
            port: 0 for any that is free.
            cors_origins: Pages that may call the server from a browser, such as `http://localhost:5173`,
                which is allowed by default.
        """
        from ._server import Server, check_port, origins

        return Server(self._wait(self._client.serve(string("host", host), check_port(port), origins(cors_origins))))

    def close(self, grace: Optional[Seconds] = None) -> None:
        """Closes the tutor and all handles on it: takes no new turn, gives running ones a moment, ends
        the others as interrupted, and closes the store. Idempotent.

        Args:
            grace: How many seconds running turns have; the limit `close_grace` by default.
        """
        self._wait(self._client.close(duration("grace", grace)))

    def __enter__(self) -> Tutor:
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Tutor(owner={self.owner!r})"
