"""What all values of the package share: frozen, comparable, and the same JSON as everywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Dict, Generic, List, Mapping, Optional, Tuple, Type, TypeVar, overload

__all__ = ["Page", "Record", "field", "read", "read_page", "read_time", "record"]

R = TypeVar("R", bound="Record")
T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as record
    from dataclasses import field
else:

    def field(*, default_factory):
        """A member whose default is made for each value."""
        return _Factory(default_factory)

    def record(*, frozen):
        """`dataclass` for a class of values, and it is one. But what that compiles for each class takes longer
        than the rest of an import, and so it is here in `Record`, or compiled when it is needed."""

        def make(cls):
            parent = cls.__mro__[1].__dict__.get("_members", {})
            cls._members = members = dict(parent)
            for name, kind in cls.__annotations__.items():
                if not kind.startswith("ClassVar"):
                    members[name] = cls.__dict__.get(name, _NONE)
                    if isinstance(members[name], _Factory):
                        delattr(cls, name)
            cls.__match_args__ = tuple(members)

            def __init__(self, *args, **kwargs):
                _compile_init(cls)
                cls.__init__(self, *args, **kwargs)

            cls.__init__ = __init__
            return cls

        return make


class _Factory:
    """A member's default that is made for each value."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


_NONE = object()
"""Instead of a default."""


def _compile_init(cls: Type[Record]) -> None:
    """Gives a class of values the constructor that its members make."""
    known: Dict[str, Any] = {"_NONE": _NONE}
    parameters, lines = ["self"], ["    state = self.__dict__"]
    for name, default in cls._members.items():
        value = name
        if isinstance(default, _Factory):
            known[f"_{name}"] = default.make
            parameters.append(f"{name}=_NONE")
            value = f"_{name}() if {name} is _NONE else {name}"
        elif default is _NONE:
            parameters.append(name)
        else:
            known[f"_{name}"] = default
            parameters.append(f"{name}=_{name}")
        lines.append(f"    state[{name!r}] = {value}")
    exec("\n".join([f"def __init__({', '.join(parameters)}):", *lines]), known)
    made = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    setattr(cls, "__init__", made)


class _Signature:
    """What `inspect.signature` and `help` show of a class of values."""

    def __get__(self, instance: Any, owner: Type[Record]) -> Any:
        from inspect import Parameter, Signature

        if instance is not None or "_members" not in owner.__dict__:
            raise AttributeError("__signature__")
        shown = []
        for name, default in owner._members.items():
            default = default.make() if isinstance(default, _Factory) else default
            default = Parameter.empty if default is _NONE else default
            shown.append(Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default))
        return Signature(shown)


class _Fields:
    """What makes a class of values a dataclass, for those who ask: `fields`, `replace`, `asdict`, subclasses."""

    def __get__(self, instance: Any, owner: Type[Record]) -> Any:
        import dataclasses

        if not owner._members:
            raise AttributeError("__dataclass_fields__")
        kinds: Dict[str, Any] = {}
        for cls in reversed(owner.__mro__):
            kinds.update(cls.__dict__.get("__annotations__", {}))
        described: List[Any] = []
        for name, default in owner._members.items():
            if isinstance(default, _Factory):
                described.append((name, kinds[name], dataclasses.field(default_factory=default.make)))
            elif default is _NONE:
                described.append((name, kinds[name]))
            else:
                described.append((name, kinds[name], dataclasses.field(default=default)))
        twin: Any = dataclasses.make_dataclass(owner.__name__, described, frozen=True)
        made = next(cls for cls in owner.__mro__ if "_members" in cls.__dict__)
        setattr(made, "__dataclass_params__", twin.__dataclass_params__)
        setattr(made, "__dataclass_fields__", twin.__dataclass_fields__)
        return twin.__dataclass_fields__


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
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


class Record:
    """A frozen value with the JSON form that it has in every language."""

    # Members that the JSON leaves out when they have these values.
    _left_out: ClassVar[Mapping[str, Any]] = {}
    # How members are read that are not plain.
    _readers: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    # All members, with their defaults.
    _members: ClassVar[Dict[str, Any]] = {}
    _plan: ClassVar[Optional[_Plan]] = None
    if not TYPE_CHECKING:
        __signature__ = _Signature()
        __dataclass_fields__ = _Fields()

        def __repr__(self):
            members = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._members)
            return f"{type(self).__qualname__}({members})"

        def __eq__(self, other):
            return self.__dict__ == other.__dict__ if other.__class__ is self.__class__ else NotImplemented

        def __hash__(self):
            return hash(tuple(getattr(self, name) for name in self._members))

        def __setattr__(self, name, value):
            from dataclasses import FrozenInstanceError

            raise FrozenInstanceError(f"cannot assign to field {name!r}")

        def __delattr__(self, name):
            from dataclasses import FrozenInstanceError

            raise FrozenInstanceError(f"cannot delete field {name!r}")

    def to_dict(self) -> Dict[str, Any]:
        """The members as plain values, as they are in JSON."""
        left_out = self._left_out
        members: Dict[str, Any] = {}
        kind = getattr(type(self), "type", None)
        if isinstance(kind, str):
            members["type"] = kind
        for name in self._members:
            value = getattr(self, name)
            if name in left_out and value == left_out[name]:
                continue
            members[name] = _plain(value)
        return members

    @classmethod
    def from_dict(cls: Type[R], members: Mapping[str, Any]) -> R:
        """The value with these members, as `to_dict` gives them. Unknown members are ignored."""
        plan = cls.__dict__.get("_plan")
        if plan is None:
            plan = cls._plan = _Plan(cls)
        names, readers = plan.names, cls._readers
        # Around `__init__`, which costs more.
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
        members = cls._members.items()
        self.names = frozenset(cls._members)
        self.factories = {name: default.make for name, default in members if isinstance(default, _Factory)}
        self.defaults = {
            name: default for name, default in members if default is not _NONE and name not in self.factories
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

    def __reduce__(self) -> Tuple[Any, ...]:
        return Page, (self._items, self.next_cursor)

    def _repr_html_(self) -> str:
        from ._html import rows_of, table

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
