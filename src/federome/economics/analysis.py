"""One evaluation from end to end: base case, comparison, uncertainty, what knowing more is worth; as one value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from federome.economics.evaluate import totals, trace
from federome.economics.incremental import Compared, best_at, compare_table
from federome.economics.model import Cohort, Model
from federome.economics.sensitivity import Bar, scenarios, tornado
from federome.economics.uncertainty import Acceptability, acceptability, draw, evppi
from federome.errors import Invalid

Array = NDArray[np.float64]
STEPS = 41
Json = str | int | float | bool | None | Sequence["Json"] | dict[str, "Json"]


@dataclass(frozen=True)
class Probabilistic:
    """Costs and effects of all draws (draws x strategies), and what follows from them. ``knowing`` is by parameter."""

    draws: int
    seed: int
    costs: Array
    effects: Array
    means: tuple[Compared, ...]
    acceptability: Acceptability
    knowing: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Evaluation:
    """All results of one model, at one willingness to pay (``threshold``, per unit of effect).

    ``bars`` are of the ``best`` strategy ``against`` another one.
    """

    model: Model
    threshold: float
    table: dict[str, dict[str, float]]
    compared: tuple[Compared, ...]
    best: str
    against: str
    bars: tuple[Bar, ...]
    scenarios: dict[str, tuple[Compared, ...]]
    probabilistic: Probabilistic | None

    def document(self) -> dict[str, Json]:
        """Everything as plain values, for ``--json``."""
        model = self.model
        return {
            "model": model.id,
            "title": model.title,
            "country": model.country or None,
            "currency": model.currency,
            "price_year": model.price_year,
            "effect": model.effect.unit,
            "threshold": self.threshold,
            "best": self.best,
            "outcomes": {name: dict(row) for name, row in self.table.items()},
            "comparison": [asdict(each) for each in self.compared],
            "tornado": [asdict(bar) for bar in self.bars],
            "tornado_against": self.against,
            "scenarios": {name: [asdict(each) for each in found] for name, found in self.scenarios.items()},
            "probabilistic": None if self.probabilistic is None else _told(self.probabilistic, model),
            "inputs": [
                {
                    "name": each.name,
                    "says": each.says,
                    "value": each.value,
                    "distribution": None if each.distribution is None else str(each.distribution),
                    "source": model.sources[each.source],
                    "verified": each.verified,
                    "provenance": each.provenance or None,
                }
                for each in model.parameters.values()
                if each.value is not None
            ],
        }


def evaluate_model(model: Model, *, threshold: float, draws: int = 0, seed: int = 1) -> Evaluation:
    """Run a model: base case always, draws if any. ``Invalid`` for a threshold that is no amount."""
    if not math.isfinite(threshold) or threshold < 0:
        raise Invalid("a willingness to pay is an amount from 0.", where="threshold")
    table = totals(model).table()
    compared = compare_table(table, model.cost.name, model.effect.name)
    best = best_at(compared, threshold)
    other = next((each.strategy for each in compared if each.strategy != best), "")
    return Evaluation(
        model=model,
        threshold=threshold,
        table=table,
        compared=compared,
        best=best,
        against=other,
        bars=tornado(model, best, other, threshold=threshold) if other else (),
        scenarios=scenarios(model) if model.scenarios else {},
        probabilistic=_probabilistic(model, threshold, draws, seed) if draws else None,
    )


def _probabilistic(model: Model, threshold: float, draws: int, seed: int) -> Probabilistic:
    drawn = draw(model, draws, seed=seed)
    found = totals(model, drawn)
    costs, effects = found.of(model.cost.name), found.of(model.effect.name)
    top = 2 * threshold if threshold else 1.0
    grid = sorted({*np.linspace(0, top, STEPS).tolist(), threshold})
    knowing = {}
    if draws >= 500:  # fewer draws than this cannot carry a regression on splines
        knowing = {name: evppi(costs, effects, threshold, values) for name, values in drawn.items()}
    return Probabilistic(
        draws=draws,
        seed=seed,
        costs=costs,
        effects=effects,
        means=compare_table(found.table(), model.cost.name, model.effect.name),
        acceptability=acceptability(costs, effects, grid),
        knowing=tuple(sorted(knowing.items(), key=lambda each: -each[1])),
    )


def _told(found: Probabilistic, model: Model) -> dict[str, Json]:
    names = [each.name for each in model.strategies]
    curves = found.acceptability
    return {
        "draws": found.draws,
        "seed": found.seed,
        "comparison": [asdict(each) for each in found.means],
        "acceptability": [
            {
                "threshold": float(curves.thresholds[at]),
                "likely": dict(zip(names, curves.likely[at].tolist(), strict=True)),
                "expected_loss": dict(zip(names, curves.loss[at].tolist(), strict=True)),
                "best": names[int(curves.best[at])],
                "evpi": float(curves.evpi[at]),
            }
            for at in range(len(curves.thresholds))
        ],
        "value_of_knowing": dict(found.knowing),
    }


def traces(model: Model) -> dict[str, tuple[tuple[str, ...], Array]]:
    """The cohort of each strategy over time; nothing for a tree."""
    return {each.name: trace(model, each.name) for each in model.strategies} if isinstance(model.body, Cohort) else {}
