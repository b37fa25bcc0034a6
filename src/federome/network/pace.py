"""Answers and refusals that depend on data leave a node after the same time, so that a clock tells nothing more.

Whatever comes of a task, its reply is held until the pace: as long as most such tasks took lately that were answered.
Refusals that follow from the question alone are held as well, and set no pace: else whoever sends many of them could
bring it down, and time what follows. What takes longer than the pace leaves at one of few times after it.
"""

from __future__ import annotations

import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

KEPT: Final = 64
SHARE: Final = 0.95
USUAL_S: Final = 1.0
LONGEST_S: Final = 3.0
"""The pace is a second at most, or three where half of all answers take more than one: a busy machine, where a few take
long, is not made slower still."""
FURTHER: Final = 1.25
"""How far a reply that missed the pace, or one of the times after it, is from the next."""
LAST_S: Final = 0.001
STEP_S: Final = 0.005
"""The pace moves in steps, so that it is no measurement of the last task either; up to one more is drawn for each
reply, which hides by how little refusals were still measured to leave later than answers."""


@dataclass
class Pace:
    """How long replies to the ``kinds`` of tasks are held, from what the last 64 answers of a kind took to work out."""

    kinds: frozenset[str] = frozenset({"decide", "price", "roster"})
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = secrets.SystemRandom().random
    taken: dict[str, deque[float]] = field(default_factory=dict)

    @contextmanager
    def even(self, kind: str) -> Iterator[None]:
        """Work on a task of this kind; leaves, also with an error, not before the pace."""
        began, answered = self.clock(), False
        try:
            yield
            answered = True
        finally:
            if kind in self.kinds:
                taken = self.taken.setdefault(kind, deque(maxlen=KEPT))
                held, took = self._pace(taken), self.clock() - began
                while held < took:
                    held *= FURTHER
                held += STEP_S * self.draw()
                if answered:
                    taken.append(took)
                while (left := began + held - self.clock()) > 0:
                    # In ever shorter steps, so that a long wait and a short one end alike.
                    self.sleep(left / 2 if left > LAST_S else left)

    @staticmethod
    def _pace(taken: deque[float]) -> float:
        """From the tasks before this one: what it took itself does not move it, and a single long one hardly does."""
        if not taken:
            return STEP_S
        ordered = sorted(taken)
        usual = ordered[max(min(int(SHARE * len(taken)), len(taken) - 2), 0)]
        most = min(max(USUAL_S, 3 * ordered[len(taken) // 2]), LONGEST_S)
        return min(math.ceil(1.25 * usual / STEP_S) * STEP_S, most)
