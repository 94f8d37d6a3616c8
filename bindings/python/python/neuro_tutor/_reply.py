"""A whole reply: a turn's events, folded."""

from __future__ import annotations

import json
from typing import Any, Dict, Generic, List, Mapping, Optional, Tuple, TypeVar

from ._events import Notice
from ._messages import FinishReason, Message, ToolCallPart, ToolResultPart, TurnStatus, Usage, last_text
from ._output import Read, read_output, value_in
from ._record import Record, record


T = TypeVar("T")


def _read_warnings(warnings: List[Mapping[str, Any]]) -> Tuple[Notice, ...]:
    return tuple(Notice.from_dict(warning) for warning in warnings)


@record(frozen=True)
class Reply(Record):
    """A whole reply."""

    _readers = {"message": Message.from_dict, "usage": Usage.from_dict, "warnings": _read_warnings}

    message: Message
    """The stored message."""
    session_id: str
    """The conversation, also if it was just created."""
    turn_id: str
    status: TurnStatus
    """`completed` or `cancelled`."""
    finish_reason: FinishReason
    """Why the reply ended."""
    usage: Optional[Usage] = None
    """What it consumed, if the provider said."""
    warnings: Tuple[Notice, ...] = ()
    """What the caller should know about this reply."""
    output: Any = None
    """What the reply is in the form that the request asked for; None if it asked for none, or if the turn
    was cancelled."""

    @property
    def text(self) -> str:
        """The reply's text."""
        return self.message.text

    @property
    def tool_calls(self) -> Tuple[ToolCallPart, ...]:
        """What the caller has to run: the calls of `client_tools` with which the reply ends."""
        content = self.message.content
        parts = () if isinstance(content, str) else content
        answered = {part.call_id for part in parts if isinstance(part, ToolResultPart)}
        return tuple(part for part in parts if isinstance(part, ToolCallPart) and part.call_id not in answered)

    def _repr_html_(self) -> str:
        from ._html import paragraphs

        return paragraphs(self.text)

    def __str__(self) -> str:
        return self.text


@record(frozen=True)
class TypedReply(Reply, Generic[T]):
    """A whole reply to a request that asked for a value of a type."""

    output: T = None  # type: ignore[assignment]
    """The value. (None if the turn was cancelled.)"""

    def to_dict(self) -> Dict[str, Any]:
        """The members as plain values, as they are in JSON: also what the value was made of."""
        output = None if self.output is None else value_in(last_text(self.message.content))
        return {**super().to_dict(), "output": output}


def read_reply(text: str, read_value: Optional[Read]) -> Reply:
    """The reply that the native module gives."""
    members = json.loads(text)
    if read_value is None:
        return Reply.from_dict(members)
    return typed_reply(Reply.from_dict(members), read_value)


def _value(reply: Reply, read_value: Read) -> Any:
    """The value of the text, which has numbers of any length; None for a model that declined in words."""
    try:
        value = value_in(last_text(reply.message.content))
    except ValueError:
        return None
    return read_output(read_value, value, reply.turn_id, reply.session_id)


def typed_reply(reply: Reply, read_value: Read) -> Reply:
    """The same reply with its output as a value of the type that was asked for."""
    value = None
    if reply.status == "completed":
        value = _value(reply, read_value)
    return TypedReply(
        reply.message,
        reply.session_id,
        reply.turn_id,
        reply.status,
        reply.finish_reason,
        reply.usage,
        reply.warnings,
        value,
    )
