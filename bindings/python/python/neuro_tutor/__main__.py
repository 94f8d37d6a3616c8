"""`python -m neuro_tutor`, and the command `neuro-tutor`: the server and its tools."""

from __future__ import annotations

import signal
import sys

from . import _native


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    # As for the binary: it ends a command; the server catches it to end gracefully.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_native.cli(["neuro-tutor", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
