"""The integrity check of a whole store: every byte against the catalogue, every sidecar against its file.

Run by ``federome store verify`` and from time to time by a node. It changes nothing and goes on after a finding, so
that one report names every damaged file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import sqlalchemy as sa

from federome import db
from federome.errors import Damaged, Unavailable
from federome.model.variant import Assembly
from federome.store import checksums, derived, kernels, tables
from federome.store.blocks import BlockFile, open_block
from federome.store.catalogue import Store, block_file
from federome.store.chromosome import pvar
from federome.store.layout import BLOCK_PARTS, altered, file_digest, stem
from federome.store.packed import decompress


@dataclass(frozen=True, slots=True)
class Problem:
    """One file that is not as it was written, and the command that mends it."""

    file: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked, what is wrong, and which files lie in the store without being in the catalogue."""

    files: int
    bytes: int
    problems: tuple[Problem, ...]
    strangers: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every file of the catalogue is whole."""
        return not self.problems

    def check(self) -> None:
        """Raise ``Damaged`` for the first problem, if there is one."""
        if self.problems:
            first = self.problems[0]
            raise Damaged(first.message, where=first.file, remedy=first.remedy)


def verify(store: Store, between: Callable[[], None] = lambda: None) -> Report:
    """Read everything that the catalogue names. Takes as long as reading the store once.

    ``between`` is called after each file. A batch that is compacted meanwhile is no damage.
    """
    problems: list[Problem] = []
    broken = check_catalogue(store)
    if broken:  # what it says of files means nothing
        return Report(0, 0, tuple(broken), ())
    known: set[Path] = set()
    size = 0
    for path, check in _checks(store):
        known.add(path)
        try:
            check()
            size += path.stat().st_size
        except (Damaged, Unavailable) as error:
            problems.append(Problem(error.where or str(path), error.message, error.remedy))
        between()
    if problems:
        present = {str(path) for path, _ in _checks(store)}
        problems = list(dict.fromkeys(each for each in problems if each.file in present))  # one is met twice
    lying = {p for folder in ("store", "batches") for p in (store.layout.root / folder).rglob("*") if p.is_file()}
    return Report(len(known), size, tuple(problems), tuple(sorted(str(path) for path in lying - known)))


@dataclass(frozen=True, slots=True)
class _Check:
    """One file's check: its bytes, then what it says against its sidecars."""

    path: Path
    sha256: str
    block: BlockFile | None = None

    def __call__(self) -> None:
        if file_digest(self.path) != self.sha256:
            raise altered(self.path)
        if self.block is not None and self.path.name.endswith(".pgen"):
            _check_genotypes(self.block)
        elif self.block is not None and self.path.name.endswith(".pvar.zst"):
            _check_variants(self.block, self.path)


def _checks(store: Store) -> Iterator[tuple[Path, Callable[[], None]]]:
    for block in _all_blocks(store):
        for suffix, sha256 in zip(BLOCK_PARTS, block.digests, strict=True):
            path = block.part(suffix)
            yield path, _Check(path, sha256, block)
    table, batch = tables.batch_file, tables.batch
    query = sa.select(batch.c.dataset, batch.c.name, table.c.name.label("file"), table.c.sha256)
    with db.read(store.database) as connection:
        rows = connection.execute(query.join(batch, batch.c.number == table.c.batch)).all()
    for row in rows:
        path = store.layout.batch(stem(row.dataset, row.name)) / row.file
        yield path, _Check(path, row.sha256)
    for people, folder in _folders(store):
        for path in derived.files(folder):
            yield path, partial(_check_derived, path, people)


def _all_blocks(store: Store) -> Iterator[BlockFile]:
    block, batch, dataset = tables.block_file, tables.batch, tables.dataset
    query = (
        sa.select(block, batch.c.dataset, batch.c.name, batch.c.people, dataset.c.assembly)
        .join(batch, batch.c.number == block.c.batch)
        .join(dataset, dataset.c.id == batch.c.dataset)
        .order_by(block.c.batch, block.c.chromosome, block.c.first)
    )
    with db.read(store.database) as connection:
        rows = connection.execute(query).all()
    for row in rows:
        yield block_file(store.layout, cast(Assembly, row.assembly), stem(row.dataset, row.name), row.people, row)


def _folders(store: Store) -> list[tuple[int, Path]]:
    """People and folder of each batch."""
    batch = tables.batch
    with db.read(store.database) as connection:
        rows = connection.execute(sa.select(batch.c.dataset, batch.c.name, batch.c.people)).all()
    return [(row.people, store.layout.batch(stem(row.dataset, row.name))) for row in rows]


def _check_derived(path: Path, people: int) -> None:
    derived.read(path.parent, path.name.removesuffix(derived.SUFFIX), people)


def _check_genotypes(file: BlockFile) -> None:
    """Recount the genotypes and compare them with the sidecar."""
    block = open_block(file)
    with block.pgen:
        if not np.array_equal(kernels.counts(block.pgen, range(block.pgen.variants)), block.counts):
            raise altered(file.part(".index"))


def _check_variants(file: BlockFile, path: Path) -> None:
    """Compare the variant table that other programs read with the sidecar, and both with the catalogue."""
    sites = open_block(file).sites
    if decompress(path.read_bytes()) != pvar(sites, file.chromosome, file.assembly):
        raise altered(path)
    if (sites.positions[0], sites.positions[-1]) != (file.first, file.last) or np.any(np.diff(sites.positions) < 0):
        raise altered(file.part(".sites"))


def check_start(store: Store) -> None:
    """Raise ``Damaged`` where the catalogue is not as it was written: nothing may be answered from it."""
    Report(0, 0, tuple(check_catalogue(store)), ()).check()


def check_catalogue(store: Store) -> list[Problem]:
    """What SQLite says about its own file, and which tables are not as they were written."""
    place, remedy = str(store.layout.catalogue), "Restore the catalogue from a backup, then run: federome store verify"
    try:
        with db.read(store.database) as connection:
            if store.database.dialect.name == "sqlite":
                words = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
                if list(words) != ["ok"]:
                    return [Problem(place, "the catalogue is damaged.", remedy)]
            altered_tables = checksums.altered(connection)
    except (Damaged, Unavailable) as error:
        return [Problem(place, f"the catalogue cannot be read: {error.message}", remedy)]
    return [Problem(place, f"the catalogue's table {name} is not what was written.", remedy) for name in altered_tables]
