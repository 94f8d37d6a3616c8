"""Writes `python/neuro_tutor/_native.pyi` from what the native module is compiled from; with `--check` says how it
differs from what is there.

Run it with the Python that has maturin. It compiles the module once more, with the feature `stubs`, which the
wheel does without.
"""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
STUB = PACKAGE / "python" / "neuro_tutor" / "_native.pyi"
# Names in the annotations that are written in the sources; pyo3 does not import them.
HEAD = """\
# Written by scripts/stubs.py from src/; do not edit.
import asyncio
import collections.abc
import typing
import weakref
"""
TAIL = "from .errors import Described\n"


def generated() -> str:
    """The stub, as the sources have it."""
    with tempfile.TemporaryDirectory() as directory:
        command = ["maturin", "generate-stubs", "--quiet", "--features", "stubs", "--out", directory]
        subprocess.run([sys.executable, "-m", *command], cwd=PACKAGE, check=True)
        text = (Path(directory) / "neuro_tutor" / "_native.pyi").read_text()
    text = re.sub(r"^from typing import .*\n", lambda match: HEAD + match[0] + "\n" + TAIL, text, count=1, flags=re.MULTILINE)
    return re.sub(r'(->|:) "([^"\n]+)"', r"\1 \2", text)


def main() -> int:
    """The exit code."""
    fresh = generated()
    if "--check" not in sys.argv:
        STUB.write_text(fresh)
        return 0
    here = STUB.read_text()
    changes = difflib.unified_diff(here.splitlines(True), fresh.splitlines(True), "committed", "generated")
    sys.stdout.writelines(changes)
    if here != fresh:
        print("_native.pyi is not what src/ has: run scripts/stubs.py")
    return int(here != fresh)


if __name__ == "__main__":
    sys.exit(main())
