"""The real server binary, on a port and a data directory of its own."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def log_of(directory: Path) -> Path:
    """Where a server logs: where all output of the test run is looked through, if that is asked for."""
    logs = os.environ.get("TUTOR_TEST_LOGS")
    if logs is None:
        return directory / "server.log"
    Path(logs).mkdir(parents=True, exist_ok=True)
    return Path(logs) / f"python-{uuid.uuid4()}.log"


@contextmanager
def serve(directory: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """Starts the server in a directory, gives its URL, and stops it."""
    inherited = {"PATH", "HOME", "LLVM_PROFILE_FILE"}
    passed = {name: value for name, value in os.environ.items() if name in inherited}
    level = "trace" if "TUTOR_TEST_LOGS" in os.environ else "info"
    log = log_of(directory)
    with log.open("w") as errors:
        process = subprocess.Popen(
            [os.environ["NEURO_TUTOR"], "--port", "0", *arguments],
            cwd=directory,
            env={**passed, "LOG_LEVEL": level, **environment},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.search(r"http://[\d.]+:\d+", line):
            break
    else:
        raise AssertionError("the server did not start: " + log.read_text())
    try:
        yield match.group()
    finally:
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0, log.read_text()[-10000:]
