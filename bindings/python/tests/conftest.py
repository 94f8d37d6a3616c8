"""What the tests share."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator

import pytest

from neuro_tutor import Tutor

FAST = {"demo": {"delay": 0}}


@pytest.fixture
def tutor() -> Iterator[Tutor]:
    with Tutor.open("memory:", providers=FAST) as tutor:
        yield tutor


@pytest.fixture
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs code in a process of its own."""

    def run(code: str, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error::ResourceWarning", "-c", textwrap.dedent(code)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload, no-any-return]

    return run
