"""Every kind of error has its exception."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

import neuro_tutor as nt
from neuro_tutor import Tutor, _native, errors

TABLE = {
    "invalid_input": (nt.InvalidInputError, ValueError),
    "not_found": (nt.NotFoundError, LookupError),
    "conflict": (nt.ConflictError, Exception),
    "too_large": (nt.TooLargeError, Exception),
    "context_too_long": (nt.ContextTooLongError, Exception),
    "unauthorized": (nt.UnauthorizedError, Exception),
    "forbidden": (nt.ForbiddenError, Exception),
    "rate_limited": (nt.RateLimitedError, Exception),
    "overloaded": (nt.OverloadedError, Exception),
    "provider_auth": (nt.ProviderAuthError, Exception),
    "provider_quota": (nt.ProviderQuotaError, Exception),
    "provider_rejected": (nt.ProviderRejectedError, Exception),
    "provider_unavailable": (nt.ProviderUnavailableError, Exception),
    "timeout": (nt.TutorTimeoutError, TimeoutError),
    "interrupted": (nt.InterruptedReplyError, Exception),
    "store_locked": (nt.StoreLockedError, Exception),
    "store_unavailable": (nt.StoreUnavailableError, Exception),
    "data_corrupt": (nt.DataCorruptError, Exception),
    "config": (nt.ConfigError, Exception),
    "internal": (nt.InternalError, Exception),
}


def test_the_table_has_every_kind_of_the_engine() -> None:
    assert list(TABLE) == _native.error_codes()
    assert set(errors.CLASSES) == set(TABLE)


@pytest.mark.parametrize("code", list(TABLE))
def test_every_kind_goes_through_the_engine_and_comes_back(code: str) -> None:
    cls, base = TABLE[code]
    raised = cls("a sentence", retryable=True, retry_after=1.5)

    class Fails:
        name = "fails"

        def stream(self, request: nt.CompletionRequest) -> Iterator[str]:
            raise raised
            yield ""

    with Tutor.open("memory:", providers=Fails()) as tutor:
        with pytest.raises(cls) as caught:
            tutor.chat("hi")
        error = caught.value
        assert type(error) is cls and isinstance(error, base) and isinstance(error, nt.TutorError)
        assert (error.code, error.message, error.retryable, error.retry_after) == (code, "a sentence", True, 1.5)
        assert set(error.context) == {"turn", "session"}
        assert error.__cause__ is raised
        info = tutor.turn(error.context["turn"]).error
        assert info is not None and type(info.exception()) is cls and info.retry_after_ms == 1500


def test_the_provider_s_request_id_is_at_hand() -> None:
    assert nt.ProviderRejectedError("no", context={"request_id": "req-7"}).request_id == "req-7"
    assert nt.TutorError("x").request_id is None


def test_what_a_provider_calls_its_request_reaches_the_caller() -> None:
    class Refuses:
        name = "refuses"

        def stream(self, request: nt.CompletionRequest) -> Iterator[str]:
            context = {"request_id": request.text, "status": "418", "field": "x"}
            raise nt.ProviderRejectedError("no", context=context)
            yield ""

    with Tutor.open("memory:", providers=Refuses()) as tutor:
        with pytest.raises(nt.ProviderRejectedError) as caught:
            tutor.chat("req-1")
        assert caught.value.request_id == "req-1"
        assert (caught.value.context["status"], caught.value.context["field"]) == ("418", "x")
        with pytest.raises(nt.ProviderRejectedError) as caught:
            tutor.chat("the learner's words")
        assert caught.value.request_id is None


@pytest.mark.parametrize("cls", [cls for cls, _ in TABLE.values()])
def test_errors_are_pickled_and_copied(cls: Any) -> None:
    error = cls("a sentence", retry_after=2.0, context={"turn": "t1"})
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is cls and str(other) == str(error) == "a sentence (turn=t1)"
        assert other.__dict__ == error.__dict__


class Nameless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


UNUSUAL: dict[str, tuple[Any, str, bool, Any]] = {
    "a text as seconds": (lambda: nt.RateLimitedError("slow", retry_after="2"), "slow", True, 2.0),  # type: ignore[arg-type]
    "a timedelta as seconds": (lambda: nt.RateLimitedError("slow", retry_after=timedelta(seconds=2)), "slow", True, 2.0),  # type: ignore[arg-type]
    "a word as seconds": (lambda: nt.RateLimitedError("slow", retry_after="soon"), "slow", False, None),  # type: ignore[arg-type]
    "an exception as the text": (lambda: nt.ProviderUnavailableError(OSError("down")), "down", False, None),  # type: ignore[arg-type]
    "no text": (lambda: nt.StoreUnavailableError(None), "", False, None),  # type: ignore[arg-type]
    "a number as a flag": (lambda: nt.ProviderUnavailableError("x", retryable=1), "x", True, None),  # type: ignore[arg-type]
    "half a character": (lambda: nt.ProviderRejectedError("x\ud800"), "x?", False, None),
    "half a character as a fact": (lambda: nt.ProviderRejectedError("x", context={"reason": "\ud800"}), "x", False, None),
}


@pytest.mark.parametrize("name", list(UNUSUAL))
@pytest.mark.parametrize("is_async", [False, True])
def test_whatever_an_error_of_ours_has_it_ends_the_call(name: str, is_async: bool) -> None:
    make, message, retryable, wait = UNUSUAL[name]
    raised = make()

    class Fails:
        name = "fails"

        async def stream(self, request: nt.CompletionRequest) -> Any:
            yield "a"
            raise raised

    class Blocks:
        name = "blocks"

        def stream(self, request: nt.CompletionRequest) -> Iterator[str]:
            yield "a"
            raise raised

    with Tutor.open("memory:", providers=Fails() if is_async else Blocks()) as tutor:
        with pytest.raises(type(raised)) as caught:
            tutor.chat("hi")
    error = caught.value
    assert (error.message, error.retryable, error.retry_after) == (message, retryable, wait)
    assert error.__cause__ is raised


@pytest.mark.parametrize("raised", [ValueError("\ud800"), Nameless(), nt.InvalidInputError(Nameless)])  # type: ignore[arg-type]
def test_a_tool_may_raise_what_has_no_text(raised: Exception) -> None:
    def fails() -> None:
        raise raised

    class Calls:
        name = "calls"

        def stream(self, request: nt.CompletionRequest) -> Iterator[Any]:
            if len(request.messages) > 1:
                yield "told"
            else:
                yield nt.ToolCall("c", "fails", {})
                yield nt.Finished("tool_calls")

    with Tutor.open("memory:", providers=Calls(), tools=[fails]) as tutor:
        assert tutor.chat("hi").text == "told"
