"""How long something takes at best, for tests that run on busy machines: one undisturbed try is enough."""

from __future__ import annotations

import time
from collections.abc import Callable


def best_of(
    once: Callable[[], object], bar: float, *, tries: int = 100, clock: Callable[[], float] = time.thread_time
) -> float:
    """The shortest of up to ``tries`` times, in seconds of this thread's work; no more tries once one is below."""
    best = float("inf")
    for _ in range(tries):
        started = clock()
        once()
        best = min(best, clock() - started)
        if best < bar:
            break
    return best
