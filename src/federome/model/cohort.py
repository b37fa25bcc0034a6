"""Criteria that pick people: a small frozen language that users write, permits limit and each node compiles.

A cohort is described by what is asked; which people that means is decided at each node when it freezes the cohort.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

Sex = Literal["female", "male"]


@dataclass(frozen=True, slots=True)
class AgeBand:
    """Ages in completed years at the data release, both ends included."""

    low: Annotated[int, msgspec.Meta(ge=0, le=130)] = 0
    high: Annotated[int, msgspec.Meta(ge=0, le=130)] = 130


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """People with a diagnosis (``present``) or known without it; descendants of the code in its ontology count."""

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
