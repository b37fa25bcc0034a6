"""How often one visitor may ask: a bucket that fills steadily and empties with every request, kept in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from federome.errors import Unavailable

REMEMBERED = 20_000


class TooMany(Unavailable):
    """Too many requests from one place (429)."""

    title = "Too many requests"
    status = 429


@dataclass
class Limit:
    """At most ``burst`` requests at once and ``per_minute`` in the long run, for each key."""

    per_minute: float
    burst: int
    clock: Callable[[], float]
    _held: dict[str, tuple[float, float]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def take(self, key: str) -> None:
        """Count one request of ``key``; ``TooMany`` where there were too many."""
        now = self.clock()
        with self._lock:
            left, at = self._held.get(key, (float(self.burst), now))
            left = min(self.burst, left + max(0.0, now - at) * self.per_minute / 60)
            if left < 1:
                raise TooMany("these are too many requests.", remedy="Wait a minute, then reload the page.")
            if len(self._held) >= REMEMBERED:
                self._forget(now)
            self._held[key] = (left - 1, now)

    def _forget(self, now: float) -> None:
        full = self.burst * 60 / self.per_minute
        self._held = {key: held for key, held in self._held.items() if now - held[1] < full}
