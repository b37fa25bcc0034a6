"""The Merkle tree of RFC 9162 §2.1: hashes, growth, and proofs that an entry is in and that nothing was rewritten.

Pure arithmetic. A growing log keeps a ``Frontier``; proofs are planned as coordinates of complete subtrees, so that
any storage can fetch what a proof needs in one query. Checking a proof needs no storage at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from federome.errors import Damaged, Invalid

# (level, index): the complete subtree over entries [index << level, (index + 1) << level).
Coordinate: TypeAlias = tuple[int, int]
Node: TypeAlias = tuple[int, int, bytes]
Proof: TypeAlias = tuple[bytes, ...]
FetchNodes: TypeAlias = Callable[[Sequence[Coordinate]], Sequence[bytes]]

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256().digest()
TILE_WIDTH, TILE_LEVELS = 256, 8


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256 of a zero byte and the entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of a one byte and both children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class Frontier:
    """All that is needed to append: the size and the roots of the complete subtrees, largest first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def root(self) -> bytes:
        """The root hash of the tree; of the empty one the hash of nothing."""
        return _fold(self.peaks) if self.peaks else EMPTY_ROOT

    def extend(self, leaves: Iterable[bytes]) -> tuple[Frontier, list[Node]]:
        """The frontier after appending these leaf hashes, and every complete subtree that came into being."""
        size, peaks, created = self.size, list(self.peaks), []
        for leaf in leaves:
            digest, level, index = leaf, 0, size
            created.append((level, index, digest))
            while index & 1:  # a finished right child: its left sibling is the last peak
                digest = node_hash(peaks.pop(), digest)
                level, index = level + 1, index >> 1
                created.append((level, index, digest))
            peaks.append(digest)
            size += 1
        return Frontier(size, tuple(peaks)), created


def root_at(fetch: FetchNodes, size: int) -> bytes:
    """The root the tree had when it held ``size`` entries."""
    return _hashes(fetch, [(0, size)])[0] if size else EMPTY_ROOT


def inclusion_proof(fetch: FetchNodes, index: int, size: int) -> Proof:
    """PATH of RFC 9162 §2.1.3.1 for entry ``index`` (0-based) in the tree of ``size`` entries, leaf side first."""
    if not 0 <= index < size:
        raise Invalid(f"entry {index} is not in a log of {size} entries")
    ranges, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return _hashes(fetch, ranges[::-1])


def consistency_proof(fetch: FetchNodes, old: int, new: int) -> Proof:
    """PROOF of RFC 9162 §2.1.4.1 that the tree of ``new`` entries begins with the tree of ``old`` entries."""
    if not 0 <= old <= new:
        raise Invalid(f"a log of {new} entries cannot continue one of {old}")
    ranges, start, end = [], 0, new
    while 0 < old < end:
        middle = start + _split(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start:  # the old tree ends inside: its last part must be shown as well
        ranges.append((start, end))
    return _hashes(fetch, ranges[::-1])


def check_inclusion(leaf: bytes, index: int, size: int, *, proof: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 §2.1.3.2: ``Damaged`` unless ``leaf`` (a leaf hash) is entry ``index`` below ``root``."""
    if not 0 <= index < size:
        raise Damaged("the entry's position lies outside the log")
    position, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise Damaged("the inclusion proof is too long")
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    if last or computed != root:
        raise Damaged("the entry is not in the log that the checkpoint describes")


def check_consistency(old: int, new: int, *, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """RFC 9162 §2.1.4.2: ``Damaged`` unless the log of ``new`` entries only appended to the one of ``old``."""
    if not 0 <= old <= new:
        raise Damaged("the log has become shorter")
    if old in (0, new):
        same = old_root == (new_root if old else EMPTY_ROOT)
        if proof or not same:
            raise Damaged("the log was rewritten: one size, two roots")
        return
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise Damaged("the consistency proof is too short")
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_computed = new_computed = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise Damaged("the consistency proof is too long")
        if position & 1 or position == last:
            old_computed = node_hash(sibling, old_computed)
            new_computed = node_hash(sibling, new_computed)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new_computed = node_hash(new_computed, sibling)
        position, last = position >> 1, last >> 1
    if last or old_computed != old_root or new_computed != new_root:
        raise Damaged("the log was rewritten: its earlier entries are not the ones seen before")


def tile(fetch: FetchNodes, level: int, index: int, *, size: int) -> bytes:
    """The hashes of one C2SP tlog tile of a tree of ``size`` entries: up to 256 subtrees of 256^level entries.

    ``Invalid`` when the tree has no such tile yet.
    """
    first = index * TILE_WIDTH
    width = min(TILE_WIDTH, (size >> (TILE_LEVELS * max(level, 0))) - first)
    if level < 0 or index < 0 or width <= 0:
        raise Invalid(f"a log of {size} entries has no tile {index} at level {level}")
    return b"".join(fetch([(TILE_LEVELS * level, first + i) for i in range(width)]))


def tile_path(level: int, index: int, *, width: int = TILE_WIDTH) -> str:
    """Where a tile lives (C2SP tlog-tiles): ``tile/0/x001/x234/067``, partial ones with ``.p/WIDTH``."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def _split(count: int) -> int:
    """The largest power of two smaller than ``count``."""
    return 1 << (count - 1).bit_length() - 1


def _fold(peaks: Sequence[bytes]) -> bytes:
    digest = peaks[-1]
    for peak in reversed(peaks[:-1]):
        digest = node_hash(peak, digest)
    return digest


def _hashes(fetch: FetchNodes, ranges: Sequence[tuple[int, int]]) -> Proof:
    """The hash of each range of entries, all fetched at once. Ranges begin where a subtree of their size may."""
    plans = [_peaks(start, end) for start, end in ranges]
    found = iter(fetch([coordinate for plan in plans for coordinate in plan]))
    return tuple(_fold([next(found) for _ in plan]) for plan in plans)


def _peaks(start: int, end: int) -> list[Coordinate]:
    plan = []
    while start < end:
        level = (end - start).bit_length() - 1
        plan.append((level, start >> level))
        start += 1 << level
    return plan
