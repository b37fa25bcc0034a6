"""Records of released cohorts for the differencing audit: in memory, and in an append-only file.

Sizes and folded bits of all cohorts are held in memory and decide which sets of people have to be looked at; the sets
themselves lie packed in the file. Between them lie notes, such as what an answer cost. A record is there completely
or not at all, and all of them are on disk before anybody who has seen them goes on.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.disclosure.differencing import DEPTH, FOLDED, Members, Words, bits_apart
from federome.disk import sync_folder
from federome.errors import Damaged, Invalid

_MAGIC: Final = b"FDCOHORT2\n"
# size, words, bytes of the packed set, their CRC-32, its folded bits; then the CRC-32 of all this
_HEAD: Final = struct.Struct(f"<QIII{8 * FOLDED}s")
_CRC: Final = struct.Struct("<I")
_RECORD: Final = _HEAD.size + _CRC.size
_NOTE: Final = 0xFFFF_FFFF
"""In the place of a set's words: the record is a note, and holds no people."""
_WHOLE: Final = b"W"  # zlib begins with another byte
_SPARSE: Final = b"S"
_SAID: Final = b"N"
"""Before one of these: the words by which they were asked for follow, 16 bytes. Older records have none."""
_SAID_BYTES: Final = 16
Noted = Callable[[bytes], None]


def _ignore(_note: bytes) -> None:
    """Notes are none of the audit's concern."""


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

    def __init__(self, noted: Noted = _ignore) -> None:
        self._lock = threading.RLock()
        self._index = _Index()
        self._cohorts: list[Members] = []
        self.note = noted

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
    """Cohorts in one append-only file, shared by threads and processes. ``noted`` is told every note, in order.

    Who leaves :meth:`exclusive` finds on disk all that is known here, whoever wrote it; of many who leave at the same
    time one flushes for all. A record that was cut off while it was written is dropped when the file is next used; any
    other damage raises ``Damaged``, since without its record a node cannot know what it has answered.
    """

    def __init__(self, path: Path, noted: Noted = _ignore) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._close = weakref.finalize(self, os.close, self._file)  # at the latest when nobody has it any more
        self._path, self._noted = path, noted
        self._lock = threading.RLock()
        self._depth = 0
        self._index = _Index()
        self._places: list[tuple[int, int, int]] = []  # offset, length and CRC of each packed set
        self._recent: dict[int, Members] = {}  # by number
        self._end = 0
        self._flushing = threading.Lock()
        self._flushed: int | None = 0  # up to where the file is on disk; None once that failed
        with self.exclusive():
            pass  # reads what is there, so that damage shows now

    def close(self) -> None:
        """Give the file back."""
        self._close()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """See :class:`federome.disclosure.differencing.Cohorts`. Reads what other processes have added."""
        outermost, known = False, 0
        try:
            with self._lock:
                outermost = not self._depth
                if outermost:
                    fcntl.flock(self._file, fcntl.LOCK_EX)
                self._depth += 1
                try:
                    if outermost:
                        self._catch_up()
                    yield
                finally:
                    self._depth -= 1
                    known = self._end
                    if outermost:
                        fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            if outermost:
                self._flush(known)

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
        """See :class:`federome.disclosure.differencing.Cohorts`."""
        body = _packed(cohort)
        with self.exclusive():
            self._append(cohort.size, len(cohort.words), body, cohort.folded.astype("<u8").tobytes())
            self._recent[self._index.count - 1] = cohort

    def note(self, body: bytes) -> None:
        """Put a note on record, on disk as cohorts are; ``noted`` is told of it at once."""
        with self.exclusive():
            self._append(0, _NOTE, body, bytes(8 * FOLDED))

    def _append(self, size: int, words: int, body: bytes, folded: bytes) -> None:
        head = _HEAD.pack(size, words, len(body), zlib.crc32(body), folded)
        record = head + _CRC.pack(zlib.crc32(head)) + body
        written = os.write(self._file, record)
        if written != len(record):
            os.ftruncate(self._file, self._end)
            raise Damaged(
                "the record of released cohorts could not be written.",
                where=self._path.name,
                remedy="See that the disk has space left, then ask again.",
            )
        self._take(head)

    def _flush(self, known: int) -> None:
        """Return once the file is on disk up to ``known``. After a failure nobody can tell what is: never again."""
        with self._flushing:
            if self._flushed is not None and self._flushed < known:
                reached, self._flushed = self._end, None
                os.fdatasync(self._file)
                self._flushed = reached
            if self._flushed is None:
                raise Damaged(
                    "the record of released cohorts could not be written.",
                    where=self._path.name,
                    remedy="See to the disk, then start anew.",
                )

    def _take(self, head: bytes) -> None:
        """Take a record at the end of what is known into the index, or tell of a note."""
        size, words, length, crc, folded = _HEAD.unpack(head)
        place = self._end + _RECORD, length, crc
        if words == _NOTE:
            self._noted(self._body(place))
        else:
            self._index.add(size, np.frombuffer(folded, "<u8"))
            self._places.append(place)
        self._end += _RECORD + length

    def _catch_up(self) -> None:
        """Read records beyond the known end; drop one that is cut off."""
        if not self._end:
            self._begin()
        size = os.fstat(self._file).st_size
        if size < self._end:
            raise _lost(self._path)
        while self._end < size:
            raw = os.pread(self._file, _RECORD, self._end)
            head, crc = raw[: _HEAD.size], raw[_HEAD.size :]
            if len(raw) == _RECORD and zlib.crc32(head) != _CRC.unpack(crc)[0]:
                raise _lost(self._path)
            if len(raw) < _RECORD or self._end + _RECORD + _HEAD.unpack(head)[2] > size:
                os.ftruncate(self._file, self._end)
                os.fsync(self._file)
                break
            self._take(head)

    def _begin(self) -> None:
        magic = os.pread(self._file, len(_MAGIC), 0)
        if magic != _MAGIC:
            if not _MAGIC.startswith(magic):
                raise _lost(self._path)
            os.ftruncate(self._file, 0)
            os.write(self._file, _MAGIC)
            os.fsync(self._file)
            sync_folder(self._path.parent)
        self._end = len(_MAGIC)

    def _load(self, at: int) -> Members:
        """One cohort from the file."""
        return _unpacked(self._body(self._places[at]))

    def _body(self, place: tuple[int, int, int]) -> bytes:
        """What follows a head; what was read must be what was written."""
        offset, length, crc = place
        body = os.pread(self._file, length, offset)
        if len(body) != length or zlib.crc32(body) != crc:
            raise _lost(self._path)
        return body


def check_file(path: Path) -> int:
    """Read every record of a file of cohorts, and change nothing; how many there are.

    ``Damaged``, naming the file, unless all is as it was written. One that is being written just now does not count.
    """
    records = 0
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # whoever appends is done
        left = os.fstat(file.fileno()).st_size - len(_MAGIC)
        fcntl.flock(file, fcntl.LOCK_UN)
        if file.read(len(_MAGIC)) != _MAGIC:
            raise _lost(path)
        while left >= _RECORD:
            raw = file.read(_RECORD)
            head, crc = raw[: _HEAD.size], raw[_HEAD.size :]
            if zlib.crc32(head) != _CRC.unpack(crc)[0]:
                raise _lost(path)
            _, _, length, body_crc, _ = _HEAD.unpack(head)
            if (left := left - _RECORD - length) < 0:
                break
            if zlib.crc32(file.read(length)) != body_crc:
                raise _lost(path)
            records += 1
    return records


def _lost(path: Path) -> Damaged:
    return Damaged(
        "the record of released cohorts is damaged.",
        where=str(path),
        remedy="Restore it from the newest backup, then run: federome store verify",
    )


def _packed(cohort: Members) -> bytes:
    """A set as it lies in the file: of few people their words with the words' places, else all words; or as zlib has
    them where most people are in it, whose gaps are what has to be told.
    """
    if cohort.said:
        return _SAID + cohort.said.ljust(_SAID_BYTES, b"\0")[:_SAID_BYTES] + _packed(cohort.asked(b""))
    words = cohort.words
    if cohort.size > 0.95 * 64 * len(words):
        return zlib.compress(cohort.to_bytes(), 1)
    places = np.flatnonzero(words)
    if len(places) * 12 >= len(words) * 8:
        return _WHOLE + cohort.to_bytes()
    return _SPARSE + places.astype("<u4").tobytes() + words[places].astype("<u8").tobytes()


def _unpacked(body: bytes) -> Members:
    """Inverse of :func:`_packed`, and of what was written before: always zlib."""
    if body[:1] == _SAID:
        after = 1 + _SAID_BYTES
        return _unpacked(body[after:]).asked(body[1:after])
    kind, rest = body[:1], memoryview(body)[1:]
    if kind == _WHOLE:
        return Members.from_bytes(bytes(rest))
    if kind != _SPARSE:
        return Members.from_bytes(zlib.decompress(body))
    number = len(rest) // 12
    places = np.frombuffer(rest, "<u4", number)
    words = np.zeros(int(places[-1]) + 1 if number else 0, np.uint64)
    words[places] = np.frombuffer(rest, "<u8", number, 4 * number)
    return Members(words)
