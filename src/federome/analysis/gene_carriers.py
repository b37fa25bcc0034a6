"""Who carries a qualifying variant of each of many genes: what the algorithms over genes share.

Qualifying is what is rare and has a wanted consequence. The node's own store finds the variants, decides which are rare
and marks their carriers; men with a variant on their one X are carriers like everybody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import Algorithm, Defined, Products, Reads, View
from federome.analysis.cohort_count import EVERYBODY
from federome.errors import Invalid
from federome.model.cohort import Carrier, Cohort
from federome.model.table import Mask

_LOSS = (
    "frameshift_variant",
    "splice_acceptor_variant",
    "splice_donor_variant",
    "start_lost",
    "stop_gained",
    "transcript_ablation",
)
_ALTERING = (
    *_LOSS,
    "inframe_deletion",
    "inframe_insertion",
    "missense_variant",
    "protein_altering_variant",
    "stop_lost",
)
Consequences = Literal["loss-of-function", "protein-altering", "any"]
CONSEQUENCES: Mapping[str, tuple[str, ...]] = {"loss-of-function": _LOSS, "protein-altering": _ALTERING, "any": ()}
"""Sequence Ontology terms of qualifying variants, by the name of the class; none: whatever they do."""
RARE = (0.0001, 0.001, 0.01, 0.05, 1.0)
"""Frequencies that may be asked for. The fewer definitions, the less their differences tell of few people."""

Symbol = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,49}$")]
Places = NDArray[np.int64]
"""Where in a view the carriers of one gene stand."""

# A pure function's results, kept as long as the frozen view they were computed from.
_FOUND: WeakKeyDictionary[View, dict[Carrier, Places | None]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class OverGenes(Algorithm):
    """Parameters of a question about genes.

    ``genes`` are symbols of the data holders' own gene maps. Qualifying variants are those of class ``consequences``
    whose frequency in the node's own release is at most ``rare_below``, one of ``RARE`` (1: however frequent).
    A node that does not know a gene, has no consequences there, or has so few people that one copy is more than
    ``rare_below`` cannot tell, and its people are not counted for that gene.
    """

    genes: Annotated[tuple[Symbol, ...], msgspec.Meta(min_length=1, max_length=30_000)]
    consequences: Consequences = "loss-of-function"
    rare_below: float = 0.001
    cohort: Cohort = EVERYBODY

    modules: ClassVar[tuple[str, ...]] = ("federome.analysis.gene_carriers", "federome.analysis.cohort_count")

    def __post_init__(self) -> None:
        if len(set(self.genes)) != len(self.genes):
            raise Invalid("a gene is named twice.", where="genes")
        if self.rare_below not in RARE:
            raise Invalid("`rare_below` is not one of its steps.", where="rare_below", remedy=f"Use one of {RARE}.")

    @property
    def reads(self) -> Reads:
        return Reads()

    def tells(self, sites: int) -> float:  # noqa: ARG002
        """Of each gene one number, which tells no more than the frequency of one variant would."""
        return float(len(self.genes))

    def wanted(self, gene: int) -> Carrier:
        """What qualifies in a gene (by number)."""
        terms = CONSEQUENCES[self.consequences]
        return Carrier(gene=self.genes[gene], rare_below=self.rare_below, consequences=terms)

    def told(self, row: int, column: str, among: Mask, places: Places, *, kind: str = "carriers") -> Defined:
        """A cell of the gene in this row that counts people by the question's definition."""
        return Defined(row, column, kind, self.wanted(row), among, places)

    def carriers(self, view: View, genes: Sequence[int]) -> list[Places | None]:
        """Of each gene (by number), where its carriers stand; ``None`` where this node cannot tell."""
        known = _FOUND.setdefault(view, {})
        out = []
        for number in genes:
            wanted = self.wanted(number)
            if wanted not in known:
                known[wanted] = _carriers(view, wanted)
            out.append(known[wanted])
        return out


def tellable(people: int, rare_below: float) -> bool:
    """Whether so many people can tell what is rare: one copy among them must not be more than ``rare_below``."""
    return 2 * people * rare_below >= 1


def _carriers(view: View, wanted: Carrier) -> Places | None:
    if not tellable(view.people, wanted.rare_below):
        return None
    try:
        return np.flatnonzero(view.meets(Cohort(carriers=(wanted,))))
    except Invalid:  # the gene, or what its variants do, is not known here
        return None


@dataclass(frozen=True, eq=False)
class GeneBlock:
    """Genes in the place of variants: one copy where somebody carries, not called where the node cannot tell."""

    question: OverGenes
    genes: tuple[int, ...]

    chromosome: ClassVar[str] = ""

    @property
    def rows(self) -> int:
        """Number of genes."""
        return len(self.genes)

    def counts(self, view: View, groups: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """See ``Block``."""
        out = np.zeros((self.rows, size, 4), np.int64)
        everybody = np.bincount(groups[groups >= 0], minlength=size)
        for row, places in enumerate(self.question.carriers(view, self.genes)):
            if places is None:
                out[row, :, 3] = everybody
                continue
            inside = groups[places]
            out[row, :, 1] = np.bincount(inside[inside >= 0], minlength=size)
            out[row, :, 0] = everybody - out[row, :, 1]
        return out

    def products(self, view: View, weights: NDArray[np.float64]) -> Products:
        """See ``Block``."""
        carried, missing = (np.zeros((self.rows, weights.shape[1])) for _ in range(2))
        for row, places in enumerate(self.question.carriers(view, self.genes)):
            if places is None:
                missing[row] = weights.sum(axis=0)
            else:
                carried[row] = weights[places].sum(axis=0)
        return Products(dosage=carried, missing=missing, double=np.zeros_like(carried))

    def dosages(self, view: View, rows: slice = slice(None)) -> NDArray[np.int8]:
        """See ``Block``."""
        found = self.question.carriers(view, self.genes[rows])
        out = np.zeros((len(found), view.people), np.int8)
        for line, places in zip(out, found, strict=True):
            line[slice(None) if places is None else places] = -1 if places is None else 1
        return out
