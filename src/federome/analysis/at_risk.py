"""People on a grid of times: in which slots each is at risk, and with which covariates.

A slot stands for the interval of a block of events (see ``follow_up``). In each of them a value that changes is the
one that was known when the interval began: nothing is known before it was measured. Two risk sets differ by the people
whose value changed in between, too, and must not by a few: therefore values are read anew at those slots only between
any two of which enough people of all nodes together have another value (``changes``, ``renewals``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from federome.analysis.follow_up import Grid, Ints, Marks
from federome.analysis.followed import Followed
from federome.analysis.partial_likelihood import Episodes
from federome.analysis.regression import Floats
from federome.model.table import Mask

READINGS = 64
"""Most slots of a stratum at which values may be read anew."""


@dataclass(frozen=True, eq=False)
class Slots:
    """The blocks of events, stratum by stratum, of a grid whose first trees are those of the events.

    ``edges``: times stand at the ends of their blocks, so that nobody ends before they begin; else at their means.
    """

    grid: Grid
    strata: int
    edges: bool

    @cached_property
    def blocks(self) -> Ints:
        """Their numbers in the grid."""
        return self.grid.of(*range(self.strata))

    @cached_property
    def stratum(self) -> Ints:
        """Each slot's stratum."""
        return self.grid.tree[self.blocks]

    @cached_property
    def first(self) -> Ints:
        """The first slot of each slot's stratum."""
        return np.searchsorted(self.stratum, self.stratum)

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.blocks)

    @cached_property
    def number(self) -> Ints:
        """The slot of each block of the grid, 0 for those that are none."""
        out = np.zeros(len(self.grid.tree), np.int64)
        out[self.blocks] = np.arange(self.size)
        return out

    def before(self) -> tuple[Ints, Ints]:
        """For each block: slots up to its ends, and up to its beginnings: where who ends, or begins, in it stands."""
        grid = self.grid
        upper, lower = np.zeros(len(grid.tree), np.int64), np.zeros(len(grid.tree), np.int64)
        stands = grid.high if self.edges else grid.mean
        for stratum in range(self.strata):
            own = np.flatnonzero(self.stratum == stratum)
            offset = own[0] if len(own) else 0
            times = stands[self.blocks[own]]
            here = np.flatnonzero(grid.tree % self.strata == stratum)
            upper[here] = offset + np.searchsorted(times, stands[here], side="right")
            lower[here] = offset + np.searchsorted(times, grid.low[here], side="right")
        return upper, lower

    def containing(self, stratum: Ints, times: Floats) -> Ints:
        """The slot of each person's stratum in whose interval a time lies."""
        out = np.zeros(len(times), np.int64)
        for each in range(self.strata):
            own, here = np.flatnonzero(self.stratum == each), stratum == each
            if len(own):
                highs = self.grid.high[self.blocks[own]]
                out[here] = own[0] + np.searchsorted(highs, times[here], side="left")
        return out

    def readings(self) -> Iterator[Ints]:
        """Of each stratum the slots at which values may be read, its first one always."""
        for stratum in range(self.strata):
            own = np.flatnonzero(self.stratum == stratum)
            if len(own):
                yield own[:: -(-len(own) // READINGS)]

    def pairs(self, series: int) -> int:
        """How many numbers ``changes`` tells of so many values."""
        return series * sum(len(own) * (len(own) - 1) // 2 for own in self.readings())

    def renewals(self, enough: Mask, series: int) -> Mask:
        """At which slots each value is read anew, (C, J): greedily, where it is enough against all readings before.

        ``enough`` says so for each number of ``changes``.
        """
        out = np.zeros((series, self.size), np.bool_)
        at = 0
        for line in range(series):
            for own in self.readings():
                kept = [0]
                for later in range(1, len(own)):
                    if enough[at : at + later][kept].all():
                        kept.append(later)
                    at += later
                out[line, own[kept]] = True
        return out


@dataclass(frozen=True, eq=False)
class AtRisk:
    """Slots from ``start`` to before ``stop`` of each person, (n,), and from which on treatments have begun, (n, W)."""

    people: Followed
    slots: Slots
    start: Ints
    stop: Ints
    begins: Ints

    @classmethod
    def of(cls, people: Followed, marks: Marks, slots: Slots, kinds: Ints, *, whole: bool) -> AtRisk:
        """Where people stand. ``marks`` are the people's ends, in their order, then those of ``kinds``: −1 of entries,
        w of treatment w. ``whole``: everybody is there up to the end of their last interval, for times spent in it.
        """
        block = slots.grid.place(marks)
        upper, lower = slots.before()
        count = len(people.exit)
        start = np.searchsorted(slots.stratum, people.stratum)
        stop = np.where(people.event, slots.number[block[:count]] + 1, upper[block[:count]])
        begins = np.repeat(np.full(count, slots.size)[:, None], people.switch.shape[1], axis=1)
        for kind in np.unique(kinds).tolist():
            here = np.flatnonzero(kinds == kind)
            who, where = marks.person[count + here], lower[block[count + here]]
            if kind < 0:
                start[who] = where
            else:
                begins[who, kind] = where
        if whole:
            start = slots.containing(people.stratum, people.entry)
            stop = 1 + slots.containing(people.stratum, people.exit)
        return cls(people, slots, start, stop, np.maximum(begins, start[:, None]))

    def changes(self) -> Ints:
        """How many people have another value at a later reading than at an earlier one, pair by pair.

        By value, by stratum, by the later of both slots.
        """
        told = []
        for series in self.people.series:
            for own in self.slots.readings():
                mine = np.flatnonzero(self.people.stratum == self.slots.stratum[own[0]])
                some, start, stop = series.take(mine), self.start[mine], self.stop[mine]
                seen = np.column_stack([some.at(self._known_at(slot, mine)) for slot in own.tolist()])
                for later in range(1, len(own)):
                    there = np.flatnonzero((start < own[later]) & (stop > own[later]))
                    other = seen[there, :later] != seen[there, later : later + 1]
                    told.append((other & (start[there, None] <= own[:later])).sum(axis=0))
        return np.concatenate([np.zeros(0, np.int64), *told]).astype(np.int64)

    def _known_at(self, slot: int, who: Ints) -> Floats:
        """The time whose values people have in a slot: the beginning of its interval, or their own, (n,)."""
        return np.asarray(np.maximum(self.slots.grid.low[self.slots.blocks[slot]], self.people.entry[who]))

    def values(self, renewed: Mask) -> Floats:
        """The changing values of each person in each slot of their own stratum, in its order, (n, longest, C)."""
        count, longest = len(self.start), int(np.bincount(self.slots.stratum).max(initial=0))
        out = np.zeros((count, longest, len(self.people.series)))
        for line, series in enumerate(self.people.series):
            for stratum in range(self.slots.strata):
                mine = np.flatnonzero(self.people.stratum == stratum)
                some, held = series.take(mine), np.zeros(len(mine))
                for at, slot in enumerate(np.flatnonzero(self.slots.stratum == stratum).tolist()):
                    fresh = (self.start[mine] == slot) | renewed[line, slot]
                    held = np.where(fresh, some.at(self._known_at(slot, mine)), held)
                    out[mine, at, line] = held
        return out

    def episodes(self, renewed: Mask, mean: Floats, scale: Floats) -> Episodes:
        """Stretches of slots at risk, cut where a treatment begins or a value changes."""
        values = self.values(renewed)
        base = np.searchsorted(self.slots.stratum, self.people.stratum)
        moved = np.flatnonzero((values[:, 1:] != values[:, :-1]).any(axis=(0, 2))) + 1
        cuts = [self.start[:, None], self.begins]
        if len(moved):
            other = (values[:, moved] != values[:, moved - 1]).any(axis=2)
            cuts.append(np.where(other, base[:, None] + moved, self.slots.size))
        edges = np.sort(np.clip(np.hstack(cuts), self.start[:, None], self.stop[:, None]), axis=1)
        edges = np.column_stack([edges, self.stop])
        parts = []
        for at in range(edges.shape[1] - 1):
            who = np.flatnonzero(edges[:, at] < edges[:, at + 1])
            start, stop = edges[who, at], edges[who, at + 1]
            some = self.people.take(who)
            x = some.design(self.begins[who] <= start[:, None], values[who, start - base[who]], mean, scale)
            parts.append((who, start, stop, some.event & (stop == self.stop[who]), x))
        person, start, stop, event, x = (np.concatenate([part[i] for part in parts]) for i in range(5))
        return Episodes.ordered(person, start, stop, event, x, self.slots.first)

    def spent(self, episodes: Episodes) -> Floats:
        """Time that each episode spends in each slot's interval, (n, J)."""
        grid, slots = self.slots.grid, self.slots
        low, high = np.maximum(grid.low[slots.blocks], 0), grid.high[slots.blocks]
        number = np.arange(slots.size)
        own = (episodes.start[:, None] <= number) & (number < episodes.stop[:, None])
        began, ended = self.people.entry[episodes.person][:, None], self.people.exit[episodes.person][:, None]
        return np.where(own, np.clip(np.minimum(ended, high) - np.maximum(began, low), 0, None), 0.0)
