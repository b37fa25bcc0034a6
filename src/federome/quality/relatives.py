"""Who is whom: duplicated samples, relatives nobody declared, and pedigrees that the genotypes contradict.

Works on at most 3,072 common SNPs that every batch of the dataset lists, as bit planes (under 1 kB a person). Kinship
is KING-robust (`ingest.kinship`). Duplicates are looked for by hashing bands of SNPs, which costs people and not pairs;
relatives by comparing everybody with everybody up to ``FULL`` people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.ingest.chunk import Chunk
from federome.ingest.kinship import (
    FIRST_DEGREE,
    MIN_FREQUENCY,
    NO_PAIRS,
    PER_WINDOW,
    WINDOW,
    KinshipSites,
    Pairs,
    Planes,
    close_pairs,
    kinships,
    planes_of,
    safe_limit,
)
from federome.quality.subject import Subject, common
from federome.store import kernels
from federome.store.blocks import Block
from federome.store.encode import MISSING, as_calls

DUPLICATE: Final = 0.354
"""Kinship from which two samples are of one person (2^-1.5, Manichaikul et al. 2010, table 1)."""
FULL: Final = 150_000
"""People up to whom everybody is compared with everybody: 5e9 pairs of 100,000 people take minutes."""
BANDS: Final = 24
BAND_SNPS: Final = 32
LEAST_SITES: Final = 300
"""SNPs from which kinship and Mendelian errors are told."""
OPPOSITE: Final = 0.02
_STEP: Final = 64
_SHIFTS: Final = np.array([0, 2, 4, 6], np.uint8)
_MOST_EQUAL: Final = 64
Ints = NDArray[np.int64]
Packed = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Common:
    """Common SNPs of everybody, packed (`ingest.kinship.packed`), and as planes. Rows of people run over batches."""

    rows: NDArray[np.uint8]
    planes: Planes

    @property
    def people(self) -> int:
        """How many people there are, withdrawn ones included."""
        return int(self.planes.heterozygous.size)

    def genotypes(self, people: Sequence[int]) -> NDArray[np.int8]:
        """Genotypes (SNPs, people) of some; -1 not called."""
        who = np.array(people, np.int64)
        held = (self.rows[:, who >> 2] >> (2 * (who & 3)).astype(np.uint8)) & 3
        return as_calls(held)


def common_snps(subject: Subject) -> Common:
    """Decode the SNPs that are common in the first batch and listed in every other, a few at a time."""
    total = sum(len(batch.people) for batch in subject.batches)
    kept = KinshipSites(total)
    others = [_places(list(batch.blocks())) for batch in subject.batches[1:]]
    for block in subject.batches[0].blocks():
        if not block.file.chromosome.isdigit():
            continue
        rows = _candidates(block)
        for at in range(0, len(rows), _STEP):
            for chunk in _chunk(block, rows[at : at + _STEP], others):
                kept.add(chunk)
    found = kept.kept()
    return Common(np.stack(found) if found else np.zeros((0, -(-total // 4)), np.uint8), planes_of(found, total))


def _candidates(block: Block) -> Ints:
    """Rows of common SNPs, the most heterozygous few of each window: more than will be kept, as some are linked."""
    sites = block.sites
    single = np.fromiter(
        (len(r) == len(a) == 1 for r, a in zip(sites.refs, sites.alts, strict=True)), np.bool_, len(sites)
    )
    rows = np.flatnonzero(common(block, least=MIN_FREQUENCY) & single)
    held = block.counts[rows].astype(np.float64)
    p = (held[:, 1] + 2 * held[:, 2]) / np.maximum(2 * held[:, :3].sum(axis=1), 1)
    window = sites.positions[rows] // WINDOW
    order = np.lexsort((-(p * (1 - p)), window))
    first = np.searchsorted(window[order], window[order])
    chosen = order[np.arange(len(order)) - first < 2 * PER_WINDOW]
    return np.sort(rows[chosen])


Place = tuple[str, int, str, str]
Where = Mapping[Place, tuple[Block, int]]


def _places(blocks: Sequence[Block]) -> Where:
    """Where another batch has its common SNPs."""
    out = {}
    for block in blocks:
        if block.file.chromosome.isdigit():
            for row in np.flatnonzero(common(block, least=MIN_FREQUENCY)).tolist():
                site = block.sites
                out[block.file.chromosome, int(site.positions[row]), site.refs[row], site.alts[row]] = block, row
    return out


def _chunk(block: Block, rows: Ints, others: Sequence[Where]) -> Iterator[Chunk]:
    """Genotypes of these SNPs over all batches, as a chunk; SNPs that a batch lacks are left out."""
    name, sites = block.file.chromosome, block.sites
    places = [(name, int(sites.positions[row]), sites.refs[row], sites.alts[row]) for row in rows.tolist()]
    everywhere = np.array([all(place in other for other in others) for place in places], np.bool_)
    if not everywhere.any():
        return
    rows, places = rows[everywhere], [place for place, here in zip(places, everywhere, strict=True) if here]
    parts = [kernels.decode(block.pgen, rows)]
    for other in others:
        found = [other[place] for place in places]
        parts.append(np.concatenate([kernels.decode(held.pgen, np.array([row], np.int64)) for held, row in found]))
    dense = np.concatenate(parts, axis=1)
    variant, carriers = np.nonzero(dense)
    codes = (dense[variant, carriers].view(np.uint8) & np.uint8(MISSING)).astype(np.uint8)
    yield Chunk(
        chromosome=name,
        positions=np.array([place[1] for place in places], np.int64),
        refs=[place[2] for place in places],
        alts=[place[3] for place in places],
        lines=np.zeros(len(rows), np.int64),
        offsets=np.searchsorted(variant, np.arange(len(rows) + 1)),
        carriers=carriers.astype(np.uint32),
        codes=codes,
        effects=[()] * len(rows),
        not_left_aligned=np.zeros(len(rows), np.bool_),
    )


def unpacked(rows: Packed, people: int) -> Iterator[NDArray[np.int8]]:
    """Packed SNPs again as slabs (SNPs, people), -1 not called, a few at a time."""
    for at in range(0, len(rows), _STEP):
        held = rows[at : at + _STEP]
        codes = ((held[:, :, None] >> _SHIFTS) & 3).reshape(len(held), -1)[:, :people]
        yield as_calls(codes)


def duplicates(snps: Common) -> Pairs:
    """Pairs of one person, by hashing: who agrees at all SNPs of one of many bands is compared in full.

    At 1 % of calls that differ, a band of 32 agrees with chance 0.72 and none of 24 with chance 1e-13; unrelated
    people agree at a band of common SNPs with chance under 1e-12.
    """
    usable = len(snps.rows) // BAND_SNPS
    if not usable:
        return NO_PAIRS
    bands = min(BANDS, usable)
    found: set[tuple[int, int]] = set()
    size = min(len(snps.rows) // bands, BAND_SNPS)
    for band in range(bands):
        keys = np.zeros(snps.people, np.uint64)
        for row in snps.rows[band * size : (band + 1) * size]:
            codes = ((row[:, None] >> _SHIFTS) & 3).reshape(-1)[: snps.people]
            keys = (keys << np.uint64(2)) | codes
        found.update(_equal(keys))
    if not found:
        return NO_PAIRS
    first, second = np.array(sorted(found), np.int64).T
    value = kinships(snps.planes, first, second)
    keep = value >= DUPLICATE
    return Pairs(first[keep], second[keep], value[keep])


def _equal(keys: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Pairs with the same key; a key that very many share (nobody was called, say) tells nothing."""
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order], prepend=keys[order[:1]] + np.uint64(1)) != 0)
    for start, stop in zip(edges.tolist(), [*edges[1:].tolist(), len(keys)], strict=True):
        if 1 < stop - start <= _MOST_EQUAL:
            same = sorted(order[start:stop].tolist())
            yield from ((a, b) for i, a in enumerate(same) for b in same[i + 1 :])


@dataclass(frozen=True, eq=False)
class Kin:
    """Pairs of relatives of at least ``limit``; ``limit`` None where chance could not be told from kinship."""

    pairs: Pairs
    limit: float | None
    compared: str


def relatives(snps: Common, *, threads: int = 2) -> Kin:
    """Everybody with everybody where that is affordable, duplicates alone otherwise."""
    limit = safe_limit(list(snps.rows), snps.people) if len(snps.rows) >= LEAST_SITES else None
    if limit is not None and snps.people <= FULL:
        return Kin(close_pairs(snps.planes, limit, threads=threads), limit, "everybody")
    return Kin(duplicates(snps), None if limit is None else DUPLICATE, "duplicates, by hashing")


# pedigrees


@dataclass(frozen=True)
class Trio:
    """A child and its declared parents, as rows of people; -1 for a parent who is not in the dataset."""

    child: int
    father: int = -1
    mother: int = -1


@dataclass(frozen=True)
class TrioCheck:
    """What genotypes say of a trio: share of impossible calls, kinship with either parent, and who is contradicted."""

    trio: Trio
    sites: int
    error_rate: float | None
    kinship: Mapping[str, float] = field(default_factory=dict)
    contradicted: tuple[str, ...] = ()


def check_trio(snps: Common, trio: Trio) -> TrioCheck:
    """Mendelian errors at SNPs where all who are there are called, and kinship of first degree with each parent.

    A parent is contradicted where kinship falls below first degree, or where more than 2 % of the SNPs have opposite
    homozygotes in parent and child: that many come from no genotyping error of a usable sample.
    """
    parents = {name: row for name, row in (("father", trio.father), ("mother", trio.mother)) if row >= 0}
    if not parents or len(snps.rows) < LEAST_SITES:
        return TrioCheck(trio, len(snps.rows), None)
    held = snps.genotypes([trio.child, *parents.values()])
    known = held[(held >= 0).all(axis=1)]
    child = known[:, 0]
    kin, wrong = {}, []
    for at, (name, row) in enumerate(parents.items(), 1):
        first, second = np.array([trio.child]), np.array([row])
        kin[name] = float(kinships(snps.planes, first, second)[0])
        opposite = float((np.abs(child - known[:, at]) == 2).mean()) if len(known) else 0.0
        if kin[name] < FIRST_DEGREE or opposite > OPPOSITE:
            wrong.append(name)
    errors = _impossible(child, [known[:, at] for at in range(1, known.shape[1])])
    return TrioCheck(trio, len(known), float(errors.mean()) if len(known) else None, kin, tuple(wrong))


def _impossible(child: NDArray[np.int8], parents: Sequence[NDArray[np.int8]]) -> NDArray[np.bool_]:
    """SNPs at which no allele of each parent (anybody, where a parent is not there) makes the child's genotype."""
    least, most = np.zeros(child.shape, np.int8), np.zeros(child.shape, np.int8)
    for parent in parents:
        least += parent == 2
        most += parent >= 1
    if len(parents) == 1:
        most += 1
    wrong: NDArray[np.bool_] = (child < least) | (child > most)
    return wrong
