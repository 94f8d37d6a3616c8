"""What the description of the API says, tried in every way by schemathesis on the real server.

`TUTOR_EXAMPLES` sets how many examples an operation gets. The import is left out, because the tool
cannot write NDJSON: it has tests of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from server import serve

EXAMPLES = os.environ.get("TUTOR_EXAMPLES", "20")
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


def test_every_answer_is_a_described_one_in_any_order_of_requests(tmp_path: Path) -> None:
    with serve(tmp_path, DEMO_DELAY_MS="0", LOG_LEVEL="error") as url:
        tool = Path(sys.executable).with_name("schemathesis")
        command = [
            str(tool), "--config-file", str(CONFIGURATION), "run", f"{url}/openapi.json",
            # All checks, unless the file says otherwise: naming them here would overrule it.
            "--phases", "examples,coverage,fuzzing,stateful",
            "--max-examples", EXAMPLES, "--exclude-operation-id", "import", "--seed", "1",
            "--request-timeout", "60", "--suppress-health-check", "all", "--no-color",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
