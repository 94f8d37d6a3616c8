"""Runs every test of the project and adds up what the runners say.

Installs what the tests need into the project (a Python venv, npm packages) or, when root, by the
package manager (a browser, PostgreSQL, Redis). Ends with the line "N passed, N failed", and fails if anything failed
or was skipped.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import postgres
import redis

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
TOOLS = ROOT / ".work" / "tools"
NODE_PACKAGE = ROOT / "bindings" / "node"
RUNTIMES = ROOT / ".work" / "runtimes"
# The oldest and the newest that are supported, and what is run there besides the machine's own.
NODE_VERSIONS = ("20", "26")
NODE_CORE = [f"tests/{name}.test.mjs" for name in ("tutor", "stream", "provider", "store", "errors", "process")]
BROWSER_TESTS = ROOT / "tutor-http" / "tests" / "browser"
CLIENT_TESTS = ROOT / "tutor-http" / "tests" / "clients" / "node"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# What tests write where learners' words, keys and passwords go. It may be in no output of any test,
# and in no log of any server that they start: these are in a directory of their own.
CANARY = re.compile("canary", re.IGNORECASE)
LOGS = ROOT / ".work" / "logs"

# How each runner tells its counts: a pattern of the line, and which group is what.
SUMMARIES = {
    "cargo": re.compile(r"^test result: .*? (?P<passed>\d+) passed; (?P<failed>\d+) failed; (?P<skipped>\d+) ignored"),
    "pytest": re.compile(r"^=*\s*(?=.*\bin [\d.]+s)(?:.*?(?P<failed>\d+) failed)?(?:.*?(?P<passed>\d+) passed)?(?:.*?(?P<skipped>\d+) skipped)?(?:.*?(?P<errors>\d+) error)?"),
    "node": re.compile(r"^# (?:(?:pass (?P<passed>\d+))|(?:fail (?P<failed>\d+))|(?:(?:skipped|cancelled|todo) (?P<skipped>\d+)))$"),
}


@dataclass
class Total:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Total) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def run(title: str, command: list[str], runner: str | None = None, cwd: Path = ROOT, env: dict[str, str] | None = None) -> Total:
    """Runs a command, shows what it prints, and counts. Without a runner it is one test."""
    print(f"\n── {title}: {' '.join(command)}", flush=True)
    start = time.monotonic()
    process = subprocess.Popen(
        command, cwd=cwd, env={**os.environ, "TUTOR_TEST_LOGS": str(LOGS), **(env or {})}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )
    total = Total()
    for line in process.stdout:
        print(line, end="", flush=True)
        if runner and CANARY.search(line):
            FOUND.append(f"{title}: {line.strip()}")
        if runner and (match := SUMMARIES[runner].match(line.strip())):
            counts = {name: int(value) for name, value in match.groupdict().items() if value}
            total.passed += counts.get("passed", 0)
            total.failed += counts.get("failed", 0) + counts.get("errors", 0)
            total.skipped += counts.get("skipped", 0)
    ok = process.wait() == 0
    if runner is None:
        total = Total(passed=int(ok), failed=int(not ok))
    elif not ok and not total.failed:
        total.failed = 1
    elif ok and not total.passed:
        print(f"{title}: no test was executed")
        total.failed = 1
    print(f"── {title}: {'ok' if ok else 'FAILED'} in {time.monotonic() - start:.0f} s", flush=True)
    return total


def need(title: str, command: list[str], cwd: Path = ROOT, env: dict[str, str] | None = None) -> bool:
    """A step of the set-up; its failure is a failed test."""
    result = run(title, command, cwd=cwd, env=env)
    TOTAL.add(Total(failed=result.failed))
    return result.failed == 0


def browser() -> str | None:
    """A browser, installed if it is missing and we may."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], stdin=subprocess.DEVNULL, check=False)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        subprocess.run(install, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    return found


def tool(name: str, *options: str) -> str | None:
    """A cargo tool, built into the checkout if it is missing; unoptimized, since building it is what takes its time."""
    path = TOOLS / "bin" / name
    if path.exists() or need(name, ["cargo", "install", "--quiet", "--locked", "--debug", "--root", str(TOOLS), name, *options]):
        return str(path)
    return None


def rust() -> None:
    packages = ["-p", "tutor-core", "-p", "tutor-http", "-p", "neuro-tutor-examples"]
    TOTAL.add(run("format", ["cargo", "fmt", "--all", "--check"]))
    lints = ["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]
    TOTAL.add(run("lints", lints))
    database = postgres.Server()
    shared = redis.Server()
    try:
        # What the stores and instances need: servers, and a Python with the original system's libraries.
        needed = {"TUTOR_TEST_POSTGRES": database.url, "TUTOR_TEST_REDIS": shared.url, "TUTOR_TEST_PYTHON": str(PYTHON)}
        TOTAL.add(run("rust", ["cargo", "test", "--locked", "--all-features", "--no-fail-fast", *packages], "cargo", env=needed))
    finally:
        shared.end()
        database.end()
    features = ["cargo", "check", "--locked", "-p", "tutor-core", "--no-default-features"]
    TOTAL.add(run("core without features", features))
    deny = tool("cargo-deny", "--no-default-features")
    if deny:
        checks = ["--offline", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]
        TOTAL.add(run("licences and bans", [deny, *checks]))


def python() -> None:
    built = ROOT / ".work" / "python"
    shutil.rmtree(built, ignore_errors=True)
    # Unoptimized and without symbols: what is tested is compiled twice as fast, and checks more.
    build = {"MATURIN_PEP517_ARGS": "--profile dev --strip", "CARGO_TARGET_DIR": str(ROOT / "target")}
    wheel = [str(PYTHON), "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(built), "./bindings/python"]
    sdist = [str(PYTHON), "-m", "maturin", "sdist", "-m", "bindings/python/Cargo.toml", "-o", str(built)]
    if not need("python wheel", wheel, env=build) or not need("python source distribution", sdist):
        return
    packages = sorted(built.iterdir())
    TOTAL.add(run("python packages", [str(PYTHON), "-m", "twine", "check", "--strict", *map(str, packages)]))
    # As a user installs it: with nothing else there.
    clean = ROOT / ".work" / "clean"
    quickstart = [str(clean / "bin" / "python"), str(ROOT / "examples" / "python" / "custom_provider.py")]
    for package in packages:
        if need("clean environment", [sys.executable, "-m", "venv", "--clear", str(clean)]):
            install = [str(clean / "bin" / "python"), "-m", "pip", "install", "-q", str(package)]
            TOTAL.add(run(f"install {package.name}", install, env=build))
            TOTAL.add(run(f"use {package.name}", quickstart))
    (wheel_file,) = built.glob("*.whl")
    again = [str(PYTHON), "-m", "pip", "install", "-q", "--force-reinstall", "--no-deps", str(wheel_file)]
    if need("python package", again):
        TOTAL.add(run("python", [str(PYTHON), "-m", "pytest", "bindings/python/tests"], "pytest"))
    TOTAL.add(run("python stubs", [str(PYTHON), "bindings/python/scripts/stubs.py", "--check"]))
    TOTAL.add(run("every python", [sys.executable, ".ci/pythons.py", str(wheel_file)], "pytest"))


def node() -> None:
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    # Unoptimized, as the Python package is.
    build = ["npm", "run", "build:dev"]
    if need("node package", install, cwd=NODE_PACKAGE) and need("node build", build, cwd=NODE_PACKAGE):
        TOTAL.add(run("node", ["npm", "test"], "node", cwd=NODE_PACKAGE))
        runtimes()


def runtimes() -> None:
    """The built package on the oldest and the newest Node that it supports, and on Bun and Deno."""
    system = sys.platform
    machine = "arm64" if platform.machine() in ("arm64", "aarch64") else "x64"
    own = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    node_package = f"node-{'bin-' if (system, machine) == ('darwin', 'arm64') else ''}{system}-{machine}"
    for version in NODE_VERSIONS:
        if own.startswith(f"v{version}."):
            continue
        node = runtime(f"{node_package}@{version}", node_package, "bin/node")
        if node:
            command = [node, "--test", "--test-reporter=tap", "--test-timeout=300000", *NODE_CORE]
            TOTAL.add(run(f"node {version}", command, "node", cwd=NODE_PACKAGE))
    user = RUNTIMES / "user"
    shutil.rmtree(user, ignore_errors=True)
    (user / "node_modules").mkdir(parents=True)
    (user / "node_modules" / "neuro-tutor").symlink_to(NODE_PACKAGE)
    (user / "package.json").write_text('{"private": true, "dependencies": {"neuro-tutor": "*"}}')
    for file in (NODE_PACKAGE / "tests" / "runtimes" / "smoke.mjs", ROOT / "examples" / "node" / "own_store.mjs"):
        shutil.copy(file, user)
    bun_package = f"@oven/bun-{system}-{machine.replace('arm64', 'aarch64')}"
    deno_package = f"@deno/{system}-{machine}{'-glibc' if system == 'linux' else ''}"
    bun = runtime(bun_package, bun_package, "bin/bun")
    if bun:
        TOTAL.add(run("bun", [bun, "smoke.mjs"], cwd=user))
    deno = runtime(deno_package, deno_package, "deno")
    if deno:
        TOTAL.add(run("deno", [deno, "run", "--allow-all", "smoke.mjs"], cwd=user))


def runtime(wanted: str, package: str, binary: str) -> str | None:
    """A JavaScript runtime that an npm package brings along, installed into the checkout if it is missing."""
    place = RUNTIMES / re.sub(r"\W+", "-", wanted)
    path = place / "node_modules" / package / binary
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--prefix", str(place), wanted]
    if path.exists() or need(wanted, install):
        path.chmod(0o755)
        return str(path)
    return None


def server() -> None:
    # With the engine as the Python package has it: compiled once for both.
    build = ["cargo", "build", "--locked", "-p", "tutor-http", "--features", "tutor-core/conformance"]
    if not need("server", build):
        return
    binary = {"NEURO_TUTOR": str(ROOT / "target" / "debug" / "neuro-tutor")}
    clients = [str(PYTHON), "-m", "pytest", "-c", ".ci/pytest.ini", "--rootdir", ".", "tutor-http/tests/clients", "examples/tests"]
    TOTAL.add(run("clients and documents", clients, "pytest", env=binary))
    if need("npm clients", ["npm", "ci", "--no-audit", "--no-fund"], cwd=CLIENT_TESTS):
        env = {**binary, "TUTOR_TEST_PYTHON": str(PYTHON)}
        TOTAL.add(run("stock clients", ["node", "--test", "--test-reporter=tap"], "node", cwd=CLIENT_TESTS, env=env))
    path = browser()
    if path is None:
        print("browser tests need chromium: install it and run again")
        TOTAL.add(Total(failed=1))
    elif need("browser driver", ["npm", "ci", "--no-audit", "--no-fund"], cwd=BROWSER_TESTS):
        env = {**binary, "BROWSER": path}
        TOTAL.add(run("browser", ["node", "--test", "--test-reporter=tap"], "node", cwd=BROWSER_TESTS, env=env))


def look_for_canaries() -> Total:
    """One test: nothing that tests planted was printed or logged."""
    logs = sorted(LOGS.glob("*.log"))
    lines = 0
    for log in logs:
        for line in log.read_text(errors="replace").splitlines():
            lines += 1
            if CANARY.search(line):
                FOUND.append(f"{log.name}: {line}")
    print(f"\n── canaries: {len(FOUND)} in the output and in {lines} lines of {len(logs)} logs", flush=True)
    for found in FOUND[:20]:
        print(f"   {found[:500]}")
    return Total(passed=int(not FOUND), failed=int(bool(FOUND)))


def main() -> int:
    # Who is started in the background is told to ignore it, and so would be what the tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    shutil.rmtree(LOGS, ignore_errors=True)
    if not PYTHON.exists() and not need("venv", [sys.executable, "-m", "venv", str(VENV)]):
        return 1
    requirements = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", ".ci/requirements.txt"]
    if need("python tools", requirements):
        wanted = sys.argv[1:] or ["rust", "python", "node", "server"]
        for step in (rust, python, node, server):
            if step.__name__ in wanted:
                step()
        TOTAL.add(look_for_canaries())
    if TOTAL.skipped:
        print(f"{TOTAL.skipped} tests were skipped, which counts as failed")
        TOTAL.failed += TOTAL.skipped
    print(f"\n{TOTAL.passed} passed, {TOTAL.failed} failed")
    return 0 if TOTAL.failed == 0 and TOTAL.passed else 1


TOTAL = Total()
FOUND: list[str] = []
if __name__ == "__main__":
    sys.exit(main())
