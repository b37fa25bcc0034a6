"""Kernels over the bytes of a CSV file: cells to numbers of words, texts to forms, texts that stand twice.

Eight bytes are looked at in one step. Words are kept in open hash tables; one of less than sixteen bytes is its own
key, longer ones and whole texts are compared byte by byte, so that no two are ever taken for one.
"""

# mypy: allow-untyped-decorators, allow-untyped-calls, allow-untyped-defs

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.store.bits import compiled, inlined, load64, lowest

SKIP, WORDS, TEXTS = 0, 1, 2
"""What is wanted of a column."""
NOT_PLAIN: Final = -1
_QUOTE, _NEWLINE, _RETURN, _NUL = 34, 10, 13, 0
_ONES: Final = np.uint64(0x0101010101010101)
_HIGH: Final = np.uint64(0x8080808080808080)
_LOW_SIGNS: Final = np.uint64(0x2323232323232323)  # of the marks, all but the separator are below 0x23
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE, _EIGHT, _BYTE = np.uint64(1), np.uint64(8), np.uint64(0xFF)
_PRIME: Final = np.uint64(0x9E3779B97F4A7C15)
_OTHER: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_HALF: Final = np.uint64(32)
_PIECE: Final = 1 << 18
SIGNS: Final = np.arange(256, dtype=np.uint8)
"""To which sign of a form each byte belongs: figures are alike, small letters, and capitals but A, which marks the
century in some national numbers."""
SIGNS[ord("0") : ord("9") + 1] = ord("0")
SIGNS[ord("a") : ord("z") + 1] = ord("a")
SIGNS[ord("B") : ord("Z") + 1] = ord("B")


def line_ends(data: NDArray[np.uint8]) -> int:
    """How many line ends there are."""
    return sum(int(np.count_nonzero(data[at : at + _PIECE] == _NEWLINE)) for at in range(0, len(data), _PIECE))


@compiled
def gather(data, starts, lengths, out):
    """Cells one behind the other, a line end after each."""
    at = np.int64(0)
    for row in range(len(starts)):
        for each in range(starts[row], starts[row] + lengths[row]):
            out[at] = data[each]
            at += 1
        out[at] = _NEWLINE
        at += 1


@inlined
def _eight(data, at, size):
    """Eight bytes from ``at``; behind the end stand line ends."""
    if at + 8 <= size:
        return load64(data, at)
    word = np.uint64(0)
    for each in range(8):
        sign = np.uint64(data[at + each]) if at + each < size else np.uint64(_NEWLINE)
        word |= sign << np.uint64(8 * each)
    return word


@inlined
def _cell(data, at, size, separator):
    """Where a cell begins and ends, where the mark behind it is, and its key of sixteen bytes.

    A negative mark says that the cell is not plain. The second half of the key is never zero.
    """
    quoted = at < size and data[at] == _QUOTE
    start = at + 1 if quoted else at
    end = start
    key, more = np.uint64(0), np.uint64(0)
    marks = np.uint64(separator) * _ONES
    sign = np.uint64(_NEWLINE)
    stop = False
    while not stop:
        word = _eight(data, end, size)
        found = (word - _LOW_SIGNS) & ~word & _HIGH
        length = np.int64(8)
        if not quoted:
            other = word ^ marks
            ends = (other - _ONES) & ~other & _HIGH
            # The lowest bit of each is exact. Nearly every cell ends here: at a separator, and no other mark before it.
            if ends and (found == 0 or (ends & (~ends + _ONE)) < (found & (~found + _ONE))):
                length = lowest(ends) >> np.int64(3)
                sign = np.uint64(separator)
                stop = True
                found = np.uint64(0)
            found |= ends if not stop else np.uint64(0)
        while found:
            place = lowest(found) >> np.int64(3)
            sign = (word >> np.uint64(8 * place)) & _BYTE
            if (
                sign == np.uint64(_NEWLINE)
                or sign == np.uint64(_RETURN)
                or sign == np.uint64(_QUOTE)
                or sign == np.uint64(_NUL)
                or (sign == np.uint64(separator) and not quoted)
            ):
                length = place
                stop = True
                break
            found &= found - _ONE
        if length < 8:
            word &= ~(_ALL << np.uint64(8 * length))
        if end == start:
            key = word
        elif end == start + 8:
            more = word
        else:
            key = (key ^ (word * _PRIME)) * _OTHER
            more = (more ^ (key >> _HALF)) * _PRIME
        end += length
    more &= _ALL >> _EIGHT
    more |= np.uint64(min(end - start, np.int64(16)) + 1) << np.uint64(56)
    if end > size:  # cannot be: behind the end stands a line end
        return start, end, np.int64(-1), key, more
    mark = end
    if quoted:
        if sign != np.uint64(_QUOTE) or end == size:
            return start, end, np.int64(-1), key, more
        mark += 1
    elif sign == np.uint64(_QUOTE) or sign == np.uint64(_NUL):
        return start, end, np.int64(-1), key, more
    if mark < size:
        behind = data[mark]
        if behind == _RETURN:
            mark += 1
            if mark < size and data[mark] != _NEWLINE:
                return start, end, np.int64(-1), key, more
        elif behind != separator and behind != _NEWLINE:
            return start, end, np.int64(-1), key, more
    return start, end, mark, key, more


@inlined
def _number(data, start, end, key, more, own, slots, keys, starts, lengths, count):
    """The number of a word in row ``own`` of the tables: one seen before, or ``count`` for a new one, which is then
    kept; -1 if none fits. Whole tables are passed, because a view of a row would be counted and freed for every cell.
    """
    mask = slots.shape[1] - 1
    slot = np.int64(((key ^ (more * _OTHER)) * _PRIME) >> np.uint64(40)) & mask
    while keys[own, slot, 1] != 0:
        if keys[own, slot, 0] == key and keys[own, slot, 1] == more:
            held = np.int64(slots[own, slot])
            length = end - start
            if length < 16:
                return held
            same = np.int64(lengths[own, held]) == length
            if same:
                for at in range(length):
                    if data[starts[own, held] + at] != data[start + at]:
                        same = False
                        break
            if same:
                return held
        slot = (slot + 1) & mask
    if count == starts.shape[1]:
        return np.int64(-1)
    slots[own, slot] = count
    keys[own, slot, 0] = key
    keys[own, slot, 1] = more
    starts[own, count] = start
    lengths[own, count] = end - start
    return count


@compiled
def encode(
    data, first, low, separator, longest, wanted, codes, starts, lengths, word_starts, word_lengths, counts, slots, keys
):
    """Fill rows from ``low``; the row behind the last, -1 if the file is not plain, -2 - c if column c has too many
    words.
    """
    at, row, size, columns = np.int64(first), np.int64(low), np.int64(len(data)), np.int64(len(wanted))
    while at < size:
        line, coded, kept, start, end = at, np.int64(0), np.int64(0), at, at
        for column in range(columns):
            start, end, mark, key, more = _cell(data, at, size, separator)
            if mark < 0 or mark - line > longest:
                return np.int64(NOT_PLAIN)
            if column < columns - 1:
                if mark >= size or data[mark] != separator:
                    return np.int64(NOT_PLAIN)
            elif mark < size and data[mark] != _NEWLINE:
                return np.int64(NOT_PLAIN)
            if wanted[column] == WORDS:
                count = np.int64(counts[coded])
                word = _number(data, start, end, key, more, coded, slots, keys, word_starts, word_lengths, count)
                if word < 0:
                    return np.int64(-2 - column)
                if word == count:
                    counts[coded] += 1
                codes[coded, row] = word
                coded += 1
            elif wanted[column] == TEXTS:
                starts[kept, row] = start
                lengths[kept, row] = end - start
                kept += 1
            at = mark + 1
        if columns == 1 and start == end:
            return np.int64(NOT_PLAIN)  # an empty line, or an empty cell: another reader says which
        row += 1
    return row


@compiled
def forms(data, starts, lengths, signs, out, firsts, slots):
    """Number the forms of texts in order of appearance, as ``signs`` makes bytes alike: ``out`` by row, ``firsts`` the
    first row of each. Returns how many there are, -1 for more than ``firsts`` takes.
    """
    count, mask = np.int64(0), np.int64(len(slots) - 1)
    for row in range(len(starts)):
        start, length = starts[row], np.int64(lengths[row])
        key = np.uint64(length)
        for at in range(length):
            key = (key ^ np.uint64(signs[data[start + at]])) * _PRIME
        slot = np.int64(key >> np.uint64(40)) & mask
        while slots[slot] >= 0:
            held = firsts[slots[slot]]
            same = np.int64(lengths[held]) == length
            if same:
                other = starts[held]
                for at in range(length):
                    if signs[data[other + at]] != signs[data[start + at]]:
                        same = False
                        break
            if same:
                break
            slot = (slot + 1) & mask
        if slots[slot] < 0:
            if count == len(firsts):
                return np.int64(-1)
            slots[slot] = count
            firsts[count] = row
            count += 1
        out[row] = slots[slot]
    return count


@compiled
def rising(data, starts, lengths):
    """Whether texts of one length stand in rising order, and so each once."""
    for row in range(1, len(starts)):
        length = np.int64(lengths[row])
        if length != lengths[row - 1]:
            return False
        higher = False
        for at in range(length):
            one, other = data[starts[row - 1] + at], data[starts[row] + at]
            if one != other:
                higher = other > one
                break
        if not higher:
            return False
    return True


@compiled
def again(data, starts, lengths, counted, slots, keys, out):
    """Mark in ``out`` the rows whose text stands in an earlier row; rows that are not ``counted`` are not looked at."""
    mask, size = np.int64(len(slots) - 1), np.int64(len(data))
    for row in range(len(starts)):
        out[row] = False
        if not counted[row]:
            continue
        start, length = starts[row], np.int64(lengths[row])
        key = np.uint64(length) * _OTHER
        for at in range(0, length, 8):
            word = _eight(data, start + at, size)
            if length - at < 8:
                word &= ~(_ALL << np.uint64(8 * (length - at)))
            key = (key ^ (word * _PRIME)) * _OTHER
            key ^= key >> _HALF
        slot = np.int64((key * _PRIME) >> np.uint64(24)) & mask
        while slots[slot] >= 0:
            held = slots[slot]
            if keys[slot] == np.uint32(key >> _HALF) and np.int64(lengths[held]) == length:
                same = True
                for at in range(length):
                    if data[starts[held] + at] != data[start + at]:
                        same = False
                        break
                if same:
                    out[row] = True
                    break
            slot = (slot + 1) & mask
        if not out[row]:
            slots[slot] = row
            keys[slot] = np.uint32(key >> _HALF)


@compiled
def tally(first, second, width, counts):
    """How often each pair of numbers stands in a row, at ``first * width + second``."""
    for row in range(len(first)):
        counts[np.int64(first[row]) * width + np.int64(second[row])] += 1


def room(rows: int) -> int:
    """Slots of a hash table for so many: a power of two, at least twice as many."""
    return 1 << max(4, int(2 * rows - 1).bit_length())
