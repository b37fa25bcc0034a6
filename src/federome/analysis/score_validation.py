"""``score-validation``: does a prognostic score tell who does badly, and does acting on it do more good than harm?

People are counted in public bands of the score, on a grid of times common to all bands. From these counts alone come
discrimination (concordance between bands), calibration (predicted against observed risk at a horizon) and the decision
curve (net benefit at each band's edge). The Nottingham index can be computed at the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar
from weakref import WeakKeyDictionary

import msgspec
import numpy as np

from federome.analysis import follow_up
from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.analysis.cohort_count import EVERYBODY
from federome.analysis.covariates import Name, Optional
from federome.analysis.follow_up import EVENT, HALVES, KINDS, START, Grid, Marks
from federome.analysis.regression import Floats
from federome.analysis.survival_curves import Curve
from federome.errors import Invalid
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Number, Round, Rows, Statistic
from federome.model.table import Column, Mask

NOTTINGHAM: tuple[float, ...] = (3.4, 5.4)
"""Edges of the groups with good, moderate and poor prognosis (Galea et al. 1992)."""
LATE: tuple[float, ...] = (3.13, 3.86)
"""Edges of low, intermediate and high risk of late recurrence by CTS5 (Dowsett et al. 2018)."""
COMPUTED = ("nottingham", "cts5")
_BIG = Number(bound=2.0**48)
_KNOWN: WeakKeyDictionary[View, dict[object, tuple[Marks, Floats, int]]] = WeakKeyDictionary()


@algorithm("score-validation", "1.0")
@dataclass(frozen=True, kw_only=True)
class ScoreValidation(Algorithm):
    """How well a score foretells an end by ``horizon``.

    ``score`` is a numeric column, or ``nottingham``: 0.2 · size in cm + stage of nodes (1 none, 2 up to three, 3 more)
    + grade, from the columns ``size_mm``, ``positive_nodes`` and ``grade`` (Haybittle et al. 1982), or ``cts5``, which
    adds ``age`` (Dowsett et al. 2018; made for postmenopausal women with oestrogen receptors and without recurrence
    five years after diagnosis: choose the cohort and count time from there). ``edges`` cut
    it into bands, each open at its upper end; they are public and the same at all nodes. ``predicted`` is a column with
    each person's predicted risk by the horizon; without it there is no calibration. A band's observed risk is not known
    where its first block of events stands beyond the horizon, and ``followed`` is how far a band was followed: a risk
    at a later horizon is at least the one told. Decision curves (Vickers, Elkin
    2006) are drawn where the score itself is that risk.
    """

    time: Name
    event: Name
    score: Name
    edges: Annotated[tuple[float, ...], msgspec.Meta(min_length=1, max_length=30)]
    horizon: Annotated[float, msgspec.Meta(gt=0)]
    predicted: Optional = ""
    size_mm: Name = "tumour_size_mm"
    positive_nodes: Name = "positive_nodes"
    grade: Name = "grade"
    age: Name = "age_at_diagnosis"
    cohort: Cohort = EVERYBODY
    halvings: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5
    exits_min: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = 10
    confidence: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] = 0.95

    modules: ClassVar[tuple[str, ...]] = (
        "federome.analysis.cohort_count",
        "federome.analysis.follow_up",
        "federome.analysis.covariates",
        "federome.analysis.logistic",
        "federome.analysis.partial_likelihood",
        "federome.analysis.regression",
        "federome.analysis.survival_curves",
    )
    rounds: ClassVar[tuple[Round, ...]] = (
        Round("start", scope="people", totals=START, gated=True),
        Round(
            "halve",
            scope="people",
            totals=Rows({**HALVES.columns, "predictions": _BIG}, release_class="summary-statistics"),
            gated=True,
        ),
    )
    how_told: ClassVar[frozenset[str]] = frozenset({"halvings", "exits_min", "confidence"})
    broadcasts: ClassVar[frozenset[str]] = follow_up.BROADCASTS | {"predictions"}
    releases: ClassVar[Mapping[str, Rows]] = {
        "bands": Rows(
            {
                "band": Label(),
                "people": Count(people=True),
                "events": Count(people=True),
                **dict.fromkeys(("predicted", "observed", "low", "high", "followed"), Statistic(guard="people")),
            },
            release_class="summary-statistics",
            key=("band",),
        ),
        "decision": Rows(
            {"threshold": Label(), **dict.fromkeys(("net_benefit", "treat_all"), Statistic())},
            release_class="summary-statistics",
            key=("threshold",),
        ),
        "summary": Rows(
            {"incomplete": Count(people=True), "concordance": Statistic(), "intervals": Statistic()},
            release_class="summary-statistics",
        ),
    }

    def __post_init__(self) -> None:
        if any(a >= b for a, b in pairwise(self.edges)) or not np.isfinite(self.edges).all():
            raise Invalid("edges of bands rise.", where="edges")

    @property
    def _own(self) -> bool:
        return self.score in COMPUTED

    @property
    def _parts(self) -> tuple[str, ...]:
        """Columns of a score that is computed here."""
        return (self.size_mm, self.positive_nodes, self.grade, *((self.age,) if self.score == "cts5" else ()))

    @property
    def reads(self) -> Reads:
        columns = self._parts if self._own else (self.score,)
        others = (self.predicted,) if self.predicted else ()
        return Reads(tuple(dict.fromkeys((self.time, self.event, *columns, *others))))

    @property
    def _bands(self) -> int:
        return len(self.edges) + 1

    def told_of(self, view: View) -> Iterator[Mask]:
        """The people of each band: edges that hardly move would tell of the few that they pass."""
        marks = self._people(view)[0]
        for band in range(self._bands):
            inside = np.zeros(view.people, np.bool_)
            inside[marks.person[marks.group == band]] = True
            yield inside

    def analysed(self, view: View) -> Iterator[Mask]:
        """Complete people of all bands."""
        inside = np.zeros(view.people, np.bool_)
        inside[self._people(view)[0].person] = True
        yield inside

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        known = _KNOWN.setdefault(view, {})
        if self not in known:
            known[self] = self._people(view)
        marks, predicted, incomplete = known[self]
        if state.round == "start":
            return marks.start(incomplete, trees=len(KINDS), groups=self._bands)
        grid = Grid.read(state.shared)
        placed = grid.place(marks) >= 0
        sums = np.bincount(marks.group[placed], predicted[placed], minlength=self._bands).astype(np.float64)
        return Table({**grid.halves(marks).columns, "predictions": sums[None]})

    def _people(self, view: View) -> tuple[Marks, Floats, int]:
        exits, kinds = follow_up.times_of(view, self.time), follow_up.kinds_of(view, self.event, 0)
        if self._own:
            parts = (view.numbers(name) for name in self._parts)
            score = nottingham(*parts) if self.score == "nottingham" else cts5(*parts)
        else:
            score = view.numbers(self.score)
        predicted = view.numbers(self.predicted) if self.predicted else np.zeros(view.people)
        if np.any((predicted < 0) | (predicted > 1)):
            raise Invalid(f"{self.predicted!r} holds risks below 0 or above 1.", where="predicted")
        known = np.isfinite(exits) & np.isfinite(kinds) & np.isfinite(score) & np.isfinite(predicted)
        band = np.searchsorted(np.array(self.edges), score[known], side="left")
        marks = Marks(np.flatnonzero(known), kinds[known].astype(np.int64), band.astype(np.int64), exits[known])
        return marks, predicted[known], int((~known).sum())

    def step(self, state: State, total: Table) -> State:
        if state.round == "start":
            grid = Grid.whole(total, trees=len(KINDS), groups=self._bands, least=self.exits_min)
            follow_up.need({"events": len(grid.of(EVENT))})
            known = follow_up.aside(total)
            return state.to(
                "halve", shared=Table({**known.columns, **grid.columns(), "level": np.array([0])}, known.withheld)
            )
        level = int(state.shared.ints("level")[0]) + 1
        grid = Grid.read(state.shared).halved(total, self.exits_min)
        columns: dict[str, Column] = {**state.shared.columns, **grid.columns(), "level": np.array([level])}
        columns["predictions"] = total["predictions"]
        more = level < self.halvings and bool(grid.open.any())
        return state.to("halve" if more else DONE, shared=Table(columns, state.shared.withheld))

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        shared = state.shared
        grid = Grid.read(shared)
        curves = [Curve.of(grid, band, self.confidence) for band in range(self._bands)]
        intervals = np.array([float(len(grid.of(EVENT)))])
        summary: dict[str, Column] = {
            "incomplete": shared["incomplete"],
            "concordance": np.array([concordance(curves)]),
            "intervals": intervals,
        }
        return {
            "bands": self._told(curves, shared.floats("predictions")[0]),
            "decision": self._decision(curves),
            "summary": Table(summary, shared.only("incomplete").withheld),
        }

    def _told(self, curves: list[Curve], predictions: Floats) -> Table:
        edges = ["", *(f"{edge:g}" for edge in self.edges), ""]
        names = [f"over {low}" if not high else f"up to {high}" if not low else f"{low} to {high}"
                 for low, high in pairwise(edges)]  # fmt: skip
        people = np.array([curve.people for curve in curves])
        hidden = people == 0
        risks = np.array([self._risk(curve) for curve in curves])
        mean = (
            np.where(hidden, 0.0, predictions / np.maximum(people, 1))
            if self.predicted
            else np.full(len(people), np.nan)
        )
        columns: dict[str, Column] = {
            "band": np.array(names, np.str_),
            "people": people,
            "events": np.array([int(curve.events.sum()) for curve in curves]),
            "predicted": mean,
            **{name: np.where(hidden, 0.0, risks[:, at]) for at, name in enumerate(("observed", "low", "high"))},
        }
        columns["predicted"] = np.where(hidden, 0.0, mean)
        columns["followed"] = np.array([curve.ends.max(initial=0.0) for curve in curves])
        return Table(columns, {name: hidden for name in columns if name != "band"})

    def _risk(self, curve: Curve) -> tuple[float, float, float]:
        """Observed risk by the horizon and its limits; NaN where no block of events stands before: that is not none."""
        past = np.flatnonzero(curve.time <= self.horizon)
        if not len(past):
            return float("nan"), float("nan"), float("nan")
        at = past[-1]
        return float(1 - curve.survival[at]), float(1 - curve.high[at]), float(1 - curve.low[at])

    def _decision(self, curves: list[Curve]) -> Table:
        """Net benefit of treating everybody above each edge that can be a risk, and of treating everybody."""
        edges = np.array([edge for edge in self.edges if 0 < edge < 1])
        people = np.array([curve.people for curve in curves], np.float64)
        cases = np.array([n * self._risk(curve)[0] if n else 0.0 for n, curve in zip(people, curves, strict=True)])
        told = np.zeros((2, len(edges)))
        for at, edge in enumerate(edges.tolist()):
            above = np.arange(self._bands) > self.edges.index(edge)
            for line, chosen in enumerate((above, np.ones(self._bands, np.bool_))):
                wrong = people[chosen].sum() - cases[chosen].sum()
                told[line, at] = (cases[chosen].sum() - wrong * edge / (1 - edge)) / people.sum()
        return Table({"threshold": edges, "net_benefit": told[0], "treat_all": told[1]})


def nottingham(size_mm: Floats, nodes: Floats, grade: Floats) -> Floats:
    """The Nottingham prognostic index; NaN where a part is unknown or no grade."""
    stage = np.select([nodes == 0, (nodes > 0) & (nodes <= 3), nodes > 3], [1.0, 2.0, 3.0], np.nan)
    graded = np.where(np.isin(grade, (1, 2, 3)), grade, np.nan)
    return np.asarray(0.2 * size_mm / 10 + stage + graded)


def cts5(size_mm: Floats, nodes: Floats, grade: Floats, age: Floats) -> Floats:
    """Clinical treatment score after five years; NaN where a part is unknown or no grade."""
    group = np.where(nodes >= 0, np.searchsorted([1, 2, 4, 10], nodes, side="right"), np.nan)
    size = np.where(size_mm >= 0, np.minimum(size_mm, 30.0), np.nan)
    graded = np.where(np.isin(grade, (1, 2, 3)), grade, np.nan)
    return np.asarray(0.438 * group + 0.988 * (0.093 * size - 0.001 * size**2 + 0.375 * graded + 0.017 * age))


def concordance(curves: list[Curve]) -> float:
    """Share of pairs in which the one who ends first has the higher band; equal bands count half (Harrell)."""
    right = pairs = 0.0
    for band, curve in enumerate(curves):
        for time, events in zip(curve.time.tolist(), curve.events.tolist(), strict=True):
            for other, theirs in enumerate(curves):
                later = float(theirs.sizes[theirs.ends > time].sum())
                pairs += events * later
                right += events * later * (1.0 if other < band else 0.5 if other == band else 0.0)
    return right / pairs if pairs else float("nan")
