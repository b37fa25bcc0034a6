"""A text table as numbers: for each column its different words, and which of them stands in each row.

What stands in a column again and again is then read once, and not once a person. A kernel goes over the bytes of a
plain CSV file and gives every cell the number of its word. Whatever is not plain (records over several lines, doubled
quotes, other numbers of cells, other encodings) is left to DuckDB, which reads the same cells more slowly and tells
what is wrong. Columns in which nearly every word is another, such as identifiers, keep their texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from federome.onboard.tables import MAX_LINE, Source

MOST: Final = 1 << 12
"""A column with more different words than this keeps its texts; a power of two."""
SAMPLE: Final = 1 << 20
"""So many bytes at the beginning say which columns do."""
LARGEST: Final = 1 << 31
"""Larger files are left to DuckDB, which never holds a whole one."""
LONGEST: Final = 1 << 10
"""A table whose kept texts are longer than this is left to DuckDB."""
_SKIP, _WORDS, _TEXTS = 0, 1, 2
_NOT_PLAIN: Final = -1
_PIECE: Final = 1 << 16
_SEPARATOR, _QUOTE, _NEWLINE, _RETURN = 44, 34, 10, 13

_F = TypeVar("_F", bound=Callable[..., object])
_Bytes = npt.NDArray[np.uint8]
_Numbers = npt.NDArray[np.int32]
_Places = npt.NDArray[np.int64]


def _compiled(function: _F) -> _F:
    return cast(_F, njit(nogil=True, cache=True)(function))


@dataclass(frozen=True)
class Coded:
    """``words`` by column and ``codes`` (rows) into them; ``texts`` of the columns that keep them."""

    rows: int
    words: Mapping[str, Sequence[str]]
    codes: Mapping[str, _Numbers]
    texts: Mapping[str, npt.NDArray[np.object_]]

    def number(self, column: str) -> str:
        """What the column of numbers is called: no header begins with a blank."""
        return f" {list(self.codes).index(column)}"


def encode(source: Source, columns: Sequence[str], *, threads: int = 2) -> Coded | None:
    """The columns of a table, or None where it is not plain enough for this way of reading it."""
    if source.path is None or source.dialect is None or not 0 < source.path.stat().st_size < LARGEST:
        return None
    data = np.asarray(np.memmap(source.path, dtype=np.uint8, mode="r"))
    first = _after_header(data)
    if first < 0:
        return None
    wanted = np.array([_WORDS if name in columns else _SKIP for name in source.columns], dtype=np.int32)
    separator = ord(source.dialect.separator)
    # The beginning says which columns keep their texts, so that the whole is gone over once.
    read = _read(data, [(first, _line_end(data, SAMPLE))], separator, wanted, most=MOST // 2)
    if read is not None and len(data) > SAMPLE:
        cuts = [first, *(_line_end(data, at * len(data) // threads) for at in range(1, threads)), len(data)]
        read = _read(data, list(pairwise(cuts)), separator, wanted, most=MOST)
    try:
        return None if read is None else _joined(data, source.columns, wanted, *read)
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True)
class _Table:
    """What the kernel fills, rows from ``low`` by part; the first index of each array is a column of its kind."""

    codes: _Numbers
    starts: _Places
    lengths: _Numbers


@dataclass(frozen=True)
class _Part:
    """Which rows a part has, and the words it met."""

    rows: slice
    word_starts: _Places
    word_lengths: _Numbers
    counts: _Numbers


def _read(
    data: _Bytes, spans: Sequence[tuple[int, int]], separator: int, wanted: _Numbers, *, most: int
) -> tuple[_Table, list[_Part]] | None:
    """All parts; ``wanted`` is changed for columns that turn out to have too many words. None for what is not plain."""
    with ThreadPoolExecutor(len(spans)) as pool:
        ends = list(accumulate(pool.map(lambda span: int(_newlines(data[slice(*span)])), spans), initial=0))
        while True:
            coded, kept, rows = int((wanted == _WORDS).sum()), int((wanted == _TEXTS).sum()), ends[-1] + 1
            table = _Table(
                np.empty((coded, rows), np.int32), np.empty((kept, rows), np.int64), np.empty((kept, rows), np.int32)
            )
            told = [
                pool.submit(_part, data[: span[1]], span[0], low, separator, wanted, most, table)
                for span, low in zip(spans, ends[:-1], strict=True)
            ]
            found = [each.result() for each in told]
            full = [part for part in found if isinstance(part, int)]
            if _NOT_PLAIN in full:
                return None
            if not full:
                parts = [part for part in found if isinstance(part, _Part)]
                even = all(part.rows.stop == end for part, end in zip(parts[:-1], ends[1:-1], strict=True))
                return (table, parts) if even else None
            wanted[full] = _TEXTS


def _part(
    data: _Bytes, first: int, low: int, separator: int, wanted: _Numbers, most: int, table: _Table
) -> _Part | int:
    """One part, or the column with too many words, or that it is not plain."""
    coded = len(table.codes)
    word_starts, word_lengths = np.empty((coded, most), np.int64), np.empty((coded, most), np.int32)
    counts, slots = np.zeros(coded, np.int32), np.empty((coded, 2 * most), np.int32)
    keys = np.zeros(slots.shape, np.uint64)
    special = np.zeros(256, np.uint8)
    special[separator], special[_NEWLINE], special[[_QUOTE, _RETURN, 0]] = 1, 2, 3
    end = _encode(
        data, first, low, special, wanted, table.codes, table.starts, table.lengths, word_starts, word_lengths,
        counts, slots, keys,
    )  # fmt: skip
    if end == _NOT_PLAIN or end >= 0:
        return _NOT_PLAIN if end < 0 else _Part(slice(low, int(end)), word_starts, word_lengths, counts)
    return -int(end) - 2


def _after_header(data: _Bytes) -> int:
    """Where the first row begins; -1 if the header is not one plain line, or there is no row."""
    start = bytes(data[:MAX_LINE])
    end = start.find(b"\n")
    if end < 0 or start.count(b'"', 0, end) % 2 or start.find(b"\r", 0, max(end - 1, 0)) >= 0:
        return -1
    return end + 1 if end + 1 < len(data) else -1


def _line_end(data: _Bytes, at: int) -> int:
    """The end of the line that a byte is in."""
    if at >= len(data):
        return len(data)
    end = bytes(data[at : at + MAX_LINE]).find(b"\n")
    return at + end + 1 if end >= 0 else len(data)


def _joined(
    data: _Bytes, names: Sequence[str], wanted: _Numbers, table: _Table, parts: Sequence[_Part]
) -> Coded | None:
    """One numbering of words for all parts, and the texts that are kept."""
    words: dict[str, Sequence[str]] = {}
    codes: dict[str, _Numbers] = {}
    texts: dict[str, npt.NDArray[np.object_]] = {}
    rows = parts[-1].rows.stop
    for column, name in enumerate(names):
        at = int((wanted[:column] == wanted[column]).sum())
        if wanted[column] == _WORDS:
            numbers: dict[str, int] = {}
            for part in parts:
                places = zip(part.word_starts[at], part.word_lengths[at, : part.counts[at]], strict=False)
                own = [bytes(data[start : start + length]).decode() for start, length in places]
                new = np.array([numbers.setdefault(word, len(numbers)) for word in own], dtype=np.int32)
                if not np.array_equal(new, np.arange(len(new))):
                    table.codes[at, part.rows] = new[table.codes[at, part.rows]]
            words[name], codes[name] = list(numbers), table.codes[at, :rows]
        elif wanted[column] == _TEXTS:
            lengths = table.lengths[at, :rows]
            if lengths.max(initial=0) > LONGEST:
                return None
            texts[name] = np.empty(rows, dtype=object)
            _fill(data, table.starts[at, :rows], lengths, texts[name])
    return Coded(rows, words, codes, texts)


def _fill(data: _Bytes, starts: _Places, lengths: _Numbers, out: npt.NDArray[np.object_]) -> None:
    """Cells one behind the other with line ends between them, which no cell holds, a piece of the rows at a time."""
    for low in range(0, len(starts), _PIECE):
        part = slice(low, low + _PIECE)
        joined = np.empty(int(lengths[part].sum()) + len(lengths[part]), np.uint8)
        _gather(data, starts[part], lengths[part], joined)
        out[part] = joined[:-1].tobytes().decode().split("\n")


@_compiled
def _newlines(data: _Bytes) -> int:
    found = 0
    for at in range(len(data)):
        found += data[at] == _NEWLINE
    return found


@_compiled
def _gather(data: _Bytes, starts: _Places, lengths: _Numbers, out: _Bytes) -> None:
    at = 0
    for row in range(len(starts)):
        for each in range(starts[row], starts[row] + lengths[row]):
            out[at] = data[each]
            at += 1
        out[at] = _NEWLINE
        at += 1


@_compiled
def _cell(data: _Bytes, at: int, special: _Bytes) -> tuple[int, int, int, np.uint64]:
    """Where a cell begins and ends, where the mark behind it is, and what stands for it in a table of words.

    A negative mark says that the cell is not plain. The key of less than eight bytes is these bytes and their number,
    and that of more is a hash: two words with one key are the same word if they are short.
    """
    size = len(data)
    quoted = at < size and data[at] == _QUOTE
    start = at + 1 if quoted else at
    end, key, shift = start, np.uint64(0), np.uint64(0)
    while end < size:
        sign = data[end]
        if special[sign] and not (quoted and special[sign] == 1):
            break
        if shift < 56:
            key |= np.uint64(sign) << shift
            shift += np.uint64(8)
        else:
            key = (key ^ np.uint64(sign)) * np.uint64(0x100000001B3)
        end += 1
    key = (key & np.uint64(0x00FFFFFFFFFFFFFF)) | (np.uint64(min(end - start, 8) + 1) << np.uint64(56))
    mark = end
    if quoted:
        if end == size or data[end] != _QUOTE:
            return start, end, -1, key
        mark += 1
    if mark < size and data[mark] == _RETURN:
        mark += 1
        if mark < size and data[mark] != _NEWLINE:
            return start, end, -1, key
    if mark < size and (special[data[mark]] == 0 or special[data[mark]] == 3):
        return start, end, -1, key
    return start, end, mark, key


@_compiled
def _number(
    data: _Bytes, start: int, end: int, key: np.uint64, own: int, slots: _Numbers, keys: npt.NDArray[np.uint64],
    starts: _Places, lengths: _Numbers, count: int,
) -> int:  # fmt: skip
    """The number of a word in row ``own`` of the tables: one seen before, or ``count`` for a new one, which is then
    kept; -1 if none fits. Whole tables are passed, because a view of a row would be counted and freed for every cell.
    """
    length = end - start
    mask = slots.shape[1] - 1
    slot = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) & mask
    while keys[own, slot] != 0:
        if keys[own, slot] == key:
            held = slots[own, slot]
            if length < 8:
                return int(held)
            same = lengths[own, held] == length
            for at in range(length if same else 0):
                if data[starts[own, held] + at] != data[start + at]:
                    same = False
                    break
            if same:
                return int(held)
        slot = (slot + 1) & mask
    if count == starts.shape[1]:
        return -1
    slots[own, slot] = count
    keys[own, slot] = key
    starts[own, count] = start
    lengths[own, count] = length
    return count


@_compiled
def _encode(
    data: _Bytes,
    first: int,
    low: int,
    special: _Bytes,
    wanted: _Numbers,
    codes: _Numbers,
    starts: _Places,
    lengths: _Numbers,
    word_starts: _Places,
    word_lengths: _Numbers,
    counts: _Numbers,
    slots: _Numbers,
    keys: npt.NDArray[np.uint64],
) -> int:
    """Fill rows from ``low``; the row behind the last, -1 if the file is not plain, -2 - c if column c has too many
    words.
    """
    at, row, size, columns = first, low, len(data), len(wanted)
    while at < size:
        line, coded, kept, start, end = at, 0, 0, at, at
        for column in range(columns):
            start, end, mark, key = _cell(data, at, special)
            last = column == columns - 1
            if mark < 0 or mark - line > MAX_LINE or (not last and (mark >= size or special[data[mark]] != 1)):
                return _NOT_PLAIN
            if last and mark < size and data[mark] != _NEWLINE:
                return _NOT_PLAIN
            if wanted[column] == _WORDS:
                count = counts[coded]
                word = _number(data, start, end, key, coded, slots, keys, word_starts, word_lengths, count)
                if word < 0:
                    return -2 - column
                if word == count:
                    counts[coded] += 1
                codes[coded, row] = word
                coded += 1
            elif wanted[column] == _TEXTS:
                starts[kept, row] = start
                lengths[kept, row] = end - start
                kept += 1
            at = mark + 1
        if columns == 1 and start == end:
            return _NOT_PLAIN  # an empty line, or an empty cell: another reader says which
        row += 1
    return row
