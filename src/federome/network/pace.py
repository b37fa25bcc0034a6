"""Answers and refusals that depend on data leave a node after the same time, so that a clock tells nothing more.

Whatever comes of a task, its reply is held until the pace: as long as most such tasks took lately, answered or refused.
Refusals that follow from the question alone are held as well, which costs nobody anything.
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
LONGEST_S: Final = 1.0
LAST_S: Final = 0.001
STEP_S: Final = 0.005
"""The pace moves in steps, so that it is no measurement of the last task either; up to one more is drawn for each
reply, which hides by how little refusals were still measured to leave later than answers."""


@dataclass
class Pace:
    """How long replies to the ``kinds`` of tasks are held, from what the last 64 of each kind took to work out."""

    kinds: frozenset[str] = frozenset({"decide", "price", "roster"})
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = secrets.SystemRandom().random
    taken: dict[str, deque[float]] = field(default_factory=dict)

    @contextmanager
    def even(self, kind: str) -> Iterator[None]:
        """Work on a task of this kind; leaves, also with an error, not before the pace."""
        began = self.clock()
        try:
            yield
        finally:
            if kind in self.kinds:
                taken = self.taken.setdefault(kind, deque(maxlen=KEPT))
                held = self._pace(taken)
                held += STEP_S * self.draw() if held else 0.0
                taken.append(self.clock() - began)
                while (left := began + held - self.clock()) > 0:
                    # In ever shorter steps, so that a long wait and a short one end alike.
                    self.sleep(left / 2 if left > LAST_S else left)

    @staticmethod
    def _pace(taken: deque[float]) -> float:
        """From the tasks before this one: what it took itself does not move it."""
        if not taken:
            return 0.0
        usual = sorted(taken)[min(int(SHARE * len(taken)), len(taken) - 1)]
        return min(math.ceil(1.25 * usual / STEP_S) * STEP_S, LONGEST_S)
