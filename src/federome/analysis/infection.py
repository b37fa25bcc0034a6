"""Who fell severely ill of an infection that most people get over, and carries a rare variant that may explain it.

Terms say little here (severe pneumonia is no syndrome), so the gene decides: a rare qualifying variant in a gene of the
list, in the number of copies that its inheritance asks for (one, in a man, on X; two variants do for both), in an age
band, above a severity, inside a window of time and place. Relatives who share a variant are one observation, however
many they are.

Genes and inheritance: inborn errors of type I interferon immunity in severe COVID-19 (Zhang et al. 2020,
doi:10.1126/science.abd4570; TLR7: van der Made et al. 2020, doi:10.1001/jama.2020.13719).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from federome.errors import Invalid

Zygosity = Literal["heterozygous", "homozygous", "hemizygous"]
Inheritance = Literal["X-linked", "recessive", "dominant"]
Sex = Literal["male", "female", ""]
GENES: Final[Mapping[str, Inheritance]] = {
    "TLR7": "X-linked",
    "IFNAR1": "recessive",
    "IFNAR2": "recessive",
    "IRF7": "recessive",
    "TLR3": "dominant",
    "UNC93B1": "dominant",
    "TICAM1": "dominant",
    "TBK1": "dominant",
    "IRF3": "dominant",
}


@dataclass(frozen=True)
class Hit:
    """A rare variant of consequence: its gene, how many copies, and how frequent it is in the population."""

    gene: str
    zygosity: Zygosity
    frequency: float = 0.0


@dataclass(frozen=True)
class Admission:
    """What the rule looks at. ``severity`` is the WHO clinical progression scale (0 to 10; 6 is oxygen by high flow),
    ``day`` counts days since 1970, ``place`` is a region's name, both of admission.
    """

    sex: Sex
    age: float
    severity: int
    day: int
    place: str = ""
    hits: tuple[Hit, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.severity <= 10 or not 0 <= self.age <= 120:
            raise Invalid("severity lies between 0 and 10, age between 0 and 120.", where="admission")


@dataclass(frozen=True)
class Rule:
    """The alert rule. An empty list of places is anywhere; the age band has both ends in it."""

    genes: Mapping[str, Inheritance] = field(default_factory=lambda: GENES)
    rarest: float = 1e-3
    youngest: float = 0.0
    oldest: float = 60.0
    severity: int = 6
    days: int = 365
    places: tuple[str, ...] = ()

    def explains(self, admission: Admission) -> tuple[str, ...]:
        """Genes of the list that may explain this admission; none where it is not one that the rule is about."""
        if admission.severity < self.severity or not self.youngest <= admission.age <= self.oldest:
            return ()
        if self.places and admission.place not in self.places:
            return ()
        rare: dict[str, list[Zygosity]] = {}
        for hit in admission.hits:
            if hit.frequency <= self.rarest:
                rare.setdefault(hit.gene, []).append(hit.zygosity)
        return tuple(sorted(gene for gene, hits in rare.items() if self._counts(gene, hits, admission.sex)))

    def _counts(self, gene: str, hits: Sequence[Zygosity], sex: Sex) -> bool:
        """Whether the hits of one gene are as many copies as its inheritance asks for.

        Two variants of one copy each may lie on both chromosomes or on one: which is seldom known, and they count.
        """
        both = "homozygous" in hits or hits.count("heterozygous") > 1
        match self.genes.get(gene):
            case "X-linked" if sex == "male":  # one-copy genotypes may be written either way
                return "hemizygous" in hits or "homozygous" in hits
            case "X-linked":
                return both or ("hemizygous" in hits and sex != "female")
            case "recessive":
                return both
            case "dominant":
                return True
        return False

    def alike(self, one: Admission, other: Admission) -> tuple[str, ...]:
        """Genes that may explain both, admitted within the window."""
        if abs(one.day - other.day) > self.days:
            return ()
        return tuple(sorted(set(self.explains(one)) & set(self.explains(other))))
