"""Encoding one variant as a PGEN record: the smallest of a difflist, the 1-bit and the 2-bit form.

Used by `pgen.PgenWriter`. A row of genotypes is first packed to the 2-bit form (32 people a word); every other
form is made from that by bit operations. LD-compressed records (types 2 and 3) are never made, so that each
record can be read alone. Format: PLINK 2 File Format Specification (draft), §2.3, except that sample numbers
take as many bytes as the *number of people* needs (256 people: 2 bytes), as plink2 and pgenlib do it.

The encoders are compiled and work on plain arrays; callers guarantee the sizes of scratch and output.
"""

# mypy: allow-untyped-decorators, allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from federome.store.bits import compiled, inlined, load64, lowest, popcount, store64

LOW = np.uint64(0x5555555555555555)
"""The lower bit of each of the 32 two-bit fields of a word."""

MISSING = 3
"""Category of a missing call; 0, 1, 2 count alternate alleles."""

BAD_VALUE = -1
BAD_ORDER = -2
TOO_DENSE = -3
"""Negative results of the encoders: a value out of range, people out of order, not a sparse record."""


def scratch(people: int) -> tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint8]]:
    """What encoding one variant needs: packed genotypes, listed people and their categories."""
    most = people // 8 + 1
    return np.empty(-(-people // 32), np.uint64), np.empty(most, np.uint32), np.empty(most, np.uint8)


def as_calls(codes: NDArray[np.integer[Any]]) -> NDArray[np.int8]:
    """Categories as genotypes: alternate alleles, −1 for a missing call."""
    return np.where(codes == MISSING, np.int8(-1), codes.astype(np.int8))


def longest(people: int) -> int:
    """The most bytes that encoding one variant may touch: its 2-bit form and a trial of another."""
    return (people + 3) // 4 + people // 2 + 64


@inlined
def _id_width(people):
    """Bytes that hold a sample number in a difflist."""
    return 1 + (people > 0xFF) + (people > 0xFFFF) + (people > 0xFFFFFF)


@inlined
def _put_varint(out, pos, value):
    while value >= 128:
        out[pos] = (value & 127) | 128
        value >>= 7
        pos += 1
    out[pos] = value
    return pos + 1


@inlined
def _put_difflist(out, pos, people, ids, categories, count):
    """Write (sample, category) pairs; returns the next position."""
    pos = _put_varint(out, pos, count)
    if count == 0:
        return pos
    width = _id_width(people)
    groups = (count + 63) >> 6
    firsts = pos
    sizes = firsts + groups * width
    pairs = sizes + groups - 1
    pos = pairs + ((count + 3) >> 2)
    out[pairs:pos] = 0
    for k in range(count):
        out[pairs + (k >> 2)] |= categories[k] << np.uint8(2 * (k & 3))
    for group in range(groups):
        start = group << 6
        for byte in range(width):
            out[firsts + group * width + byte] = (ids[start] >> (8 * byte)) & 255
        begin = pos
        for k in range(start + 1, min(start + 64, count)):
            pos = _put_varint(out, pos, np.int64(ids[k]) - np.int64(ids[k - 1]))
        if group + 1 < groups:
            out[sizes + group] = pos - begin - 63
    return pos


@inlined
def _pack(row, words):
    """Pack int8 genotypes (-1 missing) into two-bit fields; returns whether every value was in -1..2."""
    people = row.size
    seen = np.uint8(0)
    for person in range(people):
        seen |= np.uint8(row[person] + 1)
    full = people >> 5
    for w in range(full):
        word = np.uint64(0)
        for part in range(4):
            x = load64(row, (w << 5) + (part << 3)) & np.uint64(0x0303030303030303)
            x = (x | (x >> np.uint64(6))) & np.uint64(0x000F000F000F000F)
            x = (x | (x >> np.uint64(12))) & np.uint64(0x000000FF000000FF)
            x = (x | (x >> np.uint64(24))) & np.uint64(0xFFFF)
            word |= x << np.uint64(16 * part)
        words[w] = word
    if people & 31:
        word = np.uint64(0)
        for k in range(people & 31):
            word |= np.uint64(row[(full << 5) + k] & 3) << np.uint64(2 * k)
        words[full] = word
    return seen < 4


@inlined
def _tally(words, people, tally):
    """Fill ``tally[0..3]`` with the number of people in each category."""
    one, two, three = 0, 0, 0
    for w in range((people + 31) >> 5):
        low = words[w] & LOW
        high = (words[w] >> np.uint64(1)) & LOW
        one += popcount(low)
        two += popcount(high)
        three += popcount(low & high)
    tally[0] = people - one - two + three
    tally[1] = one - three
    tally[2] = two - three
    tally[3] = three


@inlined
def _in_category(word, category):
    """Lower bits of the fields of ``word`` that hold ``category``."""
    same = ~(word ^ (LOW * np.uint64(category)))
    return same & (same >> np.uint64(1)) & LOW


@inlined
def _others(words, people, first, second, ids, categories):
    """List the people in neither category; returns how many."""
    count = 0
    for w in range((people + 31) >> 5):
        left = LOW & ~(_in_category(words[w], first) | _in_category(words[w], second))
        while left:
            bit = lowest(left)
            left &= left - np.uint64(1)
            person = (w << 5) + (bit >> 1)
            if person < people:  # fields beyond the last person are zero
                ids[count] = person
                categories[count] = (words[w] >> np.uint64(bit)) & np.uint64(3)
                count += 1
    return count


@inlined
def _squeeze(x):
    """The 32 lower bits of the fields of a word, side by side."""
    x = (x | (x >> np.uint64(1))) & np.uint64(0x3333333333333333)
    x = (x | (x >> np.uint64(2))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    x = (x | (x >> np.uint64(4))) & np.uint64(0x00FF00FF00FF00FF)
    x = (x | (x >> np.uint64(8))) & np.uint64(0x0000FFFF0000FFFF)
    return (x | (x >> np.uint64(16))) & np.uint64(0xFFFFFFFF)


@inlined
def _put_bits(out, pos, words, people, category):
    """One bit a person: is the person in ``category`` (not 0)? Returns the next position; writes up to 7 beyond."""
    count = (people + 31) >> 5
    for w in range(count >> 1):
        high = _squeeze(_in_category(words[2 * w + 1], category))
        store64(out, pos + 8 * w, _squeeze(_in_category(words[2 * w], category)) | (high << np.uint64(32)))
    if count & 1:
        store64(out, pos + 4 * (count - 1), _squeeze(_in_category(words[count - 1], category)))
    return pos + ((people + 7) >> 3)


@inlined
def _put_packed(out, pos, words, people):
    """The two-bit form; returns the next position; writes up to 7 bytes beyond."""
    for w in range((people + 31) >> 5):
        store64(out, pos + 8 * w, words[w])
    return pos + ((people + 3) >> 2)


@inlined
def _two_commonest(tally):
    """The two largest categories, the smaller number first; ties go to the smaller number."""
    first = 0
    for category in range(1, 4):
        if tally[category] > tally[first]:
            first = category
    second = 1 if first == 0 else 0
    for category in range(second + 1, 4):
        if category != first and tally[category] > tally[second]:
            second = category
    return min(first, second), max(first, second)


@inlined
def _encode(words, people, out, pos, tally, ids, categories):
    """Write the smallest record for packed genotypes; returns (record type, next position).

    pgenlib refuses a difflist of more than people // 8 entries, so neither do we write one. Like pgenlib, use the
    1-bit form for fewer than people // 16 exceptions only: above that it saves little and is slow to read. Equal
    sizes go to the form that is cheaper to read: difflist, then 2-bit, then 1-bit.
    """
    _tally(words, people, tally)
    limit = people >> 3
    best_kind, best_size = 0, (people + 3) >> 2

    common = 0
    for category in (2, 3):
        if tally[category] > tally[common]:
            common = category
    if people - tally[common] <= limit:
        count = _others(words, people, common, common, ids, categories)
        size = _put_difflist(out, pos, people, ids, categories, count) - pos
        if size <= best_size:
            best_kind, best_size = 4 + common, size

    low, high = _two_commonest(tally)
    rare = people - tally[low] - tally[high]
    if rare < people >> 4 and 2 + ((people + 7) >> 3) + rare < best_size:
        trial = pos + best_size
        out[trial] = 4 * low + high - low
        stop = _put_bits(out, trial + 1, words, people, high)
        count = _others(words, people, low, high, ids, categories)
        stop = _put_difflist(out, stop, people, ids, categories, count)
        if stop - trial < best_size:
            for k in range(stop - trial):
                out[pos + k] = out[trial + k]
            return 1, pos + stop - trial
    if best_kind == 0:
        _put_packed(out, pos, words, people)
    return best_kind, pos + best_size


@compiled
def encode_rows(matrix, words, ids, categories, out, lengths, kinds, tallies):
    """Encode int8 [variants, people] (-1 missing) one record after the other into ``out``.

    ``out`` must have room for 2-bit records and once `longest`. Fills the record lengths, types and the four
    category counts of each variant. Returns the bytes used, or BAD_VALUE.
    """
    people = matrix.shape[1]
    pos = np.int64(0)
    for row in range(matrix.shape[0]):
        if not _pack(matrix[row], words):
            return BAD_VALUE
        kinds[row], stop = _encode(words, people, out, pos, tallies[row], ids, categories)
        lengths[row] = stop - pos
        pos = stop
    return pos


@compiled
def encode_carriers(ids, categories, people, out, tally):
    """Encode a variant from its carriers alone (sorted, categories 1, 2, 3; all others are category 0).

    Touches nothing but the carriers. Returns the record length (its type is 4), BAD_ORDER or BAD_VALUE, or
    TOO_DENSE when another form is or may be smaller: encode the row then, so that equal genotypes always give
    equal bytes.
    """
    count = ids.size
    tally[:] = 0
    last = np.int64(-1)
    for k in range(count):
        person = np.int64(ids[k])
        if person <= last or person >= people:
            return BAD_ORDER
        last = person
        if categories[k] < 1 or categories[k] > 3:
            return BAD_VALUE
        tally[categories[k]] += 1
    tally[0] = people - count
    if count > people >> 3:
        return TOO_DENSE
    size = _put_difflist(out, 0, people, ids, categories, count)
    if size > (people + 3) >> 2 or size > 2 + ((people + 7) >> 3):
        return TOO_DENSE
    return size
