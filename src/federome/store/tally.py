"""Compiled counts of genotype categories, for everybody and under masks, that `kernels` puts an interface to.

All people are counted on the compressed bytes. Under a mask a listed carrier costs one look-up in bits that stay in
the processor's cache, and what category most of the list has is counted at once; a 1-bit record is counted as it lies.
"""

# mypy: allow-untyped-decorators, allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from federome.store.bits import compiled, inlined, load64, lowest, popcount
from federome.store.records import (
    LOW,
    ONE,
    bytes_word,
    difflist_head,
    ends,
    one_bit_head,
    people_listed,
    read_planes,
)


@inlined
def _count_pairs(data, pos, entries, out):
    """Add the categories of packed two-bit fields to ``out``."""
    one, two, three = 0, 0, 0
    full = entries >> 5
    for w in range(full):
        x = load64(data, pos + 8 * w)
        one += popcount(x & LOW)
        two += popcount((x >> ONE) & LOW)
        three += popcount(x & (x >> ONE) & LOW)
    rest = entries & 31
    if rest:
        x = bytes_word(data, pos + 8 * full, (rest + 3) >> 2) & ((ONE << np.uint64(2 * rest)) - ONE)
        one += popcount(x & LOW)
        two += popcount((x >> ONE) & LOW)
        three += popcount(x & (x >> ONE) & LOW)
    out[0] += entries - one - two + three
    out[1] += one - three
    out[2] += two - three
    out[3] += three


@inlined
def _count_one_bit(data, pos, end, people, ids, out):
    """Counts of a 1-bit record into ``out``; the end of the track, or -1."""
    low, high = one_bit_head(data, pos, end, people)
    if low < 0:
        return -1
    bits = pos + 1
    full = people >> 6
    in_high = 0
    for w in range(full):
        in_high += popcount(load64(data, bits + 8 * w))
    if people & 63:
        word = bytes_word(data, bits + 8 * full, ((people + 7) >> 3) - 8 * full)
        in_high += popcount(word & ((ONE << np.uint64(people & 63)) - ONE))
    head = bits + ((people + 7) >> 3)
    count, pairs, stop = people_listed(data, head, end, people, ids)
    if count < 0:
        return -1
    for k in range(count):  # the bit of an exception says nothing
        in_high -= (data[bits + (ids[k] >> np.uint32(3))] >> np.uint8(ids[k] & 7)) & 1
    _count_pairs(data, pairs, count, out)
    out[high] += in_high
    out[low] += people - count - in_high
    return stop


@inlined
def _count_planes(lo, hi, people, out):
    one, two, three = 0, 0, 0
    for w in range(lo.size):
        one += popcount(lo[w])
        two += popcount(hi[w])
        three += popcount(lo[w] & hi[w])
    out[0] = people - one - two + three
    out[1] = one - three
    out[2] = two - three
    out[3] = three


@compiled
def count(data, types, offsets, bases, people, planes, ids, categories, variants, out):
    """Category counts of all people into zeroed int32 [variants, 4]."""
    lo, hi = planes[0], planes[1]
    for row in range(variants.size):
        v = variants[row]
        if v < 0:
            continue
        kind, pos, end, tally = types[v] & 7, offsets[v], offsets[v + 1], out[row]
        if kind >= 4:
            entries, _, _, pairs, _ = difflist_head(data, pos, end, people)
            if entries < 0:
                return v
            _count_pairs(data, pairs, entries, tally)
            tally[kind & 3] += people - entries
        elif kind == 1:
            if not ends(types[v], _count_one_bit(data, pos, end, people, ids, tally), end):
                return v
        elif kind == 0:
            if not ends(types[v], pos + ((people + 3) >> 2), end):
                return v
            _count_pairs(data, pos, people, tally)
        else:
            if not read_planes(data, types, offsets, bases, people, v, lo, hi, ids, categories):
                return v
            _count_planes(lo, hi, people, tally)
    return -1


@inlined
def _within(words, person):
    """1 if the person is in the mask, else 0."""
    return np.int64((words[person >> np.uint32(6)] >> np.uint64(person & np.uint32(63))) & ONE)


@inlined
def _pairs_word(data, pairs, entries, w):
    """Categories of 32 listed people from the w-th 32 on; fields beyond the last are whatever follows."""
    at = pairs + 8 * w
    return load64(data, at) if at + 8 <= data.size else bytes_word(data, at, ((entries + 3) >> 2) - 8 * w)


@inlined
def _usual(data, pairs, entries):
    """The category that most listed people of the first 32 have: any would be right, this one is quick."""
    fields = ~np.uint64(0) if entries >= 32 else (ONE << np.uint64(2 * entries)) - ONE
    x = _pairs_word(data, pairs, entries, 0) & fields
    one, two, three = popcount(x & LOW), popcount((x >> ONE) & LOW), popcount(x & (x >> ONE) & LOW)
    if three + three > entries:
        return np.int64(3)
    return np.int64(1) if one >= two else np.int64(2)


@inlined
def _count_listed(data, pairs, entries, ids, usual, words, out):
    """Add listed people within a mask to ``out``; how many. First all as the ``usual`` category, then put right."""
    inside = np.int64(0)
    for k in range(entries):
        inside += _within(words, ids[k])
    out[usual] += inside
    for w in range((entries + 31) >> 5):
        x = _pairs_word(data, pairs, entries, w)
        other = x ^ (LOW * np.uint64(usual))
        other = (other | (other >> ONE)) & LOW
        if entries - 32 * w < 32:
            other &= (ONE << np.uint64(2 * (entries - 32 * w))) - ONE
        while other:
            field = lowest(other)
            other &= other - ONE
            within = _within(words, ids[32 * w + (field >> 1)])
            out[usual] -= within
            out[np.int64((x >> np.uint64(field)) & np.uint64(3))] += within
    return inside


@inlined
def _high_within(data, bits, people, ids, entries, words):
    """People of a mask whose bit in a 1-bit record is set; ``entries`` listed people are exceptions, so not they."""
    full = people >> 6
    count = np.int64(0)
    for w in range(full):
        count += popcount(load64(data, bits + 8 * w) & words[w])
    if people & 63:
        count += popcount(bytes_word(data, bits + 8 * full, ((people + 7) >> 3) - 8 * full) & words[full])
    for k in range(entries):
        person = ids[k]
        count -= _within(words, person) & np.int64(data[bits + (person >> np.uint32(3))] >> np.uint8(person & 7))
    return count


@inlined
def _count_masked_list(data, kind, pos, end, people, ids, words, sizes, out):
    """Counts under each mask of a record of listed exceptions, with or without a row of bits; its end, or -1."""
    low, high, bits = kind & 3, np.int64(0), pos + 1
    if kind == 1:
        low, high = one_bit_head(data, pos, end, people)
        if low < 0:
            return -1
        pos = bits + ((people + 7) >> 3)
    entries, pairs, stop = people_listed(data, pos, end, people, ids)
    if entries < 0:
        return -1
    usual = _usual(data, pairs, entries)
    for mask in range(sizes.size):
        rest = sizes[mask] - _count_listed(data, pairs, entries, ids, usual, words[mask], out[mask])
        if kind == 1:
            there = _high_within(data, bits, people, ids, entries, words[mask])
            out[mask, high] += there
            rest -= there
        out[mask, low] += rest
    return stop


@inlined
def _count_masked_planes(lo, hi, mask, out):
    one, two, three = 0, 0, 0
    for w in range(lo.size):
        one += popcount(lo[w] & mask[w])
        two += popcount(hi[w] & mask[w])
        three += popcount(lo[w] & hi[w] & mask[w])
    out[1] = one - three
    out[2] = two - three
    out[3] = three


@compiled
def count_masked(data, types, offsets, bases, people, planes, ids, categories, variants, masks, words, sizes, out):
    """Category counts under masks into zeroed int32 [variants, masks, 4].

    masks uint64 [masks, words] in plane order, words the same with person i in bit i; sizes int64 [masks].
    """
    lo, hi = planes[0], planes[1]
    for row in range(variants.size):
        v = variants[row]
        if v < 0:
            continue
        kind, tally = types[v] & 7, out[row]
        if kind == 1 or kind >= 4:
            pos, end = offsets[v], offsets[v + 1]
            if not ends(types[v], _count_masked_list(data, kind, pos, end, people, ids, words, sizes, tally), end):
                return v
            continue
        if not read_planes(data, types, offsets, bases, people, v, lo, hi, ids, categories):
            return v
        for mask in range(masks.shape[0]):
            _count_masked_planes(lo, hi, masks[mask], tally[mask])
            tally[mask, 0] = sizes[mask] - tally[mask, 1] - tally[mask, 2] - tally[mask, 3]
    return -1
