"""Genotype files for the store's benchmarks: as many people as a nation, with as many rare variants as nations have.

Variants are independent, alleles in Hardy-Weinberg proportions; calls are missing only where asked for. How often each
frequency occurs follows a simulation of European growth (coalescent; exponential growth of 2.5 % a generation over 204
generations):
per million bases about 1,880 variants with a minor allele frequency of at least 0.1 %, log-uniform above that, and
beneath them minor allele counts i in proportion to i^-a. The share of the former and a depend on the number of people:

    people             10,000   100,000   500,000
    MAF >= 0.1 %        8.0 %     2.2 %     1.3 %
    singletons           62 %      47 %      34 %

Files are made once, by the store's own writer, and kept in a cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.ingest.registry import cache_folder
from federome.store.pgen import PgenFile, PgenWriter

VERSION: Final = "1"  # raise it when the same arguments would give other files
PEOPLE: Final = (10_000, 100_000, 500_000)
FREQUENT_SHARE: Final = (0.080, 0.022, 0.013)
EXPONENT: Final = (2.2, 1.7, 1.42)
FREQUENT_PER_MEGABASE: Final = 1_880
FREQUENT, COMMON, DENSE = 0.001, 0.01, 0.02
"""Minor allele frequencies: where the log-uniform part begins, what is common, what is drawn person by person."""
_CHUNK: Final = 2_000

MISSING: Final = (0.01, 0.03)
"""Between which shares of calls are missing at a variant of the kinds that miss any."""

Kind = str | int
"""``mixed`` (the whole spectrum), ``common`` (at least 1 %), ``frequent`` (at least 0.1 %), ``rare`` (below that), or
about so many carriers each. ``mixed, missing`` and ``common, missing`` lack 1 to 3 % of calls."""
Ints = NDArray[np.int64]
Drawn = tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.int8] | None]


@dataclass(frozen=True)
class Sample:
    """One genotype file with the tables that plink2 reads beside it; ``prefix`` names all three."""

    prefix: Path
    people: int
    variants: int

    @property
    def pgen(self) -> Path:
        """The genotypes."""
        return self.prefix.with_suffix(".pgen")

    def open(self) -> PgenFile:
        """Mapped for the kernels."""
        return PgenFile.open(self.pgen)


def make(people: int, variants: int, kind: Kind, *, seed: int = 1) -> Sample:
    """The file of so many people and variants, from the cache where it has been made before."""
    prefix = cache_folder() / "bench" / VERSION / f"{people}-{variants}-{kind}-{seed}"
    sample = Sample(prefix, people, variants)
    if not sample.pgen.is_file():
        prefix.parent.mkdir(parents=True, exist_ok=True)
        _write_tables(sample)
        with PgenWriter(sample.pgen, people, max_variants=variants) as writer:
            for carriers, codes, dense in draw(people, variants, kind, seed=seed):
                if dense is None:
                    writer.append_sparse(carriers, codes)
                else:
                    writer.append(dense)
    return sample


def draw(people: int, variants: int, kind: Kind, *, seed: int) -> Iterator[Drawn]:
    """Variant by variant: carriers and their codes, or for frequent variants the whole row instead."""
    rng = np.random.default_rng((seed, people, variants))
    if isinstance(kind, str) and kind.endswith(", missing"):
        for row in _rows(people, draw(people, variants, kind.removesuffix(", missing"), seed=seed)):
            row[rng.random(people, np.float32) < rng.uniform(*MISSING)] = -1
            yield np.zeros(0, np.uint32), np.zeros(0, np.uint8), row
        return
    for start in range(0, variants, _CHUNK):
        counts = minor_counts(rng, people, min(_CHUNK, variants - start), kind)
        frequent = counts >= DENSE * 2 * people
        sparse = _sparse(rng, people, np.where(frequent, 0, counts), homozygous=isinstance(kind, str))
        for count, is_frequent, (carriers, codes) in zip(counts.tolist(), frequent.tolist(), sparse, strict=True):
            if not is_frequent:
                yield carriers, codes, None
            elif isinstance(kind, int):
                row = np.zeros(people, np.int8)
                row[rng.choice(people, kind, replace=False)] = 1
                yield carriers, codes, row
            else:
                yield carriers, codes, _dense(rng, people, count / (2 * people))


def _rows(people: int, drawn: Iterator[Drawn]) -> Iterator[NDArray[np.int8]]:
    """Every variant as a whole row."""
    for carriers, codes, dense in drawn:
        row = np.zeros(people, np.int8) if dense is None else dense
        if dense is None:
            row[carriers] = codes
        yield row


def minor_counts(rng: np.random.Generator, people: int, variants: int, kind: Kind) -> Ints:
    """Minor allele counts of so many variants, in no order."""
    if isinstance(kind, int):
        return np.full(variants, kind, np.int64)
    size = np.log10(people)
    at = np.log10(PEOPLE)
    share = {"mixed": float(np.interp(size, at, FREQUENT_SHARE)), "rare": 0.0}.get(kind, 1.0)
    alleles = 2 * people
    low = COMMON if kind == "common" else FREQUENT
    frequencies = np.exp(rng.uniform(np.log(low), np.log(0.5), variants))
    rare = np.arange(1, max(2, int(FREQUENT * alleles)))
    weights = rare ** -float(np.interp(size, at, EXPONENT))
    drawn = rng.choice(rare, variants, p=weights / weights.sum())
    return np.where(rng.random(variants) < share, np.maximum(1, frequencies * alleles).astype(np.int64), drawn)


def _sparse(
    rng: np.random.Generator, people: int, counts: Ints, *, homozygous: bool
) -> list[tuple[NDArray[np.uint32], NDArray[np.uint8]]]:
    """Sorted carriers and codes of each variant; alleles fall on random copies (or on random people, one each)."""
    places = 2 * people if homozygous else people
    variant = np.repeat(np.arange(len(counts)), counts)
    key = np.unique(variant * places + rng.integers(0, places, len(variant)))
    key = key // 2 if homozygous else key
    carried, codes = np.unique(key, return_counts=True)
    ends = np.searchsorted(carried, np.arange(len(counts) + 1) * people)
    who, code = (carried % people).astype(np.uint32), codes.astype(np.uint8)
    return [(who[start:stop], code[start:stop]) for start, stop in pairwise(ends.tolist())]


def _dense(rng: np.random.Generator, people: int, frequency: float) -> NDArray[np.int8]:
    """Copies of ALT; ALT is the major allele as often as the minor one is."""
    copies = rng.integers(0, 1 << 16, (2, people), np.uint16) < round(frequency * (1 << 16))
    minor: NDArray[np.int8] = copies.sum(axis=0, dtype=np.int8)
    return np.subtract(np.int8(2), minor) if rng.random() < frequency else minor


def positions(variants: int) -> Ints:
    """Where the variants lie: evenly, seven bases apart."""
    return 10_000 + 7 * np.arange(variants)


def _write_tables(sample: Sample) -> None:
    lines = [f"1\t{at}\tv{i}\tA\tC\n" for i, at in enumerate(positions(sample.variants).tolist())]
    sample.prefix.with_suffix(".pvar").write_text("#CHROM\tPOS\tID\tREF\tALT\n" + "".join(lines))
    names = "".join(f"p{i}\t2\n" for i in range(sample.people))
    sample.prefix.with_suffix(".psam").write_text("#IID\tSEX\n" + names)
