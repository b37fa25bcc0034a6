"""The outer face of a federation in tests: its WES routes as an application, and parties that work by themselves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI
from tests.federation import Federation

from federome.network.offers import offers
from federome.standards import wes
from federome.standards.service_info import Operator

HUB = "hub.test"
OPERATOR = Operator(
    "test.example.hub", "Test hub", "Example", "https://example.test", contact="mailto:hub@example.test"
)


def outer_app(federation: Federation, stopping: threading.Event | None = None) -> FastAPI:
    """What people reach."""
    app = FastAPI()
    app.include_router(
        wes.router(
            federation.coordinator, hub=HUB, clock=federation.now, operator=OPERATOR, offers=offers(), stopping=stopping
        )
    )
    return app


@contextmanager
def working(federation: Federation) -> Iterator[None]:
    """Nodes and releaser work in the background."""
    stop = threading.Event()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                if not sum(party.once() for party in list(federation.parties.values())):
                    federation.coordinator.tick()
                    stop.wait(0.01)
        except BaseException as fault:
            faults.append(fault)
            for run in federation.coordinator.ledger.open_runs():  # nobody waits for a party that is gone
                federation.coordinator.cancel(run.id)
            raise

    thread = threading.Thread(target=work, name="parties")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
        assert not faults
