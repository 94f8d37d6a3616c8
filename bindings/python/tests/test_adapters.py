"""Other people's packages, as they are."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import neuro_tutor as nt
from neuro_tutor import AsyncTutor, Tutor
from neuro_tutor.adapters.langchain import TutorChatMessageHistory
from neuro_tutor.adapters.openai_agents import TutorSession
from neuro_tutor.testing import ScriptedProvider

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "python"

ITEMS: list[Any] = [
    {"role": "user", "content": "Hi \u2028 \U0001f331"},
    {"type": "reasoning", "id": "r1", "summary": [], "encrypted_content": "x" * 1000},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"n": 1}'},
    {"type": "function_call_output", "call_id": "c1", "output": "1.10"},
    {"odd": [1.1, 2**63, None, True, {"": ""}]},
    {"numbers": [0, -1, -(2**63), 2**64 - 1, 2**70, 1e300, -0.0, 0.1 + 0.2, 5e-324, 9007199254740993]},
    {"role": "\u00fc\n\"\\", "\u2028 \"": {"role": [], "deep": [[[[{}]]]]}, "1": False},
]


@pytest.fixture
async def agents(tmp_path: Path) -> AsyncIterator[AsyncTutor]:
    async with AsyncTutor.open(tmp_path / "data") as tutor:
        yield tutor


async def test_items_of_the_agents_sdk_come_back_exactly(agents: AsyncTutor, tmp_path: Path) -> None:
    from agents.memory import Session, SessionSettings

    session = TutorSession("s", agents)
    assert isinstance(session, Session)
    assert await session.get_items() == [] and await session.pop_item() is None
    await session.add_items([])
    await session.add_items(ITEMS[:2])
    await session.add_items(ITEMS[2:])
    assert await session.get_items() == ITEMS
    assert await session.get_items(2) == ITEMS[-2:] and await session.get_items(0) == []
    limited = TutorSession("s", agents.to_sync(), session_settings=SessionSettings(limit=3))
    assert await limited.get_items() == ITEMS[-3:]
    # Of types as they were, and nobody's but the caller's.
    assert str(await session.get_items()) == str(ITEMS)
    (await session.get_items(1))[0].clear()  # type: ignore[attr-defined]
    assert await session.get_items(1) == ITEMS[-1:]
    assert await session.pop_item() == ITEMS[-1]
    assert await session.get_items() == ITEMS[:-1]
    assert await TutorSession("other", agents).get_items() == []
    assert await TutorSession("s", agents.for_owner("ada")).get_items() == []
    await agents.close()
    async with AsyncTutor.open(tmp_path / "data") as again:
        session = TutorSession("s", again)
        assert await session.get_items() == ITEMS[:-1]
        await session.clear_session()
        assert await session.get_items() == []
        await session.add_items(ITEMS[:1])
        assert await session.get_items() == ITEMS[:1]
        assert (await again.erase()).records > 0
        assert await session.get_items() == []


async def test_a_runner_of_the_agents_sdk_goes_on_where_it_was(agents: AsyncTutor) -> None:
    from agents import Agent, Runner, set_tracing_disabled
    from agents.items import ModelResponse
    from agents.models.interface import Model
    from agents.usage import Usage
    from openai.types.responses import ResponseOutputMessage, ResponseOutputText

    set_tracing_disabled(True)
    asked: list[Any] = []

    class Says(Model):
        async def get_response(self, system_instructions: Any, input: Any, *rest: Any, **options: Any) -> ModelResponse:
            asked.append(input)
            text = ResponseOutputText(annotations=[], text=f"answer {len(asked)}", type="output_text", logprobs=[])
            message = ResponseOutputMessage(
                id=f"m{len(asked)}", content=[text], role="assistant", status="completed", type="message"
            )
            return ModelResponse(output=[message], usage=Usage(), response_id=None)

        def stream_response(self, *rest: Any, **options: Any) -> Any:
            raise NotImplementedError

    agent = Agent(name="tutor", model=Says())
    session = TutorSession("lesson", agents)
    assert (await Runner.run(agent, "What do plants eat?", session=session)).final_output == "answer 1"
    assert (await Runner.run(agent, "And lions?", session=session)).final_output == "answer 2"
    assert [item["role"] for item in asked[1]] == ["user", "assistant", "user"]
    assert len(await session.get_items()) == 4


async def test_concurrent_additions_lose_nothing_and_a_cancelled_one_is_whole(agents: AsyncTutor) -> None:
    session = TutorSession("s", agents)
    await asyncio.gather(*(session.add_items([{"n": n}, {"n": n}]) for n in range(20)))
    items: list[Any] = await session.get_items()
    assert sorted(item["n"] for item in items) == sorted([*range(20), *range(20)])
    assert all(items[n] == items[n + 1] for n in range(0, 40, 2))
    task = asyncio.create_task(session.add_items([{"n": 100}]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await session.get_items()) in (40, 41)


def test_messages_of_langchain_come_back_as_they_were(tmp_path: Path) -> None:
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

    said = [
        SystemMessage("Be kind."),
        HumanMessage([{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "data:,"}}]),
        AIMessage("", tool_calls=[{"name": "f", "args": {"n": 1}, "id": "c1"}]),
        ToolMessage("1", tool_call_id="c1"),
        AIMessage("Hello", id="m1", response_metadata={"model": "x"}),
    ]
    with Tutor.open(tmp_path / "data") as tutor:
        history = TutorChatMessageHistory("s", tutor)
        assert history.messages == []
        history.add_messages(said)
        history.add_messages([])
        history.add_user_message("And?")
        assert history.messages == [*said, HumanMessage("And?")]
        assert history.latest(1) == [HumanMessage("And?")]
    with Tutor.open(tmp_path / "data") as tutor:
        history = TutorChatMessageHistory("s", tutor)
        assert len(history.messages) == 6
        history.clear()
        assert history.messages == []


# The class is deprecated, and what most people still use.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_history_of_a_langchain_runnable_grows(agents: AsyncTutor) -> None:
    from langchain_core.language_models import FakeListChatModel
    from langchain_core.runnables.history import RunnableWithMessageHistory

    model = FakeListChatModel(responses=["one", "two"])
    chain: Any = RunnableWithMessageHistory(model, lambda session_id: TutorChatMessageHistory(session_id, agents))
    config = {"configurable": {"session_id": "s"}}
    assert (await chain.ainvoke("a", config)).content == "one"
    assert (await chain.ainvoke("b", config)).content == "two"
    history = TutorChatMessageHistory("s", agents)
    assert [message.content for message in await history.aget_messages()] == ["a", "one", "b", "two"]
    await history.aclear()
    assert await history.aget_messages() == []


def test_the_fastapi_example_serves_learners_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("fastapi_app", EXAMPLES / "fastapi_app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fastapi_app", module)
    spec.loader.exec_module(module)
    with TestClient(module.app) as client:
        with client.stream("POST", "/ask", json={"text": "hi"}, headers={"X-Learner": "ada"}) as answer:
            events = [line for line in answer.iter_lines() if line.startswith("data: ")]
        assert "turn.started" in events[0] and "turn.finished" in events[-1]
        (session,) = client.get("/lessons", headers={"X-Learner": "ada"}).json()["items"]
        assert client.get("/lessons").json()["items"] == []
        path = f"/lessons/{session['id']}"
        assert len(client.get(path, headers={"X-Learner": "ada"}).json()["items"]) == 2
        assert client.get(path).status_code == 404
        assert client.delete(path, headers={"X-Learner": "ada"}).status_code == 204
        assert client.delete(path, headers={"X-Learner": "ada"}).status_code == 404
        assert client.post("/ask", json={"text": ""}).status_code == 422


def test_a_history_has_a_name(tutor: Tutor) -> None:
    for name in ("", None, 5):
        with pytest.raises(nt.InvalidInputError, match="session_id"):
            TutorChatMessageHistory(name, tutor)  # type: ignore[arg-type]


def test_a_reply_grows_in_a_notebook() -> None:
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    publisher = CapturingDisplayPublisher()
    shell.display_pub, before = publisher, shell.display_pub
    gate = threading.Event()
    try:
        with Tutor.open("memory:", providers=ScriptedProvider(["Li", gate, "<b>ght", nt.RateLimitedError("slow down")])) as tutor:
            gate.set()
            with pytest.raises(nt.RateLimitedError):
                tutor.stream("hi").display()
        outputs = publisher.outputs
    finally:
        shell.display_pub = before
        InteractiveShell.clear_instance()
    first, *updates = outputs
    assert len({output["transient"]["display_id"] for output in outputs}) == 1
    assert not first.get("update") and all(update["update"] for update in updates)
    assert "Li&lt;b&gt;ght" in updates[-1]["data"]["text/html"] and "rate_limited" in updates[-1]["data"]["text/html"]
    # For a terminal.
    assert updates[-1]["data"]["text/plain"] == "Li<b>ght\nrate_limited: slow down"


async def test_an_async_reply_grows_too() -> None:
    async with AsyncTutor.open("memory:", providers=ScriptedProvider("Light.")) as tutor:
        assert (await tutor.stream("hi").display()).text == "Light."
