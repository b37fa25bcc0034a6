"""Is somebody else's DNA in a sample? From the reads behind homozygous calls, where the file has depths of alleles.

A homozygous person has no read of the other allele, but for errors and for somebody else. Over many SNPs the share of
foreign reads is e + α·q, where q is the frequency of the allele that should not be there: errors (e) do not follow q,
another person's reads (α) do. This is the idea of CHARR (Lu et al. 2023, doi:10.1016/j.ajhg.2023.10.011), which divides
by q, with the error rate estimated beside it, from homozygous calls of either allele. The standard error is a jackknife
over blocks of SNPs. Where a file has no depths the answer is unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest.contigs import stored_chromosome
from federome.ingest.source import plain
from federome.ingest.vcf import VcfHeader, genotypes_of, records

BLOCKS: Final = 50
LEAST_SNPS: Final = 300
LEAST_DEPTH, MOST_DEPTH = 8, 500
COMMON: Final = 0.05
SURE: Final = 5.0
"""Standard errors that α lies above zero before it is called contamination: 4 in a million samples by chance."""
NOTICE, EXCLUDE = 0.005, 0.01
"""What a share may be for it to be called contamination, and what is to be excluded for it to be called none."""
LEAST_PEOPLE: Final = 20
_SUMS: Final = 5
_SLAB: Final = 256
Floats = NDArray[np.float64]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Estimate:
    """One sample: the share of foreign reads, its standard error, the error rate, and SNPs it rests on.

    ``share`` None is unknown: too few homozygous calls with depths.
    """

    snps: int
    share: float | None = None
    error: float = 0.0
    base: float = 0.0

    @property
    def found(self) -> bool:
        """Whether somebody else is in the sample for sure, perhaps with half a read in a hundred or more."""
        if self.share is None or not self.error:
            return False
        return self.share > SURE * self.error and self.share + 2 * self.error >= NOTICE

    @property
    def excluded(self) -> bool:
        """Whether one read in a hundred of somebody else's is excluded."""
        return self.share is not None and self.share + 2 * self.error < EXCLUDE


class Reads:
    """Collects sums over SNPs: float64 [blocks, people, 5] of n, nq, nq², x, xq; memory does not grow with SNPs."""

    def __init__(self, people: int) -> None:
        self._sums = np.zeros((BLOCKS, people, _SUMS))
        self._snps = np.zeros(people, np.int64)
        self._next = 0

    def add(self, genotypes: NDArray[np.int8], ref: NDArray[np.int64], alt: NDArray[np.int64]) -> None:
        """Autosomal SNPs (SNPs, people): genotypes, -1 not called; reads of either allele, -1 where not told."""
        called = genotypes >= 0
        people = called.sum(axis=1)
        p = np.where(called, genotypes, 0).sum(axis=1) / np.maximum(2 * people, 1)
        known = (people >= LEAST_PEOPLE) & (p >= COMMON) & (p <= 1 - COMMON)
        genotypes, ref, alt, p = genotypes[known], ref[known], alt[known], p[known][:, None]
        depth = ref + alt
        usable = (ref >= 0) & (alt >= 0) & (depth >= LEAST_DEPTH) & (depth <= MOST_DEPTH)
        usable &= (genotypes == 0) | (genotypes == 2)
        n = np.where(usable, depth, 0).astype(np.float64)
        x = np.where(usable, np.where(genotypes == 0, alt, ref), 0).astype(np.float64)
        q = np.where(genotypes == 0, p, 1 - p)
        for at, values in enumerate((n, n * q, n * q * q, x, x * q)):
            for block in range(BLOCKS):
                first = (block - self._next) % BLOCKS
                self._sums[block, :, at] += values[first::BLOCKS].sum(axis=0)
        self._snps += usable.sum(axis=0)
        self._next += len(genotypes)

    def estimates(self) -> list[Estimate]:
        """Everybody's estimate."""
        total = self._sums.sum(axis=0)
        share, base = _solved(total)
        left = np.stack([_solved(total - block)[0] for block in self._sums])
        error = np.sqrt((BLOCKS - 1) / BLOCKS * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
        enough = (self._snps >= LEAST_SNPS) & np.isfinite(share) & np.isfinite(error)
        rows = zip(self._snps.tolist(), share.tolist(), error.tolist(), base.tolist(), enough.tolist(), strict=True)
        return [Estimate(n, max(s, 0.0), e, max(b, 0.0)) if known else Estimate(n) for n, s, e, b, known in rows]


def _solved(sums: Floats) -> tuple[Floats, Floats]:
    """(α, e) by weighted least squares of the foreign share on q, for each person."""
    n, nq, nqq, x, xq = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (n * xq - nq * x) / (n * nqq - nq * nq)
        return slope, (x - slope * nq) / n


def from_files(paths: Sequence[Path]) -> tuple[tuple[str, ...], list[Estimate]] | None:
    """Samples and estimates from VCF or BCF files of the same people; None where no line has ``AD``."""
    headers = [VcfHeader(path) for path in paths]
    people = headers[0].people
    if any(header.people != people for header in headers):
        raise Invalid("the files do not hold the same samples.", where=str(paths[0]))
    if not any(line.startswith("##FORMAT=<ID=AD,") for header in headers for line in header.lines):
        return None
    reads, seen = Reads(len(people)), 0
    for header in headers:
        for slab in batched(_with_depths(header), _SLAB):
            genotypes = np.stack([each for each, _ in slab])
            depths = np.stack([each for _, each in slab])
            reads.add(genotypes, depths[:, :, 0], depths[:, :, 1])
            seen += len(slab)
    return (people, reads.estimates()) if seen else None


def batched(rows: Iterator[_T], size: int) -> Iterator[list[_T]]:
    """Lists of so many at a time."""
    while held := list(islice(rows, size)):
        yield held


def _with_depths(header: VcfHeader) -> Iterator[tuple[NDArray[np.int8], NDArray[np.int64]]]:
    """Autosomal single-base variants of two alleles that have depths, line by line."""
    for number, record in enumerate(records(header), 1):
        if len(record.ALT) != 1 or len(plain(record.REF)) != 1 or len(plain(record.ALT[0])) != 1:
            continue
        if not (stored_chromosome(record.CHROM) or "").isdigit() or "AD" not in record.FORMAT:
            continue
        depths = record.format("AD")
        if depths.shape[1] != 2:
            raise Invalid("AD does not have a number for each allele.", where=header.where(number), remedy="Number=R.")
        alleles = genotypes_of(record, header.where, number)[:, :2]
        called = (alleles >= 0).all(axis=1)
        genotypes = np.where(called, (alleles == 1).sum(axis=1), -1).astype(np.int8)
        yield genotypes, depths.astype(np.int64)
