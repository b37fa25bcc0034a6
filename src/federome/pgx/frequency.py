"""Allele frequencies: read from a file, or estimated from the calls of a cohort whose strands are partly unknown.

Frequencies turn "these diplotypes remain" into probabilities. Estimation is by expectation and maximisation over the
diplotypes that explain each genotype (Excoffier & Slatkin 1995), assuming that people draw both alleles independently.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from federome.errors import Invalid
from federome.pgx.cohort import CohortCalls

Frequencies = Mapping[str, Mapping[str, float]]
"""By gene and allele."""

TOLERANCE, ROUNDS = 1e-10, 1_000


def estimate(calls: CohortCalls) -> dict[str, float]:
    """The frequency of each allele among people with a call, all possible diplotypes weighed; empty without any."""
    weights = np.bincount(calls.of, minlength=len(calls.calls))
    ways = [
        (float(weight), [each.alleles for each in (*call.decides, *call.others)])
        for call, weight in zip(calls.calls, weights.tolist(), strict=True)
        if call.called and not call.alone and weight
    ]
    names = sorted({allele for _, pairs in ways for pair in pairs for allele in pair})
    if not names:
        return {}
    frequency = dict.fromkeys(names, 1 / len(names))
    for _ in range(ROUNDS):
        counts: dict[str, float] = defaultdict(float)
        for weight, pairs in ways:
            chances = [_chance(pair, frequency) for pair in pairs]
            whole = sum(chances)
            for pair, chance in zip(pairs, chances, strict=True):
                for allele in pair:
                    counts[allele] += weight * chance / whole if whole else 0.0
        total = sum(counts.values())
        new = {name: counts[name] / total for name in names}
        moved = max(abs(new[name] - frequency[name]) for name in names)
        frequency = new
        if moved < TOLERANCE:
            break
    return frequency


def _chance(pair: tuple[str, ...], frequency: Mapping[str, float]) -> float:
    if len(pair) == 1:
        return frequency[pair[0]]
    return frequency[pair[0]] * frequency[pair[1]] * (1 if pair[0] == pair[1] else 2)


def read_frequencies(text: str, *, where: str) -> dict[str, dict[str, float]]:
    """Frequencies from tab-separated lines of gene, allele, frequency; ``Invalid`` names the line."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#") or line.lower().startswith("gene\t"):
            continue
        cells = line.split("\t")
        try:
            gene, allele, value = cells[0], cells[1], float(cells[2])
        except (IndexError, ValueError):
            value = -1.0
        if not 0 <= value <= 1:
            raise Invalid(
                "this is no frequency.",
                where=f"{where}:{number}",
                remedy="Write gene, allele and a number from 0 to 1.",
            )
        found[gene][allele] = value
    return dict(found)
