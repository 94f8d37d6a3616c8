"""What a failure of another library's model is to the caller."""

from __future__ import annotations

from typing import Optional, Type

from ..errors import (
    ProviderAuthError,
    ProviderQuotaError,
    ProviderRejectedError,
    ProviderUnavailableError,
    RateLimitedError,
    TooLargeError,
    TutorError,
    TutorTimeoutError,
    as_translation,
)

_BY_STATUS = {
    401: ProviderAuthError,
    402: ProviderQuotaError,
    403: ProviderAuthError,
    408: TutorTimeoutError,
    413: TooLargeError,
    429: RateLimitedError,
    504: TutorTimeoutError,
}


def failure(status: Optional[int]) -> TutorError:
    """The error of an HTTP status. The library's own error, from which it is raised, becomes the `__cause__`
    of what the caller sees.

    What that one says is not repeated: it may have the words of the learner, or a key.
    """
    if status is None:
        return as_translation(ProviderUnavailableError("the model failed", retryable=True))
    kind: Type[TutorError] = _BY_STATUS.get(
        status, ProviderRejectedError if 400 <= status < 500 else ProviderUnavailableError
    )
    retryable = kind in (RateLimitedError, TutorTimeoutError, ProviderUnavailableError)
    message = f"the model refused the request with status {status}"
    return as_translation(kind(message, retryable=retryable, context={"status": str(status)}))


def cut_off() -> TutorError:
    """The reply ended without saying that it is complete."""
    return ProviderUnavailableError("the reply was cut off", retryable=True)
