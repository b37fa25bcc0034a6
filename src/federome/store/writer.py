"""Writing one batch of people into the store: genotypes block by block, phenotypes, genes, callability, relatives.

Ingest calls this. Nothing is visible until ``commit``, which makes a new data release in one database transaction
after every file is durable; a process that dies earlier leaves the previous release whole and keeps the finished
chromosomes for the next attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from federome.model.cohort import Sex
from federome.model.dataset import DatasetManifest

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from federome.store.catalogue import DataRelease, Store

DeclaredSex = Sex | Literal["unknown"]


@dataclass(frozen=True, slots=True)
class VariantInfo:
    """What is known of the variants of one call besides their genotypes; each list has one entry a variant.

    ``effects``: pairs of gene symbol (may be empty) and one Sequence Ontology term, as CSQ or ANN give them.
    ``not_left_aligned``: True for an indel that could not be normalised for lack of a reference sequence.
    """

    effects: Sequence[Sequence[tuple[str, str]]] = ()
    not_left_aligned: Sequence[bool] = ()


@dataclass(frozen=True, slots=True)
class GeneRegion:
    """Where a gene lies: 1-based, both ends included."""

    symbol: str
    chromosome: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch in which absence of a variant means reference: 1-based, both ends included."""

    chromosome: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Relatives:
    """Two people of the same dataset, this batch or an earlier one, and their kinship coefficient."""

    first: str
    second: str
    kinship: float


class BatchWriter:
    """One batch being written; make it with :meth:`begin` and use it as a context manager.

    Chromosomes come one after another, in any order, each in one run of calls sorted by position; variants are
    biallelic and trimmed (``model.variant.trim``). Leaving the ``with`` block without ``commit`` keeps the finished
    chromosomes for the next ``begin`` with the same arguments and shows nothing to readers.
    """

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
    ) -> BatchWriter:
        """Start a batch, or resume it where ``people``, ``sexes``, ``manifest`` and ``source`` are as before.

        ``batch`` is a name like ``2026-06`` (small letters, digits, ``._-``). ``source`` is a digest or any other
        text that changes when the input changes: chromosomes staged from another source are discarded.
        Raises ``Invalid`` for a batch that exists, repeated people, people already in the dataset, another profile
        or assembly than before; ``Unavailable`` while another process writes the same batch.
        """
        raise NotImplementedError

    def done(self, chromosome: str) -> bool:
        """Whether this chromosome is finished already, by this or an earlier attempt; then do not add to it."""
        raise NotImplementedError

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
        raise NotImplementedError

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
        raise NotImplementedError

    def set_phenotypes(self, table: Path | pd.DataFrame | duckdb.DuckDBPyRelation) -> None:
        """Phenotypes keyed by ``person_id`` (a Parquet file, data frame or DuckDB relation), in any order.

        Exactly the people of the batch, once each, else ``Invalid``. ``sex`` is taken from ``begin``. Column names
        are small letters, digits and ``_``; columns are numbers, truth values, dates, texts or lists of texts.
        """
        raise NotImplementedError

    def set_genes(self, rows: Iterable[GeneRegion]) -> None:
        """Gene regions; they replace those of earlier batches from this release on."""
        raise NotImplementedError

    def set_callable(self, where: Literal["everywhere", "sites"] | Iterable[Interval]) -> None:
        """Where absence of a variant means reference for this batch; by default what the manifest says.

        A manifest that says ``intervals`` needs this call.
        """
        raise NotImplementedError

    def set_relatives(self, pairs: Iterable[Relatives]) -> None:
        """Related pairs found at ingest; pairs may include people of earlier batches of the dataset."""
        raise NotImplementedError

    def commit(self, released_on: date) -> DataRelease:
        """Make everything durable, then visible, as a new data release dated ``released_on``.

        Raises ``Invalid`` if the batch has no variants, holds fewer new people than the policy's threshold (unless
        it is the dataset's first), or is dated before the last release.
        """
        raise NotImplementedError

    def __enter__(self) -> BatchWriter:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError
