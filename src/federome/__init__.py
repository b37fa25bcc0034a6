"""Federome: approved algorithms travel to national nodes, and only results that are safe to release come back."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from federome.client import connect as connect
else:

    def __getattr__(name: str) -> object:
        """``federome.connect`` without making every import of the package load the client."""
        if name == "connect":
            from federome.client import connect

            return connect
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
