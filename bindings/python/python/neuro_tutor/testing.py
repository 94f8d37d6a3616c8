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

import threading
from collections import deque
from collections.abc import Iterator
from typing import Deque, List, Tuple, Union

from ._provider import CompletionRequest, Delta

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


__all__ = ["ScriptedProvider", "Step"]
