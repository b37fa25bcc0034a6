"""What a genome-wide association run releases: clumped hits, genomic inflation, binned QQ and Manhattan, a summary.

Pure functions from the statistics of all tested variants to small tables, used by ``finish`` of the association
algorithms. Variants are named only where they are hits; everything else is told by genome bin or by rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from federome.analysis.algorithm import Finished, Table
from federome.model.release import Count, Label, Rows, Rule, Statistic
from federome.model.table import Column, Mask
from federome.model.variant import BIN_SIZE, Bin, chromosome_rank

QQ_POINTS = 200
_TYPES: Mapping[str, type[np.generic]] = {
    "chromosome": np.str_,
    "position": np.int64,
    "effect_allele": np.str_,
    "other_allele": np.str_,
    "people": np.int64,
    "clump": np.int64,
    "test": np.int64,
    "model": np.int64,
}
MEDIAN_CHI2 = 0.454936423119572
"""Median of χ² with one degree of freedom."""

QQ = Rows(
    {"expected": Statistic(), "observed": Statistic(), "variants": Statistic()},
    release_class="summary-statistics",
    key=("expected",),
)
MANHATTAN = Rows(
    {"chromosome": Label(), "start": Label(), "tested": Statistic(), "minus_log10_p": Statistic()},
    release_class="summary-statistics",
    key=("chromosome", "start"),
)


def hits_rows(**extra: Rule) -> Rows:
    """The declaration of the hits table, with what an algorithm adds to it.

    Only variants whose carriers passed the gate of the counts round get this far. Carriers themselves are not told:
    beside people and frequency they would give the number of homozygotes away, which nobody has looked at.
    """
    guarded = Statistic(guard="people")
    columns: dict[str, Rule] = {
        "chromosome": Label(),
        "position": Label(),
        "effect_allele": Label(),
        "other_allele": Label(),
        "frequency": guarded,
        "beta": guarded,
        "se": guarded,
        "statistic": guarded,
        "p": guarded,
        "minus_log10_p": guarded,
        "people": Count(people=True),
        "clump": Statistic(),
    }
    return Rows(
        columns | extra,
        release_class="summary-statistics",
        key=("chromosome", "position", "effect_allele", "other_allele"),
    )


@dataclass(frozen=True, eq=False)
class Tested:
    """All tested variants: −log₁₀ p and genome bin of each, and the named candidates for the hits table."""

    minus_log10_p: NDArray[np.float64]
    bins: NDArray[np.int64]
    candidates: Table

    @classmethod
    def of(cls, blocks: Iterable[Finished]) -> Tested:
        """Reads the blocks once, in their order; holds two numbers for each tested variant."""
        strengths: list[NDArray[np.float64]] = []
        bins: list[NDArray[np.int64]] = []
        candidates: list[Table] = []
        for block in blocks:
            strengths.append(block.kept.floats("minus_log10_p"))
            bins.append(block.bins[block.kept.ints("row")])
            if block.names.rows:
                candidates.append(_candidates(block))
        empty = np.zeros(0)
        return cls(
            np.concatenate(strengths) if strengths else empty,
            np.concatenate(bins) if bins else empty.astype(np.int64),
            Table.stack(candidates),
        )


def _candidates(block: Finished) -> Table:
    """Names joined to statistics, told for ALT: where the run counted REF, effect and frequency turn round."""
    names = block.names
    kept = block.kept.take(np.searchsorted(block.kept.ints("row"), names.ints("row")))
    flipped = names["flipped"].astype(np.bool_)
    sign = np.where(flipped, -1.0, 1.0)
    frequency = kept.floats("frequency")
    told: dict[str, Column] = {
        "chromosome": names["chromosome"].astype(np.str_),
        "position": names.ints("position"),
        "effect_allele": names["alt"].astype(np.str_),
        "other_allele": names["ref"].astype(np.str_),
        "frequency": np.where(flipped, 1 - frequency, frequency),
        "beta": sign * kept.floats("beta"),
        "statistic": sign * kept.floats("statistic"),
    }
    return Table({**kept.columns, **told})


def hits(candidates: Table, declared: Rows, *, window_kb: int) -> Table:
    """Lead variants, strongest first in each clump, in genome order; ``clump`` counts candidates within the window."""
    if not candidates.rows:
        return Table({name: np.zeros(0, _TYPES.get(name, np.float64)) for name in declared.columns})
    lead, size = clumps(
        candidates["chromosome"].astype(np.str_),
        candidates.ints("position"),
        candidates.floats("minus_log10_p"),
        window=window_kb * 1000,
    )
    table = candidates.take(lead)
    p = 10.0 ** -table.floats("minus_log10_p")
    return table.with_column("p", p).with_column("clump", size).only(*declared.columns)


def clumps(
    chromosome: NDArray[np.str_], position: NDArray[np.int64], strength: NDArray[np.float64], *, window: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Greedy clumping by distance: line numbers of the leads in genome order, and how many lie in each clump.

    The strongest variant left takes everything left on its chromosome within ``window`` bases; ties go to the
    variant that stands first in the genome.
    """
    rank = np.array([chromosome_rank(name) for name in chromosome.tolist()], dtype=np.int64)
    left = np.ones(len(position), np.bool_)
    leads: list[int] = []
    sizes: list[int] = []
    # Rounded, so that variants in perfect linkage tie and the last bits of a sum do not choose between them.
    for line in np.lexsort((position, rank, -np.round(strength, 8))).tolist():
        if not left[line]:
            continue
        near = left & (rank == rank[line]) & (np.abs(position - position[line]) <= window)
        left &= ~near
        leads.append(line)
        sizes.append(int(near.sum()))
    lead, size = np.array(leads, np.int64), np.array(sizes, np.int64)
    order = np.lexsort((position[lead], rank[lead]))
    return lead[order], size[order]


def inflation(minus_log10_p: NDArray[np.float64]) -> float:
    """λ_GC: median χ² of the p values over its expectation (Devlin & Roeder 1999); NaN without variants."""
    if not len(minus_log10_p):
        return float("nan")
    p = 10.0 ** -float(np.median(minus_log10_p))
    return float(special.chdtri(1, p)) / MEDIAN_CHI2


def qq(minus_log10_p: NDArray[np.float64], *, points: int = QQ_POINTS) -> Table:
    """Expected against observed −log₁₀ p at ranks that lie evenly on the log scale; the median of each group.

    Expected values are those of the (i − ½)/M quantiles. Groups hold one variant at the strong end only.
    """
    observed = np.sort(minus_log10_p)[::-1]
    size = len(observed)
    edges = (
        np.unique(np.floor(np.geomspace(1, size + 1, points + 1)).astype(np.int64)) - 1 if size else np.zeros(1, int)
    )
    first, after = edges[:-1], edges[1:]
    middle = np.array([np.median(observed[a:b]) for a, b in zip(first, after, strict=True)], np.float64)
    expected = -np.log10(((first + after) / 2) / max(size, 1))
    return Table({"expected": expected, "observed": middle, "variants": (after - first).astype(np.int64)})


def manhattan(bins: NDArray[np.int64], minus_log10_p: NDArray[np.float64]) -> Table:
    """Per megabase of the genome: how many variants were tested and the largest −log₁₀ p among them."""
    codes, place = np.unique(bins, return_inverse=True)
    strongest = np.full(len(codes), -np.inf)
    np.maximum.at(strongest, place, minus_log10_p)
    told = [Bin.from_code(int(code)) for code in codes]
    return Table(
        {
            "chromosome": np.array([b.chromosome_class for b in told], dtype=np.str_),
            "start": np.array([b.number * BIN_SIZE for b in told], dtype=np.int64),
            "tested": np.bincount(place, minlength=len(codes)).astype(np.int64),
            "minus_log10_p": strongest,
        }
    )


def report(
    blocks: Iterable[Finished],
    summary: Table,
    declared: Mapping[str, Rows],
    *,
    window_kb: int,
    most: int,
    labels: Mapping[str, tuple[str, ...]] | None = None,
) -> Mapping[str, Table]:
    """All released tables. ``summary`` (one row) holds gated numbers of people; tested variants, λ and how many leads
    beyond the ``most`` strongest were left out are added.

    ``labels`` gives the texts for columns that were kept as codes.
    """
    tested = Tested.of(blocks)
    leads = hits(tested.candidates, declared["hits"], window_kb=window_kb)
    strongest = np.argsort(-leads.floats("minus_log10_p"), kind="stable")[:most]
    found = leads.take(np.sort(strongest))
    for name, texts in (labels or {}).items():
        found = found.with_column(name, np.array(texts)[found.ints(name)])
    people = {name: np.where(_hidden(summary, name), 0, summary.ints(name)) for name in summary.columns}
    numbers: dict[str, Column] = {
        **people,
        "tested": np.array([len(tested.bins)], np.int64),
        "lambda_gc": np.array([inflation(tested.minus_log10_p)]),
        "left_out": np.array([leads.rows - found.rows], np.int64),
    }
    return {
        "hits": found,
        "summary": Table(numbers, summary.withheld),
        "qq": qq(tested.minus_log10_p),
        "manhattan": manhattan(tested.bins, tested.minus_log10_p),
    }


def _hidden(table: Table, name: str) -> Mask:
    return table.withheld.get(name, np.zeros(table[name].shape, np.bool_))
