"""Plays the stories of examples/scenarios through the package. Their format is described there."""

from __future__ import annotations

import inspect
import json
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import neuro_tutor as nt
from neuro_tutor import AsyncTutor, Tutor

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "scenarios"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
STEERING = {"do", "as", "expect", "error", "owner", "until"}


class Scripted:
    """Answers by the scripts of a scenario."""

    name = "scripted"
    default_model = "script"

    def __init__(self, scripts: list[list[Any]]) -> None:
        self.scripts = deque(scripts)
        self.gates: dict[str, threading.Semaphore] = {}
        self.requests: list[Any] = []

    def gate(self, name: str) -> threading.Semaphore:
        return self.gates.setdefault(name, threading.Semaphore(0))

    def stream(self, request: nt.CompletionRequest) -> Iterator[Any]:
        asked = request.to_dict()
        for told, message in zip(asked["messages"], request.messages):
            told["text"] = message.text
        self.requests.append(asked)
        script = self.scripts.popleft() if len(self.scripts) > 1 else self.scripts[0]
        for step in script:
            if isinstance(step, dict) and "wait" in step:
                self.gate(step["wait"]).acquire()
            elif isinstance(step, dict) and "raise" in step:
                raise error_of(step["raise"])
            else:
                yield step


def error_of(told: dict[str, Any]) -> nt.TutorError:
    from neuro_tutor.errors import CLASSES

    wait = told.get("retry_after_ms")
    retry_after = None if wait is None else wait / 1000
    return CLASSES[told["code"]](told["message"], retryable=told.get("retryable", False), retry_after=retry_after)


def tools(scenario: dict[str, Any]) -> list[Any]:
    def made(tool: dict[str, Any]) -> Any:
        def function(**arguments: Any) -> Any:
            if "raise" in tool:
                raise ValueError(tool["raise"])
            return tool["answer"]

        return {key: value for key, value in tool.items() if key not in ("answer", "raise")} | {"function": function}

    return [made(tool) for tool in scenario.get("tools", ())]


class Player:
    """Plays one scenario, with either face."""

    def __init__(self, scenario: dict[str, Any], folder: Path, face: type[Any]) -> None:
        self.scenario = scenario
        self.face = face
        self.location: Any = folder if scenario.get("durable") else "memory:"
        self.provider = Scripted(scenario["scripts"])
        self.named: dict[str, Any] = {}
        self.streams: dict[str, tuple[Any, list[Any]]] = {}
        self.tutor: Any = None

    async def open(self) -> None:
        options = {name: self.scenario[name] for name in ("limits", "system_prompt") if name in self.scenario}
        self.tutor = await done(
            self.face.open(self.location, providers=self.provider, tools=tools(self.scenario), **options)
        )

    async def play(self) -> None:
        await self.open()
        for n, written in enumerate(self.scenario["steps"]):
            step = self.resolved(written)
            place = f"step {n}, {step['do']}"
            try:
                seen = await self.step(step)
            except nt.TutorError as error:
                assert "error" in step, f"{place}: {error!r}"
                told = {"code": error.code, "message": error.message, "retryable": error.retryable, "context": error.context}
                compare(step["error"], told, f"{place}: error")
                continue
            assert "error" not in step, f"{place}: {seen}"
            if "expect" in step:
                compare(step["expect"], seen, f"{place}: ")
            if "as" in step:
                self.named[step["as"]] = seen
        for gate in self.provider.gates.values():
            gate.release(100)
        self.streams.clear()
        await done(self.tutor.close())

    def resolved(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("$"):
            first, *parts = value[1:].split(".")
            found = self.named[first]
            for part in parts:
                found = found[int(part)] if isinstance(found, list) else found[part]
            return found
        if isinstance(value, dict):
            return {name: self.resolved(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.resolved(item) for item in value]
        return value

    async def step(self, step: dict[str, Any]) -> Any:
        tutor = self.tutor.for_owner(step["owner"]) if "owner" in step else self.tutor
        asked = {name: value for name, value in step.items() if name not in STEERING}
        do = step["do"]
        if do == "chat":
            message = asked.pop("message", None)
            reply = await done(tutor.chat(message, **asked))
            return {**plain(reply), "text": reply.text}
        if do == "stream":
            stream = tutor.stream(asked.pop("message"), **asked)
            if isinstance(stream, nt.AsyncTurnStream):
                await stream
            return await self.read(stream, [], step.get("until"), step.get("as"))
        if do == "read":
            stream, events = self.streams[step["stream"]]
            return await self.read(stream, events, None, step["stream"])
        if do == "close":
            return await done(self.streams[step["stream"]][0].close())
        if do == "events":
            stream = tutor.events(step["turn"], step["after"])
            if isinstance(stream, nt.AsyncTurnStream):
                await stream
            return await self.read(stream, [], None, None)
        if do == "open":
            return self.provider.gate(step["gate"]).release()
        if do == "reopen":
            self.streams.clear()
            await done(self.tutor.close())
            return await self.open()
        if do == "requests":
            return self.provider.requests
        return plain(await done(self.call(tutor, do, asked)))

    def call(self, tutor: Any, do: str, asked: dict[str, Any]) -> Any:
        session, message = asked.pop("session", None), asked.pop("message", None)
        if do in ("cancel", "turn"):
            return getattr(tutor, do)(asked["turn"])
        if do == "create_session":
            return tutor.create_session(session, **asked)
        if do in ("siblings", "set_head", "delete_message"):
            return getattr(tutor, do)(session, message, **asked)
        if do == "sessions":
            return tutor.sessions(**asked)
        return getattr(tutor, do)(session, **asked)

    async def read(self, stream: Any, events: list[Any], until: str | None, name: str | None) -> Any:
        while True:
            try:
                event = await stream.__anext__() if hasattr(stream, "__anext__") else next(stream)
            except (StopIteration, StopAsyncIteration):
                break
            events.append(event)
            if event.type == until:
                break
        if name is not None:
            self.streams[name] = (stream, events)
        return {
            "turn_id": stream.turn_id,
            "session_id": stream.session_id,
            "events": [plain(event) for event in events],
            "types": [event.type for event in events],
            "seqs": [event.seq for event in events],
            "text": "".join(event.text for event in events if isinstance(event, nt.TextDelta)),
        }


async def done(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def plain(value: Any) -> Any:
    """The JSON of a value, with the texts of messages."""
    if isinstance(value, nt.Page):
        return {"items": [plain(item) for item in value], "next_cursor": value.next_cursor}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, nt.Message):
        return {**value.to_dict(), "text": value.text}
    return json.loads(json.dumps(value.to_dict())) if hasattr(value, "to_dict") else value


def compare(expected: Any, found: Any, place: str) -> None:
    """Checks what is said: of objects the members that are named, of lists every item."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name, value in expected.items():
            compare(value, found.get(name), f"{place}.{name}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for n, (value, item) in enumerate(zip(expected, found)):
            compare(value, item, f"{place}.{n}")
    else:
        assert expected == found, f"{place} is {found!r}, not {expected!r}"


FACES = {"Tutor": Tutor, "AsyncTutor": AsyncTutor}
