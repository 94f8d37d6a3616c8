"""Every example in the document about writing a provider, pasted verbatim."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from documents import ROOT, blocks

DOCUMENT = "docs/writing-a-provider.md"
ANSWER = "plant the eats light"


def only(language: str) -> str:
    (block,) = blocks(DOCUMENT, language)
    return block


def run(command: list[str], cwd: Path, timeout: int = 60) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_python_provider_answers(tmp_path: Path) -> None:
    assert run([sys.executable, "-c", only("python")], tmp_path).strip() == ANSWER


def test_models_of_other_python_libraries_answer(tmp_path: Path) -> None:
    sources = blocks(DOCUMENT, "py")
    assert len(sources) == 2
    for source in sources:
        assert run([sys.executable, "-c", source], tmp_path).strip() == ANSWER


def test_the_node_provider_answers(tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "neuro-tutor").symlink_to(ROOT / "bindings" / "node")
    (tmp_path / "provider.mjs").write_text(only("js"))
    assert run(["node", "provider.mjs"], tmp_path).strip() == ANSWER


def test_the_rust_provider_answers_and_keeps_the_laws(tmp_path: Path) -> None:
    manifest = only("toml").replace('path = "../tutor-core"', f'path = "{ROOT / "tutor-core"}"')
    package = '[package]\nname = "mirror"\nversion = "0.0.0"\nedition = "2024"\n\n'
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.rs").write_text(only("rust"))
    (tmp_path / "Cargo.toml").write_text(package + manifest)
    # The versions that the project is tested with, and its build directory.
    (tmp_path / "Cargo.lock").write_bytes((ROOT / "Cargo.lock").read_bytes())
    target = ["--quiet", "--target-dir", str(ROOT / "target" / "quickstart")]
    assert run(["cargo", "run", *target], tmp_path, timeout=900).strip() == ANSWER
    tested = re.search(r"(\d+) passed; 0 failed", run(["cargo", "test", *target], tmp_path, timeout=900))
    assert tested and int(tested[1]) > 10
