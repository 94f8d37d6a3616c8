"""A whole reply: a turn's events, folded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Tuple

from ._events import Notice
from ._html import paragraphs
from ._messages import FinishReason, Message, TurnStatus, Usage
from ._record import Record


def _read_warnings(warnings: List[Mapping[str, Any]]) -> Tuple[Notice, ...]:
    return tuple(Notice.from_dict(warning) for warning in warnings)


@dataclass(frozen=True)
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

    @property
    def text(self) -> str:
        """The reply's text."""
        return self.message.text

    def _repr_html_(self) -> str:
        return paragraphs(self.text)

    def __str__(self) -> str:
        return self.text
