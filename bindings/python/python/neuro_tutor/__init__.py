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

from . import _glue, _loop
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
from ._messages import (
    ErrorInfo,
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
from ._native import VERSION as __version__
from ._provider import (
    CompletionRequest,
    Delta,
    Finished,
    ModelInfo,
    PromptMessage,
    Provider,
    ProviderInfo,
    ProviderOptions,
)
from ._record import Page
from ._reply import Reply
from ._server import AsyncServer, Server
from ._stream import AsyncTurnStream, TurnStream
from ._transfer import Counts, Imported
from ._tutor import Tutor
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

__all__ = [
    "AsyncServer",
    "AsyncTurnStream",
    "AsyncTutor",
    "AttemptRestarted",
    "CompletionRequest",
    "ConfigError",
    "ConflictError",
    "ContextTooLongError",
    "Counts",
    "Data",
    "DataCorruptError",
    "Delta",
    "ErrorInfo",
    "FilePart",
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
    "RateLimitedError",
    "ReasoningDelta",
    "ReplayPart",
    "Reply",
    "Server",
    "Session",
    "StoreLockedError",
    "StoreUnavailableError",
    "Summary",
    "TextDelta",
    "TextPart",
    "TooLargeError",
    "ToolCall",
    "ToolCallPart",
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
    "UnauthorizedError",
    "Usage",
    "UsageReported",
    "__version__",
    "event_from_dict",
]
