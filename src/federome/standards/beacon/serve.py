"""A Beacon as a process: published tables behind uvicorn, looked for again when something new is published."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request

from federome.network.logs import reticent
from federome.standards.beacon.documents import Identity
from federome.standards.beacon.people import People
from federome.standards.beacon.punctual import Punctual
from federome.standards.beacon.routes import application
from federome.standards.beacon.server import NOBODY, Beacon, Visitor, anybody
from federome.standards.beacon.shelf import Shelf
from federome.standards.beacon.wire import CAPACITY

if TYPE_CHECKING:
    from federome.model.discovery import Guest
    from federome.network.discovery import Desk
    from federome.standards.beacon.network import Member
    from federome.standards.catalogue import Catalogue

GRACE_S: Final = 2
LOOK_S: Final = 2.0


class Watched:
    """The shelf of a folder, opened anew when the folder has changed; asked for at every question, looked at seldom."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._lock = threading.Lock()
        self._stamp, self._looked = self._now(), clock()
        self._shelf = Shelf.open(folder)

    def __call__(self) -> Shelf:
        """The shelf as it is now."""
        if self._clock() - self._looked > LOOK_S and self._lock.acquire(blocking=False):
            try:
                self._looked = self._clock()
                stamp = self._now()
                if stamp != self._stamp:
                    self._shelf, self._stamp = Shelf.open(self._folder), stamp
            finally:
                self._lock.release()
        return self._shelf

    def _now(self) -> tuple[tuple[str, int], ...]:
        return tuple(sorted((str(p), p.stat().st_mtime_ns) for p in self._folder.glob("*/[!.]*/publication.json")))


def serve(
    folder: Path,
    identity: Identity,
    *,
    host: str,
    port: int,
    certificate: Path | None = None,
    key: Path | None = None,
    about: Catalogue | None = None,
    desk: Desk | None = None,
    guests: Callable[[str], Guest] | None = None,
    capacity: int = CAPACITY,
) -> None:
    """Serve until SIGTERM or SIGINT; with ``about`` also the catalogue of what is published, with ``desk`` people.

    ``guests`` tells from an Authorization header who asks.
    """
    shelf = Watched(folder)
    beside = []
    if about is not None:
        from federome.network.records import FOLDER, read_records
        from federome.standards import catalogue

        base = identity.url.removesuffix("/api")
        records = folder.parent / FOLDER
        beside = catalogue.routes(
            about, lambda: [book.about for book in shelf().books], base=base, records=lambda: read_records(records)
        )
    people = People(identity, desk) if desk is not None else None
    beacon = Beacon(identity, shelf, known(guests) if guests else anybody, people)
    run_application(application(beacon, beside=beside, capacity=capacity), host, port, certificate, key)


def known(guests: Callable[[str], Guest]) -> Visitor:
    """Who asks, by the Authorization header. Keys may have to be fetched, so it does not hold up other questions."""

    async def visitor(request: Request) -> Guest:
        authorization = request.headers.get("authorization", "")
        return await to_thread.run_sync(guests, authorization) if authorization else NOBODY

    return visitor


def serve_network(
    members: Sequence[Member],
    identity: Identity,
    *,
    host: str,
    port: int,
    deadline_s: float,
    certificate: Path | None = None,
    key: Path | None = None,
    trusted: Path | None = None,
) -> None:
    """Serve a Beacon of Beacons until SIGTERM or SIGINT. ``trusted`` adds certificates that members may show."""
    import httpx2 as httpx

    from federome.standards.beacon import network

    verify = ssl.create_default_context()
    if trusted is not None:
        verify.load_verify_locations(trusted)
    client = httpx.AsyncClient(verify=verify, limits=httpx.Limits(max_connections=400, max_keepalive_connections=100))
    run_application(
        network.application(network.Network(identity, members, client, deadline_s=deadline_s)),
        host,
        port,
        certificate,
        key,
    )


def run_application(app: Starlette, host: str, port: int, certificate: Path | None, key: Path | None) -> None:
    """Serve an application until SIGTERM or SIGINT, logging no request."""
    reticent()
    config = uvicorn.Config(
        app,
        http=Punctual,
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=str(key) if key else None,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=60,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
    )
    uvicorn.Server(config).run()
