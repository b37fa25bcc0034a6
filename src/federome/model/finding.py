"""A variant on somebody's list of candidates, and how alike two of them are: the same change, or only the same gene.

From the strongest: the same variant; another change of the same residue; overlapping losses or gains of a stretch,
whether or not a gene is named; the same class of consequence; the same gene. Two findings that ask for different
inheritance (one copy here, both there) are told to differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from federome.errors import Invalid
from federome.model.variant import Variant, chromosome_name

Tier = Literal["variant", "residue", "stretch", "class", "gene"]
Zygosity = Literal["", "heterozygous", "homozygous", "hemizygous"]
TIERS: Final[tuple[Tier, ...]] = ("variant", "residue", "stretch", "class", "gene")
OVERLAP: Final = 0.5
"""Share of the longer of two stretches that both must cover."""
STEP: Final = 1_000_000
_RESIDUE: Final = re.compile(r"p\.(?:[A-Z*])(\d+)")
_LOSS: Final = frozenset(
    ("frameshift_variant", "stop_gained", "splice_acceptor_variant", "splice_donor_variant", "start_lost")
)
_ALTERING: Final = frozenset(
    ("missense_variant", "inframe_deletion", "inframe_insertion", "protein_altering_variant", "stop_lost")
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One candidate variant: ``variant`` as ``chromosome:position:ref:alt``, or ``stretch`` as
    ``loss|gain chromosome:start-end``, on GRCh38; what it does (``consequence``, a Sequence Ontology term), the change
    of the protein (``p.N215S``), and how many copies.
    """

    gene: str = ""
    variant: str = ""
    stretch: str = ""
    consequence: str = ""
    protein: str = ""
    zygosity: Zygosity = ""

    def __post_init__(self) -> None:
        if not self.gene and not self.stretch:
            raise Invalid("a candidate variant names its gene, or is the loss or gain of a stretch.")
        if self.variant:
            Variant.parse(self.variant)
        if self.stretch:
            _ = self.place

    @property
    def place(self) -> tuple[str, str, int, int]:
        """Of a stretch: loss or gain, chromosome, first and last base."""
        found = re.fullmatch(r"(loss|gain) ([0-9XY]{1,2}):(\d{1,10})-(\d{1,10})", self.stretch)
        if found is None or int(found[3]) > int(found[4]):
            raise Invalid("a stretch is written as loss 7:100-2000 or gain X:5-900.", where="stretch")
        return found[1], chromosome_name(found[2]), int(found[3]), int(found[4])

    @property
    def kind(self) -> str:
        """The class of consequence: loss of function, altered protein, or another that was named; empty if none was."""
        if self.consequence in _LOSS:
            return "loss"
        return "altering" if self.consequence in _ALTERING else self.consequence

    @property
    def keys(self) -> tuple[str, ...]:
        """By what it can be found: its gene, and the megabases that a stretch touches."""
        if not self.stretch:
            return (self.gene,)
        sense, chromosome, first, last = self.place
        megabases = range(first // STEP, last // STEP + 1)
        return (*((self.gene,) if self.gene else ()), *(f"{sense} {chromosome}:{n}" for n in megabases))


def tier(one: Finding, other: Finding) -> Tier | None:
    """The strongest that holds of two findings."""
    if one.variant and other.variant and Variant.parse(one.variant) == Variant.parse(other.variant):
        return "variant"
    same = bool(one.gene) and one.gene == other.gene
    if same and (at := _residue(one)) is not None and at == _residue(other):
        return "residue"
    if one.stretch and other.stretch and _overlap(one, other) >= OVERLAP:
        return "stretch"
    if not same:
        return None
    return "class" if one.kind and one.kind == other.kind else "gene"


def copies(findings: tuple[Finding, ...], gene: str) -> Literal["", "one", "both"]:
    """How many copies of a gene a person's findings hit: both where one is homozygous or hemizygous, or there are two.

    Empty where no zygosity is told. Whether two heterozygous ones lie on different copies is taken for granted.
    """
    told = [each.zygosity for each in findings if each.gene == gene and each.zygosity]
    if not told:
        return ""
    return "both" if len(told) > 1 or told[0] != "heterozygous" else "one"


def _residue(finding: Finding) -> int | None:
    found = _RESIDUE.match(finding.protein)
    return int(found[1]) if found else None


def _overlap(one: Finding, other: Finding) -> float:
    """Share of the longer stretch that both cover; 0 for a loss against a gain."""
    (sense, on, first, last), (their_sense, their_on, start, end) = one.place, other.place
    if (sense, on) != (their_sense, their_on):
        return 0.0
    both = min(last, end) - max(first, start) + 1
    return max(both, 0) / (max(last - first, end - start) + 1)
