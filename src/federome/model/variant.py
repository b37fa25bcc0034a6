"""The canonical variant key, regions and genome bins: how every part of the product names a place in a genome.

A key is assembly, chromosome without prefix, 1-based VCF position, REF and ALT, trimmed; the effect allele is
always ALT. Bins of one megabase give runs over many nodes a common order that names no private variant.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid

Assembly = Literal["GRCh37", "GRCh38"]
ASSEMBLIES: tuple[Assembly, ...] = ("GRCh37", "GRCh38")

# Chromosome classes in genome order. The pseudo-autosomal regions stand apart because men carry two copies there.
CHROMOSOMES: tuple[str, ...] = (*(str(n) for n in range(1, 23)), "PAR1", "X", "PAR2", "Y", "MT")
_ORDER = {name: rank for rank, name in enumerate(CHROMOSOMES)}
BIN_SIZE = 1_000_000
LAST_POSITION = 2**31 - 1  # as in BCF; keeps bins of one chromosome class below those of the next

# Pseudo-autosomal regions of X, 1-based inclusive (Genome Reference Consortium, human genome overview).
_PAR: dict[str, dict[str, tuple[int, int]]] = {
    "GRCh37": {"PAR1": (60_001, 2_699_520), "PAR2": (154_931_044, 155_260_560)},
    "GRCh38": {"PAR1": (10_001, 2_781_479), "PAR2": (155_701_383, 156_030_895)},
}
_ALIASES = {"M": "MT", "23": "X", "24": "Y", "26": "MT", "XY": "X", "25": "X", "PAR1": "X", "PAR2": "X"}
_ALLELE = re.compile(r"[ACGTN]+")
_SPAN = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")
_TEXT = re.compile(
    r"(?:(?P<assembly>GRCh3[78]|hg19|hg38)[:\-])?(?P<chromosome>[A-Za-z0-9]+)[:\-](?P<position>[0-9]{1,10})"
    r"[:\-](?P<ref>[A-Za-z]+)[:\->](?P<alt>[A-Za-z]+)"
)


def assembly_name(text: str) -> Assembly:
    """``GRCh37`` or ``GRCh38`` from any common spelling; ``Invalid`` for anything else."""
    found = {"grch37": "GRCh37", "hg19": "GRCh37", "b37": "GRCh37", "grch38": "GRCh38", "hg38": "GRCh38"}.get(
        text.strip().lower().split(".")[0]
    )
    if found == "GRCh37":
        return "GRCh37"
    if found == "GRCh38":
        return "GRCh38"
    raise Invalid(f"assembly {text[:40]!r} is not known.", remedy="Use GRCh37 or GRCh38.")


def is_position(text: str) -> bool:
    """Whether text is a whole number in ordinary digits that no chromosome's length exceeds by far."""
    return text.isdigit() and len(text) <= 10 and text.isascii()


def chromosome_name(text: str) -> str:
    """The contig's name without prefix (``1`` … ``22``, ``X``, ``Y``, ``MT``); ``Invalid`` for other contigs."""
    name = text.strip()
    name = name[3:] if name[:3].lower() == "chr" else name
    name = _ALIASES.get(name.upper(), name.upper())
    if name not in _ORDER or name.startswith("PAR"):
        raise Invalid(f"contig {text[:40]!r} is not a chromosome this product stores.", remedy="Use 1-22, X, Y or MT.")
    return name


def chromosome_class(chromosome: str, position: int, assembly: Assembly) -> str:
    """The chromosome, or ``PAR1``/``PAR2`` for a position of X inside a pseudo-autosomal region."""
    if chromosome == "X":
        for name, (first, last) in _PAR[assembly].items():
            if first <= position <= last:
                return name
    return chromosome


def chromosome_rank(name: str) -> int:
    """Position of a chromosome class in genome order, for sorting."""
    return _ORDER[name]


def trim(position: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Parsimonious form (Tan, Abecasis & Kang 2015): no shared suffix, then no shared prefix, never an empty allele."""
    while len(ref) > 1 and len(alt) > 1 and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while len(ref) > 1 and len(alt) > 1 and ref[0] == alt[0]:
        position, ref, alt = position + 1, ref[1:], alt[1:]
    return position, ref, alt


@dataclass(frozen=True, slots=True)
class Variant:
    """One alternate allele at one place. Build it with :meth:`of` or :meth:`parse`, which trim and check."""

    assembly: Assembly
    chromosome: str
    position: int
    ref: str
    alt: str

    @classmethod
    def of(cls, assembly: str, chromosome: str, position: int, ref: str, alt: str) -> Variant:
        """Checked and trimmed; raises ``Invalid`` for unknown contigs, positions out of range, symbolic alleles."""
        ref, alt = ref.upper(), alt.upper()
        if not _ALLELE.fullmatch(ref) or not _ALLELE.fullmatch(alt):
            raise Invalid("alleles must be sequences of A, C, G, T or N.", remedy="Symbolic alleles are not keys.")
        if ref == alt:
            raise Invalid("REF and ALT are the same.")
        if not 1 <= position <= LAST_POSITION:
            raise Invalid(f"position {position} is out of range.", remedy="Positions are 1-based, as in VCF.")
        return cls(assembly_name(assembly), chromosome_name(chromosome), *trim(position, ref, alt))

    @classmethod
    def parse(cls, text: str, assembly: str = "GRCh38") -> Variant:
        """From ``[assembly:]chromosome:position:ref:alt`` (``-`` may stand for ``:``, ``>`` between the alleles)."""
        found = _TEXT.fullmatch(text.strip())
        if not found:
            raise Invalid(
                f"{text[:60]!r} is not a variant.",
                remedy="Write chromosome:position:ref:alt, as 19:44908684:T:C.",
            )
        return cls.of(
            found["assembly"] or assembly,
            found["chromosome"],
            int(found["position"]),
            found["ref"],
            found["alt"],
        )

    @property
    def chromosome_class(self) -> str:
        """The chromosome, with ``PAR1``/``PAR2`` told apart from X."""
        return chromosome_class(self.chromosome, self.position, self.assembly)

    @property
    def sort_key(self) -> tuple[int, int, str, str]:
        """Genome order."""
        return _ORDER[self.chromosome_class], self.position, self.ref, self.alt

    def __str__(self) -> str:
        return f"{self.chromosome}:{self.position}:{self.ref}:{self.alt}"


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of one chromosome, 1-based, both ends included."""

    chromosome: str
    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Region:
        """From ``chromosome:start-end`` or a whole ``chromosome``; thousands separators are allowed."""
        name, colon, span = text.strip().partition(":")
        chromosome = chromosome_name(name)
        if not colon:
            return cls(chromosome, 1, LAST_POSITION)
        found = _SPAN.fullmatch(span.replace(",", ""))
        if not found:
            raise Invalid(
                f"{text[:60]!r} is not a region.",
                remedy="Write chromosome:start-end, as 19:44900000-44910000.",
            )
        start, end = int(found[1]), int(found[2] or found[1])
        if start < 1 or end < start:
            raise Invalid(f"region {text[:60]!r} ends before it starts.", remedy="Positions are 1-based, start ≤ end.")
        return cls(chromosome, start, end)

    def holds(self, chromosome: str, position: int) -> bool:
        """Whether a position lies inside."""
        return chromosome == self.chromosome and self.start <= position <= self.end

    def __str__(self) -> str:
        return f"{self.chromosome}:{self.start}-{self.end}"


@dataclass(frozen=True, slots=True, order=True)
class Bin:
    """A megabase of one chromosome class: what a run may say about where a variant lies before it is named."""

    rank: int
    number: int

    @classmethod
    def of(cls, variant: Variant) -> Bin:
        """The bin that holds a variant."""
        return cls(_ORDER[variant.chromosome_class], variant.position // BIN_SIZE)

    @property
    def chromosome_class(self) -> str:
        """Name of the chromosome class."""
        return CHROMOSOMES[self.rank]

    @property
    def code(self) -> int:
        """One integer for columns and wire: rank · 100,000 + number."""
        return self.rank * 100_000 + self.number

    @classmethod
    def from_code(cls, code: int) -> Bin:
        """Inverse of :attr:`code`."""
        rank, number = divmod(int(code), 100_000)
        if not 0 <= rank < len(CHROMOSOMES):
            raise Invalid("a genome bin is out of range.")
        return cls(rank, number)


def oriented(ref: str, alt: str) -> tuple[str, str, bool]:
    """Alleles in the order a run counts them, and whether that swaps REF and ALT.

    Only single bases can have been written the other way round in a file made without a reference; longer alleles
    with REF and ALT exchanged are other variants.
    """
    if len(ref) == 1 and len(alt) == 1 and ref > alt:
        return alt, ref, True
    return ref, alt, False


def token(key: bytes, chromosome: str, position: int, ref: str, alt: str) -> int:
    """64-bit keyed name of a variant in one run (BLAKE2b, RFC 7693), equal for both orientations of single bases.

    The key is shared by the nodes of the run and unknown to the hub, so a token says nothing to whom routes it.
    """
    first, second, _ = oriented(ref, alt)
    text = f"{chromosome}:{position}:{first}:{second}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=key).digest(), "little")


def tokens(
    key: bytes, chromosome: str, positions: Iterable[int], refs: Iterable[str], alts: Iterable[str]
) -> NDArray[np.uint64]:
    """Tokens of many variants of one chromosome, in the order given."""
    blake = hashlib.blake2b
    out = bytearray()
    for position, ref, alt in zip(positions, refs, alts, strict=True):
        if len(ref) == 1 and len(alt) == 1 and ref > alt:
            ref, alt = alt, ref
        out += blake(f"{chromosome}:{position}:{ref}:{alt}".encode(), digest_size=8, key=key).digest()
    return np.frombuffer(bytes(out), dtype="<u8").astype(np.uint64, copy=False)
