"""The asyncio loops that run Python code for the engine, and how they are woken."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from typing import Any, Optional

from . import _native

# Loops without `add_reader` (Windows) are woken by a thread; the variable makes it so everywhere.
_WATCHES_FILES = os.name != "nt" and os.environ.get("NEURO_TUTOR_WAKE_UP") != "thread"

# How long tasks that are still running at exit have for their `finally:` blocks, in seconds.
_EXIT_GRACE = 1.0

_lock = threading.RLock()
_background: Optional[asyncio.AbstractEventLoop] = None
_dispatcher: Optional[threading.Thread] = None


def resolve(future: asyncio.Future[Any], value: Any) -> None:
    """Gives a future its value, unless it was cancelled."""
    if not future.done():
        future.set_result(value)


def reject(future: asyncio.Future[Any], exception: BaseException) -> None:
    """Gives a future its exception, unless it was cancelled."""
    if not future.done():
        future.set_exception(exception)


def running_loop() -> asyncio.AbstractEventLoop:
    """The loop that runs on this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "AsyncTutor needs a running asyncio loop; elsewhere use Tutor, in a thread of its own if need be"
        ) from None


def future_of(call: _native.Call) -> asyncio.Future[Any]:
    """The result of a call that is not ready yet, for the loop that runs on this thread."""
    loop = running_loop()
    inbox: Optional[_native.Inbox] = getattr(loop, "_neuro_tutor_inbox", None)
    if inbox is None:
        inbox = make_inbox(loop)
    future = loop.create_future()
    future.add_done_callback(call.start(inbox, future))
    return future


def make_inbox(loop: asyncio.AbstractEventLoop) -> _native.Inbox:
    """Gives a loop its inbox: on the loop's thread, or before it runs."""
    inbox: Optional[_native.Inbox] = None
    if _WATCHES_FILES:
        inbox = _native.Inbox()
        try:
            loop.add_reader(inbox.fileno(), _drain, inbox)
        except NotImplementedError:
            inbox = None
    if inbox is None:
        inbox = _native.Inbox(weakref.ref(loop))
        _start_dispatcher()
    setattr(loop, "_neuro_tutor_inbox", inbox)
    return inbox


def _drain(inbox: _native.Inbox) -> None:
    for function, arguments in inbox.drain():
        try:
            function(*arguments)
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a callback of neuro_tutor failed", "exception": error}
            )


def _dispatch() -> None:
    while True:
        for reference, inbox in _native.wait_for_inboxes():
            loop = reference()
            if loop is not None:
                try:
                    loop.call_soon_threadsafe(_drain, inbox)
                except RuntimeError:
                    pass  # The loop is closed: nobody waits any more.
            del loop


def _start_dispatcher() -> None:
    global _dispatcher
    with _lock:
        if _dispatcher is None:
            _dispatcher = threading.Thread(target=_dispatch, name="neuro-tutor-dispatcher", daemon=True)
            _dispatcher.start()


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop that runs coroutines of plug-ins for blocking callers."""
    global _background
    with _lock:
        if _background is None:
            loop = asyncio.new_event_loop()
            make_inbox(loop)
            thread = threading.Thread(target=_run, args=(loop,), name="neuro-tutor-loop", daemon=True)
            thread.start()
            atexit.register(_stop, loop, thread, os.getpid())
            _background = loop
        return _background


def _in_background() -> bool:
    """True on the thread of the loop in the background."""
    return _background is not None and asyncio._get_running_loop() is _background


def pass_on(error: BaseException) -> None:
    """Raises what is meant to end the process, such as `SystemExit`, if the loop is the caller's own. The one in
    the background is everybody's, and goes on: there it is a failure like any other."""
    if not isinstance(error, Exception) and not _in_background():
        raise error


def check_not_in_background() -> None:
    """Refuses to block the loop that the call would wait for."""
    if _in_background():
        raise RuntimeError("a provider that Tutor runs may not block on Tutor: use AsyncTutor in it")


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    is_over = False
    while not is_over:
        try:
            loop.run_forever()
            is_over = True
        except (SystemExit, KeyboardInterrupt) as error:
            # A task that a plug-in began wants to end the process, which is not this loop's to end:
            # it serves the others.
            loop.call_exception_handler({"message": "a task of a plug-in raised", "exception": error})
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_EXIT_GRACE))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, process: int) -> None:
    if os.getpid() == process and thread.is_alive():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(2 * _EXIT_GRACE)


def after_fork() -> None:
    """Threads do not survive a fork: the child begins anew."""
    global _lock, _background, _dispatcher
    _lock, _background, _dispatcher = threading.RLock(), None, None
