"""Saddle-point p values of score tests, for outcomes so unbalanced that the normal approximation fails.

The score of a variant is a weighted sum of independent 0/1 outcomes, whose cumulant generating function is a sum over
people (Dey et al. 2017; Zhou et al. 2018). Nodes evaluate their part of it at given points, the releaser searches the
saddle points on the totals. Axes: R variants x n people; tails are the two outcomes as extreme as the observed score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from federome.analysis.regression import LN10, Floats
from federome.model.table import Mask

_FARTHEST = 1_000.0
_FOUND = 1e-20
"""Squared distance from the saddle point, in units of its curvature, below which the search ends."""


def cumulants(adjusted: Floats, chance: Floats, points: Floats) -> Floats:
    """K, K′ and K″ of Σ g̃ᵢ·(Yᵢ − pᵢ) at ``points`` (R, 2): shape (R, 2, 3).

    ``adjusted`` (R, n) are the variants' residuals given covariates, ``chance`` (n,) each person's pᵢ.
    """
    mean = adjusted @ chance
    odds = chance / (1 - chance)
    start = np.log1p(-chance).sum()
    out = np.empty((*points.shape, 3))
    for tail in range(points.shape[1]):
        point = points[:, tail]
        raised = np.exp(np.clip(adjusted * point[:, None], -700, 700))
        raised *= odds
        total = raised + 1
        np.divide(raised, total, out=raised)  # the tilted chances
        out[:, tail, 0] = np.log(total, out=total).sum(axis=1) + start - point * mean
        raised *= adjusted
        out[:, tail, 1] = raised.sum(axis=1) - mean
        # g̃²·q·(1 − q) = (g̃·q)·(g̃ − g̃·q)
        out[:, tail, 2] = np.einsum("rn,rn->r", raised, adjusted - raised)
    return out


def support(adjusted: Floats, chance: Floats) -> Floats:
    """The largest score possible and the negative of the smallest, shape (R, 2)."""
    mean = adjusted @ chance
    above = np.maximum(adjusted, 0).sum(axis=1)
    return np.column_stack([above - mean, above - adjusted.sum(axis=1) + mean])


@dataclass(frozen=True, eq=False)
class Search:
    """R pairs of saddle points being searched: each ``point`` (R, 2) lies between ``low`` and ``high``.

    ``score`` (R,) is the size of the observed score; the tails begin at plus and at minus that.
    """

    score: Floats
    point: Floats
    low: Floats
    high: Floats

    @classmethod
    def start(cls, score: Floats, variance: Floats) -> Search:
        """From where the saddle points would be if the score were normal."""
        size = np.abs(score)
        first = size / variance
        far, none = np.full(len(size), np.inf), np.zeros(len(size))
        return cls(
            size,
            np.column_stack([first, -first]),
            np.column_stack([none, -far]),
            np.column_stack([far, none]),
        )

    def possible(self, support: Floats) -> Mask:
        """Which tails can be reached at all, (R, 2)."""
        return self.score[:, None] < support * (1 - 1e-9)

    def advance(self, values: Floats, support: Floats) -> tuple[Search, Mask]:
        """The next points from totals of :func:`cumulants` at the current ones, and which rows are found, (R,).

        Newton's method on K′(t) = score; a step that leaves the bracket is replaced by a bisection, and no step goes
        further than four times as far out.
        """
        slope, curve = values[..., 1], np.maximum(values[..., 2], 1e-300)
        rest = slope - np.column_stack([self.score, -self.score])
        low, high = np.where(rest <= 0, self.point, self.low), np.where(rest >= 0, self.point, self.high)
        new = self.point - rest / curve
        new = np.clip(new, self.point - 3 * np.abs(self.point), self.point + 3 * np.abs(self.point))
        middle = np.where(np.isfinite(low) & np.isfinite(high), (low + high) / 2, new)
        new = np.clip(np.where((new < low) | (new > high), middle, new), -_FARTHEST, _FARTHEST)
        there = (rest**2 <= _FOUND * curve) | ~self.possible(support)
        found = there.all(axis=1)
        return Search(self.score, np.where(there, self.point, new), low, high), np.asarray(found, np.bool_)

    def minus_log10_p(self, values: Floats, support: Floats) -> Floats:
        """Two-sided p values at the saddle points (Barndorff-Nielsen's r*), NaN where the formula does not hold."""
        signed = np.column_stack([self.score, -self.score])
        exponent = 2 * (self.point * signed - values[..., 0])
        with np.errstate(invalid="ignore", divide="ignore"):
            w = np.sign(self.point) * np.sqrt(exponent)
            v = self.point * np.sqrt(values[..., 2])
            star = w + np.log(v / w) / w
            tails = special.log_ndtr(np.column_stack([-star[:, 0], star[:, 1]]))
            tails = np.where(self.possible(support), tails, -np.inf)
            p = np.logaddexp(tails[:, 0], tails[:, 1])
        return np.where(np.isfinite(p), np.maximum(-p / LN10, 0), np.nan)
