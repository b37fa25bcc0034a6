"""The loop of everybody who dials out: poll for tasks, keep their leases while working, answer, and never lose one.

Nodes and the releaser run the same loop. An answer that could not be handed in is handed in later; a task whose
party died is leased again to the next instance of that party.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from federome.errors import FederomeError, Unavailable
from federome.network.logs import way
from federome.network.protocol import HEARTBEAT_S, POLL_S, Body, HubPort, Reply, Task

MAX_PAUSE_S = 2.0
PAUSED_S = 0.5


class Worker(Protocol):
    """What a party does with a task."""

    def answer(self, task: Task) -> Reply:
        """The reply. Expected failures are raised as ``FederomeError`` and told to the coordinator."""


class Party:
    """Runs a worker against a hub until :meth:`stop`. ``report`` gets one line per notable event, without data.

    While ``paused`` it takes no work and hands nothing in: to the hub it is away. ``heard`` is when the hub answered
    last, ``trouble`` what kept it from doing so since.
    """

    def __init__(
        self,
        port: HubPort,
        worker: Worker,
        *,
        report: Callable[[str], None] = lambda _line: None,
        wait_s: float = POLL_S,
        paused: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._paused, self._clock = paused, clock
        self.heard, self.trouble = 0.0, ""
        self._port = port
        self._worker = worker
        self._report = report
        self._wait_s = wait_s
        self._stopping = threading.Event()
        self._working: tuple[str, ...] = ()

    def stop(self) -> None:
        """End after the current task; an open poll ends by itself."""
        self._stopping.set()

    @property
    def at_work(self) -> bool:
        """Whether a task was taken and its answer has not left."""
        return bool(self._working)

    def run(self) -> None:
        """Poll and work until stopped. A hub that is away, or does not know us yet, is tried again."""
        heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heart.start()
        pause = 0.1
        while not self._stopping.is_set():
            if self._paused():
                self._stopping.wait(PAUSED_S)
                continue
            try:
                # The first answer comes at once, so that one knows whether the hub is there at all.
                tasks = self._port.poll(self._wait_s if self.heard and not self.trouble else 0.0)
                pause = 0.1
                self._heard()
            except FederomeError as error:
                self.trouble = error.message
                self._report(f"cannot work for the hub: {error.message}")
                self._stopping.wait(pause)
                pause = min(pause * 2, MAX_PAUSE_S)
                continue
            while tasks and not self._stopping.is_set() and not self._paused():  # else they stay leased, and come again
                self._working = tuple(task.id for task in tasks)
                # Handing in the last answer polls for what comes next: one call less in every round.
                last = self._wait_s if len(tasks) == 1 else 0.0
                tasks = [*tasks[1:], *self.serve(tasks[0], last)]
            self._working = ()

    def once(self) -> int:
        """Work on what is due now; how many tasks that was. For tests and single-threaded runs."""
        tasks = self._port.poll(0.0)
        for task in tasks:
            self.serve(task)
        return len(tasks)

    def serve(self, task: Task, wait_s: float = 0.0) -> Sequence[Task]:
        """Answer one task and hand the answer in, as often as it takes; gives what is due next if it may wait.

        A refusal is reported once it has left: the line would make it later than an answer.
        """
        said: list[str] = []
        try:
            reply = self._worker.answer(task)
        except Unavailable as error:
            # Something this party needs is away for a while: leave the task leased, it will be due again.
            self._report(f"{task.kind}: {error.message}")
            return ()
        except FederomeError as error:
            said.append(f"{task.kind}: {error}")
            reply = Reply({"refused": _problem(error)})
        except Exception as bug:  # noqa: BLE001
            # The edge of the process: what a bug says may hold data, so only its kind and place are told, at home.
            said.append(f"{task.kind}: {type(bug).__name__} at {way(bug)}")
            reply = Reply({"refused": _problem(FederomeError("an error in the program; its operator finds more."))})
        try:
            return self._hand_in(task, reply, wait_s, said)
        finally:
            self._tell(said)  # nobody took the answer

    def _hand_in(self, task: Task, reply: Reply, wait_s: float, said: list[str]) -> Sequence[Task]:
        pause, working = 0.1, self._working
        while not self._stopping.is_set():
            if self._paused():
                self._stopping.wait(PAUSED_S)
                continue
            try:
                due = self._port.reply(task.id, reply, wait_s, meanwhile=partial(self._sent, said))
                self._heard()
                return due
            except Unavailable as error:
                self._working = working
                self.trouble = error.message
                self._stopping.wait(pause)
                pause = min(pause * 2, MAX_PAUSE_S)
            except FederomeError as error:
                self._report(f"{task.kind}: the hub did not take the answer: {error.message}")
                return ()
        return ()

    def _sent(self, said: list[str]) -> None:
        self._working = ()
        self._tell(said)

    def _tell(self, said: list[str]) -> None:
        while said:
            self._report(said.pop(0))

    def _heard(self) -> None:
        self.heard, self.trouble = self._clock(), ""

    def _beat(self) -> None:
        while not self._stopping.wait(HEARTBEAT_S):
            if working := self._working:
                with suppress(FederomeError):
                    self._port.heartbeat(working)


def _problem(error: FederomeError) -> Body:
    return dict(error.problem())  # type: ignore[arg-type]
