"""What is assessed: the people and variants of a data release, or of a batch that is written and not yet committed.

Everything is read from the compressed blocks of the store, one at a time; nobody's genotypes are held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federome.errors import Damaged
from federome.model.variant import Assembly, chromosome_class
from federome.store.blocks import Block, open_block
from federome.store.callability import STORED
from federome.store.catalogue import DataRelease, Store
from federome.store.layout import PEOPLE
from federome.store.writer import BatchWriter, Compared, Relatives

TRANSITION, TRANSVERSION, INSERTION, DELETION, OTHER, ON_X, ON_Y, ON_MT = range(8)
CLASSES = 8
"""Classes of variants that are counted apart: autosomal ones by kind, then common ones of X outside the
pseudo-autosomal regions, Y, and MT. All others are in no class.
"""
COMMON, MOST_MISSING = 0.05, 0.2
_TRANSITIONS = {("A", "G"), ("G", "A"), ("C", "T"), ("T", "C")}
Blocks = Callable[[], Iterator[Block]]


@dataclass(frozen=True, eq=False)
class Batch:
    """The people of one batch, by pseudonym in row order; sexes int8 (1 male, 0 female, -1 unknown).

    ``active`` are those who have not withdrawn: others have no verdict. ``blocks`` opens the genotypes anew each time.
    """

    name: str
    people: Sequence[str]
    sexes: NDArray[np.int8]
    active: NDArray[np.bool_]
    blocks: Blocks


@dataclass(frozen=True)
class Known:
    """Pairs of at least ``compared.limit``, by pseudonym, with their kinship: everybody was compared."""

    pairs: Sequence[Relatives]
    compared: Compared


@dataclass(frozen=True, eq=False)
class Subject:
    """A dataset as far as quality goes; ``release`` is the digest of a release, empty before commit.

    ``known`` are relatives among all these people that ingest has found already.
    """

    dataset: str
    assembly: Assembly
    batches: tuple[Batch, ...]
    release: str = ""
    known: Known | None = None

    @property
    def samples(self) -> tuple[str, ...]:
        """Pseudonyms of everybody who is assessed, batch by batch."""
        return tuple(
            name for batch in self.batches for name, here in zip(batch.people, batch.active, strict=True) if here
        )


def of_release(store: Store, release: DataRelease) -> Subject:
    """A committed data release, without those who have withdrawn."""
    batches = []
    for record in release.batches:
        path = store.layout.batch(record.stem) / PEOPLE
        people = [line.split("\t")[0] for line in path.read_text(encoding="utf-8").splitlines()[1:]]
        if len(people) != record.people:
            raise Damaged("the table of people is not the batch's.", where=str(path), remedy="Restore it from a copy.")

        def blocks(record=record) -> Iterator[Block]:  # type: ignore[no-untyped-def]
            for chromosome in STORED:
                for file in store.files(record, release, chromosome):
                    yield store.blocks.open(file)

        batches.append(Batch(record.name, people, store.people(record).sexes, store.active(record), blocks))
    return Subject(release.dataset, release.manifest.assembly, tuple(batches), release.digest)


def of_writer(writer: BatchWriter) -> Subject:
    """A batch that is written and not committed: call it after the last variant was added."""
    codes = {"female": 0, "male": 1, "unknown": -1}
    sexes = np.array([codes[sex] for sex in writer.sexes], np.int8)
    files = writer.staged()

    def blocks() -> Iterator[Block]:
        for file in files:
            yield open_block(file)

    batch = Batch(writer.batch, writer.pseudonyms, sexes, np.ones(len(sexes), np.bool_), blocks)
    known = None if writer.compared is None else Known(writer.relatives, writer.compared)
    return Subject(writer.dataset, writer.assembly, (batch,), known=known)


def classes(block: Block) -> NDArray[np.int64]:
    """The class of every variant of a block, -1 where it has none; int64 [variants]."""
    sites, chromosome = block.sites, block.file.chromosome
    if chromosome == "X":
        inside = [chromosome_class("X", at, block.file.assembly) == "X" for at in sites.positions.tolist()]
        return np.where(np.array(inside, np.bool_) & common(block), ON_X, -1).astype(np.int64)
    if chromosome in ("Y", "MT"):
        return np.full(len(sites), ON_Y if chromosome == "Y" else ON_MT, np.int64)
    return np.fromiter(map(_kind, sites.refs, sites.alts), np.int64, len(sites))


def common(block: Block, *, least: float = COMMON) -> NDArray[np.bool_]:
    """Variants whose minor allele is at least so frequent among called alleles, and that lack few calls."""
    held = block.counts.astype(np.float64)
    called = held[:, :3].sum(axis=1)
    p = (held[:, 1] + 2 * held[:, 2]) / np.maximum(2 * called, 1)
    known = called >= (1 - MOST_MISSING) * held.sum(axis=1)
    return np.asarray(known & (np.minimum(p, 1 - p) >= least), np.bool_)


def _kind(ref: str, alt: str) -> int:
    """Kinds as the GA4GH standard counts them: an indel is an insertion or a deletion, anything else is no SNV."""
    if len(ref) == 1 and len(alt) == 1:
        return TRANSITION if (ref, alt) in _TRANSITIONS else TRANSVERSION
    if len(ref) == 1 and len(alt) > 1:
        return INSERTION
    return DELETION if len(alt) == 1 else OTHER
