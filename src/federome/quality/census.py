"""What each person's genotypes say: variants by kind, ratios, singletons, calls, and copies of the X chromosome.

One pass over the compressed records. Counts are exact; a ratio over too few is unknown, not some number.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.quality.metrics import HET_HOM_INDEL, HET_HOM_SNV, INS_DEL, TI_TV
from federome.quality.subject import (
    CLASSES,
    DELETION,
    INSERTION,
    ON_X,
    OTHER,
    TRANSITION,
    TRANSVERSION,
    Batch,
    classes,
)
from federome.store import kernels
from federome.store.blocks import Block

HET, HOM, MISSING = range(3)
LEAST, LEAST_CALLS = 30, 500
"""A ratio is told from this many of what it is divided by, a call rate from this many variants."""
_STEP: Final = 4_096
_AUTOSOMAL: Final = slice(TRANSITION, OTHER + 1)
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Counts = tuple[NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True, eq=False)
class Census:
    """Counts of one batch: ``calls`` int32 [classes, het/hom/missing, people], ``variants`` int64 [classes].

    ``singletons`` int32 [people] are variants of which that person has the only copy in the batch.
    ``x_expected`` is the number of heterozygous calls that two copies of X would give on average (Hardy-Weinberg).
    """

    calls: NDArray[np.int32]
    variants: Ints
    singletons: NDArray[np.int32]
    x_expected: float

    @property
    def autosomal(self) -> int:
        """Variants on autosomes."""
        return int(self.variants[_AUTOSOMAL].sum())

    def call_rate(self) -> Floats:
        """Share of autosomal variants at which each person is called; NaN without any."""
        gone = self.calls[_AUTOSOMAL, MISSING].sum(axis=0)
        return 1 - gone / self.autosomal if self.autosomal else np.full(gone.shape, np.nan)

    def metrics(self) -> list[dict[str, float]]:
        """For each person the standard's variant metrics, and ``call_rate`` and ``count_singletons``."""
        het, hom = self.calls[:, HET].astype(np.int64), self.calls[:, HOM].astype(np.int64)
        carried = het + hom
        snv, indel = [TRANSITION, TRANSVERSION], [INSERTION, DELETION]
        there = self.variants > 0
        columns: dict[str, Floats] = {}
        if there[snv].any():
            columns["count_snvs"] = carried[snv].sum(axis=0).astype(np.float64)
        if there[INSERTION]:
            columns["count_insertions"] = carried[INSERTION].astype(np.float64)
        if there[DELETION]:
            columns["count_deletions"] = carried[DELETION].astype(np.float64)
        columns[INS_DEL] = _ratio(carried[INSERTION], carried[DELETION])
        columns[HET_HOM_SNV] = _ratio(het[snv].sum(axis=0), hom[snv].sum(axis=0))
        columns[HET_HOM_INDEL] = _ratio(het[indel].sum(axis=0), hom[indel].sum(axis=0))
        columns[TI_TV] = _ratio(carried[TRANSITION], carried[TRANSVERSION])
        if self.autosomal >= LEAST_CALLS:
            columns["call_rate"] = self.call_rate()
        columns["count_singletons"] = self.singletons.astype(np.float64)
        names = list(columns)
        rows = np.stack(list(columns.values()), axis=1).tolist()
        return [{name: value for name, value in zip(names, row, strict=True) if value == value} for row in rows]


def count(batch: Batch, *, threads: int = 2) -> Census:
    """Count a batch. Memory is the counts (100 bytes a person and thread) and one block."""
    people = len(batch.people)
    parts = [(np.zeros((CLASSES, 3, people), np.int32), np.zeros((1, 3, people), np.int32)) for _ in range(threads)]
    variants, expected = np.zeros(CLASSES, np.int64), 0.0
    with ThreadPoolExecutor(threads) as pool:
        for block in batch.blocks():
            kinds = classes(block)
            variants += np.bincount(kinds[kinds >= 0], minlength=CLASSES)
            expected += _expected_on_x(block, kinds)
            steps = [np.arange(at, min(at + _STEP, len(kinds))) for at in range(0, len(kinds), _STEP)]
            shares = [steps[i::threads] for i in range(threads)]
            list(pool.map(_add, [block] * threads, [kinds] * threads, shares, parts))
    calls = np.stack([own for own, _ in parts]).sum(axis=0, dtype=np.int32)
    lone = np.stack([own for _, own in parts]).sum(axis=0, dtype=np.int32)
    return Census(calls, variants, lone[0, HET], expected)


def _add(block: Block, kinds: Ints, steps: list[Ints], into: tuple[NDArray[np.int32], NDArray[np.int32]]) -> None:
    """Some stretches of a block; one thread has one pair of counts for itself."""
    for step in steps:
        kernels.counts_by_person(block.pgen, step, kinds[step], into[0])
        found = block.counts[step]
        lonely = step[(found[:, 1] == 1) & (found[:, 2] == 0) & (kinds[step] >= 0) & (kinds[step] <= OTHER)]
        kernels.counts_by_person(block.pgen, lonely, np.zeros(len(lonely), np.int64), into[1])


def _expected_on_x(block: Block, kinds: Ints) -> float:
    """Σ 2p(1-p) over variants of X outside the pseudo-autosomal regions, p from everybody."""
    rows = kinds == ON_X
    if not rows.any():
        return 0.0
    held = block.counts[rows].astype(np.float64)
    p = (held[:, 1] + 2 * held[:, 2]) / np.maximum(2 * held[:, :3].sum(axis=1), 1)
    return float((2 * p * (1 - p)).sum())


def _ratio(above: Ints, below: Ints) -> Floats:
    return np.where(below >= LEAST, above / np.maximum(below, 1), np.nan)
