"""Where the records of a region lie in an indexed file: BAM, CRAM, bgzipped VCF and BCF, by BAI, CRAI, TBI or CSI.

Files are passed through as they are: what is told is ranges of their bytes, and the few blocks at the ends of a range
that have to be cut. Sources: SAM/BAM 1.6 (BGZF, BAI), CSI 1, Tabix and CRAM 3.1 specifications of hts-specs.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, Protocol

from federome.errors import Damaged, Invalid, Missing

Format = Literal["BAM", "CRAM", "VCF", "BCF"]
Region = tuple[str, int, int]
"""Reference name, first base and end, 0-based and half-open."""
LAST: Final = 2**31 - 1
EOF_BLOCK: Final = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_CRAM_DEFINITION: Final = 26


@dataclass(frozen=True)
class Piece:
    """A part of an answer: bytes at hand, or a stretch of the file."""

    header: bool
    data: bytes = b""
    first: int = 0
    stop: int = 0


class Indexed(Protocol):
    """A file that can be asked by region."""

    def header(self) -> list[Piece]:
        """Everything before the first record, and what ends a file."""

    def pieces(self, regions: Sequence[Region]) -> list[Piece]:
        """Header, records of the regions (and some beside them, but each once) and what ends a file."""


def open_indexed(path: Path, form: Format) -> Indexed:
    """A file with its index beside it. ``Missing`` without one."""
    suffixes = {"BAM": (".bai", ".csi"), "CRAM": (".crai",), "VCF": (".tbi", ".csi"), "BCF": (".csi",)}[form]
    index = next((p for s in suffixes if (p := path.with_name(path.name + s)).is_file()), None)
    if index is None or not path.is_file():
        raise Missing("the file or its index is not there.", where=path.name)
    return _Cram(path, index) if form == "CRAM" else _Blocked(path, index, form)


# BGZF


def block(data: bytes) -> bytes:
    """Some bytes as BGZF blocks."""
    out = bytearray()
    for start in range(0, len(data), 0xFF00):
        piece = data[start : start + 0xFF00]
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = packer.compress(piece) + packer.flush()
        head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(packed) + 25)
        out += head + packed + struct.pack("<II", zlib.crc32(piece), len(piece))
    return bytes(out)


@dataclass(frozen=True)
class _Blocked:
    """A BGZF file: a virtual offset is a block's place and a byte in what it holds."""

    path: Path
    index_path: Path
    form: Format

    def header(self) -> list[Piece]:
        """See :class:`Indexed`."""
        return [Piece(True, block(self._head[0])), Piece(False, EOF_BLOCK)]

    def pieces(self, regions: Sequence[Region]) -> list[Piece]:
        """See :class:`Indexed`."""
        chunks: list[tuple[int, int]] = []
        for name, first, stop in regions:
            if name not in self._references:
                raise Missing("the file has no such reference.", where="referenceName")
            chunks += self._index.chunks(self._references.index(name), first, stop)
        out = [Piece(True, block(self._head[0]))]
        with self.path.open("rb") as file:
            for low, high in _merged(chunks):
                out += _cut(file, low, high)
        return [*out, Piece(False, EOF_BLOCK)]

    @cached_property
    def _index(self) -> _Bins:
        return _Bins.read(self.index_path)

    @cached_property
    def _head(self) -> tuple[bytes, tuple[str, ...]]:
        """The header's bytes, and reference names in the order in which the file numbers them."""
        with gzip.open(self.path, "rb") as file:
            if self.form == "VCF":
                lines = []
                for line in file:
                    if not line.startswith(b"#"):
                        break
                    lines.append(line)
                return b"".join(lines), ()
            if self.form == "BCF":
                head = file.read(9)
                text = file.read(struct.unpack("<I", head[5:])[0])
                return head + text, _contigs(text.decode("utf-8", "replace"))
            head = file.read(8)
            head += file.read(struct.unpack("<4sI", head)[1])
            count = file.read(4)
            head += count
            names = []
            for _ in range(struct.unpack("<I", count)[0]):
                size = file.read(4)
                name = file.read(struct.unpack("<I", size)[0])
                head += size + name + file.read(4)
                names.append(name.rstrip(b"\0").decode("ascii", "replace"))
            return head, tuple(names)

    @property
    def _references(self) -> tuple[str, ...]:
        return self._index.names or self._head[1]


def _contigs(text: str) -> tuple[str, ...]:
    """Contigs of a VCF header in the order of their numbers."""
    found: dict[int, str] = {}
    for line in re.findall(r"^##contig=<(.*)>\s*$", text, re.MULTILINE):
        name = re.search(r"(?:^|,)ID=([^,]+)", line)
        number = re.search(r"(?:^|,)IDX=(\d+)", line)
        if name:
            found[int(number[1]) if number else len(found)] = name[1]
    return tuple(found.get(at, "") for at in range(max(found, default=-1) + 1))


def _merged(chunks: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Chunks in file order, those that touch or overlap as one: no record is sent twice."""
    held: tuple[int, int] | None = None
    for low, high in sorted(chunks):
        if held is not None and low <= held[1]:
            held = held[0], max(held[1], high)
            continue
        if held is not None:
            yield held
        held = low, high
    if held is not None:
        yield held


def _cut(file: object, low: int, high: int) -> Iterator[Piece]:
    """A chunk: whole blocks as they lie, the cut ones at its ends anew."""
    begin, skip = low >> 16, low & 0xFFFF
    end, keep = high >> 16, high & 0xFFFF
    if begin == end:
        yield Piece(False, block(_inflated(file, begin)[0][skip:keep]))
        return
    if skip:
        data, size = _inflated(file, begin)
        yield Piece(False, block(data[skip:]))
        begin += size
    if begin < end:
        yield Piece(False, b"", begin, end)
    if keep:
        yield Piece(False, block(_inflated(file, end)[0][:keep]))


def _inflated(file: object, at: int) -> tuple[bytes, int]:
    """What the block at an offset holds, and how long it is."""
    file.seek(at)  # type: ignore[attr-defined]
    head = file.read(18)  # type: ignore[attr-defined]
    if len(head) < 18 or head[:4] != b"\x1f\x8b\x08\x04" or head[12:14] != b"BC":
        raise Damaged("the index points where no block begins.", remedy="Index the file again.")
    size = struct.unpack("<H", head[16:18])[0] + 1
    body = file.read(size - 18)  # type: ignore[attr-defined]
    return zlib.decompress(body[:-8], -15), size


# indexes


@dataclass(frozen=True)
class _Bins:
    """A binning index: for each reference its bins' chunks, and the least offsets of its stretches of 16 kb."""

    min_shift: int
    depth: int
    bins: tuple[dict[int, list[tuple[int, int]]], ...]
    linear: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> _Bins:
        """BAI, TBI or CSI, by what the file says it is."""
        raw = path.read_bytes()
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        read = _Reader(data)
        magic = read.take(4)
        try:
            if magic == b"BAI\1":
                return cls._binned(read, 14, 5, read.number("<i"), (), csi=False)
            if magic == b"TBI\1":
                count = read.number("<i")
                read.take(24)
                names = _names(read.take(read.number("<i")))
                return cls._binned(read, 14, 5, count, names, csi=False)
            if magic == b"CSI\1":
                min_shift, depth, extra = (read.number("<i") for _ in range(3))
                aux = read.take(extra)
                names = _names(aux[28:]) if extra > 28 else ()
                return cls._binned(read, min_shift, depth, read.number("<i"), names, csi=True)
        except struct.error as error:
            raise Damaged("an index is cut off.", where=path.name, remedy="Index the file again.") from error
        raise Damaged("this is no index of a kind that is known.", where=path.name)

    @classmethod
    def _binned(
        cls, read: _Reader, min_shift: int, depth: int, count: int, names: tuple[str, ...], *, csi: bool
    ) -> _Bins:
        bins, linear = [], []
        special = ((1 << 3 * (depth + 1)) - 1) // 7 + 1
        for _ in range(count):
            held: dict[int, list[tuple[int, int]]] = {}
            for _ in range(read.number("<i")):
                number = read.number("<I")
                if csi:
                    read.take(8)
                chunks = [(read.number("<Q"), read.number("<Q")) for _ in range(read.number("<i"))]
                if number != special:
                    held[number] = chunks
            bins.append(held)
            linear.append(() if csi else tuple(read.number("<Q") for _ in range(read.number("<i"))))
        return cls(min_shift, depth, tuple(bins), tuple(linear), names)

    def chunks(self, reference: int, first: int, stop: int) -> list[tuple[int, int]]:
        """Chunks that can hold records of a stretch."""
        if reference >= len(self.bins):
            return []
        held, linear = self.bins[reference], self.linear[reference]
        stop = min(stop, 1 << self.min_shift + 3 * self.depth)
        at = first >> 14
        least = (linear[at] if at < len(linear) else linear[-1]) if linear else 0
        found = []
        for level in range(self.depth + 1):
            base, shift = ((1 << 3 * level) - 1) // 7, self.min_shift + 3 * (self.depth - level)
            low, high = base + (first >> shift), base + (max(stop - 1, first) >> shift)
            found += [c for number, listed in held.items() if low <= number <= high for c in listed if c[1] > least]
        return found


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])


def _names(data: bytes) -> tuple[str, ...]:
    return tuple(name.decode("ascii", "replace") for name in data.split(b"\0") if name)


@dataclass(frozen=True)
class _Cram:
    """A CRAM file: containers are sent whole."""

    path: Path
    index_path: Path

    def header(self) -> list[Piece]:
        """See :class:`Indexed`."""
        first, end, size = self._ends
        return [Piece(True, b"", 0, first), Piece(False, b"", end, size)]

    def pieces(self, regions: Sequence[Region]) -> list[Piece]:
        """See :class:`Indexed`."""
        _, end, size = self._ends
        starts = sorted({offset for *_, offset in self._slices})
        after = dict(zip(starts, [*starts[1:], end], strict=True))
        wanted: set[int] = set()
        for name, first, stop in regions:
            if name not in self._references:
                raise Missing("the file has no such reference.", where="referenceName")
            number = self._references.index(name)
            wanted |= {
                offset
                for reference, begin, span, offset in self._slices
                if reference == number and begin - 1 < stop and begin - 1 + span > first
            }
        chunks = _merged([(offset, after[offset]) for offset in wanted])
        return [
            self.header()[0],
            *(Piece(False, b"", low, high) for low, high in chunks),
            Piece(False, b"", end, size),
        ]

    @cached_property
    def _slices(self) -> tuple[tuple[int, int, int, int], ...]:
        """Reference, first base (1-based), bases and the container's offset of each slice."""
        raw = self.index_path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("ascii")
        rows = [line.split("\t") for line in text.splitlines() if line]
        return tuple((int(row[0]), int(row[1]), int(row[2]), int(row[3])) for row in rows)

    @cached_property
    def _ends(self) -> tuple[int, int, int]:
        """Where the first container of records begins, where the closing one does, and the file's size."""
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            definition = file.read(_CRAM_DEFINITION)
            if definition[:4] != b"CRAM" or definition[4] != 3:
                raise Invalid("only CRAM 3 is served.", where=self.path.name)
            length, used = _container(file.read(1024))
            first = _CRAM_DEFINITION + used + length
            return min((offset for *_, offset in self._slices), default=first), size - 38, size

    @cached_property
    def _references(self) -> tuple[str, ...]:
        """Reference names from the SAM header in the first container."""
        with self.path.open("rb") as file:
            file.seek(_CRAM_DEFINITION)
            length, used = _container(file.read(1024))
            file.seek(_CRAM_DEFINITION + used)
            body = file.read(length)
        method, at = body[0], 3  # method, content type, content id (one byte in a header)
        packed, at = _itf8(body, at)
        plain, at = _itf8(body, at)
        data = body[at : at + packed]
        if method == 1:
            data = gzip.decompress(data)
        elif method != 0:
            raise Invalid("the header of this CRAM is packed in a way that is not read here.", where=self.path.name)
        text = data[4 : 4 + struct.unpack("<i", data[:4])[0]][:plain].decode("utf-8", "replace")
        return tuple(re.findall(r"^@SQ\t(?:.*\t)?SN:([^\t\n]+)", text, re.MULTILINE))


def _container(head: bytes) -> tuple[int, int]:
    """Length of a container's blocks and of its own header (CRAM 3)."""
    length, at = struct.unpack("<i", head[:4])[0], 4
    for _ in range(4):  # reference, start, span, records
        _, at = _itf8(head, at)
    for _ in range(2):  # counter, bases
        at += 1 + _leading(head[at], 8)
    _, at = _itf8(head, at)  # blocks
    landmarks, at = _itf8(head, at)
    for _ in range(landmarks):
        _, at = _itf8(head, at)
    return int(length), at + 4  # CRC-32


def _leading(byte: int, most: int) -> int:
    count = 0
    while count < most and byte & (0x80 >> count):
        count += 1
    return count


def _itf8(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to five bytes (CRAM 3, section 2.3), and where it ends."""
    first = data[at]
    more = min(_leading(first, 4), 4)
    if more == 4:
        b = data[at + 1 : at + 5]
        return (first & 0x0F) << 28 | b[0] << 20 | b[1] << 12 | b[2] << 4 | b[3] & 0x0F, at + 5
    value = first & (0xFF >> more + 1)
    for byte in data[at + 1 : at + 1 + more]:
        value = value << 8 | byte
    return value, at + 1 + more
