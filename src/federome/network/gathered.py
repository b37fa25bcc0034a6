"""What one step of a server writes leaves together: uvicorn writes head and body of each answer by themselves.

Over TLS each write is a record and a call of the system of its own, and wakes the other side for a head without a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Gathering:
    """A transport whose writes wait until whoever writes gives way to the event loop. All else is the transport's.

    ``soon`` calls something as soon as the loop has its turn again.
    """

    def __init__(self, transport: asyncio.Transport, soon: Callable[[Callable[[], None]], object]) -> None:
        self._transport, self._soon = transport, soon
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Write with what else is written in this step."""
        if not self._waiting:
            self._soon(self.flush)
        self._waiting.append(data)

    def flush(self) -> None:
        """Write what has waited, unless the connection has ended meanwhile."""
        waiting, self._waiting = self._waiting, []
        if waiting and not self._transport.is_closing():
            self._transport.write(b"".join(waiting))

    def close(self) -> None:
        """Close once everything is written."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Gathered(H11Protocol):
    """HTTP as uvicorn speaks it, over such a transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection: its handshake is done."""
        super().connection_made(Gathering(transport, self.loop.call_soon))  # type: ignore[arg-type]
