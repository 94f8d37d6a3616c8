"""What it costs to keep the items of an agent: `TutorSession` next to the OpenAI Agents SDK's `SQLiteSession`.

Run with the package installed in release, and `openai-agents`: `python benches/python/sessions.py [DIRECTORY]`. Both write
with a sync for each addition (which is SQLite's default), in the same directory, interleaved.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agents import SQLiteSession

from neuro_tutor import AsyncTutor
from neuro_tutor.adapters.openai_agents import TutorSession

ROUNDS = 200
LENGTHS = (10, 1_000, 100_000)
FOUND: dict[str, dict[str, tuple[float, float]]] = {}


def turn(n: int) -> list[Any]:
    return [
        {"role": "user", "content": f"What is the question number {n}? " + "word " * 40},
        {"role": "assistant", "content": "The answer. " + "word " * 120, "type": "message", "id": f"m{n}"},
    ]


async def measured(calls: dict[str, Callable[[int], Awaitable[object]]], rounds: int) -> dict[str, tuple[float, float]]:
    """For each call the median CPU time and wall time in microseconds."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for n in range(rounds):
        for name, call in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            await call(n)
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        name: (statistics.median(cpu for cpu, _ in taken) * 1e6, statistics.median(wall for _, wall in taken) * 1e6)
        for name, taken in times.items()
    }


def show(what: str, found: dict[str, tuple[float, float]]) -> None:
    """Prints what was found, and keeps it for the targets."""
    FOUND[what] = found
    base = found["SQLiteSession"][0]
    for name, (cpu, wall) in found.items():
        print(f"{what:<28}{name:<16}{cpu:>10.0f} µs CPU{wall:>10.0f} µs wall{base / cpu:>8.1f} × less CPU")


async def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        async with AsyncTutor.open(Path(folder) / "data") as tutor:
            raw = os.open(Path(folder) / "raw", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

            async def append(n: int) -> None:
                os.write(raw, str(turn(n)).encode())
                os.fdatasync(raw)

            for length in LENGTHS:
                theirs = SQLiteSession(f"s{length}", Path(folder) / f"{length}.db")
                ours = TutorSession(f"s{length}", tutor)
                for first in range(0, length, 1_000):
                    items = [item for n in range(first, min(length, first + 1_000), 2) for item in turn(n)]
                    await theirs.add_items(items)
                    await ours.add_items(items)
                show(
                    f"add a turn to {length}",
                    await measured(
                        {
                            "SQLiteSession": lambda n: theirs.add_items(turn(n)),
                            "TutorSession": lambda n: ours.add_items(turn(n)),
                            "write, fdatasync": append,
                        },
                        ROUNDS,
                    ),
                )
                show(
                    f"read 50 of {length}",
                    await measured(
                        {
                            "SQLiteSession": lambda n: theirs.get_items(50),
                            "TutorSession": lambda n: ours.get_items(50),
                        },
                        ROUNDS,
                    ),
                )
                theirs.close()
            os.close(raw)
    targets()


def targets() -> None:
    """Prints what is wanted and what was reached, each in the worst case of all lengths."""
    added = [found for what, found in FOUND.items() if what.startswith("add")]
    gotten = [found for what, found in FOUND.items() if what.startswith("read")]

    def target(name: str, reached: float, is_reached: bool, wanted: str) -> None:
        print(f"{name:<56}{reached:>8.2f} ×   {wanted}{'' if is_reached else '   NOT REACHED'}")

    def less(taken: list[dict[str, tuple[float, float]]]) -> float:
        return min(found["SQLiteSession"][0] / found["TutorSession"][0] for found in taken)

    def flat(taken: list[dict[str, tuple[float, float]]]) -> float:
        times = [found["TutorSession"][0] for found in taken]
        return max(times) / min(times)

    print("\nTargets")
    target("CPU of SQLiteSession ÷ ours, adding a turn", less(added), less(added) >= 4, "≥ 4")
    target("CPU of SQLiteSession ÷ ours, reading 50", less(gotten), less(gotten) >= 8, "≥ 8")
    wall = max(found["TutorSession"][1] / found["write, fdatasync"][1] for found in added)
    target("wall time of adding a turn ÷ write and fdatasync", wall, wall <= 1.5, "≤ 1.5")
    target("adding: slowest length ÷ fastest, CPU", flat(added), flat(added) <= 1.5, "≤ 1.5")
    target("reading 50: slowest length ÷ fastest, CPU", flat(gotten), flat(gotten) <= 1.5, "≤ 1.5")


if __name__ == "__main__":
    asyncio.run(main())
