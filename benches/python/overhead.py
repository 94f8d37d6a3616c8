"""What the Python package costs, as ratios to what the language itself costs, in one process.

Run with the package installed in release: `python benches/python/overhead.py`. Times are of the processor, of all
threads, so that other programs disturb them little; the best of five.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

from neuro_tutor import AsyncTutor, CompletionRequest, Tutor

CALLS = 20_000
EVENTS = 50_000
ROUNDS = 5


@dataclass(frozen=True)
class Event:
    """What those yield that ours is compared with."""

    text: str
    seq: int = 0


class Words:
    """Yields so many texts."""

    name = "words"

    async def stream(self, request: CompletionRequest) -> AsyncIterator[str]:
        for _ in range(int(request.text)):
            yield "word "


async def plain() -> int:
    return 42


async def generator(count: int) -> AsyncIterator[Event]:
    for seq in range(count):
        yield Event("word ", seq)


async def queue(count: int) -> AsyncIterator[Event]:
    items: asyncio.Queue[Event | None] = asyncio.Queue(64)

    async def produce() -> None:
        for seq in range(count):
            await items.put(Event("word ", seq))
        await items.put(None)

    task = asyncio.create_task(produce())
    while (item := await items.get()) is not None:
        yield item
    await task


async def per_call(call: Callable[[], Awaitable[object]]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CALLS):
            await call()
        best = min(best, (time.process_time() - start) / CALLS)
    return best * 1e6


async def per_event(make: Callable[[], AsyncIterator[object]]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start, count = time.process_time(), 0
        async for _ in make():
            count += 1
        best = min(best, (time.process_time() - start) / count)
    return best * 1e6


def per_item(make: Callable[[], Iterator[object]]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start, count = time.process_time(), 0
        for _ in make():
            count += 1
        best = min(best, (time.process_time() - start) / count)
    return best * 1e6


def row(name: str, microseconds: float, base: float) -> None:
    print(f"{name:<52}{microseconds:>9.2f} µs{microseconds / base:>8.1f} ×")


def target(name: str, reached: float, wanted: float, unit: str) -> None:
    print(f"{name:<52}{reached:>9.2f} {unit:<4}≤ {wanted:g}{'' if reached <= wanted else '   NOT REACHED'}")


async def main() -> None:
    async with AsyncTutor.open("memory:", providers=[{"kind": "demo", "delay": 0}, Words()]) as tutor:
        session = await tutor.create_session()
        coroutine = await per_call(plain)
        row("a coroutine", coroutine, coroutine)
        stream = await tutor.stream("hi", session=session.id)
        await stream.close()
        ready = await per_call(stream.close)
        row("a ready call: close a closed stream", ready, coroutine)
        row("a ready call with a value: read a session", await per_call(lambda: tutor.session(session.id)), coroutine)

        finished = await tutor.chat(str(EVENTS), model="words/words")
        base = await per_event(lambda: generator(EVENTS))
        row("an event of an async generator", base, base)
        queued = await per_event(lambda: queue(EVENTS))
        row("an event through asyncio.Queue", queued, base)
        stored = await per_event(lambda: tutor.events(finished.turn_id))
        row("an event of a stored turn", stored, base)
        there = await per_event(lambda: tutor.stream(str(EVENTS), model="words/words"))
        row("an event of a provider in Python, and back", there, base)

    with Tutor.open("memory:", providers=Words()) as sync:
        turn = sync.chat(str(EVENTS)).turn_id
        plain_items = per_item(lambda: (Event("word ", seq) for seq in range(EVENTS)))
        row("an event of a generator", plain_items, plain_items)
        row("an event of a stored turn, blocking", per_item(lambda: sync.events(turn)), plain_items)

    imports = {what: importing(what) for what in IMPORTS}
    for what, milliseconds in imports.items():
        print(f"{what:<52}{milliseconds:>9.1f} ms")
    grown = await growth()
    print("\nTargets")
    target("a ready call ÷ a coroutine", ready / coroutine, 5, "×")
    target("a streamed event ÷ one of an async generator", stored / base, 8, "×")
    target("a streamed event ÷ one through asyncio.Queue", stored / queued, 1.5, "×")
    target("import of what opens a tutor", max(imports.values()), 50, "ms")
    target("growth over 5,000 calls", grown, 8, "MiB")


IMPORTS = ("import neuro_tutor", "from neuro_tutor import Tutor", "from neuro_tutor import AsyncTutor")


def importing(statement: str) -> float:
    """Milliseconds of processor time of an import in a process of its own: the least of fifteen."""
    code = f"import time; start = time.process_time(); {statement}; print(time.process_time() - start)"
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True) for _ in range(15)]
    return min(float(run.stdout) for run in runs) * 1e3


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
