"""Processes: a hub, a node and a releaser put together from their folders, and ended in good order.

Nothing is decided here. Servers end within seconds of SIGTERM although polls are open; a node that is killed loses
nothing, because everything it owes is in its notebook and at the hub.
"""

from __future__ import annotations

import importlib
import json
import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from federome.db import engine
from federome.errors import Invalid
from federome.governance.case import LocalRefusal, NodePolicy, State
from federome.model.ontology import Icd10
from federome.model.registry import AlgorithmApproval, Dataset, DataUse
from federome.model.table import Table
from federome.network.holdings import StoreHoldings
from federome.network.hub import Waiters, create_app
from federome.network.jobs import Coordinator, LocalPort
from federome.network.ledger import Ledger
from federome.network.node import Node
from federome.network.notebook import Notebook
from federome.network.party import Party
from federome.network.protocol import PREFIX
from federome.network.releaser import Releaser
from federome.network.setup import (
    RELEASER,
    HubSettings,
    MemberList,
    enrolment,
    hub_settings,
    node_settings,
    pinned_authorities,
)
from federome.network.transport import HttpPort
from federome.store.catalogue import Store
from federome.trust.keys import load_private_key

GRACE_S: Final = 2
LOG: Final = logging.getLogger("federome")


@dataclass
class Hub:
    """A hub put together: coordinator, its own releaser, and what it needs to end in good order."""

    settings: HubSettings
    coordinator: Coordinator
    releaser: Releaser
    party: Party
    waiters: Waiters
    stopping: threading.Event


Faces = Callable[[Hub], Sequence[APIRouter]]


def build_hub(folder: Path, *, faces: Faces, clock: Callable[[], float] = time.time) -> tuple[Hub, FastAPI]:
    """A hub from its folder and the application that serves it. ``faces`` makes the routers for people."""
    settings = hub_settings(folder)
    _load(settings.modules)
    members = MemberList(folder, clock)
    waiters = Waiters()
    ledger = Ledger(engine(f"sqlite:///{folder / 'hub.db'}"), folder / "runs")
    coordinator = Coordinator(ledger, members, clock=clock, decide_s=settings.decide_s, wake=waiters.wake)
    port = LocalPort(coordinator, RELEASER, secrets.token_hex(8))
    waiters.local(RELEASER, port.ready)
    releaser = Releaser(
        RELEASER,
        key=load_private_key(folder / "keys" / f"{RELEASER}.jwk"),
        members=members,
        port=port,
        folder=folder / "releaser",
        clock=clock,
        keep_exact=settings.keep_exact,
    )
    party = Party(port, releaser, report=lambda line: LOG.info("releaser: %s", line))
    stopping = threading.Event()
    hub = Hub(settings, coordinator, releaser, party, waiters, stopping)
    routers = [_joining(folder, members), *faces(hub)]
    if settings.keep_exact:
        routers.append(_comparing(releaser))
    app = create_app(coordinator, hub=settings.name, waiters=waiters, clock=clock, routers=routers, stopping=stopping)
    return hub, app


def serve_hub(folder: Path, *, faces: Faces) -> None:
    """Serve a hub over TLS until SIGTERM or SIGINT. Also runs its releaser, with a key of its own."""
    settings = hub_settings(folder)
    hub, app = build_hub(folder, faces=faces)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        ssl_certfile=folder / "keys" / "tls.pem",
        ssl_keyfile=str(folder / "keys" / "tls.key"),
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=60,
        log_level="warning",
        server_header=False,
        date_header=False,
    )
    releasing = threading.Thread(target=hub.party.run, name="releaser", daemon=True)
    releasing.start()
    _Server(config, hub.stopping, hub.waiters).run()
    hub.party.stop()
    hub.waiters.wake(RELEASER)
    releasing.join(GRACE_S)


class _Server(uvicorn.Server):
    """Tells open polls to return as soon as a signal comes, so that the grace period is not spent waiting."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event, waiters: Waiters) -> None:
        super().__init__(config)
        self._stopping, self._waiters = stopping, waiters

    def handle_exit(self, sig: int, frame: object) -> None:
        """Called by uvicorn on SIGTERM and SIGINT."""
        self._stopping.set()
        self._waiters.wake_all()
        super().handle_exit(sig, frame)  # type: ignore[arg-type]


def _joining(folder: Path, members: MemberList) -> APIRouter:
    router = APIRouter(prefix=PREFIX)

    @router.post("/enrol")
    async def enrol(request: Request) -> Response:
        enrolment(folder, await request.body())
        return Response(status_code=204)

    @router.get("/members")
    async def current() -> Response:
        members.refresh()
        return Response(members.token, media_type="application/jwt")

    return router


def _comparing(releaser: Releaser) -> APIRouter:
    """For demonstrations on one machine: how far a pooled result lies from the federated one. Only the distance."""
    router = APIRouter(prefix=PREFIX)

    @router.post("/runs/{run}/compare")
    async def compare(request: Request, run: str, name: str, by: str = "") -> dict[str, float]:
        pooled = Table.from_bytes(await request.body())
        return await run_in_threadpool(releaser.compare, run, name, pooled, by=tuple(filter(None, by.split(","))))

    return router


# nodes


@dataclass
class NodeState:
    """What governance knows at this node, read from its folder; files are read again when they change.

    ``approvals.json`` lists approved algorithms, ``refusals.json`` the operator's own refusals (rule R20),
    ``suspended.json`` permits that are suspended. Datasets and their data use come from the store.
    """

    name: str
    folder: Path
    store: Store
    policy: NodePolicy = field(default_factory=NodePolicy)
    _read: dict[str, tuple[float, object]] = field(default_factory=dict)

    def __call__(self) -> State:
        """The state at this moment."""
        return State(
            node=self.name,
            ontology=Icd10(),
            policy=self.policy,
            datasets=self._datasets(),
            approvals=tuple(AlgorithmApproval.from_document(d) for d in self._list("approvals.json")),
            refusals=tuple(LocalRefusal.from_document(d) for d in self._list("refusals.json")),
            suspended=frozenset(str(d) for d in self._list("suspended.json")),
        )

    def _datasets(self) -> dict[str, Dataset]:
        out = {}
        for name in self.store.datasets():
            manifest = self.store.release(name).manifest
            if manifest.data_use:
                use = DataUse.from_document(manifest.data_use, where=f"{name}.data_use")
            elif manifest.policy.open_data:
                use = DataUse("NRES")
            else:
                continue  # without a data-use record nobody may use it
            out[name] = Dataset(name, self.name, use)
        return out

    def _list(self, name: str) -> list[object]:
        path = self.folder / name
        stamp = path.stat().st_mtime_ns if path.is_file() else 0
        held = self._read.get(name)
        if held is None or held[0] != stamp:
            document = json.loads(path.read_text()) if stamp else []
            if not isinstance(document, list):
                raise Invalid("this file holds a list.", where=str(path))
            held = self._read[name] = (stamp, document)
        return list(held[1]) if isinstance(held[1], list) else []


def build_node(
    folder: Path, *, clock: Callable[[], float] = time.time, report: Callable[[str], None] = LOG.info
) -> Party:
    """A node from its folder, ready to run."""
    settings = node_settings(folder)
    _load(settings.modules)
    key = load_private_key(folder / "keys" / "node.jwk")
    port = HttpPort(
        settings.hub_url,
        party=settings.name,
        hub=settings.hub,
        key=key,
        instance=secrets.token_hex(8),
        certificate=folder / "keys" / "hub.pem",
        clock=clock,
    )
    store = Store.open(folder / "data")
    node = Node(
        name=settings.name,
        key=key,
        secret=(folder / "keys" / "secret").read_bytes(),
        members=MemberList(folder, clock, port.members),
        authorities=pinned_authorities(folder),
        state=NodeState(settings.name, folder, store),
        holdings=StoreHoldings(store),
        notebook=Notebook(engine(f"sqlite:///{folder / 'node.db'}")),
        port=port,
        folder=folder / "runs",
        clock=clock,
    )
    return Party(port, node, report=report)


def serve_node(folder: Path) -> None:
    """Run a node until SIGTERM or SIGINT. It needs no open port: it dials the hub."""
    party = build_node(folder)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    working = threading.Thread(target=party.run, name="node", daemon=True)
    working.start()
    while not ended.wait(0.5) and working.is_alive():
        pass
    party.stop()
    # An open poll would hold the thread for up to half a minute; it is a daemon and ends with the process.
    working.join(GRACE_S)


def _load(modules: Sequence[str]) -> None:
    """Import modules that register further algorithms; ``Invalid`` names one that is not installed."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise Invalid(
                f"module {name!r} cannot be imported.", remedy="Install it, or take it out of modules."
            ) from error
