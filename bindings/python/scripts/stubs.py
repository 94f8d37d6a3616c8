"""Writes `python/neuro_tutor/_native.pyi` from what the native module is compiled from; with `--check` says how it
differs from what is there.

Run it with the Python that has maturin. It compiles the module once more, with pyo3's introspection, which the
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
HEAD = "# Written by scripts/stubs.py from src/; do not edit.\n"
# Names in the annotations that are written in the sources; pyo3 does not import them.
NAMES = ("asyncio", "collections.abc", "typing", "weakref")


def generated() -> str:
    """The stub, as the sources have it."""
    with tempfile.TemporaryDirectory() as directory:
        options = ["--quiet", "--features", "pyo3/experimental-inspect", "--out", directory]
        subprocess.run([sys.executable, "-m", "maturin", "generate-stubs", *options], cwd=PACKAGE, check=True)
        text = (Path(directory) / "neuro_tutor" / "_native.pyi").read_text()
    return finished(text)


def finished(text: str) -> str:
    """What pyo3 wrote, with the names imported that annotations of ours have, and these unquoted."""
    text = re.sub(r'(->|:) "([^"\n]+)"', r"\1 \2", text)
    used = [name for name in NAMES if re.search(rf"\b{re.escape(name)}\.", text)]
    imports = [f"import {name}\n" for name in used]
    if re.search(r"\bDescribed\b", text):
        imports.append("\nfrom .errors import Described\n")
    return HEAD + re.sub(r"^from ", lambda first: "".join(imports) + first[0], text, count=1, flags=re.MULTILINE)


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
