"""Definitions of named alleles, and what a person has at the sites that define them.

A site has numbered alleles (0 is REF, the others its ALTs); a named allele says at each site which of them it accepts,
as bits. Where an allele says nothing it has the reference allele's base. Codes and bits make the matcher fast and let
equal genotypes of many people be counted once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

MISSING, OTHER, NO_COPY = -1, -2, -3
"""Codes beside the numbered alleles: not called, an allele no table knows, and no second copy (X in men, MT)."""

UNPHASED, PHASED = -1, 0
"""Phase of a site: unknown, or known and of one block with all others; numbers above are phase sets."""

IUPAC: Mapping[str, str] = {
    "R": "AG",
    "Y": "CT",
    "S": "CG",
    "W": "AT",
    "K": "GT",
    "M": "AC",
    "B": "CGT",
    "D": "AGT",
    "H": "ACT",
    "V": "ACG",
    "N": "ACGT",
}
"""Wobbles (IUPAC nucleotide codes, Cornish-Bowden 1985)."""


@dataclass(frozen=True, slots=True)
class Site:
    """A place on GRCh38 with its alleles as a VCF writes them; ``position37`` and ``ref37`` are 0 and "" if unknown."""

    rsid: str
    chromosome: str
    position: int
    ref: str
    alts: tuple[str, ...]
    hgvs: str = ""
    position37: int = 0
    ref37: str = ""

    @property
    def alleles(self) -> tuple[str, ...]:
        """REF, then the ALTs; a genotype's code is the place in here."""
        return (self.ref, *self.alts)

    @property
    def label(self) -> str:
        """What people call the site."""
        return self.rsid or f"{self.chromosome}:{self.position}"

    def change(self, code: int) -> str:
        """A variant in words of the genome, as g.94781859G>A."""
        return f"g.{self.position}{self.ref}>{self.alleles[code]}"


@dataclass(frozen=True, slots=True)
class NamedAllele:
    """One row of a definition table: the base or wobble at each site of the gene, ``None`` where it says nothing.

    ``whole`` alleles (the reference, and CYP2C19*1) count every available site when they match, others only their own.
    """

    name: str
    bases: tuple[str | None, ...]
    reference: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Gene:
    """A gene's sites and named alleles, with the exceptions that hold for it."""

    name: str
    chromosome: str
    sites: tuple[Site, ...]
    alleles: tuple[NamedAllele, ...]
    required: frozenset[int] = frozenset()
    ignored: frozenset[str] = frozenset()
    suballeles: Mapping[str, str] = field(default_factory=dict)
    priorities: Mapping[frozenset[str], str] = field(default_factory=dict)
    extra: tuple[Site, ...] = ()
    unknown_is_reference: bool = False
    lowest_function: bool = False
    version: str = ""

    @cached_property
    def reference(self) -> NamedAllele:
        """The allele of the reference sequence."""
        return next(allele for allele in self.alleles if allele.reference)

    @cached_property
    def reference_name(self) -> str:
        """Its name."""
        return self.reference.name

    @cached_property
    def accepts(self) -> NDArray[np.int64]:
        """Bits of the accepted codes, (alleles, sites)."""
        rows = [
            [
                _bits(site, base if base is not None else default)
                for site, base, default in zip(self.sites, allele.bases, self.reference.bases, strict=True)
            ]
            for allele in self.alleles
        ]
        return np.array(rows, np.int64).reshape(len(self.alleles), len(self.sites))

    @cached_property
    def core(self) -> NDArray[np.bool_]:
        """Which sites define an allele, (alleles, sites); every one for whole alleles."""
        rows = [[allele.whole or base is not None for base in allele.bases] for allele in self.alleles]
        return np.array(rows, np.bool_).reshape(len(self.alleles), len(self.sites))

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """Which alleles are not ignored, (alleles,)."""
        return np.array([allele.name not in self.ignored for allele in self.alleles])

    @cached_property
    def told_by(self) -> tuple[frozenset[int], ...]:
        """For each site the alleles that differ from the reference there."""
        return tuple(
            frozenset(index for index, sites in enumerate(self.differs) if number in sites)
            for number in range(len(self.sites))
        )

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Where a site is, by rsID and by ``chromosome:position``."""
        found = {site.rsid: index for index, site in enumerate(self.sites) if site.rsid}
        return found | {f"{site.chromosome}:{site.position}": index for index, site in enumerate(self.sites)}

    @cached_property
    def order(self) -> Mapping[str, int]:
        """The place of each allele name in the definition, the reference first."""
        order: dict[str, int] = {self.reference_name: 0}
        for allele in self.alleles:
            for name in (allele.name, self.suballeles.get(allele.name, allele.name)):
                order.setdefault(name, len(order))
        return order

    @cached_property
    def differs(self) -> tuple[frozenset[int], ...]:
        """For each allele its own sites at which it differs from the reference."""
        reference = self.accepts[self.alleles.index(self.reference)]
        rows = (self.accepts != reference) & self.core
        return tuple(frozenset(np.flatnonzero(row).tolist()) for row in rows)


def _bits(site: Site, base: str | None) -> int:
    if base is None:
        return -1  # accepts everything: nothing is known
    if base in site.alleles:
        return 1 << site.alleles.index(base)
    wanted = IUPAC.get(base, "")
    return sum(1 << code for code, allele in enumerate(site.alleles) if allele in wanted and len(allele) == 1)


@dataclass(frozen=True, slots=True)
class Genotype:
    """What one person has at the sites of a gene: codes of both copies and the phase, site by site."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    phase: tuple[int, ...]

    @property
    def haploid(self) -> bool:
        """Whether there is one copy only."""
        seen = {code for code, other in zip(self.second, self.first, strict=True) if other != MISSING}
        return seen == {NO_COPY}

    @property
    def mixed(self) -> bool:
        """Whether some sites have one copy and others two."""
        seen = {b == NO_COPY for a, b in zip(self.first, self.second, strict=True) if a != MISSING or b != MISSING}
        return len(seen) == 2


@dataclass(frozen=True, slots=True)
class Diplotype:
    """Two named alleles, or one where there is one copy (``second`` is then ""). Order does not matter: see `pair`."""

    first: str
    second: str
    score: int = 0

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.first}/{self.second}" if self.second else self.first

    @property
    def alleles(self) -> tuple[str, ...]:
        """One or two allele names."""
        return (self.first, self.second) if self.second else (self.first,)


def pair(one: str, other: str, score: int, order: Mapping[str, int]) -> Diplotype:
    """Two alleles in the order in which their table lists them."""
    first, second = sorted((one, other), key=lambda name: (name not in order, order.get(name, 0), natural(name)))
    return Diplotype(first, second, score)


@lru_cache(4096)
def natural(name: str) -> tuple[object, ...]:
    """A sort key under which *2 comes before *10."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part)


def genotype(gene: Gene, calls: Mapping[int, tuple[int, int, int]]) -> Genotype:
    """A genotype from codes and phase by site number; sites not named are missing."""
    rows = [calls.get(index, (MISSING, MISSING, UNPHASED)) for index in range(len(gene.sites))]
    first, second, phase = zip(*rows, strict=True) if rows else ((), (), ())
    return Genotype(tuple(first), tuple(second), tuple(phase))


def labels(gene: Gene, sites: Iterable[int]) -> tuple[str, ...]:
    """What people call these sites."""
    return tuple(gene.sites[index].label for index in sites)


def reference_code(gene: Gene, index: int) -> int:
    """The code of the reference allele at a site."""
    base = gene.reference.bases[index]
    alleles: Sequence[str] = gene.sites[index].alleles
    return alleles.index(base) if base in alleles else 0
