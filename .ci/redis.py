"""A Redis server for tests: in a temporary directory, on a free port, gone afterwards.

`python3 .ci/redis.py` starts one and prints its URL. On standard input it takes `stop` (it is killed,
with all that it has), `start`, `hang` (it takes connections and answers nobody), `go` (it answers
again) and `end`, and answers each with a line; at the end of the input it stops and leaves nothing
behind. `python3 .ci/redis.py CERTIFICATE KEY` speaks TLS, and nothing else.
"""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import service

PASSWORD = "only-for-tests"
PATIENCE = 30


class Server:
    """A server of one's own."""

    def __init__(self, *tls: str) -> None:
        self.tls = [str(Path(path).resolve()) for path in tls]
        self.program = service.program("redis-server", "redis-server")
        self.directory = Path(tempfile.mkdtemp(prefix="tutor-redis-"))
        self.port = service.free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        scheme, host = ("rediss", "localhost") if self.tls else ("redis", "127.0.0.1")
        return f"{scheme}://:{PASSWORD}@{host}:{self.port}/0"

    def start(self) -> None:
        plain, tls = ("0", self.port) if self.tls else (self.port, "0")
        options = ["--port", str(plain), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--dir", str(self.directory)]
        # It keeps nothing: that is the worst that may happen.
        memory = ["--save", "", "--appendonly", "no", "--daemonize", "no", "--logfile", str(self.directory / "log")]
        if self.tls:
            certificate, key = self.tls
            options += ["--tls-port", str(tls), "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no"]
        self.process = subprocess.Popen([self.program, *options, *memory], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit("redis-server did not start: " + (self.directory / "log").read_text(errors="replace"))
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            with self.connect() as connection:
                connection.sendall(f"AUTH {PASSWORD}\r\nPING\r\n".encode())
                return b"+" in connection.recv(64)
        except OSError:
            return False

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=1)
        if not self.tls:
            return connection
        context = ssl.create_default_context(cafile=self.tls[0])
        return context.wrap_socket(connection, server_hostname="localhost")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def hang(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def go(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


if __name__ == "__main__":
    service.obey(Server(*sys.argv[1:]), ("start", "stop", "hang", "go"))
