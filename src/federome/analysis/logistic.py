"""The logistic likelihood as sums over one node's people, many models at a time, and the Newton steps on their totals.

Axes: R models (variants) x n people x P effects. A site's own intercept never leaves: the node solves for it given
the effects it is asked about and contributes the profile likelihood, whose score and information (a Schur complement)
add up over nodes to those of the model with one indicator per site, because that model's information is an arrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from federome.analysis.regression import Floats

CONVERGED = 1e-20
"""Newton decrement at which one more step changes no digit: effects are within 1e-10 standard errors."""
LARGEST_STEP = 5.0
"""Keeps fits that run away within the bounds of what can be summed until they are stopped."""
_SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class Sums:
    """What one node adds to R models: ``loglik`` (R,), ``score`` (R, P), ``information`` (R, P, P)."""

    loglik: Floats
    score: Floats
    information: Floats

    def take(self, rows: NDArray[np.int64]) -> Sums:
        """Some of the models."""
        return Sums(self.loglik[rows], self.score[rows], self.information[rows])


@dataclass(frozen=True, eq=False)
class Fitted:
    """One model at one node: ``chance`` of each person to be a case, ``weight`` its variance, both (n,)."""

    chance: Floats
    weight: Floats
    centred: Floats
    """Covariates less their weighted site means (site intercepts), or as they are: (n, K)."""


def intercepts(linear: Floats, outcome: Floats) -> Floats:
    """Each model's most likely intercept (R,) given the rest of its linear predictor (R, n).

    Newton's method kept inside a bracket that certainly holds the root; ``outcome`` must hold both 0 and 1.
    """
    cases = outcome.sum()
    centre = float(special.logit(cases / len(outcome)))
    low, high = centre - linear.max(axis=1), centre - linear.min(axis=1)
    alpha: Floats = centre - linear.mean(axis=1)
    for _ in range(100):
        chance = special.expit(linear + alpha[:, None])
        rest = cases - chance.sum(axis=1)
        low, high = np.where(rest >= 0, alpha, low), np.where(rest <= 0, alpha, high)
        new = alpha + rest / np.maximum((chance * (1 - chance)).sum(axis=1), 1e-300)
        new = np.where((new < low) | (new > high), (low + high) / 2, new)
        moved = np.abs(new - alpha)
        alpha = new
        if np.all(moved <= 1e-9 * (1 + np.abs(alpha))):  # quadratic: what is left is of the order of its square
            break
    return alpha


def fit(covariates: Floats, outcome: Floats, effects: Floats, *, own_intercept: bool) -> Fitted:
    """One node's people under given ``effects`` (K,) of the covariates."""
    linear = covariates @ effects
    if own_intercept and len(outcome):
        linear = linear + intercepts(linear[None], outcome)
    chance = np.asarray(special.expit(linear))
    weight = chance * (1 - chance)
    if own_intercept and len(outcome):
        covariates = covariates - (weight @ covariates) / weight.sum()
    return Fitted(chance, weight, covariates)


def sums(design: Floats, outcome: Floats, effects: Floats, *, own_intercept: bool) -> Sums:
    """Profile log likelihood, score and information for ``design`` (R, n, P) at ``effects`` (R, P)."""
    linear = np.einsum("rnp,rp->rn", design, effects)
    if own_intercept and len(outcome):
        linear = linear + intercepts(linear, outcome)[:, None]
    chance = special.expit(linear)
    return Sums(
        loglik=_loglik(linear, outcome),
        score=np.einsum("rn,rnp->rp", outcome - chance, design),
        information=_information(design, chance * (1 - chance), own_intercept=own_intercept),
    )


def firth_sums(design: Floats, outcome: Floats, effects: Floats, inverse: Floats, *, own_intercept: bool) -> Sums:
    """As :func:`sums`, with the score of the likelihood penalised by Jeffreys' prior (Firth 1993).

    ``inverse`` (R, P, P) is the inverse of the pooled information of the round before; with it each person's hat value
    is h = w·(1/W + x̃'·inverse·x̃), x̃ the design less its weighted site mean, W the site's sum of weights. The node's
    intercept solves its own modified score equation, so at the fixed point of the iteration all equations hold.
    """
    projected = np.einsum("rnp,rpq->rnq", design, inverse)
    spread = np.einsum("rnp,rnp->rn", projected, design)
    linear = np.einsum("rnp,rp->rn", design, effects)
    alpha = intercepts(linear, outcome) if own_intercept and len(outcome) else np.zeros(len(effects))
    for _ in range(200):
        chance = special.expit(linear + alpha[:, None])
        weight = chance * (1 - chance)
        hat = spread
        if own_intercept:
            whole = np.maximum(weight.sum(axis=1), 1e-300)
            mean = np.einsum("rn,rnp->rp", weight, design) / whole[:, None]
            offset = 1 / whole + np.einsum("rp,rpq,rq->r", mean, inverse, mean)
            hat = spread - 2 * np.einsum("rnp,rp->rn", projected, mean) + offset[:, None]
        rest = outcome - chance + weight * hat * (0.5 - chance)
        if not own_intercept or not len(outcome):
            break
        step = np.clip(rest.sum(axis=1) / whole, -2, 2)
        alpha = alpha + step
        if np.all(np.abs(step) <= 1e-14 * (1 + np.abs(alpha))):
            break
    return Sums(
        loglik=_loglik(linear + alpha[:, None], outcome),
        score=np.einsum("rn,rnp->rp", rest, design),
        information=_information(design, weight, own_intercept=own_intercept),
    )


def _loglik(linear: Floats, outcome: Floats) -> Floats:
    return np.asarray(-np.logaddexp(0, np.where(outcome > 0, -linear, linear)).sum(axis=1))


def _information(design: Floats, weight: Floats, *, own_intercept: bool) -> Floats:
    weighted = np.swapaxes(design * weight[..., None], 1, 2)
    information = weighted @ design
    if own_intercept and weight.shape[1]:
        first = weighted.sum(axis=2)
        information -= first[:, :, None] * first[:, None, :] / np.maximum(weight.sum(axis=1), 1e-300)[:, None, None]
    return information


@dataclass(frozen=True, eq=False)
class Newton:
    """R maximisations under way: ``trial`` (R, P) is asked about next, ``base`` was accepted, with ``level`` (R,)."""

    trial: Floats
    base: Floats
    level: Floats

    def advance(self, total: Sums, inverse: Floats) -> tuple[Newton, Floats]:
        """The next trial, and the Newton decrement (R,): infinite where the trial was worse and is halved.

        ``total`` was evaluated at the trial; ``inverse`` (R, P, P) is that of its information. NaN: singular.
        """
        worse = total.loglik < self.level - _SLACK * (1 + np.abs(self.level))
        step = limited(np.einsum("rpq,rq->rp", inverse, total.score))
        decrement = np.where(worse, np.inf, np.einsum("rp,rp->r", step, total.score))
        on = worse[:, None]
        made = Newton(
            trial=np.where(on, (self.trial + self.base) / 2, self.trial + step),
            base=np.where(on, self.base, self.trial),
            level=np.where(worse, self.level, total.loglik),
        )
        return made, decrement


def limited(step: Floats) -> Floats:
    """Steps (R, P) shortened so that no effect moves further than a fit under way ever should."""
    size = np.abs(step).max(axis=1, initial=0.0)
    return np.asarray(step * np.minimum(1, LARGEST_STEP / np.maximum(size, 1e-300))[:, None])
