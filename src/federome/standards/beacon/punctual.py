"""Connections on which a request begins within a time, and so many of them: whoever opens a thousand holds out nobody.

uvicorn waits without end for the head of a request, and takes as many connections as the process may have files.
Bodies, answers and pauses between requests have limits of their own, in ``wire.py`` and in uvicorn.
"""

from __future__ import annotations

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S: Final = 10.0
"""How long the head of a request may take to arrive, from the moment of connecting or from its first byte."""
MOST: Final = 500
"""Connections at a time. For one more, one on which nothing is asked at that moment is hung up on."""


class Punctual(H11Protocol):
    """uvicorn's HTTP, which hangs up where a head does not arrive in time, and where there are too many."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """See :class:`asyncio.Protocol`."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > MOST:
            others = (each for each in self.connections if isinstance(each, Punctual) and each is not self)
            next((each for each in others if each.idle), self).transport.abort()

    @property
    def idle(self) -> bool:
        """Whether nothing is being asked or answered here."""
        return self.conn.their_state is h11.IDLE and (self.cycle is None or self.cycle.response_complete)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait()
        else:
            self._arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._arrived()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(HEAD_S, self.transport.abort)

    def _arrived(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
