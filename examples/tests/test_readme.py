"""Every quick start in the README, pasted verbatim."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from documents import ROOT, blocks
from server import serve


def only(found: list[str], words: str) -> str:
    (block,) = [block for block in found if words in block]
    return block


def test_the_curl_examples_answer_as_documented(tmp_path: Path) -> None:
    script = only(blocks("README.md", "sh"), "curl http://localhost:8000/\n")
    with serve(tmp_path, DEMO_DELAY_MS="0") as url:
        commands = script.replace("http://localhost:8000", url).replace("curl ", "curl -sSf ")
        done = subprocess.run(["bash", "-euc", commands], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    decoder, rest, answers = json.JSONDecoder(), done.stdout, []
    while rest:
        answer, end = decoder.raw_decode(rest)
        answers.append(answer)
        rest = rest[end:].lstrip()
    health, chat, sessions = answers
    assert health == {"status": "healthy"}
    assert chat["reply_message"]["role"] == "assistant"
    assert sessions["sessions"][0]["id"] == chat["session_id"]


def test_the_python_quick_start_runs(tmp_path: Path) -> None:
    source = only(blocks("README.md", "python"), "Tutor.open")
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    roles = [line.split()[0] for line in done.stdout.splitlines()[-4:]]
    assert roles == ["user", "assistant", "user", "assistant"]


def test_the_node_quick_start_runs(tmp_path: Path) -> None:
    source = only(blocks("README.md", "js"), "Tutor.open")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "neuro-tutor").symlink_to(ROOT / "bindings" / "node")
    (tmp_path / "quickstart.mjs").write_text(source)
    done = subprocess.run(["node", "quickstart.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout


def test_the_rust_quick_start_runs(tmp_path: Path) -> None:
    manifest = only(blocks("README.md", "toml"), "tutor-core")
    manifest = manifest.replace('path = "tutor-core"', f'path = "{ROOT / "tutor-core"}"')
    package = '[package]\nname = "quickstart"\nversion = "0.0.0"\nedition = "2024"\n\n'
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.rs").write_text(only(blocks("README.md", "rust"), "Tutor::open"))
    (tmp_path / "Cargo.toml").write_text(package + manifest)
    # The versions that the project is tested with, and its build directory.
    (tmp_path / "Cargo.lock").write_bytes((ROOT / "Cargo.lock").read_bytes())
    command = ["cargo", "run", "--quiet", "--target-dir", str(ROOT / "target" / "quickstart")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
