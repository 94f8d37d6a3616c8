"""Tools: functions that a model may have called."""

from __future__ import annotations

import asyncio
import enum
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Dict, Literal, Optional, TypedDict, Union

import pydantic
import pytest

import neuro_tutor as nt
from neuro_tutor import AsyncTutor, ToolContext, Tutor, tool
from neuro_tutor.testing import ScriptedProvider


class Calls:
    """Asks for tools, then says what it was told of their answers."""

    name = "calls"

    def __init__(self, *calls: tuple[str, Any]) -> None:
        self.calls = calls
        self.requests: list[nt.CompletionRequest] = []

    def stream(self, request: nt.CompletionRequest) -> Iterator[Any]:
        self.requests.append(request)
        answers = [part for m in request.messages if not isinstance(m.content, str) for part in m.content]
        results = [part for part in answers if isinstance(part, nt.ToolResultPart)]
        if not results:
            for n, (name, arguments) in enumerate(self.calls):
                yield nt.ToolCall(f"c{n}", name, arguments)
            yield nt.Finished("tool_calls")
        else:
            yield "done"

    def results(self) -> list[nt.ToolResultPart]:
        parts = [part for m in self.requests[-1].messages if not isinstance(m.content, str) for part in m.content]
        return [part for part in parts if isinstance(part, nt.ToolResultPart)]


class Level(enum.Enum):
    EASY = "easy"
    HARD = "hard"


@dataclass
class Point:
    x: float
    y: float = 0.0


class Place(TypedDict):
    name: str


class Plant(pydantic.BaseModel):
    name: str
    height: float = pydantic.Field(gt=0)


def everything(
    text: str,
    count: int,
    point: Point,
    plant: Plant,
    level: Level,
    place: Place,
    kind: Literal["tree", "bush"] = "tree",
    names: Optional[list[str]] = None,
    note: Annotated[str, "What to say"] = "",
    context: Optional[ToolContext] = None,
) -> dict[str, Any]:
    """Does everything.

    Really.

    Args:
        text: Some words,
            and more.
        count: How many.
    """
    return {"point": type(point).__name__, "plant": type(plant).__name__, "level": level.name, "names": names}


ARGUMENTS = {
    "text": "a",
    "count": 2,
    "point": {"x": 1},
    "plant": {"name": "oak", "height": 3},
    "level": "hard",
    "place": {"name": "here"},
    "names": ["b"],
}


def test_hints_and_documentation_make_the_schema() -> None:
    made = nt.Tool(everything)
    assert made.name == "everything" and made.description == "Does everything.\n\nReally."
    schema = made.parameters
    properties = schema["properties"]
    assert schema["required"] == ["text", "count", "point", "plant", "level", "place"]
    assert properties["text"] == {"type": "string", "description": "Some words, and more."}
    assert properties["count"] == {"type": "integer", "description": "How many."}
    assert properties["kind"]["enum"] == ["tree", "bush"] and properties["kind"]["default"] == "tree"
    assert properties["level"]["enum"] == ["easy", "hard"]
    assert properties["note"]["description"] == "What to say"
    assert schema["$defs"]["Point"]["required"] == ["x"]


def test_arguments_become_values_of_the_types_and_the_answer_is_told() -> None:
    provider = Calls(("everything", ARGUMENTS))
    with Tutor.open("memory:", providers=provider, tools=[everything]) as tutor:
        reply = tutor.chat("go")
    assert reply.text == "done"
    (result,) = provider.results()
    assert result.result == {"point": "Point", "plant": "Plant", "level": "HARD", "names": ["b"]}
    (told,) = provider.requests[0].tools
    assert told["name"] == "everything" and told["parameters"]["properties"]["count"]["type"] == "integer"


def test_calls_and_results_are_stored_and_replayed() -> None:
    @tool
    def light(place: str) -> dict[str, int]:
        return {"lux": len(place)}

    with Tutor.open("memory:", providers=Calls(("light", {"place": "here"})), tools=[light]) as tutor:
        stream = tutor.stream("go")
        events = list(stream)
        kinds = [event.type for event in events]
        assert kinds == ["turn.started", "tool.call", "tool.result", "text.delta", "turn.finished"]
        assert list(tutor.events(stream.turn_id)) == events
        parts = tutor.messages(stream.session_id)[-1].content
        assert [type(part).__name__ for part in parts] == ["ToolCallPart", "ToolResultPart", "TextPart"]
    assert light("x") == {"lux": 1}


def test_a_failing_tool_is_told_to_the_model_and_the_turn_goes_on() -> None:
    def broken(x: int) -> None:
        raise ValueError("no such place")

    def refuses() -> None:
        raise nt.NotFoundError("there is no such plant")

    provider = Calls(("broken", {"x": 1}), ("refuses", {}), ("broken", {"x": "no"}), ("nobody", {}))
    with Tutor.open("memory:", providers=provider, tools=[broken, refuses]) as tutor:
        assert tutor.chat("go").text == "done"
    raised, refused, misfit, unknown = provider.results()
    assert all(result.is_error for result in provider.results())
    assert raised.result == "ValueError: no such place" and refused.result == "there is no such plant"
    assert "schema" in misfit.result and "no such tool" in unknown.result


def test_a_chat_brings_tools_of_its_own_and_the_context_says_for_whom() -> None:
    seen: list[ToolContext] = []

    @tool(name="who-asks", description="Tells who asks", parameters={"type": "object", "properties": {}})
    def who(**arguments: Any) -> str:
        return "nobody"

    def me(context: ToolContext) -> str:
        seen.append(context)
        return context.owner

    provider = Calls(("who-asks", {}), ("me", {}))
    with Tutor.open("memory:", providers=provider, tools=[who], owner="ada") as tutor:
        reply = tutor.chat("go", tools=[me])
        assert [result.result for result in provider.results()] == ["nobody", "ada"]
        assert (seen[0].session_id, seen[0].turn_id) == (reply.session_id, reply.turn_id)
        assert "context" not in provider.requests[0].tools[1]["parameters"]["properties"]
        stream = tutor.stream("go", tools=[me])
        assert stream.reply().text == "done" and len(seen) == 2


def test_built_in_providers_alone_can_have_tools_too() -> None:
    with Tutor.open("memory:", providers={"demo": {"delay": 0}}) as tutor:
        assert tutor.chat("hi", tools=[lambda_like]).text


def lambda_like(x: int = 1) -> int:
    return x


async def test_an_async_tool_runs_on_the_callers_loop_and_an_ordinary_one_on_a_thread() -> None:
    seen: dict[str, Any] = {}

    async def waits(x: int) -> int:
        seen["loop"] = asyncio.get_running_loop()
        await asyncio.sleep(0)
        return x + 1

    def blocks() -> int:
        seen["thread"] = threading.current_thread()
        return 5

    provider = Calls(("waits", {"x": 1}), ("blocks", {}))
    async with AsyncTutor.open("memory:", providers=provider, tools=[waits, blocks]) as tutor:
        assert (await tutor.chat("go")).text == "done"
    assert [result.result for result in provider.results()] == [2, 5]
    assert seen["loop"] is asyncio.get_running_loop()
    assert seen["thread"] is not threading.current_thread()


async def test_cancelling_a_turn_cancels_its_tool() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with AsyncTutor.open("memory:", providers=Calls(("endless", {})), tools=[endless]) as tutor:
        task = asyncio.create_task(tutor.chat("go"))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(ended.wait(), 10)


def test_a_tool_that_takes_too_long_or_answers_no_json_is_told_to_the_model() -> None:
    released = threading.Event()

    def sleeps() -> None:
        released.wait(30)

    def strange() -> float:
        return float("nan")

    provider = Calls(("sleeps", {}), ("strange", {}))
    with Tutor.open("memory:", providers=provider, tools=[sleeps, strange], limits={"tool_timeout": 0.2}) as tutor:
        assert tutor.chat("go").text == "done"
        released.set()
    slow, strange_result = provider.results()
    assert slow.is_error and "did not answer" in slow.result
    assert strange_result.is_error and "not JSON" in strange_result.result


@pytest.mark.parametrize(
    "given",
    [
        {"name": "x"},
        {"function": print, "canary": 1},
        5,
        lambda *words: words,
        tool(name="no name")(lambda_like),
        [everything, everything],
    ],
)
def test_what_is_no_tool_is_refused(given: Any) -> None:
    with pytest.raises((nt.InvalidInputError, nt.ConfigError)):
        Tutor.open("memory:", tools=given if isinstance(given, list) else [given])


def test_hints_without_a_json_form_are_named() -> None:
    class Strange:
        pass

    def takes(strange: Strange) -> None:
        pass

    takes.__annotations__ = {"strange": Strange}
    with pytest.raises(nt.InvalidInputError, match="pydantic|Strange"):
        nt.Tool(takes)


def test_a_method_is_a_tool_of_its_object() -> None:
    class Garden:
        def __init__(self, plant: str) -> None:
            self.plant = plant

        @tool
        def look(self, times: int = 1) -> str:
            """Looks around."""
            return self.plant * times

    garden = Garden("oak")
    provider = Calls(("look", {"times": 2}))
    with Tutor.open("memory:", providers=provider, tools=[garden.look]) as tutor:
        tutor.chat("go")
    assert provider.results()[0].result == "oakoak" and garden.look() == "oak"


def test_a_tool_of_the_caller_ends_the_turn_and_its_result_goes_on() -> None:
    lens = {"name": "zoom", "description": "Zooms.", "parameters": {"type": "object"}}

    def shot(width: int) -> bytes:
        """Makes a picture."""
        raise AssertionError("the caller runs it")

    scripted = ScriptedProvider([nt.ToolCall("c1", "zoom", {}), nt.ToolCall("c2", "shot", {"width": 3})], "A leaf.")
    with Tutor.open("memory:", providers=scripted) as tutor:
        reply = tutor.chat("What is this?", client_tools=[lens, shot])
        assert reply.finish_reason == "tool_calls"
        assert [(call.call_id, call.name, call.arguments) for call in reply.tool_calls] == [
            ("c1", "zoom", {}),
            ("c2", "shot", {"width": 3}),
        ]
        assert [tool["name"] for tool in scripted.requests[0].tools] == ["zoom", "shot"]
        results = [nt.ToolResultPart("c1", {"factor": 2}), nt.ToolResultPart("c2", "no camera", is_error=True)]
        after = tutor.chat(results, session=reply.session_id, client_tools=[lens, shot])
        assert after.text == "A leaf." and after.tool_calls == ()
        sent = [part for message in scripted.requests[1].messages for part in message.content if isinstance(part, nt.ToolResultPart)]
        assert [(part.call_id, part.name, part.result, part.is_error) for part in sent] == [
            ("c1", "zoom", {"factor": 2}, False),
            ("c2", "shot", "no camera", True),
        ]
        with pytest.raises(nt.InvalidInputError, match="client_tools|name"):
            tutor.chat("hi", client_tools=[{"name": 5}])
        with pytest.raises(nt.InvalidInputError):
            tutor.chat([nt.ToolResultPart("nobody", 1)], session=reply.session_id)


def test_the_context_may_be_optional_or_annotated_and_is_never_offered_to_the_model() -> None:
    seen: list[Any] = []

    def one(context: Optional[ToolContext] = None) -> None:
        seen.append(context)

    def two(n: int, context: Annotated[ToolContext, "where"]) -> None:
        seen.append(context)

    def three(context: Annotated[Optional[ToolContext], "where"] = None, *, n: int = 0) -> None:
        seen.append(context)

    provider = Calls(("one", {}), ("two", {"n": 1}), ("three", {}))
    with Tutor.open("memory:", providers=provider, tools=[one, two, three]) as tutor:
        reply = tutor.for_owner("ada").chat("go")
    assert [(context.owner, context.session_id) for context in seen] == [("ada", reply.session_id)] * 3
    assert "context" not in str(provider.requests[0].tools) and "owner" not in str(provider.requests[0].tools)


def test_a_context_inside_of_something_else_is_refused() -> None:
    def many(contexts: list[ToolContext]) -> None: ...

    def either(context: Union[ToolContext, int]) -> None: ...

    def extra(*context: ToolContext) -> None: ...

    for function in (many, either, extra):
        with pytest.raises(nt.InvalidInputError, match="context"):
            nt.Tool(function)


class Named(TypedDict, total=False):
    point: Point
    when: date
    level: Level


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    level: Level
    when: date
    tags: set[str]
    pair: tuple[int, str]


def same_name() -> tuple[Any, Any]:
    @dataclass
    class Twin:
        a: int

    first = Twin

    @dataclass
    class Twin:  # type: ignore[no-redef]
        b: str

    return first, Twin


def same_name_of_pydantic() -> tuple[Any, Any]:
    def make(**inner: Any) -> Any:
        return pydantic.create_model("Outer", inner=(pydantic.create_model("Inner", **inner), ...))

    return make(a=(int, ...)), make(b=(str, ...))


VALUES: dict[str, tuple[Any, Any, Any]] = {
    "a whole number": (int, 3.0, 3),
    "a whole number or nothing": (Optional[int], 3.0, 3),
    "a whole number or a text": (Union[int, str], 3.0, 3),
    "one of some numbers": (Literal[1, 2], 1.0, 1),
    "some members of an enum": (Literal[Level.EASY], "easy", Level.EASY),
    "what a typed dict has": (
        Named,
        {"point": {"x": 1}, "when": "2026-11-26", "level": "hard"},
        {"point": Point(1), "when": date(2026, 11, 26), "level": Level.HARD},
    ),
    "a bare mapping": (Dict, {"a": 1.5}, {"a": 1.5}),
    "an ordered mapping": (OrderedDict[str, int], {"a": 1.0}, OrderedDict(a=1)),
    "keys that are numbers": (dict[int, str], {"7": "a", "-1": "b"}, {7: "a", -1: "b"}),
    "keys that are members": (dict[Level, int], {"easy": 1}, {Level.EASY: 1}),
    "a frozen set": (frozenset[int], [1, 2.0], frozenset({1, 2})),
    "a bare frozen set": (frozenset, ["a"], frozenset({"a"})),
    "a deque": (deque[int], [1, 2.0], deque([1, 2])),
    "a strict model": (
        Strict,
        {"level": "easy", "when": "2026-11-26", "tags": ["a"], "pair": [1, "b"]},
        Strict(level=Level.EASY, when=date(2026, 11, 26), tags={"a"}, pair=(1, "b")),
    ),
}


@pytest.mark.parametrize("name", list(VALUES))
def test_an_argument_is_of_the_type_of_its_parameter(name: str) -> None:
    kind, argument, expected = VALUES[name]
    seen: list[Any] = []

    def takes(value: Any) -> None:
        seen.append(value)

    takes.__annotations__["value"] = kind
    with Tutor.open("memory:", providers=Calls(("takes", {"value": argument})), tools=[takes]) as tutor:
        tutor.chat("go")
    assert seen == [expected] and type(seen[0]) is type(expected)
    if isinstance(expected, dict):
        kinds = [{(key, type(key), type(one)) for key, one in of.items()} for of in (seen[0], expected)]
        assert kinds[0] == kinds[1]


@pytest.mark.parametrize("twins", [same_name, same_name_of_pydantic])
def test_two_types_of_one_name_are_two(twins: Any) -> None:
    first, second = twins()
    seen: list[Any] = []

    def takes(one: Any, two: Any, more: Any) -> None:
        seen.extend((one, two, more))

    takes.__annotations__.update(one=list[first], two=list[second], more=list[first])  # type: ignore[valid-type]
    of = [{"a": 1}, {"b": "x"}] if twins is same_name else [{"inner": {"a": 1}}, {"inner": {"b": "x"}}]
    arguments = {"one": [of[0]], "two": [of[1]], "more": [of[0]]}
    provider = Calls(("takes", arguments))
    with Tutor.open("memory:", providers=provider, tools=[takes]) as tutor:
        tutor.chat("go")
    assert [type(one[0]) for one in seen] == [first, second, first], provider.results()


def test_a_member_of_an_enum_is_told_by_its_value() -> None:
    def level() -> Level:
        return Level.HARD

    def levels() -> Any:
        return {"of": {Level.EASY: [Level.HARD]}, "at": date(2026, 11, 26), "point": Point(1)}

    provider = Calls(("level", {}), ("levels", {}))
    with Tutor.open("memory:", providers=provider, tools=[level, levels]) as tutor:
        tutor.chat("go")
    first, second = provider.results()
    assert first.result == "hard"
    assert second.result["of"] == {"easy": ["hard"]} and second.result["at"] == "2026-11-26"
    assert second.result["point"]["x"] == 1


@pytest.mark.parametrize("kind", [int, Literal[b"x"]])
def test_what_has_no_json_form_is_refused_in_our_words(kind: Any) -> None:
    def takes(value: Any) -> None: ...

    takes.__annotations__["value"] = kind
    with pytest.raises(nt.InvalidInputError):
        nt.Tool(kind if kind is int else takes)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_in_a_tool_is_told_to_the_model(error: BaseException) -> None:
    async def later() -> None:
        raise error

    def now() -> None:
        raise error

    provider = Calls(("later", {}), ("now", {}))
    with Tutor.open("memory:", providers=provider, tools=[later, now]) as tutor:
        assert tutor.chat("go").text == "done"
        assert [result.is_error for result in provider.results()] == [True, True]
        assert tutor.chat("go").text == "done"
