"""One browser for all tests of the portal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.portals import chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium; tests that need it are skipped with the reason where it is absent."""
    with chromium() as made:
        yield made
