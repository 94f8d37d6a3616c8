"""What the Python package costs, as ratios to what the language itself costs, in one process.

Run with the package installed in release: `python benches/python/overhead.py`. Best of three.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from neuro_tutor import AsyncTutor, CompletionRequest, TextDelta, Tutor

CALLS = 20_000
EVENTS = 50_000


class Words:
    """Yields so many texts."""

    name = "words"

    async def stream(self, request: CompletionRequest) -> AsyncIterator[str]:
        for _ in range(int(request.text)):
            yield "word "


async def plain() -> int:
    return 42


async def generator(count: int) -> AsyncIterator[TextDelta]:
    for seq in range(count):
        yield TextDelta("word ", seq)


async def queue(count: int) -> AsyncIterator[TextDelta]:
    items: asyncio.Queue[TextDelta | None] = asyncio.Queue(64)

    async def produce() -> None:
        for seq in range(count):
            await items.put(TextDelta("word ", seq))
        await items.put(None)

    task = asyncio.create_task(produce())
    while (item := await items.get()) is not None:
        yield item
    await task


async def per_call(call: Callable[[], Awaitable[object]]) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(CALLS):
            await call()
        best = min(best, (time.perf_counter() - start) / CALLS)
    return best * 1e6


async def per_event(make: Callable[[], AsyncIterator[object]]) -> float:
    best = float("inf")
    for _ in range(3):
        start, count = time.perf_counter(), 0
        async for _ in make():
            count += 1
        best = min(best, (time.perf_counter() - start) / count)
    return best * 1e6


def row(name: str, microseconds: float, base: float) -> None:
    print(f"{name:<44}{microseconds:>9.2f} µs{microseconds / base:>8.1f} ×")


async def main() -> None:
    async with AsyncTutor.open("memory:", providers=[{"kind": "demo", "delay": 0}, Words()]) as tutor:
        session = await tutor.create_session()
        base = await per_call(plain)
        row("a coroutine", base, base)
        stream = await tutor.stream("hi", session=session.id)
        await stream.close()
        row("a ready call: close a closed stream", await per_call(stream.close), base)
        row("a ready call with a value: read a session", await per_call(lambda: tutor.session(session.id)), base)
        raw = tutor._client
        row("the same, native part only", await per_call(lambda: raw.session(session.id).submit()), base)

        finished = await tutor.chat(str(EVENTS), model="words/words")
        base = await per_event(lambda: generator(EVENTS))
        row("an event of an async generator", base, base)
        row("an event through asyncio.Queue", await per_event(lambda: queue(EVENTS)), base)
        row("an event of a stored turn", await per_event(lambda: tutor.events(finished.turn_id)), base)
        row(
            "an event of a provider in Python, and back",
            await per_event(lambda: tutor.stream(str(EVENTS), model="words/words")),
            base,
        )

    def sync_generator(count: int) -> Iterator[TextDelta]:
        for seq in range(count):
            yield TextDelta("word ", seq)

    with Tutor.open("memory:", providers=Words()) as sync:
        turn = sync.chat(str(EVENTS)).turn_id
        times = {}
        for name, make in (("generator", lambda: sync_generator(EVENTS)), ("stream", lambda: sync.events(turn))):
            start = time.perf_counter()
            count = sum(1 for _ in make())
            times[name] = (time.perf_counter() - start) / count * 1e6
    row("an event of a generator", times["generator"], times["generator"])
    row("an event of a stored turn, blocking", times["stream"], times["generator"])

    for what in ("import neuro_tutor", "from neuro_tutor import Tutor", "from neuro_tutor import AsyncTutor"):
        print(f"{what:<44}{importing(what):>9.1f} ms")
    print(f"{'growth over 5,000 calls':<44}{await growth():>9.1f} MiB")


def importing(statement: str) -> float:
    """Milliseconds of an import in a process of its own: the median of nine."""
    code = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True) for _ in range(9)]
    return statistics.median(float(run.stdout) for run in runs) * 1e3


async def growth() -> float:
    """MiB by which the process grows over 5,000 calls, after 1,000 that warm it up."""
    async with AsyncTutor.open("memory:", providers=Words()) as tutor:

        async def calls(count: int) -> None:
            for _ in range(count):
                reply = await tutor.chat("3")
                await tutor.delete_session(reply.session_id)

        await calls(1_000)
        before = resident()
        await calls(5_000)
        return resident() - before


def resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)


if __name__ == "__main__":
    asyncio.run(main())
