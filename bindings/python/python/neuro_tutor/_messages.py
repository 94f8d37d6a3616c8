"""Sessions, messages and turns: the nouns, as they are stored."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Dict, List, Literal, Optional, Tuple, Type, Union

from . import errors
from ._record import Record, field, read_time, record

Role = Literal["system", "user", "assistant"]
MessageStatus = Literal["complete", "partial", "imported"]
Author = Literal["learner", "tutor", "teacher"]
Audience = Literal["learner", "teacher", "model"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "cancelled", "other"]
Rating = Literal["up", "down"]
TurnStatus = Literal["running", "completed", "cancelled", "failed", "interrupted"]


@record(frozen=True)
class TextPart(Record):
    """A piece of a message: text."""

    type: ClassVar[Literal["text"]] = "text"
    text: str


@record(frozen=True)
class ImagePart(Record):
    """A piece of a message: an image that the model can look at."""

    type: ClassVar[Literal["image"]] = "image"
    _left_out = {"media_type": None}
    url: str
    """An `https:` or `data:` URL."""
    media_type: Optional[str] = None
    """Such as `image/png`; None if the URL tells."""


@record(frozen=True)
class FilePart(Record):
    """A piece of a message: a reference to an uploaded file."""

    type: ClassVar[Literal["file"]] = "file"
    _left_out = {"name": None, "media_type": None}
    file_id: str
    name: Optional[str] = None
    media_type: Optional[str] = None


@record(frozen=True)
class ToolCallPart(Record):
    """A piece of a message: a tool that the model asked for."""

    type: ClassVar[Literal["tool_call"]] = "tool_call"
    call_id: str
    name: str
    arguments: Any
    """An object, or the text as the model wrote it if it is none."""


@record(frozen=True)
class ToolResultPart(Record):
    """A piece of a message: what a tool answered."""

    type: ClassVar[Literal["tool_result"]] = "tool_result"
    _left_out = {"is_error": False}
    call_id: str
    result: Any
    """A text, or any other JSON."""
    name: str = ""
    """The tool. Callers may leave it out."""
    is_error: bool = False
    """True if the tool failed and the answer says why."""


@record(frozen=True)
class ReplayPart(Record):
    """A piece of a message: what a provider wants to be sent again. Of no meaning to anybody else."""

    type: ClassVar[Literal["replay"]] = "replay"
    protocol: str
    data: Any


Part = Union[TextPart, ImagePart, FilePart, ToolCallPart, ToolResultPart, ReplayPart]
Content = Union[str, Tuple[Part, ...]]

_PARTS: Dict[str, Type[Record]] = {
    part.type: part for part in (TextPart, ImagePart, FilePart, ToolCallPart, ToolResultPart, ReplayPart)
}


def read_content(content: Union[str, List[Dict[str, Any]]]) -> Content:
    """A text, or parts."""
    if isinstance(content, str):
        return content
    return tuple(_PARTS[part["type"]].from_dict(part) for part in content)  # type: ignore[misc]


def text_of(content: Content) -> str:
    """The text of a content, without images and files."""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, TextPart))


def last_text(content: Content) -> str:
    """The last text of a content."""
    if isinstance(content, str):
        return content
    return next((part.text for part in reversed(content) if isinstance(part, TextPart)), "")


@record(frozen=True)
class Usage(Record):
    """What a reply consumed. Every figure is None when the provider did not say.

    A provider of your own may yield it.
    """

    _left_out = dict.fromkeys(
        (
            "input_tokens",
            "cached_input_tokens",
            "cache_write_tokens",
            "output_tokens",
            "reasoning_tokens",
            "cost_usd",
        )
    )
    input_tokens: Optional[int] = None
    """Tokens sent, including those read from and written to a cache."""
    cached_input_tokens: Optional[int] = None
    """Of `input_tokens`, those read from the provider's cache."""
    cache_write_tokens: Optional[int] = None
    """Of `input_tokens`, those written to the provider's cache."""
    output_tokens: Optional[int] = None
    """Tokens received, including reasoning."""
    reasoning_tokens: Optional[int] = None
    """Of `output_tokens`, those spent on reasoning."""
    cost_usd: Optional[float] = None
    """US dollars; None when the price is not known."""


@record(frozen=True)
class Message(Record):
    """One message of a conversation. Immutable once stored."""

    _left_out = {
        "visible_to": ("learner", "teacher", "model"),
        "provider": None,
        "model": None,
        "usage": None,
        "finish_reason": None,
        "metadata": {},
    }
    _readers = {"content": read_content, "visible_to": tuple, "timestamp": read_time, "usage": Usage.from_dict}

    id: str
    session_id: str
    role: Role
    """Whose words these are to the model."""
    content: Content
    """A text, or parts: text, images, files, tools."""
    timestamp: datetime
    """When it was stored, in UTC."""
    parent_id: Optional[str] = None
    """What it answers or follows; None for the first message of a conversation."""
    turn_id: Optional[str] = None
    """The turn that wrote it."""
    status: MessageStatus = "complete"
    """`partial` for a reply that was cancelled or cut off."""
    author: Author = "learner"
    """Who wrote it, which may differ from the role: a human teacher can answer as assistant."""
    visible_to: Tuple[Audience, ...] = ("learner", "teacher", "model")
    """Who may see it."""
    provider: Optional[str] = None
    """The provider that made this reply."""
    model: Optional[str] = None
    """The model that made this reply."""
    usage: Optional[Usage] = None
    """What this reply consumed."""
    finish_reason: Optional[FinishReason] = None
    """Why this reply ended."""
    metadata: Dict[str, Any] = field(default_factory=dict)
    """The caller's own data."""

    @property
    def text(self) -> str:
        """The text, without images and files."""
        return text_of(self.content)


@record(frozen=True)
class Summary(Record):
    """A summary of the beginning of a conversation, made by a model."""

    _readers = {"made_at": read_time}

    text: str
    through: str
    """The newest message that it covers; it covers all before it too."""
    made_at: datetime
    """In UTC."""


@record(frozen=True)
class Session(Record):
    """A conversation."""

    _left_out = {"summary": None}
    _readers = {"created_at": read_time, "updated_at": read_time, "summary": Summary.from_dict}

    id: str
    owner: str
    """Whose it is."""
    title: str
    """What to show in a list."""
    created_at: datetime
    """In UTC."""
    updated_at: datetime
    """When a turn of it last began or ended, or it was changed; in UTC."""
    message_count: int = 0
    """Messages on all branches."""
    head: Optional[str] = None
    """The leaf of the active branch; None while the session is empty."""
    running_turn: Optional[str] = None
    """The turn that is running, if any."""
    preferences: Dict[str, Any] = field(default_factory=dict)
    """The preferences of its latest request, known and unknown."""
    metadata: Dict[str, Any] = field(default_factory=dict)
    """The caller's own data."""
    own_title: bool = False
    """True if the title is the caller's own: the engine never replaces it."""
    summary: Optional[Summary] = None
    """What stands for messages that are too old to be sent to a model."""


@record(frozen=True)
class Feedback(Record):
    """What somebody thinks of a message."""

    _readers = {"updated_at": read_time}

    message_id: str
    session_id: str
    rating: Rating
    updated_at: datetime
    """When it was said last, in UTC."""
    comment: Optional[str] = None
    """Their words."""


@record(frozen=True)
class ErrorInfo(Record):
    """Why a turn failed, as it is stored."""

    _left_out = {"retry_after_ms": None}
    code: str
    message: str
    retryable: bool = False
    retry_after_ms: Optional[int] = None

    def exception(self) -> errors.TutorError:
        """The exception of this error."""
        wait = None if self.retry_after_ms is None else self.retry_after_ms / 1000
        cls = errors.CLASSES.get(self.code, errors.TutorError)
        return cls(self.message, retryable=self.retryable, retry_after=wait)


@record(frozen=True)
class Turn(Record):
    """One exchange: what the learner said, and the tutor's reply."""

    _readers = {
        "started_at": read_time,
        "ended_at": read_time,
        "error": ErrorInfo.from_dict,
        "usage": Usage.from_dict,
    }

    id: str
    owner: str
    session_id: str
    user_message_id: str
    """The learner's message that it answers."""
    reply_message_id: str
    """The id that the reply has, or will have."""
    status: TurnStatus
    provider: str
    model: str
    started_at: datetime
    ended_at: Optional[datetime] = None
    """None while it runs."""
    idempotency_key: Optional[str] = None
    has_reply: bool = False
    """True if a reply is stored, whole or partial."""
    error: Optional[ErrorInfo] = None
    """Why it failed."""
    finish_reason: Optional[FinishReason] = None
    """Why the reply ended."""
    usage: Optional[Usage] = None
    """What it consumed."""
