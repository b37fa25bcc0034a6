"""A made-up cohort for quality control: three ancestries, families, X and Y; and faults that can be planted in it.

Allele frequencies differ between ancestries as in Balding and Nichols (1995). Variants are independent.
Used by ``federome bench onboard`` and by the tests: a fault is found where the same fault is missed without the check.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.model.dataset import DatasetManifest
from federome.model.release import Policy
from federome.store.catalogue import DataRelease, Store
from federome.store.writer import BatchWriter

GROUPS: Final = ("north", "south", "east")
APART: Final = 0.1
"""Fixation index between an ancestry and the common ancestors."""
MISSING: Final = 0.003
DAY: Final = date(2026, 6, 1)
_SNVS: Final = (("A", "G"), ("C", "T"), ("G", "A"), ("T", "C"), ("A", "C"), ("G", "T"))
_INDELS: Final = (("A", "AT"), ("CA", "C"))
Genotypes = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Genotypes int8 (variants, people) of the sorted ``sites``; -1 not called. Women have no calls on Y.

    ``trios`` are rows of child, father and mother; ``sequenced`` is the laboratory's batch of each person, ``cases``
    their case status. ``sexes`` are the declared ones: 1 male, 0 female.
    """

    sites: tuple[tuple[str, int, str, str], ...]
    genotypes: Genotypes
    people: tuple[str, ...]
    sexes: NDArray[np.int8]
    groups: tuple[str, ...]
    sequenced: tuple[str, ...]
    cases: NDArray[np.bool_]
    trios: tuple[tuple[int, int, int], ...]

    def rows(self, chromosome: str) -> NDArray[np.int64]:
        """Numbers of a chromosome's variants."""
        return np.array([i for i, site in enumerate(self.sites) if site[0] == chromosome], np.int64)

    @property
    def autosomal(self) -> NDArray[np.int64]:
        """Numbers of the autosomal variants."""
        return np.array([i for i, site in enumerate(self.sites) if site[0].isdigit()], np.int64)

    def write(self, root: Path, *, name: str = "made", batch: str = "one") -> tuple[Store, DataRelease]:
        """As a released dataset of a store."""
        store = Store.open(root)
        with self.writer(store, name=name, batch=batch) as writer:
            return store, writer.commit(DAY)

    def writer(self, store: Store, *, name: str = "made", batch: str = "one") -> BatchWriter:
        """Written and not committed. What cannot be is missing: heterozygous men on X, women on Y."""
        manifest = DatasetManifest(
            id=name,
            title="Made up",
            holder="Nobody",
            profile="reference-genotypes",
            assembly="GRCh38",
            synthetic=True,
            policy=Policy(k_min=1, k_public=1, open_data=True),
            callable="everywhere",
        )
        sexes = ["male" if sex == 1 else "female" for sex in self.sexes.tolist()]
        writer = BatchWriter.begin(store, manifest, batch, self.people, sexes)  # type: ignore[arg-type]
        for chromosome in dict.fromkeys(site[0] for site in self.sites):
            rows = self.rows(chromosome)
            held = self.genotypes[rows]
            if chromosome == "X":
                held = np.where((held == 1) & (self.sexes == 1), np.int8(-1), held)
            if chromosome == "Y":
                held = np.where(self.sexes == 1, held, np.int8(-1))
            places = [self.sites[row] for row in rows.tolist()]
            at = np.array([place[1] for place in places], np.int64)
            writer.add_dense(chromosome, at, [p[2] for p in places], [p[3] for p in places], np.ascontiguousarray(held))
        return writer


def make(people: int, *, snvs: int = 3_000, families: int = 20, seed: int = 1) -> Cohort:
    """A clean cohort. Children of the first families stand at the end; ancestry goes round by person."""
    rng = np.random.default_rng(seed)
    sites = _sites(snvs)
    groups = np.arange(people) // 2 % len(GROUPS)
    sexes = (np.arange(people) % 2).astype(np.int8)
    frequency = _frequencies(rng, len(sites))
    haplotypes = rng.random((2, len(sites), people), np.float32) < frequency[:, groups]
    children = np.arange(people - families, people)
    trios = []
    for number, child in enumerate(children.tolist()):
        mother, father = 2 * number, 2 * number + 1  # of one ancestry
        for at, parent in enumerate((father, mother)):
            pick = rng.integers(0, 2, len(sites))
            haplotypes[at, :, child] = haplotypes[pick, np.arange(len(sites)), parent]
        on_x = [i for i, site in enumerate(sites) if site[0] == "X"]
        haplotypes[0, on_x, child] = haplotypes[0, on_x, father]  # a father has one X
        groups[child] = groups[mother]
        trios.append((child, father, mother))
    men = sexes == 1
    for chromosome in ("X", "Y"):
        rows = np.array([i for i, site in enumerate(sites) if site[0] == chromosome])
        one = haplotypes[1 if chromosome == "X" else 0, rows]
        own = np.where(men, one, haplotypes[0, rows])
        haplotypes[0, rows] = own
        haplotypes[1, rows] = np.where(men, one, haplotypes[1, rows])
    genotypes = haplotypes.sum(axis=0, dtype=np.int8)
    genotypes[rng.random(genotypes.shape, np.float32) < MISSING] = -1
    on_y = np.array([site[0] == "Y" for site in sites])
    genotypes[np.ix_(on_y, ~men)] = -1
    return Cohort(
        sites=sites,
        genotypes=genotypes,
        people=tuple(f"P{number:06d}" for number in range(people)),
        sexes=sexes,
        groups=tuple(GROUPS[g] for g in groups.tolist()),
        sequenced=tuple("AB"[int(b)] for b in rng.integers(0, 2, people)),
        cases=rng.random(people) < 0.3,
        trios=tuple(trios),
    )


def swap_sexes(cohort: Cohort, one: int, other: int) -> Cohort:
    """Two samples' declared sexes exchanged, as when tubes were."""
    sexes = cohort.sexes.copy()
    sexes[[one, other]] = sexes[[other, one]]
    return replace(cohort, sexes=sexes)


def duplicate(cohort: Cohort, of: int, at: int, *, differ: float = 0.002) -> Cohort:
    """The genotypes of one person under another's name as well, but for a few calls."""
    rng = np.random.default_rng(of)
    genotypes, sexes = cohort.genotypes.copy(), cohort.sexes.copy()
    copied = genotypes[:, of].copy()
    copied[rng.random(copied.size) < differ] = -1
    genotypes[:, at], sexes[at] = copied, sexes[of]
    groups = list(cohort.groups)
    groups[at] = groups[of]
    return replace(cohort, genotypes=genotypes, sexes=sexes, groups=tuple(groups))


def wrong_father(cohort: Cohort, trio: int, father: int) -> Cohort:
    """The pedigree names another man of the same ancestry."""
    trios = list(cohort.trios)
    child, _, mother = trios[trio]
    trios[trio] = child, father, mother
    return replace(cohort, trios=tuple(trios))


def batch_artefact(cohort: Cohort, *, variants: int = 30, lost: float = 0.6, seed: int = 5) -> Cohort:
    """In laboratory batch B some heterozygous calls of some variants read as two copies of REF."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(cohort.autosomal, variants, replace=False)
    genotypes = cohort.genotypes.copy()
    there = np.array([batch == "B" for batch in cohort.sequenced])
    held = genotypes[rows]
    genotypes[rows] = np.where(there & (held == 1) & (rng.random(held.shape) < lost), np.int8(0), held)
    return replace(cohort, genotypes=genotypes)


def missing_in_cases(cohort: Cohort, *, share: float = 0.01, seed: int = 6) -> Cohort:
    """Cases lack more calls than controls, as when they were sequenced otherwise."""
    rng = np.random.default_rng(seed)
    gone = (rng.random(cohort.genotypes.shape, np.float32) < share) & cohort.cases
    return replace(cohort, genotypes=np.where(gone, np.int8(-1), cohort.genotypes))


def _sites(snvs: int) -> tuple[tuple[str, int, str, str], ...]:
    """Variants of chromosomes 1 to 3 with every eighth an indel, then X outside the PARs, and Y."""
    each = snvs // 3
    sites = [
        (chromosome, 1_000_000 + 60_000 * i, *(_INDELS[i // 8 % 2] if i % 8 == 7 else _SNVS[i % 6]))
        for chromosome in ("1", "2", "3")
        for i in range(each)
    ]
    sites += [("X", 5_000_000 + 100_000 * i, *_SNVS[i % 6]) for i in range(max(400, snvs // 10))]
    sites += [("Y", 5_000_000 + 10_000 * i, *_SNVS[i % 6]) for i in range(30)]
    return tuple(sites)


def _frequencies(rng: np.random.Generator, variants: int) -> NDArray[np.float32]:
    """By variant and ancestry: Balding and Nichols around common frequencies."""
    common = rng.uniform(0.05, 0.6, variants)[:, None]
    spread = (1 - APART) / APART
    found: NDArray[np.float64] = rng.beta(common * spread, (1 - common) * spread, (variants, len(GROUPS)))
    return np.clip(found, 0.01, 0.99).astype(np.float32)
