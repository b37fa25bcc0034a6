"""Where variants are looked for, and of which kind: what a question about variants comes down to.

Faces read it out of what people ask; published tables and the store answer it, so that both mean the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from federome.model.variant import LAST_POSITION

TYPES: Final = ("SNP", "MNP", "DEL", "INS", "DELINS")
NO_LIMIT: Final = LAST_POSITION + 1


def variant_type(ref: str, alt: str) -> str:
    """SNP, MNP, DEL, INS or DELINS, of trimmed alleles in VCF's form."""
    if len(ref) == len(alt):
        return "SNP" if len(ref) == 1 else "MNP"
    if len(alt) == 1 and ref[0] == alt:
        return "DEL"
    return "INS" if len(ref) == 1 and alt[0] == ref else "DELINS"


@dataclass(frozen=True)
class Span:
    """A chromosome and bases ``first`` to ``last`` (1-based, both included) that a variant must touch.

    ``starts`` and ``ends`` narrow where a variant itself may start and end; ``ref`` and ``alt`` are alleles in VCF's
    form that must be equal, ``replaced`` and ``inserted`` the same without VCF's base in front; ``types`` and lengths
    (of the longer allele) must fit. ``change`` is what it must do to a protein (``p.V600E``), of ``gene`` where that is
    given; alleles do not say that, so whoever holds annotations compares it beside :meth:`holds`.
    """

    chromosome: str
    first: int = 1
    last: int = LAST_POSITION
    starts: tuple[int, int] | None = None
    ends: tuple[int, int] | None = None
    ref: str | None = None
    alt: str | None = None
    replaced: str | None = None
    inserted: str | None = None
    types: frozenset[str] = frozenset()
    shortest: int = 0
    longest: int = NO_LIMIT
    change: str = ""
    gene: str = ""

    def changes(self, effects: Iterable[tuple[str, str]]) -> bool:
        """Whether a variant of these effects (gene and term) does to a protein what is looked for."""
        return any(term == self.change and self.gene in ("", gene.upper()) for gene, term in effects)

    @property
    def spells(self) -> bool:
        """Whether it says anything about alleles themselves."""
        return any(each is not None for each in (self.ref, self.alt, self.replaced, self.inserted))

    def holds(self, position: int, ref: str, alt: str) -> bool:
        """Whether a variant of this chromosome is one of those looked for."""
        last = position + len(ref) - 1
        return (
            last >= self.first
            and position <= self.last
            and (self.starts is None or self.starts[0] <= position <= self.starts[1])
            and (self.ends is None or self.ends[0] <= last <= self.ends[1])
            and (not self.types or variant_type(ref, alt) in self.types)
            and self.shortest <= max(len(ref), len(alt)) <= self.longest
            and self.spelled(ref, alt)
        )

    def spelled(self, ref: str, alt: str) -> bool:
        """Whether alleles fit: ``N`` stands for any base."""
        if not _like(ref, self.ref) or not _like(alt, self.alt):
            return False
        if self.replaced is None and self.inserted is None:
            return True
        shared = ref[0] == alt[0] and len(ref) != len(alt)
        plain_ref, plain_alt = (ref[1:], alt[1:]) if shared else (ref, alt)
        return _like(plain_ref, self.replaced) and _like(plain_alt, self.inserted)


def _like(bases: str, wanted: str | None) -> bool:
    if wanted is None or wanted == "N" or bases == wanted:
        return True
    return (
        "N" in wanted and len(wanted) == len(bases) and all(w in ("N", b) for w, b in zip(wanted, bases, strict=True))
    )
