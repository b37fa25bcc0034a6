"""``cox``: proportional hazards on a common grid of times, exactly as on the pooled data on that grid.

Sums over the nodes, in turn: how many people end in which way, and when on average; halvings of the time axis until
blocks hold few people enough (see ``follow_up``); Newton's method on sums over the risk sets of the grid, which
differ from each other by nobody or by enough people; last, where asked for, the robust variance. Newton's method
begins while the axis is still being halved, a step on each grid, so that few are left on the last one. How far the
estimates lie from those of the times as recorded each node can tell for its own people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
from scipy import special

from federome.analysis import follow_up
from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.analysis.cohort_count import EVERYBODY, label_codes
from federome.analysis.covariates import Complete, Name, Optional, columns_of, complete_in, covariate
from federome.analysis.follow_up import EVENT, HALVES, START, Grid, Ints, Marks
from federome.analysis.followed import Followed
from federome.analysis.logistic import Newton, Sums, limited
from federome.analysis.partial_likelihood import Episodes, exposures, likelihood
from federome.analysis.regression import (
    Floats,
    collinear,
    inverted,
    minus_log10_normal,
    moments_at_powers,
    packed,
    units,
    unpacked,
)
from federome.errors import Invalid
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Number, Round, Rows, Statistic
from federome.model.table import Column, Mask

STEPS = 40
CONVERGED = 1e-13
"""Newton decrement after which the step that follows leaves effects within 1e-12 standard errors."""
RUNAWAY = 12.0
"""A log hazard ratio per standard deviation that only separation produces."""
PARAMETER_SHARE = 1 / 5
"""Most parameters per event: below five events each, estimates are not to be trusted (Vittinghoff, McCulloch 2007)."""
_ENTERED = 2
_RISKS = ("risk", "tied", "observed")
"""Packed sums over risk sets and over those with the event, and sums of covariates of the latter, slot by slot."""
_BIG = Number(bound=2.0**48)


_FOLLOWED: WeakKeyDictionary[View, dict[object, object]] = WeakKeyDictionary()


@algorithm("cox", "1.0")
@dataclass(frozen=True, kw_only=True)
class Cox(Algorithm):
    """Cox regression of a time on covariates.

    ``time`` and ``event`` name the columns of the time of an end (from 0 on) and of its kind (0 censored, 1 event; with
    ``cause``, further causes count as censored there, which gives cause-specific hazards). ``covariates`` are numeric
    columns, or ``column=level`` for one level of a text column. ``since`` names columns with the time at which a
    treatment began: a covariate that is 0 before and 1 after, so that nobody is credited with the time waited for it.
    ``entry`` names the column of times at which people came under observation. ``strata`` is a text column whose
    listed ``levels`` have baseline hazards of their own; everybody else stands aside. ``robust`` adds the sandwich
    variance, ``cluster`` that of groups within nodes. ``halvings`` of the time axis give up to 2^halvings intervals a
    stratum, none with fewer than ``exits_min`` people or the data holders' threshold. ``model`` may be
    ``piecewise-exponential``: constant hazards between the same cuts, for nodes that have to answer alone.
    ``shift`` is how far estimates would move on the times as recorded: one step of Newton's method on the scores that
    each node finds for its own people with and without the grid, added up. Unlike all else it depends on who is at
    which node. ``beta_recorded`` is ``beta`` with that step taken.

    ``complete`` names further columns of which everybody has to have a value: with those that later models will use,
    all of them run over the same people.

    The people whose kind of end is too rare to be told stand aside. Raises ``Invalid`` for negative times, other
    codes of events, too few events, constant, collinear or separating covariates.
    """

    time: Name
    event: Name
    covariates: Annotated[tuple[Name, ...], msgspec.Meta(max_length=50)]
    cohort: Cohort = EVERYBODY
    complete: Complete = ()
    cause: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    entry: Optional = ""
    since: Annotated[tuple[Name, ...], msgspec.Meta(max_length=10)] = ()
    strata: Optional = ""
    levels: Annotated[tuple[Name, ...], msgspec.Meta(max_length=50)] = ()
    cluster: Optional = ""
    robust: bool = False
    ties: Literal["efron", "breslow"] = "efron"
    model: Literal["cox", "piecewise-exponential"] = "cox"
    halvings: Annotated[int, msgspec.Meta(ge=1, le=10)] = 6
    exits_min: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = 10
    confidence: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] = 0.95
    tell_shift: bool = True

    modules: ClassVar[tuple[str, ...]] = (
        "federome.analysis.cohort_count",
        "federome.analysis.covariates",
        "federome.analysis.follow_up",
        "federome.analysis.followed",
        "federome.analysis.logistic",
        "federome.analysis.partial_likelihood",
        "federome.analysis.regression",
    )
    rounds: ClassVar[tuple[Round, ...]] = (
        Round("start", scope="people", totals=START, gated=True),
        Round(
            "halve",
            scope="people",
            totals=Rows({**HALVES.columns, "sum": _BIG, "square": _BIG}, release_class="summary-statistics"),
            gated=True,
        ),
        Round(
            "refine",
            scope="people",
            totals=Rows({**HALVES.columns, **dict.fromkeys(_RISKS, _BIG)}, release_class="model"),
            gated=True,
        ),
        Round(
            "fit",
            scope="people",
            totals=Rows(dict.fromkeys((*_RISKS, "plain", "shift"), _BIG), release_class="model"),
        ),
        Round("spread", scope="people", totals=Rows({"meat": _BIG}, release_class="model")),
    )
    broadcasts: ClassVar[frozenset[str]] = follow_up.BROADCASTS | {
        *("mean_x", "scale", "trial", "base", "best", "tries", "null", "at_risk", "risk", "tied", "information"),
        *("meat", "shift"),
    }
    releases: ClassVar[Mapping[str, Rows]] = {
        "effects": Rows(
            {
                "covariate": Label(),
                **dict.fromkeys(
                    ("beta", "se", "robust_se", "z", "minus_log10_p", "hazard_ratio", "low", "high"), Statistic()
                ),
                "shift": Statistic(digits=3),
                "shift_in_se": Statistic(digits=3),
                "beta_recorded": Statistic(),
            },
            release_class="summary-statistics",
            key=("covariate",),
        ),
        "model": Rows(
            {
                "people": Count(people=True),
                "events": Count(people=True),
                "incomplete": Count(people=True),
                "method": Label(),
                "intervals": Statistic(),
                "log_likelihood": Statistic(guard="events"),
                "null_log_likelihood": Statistic(guard="events"),
            },
            release_class="summary-statistics",
        ),
        "baseline": Rows(
            {
                "stratum": Label(),
                "after": Label(),
                "time": Label(),
                "at_risk": Count(people=True),
                "events": Count(people=True),
                "hazard": Statistic(guard="events"),
            },
            key=("stratum", "after"),
        ),
    }

    def __post_init__(self) -> None:
        terms = self.terms
        if not terms:
            raise Invalid("a model needs a covariate.", where="covariates", remedy="Without any, ask survival-curves.")
        if twice := sorted({name for name in terms if terms.count(name) > 1}):
            raise Invalid(f"{twice[0]!r} is used twice.", where="covariates", remedy="Name each once.")
        if bool(self.strata) != bool(self.levels) or len(set(self.levels)) != len(self.levels):
            raise Invalid("strata need their levels, each listed once; nodes must agree on them.", where="levels")

    @property
    def terms(self) -> tuple[str, ...]:
        """The model's covariates, those that begin with time last."""
        return (*self.covariates, *(f"{name} passed" for name in self.since))

    @property
    def reads(self) -> Reads:
        columns = columns_of((*self.covariates, *self.complete))
        others = (self.entry, *self.since, self.strata, self.cluster)
        return Reads(tuple(dict.fromkeys((self.time, self.event, *columns, *filter(None, others)))))

    def estimates(self, nodes: int) -> int:  # noqa: ARG002
        return len(self.terms)

    @property
    def _efron(self) -> bool:
        return self.ties == "efron" and self.model == "cox"

    @property
    def _edges(self) -> bool:
        """Whether times stand at the ends of their blocks, so that nobody ends before they begin."""
        return bool(self.entry or self.since)

    @property
    def _strata(self) -> int:
        return len(self.levels) or 1

    @property
    def _trees(self) -> int:
        return self._strata * (_ENTERED + bool(self.entry) + len(self.since))

    def alone(self) -> Cox:
        """One node's people only: constant hazards, whose few intervals cost least (see the page on survival)."""
        return replace(self, model="piecewise-exponential")

    # At the node ---------------------------------------------------------------------------------------------------

    def analysed(self, view: View) -> Iterator[Mask]:
        """Complete people."""
        yield self._everybody(view).members

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        known = _FOLLOWED.setdefault(view, {})
        everybody = self._everybody(view)
        if state.round == "start":
            return self._marks(everybody).start(everybody.incomplete, trees=self._trees, groups=1)
        grid = Grid.read(state.shared)
        some = everybody.take(self._inside(everybody, grid))
        if state.round == "halve":
            total, square = moments_at_powers(some.x)
            told = grid.halves(self._marks(everybody))
            return Table({**told.columns, "sum": total[None], "square": square[None]})
        key = (self, state.shared["high"].tobytes(), state.shared["mean"].tobytes())
        episodes = known.get(key)
        if not isinstance(episodes, Episodes):
            episodes = known[key] = self._episodes(some, grid, state.shared)
        if state.round == "spread":
            return Table({"meat": self._meat(episodes, some, grid, state.shared)[None]})
        effects = state.shared.floats("trial")[0]
        risks = self._sums(episodes, some, grid, effects)
        if state.round == "refine":
            del known[key]  # the next grid is another one
            flat = {name: values.reshape(1, -1) for name, values in zip(_RISKS, risks, strict=True)}
            return Table({**grid.halves(self._marks(everybody)).columns, **flat})
        shift = np.zeros_like(risks[2])
        if self.tell_shift:
            exact = known.get((self, "recorded"))
            if not isinstance(exact, Episodes):
                exact = known[self, "recorded"] = some.recorded(self._fixed(some, state.shared), self._strata)
            shift[0] = exact.score(effects) - self._score(episodes, risks, effects)
        plain = risks[0][:, 0] if not effects.any() else self._sums(episodes, some, grid, 0 * effects)[0][:, 0]
        return Table({**dict(zip(_RISKS, risks, strict=True)), "plain": plain, "shift": shift})

    def _everybody(self, view: View) -> Followed:
        known = _FOLLOWED.setdefault(view, {})
        everybody = known.get(self)
        if not isinstance(everybody, Followed):
            everybody = known[self] = self._followed(view)
        return everybody

    def _followed(self, view: View) -> Followed:
        """Complete people. Whoever lacks a value, or belongs to no stratum asked about, is incomplete."""
        exits = follow_up.times_of(view, self.time)
        kinds = follow_up.kinds_of(view, self.event, self.cause)
        entry = follow_up.times_of(view, self.entry) if self.entry else np.zeros(view.people)
        x = np.column_stack([covariate(view, name) for name in self.covariates] or [np.zeros((view.people, 0))])
        switch = np.column_stack(
            [follow_up.times_of(view, name) for name in self.since] or [np.zeros((view.people, 0))]
        )
        stratum = label_codes(view.labels(self.strata), self.levels) if self.strata else np.zeros(view.people, np.int64)
        complete = np.isfinite(exits) & np.isfinite(kinds) & np.isfinite(entry) & (stratum >= 0)
        complete &= np.isfinite(x).all(axis=1) & complete_in(view, self.complete)
        if np.any(entry[complete] >= exits[complete]) and self.entry:
            raise Invalid(
                "somebody ended before coming under observation.",
                where=self.entry,
                remedy="Times of entry must lie before those of the end.",
            )
        clusters = view.labels(self.cluster) if self.cluster else np.arange(view.people).astype(np.str_)
        switch = np.where(switch < exits[:, None], switch, np.nan)
        found = Followed(
            entry=entry,
            exit=exits,
            event=kinds == EVENT,
            stratum=stratum,
            cluster=np.unique(clusters, return_inverse=True)[1].astype(np.int64),
            x=x,
            switch=switch,
            members=complete,
        )
        return found.take(complete)

    def _marks(self, people: Followed) -> Marks:
        """Ends, late entries and switches, each in the tree of its kind and stratum."""
        everybody = np.arange(len(people.exit))
        late = [(people.entry, people.entry > 0)] if self.entry else []
        late += [(people.switch[:, at], np.isfinite(people.switch[:, at])) for at in range(len(self.since))]
        found = [(np.where(people.event, EVENT, 1), people.exit, np.ones(len(everybody), np.bool_))]
        found += [(np.full(len(everybody), _ENTERED + at), time, has) for at, (time, has) in enumerate(late)]
        parts = [
            Marks(everybody[has], (kind * self._strata + people.stratum)[has], np.zeros(has.sum(), np.int64), time[has])
            for kind, time, has in found
        ]
        return Marks.joined(parts)

    def _inside(self, people: Followed, grid: Grid) -> Mask:
        """People whose end has a place on the grid and whose stratum has events."""
        marks = self._marks(people)
        ends = len(people.exit)
        return np.asarray((grid.place(marks)[:ends] >= 0) & np.isin(people.stratum, grid.tree))

    def _episodes(self, people: Followed, grid: Grid, shared: Table) -> Episodes:
        """Stretches of slots at risk, cut where a treatment begins."""
        marks = self._marks(people)
        block = grid.place(marks)
        slots = grid.of(*range(self._strata))
        first = np.searchsorted(grid.tree[slots], grid.tree[slots])  # slots lie stratum by stratum
        number = np.zeros(len(grid.tree), np.int64)
        number[slots] = np.arange(len(slots))
        upper, lower = self._slots_before(grid, slots)
        count = len(people.exit)
        ends, begins = block[:count], np.zeros((count, 1 + len(self.since)), np.int64)
        stop = np.where(people.event, number[ends] + 1, upper[ends])
        begins[:, :] = np.searchsorted(grid.tree[slots], people.stratum)[:, None]
        begins[:, 1:] = np.where(np.isnan(people.switch), stop[:, None], begins[:, 1:])
        kind = marks.tree // self._strata - _ENTERED
        for at in range(count, len(block)):
            column = kind[at] + (not self.entry)
            begins[marks.person[at], column] = lower[block[at]]
        fixed = self._fixed(people, shared)
        cuts = np.sort(np.maximum(begins, begins[:, :1]), axis=1)
        parts = []
        for at in range(cuts.shape[1]):
            until = cuts[:, at + 1] if at + 1 < cuts.shape[1] else stop
            start, until = np.minimum(cuts[:, at], stop), np.minimum(until, stop)
            on = (begins[:, 1:] <= start[:, None]) & ~np.isnan(people.switch)
            parts.append((start, until, people.event & (until == stop) & (until > start), np.column_stack([fixed, on])))
        start, until, event = (np.concatenate([part[i] for part in parts]) for i in range(3))
        x = np.concatenate([part[3] for part in parts]).astype(np.float64)
        return Episodes.ordered(np.tile(np.arange(count), cuts.shape[1]), start, until, event, x, first)

    def _fixed(self, people: Followed, shared: Table) -> Floats:
        """Covariates in units of everybody's spread, from everybody's mean."""
        return np.asarray((people.x - shared.floats("mean_x")) / shared.floats("scale"))

    def _slots_before(self, grid: Grid, slots: Ints) -> tuple[Ints, Ints]:
        """For each block: slots up to its ends, and up to its beginnings: where who ends, or begins, in it stands."""
        upper, lower = np.zeros(len(grid.tree), np.int64), np.zeros(len(grid.tree), np.int64)
        for stratum in range(self._strata):
            events = np.flatnonzero(grid.tree[slots] == stratum)
            offset = events[0] if len(events) else 0
            times = (grid.high if self._edges else grid.mean)[slots[events]]
            here = np.flatnonzero(grid.tree % self._strata == stratum)
            ends = (grid.high if self._edges else grid.mean)[here]
            upper[here] = offset + np.searchsorted(times, ends, side="right")
            lower[here] = offset + np.searchsorted(times, grid.low[here], side="right")
        return upper, lower

    def _sums(self, episodes: Episodes, people: Followed, grid: Grid, effects: Floats) -> tuple[Floats, Floats, Floats]:
        risk, tied, observed = episodes.sums(effects)
        if self.model == "cox":
            return risk, tied, observed
        return exposures(episodes, self._spent(episodes, people, grid), effects), tied, observed

    def _spent(self, episodes: Episodes, people: Followed, grid: Grid) -> Floats:
        """Time that each episode spends in each slot's interval, (n, J)."""
        slots = grid.of(*range(self._strata))
        low, high = np.maximum(grid.low[slots], 0), grid.high[slots]
        own = grid.tree[slots] == people.stratum[episodes.person][:, None]
        began, ended = people.entry[episodes.person][:, None], people.exit[episodes.person][:, None]
        spent = np.clip(np.minimum(ended, high) - np.maximum(began, low), 0, None)
        return np.where(own, spent, 0.0)

    def _score(self, episodes: Episodes, risks: tuple[Floats, Floats, Floats], effects: Floats) -> Floats:
        """The score of this node's people alone, on the grid."""
        events = np.bincount(episodes.stop[episodes.event] - 1, minlength=episodes.slots)
        return np.asarray(likelihood(*risks, events, effects, efron=self._efron).score[0])

    def _meat(self, episodes: Episodes, people: Followed, grid: Grid, shared: Table) -> Floats:
        """Products of residuals, summed by cluster."""
        slots = grid.of(*range(self._strata))
        at_risk, at_event = (shared.floats(name).reshape(len(slots), -1) for name in ("risk", "tied"))
        effects = shared.floats("base")[0]
        events = grid.count[slots, 0]
        if self.model == "cox":
            residuals = episodes.residuals(effects, at_risk, at_event, events, efron=self._efron)
        else:
            residuals = episodes.residuals_of_spent(self._spent(episodes, people, grid), effects, at_risk, events)
        clusters = people.cluster[episodes.person]
        summed: Floats = np.stack([np.bincount(clusters, column) for column in residuals.T], axis=1).astype(float)
        return packed(summed.T @ summed)

    # At the releaser -----------------------------------------------------------------------------------------------

    def step(self, state: State, total: Table) -> State:
        match state.round:
            case "start":
                return self._step_start(state, total)
            case "halve" | "refine":
                return self._step_halve(state, total)
            case "fit":
                return self._step_fit(state, total)
        told = {**state.shared.columns, **total.only("meat").columns}
        return state.to(DONE, shared=Table(told, state.shared.withheld))

    def _step_start(self, state: State, total: Table) -> State:
        grid = Grid.whole(total, trees=self._trees, groups=1, least=self.exits_min)
        follow_up.need({"events": len(grid.of(*range(self._strata)))})
        strata = set(grid.of(*range(self._strata)).tolist())
        for at, name in enumerate((*([self.entry] if self.entry else []), *self.since)):
            for stratum in sorted(grid.tree[list(strata)].tolist()):
                if (_ENTERED + at) * self._strata + stratum not in grid.tree:
                    raise Invalid(
                        f"too few people have a time above 0 in {name!r} (in one of the strata) to be placed.",
                        where=name,
                        remedy="Leave it out.",
                    )
        known = follow_up.aside(total)
        return state.to(
            "halve", shared=Table({**known.columns, **grid.columns(), "level": np.array([0])}, known.withheld)
        )

    def _step_halve(self, state: State, total: Table) -> State:
        shared, level = state.shared, int(state.shared.ints("level")[0]) + 1
        before = Grid.read(shared)
        grid = before.halved(total, self.exits_min)
        columns = {**shared.columns, **grid.columns(), "level": np.array([level])}
        if state.round == "halve":
            columns |= self._first(total, grid)
        else:
            columns["trial"] = self._refined(before, total, shared.floats("trial"))
        if level < self.halvings and grid.open.any():
            return state.to("refine", shared=Table(columns, shared.withheld))
        columns["at_risk"] = np.zeros((1, len(grid.of(*range(self._strata)))), np.int64)
        return state.to("fit", shared=Table(columns, shared.withheld))

    def _first(self, total: Table, grid: Grid) -> dict[str, Column]:
        """Where Newton's method starts, once everybody's covariates are known in units of their spread."""
        people, events = self._people(grid)
        size = len(self.terms)
        if size > events * PARAMETER_SHARE:
            raise Invalid(
                f"the model has {size} parameters for {events} events: fewer than five events each.",
                where="covariates",
                remedy="Use fewer covariates or more people.",
            )
        found = units(total, self.covariates, people)
        return {
            "mean_x": found["mean"],
            "scale": found["scale"],
            **dict.fromkeys(("trial", "base", "shift"), np.zeros((1, size))),
            **dict.fromkeys(("best", "null"), np.array([-1e300])),
            "tries": np.array([0]),
            **dict.fromkeys(("information", "meat"), np.zeros((1, size * (size + 1) // 2))),
        }

    def _refined(self, grid: Grid, total: Table, trial: Floats) -> Floats:
        """One step of Newton's method on a grid that is not the last; none where that grid cannot tell."""
        events = grid.count[grid.of(*range(self._strata)), 0]
        size, slots = trial.shape[1], len(events)
        risk, tied, observed = (total.floats(name).reshape(slots, -1) for name in _RISKS)
        found = likelihood(risk, tied, observed, events, trial[0], efron=self._efron)
        if collinear(found.information[0], np.full(size, float(events.sum()))) is not None:
            return trial
        step = np.linalg.solve(found.information[0], found.score[0])
        moved = trial + limited(step[None])
        return moved if np.abs(moved).max() < RUNAWAY / 2 else np.zeros_like(trial)

    def _people(self, grid: Grid) -> tuple[int, int]:
        """People and events on the grid."""
        events = grid.of(*range(self._strata))
        strata = grid.tree[events]
        ends = [*strata.tolist(), *(strata + self._strata).tolist()]
        return int(grid.count[grid.of(*ends)].sum()), int(grid.count[events].sum())

    def _step_fit(self, state: State, total: Table) -> State:
        shared = state.shared
        grid = Grid.read(shared)
        events = grid.count[grid.of(*range(self._strata)), 0]
        tries = int(shared.ints("tries")[0])
        trial = shared.floats("trial")
        risk, tied, observed = (total.floats(name) for name in _RISKS)
        found = likelihood(risk, tied, observed, events, trial[0], efron=self._efron)
        columns: dict[str, Column] = {"tries": np.array([tries + 1])}
        if not tries:
            columns |= self._nothing(total.floats("plain"), events)
            if trial.any() and self._misled(found, float(columns["null"][0]), int(events.sum())):
                columns["trial"] = np.zeros_like(trial)
                return state.to("fit", shared=Table({**shared.columns, **columns}, shared.withheld))
        if not tries or not trial.any():
            self._check(found.information[0], int(events.sum()))
        search = Newton(trial, shared.floats("base"), shared.floats("best"))
        search, decrement = search.advance(found, inverted(found.information))
        if np.isnan(decrement[0]) or tries >= STEPS or np.abs(trial).max() > RUNAWAY:
            raise Invalid(
                "the likelihood has no maximum: a covariate separates those with an event from the others.",
                where="covariates",
                remedy="Leave out the covariate of which one side has no event, or join levels.",
            )
        columns |= {
            "trial": search.trial,
            "base": search.base,
            "best": search.level,
            "information": packed(found.information),
        }
        if decrement[0] > CONVERGED:
            return state.to("fit", shared=Table({**shared.columns, **columns}, shared.withheld))
        columns |= {"base": search.trial, "risk": risk.reshape(1, -1), "tied": tied.reshape(1, -1)}
        columns["shift"] = total.floats("shift")[:1]
        due = "spread" if self.robust or self.cluster else DONE
        return state.to(due, shared=Table({**shared.columns, **columns}, shared.withheld))

    def _nothing(self, plain: Floats, events: Ints) -> dict[str, Column]:
        """Log likelihood without any effect, and how many are at risk, from who is (or how long) without weights."""
        slots = len(events)
        nobody, tied = np.zeros((slots, 0)), events.astype(np.float64)[:, None]
        found = likelihood(plain[:, None], tied, nobody, events, np.zeros(0), efron=self._efron)
        told: dict[str, Column] = {"null": found.loglik}
        if self.model == "cox":
            told["at_risk"] = np.rint(plain).astype(np.int64)[None]
        return told

    def _misled(self, found: Sums, null: float, events: int) -> bool:
        """Whether coarser grids led away from the maximum: then the last one starts from no effect."""
        lost = collinear(found.information[0], np.full(len(self.terms), float(events))) is not None
        return lost or not found.loglik[0] >= null

    def _check(self, information: Floats, events: int) -> None:
        scale = np.full(len(information), float(events))
        found = collinear(information, scale)
        if found is not None:
            raise Invalid(
                f"covariate {self.terms[found]!r} is constant among those at risk, or explained by those before it.",
                where="covariates",
                remedy=f"Leave {self.terms[found]!r} out.",
            )

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        shared, grid = state.shared, Grid.read(state.shared)
        people, events = self._people(grid)
        slots = grid.of(*range(self._strata))
        model = {
            "people": np.array([people]),
            "events": np.array([events]),
            "incomplete": shared["incomplete"],
            "method": np.array([f"{self.model}, {self.ties}" if self.model == "cox" else self.model], np.str_),
            "intervals": np.array([len(slots)]),
            "log_likelihood": shared["best"],
            "null_log_likelihood": shared["null"],
        }
        return {
            "effects": self._effects(shared),
            "model": Table(model, shared.only("incomplete").withheld),
            "baseline": self._baseline(shared, grid, slots),
        }

    def _effects(self, shared: Table) -> Table:
        size = len(self.terms)
        scale = np.concatenate([shared.floats("scale")[0], np.ones(len(self.since))])
        inverse = inverted(unpacked(shared.floats("information"), size))[0]
        meat = unpacked(shared.floats("meat"), size)[0]
        beta = shared.floats("base")[0] / scale
        se = np.sqrt(np.diag(inverse)) / scale
        robust = np.full(size, np.nan)
        if self.robust or self.cluster:
            robust = np.sqrt(np.diag(inverse @ meat @ inverse)) / scale
        used = np.where(np.isnan(robust), se, robust)
        width = special.ndtri((1 + self.confidence) / 2) * used
        shift = inverse @ shared.floats("shift")[0] / scale if self.tell_shift else np.full(size, np.nan)
        return Table(
            {
                "covariate": np.array(self.terms, np.str_),
                "beta": beta,
                "se": se,
                "robust_se": robust,
                "z": beta / used,
                "minus_log10_p": minus_log10_normal(beta / used),
                "hazard_ratio": np.exp(beta),
                "low": np.exp(beta - width),
                "high": np.exp(beta + width),
                "shift": shift,
                "shift_in_se": shift / se,
                "beta_recorded": beta + shift,
            }
        )

    def _baseline(self, shared: Table, grid: Grid, slots: Ints) -> Table:
        """Hazard of somebody with mean covariates: per interval (Efron's sum), per unit of time where exponential."""
        risk, tied = (shared.floats(name).reshape(len(slots), -1) for name in ("risk", "tied"))
        events = grid.count[slots, 0]
        hazard = np.zeros(len(slots))
        for slot, count in enumerate(events.tolist()):
            share = np.arange(count) / count if self._efron else np.zeros(count)
            hazard[slot] = (1 / (risk[slot, 0] - share * tied[slot, 0])).sum()
        labels = np.array(self.levels or ("all",), np.str_)
        at_risk = shared.ints("at_risk")[0]
        return Table(
            {
                "stratum": labels[grid.tree[slots]],
                "after": np.maximum(grid.low[slots], 0.0),
                "time": grid.mean[slots],
                "at_risk": at_risk,
                "events": events,
                "hazard": hazard,
            },
            {"at_risk": at_risk < 1},
        )
