"""Writing the blocks of one chromosome of a batch into its staging folder.

`writer.BatchWriter` makes one of these at a time. What comes in is checked here: order, spelling, repetitions and
ploidy, so that kernels and algorithms need not doubt what they read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from federome.disk import sync_folder
from federome.errors import Invalid
from federome.model.strict import Json
from federome.model.table import Mask
from federome.model.variant import Assembly, chromosome_class, oriented, trim
from federome.store.layout import (
    BLOCK_PARTS,
    canonical,
    file_digest,
    make_folder,
    noted,
    with_part,
    write_durably,
)
from federome.store.packed import compress
from federome.store.pgen import PgenWriter
from federome.store.sites import Effects, Sites
from federome.store.staging import FINISHED

_ALLELE = re.compile(r"[ACGTN]+")
_LAST_POSITION = 2**31 - 2


@dataclass(frozen=True, slots=True)
class VariantInfo:
    """What is known of the variants of one call besides their genotypes; each list has one entry a variant.

    ``effects``: pairs of gene symbol (may be empty) and one Sequence Ontology term, as CSQ or ANN give them, or the
    change of its protein (``model.protein``).
    ``not_left_aligned``: True for an indel that could not be normalised for lack of a reference sequence.
    """

    effects: Sequence[Sequence[tuple[str, str]]] = ()
    not_left_aligned: Sequence[bool] | Mask = ()


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """A finished block: its place and the SHA-256 of its parts, in the order of ``layout.BLOCK_PARTS``."""

    first: int
    last: int
    variants: int
    digests: tuple[str, ...]


class Genotypes(Protocol):
    """Genotypes of some variants, dense or sparse."""

    def __len__(self) -> int: ...

    def append(self, writer: PgenWriter, start: int, stop: int) -> None:
        """Write a stretch of variants."""

    def tally(self, people: Mask) -> NDArray[np.int32]:
        """Counts within some people, (variants, 4): hom-ref, het, hom-alt, missing."""


@dataclass(frozen=True, eq=False)
class Dense:
    """int8 [variants, people], -1 missing."""

    matrix: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.matrix)

    def append(self, writer: PgenWriter, start: int, stop: int) -> None:
        """Write a stretch of variants."""
        writer.append_many(self.matrix[start:stop])

    def tally(self, people: Mask) -> NDArray[np.int32]:
        """Counts within some people."""
        part = self.matrix[:, people]
        return np.stack([np.count_nonzero(part == code, axis=1) for code in (0, 1, 2, -1)], axis=1).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Sparse:
    """Carriers of variant i at offsets[i]:offsets[i+1], with codes 1, 2, 3 (missing)."""

    offsets: NDArray[np.int64]
    carriers: NDArray[np.uint32]
    codes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def append(self, writer: PgenWriter, start: int, stop: int) -> None:
        """Write a stretch of variants."""
        for i in range(start, stop):
            part = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
            writer.append_sparse(self.carriers[part], self.codes[part])

    def tally(self, people: Mask) -> NDArray[np.int32]:
        """Counts within some people."""
        variant = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        counted = people[self.carriers]
        flat = np.bincount(variant[counted] * 4 + self.codes[counted], minlength=4 * len(self))
        out = flat.reshape(len(self), 4).astype(np.int32)
        out[:, 0] = np.count_nonzero(people) - out[:, 1:].sum(axis=1)
        return out


class ChromosomeWriter:
    """One chromosome being written. ``finish`` makes it durable; ``abort`` removes its open file."""

    def __init__(
        self, folder: Path, chromosome: str, assembly: Assembly, *, men: Mask, women: Mask, block_variants: int
    ) -> None:
        self.folder = folder
        self.chromosome = chromosome
        self._assembly = assembly
        self._men, self._women = men, women
        self._block_variants = block_variants
        self._records: list[BlockRecord] = []
        self._block: _OpenBlock | None = None
        self._position = 1
        self._keys: set[tuple[str, str]] = set()
        make_folder(folder)

    def add(
        self,
        positions: NDArray[np.int64],
        refs: Sequence[str],
        alts: Sequence[str],
        genotypes: Genotypes,
        info: VariantInfo,
    ) -> None:
        """Add sorted variants; see ``BatchWriter.add_dense`` for what is refused."""
        count = len(positions)
        lists = [len(refs), len(alts), len(genotypes)]
        lists += [len(each) for each in (info.effects, info.not_left_aligned) if len(each)]
        if positions.ndim != 1 or any(length != count for length in lists):
            raise Invalid("the lists of one call differ in length.", where=f"chromosome {self.chromosome}")
        if not count:
            return
        self._check_sites(positions, refs, alts)
        men = self._check_ploidy(positions, genotypes)
        effects = [tuple((gene, term) for gene, term in each) for each in info.effects] or [()] * count
        flags = np.asarray(info.not_left_aligned if len(info.not_left_aligned) else np.zeros(count), np.bool_)
        start = 0
        while start < count:
            block = self._room(int(positions[start]))
            stop = min(count, start + self._block_variants - block.pgen.variants)
            genotypes.append(block.pgen, start, stop)
            part = slice(start, stop)
            block.note(
                positions[part], refs[part], alts[part], effects[part], flags[part], None if men is None else men[part]
            )
            start = stop

    def finish(self) -> None:
        """Close the last block and note durably that the chromosome is complete."""
        self._close_block()
        content: list[Json] = [[r.first, r.last, r.variants, list(r.digests)] for r in self._records]
        write_durably(self.folder / FINISHED, canonical(content))
        sync_folder(self.folder.parent)

    def abort(self) -> None:
        """Close what is open without finishing; the sweep removes the rest."""
        if self._block is not None:
            self._block.pgen.abort()
            self._block = None

    def _room(self, position: int) -> _OpenBlock:
        """The open block, or a new one that starts at ``position``."""
        if self._block is not None and self._block.pgen.variants >= self._block_variants:
            self._close_block()
        if self._block is None:
            if self._records and self._records[-1].first == position:
                raise self._invalid(position, "more variants stand here than a block holds")
            base = self.folder / f"{position:09d}"
            pgen = PgenWriter(with_part(base, ".pgen"), len(self._men), max_variants=self._block_variants)
            self._block = _OpenBlock(base, pgen)
        return self._block

    def _close_block(self) -> None:
        if self._block is not None:
            self._records.append(self._block.close(self.chromosome, self._assembly))
            self._block = None

    def _check_sites(self, positions: NDArray[np.int64], refs: Sequence[str], alts: Sequence[str]) -> None:
        steps = np.diff(positions, prepend=self._position)
        if np.any(steps < 0) or positions[0] < 1 or positions[-1] > _LAST_POSITION:
            at = int(positions[int(np.argmin(steps))])
            raise self._invalid(at, "positions fall, or leave the chromosome", "Sort the input by position.")
        for allele in {*refs, *alts}:
            if not _ALLELE.fullmatch(allele):
                raise Invalid(
                    "an allele is not made of A, C, G, T or N.",
                    where=f"chromosome {self.chromosome}",
                    remedy="Leave out symbolic alleles; write capital letters.",
                )
        for i, (ref, alt) in enumerate(zip(refs, alts, strict=True)):
            if steps[i]:
                self._keys.clear()
            position = int(positions[i])
            if len(ref) > 1 and len(alt) > 1 and trim(position, ref, alt) != (position, ref, alt):
                raise self._invalid(position, "the alleles are not trimmed", "Trim them: model.variant.trim.")
            first, second, _ = oriented(ref, alt)
            if ref == alt or (first, second) in self._keys:
                raise self._invalid(position, "a variant is given twice, or its alleles are equal", "Drop one.")
            self._keys.add((first, second))
        self._position = int(positions[-1])

    def _check_ploidy(self, positions: NDArray[np.int64], genotypes: Genotypes) -> NDArray[np.int32] | None:
        """Refuse two different copies where there is one; returns the counts of men on X and Y."""
        if self.chromosome not in ("X", "Y", "MT"):
            return None
        men = genotypes.tally(self._men)
        one_copy = men[:, 1].copy()
        if self.chromosome == "X":
            classes = [chromosome_class("X", int(position), self._assembly) for position in positions]
            one_copy[np.array(classes) != "X"] = 0
        else:
            one_copy = genotypes.tally(np.ones_like(self._men))[:, 1]
        if one_copy.any():
            at = int(positions[int(np.argmax(one_copy > 0))])
            raise self._invalid(at, "one-copy genotypes must be 0 or 2", "Make heterozygous calls there -1 first.")
        if self.chromosome == "Y" and genotypes.tally(self._women)[:, :3].any():
            raise Invalid("women have genotypes.", where="chromosome Y", remedy="Make them -1 first.")
        return None if self.chromosome == "MT" else men

    def _invalid(self, position: int, message: str, remedy: str = "") -> Invalid:
        return Invalid(f"{message}.", where=f"{self.chromosome}:{position}", remedy=remedy)


class _OpenBlock:
    """A block being written: the PGEN file, and its sites so far."""

    def __init__(self, base: Path, pgen: PgenWriter) -> None:
        self.base = base
        self.pgen = pgen
        self.positions: list[NDArray[np.int64]] = []
        self.refs: list[str] = []
        self.alts: list[str] = []
        self.flags: list[Mask] = []
        self.effects: dict[Effects, int] = {}
        self.effect: list[int] = []
        self.men: list[NDArray[np.int32]] = []

    def note(
        self,
        positions: NDArray[np.int64],
        refs: Sequence[str],
        alts: Sequence[str],
        effects: Sequence[Effects],
        flags: Mask,
        men: NDArray[np.int32] | None,
    ) -> None:
        """Keep what the sidecar will say."""
        self.positions.append(positions)
        self.refs += refs
        self.alts += alts
        self.flags.append(flags)
        self.effect += [self.effects.setdefault(each, len(self.effects)) for each in effects]
        if men is not None:
            self.men.append(men)

    def close(self, chromosome: str, assembly: Assembly) -> BlockRecord:
        """Finish all four files durably."""
        self.pgen.close()
        sites = Sites(
            np.concatenate(self.positions),
            self.refs,
            self.alts,
            np.concatenate(self.flags),
            tuple(self.effects),
            np.array(self.effect, np.int64),
            np.concatenate(self.men) if self.men else None,
        )
        write_durably(with_part(self.base, ".pvar.zst"), compress(pvar(sites, chromosome, assembly)))
        write_durably(with_part(self.base, ".index"), self.pgen.index.to_bytes())
        write_durably(with_part(self.base, ".sites"), sites.to_bytes())
        digests = tuple(file_digest(with_part(self.base, part)) for part in BLOCK_PARTS)
        return BlockRecord(int(sites.positions[0]), int(sites.positions[-1]), len(sites), digests)


def pvar(sites: Sites, chromosome: str, assembly: Assembly) -> bytes:
    """The variant table that plink2 reads, in file order."""
    lines = [f"##reference={assembly}", "#CHROM\tPOS\tID\tREF\tALT"]
    lines += [
        f"{chromosome}\t{position}\t.\t{ref}\t{alt}"
        for position, ref, alt in zip(sites.positions.tolist(), sites.refs, sites.alts, strict=True)
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


def read_records(folder: Path) -> tuple[BlockRecord, ...]:
    """The blocks of a finished chromosome."""
    content = noted(folder / FINISHED)
    return tuple(BlockRecord(first, last, count, tuple(digests)) for first, last, count, digests in content)


def is_whole(folder: Path) -> bool:
    """Whether every file of a finished chromosome still has the content that was written."""
    return all(
        with_part(base, part).is_file() and file_digest(with_part(base, part)) == digest
        for record in read_records(folder)
        for base in (folder / f"{record.first:09d}",)
        for part, digest in zip(BLOCK_PARTS, record.digests, strict=True)
    )
