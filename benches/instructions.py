"""Instructions per durable turn, counted by callgrind: nothing that runs beside it disturbs it.

    cargo build --profile dist -p tutor-http -p neuro-tutor-benches
    python3 benches/instructions.py             # this server: sled, SQLite, memory
    python3 benches/instructions.py relay       # this server with sled: a reply of 20 events that is passed on
    python3 benches/instructions.py bare        # hyper that parses JSON and answers fixed JSON
    python3 benches/instructions.py reference   # FastAPI, SQLAlchemy, SQLite (peers/requirements.txt)
    python3 benches/instructions.py litellm     # the proxy of LiteLLM and this server, in CPU time

Each is started twice under valgrind, and asked a few times and many times over one connection; the
difference is what the turns in between cost, without start and end. `--profile` keeps what
`callgrind_annotate` shows of it. LiteLLM would need an hour so; of it the kernel's count of the time
that the process computed is taken, and of this server on the same traffic.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUESTION = [{"role": "user", "content": "What is photosynthesis?"}]
CHAT = ("/api/chat", json.dumps({"messages": QUESTION, "preferences": {}}))
RELAYED = ("/v1/chat/completions", json.dumps({"model": "gpt-4o-mini", "messages": QUESTION, "stream": True}))
EVENTS = 20
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


def ask(port: int, turns: int, question: tuple[str, str]) -> None:
    path, body = question
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    for _ in range(turns):
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"it answers {answer.status}")
    connection.close()


@dataclass
class Peer:
    """A server to start, its words PORT to be replaced, and what it is asked."""

    command: list[str]
    question: tuple[str, str] = CHAT
    environment: dict[str, str] = field(default_factory=dict)


@contextmanager
def started(peer: Peer, before: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """The peer, once it accepts connections at the port, and what it says meanwhile."""
    port = free_port()
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as directory, open(Path(directory) / "said", "wb") as said:
        environment = {"PATH": os.environ["PATH"], "DEMO_DELAY_MS": "0", "OLLAMA_HOST": "off", "LOG_LEVEL": "error"}
        process = subprocess.Popen(
            before + [part.replace("PORT", str(port)) for part in peer.command], cwd=directory,
            env={**environment, **peer.environment}, stdout=subprocess.DEVNULL, stderr=said,
        )
        for _ in range(6000):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(Path(said.name).read_text()[-2000:]) from None
                time.sleep(0.05)
        yield process, port, Path(said.name)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=600)


def instructions(peer: Peer, turns: int, profile: Path | None) -> int:
    """All that the process executes from its start to its end."""
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as directory:
        out = profile or Path(directory) / "callgrind.out"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--"]
        with started(peer, valgrind) as (process, port, said):
            ask(port, turns, peer.question)
            process.send_signal(signal.SIGINT)
            process.wait(timeout=600)
            text = said.read_text()
    collected = re.search(r"Collected : (\d+)", text)
    if not collected:
        raise SystemExit(text)
    return int(collected[1])


def computed(process: subprocess.Popen[bytes]) -> float:
    """For how many seconds the process has computed until now."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def seconds_a_turn(peer: Peer) -> float:
    with started(peer, []) as (process, port, _):
        ask(port, FEW, peer.question)
        before = computed(process)
        ask(port, MANY - FEW, peer.question)
        return (computed(process) - before) / (MANY - FEW)


@contextmanager
def upstream() -> Iterator[str]:
    """The address of a provider that sends its whole reply at once."""
    process = subprocess.Popen(
        [built("relay"), "upstream", str(EVENTS), "0", "go"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def our_relay(address: str) -> Peer:
    environment = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": f"http://{address}/v1"}
    return Peer([built("neuro-tutor"), "serve", "--port", "PORT", "--data", "store"], RELAYED, environment)


def compare_with_litellm() -> None:
    with upstream() as address:
        litellm = [str(Path(sys.executable).with_name("litellm")), "--host", "127.0.0.1", "--port", "PORT", "--config"]
        environment = {"UPSTREAM": f"http://{address}/v1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        peers = {
            "LiteLLM": Peer([*litellm, str(ROOT / "benches/peers/litellm.yaml")], RELAYED, environment),
            "ours, sled": our_relay(address),
        }
        for name, peer in peers.items():
            print(f"{name:<12} {seconds_a_turn(peer) * 1e6:>12,.0f} µs of CPU for a relayed reply of {EVENTS} events", flush=True)


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    which = arguments[0] if arguments else "server"
    if shutil.which("valgrind") is None:
        raise SystemExit("this needs valgrind")
    with ExitStack() as stack:
        if which == "litellm":
            return compare_with_litellm()
        if which == "server":
            serve = [built("neuro-tutor"), "serve", "--port", "PORT", "--data"]
            stores = (("sled", "store"), ("sqlite", "sqlite:///tutor.db"), ("memory", "memory:"))
            peers = {name: Peer([*serve, data]) for name, data in stores}
        elif which == "relay":
            address = stack.enter_context(upstream())
            peers = {"sled": our_relay(address)}
        elif which == "bare":
            peers = {"bare hyper": Peer([built("bare"), "PORT"])}
        else:
            peers = {"reference": Peer([sys.executable, str(ROOT / "benches" / "peers" / "reference.py"), "PORT"])}
        for name, peer in peers.items():
            profile = ROOT / "target" / f"callgrind.{which}.{name.split()[-1]}" if "--profile" in sys.argv else None
            few, many = instructions(peer, FEW, None), instructions(peer, MANY, profile)
            print(f"{name:<12} {(many - few) / (MANY - FEW):>12,.0f} instructions a turn", flush=True)


if __name__ == "__main__":
    main()
