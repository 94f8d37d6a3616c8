"""Measures line coverage of all three languages and prints one table.

Rust by cargo-llvm-cov over the tests of the core and the server, Python by pytest-cov, Node by its
own coverage.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from tests import NODE_PACKAGE, PYTHON, ROOT, tool  # noqa: E402

OUT = ROOT / "coverage"


def rust() -> list[tuple[str, int, int]]:
    """Lines of each crate: how many there are, and how many the tests ran."""
    subprocess.run(["rustup", "component", "add", "llvm-tools"], check=True, stdout=subprocess.DEVNULL)
    command = tool("cargo-llvm-cov")
    if command is None:
        raise SystemExit("cargo-llvm-cov could not be installed")
    packages = ["-p", "tutor-core", "-p", "tutor-http", "-p", "neuro-tutor-examples"]
    report = OUT / "rust.json"
    subprocess.run(
        [command, "llvm-cov", "--all-features", *packages, "--json", "--summary-only", "--output-path", str(report)],
        cwd=ROOT, check=True,
    )
    lines: dict[str, list[int]] = {}
    for file in json.loads(report.read_text())["data"][0]["files"]:
        crate = Path(file["filename"]).relative_to(ROOT).parts[0]
        total = lines.setdefault(crate, [0, 0])
        total[0] += file["summary"]["lines"]["count"]
        total[1] += file["summary"]["lines"]["covered"]
    return [(crate, *total) for crate, total in sorted(lines.items())]


def python() -> list[tuple[str, int, int]]:
    report = OUT / "python.json"
    subprocess.run([str(PYTHON), "-m", "pip", "install", "-q", "./bindings/python"], cwd=ROOT, check=True)
    subprocess.run(
        [str(PYTHON), "-m", "pytest", "-q", "bindings/python/tests", "-p", "no:neuro_tutor", "--cov=neuro_tutor", f"--cov-report=json:{report}"],
        cwd=ROOT, check=True,
    )
    totals = json.loads(report.read_text())["totals"]
    return [("neuro_tutor (Python)", totals["num_statements"], totals["covered_lines"])]


def node() -> list[tuple[str, int, int]]:
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=NODE_PACKAGE, check=True)
    subprocess.run(["npm", "run", "--silent", "build"], cwd=NODE_PACKAGE, check=True)
    report = OUT / "node.lcov"
    subprocess.run(
        ["node", "--test", "--experimental-test-coverage", "--test-reporter=lcov", f"--test-reporter-destination={report}"],
        cwd=NODE_PACKAGE, check=True,
    )
    found = hit = 0
    for record in report.read_text().split("end_of_record"):
        if re.search(r"^SF:(tests/|.*node_modules)", record, re.MULTILINE):
            continue
        found += sum(map(int, re.findall(r"^LF:(\d+)", record, re.MULTILINE)))
        hit += sum(map(int, re.findall(r"^LH:(\d+)", record, re.MULTILINE)))
    return [("neuro-tutor (Node)", found, hit)]


def main() -> None:
    OUT.mkdir(exist_ok=True)
    rows = [*rust(), *python(), *node()]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    print(f"\n{'part':<24}{'lines':>8}{'covered':>9}{'percent':>9}")
    for part, lines, covered in rows:
        print(f"{part:<24}{lines:>8}{covered:>9}{100 * covered / max(lines, 1):>8.1f}%")


if __name__ == "__main__":
    main()
