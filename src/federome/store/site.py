"""One node's people and variants lined up with a run: tokens out, blocks of the common index in.

Implements ``analysis.program.Site`` and ``analysis.algorithm.Block``. Every batch lists its own variants; here they
are matched to the rows of an index block, alleles are put in the order that the run counts, and a variant that a
batch does not list is reference where the batch was callable and unknown elsewhere.
"""

from __future__ import annotations

import hashlib
import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model import variant
from federome.model.index import BlockIndex
from federome.model.products import Products
from federome.model.table import Mask, Table
from federome.model.variant import BIN_SIZE, CHROMOSOMES, Region, Variant, chromosome_rank, oriented
from federome.store import kernels
from federome.store.blocks import Block, BlockFile
from federome.store.callability import bin_span, covers, stored_as
from federome.store.carriers import locate
from federome.store.catalogue import MALE
from federome.store.detached import attached, detached
from federome.store.view import Part, StudyView

MAPPING_BYTES = 256 << 20
TOKEN_BLOCKS = 64
_SWAPPED = [2, 1, 0, 3]

Tokens = NDArray[np.uint64]
Rows = NDArray[np.int64]


class Covers(Protocol):
    """Which variants a run covers (``analysis.algorithm.Variants``)."""

    @property
    def regions(self) -> tuple[Region, ...]: ...

    @property
    def named(self) -> tuple[Variant, ...]: ...


@dataclass(frozen=True, eq=False)
class Aligned:
    """One part against the rows of an index block.

    ``block`` int32 (rows,) points into ``files``, -1 where the part lists no such variant; ``row`` is the variant's
    number there; ``flipped`` where the counted allele is REF there; ``known`` where absence means reference.
    """

    files: tuple[BlockFile, ...]
    block: NDArray[np.int32]
    row: NDArray[np.int32]
    flipped: Mask
    known: Mask

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return self.block.nbytes + self.row.nbytes + self.flipped.nbytes + self.known.nbytes

    def take(self, rows: Rows) -> Aligned:
        """Some of the rows."""
        return Aligned(self.files, self.block[rows], self.row[rows], self.flipped[rows], self.known[rows])

    def present(self) -> Iterator[tuple[BlockFile, Rows, Rows]]:
        """For each file: which rows of the index it holds, and the variants' numbers in it."""
        for i, file in enumerate(self.files):
            rows = np.flatnonzero(self.block == i)
            if len(rows):
                yield file, rows, self.row[rows].astype(np.int64)

    @property
    def absent(self) -> tuple[Rows, Rows]:
        """Rows that are not listed: where everybody is reference, and where nothing is known."""
        gone = self.block < 0
        return np.flatnonzero(gone & self.known), np.flatnonzero(gone & ~self.known)


class StudySite:
    """A view and the variants behind it. ``key`` is the run's token key, which ``use`` also sets.

    Several threads may ask for blocks at once.
    """

    def __init__(
        self, view: StudyView, *, key: bytes | None = None, mapping_bytes: int = MAPPING_BYTES, packed: bytes = b""
    ) -> None:
        self._view = view
        self._key = key
        self._mapping_bytes = mapping_bytes
        self._mappings: OrderedDict[bytes, tuple[Aligned, ...]] = OrderedDict()
        self._tokens: OrderedDict[Path, Tokens] = OrderedDict()
        self._packed = packed
        self._lock = threading.RLock()  # held while a block is lined up, not while it is computed on

    def __reduce__(self) -> tuple[Callable[[bytes, bytes | None], StudySite], tuple[bytes, bytes | None]]:
        """How a site reaches a worker in another process: a plain one, whichever kind this is."""
        with self._lock:
            if not self._packed:
                self._packed = detached(self._view)
            return _attached, (self._packed, self._key)

    @property
    def view(self) -> StudyView:
        """The frozen cohort."""
        return self._view

    def tokens(self, variants: Covers, key: bytes) -> Iterator[tuple[int, Tokens]]:
        """Bin code and the sorted tokens of all variants in it, bin by bin in genome order.

        A token is ``model.variant.token`` with its lowest bit set where the counted allele is REF: then a node that
        does not list the variant, and cannot know its alleles, still knows how many counted alleles reference has.
        Raises ``Invalid`` where the question names its variants: then nothing has to be agreed.
        """
        if variants.named:
            raise Invalid("a question that names its variants needs no tokens.")
        self.use(key)
        return self._all_tokens(variants.regions)

    def sites(self, variants: Covers) -> int:
        """How many variants lie in these regions, or anywhere; one that several batches list may count twice."""
        parts = [part for part, rows in zip(self._view.parts, self._view.members, strict=True) if len(rows)]
        total = 0
        for chromosome in dict.fromkeys(map(stored_as, CHROMOSOMES)):
            within = [region for region in variants.regions if region.chromosome == chromosome]
            if variants.regions and not within:
                continue
            for part in parts:
                for file in part.store.files(part.batch, part.release, chromosome):
                    if not within or any(r.start <= file.first and file.last <= r.end for r in within):
                        total += file.variants
                    elif any(r.start <= file.last and file.first <= r.end for r in within):
                        at = part.store.blocks.open(file).sites.positions
                        total += int(np.logical_or.reduce([(at >= r.start) & (at <= r.end) for r in within]).sum())
        return total

    def use(self, key: bytes) -> None:
        """Read blocks of the common index with this key from now on."""
        if key != self._key:
            self._key = key
            self._mappings.clear()
            self._tokens.clear()

    def changed(self) -> bool:
        """Whether somebody of the cohort has withdrawn since it was frozen."""
        return self._view.changed()

    def block(self, index: BlockIndex, rows: Table | None = None) -> StudyBlock:
        """A block of the common index, restricted to ``rows["row"]`` if a table is given."""
        aligned = self._aligned(index)
        counts_ref = _counts_ref(index)
        if rows is not None:
            wanted = _wanted(index, rows)
            aligned = tuple(each.take(wanted) for each in aligned)
            counts_ref = counts_ref[wanted]
        return StudyBlock(self._view, index.chromosome, aligned, counts_ref)

    def names(self, index: BlockIndex, rows: Table, key: bytes) -> Table:
        """The variants that ``rows["row"]`` stand for, as far as this node lists them.

        Columns row, chromosome, position, ref, alt, flipped (true where the counted allele is REF).
        """
        self.use(key)
        wanted = _wanted(index, rows)
        found: dict[int, tuple[int, str, str, bool]] = {}
        for part, each in zip(self._view.parts, self._aligned(index), strict=True):
            for file, places, numbers in each.take(wanted).present():
                block = part.store.blocks.open(file)
                for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
                    sites = block.sites
                    name = (int(sites.positions[number]), sites.refs[number], sites.alts[number])
                    found.setdefault(place, (*name, bool(sites.flipped[number])))
        named = sorted(found.items())
        return Table(
            {
                "row": wanted[np.array([place for place, _ in named], np.int64)],
                "chromosome": np.array([stored_as(index.chromosome)] * len(named), np.str_),
                "position": np.array([each[0] for _, each in named], np.int64),
                "ref": np.array([each[1] for _, each in named], np.str_),
                "alt": np.array([each[2] for _, each in named], np.str_),
                "flipped": np.array([each[3] for _, each in named], np.bool_),
            }
        )

    def _all_tokens(self, regions: tuple[Region, ...]) -> Iterator[tuple[int, Tokens]]:
        for name in CHROMOSOMES:
            chromosome = stored_as(name)
            within = [region for region in regions if region.chromosome == chromosome]
            if regions and not within:
                continue
            populated = [p for p, rows in zip(self._view.parts, self._view.members, strict=True) if len(rows)]
            streams = [self._part_tokens(part, name, within) for part in populated]
            for code, group in groupby(heapq.merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
                union = np.unique(np.concatenate([found for _, found in group]))
                # parts that disagree on which allele is REF give one variant two tokens: keep the first
                yield code, union[np.diff(union >> np.uint64(1), prepend=~np.uint64(0)) != 0]

    def _part_tokens(self, part: Part, name: str, within: Sequence[Region]) -> Iterator[tuple[int, Tokens]]:
        """Bin by bin, joined where a bin goes on in the next block."""
        rank = chromosome_rank(name)
        code, held = -1, [np.zeros(0, np.uint64)]
        for file in part.store.files(part.batch, part.release, stored_as(name)):
            if within and not any(region.start <= file.last and region.end >= file.first for region in within):
                continue
            block = part.store.blocks.open(file)
            keep = block.bins // 100_000 == rank
            if within:
                at = block.sites.positions
                keep &= np.logical_or.reduce([(at >= region.start) & (at <= region.end) for region in within])
            codes, found = block.bins[keep], self._block_tokens(block)[keep]
            edges = [*np.flatnonzero(np.diff(codes, prepend=-1)).tolist(), len(codes)]
            for first, stop in pairwise(edges):
                if codes[first] != code:
                    if code >= 0:
                        yield code, np.concatenate(held)
                    code, held = int(codes[first]), []
                held.append(found[first:stop])
        if code >= 0:
            yield code, np.concatenate(held)

    def _block_tokens(self, block: Block) -> Tokens:
        """Tokens of a block's variants in file order; the lowest bit says that the counted allele is REF."""
        if self._key is None:
            raise Invalid("the run's key is needed to read its index.")
        path = block.file.base
        if path not in self._tokens:
            sites = block.sites
            made = variant.tokens(self._key, block.file.chromosome, sites.positions.tolist(), sites.refs, sites.alts)
            self._tokens[path] = (made & ~np.uint64(1)) | sites.flipped
            while len(self._tokens) > TOKEN_BLOCKS:
                self._tokens.popitem(last=False)
        self._tokens.move_to_end(path)
        return self._tokens[path]

    def _aligned(self, index: BlockIndex) -> tuple[Aligned, ...]:
        """Each part against the index, kept up to ``mapping_bytes`` in all."""
        with self._lock:
            return self._lined_up(index)

    def _lined_up(self, index: BlockIndex) -> tuple[Aligned, ...]:
        name = hashlib.blake2b(index.bins.tobytes() + index.tokens.tobytes(), digest_size=16)
        name.update(repr(index.named).encode())
        key = name.digest()
        if key not in self._mappings:
            by = self._align_named if index.named else self._align_tokens
            nobody = _nowhere((), np.zeros(index.rows, np.bool_))
            here = zip(self._view.parts, self._view.members, strict=True)
            self._mappings[key] = tuple(by(part, index) if len(rows) else nobody for part, rows in here)
            while sum(a.nbytes for each in self._mappings.values() for a in each) > self._mapping_bytes:
                if len(self._mappings) == 1:
                    break
                self._mappings.popitem(last=False)
        self._mappings.move_to_end(key)
        return self._mappings[key]

    def _align_tokens(self, part: Part, index: BlockIndex) -> Aligned:
        chromosome, assembly = stored_as(index.chromosome), self._view.assembly
        codes, inverse = np.unique(index.bins, return_inverse=True)
        spans = np.array([bin_span(code, assembly) for code in codes.tolist()], np.int64).reshape(-1, 2)
        known = covers(part.store, part.batch, chromosome, spans[:, 0], spans[:, 1])[inverse]
        first, last = (int(code) % 100_000 for code in (codes[0], codes[-1]))
        files = part.store.reaching(part.batch, part.release, chromosome, first * BIN_SIZE, (last + 1) * BIN_SIZE - 1)
        out = _nowhere(files, known)
        order = np.argsort(index.tokens >> np.uint64(1))
        wanted = (index.tokens >> np.uint64(1))[order]
        for i, file in enumerate(files):
            block = part.store.blocks.open(file)
            rows = np.flatnonzero((block.bins >= codes[0]) & (block.bins <= codes[-1]))
            held = self._block_tokens(block)[rows] >> np.uint64(1)
            at = np.minimum(np.searchsorted(wanted, held), len(wanted) - 1)
            hit = wanted[at] == held
            targets = order[at[hit]]
            out.block[targets], out.row[targets] = i, rows[hit]
            out.flipped[targets] = block.sites.flipped[rows[hit]]
        return out

    def _align_named(self, part: Part, index: BlockIndex) -> Aligned:
        first = np.array([each.position for each in index.named], np.int64)
        last = first + np.array([len(each.ref) for each in index.named], np.int64) - 1
        chromosome = stored_as(index.chromosome)
        files = part.store.reaching(part.batch, part.release, chromosome, int(first.min()), int(first.max()))
        out = _nowhere(files, covers(part.store, part.batch, chromosome, first, last))
        for i, file in enumerate(files):
            inside = np.flatnonzero((first >= file.first) & (first <= file.last))
            block = part.store.blocks.open(file) if len(inside) else None
            for place in inside.tolist():
                assert block is not None
                row, _ = locate(block, index.named[place])
                if row >= 0:
                    out.block[place], out.row[place] = i, row
                    out.flipped[place] = block.sites.flipped[row]
        return out


@lru_cache(maxsize=4)
def _attached(packed: bytes, key: bytes | None) -> StudySite:
    """A site at a worker, kept for the blocks that follow; it can travel on as it came."""
    return StudySite(attached(packed), key=key, packed=packed)


class StudyBlock:
    """A block of variants as this node sees it. Implements ``analysis.algorithm.Block``."""

    def __init__(self, view: StudyView, chromosome: str, aligned: tuple[Aligned, ...], counts_ref: Mask) -> None:
        self._parts = view.parts
        self._chromosome = chromosome
        self._aligned = aligned
        self._counts_ref = counts_ref

    @property
    def rows(self) -> int:
        """Number of variants."""
        return len(self._counts_ref)

    @property
    def chromosome(self) -> str:
        """Chromosome class of all its variants."""
        return self._chromosome

    def counts(self, view: object, groups: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Genotype counts (rows, size, 4): no, one, two copies of the counted allele, not called. See the protocol."""
        view = self._checked(view)
        if groups.shape != (view.people,) or np.any(groups >= size):
            raise Invalid("the groups do not fit the view.")
        out = np.zeros((self.rows, size, 4), np.int64)
        for part, members, where, aligned in self._of(view):
            group = groups[where]
            sizes = np.bincount(group[group >= 0], minlength=size)
            filled = np.flatnonzero(sizes)
            if not len(filled):
                continue
            sets = np.zeros((len(filled), part.batch.people), np.bool_)
            for i, number in enumerate(filled.tolist()):
                sets[i, members[group == number]] = True
            masks = kernels.Masks.of(sets)
            everybody = len(filled) == 1 and sizes[filled[0]] == part.batch.people
            for file, rows, numbers in aligned.present():
                block = part.store.blocks.open(file)
                if everybody:
                    found = block.counts[numbers][:, np.newaxis, :]
                else:
                    found = kernels.counts_masked(block.pgen, numbers, masks)
                flipped = aligned.flipped[rows]
                found[flipped] = found[flipped][..., _SWAPPED]
                out[np.ix_(rows, filled)] += found
            self._count_absent(out, aligned, sets & self._has_copies(part), sizes, filled)
        return out

    def products(self, view: object, weights: NDArray[np.float64]) -> Products:
        """Weighted sums over people, each (rows, K), for weights (people, K). See the protocol."""
        view = self._checked(view)
        if weights.ndim != 2 or len(weights) != view.people:
            raise Invalid("the weights do not have one row a person of the view.")
        dosage, missing, double = np.zeros((3, self.rows, weights.shape[1]), np.float64)
        for part, members, where, aligned in self._of(view):
            total = weights[where].sum(axis=0)
            matrix = np.zeros((part.batch.people, weights.shape[1]), np.float64)
            matrix[members] = weights[where]
            laid_out = kernels.Weights.of(matrix)
            for file, rows, numbers in aligned.present():
                found = kernels.inner_products(part.store.blocks.open(file).pgen, numbers, laid_out)
                called = total - found.missing
                flipped = aligned.flipped[rows, np.newaxis]
                dosage[rows] += np.where(flipped, 2 * called - found.dosage, found.dosage)
                double[rows] += np.where(flipped, called - found.dosage + found.double, found.double)
                missing[rows] += found.missing
            known, unknown = aligned.absent
            called = matrix[self._has_copies(part)].sum(axis=0)
            reference = called * self._counts_ref[known, np.newaxis]
            dosage[known] += 2 * reference
            double[known] += reference
            missing[known] += total - called
            missing[unknown] += total
        return Products(dosage=dosage, missing=missing, double=double)

    def dosages(self, view: object, rows: slice = slice(None)) -> NDArray[np.int8]:
        """Copies of the counted allele (rows, people), -1 not called, of a contiguous part of the rows."""
        view = self._checked(view)
        wanted = np.arange(self.rows)[rows]
        out = np.full((len(wanted), view.people), -1, np.int8)
        for part, members, where, whole in self._of(view):
            aligned = whole.take(wanted)
            for file, places, numbers in aligned.present():
                found = kernels.decode(part.store.blocks.open(file).pgen, numbers)[:, members]
                turn = aligned.flipped[places, np.newaxis] & (found >= 0)
                out[places, where] = np.where(turn, 2 - found, found)
            known, _ = aligned.absent
            copies = (2 * self._counts_ref[wanted[known]]).astype(np.int8)
            out[known, where] = np.where(self._has_copies(part)[members], copies[:, np.newaxis], np.int8(-1))
        return out

    def _checked(self, view: object) -> StudyView:
        """The view, if it is this site's or a restriction of it."""
        if not isinstance(view, StudyView) or view.parts is not self._parts:
            raise Invalid("the view is not one of this block's people.")
        return view

    def _of(self, view: StudyView) -> Iterator[tuple[Part, Rows, slice, Aligned]]:
        """The parts that have people in the view, with these people."""
        for part, members, where, aligned in zip(self._parts, view.members, view.slices, self._aligned, strict=True):
            if len(members):
                yield part, members, where, aligned

    def _has_copies(self, part: Part) -> Mask:
        """Who has this chromosome at all: on Y those known to be men, else everybody."""
        if self._chromosome == "Y":
            return np.equal(part.people.sexes, MALE)
        return np.ones(part.batch.people, np.bool_)

    def _count_absent(
        self, out: NDArray[np.int64], aligned: Aligned, sets: Mask, sizes: NDArray[np.int64], filled: Rows
    ) -> None:
        """Add people for variants that a part does not list; ``sets`` are the filled groups' people with copies."""
        known, unknown = aligned.absent
        copies = sets.sum(axis=1)
        column = 2 * self._counts_ref[known].astype(np.int64)
        out[known[:, np.newaxis], filled, column[:, np.newaxis]] += copies
        out[known[:, np.newaxis], filled, 3] += sizes[filled] - copies
        out[unknown[:, np.newaxis], filled, 3] += sizes[filled]


def _nowhere(files: tuple[BlockFile, ...], known: Mask) -> Aligned:
    """No variant found yet."""
    rows = len(known)
    return Aligned(files, np.full(rows, -1, np.int32), np.full(rows, -1, np.int32), np.zeros(rows, np.bool_), known)


def _counts_ref(index: BlockIndex) -> Mask:
    """Rows whose counted allele is REF, as far as the index says: there, reference is two copies of it."""
    if index.named:
        return np.array([oriented(each.ref, each.alt)[2] for each in index.named], np.bool_)
    return np.asarray(index.tokens & np.uint64(1), np.bool_)


def _wanted(index: BlockIndex, rows: Table) -> Rows:
    wanted = rows.ints("row")
    if len(wanted) and not 0 <= wanted.min() <= wanted.max() < index.rows:
        raise Invalid("a row lies outside its block of the common index.")
    return wanted
