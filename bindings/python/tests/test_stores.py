"""Stores that are written in Python."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import threading
from pathlib import Path
from typing import Any

import pytest

import neuro_tutor as nt
from neuro_tutor import AsyncTutor, Tutor
from neuro_tutor.testing import check_provider, check_store, provider_laws, store_laws

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "python" / "own_store.py"
FAST = {"demo": {"delay": 0}}


def example() -> Any:
    spec = importlib.util.spec_from_file_location("own_store", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OwnStore = example().OwnStore


class Asynchronous:
    """The example's store with asynchronous methods."""

    name = "asynchronous"

    def __init__(self, path: str) -> None:
        self.inner = OwnStore(path)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        if not callable(method):
            return method

        async def call(*arguments: Any) -> Any:
            await asyncio.sleep(0)
            return method(*arguments)

        return call


@pytest.mark.parametrize("law", store_laws())
def test_the_example_keeps_every_law(law: str, tmp_path: Path) -> None:
    check_store(lambda: OwnStore(str(tmp_path / "own.db")), [law])


def test_asynchronous_methods_keep_the_laws_of_turns_too(tmp_path: Path) -> None:
    count = iter(range(1000))
    laws = [law for law in store_laws() if "begin" in law or "concurrent" in law or "commit" in law]
    assert len(laws) > 8
    check_store(lambda: Asynchronous(str(tmp_path / f"{next(count)}.db")), laws)


def test_a_store_that_breaks_a_law_is_told_which_and_how(tmp_path: Path) -> None:
    class Forgets(OwnStore):  # type: ignore[misc]
        def finish_turn(self, key: Any, end: Any) -> Any:
            return {**super().turn(key), **end["changes"]}

    count = iter(range(1000))
    with pytest.raises(AssertionError, match=r"1 of 2 laws are broken:\n  a_turn_ends_once: "):
        check_store(lambda: Forgets(str(tmp_path / f"{next(count)}.db")), ["a_turn_ends_once", "closing_twice_is_fine"])


def test_a_tutor_keeps_its_conversations_in_a_store_of_ones_own(tmp_path: Path) -> None:
    path = str(tmp_path / "own.db")
    with Tutor.open(OwnStore(path), providers=FAST) as tutor:
        reply = tutor.chat("What is photosynthesis?", idempotency_key="k")
        events = list(tutor.events(reply.turn_id))
        tutor.export(tmp_path / "all.jsonl")
    with Tutor.open(OwnStore(path), providers=FAST) as tutor:
        assert list(tutor.events(reply.turn_id)) == events
        assert tutor.chat("What is photosynthesis?", idempotency_key="k").turn_id == reply.turn_id
        tutor.chat("And?", session=reply.session_id)
        assert len(tutor.messages(reply.session_id)) == 4
        assert tutor.erase().sessions == 1
        assert tutor.import_(tmp_path / "all.jsonl").added == 1
        assert len(tutor.messages(reply.session_id)) == 2


async def test_async_stores_serve_both_faces(tmp_path: Path) -> None:
    async with AsyncTutor.open(Asynchronous(str(tmp_path / "own.db")), providers=FAST) as tutor:
        reply = await tutor.chat("hi")
        blocking = tutor.to_sync()
        assert len(await asyncio.to_thread(blocking.messages, reply.session_id)) == 2


def test_ordinary_methods_are_called_one_at_a_time_on_one_thread(tmp_path: Path) -> None:
    threads: set[int] = set()
    inside = 0

    class Watched(OwnStore):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name not in ("begin_turn", "finish_turn", "sessions"):
                return value

            def call(*arguments: Any) -> Any:
                nonlocal inside
                inside += 1
                assert inside == 1
                threads.add(threading.get_ident())
                try:
                    return value(*arguments)
                finally:
                    inside -= 1

            return call

    with Tutor.open(Watched(str(tmp_path / "own.db")), providers=FAST) as tutor:
        workers = [threading.Thread(target=tutor.chat, args=(str(n),)) for n in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(tutor.sessions()) == 8
    assert len(threads) == 1


def test_what_a_store_raises_reaches_the_caller(tmp_path: Path) -> None:
    class Fails(OwnStore):  # type: ignore[misc]
        broken = False

        def session(self, key: Any) -> Any:
            if self.broken:
                raise OSError("canary")
            return super().session(key)

        def owners(self, after: Any, limit: int) -> Any:
            return "canary"

    store = Fails(str(tmp_path / "own.db"))
    with Tutor.open(store, providers=FAST) as tutor:
        session = tutor.create_session()
        store.broken = True
        with pytest.raises(nt.StoreUnavailableError) as caught:
            tutor.session(session.id)
        assert isinstance(caught.value.__cause__, OSError) and "canary" not in str(caught.value)
        with pytest.raises(nt.DataCorruptError) as garbage:
            tutor.export(tmp_path / "x", everyone=True)
        assert garbage.value.context["method"] == "owners" and "canary" not in str(garbage.value)
        store.broken = False


@pytest.mark.parametrize("change", [{"durability": "for ever"}, {"exclusive": "yes"}, {"commit": None}, {"turn": None}])
def test_a_store_that_is_none_is_refused_by_name(change: dict[str, Any], tmp_path: Path) -> None:
    store = OwnStore(str(tmp_path / "own.db"))
    for name, value in change.items():
        setattr(store, name, value)
    with pytest.raises(nt.ConfigError, match="|".join(change)):
        Tutor.open(store)


def test_what_is_no_location_is_refused() -> None:
    with pytest.raises(nt.ConfigError, match="location"):
        Tutor.open(5)  # type: ignore[arg-type]


class Echo:
    name = "echo"

    async def stream(self, request: nt.CompletionRequest) -> Any:
        yield "You said: "
        yield request.text


class Blocks:
    name = "blocks"

    def stream(self, request: nt.CompletionRequest) -> Any:
        for word in request.text.split(" "):
            yield word


class Raises:
    name = "raises"

    def stream(self, request: nt.CompletionRequest) -> Any:
        yield "a"
        raise ValueError(request.text)


@pytest.mark.parametrize("provider", [Echo, Blocks, Raises])
def test_providers_keep_their_laws_also_when_they_fail(provider: Any) -> None:
    assert len(provider_laws()) > 8
    check_provider(provider)


def test_a_store_that_is_empty_is_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counts(OwnStore):  # type: ignore[misc]
        def __len__(self) -> int:
            return 0

    monkeypatch.chdir(tmp_path)
    with Tutor.from_env(Counts(str(tmp_path / "own.db")), environ={"DEMO_DELAY_MS": "0"}) as tutor:
        tutor.chat("hi")
        assert tutor.status().store != "sled"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


async def test_files_and_histories_do_not_block_the_loop_that_they_wait_for(tmp_path: Path) -> None:
    from neuro_tutor.adapters.langchain import TutorChatMessageHistory

    refused: list[str] = []

    class Blocks:
        name = "blocks"

        async def stream(self, request: nt.CompletionRequest) -> Any:
            history = TutorChatMessageHistory("s", tutor)
            for use in (tutor.files.list, lambda: tutor.files.upload(b"x", "x.txt"), lambda: history.messages, history.clear):
                try:
                    use()
                except RuntimeError as error:
                    refused.append(str(error))
            yield "ok"

    with Tutor.open(Asynchronous(str(tmp_path / "own.db")), providers=Blocks()) as tutor:
        assert (await asyncio.to_thread(tutor.chat, "hi")).text == "ok"
    assert len(refused) == 4 and all("AsyncTutor" in told for told in refused)


def threads_of_stores() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "neuro-tutor-store"]


@pytest.mark.parametrize("closes", [True, False])
def test_the_thread_of_a_store_ends_with_it(closes: bool, tmp_path: Path) -> None:
    store = OwnStore(str(tmp_path / "own.db"))
    if not closes:
        store.close = None
    gc.collect()
    before = set(threads_of_stores())
    with Tutor.open(store, providers=FAST) as tutor:
        tutor.chat("hi")
        (thread,) = set(threads_of_stores()) - before
    if not closes:
        del tutor
        gc.collect()
        # What the engine holds of Python's is let go of when Python is next called.
        Tutor.open("memory:").close()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), nt.StoreUnavailableError(OSError("down"))])  # type: ignore[arg-type]
@pytest.mark.parametrize("is_async", [False, True])
def test_whatever_a_store_raises_ends_the_call_and_nothing_else(error: BaseException, is_async: bool, tmp_path: Path) -> None:
    class Fails(OwnStore):  # type: ignore[misc]
        def session(self, key: Any) -> Any:
            if key["id"] == "bad":
                raise error
            return super().session(key)

    store = Fails(str(tmp_path / "own.db"))
    if is_async:
        around: Any = Asynchronous(str(tmp_path / "unused.db"))
        around.inner = store
    with Tutor.open(around if is_async else store, providers=FAST) as tutor:
        session = tutor.create_session()
        with pytest.raises(nt.StoreUnavailableError) as caught:
            tutor.session("bad")
        assert caught.value.__cause__ is error
        assert tutor.session(session.id) == session
