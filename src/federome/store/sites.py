"""The sidecar that says which variants a block holds: positions, alleles, effects, and on X and Y counts of men.

Written once beside each PGEN file; read instead of the ``.pvar.zst``, which is there for other programs. The
catalogue holds its SHA-256, so its content is trusted once that has been checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome.errors import Damaged
from federome.model.variant import Assembly, chromosome_class, chromosome_rank, oriented
from federome.store.packed import MAGIC, compress, decompress, numbers, planes

_FORMAT, _EARLIER = "federome-sites/2", "federome-sites/1"
Effects = tuple[tuple[str, str], ...]
"""Pairs of gene symbol and Sequence Ontology term, or change of its protein (``p.V600E``)."""


class _Wire(msgspec.Struct, array_like=True):
    """Compressed as a whole; ``steps`` from position to position, ``lengths`` of REF and ALT in turn.

    The earlier format is not compressed and has positions and ends of alleles in their places, four bytes a number.
    """

    format: str
    steps: bytes
    lengths: bytes
    alleles: str
    not_left_aligned: bytes
    effects: list[Effects]
    effect: bytes
    male_counts: bytes | None


@dataclass(frozen=True, eq=False)
class Sites:
    """The variants of one block, in file order.

    positions int64 [variants]; ``effect`` int64 [variants] points into ``effects``, the distinct sets of effects;
    male_counts int32 [variants, 4] (hom-ref, het, hom-alt, missing among men) on X and Y, else None.
    """

    positions: NDArray[np.int64]
    refs: Sequence[str]
    alts: Sequence[str]
    not_left_aligned: NDArray[np.bool_]
    effects: tuple[Effects, ...]
    effect: NDArray[np.int64]
    male_counts: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def proteins(self) -> tuple[Effects, ...]:
        """Of each distinct set of effects, the changes of proteins."""
        return tuple(tuple(pair for pair in each if pair[1].startswith("p.")) for each in self.effects)

    @cached_property
    def flipped(self) -> NDArray[np.bool_]:
        """Where the allele that runs count is REF (see ``model.variant.oriented``), shape (variants,)."""
        return np.fromiter(
            (oriented(ref, alt)[2] for ref, alt in zip(self.refs, self.alts, strict=True)), np.bool_, len(self)
        )

    def ranks(self, chromosome: str, assembly: Assembly) -> NDArray[np.int64]:
        """Rank of each variant's chromosome class, shape (variants,)."""
        out = np.full(len(self), chromosome_rank(chromosome), np.int64)
        if chromosome == "X":
            out[:] = [chromosome_rank(chromosome_class("X", int(p), assembly)) for p in self.positions]
        return out

    def to_bytes(self) -> bytes:
        """The sidecar's content."""
        texts = [text for pair in zip(self.refs, self.alts, strict=True) for text in pair]
        return compress(
            msgspec.msgpack.encode(
                _Wire(
                    _FORMAT,
                    planes(np.diff(self.positions, prepend=0)),
                    planes(np.array([len(text) for text in texts], np.int64)),
                    "".join(texts),
                    np.packbits(self.not_left_aligned).tobytes(),
                    list(self.effects),
                    planes(self.effect),
                    None if self.male_counts is None else planes(self.male_counts.T.reshape(-1)),
                )
            )
        )

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str) -> Sites:
        """Read a sidecar back; ``Damaged`` if it is none or its parts disagree."""
        try:
            earlier = not content.startswith(MAGIC)
            wire = msgspec.msgpack.decode(content if earlier else decompress(content), type=_Wire)
            read = _plain if earlier else numbers
            positions, ends, effect = read(wire.steps), read(wire.lengths), read(wire.effect)
            count = len(positions)
            if not earlier:
                positions, ends = np.cumsum(positions) % (1 << 32), np.cumsum(ends)
            men = None if wire.male_counts is None else read(wire.male_counts)
            if men is not None:
                men = men.reshape(count, 4) if earlier else men.reshape(4, count).T
        except (msgspec.DecodeError, ValueError) as error:
            raise _damaged(where) from error
        sound = (
            wire.format == (_EARLIER if earlier else _FORMAT)
            and len(ends) == 2 * count
            and (not count or ends[-1] == len(wire.alleles))
            and len(effect) == count
            and len(wire.not_left_aligned) == (count + 7) // 8
            and (not count or 0 <= effect.min() <= effect.max() < len(wire.effects))
        )
        if not sound:
            raise _damaged(where)
        texts = [wire.alleles[start:stop] for start, stop in pairwise([0, *ends.tolist()])]
        flags = np.unpackbits(np.frombuffer(wire.not_left_aligned, np.uint8), count=count).view(np.bool_)
        counts = None if men is None else men.astype(np.int32)
        return cls(positions, texts[::2], texts[1::2], flags, tuple(wire.effects), effect, counts)


def _plain(content: bytes) -> NDArray[np.int64]:
    return np.frombuffer(content, "<u4").astype(np.int64)


def _damaged(where: str) -> Damaged:
    return Damaged(
        "this is not a list of sites as the store writes it.",
        where=where,
        remedy="Restore the file from a copy, then run: federome store verify",
    )
