"""``pgx-actionable``: for how many people guidelines advise to change a drug or its dose, by drug and population.

One gated sum over people. A person counts as assessed for a drug when every gene its guidance needs, and genotypes can
tell, has led to advice; as actionable when that (of several possibilities the most careful) is to avoid it, or to limit
or adjust its dose. National rates follow
from the sums; who they are stays at the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

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
from federome.analysis.pgx_people import MODULES, call_cohort, check_strata, strata, stratum_of, variants_of
from federome.errors import Invalid
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Ratio, Round, Rows
from federome.model.table import Column, Mask
from federome.model.variant import Assembly
from federome.model.wording import narrowed
from federome.pgx.cohort import CohortCalls
from federome.pgx.genes import Gene
from federome.pgx.guidance import advise_drug
from federome.pgx.phenotype import GeneResult, from_call
from federome.pgx.tables import tables

ACTIONABLE = ("adjust", "limit", "avoid")

_COUNTS = {"assessed": Count(people=True), "actionable": Count(people=True)}
_OTHERS = ({"actionable": 1, "assessed": -1, "as_usual": 1},)
"""Who is assessed and not actionable can be subtracted, and must be enough people too."""


@algorithm("pgx-actionable", "1.0")
@dataclass(frozen=True, kw_only=True)
class PgxActionable(Algorithm):
    """People assessed, people with an actionable genotype, and the rate, for each drug and population.

    ``drugs`` are names of the guidance tables. Genes that only another tool calls (CYP2D6, HLA) are taken as not
    tested; a drug that needs nothing else is refused. ``populations`` as in ``pgx-counts``.
    """

    modules: ClassVar[tuple[str, ...]] = MODULES

    drugs: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=80)]
    populations: Annotated[tuple[Population, ...], msgspec.Meta(max_length=200)] = ()
    cohort: Cohort = EVERYBODY
    assembly: Assembly = "GRCh38"

    rounds: ClassVar[tuple[Round, ...]] = (
        Round(
            "count",
            scope="people",
            totals=Rows(_COUNTS, genotypes=True, identities=_OTHERS),
            gated=True,
            genotypes=True,
        ),
    )
    releases: ClassVar[Mapping[str, Rows]] = {
        "rates": Rows(
            {"drug": Label(), "population": Label(), **_COUNTS, "rate": Ratio("actionable", "assessed")},
            genotypes=True,
            identities=_OTHERS,
            key=("drug", "population"),
        )
    }

    def __post_init__(self) -> None:
        check_strata(self.populations)
        if len(set(self.drugs)) != len(self.drugs):
            raise Invalid("a drug is named twice.", where="drugs")
        known = tables()
        for drug in self.drugs:
            if drug not in known.rules:
                raise Invalid(f"no guidance is known for {drug[:40]!r}.", where="drugs", remedy="See federome pgx.")
            if not self._genes([drug]):
                raise Invalid(f"{drug} needs genes that genotypes do not tell.", where="drugs")

    def _genes(self, drugs: Sequence[str]) -> list[Gene]:
        known = tables()
        asked = {gene for drug in drugs for rule in known.rules[drug] for gene, _ in rule.wanted}
        return [gene for name, gene in known.genes.items() if name in asked]

    @property
    def reads(self) -> Reads:
        columns = ("male", "population") if self.populations else ("male",)
        return Reads(columns, Variants(named=variants_of(self._genes(self.drugs), self.assembly)))

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        """People (drugs x populations, one row each)."""
        assert block is not None
        size = len(strata(self.populations))
        calls = call_cohort(view, block, self._genes(self.drugs), self.assembly)
        group = stratum_of(view, self.populations)
        columns: dict[str, list[NDArray[np.int64]]] = {name: [] for name in _COUNTS}
        for drug in self.drugs:
            said = _advice(drug, {gene.name: calls[gene.name] for gene in self._genes([drug])})
            for name, wanted in (("assessed", said >= 0), ("actionable", said == 1)):
                columns[name].append(np.bincount(group[wanted & (group >= 0)], minlength=size))
        return Table({name: np.concatenate(parts).astype(np.int64) for name, parts in columns.items()})

    def told_of(self, view: View) -> Iterator[Mask]:
        """The people of each population."""
        group = stratum_of(view, self.populations)
        yield from (group == at for at in range(len(strata(self.populations))))

    def told_as(self) -> Iterator[tuple[Cohort | None, str]]:
        """The cohort with each population."""
        for population in strata(self.populations):
            yield narrowed(self.cohort, population=population if self.populations else ""), ""

    def tells(self, sites: int) -> float:
        """Each rate is one number, and tells no more than one frequency would."""
        return float(min(len(self.drugs), max(1, sites - 1)))

    def step(self, state: State, total: Table) -> State:
        return state.to(DONE, kept=total)

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        """One row for each drug and population; withheld where fewer than the least were assessed or are actionable."""
        assert state.kept is not None
        groups = strata(self.populations)
        size = len(self.drugs) * len(groups)
        row = state.kept.ints("row")
        columns: dict[str, Column] = {
            "drug": np.repeat(np.array(self.drugs, np.str_), len(groups)),
            "population": np.tile(np.array(groups, np.str_), len(self.drugs)),
        }
        masks: dict[str, Mask] = {}
        for name in _COUNTS:
            hidden, values = np.ones(size, np.bool_), np.zeros(size, np.int64)
            hidden[row] = state.kept.withheld.get(name, np.zeros(len(row), np.bool_))
            values[row] = np.where(hidden[row], 0, state.kept.ints(name))
            columns[name], masks[name] = values, hidden
        assessed, actionable = (np.asarray(columns[name], np.float64) for name in ("assessed", "actionable"))
        masks["rate"] = masks["assessed"] | masks["actionable"] | (assessed == 0)
        columns["rate"] = np.divide(actionable, assessed, out=np.zeros(size), where=~masks["rate"])
        return {"rates": Table(columns, masks)}


def _advice(drug: str, calls: Mapping[str, CohortCalls]) -> NDArray[np.int64]:
    """For each person 1 if actionable, 0 if assessed and not, -1 if not assessed; equal combinations once."""
    known = tables()
    names = list(calls)
    results: dict[str, list[GeneResult | None]] = {
        name: [from_call(known, each) if each.called else None for each in calls[name].calls] for name in names
    }
    rows = np.stack([calls[name].of for name in names], axis=1)
    distinct, of = np.unique(rows, axis=0, return_inverse=True)
    said = np.full(len(distinct), -1, np.int64)
    for number, combination in enumerate(distinct.tolist()):
        having = {name: results[name][at] for name, at in zip(names, combination, strict=True)}
        present = {name: result for name, result in having.items() if result is not None}
        advice = advise_drug(known, drug, present)
        if advice.rules and not set(names) & set(advice.missing):
            said[number] = int(advice.action in ACTIONABLE)
    return said[of.ravel()]
