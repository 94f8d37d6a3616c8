"""The package itself: types, documentation, examples."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import neuro_tutor

PACKAGE = Path(__file__).resolve().parent.parent
ROOT = PACKAGE.parent.parent
EXAMPLES = sorted((ROOT / "examples" / "python").glob("*.py"))


@pytest.mark.timeout(300)
def test_the_package_is_typed_strictly(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        "from typing import Optional\n"
        "from dataclasses import dataclass\n"
        "from neuro_tutor import AsyncTutor, Page, Reply, Session, TextDelta, Tool, ToolContext, Tutor, tool\n\n"
        "@dataclass\n"
        "class Plant:\n"
        "    name: str\n\n"
        "@tool\n"
        "def light(place: str, context: ToolContext) -> int:\n"
        "    return 1\n\n"
        "@tool(name='dark')\n"
        "async def dark() -> str:\n"
        "    return ''\n\n"
        "def typed(tutor: Tutor, made: Tool) -> str:\n"
        "    return tutor.chat('hi', output=Plant, tools=[light, dark, made, len]).output.name\n\n"
        "async def typed_async(tutor: AsyncTutor) -> Plant:\n"
        "    return (await tutor.chat('hi', output=Plant)).output\n\n"
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
        "def use_providers() -> None:\n"
        "    Tutor.open(providers={'openai': {'api_key': ['a', 'b'], 'fallback': 'local'}, 'local': {'kind': 'demo'}})\n"
        "    Tutor.open(providers={'registered': {'anything': 1}})\n"
        "    Tutor.open(providers=[{'name': 'registered', 'anything': 1}])\n"
        "    file = Tutor.open().files.upload(bytearray(b'x'))\n"
        "    Tutor.open().chat('hi', attachments=[file, bytearray(b'x'), ('a', memoryview(b'x'))])\n\n"
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


def test_every_public_type_is_known_to_pyright(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pyright", "--ignoreexternal", "--verifytypes", "neuro_tutor"]
    # It looks into the first Python on the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0 and "Type completeness score: 100%" in done.stdout, done.stdout + done.stderr


def test_without_rust_the_source_distribution_says_what_to_do(tmp_path: Path) -> None:
    code = "import neuro_tutor_build as build; build.get_requires_for_build_wheel()"
    hooks = {"PYTHONPATH": str(PACKAGE / "build_hooks"), "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=hooks)
    assert done.returncode != 0 and "https://rustup.rs" in done.stderr and "Traceback" not in done.stderr


def test_the_package_is_imported_part_by_part() -> None:
    code = (
        "import sys, neuro_tutor\n"
        "assert not {'asyncio', 'dataclasses', 'neuro_tutor._tutor'} & set(sys.modules)\n"
        "from neuro_tutor import Tutor\n"
        "Tutor.open('memory:').close()\n"
        "assert 'asyncio' not in sys.modules\n"
        "assert set(neuro_tutor.__all__) <= set(dir(neuro_tutor))\n"
        "for name in neuro_tutor.__all__: getattr(neuro_tutor, name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
    readme = (PACKAGE / "README.md").read_text()
    texts = [readme, neuro_tutor.__doc__]
    texts += [inspect.getdoc(getattr(neuro_tutor, name)) or "" for name in neuro_tutor.__all__]
    found = [block for text in texts for block in re.findall(r"```python\n(.*?)```", text or "", re.DOTALL)]
    assert len(found) >= 6
    for i, block in enumerate(found):
        source = block
        # The README's is pasted as it stands.
        if block not in readme and not re.search(r"^(from|import) ", source, re.MULTILINE):
            source = "from neuro_tutor import *\n" + source
        if re.search(r"^(async with|async for|await) ", source, re.MULTILINE):
            body = "\n".join("    " + line for line in source.splitlines() if not line.startswith("from "))
            source = f"import asyncio\nfrom neuro_tutor import *\nasync def main():\n{body}\nasyncio.run(main())\n"
        done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{i}:\n{source}\n{done.stderr}"
