"""A store of one's own, complete: conversations and records in an SQLite file, as documents.

Its methods are called one at a time, on one thread: a method is a transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

from neuro_tutor import ConflictError, InvalidInputError, NotFoundError, Tutor

Document = dict[str, Any]
Key = dict[str, str]

TABLES = """
CREATE TABLE IF NOT EXISTS sessions (owner, id, updated_at, document, PRIMARY KEY (owner, id));
CREATE TABLE IF NOT EXISTS messages (owner, session, place INTEGER, id, parent, document,
    PRIMARY KEY (owner, session, place), UNIQUE (owner, session, id));
CREATE TABLE IF NOT EXISTS turns (owner, id, session, name, status, document, partial,
    PRIMARY KEY (owner, id), UNIQUE (owner, name));
CREATE TABLE IF NOT EXISTS records (kind, key, value, version INTEGER, PRIMARY KEY (kind, key));
CREATE TABLE IF NOT EXISTS versions (last INTEGER);
"""


class OwnStore:
    """Keeps conversations in an SQLite file."""

    name = "own"
    durability = "power"
    exclusive = True

    def __init__(self, path: str) -> None:
        self.location = path
        # The engine calls from one thread, which is another one than this.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" + TABLES)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        return self._db.execute(sql, values).fetchall()

    def _documents(self, sql: str, *values: Any) -> list[Document]:
        return [json.loads(row[0]) for row in self._rows(sql, *values)]

    def _document(self, sql: str, *values: Any) -> Optional[Document]:
        return next(iter(self._documents(sql, *values)), None)

    # Sessions

    def create_session(self, session: Document) -> None:
        with self._transaction():
            if self.session(session):
                raise ConflictError("a session of this id exists", context={"session": session["id"]})
            self._put_session(session)

    def session(self, key: Key) -> Optional[Document]:
        return self._document("SELECT document FROM sessions WHERE owner = ? AND id = ?", key["owner"], key["id"])

    def _found(self, key: Key) -> Document:
        session = self.session(key)
        if session is None:
            raise NotFoundError("no such session", context={"session": key["id"]})
        return session

    def _put_session(self, session: Document) -> None:
        row = (session["owner"], session["id"], session["updated_at"], json.dumps(session))
        self._db.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)", row)

    def sessions(self, query: Document) -> list[Document]:
        # Times are texts of one length: they sort like times.
        behind = query["behind"] or {"updated_at": "~", "id": ""}
        return self._documents(
            "SELECT document FROM sessions WHERE owner = ? AND (updated_at, id) < (?, ?)"
            " ORDER BY updated_at DESC, id DESC LIMIT ?",
            query["owner"], behind["updated_at"], behind["id"], query["limit"],
        )

    def update_session(self, key: Key, patch: Document) -> Document:
        with self._transaction():
            session = self._found(key)
            if patch["head"] is not None and self._message(key, patch["head"]) is None:
                raise InvalidInputError("no such message in this session", context={"message": patch["head"]})
            if patch["made_title"] is not None and not session["own_title"]:
                session["title"] = patch["made_title"]
            if patch["title"] is not None:
                session.update(title=patch["title"], own_title=True)
            for member in ("metadata", "head", "summary"):
                if patch[member] is not None:
                    session[member] = patch[member]
            session["updated_at"] = max(session["updated_at"], patch["updated_at"])
            self._put_session(session)
            return session

    def delete_session(self, key: Key) -> bool:
        with self._transaction():
            return self._delete(key)

    def _delete(self, key: Key) -> bool:
        names = (key["owner"], key["id"])
        for table in ("messages", "turns"):
            self._db.execute(f"DELETE FROM {table} WHERE owner = ? AND session = ?", names)
        return self._db.execute("DELETE FROM sessions WHERE owner = ? AND id = ?", names).rowcount > 0

    # Messages

    def _message(self, key: Key, id: str) -> Optional[Document]:
        sql = "SELECT document FROM messages WHERE owner = ? AND session = ? AND id = ?"
        return self._document(sql, key["owner"], key["id"], id)

    def _place(self, key: Key, id: str) -> int:
        sql = "SELECT place FROM messages WHERE owner = ? AND session = ? AND id = ?"
        for (place,) in self._rows(sql, key["owner"], key["id"], id):
            return int(place)
        raise InvalidInputError("no such message in this session", context={"message": id})

    def _push(self, key: Key, message: Document) -> None:
        row = (key["owner"], key["id"], key["owner"], key["id"], message["id"], message["parent_id"], json.dumps(message))
        self._db.execute(
            "INSERT INTO messages VALUES (?, ?, (SELECT coalesce(max(place), 0) + 1 FROM messages"
            " WHERE owner = ? AND session = ?), ?, ?, ?)",
            row,
        )

    def messages(self, query: Document) -> list[Document]:
        key, limit = query["session"], query["limit"]
        session = self._found(key)
        before, after = query["before"], query["after"]
        for id in (before, after, query["leaf"]):
            if id is not None:
                self._place(key, id)
        if query["all"]:
            return self._stored(key, before, after, limit)
        if before is not None:
            message = self._message(key, before)
            return self._line(key, message["parent_id"] if message else None, None, limit)[0]
        line, whole = self._line(key, query["leaf"] or session["head"], after, None if after else limit)
        if after is not None and not whole:
            raise InvalidInputError("the message is not on this branch", context={"message": after})
        return line[:limit] if after else line

    def _stored(self, key: Key, before: Optional[str], after: Optional[str], limit: int) -> list[Document]:
        start = self._place(key, after) if after else 0
        end = self._place(key, before) if before else 1 << 62
        order = "ASC" if after else "DESC"
        found = self._documents(
            "SELECT document FROM messages WHERE owner = ? AND session = ? AND place > ? AND place < ?"
            f" ORDER BY place {order} LIMIT ?",
            key["owner"], key["id"], start, end, limit,
        )
        return found if after else found[::-1]

    def _line(
        self, key: Key, leaf: Optional[str], stop: Optional[str], limit: Optional[int]
    ) -> tuple[list[Document], bool]:
        """The line that ends with a message, from behind another one; whether that one was met."""
        line: list[Document] = []
        while leaf is not None and leaf != stop and (limit is None or len(line) < limit):
            message = self._message(key, leaf)
            assert message is not None
            line.append(message)
            leaf = message["parent_id"]
        return line[::-1], leaf == stop

    def delete_message(self, key: Key, cut: Document) -> int:
        with self._transaction():
            session = self._found(key)
            message = self._message(key, cut["message"])
            if message is None:
                raise NotFoundError("no such message", context={"message": cut["message"]})
            if session["running_turn"]:
                raise self._busy(session)
            deleted = [message["id"]]
            for id in deleted:
                sql = "SELECT id FROM messages WHERE owner = ? AND session = ? AND parent = ?"
                followers = [row[0] for row in self._rows(sql, key["owner"], key["id"], id)]
                if followers and not cut["with_branch"]:
                    raise ConflictError("other messages follow this one", context={"follower": followers[0]})
                deleted += followers
            for id in deleted:
                self._db.execute(
                    "DELETE FROM messages WHERE owner = ? AND session = ? AND id = ?", (key["owner"], key["id"], id)
                )
            gone = set(deleted)
            for turn in self._turns_of(key):
                if turn["user_message_id"] in gone or turn["reply_message_id"] in gone:
                    self._db.execute("DELETE FROM turns WHERE owner = ? AND id = ?", (key["owner"], turn["id"]))
            if session["head"] in gone:
                newest = self._stored(key, None, None, 1)
                session["head"] = message["parent_id"] or (newest[0]["id"] if newest else None)
            if session.get("summary") and session["summary"]["through"] in gone:
                session["summary"] = None
            session["message_count"] -= len(deleted)
            session["updated_at"] = max(session["updated_at"], cut["updated_at"])
            self._put_session(session)
            return len(deleted)

    # Turns

    def begin_turn(self, new: Document) -> Optional[Document]:
        turn = new["turn"]
        key = {"owner": turn["owner"], "id": turn["session_id"]}
        with self._transaction():
            earlier = self._named(turn["owner"], turn["idempotency_key"])
            if earlier is not None:
                if earlier["fingerprint"] != turn["fingerprint"]:
                    raise ConflictError("the idempotency key names another request", context={"turn": earlier["id"]})
                return earlier
            session = self.session(key)
            if (session is None) != (new["new_session"] is not None):
                if session is None:
                    raise NotFoundError("no such session", context={"session": key["id"]})
                raise ConflictError("a session of this id exists", context={"session": key["id"]})
            if session is not None and session["running_turn"]:
                raise self._busy(session)
            head = session["head"] if session else None
            if head != new["expected_head"]:
                raise ConflictError("the session went on meanwhile", context={"head": head or "none"})
            self._check_messages(key, new)
            if self.turn(turn):
                raise ConflictError("a turn of this id exists", context={"turn": turn["id"]})
            session = session or new["new_session"]
            assert session is not None
            session.update(head=turn["user_message_id"], running_turn=turn["id"], preferences=new["preferences"])
            session["message_count"] += len(new["messages"])
            session["updated_at"] = max(session["updated_at"], turn["started_at"])
            if new["made_title"] is not None and not session["own_title"]:
                session["title"] = new["made_title"]
            self._put_session(session)
            for message in new["messages"]:
                self._push(key, message)
            self._put_turn(turn, None)
        return None

    def _check_messages(self, key: Key, new: Document) -> None:
        taken = [message["id"] for message in new["messages"]] + [new["turn"]["reply_message_id"]]
        for n, id in enumerate(taken):
            if id in taken[:n] or self._message(key, id):
                raise ConflictError("the session has a message of this id", context={"message": id})
        for n, message in enumerate(new["messages"]):
            parent = message["parent_id"]
            if parent is not None and parent not in taken[:n] and not self._message(key, parent):
                raise InvalidInputError("a message's parent is not in the session", context={"parent": parent})
        answered = new["messages"][-1] if new["messages"] else self._message(key, new["turn"]["user_message_id"])
        if answered is None or answered["role"] != "user":
            raise InvalidInputError("a turn answers a learner's message of its session")

    @staticmethod
    def _busy(session: Document) -> ConflictError:
        return ConflictError("the session has a running turn", context={"turn": session["running_turn"]})

    def _put_turn(self, turn: Document, partial: Optional[Document]) -> None:
        kept = None if partial is None else json.dumps(partial)
        row = (turn["owner"], turn["id"], turn["session_id"], turn["idempotency_key"], turn["status"], json.dumps(turn), kept)
        self._db.execute("INSERT OR REPLACE INTO turns VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _running(self, key: Key) -> tuple[Document, Optional[Document]]:
        sql = "SELECT document, partial FROM turns WHERE owner = ? AND id = ?"
        for document, partial in self._rows(sql, key["owner"], key["id"]):
            turn = json.loads(document)
            if turn["status"] != "running":
                raise ConflictError("the turn has ended", context={"turn": key["id"]})
            return turn, json.loads(partial) if partial else None
        raise NotFoundError("no such turn", context={"turn": key["id"]})

    def checkpoint_turn(self, key: Key, checkpoint: Document) -> None:
        with self._transaction():
            turn, partial = self._running(key)
            turn["lease_until"] = checkpoint["lease_until"]
            if checkpoint["partial"] is not None:
                partial, turn["trace"] = checkpoint["partial"], checkpoint["trace"]
            self._put_turn(turn, partial)

    def finish_turn(self, key: Key, end: Document) -> Document:
        with self._transaction():
            turn, _ = self._running(key)
            if end["expected_lease"] is not None and end["expected_lease"] != turn["lease_until"]:
                raise ConflictError("another instance runs the turn", context={"turn": key["id"]})
            turn.update(end["changes"])
            place = {"owner": turn["owner"], "id": turn["session_id"]}
            session = self._found(place)
            session["running_turn"] = None
            session["updated_at"] = max(session["updated_at"], turn["ended_at"])
            if end["reply"] is not None:
                self._push(place, end["reply"])
                session["message_count"] += 1
                if session["head"] == turn["user_message_id"]:
                    session["head"] = end["reply"]["id"]
            self._put_session(session)
            self._put_turn(turn, None)
            return turn

    def turn(self, key: Key) -> Optional[Document]:
        return self._document("SELECT document FROM turns WHERE owner = ? AND id = ?", key["owner"], key["id"])

    def turn_by_key(self, owner: str, idempotency_key: str) -> Optional[Document]:
        return self._named(owner, idempotency_key)

    def _named(self, owner: str, name: Optional[str]) -> Optional[Document]:
        return self._document("SELECT document FROM turns WHERE owner = ? AND name = ?", owner, name)

    def running_turns(self) -> list[Document]:
        rows = self._rows("SELECT document, partial FROM turns WHERE status = 'running'")
        return [{"turn": json.loads(turn), "partial": json.loads(partial) if partial else None} for turn, partial in rows]

    # Walking, carrying

    def owners(self, after: Optional[str], limit: int) -> list[str]:
        sql = "SELECT DISTINCT owner FROM sessions WHERE owner > ? ORDER BY owner LIMIT ?"
        return [row[0] for row in self._rows(sql, after or "", limit)]

    def session_ids(self, owner: str, after: Optional[str], limit: int) -> list[str]:
        sql = "SELECT id FROM sessions WHERE owner = ? AND id > ? ORDER BY id LIMIT ?"
        return [row[0] for row in self._rows(sql, owner, after or "", limit)]

    def _turns_of(self, key: Key, after: str = "", limit: int = -1) -> list[Document]:
        sql = "SELECT document FROM turns WHERE owner = ? AND session = ? AND id > ? ORDER BY id LIMIT ?"
        return self._documents(sql, key["owner"], key["id"], after, limit)

    def turns(self, session: Key, after: Optional[str], limit: int) -> list[Document]:
        self._found(session)
        return self._turns_of(session, after or "", limit)

    def whole_session(self, key: Key) -> Optional[Document]:
        session = self.session(key)
        if session is None:
            return None
        sql = "SELECT partial FROM turns WHERE owner = ? AND session = ? AND partial IS NOT NULL"
        return {
            "session": session,
            "messages": self._stored(key, None, None, -1),
            "turns": self._turns_of(key),
            "partial": self._document(sql, key["owner"], key["id"]),
        }

    def import_session(self, whole: Document, existing: str) -> None:
        session = whole["session"]
        with self._transaction():
            found = self.session(session)
            if found is not None:
                if existing == "refuse":
                    raise ConflictError("a session of this id exists", context={"session": session["id"]})
                if found["running_turn"]:
                    raise self._busy(found)
            for turn in whole["turns"]:
                for other in (self.turn(turn), self._named(turn["owner"], turn["idempotency_key"])):
                    if other is not None and other["session_id"] != session["id"]:
                        raise ConflictError("another session has this turn", context={"turn": other["id"]})
            self._delete(session)
            self._put_session(session)
            for message in whole["messages"]:
                self._push(session, message)
            for turn in whole["turns"]:
                self._put_turn(turn, whole["partial"] if turn["status"] == "running" else None)

    # Records

    def get(self, kind: str, key: str) -> Optional[Document]:
        sql = "SELECT key, value, version FROM records WHERE kind = ? AND key = ?"
        return next((_record(row) for row in self._rows(sql, kind, key)), None)

    def kinds(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT DISTINCT kind FROM records ORDER BY kind")]

    def scan(self, kind: str, range: Document, limit: int) -> list[Document]:
        prefix, after = range["prefix"], range["after"]
        from_here = "key > ?" if after is not None else "'' = ?"
        sql = f"SELECT key, value, version FROM records WHERE kind = ? AND key >= ? AND {from_here} ORDER BY key"
        found: list[Document] = []
        for row in self._db.execute(sql, (kind, prefix, after or "")):
            if len(found) == limit or not row[0].startswith(prefix):
                break
            found.append(_record(row))
        return found

    def commit(self, writes: list[Document]) -> None:
        with self._transaction():
            ((last,),) = self._rows("SELECT coalesce(max(last), 0) FROM versions")
            for index, write in enumerate(writes):
                now = self.get(write["kind"], write["key"])
                if write["expect"] is not None and write["expect"] != (now["version"] if now else 0):
                    raise ConflictError("the record changed", context={"kind": write["kind"], "index": str(index)})
                last += 1
                names = (write["kind"], write["key"])
                self._db.execute("DELETE FROM records WHERE kind = ? AND key = ?", names)
                if write["value"] is not None:
                    self._db.execute("INSERT INTO records VALUES (?, ?, ?, ?)", (*names, write["value"], last))
            self._db.execute("DELETE FROM versions")
            self._db.execute("INSERT INTO versions VALUES (?)", (last,))

    def close(self) -> None:
        self._db.close()


def _record(row: Any) -> Document:
    return {"key": row[0], "value": row[1], "version": row[2]}


def main() -> None:
    with Tutor.open(OwnStore("own.db"), providers={"demo": {"delay": 0}}) as tutor:
        reply = tutor.chat("What is photosynthesis?")
        print(tutor.session(reply.session_id).title)
        print(len(tutor.messages(reply.session_id)), "messages are in own.db")


if __name__ == "__main__":
    main()
