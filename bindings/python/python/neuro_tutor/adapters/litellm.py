"""A `CustomLLM` of LiteLLM as a provider."""

from __future__ import annotations

from typing import Any, AsyncIterator, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from .._events import ToolCall
from .._messages import FilePart, ImagePart, TextPart, ToolCallPart, ToolResultPart, Usage
from .._provider import CompletionRequest, Finished
from ..errors import TutorError
from ._failure import cut_off, failure
from ._library import library
from ._prompt import as_text, instructions, parts_of, placeholder

_FINISHES = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def from_litellm(
    handler: Any,
    model: str,
    *,
    name: str = "litellm",
    models: Optional[Sequence[str]] = None,
    api_base: Optional[str] = None,
    api_key: Optional[str] = None,
) -> LiteLLMProvider:
    """A `litellm.CustomLLM` as a provider: its `astreaming`, `streaming`, `acompletion` or `completion`,
    the first of these that it has.

    `model` is what it is asked for when a request names none; `models` are the only ones that may be
    asked for, if that is not any.
    """
    return LiteLLMProvider(handler, model, name, models, api_base, api_key)


class LiteLLMProvider:
    """Made by `from_litellm`."""

    def __init__(
        self,
        handler: Any,
        model: str,
        name: str,
        models: Optional[Sequence[str]],
        api_base: Optional[str],
        api_key: Optional[str],
    ) -> None:
        base = library("litellm").CustomLLM
        if not isinstance(handler, base):
            raise TypeError("the handler is an instance of a subclass of litellm.CustomLLM")
        ways = ("astreaming", "streaming", "acompletion", "completion")
        own = [way for way in ways if getattr(type(handler), way) is not getattr(base, way)]
        if not own:
            raise TypeError(f"the handler has none of {', '.join(ways)}")
        self.name = name
        self.default_model = model
        if models is not None:
            self.models: List[str] = list(models)
        self._way = own[0]
        self._ask = getattr(handler, own[0])
        self._api_base = api_base
        self._api_key = api_key

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def stream(self, request: CompletionRequest) -> Union[AsyncIterator[Any], Iterator[Any]]:
        """One reply."""
        if self._way in ("astreaming", "acompletion"):
            return self._astream(request)
        return self._stream(request)

    async def _astream(self, request: CompletionRequest) -> AsyncIterator[Any]:
        reader = _Reader()
        try:
            asked = self._ask(**self._arguments(request))
            if self._way == "acompletion":
                for delta in reader.whole(await asked):
                    yield delta
                return
            try:
                async for chunk in asked:
                    for delta in reader.chunk(chunk):
                        yield delta
            finally:
                if hasattr(asked, "aclose"):
                    await asked.aclose()
        except Exception as error:
            raise _failed(error) from error
        for delta in reader.end():
            yield delta

    def _stream(self, request: CompletionRequest) -> Iterator[Any]:
        reader = _Reader()
        try:
            asked = self._ask(**self._arguments(request))
            if self._way == "completion":
                yield from reader.whole(asked)
                return
            try:
                for chunk in asked:
                    yield from reader.chunk(chunk)
            finally:
                if hasattr(asked, "close"):
                    asked.close()
        except Exception as error:
            raise _failed(error) from error
        yield from reader.end()

    def _arguments(self, request: CompletionRequest) -> Dict[str, Any]:
        options: Dict[str, Any] = {
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "tools": [{"type": "function", "function": dict(tool)} for tool in request.tools] or None,
            "stream": self._way in ("astreaming", "streaming"),
        }
        return {
            "model": request.model,
            "messages": openai_messages(request),
            "api_base": self._api_base,
            "custom_prompt_dict": {},
            "model_response": library("litellm").ModelResponse(),
            "print_verbose": lambda *_: None,
            "encoding": None,
            "api_key": self._api_key,
            "logging_obj": None,
            "optional_params": {name: value for name, value in options.items() if value is not None},
            "litellm_params": {},
            "headers": {},
            "timeout": request.timeout,
        }


def openai_messages(request: CompletionRequest) -> List[Dict[str, Any]]:
    """The conversation as OpenAI's Chat Completions have it, which is what LiteLLM speaks."""
    told = instructions(request)
    messages: List[Dict[str, Any]] = [{"role": "system", "content": told}] if told else []
    for said in request.messages:
        content: List[Dict[str, Any]] = []
        calls: List[Dict[str, Any]] = []
        for part in parts_of(said):
            if isinstance(part, TextPart):
                content.append({"type": "text", "text": part.text})
            elif isinstance(part, ImagePart):
                content.append({"type": "image_url", "image_url": {"url": part.url}})
            elif isinstance(part, FilePart):
                content.append({"type": "text", "text": placeholder(part)})
            elif isinstance(part, ToolCallPart):
                function = {"name": part.name, "arguments": as_text(part.arguments)}
                calls.append({"id": part.call_id, "type": "function", "function": function})
            elif isinstance(part, ToolResultPart):
                # Before whatever else is said in the same message.
                result = {"role": "tool", "tool_call_id": part.call_id, "content": as_text(part.result)}
                messages.append(result)
        message: Dict[str, Any] = {"role": said.role}
        is_text = all(part["type"] == "text" for part in content)
        message["content"] = "".join(part["text"] for part in content) if is_text else content
        if calls:
            message["tool_calls"] = calls
            message["content"] = message["content"] or None
        if content or calls:
            messages.append(message)
    return messages


class _Reader:
    """What has come of a reply."""

    def __init__(self) -> None:
        self._calls: Dict[Any, Dict[str, str]] = {}
        self._usage: Optional[Usage] = None
        self._finish: Optional[str] = None

    def chunk(self, chunk: Any) -> Iterator[Any]:
        """A `GenericStreamingChunk`."""
        if text := _member(chunk, "text"):
            yield text
        if tool := _member(chunk, "tool_use"):
            self._call(tool)
        if usage := _usage(_member(chunk, "usage")):
            self._usage = usage
        if _member(chunk, "is_finished"):
            self._finish = _member(chunk, "finish_reason") or "stop"

    def whole(self, response: Any) -> Iterator[Any]:
        """A `ModelResponse`."""
        choice = response.choices[0]
        if text := choice.message.content:
            yield text
        for index, tool in enumerate(_member(choice.message, "tool_calls") or []):
            self._call(tool, index)
        self._usage = _usage(_member(response, "usage"))
        self._finish = choice.finish_reason or "stop"
        yield from self.end()

    def end(self) -> Iterator[Any]:
        """What is told at the end."""
        if self._finish is None:
            raise cut_off()
        for call in self._calls.values():
            yield ToolCall(call["id"], call["name"], call["arguments"] or {})
        if self._usage is not None:
            yield self._usage
        reason = _FINISHES.get(self._finish, "other")
        yield Finished("tool_calls" if self._calls and reason == "stop" else reason)  # type: ignore[arg-type]

    def _call(self, tool: Any, index: Optional[int] = None) -> None:
        function, given = _member(tool, "function"), _member(tool, "id")
        key = _member(tool, "index") if index is None else index
        known = self._calls.get(key)
        # A new id at a known place is another call.
        if known is None or (given and known["id"] not in ("", given)):
            key = key if known is None else (key, given)
            known = self._calls.setdefault(key, {"id": "", "name": "", "arguments": ""})
        known["id"] = known["id"] or given or f"call_{len(self._calls) - 1}"
        known["name"] = known["name"] or _member(function, "name") or ""
        known["arguments"] += _member(function, "arguments") or ""


def _member(value: Any, name: str) -> Any:
    """A member of a dict or of an object, whichever it is."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def _usage(counted: Any) -> Optional[Usage]:
    if not counted:
        return None
    details = _member(counted, "prompt_tokens_details")
    reasoning = _member(counted, "completion_tokens_details")
    usage = Usage(
        input_tokens=_member(counted, "prompt_tokens"),
        cached_input_tokens=_member(details, "cached_tokens") if details else None,
        output_tokens=_member(counted, "completion_tokens"),
        reasoning_tokens=_member(reasoning, "reasoning_tokens") if reasoning else None,
    )
    return usage if usage != Usage() else None


def _failed(error: Exception) -> Exception:
    if isinstance(error, TutorError):
        return error
    status = getattr(error, "status_code", None)
    return failure(status if isinstance(status, int) else None)
