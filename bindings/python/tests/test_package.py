"""The package itself: types, documentation, examples."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import neuro_tutor

PACKAGE = Path(__file__).resolve().parent.parent
ROOT = PACKAGE.parent.parent
EXAMPLES = sorted((ROOT / "examples" / "python").glob("*.py"))


def test_the_package_is_typed_strictly(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        "from typing import Optional\n"
        "from neuro_tutor import AsyncTutor, Page, Reply, Session, TextDelta, Tutor\n\n"
        "class Mine:\n"
        "    name = 'mine'\n"
        "    def stream(self, request: object) -> list[str]:\n"
        "        return ['a']\n\n"
        "def use(tutor: Tutor) -> Optional[str]:\n"
        "    reply: Reply = tutor.chat('hi', timeout=5)\n"
        "    page: Page[Session] = tutor.sessions()\n"
        "    for event in tutor.stream('hi', session=page[0].id):\n"
        "        if event.type == 'text.delta':\n"
        "            return event.text\n"
        "        if isinstance(event, TextDelta):\n"
        "            return event.text\n"
        "    return reply.text\n\n"
        "async def use_async() -> str:\n"
        "    async with AsyncTutor.open(providers={'openai': {'api_key': 'k'}}) as tutor:\n"
        "        return (await tutor.chat('hi')).text\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10", "--cache-dir", str(tmp_path / "cache")]
    for target in (["-p", "neuro_tutor"], [str(tmp_path / "user.py")]):
        done = subprocess.run([*command, *target], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_stub_has_what_the_native_module_has(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy.stubtest", "neuro_tutor._native", "--ignore-disjoint-bases"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_public_is_documented() -> None:
    for name in neuro_tutor.__all__:
        item = getattr(neuro_tutor, name)
        if not inspect.isclass(item):
            continue
        assert inspect.getdoc(item), name
        for member, value in vars(item).items():
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                assert inspect.getdoc(getattr(item, member)), f"{name}.{member}"


def test_the_version_is_the_package_s() -> None:
    from importlib.metadata import version

    assert neuro_tutor.__version__ == version("neuro-tutor")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs(example: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout and not done.stderr, done.stderr


def test_the_documentation_s_code_runs(tmp_path: Path) -> None:
    texts = [(PACKAGE / "README.md").read_text(), neuro_tutor.__doc__]
    texts += [inspect.getdoc(item) or "" for item in map(neuro_tutor.__dict__.get, neuro_tutor.__all__)]
    found = [block for text in texts for block in re.findall(r"```python\n(.*?)```", text or "", re.DOTALL)]
    assert len(found) >= 6
    for i, block in enumerate(found):
        source = block
        if not re.search(r"^(from|import) ", source, re.MULTILINE):
            source = "from neuro_tutor import *\n" + source
        if re.search(r"^(async with|async for|await) ", source, re.MULTILINE):
            body = "\n".join("    " + line for line in source.splitlines() if not line.startswith("from "))
            source = f"import asyncio\nfrom neuro_tutor import *\nasync def main():\n{body}\nasyncio.run(main())\n"
        done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{i}:\n{source}\n{done.stderr}"
