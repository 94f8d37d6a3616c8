"""What all values of the package share: frozen, comparable, and the same JSON as everywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from datetime import datetime, timezone
from typing import Any, Callable, ClassVar, Dict, Generic, Mapping, Optional, Tuple, Type, TypeVar, overload

from ._html import rows_of, table

R = TypeVar("R", bound="Record")
T = TypeVar("T")


def read_time(text: str) -> datetime:
    """The moment of a text such as `2026-11-24T09:30:00.000000Z`."""
    return datetime.fromisoformat(text[:-1] + "+00:00")


def _write_time(time: datetime) -> str:
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, datetime):
        return _write_time(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


class Record:
    """A frozen value with the JSON form that it has in every language."""

    # Members that the JSON leaves out when they have these values.
    _left_out: ClassVar[Mapping[str, Any]] = {}
    # How members are read that are not plain.
    _readers: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    _plan: ClassVar[Optional[_Plan]] = None

    def to_dict(self) -> Dict[str, Any]:
        """The members as plain values, as they are in JSON."""
        left_out = self._left_out
        members: Dict[str, Any] = {}
        kind = getattr(type(self), "type", None)
        if isinstance(kind, str):
            members["type"] = kind
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.name in left_out and value == left_out[field.name]:
                continue
            members[field.name] = _plain(value)
        return members

    @classmethod
    def from_dict(cls: Type[R], members: Mapping[str, Any]) -> R:
        """The value with these members, as `to_dict` gives them. Unknown members are ignored."""
        plan = cls.__dict__.get("_plan")
        if plan is None:
            plan = cls._plan = _Plan(cls)
        names, readers = plan.names, cls._readers
        # Around `__init__`, which sets the members of a frozen class one by one.
        made = object.__new__(cls)
        state = made.__dict__
        state.update(plan.defaults)
        for name, value in members.items():
            if name in names:
                reader = readers.get(name)
                state[name] = value if reader is None or value is None else reader(value)
        if len(state) != len(names):
            for name, factory in plan.factories.items():
                if name not in state:
                    state[name] = factory()
            if len(state) != len(names):
                return cls(**state)  # It says what is missing.
        return made


class _Plan:
    """What is known of a class of values."""

    def __init__(self, cls: Type[Record]) -> None:
        found = fields(cls)  # type: ignore[arg-type]
        self.names = frozenset(field.name for field in found)
        self.defaults = {field.name: field.default for field in found if field.default is not MISSING}
        self.factories = {
            field.name: field.default_factory for field in found if field.default_factory is not MISSING
        }


class Page(Sequence[T], Generic[T]):
    """Some items in their documented order, and how to get more.

    A sequence: iterate, index, `len`. `next_cursor` is None when there is nothing more.
    """

    __slots__ = ("_items", "next_cursor")
    __match_args__ = ("items", "next_cursor")

    next_cursor: Optional[str]
    """Behind the last item in reading direction; None at the end."""

    def __init__(self, items: Sequence[T] = (), next_cursor: Optional[str] = None) -> None:
        self._items: Tuple[T, ...] = tuple(items)
        self.next_cursor = next_cursor

    @property
    def items(self) -> Tuple[T, ...]:
        """The items."""
        return self._items

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Tuple[T, ...]: ...

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Page):
            return NotImplemented
        return self._items == other._items and self.next_cursor == other.next_cursor

    def __hash__(self) -> int:
        return hash((self._items, self.next_cursor))

    def __repr__(self) -> str:
        return f"Page({list(self._items)!r}, next_cursor={self.next_cursor!r})"

    def _repr_html_(self) -> str:
        return table(*rows_of(self._items))

    def to_dict(self) -> Dict[str, Any]:
        """Items and cursor as plain values."""
        return {"items": [_plain(item) for item in self._items], "next_cursor": self.next_cursor}


def read(cls: Type[R], text: str) -> R:
    """A value that the native module gives."""
    return cls.from_dict(json.loads(text))


def read_page(cls: Type[R], text: str) -> Page[R]:
    """A page of values that the native module gives."""
    page = json.loads(text)
    return Page([cls.from_dict(item) for item in page["items"]], page["next_cursor"])
