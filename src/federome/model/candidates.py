"""Candidate variants as documents have them, read into findings: our own form, and the Matchmaker Exchange's.

What cannot be compared is named: a variant on another assembly, one that is written otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from federome.errors import Invalid
from federome.model.finding import Finding, Zygosity
from federome.model.genes import approved
from federome.model.protein import protein_change

ASSEMBLY: Final = "GRCh38"
EFFECTS: Final = {
    "SO:0001574": "splice_acceptor_variant",
    "SO:0001575": "splice_donor_variant",
    "SO:0001583": "missense_variant",
    "SO:0001587": "stop_gained",
    "SO:0001589": "frameshift_variant",
    "SO:0002012": "start_lost",
}
"""Terms of the Sequence Ontology that the exchange tells by number."""


class Named(msgspec.Struct):
    """Whatever has an id."""

    id: str


class Placed(msgspec.Struct):
    """A variant of the exchange; ``start`` counts from 0."""

    assembly: str
    referenceName: str = ""  # noqa: N815
    start: int = -1
    referenceBases: str = ""  # noqa: N815
    alternateBases: str = ""  # noqa: N815


class Genomic(msgspec.Struct):
    """A genomic feature of the exchange."""

    gene: Named
    variant: Placed | None = None
    zygosity: int | None = None
    type: Named | None = None


class Candidate(msgspec.Struct):
    """A candidate variant in our own form: see :class:`~federome.model.finding.Finding`."""

    gene: str = ""
    variant: str = ""
    assembly: str = "GRCh38"
    stretch: str = ""
    consequence: str = ""
    protein: str = ""
    zygosity: Zygosity = ""


def exchanged_findings(features: object) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Candidate variants of a patient's genomic features in the exchange's form, and what of them was left out."""
    found, notes = findings_of([exchanged(each) for each in msgspec.convert(features or [], list[Genomic])])
    return found, tuple(notes)


def findings_of(candidates: Sequence[Candidate]) -> tuple[tuple[Finding, ...], list[str]]:
    """What can be compared, and what was left out: other assemblies, and what is not written as a variant."""
    found, notes = [], []
    for each in candidates:
        place, stretch = each.variant, each.stretch
        if (place or stretch) and not each.assembly.startswith(ASSEMBLY):
            notes.append(f"a variant on {each.assembly[:20]} was left out: variants are compared on {ASSEMBLY}")
            place = stretch = ""
        gene = "".join(approved([each.gene])[0]) if each.gene else ""
        try:
            protein = protein_change(each.protein) if each.protein else ""
            made = Finding(gene, place, stretch, each.consequence[:60], protein, each.zygosity)
        except Invalid:  # its words are a patient's, and are not repeated
            notes.append("a candidate variant was left out: its place or its protein change is not written as one")
            continue
        if made != Finding(gene or "none"):  # more than the gene, which is on the list anyhow
            found.append(made)
    return tuple(dict.fromkeys(found)), notes


def exchanged(feature: Genomic) -> Candidate:
    """A genomic feature of the exchange, whose places count from 0."""
    at, variant = feature.variant, ""
    if at is not None and at.referenceName and at.start >= 0 and at.referenceBases and at.alternateBases:
        variant = f"{at.referenceName}:{at.start + 1}:{at.referenceBases}:{at.alternateBases}"
    zygosity: Zygosity = {1: "heterozygous", 2: "homozygous"}.get(feature.zygosity or 0, "")  # type: ignore[assignment]
    consequence = EFFECTS.get(feature.type.id, "") if feature.type else ""
    return Candidate(feature.gene.id, variant, at.assembly if at else ASSEMBLY, "", consequence, "", zygosity)
