"""A batch that is complete, and how it enters the catalogue as a new data release.

The writer makes one of these at commit. Everything that may keep it out is checked under the database's write lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import date
from functools import cached_property
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from federome.errors import Invalid
from federome.model.cohort import Sex
from federome.model.dataset import Callability, DatasetManifest
from federome.model.variant import chromosome_name, chromosome_rank
from federome.store import checksums, tables
from federome.store.catalogue import BatchRecord, DataRelease, is_committed, release_digest, releases
from federome.store.chromosome import BlockRecord
from federome.store.erasure import SECURE_DELETE
from federome.store.layout import digest_of
from federome.store.stretches import GeneRegion, Interval

_NEXT_PERSON = sa.func.coalesce(sa.func.max(tables.batch.c.first_person + tables.batch.c.people), 1)

DeclaredSex = Sex | Literal["unknown"]


@dataclass(frozen=True, slots=True)
class Relatives:
    """Two people of the same dataset, this batch or an earlier one, and their kinship coefficient."""

    first: str
    second: str
    kinship: float


@dataclass(frozen=True)
class FinishedBatch:
    """Everything a batch adds to the store."""

    manifest: DatasetManifest
    name: str
    people: tuple[str, ...]
    sexes: tuple[DeclaredSex, ...]
    blocks: Mapping[str, tuple[BlockRecord, ...]]
    files: Mapping[str, str]
    callable: Callability
    intervals: tuple[Interval, ...] = ()
    genes: tuple[GeneRegion, ...] | None = None
    relatives: tuple[Relatives, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Identity of the batch: everything an answer can depend on."""
        return digest_of(
            {
                "dataset": self.manifest.id,
                "batch": self.name,
                "people": people_digest(self.people, self.sexes),
                "callable": self.callable,
                "intervals": [list(astuple(each)) for each in self.intervals],
                "genes": None if self.genes is None else [list(astuple(each)) for each in self.genes],
                "relatives": [list(astuple(each)) for each in self.relatives],
                "files": dict(self.files),
                "blocks": {name: [[r.first, *r.digests] for r in records] for name, records in self.blocks.items()},
            }
        )


def people_digest(people: Iterable[str], sexes: Iterable[DeclaredSex]) -> str:
    """Digest of who is in a batch, in order."""
    return digest_of([[name, sex] for name, sex in zip(people, sexes, strict=True)])


def check_new(connection: Connection, manifest: DatasetManifest, batch: str, people: Sequence[str]) -> None:
    """Refuse what cannot be added to the dataset as it stands."""
    dataset, person = tables.dataset, tables.person
    known = connection.execute(sa.select(dataset).where(dataset.c.id == manifest.id)).one_or_none()
    if known is None:
        return
    if (known.assembly, known.profile) != (manifest.assembly, manifest.profile):
        raise Invalid(
            f"dataset {manifest.id!r} is {known.assembly}, {known.profile}.",
            remedy="Use the same assembly and profile, or another dataset id.",
        )
    if is_committed(connection, manifest.id, batch):
        raise Invalid(
            "the dataset has a batch of this name.", where=batch, remedy="Batches never change: use another name."
        )
    held = set(connection.execute(sa.select(person.c.id).where(person.c.dataset == manifest.id)).scalars())
    if repeated := len(held.intersection(people)):
        raise Invalid(f"{repeated} people are in the dataset already.", where=batch, remedy="Leave them out.")


def check_release(
    connection: Connection, manifest: DatasetManifest, people: int, released_on: date
) -> tuple[DataRelease, ...]:
    """The releases so far; ``Invalid`` if one with so many new people may not follow them on that day."""
    earlier = releases(connection, manifest.id)
    if earlier and released_on < earlier[-1].released_on:
        raise Invalid(f"the last release is of {earlier[-1].released_on}.", remedy="Use that day or a later one.")
    threshold = manifest.policy.threshold
    if earlier and people < threshold:
        raise Invalid(
            f"a release needs at least {threshold} new people; this batch has {people}.",
            where=manifest.id,
            remedy="Collect more people and ingest them as one batch: a smaller change would show who is new.",
        )
    return earlier


def enter(connection: Connection, batch: FinishedBatch, released_on: date) -> DataRelease:
    """Enter a batch and the release that it makes; raises ``Invalid`` where it may not be added."""
    checksums.check(connection)
    manifest = batch.manifest
    check_new(connection, manifest, batch.name, batch.people)
    earlier = check_release(connection, manifest, len(batch.people), released_on)
    if not earlier:
        row = {"id": manifest.id, "assembly": manifest.assembly, "profile": manifest.profile}
        connection.execute(tables.dataset.insert(), row)
    number = _enter_batch(connection, batch)
    _enter_files(connection, batch, number)
    _enter_regions(connection, batch, number)
    _enter_relatives(connection, batch)
    members = [(each.number, each.name, each.digest) for each in (earlier[-1].batches if earlier else ())]
    members.append((number, batch.name, batch.digest))
    made = _enter_release(connection, manifest, released_on, members)
    checksums.renew(connection)
    return made


@dataclass(frozen=True, slots=True)
class Exchange:
    """Batches of one dataset that a new one stands for: theirs ``old``, its people's lasting ``numbers`` in order.

    ``new`` is None where nobody of the old ones is left.
    """

    old: tuple[BatchRecord, ...]
    new: FinishedBatch | None
    numbers: tuple[int, ...]


def exchange(
    connection: Connection, dataset: str, exchanges: Sequence[Exchange], erased: Sequence[int]
) -> DataRelease | None:
    """Put new batches in the place of old ones, erase people, and make a release like the newest of what is left.

    Releases that name an old batch are gone. Returns None if the dataset is; ``Invalid`` if the whole store would be,
    because person numbers would begin anew.
    """
    connection.exec_driver_sql(SECURE_DELETE)
    checksums.check(connection)
    newest = releases(connection, dataset)[-1]
    end = int(connection.execute(sa.select(_NEXT_PERSON)).scalar_one())
    people = [{"gone": number} for number in erased]
    if people:
        gone = sa.bindparam("gone", type_=sa.Integer)
        for column in (tables.withdrawn.c.person, tables.relative.c.first, tables.relative.c.second):
            connection.execute(column.table.delete().where(column == gone), people)
        connection.execute(tables.person.delete().where(tables.person.c.number == gone), people)
    members = {each.number: (each.number, each.name, each.digest) for each in newest.batches}
    for each in exchanges:
        first, *others = each.old
        for other in others:
            del members[other.number]
        if each.new is None:
            del members[first.number]
        else:
            members[first.number] = (_move_people(connection, each.new, each.numbers), each.new.name, each.new.digest)
    made = None
    if members:
        made = _enter_release(connection, newest.manifest, newest.released_on, list(members.values()))
    _drop_batches(connection, [batch.number for each in exchanges for batch in each.old])
    if not members:
        connection.execute(tables.dataset.delete().where(tables.dataset.c.id == dataset))
    _keep_numbers(connection, end)
    checksums.renew(connection)
    return made


def _move_people(connection: Connection, batch: FinishedBatch, numbers: Sequence[int]) -> int:
    number = _enter_record(connection, batch, max(numbers) + 1 - len(numbers))
    _enter_files(connection, batch, number)
    _enter_regions(connection, batch, number)
    person = tables.person
    moved = person.update().where(person.c.number == sa.bindparam("who")).values(batch=number, row=sa.bindparam("at"))
    connection.execute(moved, [{"who": who, "at": at} for at, who in enumerate(numbers)])
    return number


def _drop_batches(connection: Connection, old: Sequence[int]) -> None:
    """Remove batches, and releases that name one of them."""
    link = tables.release_batch
    query = sa.select(link.c.release).where(link.c.batch.in_(old)).distinct()
    stale = list(connection.execute(query).scalars())
    connection.execute(link.delete().where(link.c.release.in_(stale)))
    connection.execute(tables.release.delete().where(tables.release.c.number.in_(stale)))
    for table in (tables.block_file, tables.batch_file, tables.gene, tables.callable_interval):
        connection.execute(table.delete().where(table.c.batch.in_(old)))
    connection.execute(tables.batch.delete().where(tables.batch.c.number.in_(old)))


def _keep_numbers(connection: Connection, end: int) -> None:
    """See that numbers below ``end`` are never given out again, though their people may be gone."""
    table = tables.batch
    last = connection.execute(sa.select(sa.func.max(table.c.number))).scalar_one()
    if last is None:
        raise Invalid("nobody would be left in this store.", remedy="Delete its folder: that erases everything.")
    connection.execute(table.update().where(table.c.number == last).values(first_person=end - table.c.people))


def _enter_release(
    connection: Connection, manifest: DatasetManifest, released_on: date, members: Sequence[tuple[int, str, str]]
) -> DataRelease:
    """A release of some batches: number, name and digest of each, in their order."""
    values = {
        "dataset": manifest.id,
        "released_on": released_on.isoformat(),
        "manifest": manifest.to_document(),
        "digest": release_digest(manifest, released_on, {name: digest for _, name, digest in members}),
    }
    key = connection.execute(tables.release.insert(), values).inserted_primary_key
    assert key is not None
    links = [{"release": key[0], "ordinal": i, "batch": each} for i, (each, _, _) in enumerate(members)]
    connection.execute(tables.release_batch.insert(), links)
    return releases(connection, manifest.id)[-1]


def _enter_batch(connection: Connection, batch: FinishedBatch) -> int:
    """The batch and its people; person numbers go on where the last batch of the store ended."""
    first = int(connection.execute(sa.select(_NEXT_PERSON)).scalar_one())
    number = _enter_record(connection, batch, first)
    shared = {"dataset": batch.manifest.id, "batch": number}
    rows = [
        {"number": first + row, "id": name, "row": row, "sex": sex, **shared}
        for row, (name, sex) in enumerate(zip(batch.people, batch.sexes, strict=True))
    ]
    connection.execute(tables.person.insert(), rows)
    return number


def _enter_record(connection: Connection, batch: FinishedBatch, first: int) -> int:
    """The batch itself; ``first`` + its people is the lowest person number that later batches may use."""
    values = {
        "dataset": batch.manifest.id,
        "name": batch.name,
        "people": len(batch.people),
        "first_person": first,
        "variants": sum(record.variants for records in batch.blocks.values() for record in records),
        "callable": batch.callable,
        "has_genes": batch.genes is not None,
        "digest": batch.digest,
    }
    key = connection.execute(tables.batch.insert(), values).inserted_primary_key
    assert key is not None
    return int(key[0])


def _enter_relatives(connection: Connection, batch: FinishedBatch) -> None:
    person = tables.person
    numbers: dict[str, int] = {}
    for name in sorted({name for pair in batch.relatives for name in (pair.first, pair.second)}):
        query = sa.select(person.c.number).where(person.c.dataset == batch.manifest.id, person.c.id == name)
        found = connection.execute(query).scalar_one_or_none()
        if found is None:
            raise Invalid("a pair of relatives names somebody who is not in the dataset.", where=batch.name)
        numbers[name] = found
    pairs: dict[tuple[int, int], float] = {}
    for pair in batch.relatives:
        low, high = sorted((numbers[pair.first], numbers[pair.second]))
        if low == high or (low, high) in pairs:
            raise Invalid("a pair of relatives is given twice, or is one person.", where=batch.name)
        pairs[low, high] = pair.kinship
    if pairs:
        rows = [{"first": low, "second": high, "kinship": value} for (low, high), value in pairs.items()]
        connection.execute(tables.relative.insert(), rows)


def _enter_files(connection: Connection, batch: FinishedBatch, number: int) -> None:
    rows = []
    for chromosome, records in batch.blocks.items():
        for record in records:
            row: dict[str, str | int] = {"batch": number, "chromosome": chromosome, "first": record.first}
            row |= {"last": record.last, "variants": record.variants}
            names = ("pgen", "pvar", "index", "sites")
            rows.append(row | {f"{n}_sha256": d for n, d in zip(names, record.digests, strict=True)})
    if rows:
        connection.execute(tables.block_file.insert(), rows)
    listed = [{"batch": number, "name": name, "sha256": digest} for name, digest in batch.files.items()]
    connection.execute(tables.batch_file.insert(), listed)


def _enter_regions(connection: Connection, batch: FinishedBatch, number: int) -> None:
    for table, regions in ((tables.gene, batch.genes or ()), (tables.callable_interval, batch.intervals)):
        rows = [{"batch": number} | {name: getattr(each, name) for name in each.__slots__} for each in regions]
        if rows:
            connection.execute(table.insert(), rows)


def placed(region: GeneRegion) -> GeneRegion:
    """The region with its chromosome's plain name; ``Invalid`` if it is none."""
    if not region.symbol or not 1 <= region.start <= region.end:
        raise Invalid("a gene region has no name or ends before it starts.", where=region.symbol[:40])
    return GeneRegion(region.symbol, chromosome_name(region.chromosome), region.start, region.end)


def joined(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Sorted, and joined where they touch or overlap."""
    out: list[Interval] = []
    placed = [Interval(chromosome_name(each.chromosome), each.start, each.end) for each in intervals]
    for each in sorted(placed, key=lambda i: (chromosome_rank(i.chromosome), i.start, i.end)):
        if not 1 <= each.start <= each.end:
            raise Invalid("a callable interval ends before it starts.", remedy="Positions are 1-based here.")
        if out and out[-1].chromosome == each.chromosome and each.start <= out[-1].end + 1:
            out[-1] = Interval(each.chromosome, out[-1].start, max(out[-1].end, each.end))
        else:
            out.append(each)
    return tuple(out)
