"""Drives providers that are written in Python. `start` runs on the thread of an asyncio loop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import threading
from collections.abc import Mapping
from typing import Any, Callable, Tuple

from . import _native
from ._events import TextDelta
from ._messages import Usage
from ._provider import CompletionRequest
from ._record import Record
from .errors import InterruptedReplyError, describe


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
    except Exception as error:
        _fail(sender, error)


def _fail(sender: _native.Sender, error: BaseException) -> None:
    sender.fail(error, describe(error))


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
                await sender.ready().submit()
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
        if not isinstance(error, Exception):
            raise
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

    # asyncio holds tasks weakly: this function is what keeps it.
    def cancel() -> None:
        task.cancel()

    return cancel


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
