"""Criteria that pick people: a small frozen language that users write, permits limit and each node compiles.

A cohort is described by what is asked; which people that means is decided at each node when it freezes the cohort.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec

from federome.errors import Invalid

Sex = Literal["female", "male"]
MAX_ALTERNATIVES: Final = 200


@dataclass(frozen=True, slots=True)
class AgeBand:
    """Ages in completed years at the data release, both ends included."""

    low: Annotated[int, msgspec.Meta(ge=0, le=130)] = 0
    high: Annotated[int, msgspec.Meta(ge=0, le=130)] = 130


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """People with a code (``present``) or known without it; descendants of the code in its ontology count.

    The code is a diagnosis of ICD-10 (plain, or after ``ICD10:``), a phenotype (``HP:``) or a drug taken (``ATC:``).
    """

    code: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    descendants: bool = True
    present: bool = True


@dataclass(frozen=True, slots=True)
class Measurement:
    """People whose measurement (column of the phenotype store, unit in its name) lies in a closed range."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class AnyOf:
    """People of whom at least one of these is known to hold; or, with ``present`` false, is known of each not to.

    Of whom one holds, that is enough, whatever is not known of the others.
    """

    diagnoses: tuple[Diagnosis, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    present: bool = True

    def __post_init__(self) -> None:
        if not 0 < len(self.diagnoses) + len(self.measurements) <= MAX_ALTERNATIVES:
            raise Invalid(
                "one of several conditions needs some.", where="any_of", remedy=f"Give 1 to {MAX_ALTERNATIVES}."
            )


@dataclass(frozen=True, slots=True)
class Carrier:
    """People with at least one alternate allele of a variant, or of any rare variant in a gene or region.

    ``rare_below`` is the largest frequency in the node's release that still counts as rare; it applies to genes and
    regions only. ``consequences`` restricts to variants annotated with one of these Sequence Ontology terms.
    """

    variant: str = ""
    gene: str = ""
    region: str = ""
    rare_below: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.01
    consequences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cohort:
    """All conditions must hold. An empty cohort is everybody whom permit and consent admit."""

    sex: Sex | None = None
    age: AgeBand | None = None
    populations: tuple[str, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    carriers: tuple[Carrier, ...] = field(default_factory=tuple)
    any_of: tuple[AnyOf, ...] = ()
