"""Strategies compared: who is dominated, what each further unit of effect costs along the frontier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid

Array = NDArray[np.float64]
Status = Literal["frontier", "dominated", "extendedly dominated"]


@dataclass(frozen=True)
class Compared:
    """One strategy. ``icer`` is against the strategy before it on the frontier, named in ``against``."""

    strategy: str
    cost: float
    effect: float
    status: Status
    against: str = ""
    more_cost: float | None = None
    more_effect: float | None = None
    icer: float | None = None


def compare(strategies: Sequence[str], costs: Sequence[float], effects: Sequence[float]) -> tuple[Compared, ...]:
    """The frontier by rising cost, then what lies off it, by rising cost.

    A strategy is dominated when another costs no more and gives no less (and is not the same on both; of equals the
    first stays). It is extendedly dominated when a mix of two others is, which shows as an incremental ratio that is
    not below the next one's (Drummond et al. 2015, §5.3). Raises ``Invalid`` for numbers that are not finite.
    """
    if not strategies or not len(strategies) == len(costs) == len(effects):
        raise Invalid("each strategy needs a cost and an effect.")
    if not all(map(math.isfinite, (*costs, *effects))):
        raise Invalid("costs and effects must be finite.")
    order = sorted(range(len(strategies)), key=lambda at: (costs[at], -effects[at], at))
    left: list[int] = []
    for at in order:
        if not left or effects[at] > effects[left[-1]]:
            left.append(at)
    undominated = set(left)
    front: list[int] = []
    for at in left:
        while len(front) > 1 and _ratio(front[-2], front[-1], costs, effects) >= _ratio(front[-1], at, costs, effects):
            front.pop()
        front.append(at)
    found = [Compared(strategies[front[0]], costs[front[0]], effects[front[0]], "frontier")]
    for before, at in pairwise(front):
        found.append(
            Compared(
                strategies[at],
                costs[at],
                effects[at],
                "frontier",
                strategies[before],
                costs[at] - costs[before],
                effects[at] - effects[before],
                _ratio(before, at, costs, effects),
            )
        )
    for at in order:
        if at not in front:
            status: Status = "extendedly dominated" if at in undominated else "dominated"
            found.append(Compared(strategies[at], costs[at], effects[at], status))
    return tuple(found)


def compare_table(table: Mapping[str, Mapping[str, float]], cost: str, effect: str) -> tuple[Compared, ...]:
    """:func:`compare` on the means of a run."""
    names = tuple(table)
    return compare(names, [table[each][cost] for each in names], [table[each][effect] for each in names])


def net_benefit(costs: Array, effects: Array, threshold: float) -> Array:
    """Effects valued at ``threshold`` per unit, less costs; same shape as both."""
    return threshold * effects - costs


def best_at(compared: Sequence[Compared], threshold: float) -> str:
    """The strategy with the highest net benefit at this willingness to pay; the cheapest of equals."""
    return max(compared, key=lambda each: (threshold * each.effect - each.cost, -each.cost)).strategy


def _ratio(before: int, at: int, costs: Sequence[float], effects: Sequence[float]) -> float:
    return (costs[at] - costs[before]) / (effects[at] - effects[before])
