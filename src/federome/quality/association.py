"""Is the dataset one? Hardy-Weinberg proportions within ancestry, laboratory batches, and calls missing by case status.

Counts come from the compressed records under masks of people. Hardy-Weinberg is tested within ancestry groups and
never across: two groups of different frequencies joined have too few heterozygotes without any fault (Wahlund 1928).
Batches are compared within ancestry groups for the same reason: hospitals see different people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import special

from federome.quality.subject import Batch, common
from federome.store import kernels

_STEP: Final = 8_192
LEAST_GROUP: Final = 20
_ROUNDS: Final = 12
COMPONENT_SNPS: Final = 1_000
"""SNPs that principal components are computed from."""
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class GroupCounts:
    """Autosomal variants that are common: counts int64 (variants, sets, 4), hom-ref, het, hom-alt, missing."""

    counts: Ints
    places: tuple[tuple[str, int], ...]


def counted(batch: Batch, sets: Sequence[Mask], *, least: float = 0.01) -> GroupCounts:
    """Genotypes of each set of people at common autosomal variants."""
    masks = kernels.Masks.of(np.stack(list(sets)))
    parts, places = [np.zeros((0, len(sets), 4), np.int64)], []
    for block in batch.blocks():
        if not block.file.chromosome.isdigit():
            continue
        rows = np.flatnonzero(common(block, least=least))
        steps = (rows[at : at + _STEP] for at in range(0, len(rows), _STEP))
        parts += [kernels.counts_masked(block.pgen, step, masks).astype(np.int64) for step in steps]
        places += [(block.file.chromosome, at) for at in block.sites.positions[rows].tolist()]
    return GroupCounts(np.concatenate(parts), tuple(places))


_NEGLIGIBLE: Final = 1e-25


@njit(nogil=True, cache=True)
def _walk(rare, people, het, seen):  # type: ignore[no-untyped-def]
    """Chances of every number of heterozygotes, relative to the likeliest: (sum, that of ``het``, sum up to ``seen``).

    Goes down and up from the middle until chances are negligible; a table that is never reached has chance zero.
    """
    middle = int(rare * (2.0 * people - rare) / (2.0 * people))
    middle += (middle ^ rare) & 1
    total, own, extreme = 0.0, 0.0, 0.0
    for up in (False, True):
        h, p = middle, 1.0
        r = (rare - h) // 2
        c = people - h - r
        while p > _NEGLIGIBLE and 0 <= h <= rare:
            if not (up and h == middle):
                total += p
                if h == het:
                    own = p
                if p <= seen:
                    extreme += p
            if up:
                p *= 4.0 * r * c / ((h + 2.0) * (h + 1.0))
                h, r, c = h + 2, r - 1, c - 1
            else:
                p *= h * (h - 1.0) / (4.0 * (r + 1.0) * (c + 1.0))
                h, r, c = h - 2, r + 1, c + 1
    return total, own, extreme


@njit(nogil=True, cache=True)
def _hwe(counts, out):  # type: ignore[no-untyped-def]
    """Exact test, Wigginton et al. 2005 (doi:10.1086/429864): chance of a table no likelier than the one seen."""
    for v in range(counts.shape[0]):
        het = counts[v, 1]
        rare = 2 * min(counts[v, 0], counts[v, 2]) + het
        people = counts[v, 0] + het + counts[v, 2]
        if people == 0 or rare == 0:
            out[v] = 1.0
            continue
        _, own, _ = _walk(rare, people, het, -1.0)
        total, _, extreme = _walk(rare, people, het, own * (1 + 1e-9))
        out[v] = min(1.0, extreme / total)


def hwe(counts: Ints) -> Floats:
    """Exact p value of Hardy-Weinberg proportions for each variant, counts int64 (variants, 4)."""
    out = np.ones(len(counts), np.float64)
    _hwe(np.ascontiguousarray(counts, np.int64), out)
    return out


def between(counts: Ints) -> Floats:
    """p value that two sets differ in genotypes, stratum by stratum: counts int64 (variants, strata, 2, 3).

    Squared scores for the number of alleles (Cochran and Armitage, variance by Mantel's extension), summed over the
    strata before squaring; variants that do not vary have p 1.
    """
    weight = np.array([0.0, 1.0, 2.0])
    people = counts.sum(axis=3)
    total = people.sum(axis=2).astype(np.float64)
    pooled = counts.sum(axis=2)
    mean = (pooled @ weight) / np.maximum(total, 1)
    score = counts[:, :, 0] @ weight - people[:, :, 0] * mean
    spread = (pooled @ weight**2) - total * mean**2
    variance = spread * people[:, :, 0] * people[:, :, 1] / np.maximum(total * (total - 1), 1)
    top, below = score.sum(axis=1), variance.sum(axis=1)
    z2 = np.where(below > 0, top**2 / np.where(below > 0, below, 1), 0)
    return np.asarray(special.chdtrc(1, z2))


@dataclass(frozen=True)
class Tested:
    """How many variants were tested, how many fall below ``chance``, how many would by chance, and the smallest p."""

    name: str
    tested: int
    below: int
    expected: float
    smallest: float

    @property
    def more_than_chance(self) -> bool:
        """Whether so many are below that chance does not explain it (Poisson, 1 in 100: a referral costs a look)."""
        return self.below > 0 and bool(special.gammainc(self.below, max(self.expected, 1e-9)) < 0.01)


def hardy_weinberg(batch: Batch, groups: Mapping[str, Mask], *, chance: float) -> list[Tested]:
    """Variants out of proportion, group by group; and, to show why not, of everybody together (``ACROSS``)."""
    named = {name: mask for name, mask in groups.items() if mask.sum() >= LEAST_GROUP}
    if not named:
        return []
    sets = [*named.values(), np.logical_or.reduce(list(named.values()))]
    found = counted(batch, sets)
    out = []
    for at, name in enumerate([*named, ACROSS]):
        p = hwe(found.counts[:, at])
        out.append(_tested(name, p, chance))
    return out


ACROSS: Final = "(across groups)"


def batch_effects(
    batch: Batch, groups: Mapping[str, Mask], sequenced: Mapping[str, Mask], *, chance: float
) -> list[Tested]:
    """Each laboratory batch against the others at every common variant, within ancestry groups."""
    labels = [name for name, mask in sequenced.items() if mask.sum() >= LEAST_GROUP]
    if len(labels) < 2:
        return []
    here = [mask for mask in groups.values() if mask.sum() >= LEAST_GROUP]
    out = []
    known = np.logical_or.reduce([sequenced[name] for name in labels])
    for label in labels if len(labels) > 2 else labels[:1]:
        mine, theirs = sequenced[label], known & ~sequenced[label]
        sets = [mask & side for mask in here for side in (mine, theirs)]
        if not sets:
            continue
        found = counted(batch, sets).counts
        shaped = found[:, :, :3].reshape(len(found), len(here), 2, 3)
        out.append(_tested(label, between(shaped), chance))
    return out


def missing_by_case(batch: Batch, missing: Floats, cases: Mask, known: Mask, *, chance: float) -> list[Tested]:
    """Whether cases lack more calls than controls: overall (ranks of people's missing shares), then by variant."""
    mine, others = cases & known, ~cases & known
    if min(mine.sum(), others.sum()) < LEAST_GROUP:
        return []
    from scipy import stats  # half a second to load, and most processes never come here

    overall = float(stats.mannwhitneyu(missing[mine], missing[others]).pvalue)
    held = counted(batch, [mine, others]).counts
    gone, there = held[:, :, 3], held[:, :, :3].sum(axis=2)
    p = between(np.stack([there, gone, np.zeros_like(gone)], axis=2)[:, None])
    return [Tested("overall", 1, int(overall < chance), chance, overall), _tested("by variant", p, chance)]


def principal_components(genotypes: Iterator[NDArray[np.int8]], people: int, count: int = 6) -> Floats:
    """Leading components (people, count) of common SNPs given in slabs (SNPs, people), -1 where not called."""
    slabs = []
    for slab in genotypes:
        called = slab >= 0
        mean = np.where(called, slab, 0).sum(axis=1) / np.maximum(called.sum(axis=1), 1)
        scale = np.sqrt(np.maximum(mean * (1 - mean / 2), 1e-6))
        slabs.append((np.where(called, slab - mean[:, None], 0) / scale[:, None]).astype(np.float32))
    standard = np.concatenate(slabs) if slabs else np.zeros((0, people), np.float32)
    gram = standard @ standard.T
    base = np.random.default_rng(0).normal(size=(len(gram), 4 * count)).astype(np.float32)
    for _ in range(_ROUNDS):  # subspace iteration: the leading components are all that is wanted
        base, _ = np.linalg.qr(gram @ base)
    values, turned = np.linalg.eigh((base.T @ gram @ base).astype(np.float64))
    top = np.argsort(values)[::-1][:count]
    return np.asarray(standard.T @ (base @ turned[:, top].astype(np.float32)), np.float64)


def batch_by_component(
    places: Floats, groups: Mapping[str, Mask], sequenced: Mapping[str, Mask], *, chance: float
) -> list[Tested]:
    """Whether batches lie apart on a principal component within ancestry groups (Kruskal and Wallis, by group)."""
    from scipy import stats  # half a second to load, and most processes never come here

    labels = [mask for mask in sequenced.values() if mask.sum() >= LEAST_GROUP]
    out = []
    for name, group in groups.items():
        sides = [group & label for label in labels]
        if len(sides) < 2 or min(side.sum() for side in sides) < LEAST_GROUP:
            continue
        p = [float(stats.kruskal(*(column[side] for side in sides)).pvalue) for column in places.T]
        out.append(_tested(name, np.array(p), chance))
    return out


def _tested(name: str, p: Floats, chance: float) -> Tested:
    return Tested(name, len(p), int((p < chance).sum()), chance * len(p), float(p.min(initial=1.0)))
