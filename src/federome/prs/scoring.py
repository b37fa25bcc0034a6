"""Scores of people: sums over matched variants by the store's kernels, many scores in one pass over the genotypes.

After `match`. Dominant, recessive and dosage weights are sums over genotype categories like any other: each variant
has a weight for one copy of ALT, for two, and for not called, beside a constant that everybody gets.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federome.prs.match import USABLE, Found, Matched
from federome.prs.scorefile import Floats
from federome.prs.targets import Target
from federome.store import kernels

Ints = NDArray[np.int64]
VARIANT_BITS = 40
"""A variant is one number: its file's, then its own in that many bits."""

STRIPE = 4096
"""Variants that one thread sums at a time; sums of stripes are added in their order, so cores change no bit."""


@dataclass(frozen=True, eq=False)
class Scores:
    """``values`` [people, scores] in the order of the target's people and of ``matched``."""

    people: Sequence[str]
    matched: Sequence[Matched]
    values: Floats


def score_people(target: Target, matched: Sequence[Matched], *, threads: int | None = None) -> Scores:
    """Everybody's scores. What was left out (no genotype, no frequency) adds nothing; verdicts say how much that is."""
    plans = {key: _Plan.of(rows) for key, rows in {id(each.rows): each.rows for each in matched}.items()}
    codes = np.unique(np.concatenate([plan.codes for plan in plans.values()]))
    table = np.zeros((len(codes), 3, len(matched)))
    constant = np.zeros(len(matched))
    for column, each in enumerate(matched):
        plan = plans[id(each.rows)]
        places = np.searchsorted(codes, plan.codes)
        base, values = plan.weights(each.score.rows.weights)
        constant[column] = base
        for category in range(3):
            table[:, category, column] = np.bincount(places, values[:, category], len(codes))
    return Scores(target.people, matched, _sums(target, codes, table, constant, threads))


def called_shares(target: Target, matched: Matched, *, threads: int | None = None) -> Floats:
    """Of everybody, the share of the score's rows of which this person has a genotype."""
    plan = _Plan.of([found for found in matched.rows if found.verdict in USABLE])
    codes, rows = np.unique(plan.codes[~plan.more], return_counts=True)
    counts = target.counts([(code >> VARIANT_BITS, code & (1 << VARIANT_BITS) - 1) for code in codes.tolist()])
    some = counts[:, 3] > 0
    table = np.zeros((int(some.sum()), 3, 1))
    table[:, 2, 0] = -rows[some] / len(matched.rows)
    return _sums(target, codes[some], table, np.array([matched.overlap]), threads)[:, 0]


def _sums(target: Target, codes: Ints, table: Floats, constant: Floats, threads: int | None) -> Floats:
    """A constant and everybody's sums by genotype category over variants: [people, columns]."""
    variants = codes & (1 << VARIANT_BITS) - 1
    out = np.tile(constant, (len(target.people), 1))
    for number, file in enumerate(target.files):
        mine = np.flatnonzero(codes >> VARIANT_BITS == number)
        stripes = [mine[first : first + STRIPE] for first in range(0, len(mine), STRIPE)]
        if len(stripes) == 1:
            out += kernels.category_sums(file, variants[mine], table[mine])
            continue
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            jobs = [pool.submit(kernels.category_sums, file, variants[part], table[part]) for part in stripes]
            for job in jobs:
                out += job.result()
    return out


@dataclass(frozen=True, eq=False)
class _Plan:
    """The rows of a match as arrays. ``row`` (terms,) is the row of each variant in ``codes`` (terms,): file, number.

    ``turned``: the effect allele is REF. ``more``: a further ALT allele beside REF, of a row that has begun already.
    ``given``: rows without variants that count copies all the same, and how frequent the effect allele then is.
    """

    codes: Ints
    row: Ints
    turned: NDArray[np.bool_]
    more: NDArray[np.bool_]
    several: NDArray[np.bool_]
    fill: Floats
    given: Ints
    frequency: Floats

    @classmethod
    def of(cls, rows: Sequence[Found]) -> _Plan:
        terms = [
            (file, number, row, not counts_alt, at > 0, len(spots) > 1, fill)
            for row, (_, _, spots, counts_alt, _, fill, _) in enumerate(rows)
            for at, (file, number) in enumerate(spots)
        ]
        file, number, row, turned, more, several, fill = zip(*terms, strict=True) if terms else [()] * 7
        given = [row for row, found in enumerate(rows) if not found.terms and found.verdict in ("reference", "imputed")]
        return cls(
            codes=np.array(file, np.int64) << VARIANT_BITS | np.array(number, np.int64),
            row=np.array(row, np.int64),
            turned=np.array(turned, np.bool_),
            more=np.array(more, np.bool_),
            several=np.array(several, np.bool_),
            fill=np.array(fill, np.float64),
            given=np.array(given, np.int64),
            frequency=np.array([rows[row].constant / 2 for row in given], np.float64),
        )

    def weights(self, weights: Floats) -> tuple[float, Floats]:
        """What everybody gets, and per variant what one ALT copy, two, and a missing genotype add to that."""
        mine = weights[self.row]
        unknown = np.where(np.isnan(self.fill), 0.0, _expected(mine, np.nan_to_num(self.fill)))
        first = np.where(self.turned, mine[:, 2], mine[:, 0])
        double = np.where(self.turned, mine[:, 0], mine[:, 2])
        values = np.column_stack([mine[:, 1] - first, double - first, unknown - first])
        # REF beside several ALT alleles: a copy of any of them is a copy of REF less; additive weights only
        slope = mine[:, 0] - mine[:, 1]
        values[self.several, 0], values[self.several, 1] = slope[self.several], 2 * slope[self.several]
        values[self.more, 2] = 0.0
        base = first[~self.more].sum() + _expected(weights[self.given], self.frequency).sum()
        return float(base), values


def _expected(weights: Floats, frequency: Floats) -> Floats:
    """Mean weight of each row at an allele frequency under Hardy-Weinberg proportions."""
    w0, w1, w2 = weights.T
    q = 1 - frequency
    additive = (w2 == 2 * w1) & (w0 == 0)
    mixed = q * q * w0 + 2 * frequency * q * w1 + frequency * frequency * w2
    return np.asarray(np.where(additive, 2 * frequency * w1, mixed), np.float64)
