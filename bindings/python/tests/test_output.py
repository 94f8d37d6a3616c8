"""Replies of a form: JSON that is valid under a schema, or values of a type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional

import pydantic
import pytest

import neuro_tutor as nt
from neuro_tutor import AsyncTutor, Tutor
from neuro_tutor.testing import ScriptedProvider


class Leaf(pydantic.BaseModel):
    color: str


class Plant(pydantic.BaseModel):
    name: str
    leaves: list[Leaf] = []

    @pydantic.field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        if name == "triffid":
            raise ValueError("no such plant")
        return name


@dataclass
class Branch:
    length: float
    twigs: list["Branch"] = field(default_factory=list)
    name: Optional[str] = None


OAK = '{"name": "oak", "leaves": [{"color": "green"}]}'


def test_a_pydantic_model_in_an_instance_out() -> None:
    provider = ScriptedProvider([f"```json\n{OAK}\n```"])
    with Tutor.open("memory:", providers=provider) as tutor:
        reply = tutor.chat("Which plant?", output=Plant)
        assert reply.output == Plant(name="oak", leaves=[Leaf(color="green")])
        assert isinstance(reply, nt.TypedReply) and reply.output.leaves[0].color == "green"
        streamed = tutor.stream("Which plant?", output=Plant).reply()
        assert streamed.output == reply.output
    form = provider.requests[0].output
    assert form is not None and form["name"] == "Plant" and form["schema"]["type"] == "object"


def test_dataclasses_lists_and_schemas_work_too() -> None:
    scripts = ['{"length": 2, "twigs": [{"length": 1, "name": "a"}]}', '["a", "b"]', '{"n": 1}', '{"n": 1}']
    with Tutor.open("memory:", providers=ScriptedProvider(*[[text] for text in scripts])) as tutor:
        branch = tutor.chat("?", output=Branch).output
        assert branch == Branch(2.0, [Branch(1.0, [], "a")])
        assert tutor.chat("?", output=list[str]).output == ["a", "b"]  # type: ignore[type-var, unused-ignore]
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        assert tutor.chat("?", output=schema).output == {"n": 1}
        assert tutor.chat("?", output={"name": "numbers", "schema": schema}).output == {"n": 1}
        assert tutor.chat("?").output is None


def test_a_reply_is_repaired_once_and_then_refused() -> None:
    provider = ScriptedProvider(["no json"], [OAK], ["no json"])
    with Tutor.open("memory:", providers=provider) as tutor:
        assert tutor.chat("?", output=Plant).output.name == "oak"
        with pytest.raises(nt.ProviderRejectedError) as caught:
            tutor.chat("?", output=Plant)
        assert caught.value.retryable and caught.value.context["reason"] == "invalid_output"


def test_what_only_the_type_refuses_says_why() -> None:
    with Tutor.open("memory:", providers=ScriptedProvider(['{"name": "triffid"}'])) as tutor:
        with pytest.raises(nt.ProviderRejectedError) as caught:
            tutor.chat("?", output=Plant)
        assert isinstance(caught.value.__cause__, pydantic.ValidationError)
        assert "triffid" not in str(caught.value)


def test_a_stopped_reply_has_no_output() -> None:
    class Slow:
        name = "slow"

        def stream(self, request: nt.CompletionRequest) -> Iterator[Any]:
            yield '{"name": '
            yield from iter(lambda: {"type": "heartbeat"}, None)

    with Tutor.open("memory:", providers=Slow()) as tutor:
        stream = tutor.stream("?", output=Plant)
        while next(stream).type != "text.delta":
            pass
        stream.cancel()
        reply = stream.reply()
        assert reply.status == "cancelled" and reply.output is None


async def test_the_same_for_asyncio() -> None:
    async with AsyncTutor.open("memory:", providers=ScriptedProvider([OAK])) as tutor:
        assert (await tutor.chat("?", output=Plant)).output.name == "oak"
        assert (await tutor.stream("?", output=Plant).reply()).output.name == "oak"


def test_a_schema_that_is_none_is_refused_before_anything_is_stored() -> None:
    with Tutor.open("memory:") as tutor:
        with pytest.raises(nt.InvalidInputError):
            tutor.chat("?", output={"type": "no such type"})
        assert len(tutor.sessions()) == 0


@dataclass
class Picky:
    n: int

    def __post_init__(self) -> None:
        if self.n > 1:
            raise ValueError("too many")


@pytest.mark.parametrize("way", ["chat", "stream"])
def test_a_reply_that_its_type_refuses_says_where_it_is(way: str) -> None:
    with Tutor.open("memory:", providers=ScriptedProvider(['{"n": 2}'])) as tutor:
        with pytest.raises(nt.ProviderRejectedError) as caught:
            tutor.chat("?", output=Picky) if way == "chat" else tutor.stream("?", output=Picky).reply()
        session = caught.value.context["session"]
        assert tutor.turn(caught.value.context["turn"]).session_id == session
        assert tutor.messages(session)[-1].text == '{"n": 2}'
        assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("text", ["1180591620717411303424", "7", "7.0"])
def test_a_number_is_the_same_whole_number_in_every_face(text: str) -> None:
    with Tutor.open("memory:", providers=ScriptedProvider([text])) as tutor:
        for reply in (tutor.chat("?", output=int), tutor.stream("?", output=int).reply()):
            assert type(reply.output) is int and reply.output == int(text.split(".")[0])


def test_a_typed_reply_is_json_as_a_dict() -> None:
    for kind, text in ((Plant, OAK), (Branch, '{"length": 2.5}'), (Optional[int], "null")):
        with Tutor.open("memory:", providers=ScriptedProvider([text])) as tutor:
            members = tutor.chat("?", output=kind).to_dict()
        assert json.loads(json.dumps(members))["output"] == json.loads(text)


def test_who_declines_in_words_has_no_output() -> None:
    declines = ScriptedProvider(["no", nt.Finished("refusal")])
    with Tutor.open("memory:", providers=declines) as tutor:
        assert tutor.chat("?", output=Plant).output is None
        assert tutor.stream("?", output=Plant).reply().output is None
