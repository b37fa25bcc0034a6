"""Opening the blocks of genotypes: checked once against the catalogue, then mapped and kept while they are in use.

A block's bytes are hashed the first time a process opens it, so a flipped bit becomes an error and never a number.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federome.errors import Damaged
from federome.model.variant import BIN_SIZE, Assembly
from federome.store.layout import BLOCK_PARTS, altered, file_digest, missing, with_part
from federome.store.pgen import PgenFile, PgenIndex
from federome.store.sites import Sites


@dataclass(frozen=True, slots=True)
class BlockFile:
    """One block of one batch as the catalogue knows it; positions ``first`` to ``last`` of one chromosome.

    ``digests`` are SHA-256 of the parts in the order of ``layout.BLOCK_PARTS``.
    """

    base: Path
    assembly: Assembly
    chromosome: str
    first: int
    last: int
    variants: int
    people: int
    digests: tuple[str, str, str, str]

    def part(self, suffix: str) -> Path:
        """Path of one of its files."""
        return with_part(self.base, suffix)

    def check(self, suffix: str) -> None:
        """Raise ``Damaged``, naming the file, unless it has the content that was written."""
        path = self.part(suffix)
        if file_digest(path) != self.digests[BLOCK_PARTS.index(suffix)]:
            raise altered(path)


@dataclass(frozen=True, eq=False)
class Block:
    """An open block: records, sites, and the genome bin of each variant."""

    file: BlockFile
    pgen: PgenFile
    sites: Sites

    @property
    def counts(self) -> NDArray[np.int32]:
        """Counts of all people of the batch, int32 [variants, 4]: hom-ref, het, hom-alt, missing."""
        assert self.pgen.counts is not None
        return self.pgen.counts

    @cached_property
    def bins(self) -> NDArray[np.int64]:
        """Codes of the variants' bins (``model.variant.Bin``), shape (variants,)."""
        ranks = self.sites.ranks(self.file.chromosome, self.file.assembly)
        return ranks * 100_000 + self.sites.positions // BIN_SIZE


def open_block(file: BlockFile) -> Block:
    """Open without hashing the genotypes. Raises ``Damaged`` where parts are missing or contradict each other."""
    sidecars: list[bytes] = []
    for suffix in (".index", ".sites"):
        file.check(suffix)
        sidecars.append(file.part(suffix).read_bytes())
    path = file.part(".pgen")
    if not path.is_file():
        raise missing(path)
    pgen = PgenFile.open(path, PgenIndex.from_bytes(sidecars[0], where=str(file.part(".index"))))
    sites = Sites.from_bytes(sidecars[1], where=str(file.part(".sites")))
    if pgen.people != file.people or not pgen.variants == len(sites) == file.variants:
        raise Damaged(
            "the block does not have the people and variants that the catalogue states.",
            where=str(path),
            remedy="Restore it from a copy, then run: federome store verify",
        )
    return Block(file, pgen, sites)


class BlockCache:
    """Open blocks, least recently used first out. Safe to share between threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._open: OrderedDict[Path, Block] = OrderedDict()
        self._checked: set[tuple[Path, int, int, int]] = set()
        self._lock = threading.Lock()

    def open(self, file: BlockFile) -> Block:
        """The open block; its genotypes are hashed unless this process has already done so."""
        with self._lock:
            kept = self._open.get(file.base)
            if kept is not None:
                self._open.move_to_end(file.base)
                return kept
        block = open_block(file)
        self._check_once(file)
        with self._lock:
            self._open[file.base] = block
            while len(self._open) > self._size:
                self._open.popitem(last=False)
        return block

    def clear(self) -> None:
        """Let go of all blocks."""
        with self._lock:
            self._open.clear()

    def distrust(self) -> None:
        """Let go of all blocks, and hash each file again when it is next opened."""
        with self._lock:
            self._open.clear()
            self._checked.clear()

    def _check_once(self, file: BlockFile) -> None:
        path = file.part(".pgen")
        status = path.stat()
        identity = (path, status.st_ino, status.st_size, status.st_mtime_ns)
        if identity not in self._checked:
            file.check(".pgen")
            self._checked.add(identity)
