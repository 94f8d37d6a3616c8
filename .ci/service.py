"""What the servers that tests start have in common: a package, a free port, and commands on standard input."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Protocol


class Service(Protocol):
    """A server of one's own, with a method for each command that it takes."""

    @property
    def url(self) -> str: ...

    def end(self) -> None: ...


def install(package: str) -> None:
    """Installs a package without starting its service, if we may."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
            subprocess.run(["apt-get", *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment, check=False)


def program(name: str, package: str) -> str:
    """A program, installed by the package manager if it is missing and we may."""
    if shutil.which(name) is None:
        install(package)
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"the tests need {name}: install the package {package} and run again")
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def obey(server: Service, commands: Sequence[str]) -> None:
    """Prints the server's URL, does what standard input says until its end, and leaves nothing behind."""
    try:
        print(server.url, flush=True)
        for line in sys.stdin:
            command = line.strip()
            if command == "end":
                break
            if command in commands:
                getattr(server, command)()
                print(command, flush=True)
    finally:
        server.end()
