"""Exports and imports: conversations as lines of JSON, exactly as they are."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timezone
from io import RawIOBase, TextIOBase
from typing import Any, BinaryIO, Callable, ContextManager, Literal, Optional, TypeVar, Union

from . import _native
from ._record import Record, record
from ._settings import encode
from .errors import InvalidInputError, from_failure

File = Union[str, "os.PathLike[str]", BinaryIO]
"""A path, or an open binary file."""

OnConflict = Literal["fail", "keep", "replace"]
"""What to do with a session that is there and differs."""

# Bytes that are read from a file at a time.
CHUNK = 1 << 16

T = TypeVar("T")


@record(frozen=True)
class Counts(Record):
    """How much was carried."""

    sessions: int = 0
    messages: int = 0
    turns: int = 0
    records: int = 0


@record(frozen=True)
class Imported(Record):
    """What an import has done."""

    _readers = {"read": Counts.from_dict}

    read: Counts
    """What the export has."""
    added: int = 0
    """Sessions and records that were not there before."""
    unchanged: int = 0
    """Those that were there already, equal."""
    replaced: int = 0
    """Those that were there, differed, and were replaced."""
    kept: int = 0
    """Those that were there, differ, and were kept."""
    left_out: int = 0
    """Records that were left out since everything becomes one owner's."""
    files: int = 0
    """Uploaded files that messages name. No export has their bytes."""


@record(frozen=True)
class Erased(Record):
    """What was removed."""

    sessions: int = 0
    """Conversations, with all that was in them."""
    records: int = 0
    """Small documents, such as what is known of a learner."""


def opened(file: File) -> ContextManager[Any]:
    """A file to read, which is closed afterwards if it was opened here."""
    if isinstance(file, (str, os.PathLike)):
        return open(file, "rb")
    return nullcontext(_binary(file, "read", "rb"))


def _binary(file: Any, method: str, mode: str) -> Any:
    if isinstance(file, TextIOBase) or not callable(getattr(file, method, None)):
        raise InvalidInputError(f"a file is a path, or an open binary file: open(path, {mode!r})")
    return file


def read_piece(source: Any, size: int) -> bytes:
    """Some more bytes of a file; none at its end."""
    piece = source.read(size)
    if not isinstance(piece, bytes):
        raise InvalidInputError("a file must be opened in binary mode: open(path, 'rb')")
    return piece


Write = Callable[[bytes], None]


@contextmanager
def written(file: File) -> Iterator[Write]:
    """What writes all of some bytes to a file. One that is named by its path is there when all is written, and as it
    was before if that fails."""
    if not isinstance(file, (str, os.PathLike)):
        target = _binary(file, "write", "wb")
        yield lambda data: _write_all(target, data)
        return
    path = os.path.realpath(file)
    if os.path.exists(path) and not os.path.isfile(path):
        # A pipe or a device, which nothing can take the place of.
        with open(path, "wb") as device:
            yield lambda data: _write_all(device, data)
        return
    beside = f"{path}.{secrets.token_hex(4)}.part"
    try:
        with open(beside, "xb") as part:
            yield lambda data: _write_all(part, data)
            part.flush()
            os.fsync(part.fileno())
        if os.path.exists(path):
            shutil.copymode(path, beside)
        os.replace(beside, path)
    except BaseException as error:
        with suppress(OSError):
            os.remove(beside)
        if isinstance(error, OSError) and error.filename == beside:
            error.filename = path
        raise


def _write_all(target: Any, data: bytes) -> None:
    """Raw files may take a part only."""
    rest = memoryview(data)
    while rest:
        count = target.write(rest)
        if count is None and isinstance(target, RawIOBase):
            raise BlockingIOError("the file takes nothing at the moment: open it in blocking mode")
        rest = rest[count:] if isinstance(count, int) else rest[len(rest) :]


def _made(value: Union[T, _native.Failure]) -> T:
    if isinstance(value, _native.Failure):
        raise from_failure(value)
    return value


def begin_export(
    client: _native.Client, everyone: bool, since: Optional[datetime], skip_damaged: bool
) -> _native.Export:
    """An export that is being written."""
    if since is not None and not isinstance(since, datetime):
        raise InvalidInputError("since is a datetime", context={"field": "since"})
    options = {
        "everyone": everyone,
        # A time without a zone is one of this machine.
        "since": None if since is None else since.astimezone(timezone.utc).isoformat(),
        "skip_damaged": skip_damaged,
    }
    return _made(client.export(encode(options)))


def begin_import(client: _native.Client, everyone: bool, on_conflict: OnConflict) -> _native.Import:
    """An import that is being made."""
    return _made(client.import_(encode({"everyone": everyone, "on_conflict": on_conflict})))
