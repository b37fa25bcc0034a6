"""Where each contig of a VCF or BCF file lies, by the tabix or CSI index beside it: so that parts can be read at once.

An index is believed only if it tiles the file: its contigs follow each other without a gap, from the first record to
the end, in the bytes that the file has now. One that was made for an older file does not, and is left alone, because
what it misses would be missing in silence. Formats: SAM/BCF specifications, "The Tabix index file format" and CSIv1.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from federome.errors import Damaged

_END_BYTES: Final = 28
"""The empty block at the end of a BGZF file (SAM specification, section 4.1.2)."""
_TBI_COUNTS: Final = 37_450
"""The bin that is none: it holds the range of a contig in the file, and how many records it has."""
_MAX_BYTES: Final = 1 << 28


@dataclass(frozen=True)
class Stretch:
    """A contig in a file: virtual offsets of its first record and of what follows its last, and its records."""

    contig: str
    begin: int
    end: int
    records: int


def stretches(path: Path, contigs: Sequence[str]) -> tuple[Stretch, ...]:
    """The contigs that have records, in the order of the file; none where no index can be believed.

    ``contigs``: names by the header, in its order, which is what the index of a BCF counts by.
    """
    for suffix in (".csi", ".tbi"):
        index = path.with_name(path.name + suffix)
        if index.is_file() and index.stat().st_mtime >= path.stat().st_mtime:
            try:
                found = sorted(_read(index, contigs), key=lambda stretch: stretch.begin)
            except (Damaged, OSError, EOFError, struct.error, ValueError):
                continue
            if _tiles(found, path.stat().st_size) and all(_can_be_asked(stretch.contig) for stretch in found):
                return tuple(found)
    return ()


def parts(found: Sequence[Stretch], number: int) -> list[tuple[Stretch, ...]]:
    """At most so many runs of consecutive contigs, with about equally many records."""
    whole, before = sum(stretch.records for stretch in found), 0
    cut: dict[int, list[Stretch]] = {}
    for stretch in found:
        middle = before + stretch.records / 2
        cut.setdefault(int(number * middle / whole), []).append(stretch)
        before += stretch.records
    return [tuple(cut[at]) for at in sorted(cut)]


def _tiles(found: Sequence[Stretch], size: int) -> bool:
    """Whether contigs follow each other without a gap, up to the block that ends the file."""
    follow = all(earlier.end == later.begin for earlier, later in pairwise(found))
    return bool(found) and follow and found[-1].end == (size - _END_BYTES) << 16


def _can_be_asked(contig: str) -> bool:
    """Whether the name stands for itself where a region is asked for."""
    return contig.isascii() and not set(contig) & set(":,{} \t")


def _read(index: Path, contigs: Sequence[str]) -> Iterator[Stretch]:
    with gzip.open(index) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise Damaged("an index is larger than any index.", where=index.name)
    reader = _Reader(data)
    match reader.take("4s"):
        case (b"TBI\x01",):
            number, *_ = reader.take("i")
            names, counts, loffset = reader.names(), _TBI_COUNTS, ""
        case (b"CSI\x01",):
            _, depth, extra = reader.take("iii")
            names = _Reader(reader.bytes(extra)).names() if extra else list(contigs)
            (number,) = reader.take("i")
            counts, loffset = ((1 << (depth + 1) * 3) - 1) // 7 + 1, "Q"
        case _:
            raise Damaged("this is no tabix or CSI index.", where=index.name)
    if len(names) < number:
        raise Damaged("an index has more contigs than names.", where=index.name)
    for name in names[:number]:
        for _ in range(reader.take("i")[0]):
            (bin_number, *_), (chunks,) = reader.take(f"I{loffset}"), reader.take("i")
            offsets = reader.take(f"{2 * chunks}Q")
            if bin_number == counts and offsets[2]:
                yield Stretch(name, offsets[0], offsets[1], offsets[2])
        if not loffset:
            reader.bytes(8 * reader.take("i")[0])


class _Reader:
    """Little-endian numbers one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, form: str) -> tuple[int, ...]:
        size = struct.calcsize("<" + form)
        return struct.unpack("<" + form, self.bytes(size))

    def bytes(self, size: int) -> bytes:
        if size < 0 or self._at + size > len(self._data):
            raise Damaged("an index is cut off.")
        self._at += size
        return self._data[self._at - size : self._at]

    def names(self) -> list[str]:
        """The tabix header: six numbers, then names that end with a zero byte."""
        *_, length = self.take("7i")
        return [name.decode() for name in self.bytes(length).split(b"\0")[:-1]]
