"""Instructions per durable turn, counted by callgrind: nothing that runs beside it disturbs it.

    cargo build --profile dist -p tutor-http -p neuro-tutor-benches --bin neuro-tutor --bin bare
    python3 benches/instructions.py             # this server: sled, SQLite, memory
    python3 benches/instructions.py bare        # hyper that parses JSON and answers fixed JSON
    python3 benches/instructions.py reference   # FastAPI, SQLAlchemy, SQLite (peers/requirements.txt)

Each is started twice under valgrind, and asked a few times and many times over one connection; the
difference is what the turns in between cost, without start and end. `--profile` keeps what
`callgrind_annotate` shows of it.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BODY = json.dumps({"messages": [{"role": "user", "content": "What is photosynthesis?"}], "preferences": {}})
FEW, MANY = 100, 1100


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def built(name: str) -> str:
    named = os.environ.get(name.upper().replace("-", "_"))
    candidates = [Path(named)] if named else [ROOT / "target" / profile / name for profile in ("dist", "release")]
    found = next((path for path in candidates if path.exists()), None)
    if found is None:
        raise SystemExit(f"there is no {name}: build it as this file says at its top")
    return str(found)


def ask(port: int, turns: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    for _ in range(turns):
        connection.request("POST", "/api/chat", BODY, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"it answers {answer.status}")
    connection.close()


def instructions(command: list[str], turns: int, profile: Path | None) -> int:
    """All that the process executes from its start to its end."""
    port = free_port()
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as directory:
        out = profile or Path(directory) / "callgrind.out"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--"]
        environment = {"PATH": os.environ["PATH"], "DEMO_DELAY_MS": "0", "OLLAMA_HOST": "off", "LOG_LEVEL": "error"}
        process = subprocess.Popen(
            valgrind + [part.replace("PORT", str(port)) for part in command], cwd=directory, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(6000):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(process.stderr.read()) from None
                time.sleep(0.05)
        ask(port, turns)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=600)
    collected = re.search(r"Collected : (\d+)", said)
    if not collected:
        raise SystemExit(said)
    return int(collected[1])


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    which = arguments[0] if arguments else "server"
    if shutil.which("valgrind") is None:
        raise SystemExit("this needs valgrind")
    if which == "server":
        binary = built("neuro-tutor")
        commands = {
            name: [binary, "serve", "--port", "PORT", "--data", data]
            for name, data in (("sled", "store"), ("sqlite", "sqlite:///tutor.db"), ("memory", "memory:"))
        }
    elif which == "bare":
        commands = {"bare hyper": [built("bare"), "PORT"]}
    else:
        commands = {"reference": [sys.executable, str(ROOT / "benches" / "peers" / "reference.py"), "PORT"]}
    for name, command in commands.items():
        profile = ROOT / "target" / f"callgrind.{name.replace(' ', '-')}" if "--profile" in sys.argv else None
        few, many = instructions(command, FEW, None), instructions(command, MANY, profile)
        print(f"{name:<12} {(many - few) / (MANY - FEW):>12,.0f} instructions a turn", flush=True)


if __name__ == "__main__":
    main()
