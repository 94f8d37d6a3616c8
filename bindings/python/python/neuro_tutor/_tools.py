"""Tools: functions of yours that a model may have called while it answers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union, overload

from ._checks import items
from ._record import Record, record
from .errors import InvalidInputError

if TYPE_CHECKING:
    from ._schema import Parameter

F = TypeVar("F", bound=Callable[..., Any])


@record(frozen=True)
class ToolContext(Record):
    """Where and for whom a tool is called. A function that has a parameter of this type gets it."""

    id: str
    """Pairs the call with its result."""
    name: str
    session_id: str
    turn_id: str
    owner: str = "local"
    """Whose conversation it is."""
    timeout: Optional[float] = None
    """Seconds that are left of the turn; None without a limit."""


class Tool:
    """A function that a model may call. `tool` makes one.

    What it returns is told to the model: a text, or anything that is JSON, a dataclass or a pydantic
    model. What it raises is told to the model as well, with its text; the turn goes on.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: Optional[str] = None,
        description: Optional[str] = None,
        parameters: Optional[Mapping[str, Any]] = None,
    ) -> None:
        """See `tool`."""
        if not callable(function):
            raise InvalidInputError("a tool is a function: def my_tool(argument: str) -> str")
        called = name if name is not None else getattr(function, "__name__", "")
        self.function = function
        """The function, which can be called as before."""
        self.name: str = called if name is not None else re.sub(r"[^A-Za-z0-9_-]", "_", called)
        """How the model calls it."""
        self._takes: Optional[Dict[str, Parameter]] = None
        self._context: Optional[str] = None
        from inspect import getdoc

        if parameters is not None and not isinstance(parameters, Mapping):
            raise InvalidInputError("parameters of a tool is a JSON Schema: a dict")
        told, schema = getdoc(function) or "", dict(parameters) if parameters is not None else None
        if schema is None:
            from ._schema import parameters_of

            told, schema, self._takes, self._context = parameters_of(function, self.name, ToolContext)
        self.description: str = told if description is None else description
        """What it does, for the model."""
        self.parameters: Dict[str, Any] = schema
        """The JSON Schema of its arguments."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        # As a method it is bound like one.
        if instance is None:
            return self
        parameters = self.parameters if self._takes is None else None
        function = self.function.__get__(instance, owner)
        return Tool(function, name=self.name, description=self.description, parameters=parameters)

    def describe(self) -> str:
        """Name, description and parameters as JSON."""
        return json.dumps({"name": self.name, "description": self.description, "parameters": self.parameters})

    def prepare(self, call: Mapping[str, Any]) -> Callable[[], Any]:
        """A call with the arguments that a model wrote, as values of the parameters' types."""
        arguments = dict(call["arguments"])
        if self._takes is not None:
            arguments = {name: self._takes[name].read(value) for name, value in arguments.items() if name in self._takes}
        if self._context is not None:
            arguments[self._context] = ToolContext.from_dict(call)
        return lambda: self.function(**arguments)

    def __repr__(self) -> str:
        return f"Tool(name={self.name!r})"


@overload
def tool(function: F, /) -> Tool: ...


@overload
def tool(
    function: None = None,
    /,
    *,
    name: Optional[str] = None,
    description: Optional[str] = None,
    parameters: Optional[Mapping[str, Any]] = None,
) -> Callable[[F], Tool]: ...


def tool(
    function: Optional[F] = None,
    /,
    *,
    name: Optional[str] = None,
    description: Optional[str] = None,
    parameters: Optional[Mapping[str, Any]] = None,
) -> Union[Tool, Callable[[F], Tool]]:
    """Makes a tool of a function, `async` or not.

    ```python
    from neuro_tutor import Tutor, tool

    @tool
    def area(width: float, height: float) -> float:
        '''The area of a rectangle.

        Args:
            width: In meters.
        '''
        return width * height

    tutor = Tutor.open("memory:", tools=[area])
    ```

    The type hints and the documentation make what the model is told. Hints may be of Python's own
    types, `Literal`, `Optional`, enums, dataclasses and typed dicts, and, with pydantic, anything that
    it understands. An `async` function runs on the event loop of the caller, another one on a thread.

    Args:
        name: How the model calls it: 1 to 64 ASCII letters, digits, `_` and `-`. The function's own by
            default.
        description: What it does, for the model. The function's documentation by default.
        parameters: A JSON Schema of the arguments instead of the one that the hints make.
    """

    def make(function: F) -> Tool:
        return Tool(function, name=name, description=description, parameters=parameters)

    return make if function is None else make(function)


ToolInput = Union[Tool, Callable[..., Any], Mapping[str, Any]]
"""A tool: what `tool` makes, a function, or `name`, `description`, `parameters` and `function`."""

Tools = Sequence[ToolInput]


ClientTools = Sequence[Union[Tool, Callable[..., Any], Mapping[str, Any]]]
"""Tools that the caller runs: `name`, `description` and `parameters`, or what `tool` makes."""


def described_tools(tools: Optional[ClientTools]) -> Optional[List[Any]]:
    """Tools that the caller runs, as the native module takes them."""
    told = items("client_tools", tools, "tools")
    if told is None:
        return None
    return [dict(item) if isinstance(item, Mapping) else json.loads(_made(item).describe()) for item in told]


def make_tools(tools: Optional[Tools]) -> List[Tool]:
    """Tools from what a caller may give."""
    return [_made(item) for item in items("tools", tools, "tools") or ()]


def _made(item: ToolInput) -> Tool:
    if isinstance(item, Tool):
        return item
    if isinstance(item, Mapping):
        known = {"name", "description", "parameters", "function"}
        unknown = sorted(set(item) - known)
        if unknown or "function" not in item:
            what = f"knows no {unknown[0]}" if unknown else "needs a function"
            raise InvalidInputError(f"a tool {what}: give name, description, parameters and function")
        return Tool(item["function"], **{key: value for key, value in item.items() if key != "function"})
    return Tool(item)


def own_tools(tools: Optional[Tools]) -> Optional[List[Tuple[str, Any]]]:
    """The tools of one request, as the native module takes them."""
    return [(made.describe(), made) for made in make_tools(tools)] or None
