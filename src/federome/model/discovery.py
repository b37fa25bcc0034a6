"""Questions about how many people there are: a small frozen language between a face and the node that holds them.

A face (Beacon) reads it out of what people ask; the node's desk (``network/discovery.py``) answers it. Truth is
three-valued: who is not known to meet a criterion is not known to fail it either, so that NOT never counts the unknown.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from federome.model.span import Span
from federome.model.variant import Assembly

Operator = Literal["=", "<", ">", "!", ">=", "<="]
Similarity = Literal["exact", "high", "medium", "low"]
Tier = Literal["public", "registered", "controlled"]
Kind = Literal["codes", "number", "text"]
ONSET = "age_of_onset"
"""Years from birth to the first diagnosis, of the two columns that hold them."""
DISEASES = "disease_terms"
"""Diagnoses in ontologies other than ICD-10, each with its prefix: what an imported Beacon may hold."""
COLUMNS: dict[str, Kind] = {
    "diagnosis_icd10": "codes",
    DISEASES: "codes",
    "hpo_terms": "codes",
    "medication_atc": "codes",
    "age": "number",
    ONSET: "number",
    "bmi_kg_m2": "number",
    "ldl_c_mmol_l": "number",
    "sbp_mmhg": "number",
    "dbp_mmhg": "number",
    "hba1c_mmol_mol": "number",
    "creatinine_umol_l": "number",
    "sequence_mean_depth": "number",
    "sex": "text",
    "administrative_gender": "text",
    "population": "text",
    "country_of_origin": "text",
    "ancestry": "text",
    "case_status": "text",
    "smoking": "text",
    "sample_organism": "text",
    "sample_anatomical_location": "text",
    "sample_biospecimen_type": "text",
    "sequence_target": "text",
    "sequence_platform": "text",
    "sequence_reference_genome": "text",
}
"""What may be asked of people, by column of the minimal dataset; ``age`` is that on the day of the data release."""
NEEDS: dict[str, tuple[str, ...]] = {"age": ("birth_year",), ONSET: ("diagnosis_year", "birth_year"), "sex": ()}
"""Stored columns behind those that are computed, where they are not stored themselves."""
SIMILAR: dict[Similarity, float] = {"exact": 1.0, "high": 0.75, "medium": 0.5, "low": 0.25}
"""Least share of common ancestors (Jaccard index over both terms' ancestors, themselves included)."""


class Coded(msgspec.Struct, frozen=True, tag=True):
    """With a term in one of these columns: itself, what lies below it, and what is similar enough."""

    term: str
    columns: tuple[str, ...]
    descendants: bool = True
    similarity: Similarity = "exact"


class Measured(msgspec.Struct, frozen=True, tag=True):
    """A number of a column, in the column's own unit."""

    column: str
    operator: Operator
    value: float


class Worded(msgspec.Struct, frozen=True, tag=True):
    """A text of a column; ``%`` stands for any characters."""

    column: str
    pattern: str


class Every(msgspec.Struct, frozen=True, tag=True):
    """All of these; with none, everybody."""

    of: tuple[Criterion, ...] = ()


class Some(msgspec.Struct, frozen=True, tag=True):
    """At least one of these."""

    of: tuple[Criterion, ...]


class Not(msgspec.Struct, frozen=True, tag=True):
    """Known not to meet it."""

    of: Criterion


Criterion = Coded | Measured | Worded | Every | Some | Not


class Guest(msgspec.Struct, frozen=True):
    """Who asks, as proven: ``account`` is whose budget pays, ``datasets`` those they hold a grant for."""

    account: str = "public"
    registered: bool = False
    datasets: frozenset[str] = frozenset()

    def may(self, tier: Tier, dataset: str) -> bool:
        """Whether answers of this tier are for them."""
        return tier == "public" or dataset in self.datasets or (tier == "registered" and self.registered)


class Sought(msgspec.Struct, frozen=True):
    """One question to one dataset: who meets the criterion and, with ``spans``, carries a variant of them.

    ``person`` limits it to one person of an open dataset, by their id there.
    """

    dataset: str
    criterion: Criterion = Every()
    spans: tuple[Span, ...] | None = None
    guest: Guest = Guest()
    person: str | None = None


class Counted(msgspec.Struct, frozen=True):
    """How many, as far as it may be told. ``step`` is what it was rounded to, 1 for exact numbers; where fewer than
    ``floor`` people are meant ``count`` is 0 and ``few`` is set, which says nothing about whether it is none.
    """

    count: int
    step: int = 1
    floor: int = 0
    few: bool = False


class Person(msgspec.Struct, frozen=True):
    """One person of an open dataset: values by column, what is unknown left out."""

    id: str
    values: dict[str, str | float | list[str]]


class Carried(msgspec.Struct, frozen=True):
    """A variant that enough of the people meant carry."""

    chromosome: str
    position: int
    ref: str
    alt: str
    people: Counted
    effects: tuple[tuple[str, str], ...] = ()  # gene and consequence, or gene and change of its protein


class Term(msgspec.Struct, frozen=True):
    """A code that enough people have, and the column that holds it."""

    id: str
    column: str
    label: str = ""


class Room(msgspec.Struct, frozen=True):
    """What can be asked of one dataset. ``people`` is rounded unless the data are open; ``columns`` names the kind of
    each column: ``codes``, ``number`` or ``text``.
    """

    dataset: str
    node: str
    title: str
    holder: str
    assembly: Assembly
    release: str
    released_on: str
    tier: Tier
    people: int
    floor: int
    open_data: bool
    synthetic: bool
    permission: str
    columns: dict[str, Kind]
    terms: tuple[Term, ...] = ()
    genes: tuple[tuple[str, str, int, int], ...] = ()
