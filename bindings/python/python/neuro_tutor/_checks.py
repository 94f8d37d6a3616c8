"""What is checked before the engine hears of it: what cannot even be told to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, List, Optional

from .errors import InvalidInputError

# What the engine counts with.
_LIMIT = 1 << 63


def whole(name: str, value: Any) -> int:
    """A whole number from 0."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LIMIT:
        raise InvalidInputError(f"{name} is a whole number from 0", context={"field": name})
    return value


def items(name: str, value: Any, of: str) -> Optional[List[Any]]:
    """The items of a list; of one thing alone it is said that it has to be in a list."""
    if value is None:
        return None
    try:
        if not isinstance(value, (str, bytes, bytearray, Mapping)):
            return list(value)
    except TypeError:
        pass
    raise InvalidInputError(f"{name} is a list of {of}, also if there is only one: {name}=[…]", context={"field": name})


def string(name: str, value: Any) -> str:
    """A text of valid Unicode."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} is a text (str)", context={"field": name})
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"{name} is a text of valid Unicode", context={"field": name}) from None
    return value


def base_name(path: Any) -> str:
    """The name of a file without its directory, as a text of valid Unicode."""
    return os.path.basename(os.fsdecode(path)).encode("utf-8", "replace").decode()


def string_or_none(name: str, value: Any) -> Optional[str]:
    """A text of valid Unicode, or None."""
    return None if value is None else string(name, value)


def duration(name: str, value: Any) -> Optional[float]:
    """A duration in seconds, or None."""
    if value is None:
        return None
    try:
        if not isinstance(value, (bool, str, bytes)):
            return float(value.total_seconds() if isinstance(value, timedelta) else value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InvalidInputError(f"{name} is a number of seconds from 0, or a timedelta", context={"field": name})


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise InvalidInputError(f"{name} is True or False", context={"field": name})
    return value
