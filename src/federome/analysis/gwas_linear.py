"""``gwas-linear``: association of a quantitative trait with every variant, exactly as on the pooled data.

Four sums over the nodes: moments of trait and covariates, their cross-products, genotype counts, and each variant's
products with trait, covariates and itself. From these the releaser computes the coefficient of each variant as the
regression of residuals on residuals (Frisch & Waugh 1933; Lovell 1963). With site intercepts each node centres its
values by its own means, which is the same regression as one indicator variable per site.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from federome.analysis import gwas_report
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
from federome.analysis.regression import Floats, LeastSquares, minus_log10_student
from federome.errors import Invalid
from federome.model.release import Count, Number, Round, Rows


@algorithm("gwas-linear", "1.0")
@dataclass(frozen=True, kw_only=True)
class GwasLinear(Association):
    """Linear regression of a numeric phenotype column on each variant, covariates and site intercepts.

    Effects are in units of the phenotype per copy of ALT; p values are those of Student's t. For the parameters see
    :class:`~federome.analysis.gwas.Association`. Raises ``Invalid`` when phenotype or a covariate is constant,
    covariates are collinear, or parameters exceed a third of the people.
    """

    rounds: ClassVar[tuple[Round, ...]] = (
        Round("moments", scope="people", totals=moments("people"), gated=True),
        Round("cross", scope="people", totals=Rows({"cross": Number()}, release_class="summary-statistics")),
        Round(
            "counts",
            scope="variants",
            totals=Rows(
                {
                    "carriers": Count(people=True),
                    "others": Count(people=True),
                    "called": Count(people=True),
                    "copies": Count(guard="carriers"),
                },
                genotypes=True,
            ),
            gated=True,
        ),
        Round(
            "scores",
            scope="variants",
            totals=Rows({"products": Number(), "squares": Number()}, release_class="summary-statistics"),
        ),
    )
    broadcasts: ClassVar[frozenset[str]] = SHARED | {"cross", "dosage"}
    releases: ClassVar[Mapping[str, Rows]] = {
        "hits": gwas_report.hits_rows(),
        "summary": summary_rows("people"),
        "qq": gwas_report.QQ,
        "manhattan": gwas_report.MANHATTAN,
    }

    def __post_init__(self) -> None:
        if not self.phenotype:
            raise Invalid("a phenotype is needed.", where="phenotype", remedy="Name a numeric column.")
        super().__post_init__()

    def local(self, view: View, block: Block | None, state: State) -> Table:
        people = self.people(view)
        match state.round:
            case "moments":
                variables = np.column_stack([people.outcome, people.covariates])
                return moments_of(people, variables, {"people": people.size})
            case "cross":
                design = self._design(people, state.shared)
                return Table({"cross": (design.T @ design).reshape(1, -1)})
        assert block is not None
        block = oriented_block(block, people.view)
        return _counts(people, block) if state.round == "counts" else self._scores(people, block, state)

    def _design(self, people: People, shared: Table) -> Floats:
        """Trait, covariates and, without site intercepts, a column of ones: (n, M), standardised."""
        design = standardised(np.column_stack([people.outcome, people.covariates]), shared)
        if not self.site_intercepts:
            return np.column_stack([design, np.ones(people.size)])
        return design - design.mean(axis=0) if people.size else design

    def _scores(self, people: People, block: Block, state: State) -> Table:
        """Products of each variant, missing dosages filled in, with the design and with itself."""
        assert state.block is not None
        mean = state.block.floats("dosage")
        design = self._design(people, state.shared)
        found = block.products(people.view, np.column_stack([design, np.ones(people.size)]))
        filled = found.dosage + mean[:, None] * found.missing
        squares = found.dosage[:, -1] + 2 * found.double[:, -1] + mean**2 * found.missing[:, -1]
        if self.site_intercepts and people.size:
            squares -= filled[:, -1] ** 2 / people.size
        return Table({"products": filled[:, :-1], "squares": squares})

    def step(self, state: State, total: Table) -> State:
        match state.round:
            case "moments":
                return self._step_moments(state, total)
            case "cross":
                return self._step_cross(state, total)
            case "counts":
                return self._step_counts(state, total)
        return self._step_scores(state, total)

    def _step_moments(self, state: State, total: Table) -> State:
        (people,) = pooled_people(total, "people")
        units = self.units(total, (self.phenotype, *self.covariates), people)
        known = total.only("people", "sites", "related", "incomplete")
        return state.to("cross", shared=Table({**known.columns, **units}, known.withheld))

    def _step_cross(self, state: State, total: Table) -> State:
        shared = state.shared.with_column("cross", total.floats("cross"))
        cross, size = _square(shared), 1 + len(self.covariates)
        people, sites = (int(shared.ints(name)[0]) for name in ("people", "sites"))
        self.check_covariates(cross[1:size, 1:size], people, people, sites)
        if LeastSquares.of(cross).rest <= 1e-9 * people:
            raise Invalid(
                f"{self.phenotype!r} is explained entirely by covariates and sites.",
                where="phenotype",
                remedy="Leave out what it was computed from.",
            )
        return state.to("counts", shared=shared)

    def _step_counts(self, state: State, total: Table) -> State:
        called, copies = total.ints("called"), total.ints("copies")
        passed = total.take(self.testable(called, copies, int(state.shared.ints("people")[0])))
        if not passed.rows:
            return state.to(DONE, kept=None)
        dosage = passed.floats("copies") / passed.floats("called")
        block = Table({"row": passed.ints("row"), "dosage": dosage})
        return state.to("scores", block=block, kept=passed.only("row", "called", "copies"))

    def _step_scores(self, state: State, total: Table) -> State:
        assert state.kept is not None
        shared, products, squares = state.shared, total.floats("products"), total.floats("squares")
        null = LeastSquares.of(_square(shared))
        people, sites = (int(shared.ints(name)[0]) for name in ("people", "sites"))
        with_trait, with_itself = null.partial(products[:, 0], products[:, 1:], squares)
        told = told_apart(with_itself, state.kept, people)
        with_trait, with_itself = with_trait[told], with_itself[told]
        freedom = people - len(null.effects) - 1 - (sites if self.site_intercepts else 0)
        beta = with_trait / with_itself
        se = np.sqrt(np.maximum(null.rest - with_trait * beta, 0) / freedom / with_itself)
        with np.errstate(divide="ignore"):
            t = beta / se
        unit = shared.floats("scale")[0, 0]
        kept = state.kept.take(told)
        columns = {
            "row": kept["row"],
            "people": kept["called"],
            "frequency": frequency(kept),
            "beta": unit * beta,
            "se": unit * se,
            "statistic": t,
            "minus_log10_p": minus_log10_student(t, freedom),
        }
        return state.to(DONE, block=None, kept=Table(columns))

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:
        summary = state.shared.only("people", "related", "incomplete")
        return gwas_report.report(blocks, summary, self.releases, window_kb=self.clump_kb, most=self.hits_max)


def _counts(people: People, block: Block) -> Table:
    """People by genotype; nobody on chromosomes that are not tested."""
    if block.chromosome in SKIPPED:
        none = np.zeros(block.rows, np.int64)
        return Table(dict.fromkeys(("carriers", "others", "called", "copies"), none))
    counts = block.counts(people.view, np.zeros(people.size, np.int64), 1)[:, 0]
    other, one, two = counts[:, 0], counts[:, 1], counts[:, 2]
    return Table({"carriers": one + two, "others": other + one, "called": other + one + two, "copies": one + 2 * two})


def _square(shared: Table) -> Floats:
    """Pooled cross-products of trait and covariates, (M, M)."""
    flat = shared.floats("cross")[0]
    size = int(np.sqrt(len(flat)))
    return np.reshape(flat, (size, size))
