"""Providers written in Python."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import neuro_tutor as nt
from neuro_tutor import AsyncTutor, Tutor


def provider(stream: Any, **attributes: Any) -> Any:
    return type("Made", (), {"name": "made", "stream": stream, **attributes})()


async def async_generator(self: Any, request: nt.CompletionRequest) -> AsyncIterator[Any]:
    yield "a"
    await asyncio.sleep(0)
    yield {"type": "text.delta", "text": "b"}
    yield nt.TextDelta("c")
    yield nt.ReasoningDelta("thinking")
    yield nt.Usage(input_tokens=3, output_tokens=5)


def generator(self: Any, request: nt.CompletionRequest) -> Iterator[Any]:
    yield "a"
    yield {"type": "text.delta", "text": "b"}
    yield nt.TextDelta("c")
    yield nt.ReasoningDelta("thinking")
    yield {"type": "usage", "input_tokens": 3, "output_tokens": 5}


async def coroutine(self: Any, request: nt.CompletionRequest) -> AsyncIterator[Any]:
    return async_generator(self, request)


def returns_an_async_generator(self: Any, request: nt.CompletionRequest) -> AsyncIterator[Any]:
    return async_generator(self, request)


def returns_a_list(self: Any, request: nt.CompletionRequest) -> Any:
    return list(generator(self, request))


WAYS = [async_generator, generator, coroutine, returns_an_async_generator, returns_a_list]


@pytest.mark.parametrize("stream", WAYS)
def test_every_way_to_write_a_provider_works_in_both_faces(stream: Any) -> None:
    made = provider(stream)
    assert isinstance(made, nt.Provider)
    with Tutor.open("memory:", providers=made) as tutor:
        events = list(tutor.stream("hi"))
        reply = tutor.chat("hi")

    async def ask() -> nt.Reply:
        async with AsyncTutor.open("memory:", providers=[made]) as tutor:
            return await tutor.chat("hi")

    for done in (reply, asyncio.run(ask())):
        assert (done.text, done.finish_reason) == ("abc", "stop")
        assert done.usage == nt.Usage(input_tokens=3, output_tokens=5)
    assert [event.type for event in events] == [
        "turn.started",
        *["text.delta"] * 3,
        "reasoning.delta",
        "usage",
        "turn.finished",
    ]


def test_a_provider_says_why_it_finished() -> None:
    def stream(self: Any, request: nt.CompletionRequest) -> Iterator[Any]:
        yield "a"
        yield nt.Finished("length") if request.text == "typed" else {"type": "finished", "reason": "length"}
        raise AssertionError("nothing is asked for behind the end")

    with Tutor.open("memory:", providers=provider(stream)) as tutor:
        for text in ("typed", "plain"):
            assert tutor.chat(text).finish_reason == "length"


def test_tool_calls_and_notices_arrive() -> None:
    def stream(self: Any, request: nt.CompletionRequest) -> Iterator[Any]:
        yield nt.Notice("slow_today", "the model is slow today")
        yield nt.ToolCall("c1", "lookup", {"word": "leaf"})
        yield nt.Finished("tool_calls")

    with Tutor.open("memory:", providers=provider(stream)) as tutor:
        reply = tutor.chat("hi")
    assert reply.message.content == (nt.ToolCallPart("c1", "lookup", {"word": "leaf"}),)
    assert reply.warnings == (nt.Notice("slow_today", "the model is slow today"),)


def raises(error: BaseException, *, is_async: bool) -> Any:
    async def later(self: Any, request: nt.CompletionRequest) -> AsyncIterator[str]:
        yield "partial"
        raise error

    def now(self: Any, request: nt.CompletionRequest) -> Iterator[str]:
        yield "partial"
        raise error

    return provider(later if is_async else now)


@pytest.mark.parametrize("is_async", [True, False])
def test_an_exception_is_the_cause_and_its_text_stays_out(is_async: bool) -> None:
    error = KeyError("canary: the learner's words")
    with Tutor.open("memory:", providers=raises(error, is_async=is_async)) as tutor:
        with pytest.raises(nt.ProviderUnavailableError, match="raised KeyError") as caught:
            tutor.chat("hi")
        assert caught.value.__cause__ is error and error.__traceback__ is not None
        assert "canary" not in str(caught.value)
        session = caught.value.context["session"]
        assert tutor.messages(session)[-1].content == "partial"
        stream = tutor.stream("hi", session=session)
        last = list(stream)[-1]
        assert isinstance(last, nt.TurnFailed) and last.partial is not None
        assert last.error.code == "provider_unavailable" and "canary" not in str(last.error)
        assert stream.error is not None and stream.error.__cause__ is error
        with pytest.raises(nt.ProviderUnavailableError):
            stream.reply()


def test_our_own_exceptions_say_what_happened() -> None:
    error = nt.RateLimitedError("slow down", retry_after=2.5)
    with Tutor.open("memory:", providers=raises(error, is_async=True)) as tutor:
        with pytest.raises(nt.RateLimitedError, match="slow down") as caught:
            tutor.chat("hi")
    assert caught.value.retryable and caught.value.retry_after == 2.5


def test_a_provider_of_one_s_own_answers_when_a_built_in_one_cannot() -> None:
    main = {"kind": "openai", "name": "main", "base_url": "http://127.0.0.1:9", "max_retries": 0, "fallback": ["made"]}
    with Tutor.open("memory:", providers=[main, provider(generator)]) as tutor:
        reply = tutor.chat("hi")
        assert (reply.text, reply.message.provider) == ("abc", "made")
    with pytest.raises(nt.ConfigError, match="other is no provider.* known: main, made"):
        Tutor.open("memory:", providers=[{**main, "fallback": ["other"]}, provider(generator)])


def test_even_an_exit_in_a_provider_is_only_an_error() -> None:
    with Tutor.open("memory:", providers=raises(SystemExit(3), is_async=False)) as tutor:
        with pytest.raises(nt.ProviderUnavailableError, match="raised SystemExit"):
            tutor.chat("hi")


@pytest.mark.parametrize(
    "item",
    [42, None, b"bytes", {"type": "nonsense"}, {"text": "x"}, {"type": "text.delta"}, {"type": "usage", "input_tokens": object()}, ["x"]],
)
@pytest.mark.parametrize("is_async", [True, False])
def test_garbage_is_a_clear_error(item: Any, is_async: bool) -> None:
    async def later(self: Any, request: nt.CompletionRequest) -> AsyncIterator[Any]:
        yield "a"
        yield item
        yield "b"

    def now(self: Any, request: nt.CompletionRequest) -> Iterator[Any]:
        yield "a"
        yield item
        yield "b"

    with Tutor.open("memory:", providers=provider(later if is_async else now)) as tutor:
        with pytest.raises(nt.ProviderUnavailableError, match="text.delta") as caught:
            tutor.chat("hi")
        assert caught.value.context["reason"] == "malformed"
        (message,) = tutor.messages(caught.value.context["session"])[1:]
        assert (message.content, message.status) == ("a", "partial")


@pytest.mark.parametrize(
    "stream",
    [lambda self, request: None, lambda self, request: 5, lambda self, request: request.nothing],
)
def test_a_stream_that_is_none_is_a_clear_error(stream: Any) -> None:
    with Tutor.open("memory:", providers=provider(stream)) as tutor:
        with pytest.raises(nt.ProviderUnavailableError) as caught:
            tutor.chat("hi")
        assert isinstance(caught.value.__cause__, (TypeError, AttributeError))


@pytest.mark.parametrize("attributes", [{"name": None}, {"name": ""}, {"name": "a/b"}])
def test_a_provider_needs_a_name(attributes: dict[str, Any]) -> None:
    with pytest.raises(nt.ConfigError, match="name"):
        Tutor.open("memory:", providers=provider(generator, **attributes))
    with pytest.raises(nt.ConfigError, match="one argument"):
        Tutor.open("memory:", providers=provider(lambda self: None))


def test_a_blocking_provider_ends_in_a_timeout_and_harms_no_other_turn() -> None:
    gate = threading.Event()

    class Blocks:
        name = "blocks"

        def stream(self, request: nt.CompletionRequest) -> Iterator[str]:
            if request.text == "block":
                gate.wait(30)
            yield "ok"

    with Tutor.open("memory:", providers=Blocks()) as tutor:
        start = time.monotonic()
        thread = threading.Thread(target=lambda: pytest.raises(nt.TutorTimeoutError, tutor.chat, "block", timeout=1))
        thread.start()
        assert tutor.chat("go on").text == "ok"
        thread.join()
        with pytest.raises(nt.TutorTimeoutError) as caught:
            tutor.chat("block", timeout=0.2)
        assert caught.value.retryable and isinstance(caught.value, TimeoutError)
        assert time.monotonic() - start < 20
        gate.set()


def test_a_provider_without_end_meets_the_limits() -> None:
    closed = threading.Event()

    def stream(self: Any, request: nt.CompletionRequest) -> Iterator[str]:
        try:
            while True:
                yield "x" * 1000
        finally:
            closed.set()

    with Tutor.open("memory:", providers=provider(stream), limits={"max_reply_bytes": 50_000}) as tutor:
        with pytest.raises(nt.TooLargeError):
            tutor.chat("hi")
        assert closed.wait(10)


def test_a_provider_that_blocks_on_its_tutor_is_told_what_to_do() -> None:
    tutors: list[Tutor] = []

    async def stream(self: Any, request: nt.CompletionRequest) -> AsyncIterator[str]:
        yield tutors[0].chat("again").text

    with Tutor.open("memory:", providers=provider(stream)) as tutor:
        tutors.append(tutor)
        with pytest.raises(nt.ProviderUnavailableError) as caught:
            tutor.chat("hi")
        assert "AsyncTutor" in str(caught.value.__cause__)


def test_long_replies_arrive_whole_through_the_bounded_buffer() -> None:
    async def later(self: Any, request: nt.CompletionRequest) -> AsyncIterator[str]:
        for i in range(5000):
            yield f"{i} "

    def now(self: Any, request: nt.CompletionRequest) -> Iterator[str]:
        for i in range(5000):
            yield f"{i} "

    for stream in (later, now):
        with Tutor.open("memory:", providers=provider(stream)) as tutor:
            assert tutor.chat("hi").text == "".join(f"{i} " for i in range(5000))


def test_packages_register_providers_by_name(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "registered_provider.py").write_text(
        "class Registered:\n"
        "    name = 'registered'\n"
        "    def __init__(self, greeting='Hello'):\n"
        "        self.greeting = greeting\n"
        "    def stream(self, request):\n"
        "        yield self.greeting\n"
    )
    info = tmp_path / "registered_provider-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: registered-provider\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[neuro_tutor.providers]\nregistered = registered_provider:Registered\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Tutor.open("memory:", providers="registered") as tutor:
        assert tutor.chat("hi").text == "Hello"
    with Tutor.open("memory:", providers={"mine": {"kind": "registered", "greeting": "Salve"}}) as tutor:
        assert [info.name for info in tutor.providers()] == ["mine"] and tutor.chat("hi").text == "Salve"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
@pytest.mark.parametrize("is_async", [False, True])
def test_what_would_end_the_process_ends_the_call_alone(error: BaseException, is_async: bool) -> None:
    with Tutor.open("memory:", providers=raises(error, is_async=is_async)) as tutor:
        with pytest.raises(nt.TutorError) as caught:
            tutor.chat("hi")
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            assert isinstance(caught.value, nt.ProviderUnavailableError) and caught.value.__cause__ is error
    with Tutor.open("memory:", providers=provider(async_generator)) as other:
        assert other.chat("hi").text == "abc"


def test_a_task_of_a_provider_ends_nobody_elses_call() -> None:
    async def exits() -> None:
        raise SystemExit(3)

    async def stream(self: Any, request: nt.CompletionRequest) -> AsyncIterator[str]:
        task = asyncio.ensure_future(exits())
        yield "a"
        await asyncio.wait([task])
        yield "b"
        assert isinstance(task.exception(), SystemExit)

    with Tutor.open("memory:", providers=provider(stream)) as tutor:
        assert tutor.chat("hi").text == "ab"
        assert tutor.chat("hi").text == "ab"
