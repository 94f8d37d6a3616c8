"""What the package offers to other people's tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import neuro_tutor as nt
from neuro_tutor import AsyncTutor, Tutor
from neuro_tutor.testing import ScriptedProvider


def test_a_script_is_played_step_by_step_and_its_last_one_again() -> None:
    provider = ScriptedProvider("one two", [nt.TextDelta("part"), nt.RateLimitedError("slow down", retry_after=1)])
    with Tutor.open("memory:", providers=provider) as tutor:
        texts = [event.text for event in tutor.stream("a") if isinstance(event, nt.TextDelta)]
        assert texts == ["one", " two"]
        for _ in range(2):
            with pytest.raises(nt.RateLimitedError):
                tutor.chat("b")
        provider.say("three")
        assert tutor.chat("c").text == "three"
    assert [request.text for request in provider.requests] == ["a", "b", "b", "c"]


def test_the_plugin_brings_its_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_lesson.py").write_text(
        "import asyncio\n"
        "def test_lesson(tutor, scripted):\n"
        "    assert tutor.chat('Hi').text == 'You said: Hi'\n"
        "    scripted.say('Photosynthesis turns light into sugar.')\n"
        "    assert 'sugar' in tutor.chat('What is photosynthesis?').text\n"
        "    assert scripted.requests[1].text == 'What is photosynthesis?'\n"
        "def test_async(async_tutor, tutor):\n"
        "    assert asyncio.run(async_tutor.chat('Hi')).text == 'You said: Hi'\n"
        "    assert len(tutor.sessions()) == 1\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr


async def test_both_faces_share_one_engine() -> None:
    async with AsyncTutor.open("memory:", providers={"demo": {"delay": 0}}) as tutor:
        reply = await tutor.chat("hi")
        assert tutor.to_sync().session(reply.session_id) == await tutor.session(reply.session_id)
        assert await tutor.to_sync().to_async().messages(reply.session_id)


def test_replies_and_messages_are_shown_in_notebooks_without_becoming_markup(tutor: Tutor) -> None:
    session = tutor.chat("<script>alert(1)</script>").session_id
    reply = tutor.chat("<b>bold</b>", session=session)
    for shown in (reply._repr_html_(), tutor.messages(session)._repr_html_(), tutor.sessions()._repr_html_()):
        assert "<script>" not in shown and "<b>" not in shown and shown.startswith("<")
    assert "&lt;b&gt;bold" in tutor.messages(session)._repr_html_()
