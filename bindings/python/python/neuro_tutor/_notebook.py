"""A reply that grows in a notebook."""

from __future__ import annotations

import time
from typing import Any, List, Optional

from ._events import AttemptRestarted, TextDelta, TurnEvent, TurnFailed
from ._html import paragraphs

# Between two updates, in seconds: more of them are not seen, and fill the notebook's connection.
_INTERVAL = 0.1


class _Html:
    def __init__(self, texts: List[str]) -> None:
        self._html = "".join(map(paragraphs, texts))
        # For a terminal.
        self._text = "\n".join(texts)

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


class Shown:
    """What is shown of a turn. Needs IPython, which a notebook has."""

    def __init__(self) -> None:
        from IPython.display import display

        self._texts: List[str] = []
        self._error: Optional[str] = None
        self._next = 0.0
        self._handle: Any = display(self._now(), display_id=True)  # type: ignore[no-untyped-call]

    def _now(self) -> _Html:
        text = "".join(self._texts)
        return _Html([text] if self._error is None else [text, self._error])

    def take(self, event: TurnEvent) -> None:
        """Shows what an event adds, soon."""
        if isinstance(event, TextDelta):
            self._texts.append(event.text)
        elif isinstance(event, AttemptRestarted):
            self._texts.clear()
        elif isinstance(event, TurnFailed):
            self._error = f"{event.error.code}: {event.error.message}"
        else:
            return
        if time.monotonic() >= self._next:
            self._update()

    def _update(self) -> None:
        # There is no handle where nothing can be updated.
        if self._handle is not None:
            self._handle.update(self._now())
        self._next = time.monotonic() + _INTERVAL

    def end(self) -> None:
        """Shows all of it."""
        self._update()
