"""Who is related to whom: KING-robust kinship between all people of a batch, at a few thousand common SNPs.

Stands between the sources and the store: while variants stream by, `KinshipSites` keeps common autosomal SNPs that
lie far apart and are hardly correlated; `related_pairs` then compares everybody with everybody on bit planes.
The store keeps the pairs, and association methods leave one person of each pair out.

Estimator: Manichaikul et al. 2010 (doi:10.1093/bioinformatics/btq559), equation 11, over the SNPs where both people
are called: φ = 1/2 − S / (4 min(Nᵢ, Nⱼ)) with S = Σ(gᵢ − gⱼ)² and N the heterozygous SNPs of either person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import special

from federome.ingest.chunk import Chunk
from federome.store.bits import popcount
from federome.store.encode import MISSING

SECOND_DEGREE, FIRST_DEGREE = 2**-3.5, 2**-2.5
"""Kinship from which two people count as relatives of second or first degree (Manichaikul 2010: 0.0884, 0.177)."""

SCATTER = 0.8
"""Unrelated people scatter by about this over √sites: measured 0.79 to 0.9 for frequencies of 0.5 to 0.25."""

CHANCE = 0.01
"""Relatives are reported only where chance is expected to make fewer than this share of all people related."""

MAX_SITES = 3_072
WINDOW = 500_000
PER_WINDOW = 8
MAX_R2 = 0.2
LOOK_BACK = 16
MIN_FREQUENCY = 0.05
MAX_MISSING = 0.05

_TILE = 32
_STRETCH = 256
_UNROLLED = 4
_SAMPLED_PAIRS = 4_096
_F = TypeVar("_F", bound=Callable[..., object])


def _compiled(function: _F) -> _F:
    """numba's decorator with the type of what it decorates."""
    return cast(_F, njit(nogil=True, cache=True)(function))


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Related people as indices into the batch, ``first < second``, sorted, with their kinship coefficients."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    kinship: NDArray[np.float64]

    def __len__(self) -> int:
        return self.first.size


@dataclass(frozen=True, slots=True, eq=False)
class Relatives:
    """What a batch's SNPs say: pairs of at least ``limit``, or ``limit`` None where there are too few SNPs to say."""

    pairs: Pairs
    sites: int
    limit: float | None


NO_PAIRS = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))


class KinshipSites:
    """Collects SNPs for kinship while chunks stream by; memory is at most 3 kB a person.

    A SNP is kept where its minor allele is common, few calls are missing, at most ``PER_WINDOW`` were kept in its
    window, and r² with each of the last ``LOOK_BACK`` kept SNPs of the chromosome is small.
    """

    def __init__(self, people: int) -> None:
        self._people = people
        self._rows: list[NDArray[np.uint8]] = []
        self._common: list[float] = []
        self._recent: list[NDArray[np.float32]] = []
        self._chromosome = ""
        self._window, self._kept = 0, 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, chunk: Chunk) -> None:
        """Look at the SNPs of a chunk; positions come sorted within a chromosome."""
        if not chunk.chromosome.isdigit() or not len(chunk):
            return
        if chunk.chromosome != self._chromosome:
            self._chromosome, self._window, self._recent = chunk.chromosome, -1, []
        frequency, missing = _frequencies(chunk, self._people)
        fit = (frequency >= MIN_FREQUENCY) & (frequency <= 1 - MIN_FREQUENCY) & (missing <= MAX_MISSING)
        for index in np.flatnonzero(fit).tolist():
            window = int(chunk.positions[index]) // WINDOW
            if window != self._window:
                self._window, self._kept = window, 0
            if self._kept == PER_WINDOW or len(chunk.refs[index]) + len(chunk.alts[index]) > 2:
                continue
            row = chunk.row(index, self._people)
            centred = _standardised(row, 2 * float(frequency[index]))
            if all(float(centred @ other) ** 2 <= MAX_R2 for other in self._recent):
                self._recent = [*self._recent[1 - LOOK_BACK :], centred]
                self._kept += 1
                self._rows.append(packed(row))
                self._common.append(min(float(frequency[index]), 1 - float(frequency[index])))
        if len(self._rows) > 4 * MAX_SITES:
            self._keep(2 * MAX_SITES)

    def _keep(self, count: int) -> None:
        """Keep the most heterozygous SNPs, in genome order; the first of equals stays."""
        best = np.sort(np.argsort(-np.array(self._common), kind="stable")[:count]).tolist()
        self._rows = [self._rows[index] for index in best]
        self._common = [self._common[index] for index in best]

    def kept(self) -> list[NDArray[np.uint8]]:
        """The most heterozygous ``MAX_SITES`` SNPs in genome order, packed as `packed` does."""
        self._keep(MAX_SITES)
        return list(self._rows)

    def related(self) -> Relatives:
        """Everybody against everybody at the most heterozygous ``MAX_SITES`` SNPs."""
        self._keep(MAX_SITES)
        limit = safe_limit(self._rows, self._people)
        pairs = NO_PAIRS if limit is None else close_pairs(planes_of(self._rows, self._people), limit)
        return Relatives(pairs=pairs, sites=len(self._rows), limit=limit)


def _frequencies(chunk: Chunk, people: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ALT frequency among called alleles, and share of people not called, for each variant."""
    variant = np.repeat(np.arange(len(chunk)), np.diff(chunk.offsets))
    one, two, gone = (np.bincount(variant[chunk.codes == code], minlength=len(chunk)) for code in (1, 2, MISSING))
    return (one + 2.0 * two) / np.maximum(2.0 * (people - gone), 1), gone / people


def _standardised(row: NDArray[np.int8], mean: float) -> NDArray[np.float32]:
    """Centred on the mean of called genotypes, missing 0, length 1; the product of two is their correlation."""
    centred = np.where(row >= 0, row - np.float32(mean), np.float32(0)).astype(np.float32)
    unit: NDArray[np.float32] = centred / np.float32(max(float(np.sqrt(centred @ centred)), 1e-30))
    return unit


def related_pairs(genotypes: NDArray[np.int8], *, limit: float = SECOND_DEGREE) -> Pairs:
    """All pairs of people with a kinship of at least ``limit`` (> 0) at given SNPs (int8 [sites, people], −1 missing).

    Pairs where one person has no heterozygous SNP in common reach have no estimate and are left out.
    """
    return close_pairs(planes_of([packed(row) for row in genotypes], genotypes.shape[1]), limit)


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """Bit planes [words, people], 64 SNPs a word: ``some`` (one or two ALT), ``both`` (two ALT), ``called``.

    A missing call is written as heterozygous in ``some`` and ``both``, which changes S by at most one a SNP. Words
    are filled up to a multiple of ``_UNROLLED`` with zeros, which change nothing.
    """

    some: NDArray[np.uint64]
    both: NDArray[np.uint64]
    called: NDArray[np.uint64]
    heterozygous: NDArray[np.int64]
    missing: NDArray[np.int64]


def packed(row: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Two bits a person, four people a byte; missing is 3."""
    padded = np.zeros((row.size + 3) // 4 * 4, np.uint8)
    padded[: row.size] = row.view(np.uint8) & np.uint8(3)
    four = padded.reshape(-1, 4)
    weights = np.array([1, 4, 16, 64], np.uint8)
    joined: NDArray[np.uint8] = (four * weights).sum(axis=1, dtype=np.uint8)
    return joined


def planes_of(rows: Sequence[NDArray[np.uint8]], people: int) -> Planes:
    """Packed SNPs, each of all people, as bit planes."""
    words = -(-len(rows) // (64 * _UNROLLED)) * _UNROLLED
    some, both, called = (np.zeros((words, people), np.uint64) for _ in range(3))
    heterozygous, missing = np.zeros(people, np.int64), np.zeros(people, np.int64)
    for site, row in enumerate(rows):
        bit = np.uint64(1 << (site & 63))
        _fill(row, bit, some[site >> 6], both[site >> 6], called[site >> 6], heterozygous, missing)
    return Planes(some, both, called, heterozygous, missing)


@_compiled
def _fill(
    row: NDArray[np.uint8],
    bit: np.uint64,
    some: NDArray[np.uint64],
    both: NDArray[np.uint64],
    called: NDArray[np.uint64],
    heterozygous: NDArray[np.int64],
    missing: NDArray[np.int64],
) -> None:
    """Put one packed SNP into its word of each plane."""
    for person in range(some.size):
        code = (row[person >> 2] >> np.uint8(2 * (person & 3))) & np.uint8(3)
        some[person] |= bit * np.uint64(code != 0)
        both[person] |= bit * np.uint64(code == 2)
        called[person] |= bit * np.uint64(code != 3)
        heterozygous[person] += code == 1
        missing[person] += code == 3


def safe_limit(rows: Sequence[NDArray[np.uint8]], people: int) -> float | None:
    """The lowest degree of kinship that chance alone does not reach between unrelated people.

    The scatter is the theoretical one, or that of a fixed sample of pairs if larger: estimates from the first and the
    second half of the SNPs differ by twice the scatter of all, whatever ancestry the people are of, and feel what
    linkage is left. The centre is where min(Nᵢ, Nⱼ) puts unrelated people: 1/2 − (Nᵢ + Nⱼ) / (4 min).
    """
    half = len(rows) // 2
    pairs = np.random.default_rng(0).integers(0, max(people, 1), (_SAMPLED_PAIRS, 2))
    first, second = pairs[pairs[:, 0] < pairs[:, 1]].T
    if not half or not first.size:
        return None
    halves = [planes_of(part, people) for part in (rows[:half], rows[half:])]
    one, other = (_exact(p.some, p.both, p.called, first, second) for p in halves)
    known = np.isfinite(one) & np.isfinite(other)
    heterozygous = halves[0].heterozygous + halves[1].heterozygous
    n_first, n_second = heterozygous[first[known]], heterozygous[second[known]]
    if not n_first.size:
        return None
    apart = one[known] - other[known]
    deviation = float(np.median(np.abs(apart - np.median(apart)))) / float(-special.ndtri(0.25)) / 2
    centre = float(np.median(0.5 - (n_first + n_second) / (4 * np.minimum(n_first, n_second))))
    far = centre + float(-special.ndtri(min(0.25, 2 * CHANCE / people))) * max(SCATTER / len(rows) ** 0.5, deviation)
    return next((limit for limit in (SECOND_DEGREE, FIRST_DEGREE) if limit >= far), None)


def close_pairs(planes: Planes, limit: float, *, threads: int = 1) -> Pairs:
    """All pairs of at least this kinship (> 0), sorted: everybody is compared with everybody."""
    if limit <= 0:
        raise ValueError("the screen needs a positive kinship limit")
    people = planes.heterozygous.size
    bound = np.floor(4 * (0.5 - limit) * planes.heterozygous).astype(np.int64)

    def tile(start: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        hits = np.zeros((min(_TILE, people - start), people - start), np.bool_)
        _screen(planes.some, planes.both, bound, planes.missing, start, hits)
        first, second = np.nonzero(hits)
        return first + start, second + start

    if not people:
        return NO_PAIRS
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(tile, range(0, people, _TILE)))
    first, second = (np.concatenate(part) for part in zip(*found, strict=True))
    kinship = kinships(planes, first, second)
    keep = kinship >= limit
    return Pairs(first[keep], second[keep], kinship[keep])


def kinships(planes: Planes, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """The estimate for given pairs; −inf where it does not exist."""
    return _exact(planes.some, planes.both, planes.called, first, second)


@_compiled
def _screen(
    some: NDArray[np.uint64],
    both: NDArray[np.uint64],
    bound: NDArray[np.int64],
    missing: NDArray[np.int64],
    start: int,
    hits: NDArray[np.bool_],
) -> int:
    """Mark pairs (start + row, start + column) whose kinship may reach the limit; no such pair is lost.

    Over all SNPs S' = |xor of heterozygous| + 4·|opposite homozygous|. A missing call adds at most one to S', so
    S ≥ S' − missing; and either person is heterozygous at no more SNPs than at all called ones. Hence
    φ ≥ limit only if S' − missing ≤ 4 (1/2 − limit) · min(heterozygous), ``bound`` being that for each person.
    Innermost is a stretch of second people, one vector lane each, and four words of SNPs at a time.
    """
    words, people = some.shape
    differ = np.empty(_STRETCH, np.int64)
    found = 0
    for left in range(start, people, _STRETCH):
        size = min(_STRETCH, people - left)
        for first in range(start, min(start + hits.shape[0], left + size)):
            differ[:size] = 0
            for word in range(0, words, _UNROLLED):
                _differences(some, both, word, first, left, differ[:size])
            others, gone = bound[left : left + size], missing[left : left + size]
            row = hits[first - start, left - start : left - start + size]
            for second in range(size):
                close = differ[second] - gone[second] - missing[first] <= min(bound[first], others[second])
                row[second] = close & (left + second > first)
                found += row[second]
    return found


@_compiled
def _differences(
    some: NDArray[np.uint64],
    both: NDArray[np.uint64],
    word: int,
    first: int,
    left: int,
    differ: NDArray[np.int64],
) -> None:
    """Add S' of one person against the people from ``left`` on, over ``_UNROLLED`` words."""
    size = differ.size
    s0, s1, s2, s3 = some[word, first], some[word + 1, first], some[word + 2, first], some[word + 3, first]
    b0, b1, b2, b3 = both[word, first], both[word + 1, first], both[word + 2, first], both[word + 3, first]
    some0, both0 = some[word, left : left + size], both[word, left : left + size]
    some1, both1 = some[word + 1, left : left + size], both[word + 1, left : left + size]
    some2, both2 = some[word + 2, left : left + size], both[word + 2, left : left + size]
    some3, both3 = some[word + 3, left : left + size], both[word + 3, left : left + size]
    for k in range(size):
        l0, h0 = some0[k] ^ s0, both0[k] ^ b0
        l1, h1 = some1[k] ^ s1, both1[k] ^ b1
        l2, h2 = some2[k] ^ s2, both2[k] ^ b2
        l3, h3 = some3[k] ^ s3, both3[k] ^ b3
        one = popcount(l0 ^ h0) + popcount(l1 ^ h1) + popcount(l2 ^ h2) + popcount(l3 ^ h3)
        two = popcount(l0 & h0) + popcount(l1 & h1) + popcount(l2 & h2) + popcount(l3 & h3)
        differ[k] += one + 4 * two


@_compiled
def _exact(
    some: NDArray[np.uint64],
    both: NDArray[np.uint64],
    called: NDArray[np.uint64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The estimate for given pairs over the SNPs where both are called; −inf where it does not exist."""
    out = np.empty(first.size, np.float64)
    for pair in range(first.size):
        i, j = first[pair], second[pair]
        differ = one = other = 0
        for word in range(some.shape[0]):
            joint = called[word, i] & called[word, j]
            low = (some[word, i] ^ some[word, j]) & joint
            high = (both[word, i] ^ both[word, j]) & joint
            differ += popcount(low ^ high) + 4 * popcount(low & high)
            one += popcount((some[word, i] ^ both[word, i]) & joint)
            other += popcount((some[word, j] ^ both[word, j]) & joint)
        fewer = min(one, other)
        out[pair] = 0.5 - differ / (4.0 * fewer) if fewer > 0 else -np.inf
    return out
