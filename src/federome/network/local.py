"""The coordinator as a party in the same process sees it: the hub's own releaser, and tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from federome.network.jobs import Coordinator
from federome.network.protocol import Reply, Task, nothing


class LocalPort:
    """See :class:`federome.network.protocol.HubPort`. ``ready`` is set when there is something to poll for."""

    def __init__(self, coordinator: Coordinator, party: str, instance: str) -> None:
        self._coordinator, self._party, self._instance = coordinator, party, instance
        self.ready = threading.Event()

    def poll(self, wait_s: float) -> list[Task]:
        """See :class:`federome.network.protocol.HubPort`."""
        self.ready.clear()
        tasks = self._coordinator.poll(self._party, self._instance)
        if not tasks and self.ready.wait(wait_s):
            tasks = self._coordinator.poll(self._party, self._instance)
        return tasks

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

    def upload(self, run: str, name: str, data: bytes) -> None:
        """See :class:`federome.network.protocol.HubPort`."""
        self._coordinator.upload(self._party, run, name, data)

    def download(self, run: str, name: str) -> bytes:
        """See :class:`federome.network.protocol.HubPort`."""
        return b"".join(self.stream(run, name))

    def stream(self, run: str, name: str) -> Iterator[bytes]:
        """See :class:`federome.network.protocol.HubPort`."""
        return self._coordinator.download(self._party, run, name)

    def letter(self, to: str, name: str, sealed: str) -> None:
        """See :class:`federome.network.protocol.HubPort`."""
        self._coordinator.carry(self._party, to, name, sealed)
