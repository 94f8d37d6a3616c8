"""Stores that are written in Python: how the engine calls them."""

from __future__ import annotations

import base64
import inspect
import json
import queue
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Protocol, Tuple, runtime_checkable

from .errors import ConfigError

if TYPE_CHECKING:
    # The end of a thread is None.
    Jobs = queue.SimpleQueue[Optional[Callable[[], None]]]

METHODS = (
    "create_session",
    "session",
    "sessions",
    "update_session",
    "delete_session",
    "messages",
    "delete_message",
    "begin_turn",
    "checkpoint_turn",
    "finish_turn",
    "turn",
    "turn_by_key",
    "running_turns",
    "owners",
    "session_ids",
    "whole_session",
    "import_session",
    "turns",
    "get",
    "kinds",
    "scan",
    "commit",
    "check",
    "close",
)
"""The methods of a store. The four of records, `get`, `kinds`, `scan` and `commit`, may be missing
together; `check` and `close` may be missing."""


@runtime_checkable
class Store(Protocol):
    """Where conversations are kept: any object with the methods that `docs/writing-a-store.md` lists,
    which take and give plain values as in JSON.

    Ordinary methods are called one at a time, on one thread that the store has for itself; `async`
    methods on an event loop in the background, also at the same time. Refuse by raising the errors of
    this package, with the facts that the contract asks for: `ConflictError("…", context={"turn": id})`.
    `neuro_tutor.testing.check_store` says whether a store keeps its contract.
    """

    def begin_turn(self, turn: Dict[str, Any], /) -> Any:
        """Stores a running turn with the learner's messages: the heart of a store."""

    def finish_turn(self, key: Dict[str, Any], end: Dict[str, Any], /) -> Any:
        """Stores how a turn ended, with its reply."""


def is_store(item: Any) -> bool:
    """True for an object that means to be a store."""
    return not isinstance(item, type) and callable(getattr(item, "begin_turn", None))


def describe_store(store: Any) -> Dict[str, Any]:
    """What the engine is told of a store."""
    described: Dict[str, Any] = {"name": type(store).__name__}
    for name in ("name", "location", "durability", "exclusive"):
        value = getattr(store, name, None)
        if value is not None:
            described[name] = value
    for name, value in described.items():
        expected = bool if name == "exclusive" else str
        if not isinstance(value, expected):
            raise ConfigError(f"the attribute {name} of a store is {'True or False' if expected is bool else 'a text'}")
    described["methods"] = [name for name in METHODS if callable(getattr(store, name, None))]
    return described


class StoreCalls:
    """A store and the thread on which its ordinary methods are called."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self._jobs: Optional[Jobs] = None

    def prepare(self, call: Dict[str, Any]) -> Tuple[Callable[[], Any], bool]:
        """What makes a call, and whether it is asynchronous."""
        method, arguments = call["method"], call["arguments"]
        if method == "commit":
            arguments = [[_with_bytes(write) for write in arguments[0]]]
        function = getattr(self.store, method)
        return (lambda: function(*arguments)), inspect.iscoroutinefunction(function)

    def run(self, job: Callable[[], None]) -> None:
        """Has the store's thread do something."""
        # Only called by the thread of one loop.
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            threading.Thread(target=_work, args=(self._jobs,), name="neuro-tutor-store", daemon=True).start()
        self._jobs.put(job)

    def end(self) -> None:
        """Ends the thread behind what it was given. Another call would begin another one."""
        jobs, self._jobs = self._jobs, None
        if jobs is not None:
            jobs.put(None)

    def __del__(self) -> None:
        self.end()


def _work(jobs: Jobs) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job


def encode_result(method: str, result: Any) -> str:
    """What a method returned, as JSON."""
    if method == "get":
        result = _as_base64(result)
    elif method == "scan":
        result = [_as_base64(record) for record in result]
    elif isinstance(result, (tuple, set, frozenset)) or hasattr(result, "__next__"):
        result = list(result)
    return json.dumps(result, allow_nan=False)


def _with_bytes(write: Dict[str, Any]) -> Dict[str, Any]:
    value = write["value"]
    return {**write, "value": None if value is None else base64.b64decode(value)}


def _as_base64(record: Any) -> Any:
    if record is None:
        return None
    return {**record, "value": base64.b64encode(record["value"]).decode("ascii")}

