"""What is checked before the engine hears of it: what cannot even be told to it."""

from __future__ import annotations

from collections.abc import Mapping
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
