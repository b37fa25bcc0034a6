"""``treatment-effect``: what a treatment does to survival, from patients who were not randomised.

Who was treated is first modelled (a logistic regression by sums over the nodes, an intercept for each). Patients are
then weighted so that treated and others have the same covariates, which the balance table shows or denies; only then
are survival and hazards compared, on the common grid of times. The unadjusted comparison is told beside it, as what it
is: a difference between patients, not an effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
from scipy import special

from federome.analysis import follow_up, logistic
from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.analysis.cohort_count import EVERYBODY
from federome.analysis.comparison import RUNAWAY, STEPS, e_value, means, pairs, risk_ratio, solve
from federome.analysis.covariates import Complete, Name, columns_of, complete_in, covariate
from federome.analysis.follow_up import EVENT, HALVES, START, Grid, Ints, Marks
from federome.analysis.logistic import CONVERGED, Newton, Sums
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
from federome.model.release import ALL, Count, Label, Number, Round, Rows, Statistic
from federome.model.table import Column, Mask

STRATA = 10
"""Equal bands of the chance to be treated, in which overlap is counted."""
BALANCED = 0.1
"""Largest standardised difference that is usually called balanced (Austin 2009)."""
_BIG = Number(bound=2.0**48)
_TREES = 2
_PAIRS = "pairs_"
"""Before the names of the columns of a state that hold the grid of the matched."""
_HAZARDS = ("at_risk", "at_risk_treated", "ended", "ended_treated")
"""Σ of weights per interval: of those at risk, of the treated among them, and of those with the event."""
MATCHED = "matched"
CALIPERS, TRIMS = (0.05, 0.1, 0.2, 0.3, 0.5), (0.0, 0.01, 0.02, 0.05, 0.1)
"""Few to choose from, far apart: two answers at limits that are nearly the same would tell of the few in between."""


@dataclass(frozen=True, eq=False)
class Patients:
    """Complete patients at one node, in own units."""

    exit: Floats
    event: Mask
    treated: Mask
    x: Floats
    members: Mask
    """Who they are, (people of the frozen view,)."""

    @property
    def incomplete(self) -> int:
        """How many others there are."""
        return int((~self.members).sum())

    def take(self, keep: Mask) -> Patients:
        """Some of them."""
        return Patients(self.exit[keep], self.event[keep], self.treated[keep], self.x[keep], self.members)


_PATIENTS: WeakKeyDictionary[View, dict[object, Patients]] = WeakKeyDictionary()


@algorithm("treatment-effect", "1.0")
@dataclass(frozen=True, kw_only=True)
class TreatmentEffect(Algorithm):
    """The hazard ratio of a 0/1 ``treatment``, weighted for what decided about it.

    ``covariates`` are numeric columns or ``column=level``: everything known before treatment that moves both treatment
    and outcome. ``estimand``: ``ate`` weights everybody to the whole, ``att`` the untreated to the treated, ``overlap``
    by the chance of the other treatment (Li, Morgan, Zaslavsky 2018), which needs no trimming; ``matched`` compares
    pairs of a treated and another patient of the same node, whose log odds of treatment differ by at most ``caliper``
    standard deviations there, on a grid of times of its own, and takes the variance over pairs (Austin 2014). With
    ``ate`` and ``att`` patients whose chance lies outside ``trim`` … 1 − ``trim`` stand aside. Weights of ``ate`` are
    stabilised. The variance is the sandwich's with weights or pairs taken as known, which is wide rather than narrow
    for ``ate`` (Lunceford and Davidian 2004). ``e_value`` is how strongly an unmeasured confounder would have to go
    with both, as a risk ratio,
    to explain the whole estimate, ``e_value_limit`` to move its interval to 1 (VanderWeele and Ding 2017; hazard ratios
    of common outcomes are first made into risk ratios by their square-root rule). ``complete`` as in ``cox``.
    """

    time: Name
    event: Name
    treatment: Name
    covariates: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=50)]
    cohort: Cohort = EVERYBODY
    complete: Complete = ()
    estimand: Literal["ate", "att", "overlap", "matched"] = "overlap"
    caliper: Annotated[float, msgspec.Meta(gt=0, le=2)] = 0.2
    trim: Annotated[float, msgspec.Meta(ge=0, lt=0.5)] = 0.02
    site_intercepts: bool = True
    halvings: Annotated[int, msgspec.Meta(ge=1, le=10)] = 6
    exits_min: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = 10
    confidence: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] = 0.95

    modules: ClassVar[tuple[str, ...]] = (
        "federome.analysis.cohort_count",
        "federome.analysis.comparison",
        "federome.analysis.follow_up",
        "federome.analysis.covariates",
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
            "chance",
            scope="people",
            totals=Rows(dict.fromkeys(("loglik", "score", "information"), _BIG), release_class="model"),
        ),
        Round(
            "pairs",
            scope="people",
            totals=Rows({**START.columns, "unmatched": Count(people=True)}),
            gated=True,
        ),
        Round("halve_pairs", scope="people", totals=HALVES, gated=True),
        Round(
            "balance",
            scope="people",
            totals=Rows(
                {
                    "treated": Count(people=True),
                    "others": Count(people=True),
                    "weights": _BIG,
                    "means": _BIG,
                    "squares": _BIG,
                },
                release_class="summary-statistics",
                total=True,
            ),
            gated=True,
        ),
        Round(
            "hazards",
            scope="people",
            totals=Rows(dict.fromkeys(_HAZARDS, _BIG), release_class="summary-statistics"),
        ),
        Round("spread", scope="people", totals=Rows({"meat": _BIG}, release_class="model")),
    )
    broadcasts: ClassVar[frozenset[str]] = follow_up.BROADCASTS | {
        *("mean_x", "scale", "trial", "base", "best", "tries", "effects", "treated", "others", "weights"),
        *("means", "squares", "scaled", "log_hazard_ratio", "information", "meat", *_HAZARDS),
        *(_PAIRS + name for name in ("tree", "low", "high", "mean", "count", "open", "level")),
    }
    releases: ClassVar[Mapping[str, Rows]] = {
        "effect": Rows(
            {
                "comparison": Label(),
                **dict.fromkeys(
                    ("log_hazard_ratio", "se", "hazard_ratio", "low", "high", "minus_log10_p"), Statistic()
                ),
                **dict.fromkeys(("e_value", "e_value_limit", "largest_imbalance"), Statistic(digits=3)),
                "says": Label(),
            },
            release_class="summary-statistics",
            key=("comparison",),
        ),
        "balance": Rows(
            {"covariate": Label(), "before": Statistic(digits=3), "after": Statistic(digits=3)},
            release_class="summary-statistics",
            key=("covariate",),
        ),
        "overlap": Rows(
            {
                "chance_from": Label(),
                "treated": Count(people=True),
                "others": Count(people=True),
            },
            key=("chance_from",),
            total=True,
        ),
        "curves": Rows(
            {"group": Label(), "time": Label(), "survival": Statistic()},
            release_class="summary-statistics",
            key=("group", "time"),
        ),
        "groups": Rows(
            {
                "people": Count(people=True),
                "events": Count(people=True),
                "incomplete": Count(people=True),
                "intervals": Statistic(),
                "effective_treated": Statistic(guard="people", digits=3),
                "effective_others": Statistic(guard="people", digits=3),
            },
            release_class="summary-statistics",
        ),
    }

    def __post_init__(self) -> None:
        if self.treatment in self.covariates or len(set(self.covariates)) != len(self.covariates):
            raise Invalid("a column is used twice.", where="covariates", remedy="Name each once.")
        for name, value, known in (("caliper", self.caliper, CALIPERS), ("trim", self.trim, TRIMS)):
            if value not in known:
                raise Invalid(
                    f"{name} is none of a few fixed values, between which nobody can be aimed at.",
                    where=name,
                    remedy=f"Choose one of {', '.join(f'{each:g}' for each in known)}.",
                )

    @property
    def reads(self) -> Reads:
        columns = columns_of((*self.covariates, *self.complete))
        return Reads(tuple(dict.fromkeys((self.time, self.event, self.treatment, *columns))))

    def estimates(self, nodes: int) -> int:
        """The model of who is treated."""
        return len(self.covariates) + (nodes if self.site_intercepts else 1)

    # At the node ---------------------------------------------------------------------------------------------------

    def analysed(self, view: View) -> Iterator[Mask]:
        """Complete people."""
        yield self._known(view).members

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        people = self._known(view)
        if state.round == "start":
            return self._marks(people).start(people.incomplete, trees=_TREES, groups=2)
        grid = Grid.read(state.shared)
        some = people.take(grid.place(self._marks(people)) >= 0)
        if state.round == "halve":
            total, square = moments_at_powers(some.x)
            halves = grid.halves(self._marks(people))
            return Table({**halves.columns, "sum": total[None], "square": square[None]})
        design = self._design(some, state.shared)
        treated = some.treated.astype(np.float64)
        if state.round == "chance":
            tells = not self.site_intercepts or _both(some.treated)
            found = logistic.sums(
                design[None] if tells else design[None, :0],
                treated if tells else treated[:0],
                state.shared.floats("trial"),
                own_intercept=self.site_intercepts,
            )
            return Table({"loglik": found.loglik, "score": found.score, "information": packed(found.information)})
        chance = self._chance(design, treated, state.shared)
        pair = pairs(chance, some.treated, self.caliper) if self.estimand == MATCHED else np.arange(len(chance))
        if state.round in ("pairs", "halve_pairs"):
            return self._paired(some, pair >= 0, state)
        weight = self._weights(chance, some.treated)
        if self.estimand == MATCHED:
            weight = np.where(pair >= 0, self._second(state.shared).place(self._marks(some)) >= 0, 0.0)
        if state.round == "balance":
            return self._balance(some, design, chance, weight)
        return self._hazards(some, pair, weight, state)

    def _paired(self, people: Patients, matched: Mask, state: State) -> Table:
        """The ends of those who found a partner, for a grid of their own, and how many of each group found none."""
        marks = self._marks(people.take(matched))
        if state.round == "halve_pairs":
            return self._second(state.shared).halves(marks)
        unmatched = [int((group & ~matched).sum()) for group in (people.treated, ~people.treated)]
        told = marks.start(0, trees=_TREES, groups=2)
        return Table({**told.columns, "unmatched": np.array([unmatched])})

    def _second(self, shared: Table) -> Grid:
        """The grid of the adjusted comparison."""
        if self.estimand != MATCHED:
            return Grid.read(shared)
        return Grid.read(Table({n.removeprefix(_PAIRS): v for n, v in shared.columns.items() if n.startswith(_PAIRS)}))

    def _known(self, view: View) -> Patients:
        known = _PATIENTS.setdefault(view, {})
        if self not in known:
            known[self] = self._patients(view)
        return known[self]

    def _patients(self, view: View) -> Patients:
        exits = follow_up.times_of(view, self.time)
        kinds = follow_up.kinds_of(view, self.event, 0)
        treated = view.numbers(self.treatment)
        if np.any(np.isfinite(treated) & (treated != 0) & (treated != 1)):
            raise Invalid(f"{self.treatment!r} holds other values than 0 and 1.", where="treatment")
        x = np.column_stack([covariate(view, name) for name in self.covariates])
        complete = np.isfinite(exits) & np.isfinite(kinds) & np.isfinite(treated) & np.isfinite(x).all(axis=1)
        complete &= complete_in(view, self.complete)
        if self.site_intercepts and not _both(treated[complete] == 1):
            complete[:] = False  # a node that treats everybody, or nobody, cannot say what decides
        found = Patients(exits, kinds == EVENT, treated == 1, x, complete)
        return found.take(complete)

    def _marks(self, people: Patients) -> Marks:
        """Ends, in a grid common to treated and others, every block with enough of both."""
        person = np.arange(len(people.exit))
        return Marks(person, np.where(people.event, 0, 1), people.treated.astype(np.int64), people.exit)

    def _design(self, people: Patients, shared: Table) -> Floats:
        fixed = (people.x - shared.floats("mean_x")) / shared.floats("scale")
        return fixed if self.site_intercepts else np.column_stack([fixed, np.ones(len(fixed))])

    def _chance(self, design: Floats, treated: Floats, shared: Table) -> Floats:
        if self.site_intercepts and not _both(treated == 1):
            return treated
        effects = shared.floats("effects")[0]
        return np.asarray(logistic.fit(design, treated, effects, own_intercept=self.site_intercepts).chance)

    def _weights(self, chance: Floats, treated: Mask) -> Floats:
        """Balancing weights; 0 for those who are trimmed."""
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = {
                MATCHED: np.ones(len(chance)),
                "ate": np.where(treated, 1 / chance, 1 / (1 - chance)),
                "att": np.where(treated, 1.0, chance / (1 - chance)),
                "overlap": np.where(treated, 1 - chance, chance),
            }[self.estimand]
        kept = (chance >= self.trim) & (chance <= 1 - self.trim)
        return np.asarray(weight if self.estimand == "overlap" else np.where(kept, weight, 0.0), np.float64)

    def _balance(self, people: Patients, design: Floats, chance: Floats, weight: Floats) -> Table:
        """Who was treated by bands of chance; weights and weighted moments of both groups, before and after."""
        band = np.minimum((chance * STRATA).astype(np.int64), STRATA - 1)
        x = design[:, : people.x.shape[1]]
        weights, means, squares = [], [], []
        for group in (people.treated, ~people.treated):
            for own in (np.where(group, 1.0, 0.0), np.where(group, weight, 0.0)):
                weights += [own.sum(), (own**2).sum()]
                means.append(own @ x)
                squares.append(own @ x**2)
        counts = [np.bincount(band[group], minlength=STRATA) for group in (people.treated, ~people.treated)]
        treated, others = (np.concatenate([[count.sum()], count]) for count in counts)
        told: dict[str, Column] = {"treated": treated, "others": others}
        for name, values in (
            ("weights", weights),
            ("means", np.concatenate(means)),
            ("squares", np.concatenate(squares)),
        ):
            told[name] = np.zeros((1 + STRATA, len(values)))
            told[name][0] = values
        return Table(told)

    def _hazards(self, people: Patients, pair: Ints, weight: Floats, state: State) -> Table:
        """Sums over risk sets, or of squared residuals, without weights and with them: two rows.

        With one 0/1 covariate and weights that are fixed, one round of sums tells the whole likelihood.
        """
        marks = self._marks(people)
        grids = Grid.read(state.shared), self._second(state.shared)
        both = np.ones(len(weight)), self._scaled(weight, people.treated, state.shared)
        told = {name: np.zeros((2, max(len(grid.of(0)) for grid in grids))) for name in _HAZARDS}
        meat = np.zeros(2)
        for row, (own, grid) in enumerate(zip(both, grids, strict=True)):
            slots, block = grid.of(0), grid.place(marks)
            stop = np.searchsorted(grid.mean[slots], grid.mean[block], side="right") * (block >= 0)
            if state.round == "spread":
                alone = np.arange(len(own))
                meat[row] = self._meat(people, stop, own, pair if row else alone, state.shared, row)
                continue
            for name, of in (("at_risk", own), ("at_risk_treated", own * people.treated)):
                ending = np.bincount(stop, of, len(slots) + 1)  # place 0: gone before the first event
                told[name][row, : len(slots)] = np.cumsum(ending[::-1])[::-1][1:]
            for name, of in (("ended", own * people.event), ("ended_treated", own * people.event * people.treated)):
                told[name][row, : len(slots)] = np.bincount(stop, of, len(slots) + 1)[1:] if len(of) else 0.0
        return Table({"meat": meat}) if state.round == "spread" else Table(told)

    def _meat(self, people: Patients, stop: Ints, weight: Floats, pair: Ints, shared: Table, row: int) -> float:
        """Σ of squared weighted score residuals of one comparison (Lin and Wei 1989), those of a pair added first."""
        beta = float(shared.floats("log_hazard_ratio")[0, row])
        at_risk, treated, ended, _ = (shared.floats(name).reshape(2, -1)[row] for name in _HAZARDS)
        mean, total = means(at_risk, treated, beta)
        share = np.divide(ended, total, out=np.zeros_like(total), where=total > 0)
        hazard, drawn = np.concatenate([[0.0], np.cumsum(share)]), np.concatenate([[0.0], np.cumsum(share * mean)])
        x = people.treated.astype(np.float64)
        own = np.where(people.event, x - np.concatenate([[0.0], mean])[stop], 0.0)
        residual = weight * (own - np.exp(beta * x) * (x * hazard[stop] - drawn[stop]))
        return float((np.bincount(pair[pair >= 0], residual[pair >= 0]) ** 2).sum())

    def _scaled(self, weight: Floats, treated: Mask, shared: Table) -> Floats:
        """Weights scaled so that each group counts as many people as it effectively has, which stabilises them."""
        one, other = shared.floats("scaled")[0]
        return np.asarray(np.where(treated, weight * one, weight * other), np.float64)

    # At the releaser -----------------------------------------------------------------------------------------------

    def step(self, state: State, total: Table) -> State:
        match state.round:
            case "start":
                grid = Grid.whole(total, trees=_TREES, groups=2, least=self.exits_min)
                events = grid.count[grid.of(0)]
                follow_up.need({"events": int(events.size and events.min())})
                known = follow_up.aside(total)
                columns = {**known.columns, **grid.columns(), "level": np.array([0])}
                return state.to("halve", shared=Table(columns, known.withheld))
            case "halve":
                return self._step_halve(state, total)
            case "chance":
                return self._step_chance(state, total)
            case "pairs" | "halve_pairs":
                return self._step_pairs(state, total)
            case "balance":
                return self._step_balance(state, total)
            case "hazards":
                return self._step_hazards(state, total)
        return self._with(state, DONE, {"meat": total.floats("meat").reshape(1, -1)})

    def _with(
        self, state: State, name: str, columns: Mapping[str, Column], hidden: Mapping[str, Mask] | None = None
    ) -> State:
        shared = state.shared
        return state.to(name, shared=Table({**shared.columns, **columns}, {**shared.withheld, **(hidden or {})}))

    def _step_halve(self, state: State, total: Table) -> State:
        level = int(state.shared.ints("level")[0]) + 1
        grid = Grid.read(state.shared).halved(total, self.exits_min)
        columns: dict[str, Column] = {**grid.columns(), "level": np.array([level])}
        if level < self.halvings and grid.open.any():
            return self._with(state, "halve", columns)
        found = units(total, self.covariates, int(grid.count.sum()))
        effects = np.zeros((1, len(self.covariates) + (not self.site_intercepts)))
        columns |= {"mean_x": found["mean"], "scale": found["scale"], "trial": effects, "base": effects}
        return self._with(state, "chance", columns | {"best": np.array([-1e300]), "tries": np.array([0])})

    def _step_chance(self, state: State, total: Table) -> State:
        shared, tries = state.shared, int(state.shared.ints("tries")[0])
        size = shared["trial"].shape[1]
        information = unpacked(total.floats("information"), size)
        found = Sums(total.floats("loglik"), total.floats("score"), information)
        if not tries and (at := collinear(information[0], np.full(size, information[0].trace() / size))) is not None:
            name = (*self.covariates, "the intercept")[at]
            raise Invalid(
                f"covariate {name!r} is explained by those before it.", where="covariates", remedy="Leave it out."
            )
        search = Newton(shared.floats("trial"), shared.floats("base"), shared.floats("best"))
        search, decrement = search.advance(found, inverted(information))
        if np.isnan(decrement[0]) or tries >= STEPS or np.abs(search.trial).max() > RUNAWAY:
            raise Invalid(
                "the covariates tell who was treated: there is nobody to compare with.",
                where="covariates",
                remedy="Ask about patients among whom both treatments happen.",
            )
        columns: dict[str, Column] = {"trial": search.trial, "base": search.base, "best": search.level}
        columns["tries"] = np.array([tries + 1])
        if decrement[0] > CONVERGED:
            return self._with(state, "chance", columns)
        due = "pairs" if self.estimand == MATCHED else "balance"
        return self._with(state, due, columns | {"effects": search.trial})

    def _step_pairs(self, state: State, total: Table) -> State:
        """A grid for the matched, every block with enough of both groups of them."""
        if state.round == "pairs":
            if _hidden(total, "unmatched").any():
                raise Invalid(
                    "too few patients find no partner: those could be told from everybody less the matched.",
                    where="estimand",
                    remedy="Ask for the estimand overlap or att, or narrow the caliper.",
                )
            level, grid = 0, Grid.whole(total, trees=_TREES, groups=2, least=self.exits_min)
            events = grid.count[grid.of(0)]
            follow_up.need({"events among the matched": int(events.size and events.min())})
        else:
            level = int(state.shared.ints(f"{_PAIRS}level")[0]) + 1
            grid = self._second(state.shared).halved(total, self.exits_min)
        told = {**grid.columns(), "level": np.array([level])}
        more = level < self.halvings and bool(grid.open.any())
        due = "halve_pairs" if more else "balance"
        return self._with(state, due, {f"{_PAIRS}{name}": column for name, column in told.items()})

    def _step_balance(self, state: State, total: Table) -> State:
        names = ("treated", "others")
        hidden = {name: _hidden(total, name)[None] for name in names}
        columns: dict[str, Column] = {name: np.where(hidden[name], 0, total.ints(name)[None]) for name in names}
        columns |= {name: total.floats(name)[:1] for name in ("weights", "means", "squares")}
        weights = total.floats("weights")[0].reshape(2, 2, 2)  # group, before and after, sum and sum of squares
        if weights[:, 1, 0].min() <= 0:
            raise Invalid("nobody is left to compare.", where="trim", remedy="Trim less, or widen the cohort.")
        # Each group counts as its effective size after weighting, and never more.
        columns["scaled"] = (weights[:, 1, 0] / weights[:, 1, 1])[None]
        return self._with(state, "hazards", columns, hidden)

    def _step_hazards(self, state: State, total: Table) -> State:
        """Two regressions of one covariate, by Newton's method on the sums."""
        found = [solve(*(total.floats(name)[row] for name in _HAZARDS)) for row in range(2)]
        columns: dict[str, Column] = {name: total.floats(name).reshape(1, -1) for name in _HAZARDS}
        columns["log_hazard_ratio"] = np.array([[beta for beta, _ in found]])
        columns["information"] = np.array([[information for _, information in found]])
        return self._with(state, "spread", columns)

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        shared, grid = state.shared, Grid.read(state.shared)
        weights = shared.floats("weights")[0].reshape(2, 2, 2)
        before, after = self._differences(shared)
        bands = np.array([ALL, *(f"{band / STRATA:.1f}" for band in range(STRATA))], np.str_)
        hidden = {n: shared.withheld.get(n, np.zeros((1, 1 + STRATA), np.bool_))[0] for n in ("treated", "others")}
        effective = (weights[:, 1, 0] ** 2 / weights[:, 1, 1])[:, None]
        groups: dict[str, Column] = {
            "people": np.array([int(grid.count.sum())]),
            "events": np.array([int(grid.count[grid.of(0)].sum())]),
            "incomplete": shared["incomplete"],
            "intervals": np.array([float(len(grid.of(0)))]),
            "effective_treated": effective[0],
            "effective_others": effective[1],
        }
        return {
            "effect": self._effect(shared, np.array([np.abs(d).max() for d in (before, after)])),
            "balance": Table({"covariate": np.array(self.covariates, np.str_), "before": before, "after": after}),
            "overlap": Table({"chance_from": bands, **{n: shared.ints(n)[0] for n in hidden}}, hidden),
            "curves": self._curves(shared, self._second(shared)),
            "groups": Table(groups, shared.only("incomplete").withheld),
        }

    def _differences(self, shared: Table) -> tuple[Floats, Floats]:
        """Standardised differences of covariates before and after weighting, by the spread before (Austin 2009)."""
        weights = shared.floats("weights")[0].reshape(2, 2, 2)[:, :, 0]
        size = len(self.covariates)
        means, squares = (shared.floats(n)[0].reshape(2, 2, size) / weights[:, :, None] for n in ("means", "squares"))
        spread = np.sqrt(np.maximum((squares - means**2)[:, 0].mean(axis=0), 1e-300))
        difference = (means[0] - means[1]) / spread
        return difference[0], difference[1]

    def _effect(self, shared: Table, imbalance: Floats) -> Table:
        beta, information = shared.floats("log_hazard_ratio")[0], shared.floats("information")[0]
        se = np.sqrt(shared.floats("meat")[0]) / information
        width = special.ndtri((1 + self.confidence) / 2) * se
        low, high = np.exp(beta - width), np.exp(beta + width)
        nearest = np.where(beta > 0, np.maximum(low, 1.0), np.minimum(high, 1.0))
        says = ["a difference between patients, not an effect of treatment", self._says(imbalance[1], low[1], high[1])]
        return Table(
            {
                "comparison": np.array(["unadjusted", MATCHED if self.estimand == MATCHED else "weighted"], np.str_),
                "log_hazard_ratio": beta,
                "se": se,
                "hazard_ratio": np.exp(beta),
                "low": low,
                "high": high,
                "minus_log10_p": minus_log10_normal(beta / se),
                "e_value": np.array([np.nan, e_value(risk_ratio(float(np.exp(beta[1]))))]),
                "e_value_limit": np.array([np.nan, e_value(risk_ratio(float(nearest[1])))]),
                "largest_imbalance": imbalance,
                "says": np.array(says, np.str_),
            }
        )

    def _says(self, imbalance: float, low: float, high: float) -> str:
        """What may be said of the weighted comparison, in words."""
        if imbalance > BALANCED:
            return "treated and others still differ, so no effect can be told"
        if low <= 1 <= high:
            return "no effect shown: benefit and harm both fit"
        return (
            "fewer events with treatment, if nothing unmeasured decided"
            if high < 1
            else ("more events with treatment, if nothing unmeasured decided")
        )

    def _curves(self, shared: Table, grid: Grid) -> Table:
        """Survival of the weighted groups at the times of the grid."""
        slots = grid.of(0)
        sums = (shared.floats(name).reshape(2, -1)[1, : len(slots)] for name in _HAZARDS)
        at_risk, treated, ended, ended_treated = sums
        parts = []
        for group, (n, d) in enumerate(((treated, ended_treated), (at_risk - treated, ended - ended_treated))):
            survival = np.cumprod(1 - np.divide(d, n, out=np.zeros_like(d), where=n > 0))
            parts.append(
                Table(
                    {
                        "group": np.repeat(np.array(["treated", "others"][group : group + 1], np.str_), len(slots)),
                        "time": grid.mean[slots],
                        "survival": survival,
                    }
                )
            )
        return Table.stack(parts)


def _hidden(total: Table, name: str) -> Mask:
    return total.withheld.get(name, np.zeros(total[name].shape, np.bool_))


def _both(treated: Mask) -> bool:
    """Whether there are treated and others."""
    return bool(len(treated)) and bool(treated.any()) and not bool(treated.all())
