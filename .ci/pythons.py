"""Installs a wheel of the package into every Python of this machine and runs the core of its tests there.

    python3 .ci/pythons.py WHEEL

Environments are made in `.work/pythons`, two versions are tested at a time, and the last line of each is what pytest says.
`EXITS` is how often each way to exit is tried in each version: 2 unless it is set.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".work" / "pythons"
TESTS = ROOT / "bindings" / "python" / "tests"
VERSIONS = [f"3.{minor}" for minor in range(9, 15)]
# What the tests of the core need.
NEEDED = ["pytest>=8", "pytest-asyncio>=1.2", "pytest-timeout>=2.4"]
CORE = ["tutor", "async", "values", "errors", "branches", "faces", "files", "handles", "process", "transfer", "testing"]
AT_A_TIME = 2
# The last pytest-asyncio for it leaves a loop of its own open.
LEFT_OPEN = {"3.9": ["-W", "default::pytest.PytestUnraisableExceptionWarning"]}


def interpreters() -> dict[str, str]:
    """The interpreters of the versions that the package is for: the first one that works, of each."""
    places = [path for version in VERSIONS if (path := shutil.which(f"python{version}"))]
    places += sorted(glob.glob(str(Path.home() / ".pyenv" / "versions" / "3.*" / "bin" / "python")))
    found: dict[str, str] = {}
    for path in [sys.executable, *places]:
        code = "import sys, json, ensurepip; print(json.dumps([*sys.version_info[:2], sys.implementation.name]))"
        told = subprocess.run([path, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if told.returncode == 0:
            major, minor, name = json.loads(told.stdout)
            version = f"{major}.{minor}"
            if name == "cpython" and version in VERSIONS:
                found.setdefault(version, path)
    return dict(sorted(found.items(), key=lambda item: int(item[0].split(".")[1])))


def test(version: str, interpreter: str, wheel: str) -> tuple[str, bool]:
    """What was printed, and whether all is well."""
    place = PLACE / version
    python = str(place / "bin" / "python")
    steps = [
        [interpreter, "-m", "venv", "--clear", str(place)],
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *NEEDED, wheel],
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *LEFT_OPEN.get(version, []), *(str(TESTS / f"test_{name}.py") for name in CORE)],
    ]
    # The environment's own settings would choose the interpreter.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYENV_")}
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, cwd=TESTS.parent, env={"EXITS": "2", **env})
        if done.returncode != 0:
            return done.stdout + done.stderr, False
    return done.stdout, True


def main() -> int:
    """The exit code."""
    (wheel,) = sys.argv[1:]
    found = interpreters()
    print(f"versions: {', '.join(found) or 'none'}", flush=True)
    is_well = bool(found)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        results = pool.map(lambda item: (item[0], *test(*item, os.path.abspath(wheel))), found.items())
        for version, printed, passed in results:
            print(f"Python {version}: {printed.strip().splitlines()[-1]}" if passed else f"Python {version}:\n{printed}", flush=True)
            is_well = is_well and passed
    return int(not is_well)


if __name__ == "__main__":
    sys.exit(main())
