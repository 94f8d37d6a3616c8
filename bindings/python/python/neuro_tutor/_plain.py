"""Values as the JSON that says what they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from ._record import Record


def to_json(value: Any) -> Any:
    """A value as None, bool, numbers, texts, lists and objects; what has no such form as its text."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Record):
        return to_json(value.to_dict())
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {_key(key): to_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return [to_json(one) for one in value]
    # Not with the package: these take as long to import as the rest of it.
    from dataclasses import fields, is_dataclass
    from enum import Enum

    if isinstance(value, Enum):
        return to_json(value.value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (int, float, str)):
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)


def _key(key: Any) -> Any:
    key = to_json(key)
    return key if key is None or isinstance(key, (bool, int, float, str)) else str(key)
