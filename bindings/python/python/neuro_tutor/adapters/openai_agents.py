"""A session of the OpenAI Agents SDK that is kept by a tutor.

```py
from agents import Agent, Runner
from neuro_tutor import AsyncTutor
from neuro_tutor.adapters.openai_agents import TutorSession

async with AsyncTutor.open("data") as tutor:
    session = TutorSession("lesson-1", tutor)
    await Runner.run(agent, "What do plants eat?", session=session)
```
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, List, Optional, Union, cast

from .. import _native
from .._async_tutor import AsyncTutor
from .._stream import complete, finished
from .._tutor import Tutor

if TYPE_CHECKING:
    from agents.items import TResponseInputItem
    from agents.memory import SessionSettings


class TutorSession:
    """The `Session` of the OpenAI Agents SDK: its items come back exactly as they were.

    They are their owner's, like the tutor's conversations: exported and erased with them. Adding is one
    durable write; reading the newest costs the same however long the session is.
    """

    session_settings: Optional[SessionSettings] = None
    """How many items a run reads, if it does not say."""

    def __init__(
        self,
        session_id: str,
        tutor: Union[AsyncTutor, Tutor],
        *,
        session_settings: Optional[SessionSettings] = None,
    ) -> None:
        """
        Args:
            session_id: 1 to 128 ASCII letters, digits and `.`, `_`, `:`, `-`.
            tutor: Where the items are kept. Any handle of it will do; the session does not close it.
            session_settings: How many items a run reads, if it does not say.
        """
        self.session_id = session_id
        self.session_settings = session_settings
        self._client: _native.Client = tutor._client

    async def get_items(self, limit: Optional[int] = None) -> List[TResponseInputItem]:
        """The newest `limit` items, oldest first; all if nobody gave a limit."""
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        if limit is not None and limit <= 0:
            return []
        return cast("List[TResponseInputItem]", await complete(self._client.items(self.session_id, limit)))

    async def add_items(self, items: List[TResponseInputItem]) -> None:
        """Adds items at the end, all or none of them, durably."""
        if items:
            texts = [json.dumps(item, separators=(",", ":")) for item in items]
            await finished(self._client.add_items(self.session_id, texts))

    async def pop_item(self) -> Optional[TResponseInputItem]:
        """Takes the newest item away; None if there is none."""
        item = await finished(self._client.pop_item(self.session_id))
        return None if item is None else cast("TResponseInputItem", item[0])

    async def clear_session(self) -> None:
        """Takes all items away."""
        await finished(self._client.clear_items(self.session_id))


__all__ = ["TutorSession"]
