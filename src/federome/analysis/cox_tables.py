"""The tables of a finished Cox regression, from the state that it ended in."""

from __future__ import annotations

import numpy as np
from scipy import special

from federome.analysis.algorithm import Table
from federome.analysis.at_risk import Slots
from federome.analysis.regression import Floats, inverted, minus_log10_normal, unpacked
from federome.model.release import Count, Label, Rows, Statistic

EFFECTS = Rows(
    {
        "covariate": Label(),
        **dict.fromkeys(("beta", "se", "robust_se", "z", "minus_log10_p", "hazard_ratio", "low", "high"), Statistic()),
        "shift": Statistic(digits=3),
        "shift_in_se": Statistic(digits=3),
        "beta_recorded": Statistic(),
        "readings": Statistic(),
    },
    release_class="summary-statistics",
    key=("covariate",),
)
MODEL = Rows(
    {
        "people": Count(people=True),
        "events": Count(people=True),
        "incomplete": Count(people=True),
        "method": Label(),
        "intervals": Statistic(),
        "log_likelihood": Statistic(guard="events"),
        "null_log_likelihood": Statistic(guard="events"),
    },
    release_class="summary-statistics",
)
BASELINE = Rows(
    {
        "stratum": Label(),
        "after": Label(),
        "time": Label(),
        "at_risk": Count(people=True),
        "events": Count(people=True),
        "hazard": Statistic(guard="events"),
    },
    key=("stratum", "after"),
)


def effects(
    shared: Table, terms: tuple[str, ...], readings: Floats, *, robust: bool, shift: bool, confidence: float
) -> Table:
    """A row a covariate. ``readings`` (K,): in how many intervals its value is read anew."""
    size = len(terms)
    scale = np.ones(size)
    known = shared.floats("scale")[0]
    scale[: len(known)] = known
    inverse = inverted(unpacked(shared.floats("information"), size))[0]
    meat = unpacked(shared.floats("meat"), size)[0]
    beta = shared.floats("base")[0] / scale
    se = np.sqrt(np.diag(inverse)) / scale
    wide = np.sqrt(np.diag(inverse @ meat @ inverse)) / scale if robust else np.full(size, np.nan)
    used = wide if robust else se
    width = special.ndtri((1 + confidence) / 2) * used
    away = inverse @ shared.floats("shift")[0] / scale if shift else np.full(size, np.nan)
    return Table(
        {
            "covariate": np.array(terms, np.str_),
            "beta": beta,
            "se": se,
            "robust_se": wide,
            "z": beta / used,
            "minus_log10_p": minus_log10_normal(beta / used),
            "hazard_ratio": np.exp(beta),
            "low": np.exp(beta - width),
            "high": np.exp(beta + width),
            "shift": away,
            "shift_in_se": away / se,
            "beta_recorded": beta + away,
            "readings": readings,
        }
    )


def baseline(shared: Table, slots: Slots, labels: tuple[str, ...], *, efron: bool) -> Table:
    """Hazard of somebody with mean covariates: per interval (Efron's sum), per unit of time where exponential."""
    grid = slots.grid
    risk, tied = (shared.floats(name).reshape(slots.size, -1) for name in ("risk", "tied"))
    events = grid.count[slots.blocks, 0]
    hazard = np.zeros(slots.size)
    for slot, count in enumerate(events.tolist()):
        share = np.arange(count) / count if efron else np.zeros(count)
        hazard[slot] = (1 / (risk[slot, 0] - share * tied[slot, 0])).sum()
    at_risk = shared.ints("at_risk")[0]
    return Table(
        {
            "stratum": np.array(labels, np.str_)[slots.stratum],
            "after": np.maximum(grid.low[slots.blocks], 0.0),
            "time": grid.mean[slots.blocks],
            "at_risk": at_risk,
            "events": events,
            "hazard": hazard,
        },
        {"at_risk": at_risk < 1},
    )
