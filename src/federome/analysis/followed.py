"""People followed from an entry to an end, as a survival regression reads them at one node.

A value that changes is kept as a column with everybody's first value, ``NAME``, and two columns of lists of equal
length: later values, ``NAME_later``, and the times at which they were measured, ``NAME_later_at``, in the unit and
from the beginning of the time of the end. A value holds until the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from federome.analysis.algorithm import View
from federome.analysis.follow_up import Ints
from federome.analysis.partial_likelihood import Episodes
from federome.analysis.regression import Floats
from federome.errors import Invalid
from federome.model.table import Mask


def later(name: str) -> tuple[str, str]:
    """The columns of later values of a column, and of their times."""
    return f"{name}_later", f"{name}_later_at"


@dataclass(frozen=True, eq=False)
class Series:
    """A value that changes: ``times`` and ``values`` (n, M), in order of time, from −∞ on; +∞ where there are fewer."""

    times: Floats
    values: Floats

    @classmethod
    def read(cls, view: View, name: str) -> Series:
        """From a view; ``Invalid`` where lists do not fit together."""
        first = view.numbers(name)
        (person, value), (same, time) = (view.lists(column) for column in later(name))
        if not np.array_equal(person, same):
            raise Invalid(
                f"{later(name)[0]!r} and {later(name)[1]!r} have lists of different lengths.",
                where=name,
                remedy="Write a time for each later value.",
            )
        if np.isinf(time).any():
            raise Invalid(f"{later(name)[1]!r} holds infinite times.", where=name)
        known = np.isfinite(time) & np.isfinite(value)
        order = np.lexsort((time[known], person[known]))
        person, time, value = person[known][order], time[known][order], value[known][order]
        place = 1 + np.arange(len(person)) - np.searchsorted(person, person)
        shape = (view.people, 1 + int(place.max(initial=0)))
        times, values = np.full(shape, np.inf), np.full(shape, np.nan)
        times[:, 0], values[:, 0] = -np.inf, first
        times[person, place], values[person, place] = time, value
        return cls(times, values)

    def at(self, when: Floats) -> Floats:
        """The value that holds for each person at a time, (n,)."""
        place = (self.times <= when[:, None]).sum(axis=1) - 1
        return np.asarray(self.values[np.arange(len(when)), place])

    def mean(self, until: Floats) -> Floats:
        """Each person's mean over the values measured before the end, (n,): what the unit of all is found from."""
        return np.asarray(np.nanmean(np.where(self.times < until[:, None], self.values, np.nan), axis=1))

    def take(self, keep: Mask | Ints) -> Series:
        """Of some of the people."""
        return Series(self.times[keep], self.values[keep])


@dataclass(frozen=True, eq=False)
class Followed:
    """Complete people at one node. Times (n,), ``x`` (n, K) in own units, ``switch`` (n, W) NaN where never.

    ``series`` are the C values that change.
    """

    entry: Floats
    exit: Floats
    event: Mask
    stratum: Ints
    cluster: Ints
    x: Floats
    switch: Floats
    series: tuple[Series, ...]
    members: Mask
    """Who they are, (people of the frozen view,)."""

    @property
    def incomplete(self) -> int:
        """How many others there are."""
        return int((~self.members).sum())

    def take(self, keep: Mask | Ints) -> Followed:
        """Some of the people."""
        arrays = ("entry", "exit", "event", "stratum", "cluster", "x", "switch")
        chosen = {name: getattr(self, name)[keep] for name in arrays}
        return replace(self, **chosen, series=tuple(each.take(keep) for each in self.series))

    @property
    def typical(self) -> Floats:
        """Covariates and means of the values that change, (n, K + C)."""
        return np.column_stack([self.x, *(each.mean(self.exit) for each in self.series)])

    def standing(self, when: Floats) -> Floats:
        """The changing values that hold for each person at a time, (n, C)."""
        return np.column_stack([np.zeros((len(when), 0)), *(each.at(when) for each in self.series)])

    def recorded(self, mean: Floats, scale: Floats, strata: int) -> Episodes:
        """A slot for each time at which somebody here has an event; covariates in units as given. Never leaves."""
        times = [np.unique(self.exit[self.event & (self.stratum == s)]) for s in range(strata)]
        offset = np.cumsum([0, *(len(each) for each in times)])
        first = np.repeat(offset[:-1], [len(each) for each in times])
        began = np.where(self.entry > 0, self.entry, -np.inf)  # who was there from the start is at risk at 0, too
        switched = np.where(np.isnan(self.switch), np.inf, self.switch)
        cuts = np.column_stack([began, switched, *(each.times[:, 1:] for each in self.series)])
        cuts = np.sort(np.clip(cuts, began[:, None], self.exit[:, None]), axis=1)
        parts = []
        for at in range(cuts.shape[1]):
            low = cuts[:, at]
            high = cuts[:, at + 1] if at + 1 < cuts.shape[1] else self.exit
            slots = np.zeros((2, len(low)), np.int64)
            for stratum, own in enumerate(times):
                here = self.stratum == stratum
                for line, values in enumerate((low, high)):
                    slots[line, here] = offset[stratum] + np.searchsorted(own, values[here], side="right")
            event = self.event & (high == self.exit) & (low < high)
            changing = self.standing(np.maximum(low, self.entry))
            parts.append((*slots, event, self.design(self.switch <= low[:, None], changing, mean, scale)))
        start, stop, event = (np.concatenate([part[i] for part in parts]) for i in range(3))
        x = np.concatenate([part[3] for part in parts])
        return Episodes.ordered(np.tile(np.arange(len(self.exit)), cuts.shape[1]), start, stop, event, x, first)

    def design(self, on: Mask, changing: Floats, mean: Floats, scale: Floats) -> Floats:
        """Columns of the model, (n, K + C + W): covariates, values that change, treatments that have begun.

        The first two from everybody's ``mean``, in units of everybody's spread.
        """
        known = (np.column_stack([self.x, changing]) - mean) / scale
        return np.column_stack([known, on]).astype(np.float64)
