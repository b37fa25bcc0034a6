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

SCORE_PLANES = 64, 256
"""Planes that are added to the people at once in `score`, for one score and for several; the former is one batch."""

BYTE = np.uint64(255)

STRETCH = 64
"""Words (4,096 people) summed before the sum joins the total: keeps float64 rounding small."""

CARRIERS = 256
"""The same for listed people."""

SPARSE_PLANE = 64
"""In `inner`, a category with fewer than one in this many people is handled person by person."""

SPARSE_SCORE, SPARSE_SCORES = 32, 512
"""The same in `score`, for one score and for several: rows of sums are far away in memory, planes are not.

At least 24 all: lists of three categories fit into scratch for an eighth of the people.
"""

LISTED_SCORE, LISTED_SCORES = 8, SPARSE_SCORES
"""A record that is a list already stays one in `score` up to one in this many people: 8 is every list there is."""


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
    lanes = score_lanes(scores)
    batches = min(SCORE_PLANES[lanes > 1] // 64, -(-3 * variants // 64))
    tile = np.zeros((-(-people // 512), 64 * batches + 1, 8), np.uint64)  # one more: rows must not share a cache set
    held, tables = aligned(64 * batches * lanes), aligned(batches * (2048 if lanes == 1 else 256 * lanes))
    return tile, held, tables, np.empty((8, 8), np.uint64), aligned(64 * lanes), aligned(4 * lanes)


@inlined
def _split(lo, hi, het, double, missing):
    """From category bits to the planes of het, hom-alt and missing people."""
    for w in range(lo.size):
        het[w] = lo[w] & ~hi[w]
        double[w] = hi[w] & ~lo[w]
        missing[w] = lo[w] & hi[w]


@inlined
def read_parts(data, types, offsets, bases, people, v, most, share, planes, ids, categories):
    """A record as a list of people with their categories, and planes of its larger categories.

    Returns (entries of the list, or -1 if inconsistent; bit c set if ``planes[1 + c]`` holds category c). Hom-ref
    is nowhere, every other person either in the list or in a plane. A category becomes a plane if more than one in
    ``share`` people have it; a sparse or 1-bit record is a list if that has at most ``most`` entries. How a record is
    split depends on it alone.
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
        if size * share > people:
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
            data, types, offsets, bases, people, v, people // SPARSE_PLANE, SPARSE_PLANE, planes, ids, categories
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
def _turn_bytes(x):
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
def _turn_words(turned):
    """Then, of eight such groups [8, 8]: word (k, j) becomes the bits of all 64 planes at bit 8j+k."""
    for k in range(8):
        for i in range(4):
            t = ((turned[i, k] >> np.uint64(32)) ^ turned[i + 4, k]) & np.uint64(0x00000000FFFFFFFF)
            turned[i + 4, k] ^= t
            turned[i, k] ^= t << np.uint64(32)
        for i in (0, 1, 4, 5):
            t = ((turned[i, k] >> np.uint64(16)) ^ turned[i + 2, k]) & np.uint64(0x0000FFFF0000FFFF)
            turned[i + 2, k] ^= t
            turned[i, k] ^= t << np.uint64(16)
        for i in (0, 2, 4, 6):
            t = ((turned[i, k] >> np.uint64(8)) ^ turned[i + 1, k]) & np.uint64(0x00FF00FF00FF00FF)
            turned[i + 1, k] ^= t
            turned[i, k] ^= t << np.uint64(8)


@inlined
def _byte_tables(held, batches, tables):
    """For eight planes at a time: the sum of weights of every subset, flat float64 [batches, 8, 256]."""
    for group in range(8 * batches):
        base = group << 8
        tables[base] = 0.0
        for bit in range(8):
            weight = held[8 * group + bit]
            for subset in range(1 << bit):
                tables[base + (1 << bit) + subset] = tables[base + subset] + weight


@inlined
def _nibble_tables(held, batches, lanes, tables):
    """For four planes at a time: rows of weights of every subset, flat float64 [batches, lanes / 8, 16, 16, 8]."""
    at = np.int64(0)
    for batch in range(batches):
        for column in range(0, lanes, LANES):
            for nibble in range(16):
                first = (64 * batch + 4 * nibble) * lanes + column
                put_subsets(tables, at, held, first, first + lanes, first + 2 * lanes, first + 3 * lanes)
                at += 16 * LANES


@inlined
def _look_up(turned, tables, sums):
    """``sums[8j + k]`` = Σ over groups of the number for byte j of word k; eight sums at a time in registers."""
    for k in range(8):
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
        for group in range(8):
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
    """Add the same for rows of ``lanes`` scores, four planes a look-up: such tables stay in the nearest cache."""
    _turn_words(turned)
    for column in range(0, lanes, LANES):
        table = tables[column << 8 :]
        for k in range(8):
            for j in range(8):
                add_looked_up(sums, (8 * j + k) * lanes + column, table, turned[j, k])


@inlined
def _add_tile(tile, used, people, tables, lanes, turned, sums, out):
    """Add the weights of ``used`` planes to their people, 64 planes at a time."""
    batches, size = (used + 63) >> 6, 2048 if lanes == 1 else lanes << 8
    for w in range((people + 63) >> 6):
        sums[:] = 0.0
        for batch in range(batches):
            for group in range(8):
                for k in range(8):
                    turned[group, k] = tile[w >> 3, 64 * batch + 8 * group + k, w & 7]
                _turn_bytes(turned[group])
            if lanes == 1:
                _look_up(turned, tables[batch * size :], sums)
            else:
                _look_up_rows(turned, tables[batch * size :], lanes, sums)
        for person in range(w << 6, min((w << 6) + 64, people)):
            bit = ((person & 31) << 1) + ((person >> 5) & 1)
            if lanes == 1:
                out[person] += sums[bit]
            else:
                for column in range(0, lanes, LANES):
                    add_row(out, person * lanes + column, sums, bit * lanes + column)


@inlined
def _flush(tile, held, used, people, tables, lanes, turned, sums, out):
    """Add the ``used`` planes with the weights that are held for them."""
    held[used * lanes :] = 0.0
    batches = (used + 63) >> 6
    if lanes == 1:
        _byte_tables(held, batches, tables)
    else:
        _nibble_tables(held, batches, lanes, tables)
    _add_tile(tile, used, people, tables, lanes, turned, sums, out)


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
    share = SPARSE_SCORE if lanes == 1 else SPARSE_SCORES
    most = people // (LISTED_SCORE if lanes == 1 else LISTED_SCORES)
    for row in range(variants.size):
        v = variants[row]
        if v < 0:
            continue
        entries, dense = read_parts(data, types, offsets, bases, people, v, most, share, planes, ids, categories)
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
                    held[used * lanes + score] = values[row, category - 1, score]
                used += 1
                if used * lanes == held.size:
                    _flush(tile, held, used, people, tables, lanes, turned, sums, out)
                    used = np.int64(0)
    _flush(tile, held, used, people, tables, lanes, turned, sums, out)
    return -1
