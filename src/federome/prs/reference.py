"""What a score is read against: the distribution in a nation, as `prs-reference` releases it, and the ancestry model.

A share is never told without the reference it is of. Where bins of the histogram were withheld, the normal
distribution with the group's mean and spread stands in, and the answer says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from federome.analysis.prs_scores import bin_of, edges
from federome.errors import Invalid
from federome.model.table import Table

Floats = NDArray[np.float64]
BINS, SPAN = 26, 2.4
COVERAGE: Final = 0.95
Method = Literal["histogram", "normal"]


@dataclass(frozen=True)
class Group:
    """A score among the people of one population. ``bounds`` of the bins are in standard deviations from the mean.

    ``counts`` is -1 where a bin was withheld.
    """

    name: str
    people: int
    mean: float
    sd: float
    bounds: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, name: str, values: Floats) -> Group:
        """From everybody's values, as the approved algorithm computes it."""
        mean, sd = float(values.mean()), float(values.std(ddof=1))
        bounds = edges(BINS, SPAN)
        counts = np.bincount(bin_of((values - mean) / sd, bounds), minlength=BINS)
        return cls(name, len(values), mean, sd, tuple(bounds.tolist()), tuple(counts.tolist()))

    def z(self, score: float) -> float:
        """Standard deviations from the mean."""
        return (score - self.mean) / self.sd

    def above(self, score: float) -> tuple[float, Method]:
        """The share of the population expected above a score, and how that is known.

        Of n people with t above (t interpolated inside a bin), a further person lies above with chance
        (t + ½) ÷ (n + 1).
        """
        z = self.z(score)
        if min(self.counts, default=-1) < 0:
            return float(special.stdtr(self.people - 1, -z / np.sqrt(1 + 1 / self.people))), "normal"
        at = int(bin_of(np.array([z]), np.array(self.bounds))[0])
        low, high = self.bounds[at], self.bounds[at + 1]
        # the open bins reach as far as the closed ones are wide, or as far as the score itself
        width = self.bounds[2] - self.bounds[1]
        low, high = max(low, min(self.bounds[1] - width, z)), min(high, max(self.bounds[-2] + width, z))
        inside = self.counts[at] * (high - z) / (high - low)
        return (sum(self.counts[at + 1 :]) + inside + 0.5) / (self.people + 1), "histogram"

    def interval(self, share: float) -> tuple[float, float]:
        """Where the true share may lie, as far as the number of people goes (Jeffreys interval, 95 %)."""
        above = share * (self.people + 1) - 0.5
        low, high = (
            special.betaincinv(above + 0.5, self.people - above + 0.5, end)
            for end in ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2)
        )
        return float(low), float(high)

    def cut(self, top: float) -> float:
        """The score above which the share ``top`` of the population is expected."""
        wanted, tail = top * (self.people + 1) - 0.5, 0
        for at in range(len(self.counts) - 1, -1, -1):
            if min(self.counts) < 0 or (at == len(self.counts) - 1 and wanted <= self.counts[-1]):
                break  # by search: the open bin's width depends on the score
            if tail + self.counts[at] >= wanted:
                low, high = self.bounds[at], self.bounds[at + 1]
                return self.mean + self.sd * (high - (wanted - tail) / self.counts[at] * (high - low))
            tail += self.counts[at]
        from scipy import optimize  # half a second to load, and most processes never come here

        found = optimize.brentq(lambda z: self.above(self.mean + z * self.sd)[0] - top, -8.9, 8.9)
        return self.mean + float(found) * self.sd


@dataclass(frozen=True)
class Adjustment:
    """A score's mean and log variance as functions of principal components (`prs-adjustment`)."""

    components: tuple[str, ...]
    mean: tuple[float, ...]
    log_variance: tuple[float, ...]
    people: int

    def z(self, score: float, place: Sequence[float]) -> float:
        """Standard deviations from what is expected at a place in ancestry."""
        at = np.array([1.0, *place])
        return float((score - at @ np.array(self.mean)) / np.sqrt(np.exp(at @ np.array(self.log_variance))))


@dataclass(frozen=True)
class Reference:
    """What is known of one score. ``source`` says where from: a run's id, or a public panel."""

    score: str
    source: str
    groups: Mapping[str, Group]
    adjustment: Adjustment | None = None

    def document(self) -> dict[str, object]:
        """As JSON; the inverse of :func:`read_reference`."""
        adjustment = self.adjustment
        return {
            "format": "federome-prs-reference/1",
            "score": self.score,
            "source": self.source,
            "groups": [
                {
                    "population": group.name,
                    "people": group.people,
                    "mean": group.mean,
                    "sd": group.sd,
                    "bounds": list(group.bounds),
                    "counts": [None if count < 0 else count for count in group.counts],
                }
                for group in self.groups.values()
            ],
            "adjustment": None
            if adjustment is None
            else {
                "components": list(adjustment.components),
                "mean": list(adjustment.mean),
                "log_variance": list(adjustment.log_variance),
                "people": adjustment.people,
            },
        }


def reference_of(
    score: str,
    source: str,
    tables: Mapping[str, Table],
    model: Mapping[str, Table] | None = None,
) -> Reference:
    """From the tables that `prs-reference` and, if it was asked, `prs-adjustment` released."""
    bins: dict[str, list[tuple[float, float, int]]] = {}
    for row in tables["histogram"].records():
        count = -1 if row["people"] is None else int(row["people"])  # type: ignore[arg-type]
        bins.setdefault(str(row["population"]), []).append((float(row["low"]), float(row["high"]), count))  # type: ignore[arg-type]
    groups: dict[str, Group] = {}
    for row in tables["groups"].records():
        if None in row.values():
            continue
        name, listed = str(row["population"]), bins[str(row["population"])]
        groups[name] = Group(
            name,
            int(row["people"]),  # type: ignore[arg-type]
            float(row["mean"]),  # type: ignore[arg-type]
            float(row["sd"]),  # type: ignore[arg-type]
            (*(low for low, _, _ in listed), listed[-1][1]),
            tuple(count for _, _, count in listed),
        )
    if model is None:
        return Reference(score, source, groups)
    table = model["model"]
    adjustment = Adjustment(
        components=tuple(map(str, table["term"].tolist()[1:])),
        mean=tuple(table.floats("mean").tolist()),
        log_variance=tuple(table.floats("log_variance").tolist()),
        people=int(model["people"].ints("people")[0]),
    )
    return Reference(score, source, groups, adjustment)


def read_reference(path: Path) -> Reference:
    """A reference from its JSON file; ``Invalid`` for anything else."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        groups = [
            Group(
                str(row["population"]),
                int(row["people"]),
                float(row["mean"]),
                float(row["sd"]),
                tuple(map(float, row["bounds"])),
                tuple(-1 if count is None else int(count) for count in row["counts"]),
            )
            for row in told["groups"]
        ]
        model = told["adjustment"]
        adjustment = None
        if model is not None:
            mean, variance = (tuple(map(float, model[name])) for name in ("mean", "log_variance"))
            adjustment = Adjustment(tuple(map(str, model["components"])), mean, variance, int(model["people"]))
        sound = told["format"] == "federome-prs-reference/1" and all(
            each.sd > 0 and each.people > 1 and len(each.bounds) == len(each.counts) + 1 for each in groups
        )
        made = Reference(str(told["score"]), str(told["source"]), {each.name: each for each in groups}, adjustment)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _no_reference(path) from error
    if not sound:
        raise _no_reference(path)
    return made


def _no_reference(path: Path) -> Invalid:
    return Invalid("the file is no reference of a score.", where=str(path), remedy="Make one: federome prs reference.")


STRONGEST: Final = 3.0
"""No score moves the odds twentyfold by one standard deviation: more is an odds ratio, or another unit."""
MOST_YEARS: Final = 120


@dataclass(frozen=True)
class Incidence:
    """How often a disease comes in a population within ``years``, and what one standard deviation does to the odds."""

    risk: float
    log_odds_per_sd: float
    standard_error: float
    years: int
    source: str

    def __post_init__(self) -> None:
        if not 0 < self.risk < 1 or self.standard_error < 0:
            raise Invalid("a risk lies between 0 and 1, a standard error is not negative.", where="incidence")
        if not abs(self.log_odds_per_sd) + 2 * self.standard_error <= STRONGEST:
            raise Invalid(
                f"log odds per standard deviation, with their error, are at most {STRONGEST:g}.",
                where="incidence",
                remedy="Give the natural logarithm of the odds ratio per standard deviation of the score.",
            )
        if not 1 <= self.years <= MOST_YEARS:
            raise Invalid(f"years are 1 to {MOST_YEARS}.", where="incidence", remedy="Say within how many the risk is.")


def absolute_risk(z: float, incidence: Incidence) -> tuple[float, float, float]:
    """Risk of somebody ``z`` standard deviations from the mean, with a 95 % interval from the effect's.

    The intercept is such that the mean risk over a normal distribution of scores is the population's.
    """
    margin = float(special.ndtri((1 + COVERAGE) / 2)) * incidence.standard_error
    effects = (incidence.log_odds_per_sd, incidence.log_odds_per_sd - margin, incidence.log_odds_per_sd + margin)
    risk, *ends = (_risk(z, incidence.risk, effect) for effect in effects)
    return risk, min(ends), max(ends)


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(64)


def _risk(z: float, mean: float, effect: float) -> float:
    from scipy import optimize  # half a second to load, and most processes never come here

    share = _WEIGHTS / _WEIGHTS.sum()
    start = optimize.brentq(lambda a: share @ special.expit(a + effect * _NODES) - mean, -60, 60)
    return float(special.expit(start + effect * z))
