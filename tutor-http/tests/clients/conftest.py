"""A server for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from server import serve

# Run by a test of ours, in a place of their own.
collect_ignore = ["original"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with serve(tmp_path, DEMO_DELAY_MS="0") as url:
        yield url
