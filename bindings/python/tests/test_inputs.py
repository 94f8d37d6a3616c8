"""What is wrong is refused with what it should be, and nothing is stored of it."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from typing import Any

import pytest

import neuro_tutor as nt
from neuro_tutor import Tutor

CHATS: dict[str, tuple[dict[str, Any], str]] = {
    "a number as a message": ({"message": 5}, "a text, or an array of parts"),
    "bytes as a message": ({"message": b"hi"}, "a text, or an array of parts"),
    "nothing": ({}, "the learner's"),
    "a blank": ({"message": "  "}, "blank"),
    "a part of no type": ({"message": [{"type": "txt"}]}, "array of parts"),
    "half a character": ({"message": "\ud800"}, "valid Unicode"),
    "no number": ({"message": "hi", "temperature": float("nan")}, "finite numbers"),
    "a hot temperature": ({"message": "hi", "temperature": 9}, "from 0 to 2"),
    "no tokens": ({"message": "hi", "max_tokens": 0}, "at least 1"),
    "a time that is over": ({"message": "hi", "timeout": -1}, "seconds from 0"),
    "one attachment": ({"message": "hi", "attachments": "a.txt"}, r"attachments=\[…\]"),
    "a text with a name": ({"message": "hi", "attachments": [("a.txt", "text")]}, "an attachment is"),
    "a number with an attachment": ({"message": 5, "attachments": [b"x"]}, "a text, or a list of parts"),
    "an attachment with a number for a name": ({"message": "hi", "attachments": [(5, b"x")]}, "is a text"),
    "an empty attachment": ({"message": "hi", "attachments": [b""]}, "empty"),
    "a number of many bits": ({"message": "hi", "preferences": {"n": 2**70}}, "64 bits"),
    "one tool": ({"message": "hi", "tools": len}, r"tools=\[…\]"),
    "a number as parameters": ({"message": "hi", "tools": [{"function": len, "parameters": 5}]}, "a JSON Schema"),
    "a number as a tool": ({"message": "hi", "tools": [5]}, "a tool is a function"),
    "one tool of the caller": ({"message": "hi", "client_tools": {"name": "zoom"}}, r"client_tools=\[…\]"),
    "a name with a blank": ({"message": "hi", "client_tools": [{"name": "a b"}]}, "letters, digits"),
    "one of messages": ({"messages": {"role": "user", "content": "hi"}}, r"messages=\[…\]"),
    "a role that is none": ({"messages": [{"role": "boss", "content": "hi"}]}, "role and content"),
}


@pytest.mark.parametrize("name", list(CHATS))
@pytest.mark.parametrize("way", ["chat", "stream"])
def test_a_request_that_is_wrong_stores_nothing(tutor: Tutor, way: str, name: str) -> None:
    arguments, says = CHATS[name]
    with pytest.raises(nt.InvalidInputError, match=says):
        getattr(tutor, way)(**arguments)
    assert len(tutor.sessions()) == 0 and tutor.status().live_turns == 0


class Texts:
    def read(self, size: int) -> str:
        return "text"


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


CALLS: dict[str, tuple[Callable[[Tutor, str], object], str]] = {
    "events behind less than nothing": (lambda tutor, _: tutor.events("t", -1), "whole number from 0"),
    "events behind too much": (lambda tutor, _: tutor.events("t", 2**70), "whole number from 0"),
    "a negative page": (lambda tutor, _: tutor.sessions(-1), "whole number from 0"),
    "a page in words": (lambda tutor, _: tutor.sessions("5"), "whole number from 0"),  # type: ignore[arg-type]
    "an empty page": (lambda tutor, _: tutor.search("x", 0), "1 to 200"),
    "a negative budget": (lambda tutor, session: tutor.context(session, -5), "whole number from 0"),
    "both directions": (lambda tutor, session: tutor.messages(session, before="a", after="b"), "not both"),
    "a branch and all of them": (lambda tutor, session: tutor.messages(session, leaf="a", all=True), "not both"),
    "no title": (lambda tutor, session: tutor.rename_session(session, None), "is a text"),  # type: ignore[arg-type]
    "no rating": (lambda tutor, session: tutor.rate(session, "m", "meh"), "up or down"),  # type: ignore[arg-type]
    "a port beyond the last": (lambda tutor, _: tutor.serve(port=99_999), "65535"),
    "origins that are a number": (lambda tutor, _: tutor.serve(port=0, cors_origins=5), r"cors_origins=\[…\]"),  # type: ignore[arg-type]
    "a word for a grace": (lambda tutor, _: tutor.close("x"), "number of seconds"),  # type: ignore[arg-type]
    "a file with a number for a name": (lambda tutor, _: tutor.files.upload(b"x", 5), "is a text"),  # type: ignore[arg-type]
    "what is nested without end": (lambda tutor, _: tutor.create_session(metadata={"n": nested(5000)}), "deep"),
    "what is nested too deep": (lambda tutor, _: tutor.create_session(metadata={"n": nested(200)}), "deep"),
    "a number of more bits": (lambda tutor, _: tutor.create_session(metadata={"n": 2**70}), "64 bits"),
    "a negative number of more bits": (lambda tutor, _: tutor.create_session(metadata={"n": [-(2**63) - 1]}), "64 bits"),
    "an export to a number": (lambda tutor, _: tutor.export(5), "a path, or an open binary file"),  # type: ignore[arg-type]
    "an export to a text": (lambda tutor, _: tutor.export(io.StringIO()), "open binary file"),  # type: ignore[arg-type]
    "an export since a word": (lambda tutor, _: tutor.export(io.BytesIO(), since="now"), "datetime"),  # type: ignore[arg-type]
    "an import of no export": (lambda tutor, _: tutor.import_(io.BytesIO(b"hello\n")), "JSON"),
    "an import of texts": (lambda tutor, _: tutor.import_(Texts()), "binary mode"),  # type: ignore[arg-type]
    "an import that asks": (lambda tutor, _: tutor.import_(io.BytesIO(), on_conflict="ask"), "keep or replace"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", list(CALLS))
def test_a_call_that_is_wrong_says_what_would_be_right(tutor: Tutor, name: str) -> None:
    call, says = CALLS[name]
    session = tutor.create_session().id
    with pytest.raises(nt.InvalidInputError, match=says):
        call(tutor, session)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limits": 5}, "an object"),
        ({"catalog": "models.json"}, "an object"),
        ({"quota": 5}, "an object"),
        ({"files": 5}, "a directory"),
        ({"providers": object()}, r"a method stream\(request\)"),
        ({"default_provider": "nobody"}, "known: demo"),
    ],
)
def test_a_tutor_that_cannot_be_opened_says_why(options: dict[str, Any], says: str) -> None:
    with pytest.raises(nt.ConfigError, match=says):
        Tutor.open("memory:", **options)


def test_a_mapping_of_variables_is_wanted() -> None:
    with pytest.raises(nt.ConfigError, match="mapping"):
        Tutor.from_env("memory:", environ=5)  # type: ignore[arg-type]


def test_numbers_of_at_most_64_bits_are_kept_exactly(tutor: Tutor) -> None:
    numbers = {"n": [2**64 - 1, -(2**63), 0, -1, 1e300, 1.5], 'a "12345678901234567890123" \\': "12345678901234567890123"}
    assert tutor.create_session(metadata=numbers).metadata == numbers


WRONG: list[Any] = [None, 5, 1.5, b"x", True, object(), [], {"a": 1}, "\ud800"]


@pytest.mark.parametrize("face", ["tutor", "files"])
def test_what_is_no_text_is_refused_by_its_name_wherever_a_text_is_wanted(tutor: Tutor, face: str) -> None:
    of = tutor if face == "tutor" else tutor.files
    tried = 0
    for name, method in inspect.getmembers(of, inspect.ismethod):
        parameters = inspect.signature(method).parameters
        texts = [p for p in parameters if str(parameters[p].annotation) == "str" or p == "cursor"]
        if name.startswith("_") or name in ("open", "from_env"):
            continue
        for text in texts:
            for value in WRONG:
                if value is None and parameters[text].default is None:
                    continue
                others = {p: "x" for p in parameters if parameters[p].default is inspect.Parameter.empty}
                with pytest.raises(nt.InvalidInputError) as raised:
                    method(**{**others, text: value})
                assert raised.value.context.get("field") == text, (name, text, raised.value)
                assert len(str(raised.value)) > 10
                tried += 1
    assert tried > (100 if face == "tutor" else 20)
