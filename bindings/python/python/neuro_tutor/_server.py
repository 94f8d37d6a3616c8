"""The HTTP server in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Callable, Optional, Sequence, Type

from . import _native
from ._checks import items, string
from ._stream import complete, wait
from .errors import InvalidInputError


def origins(cors_origins: Optional[Sequence[str]]) -> Optional[str]:
    """Origins as the native module takes them."""
    if isinstance(cors_origins, str):
        return string("cors_origins", cors_origins)
    allowed = items("cors_origins", cors_origins, "origins, such as http://localhost:5173")
    return None if allowed is None else ",".join(string("cors_origins", origin) for origin in allowed)


def check_port(port: int) -> int:
    """A port that exists."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise InvalidInputError("a port is a whole number from 0, for any that is free, to 65535", context={"field": "port"})
    return port


def _url(server: _native.Server) -> str:
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http://{host}:{server.port}"


class Server:
    """An HTTP server that listens. The end of `with`, and dropping it, stops it; the tutor stays open."""

    def __init__(self, handle: _native.Server) -> None:
        self._handle = handle

    @property
    def url(self) -> str:
        """Where it listens, such as `http://127.0.0.1:8000`."""
        return _url(self._handle)

    def wait(self) -> None:
        """Blocks until the server has stopped. Ctrl-C stops it, and raises when the requests that run
        have ended."""
        try:
            wait(self._handle.wait())
        except KeyboardInterrupt:
            self.stop()
            raise

    def stop(self) -> None:
        """Takes no new connection, and waits for the requests that run, a few seconds at most. Idempotent."""
        wait(self._handle.stop())

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Server(url={self.url!r})"


class AsyncServer(Awaitable["AsyncServer"], AbstractAsyncContextManager["AsyncServer"]):
    """An HTTP server: `await` it, or use it in `async with`; then it listens."""

    def __init__(self, start: Callable[[], _native.Call]) -> None:
        self._start = start
        self._handle: Optional[_native.Server] = None

    async def _started(self) -> _native.Server:
        if self._handle is None:
            self._handle = await complete(self._start())
        assert self._handle is not None
        return self._handle

    @property
    def url(self) -> str:
        """Where it listens, such as `http://127.0.0.1:8000`. Known once it does."""
        if self._handle is None:
            raise RuntimeError("the server does not listen yet: await it or enter it first")
        return _url(self._handle)

    async def wait(self) -> None:
        """Returns when the server has stopped."""
        handle = await self._started()
        await complete(handle.wait())

    async def stop(self) -> None:
        """Takes no new connection, and waits for the requests that run, a few seconds at most. Idempotent."""
        if self._handle is not None:
            await complete(self._handle.stop())

    def __await__(self) -> Generator[Any, Any, AsyncServer]:
        yield from self._started().__await__()
        return self

    async def __aenter__(self) -> AsyncServer:
        await self._started()
        return self

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.stop()
