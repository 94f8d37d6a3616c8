"""Uploaded files: kept once, and named by messages."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any, BinaryIO, Callable, ContextManager, Optional, Union

from . import _native
from ._checks import base_name, string, string_or_none, whole
from ._messages import FilePart
from ._record import Page, Record, read, read_page, read_time, record
from ._stream import complete, in_thread
from ._transfer import opened, read_piece
from .errors import InvalidInputError

FileInput = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO]
"""A path, bytes, or an open binary file."""

# Bytes that are handed on at a time.
CHUNK = 1 << 18


@record(frozen=True)
class FileInfo(Record):
    """An uploaded file. As an attachment it names the file."""

    _readers = {"created_at": read_time}

    id: str
    """Unique; how messages name it."""
    name: Optional[str]
    """The name that it was uploaded under, without a path."""
    media_type: str
    """What it is, by its bytes: an image's type, `application/pdf`, or `text/…`."""
    bytes: int
    """Its length."""
    created_at: datetime
    """In UTC."""

    @property
    def part(self) -> FilePart:
        """The part of a message that names it."""
        return FilePart(self.id, self.name, self.media_type)


class _Pieces:
    """The bytes of what is uploaded, piece by piece."""

    def __init__(self, file: FileInput, name: Optional[str]) -> None:
        self.name = string_or_none("name", name)
        self._whole: Optional[memoryview] = None
        self._source: Optional[Any] = None
        self._opened: Optional[ContextManager[Any]] = None
        if isinstance(file, (bytes, bytearray, memoryview)):
            whole = memoryview(file)
            self._whole = whole.cast("B") if whole.c_contiguous else memoryview(bytes(whole))
            return
        if isinstance(file, (str, os.PathLike)):
            self.name = base_name(file) if name is None else name
        elif not callable(getattr(file, "read", None)):
            raise InvalidInputError("a file is a path, bytes, or an open binary file: open(path, 'rb')")
        self._opened = opened(file)

    def __enter__(self) -> _Pieces:
        if self._opened is not None:
            self._source = self._opened.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        if self._opened is not None:
            self._opened.__exit__(*exc)

    def read(self) -> bytes:
        """Some more; nothing at the end."""
        if self._whole is not None:
            piece, self._whole = self._whole[:CHUNK], self._whole[CHUNK:]
            return bytes(piece)
        assert self._source is not None
        return read_piece(self._source, CHUNK)


class Files:
    """The uploaded files of one owner: `Tutor.files`.

    ```python
    from neuro_tutor import Tutor

    with Tutor.open("memory:") as tutor:
        leaf = tutor.files.upload(b"A leaf is green.", "leaf.txt")
        tutor.chat("What color is a leaf?", attachments=[leaf])
    ```
    """

    def __init__(self, native: _native.Files, wait: Callable[[_native.Call], Any]) -> None:
        self._native = native
        self._wait = wait

    def upload(self, file: FileInput, name: Optional[str] = None) -> FileInfo:
        """Keeps a file: PNG, JPEG, GIF and WebP images, PDFs, and texts in UTF-8.

        Args:
            file: A path, bytes, or an open binary file.
            name: The name to show; a path's own by default.

        Raises:
            InvalidInputError: It is empty, of another type, or not what its name says.
            TooLargeError: It is, or the owner's files would be.
            RateLimitedError: It does not fit into the owner's quota.
        """
        with _Pieces(file, name) as pieces:
            incoming: _native.Incoming = self._wait(self._native.upload(pieces.name))
            try:
                while piece := pieces.read():
                    self._wait(incoming.write(piece))
                return read(FileInfo, self._wait(incoming.finish()))
            except BaseException:
                self._wait(incoming.abort())
                raise

    def list(self, limit: int = 50, cursor: Optional[str] = None) -> Page[FileInfo]:
        """A page of files in the order of their uploads.

        Args:
            limit: 1 to 200.
            cursor: The `next_cursor` of an earlier page, to go on behind it.
        """
        return read_page(FileInfo, self._wait(self._native.list(whole("limit", limit), string_or_none("cursor", cursor))))

    def get(self, id: str) -> FileInfo:
        """A file."""
        return read(FileInfo, self._wait(self._native.info(string("id", id))))

    def read(self, id: str) -> bytes:
        """The bytes of a file."""
        content: bytes = self._wait(self._native.read(string("id", id)))
        return content

    def delete(self, id: str) -> bool:
        """Deletes a file. False if there was none. Messages that name it keep the name alone."""
        return bool(self._wait(self._native.delete(string("id", id))))


class AsyncFiles:
    """The uploaded files of one owner: `AsyncTutor.files`. See `Files`."""

    def __init__(self, native: _native.Files) -> None:
        self._native = native

    async def upload(self, file: FileInput, name: Optional[str] = None) -> FileInfo:
        """Keeps a file. See `Files.upload`."""
        with _Pieces(file, name) as pieces:
            incoming: _native.Incoming = await complete(self._native.upload(pieces.name))
            try:
                while piece := await in_thread(pieces.read):
                    await complete(incoming.write(piece))
                return read(FileInfo, await complete(incoming.finish()))
            except BaseException:
                await complete(incoming.abort())
                raise

    async def list(self, limit: int = 50, cursor: Optional[str] = None) -> Page[FileInfo]:
        """A page of files in the order of their uploads. See `Files.list`."""
        return read_page(FileInfo, await complete(self._native.list(whole("limit", limit), string_or_none("cursor", cursor))))

    async def get(self, id: str) -> FileInfo:
        """A file."""
        return read(FileInfo, await complete(self._native.info(string("id", id))))

    async def read(self, id: str) -> bytes:
        """The bytes of a file."""
        content: bytes = await complete(self._native.read(string("id", id)))
        return content

    async def delete(self, id: str) -> bool:
        """Deletes a file. False if there was none. Messages that name it keep the name alone."""
        return bool(await complete(self._native.delete(string("id", id))))
