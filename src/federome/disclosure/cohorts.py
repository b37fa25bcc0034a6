"""Records of released cohorts for the differencing audit: in memory, and in an append-only file.

Sizes and folded bits of all cohorts are held in memory and decide which sets of people have to be looked at; the sets
themselves lie compressed in the file. A record is there completely or not at all.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.disclosure.differencing import DEPTH, FOLDED, Members, Words, bits_apart
from federome.errors import Damaged, Invalid

_MAGIC: Final = b"FDCOHORT2\n"
# size, words, bytes of the compressed set, their CRC-32, its folded bits; then the CRC-32 of all this
_HEAD: Final = struct.Struct(f"<QIII{8 * FOLDED}s")
_CRC: Final = struct.Struct("<I")
_RECORD: Final = _HEAD.size + _CRC.size


class _Index:
    """Sizes and folded bits of all cohorts in growing arrays."""

    def __init__(self) -> None:
        self._folded = np.zeros((64, FOLDED), np.uint64)
        self._sizes = np.zeros(64, np.int64)
        self.count = 0

    def add(self, size: int, folded: Words) -> None:
        if self.count == len(self._sizes):
            self._folded = np.concatenate([self._folded, np.zeros_like(self._folded)])
            self._sizes = np.concatenate([self._sizes, np.zeros_like(self._sizes)])
        self._folded[self.count] = folded
        self._sizes[self.count] = size
        self.count += 1

    def near(self, cohort: Members, within: int) -> NDArray[np.int64]:
        """Numbers of cohorts that size and folded bits leave possible."""
        sized = np.flatnonzero(np.abs(self._sizes[: self.count] - cohort.size) < within)
        return np.asarray(sized[bits_apart(self._folded[sized], cohort.folded) < within], np.int64)


class MemoryCohorts:
    """Cohorts of one process, gone with it: for tests, trials and public synthetic data."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._index = _Index()
        self._cohorts: list[Members] = []

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """See :class:`federome.disclosure.differencing.Cohorts`."""
        with self._lock:
            yield

    def near(self, cohort: Members, within: int) -> Iterator[Members]:
        """See :class:`federome.disclosure.differencing.Cohorts`."""
        yield from (self._cohorts[at] for at in self._index.near(cohort, within).tolist())

    def recent(self, count: int) -> Sequence[Members]:
        """See :class:`federome.disclosure.differencing.Cohorts`."""
        return self._cohorts[-count:]

    def add(self, cohort: Members) -> None:
        """See :class:`federome.disclosure.differencing.Cohorts`."""
        with self._lock:
            self._index.add(cohort.size, cohort.folded)
            self._cohorts.append(cohort)


class FileCohorts:
    """Cohorts in one append-only file, shared by threads and processes.

    A record that was cut off while it was written is dropped when the file is next used; any other damage raises
    ``Damaged``, since without its record a node cannot know what it has answered.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._path = path
        self._lock = threading.RLock()
        self._depth = 0
        self._index = _Index()
        self._places: list[tuple[int, int, int]] = []  # offset, length and CRC of each compressed set
        self._recent: dict[int, Members] = {}  # by number
        self._end = 0
        with self.exclusive():
            pass  # reads what is there, so that damage shows now

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """See :class:`federome.disclosure.differencing.Cohorts`. Reads what other processes have added."""
        with self._lock:
            if not self._depth:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            self._depth += 1
            try:
                if self._depth == 1:
                    self._catch_up()
                yield
            finally:
                self._depth -= 1
                if not self._depth:
                    fcntl.flock(self._file, fcntl.LOCK_UN)

    def near(self, cohort: Members, within: int) -> Iterator[Members]:
        """See :class:`federome.disclosure.differencing.Cohorts`."""
        with self.exclusive():
            found = [self._load(at) for at in self._index.near(cohort, within).tolist()]
        yield from found

    def recent(self, count: int) -> Sequence[Members]:
        """See :class:`federome.disclosure.differencing.Cohorts`; at most the last 100."""
        if count > DEPTH:
            raise Invalid(f"only the last {DEPTH} cohorts are at hand.")
        with self.exclusive():
            last = range(max(0, self._index.count - count), self._index.count)
            self._recent = {at: self._recent.get(at) or self._load(at) for at in last}
            return list(self._recent.values())

    def add(self, cohort: Members) -> None:
        """See :class:`federome.disclosure.differencing.Cohorts`. On disk when this returns."""
        body = zlib.compress(cohort.to_bytes(), 1 if _compressible(cohort) else 0)
        folded = cohort.folded.astype("<u8").tobytes()
        head = _HEAD.pack(cohort.size, len(cohort.words), len(body), zlib.crc32(body), folded)
        record = head + _CRC.pack(zlib.crc32(head)) + body
        with self.exclusive():
            written = os.write(self._file, record)
            if written != len(record):
                os.ftruncate(self._file, self._end)
                raise Damaged("the record of released cohorts could not be written.", where=self._path.name)
            os.fdatasync(self._file)
            self._note(head)
            self._recent[self._index.count - 1] = cohort

    def _note(self, head: bytes) -> None:
        """Take a record at the end of what is known into the index."""
        size, _, length, crc, folded = _HEAD.unpack(head)
        self._index.add(size, np.frombuffer(folded, "<u8"))
        self._places.append((self._end + _RECORD, length, crc))
        self._end += _RECORD + length

    def _catch_up(self) -> None:
        """Read records beyond the known end; drop one that is cut off."""
        if not self._end:
            self._begin()
        size = os.fstat(self._file).st_size
        if size < self._end:
            raise Damaged("the record of released cohorts has become shorter.", where=self._path.name)
        while self._end < size:
            raw = os.pread(self._file, _RECORD, self._end)
            head, crc = raw[: _HEAD.size], raw[_HEAD.size :]
            if len(raw) == _RECORD and zlib.crc32(head) != _CRC.unpack(crc)[0]:
                raise Damaged("the record of released cohorts is damaged.", where=self._path.name)
            if len(raw) < _RECORD or self._end + _RECORD + _HEAD.unpack(head)[2] > size:
                os.ftruncate(self._file, self._end)
                os.fsync(self._file)
                break
            self._note(head)

    def _begin(self) -> None:
        magic = os.pread(self._file, len(_MAGIC), 0)
        if magic != _MAGIC:
            if not _MAGIC.startswith(magic):
                raise Damaged("this file is no record of released cohorts.", where=self._path.name)
            os.ftruncate(self._file, 0)
            os.write(self._file, _MAGIC)
            os.fsync(self._file)
        self._end = len(_MAGIC)

    def _load(self, at: int) -> Members:
        """One cohort from the file; what was read must be what was written."""
        offset, length, crc = self._places[at]
        body = os.pread(self._file, length, offset)
        if len(body) != length or zlib.crc32(body) != crc:
            raise Damaged("a released cohort on record is damaged.", where=self._path.name)
        return Members.from_bytes(zlib.decompress(body))


def _compressible(cohort: Members) -> bool:
    """Whether time spent on compressing saves space: bits of which one in twenty is set hardly shrink."""
    return not 0.05 < cohort.size / max(64 * len(cohort.words), 1) < 0.95
