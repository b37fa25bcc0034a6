"""Federome: approved algorithms travel to national nodes, and only results that are safe to release come back."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``federome.connect``, loaded when asked for: importing the package loads nothing else.

    By name, because every module may import this one for the version, and none of them may import the client.
    """
    if name == "connect":
        return import_module("federome.client").connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
