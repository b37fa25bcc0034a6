"""The common index of a run: the one order of variants in which nodes add up, block by block.

A block names its variants by 64-bit tokens that only the nodes can read, or, where the question itself names the
variants, by the variants. Either way everybody agrees on the rows before the first number is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.table import Table
from federome.model.variant import Bin, Variant, chromosome_rank

BLOCK_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class BlockIndex:
    """One block: ``bins`` (codes of :class:`Bin`, shape (rows,), ascending) and ``tokens`` (uint64, shape (rows,)).

    The lowest bit of a token tells nodes that lack the variant whether the counted allele is REF.

    ``named`` holds the variants themselves instead of tokens where the question names them. All rows lie on one
    chromosome class.
    """

    number: int
    chromosome: str
    bins: NDArray[np.int64]
    tokens: NDArray[np.uint64]
    named: tuple[Variant, ...] = ()

    @property
    def rows(self) -> int:
        """Number of variants."""
        return len(self.bins)

    def to_table(self) -> Table:
        """For the wire (tokens as the same 64 bits, signed). Named blocks are never sent: the question holds them."""
        return Table({"bin": self.bins, "token": self.tokens.view(np.int64)})

    @classmethod
    def from_table(cls, number: int, table: Table) -> BlockIndex:
        """Inverse of :meth:`to_table`; ``Invalid`` if rows are out of order, repeated, or cross chromosomes."""
        bins, tokens = table.ints("bin"), table.ints("token").view(np.uint64)
        if not 0 < len(bins) <= BLOCK_ROWS:
            raise Invalid("a block of the common index is empty or too large.")
        ranks = {int(code) // 100_000 for code in (bins[0], bins[-1])}
        rising = np.diff(bins) > 0
        if len(ranks) > 1 or np.any(np.diff(bins) < 0) or np.any(~rising & (tokens[1:] <= tokens[:-1])):
            raise Invalid("a block of the common index is not in order.")
        return cls(number, Bin.from_code(int(bins[0])).chromosome_class, bins, tokens)


def named_blocks(variants: Iterable[Variant]) -> tuple[BlockIndex, ...]:
    """The index of a question that names its variants: genome order, no repeats, one block per chromosome class."""
    ordered = sorted(set(variants), key=lambda v: v.sort_key)
    groups: dict[str, list[Variant]] = {}
    for variant in ordered:
        groups.setdefault(variant.chromosome_class, []).append(variant)
    blocks: list[BlockIndex] = []
    for name in sorted(groups, key=chromosome_rank):
        for first in range(0, len(groups[name]), BLOCK_ROWS):
            part = tuple(groups[name][first : first + BLOCK_ROWS])
            codes = np.array([Bin.of(v).code for v in part], dtype=np.int64)
            blocks.append(BlockIndex(len(blocks), name, codes, np.zeros(len(part), np.uint64), part))
    return tuple(blocks)


def merge(bins: Iterable[tuple[int, Sequence[NDArray[np.uint64]]]], *, rows: int = 8_192) -> Iterator[BlockIndex]:
    """Blocks of about ``rows`` variants from the nodes' tokens, bin by bin in genome order.

    Each item is a bin code and every node's tokens in it. Holds one bin and one block in memory; bins never split
    over chromosome classes, and a bin larger than ``BLOCK_ROWS`` fills several blocks.
    """
    codes: list[NDArray[np.int64]] = []
    held: list[NDArray[np.uint64]] = []
    number, size, rank = 0, 0, -1

    def close() -> Iterator[BlockIndex]:
        nonlocal codes, held, number, size
        if size:
            all_codes, all_tokens = np.concatenate(codes), np.concatenate(held)
            for first in range(0, size, BLOCK_ROWS):
                part = slice(first, first + BLOCK_ROWS)
                name = Bin.from_code(int(all_codes[0])).chromosome_class
                yield BlockIndex(number, name, all_codes[part], all_tokens[part])
                number += 1
        codes, held, size = [], [], 0

    for code, parts in bins:
        union = _union(parts)
        if code // 100_000 != rank or size + len(union) > max(rows, 1) * 2 or size >= rows:
            yield from close()
            rank = code // 100_000
        if len(union):
            codes.append(np.full(len(union), code, np.int64))
            held.append(union)
            size += len(union)
    yield from close()


def _union(parts: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """All tokens once, ascending. The lowest bit says which allele is REF: where nodes disagree, most of them win."""
    tokens, votes = np.unique(np.concatenate([*parts, np.zeros(0, np.uint64)]), return_counts=True)
    twin = np.flatnonzero((tokens[1:] >> np.uint64(1)) == (tokens[:-1] >> np.uint64(1)))
    lost = np.where(votes[twin] >= votes[twin + 1], twin + 1, twin)
    return np.delete(tokens, lost)
