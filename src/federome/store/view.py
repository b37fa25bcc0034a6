"""The frozen people of a run at this node: phenotype columns, further criteria, relatives, and who they are by digest.

Made from data releases and a cohort when a node freezes a cohort; algorithms see it as their ``View``. The people
stand in a fixed order: releases by dataset, batches in order of ingest, rows as ingested. Withdrawn people are not
in it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.cohort import Carrier, Cohort
from federome.model.products import Carried
from federome.model.span import Span
from federome.model.table import Mask
from federome.model.variant import Assembly
from federome.store import derived, phenotypes
from federome.store.carriers import (
    Key,
    OwnVariant,
    carried,
    carriers,
    carriers_of_each,
    carrying,
    effects,
    qualifying,
)
from federome.store.catalogue import MALE, UNKNOWN, BatchRecord, DataRelease, People, Store
from federome.store.phenotypes import Closure, Phenotypes
from federome.store.sites import Effects

SECOND_DEGREE = 0.0884
"""Kinship of second-degree relatives and closer: 2^(-7/2) (Manichaikul et al. 2010, table 1)."""

_SEX_LABELS = np.array(["female", "male", ""])


class Part:
    """One batch of one release: a stretch of a view's people, with its columns kept once they were read."""

    def __init__(self, store: Store, release: DataRelease, batch: BatchRecord) -> None:
        self.store = store
        self.release = release
        self.batch = batch
        self._numbers: dict[str, NDArray[np.float64]] = {}
        self._labels: dict[str, NDArray[np.str_]] = {}

    @cached_property
    def people(self) -> People:
        """Numbers and sexes."""
        return self.store.people(self.batch)

    @cached_property
    def phenotypes(self) -> Phenotypes:
        """The batch's Parquet file."""
        return self.store.phenotypes(self.batch)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A numeric column for all people of the batch; NaN where the batch does not have it."""
        if name not in self._numbers:
            self._numbers[name] = self._read_numbers(name)
        return self._numbers[name]

    def labels(self, name: str) -> NDArray[np.str_]:
        """A text column for all people of the batch; empty where the batch does not have it."""
        if name not in self._labels:
            if name == "sex":
                self._labels[name] = _SEX_LABELS[self.people.sexes]
            elif name in self.phenotypes.columns:
                self._labels[name] = self.phenotypes.labels(name)
            else:
                self._labels[name] = np.zeros(self.batch.people, "<U1")
        return self._labels[name]

    def codes(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.str_], Mask]:
        """A column of lists: see ``Phenotypes.codes``; nothing is known where the batch does not have it."""
        if name in self.phenotypes.columns:
            return self.phenotypes.codes(name)
        return np.zeros(0, np.int64), np.zeros(0, np.str_), np.zeros(self.batch.people, np.bool_)

    def lists(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """A column of lists of numbers: see ``Phenotypes.lists``; nothing where the batch does not have it."""
        if name in self.phenotypes.columns:
            return self.phenotypes.lists(name)
        return np.zeros(0, np.int64), np.zeros(0)

    def _read_numbers(self, name: str) -> NDArray[np.float64]:
        if name == "male":
            sexes = self.people.sexes
            return np.where(sexes == UNKNOWN, np.nan, sexes == MALE)
        if name == "age":
            return phenotypes.reference_year(self.release.released_on) - self.numbers("birth_year")
        if name in self.phenotypes.columns:
            return self.phenotypes.numbers(name)
        if name in self.derived:
            return derived.read(self.folder, name, self.batch.people)
        return np.full(self.batch.people, np.nan)

    @property
    def folder(self) -> Path:
        """Where the batch keeps what is not genotypes."""
        return self.store.layout.batch(self.batch.stem)

    @property
    def derived(self) -> frozenset[str]:
        """Columns that this node has computed from genotypes."""
        return derived.names(self.folder)


class StudyView:
    """A frozen, sorted set of people of one or several releases. Implements ``analysis.algorithm.View``."""

    def __init__(
        self, parts: tuple[Part, ...], members: tuple[NDArray[np.int64], ...], *, ontology: Closure | None
    ) -> None:
        self.parts = parts
        self.members = members
        self.ontology = ontology

    @classmethod
    def freeze(
        cls,
        store: Store,
        releases: Sequence[DataRelease],
        cohort: Cohort | None = None,
        *,
        ontology: Closure | None = None,
    ) -> StudyView:
        """The active people of the releases who meet the cohort's criteria, now and for good.

        Raises ``Invalid`` for releases of one dataset or of different assemblies, and for criteria that cannot be
        answered (an unknown column, variant or gene; a code that needs an ontology which is not installed).
        """
        ordered = sorted(releases, key=lambda release: release.dataset)
        if not ordered or len({release.dataset for release in ordered}) < len(ordered):
            raise Invalid("a cohort needs one release of each of its datasets.")
        if len({release.manifest.assembly for release in ordered}) > 1:
            raise Invalid("the datasets lie on different assemblies.", remedy="Ask for each assembly separately.")
        parts = tuple(Part(store, release, batch) for release in ordered for batch in release.batches)
        members = tuple(np.flatnonzero(store.active(part.batch)) for part in parts)
        everybody = cls(parts, members, ontology=ontology)
        return everybody if cohort is None else everybody.where(everybody.meets(cohort))

    def changed(self) -> bool:
        """Whether somebody of these people has withdrawn by now."""
        active = (part.store.active(part.batch)[rows] for part, rows in zip(self.parts, self.members, strict=True))
        return not all(mask.all() for mask in active)

    @property
    def assembly(self) -> Assembly:
        """The assembly of all its datasets."""
        return self.parts[0].release.manifest.assembly

    @cached_property
    def people(self) -> int:
        """Number of people."""
        return sum(len(rows) for rows in self.members)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each part's people stand in the view."""
        ends = np.cumsum([0, *(len(rows) for rows in self.members)]).tolist()
        return tuple(slice(start, stop) for start, stop in pairwise(ends))

    @cached_property
    def columns(self) -> frozenset[str]:
        """Stored phenotype columns and derived ones that any of its batches has."""
        return frozenset(name for part in self.parts for name in (*part.phenotypes.columns, *part.derived))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A numeric column, shape (people,), NaN where unknown; ``Invalid`` if no batch has it.

        Besides stored columns: ``age`` in completed years at the release (see ``phenotypes.reference_year``) and
        ``male`` (1 for men, 0 for women).
        """
        self._require("birth_year" if name == "age" else name, computed=("male",))
        return np.concatenate([p.numbers(name)[rows] for p, rows in zip(self.parts, self.members, strict=True)])

    def labels(self, name: str) -> NDArray[np.str_]:
        """A text column, shape (people,), empty where unknown; ``Invalid`` if no batch has it."""
        self._require(name, computed=("sex",))
        return np.concatenate([p.labels(name)[rows] for p, rows in zip(self.parts, self.members, strict=True)])

    def codes(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.str_], Mask]:
        """A column of lists as pairs of person (place in the view) and entry, and who has a list, shape (people,)."""
        self._require(name)
        people, entries, known = [], [], []
        for part, rows, where in zip(self.parts, self.members, self.slices, strict=True):
            at, texts, has = part.codes(name)
            place = np.full(part.batch.people, -1, np.int64)
            place[rows] = np.arange(where.start, where.stop)
            people.append(place[at])
            entries.append(texts)
            known.append(has[rows])
        places = np.concatenate(people)
        return places[places >= 0], np.concatenate(entries)[places >= 0], np.concatenate(known)

    def lists(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """A column of lists of numbers as pairs of person (place in the view) and entry, each list in its order."""
        self._require(name)
        people, entries = [], []
        for part, rows, where in zip(self.parts, self.members, self.slices, strict=True):
            at, values = part.lists(name)
            place = np.full(part.batch.people, -1, np.int64)
            place[rows] = np.arange(where.start, where.stop)
            people.append(place[at])
            entries.append(values)
        places = np.concatenate(people)
        return places[places >= 0], np.concatenate(entries)[places >= 0]

    def carried(self, wanted: Carrier) -> Carried:
        """Who carries which variant of a gene or region; ``Invalid`` as of :meth:`meets`."""
        people, names, copies = [], [], []
        parts = zip(carried(self.parts, wanted), self.parts, self.members, self.slices, strict=True)
        for (rows, variants, held), part, members, where in parts:
            place = np.full(part.batch.people, -1, np.int64)
            place[members] = np.arange(where.start, where.stop)
            inside = place[rows] >= 0
            people.append(place[rows][inside])
            names.append(variants[inside])
            copies.append(held[inside])
        return Carried(np.concatenate(people), np.concatenate(names), np.concatenate(copies))

    def carrying(self, spans: Sequence[Span]) -> Mask:
        """Who carries any variant of these spans, shape (people,)."""
        masks = carrying(self.parts, spans)
        pairs = zip(masks, self.members, strict=True)
        chosen = [mask if len(rows) == len(mask) else mask[rows] for mask, rows in pairs]  # rows rise, each once
        return chosen[0] if len(chosen) == 1 else np.concatenate(chosen)

    def variants(self, spans: Sequence[Span], among: Mask, *, most: int) -> dict[Key, int]:
        """The variants of these spans and how many of some people carry each, in genome order.

        ``Invalid`` where there are more than ``most`` of them.
        """
        within = [np.zeros(part.batch.people, np.bool_) for part in self.parts]
        for mask, rows, where in zip(within, self.members, self.slices, strict=True):
            mask[rows] = among[where]
        return carriers_of_each(self.parts, spans, within, most=most)

    def effects(self, keys: Collection[Key]) -> dict[Key, Effects]:
        """What these variants do (gene, and ``missense_variant`` or ``p.V600E``), of those that are annotated."""
        return effects(self.parts, keys)

    def meets(self, cohort: Cohort) -> Mask:
        """Who meets further criteria, shape (people,); where something is unknown, they are not met."""
        for name in phenotypes.needed_columns(cohort):
            self._require(name)
        for alternatives in cohort.any_of:
            names = phenotypes.columns_of(alternatives)
            self._require(next((name for name in names if name in self.columns), names[0]))
        found: list[Mask] = []
        for part, rows in zip(self.parts, self.members, strict=True):
            asked = phenotypes.conditions(
                cohort,
                part.phenotypes.columns,
                released_on=part.release.released_on,
                ontology=self.ontology,
            )
            found.append(part.phenotypes.meets(asked)[rows] if asked else np.ones(len(rows), np.bool_))
        for criterion in cohort.carriers:
            for i, mask in enumerate(carriers(self.parts, criterion)):
                found[i] &= mask[self.members[i]]
        return np.concatenate(found)

    def qualifying(self, number: int, *, consequences: Collection[str], rare_below: float) -> list[OwnVariant]:
        """The qualifying variants of one person of the view, by lasting number: see ``carriers.qualifying``."""
        place = int(np.flatnonzero(self.numbers_at_node == number)[0])
        at = next(i for i, there in enumerate(self.slices) if there.start <= place < there.stop)
        person = int(self.members[at][place - self.slices[at].start])
        return qualifying(self.parts, at, person, consequences=consequences, rare_below=rare_below)

    def where(self, keep: Mask) -> StudyView:
        """The same view restricted to some of its people; ``Invalid`` for a mask of the wrong length."""
        if keep.shape != (self.people,):
            raise Invalid("the mask does not have one entry a person of the view.")
        members = tuple(rows[keep[where]] for rows, where in zip(self.members, self.slices, strict=True))
        return StudyView(self.parts, members, ontology=self.ontology)

    def unrelated(self, kinship: float = SECOND_DEGREE) -> Mask:
        """A maximal set of people without relatives of this kinship or closer among them, deterministic.

        Greedy: people with fewest relatives in the view come first, then in order of the view.
        """
        pairs = self.parts[0].store.relatives([part.batch for part in self.parts], kinship=kinship)
        place = np.full(int(max(self.numbers_at_node.max(initial=0), pairs.max(initial=0))) + 1, -1, np.int64)
        place[self.numbers_at_node] = np.arange(self.people)
        inside = place[pairs]
        inside = inside[(inside >= 0).all(axis=1)]
        relatives: dict[int, list[int]] = {}
        for one, other in inside.tolist():
            relatives.setdefault(one, []).append(other)
            relatives.setdefault(other, []).append(one)
        keep = np.ones(self.people, np.bool_)
        keep[list(relatives)] = False
        for one in sorted(relatives, key=lambda person: (len(relatives[person]), person)):
            keep[one] = not keep[relatives[one]].any()
        return keep

    @cached_property
    def numbers_at_node(self) -> NDArray[np.int64]:
        """The people's lasting numbers at this node, shape (people,)."""
        return np.concatenate([p.people.numbers[rows] for p, rows in zip(self.parts, self.members, strict=True)])

    def digest(self, secret: bytes) -> str:
        """Keyed digest of the set of members (HMAC-SHA256 over their sorted numbers): equal sets, equal digests."""
        members = np.sort(self.numbers_at_node).astype("<i8").tobytes()
        return hmac.new(secret, members, hashlib.sha256).hexdigest()

    def bitmap(self) -> bytes:
        """Members as bits, number i in bit i % 8 of byte i // 8: what differencing audits compare."""
        bits = np.zeros(int(self.numbers_at_node.max(initial=0)) + 1, np.bool_)
        bits[self.numbers_at_node] = True
        return np.packbits(bits, bitorder="little").tobytes()

    def _require(self, name: str, *, computed: tuple[str, ...] = ()) -> None:
        if name not in computed and name not in self.columns:
            raise Invalid(
                f"no phenotype column is called {name[:60]!r}.",
                remedy=f"Columns here: {', '.join(sorted(self.columns)) or 'none'}.",
            )
