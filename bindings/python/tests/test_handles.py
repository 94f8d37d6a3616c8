"""What a handle tells and changes besides conversations."""

from __future__ import annotations

import threading

import pytest

import neuro_tutor as nt
from neuro_tutor import Tutor
from neuro_tutor.testing import ScriptedProvider

FAST = {"demo": {"delay": 0}}


def test_a_status_says_where_the_data_is_and_what_runs() -> None:
    gate = threading.Event()
    with Tutor.open("memory:", providers=ScriptedProvider(["a", gate, "b"])) as tutor:
        status = tutor.status()
        assert (status.durability, status.live_turns, status.recovered_turns) == ("none", 0, 0)
        stream = tutor.stream("hi")
        assert not stream.has_ended and tutor.status().live_turns == 1
        gate.set()
        stream.reply()
        assert stream.has_ended


def test_a_turn_is_found_by_its_idempotency_key_and_told_from_a_replay() -> None:
    with Tutor.open("memory:", providers=FAST) as tutor:
        assert tutor.turn_by_key("k") is None
        with tutor.stream("hi", idempotency_key="k") as first:
            turn = first.reply().turn_id
            assert not first.is_replay
        found = tutor.turn_by_key("k")
        assert found is not None and found.id == turn
        with tutor.stream("hi", idempotency_key="k") as again:
            assert again.is_replay and again.turn_id == turn


def test_all_turns_of_an_owner_are_stopped_and_nobody_else_s() -> None:
    gate = threading.Event()
    with Tutor.open("memory:", providers=ScriptedProvider(["a", gate, "b"])) as tutor:
        mine = [tutor.stream("hi", detached=True) for _ in range(2)]
        other = tutor.for_owner("bob").stream("hi", detached=True)
        tutor.cancel_all()
        assert [tutor.turn(stream.turn_id).status for stream in mine] == ["cancelled", "cancelled"]
        assert tutor.for_owner("bob").turn(other.turn_id).status == "running"
        gate.set()
        assert other.reply().text == "ab"


def test_a_message_is_found_without_its_session() -> None:
    with Tutor.open("memory:", providers=FAST) as tutor:
        message = tutor.chat("hi").message
        assert tutor.find_message(message.id) == message
        with pytest.raises(nt.NotFoundError):
            tutor.find_message("nobody")


def test_other_providers_answer_from_now_on() -> None:
    with Tutor.open("memory:", providers=FAST) as tutor:
        ada = tutor.for_owner("ada")
        tutor.replace_providers([ScriptedProvider("one"), {"kind": "demo"}])
        assert tutor.chat("hi").text == ada.chat("hi").text == "one"
        assert [provider.name for provider in tutor.providers()] == ["scripted", "demo"]
        for wrong in ([], ["nobody"], [5]):
            with pytest.raises(nt.ConfigError):
                tutor.replace_providers(wrong)  # type: ignore[arg-type]
        with pytest.raises(nt.ConfigError):
            tutor.replace_providers(FAST, "nobody")
        assert tutor.chat("hi").text == "one"


def test_closing_waits_as_long_as_it_is_told() -> None:
    gate = threading.Event()
    tutor = Tutor.open("memory:", providers=ScriptedProvider(["a", gate]))
    stream = tutor.stream("hi", detached=True)
    next(stream)
    with pytest.raises(nt.InvalidInputError, match="seconds"):
        tutor.close(grace=-1)
    tutor.close(grace=0)
    gate.set()
    assert list(stream)[-1].type == "turn.failed"
