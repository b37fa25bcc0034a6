"""The store as its readers see it: datasets, frozen data releases, who has withdrawn, and where the files are.

Opened once by a node. Every answer comes from a `DataRelease`; nothing reads a batch that no release names.
Writing goes through `writer.BatchWriter`, reading genotypes through `blocks`, people and columns through `view`.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection, Engine

from federome import db
from federome.errors import Invalid
from federome.model.dataset import Callability, DatasetManifest
from federome.model.table import Mask
from federome.model.variant import Assembly
from federome.store import checksums, erasure, staging, tables
from federome.store.blocks import BlockCache, BlockFile
from federome.store.layout import PHENOTYPES, Layout, altered, digest_of, make_folder, stem
from federome.store.phenotypes import Phenotypes

FEMALE, MALE, UNKNOWN = 0, 1, -1
_SEX = {"female": FEMALE, "male": MALE, "unknown": UNKNOWN}


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One ingested batch. ``people`` counts its rows; withdrawn people keep theirs."""

    number: int
    dataset: str
    name: str
    people: int
    variants: int
    callable: Callability
    has_genes: bool
    digest: str

    @property
    def stem(self) -> str:
        """The name of its files."""
        return stem(self.dataset, self.name)


@dataclass(frozen=True, slots=True)
class DataRelease:
    """A frozen, dated state of a dataset: what runs are answered from. ``digest`` covers every byte of it."""

    number: int
    dataset: str
    released_on: date
    manifest: DatasetManifest
    batches: tuple[BatchRecord, ...]
    digest: str

    @property
    def people(self) -> int:
        """People when it was released; later withdrawals are not subtracted."""
        return sum(batch.people for batch in self.batches)


@dataclass(frozen=True, eq=False)
class People:
    """The people of a batch in row order: lasting numbers int64 (people,), sexes int8 (1 male, 0 female, -1)."""

    numbers: NDArray[np.int64]
    sexes: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Kinships:
    """Pairs of person numbers int64 (pairs, 2), sorted, and the kinship of each."""

    pairs: NDArray[np.int64]
    values: NDArray[np.float64]


Genes = tuple[tuple[str, str, int, int], ...]
"""Symbol, chromosome, start and end of genes."""
GeneMap = Mapping[str, tuple[tuple[str, int, int], ...]]
"""Regions of genes by symbol, in order."""


def by_symbol(genes: Genes) -> GeneMap:
    """The same as a map."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    for symbol, chromosome, start, end in sorted(genes):
        found.setdefault(symbol, []).append((chromosome, start, end))
    return {symbol: tuple(regions) for symbol, regions in found.items()}


class _Blocks(NamedTuple):
    """The blocks of one chromosome of a batch, which follow each other, and where each begins and ends."""

    files: tuple[BlockFile, ...]
    firsts: list[int]
    lasts: list[int]


class Store:
    """A store folder. ``Store.open`` creates it if need be and sweeps what interrupted writers left behind."""

    def __init__(self, layout: Layout, database: Engine, *, cached_blocks: int) -> None:
        self.layout = layout
        self.database = database
        self.blocks = BlockCache(cached_blocks)
        self.written = db.Watch(database)
        self._people: dict[int, People] = {}
        self._blocks: dict[tuple[int, str], _Blocks] = {}
        self._genes: dict[int, GeneMap] = {}

    @classmethod
    def open(cls, root: Path, *, cached_blocks: int = 64) -> Store:
        """Open or create. ``cached_blocks`` bounds the blocks held open: about 4 MB each at 65,536 variants."""
        layout = Layout(Path(root).absolute())
        make_folder(layout.staging)
        database = db.engine(f"sqlite:///{layout.catalogue}", durable=True)
        db.migrate(database, tables.SCHEMA)
        store = cls(layout, database, cached_blocks=cached_blocks)
        staging.sweep(layout, store.has_batch)
        erasure.finish_all(layout, database, store.has_batch)
        return store

    def datasets(self) -> tuple[str, ...]:
        """Names of all datasets that have a release."""
        with db.read(self.database) as connection:
            return tuple(connection.execute(sa.select(tables.dataset.c.id).order_by(tables.dataset.c.id)).scalars())

    def releases(self, dataset: str) -> tuple[DataRelease, ...]:
        """All data releases of a dataset, oldest first."""
        with db.read(self.database) as connection:
            return releases(connection, dataset)

    def release(self, dataset: str, on: date | None = None) -> DataRelease:
        """The release in force on a day, by default the newest. ``Invalid`` if there was none."""
        found = [each for each in self.releases(dataset) if on is None or each.released_on <= on]
        if not found:
            day = f" on {on.isoformat()}" if on else ""
            raise Invalid(
                f"dataset {dataset[:63]!r} has no data release{day}.",
                remedy=f"Datasets here: {', '.join(self.datasets()) or 'none'}.",
            )
        return found[-1]

    def withdraw(self, people: Iterable[str], at: datetime, *, dataset: str | None = None) -> int:
        """Exclude people from every answer from now on; returns how many were active until now.

        Takes effect at once in all views made afterwards. ``Invalid``, and nothing changes, if a name is unknown.
        """
        names = sorted(set(people))
        person, gone = tables.person, tables.withdrawn
        with db.write(self.database) as connection:
            numbers: list[int] = []
            unknown = 0
            for name in names:
                query = sa.select(person.c.number).where(person.c.id == name)
                if dataset is not None:
                    query = query.where(person.c.dataset == dataset)
                found = list(connection.execute(query).scalars())
                numbers += found
                unknown += not found
            if unknown:
                raise Invalid(f"{unknown} of {len(names)} people are not in the store.", remedy="Nobody was withdrawn.")
            known = set(connection.execute(sa.select(gone.c.person)).scalars())
            new = [number for number in numbers if number not in known]
            _withdraw(connection, new, at)
        return len(new)

    def withdraw_all(self, dataset: str, at: datetime) -> int:
        """Exclude everybody of a dataset from every answer from now on; returns how many were active until now."""
        person, gone = tables.person, tables.withdrawn
        with db.write(self.database) as connection:
            known = sa.select(gone.c.person)
            who = sa.select(person.c.number).where(person.c.dataset == dataset, person.c.number.not_in(known))
            new = list(connection.execute(who).scalars())
            _withdraw(connection, new, at)
        return len(new)

    def active(self, batch: BatchRecord) -> Mask:
        """Who of a batch has not withdrawn, shape (people,)."""
        person, gone = tables.person, tables.withdrawn
        query = sa.select(person.c.row).join(gone, gone.c.person == person.c.number)
        mask = np.ones(batch.people, np.bool_)
        with db.read(self.database) as connection:
            mask[list(connection.execute(query.where(person.c.batch == batch.number)).scalars())] = False
        return mask

    def active_digest(self, release: DataRelease) -> str:
        """Digest of the release and of who of it is still active: what an answer was computed from."""
        digest = hashlib.sha256(release.digest.encode())
        for batch in release.batches:
            digest.update(np.packbits(self.active(batch)).tobytes())
        return f"sha256:{digest.hexdigest()}"

    def people(self, batch: BatchRecord) -> People:
        """Numbers and sexes of a batch, in row order."""
        if batch.number not in self._people:
            person = tables.person
            query = sa.select(person.c.number, person.c.sex).where(person.c.batch == batch.number)
            with db.read(self.database) as connection:
                rows = connection.execute(query.order_by(person.c.row)).all()
            numbers = np.array([number for number, _ in rows], np.int64)
            self._people[batch.number] = People(numbers, np.array([_SEX[sex] for _, sex in rows], np.int8))
        return self._people[batch.number]

    def rows(self, batch: BatchRecord, names: Collection[str]) -> Mask:
        """Who of a batch has one of these names, shape (people,)."""
        mask = np.zeros(batch.people, np.bool_)
        if names:
            person, wanted = tables.person, set(names)
            query = sa.select(person.c.row, person.c.id).where(person.c.batch == batch.number)
            with db.read(self.database) as connection:
                mask[[row for row, name in connection.execute(query) if name in wanted]] = True
        return mask

    def phenotypes(self, batch: BatchRecord) -> Phenotypes:
        """The phenotype table of a batch."""
        table = tables.batch_file
        query = sa.select(table.c.sha256).where(table.c.batch == batch.number, table.c.name == PHENOTYPES)
        with db.read(self.database) as connection:
            sha256 = connection.execute(query).scalar_one()
        return Phenotypes(self.layout.batch(batch.stem) / PHENOTYPES, batch.people, sha256)

    def kinships(self, batches: Iterable[BatchRecord]) -> Kinships:
        """Pairs of relatives that are both in these batches."""
        pair, first, second = tables.relative, tables.person.alias(), tables.person.alias()
        wanted = [batch.number for batch in batches]
        query = (
            sa.select(pair.c.first, pair.c.second, pair.c.kinship)
            .join(first, first.c.number == pair.c.first)
            .join(second, second.c.number == pair.c.second)
            .where(first.c.batch.in_(wanted), second.c.batch.in_(wanted))
            .order_by(pair.c.first, pair.c.second)
        )
        with db.read(self.database) as connection:
            rows = connection.execute(query).all()
        pairs = np.array([(row.first, row.second) for row in rows], np.int64).reshape(-1, 2)
        return Kinships(pairs, np.array([row.kinship for row in rows], np.float64))

    def relatives(self, batches: Iterable[BatchRecord], *, kinship: float) -> NDArray[np.int64]:
        """Pairs of person numbers with at least this kinship, both in these batches, sorted, shape (pairs, 2)."""
        found = self.kinships(batches)
        return found.pairs[found.values >= kinship]

    def gene(self, release: DataRelease, symbol: str) -> tuple[tuple[str, int, int], ...]:
        """Regions (chromosome, start, end) of a gene in the newest gene table of a release."""
        newest = next((batch.number for batch in reversed(release.batches) if batch.has_genes), None)
        if newest is None:
            return ()
        if newest not in self._genes:  # tables of a batch never change
            self._genes[newest] = by_symbol(self.genes(release))
        return self._genes[newest].get(symbol, ())

    def genes(self, release: DataRelease) -> Genes:
        """Every gene (symbol, chromosome, start, end) in the newest gene table of a release."""
        newest = [batch.number for batch in release.batches if batch.has_genes][-1:]
        gene = tables.gene
        query = sa.select(gene.c.symbol, gene.c.chromosome, gene.c.start, gene.c.end).where(gene.c.batch.in_(newest))
        query = query.order_by(gene.c.symbol, gene.c.chromosome, gene.c.start, gene.c.end)
        with db.read(self.database) as connection:
            return tuple((r.symbol, r.chromosome, r.start, r.end) for r in connection.execute(query))

    def intervals(self, batch: BatchRecord, chromosome: str) -> NDArray[np.int64]:
        """Callable intervals of a batch, sorted and disjoint, 1-based and inclusive, shape (intervals, 2)."""
        table = tables.callable_interval
        query = sa.select(table.c.start, table.c.end)
        query = query.where(table.c.batch == batch.number, table.c.chromosome == chromosome)
        with db.read(self.database) as connection:
            rows = [tuple(row) for row in connection.execute(query.order_by(table.c.start))]
        return np.array(rows, np.int64).reshape(-1, 2)

    def files(self, batch: BatchRecord, release: DataRelease, chromosome: str) -> tuple[BlockFile, ...]:
        """The blocks of one chromosome of a batch, by position."""
        return self._blocks_of(batch, release, chromosome).files

    def reaching(
        self, batch: BatchRecord, release: DataRelease, chromosome: str, first: int, last: int
    ) -> tuple[BlockFile, ...]:
        """Those of them that reach into a stretch."""
        files, firsts, lasts = self._blocks_of(batch, release, chromosome)
        return files[bisect_left(lasts, first) : bisect_right(firsts, last)]

    def _blocks_of(self, batch: BatchRecord, release: DataRelease, chromosome: str) -> _Blocks:
        key = (batch.number, chromosome)
        if key not in self._blocks:
            files = self._listed(batch, release, chromosome)
            self._blocks[key] = _Blocks(files, [file.first for file in files], [file.last for file in files])
        return self._blocks[key]

    def _listed(self, batch: BatchRecord, release: DataRelease, chromosome: str) -> tuple[BlockFile, ...]:
        """The same from the catalogue."""
        table = tables.block_file
        query = sa.select(table).where(table.c.batch == batch.number, table.c.chromosome == chromosome)
        with db.read(self.database) as connection:
            rows = connection.execute(query.order_by(table.c.first)).all()
        assembly = release.manifest.assembly
        return tuple(block_file(self.layout, assembly, batch.stem, batch.people, row) for row in rows)

    def has_batch(self, dataset: str, name: str) -> bool:
        """Whether a batch of that name is part of the store."""
        with db.read(self.database) as connection:
            return is_committed(connection, dataset, name)


def _withdraw(connection: Connection, people: Sequence[int], at: datetime) -> None:
    gone = tables.withdrawn
    if people:
        whole = not checksums.altered(connection, (gone,))
        connection.execute(gone.insert(), [{"person": number, "at": at.isoformat()} for number in people])
        if whole:  # else the damage stays known; nobody's withdrawal waits for a repair
            checksums.renew(connection, (gone,))


def block_file(
    layout: Layout, assembly: Assembly, batch_stem: str, people: int, row: sa.Row[tuple[object, ...]]
) -> BlockFile:
    """The block that a row of the table ``block_file`` describes."""
    return BlockFile(
        base=layout.block(assembly, row.chromosome, row.first, batch_stem),
        assembly=assembly,
        chromosome=row.chromosome,
        first=row.first,
        last=row.last,
        variants=row.variants,
        people=people,
        digests=(row.pgen_sha256, row.pvar_sha256, row.index_sha256, row.sites_sha256),
    )


def is_committed(connection: Connection, dataset: str, name: str) -> bool:
    """Whether a batch of that name is part of the store."""
    batch = tables.batch
    query = sa.select(batch.c.number).where(batch.c.dataset == dataset, batch.c.name == name)
    return connection.execute(query).first() is not None


def releases(connection: Connection, dataset: str) -> tuple[DataRelease, ...]:
    """All data releases of a dataset, oldest first."""
    release, link, batch = tables.release, tables.release_batch, tables.batch
    columns = [batch.c[name] for name in BatchRecord.__slots__]
    members = (
        sa.select(link.c.release, *columns)
        .join(batch, batch.c.number == link.c.batch)
        .where(batch.c.dataset == dataset)
        .order_by(link.c.release, link.c.ordinal)
    )
    held: dict[int, list[BatchRecord]] = {}
    for of, *values in connection.execute(members):
        held.setdefault(of, []).append(BatchRecord(*values))
    query = sa.select(release).where(release.c.dataset == dataset).order_by(release.c.number)
    try:
        return tuple(
            DataRelease(
                row.number,
                row.dataset,
                date.fromisoformat(row.released_on),
                DatasetManifest.from_document(row.manifest),
                tuple(held[row.number]),
                row.digest,
            )
            for row in connection.execute(query)
        )
    except (ValueError, KeyError):  # no date, no JSON, no batches
        raise altered(Path(connection.engine.url.database or "")) from None


def release_digest(manifest: DatasetManifest, released_on: date, batches: Mapping[str, str]) -> str:
    """What identifies a release: its day, its manifest, and name and digest of each batch in order."""
    return digest_of(
        {
            "released_on": released_on.isoformat(),
            "manifest": manifest.to_document(),
            "batches": [[name, digest] for name, digest in batches.items()],
        }
    )
