"""The package registry: which index pip is configured with, and one archive from it as a plain file.

Nothing of a package is installed, imported or run.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pypi_simple
import requests

from federome.errors import Unavailable
from federome.ingest.registry import CONNECT_TIMEOUT_S, Archive


def download(archive: Archive, path: Path, timeout_s: float) -> None:
    """See :func:`federome.ingest.registry.registry_download`."""
    what = f"{archive.project} {archive.version}"
    index = pip_index(_pip_config())
    deadline = time.monotonic() + timeout_s
    patience = (min(CONNECT_TIMEOUT_S, timeout_s), timeout_s)
    try:
        with pypi_simple.PyPISimple(index.url or pypi_simple.PYPI_SIMPLE_ENDPOINT) as client:
            if index.certificates:
                client.s.verify = index.certificates
            page = client.get_project_page(archive.project, timeout=patience)
            found = [p for p in page.packages if p.version == archive.version and p.package_type == archive.kind]
            if not found:
                raise Unavailable(f"The package registry has no {archive.kind} of {what}.")
            # our own pinned digest is checked afterwards, so what the index says of it does not matter
            client.download_package(
                found[0], path, verify=False, progress=lambda _: _Deadline(deadline), timeout=patience
            )
    except (requests.RequestException, TimeoutError) as error:
        raise Unavailable(f"The package registry is out of reach ({type(error).__name__} for {what}).") from error
    except pypi_simple.NoSuchProjectError as error:
        raise Unavailable(f"The package registry has no {what}.") from error
    except (pypi_simple.UnsupportedContentTypeError, pypi_simple.UnsupportedRepoVersionError) as error:
        raise Unavailable(f"The package registry speaks another language ({type(error).__name__}).") from error


@dataclass(frozen=True, slots=True)
class PipIndex:
    """Where pip looks for packages; None means the default of the library."""

    url: str | None
    certificates: str | None


def pip_index(config: str) -> PipIndex:
    """Read the index from the output of ``pip config list``: environment before command sections before global."""
    values: dict[str, str] = {}
    for line in config.splitlines():
        name, equals, quoted = line.partition("=")
        if equals and quoted.startswith(("'", '"')):
            values[name.strip()] = str(ast.literal_eval(quoted))

    def first(option: str) -> str | None:
        sections = (":env:", "download", "install", "global")
        return next((values[f"{s}.{option}"] for s in sections if f"{s}.{option}" in values), None)

    return PipIndex(url=first("index-url"), certificates=first("cert"))


class _Deadline(pypi_simple.ProgressTracker):
    """Ends a download that takes longer than it may, however steadily it trickles."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def __enter__(self) -> _Deadline:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, increment: int) -> None:
        if time.monotonic() > self._deadline:
            raise TimeoutError(f"after {increment} more bytes")


def _pip_config() -> str:
    """What ``pip config list`` prints; nothing where pip is absent."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
