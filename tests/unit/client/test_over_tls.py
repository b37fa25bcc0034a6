"""One question over real sockets: TLS with a pinned certificate, a hub that stops in the middle and starts again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from tests.federation import Federation, build_federation
from tests.outer import HUB, OPERATOR, working
from tests.worlds import make_world, random_assignment

from federome.client import Event, connect
from federome.errors import Invalid
from federome.network.certificates import make_certificate
from federome.network.hub import Waiters, create_app
from federome.network.offers import offers
from federome.standards import wes

STARTED_S = 20


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    world = make_world(seed=7, people=300, variants=20)
    (tmp_path / "federation").mkdir()
    return build_federation(tmp_path / "federation", world.split(random_assignment(world, sites=3, seed=1)).sites)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_certificate(tmp_path, "127.0.0.1")
    return tmp_path


@contextmanager
def serving(federation: Federation, keys: Path, port: int) -> Iterator[None]:
    """The hub as it is served: over TLS, with its inner routes beside the outer ones."""
    stopping = threading.Event()
    router = wes.router(
        federation.coordinator, hub=HUB, clock=federation.now, operator=OPERATOR, offers=offers(), stopping=stopping
    )
    app = create_app(
        federation.coordinator, hub=HUB, waiters=Waiters(), clock=federation.now, routers=[router], stopping=stopping
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            port=port,
            ssl_certfile=keys / "tls.pem",
            ssl_keyfile=str(keys / "tls.key"),
            log_level="warning",
            ws="none",
            timeout_graceful_shutdown=2,
        )
    )
    thread = threading.Thread(target=server.run, name="hub")
    thread.start()
    end = time.monotonic() + STARTED_S
    while not server.started and thread.is_alive() and time.monotonic() < end:
        time.sleep(0.01)
    assert server.started
    try:
        yield
    finally:
        stopping.set()
        server.should_exit = True
        thread.join(STARTED_S)
        assert not thread.is_alive()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.processes
def test_a_question_survives_a_hub_that_starts_again(federation: Federation, keys: Path, tmp_path: Path) -> None:
    port = free_port()
    up, away, done = threading.Event(), threading.Event(), threading.Event()
    heard: list[Event] = []

    def on_event(event: Event) -> None:
        heard.append(event)
        away.set()  # the run is handed in: now the hub stops, and starts again a moment later

    def hub() -> None:
        with serving(federation, keys, port):
            up.set()
            away.wait(STARTED_S)
        time.sleep(0.3)
        with serving(federation, keys, port), working(federation):
            done.wait(2 * STARTED_S)

    process = threading.Thread(target=hub, name="operator")
    process.start()
    try:
        assert up.wait(STARTED_S)
        with connect(
            f"https://127.0.0.1:{port}",
            key=federation.person,
            person="alice",
            permit=federation.permit(),
            certificate=keys / "tls.pem",
            hub=HUB,
            clock=federation.now,
        ) as connection:
            result = connection.run("cohort-count", deadline_s=60, on_event=on_event)
            strangers = tmp_path / "strangers"
            strangers.mkdir()
            make_certificate(strangers, "127.0.0.1")
            with pytest.raises(Invalid, match="certificate"):
                connect(
                    f"https://127.0.0.1:{port}",
                    key=federation.person,
                    person="alice",
                    permit=federation.permit(),
                    certificate=strangers / "tls.pem",
                )
    finally:
        away.set()
        done.set()
        process.join(4 * STARTED_S)
    assert not process.is_alive()
    assert result.frame()["people"].tolist() == [300]
    result.verify(federation.members.ring(), now=federation.now())
    said = [event.said for event in heard]
    assert (said[0], said[-1], len(said)) == ("orders sent to the nodes", "complete", len(set(said)))
