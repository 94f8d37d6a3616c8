"""JSON Schemas of Python's types, and values of these types from JSON."""

from __future__ import annotations

import enum
import inspect
import json
import re
import sys
import typing
from collections import deque
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Callable, Dict, List, Literal, Mapping, NamedTuple, Optional, Tuple, Type, Union, get_args, get_origin

from .errors import InvalidInputError

Schema = Dict[str, Any]

_PLAIN: Dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    dict: {"type": "object"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    set: {"type": "array", "uniqueItems": True},
    frozenset: {"type": "array", "uniqueItems": True},
    deque: {"type": "array"},
    Any: {},
    object: {},
    inspect.Parameter.empty: {},
}


class Form(NamedTuple):
    """A type as JSON."""

    schema: Schema
    read: Callable[[Any], Any]
    """Makes a value of the type from JSON that is valid under the schema."""


class Parameter(NamedTuple):
    """A parameter of a function."""

    schema: Schema
    read: Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


def _whole(value: Any) -> Any:
    # In JSON 3.0 is a whole number too.
    return int(value) if isinstance(value, float) and value.is_integer() else value


_READS: Dict[Any, Callable[[Any], Any]] = {
    int: _whole,
    float: float,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    deque: deque,
}


class Definitions(Dict[str, Any]):
    """The schemas of types that others refer to, by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Dict[Any, str] = {}

    def new_name(self, wanted: str) -> str:
        """A name that no other type has."""
        name, count = wanted, 1
        while name in self:
            count += 1
            name = f"{wanted}_{count}"
        return name


def form_of(kind: Any, definitions: Definitions) -> Form:
    """The form of a type. What it refers to goes into `definitions`."""
    if kind in _PLAIN if _is_hashable(kind) else False:
        read = _READS.get(kind, _same)
        return Form(dict(_PLAIN[kind]), read)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is not None and hasattr(kind, "__metadata__"):
        return _annotated(kind, definitions)
    if origin is Literal:
        return _choice(arguments)
    if _is_union(origin):
        return _union(arguments, definitions)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return Form(_choice(tuple(kind)).schema, kind)
    if is_dataclass(kind) and isinstance(kind, type) and not _is_pydantic(kind):
        return _dataclass(kind, definitions)
    if typing.is_typeddict(kind) if sys.version_info >= (3, 10) else _looks_like_typed_dict(kind):
        return _typed_dict(kind, definitions)
    if isinstance(origin, type) and not _is_pydantic(kind):
        collection = _collection(origin, arguments, definitions)
        if collection is not None:
            return collection
    return _pydantic(kind, definitions)


def _choice(arguments: Tuple[Any, ...]) -> Form:
    """One of some values, or of some members of enums, which are told by their values."""
    told = [argument.value if isinstance(argument, enum.Enum) else argument for argument in arguments]
    for value in told:
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise InvalidInputError(f"{value!r} has no JSON form: choices are texts, numbers, True, False and None")
    if any(isinstance(argument, enum.Enum) for argument in arguments):
        return Form(
            {"enum": told}, lambda value: next((a for a, one in zip(arguments, told) if one == value), value)
        )
    return Form({"enum": told}, _whole if int in map(type, told) else _same)


def _is_hashable(kind: Any) -> bool:
    try:
        hash(kind)
    except TypeError:
        return False
    return True


def _is_union(origin: Any) -> bool:
    return origin is Union or getattr(origin, "__name__", "") == "UnionType"


def _looks_like_typed_dict(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def _annotated(kind: Any, definitions: Definitions) -> Form:
    plain = [item for item in kind.__metadata__ if isinstance(item, str)]
    if len(plain) != len(kind.__metadata__):
        return _pydantic(kind, definitions)
    form = form_of(kind.__origin__, definitions)
    return Form({**form.schema, "description": " ".join(plain)}, form.read)


def _union(arguments: Tuple[Any, ...], definitions: Definitions) -> Form:
    forms = [form_of(argument, definitions) for argument in arguments]
    if len(forms) == 2 and type(None) in arguments:
        (some,) = (form for form, argument in zip(forms, arguments) if argument is not type(None))
        return Form(
            {"anyOf": [some.schema, {"type": "null"}]}, lambda value: None if value is None else some.read(value)
        )
    # Which one was meant cannot be told without checking: the value stays as it is, unless pydantic knows.
    if any(form.read not in (_same, _whole) for form in forms):
        return _pydantic(Union[arguments], definitions)
    read = _whole if any(form.read is _whole for form in forms) else _same
    return Form({"anyOf": [form.schema for form in forms]}, read)


def _collection(origin: Any, arguments: Tuple[Any, ...], definitions: Definitions) -> Optional[Form]:
    from collections import OrderedDict, abc

    if issubclass(origin, (dict, abc.Mapping)):
        of_key, of_item = arguments if len(arguments) == 2 else (Any, Any)
        names = _key(of_key)
        if names is None or issubclass(origin, dict) and origin not in (dict, OrderedDict):
            return None
        item = form_of(of_item, definitions)
        schema: Schema = {"type": "object", "additionalProperties": item.schema}
        if names.schema:
            schema["propertyNames"] = names.schema
        key: Form = names
        mapping: Any = OrderedDict if origin is OrderedDict else dict
        return Form(
            schema, lambda value: mapping((key.read(name), item.read(one)) for name, one in value.items())
        )
    if issubclass(origin, tuple) and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return None
    made_of = (
        (frozenset, (frozenset,)),
        (set, (set, abc.Set)),
        (tuple, (tuple,)),
        (deque, (deque,)),
        (list, (list, abc.Sequence, abc.Iterable)),
    )
    for made, kinds in made_of:
        if issubclass(origin, kinds):
            item = form_of(arguments[0] if arguments else Any, definitions)
            schema = {"type": "array", "items": item.schema}
            if made in (set, frozenset):
                schema["uniqueItems"] = True
            make: Any = made
            return Form(schema, lambda value: make(item.read(one) for one in value))
    return None


def _key(kind: Any) -> Optional[Form]:
    """The form of the keys of a mapping, which are texts in JSON; None if pydantic has to know."""
    if kind is str or kind is Any:
        return Form({}, _same)
    if kind is int:
        return Form({"pattern": "^-?[0-9]+$"}, int)
    if get_origin(kind) is Literal or isinstance(kind, type) and issubclass(kind, enum.Enum):
        form = form_of(kind, Definitions())
        return form if all(isinstance(value, str) for value in form.schema["enum"]) else None
    return None


def _object(members: Mapping[str, Form], required: List[str]) -> Schema:
    return {
        "type": "object",
        "properties": {name: form.schema for name, form in members.items()},
        "required": required,
        "additionalProperties": False,
    }


def _once(kind: type, definitions: Definitions, make: Callable[[], Schema]) -> Schema:
    """A type may contain itself: its schema is defined once."""
    name = definitions.names.get(kind)
    if name is None:
        name = definitions.names[kind] = definitions.new_name(kind.__name__)
        definitions[name] = {}
        definitions[name] = make()
    return {"$ref": f"#/$defs/{name}"}


def _hints(kind: Any) -> Dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception as error:
        name = getattr(kind, "__name__", type(kind).__name__)
        raise InvalidInputError(f"the type hints of {name} cannot be read: {error}") from None


def _dataclass(kind: Any, definitions: Definitions) -> Form:
    members: Dict[str, Form] = {}

    def make() -> Schema:
        hints = _hints(kind)
        used = [field for field in fields(kind) if field.init]
        members.update({field.name: form_of(hints[field.name], definitions) for field in used})
        required = [f.name for f in used if f.default is MISSING and f.default_factory is MISSING]
        return _object(members, required)

    reference = _once(kind, definitions, make)

    def read(value: Any) -> Any:
        if not members:  # It contains itself, or occurs twice.
            make()
        return kind(**{name: members[name].read(one) for name, one in value.items()})

    return Form(reference, read)


def _typed_dict(kind: Any, definitions: Definitions) -> Form:
    members: Dict[str, Form] = {}

    def make() -> Schema:
        hints = typing.get_type_hints(kind)
        members.update({name: form_of(hint, definitions) for name, hint in hints.items()})
        return _object(members, sorted(kind.__required_keys__))

    reference = _once(kind, definitions, make)

    def read(value: Any) -> Any:
        if not members:  # It contains itself, or occurs twice.
            make()
        return {name: members[name].read(one) for name, one in value.items()}

    return Form(reference, read)


def _is_pydantic(kind: Any) -> bool:
    return hasattr(kind, "__pydantic_core_schema__") or hasattr(kind, "__get_pydantic_core_schema__")


def adapter(kind: Any) -> Any:
    """Pydantic's view of a type. It is asked only for what it alone understands."""
    try:
        from pydantic import TypeAdapter
    except ImportError:
        shown = getattr(kind, "__name__", None) or str(kind)
        raise InvalidInputError(
            f"{shown} has no JSON form: use str, int, float, bool, list, dict, Optional, Literal, enums, dataclasses "
            "or typed dicts, or install pydantic"
        ) from None
    try:
        known = TypeAdapter(kind)
        # What a name refers to is looked for only here.
        known.json_schema()
        return known
    except Exception as error:
        raise InvalidInputError(f"pydantic does not understand this type: {type(error).__name__}") from error


def _pydantic(kind: Any, definitions: Definitions) -> Form:
    known = adapter(kind)
    schema = dict(known.json_schema())
    own: Schema = schema.pop("$defs", {})
    if any(definitions.get(name, one) != one for name, one in own.items()):
        names: Dict[str, str] = {}
        for name in own:
            names[name] = definitions.new_name(name)
            definitions[names[name]] = {}
        schema, own = _renamed(schema, names), {names[name]: _renamed(one, names) for name, one in own.items()}
    definitions.update(own)
    # As JSON, since a strict type takes a date or a set from JSON alone.
    return Form(schema, lambda value: known.validate_json(json.dumps(value)))


_REFERENCE = "#/$defs/"


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    """A schema that refers to others by other names."""
    if isinstance(schema, dict):
        return {key: _renamed(one, names) for key, one in schema.items()}
    if isinstance(schema, list):
        return [_renamed(one, names) for one in schema]
    if isinstance(schema, str) and schema.startswith(_REFERENCE):
        name = schema[len(_REFERENCE) :]
        return _REFERENCE + names.get(name, name)
    return schema


def root_schema(form: Form, definitions: Definitions) -> Schema:
    """A schema that stands alone."""
    schema = form.schema
    # What is nothing but a reference stands in its place: some providers want an object at the root.
    while set(schema) == {"$ref"}:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    return {**schema, "$defs": definitions} if definitions else dict(schema)


def parameters_of(
    function: Callable[..., Any], name: str, context: Type[Any]
) -> Tuple[str, Schema, Dict[str, Parameter], Optional[str]]:
    """What a function's documentation and signature say: its description, the schema of its arguments, how
    each is read, and the name of the parameter that gets the context."""
    text = inspect.getdoc(function) or ""
    description, told = _documented(text)
    hints = _hints(function if not _is_callable_object(function) else type(function).__call__)
    definitions = Definitions()
    taken: Dict[str, Parameter] = {}
    properties: Schema = {}
    required: List[str] = []
    context_name: Optional[str] = None
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        raise InvalidInputError(
            f"the function of the tool {name} does not tell its parameters: give their JSON Schema as parameters={{…}}"
        ) from None
    for parameter in parameters:
        kind = hints.get(parameter.name, inspect.Parameter.empty)
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidInputError(
                f"the tool {name} has the parameter {parameter.name}, which cannot be given by name: a model names its "
                "arguments"
            )
        if _is_or_none(kind, context):
            context_name = parameter.name
            continue
        if _mentions(kind, context):
            raise InvalidInputError(
                f"the parameter {parameter.name} of the tool {name} is no {context.__name__} alone: write "
                f"{parameter.name}: {context.__name__}"
            )
        form = form_of(kind, definitions)
        schema = dict(form.schema)
        if parameter.name in told:
            schema.setdefault("description", told[parameter.name])
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        elif isinstance(parameter.default, (str, int, float, bool)):
            schema.setdefault("default", parameter.default)
        properties[parameter.name] = schema
        taken[parameter.name] = Parameter(schema, form.read)
    whole: Schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    if definitions:
        whole["$defs"] = definitions
    return description, whole, taken, context_name


def _is_or_none(kind: Any, wanted: Type[Any]) -> bool:
    """True for the type itself, also if it may be missing, and whatever is noted beside it."""
    if get_origin(kind) is not None and hasattr(kind, "__metadata__"):
        return _is_or_none(kind.__origin__, wanted)
    if _is_union(get_origin(kind)):
        return all(one is type(None) or _is_or_none(one, wanted) for one in get_args(kind))
    return kind is wanted


def _mentions(kind: Any, wanted: Type[Any]) -> bool:
    return kind is wanted or any(_mentions(one, wanted) for one in get_args(kind))


def _is_callable_object(function: Any) -> bool:
    return not (inspect.isroutine(function) or hasattr(function, "__wrapped__"))


_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns|Raises|Yields|Example|Examples|Note|Notes):\s*$")


def _documented(text: str) -> Tuple[str, Dict[str, str]]:
    """The description in a documentation, and what its section `Args:` says of each parameter."""
    description: List[str] = []
    told: Dict[str, str] = {}
    section, name = "", ""
    for line in text.splitlines():
        found = _SECTION.match(line)
        if found:
            section = found.group(1)
        elif not section:
            description.append(line)
        elif section in ("Args", "Arguments", "Parameters") and line.strip():
            begun = re.match(r"^ {2,4}\*{0,2}(\w+)(?: \([^)]*\))?:\s*(.*)$", line)
            if begun:
                name = begun.group(1)
                told[name] = begun.group(2).strip()
            elif name:
                told[name] = f"{told[name]} {line.strip()}".strip()
    return "\n".join(description).strip(), told
