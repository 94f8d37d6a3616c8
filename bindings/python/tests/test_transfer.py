"""Exports, imports, and the server in the process."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import neuro_tutor as nt
from neuro_tutor import AsyncTutor, Tutor

FAST = {"demo": {"delay": 0}}


def test_what_one_tutor_exports_another_one_knows_exactly(tutor: Tutor, tmp_path: Path) -> None:
    session = tutor.chat("What is a leaf?").session_id
    tutor.for_owner("ada").chat("hi")
    counts = tutor.export(tmp_path / "export.jsonl")
    assert (counts.sessions, counts.messages, counts.turns) == (1, 2, 1)
    with Tutor.open("memory:") as other:
        done = other.import_(tmp_path / "export.jsonl")
        assert (done.read, done.added) == (counts, 1)
        assert other.session(session) == tutor.session(session)
        assert other.messages(session) == tutor.messages(session)
        assert other.import_(tmp_path / "export.jsonl").unchanged == 1
        written = io.BytesIO()
        other.export(written)
        assert written.getvalue() == (tmp_path / "export.jsonl").read_bytes()
        other.rename_session(session, "Another title")
        with pytest.raises(nt.ConflictError):
            other.import_(tmp_path / "export.jsonl")
        assert other.import_(tmp_path / "export.jsonl", on_conflict="keep").kept == 1
        assert other.import_(tmp_path / "export.jsonl", on_conflict="replace").replaced == 1
        with pytest.raises(nt.InvalidInputError):
            other.import_(io.BytesIO(written.getvalue()[:-20]))
        with pytest.raises(nt.InvalidInputError):
            other.import_(io.BytesIO(b""), on_conflict="nonsense")  # type: ignore[arg-type]


def test_an_export_of_everyone_keeps_the_owners(tutor: Tutor) -> None:
    tutor.for_owner("ada").chat("hi")
    tutor.chat("hi")
    file = io.BytesIO()
    assert tutor.export(file, everyone=True).sessions == 2
    with Tutor.open("memory:") as other:
        file.seek(0)
        other.import_(file, everyone=True)
        assert len(other.sessions()) == len(other.for_owner("ada").sessions()) == 1
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    assert tutor.export(io.BytesIO(), since=tomorrow).sessions == 0


async def test_the_asyncio_face_carries_too(tmp_path: Path) -> None:
    async with AsyncTutor.open("memory:", providers=FAST) as tutor, AsyncTutor.open("memory:") as other:
        await tutor.chat("hi")
        counts = await tutor.export(tmp_path / "export")
        assert (await other.import_(tmp_path / "export")).read == counts


def ask(url: str) -> dict[str, object]:
    body = json.dumps({"messages": [{"role": "user", "content": "Why?"}]}).encode()
    request = urllib.request.Request(url + "/api/chat", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)  # type: ignore[no-any-return]


class Mine:
    name = "mine"

    def stream(self, request: nt.CompletionRequest) -> Iterator[str]:
        yield f"You asked: {request.text}"


def test_a_server_answers_by_a_provider_written_in_python() -> None:
    with Tutor.open("memory:", providers=Mine()) as tutor:
        with tutor.serve(port=0) as server:
            reply = ask(server.url)
            assert reply["reply_message"]["content"] == "You asked: Why?"  # type: ignore[index]
            with urllib.request.urlopen(f"{server.url}/metrics") as response:
                metrics = response.read().decode()
            assert 'completions_total{provider="mine",outcome="completed"} 1' in metrics
            assert 'store_write_seconds_count{operation="finish_turn"} 1' in metrics
            with pytest.raises(nt.ConfigError):
                tutor.serve(port=int(server.url.rsplit(":", 1)[1]))
        server.stop()
        with pytest.raises(OSError):
            ask(server.url)
        assert len(tutor.sessions()) == 1


async def test_the_asyncio_face_serves_too() -> None:
    import asyncio

    async with AsyncTutor.open("memory:", providers=Mine()) as tutor, tutor.serve(port=0) as server:
        assert "reply_message" in await asyncio.to_thread(ask, server.url)
        waiting = asyncio.create_task(server.wait())
        await server.stop()
        await waiting


class Dribbles(io.RawIOBase):
    """Takes seven bytes at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.taken += bytes(data)[:7]
        return min(len(data), 7)


def test_a_raw_stream_gets_all_of_it(tutor: Tutor) -> None:
    tutor.chat("hi")
    whole, raw = io.BytesIO(), Dribbles()
    tutor.export(whole)
    tutor.export(raw)
    assert bytes(raw.taken) == whole.getvalue() != b""


async def test_an_export_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file, link = tmp_path / "export.jsonl", tmp_path / "link.jsonl"
    async with AsyncTutor.open("memory:", providers=FAST) as tutor:
        await tutor.chat("hi")
        assert (await tutor.export(file)).sessions == 1
        link.symlink_to(file)
        await tutor.chat("hi again")
        file.chmod(0o640)
        assert (await tutor.export(link)).sessions == 2
        assert link.is_symlink() and file.stat().st_mode & 0o777 == 0o640
    before = file.read_bytes()
    assert len(before.splitlines()) > 2
    with pytest.raises(nt.StoreUnavailableError):
        await tutor.export(file)
    with pytest.raises(nt.StoreUnavailableError):
        tutor.to_sync().export(file)
    assert file.read_bytes() == before
    with Tutor.open("memory:") as other, pytest.raises(FileNotFoundError) as caught:
        other.export(tmp_path / "none" / "export.jsonl")
    assert caught.value.filename == str(tmp_path / "none" / "export.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.jsonl", "link.jsonl"]
