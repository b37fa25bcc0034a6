"""What tests of a status on genes share: parameters, and the null model of ``gwas_logistic`` that they start from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import msgspec

from federome.analysis.algorithm import Reads, View
from federome.analysis.covariates import Complete
from federome.analysis.gene_carriers import OverGenes
from federome.analysis.gwas import ColumnName
from federome.analysis.gwas_logistic import GwasLogistic
from federome.model.table import Mask


@dataclass(frozen=True, kw_only=True)
class StatusOverGenes(OverGenes):
    """Parameters of a question whether genes move ``phenotype``, a status of 1 or 0, given covariates.

    ``complete`` as in ``gwas-logistic``.
    """

    phenotype: ColumnName
    covariates: Annotated[tuple[ColumnName, ...], msgspec.Meta(max_length=100)] = ("age", "male")
    complete: Complete = ()
    site_intercepts: bool = True
    unrelated: bool = True

    modules: ClassVar[tuple[str, ...]] = (
        *OverGenes.modules,
        *GwasLogistic.modules,
        "federome.analysis.gwas_logistic",
        "federome.analysis.gene_status",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.model  # raises Invalid where a column is named twice

    def estimates(self, nodes: int) -> int:
        return self.model.estimates(nodes)

    def analysed(self, view: View) -> Iterator[Mask]:
        """As of the question about variants."""
        yield from self.model.analysed(view)

    def taking_part(self, view: View) -> tuple[View, Mask]:
        """The people whose records enter, as a view of their own, and who of this view they are."""
        members = next(self.analysed(view))
        people = self.model.people(view).view
        return people if people.people == members.sum() else view.where(members), members

    @property
    def model(self) -> GwasLogistic:
        """The same question about variants: its null model and its sums are used."""
        return GwasLogistic(
            phenotype=self.phenotype,
            covariates=self.covariates,
            cohort=self.cohort,
            complete=self.complete,
            site_intercepts=self.site_intercepts,
            unrelated=self.unrelated,
        )

    @property
    def reads(self) -> Reads:
        return Reads(columns=self.model.reads.columns)
