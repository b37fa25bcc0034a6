"""Who is working on which task, in memory only: a hub that starts anew has nothing to keep, and hands tasks out again.

A lease stops the hub from giving one task twice to the same start of a party. It protects nothing: answers are
idempotent, so a task that is worked on twice counts once.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

Holder = tuple[str, str]
"""A party and the instance of it, which is new each time it starts."""


@dataclass
class Leases:
    """Tasks by id, each held until a moment. Safe for several threads."""

    _held: dict[str, tuple[Holder, float]] = field(default_factory=dict)
    _instances: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def started_anew(self, party: str, instance: str) -> bool:
        """Note that this instance of a party is here; whether another one was before."""
        with self._lock:
            before = self._instances.get(party, instance)
            self._instances[party] = instance
            return before != instance

    def held(self, holder: Holder, now: float) -> Container[str]:
        """Tasks that this holder still has. What an earlier instance held is free at once."""
        with self._lock:
            return {task for task, (by, until) in self._held.items() if by == holder and until > now}

    def take(self, holder: Holder, tasks: Sequence[str], until: float) -> None:
        """Hand out tasks."""
        with self._lock:
            self._held.update(dict.fromkeys(tasks, (holder, until)))

    def extend(self, holder: Holder, tasks: Sequence[str], until: float) -> None:
        """Keep what this holder has; other tasks are left alone."""
        with self._lock:
            mine = [task for task in tasks if task in self._held and self._held[task][0] == holder]
            self._held.update(dict.fromkeys(mine, (holder, until)))

    def busy(self, task: str, now: float) -> bool:
        """Whether anybody works on this task: its lease is being kept."""
        with self._lock:
            return task in self._held and self._held[task][1] > now

    def done(self, task: str) -> None:
        """The task was answered."""
        with self._lock:
            self._held.pop(task, None)

    def sweep(self, now: float) -> None:
        """Forget leases that ran out."""
        with self._lock:
            self._held = {task: held for task, held in self._held.items() if held[1] > now}
