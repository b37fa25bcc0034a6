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

from federome.prs.match import Found, Matched
from federome.prs.scorefile import Floats
from federome.prs.targets import Target
from federome.store import kernels

STRIPE = 256
"""Variants that one thread sums at a time; sums of stripes are added in their order, so cores change no bit."""


@dataclass(frozen=True, eq=False)
class Scores:
    """``values`` [people, scores] in the order of the target's people and of ``matched``."""

    people: Sequence[str]
    matched: Sequence[Matched]
    values: Floats


def score_people(target: Target, matched: Sequence[Matched], *, threads: int | None = None) -> Scores:
    """Everybody's scores. What was left out (no genotype, no frequency) adds nothing; verdicts say how much that is."""
    constant = np.zeros(len(matched))
    places: dict[tuple[int, int], int] = {}
    entries: list[tuple[int, int, tuple[float, float, float]]] = []
    for column, each in enumerate(matched):
        for found, weights in zip(each.rows, each.score.rows.weights.tolist(), strict=True):
            base, terms = _weights(found, weights)
            constant[column] += base
            entries += [(places.setdefault(spot, len(places)), column, values) for spot, values in terms]
    table = np.zeros((len(places), 3, len(matched)))
    for place, column, values in entries:
        table[place, :, column] += values
    out = np.tile(constant, (len(target.people), 1))
    spots = np.array(list(places), np.int64).reshape(-1, 2)
    for number, file in enumerate(target.files):
        mine = np.flatnonzero(spots[:, 0] == number)
        mine = mine[np.argsort(spots[mine, 1], kind="stable")]
        stripes = [mine[first : first + STRIPE] for first in range(0, len(mine), STRIPE)]
        if len(stripes) == 1:
            out += kernels.category_sums(file, spots[mine, 1], table[mine])
            continue
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            jobs = [pool.submit(kernels.category_sums, file, spots[part, 1], table[part]) for part in stripes]
            for job in jobs:
                out += job.result()
    return Scores(target.people, matched, out)


_Terms = list[tuple[tuple[int, int], tuple[float, float, float]]]


def _weights(found: Found, weights: Sequence[float]) -> tuple[float, _Terms]:
    """What everybody gets, and per variant what one ALT copy, two, and a missing genotype add to that."""
    w0, w1, w2 = weights
    if not found.terms:
        if found.verdict in ("reference", "imputed"):
            return _expected(weights, found.constant / 2), []
        return 0.0, []
    homozygous, double = (w0, w2) if found.counts_alt else (w2, w0)
    unknown = 0.0 if np.isnan(found.fill) else _expected(weights, found.fill)
    first = (w1 - homozygous, double - homozygous, unknown - homozygous)
    if len(found.terms) == 1:
        return homozygous, [(found.terms[0], first)]
    # REF beside several ALT alleles: each copy of any of them is a copy of REF less; additive weights only
    slope = w0 - w1
    rest = [(spot, (slope, 2 * slope, 0.0)) for spot in found.terms[1:]]
    return homozygous, [(found.terms[0], (slope, 2 * slope, unknown - homozygous)), *rest]


def _expected(weights: Sequence[float], frequency: float) -> float:
    """Mean weight at an allele frequency under Hardy-Weinberg proportions; exact where the frequency is 0 or 1."""
    w0, w1, w2 = weights
    q = 1 - frequency
    if w2 == 2 * w1 and not w0:
        return 2 * frequency * w1
    return q * q * w0 + 2 * frequency * q * w1 + frequency * frequency * w2
