"""Compiled counts of genotype categories, for everybody and under masks, that `kernels` puts an interface to.

All people are counted on the compressed bytes; under masks a listed carrier costs one look-up for eight masks, a
plane one pass for each.
"""

# mypy: allow-untyped-decorators, allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from federome.store.bits import compiled, inlined, load64, popcount
from federome.store.records import (
    LOW,
    ONE,
    bytes_word,
    difflist,
    difflist_head,
    ends,
    is_listed,
    one_bit_head,
    read_listed,
    read_planes,
)

SPREAD = np.unpackbits(np.arange(256, dtype=np.uint8), bitorder="little").view(np.uint64)
"""Bits of a byte as eight bytes of a word."""


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
def _count_one_bit(data, pos, end, people, ids, categories, out):
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
    count, stop = difflist(data, head, end, people, ids, categories)
    if count < 0:
        return -1
    for k in range(count):  # the bit of an exception says nothing
        person = np.int64(ids[k])
        in_high -= (data[bits + (person >> 3)] >> np.uint8(person & 7)) & 1
    _, _, _, pairs, _ = difflist_head(data, head, end, people)
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
            if not ends(types[v], _count_one_bit(data, pos, end, people, ids, categories, tally), end):
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
def _count_carriers(ids, categories, entries, usual, member, out):
    """Add carriers to the counts of eight masks: ``member`` uint8 [people] has a bit for each mask.

    Its bits spread into eight byte lanes of a word, so that one addition serves eight masks; the lanes are emptied
    before they could overflow. All are counted as the ``usual`` category first, then the others put right.
    """
    for start in range(0, entries, 255):
        lanes = np.uint64(0)
        for k in range(start, min(start + 255, entries)):
            lanes += SPREAD[member[ids[k]]]
        for mask in range(out.shape[0]):
            out[mask, usual] += np.int64((lanes >> np.uint64(8 * mask)) & np.uint64(255))
    for k in range(entries):
        category = np.int64(categories[k])
        if category != usual:
            for mask in range(out.shape[0]):
                within = np.int64(member[ids[k]] >> np.uint8(mask)) & 1
                out[mask, usual] -= within
                out[mask, category] += within


@inlined
def _size_within(plane, mask):
    count = 0
    for w in range(plane.size):
        count += popcount(plane[w] & mask[w])
    return count


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
def count_masked(data, types, offsets, bases, people, planes, ids, categories, variants, masks, members, sizes, out):
    """Category counts under masks into zeroed int32 [variants, masks, 4].

    masks uint64 [masks, words] in plane order; members uint8 [masks / 8, people]; sizes int64 [masks].
    """
    lo, hi = planes[0], planes[1]
    for row in range(variants.size):
        v = variants[row]
        if v < 0:
            continue
        tally = out[row]
        if is_listed(data, types, offsets, people, v, people):
            entries, high = read_listed(data, types, offsets, people, v, planes, ids, categories)
            if entries < 0:
                return v
            for eight in range(members.shape[0]):
                part = tally[8 * eight : 8 * eight + 8]
                _count_carriers(ids, categories, entries, 1 if high == 0 else 2, members[eight], part)
            if high > 0:
                for mask in range(masks.shape[0]):
                    tally[mask, high] += _size_within(planes[1 + high], masks[mask])
        else:
            if not read_planes(data, types, offsets, bases, people, v, lo, hi, ids, categories):
                return v
            for mask in range(masks.shape[0]):
                _count_masked_planes(lo, hi, masks[mask], tally[mask])
        for mask in range(masks.shape[0]):
            tally[mask, 0] = sizes[mask] - tally[mask, 1] - tally[mask, 2] - tally[mask, 3]
    return -1
