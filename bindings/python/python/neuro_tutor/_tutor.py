"""`Tutor`: the engine for ordinary, blocking programs."""

from __future__ import annotations

import json
import os
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Type, TypeVar, Union, overload

from . import _native
from ._messages import Feedback, Message, Rating, Session, Turn
from ._output import output_of
from ._record import Page, read, read_page
from ._reply import Reply, TypedReply, read_reply
from ._server import Server, origins
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
from ._stream import TurnStream, check_not_in_background, wait
from ._tools import Tools, own_tools
from ._transfer import CHUNK, Counts, Erased, File, Imported, OnConflict, begin_export, begin_import, opened
from .errors import from_failure

if TYPE_CHECKING:
    from ._async_tutor import AsyncTutor
    from ._provider import Context, ModelInfo, ProviderInfo

T = TypeVar("T")


class Tutor:
    """Conversations with learners, durable and streamed. `AsyncTutor` is the same for asyncio.

    ```python
    with Tutor.open("data") as tutor:
        reply = tutor.chat("What is photosynthesis?")
        print(reply.text)
        print(tutor.chat("And in one sentence?", session=reply.session_id).text)
    ```

    Safe to use from any number of threads. Ctrl-C stops any call at once, and other threads run while
    one waits. After `os.fork()` a child opens its own tutor; one that its parent opened raises
    `StoreUnavailableError`.
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
            limits=None if limits is None else dict(limits),
            improve_titles=improve_titles or None,
            summarize=summarize or None,
            catalog=None if catalog is None else dict(catalog),
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
        return cls(wait(_native.open(text, plugins)))

    def _wait(self, call: _native.Call) -> Any:
        if self._client.has_plugins:
            check_not_in_background()
        return wait(call)

    @property
    def owner(self) -> str:
        """Whose data this handle reads and writes."""
        return self._client.owner

    def for_owner(self, owner: str) -> Tutor:
        """The same engine for another owner, who sees nothing of anybody else."""
        client = self._client.for_owner(owner)
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
        if own or self._client.has_plugins:
            check_not_in_background()
        return TurnStream(self._client, wait(self._client.stream(asked, False, own)), read_value)

    def events(self, turn_id: str, after: int = 0) -> TurnStream:
        """The events of a turn behind number `after`: first those that have happened, then those that
        come. Closing this stream leaves the turn alone."""
        return TurnStream(self._client, self._wait(self._client.events(turn_id, after)))

    def cancel(self, turn_id: str) -> Turn:
        """Stops a turn and returns it as it ended; what had arrived is kept. A turn that has ended is
        returned as it is."""
        return read(Turn, self._wait(self._client.cancel(turn_id)))

    def turn(self, turn_id: str) -> Turn:
        """A turn."""
        return read(Turn, self._wait(self._client.turn(turn_id)))

    def sessions(self, limit: int = 50, cursor: Optional[str] = None) -> Page[Session]:
        """A page of sessions, the latest used first.

        Args:
            limit: 1 to 200.
            cursor: The `next_cursor` of an earlier page, to go on behind it.
        """
        return read_page(Session, self._wait(self._client.sessions(limit, cursor)))

    def session(self, id: str) -> Session:
        """A session."""
        return read(Session, self._wait(self._client.session(id)))

    def create_session(
        self, id: Optional[str] = None, title: Optional[str] = None, metadata: Optional[Mapping[str, Any]] = None
    ) -> Session:
        """Creates an empty session. `metadata` is the caller's own data."""
        members = encode({"id": id, "title": title, "metadata": metadata})
        return read(Session, self._wait(self._client.create_session(members)))

    def rename_session(self, id: str, title: str) -> Session:
        """Changes a session's title, which the engine then never replaces, and returns it."""
        return read(Session, self._wait(self._client.update_session(id, encode({"title": title}))))

    def update_session(
        self, id: str, *, title: Optional[str] = None, metadata: Optional[Mapping[str, Any]] = None
    ) -> Session:
        """Changes a session's title or metadata and returns it; what is None stays as it is."""
        changes = encode({"title": title, "metadata": metadata})
        return read(Session, self._wait(self._client.update_session(id, changes)))

    def delete_session(self, id: str) -> bool:
        """Deletes a session with everything in it, cancelling its running turn. False if there was none."""
        return bool(self._wait(self._client.delete_session(id)))

    def messages(
        self,
        session_id: str,
        limit: Optional[int] = None,
        before: Optional[str] = None,
        after: Optional[str] = None,
        *,
        leaf: Optional[str] = None,
        all: bool = False,
    ) -> Page[Message]:
        """A page of a session's messages in the order of the conversation: the newest ones, the newest
        ones before a message, or the oldest ones after a message. At most 200.

        Args:
            leaf: A message of another branch, which is read from there to its beginning.
            all: True for the messages of all branches, in the order in which they were stored.
        """
        which = encode({"limit": limit, "before": before, "after": after, "leaf": leaf, "all": all})
        return read_page(Message, self._wait(self._client.messages(session_id, which)))

    def siblings(self, session_id: str, message_id: str) -> List[Message]:
        """The messages that follow what this one follows, itself among them: replies that were written
        again, or a learner's message as it was edited."""
        found = json.loads(self._wait(self._client.siblings(session_id, message_id)))
        return [Message.from_dict(message) for message in found]

    def set_head(self, session_id: str, message_id: str) -> Session:
        """Switches the active branch to the one that ends with this message: the next one follows it."""
        return read(Session, self._wait(self._client.set_head(session_id, message_id)))

    def delete_message(self, session_id: str, message_id: str, *, with_branch: bool = False) -> int:
        """Deletes a message for good, with the turn that wrote or answered it, and returns how many were
        deleted. If others follow it that is refused, unless they are to go with it."""
        return int(self._wait(self._client.delete_message(session_id, message_id, with_branch)))

    def context(self, session_id: str, tokens: Optional[int] = None) -> Context:
        """What a model would be sent of a conversation as it is now, before the next message: within so
        many tokens, or within what the limits and the model's window allow."""
        from ._provider import Context

        return read(Context, self._wait(self._client.context(session_id, tokens)))

    def search(self, text: str, limit: int = 50, cursor: Optional[str] = None) -> Page[Session]:
        """A page of the sessions in which every word of a text occurs, in the title or in messages, the
        latest used first. A page may be short or empty and have a cursor all the same: go on there."""
        return read_page(Session, self._wait(self._client.search(text, limit, cursor)))

    def rate(
        self, session_id: str, message_id: str, rating: Optional[Rating], comment: Optional[str] = None
    ) -> Optional[Feedback]:
        """Keeps what somebody thinks of a message, `up` or `down` and perhaps in words, in place of what they
        thought before; None takes it back. Returns what is kept."""
        kept = self._wait(self._client.rate(session_id, message_id, rating, comment))
        return None if kept == "null" else read(Feedback, kept)

    def feedback(self, session_id: str) -> List[Feedback]:
        """What somebody thought of messages of a session."""
        found = json.loads(self._wait(self._client.feedback(session_id)))
        return [Feedback.from_dict(one) for one in found]

    def erase(self) -> Erased:
        """Removes everything that is this handle's owner's, for good, cancelling what runs."""
        return read(Erased, self._wait(self._client.erase()))

    def providers(self) -> List[ProviderInfo]:
        """The configured providers, the default first."""
        from ._provider import ProviderInfo

        return [ProviderInfo.from_dict(info) for info in json.loads(self._wait(self._client.providers()))]

    def models(self, provider: str) -> List[ModelInfo]:
        """The models of a provider."""
        from ._provider import ModelInfo

        models: List[Dict[str, Any]] = json.loads(self._wait(self._client.models(provider)))
        return [ModelInfo.from_dict(model) for model in models]

    def export(
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
            while (lines := self._wait(export.next())) is not None:
                target.write(lines)
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
        importing = begin_import(self._client, everyone, on_conflict)
        with opened(file, "rb") as source:
            while chunk := source.read(CHUNK):
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
        return Server(self._wait(self._client.serve(host, port, origins(cors_origins))))

    def close(self) -> None:
        """Closes the tutor and all handles on it: takes no new turn, gives running ones a moment, ends
        the others as interrupted, and closes the store. Idempotent."""
        self._wait(self._client.close())

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
