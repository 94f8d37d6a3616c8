"""Programs of the system that the tests need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from documents import ROOT


@contextmanager
def service(name: str) -> Iterator[str]:
    """Starts a server that a script of the tests starts, such as `redis`, and gives its URL."""
    with subprocess.Popen([sys.executable, str(ROOT / ".ci" / f"{name}.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert "://" in url, f"{name} did not start"
            yield url
        finally:
            # It ends with its input, and takes its directory away.
            process.stdin.close()


def program(name: str, package: str) -> str:
    """Where a program is, installed by the package manager if it is missing and we may."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        # Without starting what it would start.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
            subprocess.run(["apt-get", *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment, check=False)
        found = shutil.which(name, path=path)
    if found is None:
        raise RuntimeError(f"the test needs {name}: install the package {package} and run again")
    return found
