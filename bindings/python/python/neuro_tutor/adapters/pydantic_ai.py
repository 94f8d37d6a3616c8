"""A model of Pydantic AI as a provider."""

from __future__ import annotations

from typing import Any, AsyncIterator, Dict, List, Optional, Sequence

from .._events import ReasoningDelta, ToolCall
from .._messages import FilePart, ImagePart, TextPart, ToolCallPart, ToolResultPart, Usage
from .._provider import CompletionRequest, Finished
from ..errors import ProviderRejectedError, TutorError
from ._failure import failure
from ._library import library
from ._prompt import as_text, instructions, parts_of, placeholder

_FINISHES = {
    "stop": "stop",
    "length": "length",
    "tool_call": "tool_calls",
    "content_filter": "content_filter",
}


def from_pydantic_ai(
    model: Any, *, name: str = "pydantic-ai", models: Optional[Sequence[str]] = None
) -> PydanticAIProvider:
    """A `pydantic_ai.models.Model` as a provider. One that cannot stream gives its replies whole.

    The model is the object, so that a request chooses among providers and not among models; `models`
    are the names under which this one may be asked for, its own if absent.
    """
    return PydanticAIProvider(model, name, models)


class PydanticAIProvider:
    """Made by `from_pydantic_ai`."""

    def __init__(self, model: Any, name: str, models: Optional[Sequence[str]]) -> None:
        if not isinstance(model, library("pydantic_ai.models").Model):
            raise TypeError("the model is an instance of a subclass of pydantic_ai.models.Model")
        self.name = name
        self.models: List[str] = list(models) if models is not None else [model.model_name]
        self.default_model: str = self.models[0]
        self._model = model

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    async def stream(self, request: CompletionRequest) -> AsyncIterator[Any]:
        """One reply."""
        asked = _asked(request)
        try:
            try:
                async for delta in self._stream(asked):
                    yield delta
            except NotImplementedError:
                response = await library("pydantic_ai.direct").model_request(self._model, **asked)
                for part in response.parts:
                    if part.part_kind in ("text", "thinking") and part.content:
                        yield part.content if part.part_kind == "text" else ReasoningDelta(part.content)
                for delta in _end(response):
                    yield delta
        except Exception as error:
            raise _failed(error) from error

    async def _stream(self, asked: Dict[str, Any]) -> AsyncIterator[Any]:
        async with library("pydantic_ai.direct").model_request_stream(self._model, **asked) as stream:
            async for event in stream:
                if event.event_kind == "part_start":
                    kind, text = event.part.part_kind, getattr(event.part, "content", None)
                elif event.event_kind == "part_delta":
                    kind, text = event.delta.part_delta_kind, getattr(event.delta, "content_delta", None)
                else:
                    continue
                if text and kind == "text":
                    yield text
                elif text and kind == "thinking":
                    yield ReasoningDelta(text)
            response = stream.get()
        for delta in _end(response):
            yield delta


def _asked(request: CompletionRequest) -> Dict[str, Any]:
    definition = library("pydantic_ai.tools").ToolDefinition
    parameters = library("pydantic_ai.models").ModelRequestParameters
    tools = [
        definition(
            name=tool["name"],
            description=tool.get("description"),
            parameters_json_schema=tool["parameters"],
        )
        for tool in request.tools
    ]
    settings = {
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "timeout": request.timeout,
    }
    return {
        "messages": _messages(request),
        "model_settings": {name: value for name, value in settings.items() if value is not None} or None,
        "model_request_parameters": parameters(function_tools=tools),
    }


def _messages(request: CompletionRequest) -> List[Any]:
    ai = library("pydantic_ai.messages")
    told = instructions(request)
    asked: List[Any] = [ai.SystemPromptPart(told)] if told else []
    messages: List[Any] = []
    for said in request.messages:
        content: List[Any] = []
        for part in parts_of(said):
            if isinstance(part, TextPart):
                text = ai.TextPart(part.text) if said.role == "assistant" else part.text
                content.append(text)
            elif isinstance(part, ImagePart):
                # Data URLs and links alike.
                is_data = part.url.startswith("data:")
                content.append(ai.BinaryContent.from_data_uri(part.url) if is_data else ai.ImageUrl(part.url))
            elif isinstance(part, FilePart):
                content.append(placeholder(part))
            elif isinstance(part, ToolCallPart):
                content.append(ai.ToolCallPart(part.name, part.arguments, part.call_id))
            elif isinstance(part, ToolResultPart):
                asked.append(ai.ToolReturnPart(part.name, as_text(part.result), part.call_id))
        if said.role == "assistant":
            if asked:
                messages.append(ai.ModelRequest(parts=asked))
            messages.append(ai.ModelResponse(parts=content))
            asked = []
        elif content:
            is_text = all(isinstance(item, str) for item in content)
            asked.append(ai.UserPromptPart("".join(content) if is_text else content))
    if asked:
        messages.append(ai.ModelRequest(parts=asked))
    return messages


def _end(response: Any) -> List[Any]:
    """What is told at the end of a reply."""
    told: List[Any] = [
        ToolCall(part.tool_call_id, part.tool_name, part.args or {})
        for part in response.parts
        if part.part_kind == "tool-call"
    ]
    reason = _FINISHES.get(response.finish_reason or "stop", "other")
    if told and reason == "stop":
        reason = "tool_calls"
    counted = response.usage
    usage = Usage(
        input_tokens=counted.input_tokens or None,
        cached_input_tokens=counted.cache_read_tokens or None,
        cache_write_tokens=counted.cache_write_tokens or None,
        output_tokens=counted.output_tokens or None,
        reasoning_tokens=counted.details.get("reasoning_tokens"),
    )
    if usage != Usage():
        told.append(usage)
    return [*told, Finished(reason)]  # type: ignore[arg-type]


def _failed(error: Exception) -> Exception:
    if isinstance(error, TutorError):
        return error
    exceptions = library("pydantic_ai.exceptions")
    if isinstance(error, (exceptions.ContentFilterError, exceptions.UserError)):
        return ProviderRejectedError("the model refused the request")
    status = getattr(error, "status_code", None)
    return failure(status if isinstance(status, int) else None)
