"""What the description of the API says, tried in every way by schemathesis on the real server.

Without accounts, and as somebody who has signed in; what ends a sign-in is tried by itself.
`TUTOR_EXAMPLES` sets how many examples an operation gets. The import is left out, because the tool
cannot write NDJSON: it has tests of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from server import serve

EXAMPLES = os.environ.get("TUTOR_EXAMPLES", "200")
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
# More of them are no faster, as the tool is what there is to wait for, and Python 3.11 cannot parse
# its own sources on two threads.
WORKERS = "1"

# Of these the first one that is right ends what all the others need.
ENDS_SIGN_IN = ["logout", "delete_account", "update_user"]
PASSWORD = "correct horse battery"


def try_everything(url: str, directory: Path, *options: str, is_whole: bool = True) -> None:
    tool = Path(sys.executable).with_name("schemathesis")
    phases = "examples,coverage,fuzzing" + (",stateful" if is_whole else "")
    command = [
        str(tool), "--config-file", str(CONFIGURATION), "run", f"{url}/openapi.json",
        # All checks, unless the file says otherwise: naming them here would overrule it.
        "--phases", phases,
        "--max-examples", EXAMPLES, "--exclude-operation-id", "import", "--seed", "1",
        "--request-timeout", "60", "--suppress-health-check", "all", "--no-color",
        "--workers", WORKERS, "--no-shrink", *options,
    ]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=1800)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]


def add_account(directory: Path, name: str) -> None:
    """Makes an account with every right, on the machine itself."""
    add = [os.environ["NEURO_TUTOR"], "users", "add", f"{name}@example.org", "--admin"]
    subprocess.run(add, cwd=directory, input=PASSWORD, check=True, capture_output=True, text=True, timeout=60)


def signed_in(url: str, name: str) -> list[str]:
    """The options with which every request is this account's."""
    account = {"email": f"{name}@example.org", "password": PASSWORD}
    answer = httpx.post(f"{url}/api/auth/login", json=account)
    token = answer.raise_for_status().json()["access_token"]
    return ["--header", f"Authorization: Bearer {token}"]


def without_accounts(directory: Path) -> None:
    directory.mkdir()
    with serve(directory, DEMO_DELAY_MS="0", LOG_LEVEL="error") as url:
        try_everything(url, directory)


def with_accounts(directory: Path) -> None:
    directory.mkdir()
    add_account(directory, "ada")
    with serve(directory, "--auth", "required", DEMO_DELAY_MS="0", LOG_LEVEL="error") as url:
        excluded = [part for name in ENDS_SIGN_IN for part in ("--exclude-operation-id", name)]
        try_everything(url, directory, *signed_in(url, "ada"), *excluded)


def test_every_answer_is_a_described_one_in_any_order_of_requests(tmp_path: Path) -> None:
    # The tool is what there is to wait for: two of it at a time.
    with ThreadPoolExecutor() as pool:
        tried = [pool.submit(without_accounts, tmp_path / "off"), pool.submit(with_accounts, tmp_path / "required")]
        for one in tried:
            one.result()


def test_every_answer_to_somebody_who_leaves_is_a_described_one(tmp_path: Path) -> None:
    for name in ENDS_SIGN_IN:
        add_account(tmp_path, name)
    with serve(tmp_path, "--auth", "required", DEMO_DELAY_MS="0", LOG_LEVEL="error") as url:
        for name in ENDS_SIGN_IN:
            # One operation leads nowhere.
            only = ["--include-operation-id", name]
            try_everything(url, tmp_path, *signed_in(url, name), *only, is_whole=False)
