"""The events of one turn, as iterators of either kind."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Deque, List, Optional, Type

from . import _native
from ._native import Failure
from ._events import Notice, TurnEvent, TurnFailed, TurnFinished, read_events
from ._messages import Turn
from ._output import Read
from ._record import read
from ._reply import Reply, typed_reply
from .errors import InterruptedReplyError, TutorError, from_failure

if TYPE_CHECKING:
    import asyncio


def wait(call: _native.Call) -> Any:
    """Blocks until a call has its result."""
    if threading.get_ident() == threading.main_thread().ident:
        result = call.wait(True)
    else:
        result = call.wait(False)
    if type(result) is Failure:
        raise from_failure(result)
    return result


async def complete(call: _native.Call) -> Any:
    """Awaits the result of a call."""
    result = call.poll()
    if result is call or type(result) is Failure:
        return await settled(call, result)
    return result


async def settled(call: _native.Call, result: Any) -> Any:
    """Awaits the result of a call that was polled with this result."""
    if result is call:
        from ._loop import future_of

        result = await future_of(call)
    if type(result) is Failure:
        raise from_failure(result)
    return result


async def finished(call: _native.Call) -> Any:
    """Awaits the result of a write, which goes on when the caller is cancelled: whoever hears of the
    cancellation can rely on it being over."""
    result = call.poll()
    if result is call:
        import asyncio

        from ._loop import future_of

        future = future_of(call)
        try:
            result = await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise
    if type(result) is Failure:
        raise from_failure(result)
    return result


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Does something that blocks on a thread."""
    import asyncio

    return await asyncio.to_thread(function, *arguments)


def check_not_in_background() -> None:
    """Refuses to block the loop that the call would wait for."""
    from . import _loop

    _loop.check_not_in_background()


def wait_outside(client: _native.Client, call: _native.Call) -> Any:
    """Blocks until a call has its result, but not where that would be for ever."""
    if client.has_plugins:
        check_not_in_background()
    return wait(call)


class _Events:
    """What both streams know of a turn."""

    _handle: Optional[_native.Stream]

    def __init__(self, client: _native.Client, read_value: Optional[Read]) -> None:
        self._client = client
        self._read_value = read_value
        self._pending: Deque[TurnEvent] = deque()
        self._warnings: List[Notice] = []
        self._last: Optional[TurnEvent] = None
        self._seen = 0

    def _take(self, batch: Optional[List[Any]]) -> bool:
        """Keeps a batch; false at the end."""
        if batch is None:
            return False
        events = read_events(batch)
        if events[0].seq <= self._seen:
            # Somebody else who reads this stream has them.
            events = [event for event in events if event.seq > self._seen]
        for event in events:
            if type(event) is Notice:
                self._warnings.append(event)
        self._pending.extend(events)
        if events:
            self._last = events[-1]
            self._seen = self._last.seq
        return True

    def _fold(self) -> Reply:
        assert self._handle is not None
        last = self._last
        if isinstance(last, TurnFinished):
            message = last.message
            reply = Reply(
                message,
                self._handle.session_id,
                self._handle.turn_id,
                last.status,
                last.finish_reason,
                message.usage,
                tuple(Notice(warning.code, warning.message) for warning in self._warnings),
            )
            return reply if self._read_value is None else typed_reply(reply, self._read_value)
        error = self.error
        if error is not None:
            raise error
        raise InterruptedReplyError(
            "this stream was closed before its last event was read: read the turn, or its events anew",
            context={"turn": self._handle.turn_id, "session": self._handle.session_id},
        )

    @property
    def has_ended(self) -> bool:
        """True if the turn has ended, whether its events were read or not."""
        if isinstance(self._last, (TurnFinished, TurnFailed)):
            return True
        return self._handle is not None and self._handle.has_ended()

    @property
    def error(self) -> Optional[TutorError]:
        """Why the turn failed; None before the last event, and if it did not fail."""
        if not isinstance(self._last, TurnFailed) or self._handle is None:
            return None
        failure = self._handle.failure()
        return self._last.error.exception() if failure is None else from_failure(failure)


class TurnStream(_Events, Iterator[TurnEvent]):
    """The events of one turn: iterate, or use `with` and iterate.

    Leaving the loop, by `break` or by an exception, closes the stream; so does the end of `with`, and
    dropping it. Closing the stream that began a turn cancels the turn; what had arrived is kept.
    `next(stream)` takes single events and closes nothing.
    """

    _handle: _native.Stream

    def __init__(self, client: _native.Client, native: _native.Stream, read_value: Optional[Read] = None) -> None:
        super().__init__(client, read_value)
        self._handle = native

    @property
    def turn_id(self) -> str:
        """The turn."""
        return self._handle.turn_id

    @property
    def session_id(self) -> str:
        """The conversation, also if it was just created."""
        return self._handle.session_id

    @property
    def is_replay(self) -> bool:
        """True if the request had been sent before, under the same idempotency key: its turn was found, and
        nothing was begun."""
        return self._handle.is_replay

    def _pull(self) -> bool:
        return self._take(wait(self._handle.next_batch(self._seen)))

    def __iter__(self) -> Iterator[TurnEvent]:
        # A generator of its own: leaving the loop drops it, which closes the stream.
        return self._generate()

    def _generate(self) -> Generator[TurnEvent, None, None]:
        pending = self._pending
        try:
            while pending or self._pull():
                while pending:
                    yield pending.popleft()
        finally:
            self.close()

    def __next__(self) -> TurnEvent:
        while not self._pending:
            if not self._pull():
                raise StopIteration
        return self._pending.popleft()

    def reply(self) -> Reply:
        """Reads to the end and puts the reply together. Raises what ended the turn."""
        for _ in self:
            pass
        return self._fold()

    def display(self) -> Reply:
        """Shows the reply in a notebook while it grows, and returns it whole. Raises what ended the turn."""
        from ._notebook import Shown

        shown = Shown()
        for event in self:
            shown.take(event)
        shown.end()
        return self._fold()

    def cancel(self) -> Turn:
        """Stops the turn and returns it as it ended. The stream goes on to its last event."""
        return read(Turn, wait(self._client.cancel(self.turn_id)))

    def close(self) -> None:
        """Lets go of the turn; if that cancels it, waits until it has ended. Idempotent."""
        wait(self._handle.close())

    def __enter__(self) -> TurnStream:
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TurnStream(turn_id={self.turn_id!r}, session_id={self.session_id!r})"


class AsyncTurnStream(_Events, AsyncIterator[TurnEvent], Awaitable["AsyncTurnStream"]):
    """The events of one turn: `async for event in stream`, or `async with` and iterate.

    It begins when it is first iterated, entered or awaited: `stream = await tutor.stream(…)` returns
    when the learner's words are stored. Leaving the loop closes the stream as soon as the event loop
    gets to it; the end of `async with`, and cancelling the task, at once. Closing the stream that
    began a turn cancels the turn; what had arrived is kept.
    """

    def __init__(
        self, client: _native.Client, start: Callable[[], _native.Call], read_value: Optional[Read] = None
    ) -> None:
        super().__init__(client, read_value)
        self._start = start
        self._handle: Optional[_native.Stream] = None
        self._starting: Optional[asyncio.Lock] = None

    async def _started(self) -> _native.Stream:
        if self._handle is not None:
            return self._handle
        if self._starting is None:
            import asyncio

            self._starting = asyncio.Lock()
        async with self._starting:
            if self._handle is None:
                self._handle = await complete(self._start())
            assert self._handle is not None
            return self._handle

    @property
    def turn_id(self) -> str:
        """The turn. Known once the stream has begun."""
        return self._begun().turn_id

    @property
    def session_id(self) -> str:
        """The conversation, also if it was just created. Known once the stream has begun."""
        return self._begun().session_id

    @property
    def is_replay(self) -> bool:
        """True if the request had been sent before, under the same idempotency key: its turn was found, and
        nothing was begun. Known once the stream has begun."""
        return self._begun().is_replay

    def _begun(self) -> _native.Stream:
        if self._handle is None:
            raise RuntimeError("the stream has not begun: await it, enter it or iterate it first")
        return self._handle

    async def _pull(self) -> bool:
        native = self._handle
        if native is None:
            native = await self._started()
        return self._take(await complete(native.next_batch(self._seen)))

    def __await__(self) -> Generator[Any, Any, AsyncTurnStream]:
        yield from self._started().__await__()
        return self

    def __aiter__(self) -> AsyncIterator[TurnEvent]:
        # A generator of its own: leaving the loop drops it, which closes the stream.
        return self._generate()

    async def _generate(self) -> AsyncGenerator[TurnEvent, None]:
        pending = self._pending
        try:
            while pending or await self._pull():
                while pending:
                    yield pending.popleft()
        finally:
            await self.close()

    async def __anext__(self) -> TurnEvent:
        while not self._pending:
            if not await self._pull():
                raise StopAsyncIteration
        return self._pending.popleft()

    async def reply(self) -> Reply:
        """Reads to the end and puts the reply together. Raises what ended the turn."""
        async for _ in self:
            pass
        return self._fold()

    async def display(self) -> Reply:
        """Shows the reply in a notebook while it grows, and returns it whole. Raises what ended the turn."""
        from ._notebook import Shown

        shown = Shown()
        async for event in self:
            shown.take(event)
        shown.end()
        return self._fold()

    async def cancel(self) -> Turn:
        """Stops the turn and returns it as it ended. The stream goes on to its last event."""
        native = await self._started()
        return read(Turn, await complete(self._client.cancel(native.turn_id)))

    async def close(self) -> None:
        """Lets go of the turn; if that cancels it, waits until it has ended. Idempotent."""
        if self._handle is not None:
            call = self._handle.close()
            result = call.poll()
            if result is not None:
                await settled(call, result)

    async def aclose(self) -> None:
        """`close`, by the name that `contextlib.aclosing` wants."""
        await self.close()

    async def __aenter__(self) -> AsyncTurnStream:
        await self._started()
        return self

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        if self._handle is None:
            return "AsyncTurnStream()"
        return f"AsyncTurnStream(turn_id={self.turn_id!r}, session_id={self.session_id!r})"
