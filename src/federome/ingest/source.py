"""What every source of genotypes gives: people, sexes if it knows them, contigs, and a stream of variant chunks.

`vcf`, `pgen` and `gvcf` are sources; `stream` takes their chunks. A source splits multi-allelic lines and knows
nothing of the reference sequence or the store. In a split line the other ALT alleles count as "not this allele", like
REF: allele counts and the number of called alleles stay right, as after ``bcftools norm -m-``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest.chunk import Chunk, Effects
from federome.model.variant import Assembly

if TYPE_CHECKING:
    from federome.store.writer import DeclaredSex

CHUNK_VARIANTS = 4_096
CHUNK_CARRIERS = 1 << 22
"""A chunk ends at this many variants or listed genotypes (20 MB), whichever comes first."""

_ALLELE = re.compile("[ACGTN]+")
_SAMPLED = 1 << 20


@dataclass(slots=True)
class Tally:
    """What was met and changed on the way; it becomes the report. Calls are counted one a person and variant."""

    lines: int = 0
    other_contigs: int = 0
    symbolic: int = 0
    split: int = 0
    half_calls: int = 0
    ploidy_calls: int = 0
    swapped: int = 0
    not_left_aligned: int = 0
    duplicates: int = 0


class Source(Protocol):
    """One or more files of genotypes of the same people."""

    @property
    def people(self) -> Sequence[str]:
        """Sample names in the order of the genotypes."""

    @property
    def sexes(self) -> Sequence[DeclaredSex] | None:
        """Sexes as the source states them, or ``None``."""

    @property
    def lengths(self) -> Mapping[str, int]:
        """Declared lengths of chromosomes, 0 where only the name is declared."""

    @property
    def assemblies(self) -> Sequence[str]:
        """What the headers say about the assembly, as they say it."""

    @property
    def variants(self) -> int | None:
        """Lines that `chunks` will read, if known beforehand."""

    @property
    def provisional(self) -> bool:
        """Whether the file itself says that its REF alleles need not be the reference's (PLINK)."""

    @property
    def fingerprint(self) -> str:
        """Changes when the input changes."""

    def where(self, line: int) -> str:
        """File and line (or record) of a variant, from `Chunk.lines`."""

    def chunks(self, men: NDArray[np.bool_], assembly: Assembly, tally: Tally) -> Iterator[Chunk]:
        """All variants, chromosome by chromosome as in the file; ``men`` says whose one-copy calls are whole."""


@dataclass(slots=True)
class ChunkBuilder:
    """Collects variants of one chromosome until they make a chunk."""

    chromosome: str
    _positions: list[int] = field(default_factory=list)
    _refs: list[str] = field(default_factory=list)
    _alts: list[str] = field(default_factory=list)
    _lines: list[int] = field(default_factory=list)
    _effects: list[Effects] = field(default_factory=list)
    _carriers: list[NDArray[np.uint32]] = field(default_factory=list)
    _codes: list[NDArray[np.uint8]] = field(default_factory=list)
    _listed: int = 0

    @property
    def full(self) -> bool:
        """Whether it is time for the next chunk."""
        return len(self._positions) >= CHUNK_VARIANTS or self._listed >= CHUNK_CARRIERS

    def add(
        self,
        place: tuple[int, str, str],
        line: int,
        calls: tuple[NDArray[np.uint32], NDArray[np.uint8]],
        effects: Effects = (),
    ) -> None:
        """One variant: (position, REF, ALT), its line, its carriers with codes, its effects."""
        position, ref, alt = place
        carriers, codes = calls
        self._positions.append(position)
        self._refs.append(ref)
        self._alts.append(alt)
        self._lines.append(line)
        self._effects.append(effects)
        self._carriers.append(carriers)
        self._codes.append(codes)
        self._listed += carriers.size

    def finish(self) -> Iterator[Chunk]:
        """The chunk, if it holds anything; the builder starts afresh."""
        if not self._positions:
            return
        offsets = np.zeros(len(self._positions) + 1, np.int64)
        np.cumsum([part.size for part in self._carriers], out=offsets[1:])
        yield Chunk(
            chromosome=self.chromosome,
            positions=np.array(self._positions, np.int64),
            refs=self._refs,
            alts=self._alts,
            lines=np.array(self._lines, np.int64),
            offsets=offsets,
            carriers=np.concatenate(self._carriers),
            codes=np.concatenate(self._codes),
            effects=self._effects,
            not_left_aligned=np.zeros(len(self._positions), np.bool_),
        )
        self.__init__(self.chromosome)  # type: ignore[misc]  # everything as new


def plain(allele: str) -> str:
    """The allele in capitals, or empty where it is symbolic, a breakend, ``*`` or missing."""
    allele = allele.upper()
    return allele if _ALLELE.fullmatch(allele) else ""


class Chromosomes:
    """Follows the order of chromosomes in a file: each in one piece, positions rising."""

    def __init__(self, where: Callable[[int], str]) -> None:
        self._where = where
        self._seen: set[str] = set()
        self._name, self._position = "", 0

    def check(self, name: str, position: int, line: int) -> None:
        """``Invalid`` if the line is out of order; ``name`` is the product's, else the contig's own."""
        if name != self._name:
            if name in self._seen:
                raise _unsorted(f"{name[:40]!r} comes back after others", self._where(line))
            self._seen.add(name)
            self._name, self._position = name, 0
        if position < self._position:
            raise _unsorted("positions fall", self._where(line))
        self._position = position


def _unsorted(what: str, where: str) -> Invalid:
    return Invalid(
        f"the variants are not sorted: {what}.",
        where=where,
        remedy="Sort them: bcftools sort, or plink2 --merge-par --sort-vars.",
    )


def fingerprint(paths: Sequence[Path]) -> str:
    """Names, sizes, times and both ends of the files: cheap at any size, different after any ordinary edit."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path.name}\x00{status.st_size}\x00{status.st_mtime_ns}\x00".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLED))
            file.seek(max(0, status.st_size - _SAMPLED))
            digest.update(file.read(_SAMPLED))
    return f"sha256:{digest.hexdigest()}"


def check_people(people: Sequence[str], where: str) -> None:
    """``Invalid`` for a source without people or with the same sample twice."""
    if not people:
        raise Invalid("the file holds no samples.", where=where, remedy="Give genotypes of people, not sites only.")
    again = len(people) - len(set(people))
    if again:
        raise Invalid(f"{again:,} samples stand twice in the file.", where=where, remedy="Give each sample one column.")
