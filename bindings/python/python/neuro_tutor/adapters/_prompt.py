"""What the adapters make of a request."""

from __future__ import annotations

import json
from typing import Any, Optional, Tuple

from .._messages import FilePart, Part, TextPart
from .._provider import CompletionRequest, PromptMessage


def parts_of(message: PromptMessage) -> Tuple[Part, ...]:
    """The parts of a message; a text is one."""
    if isinstance(message.content, str):
        return (TextPart(message.content),)
    return tuple(message.content)


def instructions(request: CompletionRequest) -> Optional[str]:
    """The instructions, with the form of the reply, which these libraries ask for in too many ways."""
    told = [request.system] if request.system else []
    if request.output:
        schema = json.dumps(request.output["schema"], ensure_ascii=False)
        told.append(
            "Answer with one JSON object that is valid under this JSON Schema and nothing else: " + schema
        )
    return "\n\n".join(told) or None


def placeholder(part: FilePart) -> str:
    """What stands for a file that cannot be sent."""
    return f"[attached file: {part.name}]" if part.name else "[attached file]"


def as_text(value: Any) -> str:
    """A tool's result, or a call's arguments, as a text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
