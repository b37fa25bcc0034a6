"""A run as its releaser holds it in memory: what is here is in the last commit, or can be made again from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import Algorithm
from federome.analysis.program import Program
from federome.model.index import BlockIndex
from federome.model.release import Policy
from federome.network import sums
from federome.network.commands import Command
from federome.network.kept import BlockStates, Saved


@dataclass(frozen=True)
class Shape:
    """A block as the releaser needs it; its genome bins are read when a result is finished."""

    number: int
    chromosome: str
    rows: int
    read: Callable[[], BlockIndex]

    @property
    def bins(self) -> NDArray[np.int64]:
        """Codes of the genome bins, shape (rows,)."""
        return self.read().bins


@dataclass(frozen=True)
class Ready:
    """What opens the sums of a turn by these keys, made while the nodes work on it. In memory only."""

    own: sums.RoundKey
    keys: sums.RoundKeys
    pads: sums.Pads


@dataclass
class Session:
    """One run at the releaser. What is here is either in the last commit or can be made again from it.

    ``announced`` are the nodes' round keys of the coming turn as far as they are known; ``ready`` and ``made`` what was
    made ahead: the masks of the turn, a round key and its announcement for a later one.
    """

    run: str
    roster: sums.Roster
    algorithm: Algorithm
    policy: Policy
    program: Program
    states: BlockStates
    folder: Path
    turn: int = 0
    previous: str = ""
    token: str = ""
    command: Command | None = None
    keys: dict[int, sums.RoundKey] = field(default_factory=dict)
    saved: Saved | None = None
    survivors: tuple[str, ...] = ()
    announced: tuple[str, ...] = ()
    ready: Ready | None = None
    made: tuple[sums.RoundKey, str] | None = None
    check: bytes = b""

    @cached_property
    def parties(self) -> int:
        """Number of contributors on the roster: what the encoding of numbers was agreed for."""
        return len(self.roster.contributors)

    @property
    def left(self) -> list[sums.Member]:
        """Contributors that are in the sums: all, or the survivors."""
        return [m for m in self.roster.contributors if not self.survivors or m.name in self.survivors]

    @property
    def lost(self) -> set[str]:
        """The others."""
        return {m.name for m in self.roster.contributors} - {m.name for m in self.left}
