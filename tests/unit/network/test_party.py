"""A party that is paused: it asks for nothing and hands nothing in, and goes on where it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from federome.errors import Refused, Unavailable
from federome.network.party import Party
from federome.network.protocol import Reply, Task

TASK = Task("run-1/1/FI", "run-1", 1, "decide", {})


class Hub:
    """Has one task for whoever polls."""

    def __init__(self) -> None:
        self.polled, self.replies = threading.Event(), threading.Event()
        self.due: list[Task] = [TASK]

    def poll(self, wait_s: float) -> Sequence[Task]:
        self.polled.set()
        return self.due

    def reply(self, task: str, reply: Reply, wait_s: float = 0.0, *, meanwhile: Callable[[], None]) -> Sequence[Task]:
        self.due = []
        meanwhile()
        self.replies.set()
        threading.Event().wait(0.05)
        return ()

    def heartbeat(self, tasks: Sequence[str]) -> None: ...


class Worker:
    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def answer(self, task: Task) -> Reply:
        self.begun.set()
        assert self.may_end.wait(20)
        return Reply({})

    def prepare(self, task: Task) -> None:
        raise AssertionError("no head start: that keeps nobody from handing in")


class Refusing:
    def answer(self, task: Task) -> Reply:
        raise Refused("nearly the same people.", codes=["differencing"])

    def prepare(self, task: Task) -> None: ...


def test_a_refusal_is_reported_once_it_has_left() -> None:
    """Before, the line was written first, and nothing of the kind for an answer: a clock could hear the difference."""
    events: list[str] = []

    class Listening(Hub):
        away = True

        def reply(
            self, task: str, reply: Reply, wait_s: float = 0.0, *, meanwhile: Callable[[], None]
        ) -> Sequence[Task]:
            if self.away:
                self.away = False
                raise Unavailable("the hub is away.")
            events.append(f"sent {reply.body['refused']['codes']}")  # type: ignore[call-overload, index]
            meanwhile()
            meanwhile()  # as often as it is sent
            return ()

    party = Party(Listening(), Refusing(), report=events.append)  # type: ignore[arg-type]
    party.serve(TASK)
    assert len(events) == 2 and events[0] == "sent ['differencing']" and "nearly the same people" in events[1]


def test_a_paused_party_neither_asks_nor_hands_in() -> None:
    hub, worker, paused = Hub(), Worker(), threading.Event()
    paused.set()
    party = Party(hub, worker, paused=paused.is_set, clock=lambda: 7.0)  # type: ignore[arg-type]
    thread = threading.Thread(target=party.run, daemon=True)
    thread.start()
    assert not hub.polled.wait(0.3)
    paused.clear()
    assert worker.begun.wait(20)  # a step under way
    paused.set()
    worker.may_end.set()  # is finished, and what it made stays here
    assert not hub.replies.wait(0.3)
    assert party.heard == 7.0
    paused.clear()
    assert hub.replies.wait(20)
    party.stop()
    thread.join(20)
