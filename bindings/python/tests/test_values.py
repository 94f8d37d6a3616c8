"""Events, messages and the like as values."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import sys
import textwrap
from datetime import datetime, timezone
from typing import Any

import pytest

import neuro_tutor as nt
from neuro_tutor import Tutor, _events

MESSAGE = {
    "id": "m1",
    "session_id": "s1",
    "parent_id": None,
    "turn_id": "t1",
    "role": "assistant",
    "content": [
        {"type": "text", "text": "a"},
        {"type": "tool_call", "call_id": "c1", "name": "n", "arguments": {"x": [1]}},
        {"type": "tool_result", "call_id": "c1", "name": "n", "result": "r", "is_error": True},
        {"type": "image", "url": "data:,", "media_type": "image/png"},
        {"type": "file", "file_id": "f1"},
        {"type": "replay", "protocol": "p", "data": {"signature": "s"}},
    ],
    "status": "partial",
    "author": "teacher",
    "visible_to": ["learner", "teacher"],
    "timestamp": "2026-11-24T09:30:00.000001Z",
    "provider": "p",
    "model": "m",
    "usage": {"input_tokens": 0, "cost_usd": 0.5},
    "finish_reason": "length",
    "metadata": {"k": "v"},
}
ERROR = {"code": "rate_limited", "message": "slow down", "retryable": True, "retry_after_ms": 1500}

EVENTS: list[dict[str, Any]] = [
    {
        "type": "turn.started",
        "turn_id": "t1",
        "session_id": "s1",
        "user_message_id": "m0",
        "reply_message_id": "m1",
        "provider": "p",
        "model": "m",
        "seq": 1,
    },
    {"type": "text.delta", "text": "a", "seq": 2},
    {"type": "reasoning.delta", "text": "a", "seq": 3},
    {"type": "tool.call", "call_id": "c1", "name": "n", "arguments": {"x": 1}, "seq": 4},
    {"type": "tool.result", "call_id": "c1", "result": [1], "seq": 5},
    {"type": "attempt.restarted", "attempt": 2, "reason": "retry", "seq": 6},
    {"type": "notice", "code": "c", "message": "m", "seq": 7},
    {"type": "data", "name": "n", "value": {"x": 1}, "seq": 8},
    {"type": "usage", "output_tokens": 5, "seq": 9},
    {"type": "turn.finished", "message": MESSAGE, "finish_reason": "stop", "status": "completed", "seq": 10},
    {"type": "turn.failed", "error": ERROR, "partial": MESSAGE, "seq": 10},
    {"type": "turn.failed", "error": {"code": "timeout", "message": "m", "retryable": False}, "seq": 10},
]


def test_the_examples_have_every_type() -> None:
    assert {event["type"] for event in EVENTS} == set(_events.CLASSES)


@pytest.mark.parametrize("members", EVENTS, ids=lambda members: str(members["type"]))
def test_an_event_is_a_frozen_value_with_the_common_json(members: dict[str, Any]) -> None:
    event = nt.event_from_dict(members)
    assert event.to_dict() == members
    assert json.loads(json.dumps(event.to_dict())) == members
    assert (event.type, event.seq) == (members["type"], members["seq"])
    for other in (nt.event_from_dict(members), pickle.loads(pickle.dumps(event)), copy.deepcopy(event)):
        assert other == event and type(other) is type(event)
    assert type(event).__name__ in repr(event)
    assert dataclasses.replace(event, seq=99) != event
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.seq = 5  # type: ignore[misc]


def test_times_are_datetimes_in_utc(tutor: Tutor) -> None:
    message = nt.Message.from_dict(MESSAGE)
    assert message.timestamp == datetime(2026, 11, 24, 9, 30, 0, 1, timezone.utc)
    assert message.text == "a"
    session = tutor.session(tutor.chat("hi").session_id)
    assert session.created_at.tzinfo is not None and session.created_at <= session.updated_at


def test_everything_that_is_read_is_a_value(tutor: Tutor) -> None:
    reply = tutor.chat("hi")
    for value in (
        reply,
        tutor.session(reply.session_id),
        tutor.turn(reply.turn_id),
        tutor.messages(reply.session_id)[1],
        tutor.providers()[0],
        tutor.models("demo")[0],
    ):
        assert type(value).from_dict(value.to_dict()) == value
        assert pickle.loads(pickle.dumps(value)) == value
        assert type(value).from_dict({**value.to_dict(), "of_a_later_version": 1}) == value
    page = tutor.messages(reply.session_id)
    assert pickle.loads(pickle.dumps(page)) == page and hash(tutor.models("demo")[0])
    assert page.to_dict()["items"][0]["content"] == "hi" and "Page([" in repr(page)


@pytest.mark.parametrize("minor", [sys.version_info[1]])
def test_events_are_matched_by_patterns(tutor: Tutor, minor: int) -> None:
    assert minor >= 9
    if minor < 10:
        return
    code = """
        text, ends = "", []
        for event in tutor.stream("hi"):
            match event:
                case nt.TurnStarted(session_id=session):
                    assert session
                case nt.TextDelta(more):
                    text += more
                case nt.TurnFinished(message, finish_reason="stop"):
                    ends.append(message.text)
        assert ends == [text]
    """
    exec(textwrap.dedent(code), {"nt": nt, "tutor": tutor})
