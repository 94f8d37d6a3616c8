"""What can go wrong. Every exception has a stable `code`, the same in Rust, HTTP, Python and Node."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Callable, ClassVar, Dict, Mapping, NamedTuple, Optional, Tuple, Type

from . import _native


class TutorError(Exception):
    """Base class of everything that the engine raises.

    A provider of yours may raise these classes too, to say what happened: the caller then gets the
    same class, with `retryable` and `retry_after` as you set them.
    """

    code: ClassVar[str] = "internal"
    """A stable snake-case name. Compare it, or catch the class; messages may change."""

    message: str
    """A sentence for people, without the facts."""
    retryable: bool
    """True if the same request may succeed later."""
    retry_after: Optional[float]
    """Seconds to wait before trying again; None when nobody said."""
    context: Dict[str, str]
    """Facts: ids, a status, the field that is wrong. Never what a learner or a model wrote."""

    def __init__(
        self,
        message: str = "",
        *,
        retryable: bool = False,
        retry_after: Optional[float] = None,
        context: Optional[Mapping[str, str]] = None,
    ) -> None:
        super().__init__(message)
        # Whoever raises one may give another exception for the text.
        self.message = message if isinstance(message, str) else _text(message)
        self.retry_after = _seconds(retry_after)
        self.retryable = bool(retryable) or self.retry_after is not None
        self.context = dict(context or {})

    @property
    def request_id(self) -> Optional[str]:
        """The provider's own name for the request, which finds it in their logs; None if nobody said."""
        return self.context.get("request_id")

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self.context.items())
        return f"{self.message} ({facts})" if facts else self.message

    def __reduce__(self) -> Tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(cls: Type[TutorError], args: Tuple[Any, ...], attributes: Dict[str, Any]) -> TutorError:
    error = cls(*args)
    error.__dict__.update(attributes)
    return error


class InvalidInputError(TutorError, ValueError):
    """The request is wrong: change it. `context["field"]` names the member."""

    code = "invalid_input"


class NotFoundError(TutorError, LookupError):
    """The named session, message or turn does not exist, or belongs to somebody else."""

    code = "not_found"


class ConflictError(TutorError):
    """The request contradicts what is stored: read again, then decide."""

    code = "conflict"


class TooLargeError(TutorError):
    """A size limit was exceeded."""

    code = "too_large"


class ContextTooLongError(TutorError):
    """The conversation does not fit the model's context window: shorten it."""

    code = "context_too_long"


class UnauthorizedError(TutorError):
    """Credentials are missing or wrong. Raised by the server only."""

    code = "unauthorized"


class ForbiddenError(TutorError):
    """The caller may not do this. Raised by the server only."""

    code = "forbidden"


class RateLimitedError(TutorError):
    """Too many requests: wait `retry_after` seconds."""

    code = "rate_limited"


class OverloadedError(TutorError):
    """This engine has as many turns running as it may: come back in a moment."""

    code = "overloaded"


class ProviderAuthError(TutorError):
    """The provider refused the key."""

    code = "provider_auth"


class ProviderQuotaError(TutorError):
    """The provider's account has no credit left."""

    code = "provider_quota"


class ProviderRejectedError(TutorError):
    """The provider refused the request itself."""

    code = "provider_rejected"


class ProviderUnavailableError(TutorError):
    """The provider cannot be reached, is overloaded, or failed. `__cause__` is the exception of a
    provider that is written in Python."""

    code = "provider_unavailable"


class TutorTimeoutError(TutorError, TimeoutError):
    """A time limit was exceeded."""

    code = "timeout"


class InterruptedReplyError(TutorError):
    """The reply was cut off; what arrived is kept. Ask again."""

    code = "interrupted"


class StoreLockedError(TutorError):
    """Another process owns the store."""

    code = "store_locked"


class StoreUnavailableError(TutorError):
    """The store cannot be read or written, or the tutor is closed."""

    code = "store_unavailable"


class DataCorruptError(TutorError):
    """The store holds something that cannot be understood: stop, and restore a backup."""

    code = "data_corrupt"


class ConfigError(TutorError):
    """The configuration is wrong. Raised when a tutor is opened."""

    code = "config"


class InternalError(TutorError):
    """A bug in the engine: report it."""

    code = "internal"


CLASSES: Dict[str, Type[TutorError]] = {
    cls.code: cls
    for cls in (
        InvalidInputError,
        NotFoundError,
        ConflictError,
        TooLargeError,
        ContextTooLongError,
        UnauthorizedError,
        ForbiddenError,
        RateLimitedError,
        OverloadedError,
        ProviderAuthError,
        ProviderQuotaError,
        ProviderRejectedError,
        ProviderUnavailableError,
        TutorTimeoutError,
        InterruptedReplyError,
        StoreLockedError,
        StoreUnavailableError,
        DataCorruptError,
        ConfigError,
        InternalError,
    )
}
"""The class of each code."""


def from_failure(failure: _native.Failure) -> TutorError:
    """The exception for an error of the engine."""
    error = CLASSES.get(failure.code, TutorError)(
        failure.message,
        retryable=failure.retryable,
        retry_after=failure.retry_after,
        context=dict(failure.context),
    )
    error.__cause__ = failure.cause
    return error


def as_translation(error: TutorError) -> TutorError:
    """Marks an error that is raised from another library's, in its place: callers get that one as `__cause__`."""
    error.__dict__["_is_translation"] = True
    return error


def origin(error: BaseException) -> BaseException:
    """What callers get as `__cause__` of an exception that a plug-in raised: that very exception, unless it stands for
    another one."""
    is_translation = error.__dict__.get("_is_translation", False)
    return error.__cause__ if is_translation and error.__cause__ is not None else error


class Described(NamedTuple):
    """What an exception of a plug-in is to the engine."""

    code: str
    message: str
    retryable: bool
    retry_after: Optional[float]
    context: Dict[str, str]


def _text(value: Any) -> str:
    """A text of valid Unicode of whatever was given for one."""
    return ("" if value is None else str(value)).encode("utf-8", "replace").decode()


def _seconds(value: Any) -> Optional[float]:
    """The seconds of whatever was given for them; None if it is no number of them."""
    try:
        return None if value is None else float(value.total_seconds() if isinstance(value, timedelta) else value)
    except (TypeError, ValueError, OverflowError):
        return None


def _described(error: BaseException, of_other: Callable[[BaseException], Described]) -> Described:
    """What the engine is told of an exception, which is plain values whatever the exception has: the call
    that failed would never end if this raised."""
    try:
        if not isinstance(error, TutorError):
            told = of_other(error)
            return told._replace(message=_text(told.message))
        context = {_text(name): _text(value) for name, value in dict(error.context).items()}
        wait = _seconds(error.retry_after)
        return Described(_text(error.code), _text(error.message), bool(error.retryable), wait, context)
    except BaseException:
        return Described("internal", "an exception was raised that cannot be described", False, None, {"reason": "exception"})


def _provider_error(error: BaseException) -> Described:
    message = f"the provider raised {type(error).__name__}"
    retryable = getattr(error, "retryable", False) is True
    return Described("provider_unavailable", message, retryable, None, {"reason": "exception"})


def _store_error(error: BaseException) -> Described:
    message = f"the store raised {type(error).__name__}"
    return Described("store_unavailable", message, False, None, {"reason": "exception"})


def _tool_error(error: BaseException) -> Described:
    text = str(error)
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return Described("invalid_input", message, False, None, {})


def describe(error: BaseException) -> Described:
    """Ours say themselves what they are. Of others only the class is told, because their text may be
    anybody's words; the exception itself becomes `__cause__`."""
    return _described(error, _provider_error)


def describe_store_error(error: BaseException) -> Described:
    """What an exception of a store is to the engine: as for providers."""
    return _described(error, _store_error)


def describe_tool_error(error: BaseException) -> Described:
    """What the model is told of an exception of a tool, so that it can do better."""
    return _described(error, _tool_error)
