"""Conversations and what is in them, for ordinary programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, List, Mapping, Optional

from . import _native
from ._checks import flag, string, string_or_none, whole
from ._messages import Feedback, Message, Rating, Session
from ._record import Page, read, read_page
from ._settings import encode
from ._stream import wait_outside
from .errors import InvalidInputError

if TYPE_CHECKING:
    from ._provider import Context


class Conversations:
    """The part of `Tutor` that reads and changes what is stored."""

    _client: _native.Client

    def _wait(self, call: _native.Call) -> Any:
        return wait_outside(self._client, call)

    def sessions(self, limit: int = 50, cursor: Optional[str] = None) -> Page[Session]:
        """A page of sessions, the latest used first.

        Args:
            limit: 1 to 200.
            cursor: The `next_cursor` of an earlier page, to go on behind it.
        """
        return read_page(Session, self._wait(self._client.sessions(whole("limit", limit), string_or_none("cursor", cursor))))

    def session(self, id: str) -> Session:
        """A session."""
        return read(Session, self._wait(self._client.session(string("id", id))))

    def create_session(
        self, id: Optional[str] = None, title: Optional[str] = None, metadata: Optional[Mapping[str, Any]] = None
    ) -> Session:
        """Creates an empty session. `metadata` is the caller's own data."""
        members = encode({"id": id, "title": title, "metadata": metadata})
        return read(Session, self._wait(self._client.create_session(members)))

    def rename_session(self, id: str, title: str) -> Session:
        """Changes a session's title, which the engine then never replaces, and returns it."""
        if title is None:
            raise InvalidInputError("a session's title is a text", context={"field": "title"})
        return read(Session, self._wait(self._client.update_session(string("id", id), encode({"title": string("title", title)}))))

    def update_session(
        self, id: str, *, title: Optional[str] = None, metadata: Optional[Mapping[str, Any]] = None
    ) -> Session:
        """Changes a session's title or metadata and returns it; what is None stays as it is."""
        changes = encode({"title": title, "metadata": metadata})
        return read(Session, self._wait(self._client.update_session(string("id", id), changes)))

    def delete_session(self, id: str) -> bool:
        """Deletes a session with everything in it, cancelling its running turn. False if there was none."""
        return bool(self._wait(self._client.delete_session(string("id", id))))

    def messages(
        self,
        session_id: str,
        limit: Optional[int] = None,
        before: Optional[str] = None,
        after: Optional[str] = None,
        *,
        leaf: Optional[str] = None,
        all: bool = False,
    ) -> Page[Message]:
        """A page of a session's messages in the order of the conversation: the newest ones, the newest
        ones before a message, or the oldest ones after a message. At most 200.

        Args:
            leaf: A message of another branch, which is read from there to its beginning.
            all: True for the messages of all branches, in the order in which they were stored.
        """
        which = encode({"limit": limit, "before": before, "after": after, "leaf": leaf, "all": all})
        return read_page(Message, self._wait(self._client.messages(string("session_id", session_id), which)))

    def find_message(self, id: str) -> Message:
        """A message whose session is not known: in the session that was used last, if several have one of
        this id. Costs a look into each session."""
        return read(Message, self._wait(self._client.find_message(string("id", id))))

    def siblings(self, session_id: str, message_id: str) -> List[Message]:
        """The messages that follow what this one follows, itself among them: replies that were written
        again, or a learner's message as it was edited."""
        found = json.loads(self._wait(self._client.siblings(string("session_id", session_id), string("message_id", message_id))))
        return [Message.from_dict(message) for message in found]

    def set_head(self, session_id: str, message_id: str) -> Session:
        """Switches the active branch to the one that ends with this message: the next one follows it."""
        return read(Session, self._wait(self._client.set_head(string("session_id", session_id), string("message_id", message_id))))

    def delete_message(self, session_id: str, message_id: str, *, with_branch: bool = False) -> int:
        """Deletes a message for good, with the turn that wrote or answered it, and returns how many were
        deleted. If others follow it that is refused, unless they are to go with it."""
        session_id, message_id = string("session_id", session_id), string("message_id", message_id)
        return int(self._wait(self._client.delete_message(session_id, message_id, flag("with_branch", with_branch))))

    def context(self, session_id: str, tokens: Optional[int] = None) -> Context:
        """What a model would be sent of a conversation as it is now, before the next message: within so
        many tokens, or within what the limits and the model's window allow."""
        from ._provider import Context

        budget = None if tokens is None else whole("tokens", tokens)
        return read(Context, self._wait(self._client.context(string("session_id", session_id), budget)))

    def search(self, text: str, limit: int = 50, cursor: Optional[str] = None) -> Page[Session]:
        """A page of the sessions in which every word of a text occurs, in the title or in messages, the
        latest used first. A page may be short or empty and have a cursor all the same: go on there."""
        text, limit = string("text", text), whole("limit", limit)
        return read_page(Session, self._wait(self._client.search(text, limit, string_or_none("cursor", cursor))))

    def rate(
        self, session_id: str, message_id: str, rating: Optional[Rating], comment: Optional[str] = None
    ) -> Optional[Feedback]:
        """Keeps what somebody thinks of a message, `up` or `down` and perhaps in words, in place of what they
        thought before; None takes it back. Returns what is kept."""
        opinion = encode({"rating": rating, "comment": comment})
        kept = self._wait(self._client.rate(string("session_id", session_id), string("message_id", message_id), opinion))
        return None if kept == "null" else read(Feedback, kept)

    def feedback(self, session_id: str) -> List[Feedback]:
        """What somebody thought of messages of a session."""
        found = json.loads(self._wait(self._client.feedback(string("session_id", session_id))))
        return [Feedback.from_dict(one) for one in found]
