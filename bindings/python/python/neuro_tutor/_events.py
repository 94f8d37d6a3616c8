"""The events of a turn: one class a type, with the fields that they have in every language.

Events are numbered 1, 2, 3 … in `seq`. The first is `TurnStarted`; exactly one of `TurnFinished` and
`TurnFailed` comes last.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, Dict, List, Literal, Mapping, Optional, Tuple, Type, Union

from ._messages import ErrorInfo, FinishReason, Message, TurnStatus, Usage
from ._record import Record, record


@record(frozen=True)
class TurnStarted(Record):
    """The turn is stored: the learner's words are safe."""

    type: ClassVar[Literal["turn.started"]] = "turn.started"
    turn_id: str
    session_id: str
    """The conversation, also if it was just created."""
    user_message_id: str
    reply_message_id: str
    """The id that the reply will have."""
    provider: str
    model: str
    seq: int = 0


@record(frozen=True)
class TextDelta(Record):
    """More of the reply. A provider may yield it."""

    type: ClassVar[Literal["text.delta"]] = "text.delta"
    text: str
    """What is new, not the text so far."""
    seq: int = 0


@record(frozen=True)
class ReasoningDelta(Record):
    """More of the model's visible thinking. A provider may yield it."""

    type: ClassVar[Literal["reasoning.delta"]] = "reasoning.delta"
    text: str
    seq: int = 0


@record(frozen=True)
class ToolCall(Record):
    """The model asks for a tool. A provider may yield it."""

    type: ClassVar[Literal["tool.call"]] = "tool.call"
    call_id: str
    """Pairs the call with its result."""
    name: str
    arguments: Any
    """An object, or the text as the model wrote it if it is none."""
    seq: int = 0


@record(frozen=True)
class ToolResult(Record):
    """What a tool answered."""

    type: ClassVar[Literal["tool.result"]] = "tool.result"
    _left_out = {"is_error": False}
    call_id: str
    result: Any
    is_error: bool = False
    """True if the tool failed and the answer says why."""
    seq: int = 0


@record(frozen=True)
class AttemptRestarted(Record):
    """A retry or fallback replaces what was sent: drop all text, reasoning and calls so far."""

    type: ClassVar[Literal["attempt.restarted"]] = "attempt.restarted"
    attempt: int
    """The number of the new attempt, from 2."""
    reason: str
    """A stable snake-case word."""
    seq: int = 0


@record(frozen=True)
class Notice(Record):
    """Something that the user of the API should know; never an error. A provider may yield it."""

    type: ClassVar[Literal["notice"]] = "notice"
    code: str
    """A stable snake-case word."""
    message: str
    """A sentence for people."""
    seq: int = 0


@record(frozen=True)
class Data(Record):
    """Data of the tutoring layer."""

    type: ClassVar[Literal["data"]] = "data"
    name: str
    value: Any
    seq: int = 0


@record(frozen=True)
class UsageReported(Usage):
    """What the turn consumed. At most once, before the last event."""

    type: ClassVar[Literal["usage"]] = "usage"
    seq: int = 0


@record(frozen=True)
class TurnFinished(Record):
    """The reply is stored. The last event."""

    type: ClassVar[Literal["turn.finished"]] = "turn.finished"
    _readers = {"message": Message.from_dict}
    message: Message
    """The stored reply."""
    finish_reason: FinishReason
    status: TurnStatus
    """`completed` or `cancelled`."""
    seq: int = 0


@record(frozen=True)
class TurnFailed(Record):
    """The turn failed. The last event."""

    type: ClassVar[Literal["turn.failed"]] = "turn.failed"
    _left_out = {"partial": None}
    _readers = {"error": ErrorInfo.from_dict, "partial": Message.from_dict}
    error: ErrorInfo
    partial: Optional[Message] = None
    """The stored partial reply, if anything had arrived."""
    seq: int = 0


TurnEvent = Union[
    TurnStarted,
    TextDelta,
    ReasoningDelta,
    ToolCall,
    ToolResult,
    AttemptRestarted,
    Notice,
    Data,
    UsageReported,
    TurnFinished,
    TurnFailed,
]
"""What a stream yields. Tell them apart by `type`, by `isinstance`, or by `match`."""

CLASSES: Dict[str, Type[Record]] = {
    cls.type: cls
    for cls in (
        TurnStarted,
        TextDelta,
        ReasoningDelta,
        ToolCall,
        ToolResult,
        AttemptRestarted,
        Notice,
        Data,
        UsageReported,
        TurnFinished,
        TurnFailed,
    )
}


def event_from_dict(members: Mapping[str, Any]) -> TurnEvent:
    """The event with these members, as `to_dict` and the server's stream give them."""
    return CLASSES[members["type"]].from_dict(members)  # type: ignore[return-value]


def read_events(items: List[Union[Tuple[int, str], str]]) -> List[TurnEvent]:
    """The events that the native module gives: each number and text of a text delta, or JSON."""
    new = object.__new__
    events: List[TurnEvent] = []
    for item in items:
        if isinstance(item, str):
            events.append(event_from_dict(json.loads(item)))
        else:
            # Around `__init__`: most events are these.
            event = new(TextDelta)
            state = event.__dict__
            state["seq"], state["text"] = item
            events.append(event)
    return events
