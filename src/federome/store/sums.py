"""Compiled sums over people (inner products) and over variants (scores) that `kernels` puts an interface to.

Sparse records are summed carrier by carrier. Of other records each category becomes a plane (`records`), and many
planes go through tables together: a table holds the sums of all subsets of a few rows (four people, or eight
variants' weights), so that one look-up and one addition do the work of four or eight. Rare categories of common
variants are again summed person by person. Every order of addition is fixed by the record alone.
"""

# mypy: allow-untyped-decorators, allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from federome.store.bits import LANES, add_looked_up, add_row, compiled, inlined, put_subsets
from federome.store.records import LOW, ONE, is_listed, people_of, read_listed, read_planes, size_of

INNER_PLANES = 256
"""Planes that share one set of lookup tables in `inner`."""

SCORE_PLANES = 64
"""Planes that are added to the people at once in `score`; a multiple of 8."""

BYTE = np.uint64(255)

STRETCH = 64
"""Words (4,096 people) summed before the sum joins the total: keeps float64 rounding small."""

CARRIERS = 256
"""The same for listed people."""

SPARSE_PLANE = 64
"""A category with fewer than one in this many people is handled person by person."""


def aligned(size: int) -> NDArray[np.float64]:
    """float64 zeros that begin at a cache line."""
    block = np.zeros(size + LANES, np.float64)
    return block[-block.ctypes.data % 64 // 8 :][:size]


def inner_scratch(people: int, variants: int, width: int) -> tuple[NDArray[Any], ...]:
    """What `inner` works in: tile, targets, table, sums, part. Untouched parts of it take no memory."""
    slots = min(INNER_PLANES, 3 * variants)
    tile = np.empty((-(-people // 512), slots, 8), np.uint64)
    return tile, np.empty(slots, np.int64), aligned(16 * 16 * LANES), aligned(slots * LANES), np.empty(3 * width)


def score_lanes(scores: int) -> int:
    """Columns that `score` works with: one alone, else whole rows."""
    return 1 if scores == 1 else -(-scores // LANES) * LANES


def score_scratch(people: int, variants: int, scores: int) -> tuple[NDArray[Any], ...]:
    """What `score` works in: tile, held, tables, turned, sums, listed. Untouched parts of it take no memory."""
    groups = min(SCORE_PLANES // 8, -(-3 * variants // 8))
    tile = np.zeros((-(-people // 512), 8 * groups, 8), np.uint64)
    lanes = score_lanes(scores)
    held, tables = np.empty((8 * groups, scores)), aligned(groups * 256 * lanes)
    return tile, held, tables, np.empty((groups, 8), np.uint64), aligned(64 * lanes), aligned(4 * lanes)


@inlined
def _split(lo, hi, het, double, missing):
    """From category bits to the planes of het, hom-alt and missing people."""
    for w in range(lo.size):
        het[w] = lo[w] & ~hi[w]
        double[w] = hi[w] & ~lo[w]
        missing[w] = lo[w] & hi[w]


@inlined
def read_parts(data, types, offsets, bases, people, v, most, planes, ids, categories):
    """A record as a list of people with their categories, and planes of its larger categories.

    Returns (entries of the list, or -1 if inconsistent; bit c set if ``planes[1 + c]`` holds category c). Hom-ref
    is nowhere, every other person either in the list or in a plane. ``most``: how long the list of a sparse or 1-bit
    record may be. How a record is split depends on it alone.
    """
    if is_listed(data, types, offsets, people, v, most):
        entries, high = read_listed(data, types, offsets, people, v, planes, ids, categories)
        return entries, (1 << high) & ~1
    if not read_planes(data, types, offsets, bases, people, v, planes[0], planes[1], ids, categories):
        return -1, 0
    _split(planes[0], planes[1], planes[2], planes[3], planes[4])
    entries, dense = 0, 0
    for category in range(1, 4):
        plane = planes[1 + category]
        size = size_of(plane)
        if size * SPARSE_PLANE > people:
            dense |= 1 << category
        elif size > 0:
            people_of(plane, ids[entries:])
            categories[entries : entries + size] = category
            entries += size
    return entries, dense


@inlined
def _keep(plane, tile, slot):
    """Copy a plane into its slot of a tile [words / 8, slots, 8], where one word of all planes lies close."""
    for w in range(plane.size):
        tile[w >> 3, slot, w & 7] = plane[w]


@inlined
def _gather(ids, categories, first, last, rows, width, out, at, step):
    """Add the rows of listed people to the sums of their categories, at ``at + (category - 1) * step`` of ``out``."""
    for k in range(first, last):
        category = np.int64(categories[k])
        if category == 0:
            continue
        target, source = at + (category - 1) * step, np.int64(ids[k]) * width
        for column in range(0, width, LANES):
            add_row(out, target + column, rows, source + column)


@inlined
def _gather_all(ids, categories, entries, rows, width, part, out, at, step):
    """`_gather` in stretches, each summed by itself in ``part`` [3, width] first."""
    if entries <= CARRIERS:
        _gather(ids, categories, np.int64(0), entries, rows, width, out, at, step)
        return
    for first in range(0, entries, CARRIERS):
        part[:] = 0.0
        _gather(ids, categories, first, min(first + CARRIERS, entries), rows, width, part, 0, width)
        for category in range(3):
            for column in range(0, width, LANES):
                add_row(out, at + category * step + column, part, category * width + column)


@inlined
def _fill_table(rows, start, width, table):
    """Sums of rows for every subset of four people, for the 16 nibbles of one plane word (64 people).

    Nibble j holds people 2j, 32+2j, 2j+1, 33+2j of the word, in that order (plane order).
    """
    for nibble in range(16):
        one = start + 2 * nibble * width
        two = one + 32 * width
        put_subsets(table, nibble * 16 * LANES, rows, one, two, one + width, two + width)


@inlined
def _sum_tile(tile, used, targets, rows, width, words, table, sums, out):
    """Add the row sums of ``used`` planes at their ``targets`` in ``out``, by look-ups of four people at a time."""
    for stretch in range(0, words, STRETCH):
        for column in range(0, width, LANES):
            sums[: used * LANES] = 0.0
            for w in range(stretch, min(stretch + STRETCH, words)):
                _fill_table(rows, (w << 6) * width + column, width, table)
                for slot in range(used):
                    add_looked_up(sums, slot * LANES, table, tile[w >> 3, slot, w & 7])
            for slot in range(used):
                add_row(out, targets[slot] + column, sums, slot * LANES)


@compiled
def inner(
    data, types, offsets, bases, people, planes, ids, categories, tile, targets, table, sums, part,
    variants, rows, width, out,
):  # fmt: skip
    """Sums of the rows of het, of hom-alt and of missing people, into zeroed flat float64 [3, variants, width].

    ``rows`` is flat float64 of 64 * words people, zero beyond the last, ``width`` a multiple of 8 columns. The
    sums of one variant never depend on which others are asked for.
    """
    words, step = planes.shape[1], variants.size * width
    used = np.int64(0)
    for row in range(variants.size):
        v, at = variants[row], row * width
        if v < 0:
            continue
        entries, dense = read_parts(
            data, types, offsets, bases, people, v, people // SPARSE_PLANE, planes, ids, categories
        )
        if entries < 0:
            return v
        _gather_all(ids, categories, entries, rows, width, part, out, at, step)
        for category in range(1, 4):
            if dense >> category & 1:
                _keep(planes[1 + category], tile, used)
                targets[used] = at + (category - 1) * step
                used += 1
                if used == targets.size:
                    _sum_tile(tile, used, targets, rows, width, words, table, sums, out)
                    used = np.int64(0)
    _sum_tile(tile, used, targets, rows, width, words, table, sums, out)
    return -1


@inlined
def _transpose(x):
    """Eight plane words in, their 8 x 64 bits turned: byte j of word k is bit 8j+k of every plane."""
    for i in range(4):
        t = ((x[i] >> np.uint64(4)) ^ x[i + 4]) & np.uint64(0x0F0F0F0F0F0F0F0F)
        x[i + 4] ^= t
        x[i] ^= t << np.uint64(4)
    for i in (0, 1, 4, 5):
        t = ((x[i] >> np.uint64(2)) ^ x[i + 2]) & np.uint64(0x3333333333333333)
        x[i + 2] ^= t
        x[i] ^= t << np.uint64(2)
    for i in (0, 2, 4, 6):
        t = ((x[i] >> ONE) ^ x[i + 1]) & LOW
        x[i + 1] ^= t
        x[i] ^= t << ONE


@inlined
def _score_tables(weights, used, lanes, tables):
    """For eight planes at a time: the sum of weights of every subset, flat float64 [groups, 256, lanes]."""
    for group in range((used + 7) >> 3):
        base = (group << 8) * lanes
        for score in range(weights.shape[1]):
            tables[base + score] = 0.0
            for bit in range(8):
                slot = 8 * group + bit
                weight = weights[slot, score] if slot < used else 0.0
                for subset in range(1 << bit):
                    tables[base + ((1 << bit) + subset) * lanes + score] = (
                        tables[base + subset * lanes + score] + weight
                    )


@inlined
def _look_up(turned, tables, sums):
    """``sums[8j + k]`` = Σ over groups of the number for byte j of word k; eight sums at a time in registers."""
    for k in range(8):
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
        for group in range(turned.shape[0]):
            word, base = turned[group, k], np.uint64(group << 8)
            s0 += tables[base + (word & BYTE)]
            s1 += tables[base + ((word >> np.uint64(8)) & BYTE)]
            s2 += tables[base + ((word >> np.uint64(16)) & BYTE)]
            s3 += tables[base + ((word >> np.uint64(24)) & BYTE)]
            s4 += tables[base + ((word >> np.uint64(32)) & BYTE)]
            s5 += tables[base + ((word >> np.uint64(40)) & BYTE)]
            s6 += tables[base + ((word >> np.uint64(48)) & BYTE)]
            s7 += tables[base + (word >> np.uint64(56))]
        sums[k], sums[8 + k], sums[16 + k], sums[24 + k] = s0, s1, s2, s3
        sums[32 + k], sums[40 + k], sums[48 + k], sums[56 + k] = s4, s5, s6, s7


@inlined
def _look_up_rows(turned, tables, lanes, sums):
    """The same for rows of ``lanes`` scores."""
    sums[:] = 0.0
    for column in range(0, lanes, LANES):
        for group in range(turned.shape[0]):
            for k in range(8):
                word = turned[group, k]
                for j in range(8):
                    entry = (group << 8) + np.int64(word & BYTE)
                    word >>= np.uint64(8)
                    add_row(sums, (8 * j + k) * lanes + column, tables, entry * lanes + column)


@inlined
def _add_tile(tile, used, people, tables, lanes, turned, sums, out):
    """Add the weights of ``used`` planes to their people: one table look-up for eight planes."""
    groups = (used + 7) >> 3
    for w in range((people + 63) >> 6):
        for group in range(groups):
            for k in range(8):
                turned[group, k] = tile[w >> 3, 8 * group + k, w & 7]
            _transpose(turned[group])
        if lanes == 1:
            _look_up(turned[:groups], tables, sums)
        else:
            _look_up_rows(turned[:groups], tables, lanes, sums)
        for person in range(w << 6, min((w << 6) + 64, people)):
            bit = ((person & 31) << 1) + ((person >> 5) & 1)
            if lanes == 1:
                out[person] += sums[bit]
            else:
                for column in range(0, lanes, LANES):
                    add_row(out, person * lanes + column, sums, bit * lanes + column)


@inlined
def _scatter(ids, categories, entries, values, lanes, out):
    """Add the values of their categories, flat [4 categories, lanes], to the listed people, flat [people, lanes]."""
    if lanes == 1:
        for k in range(entries):
            out[np.int64(ids[k])] += values[np.int64(categories[k])]
        return
    for k in range(entries):
        target, source = np.int64(ids[k]) * lanes, np.int64(categories[k]) * lanes
        for column in range(0, lanes, LANES):
            add_row(out, target + column, values, source + column)


@compiled
def score(
    data, types, offsets, bases, people, planes, ids, categories, tile, held, tables, turned, sums, listed,
    variants, values, out,
):  # fmt: skip
    """Sums over variants of ``values`` [variants, 3, scores] (het, hom-alt, missing).

    Into zeroed flat float64 [people, lanes], where lanes are the scores, or a multiple of 8 if there are several.
    """
    used, scores, lanes = np.int64(0), values.shape[2], sums.size >> 6
    for row in range(variants.size):
        v = variants[row]
        if v < 0:
            continue
        entries, dense = read_parts(data, types, offsets, bases, people, v, people, planes, ids, categories)
        if entries < 0:
            return v
        for category in range(3):
            for score in range(scores):
                listed[(category + 1) * lanes + score] = values[row, category, score]
        _scatter(ids, categories, entries, listed, lanes, out)
        for category in range(1, 4):
            if dense >> category & 1:
                _keep(planes[1 + category], tile, used)
                for score in range(scores):
                    held[used, score] = values[row, category - 1, score]
                used += 1
                if used == held.shape[0]:
                    _score_tables(held, used, lanes, tables)
                    _add_tile(tile, used, people, tables, lanes, turned, sums, out)
                    used = np.int64(0)
    _score_tables(held, used, lanes, tables)
    _add_tile(tile, used, people, tables, lanes, turned, sums, out)
    return -1
