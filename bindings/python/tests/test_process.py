"""Signals, threads, forks and exits, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import neuro_tutor as nt
from neuro_tutor import Tutor

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SLOW = """
import asyncio, neuro_tutor as nt
class Slow:
    name = "slow"
    async def stream(self, request):
        while True:
            yield "x"
            await asyncio.sleep(0.001)
"""


def test_other_threads_run_while_one_waits() -> None:
    count, stop, waiting, counted = 0, False, threading.Event(), threading.Event()

    def spin() -> None:
        nonlocal count
        waiting.wait()
        while not stop:
            count += 1
            if count > 10_000:
                counted.set()

    class Blocks:
        name = "blocks"

        def stream(self, request: nt.CompletionRequest):  # type: ignore[no-untyped-def]
            waiting.set()
            assert counted.wait(60)
            yield "ok"

    thread = threading.Thread(target=spin)
    with Tutor.open("memory:", providers=Blocks()) as tutor:
        thread.start()
        before = count
        tutor.chat("hi")
        during = count - before
        stop = True
        thread.join()
    assert during > 10_000


@pytest.mark.parametrize(
    "call",
    [
        "nt.Tutor.open('memory:', providers=slow).chat('x')",
        "list(nt.Tutor.open('memory:', providers=slow).stream('x'))",
        "for _ in nt.Tutor.open('memory:', providers={'demo': {'delay': 60}}).stream('x'): print('go', flush=True)",
        "asyncio.run(main())",
    ],
)
def test_ctrl_c_stops_a_call_at_once(call: str) -> None:
    code = f"""{SLOW}
class Waits:
    name = "waits"
    async def stream(self, request):
        print("go", flush=True)
        await asyncio.Event().wait()
        yield "x"
slow = Waits()
async def main():
    async with nt.AsyncTutor.open("memory:", providers=slow) as tutor:
        await tutor.chat("x")
{call}
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors and process.returncode != 0
    assert "panicked" not in errors and time.monotonic() - start < 3


def test_a_forked_child_is_told_to_open_its_own(run: Run) -> None:
    done = run(
        SLOW
        + """
import os, tempfile, warnings
warnings.simplefilter("ignore")
class Quick:
    name = "quick"
    async def stream(self, request):
        yield "ok"
data = tempfile.mkdtemp()
tutor = nt.Tutor.open(data, providers=Quick())
assert tutor.chat("x").text == "ok"
stream = tutor.stream("x")
next(stream)
async def ask():
    async with nt.AsyncTutor.open("memory:", providers=Quick()) as tutor:
        return (await tutor.chat("x")).text
assert asyncio.run(ask()) == "ok"
for _ in range(5):
    child = os.fork()
    if child == 0:
        import faulthandler
        faulthandler.dump_traceback_later(20, exit=True)
        for use in (lambda: tutor.chat("x"), lambda: tutor.sessions(), lambda: list(stream), stream.close, tutor.close, lambda: tutor.for_owner("a")):
            try:
                use()
            except nt.StoreUnavailableError as error:
                assert "fork" in str(error), error
            else:
                raise AssertionError("the parent's tutor was used")
        with nt.Tutor.open("memory:", providers=Quick()) as own:
            assert own.chat("x").text == "ok"
        assert asyncio.run(ask()) == "ok"
        del stream, tutor
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
stream.close()
assert tutor.chat("again").text == "ok"
tutor.close()
print("ok")
"""
    )
    assert done.stdout.strip() == "ok", done.stderr


def test_a_pool_of_forked_workers_opens_its_own(run: Run) -> None:
    done = run(
        """
        import multiprocessing, warnings, neuro_tutor as nt
        warnings.simplefilter("ignore")
        outer = nt.Tutor.open("memory:", providers={"demo": {"delay": 0}})
        outer.chat("x")
        def work(i):
            with nt.Tutor.open("memory:", providers={"demo": {"delay": 0}}) as tutor:
                return len(tutor.chat(str(i)).text)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(len(pool.map(work, range(8))))
        """
    )
    assert done.stdout.strip() == "8", done.stderr


EXITS = {
    "nothing closed": "tutor = nt.Tutor.open('memory:'); tutor.chat('x')",
    "a stream alive": "stream = nt.Tutor.open('memory:', providers=Slow()).stream('x'); next(stream); next(stream)",
    "a loop half way": """
tutor = nt.Tutor.open('memory:', providers=Slow())
events = iter(tutor.stream('x'))
next(events)
""",
    "a stream of a loop that is gone": """
stream = None
async def main():
    global stream
    stream = (await nt.AsyncTutor.open('memory:', providers=Slow())).stream('x')
    await stream.__anext__()
asyncio.run(main())
""",
    "a loop in a daemon thread": """
import threading
began = threading.Event()
async def main():
    tutor = await nt.AsyncTutor.open('memory:', providers={'demo': {'delay': 0.001}})
    while True:
        async for event in tutor.stream('x'):
            began.set()
threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
began.wait()
""",
    "a tool and a store that wait": """
import threading
began = threading.Event()
def waits() -> None:
    began.set()
    threading.Event().wait()
class Calls:
    name = "calls"
    def stream(self, request):
        yield nt.ToolCall("c", "waits", {})
        yield nt.Finished("tool_calls")
tutor = nt.Tutor.open('memory:', providers=Calls(), tools=[waits])
threading.Thread(target=lambda: tutor.chat('x'), daemon=True).start()
began.wait()
""",
    "a daemon thread that waits": """
import threading
began = threading.Event()
class Waits:
    name = "waits"
    def stream(self, request):
        began.set()
        threading.Event().wait()
        yield "x"
tutor = nt.Tutor.open('memory:', providers=Waits())
threading.Thread(target=lambda: tutor.chat('x'), daemon=True).start()
began.wait()
""",
}


# How often each way to exit is tried, and how many are tried at the same time.
TRIES = int(os.environ.get("EXITS", "3"))
AT_A_TIME = 4


@pytest.mark.timeout(60 + 5 * TRIES)
@pytest.mark.parametrize("wake_up", ["descriptor", "thread"])
@pytest.mark.parametrize("code", list(EXITS.values()), ids=list(EXITS))
def test_the_interpreter_exits_cleanly_with_work_in_flight(run: Run, code: str, wake_up: str) -> None:
    def leave(_: int) -> tuple[int, str, bool]:
        start = time.monotonic()
        done = run(SLOW + code, env={**os.environ, "NEURO_TUTOR_WAKE_UP": wake_up})
        return done.returncode, done.stderr, time.monotonic() - start < 15

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        assert set(pool.map(leave, range(TRIES))) == {(0, "", True)}


@pytest.mark.parametrize("waits", ["tutor.chat('x')", "tutor.serve(port=0).wait()", "list(tutor.stream('x'))"])
def test_a_signal_handler_may_use_the_tutor_while_the_main_thread_waits(run: Run, waits: str) -> None:
    done = run(
        SLOW
        + f"""
import os, signal, sys, threading
tutor = nt.Tutor.open("memory:", providers=Slow())
def end(*_):
    assert len(tutor.sessions()) < 2
    tutor.cancel_all()
    tutor.close(grace=0)
    print("closed", flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, end)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
{waits}
"""
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (5, "closed", "")


def test_a_forked_child_is_told_that_it_cannot_open_a_sled_store(run: Run) -> None:
    done = run(
        """
        import multiprocessing, os, tempfile, warnings, neuro_tutor as nt
        warnings.simplefilter("ignore")
        data = tempfile.mkdtemp()
        def work(place):
            with nt.Tutor.open(place) as tutor:
                return len(tutor.chat("x").text)
        def refused(place):
            try:
                work(place)
            except nt.ConfigError as error:
                return "forkserver" in str(error) and error.context["reason"] == "forked" and not os.path.exists(place)
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            assert all(pool.map(work, [f"{data}/before-{n}" for n in range(2)]))
        work(f"{data}/parent")
        with context.Pool(2) as pool:
            assert pool.map(refused, [f"{data}/child-{n}" for n in range(2)]) == [True, True]
            assert all(pool.map(work, [f"sqlite:///{data}/{n}.db" for n in range(2)]))
        work(f"{data}/parent")
        print("ok")
        """
    )
    assert done.stdout.strip() == "ok", done.stderr
