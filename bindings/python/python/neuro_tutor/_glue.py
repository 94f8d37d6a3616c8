"""Drives what is written in Python: providers, tools, stores. The functions whose names begin with
`start` run on the thread of an asyncio loop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import threading
from collections.abc import Mapping
from typing import Any, Callable, Set, Tuple

from . import _native
from ._events import TextDelta
from ._loop import pass_on
from ._messages import Usage
from ._plain import to_json
from ._provider import CompletionRequest
from ._record import Record
from ._stores import StoreCalls, encode_result
from ._stream import complete
from ._tools import Tool
from .errors import InterruptedReplyError, describe, describe_store_error, describe_tool_error, origin


def start(
    provider: Any,
    request: str,
    sender: _native.Sender,
    canceller: _native.Canceller,
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
) -> None:
    """Asks a provider, and sends what it yields."""
    try:
        asked = CompletionRequest.from_dict(json.loads(request))
        function = provider.stream
        if inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function):
            canceller.set(_task(loop, context, _pump(function(asked), sender)))
        else:
            canceller.set(_thread(function, asked, sender, loop, context))
    except BaseException as error:
        _fail(sender, error)
        pass_on(error)


def _fail(sender: _native.Sender, error: BaseException) -> None:
    sender.fail(origin(error), describe(error))


def _encode(item: Any) -> Tuple[bool, str]:
    """Whether an item is a text, and the text or the JSON. The engine says what is no delta."""
    if isinstance(item, str):
        return True, item
    if type(item) is TextDelta:
        return True, item.text
    if isinstance(item, Record):
        kind = "usage" if isinstance(item, Usage) else None
        item = {"type": kind, **item.to_dict()}
        item.pop("seq", None)
    elif not isinstance(item, Mapping):
        return False, "null"
    elif item.get("type") == "text.delta" and len(item) == 2 and isinstance(item.get("text"), str):
        return True, item["text"]
    try:
        return False, json.dumps(dict(item), allow_nan=False)
    except (TypeError, ValueError):
        return False, "null"


async def _pump(stream: Any, sender: _native.Sender) -> None:
    """Sends what an asynchronous iterator yields, or a coroutine that returns one."""
    try:
        if not hasattr(stream, "__aiter__"):
            stream = await stream
        async for item in stream:
            is_text, data = _encode(item)
            sent = sender.try_send(is_text, data)
            while sent is None:
                await complete(sender.ready())
                sent = sender.try_send(is_text, data)
            if not sent:
                break
        else:
            sender.finish()
    except asyncio.CancelledError:
        # The engine let go and hears nothing any more, or the loop is ending.
        _fail(sender, InterruptedReplyError("the event loop of the provider ended before the reply", retryable=True))
        raise
    except BaseException as error:
        _fail(sender, error)
        pass_on(error)
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def _iterate(stream: Any, sender: _native.Sender) -> None:
    """Sends what an ordinary iterator yields. It may block this thread."""
    try:
        for item in stream:
            if not sender.send(*_encode(item)):
                break
        else:
            sender.finish()
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()


def _task(loop: asyncio.AbstractEventLoop, context: contextvars.Context, work: Any) -> Callable[[], None]:
    """Runs a coroutine as a task, and returns what cancels it."""
    task = context.copy().run(loop.create_task, work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)

    def cancel() -> None:
        task.cancel()

    return cancel


# asyncio holds tasks weakly.
_tasks: Set["asyncio.Task[Any]"] = set()


def _nothing() -> None:
    pass


def _thread(
    function: Callable[[CompletionRequest], Any],
    asked: CompletionRequest,
    sender: _native.Sender,
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
) -> Callable[[], None]:
    """An ordinary function or generator may block: it has a thread of its own."""
    is_cancelled = False
    cancel_task: Callable[[], None] = _nothing

    # Both run on the loop's thread.
    def adopt(stream: Any) -> None:
        nonlocal cancel_task
        cancel_task = _task(loop, context, _pump(stream, sender))
        if is_cancelled:
            cancel_task()

    def cancel() -> None:
        nonlocal is_cancelled
        is_cancelled = True
        cancel_task()

    def run() -> None:
        try:
            stream = function(asked)
            if hasattr(stream, "__aiter__") or inspect.isawaitable(stream):
                loop.call_soon_threadsafe(adopt, stream)
            else:
                _iterate(stream, sender)
        except BaseException as error:
            _fail(sender, error)

    threading.Thread(target=context.copy().run, args=(run,), name="neuro-tutor-provider", daemon=True).start()
    return cancel


def start_tool(
    tool: Tool,
    call: str,
    answer: _native.Answer,
    canceller: _native.Canceller,
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
) -> None:
    """Calls a tool with the arguments that a model wrote."""

    def fail(error: BaseException) -> None:
        answer.fail(error, describe_tool_error(error))

    def finish(result: Any) -> None:
        answer.finish(_encode_answer(result))

    try:
        work = tool.prepare(json.loads(call))
        function = getattr(tool.function, "__func__", tool.function)
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))
        canceller.set(_answer(work, is_async, finish, fail, loop, context, _thread_of_its_own))
    except BaseException as error:
        fail(error)
        pass_on(error)


def start_store(
    calls: StoreCalls,
    call: str,
    answer: _native.Answer,
    canceller: _native.Canceller,
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
) -> None:
    """Calls a method of a store. It is not stopped when the engine lets go: a write is done or not done."""

    def fail(error: BaseException) -> None:
        answer.fail(error, describe_store_error(error))

    try:
        told = json.loads(call)
        method = told["method"]
        work, is_async = calls.prepare(told)
        _answer(
            work, is_async, lambda result: answer.finish(encode_result(method, result)), fail, loop, context, calls.run
        )
        if method == "close":
            calls.end()
    except BaseException as error:
        fail(error)
        pass_on(error)


def _encode_answer(result: Any) -> str:
    try:
        return json.dumps(to_json(result), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise TypeError("the tool returned something that is not JSON") from None


def _thread_of_its_own(run: Callable[[], None]) -> None:
    threading.Thread(target=run, name="neuro-tutor-tool", daemon=True).start()


def _answer(
    work: Callable[[], Any],
    is_async: bool,
    finish: Callable[[Any], None],
    fail: Callable[[BaseException], None],
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    elsewhere: Callable[[Callable[[], None]], None],
) -> Callable[[], None]:
    """Does work on the loop if it is asynchronous, else elsewhere. Returns what stops it."""

    async def run_here(awaitable: Any) -> None:
        try:
            finish(await awaitable)
        except asyncio.CancelledError:
            fail(InterruptedReplyError("the event loop ended before the function answered", retryable=True))
            raise
        except BaseException as error:
            fail(error)
            pass_on(error)

    if is_async:
        return _task(loop, context, run_here(context.copy().run(work)))
    is_cancelled = False
    cancel_task: Callable[[], None] = _nothing

    # Both run on the loop's thread.
    def adopt(awaitable: Any) -> None:
        nonlocal cancel_task
        cancel_task = _task(loop, context, run_here(awaitable))
        if is_cancelled:
            cancel_task()

    def cancel() -> None:
        nonlocal is_cancelled
        is_cancelled = True
        cancel_task()

    def run() -> None:
        try:
            result = work()
            if inspect.isawaitable(result):
                loop.call_soon_threadsafe(adopt, result)
            else:
                finish(result)
        except BaseException as error:
            fail(error)

    inside = context.copy()
    elsewhere(lambda: inside.run(run))
    return cancel
