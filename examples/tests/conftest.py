"""The documents of the project are executed as they stand."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tutor-http" / "tests" / "clients"))


def blocks(document: str, language: str) -> list[str]:
    """The code blocks of one language in a document, in order."""
    text = (ROOT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
