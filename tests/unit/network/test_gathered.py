"""What is written in one step leaves in one piece, in its order, and before the connection is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from federome.network.gathered import Gathering


class Kept(asyncio.Transport):
    """A transport that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 443)})
        self.told: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told.append(bytes(data))

    def is_closing(self) -> bool:
        return self.told[-1:] == ["closed"]

    def close(self) -> None:
        self.told.append("closed")


def test_a_head_and_its_body_leave_together() -> None:
    soon: list[Callable[[], None]] = []
    kept = Kept()
    transport = Gathering(kept, soon.append)
    for step in ((b"head ", b"body", b""), (b"next",)):
        for data in step:
            transport.write(data)
        assert len(soon) == 1
        soon.pop()()
    assert kept.told == [b"head body", b"next"]
    assert transport.get_extra_info("peername") == ("192.0.2.1", 443)


def test_what_was_written_leaves_before_the_end() -> None:
    soon: list[Callable[[], None]] = []
    kept = Kept()
    transport = Gathering(kept, soon.append)
    transport.write(b"last")
    transport.close()
    soon.pop()()
    transport.write(b"too late")
    soon.pop()()
    assert kept.told == [b"last", "closed"]
