"""The blocking face."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import neuro_tutor as nt
from neuro_tutor import Tutor


def test_a_reply_has_everything(tutor: Tutor) -> None:
    reply = tutor.chat("What is photosynthesis?")
    assert "photosynthesis" in reply.text and str(reply) == reply.text
    assert (reply.status, reply.finish_reason) == ("completed", "stop")
    assert reply.message.role == "assistant" and reply.message.status == "complete"
    assert [warning.code for warning in reply.warnings] == ["demo_provider"]
    assert tutor.turn(reply.turn_id).status == "completed"


def test_a_conversation_goes_on_and_is_listed(tutor: Tutor) -> None:
    first = tutor.chat("What is photosynthesis?")
    second = tutor.chat("And in one sentence?", session=first.session_id)
    assert "question number 2" in second.text
    (session,) = tutor.sessions()
    assert session == tutor.session(first.session_id) and session.message_count == 4
    messages = tutor.messages(session.id)
    assert [message.role for message in messages] == ["user", "assistant"] * 2
    assert messages[0].text == messages[0].content == "What is photosynthesis?"
    assert session.head == messages[-1].id == second.message.id


def test_data_is_still_there_after_closing(tmp_path: Path) -> None:
    with Tutor.open(tmp_path / "data", providers="demo") as tutor:
        session = tutor.chat("hello").session_id
    with Tutor.open(f"sled:{tmp_path / 'data'}") as tutor:
        assert len(tutor.messages(session)) == 2


def test_pages_go_on_behind_their_cursor(tutor: Tutor) -> None:
    session = tutor.chat("0").session_id
    for i in range(1, 5):
        tutor.chat(str(i), session=session)
        tutor.chat("another conversation")
    page, seen = tutor.sessions(limit=2), []
    while True:
        seen += [session.id for session in page]
        if page.next_cursor is None:
            break
        page = tutor.sessions(limit=2, cursor=page.next_cursor)
    assert len(seen) == len(set(seen)) == 5
    newest = tutor.messages(session, limit=3)
    older = tutor.messages(session, limit=3, before=newest.next_cursor)
    assert older[-1].id == newest[0].parent_id
    assert list(tutor.messages(session, after=older[-1].id)) == list(newest)
    assert len(newest[1:]) == 2 and newest == nt.Page(newest, newest.next_cursor)


def test_sessions_are_created_renamed_and_deleted(tutor: Tutor) -> None:
    session = tutor.create_session("s1", "Plants", {"grade": 7})
    assert (session.id, session.title, session.metadata) == ("s1", "Plants", {"grade": 7})
    assert tutor.rename_session("s1", "Trees").title == "Trees"
    with pytest.raises(nt.ConflictError):
        tutor.create_session("s1")
    assert tutor.delete_session("s1") is True and tutor.delete_session("s1") is False
    with pytest.raises(nt.NotFoundError):
        tutor.session("s1")


def test_events_are_numbered_and_can_be_read_again_from_any(tutor: Tutor) -> None:
    stream = tutor.stream("What is photosynthesis?")
    events = list(stream)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[0].type == "turn.started" and events[-1].type == "turn.finished"
    text = "".join(event.text for event in events if event.type == "text.delta")
    last = events[-1]
    assert isinstance(last, nt.TurnFinished) and last.message.text == text
    for after in (0, 1, len(events) - 1):
        assert list(tutor.events(stream.turn_id, after)) == events[after:]
    assert list(stream) == []


def test_a_stream_folds_into_the_reply(tutor: Tutor) -> None:
    stream = tutor.stream("hello")
    next(stream)
    reply = stream.reply()
    assert reply.message == tutor.messages(stream.session_id)[-1]
    assert [warning.code for warning in reply.warnings] == ["demo_provider"]


class Slow:
    """Says one word, then waits until it is let go."""

    name = "slow"

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def stream(self, request: nt.CompletionRequest):  # type: ignore[no-untyped-def]
        import asyncio

        try:
            yield "word"
            await asyncio.Event().wait()
        finally:
            self.closed.set()


@pytest.mark.parametrize("way", ["break", "exception", "with", "close", "drop"])
def test_leaving_a_stream_cancels_its_turn_and_keeps_what_arrived(way: str) -> None:
    slow = Slow()
    with Tutor.open("memory:", providers=slow) as tutor:
        stream = tutor.stream("hi")
        turn, session = stream.turn_id, stream.session_id
        if way == "break":
            for event in stream:
                if event.type == "text.delta":
                    break
        elif way == "exception":
            with pytest.raises(KeyError):
                for event in stream:
                    if event.type == "text.delta":
                        raise KeyError
        else:
            while next(stream).type != "text.delta":
                pass
            if way == "with":
                with stream:
                    pass
            elif way == "close":
                stream.close()
                stream.close()
            else:
                del stream
        assert slow.closed.wait(10)
        # The end of the turn is its last event.
        assert list(tutor.events(turn))[-1].status == "cancelled"  # type: ignore[union-attr]
        assert tutor.messages(session)[-1].content == "word"
        assert tutor.messages(session)[-1].status == "partial"


def test_a_detached_turn_goes_on_without_its_stream() -> None:
    gate = threading.Event()

    class Gated:
        name = "gated"

        def stream(self, request: nt.CompletionRequest):  # type: ignore[no-untyped-def]
            yield "a"
            gate.wait(10)
            yield "b"

    with Tutor.open("memory:", providers=Gated()) as tutor:
        with tutor.stream("hi", detached=True) as stream:
            next(stream)
        gate.set()
        last = list(tutor.events(stream.turn_id))[-1]
        assert isinstance(last, nt.TurnFinished) and last.message.text == "ab"


def test_cancel_ends_the_turn_and_its_stream() -> None:
    with Tutor.open("memory:", providers=Slow()) as tutor:
        stream = tutor.stream("hi")
        while next(stream).type != "text.delta":
            pass
        assert stream.cancel().status == "cancelled"
        assert list(stream)[-1].type == "turn.finished"
        assert tutor.cancel(stream.turn_id).status == "cancelled"
        with pytest.raises(nt.NotFoundError):
            tutor.cancel("nobody")


def test_a_session_has_one_running_turn() -> None:
    with Tutor.open("memory:", providers=Slow()) as tutor, tutor.stream("hi") as stream:
        with pytest.raises(nt.ConflictError) as error:
            tutor.chat("again", session=stream.session_id)
        assert error.value.context["turn"] == stream.turn_id


def test_the_same_key_is_the_same_turn(tutor: Tutor) -> None:
    first = tutor.chat("hi", idempotency_key="k")
    assert tutor.chat("hi", idempotency_key="k") == first
    with pytest.raises(nt.ConflictError):
        tutor.chat("something else", idempotency_key="k")


def test_owners_see_nothing_of_each_other(tutor: Tutor) -> None:
    ada = tutor.for_owner("ada")
    session = ada.chat("hi").session_id
    assert (tutor.owner, ada.owner) == ("local", "ada")
    assert len(tutor.sessions()) == 0
    with pytest.raises(nt.NotFoundError):
        tutor.messages(session)
    with pytest.raises(nt.InvalidInputError):
        tutor.for_owner("a/b")


def test_preferences_and_time_limits_arrive() -> None:
    seen: list[nt.CompletionRequest] = []

    class Keeps:
        name = "keeps"
        default_model = "small"
        models = ["small", "large"]

        def stream(self, request: nt.CompletionRequest):  # type: ignore[no-untyped-def]
            seen.append(request)
            yield "ok"

    with Tutor.open("memory:", providers=Keeps(), system_prompt="Be kind.") as tutor:
        reply = tutor.chat("hi", model="large", temperature=0.5, max_tokens=7, preferences={"tone": "kind"}, timeout=30)
        assert [warning.code for warning in reply.warnings] == ["preference_unknown"]
        assert tutor.session(reply.session_id).preferences["tone"] == "kind"
        (info,) = tutor.providers()
        assert (info.name, info.default_model, info.models) == ("keeps", "small", ("small", "large"))
        assert [model.id for model in tutor.models("keeps")] == ["small", "large"]
        with pytest.raises(nt.InvalidInputError):
            tutor.chat("hi", model="huge")
    (request,) = seen
    assert (request.model, request.temperature, request.max_tokens) == ("large", 0.5, 7)
    assert request.system is not None and "Be kind." in request.system
    assert request.text == "hi" and request.owner == "local" and not request.streamed
    assert request.timeout is not None and 0 < request.timeout <= 30


def test_parts_are_messages_too(tutor: Tutor) -> None:
    parts = [nt.TextPart("What is this?"), {"type": "image", "url": "https://example.org/leaf.png"}]
    session = tutor.chat(parts).session_id
    content = tutor.messages(session)[0].content
    assert content == (nt.TextPart("What is this?"), nt.ImagePart("https://example.org/leaf.png"))


def test_many_threads_use_one_tutor(tutor: Tutor) -> None:
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(len(list(tutor.stream("x"))))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == 16 and len(set(counts)) == 1


def test_a_closed_tutor_says_so(tutor: Tutor) -> None:
    tutor.close()
    tutor.close()
    for use in (lambda: tutor.chat("hi"), lambda: tutor.stream("hi"), tutor.sessions):
        with pytest.raises(nt.StoreUnavailableError) as caught:
            use()
        assert not caught.value.retryable


def test_the_environment_configures_on_request_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("OPENAI_MODEL", "some-model")
    with Tutor.open("memory:") as tutor:
        assert [info.name for info in tutor.providers()] == ["demo"]
    with Tutor.from_env("memory:") as tutor:
        assert [(info.name, info.default_model) for info in tutor.providers()] == [("openai", "some-model")]
    monkeypatch.chdir(tmp_path)
    with Tutor.from_env(environ={"DEMO_DELAY_MS": "0", "DATABASE_URL": "sled:here"}) as tutor:
        tutor.chat("hi")
    assert (tmp_path / "here").is_dir()


def test_built_in_providers_take_options() -> None:
    options = {"api_key": "k", "base_url": "http://127.0.0.1:9/v1", "model": "m", "first_timeout": 2}
    providers = {"local": {"kind": "openai", **options}, "demo": {"delay": 0}, "claude": {"kind": "anthropic", "api_key": "k"}}
    with Tutor.open("memory:", providers=providers, default_provider="demo") as tutor:
        assert [info.name for info in tutor.providers()] == ["demo", "local", "claude"]
        assert "demo" in tutor.chat("hi").text
        assert tutor.chat("hi", model="demo/demo").text
    with Tutor.open("memory:", providers=["demo", {"kind": "openai", "name": "other", "api_key": "k"}]) as tutor:
        assert [info.name for info in tutor.providers()] == ["demo", "other"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"providers": "nobody"}, "openai"),
        ({"providers": {"openai": {"api_kye": "x"}}}, "api_key"),
        ({"providers": object()}, "provider"),
        ({"providers": [{"name": 5}]}, "kind"),
        ({"default_provider": "nobody"}, "demo"),
        ({"limits": {"max_turns": 1}}, "max_live_turns"),
        ({"location": "redis:somewhere"}, "sled:DIRECTORY"),
    ],
)
def test_wrong_settings_say_what_to_write(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(nt.ConfigError, match=words):
        Tutor.open(**{"location": "memory:", **arguments})  # type: ignore[arg-type]


def test_messages_are_edited_and_replies_regenerated_on_branches_beside_them(tutor: Tutor) -> None:
    first = tutor.chat("What is a leaf?")
    question = tutor.messages(first.session_id)[0]
    other = tutor.chat(session=first.session_id, regenerate=first.message.id)
    assert other.message.parent_id == question.id and other.message.id != first.message.id
    edited = tutor.chat("What is a root?", session=first.session_id, edit=question.id)
    assert "root" in edited.text
    messages = tutor.messages(first.session_id)
    assert [message.text for message in messages] == ["What is a root?", edited.text]
    assert tutor.session(first.session_id).message_count == 5
    assert list(tutor.stream(session=first.session_id, regenerate=edited.message.id))[-1].type == "turn.finished"


def test_a_directory_has_one_owner(tmp_path: Path) -> None:
    with Tutor.open(tmp_path):
        with pytest.raises(nt.StoreLockedError):
            Tutor.open(tmp_path)
    Tutor.open(tmp_path).close()


@pytest.mark.parametrize(
    "call",
    [
        lambda tutor: tutor.chat("   "),
        lambda tutor: tutor.chat(),
        lambda tutor: tutor.chat(5),
        lambda tutor: tutor.chat("hi", session=tutor.chat("x").session_id, edit="nobody"),
        lambda tutor: tutor.chat("\ud800"),
        lambda tutor: tutor.chat("hi", temperature=3),
        lambda tutor: tutor.chat("hi", temperature=float("nan")),
        lambda tutor: tutor.chat("hi", max_tokens=0),
        lambda tutor: tutor.chat("hi", timeout=-1),
        lambda tutor: tutor.chat("hi", session="a/b"),
        lambda tutor: tutor.chat([{"type": "nonsense"}]),
        lambda tutor: tutor.chat("hi", preferences={"x": object()}),
        lambda tutor: tutor.chat("hi", preferences=5),
        lambda tutor: tutor.sessions(limit=0),
        lambda tutor: tutor.sessions(cursor="nonsense"),
        lambda tutor: tutor.create_session(title=""),
        lambda tutor: tutor.create_session(metadata={"x": {1, 2}}),
        lambda tutor: tutor.messages(tutor.chat("x").session_id, before="a", after="b"),
    ],
)
def test_bad_input_is_refused_and_leaves_the_tutor_usable(tutor: Tutor, call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(nt.InvalidInputError) as error:
        call(tutor)
    assert isinstance(error.value, ValueError) and not error.value.retryable
    assert tutor.chat("hi").text


def test_a_stream_that_was_closed_or_failed_says_which_turn(tutor: Tutor) -> None:
    stream = tutor.stream("hi")
    stream.close()
    with pytest.raises(nt.InterruptedReplyError) as closed:
        stream.reply()
    assert closed.value.context == {"turn": stream.turn_id, "session": stream.session_id}

    class Fails:
        name = "fails"

        def stream(self, request: nt.CompletionRequest) -> Iterator[str]:
            yield "a"
            raise nt.RateLimitedError("slow")

    with Tutor.open("memory:", providers=Fails()) as other:
        failed = other.stream("hi")
        with pytest.raises(nt.RateLimitedError) as caught:
            failed.reply()
        assert caught.value.context["turn"] == failed.turn_id
        assert caught.value.context["session"] == failed.session_id
