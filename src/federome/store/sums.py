"""Compiled sums over people (inner products) and over variants (scores) that `kernels` puts an interface to.

Sparse records are summed carrier by carrier. Of other records each category becomes a plane (`records`), and many
planes go through tables together: a table holds the sums of all subsets of a few rows (four people, or eight
variants' weights), so that one look-up and one addition do the work of four or eight. Rare categories of common
variants are again summed person by person. Every order of addition is fixed by the record alone.
"""

# mypy: allow-untyped-decorators, allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from federome.store.bits import LANES, add_looked_up, add_row, compiled, set_sum
from federome.store.records import LOW, ONE, people_of, read_planes, read_sparse, scratch, size_of

INNER_PLANES = 256
"""Planes that share one set of lookup tables in `inner`."""

SCORE_PLANES = 64
"""Planes that are added to the people at once in `score`; a multiple of 8."""

STRETCH = 64
"""Words (4,096 people) summed before the sum joins the total: keeps float64 rounding small."""

CARRIERS = 256
"""The same for listed people."""

SPARSE_PLANE = 64
"""A plane with fewer than one set bit in this many people is handled person by person."""


@compiled
def _split(lo, hi, planes):
    """From category bits to three planes: het, hom-alt, missing."""
    for w in range(lo.size):
        planes[0, w] = lo[w] & ~hi[w]
        planes[1, w] = hi[w] & ~lo[w]
        planes[2, w] = lo[w] & hi[w]


@compiled
def _keep(plane, tile, slot):
    """Copy a plane into its slot of a tile [words / 8, slots, 8], where one word of all planes lies close."""
    for w in range(plane.size):
        tile[w >> 3, slot, w & 7] = plane[w]


@compiled
def _gather(ids, categories, first, last, rows, width, out, at, step):
    """Add the rows of listed people to the sums of their categories, at ``at + (category - 1) * step`` of ``out``."""
    for k in range(first, last):
        category = np.int64(categories[k])
        if category == 0:
            continue
        target, source = at + (category - 1) * step, np.int64(ids[k]) * width
        for column in range(0, width, LANES):
            add_row(out, target + column, rows, source + column)


@compiled
def _gather_all(ids, categories, entries, rows, width, part, out, at, step):
    """`_gather` in stretches, each summed by itself in ``part`` [3, width] first."""
    if entries <= CARRIERS:
        _gather(ids, categories, 0, entries, rows, width, out, at, step)
        return
    for first in range(0, entries, CARRIERS):
        part[:] = 0.0
        _gather(ids, categories, first, min(first + CARRIERS, entries), rows, width, part, 0, width)
        for category in range(3):
            for column in range(0, width, LANES):
                add_row(out, at + category * step + column, part, category * width + column)


@compiled
def _fill_table(rows, start, width, table):
    """Sums of rows for every subset of four people, for the 16 nibbles of one plane word (64 people).

    Nibble j holds people 2j, 32+2j, 2j+1, 33+2j of the word, in that order (plane order).
    """
    for nibble in range(16):
        base = nibble * 16 * LANES
        for bit in range(4):
            person = 2 * nibble + (bit >> 1) + 32 * (bit & 1)
            source, target = start + person * width, base + (LANES << bit)
            for column in range(LANES):
                table[target + column] = rows[source + column]
        for subset in range(3, 16):
            highest = 8 if subset > 8 else (4 if subset > 4 else 2)
            if subset != highest and subset != 4 and subset != 8:
                set_sum(table, base + subset * LANES, base + highest * LANES, base + (subset - highest) * LANES)


@compiled
def _sum_tile(tile, used, targets, rows, width, words, table, sums, out):
    """Add the row sums of ``used`` planes at their ``targets`` in ``out``, by look-ups of four people at a time."""
    for column in range(0, width, LANES):
        for stretch in range(0, words, STRETCH):
            sums[: used * LANES] = 0.0
            for w in range(stretch, min(stretch + STRETCH, words)):
                _fill_table(rows, (w << 6) * width + column, width, table)
                for slot in range(used):
                    add_looked_up(sums, slot * LANES, table, tile[w >> 3, slot, w & 7])
            for slot in range(used):
                add_row(out, targets[slot] + column, sums, slot * LANES)


@compiled
def _aligned(size):
    """float64 zeros that begin at a cache line."""
    block = np.zeros(size + LANES, np.float64)
    skip = (-np.int64(block.ctypes.data) & 63) >> 3
    return block[skip : skip + size]


@compiled
def inner(data, types, offsets, bases, people, variants, rows, width, out):
    """Sums of the rows of het, of hom-alt and of missing people, into zeroed flat float64 [3, variants, width].

    ``rows`` is flat float64 of 64 * words people, zero beyond the last, ``width`` a multiple of 8 columns. The
    sums of one variant never depend on which others are asked for.
    """
    lo, hi, ids, categories = scratch(people)
    words, step = lo.size, variants.size * width
    planes = np.empty((3, words), np.uint64)
    slots = min(INNER_PLANES, 3 * variants.size)
    tile = np.empty((0, slots, 8), np.uint64)
    targets = np.empty(slots, np.int64)
    table, sums, part = _aligned(16 * 16 * LANES), _aligned(slots * LANES), np.empty(3 * width, np.float64)
    used = 0
    for row in range(variants.size):
        v, at = variants[row], row * width
        if v < 0:
            continue
        if types[v] & 7 == 4:
            entries = read_sparse(data, types, offsets, people, v, ids, categories)
            if entries < 0:
                return v
            _gather_all(ids, categories, entries, rows, width, part, out, at, step)
            continue
        if not read_planes(data, types, offsets, bases, people, v, lo, hi, ids, categories):
            return v
        _split(lo, hi, planes)
        if tile.shape[0] == 0:
            tile = np.empty(((words + 7) >> 3, slots, 8), np.uint64)
        for category in range(1, 4):
            plane = planes[category - 1]
            entries = size_of(plane)
            if entries * SPARSE_PLANE <= people:
                people_of(plane, ids)
                categories[:entries] = category
                _gather_all(ids, categories, entries, rows, width, part, out, at, step)
                continue
            _keep(plane, tile, used)
            targets[used] = at + (category - 1) * step
            used += 1
            if used == slots:
                _sum_tile(tile, used, targets, rows, width, words, table, sums, out)
                used = 0
    _sum_tile(tile, used, targets, rows, width, words, table, sums, out)
    return -1


@compiled
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


@compiled
def _score_tables(weights, used, tables):
    """For each score and eight planes: the sum of weights of every subset, float64 [scores, groups, 256]."""
    for score in range(weights.shape[1]):
        for group in range((used + 7) >> 3):
            table = tables[score, group]
            table[0] = 0.0
            for bit in range(8):
                slot = 8 * group + bit
                weight = weights[slot, score] if slot < used else 0.0
                for subset in range(1 << bit):
                    table[(1 << bit) + subset] = table[subset] + weight


@compiled
def _add_tile(tile, used, people, tables, out):
    """Add the weights of ``used`` planes to their people: one table look-up for eight planes."""
    groups = (used + 7) >> 3
    turned = np.empty((groups, 8), np.uint64)
    bytes_of = turned.view(np.uint8)
    sums = np.empty(64, np.float64)
    for w in range((people + 63) >> 6):
        for group in range(groups):
            for k in range(8):
                turned[group, k] = tile[w >> 3, 8 * group + k, w & 7]
            _transpose(turned[group])
        for score in range(out.shape[1]):
            sums[:] = 0.0
            for group in range(groups):
                for k in range(64):
                    sums[k] += tables[score, group, bytes_of[group, k]]
            for k in range(64):  # byte j of word k is plane bit 8j + k
                bit = ((k & 7) << 3) + (k >> 3)
                person = (w << 6) + (bit >> 1) + 32 * (bit & 1)
                if person < people:
                    out[person, score] += sums[k]


@compiled
def score(data, types, offsets, bases, people, variants, weights, fill, out):
    """Sums over variants of genotype times weight into float64 [people, scores]; a missing one counts ``fill``."""
    lo, hi, ids, categories = scratch(people)
    words, scores = lo.size, weights.shape[1]
    planes = np.empty((3, words), np.uint64)
    tile = np.zeros((0, SCORE_PLANES, 8), np.uint64)
    held = np.empty((SCORE_PLANES, scores), np.float64)
    tables = np.empty((scores, SCORE_PLANES >> 3, 256), np.float64)
    used = 0
    for row in range(variants.size):
        v = variants[row]
        if v < 0:
            continue
        factors = (0.0, 1.0, 2.0, fill[row])
        if types[v] & 7 == 4:
            entries = read_sparse(data, types, offsets, people, v, ids, categories)
            if entries < 0:
                return v
            for k in range(entries):
                for s in range(scores):
                    out[ids[k], s] += factors[categories[k]] * weights[row, s]
            continue
        if not read_planes(data, types, offsets, bases, people, v, lo, hi, ids, categories):
            return v
        _split(lo, hi, planes)
        if tile.shape[0] == 0:
            tile = np.zeros(((words + 7) >> 3, SCORE_PLANES, 8), np.uint64)
        for value in range(1, 4):
            plane = planes[value - 1]
            entries = size_of(plane)
            if entries * SPARSE_PLANE <= people:
                people_of(plane, ids)
                for k in range(entries):
                    for s in range(scores):
                        out[ids[k], s] += factors[value] * weights[row, s]
                continue
            _keep(plane, tile, used)
            held[used] = factors[value] * weights[row]
            used += 1
            if used == SCORE_PLANES:
                _score_tables(held, used, tables)
                _add_tile(tile, used, people, tables, out)
                used = 0
    _score_tables(held, used, tables)
    _add_tile(tile, used, people, tables, out)
    return -1
