"""What a log tells of people: nothing, also where a server meets an error that nobody foresaw."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from io import StringIO

import pytest

from federome.network.logs import LOGGERS, Reticent, reticent

SECRET = "person-17 has 1:1000000:A:C"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    held = {name: list(logging.getLogger(name).filters) for name in LOGGERS}
    yield
    for name, filters in held.items():
        logging.getLogger(name).filters[:] = filters


def written(name: str) -> str:
    """What an operator finds in the log after a row's key was missing."""
    out = StringIO()
    logger, handler = logging.getLogger(name), logging.StreamHandler(out)
    logger.addHandler(handler)
    try:
        {}[SECRET]
    except KeyError:
        logger.exception("Exception in ASGI application\n")
    finally:
        logger.removeHandler(handler)
    return out.getvalue()


@pytest.mark.parametrize("name", LOGGERS)
def test_an_error_is_logged_with_its_place_and_without_its_text(name: str) -> None:
    assert SECRET in written(name)  # undefended
    for _ in range(2):
        reticent()
    told = written(name)
    assert "person-17" not in told
    assert told.startswith("Exception in ASGI application: KeyError at test_log_attacks.py:")
    assert told.count("\n") == 1
    assert sum(isinstance(each, Reticent) for each in logging.getLogger(name).filters) == 1
