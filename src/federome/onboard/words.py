"""A text table as numbers: for each column its different words, and which of them stands in each row.

What stands in a column again and again is then read once, and not once a person. A kernel goes over the bytes of a
plain CSV file, eight at a time, and gives every cell the number of its word. Whatever is not plain (records over
several lines, doubled quotes, other numbers of cells, other encodings) is left to DuckDB, which reads the same cells
more slowly and tells what is wrong. Columns in which nearly every word is another, such as identifiers, keep places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from federome.onboard import scan
from federome.onboard.tables import MAX_LINE, Source

MOST: Final = 1 << 12
"""A column with more different words than this keeps its texts; a power of two."""
SAMPLE: Final = 1 << 20
"""So many bytes at the beginning say which columns do."""
LARGEST: Final = 1 << 31
"""Larger files are left to DuckDB, which never holds a whole one."""
LONGEST: Final = 1 << 10
"""A table whose kept texts are longer than this is left to DuckDB."""
_PIECE: Final = 1 << 16

_Bytes = npt.NDArray[np.uint8]
_Numbers = npt.NDArray[np.int32]
_Codes = npt.NDArray[np.uint16]
_Places = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Texts:
    """The cells of one column as places in the file."""

    data: _Bytes
    starts: _Places
    lengths: _Numbers

    def strings(self) -> npt.NDArray[np.object_]:
        """All of them: cells one behind the other with line ends between them, which no cell holds."""
        out = np.empty(len(self.starts), dtype=object)
        for low in range(0, len(out), _PIECE):
            part = slice(low, low + _PIECE)
            joined = np.empty(int(self.lengths[part].sum()) + len(out[part]), np.uint8)
            scan.gather(self.data, self.starts[part], self.lengths[part], joined)
            out[part] = joined[:-1].tobytes().decode().split("\n")
        return out

    def at(self, row: int) -> str:
        """One of them."""
        start = int(self.starts[row])
        return bytes(self.data[start : start + int(self.lengths[row])]).decode()


@dataclass(frozen=True, eq=False)
class Coded:
    """``words`` by column and ``codes`` (rows) into them; ``texts`` of the columns that keep them."""

    rows: int
    words: Mapping[str, Sequence[str]]
    codes: Mapping[str, _Codes]
    texts: Mapping[str, Texts]

    def at(self, column: str, row: int) -> str:
        """The text of one cell."""
        return self.texts[column].at(row) if column in self.texts else self.words[column][self.codes[column][row]]

    def number(self, column: str) -> str:
        """What the column of numbers is called: no header begins with a blank."""
        return f" {list(self.codes).index(column)}"


def encode(source: Source, columns: Sequence[str], *, threads: int = 2) -> Coded | None:
    """The columns of a table, or None where it is not plain enough for this way of reading it."""
    if source.path is None or source.dialect is None or not 0 < source.path.stat().st_size < LARGEST:
        return None
    # A private map: kernels are compiled for arrays that may be written.
    data = np.asarray(np.memmap(source.path, dtype=np.uint8, mode="c"))
    first = _after_header(data)
    if first < 0:
        return None
    wanted = np.array([scan.WORDS if name in columns else scan.SKIP for name in source.columns], dtype=np.int32)
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

    codes: _Codes
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
        ends = list(accumulate(pool.map(lambda span: scan.line_ends(data[slice(*span)]), spans), initial=0))
        while True:
            coded, kept, rows = int((wanted == scan.WORDS).sum()), int((wanted == scan.TEXTS).sum()), ends[-1] + 1
            table = _Table(
                np.empty((coded, rows), np.uint16), np.empty((kept, rows), np.int64), np.empty((kept, rows), np.int32)
            )
            told = [
                pool.submit(_part, data[: span[1]], span[0], low, separator, wanted, most, table)
                for span, low in zip(spans, ends[:-1], strict=True)
            ]
            found = [each.result() for each in told]
            full = [part for part in found if isinstance(part, int)]
            if scan.NOT_PLAIN in full:
                return None
            if not full:
                parts = [part for part in found if isinstance(part, _Part)]
                even = all(part.rows.stop == end for part, end in zip(parts[:-1], ends[1:-1], strict=True))
                return (table, parts) if even else None
            wanted[full] = scan.TEXTS


def _part(
    data: _Bytes, first: int, low: int, separator: int, wanted: _Numbers, most: int, table: _Table
) -> _Part | int:
    """One part, or the column with too many words, or that it is not plain."""
    coded = len(table.codes)
    word_starts, word_lengths = np.empty((coded, most), np.int64), np.empty((coded, most), np.int32)
    counts, slots = np.zeros(coded, np.int32), np.empty((coded, 2 * most), np.uint16)
    keys = np.zeros((coded, 2 * most, 2), np.uint64)
    end = int(
        scan.encode(
            data, first, low, separator, MAX_LINE, wanted, table.codes, table.starts, table.lengths, word_starts,
            word_lengths, counts, slots, keys,
        )
    )  # fmt: skip
    if end == scan.NOT_PLAIN or end >= 0:
        return scan.NOT_PLAIN if end < 0 else _Part(slice(low, end), word_starts, word_lengths, counts)
    return -end - 2


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
    codes: dict[str, _Codes] = {}
    texts: dict[str, Texts] = {}
    rows = parts[-1].rows.stop
    for column, name in enumerate(names):
        at = int((wanted[:column] == wanted[column]).sum())
        if wanted[column] == scan.WORDS:
            numbers: dict[str, int] = {}
            for part in parts:
                places = zip(part.word_starts[at], part.word_lengths[at, : part.counts[at]], strict=False)
                own = [bytes(data[start : start + length]).decode() for start, length in places]
                new = np.array([numbers.setdefault(word, len(numbers)) for word in own], dtype=np.uint16)
                if not np.array_equal(new, np.arange(len(new))):
                    table.codes[at, part.rows] = new[table.codes[at, part.rows]]
            words[name], codes[name] = list(numbers), table.codes[at, :rows]
        elif wanted[column] == scan.TEXTS:
            if table.lengths[at, :rows].max(initial=0) > LONGEST:
                return None
            texts[name] = Texts(data, table.starts[at, :rows], table.lengths[at, :rows])
    return Coded(rows, words, codes, texts)
