"""Models of LiteLLM and Pydantic AI as providers: the real libraries, and no network."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import neuro_tutor as nt
from neuro_tutor import AsyncTutor, Tutor
from neuro_tutor.adapters.litellm import from_litellm
from neuro_tutor.adapters.pydantic_ai import from_pydantic_ai

# Else importing it asks the network for prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

with warnings.catch_warnings():
    # What the libraries are made with is theirs to mend.
    warnings.simplefilter("ignore")
    import litellm
    from litellm.llms.custom_llm import CustomLLMError
    from pydantic_ai import exceptions
    from pydantic_ai import messages as ai
    from pydantic_ai.models import Model
    from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
    from pydantic_ai.models.test import TestModel

pytestmark = pytest.mark.filterwarnings("ignore")

QUESTION = "the canary of a learner"


def chunk(text: str = "", finish: str = "", **members: Any) -> Any:
    return {"text": text, "is_finished": bool(finish), "finish_reason": finish, "usage": None, "index": 0, "tool_use": None, **members}


USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def whole() -> Any:
    return litellm.ModelResponse(
        choices=[{"message": {"role": "assistant", "content": "Light feeds plants."}, "finish_reason": "stop"}],
        usage=USAGE,
    )


CHUNKS = [chunk("Light "), chunk("feeds "), chunk("plants.", "stop", usage=USAGE)]


class Asynchronous(litellm.CustomLLM):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        self.asked.append(kwargs)
        for item in CHUNKS:
            yield item


class Synchronous(litellm.CustomLLM):
    def streaming(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from CHUNKS


class Whole(litellm.CustomLLM):
    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        return whole()


class Blocking(litellm.CustomLLM):
    def completion(self, *args: Any, **kwargs: Any) -> Any:
        return whole()


@pytest.mark.parametrize("made", [Asynchronous, Synchronous, Whole, Blocking])
def test_every_way_to_write_a_custom_llm_answers_with_its_usage(made: Any) -> None:
    with Tutor.open("memory:", providers=from_litellm(made(), "mine")) as tutor:
        reply = tutor.chat(QUESTION)
        assert reply.text == "Light feeds plants."
        assert reply.message.provider == "litellm" and reply.message.model == "mine"
        assert reply.usage and (reply.usage.input_tokens, reply.usage.output_tokens) == (12, 3)
        deltas = [event.text for event in tutor.stream(QUESTION) if event.type == "text.delta"]
        assert "".join(deltas) == "Light feeds plants."


def test_a_custom_llm_is_asked_as_litellm_asks_it() -> None:
    handler = Asynchronous()
    with Tutor.open("memory:", providers=from_litellm(handler, "mine", api_key="k"), system_prompt="Be brief.") as tutor:
        session = tutor.chat("first").session_id
        tutor.chat("second", session=session, temperature=0.5, max_tokens=7)
    asked = handler.asked[-1]
    assert asked["model"] == "mine" and asked["api_key"] == "k"
    assert [message["role"] for message in asked["messages"]] == ["system", "user", "assistant", "user"]
    assert asked["messages"][-1]["content"] == "second"
    assert asked["optional_params"]["temperature"] == 0.5 and asked["optional_params"]["max_tokens"] == 7


class Calling(litellm.CustomLLM):
    async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        def call(arguments: str, **members: Any) -> Any:
            return {"id": None, "type": "function", "index": 0, "function": {"name": None, "arguments": arguments}, **members}

        yield chunk(tool_use=call('{"x"', id="c1", function={"name": "plot", "arguments": '{"x"'}))
        yield chunk(tool_use=call(": 1}"))
        yield chunk(finish="tool_calls")


def test_the_tool_calls_of_a_custom_llm_are_put_together() -> None:
    with Tutor.open("memory:", providers=from_litellm(Calling(), "mine")) as tutor:
        (call,) = [event for event in tutor.stream(QUESTION) if event.type == "tool.call"]
    assert (call.call_id, call.name, call.arguments) == ("c1", "plot", {"x": 1})


STATUSES = [
    (401, nt.ProviderAuthError, False),
    (402, nt.ProviderQuotaError, False),
    (429, nt.RateLimitedError, True),
    (400, nt.ProviderRejectedError, False),
    (503, nt.ProviderUnavailableError, True),
]


@pytest.mark.parametrize(("status", "kind", "retryable"), STATUSES)
def test_what_a_custom_llm_raises_keeps_its_kind_and_not_its_words(status: int, kind: Any, retryable: bool) -> None:
    class Failing(litellm.CustomLLM):
        async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            raise CustomLLMError(status, f"no: {QUESTION}")
            yield

    with Tutor.open("memory:", providers=from_litellm(Failing(), "mine")) as tutor, pytest.raises(kind) as caught:
        tutor.chat(QUESTION)
    assert caught.value.retryable is retryable
    assert QUESTION not in str(caught.value)
    assert isinstance(caught.value.__cause__, CustomLLMError) and caught.value.context["status"] == str(status)


def test_a_custom_llm_that_ends_early_has_not_answered() -> None:
    class Cut(litellm.CustomLLM):
        async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            yield chunk("Light ")

    with Tutor.open("memory:", providers=from_litellm(Cut(), "mine")) as tutor, pytest.raises(nt.ProviderUnavailableError):
        tutor.chat(QUESTION)


async def test_a_cancelled_turn_closes_a_custom_llm() -> None:
    closed = asyncio.Event()

    class Slow(litellm.CustomLLM):
        async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            try:
                yield chunk("Light ")
                await asyncio.Event().wait()
            finally:
                closed.set()

    async with AsyncTutor.open("memory:", providers=from_litellm(Slow(), "mine")) as tutor:
        async with tutor.stream(QUESTION) as stream:
            async for event in stream:
                if event.type == "text.delta":
                    break
        await asyncio.wait_for(closed.wait(), 5)


def test_what_is_no_model_of_the_library_is_refused() -> None:
    with pytest.raises(TypeError):
        from_litellm(object(), "mine")
    with pytest.raises(TypeError, match="astreaming"):
        from_litellm(litellm.CustomLLM(), "mine")
    with pytest.raises(TypeError):
        from_pydantic_ai(object())


async def thinking(messages: list[ai.ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    yield {0: DeltaThinkingPart(content="Hm.")}
    yield "Light "
    yield "feeds plants."


def test_a_pydantic_ai_model_streams_with_its_usage() -> None:
    with Tutor.open("memory:", providers=from_pydantic_ai(FunctionModel(stream_function=thinking))) as tutor:
        events = list(tutor.stream(QUESTION))
        reply = tutor.chat(QUESTION)
    said = [event.text for event in events if event.type == "text.delta"]
    assert said == ["Light ", "feeds plants."]
    assert [event.text for event in events if event.type == "reasoning.delta"] == ["Hm."]
    assert reply.text == "Light feeds plants." and reply.message.provider == "pydantic-ai"
    assert reply.usage and reply.usage.output_tokens


def test_a_pydantic_ai_model_sees_the_conversation_with_its_calls_and_results() -> None:
    seen: list[Any] = []

    async def answer(messages: list[ai.ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        seen.append((messages, info.model_settings))
        yield "ok"

    image = {"type": "image", "url": "data:image/png;base64,iVBORw0KGgo="}
    with Tutor.open("memory:", providers=from_pydantic_ai(FunctionModel(stream_function=answer)), system_prompt="Be brief.") as tutor:
        session = tutor.chat("first").session_id
        tutor.chat([{"type": "text", "text": "second"}, image], session=session, temperature=0.5)
    messages, settings = seen[-1]
    assert settings["temperature"] == 0.5
    assert [message.kind for message in messages] == ["request", "response", "request"]
    assert [part.part_kind for part in messages[0].parts] == ["system-prompt", "user-prompt"]
    text, picture = messages[2].parts[0].content
    assert text == "second" and picture.media_type == "image/png"


def test_the_tool_calls_of_a_pydantic_ai_model_arrive() -> None:
    async def call(messages: list[ai.ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        yield {0: DeltaToolCall(name="plot", json_args='{"x"', tool_call_id="c1")}
        yield {0: DeltaToolCall(json_args=": 1}")}

    with Tutor.open("memory:", providers=from_pydantic_ai(FunctionModel(stream_function=call))) as tutor:
        (call_event,) = [event for event in tutor.stream(QUESTION) if event.type == "tool.call"]
    assert (call_event.call_id, call_event.name, call_event.arguments) == ("c1", "plot", {"x": 1})


def test_a_pydantic_ai_model_that_cannot_stream_answers_whole() -> None:
    def answer(messages: list[ai.ModelMessage], info: AgentInfo) -> ai.ModelResponse:
        return ai.ModelResponse(parts=[ai.TextPart("All at once.")])

    class Whole(FunctionModel):
        request_stream = Model.request_stream

    with Tutor.open("memory:", providers=from_pydantic_ai(Whole(answer))) as tutor:
        assert tutor.chat(QUESTION).text == "All at once."


@pytest.mark.parametrize(("status", "kind", "retryable"), STATUSES)
def test_what_a_pydantic_ai_model_raises_keeps_its_kind_and_not_its_words(status: int, kind: Any, retryable: bool) -> None:
    async def fail(messages: list[ai.ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        raise exceptions.ModelHTTPError(status, "m", body={"message": QUESTION})
        yield ""

    model = FunctionModel(stream_function=fail)
    with Tutor.open("memory:", providers=from_pydantic_ai(model)) as tutor, pytest.raises(kind) as caught:
        tutor.chat(QUESTION)
    assert caught.value.retryable is retryable and QUESTION not in str(caught.value)
    assert isinstance(caught.value.__cause__, exceptions.ModelHTTPError)
    assert caught.value.context["status"] == str(status)


async def test_a_cancelled_turn_closes_a_pydantic_ai_model() -> None:
    closed = threading.Event()

    async def slow(messages: list[ai.ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        try:
            yield "Light "
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with AsyncTutor.open("memory:", providers=from_pydantic_ai(FunctionModel(stream_function=slow))) as tutor:
        async with tutor.stream(QUESTION) as stream:
            async for event in stream:
                if event.type == "text.delta":
                    break
        assert await asyncio.to_thread(closed.wait, 5)


def test_the_test_model_of_pydantic_ai_is_a_provider_as_it_is() -> None:
    with Tutor.open("memory:", providers=from_pydantic_ai(TestModel(custom_output_text="yes"), name="theirs")) as tutor:
        reply = tutor.chat(QUESTION)
    assert (reply.text, reply.message.provider, reply.message.model) == ("yes", "theirs", "test")
