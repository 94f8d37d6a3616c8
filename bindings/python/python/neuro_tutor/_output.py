"""Replies that are JSON of a form, or values of a type."""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from .errors import ProviderRejectedError

Read = Callable[[Any], Any]


def output_of(output: Any) -> Tuple[Dict[str, Any], Read]:
    """The form as the engine takes it, and what makes a value of a reply in that form."""
    if isinstance(output, Mapping):
        if set(output) == {"name", "schema"}:
            return dict(output), _as_it_is
        return {"name": _name(output.get("title")), "schema": dict(output)}, _as_it_is
    from ._schema import Definitions, form_of, root_schema

    definitions = Definitions()
    form = form_of(output, definitions)
    schema = root_schema(form, definitions)
    return {"name": _name(getattr(output, "__name__", None)), "schema": schema}, form.read


def _as_it_is(value: Any) -> Any:
    return value


def _name(title: Optional[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]", "_", title) if isinstance(title, str) else ""
    return name[:64] or "output"


def read_output(read: Read, value: Any, turn: str, session: str) -> Any:
    """The value of a reply that is valid under its schema. Types may ask for more than that."""
    try:
        return read(value)
    except Exception as error:
        raise ProviderRejectedError(
            f"the reply has the form that was asked for, but its type refuses it: {type(error).__name__}",
            retryable=True,
            context={"reason": "invalid_output", "turn": turn, "session": session},
        ) from error


def value_in(text: str) -> Any:
    """The JSON of a reply, without the fence that models like to put around it."""
    text = text.strip()
    fenced = re.fullmatch(r"```(?:json)?(.*)```", text, re.DOTALL)
    return json.loads(fenced.group(1) if fenced else text)
