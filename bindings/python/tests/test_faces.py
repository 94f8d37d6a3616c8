"""Everything that the engine offers has a name here: what bindings/faces.json says."""

import inspect
import json
import re
from pathlib import Path

import neuro_tutor

FACES = json.loads((Path(__file__).resolve().parents[2] / "faces.json").read_text())


def found(name: str) -> bool:
    """Whether a name such as `Tutor.chat` or, of a parameter, `Tutor.chat(session)` is there, for both kinds."""
    match = re.fullmatch(r"(\w+)\.(\w+)(?:\((\w+)\))?", name)
    assert match is not None, name
    cls, method, parameter = match.groups()
    for kind in (getattr(neuro_tutor, cls), getattr(neuro_tutor, f"Async{cls}")):
        here = getattr(kind, {"__next__": "__anext__"}.get(method, method) if kind.__name__.startswith("Async") else method, None)
        if here is None or (parameter is not None and parameter not in inspect.signature(here).parameters):
            return False
    return True


def test_every_public_method_of_the_engine_has_its_name() -> None:
    names = [faces["python"] for methods in FACES.values() for faces in methods.values() if "python" in faces]
    assert len(names) > 50
    assert [name for name in names if not found(name)] == []


def test_blocking_and_async_faces_have_the_same_names_and_parameters() -> None:
    own = {"to_async", "to_sync", "aclose"}
    for cls in ("Tutor", "TurnStream", "Files", "Server"):
        sync, other = getattr(neuro_tutor, cls), getattr(neuro_tutor, f"Async{cls}")
        members = {name for name in dir(sync) if not name.startswith("_")} - own
        assert members == {name for name in dir(other) if not name.startswith("_")} - own
        for name in members:
            if inspect.isfunction(getattr(sync, name)):
                here, there = (inspect.signature(getattr(kind, name)).parameters for kind in (sync, other))
                assert list(here) == list(there), name
