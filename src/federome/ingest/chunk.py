"""A chunk of variants on its way from a source to the store, and the few things that happen to it on the way.

Sources yield chunks, `stream` sorts, checks and joins them, the store's writer takes them. Genotypes are kept by
carrier (compressed rows): **codes uint8, 1 one ALT copy, 2 two copies, 3 not called**, beside rising rows of people
in ``carriers``; everybody else has two copies of REF. Cost therefore follows carriers from the file to the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from federome.model.variant import Assembly, chromosome_class
from federome.store.chromosome import VariantInfo
from federome.store.encode import MISSING, as_calls

if TYPE_CHECKING:  # what reads files does without a database's libraries
    from federome.store.writer import BatchWriter

Effects = tuple[tuple[str, str], ...]
"""(gene symbol, Sequence Ontology term) pairs of one variant."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Variants of one chromosome; lists and arrays have one entry a variant unless said otherwise.

    ``offsets`` has one entry more; ``lines`` says where in the source each stands (line or record number, 1-based).
    """

    chromosome: str
    positions: NDArray[np.int64]
    refs: Sequence[str]
    alts: Sequence[str]
    lines: NDArray[np.int64]
    offsets: NDArray[np.int64]
    carriers: NDArray[np.uint32]
    codes: NDArray[np.uint8]
    effects: Sequence[Effects]
    not_left_aligned: NDArray[np.bool_]

    def __len__(self) -> int:
        return self.positions.size

    def write(self, writer: BatchWriter) -> None:
        """Add the variants to a batch."""
        info = VariantInfo(effects=self.effects, not_left_aligned=self.not_left_aligned.tolist())
        writer.add_sparse(
            self.chromosome, self.positions, self.refs, self.alts, self.offsets, self.carriers, self.codes, info
        )

    def row(self, index: int, people: int) -> NDArray[np.int8]:
        """One variant dense: int8 [people], −1 not called."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        dense = np.zeros(people, np.int8)
        dense[self.carriers[span]] = as_calls(self.codes[span])
        return dense

    def same_genotypes(self, one: int, other: int) -> bool:
        """Whether two variants have equal calls for everybody."""
        first, second = (slice(self.offsets[i], self.offsets[i + 1]) for i in (one, other))
        return np.array_equal(self.carriers[first], self.carriers[second]) and np.array_equal(
            self.codes[first], self.codes[second]
        )

    def take(self, order: NDArray[np.int64]) -> Chunk:
        """The variants with the given numbers, in that order."""
        lengths = np.diff(self.offsets)[order]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        source = np.repeat(self.offsets[order] - offsets[:-1], lengths) + np.arange(offsets[-1])
        picked = order.tolist()
        return Chunk(
            chromosome=self.chromosome,
            positions=self.positions[order],
            refs=[self.refs[i] for i in picked],
            alts=[self.alts[i] for i in picked],
            lines=self.lines[order],
            offsets=offsets,
            carriers=self.carriers[source],
            codes=self.codes[source],
            effects=[self.effects[i] for i in picked],
            not_left_aligned=self.not_left_aligned[order],
        )

    def part(self, first: int, last: int) -> Chunk:
        """The variants ``first`` to ``last`` (exclusive), without copying their genotypes."""
        span = slice(self.offsets[first], self.offsets[last])
        return Chunk(
            chromosome=self.chromosome,
            positions=self.positions[first:last],
            refs=self.refs[first:last],
            alts=self.alts[first:last],
            lines=self.lines[first:last],
            offsets=self.offsets[first : last + 1] - self.offsets[first],
            carriers=self.carriers[span],
            codes=self.codes[span],
            effects=self.effects[first:last],
            not_left_aligned=self.not_left_aligned[first:last],
        )

    def followed_by(self, other: Chunk) -> Chunk:
        """Both, one after the other; they are of one chromosome."""
        return Chunk(
            chromosome=self.chromosome,
            positions=np.concatenate([self.positions, other.positions]),
            refs=[*self.refs, *other.refs],
            alts=[*self.alts, *other.alts],
            lines=np.concatenate([self.lines, other.lines]),
            offsets=np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]]),
            carriers=np.concatenate([self.carriers, other.carriers]),
            codes=np.concatenate([self.codes, other.codes]),
            effects=[*self.effects, *other.effects],
            not_left_aligned=np.concatenate([self.not_left_aligned, other.not_left_aligned]),
        )

    def with_rows(self, rows: dict[int, NDArray[np.int8]]) -> Chunk:
        """The same with some variants' genotypes replaced by dense rows."""
        if not rows:
            return self
        carriers: list[NDArray[np.uint32]] = []
        codes: list[NDArray[np.uint8]] = []
        offsets = [0]
        for index in range(len(self)):
            if index in rows:
                listed = np.flatnonzero(rows[index])
                carriers.append(listed.astype(np.uint32))
                codes.append(rows[index][listed].view(np.uint8) & np.uint8(MISSING))
            else:
                span = slice(self.offsets[index], self.offsets[index + 1])
                carriers.append(self.carriers[span])
                codes.append(self.codes[span])
            offsets.append(offsets[-1] + carriers[-1].size)
        return replace(
            self,
            offsets=np.array(offsets, np.int64),
            carriers=np.concatenate(carriers),
            codes=np.concatenate(codes),
        )


def enforce_ploidy(chunk: Chunk, men: NDArray[np.bool_], assembly: Assembly) -> tuple[Chunk, int]:
    """Calls that cannot be become missing; returns the chunk and how many calls were changed.

    One copy of two where there is only one (men on X and Y outside the pseudo-autosomal regions, everybody on MT),
    and any call of people not known to be men on Y. ``men`` is bool [people].
    """
    match chunk.chromosome:
        case "X":
            single = [chromosome_class("X", position, assembly) == "X" for position in chunk.positions.tolist()]
            wrong = np.repeat(np.array(single, np.bool_), np.diff(chunk.offsets)) & men[chunk.carriers]
        case "MT" | "Y":
            wrong = np.ones(chunk.codes.size, np.bool_)
        case _:
            return chunk, 0
    wrong &= chunk.codes == 1
    changed = int(np.count_nonzero(wrong & (men[chunk.carriers] | (chunk.chromosome != "Y"))))
    if changed or wrong.any():
        chunk = replace(chunk, codes=np.where(wrong, np.uint8(MISSING), chunk.codes))
    if chunk.chromosome == "Y":
        chunk = chunk.with_rows({i: np.where(men, chunk.row(i, men.size), np.int8(-1)) for i in range(len(chunk))})
    return chunk, changed


def swapped(row: NDArray[np.int8]) -> NDArray[np.int8]:
    """The same people counted by the other allele."""
    return np.where(row < 0, row, 2 - row).astype(np.int8)
