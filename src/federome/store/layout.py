"""Where everything lies in a store folder, and how a file becomes durable before anything refers to it.

    catalogue.sqlite                                             what exists and what it must hash to
    store/<assembly>/<chromosome>/<block>/<dataset>~<batch>.pgen  genotypes; beside it .pvar.zst, .index, .sites
    batches/<dataset>~<batch>/people.psam, phenotypes.parquet     one line a person, in the order of the genotypes
    staging/<dataset>~<batch>/                                    a batch that is not committed yet

A block is named by its first position. Files are immutable: written under another name, synced, renamed, synced.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federome.disk import sync_folder
from federome.errors import Damaged, Unavailable
from federome.model.strict import Json
from federome.model.variant import Assembly

MAX_BLOCK_VARIANTS = 65_536
BLOCK_PARTS = (".pgen", ".pvar.zst", ".index", ".sites")
PEOPLE, PHENOTYPES = "people.psam", "phenotypes.parquet"
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one store folder."""

    root: Path

    @property
    def catalogue(self) -> Path:
        """The SQLite file."""
        return self.root / "catalogue.sqlite"

    @property
    def staging(self) -> Path:
        """Folder of batches that are being written."""
        return self.root / "staging"

    def block(self, assembly: Assembly, chromosome: str, first: int, stem: str) -> Path:
        """A block's files without their suffix."""
        return self.root / "store" / assembly / chromosome / f"{first:09d}" / stem

    def batch(self, stem: str) -> Path:
        """Folder of what a batch holds besides genotypes."""
        return self.root / "batches" / stem


def stem(dataset: str, batch: str) -> str:
    """The name of a batch's files; neither part can contain the separator."""
    return f"{dataset}~{batch}"


def with_part(base: Path, part: str) -> Path:
    """One of the files of a block: names may hold dots, so suffixes are appended, never replaced."""
    return base.with_name(base.name + part)


def canonical(document: Json) -> bytes:
    """The bytes of a JSON document that digests are taken of."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(document: Json) -> str:
    """``sha256:…`` over the canonical bytes."""
    return f"sha256:{hashlib.sha256(canonical(document)).hexdigest()}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; ``Damaged`` if it is missing."""
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        raise Unavailable(
            f"the file cannot be read: {error.strerror}.",
            where=str(path),
            remedy="See to the disk and the file's owner, then run: federome store verify",
        ) from error
    return digest.hexdigest()


def missing(path: Path) -> Damaged:
    """The error for a file that the catalogue names and the folder does not have."""
    return Damaged(
        "the catalogue names this file, but it is not there.",
        where=str(path),
        remedy="Restore it from a copy, then run: federome store verify",
    )


def altered(path: Path) -> Damaged:
    """The error for a file whose bytes are not those that were written."""
    return Damaged(
        "the file's content is not what was written.",
        where=str(path),
        remedy="Restore it from a copy, then run: federome store verify",
    )


def noted(path: Path) -> Any:
    """The JSON document that the store wrote into a file; ``Damaged`` if it is none any more."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise altered(path) from None


def sync_file(path: Path) -> None:
    """Make a file's content survive loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents durably."""
    created = []
    while not folder.is_dir():
        created.append(folder)
        folder = folder.parent
    for path in reversed(created):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a whole file: another name, fsync, rename, fsync of the folder."""
    partial = with_part(path, ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)
