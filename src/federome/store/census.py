"""Compiled counts by person: how many het, hom-alt and missing calls everybody has in each class of variants.

Sparse records cost their carriers. The larger categories of other records are added into bit-sliced counters, one bit
of 64 people's counts to a word, so that a plane costs about two operations a word; counters are emptied into plain
numbers before they could run over. Exact, and independent of which variants are asked for together.
"""

# mypy: allow-untyped-decorators, allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from federome.store.bits import compiled, inlined
from federome.store.records import ONE
from federome.store.sums import SPARSE_PLANE, read_parts

DEPTH = 6
"""Bits of a counter: it is emptied after 63 planes."""


def census_scratch(people: int, classes: int) -> tuple[NDArray[Any], ...]:
    """What `count_people` works in: counters and how many planes each holds."""
    words = -(-people // 64)
    return np.zeros((classes, 3, DEPTH, words), np.uint64), np.zeros((classes, 3), np.int64)


@inlined
def _add_plane(counters, plane):
    """Add one bit a person: ripple the carry up, as far as it goes."""
    for w in range(plane.size):
        carry = plane[w]
        depth = 0
        while carry:
            held = counters[depth, w]
            counters[depth, w] = held ^ carry
            carry &= held
            depth += 1


@inlined
def _empty(counters, people, out):
    """Add counters to plain numbers, and clear them."""
    for w in range(counters.shape[1]):
        start = w << 6
        for bit in range(64):
            person = start + (bit >> 1) + 32 * (bit & 1)
            if person < people:
                total = np.int64(0)
                for depth in range(counters.shape[0]):
                    total |= np.int64((counters[depth, w] >> np.uint64(bit)) & ONE) << depth
                out[person] += total
        for depth in range(counters.shape[0]):
            counters[depth, w] = 0


@compiled
def count_people(
    data, types, offsets, bases, people, planes, ids, categories, counters, held, variants, classes, out
):  # fmt: skip
    """Counts into zeroed int32 [classes, 3, people]; a variant of class -1 is passed over."""
    full = (1 << counters.shape[2]) - 1
    for row in range(variants.size):
        v, into = variants[row], classes[row]
        if v < 0 or into < 0:
            continue
        entries, dense = read_parts(
            data, types, offsets, bases, people, v, people // SPARSE_PLANE, SPARSE_PLANE, planes, ids, categories
        )
        if entries < 0:
            return v
        for k in range(entries):
            category = np.int64(categories[k])
            if category:
                out[into, category - 1, ids[k]] += 1
        for plane in range(3):
            if dense >> (plane + 1) & 1:
                _add_plane(counters[into, plane], planes[2 + plane])
                held[into, plane] += 1
                if held[into, plane] == full:
                    _empty(counters[into, plane], people, out[into, plane])
                    held[into, plane] = 0
    for kind in range(out.shape[0]):
        for plane in range(3):
            if held[kind, plane]:
                _empty(counters[kind, plane], people, out[kind, plane])
                held[kind, plane] = 0
    return -1
