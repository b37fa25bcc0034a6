"""The hub as a process: put together from its folder, served over TLS, and ended in good order.

Nothing is decided here. It ends within seconds of SIGTERM although polls are open; its own releaser runs beside it
with a key of its own.
"""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Final

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from federome.db import engine
from federome.errors import Missing
from federome.model.table import Table
from federome.network.about import MAX_ABOUT_BYTES, Words
from federome.network.approvals import load_modules
from federome.network.bundled import installed, register
from federome.network.certified import certified_options
from federome.network.desk import Desk, open_desk, outbox_of
from federome.network.doors import open_to
from federome.network.exchange import Exchange
from federome.network.hub import Waiters, bounded, create_app
from federome.network.jobs import Coordinator
from federome.network.ledger import Ledger
from federome.network.local import LocalPort
from federome.network.login import Logins, People, build_logins, callback_router
from federome.network.login import router as login_router
from federome.network.notices import FILE as NOTICE
from federome.network.party import Party
from federome.network.protocol import MAX_PART_BYTES, PREFIX
from federome.network.releaser import Releaser
from federome.network.rotation import MAX_ROTATION_BYTES, Announced, OwnKeys
from federome.network.setup import HUB, RELEASER, HubSettings, MemberList, enrolment, hub_settings
from federome.trust.keys import read_secret

GRACE_S: Final = 2
DESK_TICK_S: Final = 20.0
MAX_ENROLMENT_BYTES: Final = 1 << 14
LOG: Final = logging.getLogger("federome")


@dataclass
class Hub:
    """A hub put together: coordinator, its own releaser, and what it needs to end in good order."""

    folder: Path
    settings: HubSettings
    coordinator: Coordinator
    releaser: Releaser
    party: Party
    waiters: Waiters
    stopping: threading.Event
    people: People
    logins: Logins | None
    desk: Desk
    clock: Callable[[], float]
    exchange: Exchange
    words: Words


Faces = Callable[[Hub], Sequence[APIRouter]]


def build_hub(folder: Path, *, faces: Faces, clock: Callable[[], float] = time.time) -> tuple[Hub, FastAPI]:
    """A hub from its folder and the application that serves it. ``faces`` makes the routers for people."""
    settings = hub_settings(folder)
    load_modules(settings.modules)
    for program in installed(folder):
        register(program)
    members = MemberList(folder, clock)
    waiters = Waiters()
    ledger = Ledger(engine(f"sqlite:///{folder / 'hub.db'}"), folder / "runs")
    key, releasing = (OwnKeys(folder / "keys", role, party=role, clock=clock) for role in (HUB, RELEASER))
    key.follow(members)
    releasing.follow(members)
    exchange = Exchange(engine(f"sqlite:///{folder / 'record.db'}", durable=True), party=HUB, key=key)
    coordinator = Coordinator(
        ledger,
        members,
        exchange=exchange,
        clock=clock,
        decide_s=settings.decide_s,
        lost_s=settings.lost_s,
        wake=waiters.wake,
        within=(RELEASER,),
    )
    port = LocalPort(coordinator, RELEASER, secrets.token_hex(8))
    waiters.local(RELEASER, port.ready)
    releaser = Releaser(
        RELEASER,
        key=releasing,
        members=members,
        port=port,
        folder=folder / "releaser",
        clock=clock,
        keep_exact=settings.keep_exact,
    )
    party = Party(port, releaser, report=lambda line: LOG.info("releaser: %s", line))
    coordinator.recover()
    stopping = threading.Event()
    logins = build_logins(
        folder,
        hub=settings.name,
        url=settings.url,
        key=key,
        development=settings.network == "development",
        clock=clock,
    )
    people = People(settings.name, clock, logins)
    desk = open_desk(folder, url=settings.url, clock=clock)
    words = Words(folder)
    hub = Hub(
        folder, settings, coordinator, releaser, party, waiters, stopping, people, logins, desk, clock, exchange, words
    )
    routers = [_joining(folder, settings.name, members, words, clock), *faces(hub)]
    if logins is not None:
        routers += [login_router(logins), callback_router(logins)]
    if settings.keep_exact:
        routers.append(_comparing(releaser))
    app = create_app(
        coordinator,
        hub=settings.name,
        waiters=waiters,
        clock=clock,
        routers=routers,
        stopping=stopping,
        lend=port.lend,
    )
    return hub, app


def serve_hub(folder: Path, *, faces: Faces) -> None:
    """Serve a hub over TLS until SIGTERM or SIGINT. Also runs its releaser, with a key of its own."""
    settings = hub_settings(folder)
    read_secret(folder / "keys" / "tls.key")  # refused where others may read it
    hub, app = build_hub(folder, faces=faces)
    asked = hub.logins.certificates.values() if hub.logins is not None else ()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        ssl_certfile=folder / "keys" / "tls.pem",
        ssl_keyfile=str(folder / "keys" / "tls.key"),
        **certified_options(asked, folder / "keys"),
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=60,
        log_level="warning",
        server_header=False,
        date_header=False,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when it has stopped: without a handler the process would end there.
        signal.signal(number, lambda *_: None)
    releasing = threading.Thread(target=hub.party.run, name="releaser", daemon=True)
    releasing.start()
    outbox = outbox_of(hub.desk, url=settings.url)
    clocks = {"tick": hub.desk.tick_all, "every_s": DESK_TICK_S}
    threading.Thread(target=outbox.run, args=(hub.stopping,), kwargs=clocks, name="desk", daemon=True).start()
    keys = folder / "keys"
    threading.Thread(target=watch_certificate, args=(config, keys, hub.stopping), daemon=True).start()
    _Server(config, hub.stopping, hub.waiters).run()
    hub.party.stop()
    hub.waiters.wake(RELEASER)
    releasing.join(GRACE_S)


def watch_certificate(config: uvicorn.Config, keys: Path, stopping: threading.Event, *, every_s: float = 1.0) -> None:
    """Show a new certificate as soon as it lies in the folder: handshakes from then on, no connection is cut."""
    stamp = (keys / "tls.pem").stat().st_mtime_ns
    while not stopping.wait(every_s):
        now = (keys / "tls.pem").stat().st_mtime_ns
        if now != stamp and config.ssl is not None:
            config.ssl.load_cert_chain(keys / "tls.pem", keys / "tls.key")
            stamp = now
            LOG.info("the hub shows a new certificate")


class _Server(uvicorn.Server):
    """Says when it answers, and lets open polls return as soon as a signal comes: the grace period is not spent."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event, waiters: Waiters) -> None:
        super().__init__(config)
        self._stopping, self._waiters = stopping, waiters

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Called by uvicorn before anything is answered; whoever waits in a terminal may go on then."""
        await super().startup(sockets)
        if self.started:
            LOG.info("the hub answers at port %d", self.config.port)

    def handle_exit(self, sig: int, frame: object) -> None:
        """Called by uvicorn on SIGTERM and SIGINT."""
        self._stopping.set()
        self._waiters.wake_all()
        super().handle_exit(sig, frame)  # type: ignore[arg-type]


def _joining(folder: Path, hub: str, members: MemberList, words: Words, clock: Callable[[], float]) -> APIRouter:
    router = APIRouter(prefix=PREFIX)
    announced = Announced(folder, hub)

    @router.post("/rotate")
    @open_to("anyone")  # the announcement says itself whose it is
    async def rotate(request: Request) -> Response:
        members.refresh()
        announced.take(await bounded(request, MAX_ROTATION_BYTES), members, now=clock())
        return Response(status_code=204)

    @router.post("/about")
    @open_to("anyone")  # the word says itself whose it is
    async def about(request: Request) -> Response:
        members.refresh()
        words.take((await bounded(request, MAX_ABOUT_BYTES)).decode("ascii", "replace"), members, now=clock())
        return Response(status_code=204)

    @router.post("/enrol")
    @open_to("anyone")
    async def enrol(request: Request) -> Response:
        enrolment(folder, await bounded(request, MAX_ENROLMENT_BYTES))
        return Response(status_code=204)

    @router.get("/members")
    @open_to("anyone")
    async def current() -> Response:
        members.refresh()
        return Response(members.token, media_type="application/jwt")

    @router.get("/notice")
    @open_to("anyone")
    async def notice() -> Response:
        path = folder / NOTICE
        if not path.is_file():
            raise Missing("the authority has given no notice.")
        return Response(path.read_text(), media_type="application/jwt")

    return router


def _comparing(releaser: Releaser) -> APIRouter:
    """For demonstrations on one machine: how far a pooled result lies from the federated one. Only the distance."""
    router = APIRouter(prefix=PREFIX)

    @router.post("/runs/{run}/compare")
    @open_to("anyone")
    async def compare(request: Request, run: str, name: str, by: str = "") -> dict[str, float]:
        pooled = Table.from_bytes(await bounded(request, MAX_PART_BYTES))
        return await run_in_threadpool(releaser.compare, run, name, pooled, by=tuple(filter(None, by.split(","))))

    return router
