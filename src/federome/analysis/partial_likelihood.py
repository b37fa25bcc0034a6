"""Cox's partial likelihood from sums over risk sets: sums at a node, likelihood and its derivatives at the releaser.

Time is a row of J slots, one for each time at which people have events (strata one after another). A person is at
risk over a stretch of slots, in one or several episodes between which covariates change; an event falls on the last
slot of an episode. Per slot a node adds Σ w, Σ w·x and Σ w·xx', w = exp(x'β), over those at risk and over those with
the event. With K covariates such a triple is packed into 1 + K + K(K+1)/2 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federome.analysis.logistic import Sums
from federome.analysis.regression import Floats, packed, unpacked
from federome.model.table import Mask

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Episodes:
    """Stretches at risk, in order of ``stop``: slots ``start`` … ``stop`` − 1 with covariates ``x`` (n, K).

    ``event``: the last slot is an event; ``person`` says whose episode it is. ``first`` (J,) is the first slot of
    each slot's stratum. Episodes without a slot (start = stop) tell nothing.
    """

    person: Ints
    start: Ints
    stop: Ints
    event: Mask
    x: Floats
    first: Ints

    @classmethod
    def ordered(cls, person: Ints, start: Ints, stop: Ints, event: Mask, x: Floats, first: Ints) -> Episodes:
        """Without empty episodes, sorted by their ends, events before others of the same end."""
        at = np.flatnonzero(stop > start)
        at = at[np.lexsort((~event[at], stop[at]))]
        return cls(person[at], start[at], stop[at], event[at], x[at], first)

    @property
    def slots(self) -> int:
        """Number of slots."""
        return len(self.first)

    def sums(self, effects: Floats) -> tuple[Floats, Floats, Floats]:
        """Packed sums at risk (J, P) and with the event (J, P), and Σ x of those with it (J, K), under ``effects``."""
        width = self.x.shape[1]
        size = 1 + width + width * (width + 1) // 2
        weight = np.exp(self.x @ effects)
        ended, tied = np.zeros((self.slots, size)), np.zeros((self.slots, size))
        observed = np.zeros((self.slots, width))
        edges = np.searchsorted(self.stop, np.arange(self.slots + 1), side="right")
        for slot in range(self.slots):
            last, end = int(edges[slot]), int(edges[slot + 1])
            middle = last + int(self.event[last:end].sum())
            tied[slot] = _triple(self.x[last:middle], weight[last:middle])
            ended[slot] = tied[slot] + _triple(self.x[middle:end], weight[middle:end])
            observed[slot] = self.x[last:middle].sum(axis=0)
        risk = self._later(ended)
        late = np.flatnonzero(self.start > self.first[self.start])
        if len(late):
            began = np.zeros((self.slots, size))
            for slot in np.unique(self.start[late]).tolist():
                here = late[self.start[late] == slot]
                began[slot - 1] = _triple(self.x[here], weight[here])
            risk = risk - self._later(began)
        return risk, tied, observed

    def _later(self, values: Floats) -> Floats:
        """Sums over this slot and all later ones of its stratum."""
        out = np.empty_like(values)
        for first in np.unique(self.first).tolist():
            here = np.flatnonzero(self.first == first)
            out[here] = np.cumsum(values[here][::-1], axis=0)[::-1]
        return out

    def residuals(self, effects: Floats, risk: Floats, tied: Floats, events: Ints, *, efron: bool) -> Floats:
        """Each episode's contribution to the score, (n, K), given the pooled packed sums (Lin and Wei 1989).

        Of tied events each takes its share of the risk sets that Efron's method averages over, as in R's survival.
        """
        width = self.x.shape[1]
        hazard = np.zeros((3, self.slots))  # Σ 1/S, Σ f/S over a slot's tied events; mean of their means
        drawn = np.zeros((3, self.slots, width))
        for slot, count in enumerate(events.tolist()):
            share = np.arange(count) / count if efron and count else np.zeros(count)
            denominator = risk[slot, 0] - share * tied[slot, 0]
            mean = (risk[slot, 1 : 1 + width] - share[:, None] * tied[slot, 1 : 1 + width]) / denominator[:, None]
            for line, weights in enumerate((1 / denominator, share / denominator, np.full(count, 1 / max(count, 1)))):
                hazard[line, slot] = weights.sum()
                drawn[line, slot] = weights @ mean
        total, means = np.cumsum(hazard[0]), np.cumsum(drawn[0], axis=0)
        before = self.start - 1
        passed = total[self.stop - 1] - np.where(before >= 0, total[before], 0.0)
        passed_means = means[self.stop - 1] - np.where((before >= 0)[:, None], means[before], 0.0)
        at = self.stop - 1
        passed = passed - np.where(self.event, hazard[1, at], 0.0)
        passed_means = passed_means - np.where(self.event[:, None], drawn[1, at], 0.0)
        weight = np.exp(self.x @ effects)[:, None]
        own = np.where(self.event[:, None], self.x - drawn[2, at], 0.0)
        return np.asarray(own - weight * (passed[:, None] * self.x - passed_means))

    def residuals_of_spent(self, spent: Floats, effects: Floats, risk: Floats, events: Ints) -> Floats:
        """The same (n, K) where hazards are constant within slots, of which each episode ``spent`` some time (n, J)."""
        mean = risk[:, 1 : 1 + self.x.shape[1]] / risk[:, :1]
        passed = spent * (events / risk[:, 0])
        own = np.where(self.event[:, None], self.x - mean[self.stop - 1], 0.0)
        weight = np.exp(self.x @ effects)[:, None]
        return np.asarray(own - weight * (passed.sum(axis=1)[:, None] * self.x - passed @ mean))

    def score(self, effects: Floats) -> Floats:
        """The score (K,) of these people alone, Efron's handling of ties; strata are those of ``first``."""
        width = self.x.shape[1]
        weight = np.exp(self.x @ effects)
        parts = np.column_stack([np.ones(len(weight)), self.x]) * weight[:, None]
        ended, began, tied = (np.zeros((self.slots, 1 + width)) for _ in range(3))
        late = self.start > self.first[self.start]
        for column in range(1 + width):
            ended[:, column] = np.bincount(self.stop - 1, parts[:, column], self.slots)
            began[:, column] = np.bincount(self.start[late] - 1, parts[late, column], self.slots)
            own = self.event
            tied[:, column] = np.bincount(self.stop[own] - 1, parts[own, column], self.slots)
        events = np.bincount(self.stop[self.event] - 1, minlength=self.slots)
        risk = self._later(ended) - self._later(began)
        slot = np.repeat(np.arange(self.slots), events)
        share = (np.arange(len(slot)) - np.repeat(np.cumsum(events) - events, events)) / events[slot]
        means = risk[slot] - share[:, None] * tied[slot]
        return np.asarray(self.x[self.event].sum(axis=0) - (means[:, 1:] / means[:, :1]).sum(axis=0))


def _triple(x: Floats, weight: Floats) -> Floats:
    weighted = x * weight[:, None]
    return np.concatenate([[weight.sum()], weighted.sum(axis=0), packed(weighted.T @ x)])


def exposures(episodes: Episodes, spent: Floats, effects: Floats) -> Floats:
    """Packed sums (J, P) with each episode weighted by the time ``spent`` (n, J) in each slot's interval."""
    weight = np.exp(episodes.x @ effects)
    return np.stack([_triple(episodes.x, weight * spent[:, slot]) for slot in range(episodes.slots)])


def likelihood(risk: Floats, tied: Floats, observed: Floats, events: Ints, effects: Floats, *, efron: bool) -> Sums:
    """Log likelihood (1,), score (1, K) and information (1, K, K) from pooled packed sums.

    ``events`` (J,) counts the events of each slot. Without ``efron`` ties are handled as Breslow (1974) does.
    """
    width = observed.shape[1]
    loglik, score = float(observed.sum(axis=0) @ effects), observed.sum(axis=0)
    information = np.zeros((width, width))
    for slot in np.flatnonzero(events).tolist():
        share = np.arange(events[slot]) / events[slot] if efron else np.zeros(events[slot])
        denominator = risk[slot, 0] - share * tied[slot, 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            loglik -= float(np.log(denominator).sum())
            one, shared = (1 / denominator).sum(), (share / denominator).sum()
            a, b, c = (float((share**power / denominator**2).sum()) for power in range(3))
        s, e = risk[slot, 1 : 1 + width], tied[slot, 1 : 1 + width]
        both = np.outer(s, e)
        score = score - (one * s - shared * e)
        information += unpacked(one * risk[slot, 1 + width :] - shared * tied[slot, 1 + width :], width)
        information -= a * np.outer(s, s) - b * (both + both.T) + c * np.outer(e, e)
    return Sums(np.array([loglik]), score[None], information[None])
