"""For the tests of those who use this package: a tutor in memory, and a provider that plays a script.

With pytest the fixtures `tutor`, `async_tutor` and `scripted` are there as soon as the package is
installed:

```py
def test_my_lesson(tutor, scripted):
    scripted.say("Photosynthesis turns light into sugar.")
    assert "sugar" in tutor.chat("What is photosynthesis?").text
    assert scripted.requests[0].text == "What is photosynthesis?"
```
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional, Tuple, Union

from . import _native
from ._provider import CompletionRequest, Delta
from ._settings import describe_provider, encode
from ._stores import StoreCalls, describe_store
from ._stream import wait

Step = Union[Delta, BaseException, threading.Event]
"""What a script consists of: what a provider may yield; an exception, which is raised; an event, which is
waited for."""


class ScriptedProvider:
    """A deterministic provider: each request takes the next script; the last one is repeated.

    ```python
    from neuro_tutor import RateLimitedError, Tutor
    from neuro_tutor.testing import ScriptedProvider

    provider = ScriptedProvider("Hello!", ["Hel", RateLimitedError("slow down", retry_after=1)])
    with Tutor.open("memory:", providers=provider) as tutor:
        assert tutor.chat("Hi").text == "Hello!"
    ```
    """

    name = "scripted"
    default_model = "script"

    def __init__(self, *scripts: Union[str, List[Step]]) -> None:
        self.requests: List[CompletionRequest] = []
        """The requests that it was sent, in order."""
        self._scripts: Deque[Union[str, List[Step]]] = deque(scripts)
        self._lock = threading.Lock()

    def say(self, *scripts: Union[str, List[Step]]) -> None:
        """Replaces the scripts that were not played yet."""
        with self._lock:
            self._scripts = deque(scripts)

    def _next(self, request: CompletionRequest) -> Union[str, List[Step]]:
        with self._lock:
            self.requests.append(request)
            if len(self._scripts) > 1:
                return self._scripts.popleft()
            return self._scripts[0] if self._scripts else f"You said: {request.text}"

    def stream(self, request: CompletionRequest) -> Iterator[Delta]:
        """Plays the next script: a text word by word, or a list of steps."""
        script = self._next(request)
        if isinstance(script, str):
            yield from _words(script)
            return
        for step in script:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, threading.Event):
                step.wait(request.timeout)
            else:
                yield step


def _words(text: str) -> Tuple[str, ...]:
    first, *others = text.split(" ")
    return (first, *(f" {word}" for word in others))


def store_laws() -> List[str]:
    """The names of the laws that a store keeps: those of conversations, then those of records."""
    return [*_native.laws("store"), *_native.laws("records")]


def provider_laws() -> List[str]:
    """The names of the laws that a provider keeps."""
    return _native.laws("provider")


def check_store(make: Callable[[], Any], laws: Optional[Iterable[str]] = None) -> None:
    """Has a store of yours keep the laws that the built-in ones keep, each on a store of its own.

    ```py
    @pytest.mark.parametrize("law", store_laws())
    def test_my_store(law, tmp_path):
        check_store(lambda: MyStore(tmp_path / "data"), [law])
    ```

    Args:
        make: Gives an empty store, a new one whenever it is called.
        laws: The names of some; all by default, without those of records if it keeps none.

    Raises:
        AssertionError: It breaks some: which, and how.
    """
    of_records = set(_native.laws("records"))

    def check(law: str) -> Optional[str]:
        store = make()
        kind = "records" if law in of_records else "store"
        return _check(kind, law, StoreCalls(store), describe_store(store))

    if laws is None:
        laws = store_laws() if callable(getattr(make(), "commit", None)) else _native.laws("store")
    _report(laws, check)


def check_provider(make: Callable[[], Any], laws: Optional[Iterable[str]] = None) -> None:
    """Has a provider of yours keep the laws that the built-in ones keep. It may answer what it likes, and
    may fail: the laws are about how it does so.

    Args:
        make: Gives a provider, a new one whenever it is called.
        laws: The names of some; all by default.

    Raises:
        AssertionError: It breaks some: which, and how.
    """

    def check(law: str) -> Optional[str]:
        provider = make()
        return _check("provider", law, provider, describe_provider(provider, provider.name))

    _report(provider_laws() if laws is None else laws, check)


def _check(of: str, law: str, plugin: Any, description: Dict[str, Any]) -> Optional[str]:
    broken: Optional[str] = wait(_native.check_law(of, law, plugin, encode(description)))
    return None if broken is None else json.loads(broken)


def _report(laws: Iterable[str], check: Callable[[str], Optional[str]]) -> None:
    laws = list(laws)
    broken = [(law, how) for law in laws for how in [check(law)] if how is not None]
    if broken:
        lines = "".join(f"\n  {law}: {how}" for law, how in broken)
        raise AssertionError(f"{len(broken)} of {len(laws)} laws are broken:{lines}")


__all__ = [
    "ScriptedProvider",
    "Step",
    "check_provider",
    "check_store",
    "provider_laws",
    "store_laws",
]
