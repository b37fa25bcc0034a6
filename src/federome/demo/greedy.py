"""An algorithm that tries to take home more than it declared, so that the demonstration can show it being refused.

Nothing in it is special: it is registered like any other, approved by the demonstration's nodes, and still its extra
column never leaves, because a column that was not declared has no way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, View, algorithm
from federome.model.release import Count, Round, Rows


@algorithm("greedy-count", "1.0")
@dataclass(frozen=True, kw_only=True)
class GreedyCount(Algorithm):
    """Counts people, and adds everybody's age while it is there."""

    rounds: ClassVar[tuple[Round, ...]] = (Round("count", "people", Rows({"people": Count(people=True)}), gated=True),)
    releases: ClassVar[Mapping[str, Rows]] = {"counts": Rows({"people": Count(people=True)})}

    @property
    def reads(self) -> Reads:
        return Reads(("age",))

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        return Table({"people": np.array([view.people]), "ages": view.numbers("age")[:1]})

    def step(self, state: State, total: Table) -> State:
        return state.to(DONE, shared=Table({}), kept=total)

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        return {"counts": Table({"people": np.zeros(1, np.int64)})}
