"""The real server binary, on a port and a data directory of its own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serve(directory: Path, **environment: str) -> Iterator[str]:
    """Starts the server in a directory, gives its URL, and stops it."""
    inherited = {"PATH", "HOME", "LLVM_PROFILE_FILE"}
    process = subprocess.Popen(
        [os.environ["NEURO_TUTOR"], "--port", "0"],
        cwd=directory,
        env={**{name: value for name, value in os.environ.items() if name in inherited}, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if match := re.search(r"http://[\d.]+:\d+", line):
            break
    else:
        raise AssertionError("the server did not start: " + "".join(lines))
    try:
        yield match.group()
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, output
