"""An nginx for tests: the one of `examples/deploy`, without TLS, on a free port, in front of what its
arguments name.

`python3 .ci/nginx.py HOST:PORT…` starts one and prints its URL. It ends with its input.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import service

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "deploy" / "nginx.conf"
PATIENCE = 30


class Server:
    """A server of one's own."""

    def __init__(self, *upstreams: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tutor-nginx-"))
        self.port = service.free_port()
        file = self.directory / "nginx.conf"
        file.write_text(self.configuration(upstreams))
        command = [service.program("nginx", "nginx-light"), "-e", str(self.directory / "log"), "-p", str(self.directory), "-c", str(file)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit("nginx did not start: " + (self.directory / "log").read_text(errors="replace"))
            time.sleep(0.02)

    def configuration(self, upstreams: tuple[str, ...]) -> str:
        """What the example says, for another address and other servers."""
        lines = []
        for line in EXAMPLE.read_text().splitlines():
            words = line.split()
            if words[:1] == ["listen"]:
                line = f"listen 127.0.0.1:{self.port};"
            elif words[:1] == ["server"] and words[1] != "{":
                line = "".join(f"server {upstream} max_fails=0;\n" for upstream in upstreams)
            elif words and words[0].startswith("ssl_"):
                continue
            lines.append(line)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{kind}_temp_path {self.directory / kind};\n" for kind in kinds)
        user = "user root;\n" if os.geteuid() == 0 else ""
        head = f"{user}daemon off;\nworker_processes 1;\npid {self.directory / 'pid'};\nevents {{ worker_connections 1024; }}\n"
        return f"{head}http {{\naccess_log off;\n{places}" + "\n".join(lines) + "\n}\n"

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


if __name__ == "__main__":
    service.obey(Server(*sys.argv[1:]), ())
