# Written by scripts/stubs.py from src/; do not edit.
"""
The native part of the package.
"""

import asyncio
import collections.abc
import typing
import weakref

from .errors import Described
from _typeshed import SupportsGetItem
from typing import Any, Final, SupportsFloat, SupportsIndex, final

__all__ = ["VERSION", "Answer", "Call", "Canceller", "Client", "Export", "Failure", "Files", "Import", "Inbox", "Incoming", "Sender", "Server", "Stream", "attachment", "check_law", "cli", "error_codes", "exiting", "forked", "laws", "open", "wait_for_inboxes"]

VERSION: Final[str]
"""
The version of the package.
"""

@final
class Answer:
    """
    Where the answer of a function goes. The first one counts.
    """
    def fail(self, /, exception: BaseException, described: Described) -> None:
        """
        Answers that it failed.
        """
    def finish(self, /, json: str) -> None:
        """
        Answers with JSON.
        """

@final
class Call:
    """
    One call. It runs once, when it is waited for.
    """
    def poll(self, /) -> Any:
        """
        What is ready at once, a value or a `Failure`; the call itself if it takes longer. The GIL
        stays here: nothing that happens in a poll waits for it.
        """
    def start(self, /, inbox: Inbox, future: asyncio.Future[typing.Any]) -> collections.abc.Callable[[asyncio.Future[typing.Any]], None]:
        """
        Has the work done, and gives `future` what comes of it, a value or a `Failure`, by the
        inbox of its loop. The result is the future's callback: cancelling it drops the work.

        Nothing of Python's runs in here: an interpreter that exits unwinds the threads that wait
        to go on with Python, and may not find a frame of Rust's below.
        """
    def wait(self, /, is_main_thread: bool) -> Any:
        """
        Blocks until the result is there, without the GIL: a value, or a `Failure`.
        """

@final
class Canceller:
    """
    How to stop what runs in Python, once it has begun.
    """
    def set(self, /, cancel: collections.abc.Callable[[], None]) -> None:
        """
        Says what to call.
        """

@final
class Client:
    """
    A handle on an engine for one owner. Arguments and results are JSON where they are structured.
    """
    def add_items(self, /, name: str, texts: SupportsGetItem[int, str]) -> Call:
        """
        Adds items, each of them JSON, to such a list.
        """
    def cancel(self, /, turn: str) -> Call:
        """
        Stops a turn and gives it as it ended.
        """
    def cancel_all(self, /) -> Call:
        """
        Stops all turns of this owner that run here, and waits until they have ended.
        """
    def chat(self, /, request: str, in_loop: bool, own_tools: SupportsGetItem[int, tuple[str, Any]] | None = None) -> Call:
        """
        A whole reply. `in_loop` is true if the caller's asyncio loop runs its plug-ins.
        """
    def clear_items(self, /, name: str) -> Call:
        """
        Empties such a list.
        """
    def close(self, /, grace: SupportsFloat | SupportsIndex | None = None) -> Call:
        """
        Closes the engine: takes no new turn, gives running ones a moment (so many seconds, if it is
        said), closes the store.
        """
    def context(self, /, session: str, tokens: SupportsIndex | None = None) -> Call:
        """
        What a model would be sent.
        """
    def create_session(self, /, members: str) -> Call:
        """
        Creates a session, which is described in JSON.
        """
    def delete_message(self, /, session: str, message: str, with_branch: bool) -> Call:
        """
        Deletes a message, perhaps with all that follows it; how many were deleted.
        """
    def delete_session(self, /, session: str) -> Call:
        """
        Deletes a session; false if there was none.
        """
    def erase(self, /) -> Call:
        """
        Removes all that is this owner's.
        """
    def events(self, /, turn: str, after: SupportsIndex) -> Call:
        """
        The events of a turn behind a number.
        """
    def export(self, /, options: str) -> Export | Failure:
        """
        An export, of this owner or of all, or a `Failure`. `options` is JSON.
        """
    def feedback(self, /, session: str) -> Call:
        """
        What was thought of the messages of a session.
        """
    def files(self, /) -> Files:
        """
        The uploaded files of this owner.
        """
    def find_message(self, /, message: str) -> Call:
        """
        A message whose session is not known.
        """
    def for_owner(self, /, owner: str) -> Client | Failure:
        """
        The same engine for another owner, or a `Failure`.
        """
    @property
    def has_plugins(self, /) -> bool:
        """
        True if providers or stores are written in Python.
        """
    def import_(self, /, options: str) -> Import | Failure:
        """
        An import, for this owner or for all, or a `Failure`. `options` is JSON.
        """
    def items(self, /, name: str, limit: SupportsIndex | None = None) -> Call:
        """
        The newest items of a list that is kept for another library.
        """
    def messages(self, /, session: str, range: str) -> Call:
        """
        A page of messages; which ones is in JSON.
        """
    def models(self, /, provider: str) -> Call:
        """
        The models of a provider.
        """
    @property
    def owner(self, /) -> str:
        """
        Whose data this handle reads and writes.
        """
    def pop_item(self, /, name: str) -> Call:
        """
        Takes the newest item away from such a list: itself in a list, or nothing.
        """
    def providers(self, /) -> Call:
        """
        The configured providers, the default first.
        """
    def quota(self, /) -> Call:
        """
        How much each owner may use in a day.
        """
    def rate(self, /, session: str, message: str, opinion: str) -> Call:
        """
        Keeps what somebody thinks of a message, which is in JSON.
        """
    def replace_providers(self, /, settings: str, plugins: SupportsGetItem[int, Any]) -> Call:
        """
        Has other providers answer from now on, which are described as for `open`.
        """
    def search(self, /, text: str, limit: SupportsIndex, cursor: str | None = None) -> Call:
        """
        A page of the sessions in which all words of a text occur.
        """
    def serve(self, /, host: str, port: SupportsIndex, origins: str | None = None) -> Call:
        """
        A server of this engine, which listens when the call is done.
        """
    def session(self, /, session: str) -> Call:
        """
        A session.
        """
    def sessions(self, /, limit: SupportsIndex, cursor: str | None = None) -> Call:
        """
        A page of sessions.
        """
    def set_head(self, /, session: str, message: str) -> Call:
        """
        Switches the active branch.
        """
    def siblings(self, /, session: str, message: str) -> Call:
        """
        The messages beside one, itself among them.
        """
    def status(self, /) -> Call:
        """
        Where the data is, and what runs.
        """
    def stream(self, /, request: str, in_loop: bool, own_tools: SupportsGetItem[int, tuple[str, Any]] | None = None) -> Call:
        """
        The events of a new turn.
        """
    def turn(self, /, turn: str) -> Call:
        """
        A turn.
        """
    def turn_by_key(self, /, key: str) -> Call:
        """
        The turn that an idempotency key names; `null` if there is none.
        """
    def update_session(self, /, session: str, changes: str) -> Call:
        """
        Changes title or metadata of a session, which are in JSON.
        """
    def usage(self, /, range: str) -> Call:
        """
        What this owner used, day by day, in JSON; of which days is in JSON.
        """

@final
class Export:
    """
    An export that is being written.
    """
    def counts(self, /) -> Call:
        """
        What has been written so far.
        """
    def next(self, /) -> Call:
        """
        Some more lines; `None` after the last one.
        """

@final
class Failure:
    """
    An error of the engine. It is returned, not raised.
    """
    @property
    def cause(self, /) -> BaseException | None:
        """
        The exception of a plug-in that caused it.
        """
    @property
    def code(self, /) -> str:
        """
        A stable snake-case name.
        """
    @property
    def context(self, /) -> list[tuple[str, str]]:
        """
        Facts: names and values.
        """
    @property
    def message(self, /) -> str:
        """
        A sentence for people.
        """
    @property
    def retry_after(self, /) -> float | None:
        """
        Seconds to wait before trying again, if anybody said.
        """
    @property
    def retryable(self, /) -> bool:
        """
        True if the same request may succeed later.
        """

@final
class Files:
    """
    The files of a handle's owner.
    """
    def delete(self, /, id: str) -> Call:
        """
        Deletes a file; false if there was none.
        """
    def info(self, /, id: str) -> Call:
        """
        A file.
        """
    def list(self, /, limit: SupportsIndex, cursor: str | None = None) -> Call:
        """
        A page of files.
        """
    def read(self, /, id: str) -> Call:
        """
        The bytes of a file.
        """
    def upload(self, /, name: str | None = None) -> Call:
        """
        Begins to take a file: an `Incoming`.
        """

@final
class Import:
    """
    An import that is being made.
    """
    def finish(self, /) -> Call:
        """
        Says that there are no more bytes, and tells what was done.
        """
    def write(self, /, bytes: bytes) -> Call:
        """
        Takes more bytes of an export.
        """

@final
class Inbox:
    """
    The work that waits for one loop.
    """
    def __new__(cls, /, loop_reference: weakref.ReferenceType[asyncio.AbstractEventLoop] | None = None) -> Inbox:
        """
        An inbox that wakes its loop by a file descriptor, or, given a weak reference to the loop,
        through the dispatcher.
        """
    def drain(self, /) -> list[tuple[collections.abc.Callable[..., typing.Any], tuple[typing.Any, ...]]]:
        """
        What to call on the loop's thread: functions with their arguments.
        """
    def fileno(self, /) -> int:
        """
        The file descriptor to watch; -1 without one.
        """

@final
class Incoming:
    """
    A file that is being taken. Dropping it takes nothing.
    """
    def abort(self, /) -> Call:
        """
        Takes nothing of it. Idempotent.
        """
    def finish(self, /) -> Call:
        """
        Keeps the file and tells of it.
        """
    def write(self, /, bytes: bytes) -> Call:
        """
        Takes more bytes. What fails here takes nothing.
        """

@final
class Sender:
    """
    The end of a provider's stream that is in Python.
    """
    def fail(self, /, exception: BaseException, described: Described) -> None:
        """
        Ends the stream because of an exception.
        """
    def finish(self, /) -> None:
        """
        Ends the stream: the reply is complete if there is one.
        """
    def ready(self, /) -> Call:
        """
        Waits until the buffer has room.
        """
    def send(self, /, is_text: bool, data: str) -> bool:
        """
        Sends a text or a delta as JSON, and waits for room without the GIL. False if nobody wants
        more.
        """
    def try_send(self, /, is_text: bool, data: str) -> bool | None:
        """
        Sends a text or a delta as JSON. True if it was sent, false if nobody wants more, `None`
        if the buffer is full: wait for `ready` and try again.
        """

@final
class Server:
    """
    A server that listens. Dropping it stops it.
    """
    @property
    def host(self, /) -> str: ...
    @property
    def port(self, /) -> int: ...
    def stop(self, /) -> Call:
        """
        Takes no new connection and waits for the requests that run, at most the grace period.
        """
    def wait(self, /) -> Call:
        """
        Waits until it has stopped.
        """

@final
class Stream:
    """
    The events of one turn. Dropping it lets go of the turn, which cancels it if this stream
    began it.
    """
    def close(self, /) -> Call:
        """
        Lets go of the turn. If that cancels it, waits until it has ended. Idempotent.
        """
    def failure(self, /) -> Failure | None:
        """
        Why the turn failed; `None` before its last event, and if it did not fail.
        """
    def has_ended(self, /) -> bool:
        """
        True if the turn has ended; false while another thread waits for its events.
        """
    @property
    def is_replay(self, /) -> bool: ...
    def next_batch(self, /, after: SupportsIndex) -> Call:
        """
        Gives at least one event behind number `after` and as many more as are there; `None` at
        the end.
        """
    @property
    def session_id(self, /) -> str: ...
    @property
    def turn_id(self, /) -> str: ...

def attachment(data: bytes, name: str | None = None) -> str | Failure:
    """
    An image or a file that a message has, as JSON, or a `Failure`.
    """

def check_law(of: str, name: str, plugin: Any, description: str) -> Call:
    """
    Has a plug-in that nobody has used yet keep a law: gives nothing, or in JSON how it breaks it.
    """

def cli(arguments: SupportsGetItem[int, str]) -> int:
    """
    Runs the command line with these arguments, the first of which is the program's name, and gives
    the exit code.
    """

def error_codes() -> list[str]:
    """
    The codes of all kinds of errors.
    """

def exiting() -> None:
    """
    Notes that the interpreter is about to exit. From then on no thread but the main one comes back
    from a wait: an interpreter that exits ends such a thread where it asks for the GIL, in the
    middle of Rust's frames, which ends the process with it.
    """

def forked() -> None:
    """
    Notes that this process has been forked: called in the child.
    """

def laws(of: str) -> list[str]:
    """
    The names of the laws of `store`, `records` or `provider`.
    """

def open(settings: str, plugins: SupportsGetItem[int, Any]) -> Call:
    """
    Opens an engine. `plugins` are what is written in Python, which the settings name by number.
    """

def wait_for_inboxes() -> list[tuple[weakref.ReferenceType[asyncio.AbstractEventLoop], Inbox]]:
    """
    Waits, without the GIL, until a loop of the dispatcher has work: the weak references of the
    loops with their inboxes. Called by the dispatcher, a thread of Python's.
    """
