"""Branches, attachments, contexts, erasure: what the engine offers besides asking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import neuro_tutor as nt
from neuro_tutor import Tutor
from neuro_tutor.testing import ScriptedProvider

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0"


@pytest.fixture
def tutor(scripted: ScriptedProvider) -> Iterator[Tutor]:
    with Tutor.open("memory:", providers=scripted) as tutor:
        yield tutor


def test_replies_and_questions_have_siblings_and_the_branch_can_be_switched(
    tutor: Tutor, scripted: ScriptedProvider
) -> None:
    scripted.say("one", "two", "three")
    first = tutor.chat("a")
    second = tutor.chat(session=first.session_id, regenerate=first.message.id)
    siblings = tutor.siblings(first.session_id, first.message.id)
    assert [message.text for message in siblings] == ["one", "two"]
    assert tutor.set_head(first.session_id, first.message.id).head == first.message.id
    assert [m.text for m in tutor.messages(first.session_id)] == ["a", "one"]
    assert [m.text for m in tutor.messages(first.session_id, leaf=second.message.id)] == ["a", "two"]
    assert len(tutor.messages(first.session_id, all=True)) == 3
    with pytest.raises(nt.NotFoundError):
        tutor.set_head(first.session_id, "nobody")


def test_messages_are_deleted_with_what_follows_or_not_at_all(tutor: Tutor) -> None:
    first = tutor.chat("a")
    tutor.chat("b", session=first.session_id)
    with pytest.raises(nt.ConflictError) as caught:
        tutor.delete_message(first.session_id, first.message.id)
    assert "follower" in caught.value.context
    assert tutor.delete_message(first.session_id, first.message.id, with_branch=True) == 3
    assert len(tutor.messages(first.session_id)) == 1


def test_a_conversation_starts_under_an_id_or_from_messages(tutor: Tutor) -> None:
    assert tutor.chat("a", session="mine", create_session=True).session_id == "mine"
    again = tutor.chat("b", session="mine", create_session=True, parent=tutor.messages("mine")[1].id)
    assert again.session_id == "mine" and len(tutor.messages("mine")) == 4
    imported = tutor.chat(
        messages=[
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "And?"},
        ]
    )
    assert [m.status for m in tutor.messages(imported.session_id)][:2] == ["imported", "imported"]


def test_attachments_are_paths_bytes_or_parts(tutor: Tutor, scripted: ScriptedProvider, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("light is food")
    image = nt.ImagePart("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAA=")
    reply = tutor.chat("What is this?", attachments=[notes, str(notes), PNG, ("a.txt", b"water"), image])
    sent = scripted.requests[0].messages[0]
    assert "light is food" in sent.text and "water" in sent.text
    stored = tutor.messages(reply.session_id)[0].content
    kinds = [part.type for part in stored if not isinstance(part, str)]
    assert kinds == ["text", "file", "file", "image", "file", "image"]
    assert isinstance(stored[1], nt.FilePart) and stored[1].name == "notes.txt"
    tutor.chat(attachments=[PNG])
    for wrong in (b"\xff\xfe\xfd", 5):
        with pytest.raises(nt.InvalidInputError):
            tutor.chat("?", attachments=[wrong])  # type: ignore[list-item]
    with pytest.raises(FileNotFoundError):
        tutor.chat("?", attachments=[tmp_path / "nobody"])


def test_the_context_is_what_a_model_would_be_sent(tutor: Tutor) -> None:
    first = tutor.chat("What do plants eat? " * 20)
    tutor.chat("And lions?", session=first.session_id)
    whole = tutor.context(first.session_id)
    assert len(whole.messages) == 4 and whole.left_out is None and whole.tokens > 50
    short = tutor.context(first.session_id, tokens=40)
    assert len(short.messages) < 4 and short.left_out is not None
    assert short.messages[-1] == whole.messages[-1]


def test_sessions_are_changed_found_and_erased(tutor: Tutor) -> None:
    session = tutor.create_session(title="Plants", metadata={"grade": 7})
    assert tutor.update_session(session.id, metadata={"grade": 8}).title == "Plants"
    renamed = tutor.update_session(session.id, title="Trees")
    assert renamed.metadata == {"grade": 8} and renamed.own_title
    tutor.chat("What is photosynthesis?", session=session.id)
    tutor.chat("What is a prime number?")
    assert [found.id for found in tutor.search("PHOTOSYNTHESIS")] == [session.id]
    assert len(tutor.search("what is")) == 2 and len(tutor.search("nothing at all")) == 0
    other = tutor.for_owner("ada")
    other.chat("hi")
    assert tutor.erase().sessions == 2
    assert len(tutor.sessions()) == 0 and len(other.sessions()) == 1


def test_messages_are_rated_and_opinions_change(tutor: Tutor) -> None:
    reply = tutor.chat("What do plants eat?")
    kept = tutor.rate(reply.session_id, reply.message.id, "down", "too short")
    assert kept is not None and (kept.rating, kept.comment) == ("down", "too short")
    kept = tutor.rate(reply.session_id, reply.message.id, "up")
    assert tutor.feedback(reply.session_id) == [kept]
    assert tutor.rate(reply.session_id, reply.message.id, None) is None
    assert tutor.feedback(reply.session_id) == []
    with pytest.raises(nt.InvalidInputError):
        tutor.rate(reply.session_id, reply.message.id, "sideways")  # type: ignore[arg-type]
    with pytest.raises(nt.NotFoundError):
        tutor.rate(reply.session_id, "nobody", "up")


def test_titles_are_improved_and_old_messages_summarized_when_asked_for() -> None:
    provider = ScriptedProvider("Light.", "Plants and light")
    with Tutor.open("memory:", providers=provider, improve_titles=True, summarize=True, catalog={"x/y": {"context_window": 10}}) as tutor:
        reply = tutor.chat("What do plants eat?")
        assert reply.text == "Light."
    with pytest.raises(nt.ConfigError, match="catalog"):
        Tutor.open("memory:", catalog={"x/y": {"canary": 1}})
