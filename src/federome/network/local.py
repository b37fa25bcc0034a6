"""The coordinator as a party in the same process sees it: the hub's own releaser, and tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from federome.network.jobs import Coordinator
from federome.network.protocol import Content, Reply, Task, nothing


class LocalPort:
    """See :class:`federome.network.protocol.HubPort`. ``ready`` is set when there is something to poll for."""

    def __init__(self, coordinator: Coordinator, party: str, instance: str) -> None:
        self._coordinator, self._party, self._instance = coordinator, party, instance
        self.ready = threading.Event()
        self._lock = threading.Lock()
        self._waiting = False
        self._first: Callable[[], None] | None = None

    def poll(self, wait_s: float) -> list[Task]:
        """See :class:`federome.network.protocol.HubPort`."""
        end = time.monotonic() + wait_s
        while True:
            self.ready.clear()
            tasks = self._coordinator.poll(self._party, self._instance)
            left = end - time.monotonic()
            if tasks or left <= 0:
                return tasks
            with self._lock:
                self._waiting = True
            woken = self.ready.wait(left)
            with self._lock:
                first, self._first, self._waiting = self._first, None, False
            if first is not None:
                first()
            elif woken:
                end = 0.0  # for work, or because the process ends: look once more

    def lend(self, first: Callable[[], None]) -> bool:
        """Have the thread that waits here do something before it looks for work; ``False`` if none waits.

        For what most likely makes work for it: then nobody needs to be woken in between. It must not raise.
        """
        with self._lock:
            if not self._waiting:
                return False
            self._waiting, self._first = False, first
        self.ready.set()
        return True

    def heartbeat(self, tasks: Sequence[str]) -> None:
        """See :class:`federome.network.protocol.HubPort`."""
        self._coordinator.heartbeat(self._party, self._instance, tasks)

    def reply(
        self, task: str, reply: Reply, wait_s: float = 0.0, *, meanwhile: Callable[[], None] = nothing
    ) -> list[Task]:
        """See :class:`federome.network.protocol.HubPort`."""
        self._coordinator.reply(self._party, task, reply)
        meanwhile()
        return self.poll(wait_s) if wait_s > 0 else []

    def upload(self, run: str, name: str, data: Content) -> None:
        """See :class:`federome.network.protocol.HubPort`."""
        self._coordinator.upload(self._party, run, name, bytes(data))

    def download(self, run: str, name: str) -> bytes:
        """See :class:`federome.network.protocol.HubPort`."""
        return b"".join(self.stream(run, name))

    def stream(self, run: str, name: str) -> Iterator[bytes]:
        """See :class:`federome.network.protocol.HubPort`."""
        return self._coordinator.download(self._party, run, name)

    def letter(self, to: str, name: str, sealed: str) -> None:
        """See :class:`federome.network.protocol.HubPort`."""
        self._coordinator.carry(self._party, to, name, sealed)
