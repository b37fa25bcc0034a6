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

from federome.analysis import cox_tables, follow_up
from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.analysis.at_risk import AtRisk, Slots
from federome.analysis.cohort_count import EVERYBODY, label_codes
from federome.analysis.covariates import Complete, Name, Optional, columns_of, complete_in, covariate
from federome.analysis.follow_up import EVENT, HALVES, START, Grid, Ints, Marks
from federome.analysis.followed import Followed, Series, later
from federome.analysis.logistic import Newton, Sums, limited
from federome.analysis.partial_likelihood import Episodes, exposures, likelihood
from federome.analysis.regression import (
    Floats,
    collinear,
    inverted,
    moments_at_powers,
    packed,
    units,
)
from federome.errors import Invalid
from federome.model.cohort import Cohort
from federome.model.release import Count, Number, Round, Rows
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
    ``changing`` names numeric columns whose later values are kept beside them (``NAME_later``, ``NAME_later_at``, see
    ``followed``): in each interval of the grid people count with the value that was known when it began.
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
    changing: Annotated[tuple[Name, ...], msgspec.Meta(max_length=5)] = ()
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
        "federome.analysis.at_risk",
        "federome.analysis.cohort_count",
        "federome.analysis.covariates",
        "federome.analysis.cox_tables",
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
        Round("changes", scope="people", totals=Rows({"changed": Count(people=True)}), gated=True),
        Round(
            "fit",
            scope="people",
            totals=Rows(dict.fromkeys((*_RISKS, "plain", "shift"), _BIG), release_class="model"),
        ),
        Round("spread", scope="people", totals=Rows({"meat": _BIG}, release_class="model")),
    )
    broadcasts: ClassVar[frozenset[str]] = follow_up.BROADCASTS | {
        *("mean_x", "scale", "trial", "base", "best", "tries", "null", "at_risk", "risk", "tied", "information"),
        *("meat", "shift", "renewed"),
    }
    releases: ClassVar[Mapping[str, Rows]] = {
        "effects": cox_tables.EFFECTS,
        "model": cox_tables.MODEL,
        "baseline": cox_tables.BASELINE,
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
        return (*self._scaled, *(f"{name} passed" for name in self.since))

    @property
    def _scaled(self) -> tuple[str, ...]:
        """Those that are put into units of everybody's spread."""
        return (*self.covariates, *(f"{name} changing" for name in self.changing))

    @property
    def reads(self) -> Reads:
        columns = columns_of((*self.covariates, *self.complete))
        others = (self.entry, *self.since, self.strata, self.cluster)
        columns += tuple(each for name in self.changing for each in (name, *later(name)))
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
        shared, grid = state.shared, Grid.read(state.shared)
        some = everybody.take(self._inside(everybody, grid))
        if state.round == "halve":
            total, square = moments_at_powers(some.typical)
            told = grid.halves(self._marks(everybody))
            return Table({**told.columns, "sum": total[None], "square": square[None]})
        if state.round == "changes":
            return Table({"changed": self._at_risk(some, grid).changes()[None]})
        unit = shared.floats("mean_x"), shared.floats("scale")
        key = (self, shared["high"].tobytes(), shared["mean"].tobytes(), shared["renewed"].tobytes())
        found = known.get(key)
        if not isinstance(found, tuple):
            there = self._at_risk(some, grid)
            found = known[key] = there, there.episodes(self._renewed(shared, there.slots.size), *unit)
        there, episodes = found
        if state.round == "spread":
            return Table({"meat": self._meat(there, episodes, shared)[None]})
        effects = shared.floats("trial")[0]
        risks = self._sums(there, episodes, effects)
        if state.round == "refine":
            del known[key]  # the next grid is another one
            flat = {name: values.reshape(1, -1) for name, values in zip(_RISKS, risks, strict=True)}
            return Table({**grid.halves(self._marks(everybody)).columns, **flat})
        shift = np.zeros_like(risks[2])
        if self.tell_shift:
            exact = known.get((self, "recorded"))
            if not isinstance(exact, Episodes):
                exact = known[self, "recorded"] = some.recorded(*unit, self._strata)
            shift[0] = exact.score(effects) - self._score(episodes, risks, effects)
        plain = risks[0][:, 0] if not effects.any() else self._sums(there, episodes, 0 * effects)[0][:, 0]
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
        series = tuple(Series.read(view, name) for name in self.changing)
        complete = np.isfinite(exits) & np.isfinite(kinds) & np.isfinite(entry) & (stratum >= 0)
        complete &= np.isfinite(x).all(axis=1) & complete_in(view, self.complete)
        complete &= np.isfinite([each.at(entry) for each in series]).all(axis=0)
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
            series=series,
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

    def _at_risk(self, people: Followed, grid: Grid) -> AtRisk:
        """When each is at risk, on the grid."""
        marks = self._marks(people)
        kinds = marks.tree[len(people.exit) :] // self._strata - _ENTERED - bool(self.entry)
        slots = Slots(grid, self._strata, self._edges)
        return AtRisk.of(people, marks, slots, kinds, whole=self.model != "cox")

    def _sums(self, there: AtRisk, episodes: Episodes, effects: Floats) -> tuple[Floats, Floats, Floats]:
        risk, tied, observed = episodes.sums(effects)
        if self.model == "cox":
            return risk, tied, observed
        return exposures(episodes, there.spent(episodes), effects), tied, observed

    def _score(self, episodes: Episodes, risks: tuple[Floats, Floats, Floats], effects: Floats) -> Floats:
        """The score of this node's people alone, on the grid."""
        events = np.bincount(episodes.stop[episodes.event] - 1, minlength=episodes.slots)
        return np.asarray(likelihood(*risks, events, effects, efron=self._efron).score[0])

    def _meat(self, there: AtRisk, episodes: Episodes, shared: Table) -> Floats:
        """Products of residuals, summed by cluster."""
        slots = there.slots
        at_risk, at_event = (shared.floats(name).reshape(slots.size, -1) for name in ("risk", "tied"))
        effects = shared.floats("base")[0]
        events = slots.grid.count[slots.blocks, 0]
        if self.model == "cox":
            residuals = episodes.residuals(effects, at_risk, at_event, events, efron=self._efron)
        else:
            residuals = episodes.residuals_of_spent(there.spent(episodes), effects, at_risk, events)
        clusters = there.people.cluster[episodes.person]
        summed: Floats = np.stack([np.bincount(clusters, column) for column in residuals.T], axis=1).astype(float)
        return packed(summed.T @ summed)

    # At the releaser -----------------------------------------------------------------------------------------------

    def step(self, state: State, total: Table) -> State:
        match state.round:
            case "start":
                return self._step_start(state, total)
            case "halve" | "refine":
                return self._step_halve(state, total)
            case "changes":
                return self._step_changes(state, total)
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
        slots = Slots(grid, self._strata, self._edges)
        columns["renewed"] = np.zeros((1, len(self.changing) * slots.size), np.int64)
        if level < self.halvings and grid.open.any():
            # What changes is not known to be of enough people before the last grid is: no sums over it until then.
            return state.to("halve" if self.changing else "refine", shared=Table(columns, shared.withheld))
        columns["at_risk"] = np.zeros((1, slots.size), np.int64)
        due = "changes" if slots.pairs(len(self.changing)) else "fit"
        return state.to(due, shared=Table(columns, shared.withheld))

    def _step_changes(self, state: State, total: Table) -> State:
        """Where values are read anew."""
        shared = state.shared
        changed = total.ints("changed")[0]
        hidden = total.withheld.get("changed", np.zeros((1, len(changed)), np.bool_))[0]
        slots = Slots(Grid.read(shared), self._strata, self._edges)
        renewed = slots.renewals(~hidden & (changed >= self.exits_min), len(self.changing))
        columns = {**shared.columns, "renewed": renewed.reshape(1, -1).astype(np.int64)}
        return state.to("fit", shared=Table(columns, shared.withheld))

    def _renewed(self, shared: Table, slots: int) -> Mask:
        """At which slots each value that changes is read anew, (C, J)."""
        return np.asarray(shared.ints("renewed")[0].reshape(len(self.changing), slots) > 0)

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
        found = units(total, self._scaled, people)
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
        slots = Slots(grid, self._strata, self._edges)
        model = {
            "people": np.array([people]),
            "events": np.array([events]),
            "incomplete": shared["incomplete"],
            "method": np.array([f"{self.model}, {self.ties}" if self.model == "cox" else self.model], np.str_),
            "intervals": np.array([slots.size]),
            "log_likelihood": shared["best"],
            "null_log_likelihood": shared["null"],
        }
        read = np.concatenate(
            [
                np.ones(len(self.covariates)),
                np.maximum(self._renewed(shared, slots.size).sum(axis=1), 1),
                np.full(len(self.since), slots.size),
            ]
        )
        told = cox_tables.effects(
            shared,
            self.terms,
            read,
            robust=self.robust or bool(self.cluster),
            shift=self.tell_shift,
            confidence=self.confidence,
        )
        return {
            "effects": told,
            "model": Table(model, shared.only("incomplete").withheld),
            "baseline": cox_tables.baseline(shared, slots, self.levels or ("all",), efron=self._efron),
        }
