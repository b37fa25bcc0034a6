"""How many people of each population a rule calls "top 5 %": the measure by which references are judged fair.

A reference is built on one half of the people and tried on the other, many times over; only then does a share near 5 %
say something. Rules: one cut for everybody, and each person against the own nation's histogram.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from federome.prs.reference import Group

Floats = NDArray[np.float64]
Names = NDArray[np.str_]
Members = NDArray[np.bool_]
Rule = Literal["one cut", "nation"]
TOP: Final = 0.05


@dataclass(frozen=True)
class Flagged:
    """Share flagged of one group: the mean over splits, and between which values nine of ten splits lie."""

    mean: float
    low: float
    high: float
    people: int


def flagged(
    scores: Floats, nations: Names, groups: Mapping[str, Members], *, rule: Rule, splits: int = 200, seed: int = 1
) -> dict[str, Flagged]:
    """Share of each group called top 5 % by references from the other half, over seeded splits within nations."""
    found: dict[str, list[float]] = {name: [] for name in groups}
    rng = np.random.default_rng(seed)
    rows = {str(name): np.flatnonzero(nations == name) for name in np.unique(nations)}
    for _ in range(splits):
        half = np.zeros(len(scores), np.bool_)
        for mine in rows.values():
            half[rng.permutation(mine)[: len(mine) // 2]] = True
        called = np.zeros(len(scores), np.bool_)
        for one in (half, ~half):
            called[~one] = _called(scores, rows, one, rule)[~one]
        for name, members in groups.items():
            found[name].append(float(called[members].mean()))
    out = {}
    for name, shares in found.items():
        low, high = np.quantile(shares, [0.05, 0.95])
        out[name] = Flagged(float(np.mean(shares)), float(low), float(high), int(groups[name].sum()))
    return out


def _called(scores: Floats, rows: Mapping[str, NDArray[np.int64]], reference: Members, rule: Rule) -> Members:
    """Whom a reference calls top 5 %, of everybody."""
    if rule == "one cut":
        return np.asarray(scores > np.quantile(scores[reference], 1 - TOP))
    out = np.zeros(len(scores), np.bool_)
    for name, mine in rows.items():
        group = Group.of(name, scores[mine[reference[mine]]])
        out[mine] = scores[mine] > group.cut(TOP)
    return out
