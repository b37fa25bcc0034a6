"""``pgx-counts``: how many people have each phenotype, or each diplotype, of a pharmacogene, by population.

One gated sum over people. Each person is counted once: under one phenotype or diplotype, under *several possible* where
open phase leaves the answer open, or under *not called*. What is on one person's row never leaves the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from federome.analysis.algorithm import (
    DONE,
    Algorithm,
    Block,
    Finished,
    Reads,
    State,
    Table,
    Variants,
    View,
    algorithm,
)
from federome.analysis.cohort_count import EVERYBODY, Population
from federome.analysis.pgx_people import (
    MODULES,
    call_cohort,
    check_strata,
    counted,
    gene_of,
    strata,
    stratum_of,
    variants_of,
)
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Round, Rows
from federome.model.table import Mask
from federome.model.variant import Assembly
from federome.model.wording import narrowed
from federome.pgx.call import Call
from federome.pgx.genes import pair
from federome.pgx.phenotype import INDETERMINATE, from_call
from federome.pgx.tables import tables

SEVERAL, NOT_CALLED = "several possible", "not called"


@algorithm("pgx-counts", "1.0")
@dataclass(frozen=True, kw_only=True)
class PgxCounts(Algorithm):
    """People by phenotype or diplotype of one gene.

    ``populations`` names the populations that get rows (nodes must agree on them); without, everybody is one group.
    Ask for phenotypes or for diplotypes: a diplotype withheld beside its phenotype could be subtracted.
    """

    modules: ClassVar[tuple[str, ...]] = MODULES

    gene: Annotated[str, msgspec.Meta(min_length=2, max_length=12)]
    of: Literal["phenotype", "diplotype"] = "phenotype"
    populations: Annotated[tuple[Population, ...], msgspec.Meta(max_length=200)] = ()
    cohort: Cohort = EVERYBODY
    assembly: Assembly = "GRCh38"

    rounds: ClassVar[tuple[Round, ...]] = (
        Round(
            "count",
            scope="people",
            totals=Rows({"people": Count(people=True)}, genotypes=True),
            gated=True,
            genotypes=True,
        ),
    )
    releases: ClassVar[Mapping[str, Rows]] = {
        "counts": Rows(
            {"gene": Label(), "result": Label(), "population": Label(), "people": Count(people=True)},
            genotypes=True,
            key=("gene", "result", "population"),
        )
    }

    def __post_init__(self) -> None:
        gene_of(self.gene)
        check_strata(self.populations)

    @property
    def reads(self) -> Reads:
        columns = ("male", "population") if self.populations else ("male",)
        return Reads(columns, Variants(named=variants_of([gene_of(self.gene)], self.assembly)))

    @property
    def labels(self) -> tuple[str, ...]:
        """Every result there can be, in the order of the rows."""
        gene, known = gene_of(self.gene), tables()
        if self.of == "phenotype":
            said = {*known.phenotypes.get(self.gene, {}).values(), *known.exceptions.get(self.gene, {}).values()}
            said |= {name for _, _, name in known.scores.get(self.gene, ())} | {INDETERMINATE}
            return (*sorted(said), SEVERAL, NOT_CALLED)
        names = [name for name in gene.order if name not in gene.suballeles]
        pairs = [pair(*two, 0, gene.order).name for two in combinations_with_replacement(names, 2)]
        alone = names if gene.chromosome in ("X", "MT") else []
        return (*pairs, *alone, SEVERAL, NOT_CALLED)

    def _label(self, call: Call) -> str:
        if not call.called:
            return NOT_CALLED
        if self.of == "phenotype":
            return from_call(tables(), call).phenotype or (SEVERAL if len(call.decides) > 1 else INDETERMINATE)
        return SEVERAL if len(call.decides) > 1 else call.decides[0].name

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        """People (results x populations, one row each)."""
        assert block is not None
        groups = strata(self.populations)
        calls = call_cohort(view, block, [gene_of(self.gene)], self.assembly)[self.gene]
        rows = {label: place for place, label in enumerate(self.labels)}
        group = stratum_of(view, self.populations)
        found = counted([self._label(each) for each in calls.calls], calls.of, group, rows, len(groups))
        return Table({"people": found.ravel()})

    def told_of(self, view: View) -> Iterator[Mask]:
        """The people of each population."""
        group = stratum_of(view, self.populations)
        yield from (group == at for at in range(len(strata(self.populations))))

    def told_as(self) -> Iterator[tuple[Cohort | None, str]]:
        """The cohort with each population."""
        for population in strata(self.populations):
            yield narrowed(self.cohort, population=population if self.populations else ""), ""

    def tells(self, sites: int) -> float:
        """Counts of alleles tell the frequencies of the gene's sites, as far as enough people carry a variant."""
        return float(max(1, sites - 1))

    def step(self, state: State, total: Table) -> State:
        return state.to(DONE, kept=total)

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        """Rows that passed with anybody in them. A result that is not listed has nobody, or fewer than the least."""
        assert state.kept is not None
        groups = strata(self.populations)
        hidden = state.kept.withheld.get("people", np.zeros(state.kept.rows, np.bool_))
        told = ~hidden & (np.where(hidden, 0, state.kept.ints("people")) > 0)
        row = state.kept.ints("row")[told]
        return {
            "counts": Table(
                {
                    "gene": np.full(len(row), self.gene, np.str_),
                    "result": np.array(self.labels, np.str_)[row // len(groups)],
                    "population": np.array(groups, np.str_)[row % len(groups)],
                    "people": state.kept.ints("people")[told],
                }
            )
        }
