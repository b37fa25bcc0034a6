"""Compaction of a dataset: small batches become one, and people who withdrew are erased from every file and table.

New batches are written beside the old ones, enter the catalogue in one transaction, and only then the old files go.
A process that dies leaves the store as it was or as it will be, and the next one goes on where it stopped.

What a new batch is, byte for byte in all its files: the batch that ``writer.BatchWriter`` makes, under its name, of the
calls and phenotype rows of those who are left, without the variants whose ALT only erased people carried. Where
batches are merged, variants at one position stand in the order of REF and ALT; a variant that a batch does not list is
two copies of REF for its people where that batch was callable, else not called (nor are women and people of unknown sex
on Y); effects are the newest. A variant that two batches spell with REF and ALT exchanged keeps the spelling whose ALT
runs count. Person numbers stay, and nobody gets one that was in use before.

Merged are neighbours that were callable in the same places and agree on the types of their columns, up to
``merge_people``. Batches that say nothing beyond their sites, as those of gVCF files, are merged where listing shared
sites once saves more than it costs to say that the one batch does not know what the other found (``merging``).
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final, Literal

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from federome import db
from federome.model.strict import Json
from federome.model.variant import chromosome_rank, oriented
from federome.store import checksums, derived, erasure, kernels, merging, phenotypes, staging, tables
from federome.store.batch import DeclaredSex, Exchange, FinishedBatch, Relatives, exchange
from federome.store.blocks import Block
from federome.store.catalogue import BatchRecord, DataRelease, Store
from federome.store.chromosome import ChromosomeWriter, Sparse, VariantInfo, is_whole, read_records
from federome.store.encode import MISSING
from federome.store.layout import (
    BLOCK_PARTS,
    MAX_BLOCK_VARIANTS,
    PEOPLE,
    PHENOTYPES,
    canonical,
    file_digest,
    stem,
    write_durably,
)
from federome.store.sites import Effects
from federome.store.stretches import GeneRegion
from federome.store.writer import moves, psam

MERGE_PEOPLE: Final = 100_000
_GENERATION: Final = re.compile(r"(.*)\.c(\d+)")
_LONGEST_NAME: Final = 63
_BUFFERED = 1 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a compaction stands; ``variants`` of ``total`` listed by the old batches of this chromosome."""

    stage: Literal["rewriting", "erasing"]
    chromosome: str = ""
    variants: int = 0
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a compaction did.

    ``replaced`` are the old batches and ``batches`` those of the new release; sizes are of the old and the new files.
    Questions can no longer be answered from ``releases_gone`` earlier releases, because they named people who are
    erased or batches that were merged. ``release`` is None where nobody of the dataset is left.
    """

    dataset: str
    replaced: tuple[str, ...]
    batches: tuple[str, ...]
    erased: int
    releases_gone: int
    bytes_before: int
    bytes_after: int
    release: DataRelease | None

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return bool(self.replaced)


OnProgress = Callable[[Progress], None]
Carried = tuple[NDArray[np.uint32], NDArray[np.uint8]]


def compact(
    store: Store,
    dataset: str,
    on_progress: OnProgress = lambda _: None,
    *,
    merge_people: int = MERGE_PEOPLE,
    block_variants: int = MAX_BLOCK_VARIANTS,
) -> Report:
    """Merge small batches of a dataset and erase its withdrawn people physically.

    Runs that are under way on an old release end and have to be ordered again. Raises ``Invalid`` for an unknown
    dataset, or if nobody would be left in the whole store; ``Unavailable`` while another process compacts the dataset
    or reads the catalogue at the very end (then run it again); ``Damaged`` where an old file is not whole: nothing is
    changed then.
    """
    with ExitStack() as held:
        held.callback(erasure.lock(store.layout, dataset).release)
        erasure.finish(store.layout, store.database, dataset, store.has_batch)
        with db.read(store.database) as connection:
            checksums.check(connection)
        newest = store.release(dataset)
        groups = _plan(store, newest, merge_people)
        old = [batch for group in groups for batch in group.batches]
        _drop_abandoned(store, dataset, {group.name for group in groups})
        rewrites = [_Rewrite(store, newest, group, block_variants) for group in groups if group.people]
        for each in rewrites:
            held.callback(staging.lock(store.layout, dataset, each.group.name).release)
            each.stage(on_progress)
        if not old:
            names = tuple(batch.name for batch in newest.batches)
            return Report(dataset, (), names, 0, 0, 0, 0, newest)
        on_progress(Progress("erasing"))
        before, earlier = _size(store, newest, old), len(store.releases(dataset))
        files = [path for batch in old for path in _files(store, newest, batch)]
        erasure.note(store.layout, dataset, [batch.name for batch in old], files)
        made = _commit(store, dataset, groups, {each.group.name: each.finished() for each in rewrites})
        store.blocks.clear()
        erasure.finish(store.layout, store.database, dataset, store.has_batch)
    new = {each.group.name for each in rewrites}
    return Report(
        dataset=dataset,
        replaced=tuple(batch.name for batch in old),
        batches=tuple(batch.name for batch in made.batches) if made else (),
        erased=sum(len(group.erased) for group in groups),
        releases_gone=earlier - len(store.releases(dataset)) + (made is not None),
        bytes_before=before,
        bytes_after=_size(store, made, [batch for batch in made.batches if batch.name in new]) if made else 0,
        release=made,
    )


# what is to be done


@dataclass(frozen=True)
class _Group:
    """Neighbouring batches that become one; ``rows`` of each stay, ``numbers`` and ``erased`` are of people."""

    name: str
    batches: tuple[BatchRecord, ...]
    rows: tuple[NDArray[np.int64], ...]
    numbers: tuple[int, ...]
    erased: tuple[int, ...]

    @property
    def people(self) -> int:
        """People who are left."""
        return len(self.numbers)


def _plan(store: Store, release: DataRelease, merge_people: int) -> list[_Group]:
    """Groups with something to do, in the order of the release."""
    active = {batch.number: store.active(batch) for batch in release.batches}
    runs: list[list[BatchRecord]] = []
    for batch in release.batches:
        together = [*runs[-1], batch] if runs else [batch]
        size = sum(int(active[each.number].sum()) for each in together)
        if runs and size <= merge_people and merging.mergeable(store, release, together):
            runs[-1].append(batch)
        else:
            runs.append([batch])
    taken = {batch.name for batch in release.batches}
    groups = []
    for run in runs:
        masks = [active[batch.number] for batch in run]
        if len(run) == 1 and masks[0].all():
            continue
        numbers = [store.people(batch).numbers for batch in run]
        kept = [number[mask] for number, mask in zip(numbers, masks, strict=True)]
        gone = [number[~mask] for number, mask in zip(numbers, masks, strict=True)]
        groups.append(
            _Group(
                name=_next_name(run[-1].name, taken),
                batches=tuple(run),
                rows=tuple(np.flatnonzero(mask) for mask in masks),
                numbers=tuple(np.concatenate(kept).tolist()),
                erased=tuple(np.concatenate(gone).tolist()),
            )
        )
    return groups


def _next_name(name: str, taken: set[str]) -> str:
    """The name of what a batch becomes: its own with the next generation, ``2026-06.c1``."""
    known = _GENERATION.fullmatch(name)
    base, number = (known[1], int(known[2])) if known else (name, 0)
    while True:
        number += 1
        ending = f".c{number}"
        made = base[: _LONGEST_NAME - len(ending)] + ending
        if made not in taken:
            taken.add(made)
            return made


def _files(store: Store, release: DataRelease, batch: BatchRecord) -> Iterator[Path]:
    """Every file of a batch."""
    for chromosome in _chromosomes(store, batch):
        for file in store.files(batch, release, chromosome):
            yield from (file.part(part) for part in BLOCK_PARTS)
    folder = store.layout.batch(batch.stem)
    yield from (folder / name for name in (PEOPLE, PHENOTYPES))
    yield from derived.files(folder)


def _size(store: Store, release: DataRelease, batches: Sequence[BatchRecord]) -> int:
    """Bytes of all files of some batches."""
    return sum(path.stat().st_size for batch in batches for path in _files(store, release, batch))


def _drop_abandoned(store: Store, dataset: str, wanted: set[str]) -> None:
    """Remove what earlier attempts at something else left in the staging folder."""
    for folder in store.layout.staging.glob(f"{dataset}~*/"):
        name = folder.name.partition("~")[2]
        if name in wanted or not (folder / staging.BATCH).is_file():
            continue
        if b'"erased":' in (folder / staging.BATCH).read_bytes():
            staging.remove(folder)


def _chromosomes(store: Store, *batches: BatchRecord) -> list[str]:
    table = tables.block_file
    query = sa.select(table.c.chromosome).where(table.c.batch.in_([batch.number for batch in batches])).distinct()
    with db.read(store.database) as connection:
        return sorted(connection.execute(query).scalars(), key=chromosome_rank)


# writing a new batch


@dataclass(frozen=True, slots=True)
class _Listed:
    """A variant as one of the old batches lists it."""

    batch: int
    position: int
    ref: str
    alt: str
    block: Block
    row: int

    @property
    def effects(self) -> Effects:
        """Its effects."""
        return self.block.sites.effects[self.block.sites.effect[self.row]]


class _Rewrite:
    """One new batch, written into its staging folder."""

    def __init__(self, store: Store, release: DataRelease, group: _Group, block_variants: int) -> None:
        self.group = group
        self._store, self._release = store, release
        self._block_variants = block_variants
        self._folder = store.layout.staging / stem(release.dataset, group.name)
        self._names, self._sexes = _named(store, group)
        self._men = np.array([sex == "male" for sex in self._sexes], np.bool_)
        self._places = _places(group)
        self._chromosomes = _chromosomes(store, *group.batches)

    def stage(self, on_progress: OnProgress) -> None:
        """Write all files, but for chromosomes that an earlier attempt at the same has finished."""
        description: dict[str, Json] = {
            "batches": [batch.digest for batch in self.group.batches],
            "erased": list(self.group.erased),
            "block_variants": self._block_variants,
        }
        staging.resume(self._folder, canonical(description), is_whole)
        for chromosome in self._chromosomes:
            if not (self._folder / chromosome / staging.FINISHED).is_file():
                self._write_chromosome(chromosome, on_progress)
        write_durably(self._folder / PEOPLE, psam(self._names, self._sexes))
        held = [self._store.phenotypes(batch) for batch in self.group.batches]
        parts = list(zip(held, self.group.rows, strict=True))
        phenotypes.write_kept(parts, self._folder / PHENOTYPES, people=self._names, sexes=self._sexes)

    def finished(self) -> FinishedBatch:
        """The batch as the catalogue will know it."""
        last = self.group.batches[-1]
        blocks = {name: read_records(self._folder / name) for name in self._chromosomes}
        return FinishedBatch(
            manifest=self._release.manifest,
            name=self.group.name,
            people=tuple(self._names),
            sexes=tuple(self._sexes),
            blocks={name: records for name, records in blocks.items() if records},
            files={name: file_digest(self._folder / name) for name in (PEOPLE, PHENOTYPES)},
            callable=last.callable,
            intervals=merging.intervals(self._store, last) if last.callable == "intervals" else (),
            genes=_genes(self._store, self.group),
            relatives=_relatives(self._store, self.group),
        )

    def _write_chromosome(self, chromosome: str, on_progress: OnProgress) -> None:
        writer = ChromosomeWriter(
            self._folder / chromosome,
            chromosome,
            self._release.manifest.assembly,
            men=self._men,
            women=np.array([sex == "female" for sex in self._sexes], np.bool_),
            block_variants=self._block_variants,
        )
        total = sum(
            file.variants
            for batch in self.group.batches
            for file in self._store.files(batch, self._release, chromosome)
        )
        seen = 0
        waiting = _Waiting(writer)
        callable_there = self._callable(chromosome)
        try:
            for listed in self._variants(chromosome):
                found = self._genotypes(listed, chromosome, callable_there)
                if found is not None:
                    waiting.add(listed, found)
                seen += len(listed)
                if waiting.full:
                    waiting.flush()
                    on_progress(Progress("rewriting", chromosome, seen, total))
            waiting.flush()
            writer.finish()
        except BaseException:
            writer.abort()
            raise
        on_progress(Progress("rewriting", chromosome, total, total))

    def _variants(self, chromosome: str) -> Iterator[list[_Listed]]:
        """Each variant once, with all batches that list it; the first of each has the spelling to keep."""
        batches = enumerate(self.group.batches)
        streams = [_listed(self._store, self._release, batch, at, chromosome) for at, batch in batches]
        for _, group in groupby(heapq.merge(*streams, key=attrgetter("position")), key=attrgetter("position")):
            same: dict[tuple[str, str], list[_Listed]] = {}
            for each in group:
                first, second, _ = oriented(each.ref, each.alt)
                same.setdefault((first, second), []).append(each)
            found = [sorted(each, key=lambda one: oriented(one.ref, one.alt)[2]) for each in same.values()]
            if len(streams) > 1:
                found.sort(key=lambda each: (each[0].ref, each[0].alt))
            yield from found

    def _genotypes(self, listed: list[_Listed], chromosome: str, is_callable: _Callable) -> Carried | None:
        """Who of those left is not two copies of REF; None where ALT left with the people who are erased."""
        spelling = listed[0]
        by_batch = {each.batch: each for each in listed}
        known = is_callable(spelling.position, spelling.position + len(spelling.ref) - 1)
        who, codes, left = [], [], False
        for at, place in enumerate(self._places):
            if at in by_batch:
                people, code = _carried(by_batch[at], spelling)
                target = place[people]
                stays = target >= 0
                left |= bool(np.any(code[~stays] != MISSING))
                who.append(target[stays])
                codes.append(code[stays])
            else:
                absent = place[place >= 0]
                if known:
                    absent = absent[~self._men[absent]] if chromosome == "Y" else absent[:0]
                who.append(absent)
                codes.append(np.full(len(absent), MISSING, np.uint8))
        carriers, code = np.concatenate(who), np.concatenate(codes)
        if left and not np.any(code != MISSING):
            return None
        return carriers.astype(np.uint32), code

    def _callable(self, chromosome: str) -> _Callable:
        last = self.group.batches[-1]
        return _Callable(last.callable == "everywhere", self._store.intervals(last, chromosome))


@dataclass(frozen=True)
class _Callable:
    """Where absence means reference on one chromosome; ``intervals`` as ``Store.intervals`` gives them."""

    everywhere: bool
    intervals: NDArray[np.int64]

    def __call__(self, first: int, last: int) -> bool:
        """Whether a stretch is callable throughout."""
        if self.everywhere:
            return True
        at = int(np.searchsorted(self.intervals[:, 0], first, side="right")) - 1
        return at >= 0 and bool(self.intervals[at, 1] >= last)


class _Waiting:
    """Variants on their way to the writer, some at a time."""

    def __init__(self, writer: ChromosomeWriter) -> None:
        self._writer = writer
        self._listed: list[list[_Listed]] = []
        self._found: list[Carried] = []
        self._size = 0

    @property
    def full(self) -> bool:
        """Whether it is time to flush."""
        return self._size >= _BUFFERED

    def add(self, listed: list[_Listed], found: Carried) -> None:
        """One more variant."""
        self._listed.append(listed)
        self._found.append(found)
        self._size += 1_000 + len(found[0])

    def flush(self) -> None:
        """Write and forget them."""
        if not self._listed:
            return
        spellings = [each[0] for each in self._listed]
        ends = np.cumsum([0, *(len(who) for who, _ in self._found)], dtype=np.int64)
        self._writer.add(
            np.array([each.position for each in spellings], np.int64),
            [each.ref for each in spellings],
            [each.alt for each in spellings],
            Sparse(ends, *(np.concatenate(column) for column in zip(*self._found, strict=True))),
            VariantInfo(
                effects=[_newest_effects(each) for each in self._listed],
                not_left_aligned=[any(o.block.sites.not_left_aligned[o.row] for o in each) for each in self._listed],
            ),
        )
        self._listed, self._found, self._size = [], [], 0


def _listed(store: Store, release: DataRelease, batch: BatchRecord, at: int, chromosome: str) -> Iterator[_Listed]:
    """A batch's variants of one chromosome in file order."""
    for file in store.files(batch, release, chromosome):
        block = store.blocks.open(file)
        sites = block.sites
        for row, (position, ref, alt) in enumerate(zip(sites.positions.tolist(), sites.refs, sites.alts, strict=True)):
            yield _Listed(at, position, ref, alt, block, row)


def _carried(listed: _Listed, spelling: _Listed) -> Carried:
    """A batch's carriers and codes, for the ALT of the spelling that is kept."""
    if listed.ref == spelling.ref:
        return kernels.carriers(listed.block.pgen, listed.row)
    row = kernels.decode(listed.block.pgen, range(listed.row, listed.row + 1))[0]
    codes = np.where(row < 0, MISSING, 2 - row).astype(np.uint8)
    people = np.flatnonzero(codes)
    return people.astype(np.uint32), codes[people]


def _newest_effects(listed: list[_Listed]) -> Effects:
    """What the newest batch that knows anything says."""
    known = [each for each in listed if each.effects]
    return max(known, key=attrgetter("batch")).effects if known else ()


def _places(group: _Group) -> list[NDArray[np.int64]]:
    """For each old batch, the new row of each of its rows; -1 for people who are erased."""
    out, start = [], 0
    for batch, rows in zip(group.batches, group.rows, strict=True):
        place = np.full(batch.people, -1, np.int64)
        place[rows] = np.arange(start, start + len(rows))
        out.append(place)
        start += len(rows)
    return out


def _named(store: Store, group: _Group) -> tuple[list[str], list[DeclaredSex]]:
    """Pseudonyms and sexes of those who are left, in their new order."""
    person = tables.person
    query = sa.select(person.c.number, person.c.id, person.c.sex)
    query = query.where(person.c.batch.in_([batch.number for batch in group.batches]))
    with db.read(store.database) as connection:
        known = {row.number: (row.id, row.sex) for row in connection.execute(query)}
    return [known[number][0] for number in group.numbers], [known[number][1] for number in group.numbers]


def _genes(store: Store, group: _Group) -> tuple[GeneRegion, ...] | None:
    """The newest gene table of the group; None if it has none."""
    newest = [batch.number for batch in group.batches if batch.has_genes][-1:]
    if not newest:
        return None
    gene = tables.gene
    columns = (gene.c.symbol, gene.c.chromosome, gene.c.start, gene.c.end)
    with db.read(store.database) as connection:
        rows = connection.execute(sa.select(*columns).where(gene.c.batch == newest[0]).order_by(*columns))
        return tuple(GeneRegion(*row) for row in rows)


def _relatives(store: Store, group: _Group) -> tuple[Relatives, ...]:
    """Pairs of people who are left of which the later belongs to this group: part of the batch's identity."""
    pair, first, second, gone = tables.relative, tables.person.alias(), tables.person.alias(), tables.withdrawn
    out = sa.select(gone.c.person)
    query = (
        sa.select(first.c.id, second.c.id, pair.c.kinship)
        .join(first, first.c.number == pair.c.first)
        .join(second, second.c.number == pair.c.second)
        .where(second.c.batch.in_([batch.number for batch in group.batches]))
        .where(pair.c.first.not_in(out), pair.c.second.not_in(out))
        .order_by(pair.c.first, pair.c.second)
    )
    with db.read(store.database) as connection:
        return tuple(Relatives(*row) for row in connection.execute(query))


# making it so


def _commit(
    store: Store, dataset: str, groups: Sequence[_Group], finished: dict[str, FinishedBatch]
) -> DataRelease | None:
    """Move the new files in and exchange the batches; the catalogue changes in one transaction or not at all."""
    layout = store.layout
    folders = [layout.staging / stem(dataset, name) for name in finished]
    exchanges = [Exchange(group.batches, finished.get(group.name), group.numbers) for group in groups]
    erased = [number for group in groups for number in group.erased]
    begun = []
    try:
        for folder, batch in zip(folders, finished.values(), strict=True):
            begun.append(folder)
            staging.move_in(layout, folder, moves(layout, batch))
        with db.write(store.database) as connection:
            made = exchange(connection, dataset, exchanges, erased)
    except BaseException:
        for folder in begun:
            if (folder / staging.COMMIT).is_file():
                staging.move_back(layout, folder)
        raise
    for folder in folders:
        staging.remove(folder)
    return made
