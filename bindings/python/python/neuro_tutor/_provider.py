"""What a provider written in Python is asked, and what it may yield."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import (
    Any,
    ClassVar,
    Dict,
    List,
    Literal,
    Mapping,
    Optional,
    Protocol,
    Tuple,
    TypedDict,
    Union,
    runtime_checkable,
)

from ._events import Notice, ReasoningDelta, TextDelta, ToolCall
from ._messages import Content, FinishReason, Role, Usage, read_content, text_of
from ._record import Record, record


@record(frozen=True)
class PromptMessage(Record):
    """A message as the model sees it."""

    _readers = {"content": read_content}
    role: Role
    content: Content

    @property
    def text(self) -> str:
        """The text, without images and files."""
        return text_of(self.content)


def _read_messages(messages: List[Dict[str, Any]]) -> Tuple[PromptMessage, ...]:
    return tuple(PromptMessage.from_dict(message) for message in messages)


def _read_notices(notices: List[Dict[str, Any]]) -> Tuple[Notice, ...]:
    return tuple(Notice.from_dict(notice) for notice in notices)


@record(frozen=True)
class Context(Record):
    """What of a conversation a model is sent."""

    _readers = {"messages": _read_messages, "notices": _read_notices}
    messages: Tuple[PromptMessage, ...]
    """The newest messages that the budget allows, oldest first; before them the summary of what is left out,
    if there is one."""
    tokens: int
    """About how many tokens all this is."""
    system: Optional[str] = None
    """The instructions, which are always sent whole."""
    left_out: Optional[str] = None
    """The newest message that is not sent; None if everything is."""
    summarized: bool = False
    """True if a summary stands for all that is left out."""
    notices: Tuple[Notice, ...] = ()
    """What the caller should know about it."""


@record(frozen=True)
class CompletionRequest(Record):
    """What a provider is asked for."""

    _readers = {"messages": _read_messages, "tools": tuple}
    model: str
    """The model, as the provider calls it."""
    messages: Tuple[PromptMessage, ...]
    """The conversation, oldest first; the last one is the learner's. Never empty."""
    system: Optional[str] = None
    """Instructions that precede the conversation."""
    temperature: Optional[float] = None
    """0 to 2; None for the model's own."""
    max_tokens: Optional[int] = None
    """The most tokens that the reply may have; None for the model's own limit."""
    tools: Tuple[Dict[str, Any], ...] = ()
    """What the model may ask for: each with `name`, `description`, and `parameters` (a JSON Schema)."""
    output: Optional[Dict[str, Any]] = None
    """The form that the reply must have (`name` and `schema`); None for free text."""
    streamed: bool = False
    """True if somebody watches the reply grow."""
    owner: str = "local"
    """Whose request it is."""
    timeout: Optional[float] = None
    """Seconds that are left."""

    @property
    def text(self) -> str:
        """The text of the learner's last message."""
        return self.messages[-1].text


@record(frozen=True)
class Finished(Record):
    """The reply is complete. Only needed for another reason than `stop`."""

    type: ClassVar[Literal["finished"]] = "finished"
    reason: FinishReason = "stop"


Delta = Union[str, Mapping[str, Any], TextDelta, ReasoningDelta, ToolCall, Usage, Notice, Finished]
"""What a provider may yield: a text, a typed object, or an object as in JSON, such as
`{"type": "text.delta", "text": "…"}` or `{"type": "finished", "reason": "length"}`."""


@runtime_checkable
class Provider(Protocol):
    """A source of replies: any object with a `name` and a generator `stream(request)`.

    `async def` generators run on the caller's event loop and see its context variables; ordinary
    generators run on a thread of their own and may block. A generator that returns has finished its
    reply. One that raises has failed: an exception of `neuro_tutor.errors` says how, any other one
    becomes the `__cause__` of a `ProviderUnavailableError`. A generator whose turn is cancelled is
    closed.

    ```python
    class Mine:
        name = "mine"

        async def stream(self, request):
            yield "You asked: "
            yield request.text
    ```

    `default_model` and `models` (the names that may be asked for) are optional attributes.
    """

    @property
    def name(self) -> str:
        """What requests call it. No slash."""

    def stream(self, request: CompletionRequest, /) -> Union[AsyncIterator[Any], Iterator[Any], Awaitable[Any]]:
        """Starts one reply."""


class ProviderOptions(TypedDict, total=False):
    """Options of a built-in provider. Durations are seconds."""

    kind: str
    """The protocol: `openai`, `openai-responses`, `anthropic`, `gemini`, `ollama` or `demo`; by default the name."""
    name: str
    """How requests name it; by default the kind."""
    api_key: Union[str, List[str]]
    key: Union[str, List[str]]
    """Another word for `api_key`; several keys are used in turn."""
    key_env: Union[str, List[str]]
    """Environment variables that have the keys. No other variable is read."""
    key_file: Union[str, List[str]]
    """Files that have the keys, one a line."""
    base_url: str
    """Another server that speaks the protocol, with or without `/v1`."""
    dialect: str
    """How it speaks Chat Completions, such as `vllm`; by default what its host tells."""
    think_tags: bool
    """True if it writes its reasoning between `<think>` and `</think>`."""
    model: str
    """The model when a request names none."""
    models: List[str]
    """The only models that may be asked for."""
    aliases: Dict[str, str]
    """Other names of models."""
    proxy: str
    """The URL of a proxy."""
    connect_timeout: float
    first_timeout: float
    """Until the first sign of life."""
    idle_timeout: float
    """Between two signs of life."""
    progress_timeout: float
    """Between two signs of progress."""
    total_timeout: float
    max_retries: int
    """Retries of a request, at most 10."""
    max_concurrent: int
    """Requests at a time."""
    max_waiting: int
    max_wait: float
    breaker: Union[bool, Dict[str, float]]
    """False for none, or `failures`, `window` and `cooldown`."""
    fallback: Union[str, List[str]]
    """Who is asked when this one cannot answer: `provider` or `provider/model`, or several in order."""
    restart: bool
    """True to fall back also when a part of a reply was delivered."""
    record: str
    """A directory: every completion is recorded into a file, the model's words included."""
    delay: float
    """Between two words of the demo provider."""


@record(frozen=True)
class ProviderInfo(Record):
    """What a configured provider is called and can do."""

    _readers = {"models": tuple}
    name: str
    default_model: str
    """The model when a request names none."""
    models: Optional[Tuple[str, ...]] = None
    """The names that may be asked for; None for any."""


@record(frozen=True)
class ModelInfo(Record):
    """A model that can be asked for."""

    _left_out = {"context_window": None}
    id: str
    """The name to ask for."""
    context_window: Optional[int] = None
    """The most tokens that prompt and reply may have together; None if unknown."""
