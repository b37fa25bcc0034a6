"""People followed from an entry to an end, as a survival regression reads them at one node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from federome.analysis.follow_up import Ints
from federome.analysis.partial_likelihood import Episodes
from federome.analysis.regression import Floats
from federome.model.table import Mask


@dataclass(frozen=True, eq=False)
class Followed:
    """Complete people at one node. Times (n,), ``x`` (n, K) in own units, ``switch`` (n, W) NaN where never."""

    entry: Floats
    exit: Floats
    event: Mask
    stratum: Ints
    cluster: Ints
    x: Floats
    switch: Floats
    members: Mask
    """Who they are, (people of the frozen view,)."""

    @property
    def incomplete(self) -> int:
        """How many others there are."""
        return int((~self.members).sum())

    def take(self, keep: Mask) -> Followed:
        """Some of the people."""
        return Followed(
            self.entry[keep],
            self.exit[keep],
            self.event[keep],
            self.stratum[keep],
            self.cluster[keep],
            self.x[keep],
            self.switch[keep],
            self.members,
        )

    def recorded(self, fixed: Floats, strata: int) -> Episodes:
        """A slot for each time at which somebody here has an event; covariates (n, K) as given. Never leaves."""
        times = [np.unique(self.exit[self.event & (self.stratum == s)]) for s in range(strata)]
        offset = np.cumsum([0, *(len(each) for each in times)])
        first = np.repeat(offset[:-1], [len(each) for each in times])
        cuts = np.sort(np.column_stack([self.entry, np.fmax(self.switch, self.entry[:, None])]), axis=1)
        parts = []
        for at in range(cuts.shape[1]):
            low = cuts[:, at]
            high = np.fmin(cuts[:, at + 1] if at + 1 < cuts.shape[1] else self.exit, self.exit)
            on = self.switch <= low[:, None]
            slots = np.zeros((2, len(low)), np.int64)
            for stratum, own in enumerate(times):
                here = self.stratum == stratum
                for line, values in enumerate((low, high)):
                    slots[line, here] = offset[stratum] + np.searchsorted(own, values[here], side="right")
            event = self.event & (high == self.exit) & np.isfinite(low)
            slots[1] = np.where(np.isfinite(low), slots[1], slots[0])
            parts.append((*slots, event, np.column_stack([fixed, on])))
        start, stop, event = (np.concatenate([part[i] for part in parts]) for i in range(3))
        x = np.concatenate([part[3] for part in parts]).astype(np.float64)
        return Episodes.ordered(np.tile(np.arange(len(self.exit)), cuts.shape[1]), start, stop, event, x, first)
