"""OpenAI's and Anthropic's own Python clients, on the real server."""

from __future__ import annotations

import threading
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from server import serve

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


def test_a_reply_that_was_stopped_is_an_error_and_not_asked_for_again(tmp_path: Path) -> None:
    def stop(url: str, session: str) -> None:
        while not httpx.post(f"{url}/api/chat/{session}/stop").json()["stopped"]:
            pass

    with serve(tmp_path, DEMO_DELAY_MS="100") as url:
        gpt = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        claude = anthropic.Anthropic(base_url=url, api_key="none")
        for session, error, create in (
            ("gpt", openai.APIError, gpt.chat.completions.create),
            ("claude", anthropic.APIError, claude.messages.create),
        ):
            stopping = threading.Thread(target=stop, args=(url, session))
            stopping.start()
            with pytest.raises(error, match="was stopped"):
                named = {"X-Session-Id": session}
                list(create(model="m", max_tokens=100, messages=QUESTION, stream=True, extra_headers=named))
            stopping.join()
            messages = httpx.get(f"{url}/api/sessions/{session}/messages").json()["messages"]
            assert [message["role"] for message in messages] == ["user", "assistant"]
