"""OpenAI's and Anthropic's own Python clients, on the real server."""

from __future__ import annotations

import anthropic
import httpx
import openai
import pytest

QUESTION = [{"role": "user", "content": "What is photosynthesis?"}]


@pytest.fixture
def gpt(server: str):
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(server: str):
    with anthropic.Anthropic(base_url=server, api_key="none", max_retries=0) as client:
        yield client


def test_openai_whole_and_streamed_are_the_same_reply(gpt: openai.OpenAI) -> None:
    whole = gpt.chat.completions.create(model="gpt-4", messages=QUESTION)
    chunks = list(gpt.chat.completions.create(model="gpt-4", messages=QUESTION, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert streamed == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_openai_errors_are_its_own(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature"):
        gpt.chat.completions.create(model="gpt-4", messages=QUESTION, temperature=9)
    with pytest.raises(openai.NotFoundError):
        gpt.models.retrieve("nobody")
    assert gpt.models.list().data[0].id == "neuro-tutor"


def test_anthropic_whole_and_streamed_are_the_same_reply(claude: anthropic.Anthropic) -> None:
    whole = claude.messages.create(model="claude", max_tokens=100, messages=QUESTION)
    with claude.messages.stream(model="claude", max_tokens=100, messages=QUESTION) as stream:
        streamed = "".join(stream.text_stream)
    assert streamed == whole.content[0].text
    assert stream.get_final_message().stop_reason == "end_turn"


def test_anthropic_errors_are_its_own(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        claude.messages.create(model="claude", max_tokens=100, messages=[{"role": "user", "content": 7}])


def test_a_conversation_goes_on_from_one_client_to_the_other(
    gpt: openai.OpenAI, claude: anthropic.Anthropic, server: str
) -> None:
    session = {"X-Session-Id": "both"}
    gpt.chat.completions.create(model="gpt-4", messages=QUESTION, extra_headers=session)
    claude.messages.create(model="claude", max_tokens=100, messages=QUESTION, extra_headers=session)
    messages = httpx.get(f"{server}/api/sessions/both/messages").json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
