"""Uploaded files, quotas, and what was used."""

from __future__ import annotations

import io
import json
import urllib.request
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

import neuro_tutor as nt
from neuro_tutor import AsyncTutor, Quota, Tutor
from neuro_tutor.testing import ScriptedProvider

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0"


def test_a_file_is_kept_once_and_named_by_messages(tmp_path: Path) -> None:
    scripted = ScriptedProvider("Green.")
    path = tmp_path / "leaf.txt"
    path.write_text("A leaf is green.")
    with Tutor.open(tmp_path / "data", providers=scripted) as tutor:
        assert list(tutor.files.list()) == [] and not tutor.files.delete("nobody")
        assert not (tmp_path / "data-files").exists()
        leaf = tutor.files.upload(path)
        assert (leaf.name, leaf.media_type, leaf.bytes) == ("leaf.txt", "text/plain", 16)
        assert abs((datetime.now(timezone.utc) - leaf.created_at).total_seconds()) < 60
        reply = tutor.chat("What color?", attachments=[leaf])
        assert "A leaf is green." in scripted.requests[-1].messages[-1].text
        stored = tutor.messages(reply.session_id)[0]
        assert isinstance(stored.content, tuple) and nt.FilePart(leaf.id, "leaf.txt", "text/plain") in stored.content
    with Tutor.open(tmp_path / "data", providers=scripted) as tutor:
        assert tutor.files.read(leaf.id) == b"A leaf is green." and tutor.files.get(leaf.id) == leaf
        assert tutor.files.delete(leaf.id) and not tutor.files.delete(leaf.id)
        with pytest.raises(nt.NotFoundError):
            tutor.files.read(leaf.id)


def test_bytes_open_files_and_long_files_are_taken_and_listed_in_pages() -> None:
    with Tutor.open("memory:") as tutor:
        long = b"words " * 100_000
        kept = [
            tutor.files.upload(PNG, "leaf.png"),
            tutor.files.upload(io.BytesIO(long), "long.txt"),
            tutor.files.upload(memoryview(b"no name")),
        ]
        assert [file.name for file in kept] == ["leaf.png", "long.txt", None]
        assert tutor.files.read(kept[1].id) == long
        page = tutor.files.list(limit=2)
        assert list(page) == kept[:2] and page.next_cursor
        assert list(tutor.files.list(cursor=page.next_cursor)) == kept[2:]
        assert nt.FileInfo.from_dict(kept[0].to_dict()) == kept[0]


async def test_files_are_their_owner_s_and_erased_with_them() -> None:
    async with AsyncTutor.open("memory:", files={"max_files": 2}) as tutor:
        ada, bob = tutor.for_owner("ada"), tutor.for_owner("bob")
        file = await ada.files.upload(b"mine", "a.txt")
        await ada.files.upload(b"mine too", "b.txt")
        with pytest.raises(nt.TooLargeError, match="delete one"):
            await ada.files.upload(b"too many", "c.txt")
        with pytest.raises(nt.NotFoundError):
            await bob.files.read(file.id)
        assert not await bob.files.delete(file.id)
        with pytest.raises(nt.InvalidInputError, match="upload it first"):
            await bob.chat("What is this?", attachments=[file])
        assert (await ada.erase()).records >= 2
        assert list(await ada.files.list()) == []


@pytest.mark.parametrize(
    ("file", "name", "says"),
    [
        (b"", "a.txt", "empty"),
        (b"plain", "a.png", "not what its name says"),
        (b"MZ\0\0\x01\x02\xff\xfe", None, "send a PNG"),
        (5, None, "a path, bytes"),
        (io.StringIO("text"), "a.txt", "binary"),
    ],
)
def test_what_is_no_file_is_refused_with_what_to_do(file: object, name: str, says: str) -> None:
    with Tutor.open("memory:") as tutor:
        with pytest.raises(nt.InvalidInputError, match=says):
            tutor.files.upload(file, name)  # type: ignore[arg-type]
        assert list(tutor.files.list()) == []


def test_a_missing_file_and_a_wrong_place_are_told(tmp_path: Path) -> None:
    with Tutor.open("memory:") as tutor:
        with pytest.raises(FileNotFoundError):
            tutor.files.upload(tmp_path / "none.txt")
        with pytest.raises(nt.InvalidInputError, match="1 to 200"):
            tutor.files.list(limit=0)
        with pytest.raises(nt.InvalidInputError, match="cursor"):
            tutor.files.list(cursor="x y")
    with pytest.raises(nt.ConfigError, match="max_files"):
        Tutor.open("memory:", files={"max_file": 1})
    (tmp_path / "taken").write_text("")
    with Tutor.open("memory:", files=tmp_path / "taken") as tutor, pytest.raises(nt.StoreUnavailableError):
        tutor.files.upload(b"x", "x.txt")


def test_the_server_has_the_same_files() -> None:
    with Tutor.open("memory:") as tutor, tutor.serve(port=0) as server:
        file = tutor.files.upload(b"shared", "a.txt")
        with urllib.request.urlopen(f"{server.url}/api/files") as answer:
            assert json.load(answer)["files"][0]["id"] == file.id


def test_what_was_used_is_told_by_day() -> None:
    scripted = ScriptedProvider(["Hello", nt.Usage(input_tokens=7, output_tokens=3)])
    with Tutor.open("memory:", providers=scripted) as tutor:
        assert tutor.usage() == []
        reply = tutor.chat("hi")
        tutor.rate(reply.session_id, reply.message.id, "up")
        tutor.files.upload(b"12345", "a.txt")
        (day,) = tutor.usage()
        assert (day.turns, day.input_tokens, day.output_tokens) == (1, 7, 3)
        assert (day.thumbs_up, day.upload_bytes, day.owner) == (1, 5, "local")
        assert isinstance(day.day, date) and nt.DayUsage.from_dict(day.to_dict()) == day
        assert tutor.usage(day.day, day.day) == [day]
        assert tutor.usage(since="2999-01-01") == tutor.for_owner("ada").usage() == []
        with pytest.raises(nt.InvalidInputError, match="2026-11-26"):
            tutor.usage(until="yesterday")


def test_what_does_not_fit_into_a_quota_is_refused() -> None:
    with Tutor.open("memory:", quota=Quota(turns_per_day=1, upload_bytes_per_day=4)) as tutor:
        assert tutor.quota() == Quota(turns_per_day=1, upload_bytes_per_day=4)
        tutor.chat("hi")
        with pytest.raises(nt.RateLimitedError) as refused:
            tutor.chat("again")
        assert refused.value.context["quota"] == "1" and refused.value.context["remaining"] == "0"
        with pytest.raises(nt.TooLargeError) as never:
            tutor.files.upload(b"12345", "a.txt")
        assert never.value.context["limit"] == "upload_bytes_per_day"
        tutor.files.upload(b"123", "a.txt")
        with pytest.raises(nt.RateLimitedError):
            tutor.files.upload(b"45", "a.txt")
        tutor.for_owner("bob").chat("hi")
    with pytest.raises(nt.ConfigError, match="turns_per_day"):
        Tutor.open("memory:", quota={"turns": 5})
    with pytest.raises(nt.ConfigError):
        Tutor.open("memory:", quota={"cost_usd_per_day": -1})


def test_bytes_with_gaps_are_bytes_too() -> None:
    with Tutor.open("memory:") as tutor:
        assert tutor.files.read(tutor.files.upload(memoryview(b"abcde")[::2], "a.txt").id) == b"ace"
