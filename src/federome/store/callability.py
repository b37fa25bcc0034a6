"""Where a batch can say that somebody is reference although it lists no variant there: unknown is not reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from federome.model.table import Mask
from federome.model.variant import BIN_SIZE, Assembly, Bin, chromosome_class
from federome.store.catalogue import BatchRecord, Store

# Lengths of the primary assemblies (Genome Reference Consortium; GCA_000001405.14 and .15; MT is the rCRS in both).
# fmt: off
_LENGTHS: dict[Assembly, tuple[int, ...]] = {
    "GRCh37": (
        249_250_621, 243_199_373, 198_022_430, 191_154_276, 180_915_260, 171_115_067, 159_138_663, 146_364_022,
        141_213_431, 135_534_747, 135_006_516, 133_851_895, 115_169_878, 107_349_540, 102_531_392, 90_354_753,
        81_195_210, 78_077_248, 59_128_983, 63_025_520, 48_129_895, 51_304_566, 155_270_560, 59_373_566, 16_569,
    ),
    "GRCh38": (
        248_956_422, 242_193_529, 198_295_559, 190_214_555, 181_538_259, 170_805_979, 159_345_973, 145_138_636,
        138_394_717, 133_797_422, 135_086_622, 133_275_309, 114_364_328, 107_043_718, 101_991_189, 90_338_345,
        83_257_441, 80_373_285, 58_617_616, 64_444_167, 46_709_983, 50_818_468, 156_040_895, 57_227_415, 16_569,
    ),
}
# fmt: on
STORED = (*(str(n) for n in range(1, 23)), "X", "Y", "MT")
"""Chromosomes as files are named by them."""


def stored_as(name: str) -> str:
    """The chromosome whose files hold a chromosome class."""
    return "X" if name.startswith("PAR") else name


def bin_span(code: int, assembly: Assembly) -> tuple[int, int]:
    """First and last position of a genome bin that exist and belong to its chromosome class; empty if last < first."""
    place = Bin.from_code(code)
    chromosome = stored_as(place.chromosome_class)
    length = _LENGTHS[assembly][STORED.index(chromosome)]
    first, last = max(1, place.number * BIN_SIZE), min((place.number + 1) * BIN_SIZE - 1, length)

    def inside(position: int) -> bool:
        return chromosome_class(chromosome, position, assembly) == place.chromosome_class

    if first > last or inside(first) == inside(last):
        return (first, last) if first <= last and inside(first) else (1, 0)
    low, high = first, last  # a class begins or ends between them
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if inside(middle) == inside(first) else (low, middle)
    return (first, low) if inside(first) else (high, last)


def covers(
    store: Store, batch: BatchRecord, chromosome: str, first: NDArray[np.int64], last: NDArray[np.int64]
) -> Mask:
    """Which stretches (1-based, inclusive) of a chromosome are callable throughout in a batch."""
    if batch.callable != "intervals":
        return np.full(len(first), batch.callable == "everywhere")
    known = store.intervals(batch, chromosome)
    if not len(known):
        return np.zeros(len(first), np.bool_)
    at = np.searchsorted(known[:, 0], first, side="right") - 1
    return np.asarray((at >= 0) & (known[at, 1] >= last) & (first <= last), np.bool_)
