"""Two groups compared: pairs of alike people, the hazard ratio from sums over risk sets, and what could explain it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from federome.analysis.regression import Floats
from federome.errors import Invalid
from federome.model.table import Mask

STEPS = 40
RUNAWAY = 12.0


def pairs(chance: Floats, treated: Mask, caliper: float) -> NDArray[np.int64]:
    """Each person's pair, −1 for those left over: one treated and one other, alike in their chance of treatment.

    Treated people choose in turn, the likeliest to be treated first, the nearest other on the logit that nobody chose
    yet, if within ``caliper`` standard deviations of the logit of all (Austin 2011). Of two as near the lower is taken.
    """
    out = np.full(len(chance), -1, np.int64)
    logit = special.logit(np.clip(chance, 1e-12, 1 - 1e-12))
    others = np.flatnonzero(~treated)
    others = others[np.argsort(logit[others], kind="stable")]
    if not len(others) or not treated.any():
        return out
    place = logit[others]
    above, below = list(range(len(others) + 1)), list(range(len(others) + 1))  # the next free at, or before, a place
    reach = caliper * float(logit.std())
    for number, person in enumerate(np.flatnonzero(treated)[np.argsort(-logit[treated], kind="stable")].tolist()):
        start = int(np.searchsorted(place, logit[person]))
        high, low = _free(above, start), _free(below, start) - 1
        gaps = [
            logit[person] - place[low] if low >= 0 else np.inf,
            place[high] - logit[person] if high < len(place) else np.inf,
        ]
        if min(gaps) > reach:
            continue
        chosen = low if gaps[0] <= gaps[1] else high
        above[chosen], below[chosen + 1] = chosen + 1, chosen
        out[[person, others[chosen]]] = number
    return out


def _free(towards: list[int], at: int) -> int:
    """Where the chain from ``at`` ends; chains are shortened on the way."""
    while towards[at] != at:
        towards[at] = towards[towards[at]]
        at = towards[at]
    return at


def means(at_risk: Floats, treated: Floats, beta: float) -> tuple[Floats, Floats]:
    """Mean of the covariate over each risk set, and the risk set's weighted size."""
    total = at_risk - treated + treated * np.exp(beta)
    return np.divide(treated * np.exp(beta), total, out=np.zeros_like(total), where=total > 0), total


def solve(at_risk: Floats, treated: Floats, ended: Floats, ended_treated: Floats) -> tuple[float, float]:
    """Log hazard ratio and information of a regression on one 0/1 covariate (ties by Breslow's method)."""
    beta = 0.0
    for _ in range(STEPS):
        mean, _ = means(at_risk, treated, beta)
        score, information = float(ended_treated.sum() - ended @ mean), float(ended @ (mean * (1 - mean)))
        if information <= 0 or abs(beta) > RUNAWAY:
            break
        step = float(np.clip(score / information, -1.0, 1.0))
        beta += step
        if abs(step) < 1e-12:
            return beta, information
    raise Invalid(
        "one of the groups has no events to compare.",
        where="treatment",
        remedy="Widen the cohort, or follow it longer.",
    )


def risk_ratio(hazard_ratio: float) -> float:
    """A hazard ratio of a common outcome as a risk ratio (VanderWeele and Ding 2017, for outcomes over 15 %)."""
    return float((1 - 0.5 ** np.sqrt(hazard_ratio)) / (1 - 0.5 ** np.sqrt(1 / hazard_ratio)))


def e_value(ratio: float) -> float:
    """How strongly, as a risk ratio, an unmeasured confounder must go with both to explain ``ratio``."""
    away = max(ratio, 1 / ratio)
    return float(away + np.sqrt(away * (away - 1)))
