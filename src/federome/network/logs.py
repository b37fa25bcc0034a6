"""Logs that say where something broke, and not on what: the text of an error nobody foresaw may be a row or a name."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Final

LOGGERS: Final = ("federome", "uvicorn.error", "asyncio", "concurrent.futures")
"""Those through which servers tell of errors that nobody caught."""


class Reticent(logging.Filter):
    """Of an error only its kind and the places that it came through are written."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See ``logging.Filter``."""
        if record.exc_info and (error := record.exc_info[1]) is not None:
            record.msg, record.args = "%s: %s at %s", (record.getMessage().strip(), type(error).__name__, way(error))
            record.exc_info, record.exc_text = None, None
        return True


_ONE: Final = Reticent()


def reticent() -> None:
    """From now on these loggers write no error's text."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_ONE)  # once, however often it is called


def way(error: BaseException) -> str:
    """Files and lines through which an error came, the last one first."""
    frames = traceback.extract_tb(error.__traceback__)
    return " ".join(f"{Path(each.filename).name}:{each.lineno}" for each in reversed(frames)) or "?"
