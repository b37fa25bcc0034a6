"""The compiled part of the index of patients: whole numbers, flat arrays, no Python. ``match_index`` says what it does.

Columns are uint16, weights int64 by column (zero where a query lacks the column); a heap is two arrays whose first
entry is the worst kept so far, ``state`` counts its entries and the cases scored in full.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from federome.analysis.matching import EXTRA, LACKING

KEEP: Final = 100 - LACKING - EXTRA

Ints = NDArray[np.int64]
Columns = NDArray[np.uint16]


class Segment(NamedTuple):
    """Cases ``first`` to ``first + size``. ``postings`` by column (``starts``), ``columns`` by case (``offsets``)."""

    first: int
    size: int
    starts: NDArray[np.int32]
    postings: Columns
    offsets: NDArray[np.int32]
    columns: Columns
    totals: Ints


class Heap(NamedTuple):
    """The best so far: scores, case numbers, and (entries, cases scored in full)."""

    scores: NDArray[np.float64]
    numbers: Ints
    state: Ints


@numba.njit(nogil=True, cache=True)
def close(rows: Ints, ends: Ints, indptr: Ints, indices: NDArray[np.int32], weights: Ints) -> tuple[Columns, Ints]:
    """Ascending columns of every case from its rows: ancestors that weigh something, then exact terms."""
    terms = len(indptr) - 1
    stamp = np.full(terms, -1, np.int64)
    columns = np.empty(max(len(rows) * 16, 1024), np.uint16)
    offsets = np.zeros(len(ends), np.int64)
    used = 0
    for case in range(len(ends) - 1):
        own = np.sort(rows[ends[case] : ends[case + 1]])
        began = used
        for row in own:
            if used + len(own) + indptr[row + 1] - indptr[row] > len(columns):
                grown = np.empty(2 * len(columns) + terms, np.uint16)
                grown[:used] = columns[:used]
                columns = grown
            for at in range(indptr[row], indptr[row + 1]):
                above = indices[at]
                if stamp[above] != case and weights[above] > 0:
                    stamp[above] = case
                    columns[used] = above
                    used += 1
        columns[began:used] = np.sort(columns[began:used])
        for row in own:
            columns[used] = row + terms
            used += 1
        offsets[case + 1] = used
    return columns[:used].copy(), offsets


@numba.njit(nogil=True, cache=True)
def invert(
    columns: Columns, offsets: Ints, weights: Ints, totals: Ints, starts: NDArray[np.int32], postings: Columns
) -> None:
    """Fill totals, starts and postings of a segment from the columns of its cases."""
    for column in columns:
        starts[column + 1] += 1
    for column in range(len(starts) - 1):
        starts[column + 1] += starts[column]
    place = starts[:-1].copy()
    for case in range(len(offsets) - 1):
        total = 0
        for at in range(offsets[case], offsets[case + 1]):
            column = columns[at]
            postings[place[column]] = case
            place[column] += 1
            total += weights[column]
        totals[case] = total


@numba.njit(nogil=True, cache=True)
def full(segment: Segment, case: int, weights: Ints, query: int) -> float:
    """The score of one case, from its own columns."""
    shared = np.int64(0)
    for at in range(segment.offsets[case], segment.offsets[case + 1]):
        shared += weights[segment.columns[at]]
    if shared == 0:
        return 0.0
    return float((100 * shared) / (KEEP * shared + LACKING * query + EXTRA * segment.totals[case]))


@numba.njit(nogil=True, cache=True)
def some(segment: Segment, cases: Ints, weights: Ints, query: int) -> NDArray[np.float64]:
    """Scores of these cases."""
    found = np.zeros(len(cases))
    for i in range(len(cases)):
        found[i] = full(segment, cases[i], weights, query)
    return found


@numba.njit(nogil=True, cache=True)
def _worse(score: float, number: int, other: float, other_number: int) -> bool:
    return score < other or (score == other and number > other_number)


@numba.njit(nogil=True, cache=True)
def offer(score: float, number: int, heap: Heap) -> None:
    """Keep a case if it is among the best; a number is kept once."""
    scores, numbers, state = heap
    count = state[0]
    if score <= 0.0 or (count == len(scores) and _worse(score, number, scores[0], numbers[0])):
        return
    for i in range(count):
        if numbers[i] == number:
            return
    if count < len(scores):
        i = count
        state[0] += 1
        while i > 0 and _worse(score, number, scores[(i - 1) // 2], numbers[(i - 1) // 2]):
            scores[i], numbers[i] = scores[(i - 1) // 2], numbers[(i - 1) // 2]
            i = (i - 1) // 2
    else:
        i = 0
        while 2 * i + 1 < count:
            child = 2 * i + 1
            if child + 1 < count and _worse(scores[child + 1], numbers[child + 1], scores[child], numbers[child]):
                child += 1
            if not _worse(scores[child], numbers[child], score, number):
                break
            scores[i], numbers[i] = scores[child], numbers[child]
            i = child
    scores[i], numbers[i] = score, number


@numba.njit(nogil=True, cache=True)
def seed(segment: Segment, seeds: Ints, weights: Ints, query: int, allowed: NDArray[np.bool_], heap: Heap) -> None:
    """Step 1: score the cases that have one of these rare columns."""
    for column in seeds:
        for at in range(segment.starts[column], segment.starts[column + 1]):
            case = np.int64(segment.postings[at])
            if len(allowed) == 0 or allowed[case]:
                heap.state[1] += 1
                offer(full(segment, int(case), weights, query), segment.first + int(case), heap)


@numba.njit(nogil=True, cache=True)
def least(bar: float, query: int) -> float:
    """The least shared weight with which any case can reach the bar: its total is at least what it shares.

    A little less than computed, so that rounding never loses a case.
    """
    return bar * LACKING * query / (100.0 - (KEEP + EXTRA) * bar) - 1.0


@numba.njit(nogil=True, cache=True)
def scan(
    segment: Segment,
    dear: Ints,
    weights: Ints,
    query: int,
    allowed: NDArray[np.bool_],
    sums: NDArray[np.int32],
    heap: Heap,
) -> None:
    """Steps 2 and 3 for one segment. ``dear``: the query's columns, those with most postings for their weight first."""
    scores, totals = heap.scores, segment.totals
    bar = scores[0] if heap.state[0] == len(scores) else 0.0
    needed = least(bar, query)
    aside = np.int64(0)
    sums[: segment.size] = 0
    for column in dear:
        weight = weights[column]
        if aside + weight < needed:
            aside += weight
            continue
        added = np.int32(weight)
        for case in segment.postings[segment.starts[column] : segment.starts[column + 1]]:
            sums[case] += added
    floor = np.int32(max(1, math.ceil(needed) - int(aside)))
    for case in range(segment.size):
        if sums[case] < floor:
            continue
        could = min(sums[case] + aside, totals[case])
        own = bar * (LACKING * query + EXTRA * totals[case]) / (100.0 - KEEP * bar) - 1.0
        if could < own or not (len(allowed) == 0 or allowed[case]):
            continue
        heap.state[1] += 1
        offer(full(segment, case, weights, query), segment.first + case, heap)
        if heap.state[0] == len(scores) and scores[0] > bar:
            bar = scores[0]
            floor = np.int32(max(1, math.ceil(least(bar, query)) - int(aside)))
