"""Genotype files: reading and writing PLINK 2 PGEN, the store's only genotype format.

`PgenWriter` makes the files (ingest, compaction), `PgenFile` maps one into memory for the kernels, `PgenIndex` is
what a sidecar keeps so that a file opens without parsing and counts of everybody are a column read. Only the
hard-call track is read; phase and dosage tracks of foreign files may be present and are skipped.

Genotypes here and in the kernels: **int8, variants x people, 0, 1 or 2 alternate alleles, -1 missing** in dense
arrays; **uint8 1, 2 or 3 (missing)** beside a sorted list of people in sparse ones.
Format: PLINK 2 File Format Specification (draft), §2; a file is as plink2 and pgenlib write and read it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from federome.disk import sync_folder
from federome.errors import Damaged, Invalid
from federome.store import encode, records
from federome.store.bits import plain
from federome.store.packed import compress, decompress, numbers, planes, split

VBLOCK = 1 << 16
"""Variants that share one entry of the header's offset table."""

MOST_PEOPLE = (1 << 31) - 3
"""plink2's own limit."""

_MAGIC = b"\x6c\x1b"
_FIXED, _STANDARD = 0x02, 0x10
_HEADER = struct.Struct("<2sBIIB")
_COPY_CHUNK = 1 << 22
_BUFFER = 1 << 20

Kernel = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], int]
"""What a kernel reads: bytes of the file, record types, record offsets, LD base of each record, people."""


@dataclass(frozen=True, eq=False)
class PgenIndex:
    """Where the records of one PGEN file lie and what they count.

    record_types uint8 [variants]; record_offsets uint64 [variants + 1], the last one the file's size;
    counts int32 [variants, 4] of all people: hom-ref, het, hom-alt, missing; header_sha256 of the bytes before
    the first record ties the index to its file.
    """

    people: int
    record_types: NDArray[np.uint8]
    record_offsets: NDArray[np.uint64]
    counts: NDArray[np.int32]
    header_sha256: bytes

    _FORMAT = struct.Struct("<8sII32sQ")
    _NAME = b"fedpgi2\n"
    _EARLIER, _EARLIER_NAME = struct.Struct("<8sII32s"), b"fedpgi1\n"

    @property
    def variants(self) -> int:
        """Number of variants."""
        return len(self.record_types)

    def to_bytes(self) -> bytes:
        """A sidecar's content: fixed header, compressed types, lengths and counts, SHA-256 of all that.

        Who is not counted elsewhere is hom-ref, so three of the four counts are kept.
        """
        first, lengths = int(self.record_offsets[0]), np.diff(self.record_offsets)
        head = self._FORMAT.pack(self._NAME, self.people, self.variants, self.header_sha256, first)
        columns = [planes(each) for each in (lengths, *self.counts.T[1:])]
        body = head + compress(self.record_types.tobytes() + b"".join(columns))
        return body + hashlib.sha256(body).digest()

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str) -> PgenIndex:
        """Read a sidecar back. Raises Damaged, naming ``where``, unless every byte is as written."""
        body, digest = content[:-32], content[-32:]
        if len(body) < cls._FORMAT.size or hashlib.sha256(body).digest() != digest:
            raise _damaged("The index is truncated or altered", where)
        if body.startswith(cls._EARLIER_NAME):
            return cls._earlier(body, where)
        name, people, variants, header, first = cls._FORMAT.unpack_from(body)
        if name != cls._NAME:
            raise _damaged("This is not an index of a PGEN file", where)
        try:
            packed = decompress(body[cls._FORMAT.size :], 17 * variants)
        except ValueError:
            raise _damaged("This is not an index of a PGEN file", where) from None
        types, *columns = split(packed, [variants] + [4 * variants] * 4)
        lengths, *counts = map(numbers, columns)
        return cls(
            people=people,
            record_types=np.frombuffer(types, np.uint8).copy(),
            record_offsets=np.cumsum([first, *lengths], dtype=np.uint64),
            counts=np.stack([people - sum(counts), *counts], axis=1).astype(np.int32),
            header_sha256=header,
        )

    @classmethod
    def _earlier(cls, body: bytes, where: str) -> PgenIndex:
        """What earlier programs wrote, uncompressed: types, offsets of eight bytes, four counts of four."""
        _, people, variants, header = cls._EARLIER.unpack_from(body)
        if len(body) != cls._EARLIER.size + 25 * variants + 8:
            raise _damaged("This is not an index of a PGEN file", where)
        types, offsets, counts = split(body[cls._EARLIER.size :], (variants, 8 * (variants + 1), 16 * variants))
        return cls(
            people=people,
            record_types=np.frombuffer(types, np.uint8).copy(),
            record_offsets=np.frombuffer(offsets, "<u8").astype(np.uint64),
            counts=np.frombuffer(counts, "<i4").astype(np.int32).reshape(variants, 4),
            header_sha256=header,
        )


class PgenFile:
    """One PGEN file, memory-mapped and checked; open with `PgenFile.open`, close or use as a context manager.

    Attributes: path; people; variants; record_types uint8 [variants]; record_offsets uint64 [variants + 1];
    counts int32 [variants, 4] (hom-ref, het, hom-alt, missing; all people) when opened with an index, else None.
    Pickles as its path. The file must not change while it is open; the store's files never do. One that is cut short
    all the same is ``Damaged`` from then on: reading beyond its end would end the process.
    """

    def __init__(self, path: Path, mapped: mmap.mmap, layout: _Layout, counts: NDArray[np.int32] | None) -> None:
        self.path = path
        self._mapped = mapped
        self.people = layout.people
        self.variants = len(layout.types)
        self.record_types = layout.types
        self.record_offsets = layout.offsets
        self.counts = counts
        _check_records(layout, str(path))
        bases = _ld_bases(layout.types, str(path))
        data = np.frombuffer(mapped, np.uint8)
        self._kernel: Kernel | None = (data, layout.types, layout.offsets.view(np.int64), bases, layout.people)

    @classmethod
    def open(cls, path: Path, index: PgenIndex | None = None) -> PgenFile:
        """Map ``path``; with an ``index`` its header is compared, not parsed.

        Raises Damaged for a file that is truncated, inconsistent or does not match its index, Invalid for
        storage modes and record kinds that the store does not read (multiallelic records, PLINK 1 .bed, fixed
        dosages).
        """
        path = Path(path)
        mapped = _map(path)
        data = np.frombuffer(mapped, np.uint8)
        if index is None:
            return cls(path, mapped, _parse(data, str(path)), None)
        return cls(path, mapped, _from_index(data, index, str(path)), index.counts)

    @property
    def kernel(self) -> Kernel:
        """The arrays that compiled kernels read: taken anew for each call, since the file's size is checked."""
        if self._kernel is None:
            raise ValueError(f"{self.path} is closed")
        if self._mapped.size() < len(self._mapped):
            raise _damaged("The file was cut short while it was open", str(self.path))
        return self._kernel

    def index(self, counts: NDArray[np.int32]) -> PgenIndex:
        """This file's index, given the counts of all people for each variant (`kernels.counts`)."""
        if counts.shape != (self.variants, 4):
            raise ValueError("an index needs four counts for each variant")
        header = self.kernel[0][: int(self.record_offsets[0])]
        return PgenIndex(
            people=self.people,
            record_types=self.record_types,
            record_offsets=self.record_offsets,
            counts=counts,
            header_sha256=hashlib.sha256(header.tobytes()).digest(),
        )

    def damaged(self, variant: int) -> Damaged:
        """The error for a record that cannot be decoded; ``variant`` is its number in this file."""
        return _damaged(f"Variant record {variant} is inconsistent", str(self.path))

    def close(self) -> None:
        """Let go of the file; the mapping ends when no array of it is left."""
        self._kernel = None

    def __enter__(self) -> PgenFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return PgenFile.open, (self.path,)


class PgenWriter:
    """Writes one PGEN file under a temporary name and renames it when complete.

    Leaving the ``with`` block normally finishes the file (fsync, rename); leaving it by an exception removes it.
    ``max_variants`` fixes the room for the header; fewer may come. After that, ``index`` holds the file's index.
    One writer per path at a time. Memory: about 1 MiB, a few rows of people and 21 bytes a variant.
    """

    def __init__(self, path: Path, people: int, *, max_variants: int) -> None:
        if not 1 <= people <= MOST_PEOPLE:
            raise Invalid(f"A PGEN file holds 1 to {MOST_PEOPLE} people, not {people}", where=str(path))
        if not 1 <= max_variants < 1 << 32:
            raise Invalid(f"A PGEN file cannot hold {max_variants} variants", where=str(path))
        self.path = Path(path)
        self.people = people
        self.variants = 0
        self._max_variants = max_variants
        self._lengths = np.empty(max_variants, np.uint32)
        self._types = np.empty(max_variants, np.uint8)
        self._counts = np.empty((max_variants, 4), np.int32)
        self._index: PgenIndex | None = None
        self._packed = (people + 3) // 4
        self._buffer = np.empty(max(_BUFFER, self._packed + encode.longest(people)), np.uint8)
        self._scratch = encode.scratch(people)
        self._length_width = (self._packed.bit_length() + 7) // 8
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._file = open(self._partial, "w+b")  # noqa: SIM115 - closed by close() or abort()
        self._file.seek(self._header_size(max_variants))

    def append(self, genotypes: NDArray[np.int8]) -> None:
        """Add one variant: int8 [people] of 0, 1, 2 alternate alleles or -1 missing."""
        self.append_many(genotypes[np.newaxis, :])

    def append_many(self, genotypes: NDArray[np.int8]) -> None:
        """Add variants: int8 [variants, people] of 0, 1, 2 or -1 missing.

        Raises Invalid for another value (nothing of that slice of rows is written), a wrong shape or type.
        """
        if genotypes.dtype != np.int8 or genotypes.ndim != 2 or genotypes.shape[1] != self.people:
            raise Invalid(f"Genotypes must be int8 of {self.people} people a variant", where=str(self.path))
        rows = max(1, (self._buffer.size - encode.longest(self.people)) // self._packed)
        for start in range(0, len(genotypes), rows):
            part = plain(genotypes[start : start + rows])
            lengths, types, counts = self._room(len(part))
            used = encode.encode_rows(part, *self._scratch, self._buffer, lengths, types, counts)
            if used < 0:
                raise Invalid("Genotypes must be 0, 1, 2 or -1 for missing", where=str(self.path))
            self._add(used, len(part))

    def append_sparse(self, people_idx: NDArray[np.uint32], genotypes: NDArray[np.uint8]) -> None:
        """Add one variant by those who differ from hom-ref: sorted people, genotypes 1, 2 or 3 (missing).

        Costs as much as there are carriers. The bytes are those that `append` would write.
        """
        if people_idx.shape != genotypes.shape or people_idx.ndim != 1:
            raise Invalid("Carriers and their genotypes must be two lists of one length", where=str(self.path))
        if people_idx.dtype != np.uint32 or genotypes.dtype != np.uint8:
            raise Invalid("Carriers must be uint32 and their genotypes uint8", where=str(self.path))
        lengths, types, counts = self._room(1)
        carriers = plain(people_idx), plain(genotypes)
        used = encode.encode_carriers(*carriers, self.people, self._buffer, counts[0])
        match used:
            case encode.BAD_ORDER:
                raise Invalid("Carriers must be increasing numbers below the people's", where=str(self.path))
            case encode.BAD_VALUE:
                raise Invalid("Genotypes of carriers must be 1, 2 or 3 for missing", where=str(self.path))
            case encode.TOO_DENSE:
                row = np.zeros(self.people, np.int8)
                row[people_idx] = encode.as_calls(genotypes)
                self.append(row)
            case _:
                lengths[0], types[0] = used, records.SPARSE
                self._add(used, 1)

    @property
    def index(self) -> PgenIndex:
        """The index of the finished file."""
        if self._index is None:
            raise ValueError("the index is known once the file is closed")
        return self._index

    def close(self) -> None:
        """Finish: header, fsync, rename, fsync of the folder. Nothing is left behind if it fails."""
        if self._file.closed:
            return
        try:
            self._finish()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up: remove what was written. A file that was finished stays."""
        self._file.close()
        if self._index is None:
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> PgenWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _room(self, variants: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.int32]]:
        """Where the lengths, types and counts of the next variants go."""
        stop = self.variants + variants
        if stop > self._max_variants:
            raise Invalid(f"The file was opened for {self._max_variants} variants", where=str(self.path))
        place = slice(self.variants, stop)
        return self._lengths[place], self._types[place], self._counts[place]

    def _add(self, used: int, variants: int) -> None:
        self._file.write(self._buffer[:used].data)
        self.variants += variants

    def _header_size(self, variants: int) -> int:
        types = sum((len(block) + 1) // 2 for block in _blocks(variants))
        return _HEADER.size + 8 * len(_blocks(variants)) + types + variants * self._length_width

    def _finish(self) -> None:
        if self.variants == 0:
            raise Invalid("A PGEN file needs at least one variant", where=str(self.path))
        types, lengths = self._types[: self.variants].copy(), self._lengths[: self.variants]
        size = self._header_size(self.variants)
        offsets = np.zeros(self.variants + 1, np.uint64)
        np.cumsum(lengths, dtype=np.uint64, out=offsets[1:])
        offsets += np.uint64(size)
        header = self._header(types, lengths, offsets)
        self._file.flush()
        if self.variants < self._max_variants:
            _move_down(self._file.fileno(), self._header_size(self._max_variants), size)
        os.pwrite(self._file.fileno(), header, 0)
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._partial, self.path)
        sync_folder(self.path.parent)
        digest = hashlib.sha256(header).digest()
        self._index = PgenIndex(self.people, types, offsets, self._counts[: self.variants].copy(), digest)

    def _header(self, types: NDArray[np.uint8], lengths: NDArray[np.uint32], offsets: NDArray[np.uint64]) -> bytes:
        # Four bits a record type; reference alleles are not provisional (bits 6-7 of the last byte are 1).
        form = 0x40 | (self._length_width - 1)
        blocks = _blocks(self.variants)
        parts = [_HEADER.pack(_MAGIC, _STANDARD, self.variants, self.people, form)]
        parts.append(offsets[[block.start for block in blocks]].astype("<u8").tobytes())
        for block in blocks:
            nibbles = np.zeros(len(block) + len(block) % 2, np.uint8)
            nibbles[: len(block)] = types[block.start : block.stop]
            parts.append((nibbles[::2] | nibbles[1::2] << 4).tobytes())
            wide = lengths[block.start : block.stop].astype("<u4").view(np.uint8).reshape(-1, 4)
            parts.append(wide[:, : self._length_width].tobytes())
        return b"".join(parts)


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where the records lie, as a header or an index says."""

    people: int
    types: NDArray[np.uint8]
    offsets: NDArray[np.uint64]


def _damaged(message: str, where: str) -> Damaged:
    remedy = "Restore the file or import its batch again; `federome store verify` lists every damaged file."
    return Damaged(f"{message}.", remedy=remedy, where=where)


def _blocks(variants: int) -> list[range]:
    return [range(start, min(start + VBLOCK, variants)) for start in range(0, variants, VBLOCK)]


def _map(path: Path) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < _HEADER.size:
                raise _damaged("The file is too short to be a PGEN file", str(path))
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise _damaged("The file does not exist", str(path)) from None


def _from_index(data: NDArray[np.uint8], index: PgenIndex, where: str) -> _Layout:
    """Check that ``index`` belongs to this file and that its offsets stay inside it."""
    offsets = index.record_offsets
    fits = (
        len(offsets) == index.variants + 1
        and index.counts.shape == (index.variants, 4)
        and int(offsets[-1]) == data.size
        and bool(np.all(offsets[1:] > offsets[:-1]))
        and hashlib.sha256(data[: int(offsets[0])].tobytes()).digest() == index.header_sha256
    )
    if not fits:
        raise _damaged("The index does not belong to this file", where)
    return _Layout(index.people, plain(index.record_types), plain(offsets))


def _parse(data: NDArray[np.uint8], where: str) -> _Layout:
    """Read the header. Every size it states is checked against the file before it is used."""
    magic, mode, variants, people, form = _HEADER.unpack(data[: _HEADER.size].tobytes())
    if magic != _MAGIC:
        raise _damaged("This is not a PGEN file", where)
    if mode not in (_FIXED, _STANDARD) or (form & 15) > 7 or (mode == _FIXED and form & 63):
        raise Invalid(
            f"Storage mode {mode:#04x} (header form {form:#04x}) is not read by the store.",
            remedy="Convert the file with `plink2 --make-pgen`.",
            where=where,
        )
    if not 1 <= people <= MOST_PEOPLE:
        raise _damaged(f"The header states {people} people", where)
    if mode == _FIXED:
        return _fixed(data, variants, people, form, where)
    return _standard(data, variants, people, form, where)


def _fixed(data: NDArray[np.uint8], variants: int, people: int, form: int, where: str) -> _Layout:
    start = _HEADER.size + ((variants + 7) // 8 if form >> 6 == 3 else 0)
    record = (people + 3) // 4
    if start + variants * record != data.size:
        raise _damaged("The file's size does not match its header", where)
    offsets = np.arange(variants + 1, dtype=np.uint64) * np.uint64(record) + np.uint64(start)
    return _Layout(people, np.zeros(variants, np.uint8), offsets)


def _standard(data: NDArray[np.uint8], variants: int, people: int, form: int, where: str) -> _Layout:
    blocks = _blocks(variants)
    wide_types, length_width, allele_width = bool(form & 4), 1 + (form & 3), (form >> 4) & 3
    flags = form >> 6 == 3

    def body(block: range) -> tuple[int, int, int]:
        """Bytes that the types, the lengths and all else take in the header for one block."""
        count = len(block)
        types = count if wide_types else (count + 1) // 2
        return types, count * length_width, count * allele_width + ((count + 7) // 8 if flags else 0)

    pos = _HEADER.size + 8 * len(blocks)
    end = pos + sum(sum(body(block)) for block in blocks)
    if end + variants > data.size:
        raise _damaged("The file ends inside its header", where)
    starts = data[_HEADER.size : pos].view("<u8")
    types = np.empty(variants, np.uint8)
    offsets = np.empty(variants + 1, np.uint64)
    offsets[0] = end
    for block, start in zip(blocks, starts, strict=True):
        type_bytes, length_bytes, rest = body(block)
        types[block.start : block.stop] = _types(data[pos : pos + type_bytes], len(block), wide_types)
        pos += type_bytes
        lengths = np.zeros((len(block), 4), np.uint8)
        lengths[:, :length_width] = data[pos : pos + length_bytes].reshape(-1, length_width)
        pos += length_bytes + rest
        if int(start) != int(offsets[block.start]):
            raise _damaged("The header's block offsets contradict its record lengths", where)
        sizes = lengths.view("<u4")[:, 0]
        if not sizes.all():
            raise _damaged("The header states an empty record", where)
        offsets[block.start + 1 : block.stop + 1] = offsets[block.start] + np.cumsum(sizes, dtype=np.uint64)
    if int(offsets[-1]) != data.size:
        raise _damaged("The file's size does not match its header", where)
    return _Layout(people, types, offsets)


def _types(packed: NDArray[np.uint8], count: int, wide: bool) -> NDArray[np.uint8]:
    if wide:
        return packed
    both = np.stack([packed & 15, packed >> 4], axis=1)
    return both.reshape(-1)[:count]


def _check_records(layout: _Layout, where: str) -> None:
    """Refuse record types the store does not read, and dense records too short for the people."""
    types, kinds = layout.types, layout.types & 7
    if np.any(types & 8):
        raise Invalid(
            f"Variant record {int(np.argmax(types & 8))} is multiallelic.",
            remedy="Split the variants first: `bcftools norm -m-any`, then import again.",
            where=where,
        )
    if np.any(kinds == 5):
        raise _damaged("A record has a reserved type", where)
    sizes = np.diff(layout.offsets)
    for kind, shortest in ((0, (layout.people + 3) // 4), (1, 2 + (layout.people + 7) // 8)):
        if np.any(sizes[kinds == kind] < shortest):
            raise _damaged("A record is too short for the number of people", where)


def _ld_bases(types: NDArray[np.uint8], where: str) -> NDArray[np.int64]:
    """For each variant the record that an LD-compressed one refers to: the last plain one of its block."""
    numbers = np.arange(len(types), dtype=np.int64)
    related = (types & 6) == 2
    if not related.any():
        return numbers
    bases = np.maximum.accumulate(np.where(related, -1, numbers))
    if np.any(bases < numbers // VBLOCK * VBLOCK):
        raise _damaged("An LD-compressed record has nothing to refer to", where)
    return bases


def _move_down(file: int, source: int, target: int) -> None:
    """Move everything from ``source`` to the end of the file down to ``target``, and shorten the file."""
    end = os.fstat(file).st_size
    for start in range(source, end, _COPY_CHUNK):
        os.pwrite(file, os.pread(file, min(_COPY_CHUNK, end - start), start), start - source + target)
    os.ftruncate(file, end - source + target)
