"""The tutoring engine that people embed: conversations with learners, durable and streamed from any LLM.

`Tutor` is for ordinary programs, `AsyncTutor` for asyncio; names and arguments are the same.

```python
from neuro_tutor import Tutor

with Tutor.open("data") as tutor:
    for event in tutor.stream("What is photosynthesis?"):
        if event.type == "text.delta":
            print(event.text, end="", flush=True)
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

from . import _process
from ._native import VERSION as __version__

if TYPE_CHECKING:
    from ._async_tutor import AsyncTutor
    from ._events import (
        AttemptRestarted,
        Data,
        Notice,
        ReasoningDelta,
        TextDelta,
        ToolCall,
        ToolResult,
        TurnEvent,
        TurnFailed,
        TurnFinished,
        TurnStarted,
        UsageReported,
        event_from_dict,
    )
    from ._files import AsyncFiles, FileInfo, Files
    from ._messages import (
        ErrorInfo,
        Feedback,
        FilePart,
        ImagePart,
        Message,
        Part,
        ReplayPart,
        Session,
        Summary,
        TextPart,
        ToolCallPart,
        ToolResultPart,
        Turn,
        Usage,
    )
    from ._provider import (
        CompletionRequest,
        Context,
        Delta,
        Finished,
        ModelInfo,
        PromptMessage,
        Provider,
        ProviderInfo,
        ProviderOptions,
    )
    from ._record import Page
    from ._reply import Reply, TypedReply
    from ._server import AsyncServer, Server
    from ._stores import Store
    from ._stream import AsyncTurnStream, TurnStream
    from ._tools import Tool, ToolContext, tool
    from ._transfer import Counts, Erased, Imported
    from ._tutor import Tutor
    from ._usage import DayUsage, Quota, Status
    from .errors import (
        ConfigError,
        ConflictError,
        ContextTooLongError,
        DataCorruptError,
        ForbiddenError,
        InternalError,
        InterruptedReplyError,
        InvalidInputError,
        NotFoundError,
        OverloadedError,
        ProviderAuthError,
        ProviderQuotaError,
        ProviderRejectedError,
        ProviderUnavailableError,
        RateLimitedError,
        StoreLockedError,
        StoreUnavailableError,
        TooLargeError,
        TutorError,
        TutorTimeoutError,
        UnauthorizedError,
    )

# What is imported when it is first asked for: a program that uses a part pays for that part.
_PLACES = {
    "_async_tutor": "AsyncTutor",
    "_events": "AttemptRestarted Data Notice ReasoningDelta TextDelta ToolCall ToolResult TurnEvent TurnFailed TurnFinished TurnStarted UsageReported event_from_dict",
    "_files": "AsyncFiles FileInfo Files",
    "_messages": "ErrorInfo Feedback FilePart ImagePart Message Part ReplayPart Session Summary TextPart ToolCallPart ToolResultPart Turn Usage",
    "_provider": "CompletionRequest Context Delta Finished ModelInfo PromptMessage Provider ProviderInfo ProviderOptions",
    "_record": "Page",
    "_reply": "Reply TypedReply",
    "_server": "AsyncServer Server",
    "_stores": "Store",
    "_stream": "AsyncTurnStream TurnStream",
    "_tools": "Tool ToolContext tool",
    "_transfer": "Counts Erased Imported",
    "_tutor": "Tutor",
    "_usage": "DayUsage Quota Status",
    "errors": "ConfigError ConflictError ContextTooLongError DataCorruptError ForbiddenError InternalError InterruptedReplyError InvalidInputError NotFoundError OverloadedError ProviderAuthError ProviderQuotaError ProviderRejectedError ProviderUnavailableError RateLimitedError StoreLockedError StoreUnavailableError TooLargeError TutorError TutorTimeoutError UnauthorizedError",
}


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names.split(" "):
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "AsyncFiles",
    "AsyncServer",
    "AsyncTurnStream",
    "AsyncTutor",
    "AttemptRestarted",
    "CompletionRequest",
    "ConfigError",
    "ConflictError",
    "Context",
    "ContextTooLongError",
    "Counts",
    "Data",
    "DataCorruptError",
    "DayUsage",
    "Delta",
    "Erased",
    "ErrorInfo",
    "Feedback",
    "FileInfo",
    "FilePart",
    "Files",
    "Finished",
    "ForbiddenError",
    "ImagePart",
    "Imported",
    "InternalError",
    "InterruptedReplyError",
    "InvalidInputError",
    "Message",
    "ModelInfo",
    "NotFoundError",
    "Notice",
    "OverloadedError",
    "Page",
    "Part",
    "PromptMessage",
    "Provider",
    "ProviderAuthError",
    "ProviderInfo",
    "ProviderOptions",
    "ProviderQuotaError",
    "ProviderRejectedError",
    "ProviderUnavailableError",
    "Quota",
    "RateLimitedError",
    "ReasoningDelta",
    "ReplayPart",
    "Reply",
    "Server",
    "Session",
    "Status",
    "Store",
    "StoreLockedError",
    "StoreUnavailableError",
    "Summary",
    "TextDelta",
    "TextPart",
    "TooLargeError",
    "Tool",
    "ToolCall",
    "ToolCallPart",
    "ToolContext",
    "ToolResult",
    "ToolResultPart",
    "Turn",
    "TurnEvent",
    "TurnFailed",
    "TurnFinished",
    "TurnStarted",
    "TurnStream",
    "Tutor",
    "TutorError",
    "TutorTimeoutError",
    "TypedReply",
    "UnauthorizedError",
    "Usage",
    "UsageReported",
    "__version__",
    "event_from_dict",
    "tool",
]
