"""The stories that every face plays, with both faces of this package."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import scenarios


@pytest.mark.parametrize("face", list(scenarios.FACES))
@pytest.mark.parametrize("name", scenarios.NAMES)
def test_a_scenario_is_played_as_it_is_written(name: str, face: str, tmp_path: Path) -> None:
    scenario = json.loads((scenarios.FOLDER / f"{name}.json").read_text())
    player = scenarios.Player(scenario, tmp_path / "data", scenarios.FACES[face])
    asyncio.run(asyncio.wait_for(player.play(), 60))


def test_there_are_scenarios() -> None:
    assert len(scenarios.NAMES) >= 10
