"""What the description of the API says, tried in every way by schemathesis on the real server.

`TUTOR_EXAMPLES` sets how many examples an operation gets; 200 take about ten minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from server import serve

EXAMPLES = os.environ.get("TUTOR_EXAMPLES", "25")


def test_every_answer_is_a_described_one_in_any_order_of_requests(tmp_path: Path) -> None:
    with serve(tmp_path, DEMO_DELAY_MS="0", LOG_LEVEL="error") as url:
        tool = Path(sys.executable).with_name("schemathesis")
        command = [
            str(tool), "run", f"{url}/openapi.json", "--checks", "all", "--max-examples", EXAMPLES,
            "--phases", "examples,coverage,fuzzing,stateful", "--warnings", "off", "--no-color",
            "--request-timeout", "30", "--seed", "1", "--continue-on-failure",
            # Two clocks and two cores are shared with all other tests.
            "--suppress-health-check", "all",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
