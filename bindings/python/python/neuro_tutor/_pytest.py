"""The pytest plugin: fixtures for the tests of those who use this package."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import AsyncTutor, Tutor
from .testing import ScriptedProvider


@pytest.fixture
def scripted() -> ScriptedProvider:
    """The provider of `tutor` and `async_tutor`: it repeats what it is told, or plays what
    `scripted.say(…)` sets."""
    return ScriptedProvider()


@pytest.fixture
def tutor(scripted: ScriptedProvider) -> Iterator[Tutor]:
    """A tutor in memory, answered by `scripted`."""
    with Tutor.open("memory:", providers=scripted) as tutor:
        yield tutor


@pytest.fixture
def async_tutor(tutor: Tutor) -> AsyncTutor:
    """The engine of `tutor` for asyncio."""
    return tutor.to_async()
