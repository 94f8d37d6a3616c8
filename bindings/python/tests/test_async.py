"""The asyncio face."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import neuro_tutor as nt
from neuro_tutor import AsyncTutor

FAST = {"demo": {"delay": 0}}


class Slow:
    """Says one word, then waits until it is let go."""

    name = "slow"

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def stream(self, request: nt.CompletionRequest) -> AsyncIterator[str]:
        try:
            yield "word"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.closed.set()


async def test_everything_has_the_same_names(tmp_path: Path) -> None:
    async with AsyncTutor.open(tmp_path, providers=FAST) as tutor:
        reply = await tutor.chat("What is photosynthesis?")
        more = await tutor.chat("And in one sentence?", session=reply.session_id)
        assert "question number 2" in more.text
        assert len(await tutor.messages(reply.session_id)) == 4
        assert [session.id for session in await tutor.sessions()] == [reply.session_id]
        assert (await tutor.turn(more.turn_id)).status == "completed"
        session = await tutor.create_session(title="Plants")
        assert (await tutor.rename_session(session.id, "Trees")).title == "Trees"
        assert (await tutor.session(session.id)).title == "Trees"
        assert await tutor.delete_session(session.id)
        assert [info.name for info in await tutor.providers()] == ["demo"]
        assert [model.id for model in await tutor.models("demo")] == ["demo"]
        assert (await tutor.cancel(more.turn_id)).status == "completed"
        assert len(await tutor.for_owner("ada").sessions()) == 0


async def test_a_tutor_can_be_awaited_and_closed() -> None:
    tutor = await AsyncTutor.open("memory:", providers=FAST)
    assert (await tutor.chat("hi")).text
    await tutor.aclose()
    await tutor.close()
    with pytest.raises(nt.TutorError):
        await tutor.chat("hi")


async def test_events_are_numbered_and_can_be_read_again() -> None:
    async with AsyncTutor.open("memory:", providers=FAST) as tutor:
        stream = tutor.stream("hi")
        with pytest.raises(RuntimeError):
            stream.turn_id
        events = [event async for event in stream]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [event async for event in tutor.events(stream.turn_id, 3)] == events[3:]
        stream = await tutor.stream("hi", session=stream.session_id)
        assert (await stream.__anext__()).type == "turn.started"
        assert (await stream.reply()).message == (await tutor.messages(stream.session_id))[-1]


async def test_errors_are_raised_where_the_stream_begins() -> None:
    async with AsyncTutor.open("memory:") as tutor:
        with pytest.raises(nt.NotFoundError):
            await tutor.stream("hi", session="nobody")
        with pytest.raises(nt.NotFoundError):
            async for _ in tutor.stream("hi", session="nobody"):
                pass


@pytest.mark.parametrize("way", ["break", "with", "aclose", "cancel", "timeout", "drop"])
async def test_leaving_a_stream_cancels_its_turn_and_keeps_what_arrived(way: str) -> None:
    slow = Slow()
    async with AsyncTutor.open("memory:", providers=slow) as tutor:
        stream = await tutor.stream("hi")
        turn, session = stream.turn_id, stream.session_id

        async def first_word() -> None:
            while (await stream.__anext__()).type != "text.delta":
                pass

        word_came = asyncio.Event()

        async def read() -> None:
            async for event in stream:
                if event.type == "text.delta":
                    word_came.set()

        if way == "break":
            async for event in stream:
                if event.type == "text.delta":
                    break
        elif way == "with":
            async with stream:
                await first_word()
        elif way == "aclose":
            await first_word()
            await stream.aclose()
            await stream.close()
        elif way == "cancel":
            task = asyncio.create_task(read())
            await word_came.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif way == "timeout":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(read(), 0.2)
        else:
            await first_word()
            del stream
            gc.collect()
        last = [event async for event in tutor.events(turn)][-1]
        assert isinstance(last, nt.TurnFinished) and last.status == "cancelled"
        await asyncio.wait_for(slow.closed.wait(), 10)


async def test_cancelling_a_chat_cancels_its_turn() -> None:
    slow = Slow()
    async with AsyncTutor.open("memory:", providers=slow) as tutor:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(tutor.chat("hi"), 0.2)
        await asyncio.wait_for(slow.closed.wait(), 10)
        (session,) = await tutor.sessions()
        stream = await tutor.stream("again", session=session.id)
        await stream.aclose()


async def test_providers_run_on_the_callers_loop_and_see_its_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[object] = []

    class Sees:
        name = "sees"

        async def stream(self, request: nt.CompletionRequest) -> AsyncIterator[str]:
            seen.extend([asyncio.get_running_loop(), variable.get()])
            await asyncio.sleep(0)
            yield "ok"

    async with AsyncTutor.open("memory:", providers=Sees()) as tutor:
        variable.set("mine")
        assert (await tutor.chat("hi")).text == "ok"
    assert seen == [asyncio.get_running_loop(), "mine"]


async def test_the_loop_runs_while_a_blocking_provider_blocks() -> None:
    import threading

    loop = asyncio.get_running_loop()
    blocks, released = asyncio.Event(), threading.Event()

    class Blocks:
        name = "blocks"

        def stream(self, request: nt.CompletionRequest):  # type: ignore[no-untyped-def]
            yield "a"
            loop.call_soon_threadsafe(blocks.set)
            # Only the loop, which must be running, lets it go on.
            yield "b" if released.wait(30) else "late"

    async with AsyncTutor.open("memory:", providers=Blocks()) as tutor:
        task = asyncio.create_task(tutor.chat("hi"))
        await blocks.wait()
        released.set()
        assert (await task).text == "ab"


async def test_many_turns_run_at_once() -> None:
    asked, all_asked = 0, asyncio.Event()

    class Echo:
        name = "echo"

        async def stream(self, request: nt.CompletionRequest) -> AsyncIterator[str]:
            nonlocal asked
            asked += 1
            if asked == 200:
                all_asked.set()
            await all_asked.wait()
            yield request.text

    async with AsyncTutor.open("memory:", providers=Echo()) as tutor:
        replies = await asyncio.gather(*(tutor.chat(str(i)) for i in range(200)))
    assert [reply.text for reply in replies] == [str(i) for i in range(200)]


def test_without_a_loop_the_error_says_what_to_use(tmp_path: Path) -> None:
    opening = AsyncTutor.open(tmp_path).__await__()
    with pytest.raises(RuntimeError, match="AsyncTutor needs a running asyncio loop"):
        next(opening)


def test_a_tutor_outlives_the_loop_that_opened_it() -> None:
    async def first() -> AsyncTutor:
        tutor = await AsyncTutor.open("memory:", providers=FAST)
        await tutor.chat("hi")
        return tutor

    tutor = asyncio.run(first())
    assert asyncio.run(tutor.chat("again")).text
    asyncio.run(tutor.close())


async def test_no_event_is_lost_when_waiting_for_one_is_given_up() -> None:
    class Paced:
        name = "paced"

        async def stream(self, request: nt.CompletionRequest) -> AsyncIterator[str]:
            for n in range(60):
                await asyncio.sleep(0.002)
                yield f"{n} "

    async def numbers(stream: nt.AsyncTurnStream) -> list[int]:
        seen: list[int] = []
        while True:
            try:
                seen.append((await asyncio.wait_for(stream.__anext__(), 0.001)).seq)
            except asyncio.TimeoutError:
                pass
            except StopAsyncIteration:
                return seen

    async with AsyncTutor.open("memory:", providers=Paced()) as tutor:
        for _ in range(5):
            stream = await tutor.stream("hi", detached=True)
            seen = await numbers(stream)
            assert seen == list(range(1, len(seen) + 1)) and len(seen) > 60
            assert (await numbers(tutor.events(stream.turn_id)))[-1] == seen[-1]


async def test_two_readers_of_one_stream_share_its_events() -> None:
    async with AsyncTutor.open("memory:", providers=FAST) as tutor:
        stream = await tutor.stream("hi")

        async def take() -> list[int]:
            return [event.seq async for event in Reader(stream)]

        class Reader:
            def __init__(self, stream: nt.AsyncTurnStream) -> None:
                self.stream = stream

            def __aiter__(self) -> "Reader":
                return self

            async def __anext__(self) -> nt.TurnEvent:
                return await self.stream.__anext__()

        first, second = await asyncio.gather(take(), take())
        assert sorted(first + second) == list(range(1, len(first + second) + 1))
