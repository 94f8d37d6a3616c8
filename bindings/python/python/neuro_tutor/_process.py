"""What a fork and the exit of the interpreter do to the package."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time

from . import _native

# For threads that were about to come back from a wait when the interpreter began to exit, in seconds.
_SETTLE = 0.02


def _after_fork() -> None:
    loops = sys.modules.get("neuro_tutor._loop")
    if loops is not None:
        loops.after_fork()
    _native.forked()


def _exiting() -> None:
    # Only daemon threads are left.
    _native.exiting()
    if threading.active_count() > 1:
        time.sleep(_SETTLE)


atexit.register(_exiting)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
