"""A frozen site that can be handed to a worker on another machine: the catalogue's facts go along, the files do not.

A worker needs the store's folder at the same path, read only, and no database: SQLite's journal cannot be shared over
a network. What one site needs of the catalogue is some megabytes for a million people; a worker unpacks it once and
keeps it for the blocks that follow.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federome.errors import Unavailable
from federome.model.table import Mask
from federome.store.blocks import BlockCache, BlockFile
from federome.store.callability import STORED
from federome.store.catalogue import BatchRecord, DataRelease, Genes, Kinships, People, Store, by_symbol
from federome.store.layout import Layout
from federome.store.phenotypes import Closure, Phenotypes
from federome.store.view import Part, StudyView

CACHED_BLOCKS = 64


@dataclass(frozen=True)
class _Facts:
    """What the catalogue says of some releases; batches and releases by their numbers."""

    layout: Layout
    files: dict[tuple[int, str], tuple[BlockFile, ...]]
    intervals: dict[tuple[int, str], NDArray[np.int64]]
    people: dict[int, People]
    phenotypes: dict[int, Phenotypes]
    genes: dict[int, Genes]
    kinships: Kinships


class DetachedStore(Store):
    """A store without a catalogue: answers from facts that were copied."""

    def __init__(self, facts: _Facts) -> None:
        self._facts = facts
        self.layout = facts.layout
        self.blocks = BlockCache(CACHED_BLOCKS)
        self._genes, self._blocks = {}, {}

    def people(self, batch: BatchRecord) -> People:
        """See ``Store``."""
        return self._facts.people[batch.number]

    def phenotypes(self, batch: BatchRecord) -> Phenotypes:
        """See ``Store``."""
        return self._facts.phenotypes[batch.number]

    def kinships(self, batches: Iterable[BatchRecord]) -> Kinships:  # noqa: ARG002 - the parent's interface
        """See ``Store``; always of all its batches."""
        return self._facts.kinships

    def gene(self, release: DataRelease, symbol: str) -> tuple[tuple[str, int, int], ...]:
        """See ``Store``."""
        if release.number not in self._genes:
            self._genes[release.number] = by_symbol(self._facts.genes[release.number])
        return self._genes[release.number].get(symbol, ())

    def genes(self, release: DataRelease) -> Genes:
        """See ``Store``."""
        return self._facts.genes[release.number]

    def intervals(self, batch: BatchRecord, chromosome: str) -> NDArray[np.int64]:
        """See ``Store``."""
        return self._facts.intervals.get((batch.number, chromosome), np.zeros((0, 2), np.int64))

    def _listed(
        self,
        batch: BatchRecord,
        release: DataRelease,  # noqa: ARG002 - the parent's interface
        chromosome: str,
    ) -> tuple[BlockFile, ...]:
        """See ``Store``."""
        return self._facts.files.get((batch.number, chromosome), ())

    def active(self, batch: BatchRecord) -> Mask:  # noqa: ARG002 - the parent's interface
        """Never known here: ``Unavailable``."""
        raise Unavailable("only the node itself knows who has withdrawn, not a worker of its cluster.")


def detached(view: StudyView) -> bytes:
    """The view with all it needs of the catalogue."""
    store = view.parts[0].store
    batches = [part.batch for part in view.parts]
    places = [(part, name) for part in view.parts for name in STORED]
    facts = _Facts(
        layout=store.layout,
        files={(p.batch.number, name): p.store.files(p.batch, p.release, name) for p, name in places},
        intervals={(p.batch.number, name): p.store.intervals(p.batch, name) for p, name in places},
        people={part.batch.number: part.people for part in view.parts},
        phenotypes={part.batch.number: store.phenotypes(part.batch) for part in view.parts},
        genes={part.release.number: store.genes(part.release) for part in view.parts},
        kinships=store.kinships(batches),
    )
    parts = [(part.release, part.batch, _bits(rows, part)) for part, rows in zip(view.parts, view.members, strict=True)]
    return pickle.dumps((facts, parts, view.ontology), protocol=pickle.HIGHEST_PROTOCOL)


def attached(packed: bytes) -> StudyView:
    """The same view where there is no catalogue. ``packed`` comes from the node itself, over its cluster's lines."""
    held: tuple[_Facts, list[tuple[DataRelease, BatchRecord, bytes]], Closure | None] = pickle.loads(packed)  # noqa: S301
    facts, parts, ontology = held
    store = DetachedStore(facts)
    members = tuple(
        np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8), count=batch.people)) for _, batch, bits in parts
    )
    opened = tuple(Part(store, release, batch) for release, batch, _ in parts)
    return StudyView(opened, members, ontology=ontology)


def _bits(rows: NDArray[np.int64], part: Part) -> bytes:
    mask = np.zeros(part.batch.people, np.bool_)
    mask[rows] = True
    return np.packbits(mask).tobytes()
