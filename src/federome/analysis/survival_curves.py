"""``survival-curves``: Kaplan-Meier and Aalen-Johansen curves by group, log-rank test and restricted means.

Only counts leave: how many people of each group end in which way in each block of the common grid (see
``follow_up``), every cell of which passed the gate. All else is computed from these at the releaser, so the curves
are those of the pooled people, each at the mean time of their block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
from scipy import special

from federome.analysis import follow_up
from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.analysis.cohort_count import EVERYBODY, label_codes
from federome.analysis.covariates import Complete, Name, Optional, columns_of, complete_in, covariate
from federome.analysis.follow_up import CENSORED, COMPETING, EVENT, HALVES, KINDS, START, Grid, Ints, Marks
from federome.analysis.regression import LN10, Floats
from federome.errors import Invalid
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Round, Rows, Statistic
from federome.model.table import Mask

_MARKS: WeakKeyDictionary[View, dict[object, tuple[Marks, int]]] = WeakKeyDictionary()


@algorithm("survival-curves", "1.0")
@dataclass(frozen=True, kw_only=True)
class SurvivalCurves(Algorithm):
    """Curves of the people of each group.

    ``time`` and ``event`` name the columns of the time of an end and of its kind (0 censored, 1 event); with
    ``cause``, other causes compete, ``survival`` is that of being free of both and ``incidence`` the chance to have
    had the event asked for. ``by`` is a column whose listed ``groups`` get curves of their own: texts, or 0 and 1 of
    a numeric column; everybody else is incomplete. ``halvings`` and ``exits_min`` as in ``cox``; the grid is common
    to all groups, and a kind of end that is too rare in a group to be told stands aside there. ``until`` is the
    horizon of restricted means, by default the earliest last time of any group. Bands are pointwise, on the log-log
    scale (Kalbfleisch and Prentice 2002, 1.4). ``complete`` as in ``cox``.
    """

    time: Name
    event: Name
    cohort: Cohort = EVERYBODY
    complete: Complete = ()
    cause: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    by: Optional = ""
    groups: Annotated[tuple[Name, ...], msgspec.Meta(max_length=20)] = ()
    halvings: Annotated[int, msgspec.Meta(ge=1, le=10)] = 6
    exits_min: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = 10
    confidence: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] = 0.95
    until: Annotated[float, msgspec.Meta(gt=0)] | None = None

    modules: ClassVar[tuple[str, ...]] = (
        "federome.analysis.cohort_count",
        "federome.analysis.follow_up",
        "federome.analysis.covariates",
        "federome.analysis.logistic",
        "federome.analysis.partial_likelihood",
        "federome.analysis.regression",
    )
    rounds: ClassVar[tuple[Round, ...]] = (
        Round("start", scope="people", totals=START, gated=True),
        Round("halve", scope="people", totals=HALVES, gated=True),
    )
    broadcasts: ClassVar[frozenset[str]] = follow_up.BROADCASTS
    releases: ClassVar[Mapping[str, Rows]] = {
        "curves": Rows(
            {
                "group": Label(),
                "time": Label(),
                "at_risk": Count(people=True),
                "events": Count(guard="at_risk"),
                "competing": Count(guard="at_risk"),
                **dict.fromkeys(("survival", "low", "high", "incidence", "incidence_se"), Statistic(guard="at_risk")),
            },
            release_class="summary-statistics",
            key=("group", "time"),
        ),
        "groups": Rows(
            {
                "group": Label(),
                "people": Count(people=True),
                "events": Count(people=True),
                **dict.fromkeys(("median", "median_low", "median_high", "restricted_mean"), Statistic(guard="people")),
                "restricted_mean_se": Statistic(guard="people"),
            },
            release_class="summary-statistics",
            key=("group",),
        ),
        "tests": Rows(
            {
                "test": Label(),
                **dict.fromkeys(("statistic", "degrees", "minus_log10_p", "horizon", "intervals"), Statistic()),
                "incomplete": Count(people=True),
            },
            release_class="summary-statistics",
            key=("test",),
        ),
    }

    def __post_init__(self) -> None:
        if bool(self.by) != bool(self.groups) or len(set(self.groups)) != len(self.groups):
            raise Invalid("groups need a column and are listed once each; nodes must agree on them.", where="groups")

    @property
    def reads(self) -> Reads:
        others = ([self.by] if self.by else []) + [*columns_of(self.complete)]
        return Reads(tuple(dict.fromkeys((self.time, self.event, *others))))

    @property
    def _names(self) -> tuple[str, ...]:
        return self.groups or ("all",)

    def told_of(self, view: View) -> Iterator[Mask]:
        """The people of each group."""
        if self.by:
            group = self._codes(view)
            yield from (group == at for at in range(len(self._names)))

    def told_as(self) -> Iterator[tuple[Cohort | None, str]]:
        """The cohort with each value of the column."""
        yield from ((self.cohort, f"{self.by} is {group!r}") for group in self.groups)

    def analysed(self, view: View) -> Iterator[Mask]:
        """Complete people of all groups."""
        inside = np.zeros(view.people, np.bool_)
        inside[self._marks(view)[0].person] = True
        yield inside

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        known = _MARKS.setdefault(view, {})
        if self not in known:
            known[self] = self._marks(view)
        marks, incomplete = known[self]
        if state.round == "start":
            return marks.start(incomplete, trees=len(KINDS), groups=len(self._names))
        return Grid.read(state.shared).halves(marks)

    def _marks(self, view: View) -> tuple[Marks, int]:
        exits = follow_up.times_of(view, self.time)
        kinds = follow_up.kinds_of(view, self.event, self.cause)
        group = self._codes(view)
        complete = np.isfinite(exits) & np.isfinite(kinds) & (group >= 0) & complete_in(view, self.complete)
        person = np.flatnonzero(complete)
        marks = Marks(person, kinds[complete].astype(np.int64), group[complete], exits[complete])
        return marks, int((~complete).sum())

    def _codes(self, view: View) -> Ints:
        if not self.by:
            return np.zeros(view.people, np.int64)
        if set(self.groups) <= {"0", "1"}:
            values = covariate(view, self.by)
            texts = np.where(values == 1, "1", np.where(values == 0, "0", ""))
            return label_codes(texts, self.groups)
        return label_codes(view.labels(self.by), self.groups)

    def step(self, state: State, total: Table) -> State:
        groups = len(self._names)
        if state.round == "start":
            grid = Grid.whole(total, trees=len(KINDS), groups=groups, least=self.exits_min)
            follow_up.need({"events": len(grid.of(EVENT))})
            known = follow_up.aside(total)
            columns = {**known.columns, **grid.columns(), "level": np.array([0])}
            return state.to("halve", shared=Table(columns, known.withheld))
        level = int(state.shared.ints("level")[0]) + 1
        grid = Grid.read(state.shared).halved(total, self.exits_min)
        columns = {**state.shared.columns, **grid.columns(), "level": np.array([level])}
        more = level < self.halvings and bool(grid.open.any())
        return state.to("halve" if more else DONE, shared=Table(columns, state.shared.withheld))

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        shared = state.shared
        grid = Grid.read(shared)
        found = [Curve.of(grid, at, self.confidence) for at in range(len(self._names))]
        last = min((float(curve.ends.max()) for curve in found if len(curve.time)), default=0.0)
        horizon = last if self.until is None else min(self.until, last)
        return {
            "curves": self._curves(found),
            "groups": self._groups(found, horizon),
            "tests": self._tests(found, grid, horizon, shared),
        }

    def _curves(self, found: list[Curve]) -> Table:
        columns = {name: np.concatenate([getattr(c, name) for c in found]) for name in CURVE_COLUMNS}
        group = np.repeat(np.array(self._names, np.str_), [len(c.time) for c in found])
        return Table({"group": group, **columns})

    def _groups(self, found: list[Curve], horizon: float) -> Table:
        people = np.array([curve.people for curve in found])
        medians = [curve.median() for curve in found]
        means = [curve.restricted_mean(horizon) for curve in found]
        events = np.array([int(curve.events.sum()) for curve in found])
        hidden = events == 0  # too few to be told, or nobody
        columns = {
            "group": np.array(self._names, np.str_),
            "people": np.where(hidden, 0, people),
            "events": events,
            **{
                name: np.array([m[i] for m in medians])
                for i, name in enumerate(("median", "median_low", "median_high"))
            },
            **{
                name: np.array([m[i] for m in means])
                for i, name in enumerate(("restricted_mean", "restricted_mean_se"))
            },
        }
        shown = {n: np.where(hidden, 0.0, v) if v.dtype.kind == "f" else v for n, v in columns.items()}
        return Table(shown, {name: hidden for name in columns if name != "group"})

    def _tests(self, found: list[Curve], grid: Grid, horizon: float, shared: Table) -> Table:
        statistic, freedom = log_rank([curve for curve in found if curve.events.sum()])
        p = float(special.gammaincc(freedom / 2, statistic / 2)) if freedom else np.nan
        with np.errstate(divide="ignore"):
            strength = -np.log10(p)
        if p == 0:  # far tail: chi-square by its leading term
            half = freedom / 2
            strength = (statistic / 2 - (half - 1) * np.log(statistic / 2) + special.gammaln(half)) / LN10
        return Table(
            {
                "test": np.array(["log-rank"], np.str_),
                "statistic": np.array([statistic if freedom else np.nan]),
                "degrees": np.array([float(freedom)]),
                "minus_log10_p": np.array([strength]),
                "horizon": np.array([horizon]),
                "intervals": np.array([float(len(grid.of(EVENT)))]),
                "incomplete": shared["incomplete"],
            },
            shared.only("incomplete").withheld,
        )


CURVE_COLUMNS = (
    *("time", "at_risk", "events", "competing", "survival", "low", "high"),
    *("incidence", "incidence_se"),
)


@dataclass(frozen=True, eq=False)
class Curve:
    """One group's curve at the times of its events and competing events, each (T,).

    ``ends`` and ``sizes`` say when how many of its people leave, however. Without events that can be told, nobody does.
    """

    ends: Floats
    sizes: Ints
    time: Floats
    at_risk: Ints
    events: Ints
    competing: Ints
    survival: Floats
    low: Floats
    high: Floats
    incidence: Floats
    incidence_se: Floats

    @classmethod
    def of(cls, grid: Grid, group: int, confidence: float) -> Curve:
        """From the counts of a grid."""
        count = grid.count[:, group]
        mine = (count > 0) & bool(count[grid.of(EVENT)].any())
        time = np.unique(grid.mean[mine & (grid.tree != CENSORED)])
        ends, size = grid.mean[mine], count[mine]
        at_risk = np.array([size[ends >= t].sum() for t in time.tolist()], np.int64)
        events, competing = (
            np.array([count[mine & (grid.tree == kind) & (grid.mean == t)].sum() for t in time.tolist()], np.int64)
            for kind in (EVENT, COMPETING)
        )
        gone = events + competing
        survival: Floats = np.cumprod(1 - gone / np.maximum(at_risk, 1)).astype(np.float64)
        low, high = _band(survival, gone, at_risk, confidence)
        incidence, incidence_se = _incidence(survival, events, gone, at_risk)
        return cls(ends, size, time, at_risk, events, competing, survival, low, high, incidence, incidence_se)

    @property
    def people(self) -> int:
        """Number of people."""
        return int(self.sizes.sum())

    def people_at(self, times: Floats) -> Ints:
        """How many are still at risk at each of some times."""
        return np.array([self.sizes[self.ends >= t].sum() for t in times.tolist()], np.int64)

    def median(self) -> tuple[float, float, float]:
        """First time at which at most half survive, and where the bands cross that; infinite if they do not."""
        found = []
        for values in (self.survival, self.low, self.high):
            below = np.flatnonzero(values <= 0.5)
            found.append(float(self.time[below[0]]) if len(below) else np.inf)
        return found[0], found[1], found[2]

    def restricted_mean(self, horizon: float) -> tuple[float, float]:
        """Area under the curve up to ``horizon``, and its standard error (Klein and Moeschberger 2003, 4.5)."""
        inside = self.time < horizon
        edges = np.concatenate([[0.0], self.time[inside], [horizon]])
        area = np.diff(edges) * np.concatenate([[1.0], self.survival[inside]])
        later = np.cumsum(area[::-1])[::-1][1:]
        gone, at_risk = (self.events + self.competing)[inside], self.at_risk[inside]
        left = np.maximum(at_risk - gone, 1)
        return float(area.sum()), float(np.sqrt((later**2 * gone / (at_risk * left)).sum()))


def _band(survival: Floats, gone: Ints, at_risk: Ints, confidence: float) -> tuple[Floats, Floats]:
    """Pointwise bounds on the log-log scale with Greenwood's variance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.cumsum(gone / (at_risk * (at_risk - gone)))
        log = np.log(survival)
        width = special.ndtri((1 + confidence) / 2) * np.sqrt(variance) / log
        low, high = np.exp(-np.exp(np.log(-log) - width)), np.exp(-np.exp(np.log(-log) + width))
    known = (survival > 0) & (survival < 1)
    return np.where(known, low, survival), np.where(known, high, survival)


def _incidence(survival: Floats, events: Ints, gone: Ints, at_risk: Ints) -> tuple[Floats, Floats]:
    """Aalen-Johansen's cumulative incidence of the event, and its standard error by the delta method.

    As in Marubini and Valsecchi (1995, 10.24).
    """
    before = np.concatenate([[1.0], survival[:-1]])
    share = events / np.maximum(at_risk, 1)
    incidence = np.cumsum(before * share)
    squared = np.zeros(len(incidence))
    left = np.maximum(at_risk - gone, 1)
    for at, value in enumerate(incidence.tolist()):
        past = slice(0, at + 1)
        rest = value - incidence[past]
        n, d, e, s = at_risk[past], gone[past], events[past], before[past]
        squared[at] = (rest**2 * d / (n * left[past])).sum()
        squared[at] += (s**2 * (n - e) / n * e / n**2).sum()
        squared[at] -= 2 * (rest * s * e / n**2).sum()
    return incidence, np.sqrt(np.maximum(squared, 0.0))


def log_rank(curves: list[Curve]) -> tuple[float, int]:
    """Chi-square statistic and degrees of freedom of Mantel's test of the event asked for."""
    if len(curves) < 2:
        return 0.0, 0
    times = np.unique(np.concatenate([curve.time[curve.events > 0] for curve in curves]))
    events = np.zeros((len(times), len(curves)))
    at_risk = np.zeros((len(times), len(curves)))
    for at, curve in enumerate(curves):
        place = np.searchsorted(times, curve.time[curve.events > 0])
        events[place, at] = curve.events[curve.events > 0]
        at_risk[:, at] = curve.people_at(times)
    n, d = at_risk.sum(axis=1), events.sum(axis=1)
    share = at_risk / n[:, None]
    difference = (events - d[:, None] * share).sum(axis=0)
    factor = d * (n - d) / np.maximum(n - 1, 1)
    variance = np.einsum("t,tg,gh->gh", factor, share, np.eye(len(curves)))
    variance -= np.einsum("t,tg,th->gh", factor, share, share)
    part, within = difference[:-1], variance[:-1, :-1]
    if np.linalg.matrix_rank(within) < len(within):  # everybody at risk has the event whenever somebody has it
        return 0.0, 0
    return float(part @ np.linalg.solve(within, part)), len(curves) - 1
