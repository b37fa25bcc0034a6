"""Probabilistic analysis: draws of the parameters, how likely each strategy is best, and what knowing more is worth.

All functions take costs and effects as draws x strategies, so that they serve results from elsewhere as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from federome.economics.distribution import stream
from federome.economics.model import Model
from federome.errors import Invalid

Array = NDArray[np.float64]
MAX_DRAWS = 1_000_000
_KNOTS = 8


def draw(model: Model, draws: int, *, seed: int) -> dict[str, Array]:
    """Values of all uncertain parameters, each (draws,). The same seed gives the same values on every machine.

    Correlated parameters are joined by a Gaussian copula: the declared correlation is that of their normal scores.
    """
    if not 1 <= draws <= MAX_DRAWS:
        raise Invalid(f"from 1 to {MAX_DRAWS:,} draws can be made.", where=model.file)
    found: dict[str, Array] = {}
    scores = _correlated(model, draws, seed)
    for name in model.uncertain():
        parameter = model.parameters[name]
        assert parameter.distribution is not None
        if name in scores:
            found[name] = parameter.distribution.quantile(special.ndtr(scores[name]))
        else:
            found[name] = parameter.distribution.draw(stream(seed, name), draws)
    for names, counts in model.groups:
        parts = np.stack(
            [stream(seed, name).gamma(count, size=draws) for name, count in zip(names, counts, strict=True)]
        )
        found |= dict(zip(names, parts / parts.sum(axis=0), strict=True))
    return found


def _correlated(model: Model, draws: int, seed: int) -> dict[str, Array]:
    names = sorted({each for one, two, _ in model.correlations for each in (one, two)})
    if not names:
        return {}
    matrix = np.eye(len(names))
    for one, two, value in model.correlations:
        at = names.index(one), names.index(two)
        matrix[at] = matrix[at[::-1]] = value
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise Invalid(
            "the correlations contradict each other: no joint law has them.", where=f"{model.file}, correlations"
        ) from None
    independent = np.stack([stream(seed, name).standard_normal(draws) for name in names])
    return dict(zip(names, factor @ independent, strict=True))


@dataclass(frozen=True)
class Acceptability:
    """By willingness to pay (rows) and strategy (columns): ``likely`` to be best, ``loss`` expected when chosen.

    ``best`` is the strategy with the highest mean net benefit (its column); its ``likely`` traces the acceptability
    frontier and its ``loss`` is ``evpi``, the value of perfect information per person.
    """

    thresholds: Array
    likely: Array
    loss: Array
    best: NDArray[np.int64]
    evpi: Array


def acceptability(costs: Array, effects: Array, thresholds: Sequence[float]) -> Acceptability:
    """CEAC, CEAF, expected loss and EVPI from a probabilistic analysis (Fenwick et al. 2001; Alarid-Escudero 2019)."""
    _check(costs, effects)
    likely, loss, best = [], [], []
    for threshold in thresholds:
        net = threshold * effects - costs
        top = net.max(axis=1)
        likely.append(np.bincount(net.argmax(axis=1), minlength=net.shape[1]) / len(net))
        loss.append((top[:, None] - net).mean(axis=0))
        best.append(int(net.mean(axis=0).argmax()))
    chosen = np.array(best, np.int64)
    losses = np.array(loss)
    return Acceptability(
        np.asarray(thresholds, np.float64), np.array(likely), losses, chosen, losses[np.arange(len(chosen)), chosen]
    )


def evppi(costs: Array, effects: Array, threshold: float, *parameters: Array) -> float:
    """What perfect knowledge of some parameters is worth per person, by regression of net benefit on them.

    One cubic spline per parameter on quantile knots, and products of pairs (Strong, Oakley, Brennan 2014 use the same
    idea with other smoothers). Each parameter is (draws,); a few at once at most.
    """
    _check(costs, effects)
    if not 1 <= len(parameters) <= 5:
        raise Invalid("the value of knowing is worked out for one to five parameters at once.")
    net = threshold * effects - costs
    basis = np.concatenate([*(_spline(each) for each in parameters), *_products(parameters)], axis=1)
    centre = net.mean(axis=0)
    known, *_ = np.linalg.lstsq(basis.T @ basis, basis.T @ (net - centre), rcond=1e-12)
    expected = basis @ known + centre
    return float(max(0.0, expected.max(axis=1).mean() - expected.mean(axis=0).max()))


def _spline(values: Array) -> Array:
    """Cubic B-splines on quantile knots, draws x (knots + 3)."""
    spread = values.std()
    if spread == 0:
        return np.ones((len(values), 1))
    inner = np.unique(np.quantile(values, np.linspace(0, 1, _KNOTS)))
    knots = np.concatenate([[inner[0]] * 3, inner, [inner[-1]] * 3])
    from scipy import interpolate  # a quarter of a second to load, and most processes never come here

    return np.asarray(interpolate.BSpline.design_matrix(values, knots, 3).toarray(), np.float64)


def _products(parameters: Sequence[Array]) -> list[Array]:
    scaled = [(each - each.mean()) / (each.std() or 1.0) for each in parameters]
    return [(one * two)[:, None] for at, one in enumerate(scaled) for two in scaled[at + 1 :]]


def _check(costs: Array, effects: Array) -> None:
    if costs.shape != effects.shape or costs.ndim != 2 or not costs.size:
        raise Invalid("costs and effects are tables of draws and strategies, of the same shape.")
    if not (np.isfinite(costs).all() and np.isfinite(effects).all()):
        raise Invalid("costs and effects must be finite.")
