"""Reading an indexed reference sequence (FASTA with ``.fai``) through the operating system's page cache.

Ingest uses it to check REF alleles and to left-align indels, and records which sequence that was as a GA4GH refget
digest. The file is mapped, not read: a look-up touches one page.
"""

from __future__ import annotations

import base64
import hashlib
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest.contigs import stored_chromosome

_UPPER = np.arange(256, dtype=np.uint8)
_UPPER[ord("a") : ord("z") + 1] -= 32
_CHUNK_LINES = 1 << 16


@dataclass(frozen=True, slots=True)
class _Contig:
    """One line of the .fai: bases, offset of the first base, bases and bytes a line."""

    length: int
    offset: int
    line_bases: int
    line_bytes: int


class Fasta:
    """A reference sequence; chromosomes go by the product's names (no ``chr``). Open with :meth:`open`."""

    def __init__(self, path: Path, data: NDArray[np.uint8], contigs: Mapping[str, _Contig]) -> None:
        self.path = path
        self._data = data
        self._contigs = contigs
        self._digests: dict[str, str] = {}

    @classmethod
    def open(cls, path: Path) -> Fasta:
        """Map a FASTA file and its ``.fai``; raises ``Invalid`` for a missing, compressed or mismatching file."""
        index = path.with_name(path.name + ".fai")
        if not path.is_file() or not index.is_file():
            raise Invalid(
                "the reference sequence or its index is missing.",
                where=str(path if not path.is_file() else index),
                remedy=f"Run: samtools faidx {path.name}",
            )
        size = path.stat().st_size
        contigs = _read_index(index, size)
        with path.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                raise Invalid(
                    "the reference sequence is compressed.",
                    where=str(path),
                    remedy="Decompress it and index it again: bgzip -d, then samtools faidx.",
                )
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cls(path, np.frombuffer(mapped, np.uint8), contigs)

    @property
    def lengths(self) -> Mapping[str, int]:
        """Bases of each chromosome."""
        return {name: contig.length for name, contig in self._contigs.items()}

    def bases(self, chromosome: str, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Upper-case base (ASCII) at each 1-based position; ``Invalid`` outside the chromosome."""
        contig = self._contig(chromosome)
        if positions.size and (positions.min() < 1 or positions.max() > contig.length):
            raise Invalid(
                f"position {int(positions.max())} lies outside chromosome {chromosome} of the reference sequence.",
                where=str(self.path),
                remedy="Check that the assembly of the variants is that of the reference sequence.",
            )
        line, column = np.divmod(positions - 1, contig.line_bases)
        found: NDArray[np.uint8] = _UPPER[self._data[contig.offset + line * contig.line_bytes + column]]
        return found

    def sequence(self, chromosome: str, position: int, length: int) -> str:
        """Upper-case bases from a 1-based position on."""
        return self.bases(chromosome, np.arange(position, position + length, dtype=np.int64)).tobytes().decode("ascii")

    def refget(self, chromosome: str) -> str:
        """The chromosome's refget digest, ``SQ.`` + sha512t24u of its upper-case bases (GA4GH refget 2.0)."""
        if chromosome not in self._digests:
            contig, digest = self._contig(chromosome), hashlib.sha512()
            step = contig.line_bases * _CHUNK_LINES
            for start in range(1, contig.length + 1, step):
                stop = min(start + step, contig.length + 1)
                digest.update(self.bases(chromosome, np.arange(start, stop, dtype=np.int64)).tobytes())
            self._digests[chromosome] = "SQ." + base64.urlsafe_b64encode(digest.digest()[:24]).decode("ascii")
        return self._digests[chromosome]

    def _contig(self, chromosome: str) -> _Contig:
        contig = self._contigs.get(chromosome)
        if contig is None:
            raise Invalid(
                f"the reference sequence has no chromosome {chromosome}.",
                where=str(self.path),
                remedy="Use the reference sequence that the variants were called against.",
            )
        return contig


def _read_index(index: Path, size: int) -> dict[str, _Contig]:
    contigs: dict[str, _Contig] = {}
    for number, line in enumerate(index.read_text(encoding="ascii", errors="replace").splitlines(), 1):
        fields = line.split("\t")
        if len(fields) < 5 or not all(field.isdigit() for field in fields[1:5]):
            raise Invalid(
                "this is not a line of a FASTA index.", where=f"{index}:{number}", remedy="Run samtools faidx again."
            )
        length, offset, line_bases, line_bytes = (int(field) for field in fields[1:5])
        last = offset + (length - 1) // max(line_bases, 1) * line_bytes + (length - 1) % max(line_bases, 1)
        if length and (line_bases < 1 or line_bytes < line_bases or last >= size):
            raise Invalid(
                "the index does not fit the reference sequence.",
                where=f"{index}:{number}",
                remedy="Run samtools faidx again.",
            )
        name = stored_chromosome(fields[0])
        if name and length and name not in contigs:
            contigs[name] = _Contig(length, offset, line_bases, line_bytes)
    return contigs
