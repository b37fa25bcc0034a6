"""``gene-background``: how many people carry a rare, consequential variant of each gene.

One gated sum over people. The rate of a gene in the population is what a shared candidate gene of two patients is
measured by: -log of it is the evidence (see ``matching``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from federome.analysis.algorithm import DONE, Block, Defined, Finished, State, Table, View, algorithm
from federome.analysis.gene_carriers import OverGenes
from federome.model.release import Count, Label, Ratio, Round, Rows

_COUNTS = {"assessed": Count(people=True), "carriers": Count(people=True)}
_OTHERS = ({"carriers": 1, "assessed": -1, "others": 1},)
"""Who was assessed and carries nothing can be subtracted, and must be enough people too."""


@algorithm("gene-background", "1.0")
@dataclass(frozen=True, kw_only=True)
class GeneBackground(OverGenes):
    """People assessed, people who carry a qualifying variant, and the rate, for each gene.

    Genes with fewer carriers than the data holders' threshold, none among them, are withheld: that a rate is below
    threshold / assessed is all that is told. Whoever is not called at a variant counts as not carrying it.
    """

    rounds: ClassVar[tuple[Round, ...]] = (
        Round("count", scope="people", totals=Rows(_COUNTS, genotypes=True, identities=_OTHERS), gated=True),
    )
    releases: ClassVar[Mapping[str, Rows]] = {
        "rates": Rows(
            {"gene": Label(), **_COUNTS, "rate": Ratio("carriers", "assessed")},
            release_class="frequencies",
            genotypes=True,
            identities=_OTHERS,
            key=("gene",),
        )
    }

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        """People, one row a gene."""
        found = self.carriers(view, range(len(self.genes)))
        return Table(
            {
                "assessed": np.array([0 if each is None else view.people for each in found], np.int64),
                "carriers": np.array([0 if each is None else len(each) for each in found], np.int64),
            }
        )

    def defined(self, view: View, state: State, rows: Sequence[int]) -> Iterator[Defined]:  # noqa: ARG002
        """The carriers of each gene."""
        everybody = np.ones(view.people, np.bool_)
        for row, places in zip(rows, self.carriers(view, rows), strict=True):
            if places is not None:
                yield self.told(row, "carriers", everybody, places)

    def step(self, state: State, total: Table) -> State:
        return state.to(DONE, kept=total)

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        assert state.kept is not None
        counts = {name: state.kept.ints(name) for name in _COUNTS}
        hidden = {name: state.kept.withheld.get(name, np.zeros(len(self.genes), np.bool_)) for name in _COUNTS}
        counts = {name: np.where(hidden[name], 0, values) for name, values in counts.items()}
        hidden["rate"] = hidden["assessed"] | hidden["carriers"] | (counts["assessed"] == 0)
        rate = np.divide(counts["carriers"], counts["assessed"], out=np.zeros(len(self.genes)), where=~hidden["rate"])
        return {"rates": Table({"gene": np.array(self.genes, np.str_), **counts, "rate": rate}, hidden)}
