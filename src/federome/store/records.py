"""Compiled readers of PGEN records, and of who carries what; `kernels` puts an interface to them.

A record is read in one of two forms. **Listed:** a difflist over hom-ref (type 4, nearly every variant) becomes a
sorted list of people and their categories, and costs what its carriers cost. **Planes:** any other record
becomes two bit planes, the lower and the higher bit of everybody's category, 64 people a word in *plane order*:
bit 2i of word w is person 64w+i and bit 2i+1 is person 64w+32+i, because two words of 32 two-bit fields fold
into that order without moving a bit. Bits beyond the last person are zero.

Nothing in a record is believed: each count, position and sample number is checked against the record's bytes and
the number of people before it is used. Readers return False (or -1) for a record that contradicts itself and loops
then return the number of that variant (else -1). When working on this file remove `__pycache__`: numba's cache
watches each file by itself, not what its functions inline.
Format: PLINK 2 File Format Specification (draft), §2.3.
"""

# mypy: allow-untyped-decorators, allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from federome.store.bits import compiled, inlined, load64, lowest, popcount, put_steps, store64

SPARSE = 4
"""Record type (its low three bits) of a difflist over hom-ref."""

SLACK = 8
"""Room that a list of people has beyond them, because people are written eight at a time."""

LOW = np.uint64(0x5555555555555555)
ONE = np.uint64(1)
EIGHTH = np.uint64(0x8080808080808080)
ONES = np.uint64(0x0101010101010101)
BYTES = np.uint64(0x3830282018100800)
"""Where the bytes of a word start, as `put_steps` wants it."""
GATHER = np.uint64(0x0002040810204081)
"""Times the high bits of eight bytes: puts them into the highest byte, first byte lowest."""


def _whole_numbers() -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """By the high bits of eight bytes: where each varint in them ends, and how many are whole and at most three long.

    Byte j of the first is the number of bytes up to the end of varint j.
    """
    ends, whole = np.zeros(256, np.uint64), np.zeros(256, np.int64)
    for more in range(256):
        first = at = 0
        while at < 8 and at < first + 3:
            at += 1
            if not more >> (at - 1) & 1:
                ends[more] |= np.uint64(at << 8 * int(whole[more]))
                whole[more] += 1
                first = at
    return ends, whole


ENDS, WHOLE = _whole_numbers()


KEPT = 1 << 18
"""For up to so many people a thread keeps what it reads into, a third of a megabyte; many threads may hold one each."""


class _Held(threading.local):
    """What a thread keeps: fresh memory costs more than reading a short record does."""

    people = -1
    arrays: tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint8]]


_held = _Held()


def scratch(people: int) -> tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint8]]:
    """What reading one record needs: five planes (two for the record), listed people and their categories.

    The thread's own, until its next call: nothing that is returned to others may lie in it.
    """
    if people == _held.people:
        return _held.arrays
    most = people // 8 + SLACK
    arrays = np.empty((5, -(-people // 64)), np.uint64), np.empty(most, np.uint32), np.empty(most, np.uint8)
    if people <= KEPT:
        _held.people, _held.arrays = people, arrays
    return arrays


# --- Difflists ---------------------------------------------------------------------------------------------


@inlined
def _varint(data, pos, end):
    """(value, next position), the position -1 if it runs past ``end``, over five bytes or is longer than needed."""
    value = np.int64(0)
    for shift in range(0, 35, 7):
        if pos >= end:
            break
        byte = np.int64(data[pos])
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, pos if byte > 0 or shift == 0 else -1
    return 0, -1


@inlined
def difflist_head(data, pos, end, people):
    """(entries, first sample numbers, group sizes, categories, deltas): positions; entries -1 if inconsistent.

    At most people // 8 entries, as in pgenlib, so that scratch of that size always suffices.
    """
    count, pos = _varint(data, pos, end)
    if pos < 0 or count > people >> 3:
        return -1, 0, 0, 0, 0
    if count == 0:
        return 0, pos, pos, pos, pos
    groups = (count + 63) >> 6
    sizes = pos + groups * (1 + (people > 0xFF) + (people > 0xFFFF) + (people > 0xFFFFFF))
    pairs = sizes + groups - 1
    deltas = pairs + ((count + 3) >> 2)
    if deltas + count - groups > end:
        return -1, 0, 0, 0, 0
    return count, pos, sizes, pairs, deltas


@inlined
def _deltas(data, pos, end, people, ids, k, stop, person):
    """Add up steps from ``person`` into ``ids[k:stop]``; (last person, next position), the position -1 if bad.

    Takes whatever numbers are whole in eight bytes at once. A step of zero (or one that is written longer than
    needed, which ends in a zero byte, too) or out of the people is bad. May look at bytes beyond ``end``, never
    beyond the file.
    """
    bad = np.uint64(0)
    while k < stop:
        word, more = np.uint64(0), np.uint64(255)
        if pos + 8 <= data.size:
            word = load64(data, pos)
            more = ((word & EIGHTH) * GATHER) >> np.uint64(56)
        if more == 0 and k + 8 <= stop:  # foreseen, so that the next bytes need not wait for these
            put_steps(ids, k, word, BYTES, person)
            k += 8
            pos += 8
            person = np.int64(ids[k - 1])
            bad |= (word - ONES) & EIGHTH
        elif WHOLE[more]:
            ends, take = ENDS[more], min(WHOLE[more], stop - k)
            put_steps(ids, k, word, ends << np.uint64(11), person)
            used = (ends >> np.uint64(8 * take - 8)) & np.uint64(15)
            k += take
            person = np.int64(ids[k - 1])
            pos += np.int64(used)
            beyond = (~np.uint64(0) << (used << np.uint64(2))) << (used << np.uint64(2))
            bad |= ((word | beyond) - ONES) & ~(word | beyond) & EIGHTH
        else:
            step, pos = _varint(data, pos, end)
            person += step
            if step == 0 or person >= people:  # zero is also what a bad varint gives
                return person, -1
            ids[k] = person
            k += 1
    return person, pos if pos <= end and person < people and bad == 0 else -1


@inlined
def _spread(fields):
    """Eight two-bit fields (16 bits) as eight bytes."""
    x = (fields | (fields << np.uint64(24))) & np.uint64(0x000000FF000000FF)
    x = (x | (x << np.uint64(12))) & np.uint64(0x000F000F000F000F)
    return (x | (x << np.uint64(6))) & np.uint64(0x0303030303030303)


@inlined
def _unpack(data, pairs, count, categories):
    """Two-bit fields to bytes, eight at a time."""
    for k in range(0, count - 7, 8):
        at = pairs + (k >> 2)
        store64(categories, k, _spread(np.uint64(data[at]) | (np.uint64(data[at + 1]) << np.uint64(8))))
    for k in range(count & ~7, count):
        categories[k] = (data[pairs + (k >> 2)] >> np.uint8(2 * (k & 3))) & 3


@inlined
def people_listed(data, pos, end, people, ids):
    """The people of a difflist into scratch; (entries, their categories' place, next position), entries -1 if bad."""
    count, firsts, sizes, pairs, pos = difflist_head(data, pos, end, people)
    if count <= 0:
        return count, pairs, pos
    groups = (count + 63) >> 6
    width = (sizes - firsts) // groups
    last = np.int64(-1)
    for group in range(groups):
        person = np.int64(0)
        for byte in range(width):
            person |= np.int64(data[firsts + group * width + byte]) << (8 * byte)
        if person <= last or person >= people:
            return -1, 0, 0
        start = group << 6
        ids[start] = person
        begin = pos
        person, pos = _deltas(data, pos, end, people, ids, start + 1, min(start + 64, count), person)
        if pos < 0 or (group + 1 < groups and pos - begin != np.int64(data[sizes + group]) + 63):
            return -1, 0, 0
        last = person
    return count, pairs, pos


@inlined
def difflist(data, pos, end, people, ids, categories):
    """Read (person, category) pairs into scratch; (entries, next position), entries -1 if inconsistent."""
    count, pairs, pos = people_listed(data, pos, end, people, ids)
    if count > 0:
        _unpack(data, pairs, count, categories)
    return count, pos


# --- Planes ------------------------------------------------------------------------------------------------


@inlined
def _shuffle(x):
    """Natural order to plane order: bits 0-31 go to the even, bits 32-63 to the odd positions."""
    t = (x ^ (x >> np.uint64(16))) & np.uint64(0x00000000FFFF0000)
    x ^= t ^ (t << np.uint64(16))
    t = (x ^ (x >> np.uint64(8))) & np.uint64(0x0000FF000000FF00)
    x ^= t ^ (t << np.uint64(8))
    t = (x ^ (x >> np.uint64(4))) & np.uint64(0x00F000F000F000F0)
    x ^= t ^ (t << np.uint64(4))
    t = (x ^ (x >> np.uint64(2))) & np.uint64(0x0C0C0C0C0C0C0C0C)
    x ^= t ^ (t << np.uint64(2))
    t = (x ^ (x >> ONE)) & np.uint64(0x2222222222222222)
    return x ^ t ^ (t << ONE)


@inlined
def _tail(people):
    """The bits of the last word that belong to people."""
    rest = people & 63
    ones = ~np.uint64(0)
    return _shuffle(ones if rest == 0 else (ONE << np.uint64(rest)) - ONE)


@inlined
def bytes_word(data, pos, size):
    """Up to eight bytes as one word; ``size`` may be zero or negative."""
    word = np.uint64(0)
    for k in range(min(size, 8)):
        word |= np.uint64(data[pos + k]) << np.uint64(8 * k)
    return word


@inlined
def _fill(lo, hi, people, category):
    """Everybody in one category."""
    lo[:] = ~np.uint64(0) if category & 1 else np.uint64(0)
    hi[:] = ~np.uint64(0) if category & 2 else np.uint64(0)
    lo[-1] &= _tail(people)
    hi[-1] &= _tail(people)


@inlined
def _two_bit(data, pos, people, lo, hi):
    """Planes of a 2-bit record (type 0)."""
    full = people >> 6
    for w in range(full):
        a = load64(data, pos + 16 * w)
        b = load64(data, pos + 16 * w + 8)
        lo[w] = (a & LOW) | ((b & LOW) << ONE)
        hi[w] = ((a >> ONE) & LOW) | (b & ~LOW)
    if people & 63:
        left = ((people + 3) >> 2) - 16 * full
        a = bytes_word(data, pos + 16 * full, left)
        b = bytes_word(data, pos + 16 * full + 8, left - 8)
        lo[full] = ((a & LOW) | ((b & LOW) << ONE)) & _tail(people)
        hi[full] = (((a >> ONE) & LOW) | (b & ~LOW)) & _tail(people)


@inlined
def _one_bit(data, pos, people, low, high, lo, hi):
    """Planes of the bit array of a 1-bit record (type 1), without its exceptions."""
    full = people >> 6
    ones = ~np.uint64(0)
    lo_set, lo_clear = ones * np.uint64(high & 1), ones * np.uint64(low & 1)
    hi_set, hi_clear = ones * np.uint64(high >> 1), ones * np.uint64(low >> 1)
    for w in range(full):
        x = _shuffle(load64(data, pos + 8 * w))
        lo[w] = (x & lo_set) | (~x & lo_clear)
        hi[w] = (x & hi_set) | (~x & hi_clear)
    if people & 63:
        x = _shuffle(bytes_word(data, pos + 8 * full, ((people + 7) >> 3) - 8 * full))
        lo[full] = ((x & lo_set) | (~x & lo_clear)) & _tail(people)
        hi[full] = ((x & hi_set) | (~x & hi_clear)) & _tail(people)


@inlined
def _patch(lo, hi, ids, categories, count):
    """Put listed people into their categories."""
    for k in range(count):
        person = np.int64(ids[k])
        bit = np.uint64(((person & 31) << 1) + ((person >> 5) & 1))
        category = np.uint64(categories[k])
        w = person >> 6
        lo[w] = (lo[w] & ~(ONE << bit)) | ((category & ONE) << bit)
        hi[w] = (hi[w] & ~(ONE << bit)) | ((category >> ONE) << bit)


@inlined
def one_bit_head(data, pos, end, people):
    """(low category, high category) of a 1-bit record; low -1 if inconsistent."""
    if pos + 1 + ((people + 7) >> 3) > end:
        return -1, 0
    low, high = np.int64(data[pos]) >> 2, (np.int64(data[pos]) >> 2) + (np.int64(data[pos]) & 3)
    if low == high or high > 3:
        return -1, 0
    return low, high


@inlined
def _plain_planes(data, kind, pos, end, people, lo, hi, ids, categories):
    """Planes of a record that is not LD-compressed; the end of its hard-call track, or -1."""
    if kind == 0:
        stop = pos + ((people + 3) >> 2)
        if stop > end:
            return -1
        _two_bit(data, pos, people, lo, hi)
        return stop
    if kind == 1:
        low, high = one_bit_head(data, pos, end, people)
        if low < 0:
            return -1
        _one_bit(data, pos + 1, people, low, high, lo, hi)
        pos += 1 + ((people + 7) >> 3)
    else:
        _fill(lo, hi, people, kind & 3)
    count, stop = difflist(data, pos, end, people, ids, categories)
    if count < 0:
        return -1
    _patch(lo, hi, ids, categories, count)
    return stop


@inlined
def read_planes(data, types, offsets, bases, people, v, lo, hi, ids, categories):
    """Planes of any record; whether it is consistent."""
    kind = types[v] & 7
    base = bases[v]
    stop = _plain_planes(data, types[base] & 7, offsets[base], offsets[base + 1], people, lo, hi, ids, categories)
    if base == v or stop < 0:
        return ends(types[v], stop, offsets[v + 1])
    count, stop = difflist(data, offsets[v], offsets[v + 1], people, ids, categories)
    if count < 0:
        return False
    _patch(lo, hi, ids, categories, count)
    if kind == 3:  # hom-ref and hom-alt change places, after the patch: pgenlib stores it so
        for w in range(lo.size):
            hi[w] ^= ~lo[w]
        hi[-1] &= _tail(people)
    return ends(types[v], stop, offsets[v + 1])


@inlined
def ends(kind, stop, end):
    """Whether a hard-call track ends where it should: with the record, or before it if other tracks follow."""
    return stop == end or (stop >= 0 and stop < end and kind > 7)


@inlined
def read_sparse(data, types, offsets, people, v, ids, categories):
    """Carriers of a type 4 record; -1 if inconsistent."""
    count, stop = difflist(data, offsets[v], offsets[v + 1], people, ids, categories)
    return count if count >= 0 and ends(types[v], stop, offsets[v + 1]) else -1


@inlined
def is_listed(data, types, offsets, people, v, most):
    """Whether `read_listed` can read a record with at most ``most`` entries: a sparse or a 1-bit one over hom-ref."""
    kind, pos, end = types[v] & 7, offsets[v], offsets[v + 1]
    if kind == 1:
        low, _ = one_bit_head(data, pos, end, people)
        kind = SPARSE if low == 0 else kind
        pos += 1 + ((people + 7) >> 3)
    entries, _ = _varint(data, pos, end)
    return kind == SPARSE and entries <= most


@inlined
def read_listed(data, types, offsets, people, v, planes, ids, categories):
    """A record as a list of people and their categories, and one more category h as a plane, ``planes[1 + h]``.

    Returns (entries, or -1 if inconsistent; h, or 0 without one). All others are hom-ref.
    """
    pos, end = offsets[v], offsets[v + 1]
    if types[v] & 7 == SPARSE:
        return read_sparse(data, types, offsets, people, v, ids, categories), 0
    low, high = one_bit_head(data, pos, end, people)
    entries, stop = difflist(data, pos + 1 + ((people + 7) >> 3), end, people, ids, categories)
    if low != 0 or entries < 0 or not ends(types[v], stop, end):
        return -1, 0
    plane = planes[1 + high]
    _one_bit(data, pos + 1, people, 0, 1, plane, planes[0])
    for k in range(entries):
        person = np.int64(ids[k])
        plane[person >> 6] &= ~(ONE << np.uint64(((person & 31) << 1) + ((person >> 5) & 1)))
    return entries, high


@inlined
def people_of(plane, ids):
    """Write the people of a plane, in increasing order, to ``ids``; returns how many."""
    count = 0
    for w in range(plane.size):
        for half in range(2):
            left = (plane[w] >> np.uint64(half)) & LOW
            while left:
                ids[count] = (w << 6) + (half << 5) + (lowest(left) >> 1)
                left &= left - ONE
                count += 1
    return count


@inlined
def size_of(plane):
    """Number of people in a plane."""
    count = 0
    for w in range(plane.size):
        count += popcount(plane[w])
    return count


@compiled
def first_at(positions, position):
    """The first row at a position or beyond it, of rows in order; NumPy's search takes twice as long to be called."""
    low, high = np.int64(0), np.int64(positions.size)
    while low < high:
        middle = (low + high) >> 1
        if positions[middle] < position:
            low = middle + 1
        else:
            high = middle
    return low


# --- People ------------------------------------------------------------------------------------------------


@compiled
def list_carriers(data, types, offsets, bases, people, planes, ids, categories, v):
    """Everybody who is not hom-ref, sorted, into ``ids`` and ``categories``; how many, or -1 if inconsistent.

    The two lists have room for everybody unless the record is of type 4.
    """
    lo, hi = planes[0], planes[1]
    kept = 0
    if types[v] & 7 == SPARSE:
        entries = read_sparse(data, types, offsets, people, v, ids, categories)
        for k in range(entries):
            if categories[k] != 0:
                ids[kept], categories[kept] = ids[k], categories[k]
                kept += 1
        return kept if entries >= 0 else -1
    if not read_planes(data, types, offsets, bases, people, v, lo, hi, ids, categories):
        return -1
    for w in range(lo.size):
        for half in range(2):
            left = ((lo[w] | hi[w]) >> np.uint64(half)) & LOW
            while left:
                bit = np.uint64(lowest(left) + half)
                left &= left - ONE
                ids[kept] = (w << 6) + (half << 5) + np.int64(bit >> ONE)
                categories[kept] = ((lo[w] >> bit) & ONE) | (((hi[w] >> bit) & ONE) << ONE)
                kept += 1
    return kept


@compiled
def mark_carriers(data, types, offsets, bases, people, planes, ids, categories, variants, union, out):
    """Set ``out`` (uint8 [people]) to 1 for people with an alternate allele at any of ``variants``.

    ``union``, uint64 [words], collects dense records; both are zeroed.
    """
    lo, hi = planes[0], planes[1]
    dense = False
    for row in range(variants.size):
        v = variants[row]
        if v < 0:
            continue
        if types[v] & 7 == SPARSE:
            entries = read_sparse(data, types, offsets, people, v, ids, categories)
            if entries < 0:
                return v
            for k in range(entries):
                out[ids[k]] |= (categories[k] ^ (categories[k] >> 1)) & 1
        else:
            if not read_planes(data, types, offsets, bases, people, v, lo, hi, ids, categories):
                return v
            dense = True
            for w in range(union.size):
                union[w] |= lo[w] ^ hi[w]
    if dense:
        for person in range(people):
            bit = np.uint64(((person & 31) << 1) + ((person >> 5) & 1))
            out[person] |= (union[person >> 6] >> bit) & ONE
    return -1


@inlined
def _expand_planes(lo, hi, people, out):
    """Genotypes of everybody into int8 [people], eight at a time."""
    for w in range(lo.size):
        for half in range(2):
            shift = np.uint64(half)
            fields = ((lo[w] >> shift) & LOW) | (((hi[w] >> shift) & LOW) << ONE)
            for first in range((w << 6) + (half << 5), min((w << 6) + (half << 5) + 32, people), 8):
                x = _spread(fields & np.uint64(0xFFFF))
                x |= (x & (x >> ONE) & np.uint64(0x0101010101010101)) * np.uint64(0xFC)  # 3 becomes -1
                fields >>= np.uint64(16)
                if first + 8 <= people:
                    store64(out, first, x)
                else:
                    for person in range(first, people):
                        out[person] = np.int8((x >> np.uint64(8 * (person - first))) & np.uint64(0xFF))


@compiled
def expand(data, types, offsets, bases, people, planes, ids, categories, variants, out):
    """Dense genotypes into int8 [variants, people]; -1 missing, also everybody of a variant that is not here."""
    lo, hi = planes[0], planes[1]
    for row in range(variants.size):
        v = variants[row]
        if v < 0:
            out[row] = -1
        elif types[v] & 7 == SPARSE:
            entries = read_sparse(data, types, offsets, people, v, ids, categories)
            if entries < 0:
                return v
            out[row] = 0
            for k in range(entries):
                out[row, ids[k]] = np.int8(categories[k]) if categories[k] < 3 else np.int8(-1)
        else:
            if not read_planes(data, types, offsets, bases, people, v, lo, hi, ids, categories):
                return v
            _expand_planes(lo, hi, people, out[row])
    return -1
