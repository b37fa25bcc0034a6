"""Fixtures that every test folder shares: where the shared data is, and which external tools are installed."""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.util
import os
import resource
import shutil
import warnings
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx2._transports.default as httpx_transport
import pytest
import typer.testing
from hypothesis import settings
from tests.hostile import Hostile, serving

from federome.cli.edge import no_proxy_here

# On a build machine the same examples every time: a change is judged by what it changed. Elsewhere they vary.
settings.register_profile("same", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("varied", deadline=None)
settings.load_profile("same" if os.environ.get("CI") else "varied")

# The tree of commands is made once, not anew for each command that a test types: that took a fifth of a second each.
typer.testing._get_command = cache(typer.testing._get_command)
# So are the certificates that clients trust without being told: to read them took longer than most requests.
httpx_transport.create_ssl_context = cache(httpx_transport.create_ssl_context)

REPO = Path(__file__).resolve().parents[1]

USUAL_FILES: Final = 1024
"""Open files that a process may have on most machines; some begin with fewer, and allow as many."""
MORE_FILES: Final = 200
_open_files = 0

no_proxy_here()  # servers of tests are on this machine

_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if _soft < USUAL_FILES and (_hard == resource.RLIM_INFINITY or _hard >= USUAL_FILES):
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_FILES, _hard))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Nearly all that is imported and collected stays: to look for garbage in it took a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Tests leave open what they opened."""
    close_garbage()


def close_garbage() -> None:
    """Close what nobody has any more: databases of a federation that is over are open until garbage is looked for."""
    global _open_files
    if len(os.listdir("/dev/fd")) > _open_files + MORE_FILES:
        gc.collect()
        _open_files = len(os.listdir("/dev/fd"))


def missing(reason: str) -> None:
    """Skip with a reason; where everything must be present (FEDEROME_TEST_ALL=1) a gap is a failure."""
    if os.environ.get("FEDEROME_TEST_ALL") == "1":
        pytest.fail(f"{reason}, and FEDEROME_TEST_ALL=1 forbids skipping")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared reference data: FEDEROME_SHARED, else ``../shared`` beside the checkout."""
    folder = Path(os.environ.get("FEDEROME_SHARED") or REPO.parent / "shared")
    if not (folder / "data").is_dir():
        missing("the shared data folder is absent (set FEDEROME_SHARED)")
    return folder


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    """Starts servers that answer as told, and badly (``tests/hostile.py``)."""
    with serving() as start:
        yield start


@pytest.fixture(scope="session")
def lifelines() -> Any:
    """lifelines, the peer of survival analysis, where it is installed."""
    if importlib.util.find_spec("lifelines") is None:
        missing("lifelines is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("lifelines")


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """``tool("plink2")`` gives the program's path or skips the test with the reason."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing(f"{name} is not installed")
        assert path is not None
        return path

    return find
