"""Which batches compaction may write as one: those of which merging loses nothing, invents nothing and saves space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from federome import db
from federome.store import tables
from federome.store.batch import joined
from federome.store.catalogue import BatchRecord, DataRelease, Store
from federome.store.stretches import Interval

SITE_BYTES: Final = 8
"""What listing a site costs a batch in all its files, without carriers (`bench/callability.py` measures it)."""
MISSING_BYTES: Final = 1.25
"""What one missing call costs in a sparse record, at least: one byte of difference and two bits of genotype."""
_ENOUGH = 1_000_000


def mergeable(store: Store, release: DataRelease, batches: Sequence[BatchRecord]) -> bool:
    """Whether neighbours may become one batch: the last joins the others, which may already."""
    first, last = batches[0], batches[-1]
    if first.callable != last.callable:
        return False
    if first.callable == "intervals" and intervals(store, first) != intervals(store, last):
        return False
    types: dict[str, str] = {}
    same = all(
        types.setdefault(name, kind) == kind
        for batch in batches
        for name, kind in store.phenotypes(batch).columns.items()
    )
    return same and (first.callable != "sites" or _saves(store, release, batches))


def intervals(store: Store, batch: BatchRecord) -> tuple[Interval, ...]:
    """Where a batch was callable, by place."""
    table = tables.callable_interval
    query = sa.select(table.c.chromosome, table.c.start, table.c.end).where(table.c.batch == batch.number)
    with db.read(store.database) as connection:
        return joined(Interval(row.chromosome, row.start, row.end) for row in connection.execute(query))


def _saves(store: Store, release: DataRelease, batches: Sequence[BatchRecord]) -> bool:
    """Whether listing shared sites once saves more than the missing calls cost of those whose batch lists no such site.

    Looked at chromosome by chromosome, the smallest first, until a million sites have been seen.
    """
    saved, looked = 0.0, 0
    for chromosome in _smallest_first(store, batches):
        found = [_keys(store, release, batch, chromosome) for batch in batches]
        _, which = np.unique(np.concatenate(found), return_inverse=True)
        people = np.repeat([batch.people for batch in batches], [len(keys) for keys in found])
        everybody = sum(batch.people for batch in batches)
        missing = everybody - np.bincount(which, weights=people)
        saved += SITE_BYTES * (len(which) - len(missing)) - np.minimum(everybody / 8, MISSING_BYTES * missing).sum()
        looked += len(which)
        if looked >= _ENOUGH:
            break
    return saved > 0


def _smallest_first(store: Store, batches: Sequence[BatchRecord]) -> list[str]:
    table = tables.block_file
    query = sa.select(table.c.chromosome).where(table.c.batch.in_([batch.number for batch in batches]))
    query = query.group_by(table.c.chromosome).order_by(sa.func.sum(table.c.variants), table.c.chromosome)
    with db.read(store.database) as connection:
        return list(connection.execute(query).scalars())


def _keys(store: Store, release: DataRelease, batch: BatchRecord, chromosome: str) -> NDArray[np.int64]:
    """A number for each site that a batch lists; equal sites have equal ones, others nearly never."""
    found = [np.zeros(0, np.int64)]
    for file in store.files(batch, release, chromosome):
        sites = store.blocks.open(file).sites
        alleles = map(hash, zip(sites.refs, sites.alts, strict=True))
        found.append(np.fromiter(alleles, np.int64, len(sites)) ^ sites.positions << 31)
    return np.concatenate(found)
