"""``tumour-alterations``: in how many tumours each gene is altered, of those in which it was sequenced, by group.

The matrix that cancer portals draw of single patients, here of aggregates: one gated sum of counts. A gene outside the
panel of a tumour counts neither as altered nor as unaltered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.analysis.cohort_count import EVERYBODY, label_codes
from federome.analysis.covariates import Name, Optional
from federome.errors import Invalid
from federome.model.cohort import Cohort
from federome.model.release import ALL, Count, Identity, Label, Ratio, Round, Rows
from federome.model.table import Column, Mask

Gene = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{1,20}$")]
_COUNTS = {"sequenced": Count(people=True), "altered": Count(people=True)}
_UNALTERED: tuple[Identity, ...] = ({"altered": 1, "sequenced": -1, "unaltered": 1},)


@algorithm("tumour-alterations", "1.0")
@dataclass(frozen=True, kw_only=True)
class TumourAlterations(Algorithm):
    """Share of tumours with each of the ``genes`` altered, in all or in each of the ``groups`` of a text column ``by``.

    ``acquired`` counts alterations that came under treatment instead. Tumours lie in the columns ``tumour_genes``,
    ``tumour_acquired`` and ``tumour_panel``, lists with ``;`` (see the page on tumours). The few with an alteration and
    the few without one are withheld alike.
    """

    genes: Annotated[tuple[Gene, ...], msgspec.Meta(min_length=1, max_length=500)]
    by: Optional = ""
    groups: Annotated[tuple[Name, ...], msgspec.Meta(max_length=50)] = ()
    acquired: bool = False
    cohort: Cohort = EVERYBODY

    modules: ClassVar[tuple[str, ...]] = ("federome.analysis.cohort_count", "federome.analysis.covariates")
    rounds: ClassVar[tuple[Round, ...]] = (
        Round("count", scope="people", totals=Rows(_COUNTS, identities=_UNALTERED), gated=True),
    )
    releases: ClassVar[Mapping[str, Rows]] = {
        "alterations": Rows(
            {"gene": Label(), "group": Label(), **_COUNTS, "share": Ratio("altered", "sequenced")},
            key=("gene", "group"),
            identities=_UNALTERED,
        )
    }

    def __post_init__(self) -> None:
        if len(set(self.genes)) != len(self.genes):
            raise Invalid("a gene is named twice.", where="genes")
        if bool(self.by) != bool(self.groups) or len(set(self.groups)) != len(self.groups):
            raise Invalid(
                "groups are listed, each once, if and only if a column says who is in which.",
                where="groups",
                remedy="Name the groups that get a column; nodes must agree on them.",
            )

    @property
    def reads(self) -> Reads:
        return Reads((self._altered, "tumour_panel", *filter(None, (self.by,))))

    @property
    def _altered(self) -> str:
        return "tumour_acquired" if self.acquired else "tumour_genes"

    @property
    def _names(self) -> tuple[str, ...]:
        return self.groups or (ALL,)

    def _cells(self, view: View) -> Iterator[tuple[Mask, Mask]]:
        """Who is sequenced, and who altered, for each gene and group in turn, (people,) each."""
        group = label_codes(view.labels(self.by), self.groups) if self.by else np.zeros(view.people, np.int64)
        panels, changes = (_sets(view.labels(name).tolist()) for name in ("tumour_panel", self._altered))
        for gene in self.genes:
            sequenced = np.array([gene in each for each in panels], np.bool_)
            altered = sequenced & np.array([gene in each for each in changes], np.bool_)
            for at in range(len(self._names)):
                yield sequenced & (group == at), altered & (group == at)

    def told_of(self, view: View) -> Iterator[Mask]:
        """Those sequenced, and those altered, of every cell."""
        for cell in self._cells(view):
            yield from cell

    def told_as(self) -> Iterator[tuple[Cohort | None, str]]:
        """A panel reads many genes: those sequenced for each have the same words."""
        for gene, group in product(self.genes, self._names):
            named = f"{self.by} is {group!r}"
            yield self.cohort, f"sequenced, {named}"
            yield self.cohort, f"{self._altered} has {gene}, {named}"

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        counts = np.array([[int(mask.sum()) for mask in cell] for cell in self._cells(view)], np.int64)
        return Table({"sequenced": counts[:, 0], "altered": counts[:, 1]})

    def step(self, state: State, total: Table) -> State:
        return state.to(DONE, kept=total)

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        assert state.kept is not None
        size = len(self.genes) * len(self._names)
        row = state.kept.ints("row")
        columns: dict[str, Column] = {
            "gene": np.repeat(np.array(self.genes, np.str_), len(self._names)),
            "group": np.tile(np.array(self._names, np.str_), len(self.genes)),
        }
        withheld: dict[str, Mask] = {}
        for name in _COUNTS:
            hidden = np.ones(size, np.bool_)
            hidden[row] = state.kept.withheld.get(name, np.zeros(len(row), np.bool_))
            counts = np.zeros(size, np.int64)
            counts[row] = state.kept.ints(name)
            columns[name], withheld[name] = np.where(hidden, 0, counts), hidden
        either = withheld["sequenced"] | withheld["altered"]
        altered, sequenced = (np.asarray(columns[name], np.float64) for name in ("altered", "sequenced"))
        columns["share"] = np.where(either, 0.0, altered / np.maximum(sequenced, 1))
        return {"alterations": Table(columns, {**withheld, "share": either})}


def _sets(texts: list[str]) -> list[frozenset[str]]:
    """Lists with ``;`` as sets; texts alike are split once."""
    known = {text: frozenset(text.split(";")) for text in set(texts)}
    return [known[text] for text in texts]
