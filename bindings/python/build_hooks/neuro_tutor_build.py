"""How pip builds the package where no wheel fits: by maturin, which needs Rust.

Without Rust it says what to do, before anything else is downloaded.
"""

import platform
import shutil
import sys

from maturin import *  # noqa: F403
from maturin import get_requires_for_build_wheel as _requires

ADVICE = """
neuro-tutor has no ready-made wheel for this machine ({machine}, {system}, Python {python}),
so it has to be compiled, and the Rust compiler (cargo) is missing. Either

  * use a platform with a wheel: Linux x86-64 or ARM64, macOS, Windows x86-64, with Python 3.9 or newer
    and a current pip (python -m pip install --upgrade pip), or
  * install Rust 1.94 or newer from https://rustup.rs and a C compiler, open a new terminal, and run pip again.
"""


def _check() -> None:
    if shutil.which("cargo") is None:
        advice = ADVICE.format(
            machine=platform.machine(), system=platform.system(), python=platform.python_version()
        )
        sys.stderr.write(advice)
        raise SystemExit(1)


def get_requires_for_build_wheel(config_settings=None):
    """What building a wheel needs: asked first by pip."""
    _check()
    return _requires(config_settings)


get_requires_for_build_editable = get_requires_for_build_wheel
