"""Writing one batch of people into the store: genotypes block by block, phenotypes, genes, callability, relatives.

Ingest calls this. Nothing is visible until ``commit``, which makes a new data release in one database transaction
after every file is durable; a process that dies earlier leaves the previous release whole and keeps the finished
chromosomes for the next attempt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from federome import db
from federome.errors import Invalid
from federome.model.dataset import Callability, DatasetManifest, check_slug
from federome.model.variant import Assembly, chromosome_name, chromosome_rank
from federome.store import phenotypes, staging
from federome.store.batch import (
    DeclaredSex,
    FinishedBatch,
    Relatives,
    check_new,
    check_release,
    enter,
    joined,
    people_digest,
    placed,
)
from federome.store.blocks import BlockFile
from federome.store.catalogue import DataRelease, Store
from federome.store.chromosome import ChromosomeWriter, Dense, Genotypes, Sparse, VariantInfo, is_whole, read_records
from federome.store.layout import (
    BLOCK_PARTS,
    MAX_BLOCK_VARIANTS,
    PEOPLE,
    PHENOTYPES,
    Layout,
    canonical,
    file_digest,
    stem,
    with_part,
    write_durably,
)
from federome.store.stretches import GeneRegion, Interval

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

__all__ = ["BatchWriter", "Compared", "DeclaredSex", "GeneRegion", "Interval", "Relatives", "VariantInfo"]

_PERSON = re.compile(r"[^\s\x00-\x1f\x7f]{1,100}")
_PSAM_SEX = {"male": "1", "female": "2", "unknown": "NA"}


@dataclass(frozen=True, slots=True)
class Compared:
    """How a batch's relatives were found: everybody with everybody at so many SNPs, from kinship ``limit`` on."""

    sites: int
    limit: float


class BatchWriter:
    """One batch being written; make it with :meth:`begin` and use it as a context manager.

    Chromosomes come one after another, in any order, each in one run of calls sorted by position; variants are
    biallelic and trimmed (``model.variant.trim``). A chromosome is finished when the next one starts, or at
    ``commit``. Leaving the ``with`` block without ``commit`` shows nothing to readers and keeps the finished
    chromosomes for the next ``begin`` with the same arguments.
    """

    def __init__(
        self,
        store: Store,
        manifest: DatasetManifest,
        batch: str,
        people: Sequence[str],
        sexes: Sequence[DeclaredSex],
        held: staging.Lock,
        *,
        block_variants: int,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._batch = batch
        self._names = list(people)
        self._sexes = list(sexes)
        self._lock = held
        self._stem = stem(manifest.id, batch)
        self._folder = store.layout.staging / self._stem
        self._men = np.array([sex == "male" for sex in sexes], np.bool_)
        self._women = np.array([sex == "female" for sex in sexes], np.bool_)
        self._block_variants = block_variants
        self._open: ChromosomeWriter | None = None
        self._callable: Callability | None = None if manifest.callable == "intervals" else manifest.callable
        self._intervals: tuple[Interval, ...] = ()
        self._genes: tuple[GeneRegion, ...] | None = None
        self._relatives: tuple[Relatives, ...] = ()
        self._compared: Compared | None = None

    @classmethod
    def begin(
        cls,
        store: Store,
        manifest: DatasetManifest,
        batch: str,
        people: Sequence[str],
        sexes: Sequence[DeclaredSex],
        *,
        source: str = "",
        block_variants: int = MAX_BLOCK_VARIANTS,
    ) -> BatchWriter:
        """Start a batch, or resume it where ``people``, ``sexes``, ``source`` and the assembly are as before.

        ``batch`` is a name like ``2026-06`` (small letters, digits, ``._-``). ``source`` is a digest or any other
        text that changes when the input changes: chromosomes staged from another source are discarded.
        Raises ``Invalid`` for a batch that exists, repeated people, people already in the dataset, another profile
        or assembly than before; ``Unavailable`` while another process writes the same batch.
        """
        check_slug(batch, where="batch")
        _check_people(people, sexes)
        if not 1 <= block_variants <= MAX_BLOCK_VARIANTS:
            raise Invalid(f"a block holds 1 to {MAX_BLOCK_VARIANTS} variants.")
        held = staging.lock(store.layout, manifest.id, batch)
        try:
            with db.read(store.database) as connection:
                check_new(connection, manifest, batch, people)
            writer = cls(store, manifest, batch, people, sexes, held, block_variants=block_variants)
            writer._resume(source)
        except BaseException:
            held.release()
            raise
        return writer

    @property
    def dataset(self) -> str:
        """Which dataset the batch is of."""
        return self._manifest.id

    @property
    def people(self) -> int:
        """How many people the batch has."""
        return len(self._names)

    @property
    def scratch(self) -> Path:
        """A folder for what must not outlive this writer, though the process be killed; make it where it is needed."""
        return self._folder / "scratch"

    @property
    def assembly(self) -> Assembly:
        """The assembly of all positions."""
        return self._manifest.assembly

    @property
    def batch(self) -> str:
        """The batch's name."""
        return self._batch

    @property
    def pseudonyms(self) -> Sequence[str]:
        """Pseudonyms in the order of the genotypes."""
        return self._names

    @property
    def sexes(self) -> Sequence[DeclaredSex]:
        """Declared sexes in the same order."""
        return self._sexes

    @property
    def relatives(self) -> Sequence[Relatives]:
        """Pairs as they were set."""
        return self._relatives

    @property
    def compared(self) -> Compared | None:
        """How they were found; None where chance could not be told from kinship, or nobody said."""
        return self._compared

    def note(self, text: bytes) -> None:
        """Leave word for the next attempt at exactly this batch: ends the open chromosome, for it is about all."""
        self._finish_open()
        write_durably(self._folder / staging.NOTE, text)

    def noted(self) -> bytes:
        """What an earlier attempt left word of; empty where there is none, or not all that it wrote is whole."""
        path = self._folder / staging.NOTE
        return path.read_bytes() if path.is_file() else b""

    @property
    def chromosomes(self) -> Sequence[str]:
        """Chromosomes that are finished."""
        return sorted(staging.finished(self._folder), key=chromosome_rank)

    def staged(self) -> tuple[BlockFile, ...]:
        """The blocks written so far, in genome order, to be looked at before they are committed.

        Ends the open chromosome: call it after the last variant.
        """
        self._finish_open()
        out = []
        for name in self.chromosomes:
            for record in read_records(self._folder / name):
                base, extent = self._folder / name / f"{record.first:09d}", (record.first, record.last, record.variants)
                pgen, pvar, index, sites = record.digests
                digests = pgen, pvar, index, sites
                out.append(BlockFile(base, self._manifest.assembly, name, *extent, len(self._names), digests))
        return tuple(out)

    def done(self, chromosome: str) -> bool:
        """Whether this chromosome is finished already, by this or an earlier attempt; then do not add to it."""
        return (self._folder / chromosome_name(chromosome) / staging.FINISHED).is_file()

    def add_dense(
        self,
        chromosome: str,
        positions: NDArray[np.int64],
        refs: Sequence[str],
        alts: Sequence[str],
        genotypes: NDArray[np.int8],
        info: VariantInfo | None = None,
    ) -> None:
        """Add variants: genotypes int8 [variants, people], copies of ALT 0, 1, 2, or -1 not called.

        ``chromosome`` is 1 … 22, X, Y or MT. One-copy genotypes (men on X and Y outside the pseudo-autosomal
        regions, everybody on MT) are 0 or 2; a 1 there is ``Invalid``, make it -1 first. So is anything but -1 for
        women on Y. ``Invalid`` also for positions that fall, variants given twice (alleles exchanged included),
        untrimmed alleles.
        """
        if genotypes.ndim != 2 or genotypes.shape[1] != len(self._names) or genotypes.dtype != np.int8:
            raise Invalid(f"genotypes must be int8 of {len(self._names)} people a variant.")
        self._add(chromosome, positions, refs, alts, Dense(genotypes), info)

    def add_sparse(
        self,
        chromosome: str,
        positions: NDArray[np.int64],
        refs: Sequence[str],
        alts: Sequence[str],
        offsets: NDArray[np.int64],
        carriers: NDArray[np.uint32],
        codes: NDArray[np.uint8],
        info: VariantInfo | None = None,
    ) -> None:
        """Add variants by those who are not two copies of REF; same rules as :meth:`add_dense`.

        Variant i is carried by ``carriers[offsets[i]:offsets[i+1]]`` (rows of ``people``, rising) with ``codes``
        1 (one copy), 2 (two copies) or 3 (not called); ``offsets`` has one entry more than there are variants.
        """
        ends = [0, len(carriers)]
        sound = len(offsets) and [offsets[0], offsets[-1]] == ends and len(codes) == ends[1]
        if not sound or np.any(np.diff(offsets) < 0) or np.any(carriers >= len(self._names)) or np.any(codes > 3):
            raise Invalid("carriers, codes and offsets do not fit together.", where=f"chromosome {chromosome[:5]}")
        self._add(chromosome, positions, refs, alts, Sparse(offsets, carriers, codes), info)

    def set_phenotypes(self, table: Path | pd.DataFrame | duckdb.DuckDBPyRelation) -> None:
        """Phenotypes keyed by ``person_id`` (a Parquet file, data frame or DuckDB relation), in any order.

        Exactly the people of the batch, once each, else ``Invalid``. ``sex`` is taken from ``begin``. Column names
        are small letters, digits and ``_``; columns are numbers, truth values, dates, texts, or lists of these.
        Fields that are constant for a batch must be columns too if algorithms are to read them.
        """
        phenotypes.write(table, self._folder / PHENOTYPES, people=self._names, sexes=self._sexes)

    def set_genes(self, rows: Iterable[GeneRegion]) -> None:
        """Gene regions; they replace those of earlier batches from this release on."""
        self._genes = tuple(placed(row) for row in rows)

    def set_callable(self, where: Literal["everywhere", "sites"] | Iterable[Interval]) -> None:
        """Where absence of a variant means reference for this batch; by default what the manifest says.

        A manifest that says ``intervals`` needs this call.
        """
        if isinstance(where, str):
            self._callable, self._intervals = where, ()
        else:
            self._callable, self._intervals = "intervals", joined(where)

    def set_relatives(self, pairs: Iterable[Relatives], compared: Compared | None = None) -> None:
        """Related pairs found at ingest; pairs may include people of earlier batches of the dataset."""
        self._relatives, self._compared = tuple(pairs), compared

    def commit(self, released_on: date) -> DataRelease:
        """Make everything durable, then visible, as a new data release dated ``released_on``.

        Raises ``Invalid`` if the batch has no variants, holds fewer new people than the policy's threshold (unless
        it is the dataset's first), is dated before the last release, or relates people who are unknown.
        """
        self._finish_open()
        with db.read(self._store.database) as connection:
            check_release(connection, self._manifest, len(self._names), released_on)
        finished = self._finished()
        staging.move_in(self._store.layout, self._folder, moves(self._store.layout, finished))
        try:
            with db.write(self._store.database) as connection:
                made = enter(connection, finished, released_on)
        except BaseException:
            staging.move_back(self._store.layout, self._folder)
            raise
        staging.remove(self._folder)
        self._lock.release()
        return made

    def __enter__(self) -> BatchWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.abort()
            self._open = None
        self._lock.release()

    def _resume(self, source: str) -> None:
        """Keep what an earlier attempt finished from the same input, unharmed; discard everything else."""
        description = canonical(
            {
                "people": people_digest(self._names, self._sexes),
                "dataset": self._manifest.id,
                "assembly": self._manifest.assembly,
                "source": source,
                "block_variants": self._block_variants,
            }
        )
        staging.resume(self._folder, description, is_whole)
        for name in (PEOPLE, PHENOTYPES):
            (self._folder / name).unlink(missing_ok=True)

    def _add(
        self,
        chromosome: str,
        positions: NDArray[np.int64],
        refs: Sequence[str],
        alts: Sequence[str],
        genotypes: Genotypes,
        info: VariantInfo | None,
    ) -> None:
        name = chromosome_name(chromosome)
        if self._open is None or self._open.chromosome != name:
            self._finish_open()
            if self.done(name):
                raise Invalid(
                    f"chromosome {name} is finished.", remedy="Ask `done` first, and add a chromosome in one run."
                )
            self._open = ChromosomeWriter(
                self._folder / name,
                name,
                self._manifest.assembly,
                men=self._men,
                women=self._women,
                block_variants=self._block_variants,
            )
        self._open.add(positions, refs, alts, genotypes, info or VariantInfo())

    def _finish_open(self) -> None:
        if self._open is not None:
            self._open.finish()
            self._open = None

    def _finished(self) -> FinishedBatch:
        """The whole batch, after writing what is still missing of its files."""
        if self._callable is None:
            raise Invalid("the manifest says `intervals`, but none were given.", remedy="Call set_callable.")
        names = self.chromosomes
        if not names:
            raise Invalid("the batch has no variants.", where=self._batch)
        write_durably(self._folder / PEOPLE, psam(self._names, self._sexes))
        if not (self._folder / PHENOTYPES).is_file():
            phenotypes.write(None, self._folder / PHENOTYPES, people=self._names, sexes=self._sexes)
        return FinishedBatch(
            manifest=self._manifest,
            name=self._batch,
            people=tuple(self._names),
            sexes=tuple(self._sexes),
            blocks={name: read_records(self._folder / name) for name in names},
            files={name: file_digest(self._folder / name) for name in (PEOPLE, PHENOTYPES)},
            callable=self._callable,
            intervals=self._intervals,
            genes=self._genes,
            relatives=self._relatives,
        )


def psam(people: Iterable[str], sexes: Iterable[DeclaredSex]) -> bytes:
    """The table of people that plink2 reads, in the order of the genotypes."""
    lines = ["#IID\tSEX", *(f"{name}\t{_PSAM_SEX[sex]}" for name, sex in zip(people, sexes, strict=True))]
    return ("\n".join(lines) + "\n").encode()


def moves(layout: Layout, batch: FinishedBatch) -> list[staging.Move]:
    """Where each file of a finished batch goes from its staging folder."""
    own = stem(batch.manifest.id, batch.name)
    found = [(name, str((layout.batch(own) / name).relative_to(layout.root))) for name in batch.files]
    for chromosome, records in batch.blocks.items():
        for record in records:
            base = layout.block(batch.manifest.assembly, chromosome, record.first, own)
            for part in BLOCK_PARTS:
                source = f"{chromosome}/{record.first:09d}{part}"
                found.append((source, str(with_part(base, part).relative_to(layout.root))))
    return found


def _check_people(people: Sequence[str], sexes: Sequence[DeclaredSex]) -> None:
    if not people or len(people) != len(sexes) or len(set(people)) != len(people):
        raise Invalid("the people are none, repeated, or not as many as their sexes.", remedy="List each person once.")
    bad = sum(not _PERSON.fullmatch(name) for name in people)
    if bad:
        raise Invalid(f"{bad} pseudonyms are empty, longer than 100 characters, or hold spaces.")
    if set(sexes) - set(_PSAM_SEX):
        raise Invalid("a sex is none of female, male, unknown.")
