"""The libraries that the adapters are for."""

from __future__ import annotations

import importlib
from typing import Any


def library(module: str) -> Any:
    """A module of a library that need not be installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"litellm": "litellm"}.get(module.split(".")[0], "pydantic-ai-slim")
        raise ImportError(f"this adapter needs {package}: pip install {package}") from error
