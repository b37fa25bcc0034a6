"""A browser for each module of the portal's tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.portals import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium; tests that need it are skipped with the reason where it is absent.

    It ends with the module: while Playwright lives, an event loop runs in this thread and no other test can begin one.
    """
    with chromium() as made:
        yield made
