"""A million cases, one question, the best N exactly: an inverted index that stops early and is never wrong.

Cases stand in segments of at most 65,536, so a posting is two bytes; beside the postings each segment keeps every
case's own columns and total weight. A question is answered in three steps (MaxScore: Turtle & Flood 1995, on a score
that is not a sum):

1. a few cases of the question's rarest columns are scored in full: their N-th best is a first bar to beat;
2. common columns are set aside as long as a case that had *only* those could not reach the bar. Only the others are
   added up, one segment at a time;
3. a case whose sum, with all that was set aside, could still reach the bar is scored in full from its own columns,
   and the bar rises.

Every bound is on whole numbers, ties go to the earlier case, and masks (consent, permit) are applied before anything
is scored. `Index.add` leaves earlier segments as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.analysis.match_kernels import Heap, Segment, close, invert, scan, seed, some
from federome.analysis.matching import MAX_TERMS, Measure, Profile, formula
from federome.errors import Invalid
from federome.model.patient import Patient

SEGMENT: Final = 1 << 16
_SEEDS: Final = 256
_ALL: Final = np.ones(0, np.bool_)

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Found:
    """The best cases, best first: their numbers and phenotype scores; ``scored`` of them were scored in full."""

    numbers: Ints
    scores: NDArray[np.float64]
    scored: int


@dataclass(frozen=True, eq=False)
class Index:
    """All cases of one site under one measure. Cases are numbered in the order they came."""

    measure: Measure
    segments: tuple[Segment, ...]
    frequency: Ints

    @classmethod
    def empty(cls, measure: Measure) -> Index:
        """No cases yet."""
        return cls(measure, (), np.zeros(2 * measure.terms, np.int64))

    @property
    def cases(self) -> int:
        """How many cases."""
        return self.segments[-1].first + self.segments[-1].size if self.segments else 0

    @property
    def nbytes(self) -> int:
        """Bytes of all segments."""
        return sum(part.nbytes for segment in self.segments for part in segment[2:])

    def add(self, profiles: Sequence[Profile]) -> Index:
        """The index with these cases after the others. Only the last segment is made anew."""
        lengths = np.fromiter((len(p.columns) for p in profiles), np.int64, len(profiles))
        columns = np.concatenate([p.columns for p in profiles]) if profiles else np.zeros(0, np.uint16)
        return self.add_columns(columns.astype(np.uint16, copy=False), np.concatenate([[0], np.cumsum(lengths)]))

    def add_patients(self, patients: Iterable[Patient]) -> Index:
        """The same as `add`, for many at once: rows by dictionary, closures compiled."""
        measure, usable = self.measure, self.measure.usable
        rows: list[int] = []
        ends = [0]
        for patient in patients:
            found = {row for term in patient.observed if (row := usable.get(term)) is not None}
            rows += measure.profile(patient).rows if len(found) > MAX_TERMS else found
            ends.append(len(rows))
        ontology = measure.information.ontology
        columns, offsets = close(
            np.array(rows, np.int64), np.array(ends, np.int64), ontology.indptr, ontology.indices, measure.weights
        )
        return self.add_columns(columns, offsets)

    def add_columns(self, columns: NDArray[np.uint16], offsets: Ints) -> Index:
        """The same from arrays: case i has ``columns[offsets[i]:offsets[i + 1]]``, ascending."""
        segments = list(self.segments)
        first = self.cases
        if segments and segments[-1].size < SEGMENT:
            last = segments.pop()
            first = last.first
            columns = np.concatenate([last.columns, columns])
            offsets = np.concatenate([last.offsets.astype(np.int64), offsets[1:] + last.offsets[-1]])
        frequency = np.zeros_like(self.frequency)
        for segment in segments:
            frequency += np.diff(segment.starts)
        for start in range(0, len(offsets) - 1, SEGMENT):
            end = min(start + SEGMENT, len(offsets) - 1)
            own = offsets[start : end + 1] - offsets[start]
            made = _segment(first + start, columns[offsets[start] : offsets[end]], own, self.measure.weights)
            segments.append(made)
            frequency += np.diff(made.starts)
        return Index(self.measure, tuple(segments), frequency)

    def search(self, query: Profile, top: int, allowed: Mask | None = None) -> Found:
        """The ``top`` best allowed cases with a score above zero; equal scores in the order of their numbers.

        ``allowed`` has one entry a case. ``Invalid`` where its length is another, or ``top`` is not positive.
        """
        if top < 1 or (allowed is not None and len(allowed) != self.cases):
            raise Invalid("a search needs a positive number of results, and a mask with one entry a case.")
        columns = query.columns.astype(np.int64)
        often, worth = self.frequency[columns], self.measure.weights[columns]
        dear = columns[np.argsort(-often / np.maximum(worth, 1), kind="stable")]
        weights = self._weights(query)
        seeds = self._seeds(columns[np.argsort(often, kind="stable")])
        sums = np.zeros(max((s.size for s in self.segments), default=0), np.int32)
        heap = Heap(np.zeros(top), np.full(top, -1, np.int64), np.zeros(2, np.int64))
        parts = [(s, _ALL if allowed is None else allowed[s.first : s.first + s.size]) for s in self.segments]
        for segment, here in parts:
            seed(segment, seeds, weights, query.total, here, heap)
        for segment, here in parts:
            scan(segment, dear, weights, query.total, here, sums, heap)
        count = int(heap.state[0])
        best = np.lexsort((heap.numbers[:count], -heap.scores[:count]))
        return Found(heap.numbers[:count][best], heap.scores[:count][best], int(heap.state[1]))

    def _weights(self, query: Profile) -> Ints:
        weights = np.zeros(2 * self.measure.terms, np.int64)
        weights[query.columns] = self.measure.weights[query.columns]
        return weights

    def _seeds(self, order: Ints) -> Ints:
        """The rarest columns that some cases have, until they name ``_SEEDS`` cases."""
        present = order[self.frequency[order] > 0]
        reached = np.cumsum(self.frequency[present])
        return present[: int(np.searchsorted(reached, _SEEDS)) + 1] if len(present) else present

    def scores(self, query: Profile, numbers: Iterable[int]) -> NDArray[np.float64]:
        """Full scores of these cases."""
        wanted = np.fromiter(numbers, np.int64)
        found = np.zeros(len(wanted))
        weights = self._weights(query)
        for segment in self.segments:
            inside = (wanted >= segment.first) & (wanted < segment.first + segment.size)
            if inside.any():
                found[inside] = some(segment, wanted[inside] - segment.first, weights, query.total)
        return found

    def better_scores(self, query: Profile, numbers: Iterable[int]) -> NDArray[np.float64]:
        """The better score of the two directions with each of these cases: ``matching.better_score`` of many."""
        weights = self._weights(query)
        found = []
        for number in numbers:
            segment = self.segments[number // SEGMENT]
            at = number - segment.first
            columns = segment.columns[segment.offsets[at] : segment.offsets[at + 1]]
            shared, total = int(weights[columns].sum()), int(segment.totals[at])
            found.append(max(formula(shared, query.total, total), formula(shared, total, query.total)))
        return np.array(found)


def _segment(first: int, columns: NDArray[np.uint16], offsets: Ints, weights: Ints) -> Segment:
    totals = np.zeros(len(offsets) - 1, np.int64)
    starts = np.zeros(len(weights) + 1, np.int32)
    postings = np.zeros(len(columns), np.uint16)
    columns = np.ascontiguousarray(columns)
    invert(columns, offsets.astype(np.int64), weights, totals, starts, postings)
    return Segment(first, len(totals), starts, postings, offsets.astype(np.int32), columns, totals)
