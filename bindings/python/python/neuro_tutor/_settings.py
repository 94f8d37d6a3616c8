"""What a tutor is opened with, and what it is asked, as the native module takes it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Union

from . import _native
from ._checks import base_name, items, string
from ._messages import FilePart, ImagePart, Part
from ._record import Record
from ._tools import Tools, make_tools
from .errors import ConfigError, InvalidInputError, from_failure

if TYPE_CHECKING:
    from ._files import FileInfo
    from ._output import Read
    from ._provider import Provider, ProviderOptions
    from ._stores import Store

Location = Union[str, "os.PathLike[str]", "Store"]
"""A directory, or a URL: `sled:DIRECTORY`, `sqlite:///FILE`, `postgresql://…`, `memory:`; or a store of
yours."""

Attachment = Union[
    str,
    "os.PathLike[str]",
    bytes,
    bytearray,
    memoryview,
    Tuple[str, Union[bytes, bytearray, memoryview]],
    ImagePart,
    FilePart,
    "FileInfo",
]
"""A file that the learner sends: its path, its bytes, its name with its bytes, a part of a message, or an
uploaded file."""

FileSettings = Union[str, "os.PathLike[str]", Mapping[str, Any]]
"""Where uploaded files are kept: a directory, or an object of `directory`, `max_file_bytes`, `max_files`,
`max_bytes` and `max_text_bytes`."""

Providers = Union[
    None,
    str,
    "Provider",
    "Sequence[Union[str, Provider, ProviderOptions, Mapping[str, Any]]]",
    "Mapping[str, Union[Provider, ProviderOptions, Mapping[str, Any]]]",
]
"""Who answers, the default first: names or options of built-in providers, and objects of yours; as a
list, or as a mapping from names. Providers that packages register have options of their own."""

MessageInput = Union[str, Sequence[Union[Part, Mapping[str, Any]]]]
"""What a learner says: a text, or parts."""

Seconds = Union[float, timedelta]

DEFAULT_LOCATION = "neuro-tutor-data"

GROUP = "neuro_tutor.providers"
"""The entry points in which packages register providers."""


def seconds(value: Optional[Seconds]) -> Optional[float]:
    """A duration in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def encode(value: Any, error: type = InvalidInputError) -> str:
    """A value as JSON."""
    try:
        return json.dumps(value, allow_nan=False, default=_plain)
    except (TypeError, ValueError):
        raise error("this is not JSON: use None, True, False, finite numbers, str, list and dict with str keys") from None
    except RecursionError:
        raise error("this is too deep: lists and objects are at most 120 deep") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError


def request(
    message: Optional[MessageInput],
    timeout: Optional[Seconds],
    attachments: Optional[Sequence[Attachment]] = None,
    **members: Any,
) -> str:
    """A request; members that are None are left out."""
    asked = {name: value for name, value in members.items() if value is not None}
    if message is not None:
        asked["message"] = message if isinstance(message, (str, Mapping)) or not isinstance(message, Sequence) else list(message)
    attached = items("attachments", attachments, "paths, bytes, (name, bytes), uploaded files, and parts of a message")
    if attached:
        asked["message"] = [*_parts(asked.get("message")), *map(_attached, attached)]
    if timeout is not None:
        asked["timeout"] = seconds(timeout)
    return encode(asked)


def form_of(output: Any) -> Tuple[Optional[Dict[str, Any]], Optional[Read]]:
    """The form that a reply must have, and what makes a value of it, if a caller asks for one."""
    if output is None:
        return None, None
    from ._output import output_of

    return output_of(output)


def _parts(message: Any) -> List[Any]:
    if message is None:
        return []
    if isinstance(message, str):
        return [{"type": "text", "text": message}]
    if isinstance(message, list):
        return message
    raise InvalidInputError("a message is a text, or a list of parts", context={"field": "message"})


def _attached(item: Attachment) -> Any:
    if isinstance(item, (ImagePart, FilePart)):
        return item
    uploaded = getattr(item, "part", None)
    if isinstance(uploaded, FilePart):
        return uploaded
    name: Optional[str] = None
    if isinstance(item, (str, os.PathLike)):
        name = base_name(item)
        with open(item, "rb") as file:
            data = file.read()
    elif isinstance(item, (bytes, bytearray, memoryview)):
        data = bytes(item)
    elif isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], (bytes, bytearray, memoryview)):
        name, data = string("attachments", item[0]), bytes(item[1])
    else:
        raise InvalidInputError("an attachment is a path, bytes, (name, bytes), an uploaded file, or an image or file part")
    part = _native.attachment(data, name)
    if isinstance(part, _native.Failure):
        raise from_failure(part)
    return json.loads(part)


def settings(
    location: Location,
    providers: Providers,
    environment: Optional[Mapping[str, str]] = None,
    *,
    tools: Optional[Tools],
    files: Optional[FileSettings],
    **tutor: Any,
) -> Tuple[str, List[Any]]:
    """The settings as JSON, and the plug-ins that they name by number."""
    plugins: List[Any] = []
    listed = [_provider(name, item, plugins) for name, item in _listed(providers)]
    if environment is not None:
        if not isinstance(environment, Mapping):
            raise ConfigError("environ is a mapping of variables, like os.environ")
        listed.append({"environment": {name: str(value) for name, value in environment.items()}})
    place: Any = location
    if isinstance(location, os.PathLike):
        place = f"sled:{os.fspath(location)}"
    elif not isinstance(location, str):
        from ._stores import StoreCalls, describe_store, is_store

        if not is_store(location):
            raise ConfigError("a location is a path, a URL, or a store: an object with the methods of a store")
        plugins.append(StoreCalls(location))
        place = {"index": len(plugins) - 1, "description": describe_store(location)}
    described = []
    for tool in make_tools(tools):
        plugins.append(tool)
        described.append({"index": len(plugins) - 1, "description": json.loads(tool.describe())})
    text = encode(
        {
            "location": place,
            "files": files,
            "providers": listed,
            "tools": described,
            "tutor": {name: value for name, value in tutor.items() if value is not None},
        },
        ConfigError,
    )
    return text, plugins


def provider_settings(providers: Providers, default: Optional[str]) -> Tuple[str, List[Any]]:
    """Providers that take the place of others as JSON, and the plug-ins that they name by number."""
    plugins: List[Any] = []
    listed = [_provider(name, item, plugins) for name, item in _listed(providers)]
    return encode({"providers": listed, "default": default}, ConfigError), plugins


def _listed(providers: Providers) -> List[Tuple[Optional[str], Any]]:
    if providers is None:
        return []
    if isinstance(providers, Mapping):
        return list(providers.items())
    if isinstance(providers, str) or _is_plugin(providers):
        return [(None, providers)]
    if not isinstance(providers, Sequence):
        return [(None, providers)]
    return [(None, item) for item in providers]


def _is_plugin(item: Any) -> bool:
    return not isinstance(item, type) and callable(getattr(item, "stream", None))


def _registered(kind: str) -> Optional[Any]:
    """What an installed package registers under this name in the group `neuro_tutor.providers`: a class,
    or any function that makes a provider from options."""
    # Not with the package: it takes as long to import as the rest of it.
    from importlib import metadata

    found = metadata.entry_points()
    group: Any = found.select(group=GROUP) if hasattr(found, "select") else found.get(GROUP, ())
    return next((entry.load() for entry in group if entry.name == kind), None)


def _provider(name: Optional[str], item: Any, plugins: List[Any]) -> Dict[str, Any]:
    if isinstance(item, str):
        item = {"kind": item}
    if isinstance(item, Mapping):
        options = {key: value for key, value in item.items() if key != "kind"}
        kind = item.get("kind", name if name is not None else item.get("name"))
        if not isinstance(kind, str):
            raise ConfigError("a built-in provider needs its kind, such as openai, anthropic or demo")
        factory = _registered(kind)
        if factory is not None:
            called = options.pop("name", name)
            made = factory(**options)
            return _plugin(called if called is not None else getattr(made, "name", kind), made, plugins)
        options.setdefault("name", name if name is not None else kind)
        return {"built_in": {"kind": kind, "options": options}}
    if not _is_plugin(item):
        raise ConfigError(
            "a provider is the name of a built-in one, its options, or an object with a name and a method stream(request)"
        )
    return _plugin(name if name is not None else getattr(item, "name", None), item, plugins)


def _plugin(name: Any, item: Any, plugins: List[Any]) -> Dict[str, Any]:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"a provider needs a name: give {type(item).__name__} an attribute name")
    from inspect import signature

    try:
        signature(item.stream).bind(None)
    except TypeError:
        raise ConfigError(f"the method stream of the provider {name} takes one argument, the request") from None
    except ValueError:
        pass  # It does not tell its signature.
    plugins.append(item)
    return {"plugin": {"index": len(plugins) - 1, "description": describe_provider(item, name)}}


def describe_provider(item: Any, name: str) -> Dict[str, Any]:
    """What the engine is told of a provider."""
    models = getattr(item, "models", None)
    names = list(models) if isinstance(models, (list, tuple)) else None
    default = getattr(item, "default_model", None) or (names[0] if names else name)
    return {"name": name, "default_model": default, "models": names}
