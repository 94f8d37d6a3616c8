"""`python -m neuro_tutor` and the command `neuro-tutor`: the server's command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

import neuro_tutor as nt

MODULE = [sys.executable, "-m", "neuro_tutor"]
SCRIPT = [str(Path(sys.executable).parent / "neuro-tutor")]


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["module", "script"])
def test_it_tells_its_version_and_exits_as_the_command_did(command: list[str], tmp_path: Path) -> None:
    done = run([*command, "--version"], tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, f"neuro-tutor {nt.__version__}")
    wrong = run([*command, "--no-such-option"], tmp_path)
    assert wrong.returncode != 0 and "no-such-option" in wrong.stderr


def test_commands_work_on_the_data_of_the_package(tmp_path: Path) -> None:
    with nt.Tutor.open(tmp_path / "neuro-tutor-data", providers={"demo": {"delay": 0}}) as tutor:
        tutor.chat("hi")
    done = run([*MODULE, "verify"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_server_serves_until_it_is_told_to_stop(stop: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "PORT": "0", "DATA_DIR": str(tmp_path / "data"), "PYTHONUNBUFFERED": "1"}
    command = [*MODULE, "serve", "--port", "0"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    seen = []
    url = None
    for line in process.stdout:
        seen.append(line)
        if "http://" in line:
            url = "http://" + line.split("http://", 1)[1].split()[0].strip("\"',/ ")
            break
    assert url is not None, seen
    with urlopen(f"{url}/", timeout=10) as answer:
        assert b"healthy" in answer.read()
    process.send_signal(stop)
    process.stdout.close()
    assert process.wait(timeout=20) == 0


def test_an_argument_that_is_no_text_is_refused_and_no_crash(tmp_path: Path) -> None:
    done = subprocess.run([*MODULE, "export", b"\xff"], cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 2 and b"Traceback" not in done.stderr
