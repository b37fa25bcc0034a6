"""Algorithms that do next to nothing, so that a benchmark sees the network and not the work: rounds, bytes, blocks.

They are registered when a hub's or a node's settings name this module, and approved like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from federome.analysis.algorithm import (
    DONE,
    Algorithm,
    Block,
    Finished,
    Reads,
    State,
    Table,
    Variants,
    View,
    algorithm,
)
from federome.model.release import Count, Round, Rows

NUMBER = Rows({"value": Count()})
RESULT: Mapping[str, Rows] = {"counts": Rows({"value": Count()})}


@algorithm("bench-rounds", "1.0")
@dataclass(frozen=True, kw_only=True)
class Rounds(Algorithm):
    """One number from each node, ``turns`` times."""

    turns: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 60

    rounds: ClassVar[tuple[Round, ...]] = (Round("number", "people", NUMBER),)
    broadcasts: ClassVar[frozenset[str]] = frozenset({"turn"})
    releases: ClassVar[Mapping[str, Rows]] = RESULT

    @property
    def reads(self) -> Reads:
        return Reads()

    def start(self) -> State:
        return State("number", Table({"turn": np.zeros(1, np.int64)}))

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        return Table({"value": np.array([view.people])})

    def step(self, state: State, total: Table) -> State:
        turn = state.shared.ints("turn") + 1
        done = int(turn[0]) >= self.turns
        return state.to(DONE if done else "number", shared=Table({"turn": turn}), kept=total.only("value"))

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        assert state.kept is not None
        return {"counts": state.kept}


@algorithm("bench-bytes", "1.0")
@dataclass(frozen=True, kw_only=True)
class Bytes(Algorithm):
    """``values`` numbers of eight bytes from each node in one part."""

    values: Annotated[int, msgspec.Meta(ge=1, le=1 << 27)] = 1 << 23

    rounds: ClassVar[tuple[Round, ...]] = (Round("numbers", "people", NUMBER),)
    releases: ClassVar[Mapping[str, Rows]] = RESULT

    @property
    def reads(self) -> Reads:
        return Reads()

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        return Table({"value": np.broadcast_to(np.int64(1), self.values)})

    def step(self, state: State, total: Table) -> State:
        return state.to(DONE, kept=Table({"value": total.ints("value").sum(keepdims=True)}))

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        assert state.kept is not None
        return {"counts": state.kept}


@algorithm("bench-blocks", "1.0")
@dataclass(frozen=True, kw_only=True)
class Blocks(Algorithm):
    """One number from each node for every variant of the common index; nothing is kept of them but how many."""

    rounds: ClassVar[tuple[Round, ...]] = (Round("number", "variants", NUMBER),)
    releases: ClassVar[Mapping[str, Rows]] = RESULT

    @property
    def reads(self) -> Reads:
        return Reads(variants=Variants())

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        assert block is not None
        return Table({"value": np.ones(block.rows, np.int64)})

    def step(self, state: State, total: Table) -> State:
        rows = np.array([total.rows])
        return state.to(DONE, kept=Table({"row": np.zeros(1, np.int64), "rows": rows}))

    def named(self, kept: Table) -> np.ndarray:
        return np.zeros(kept.rows, np.bool_)

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        return {"counts": Table({"value": sum((b.kept.ints("rows") for b in blocks), np.zeros(1, np.int64))})}
