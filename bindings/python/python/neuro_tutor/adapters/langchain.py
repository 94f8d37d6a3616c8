"""A chat history of LangChain that is kept by a tutor. Needs `langchain-core`.

```py
from neuro_tutor import Tutor
from neuro_tutor.adapters.langchain import TutorChatMessageHistory

history = TutorChatMessageHistory("lesson-1", Tutor.open("data"))
history.add_user_message("What do plants eat?")
history.add_ai_message(model.invoke(history.messages))
```
"""

from __future__ import annotations

import json
from typing import List, Sequence, Union

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from .. import _native
from .._async_tutor import AsyncTutor
from .._checks import string
from .._stream import complete, finished, wait_outside
from .._tutor import Tutor
from ..errors import InvalidInputError


class TutorChatMessageHistory(BaseChatMessageHistory):
    """A `BaseChatMessageHistory`: messages of every kind come back as they were.

    They are their owner's, like the tutor's conversations: exported and erased with them.
    """

    def __init__(self, session_id: str, tutor: Union[Tutor, AsyncTutor]) -> None:
        """
        Args:
            session_id: 1 to 118 ASCII letters, digits and `.`, `_`, `:`, `-`.
            tutor: Where the messages are kept. Any handle of it will do; the history does not close it.
        """
        if not string("session_id", session_id):
            raise InvalidInputError("session_id names the history: it is not empty", context={"field": "session_id"})
        self.session_id = session_id
        self._client: _native.Client = tutor._client
        self._name = f"langchain.{session_id}"

    @property
    def messages(self) -> List[BaseMessage]:  # type: ignore[override]
        """All messages, oldest first."""
        return messages_from_dict(wait_outside(self._client, self._client.items(self._name)))

    async def aget_messages(self) -> List[BaseMessage]:
        """All messages, oldest first."""
        return messages_from_dict(await complete(self._client.items(self._name)))

    def latest(self, limit: int) -> List[BaseMessage]:
        """The newest messages, oldest first. Costs the same however long the history is."""
        return messages_from_dict(wait_outside(self._client, self._client.items(self._name, limit)))

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Adds messages at the end, all or none of them, durably."""
        if messages:
            wait_outside(self._client, self._client.add_items(self._name, _texts(messages)))

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Adds messages at the end, all or none of them, durably."""
        if messages:
            await finished(self._client.add_items(self._name, _texts(messages)))

    def clear(self) -> None:
        """Takes all messages away."""
        wait_outside(self._client, self._client.clear_items(self._name))

    async def aclear(self) -> None:
        """Takes all messages away."""
        await finished(self._client.clear_items(self._name))


def _texts(messages: Sequence[BaseMessage]) -> List[str]:
    return [json.dumps(message_to_dict(message)) for message in messages]


__all__ = ["TutorChatMessageHistory"]
