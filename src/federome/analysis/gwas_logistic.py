"""``gwas-logistic``: association of a case-control status with every variant, exactly as on the pooled data.

Sums over the nodes, in turn: moments; the null model by Newton's method; genotype counts among cases and controls;
each variant's efficient score. Then only variants that deserve it go on: the saddle point of the score's distribution
where cases are rare, and the variant's own logistic regression, with Firth's penalty where few people would make it
run away. Site intercepts are profiled out at the node (see ``logistic``), so the results are those of the regression
with one indicator per site.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome.analysis import gwas_report, spa
from federome.analysis.algorithm import DONE, Block, Finished, State, Table, View, algorithm
from federome.analysis.gwas import (
    SHARED,
    SKIPPED,
    Association,
    People,
    frequency,
    moments,
    moments_of,
    oriented_block,
    pooled_people,
    standardised,
    summary_rows,
    told_apart,
)
from federome.analysis.logistic import CONVERGED, Fitted, Newton, Sums, firth_sums, fit, limited, sums
from federome.analysis.regression import Floats, inverted, minus_log10_normal, packed, unpacked
from federome.analysis.status import Status
from federome.errors import Invalid
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Number, Round, Rows
from federome.model.table import Column, Mask

UNBALANCED = 0.2
"""Share of the smaller group below which the score is not trusted to be normal in its tails."""
TAIL = 2.0
"""Size of a normal score from which the saddle point is searched."""
FEW = 10
"""People in a cell of cases or controls by carriers below which a likelihood may have no maximum."""
RUNAWAY = 8.0
"""A log odds ratio per allele that only separation produces."""
STEPS_NULL, STEPS_WALD, STEPS_FIRTH, STEPS_SPA = 40, 25, 100, 60
_CHUNK = 1 << 18  # dosages held dense at a time

# How a p value or an effect was found, in the order of the codes kept with each variant.
METHODS = ("score", "saddle-point", "wald", "firth")
SCORE, SADDLE, WALD, FIRTH = range(4)

_CELLS = ("case_carriers", "case_others", "control_carriers", "control_others")
_NULL = frozenset({"cases", "controls", "one_sided", "effects", "base", "level", "information", "tries"})
_SEARCH = frozenset({"search", "score", "adjust", "point", "low", "high"})
_FIT = frozenset({"model", "few", "trial", "base", "level", "inverse", "tries"})


NULL_MODEL = (
    Round("moments", scope="people", totals=moments("cases", "controls", "one_sided"), gated=True),
    Round(
        "null",
        scope="people",
        totals=Rows(dict.fromkeys(("loglik", "score", "information"), Number()), release_class="model"),
    ),
)
"""Rounds of the model without variants, with which every test of a status begins."""


@algorithm("gwas-logistic", "1.0")
@dataclass(frozen=True, kw_only=True)
class GwasLogistic(Association):
    """Logistic regression of a case-control status on each variant, covariates and site intercepts.

    The status is a 0/1 column (``phenotype``), or a ``diagnosis``: people who have it or one of its descendants are
    cases, people known not to have it controls; or criteria, those of a case definition: who meets ``cases`` and who
    meets ``controls``. Effects are log odds ratios per copy of ALT. Every variant gets a
    score test. ``spa``: ``auto`` replaces its normal p value beyond two standard deviations by a saddle-point one
    where less than a fifth of the people are cases (or controls). Below ``estimate_below`` the variant's own model is
    fitted; ``firth``: ``auto`` penalises where fewer than ten people in a cell of status by carriers, or the fit
    itself, threaten separation. The column ``test`` says where the p value is from, ``model`` where the effect is
    from. With site intercepts, sites with cases only or controls only tell nothing and stand aside.
    ``expected_min`` is the least number of people that a cell of status by carriers must be expected to hold without
    an effect. Cells below the data holders' threshold are withheld, so a variant that holds more cases than expected
    would be tested and one that holds fewer would not; well above the threshold that choice has no bearing on results.
    For the other parameters see :class:`~federome.analysis.gwas.Association`. Raises ``Invalid`` when a covariate is
    constant, collinear or separates cases from controls, or when parameters exceed a third of the people.
    """

    diagnosis: Annotated[str, msgspec.Meta(max_length=40)] = ""
    cases: Cohort | None = None
    controls: Cohort | None = None
    spa: Literal["auto", "always", "never"] = "auto"
    firth: Literal["auto", "always", "never"] = "auto"
    estimate_below: Annotated[float, msgspec.Meta(gt=0, le=0.05)] = 1e-3
    expected_min: Annotated[float, msgspec.Meta(ge=0, le=100_000)] = 30

    modules: ClassVar[tuple[str, ...]] = (
        *Association.modules,
        "federome.analysis.logistic",
        "federome.analysis.spa",
        "federome.analysis.status",
    )
    rounds: ClassVar[tuple[Round, ...]] = (
        *NULL_MODEL,
        Round(
            "counts",
            scope="variants",
            totals=Rows(
                {**dict.fromkeys((*_CELLS, "called"), Count(people=True)), "copies": Count(guard="called")},
                genotypes=True,
            ),
            gated=True,
        ),
        Round(
            "score",
            scope="variants",
            totals=Rows(
                dict.fromkeys(("score", "covariates", "squares"), Number()), release_class="summary-statistics"
            ),
        ),
        Round(
            "refine",
            scope="variants",
            totals=Rows(
                dict.fromkeys(("cumulants", "support", "loglik", "score", "information"), Number()),
                release_class="summary-statistics",
            ),
        ),
    )
    broadcasts: ClassVar[frozenset[str]] = SHARED | _NULL | _SEARCH | _FIT | {"dosage"}
    releases: ClassVar[Mapping[str, Rows]] = {
        "hits": gwas_report.hits_rows(test=Label(), model=Label()),
        "summary": summary_rows("cases", "controls", "one_sided"),
        "qq": gwas_report.QQ,
        "manhattan": gwas_report.MANHATTAN,
    }

    def __post_init__(self) -> None:
        _ = self.status  # raises Invalid unless there is one
        super().__post_init__()

    @property
    def status(self) -> Status:
        """Who is a case."""
        return Status(self.phenotype, self.diagnosis, self.cases, self.controls)

    @property
    def outcome_columns(self) -> tuple[str, ...]:
        return self.status.columns

    def outcome(self, view: View) -> Floats:
        return self.status.of(view)

    def told_of(self, view: View) -> Iterator[Mask]:
        """The cases, where the question itself says who they are."""
        yield from self.status.told_of(view)

    def told_as(self) -> Iterator[tuple[Cohort | None, str]]:
        """The cohort with the cases' criteria."""
        yield from self.status.told_as(self.cohort)

    # At the node ---------------------------------------------------------------------------------------------------

    def local(self, view: View, block: Block | None, state: State) -> Table:
        people, one_sided = self._taking_part(view)
        if state.round == "moments":
            cases = int(people.outcome.sum())
            numbers = {"cases": cases, "controls": people.size - cases, "one_sided": one_sided}
            return moments_of(people, people.covariates, numbers)
        design = self._design(people, state.shared)
        effects = state.shared.floats("effects")
        if state.round == "null":
            found = sums(design[None], people.outcome, effects, own_intercept=self.site_intercepts)
            return _told(found)
        assert block is not None
        block = oriented_block(block, people.view)
        if state.round == "counts":
            return _counts(people, block)
        null = fit(design, people.outcome, effects[0], own_intercept=self.site_intercepts)
        if state.round == "score":
            return self._scores(people, block, state, null)
        return self._refinements(people, block, state, null, design)

    def null(self, view: View, shared: Table) -> tuple[People, Fitted]:
        """Who takes part, under the model without genotypes."""
        people, _ = self._taking_part(view)
        effects = shared.floats("effects")[0]
        design = self._design(people, shared)
        return people, fit(design, people.outcome, effects, own_intercept=self.site_intercepts)

    def _taking_part(self, view: View) -> tuple[People, int]:
        """The people, and how many stand aside because a site with an intercept of its own has only one status."""
        people = self.people(view)
        if self.site_intercepts and people.size and np.ptp(people.outcome) == 0:
            return people.without_anybody(), people.size
        return people, 0

    def analysed(self, view: View) -> Iterator[Mask]:
        """Complete and unrelated people, unless all of them have one status and stand aside."""
        yield self._taking_part(view)[0].members

    def priced(self, view: View) -> Iterator[Mask]:
        """Cases, whose frequencies follow from effects, and controls."""
        outcome = self.outcome(view)
        yield from (outcome == 1, outcome == 0)

    def weights(self, view: View, state: State) -> Iterable[Floats]:
        """What the null model's effects make of each person: a model may be steered until one of them counts."""
        if state.round == "moments":
            return
        people = self.people(view)
        if self.site_intercepts and (not people.size or np.ptp(people.outcome) == 0):
            return
        design = self._design(people, state.shared)
        for effects in state.shared.floats("effects"):
            yield fit(design, people.outcome, effects, own_intercept=self.site_intercepts).weight

    def _design(self, people: People, shared: Table) -> Floats:
        """Covariates and, without site intercepts, a column of ones: (n, K), standardised."""
        covariates = standardised(people.covariates, shared)
        return covariates if self.site_intercepts else np.column_stack([covariates, np.ones(people.size)])

    def _scores(self, people: People, block: Block, state: State, null: Fitted) -> Table:
        """Parts of each variant's score and of its information beside the null model's."""
        assert state.block is not None
        mean = state.block.floats("dosage")[:, None]
        weights = np.column_stack([people.outcome - null.chance, null.weight, null.weight[:, None] * null.centred])
        found = block.products(people.view, weights)
        filled = found.dosage + mean * found.missing
        squares = (found.dosage + 2 * found.double + mean**2 * found.missing)[:, 1]
        if self.site_intercepts and people.size:
            squares -= filled[:, 1] ** 2 / null.weight.sum()
        return Table({"score": filled[:, 0], "covariates": filled[:, 2:], "squares": squares})

    def _refinements(self, people: People, block: Block, state: State, null: Fitted, design: Floats) -> Table:
        """What the searches and fits under way need of this node; zeros for rows that do not need it."""
        asked = state.block
        assert asked is not None
        size = 1 + design.shape[1]
        told: dict[str, Floats] = {
            "cumulants": np.zeros((asked.rows, 6)),
            "support": np.zeros((asked.rows, 2)),
            "loglik": np.zeros(asked.rows),
            "score": np.zeros((asked.rows, size)),
            "information": np.zeros((asked.rows, size * (size + 1) // 2)),
        }
        if not people.size:
            return Table(told)
        for rows in _chunks(asked.rows, people.size):
            part = asked.take(np.arange(asked.rows)[rows])
            called = block.dosages(people.view, rows)
            dosage = np.where(called < 0, part.floats("dosage")[:, None], called)
            search = part.ints("search") > 0
            if search.any():
                self._search_part(told, rows, search, dosage[search], part.take(search), null)
            for line in np.flatnonzero(part.ints("model") != SCORE):
                found = self._model_part(dosage[line], design, people.outcome, part.take(np.array([line])))
                at = rows.start + int(line)
                told["loglik"][at] = found.loglik[0]
                told["score"][at] = found.score[0]
                told["information"][at] = packed(found.information[0])
        return Table(told)

    def _search_part(
        self, told: dict[str, Floats], rows: slice, search: Mask, dosage: Floats, part: Table, null: Fitted
    ) -> None:
        adjusted = dosage - part.floats("adjust") @ null.centred.T
        if self.site_intercepts:
            adjusted -= (dosage @ null.weight / null.weight.sum())[:, None]
        values = spa.cumulants(adjusted, null.chance, part.floats("point"))
        told["cumulants"][rows][search] = values.reshape(len(values), 6)
        told["support"][rows][search] = spa.support(adjusted, null.chance)

    def _model_part(self, dosage: Floats, design: Floats, outcome: Floats, part: Table) -> Sums:
        whole = np.column_stack([dosage, design])[None]
        if part.ints("model")[0] == WALD:
            return sums(whole, outcome, part.floats("trial"), own_intercept=self.site_intercepts)
        inverse = unpacked(part.floats("inverse"), whole.shape[2])
        return firth_sums(whole, outcome, part.floats("trial"), inverse, own_intercept=self.site_intercepts)

    # At the releaser -----------------------------------------------------------------------------------------------

    def step(self, state: State, total: Table) -> State:
        match state.round:
            case "moments":
                return self._step_moments(state, total)
            case "null":
                return self._step_null(state, total)
            case "counts":
                return self._step_counts(state, total)
            case "score":
                return self._step_score(state, total)
        return self._step_refine(state, total)

    def _step_moments(self, state: State, total: Table) -> State:
        cases, controls = pooled_people(total, "cases", "controls")
        if not cases or not controls:
            raise Invalid("there are no cases or no controls among those who take part.", where="phenotype")
        known = total.only("cases", "controls", "one_sided", "sites", "related", "incomplete")
        units = self.units(total, self.covariates, cases + controls)
        size = len(self.covariates) + (not self.site_intercepts)
        effects = np.zeros((1, size))
        if not self.site_intercepts:
            effects[0, -1] = np.log(cases / controls)
        first: dict[str, Column] = {
            "effects": effects,
            "base": effects,
            "level": np.array([-np.inf]),
            "information": np.zeros((1, size * (size + 1) // 2)),
            "tries": np.array([0]),
        }
        return state.to("null", shared=Table({**known.columns, **units, **first}, known.withheld))

    def _step_null(self, state: State, total: Table) -> State:
        shared = state.shared
        cases, controls = (int(shared.ints(name)[0]) for name in ("cases", "controls"))
        size = shared["effects"].shape[1]
        found = _sums_of(total, size)
        tries = int(shared.ints("tries")[0])
        if not tries:
            of_covariates = found.information[0, : len(self.covariates), : len(self.covariates)]
            weight = cases * controls / (cases + controls)
            self.check_covariates(of_covariates, weight, cases + controls, int(shared.ints("sites")[0]))
        search = Newton(shared.floats("effects"), shared.floats("base"), shared.floats("level"))
        search, decrement = search.advance(found, inverted(found.information))
        if np.isnan(decrement[0]) or tries >= STEPS_NULL:
            raise Invalid(
                "the model of the covariates alone has no maximum: they separate cases from controls.",
                where="covariates",
                remedy="Leave out the covariate that all but tells who is a case.",
            )
        columns: dict[str, Column] = {
            "effects": search.trial,
            "base": search.base,
            "level": search.level,
            "information": packed(found.information),
            "tries": np.array([tries + 1]),
        }
        done = decrement[0] <= CONVERGED
        return state.to("counts" if done else "null", shared=Table({**shared.columns, **columns}, shared.withheld))

    def _step_counts(self, state: State, total: Table) -> State:
        groups = [int(state.shared.ints(name)[0]) for name in ("cases", "controls")]
        people = sum(groups)
        carriers = total.ints("case_carriers") + total.ints("control_carriers")
        others = total.ints("case_others") + total.ints("control_others")
        expected = np.minimum(carriers, others) * min(groups) / people
        enough = self.testable(total.ints("called"), total.ints("copies"), people) & (expected >= self.expected_min)
        passed = total.take(enough)
        if not passed.rows:
            return state.to(DONE, kept=None)
        block = Table({"row": passed.ints("row"), "dosage": passed.floats("copies") / passed.floats("called")})
        fewest = np.min([passed.ints(name) for name in _CELLS], axis=0)
        kept = passed.only("row", "called", "copies").with_column("fewest", fewest)
        return state.to("score", block=block, kept=kept)

    def _step_score(self, state: State, total: Table) -> State:
        """Score tests of all variants, and the start of what some of them still need."""
        assert state.kept is not None
        assert state.block is not None
        size = state.shared["effects"].shape[1]
        inverse = inverted(unpacked(state.shared.floats("information")[0], size))
        with_covariates, squares = total.floats("covariates"), total.floats("squares")
        adjust = with_covariates @ inverse
        variance = squares - np.einsum("rk,rk->r", adjust, with_covariates)
        cases, controls = (int(state.shared.ints(name)[0]) for name in ("cases", "controls"))
        told = told_apart(variance, state.kept, cases * controls / (cases + controls))
        score, variance = total.floats("score")[told], variance[told]
        z = score / np.sqrt(variance)
        kept, fewest = state.kept.take(told), state.kept.ints("fewest")[told]
        codes = np.full(kept.rows, SCORE, np.int64)
        table = Table(
            {
                "row": kept["row"],
                "people": kept["called"],
                "frequency": frequency(kept),
                "beta": score / variance,
                "se": 1 / np.sqrt(variance),
                "statistic": z,
                "minus_log10_p": minus_log10_normal(z),
                "test": codes,
                "model": codes,
            }
        )
        search = (np.abs(z) > TAIL) & self._unbalanced(state.shared)
        strong = self._strong(table)
        chosen = search | strong
        if not chosen.any():
            return state.to(DONE, block=None, kept=table)
        model = np.where(strong & ~search, np.where(self._few(fewest), FIRTH, WALD), SCORE)
        found = _Scored(score[chosen], variance[chosen], adjust[told][chosen])
        columns: dict[str, Column] = {
            "row": kept.ints("row")[chosen],
            "dosage": state.block.floats("dosage")[told][chosen],
            "search": search[chosen].astype(np.int64),
            "model": model[chosen],
            "few": self._few(fewest)[chosen].astype(np.int64),
            "tries": np.zeros(int(chosen.sum()), np.int64),
            **found.search(),
            **found.fit(state.shared, inverse),
        }
        return state.to("refine", block=Table(columns), kept=table)

    def _few(self, fewest: NDArray[np.int64]) -> Mask:
        """Which variants are penalised from the start."""
        return np.asarray((self.firth == "always") | ((self.firth == "auto") & (fewest < FEW)), np.bool_)

    def _strong(self, statistics: Table) -> Mask:
        """Which variants deserve a model of their own."""
        return np.asarray(statistics.floats("minus_log10_p") > -np.log10(self.estimate_below), np.bool_)

    def _unbalanced(self, shared: Table) -> bool:
        cases, controls = (int(shared.ints(name)[0]) for name in ("cases", "controls"))
        return self.spa == "always" or (self.spa == "auto" and min(cases, controls) < UNBALANCED * (cases + controls))

    def _step_refine(self, state: State, total: Table) -> State:
        """One step of every search and fit under way; rows that need nothing more leave the block."""
        assert state.kept is not None
        assert state.block is not None
        block = {name: values.copy() for name, values in state.block.columns.items()}
        kept = {name: values.copy() for name, values in state.kept.columns.items()}
        place = np.searchsorted(state.kept.ints("row"), state.block.ints("row"))
        model = state.block.ints("model")
        block["tries"] = state.block.ints("tries") + 1
        self._step_search(block, kept, place, total)
        found = _sums_of(total, state.block["trial"].shape[1])
        self._step_wald(block, kept, place, found, np.flatnonzero(model == WALD), state.shared)
        self._step_firth(block, kept, place, found, np.flatnonzero(model == FIRTH))
        left = Table(block).take(np.asarray((block["search"] != 0) | (block["model"] != SCORE)))
        return state.to("refine" if left.rows else DONE, block=left if left.rows else None, kept=Table(kept))

    def _step_search(self, block: _Columns, kept: _Columns, place: NDArray[np.int64], total: Table) -> None:
        """Saddle points: p values of those found, and whether their variants deserve a model of their own."""
        lines = np.flatnonzero(block["search"])
        if not len(lines):
            return
        values, reach = total.floats("cumulants")[lines].reshape(-1, 2, 3), total.floats("support")[lines]
        search = spa.Search(*(Table(block).floats(name)[lines] for name in ("score", "point", "low", "high")))
        following, found = search.advance(values, reach)
        p = np.where(found, search.minus_log10_p(values, reach), np.nan)
        for name in ("point", "low", "high"):
            block[name][lines] = getattr(following, name)
        good = lines[np.isfinite(p)]
        kept["minus_log10_p"][place[good]] = p[np.isfinite(p)]
        kept["test"][place[good]] = SADDLE
        over = lines[found | (block["tries"][lines] >= STEPS_SPA)]
        block["search"][over] = 0
        block["tries"][over] = 0
        strong = over[self._strong(Table(kept))[place[over]]]
        block["model"][strong] = np.where(block["few"][strong] > 0, FIRTH, WALD)

    def _step_wald(
        self,
        block: _Columns,
        kept: _Columns,
        place: NDArray[np.int64],
        total: Sums,
        lines: NDArray[np.int64],
        shared: Table,
    ) -> None:
        """Newton steps of unpenalised fits; one that runs away starts anew with the penalty."""
        if not len(lines):
            return
        inverse = inverted(total.information[lines])
        search = Newton(block["trial"][lines], block["base"][lines], block["level"][lines])
        search, decrement = search.advance(total.take(lines), inverse)
        block["trial"][lines], block["base"][lines], block["level"][lines] = search.trial, search.base, search.level
        lost = np.isnan(decrement) | (np.abs(search.trial[:, 0]) > RUNAWAY) | (block["tries"][lines] >= STEPS_WALD)
        done = ~lost & (decrement <= CONVERGED)
        _estimated(kept, place[lines[done]], WALD, search.trial[done, 0], inverse[done, 0, 0])
        block["model"][lines[done]] = SCORE
        again = lines[lost]
        block["model"][again] = SCORE if self.firth == "never" else FIRTH
        block["trial"][again] = np.concatenate([[0.0], shared.floats("effects")[0]])
        block["tries"][again] = 0

    def _step_firth(
        self, block: _Columns, kept: _Columns, place: NDArray[np.int64], total: Sums, lines: NDArray[np.int64]
    ) -> None:
        """Steps of penalised fits: every other round brings the information up to date without a step.

        A step with hat values of the round before would swing about the solution for a hundred rounds.
        """
        inverse = inverted(total.information[lines])
        block["inverse"][lines] = packed(inverse)
        lost = np.isnan(inverse[:, 0, 0]) | (block["tries"][lines] >= STEPS_FIRTH)
        moves = (block["tries"][lines] % 2 == 0) & ~lost
        step = np.einsum("rpq,rq->rp", inverse, total.score[lines])
        decrement = np.einsum("rp,rp->r", step, total.score[lines])
        block["trial"][lines[moves]] += limited(step[moves])
        done = moves & (decrement <= CONVERGED)
        _estimated(kept, place[lines[done]], FIRTH, block["trial"][lines[done], 0], inverse[done, 0, 0])
        block["model"][lines[done | lost]] = SCORE

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:
        summary = state.shared.only("cases", "controls", "one_sided", "related", "incomplete")
        methods = {"test": METHODS, "model": METHODS}
        return gwas_report.report(
            blocks, summary, self.releases, window_kb=self.clump_kb, most=self.hits_max, labels=methods
        )


_Columns = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Scored:
    """What the score round knows of the variants that go on, each (R,) or (R, K)."""

    score: Floats
    variance: Floats
    adjust: Floats

    def search(self) -> dict[str, Column]:
        """Saddle points are sought from the normal ones on."""
        start = spa.Search.start(self.score, self.variance)
        return {"adjust": self.adjust, **{name: getattr(start, name) for name in ("score", "point", "low", "high")}}

    def fit(self, shared: Table, inverse: Floats) -> dict[str, Column]:
        """Fits start one Newton step from the null model; ``inverse`` (K, K) is that of its information."""
        rows, size = self.adjust.shape
        one = self.score / self.variance
        null = np.concatenate([[0.0], shared.floats("effects")[0]])
        step = np.column_stack([one, -self.adjust * one[:, None]])
        whole = np.empty((rows, 1 + size, 1 + size))
        whole[:, 0, 0] = 1 / self.variance
        whole[:, 0, 1:] = whole[:, 1:, 0] = -self.adjust / self.variance[:, None]
        whole[:, 1:, 1:] = inverse + self.adjust[:, :, None] * self.adjust[:, None, :] / self.variance[:, None, None]
        return {
            "trial": null + limited(step),
            "base": np.tile(null, (rows, 1)),
            "level": np.full(rows, shared.floats("level")[0]),
            "inverse": packed(whole),
        }


def _estimated(kept: _Columns, at: NDArray[np.int64], model: int, beta: Floats, variance: Floats) -> None:
    """Notes effects found at lines ``at`` of ``kept``; their p values too, unless a saddle point gave better ones."""
    se = np.sqrt(variance)
    kept["beta"][at], kept["se"][at], kept["statistic"][at], kept["model"][at] = beta, se, beta / se, model
    own = kept["test"][at] != SADDLE
    kept["minus_log10_p"][at[own]] = minus_log10_normal((beta / se)[own])
    kept["test"][at[own]] = model


def _counts(people: People, block: Block) -> Table:
    """Cases and controls by carriers; nobody on chromosomes that are not tested."""
    if block.chromosome in SKIPPED:
        return Table(dict.fromkeys((*_CELLS, "called", "copies"), np.zeros(block.rows, np.int64)))
    counts = block.counts(people.view, people.outcome.astype(np.int64), 2)
    other, one, two = counts[..., 0], counts[..., 1], counts[..., 2]
    cells = ((one + two)[:, 1], (other + one)[:, 1], (one + two)[:, 0], (other + one)[:, 0])
    totals = {"called": (other + one + two).sum(axis=1), "copies": (one + 2 * two).sum(axis=1)}
    return Table({**dict(zip(_CELLS, cells, strict=True)), **totals})


def _told(found: Sums) -> Table:
    return Table({"loglik": found.loglik, "score": found.score, "information": packed(found.information)})


def _sums_of(total: Table, size: int) -> Sums:
    information = unpacked(total.floats("information"), size)
    return Sums(total.floats("loglik"), total.floats("score"), information)


def _chunks(rows: int, people: int) -> Iterator[slice]:
    """Stretches of rows whose dense dosages fit a small buffer."""
    size = max(1, _CHUNK // max(people, 1))
    for first in range(0, rows, size):
        yield slice(first, min(first + size, rows))
