"""A run as its releaser holds it in memory: what is here is in the last commit, or can be made again from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from federome.network.ratchet import Ratchet


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


@dataclass
class Session:
    """One run at the releaser. What is here is either in the last commit or can be made again from it.

    ``announcements`` and ``ahead`` are the nodes' round keys of the first turn and of all later ones; ``own`` opens the
    first sum, ``ratchet`` those after it.
    """

    run: str
    roster: sums.Roster
    algorithm: Algorithm
    policy: Policy
    program: Program
    states: BlockStates
    folder: Path
    announcements: tuple[str, ...]
    ahead: tuple[str, ...]
    turn: int = 0
    previous: str = ""
    token: str = ""
    command: Command | None = None
    own: sums.RoundKey | None = None
    ratchet: Ratchet | None = None
    saved: Saved | None = None
    survivors: tuple[str, ...] = ()
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
