"""Two servers behind nginx, restarted one after the other while clients keep asking: no request may fail
or be done twice. Of a killed server, those that it was answering may be told to be interrupted.

`python3 benches/roll.py [REQUESTS] [kill]`: 100,000 turns by default; `kill` ends servers without
asking them. Needs a build of the server (`NEURO_TUTOR`, else `target/dist/neuro-tutor`), and
PostgreSQL, Redis and nginx, which it starts.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".ci"))

import nginx  # noqa: E402
import postgres  # noqa: E402
import redis  # noqa: E402
import service  # noqa: E402

PROGRAM = os.environ.get("NEURO_TUTOR", str(ROOT / "target" / "dist" / "neuro-tutor"))
CLIENTS = 16
# How long a server is there before the next one is restarted.
PAUSE = 1.0


class Server:
    """One of the two, on a port that it keeps."""

    def __init__(self, place: Path, environment: dict[str, str]) -> None:
        self.port, self.place = service.free_port(), place
        self.environment = {"DEMO_DELAY_MS": "0", "OLLAMA_HOST": "off", "LEASE_SECONDS": "3", **environment}
        self.start()

    def start(self) -> None:
        command = [PROGRAM, "serve", "--port", str(self.port), "--log-level", "error", "--drain-seconds", "20"]
        self.process = subprocess.Popen(command, cwd=self.place, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        while not (line := self.process.stdout.readline()).strip().startswith("docs"):
            if not line:
                raise SystemExit("a server does not start")

    def restart(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait()
        self.start()


class Clients:
    """Who asks, each by a connection that is kept."""

    def __init__(self, port: int, requests: int) -> None:
        self.port, self.left = port, requests
        self.lock = threading.Lock()
        self.statuses: Counter[str] = Counter()
        self.sessions: list[str] = []
        self.slowest, self.again = 0.0, 0
        self.threads = [threading.Thread(target=self.ask) for _ in range(CLIENTS)]

    def ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while True:
            with self.lock:
                if self.left == 0:
                    return
                self.left -= 1
            body = json.dumps({"messages": [{"role": "user", "content": "What is light?"}]})
            headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
            began, again = time.monotonic(), 0
            while True:
                try:
                    connection.request("POST", "/api/chat", body, headers)
                    answer = connection.getresponse()
                    told = answer.read()
                    status, session = str(answer.status), None
                    if answer.status == 200:
                        session = json.loads(told)["session_id"]
                    elif b'"interrupted"' in told:
                        # Its server was killed: what was written is kept, and is not written twice.
                        status = "interrupted"
                except (OSError, http.client.HTTPException) as error:
                    status, session = type(error).__name__, None
                    connection.close()
                # A killed server may have begun with it: nobody knows before its lease is over.
                if status != "409" or again >= 60:
                    break
                again += 1
                time.sleep(float(answer.headers.get("Retry-After", "1")))
            with self.lock:
                self.again += bool(again)
                self.statuses[status] += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                if status == "200":
                    self.sessions.append(session)


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    how = signal.SIGKILL if "kill" in sys.argv[1:] else signal.SIGTERM
    database, shared = postgres.Server(), redis.Server()
    servers: list[Server] = []
    front = None
    try:
        with tempfile.TemporaryDirectory() as place:
            environment = {"DATABASE_URL": database.url, "REDIS_URL": shared.url}
            servers += [Server(Path(place), environment) for _ in range(2)]
            front = nginx.Server(*(f"127.0.0.1:{server.port}" for server in servers))
            clients = Clients(front.port, numbers[0] if numbers else 100_000)
            began, restarts = time.monotonic(), 0
            for thread in clients.threads:
                thread.start()
            while any(thread.is_alive() for thread in clients.threads):
                servers[restarts % 2].restart(how)
                restarts += 1
                time.sleep(PAUSE)
            took = time.monotonic() - began
            exported = subprocess.run([PROGRAM, "export", "--data", database.url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=place, env={}, check=True)
            lines = (json.loads(line) for line in exported.stdout.splitlines())
            kept = {line["session"]["id"]: line["session"]["message_count"] for line in lines if "session" in line}
    finally:
        for server in servers:
            server.process.kill()
        for started in (front, shared, database):
            if started is not None:
                started.end()
    asked = sum(clients.statuses.values())
    word = "kills" if how is signal.SIGKILL else "restarts"
    print(f"{asked} turns in {took:.0f} s, {restarts} {word}: answered {dict(clients.statuses)}, {clients.again} of them had to ask again, the slowest in {clients.slowest:.2f} s")
    missing = sum(kept.get(session) != 2 for session in clients.sessions)
    print(f"acknowledged and not whole in the store: {missing}; in the store and never acknowledged: {len(kept.keys() - set(clients.sessions))}; acknowledged twice: {len(clients.sessions) - len(set(clients.sessions))}")


if __name__ == "__main__":
    main()
