"""Who is a case and who a control: by a 0/1 column, by a diagnosis, or by the criteria of a case definition.

Whoever is known to be neither, or is not known, has no status. A column is the data holder's; criteria are the
question's own, so that two questions could be about cases who differ by one person. The cases are therefore told of
like a cohort of their own, which the node compares with all earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from federome.analysis.algorithm import View
from federome.analysis.regression import Floats
from federome.errors import Invalid
from federome.model.cohort import Cohort, Diagnosis
from federome.model.table import Mask
from federome.model.wording import canonical


@dataclass(frozen=True)
class Status:
    """One source of a status: ``phenotype``, ``diagnosis`` (people who have it or one of its descendants, and people
    known not to), or ``cases`` and ``controls``. Raises ``Invalid`` for none or several.
    """

    phenotype: str = ""
    diagnosis: str = ""
    cases: Cohort | None = None
    controls: Cohort | None = None

    def __post_init__(self) -> None:
        given = (self.phenotype, self.diagnosis, self.cases or self.controls)
        if sum(map(bool, given)) != 1 or (self.cases is None) != (self.controls is None):
            raise Invalid(
                "a case-control status is needed, from one source.",
                where="phenotype",
                remedy="Name a 0/1 column `phenotype`, a code as `diagnosis`, or criteria as `cases` and `controls`.",
            )
        for name, criteria in (("cases", self.cases), ("controls", self.controls)):
            if criteria is not None and (criteria == Cohort() or criteria.carriers):
                raise Invalid(
                    "a status has criteria, and none of them is a genotype.",
                    where=name,
                    remedy="Name diagnoses or measurements; carriers belong into the cohort.",
                )

    @property
    def criteria(self) -> tuple[Cohort, Cohort] | None:
        """Of cases and of controls; nothing for a column."""
        if self.cases is not None and self.controls is not None:
            return self.cases, self.controls
        if self.diagnosis:
            has, lacks = (Cohort(diagnoses=(Diagnosis(self.diagnosis, present=present),)) for present in (True, False))
            return has, lacks
        return None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it is read from."""
        if self.phenotype:
            return (self.phenotype,)
        return ("diagnoses",) if self.diagnosis else ()

    def of(self, view: View) -> Floats:
        """Each person's status, 1 or 0, NaN where there is none."""
        if self.criteria is not None:
            case, control = (view.meets(criteria) for criteria in self.criteria)
            return np.select([case & ~control, control & ~case], [1.0, 0.0], np.nan)
        values = view.numbers(self.phenotype)
        if np.any(np.isfinite(values) & (values != 0) & (values != 1)):
            raise Invalid(
                f"{self.phenotype!r} holds other values than 0 and 1.",
                where="phenotype",
                remedy="A status is 0 or 1; gwas-linear is for quantitative traits.",
            )
        return values

    def told_of(self, view: View) -> Iterator[Mask]:
        """The cases by criteria: those of a column are the same whatever is asked."""
        if self.criteria is not None:
            yield self.of(view) == 1

    def told_as(self, cohort: Cohort) -> Iterator[tuple[Cohort, str]]:
        """Their words: the cohort with the cases' conditions. That they are no controls is one, but for a diagnosis,
        which nobody has and lacks; so is what a cohort may name once only.
        """
        if self.criteria is None:
            return
        cases, controls = self.criteria
        once = Cohort(sex=cases.sex, age=cases.age, populations=cases.populations)
        also = [f"also {canonical(once)}"] * (once != Cohort())
        also += [f"not {canonical(controls)}"] * (not self.diagnosis)
        yield (
            replace(
                cohort,
                diagnoses=(*cohort.diagnoses, *cases.diagnoses),
                measurements=(*cohort.measurements, *cases.measurements),
                any_of=(*cohort.any_of, *cases.any_of),
            ),
            " ".join(also),
        )
