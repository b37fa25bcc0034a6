"""A node's portal as a part of its process: its settings, and everything of the node that its pages are given.

``portal.toml`` in the node's folder says that there is one. Pages are made by ``federome.portal.node``, which this
layer does not know: the function that makes them is passed in, as at the hub.
"""

from __future__ import annotations

import json
import logging
import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import sqlalchemy as sa
import uvicorn
from starlette.types import ASGIApp

from federome.db import engine
from federome.errors import Invalid
from federome.model.registry import Identity
from federome.model.strict import Document
from federome.network.access import NodeAccess, is_loopback
from federome.network.certificates import make_certificate
from federome.network.citizens import CitizenBook
from federome.network.consents import ConsentBook
from federome.network.files import replace_file
from federome.network.forms import Forms
from federome.network.holdings import StoreHoldings
from federome.network.login import Logins, build_logins
from federome.network.match_node import MatchingNode
from federome.network.operating import Operating
from federome.network.party import Party
from federome.network.patient_reports import PatientReports
from federome.network.setup import NodeSettings, node_settings
from federome.network.uses import PublicRegister, at_hub
from federome.trust.canonical import Json
from federome.trust.keys import read_secret

PORTAL: Final = "portal.toml"
GRACE_S: Final = 1
LOG: Final = logging.getLogger("federome")


@dataclass(frozen=True)
class PortalSettings(Document):
    """``portal.toml``: where a node's portal is reached, who runs the node, and whose logins operate it.

    ``operator`` and ``contact`` are shown to everybody. ``operators`` are accounts of the identity provider that
    ``login.toml`` names; nobody else can do a deed in the browser. ``hospitals`` are the institutions of the register
    whose vetted clinicians hold cases here; a clinician of another one finds no such page.
    """

    url: str
    host: str = "127.0.0.1"
    port: int = 8444
    operator: str = ""
    contact: str = ""
    operators: tuple[Identity, ...] = ()
    hospitals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if (parts.scheme != "https" and not is_loopback(parts.hostname or "")) or parts.path.strip("/"):
            raise Invalid("a portal's address is https:// and a host.", where=f"{PORTAL}: url")


def portal_settings(folder: Path) -> PortalSettings | None:
    """What ``portal.toml`` says; ``None`` where the node has no portal."""
    path = folder / PORTAL
    if not path.is_file():
        return None
    try:
        return PortalSettings.from_document(tomllib.loads(path.read_text()), where=PORTAL)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the settings cannot be read: {error}.", where=str(path)) from error


def open_portal(folder: Path, settings: PortalSettings) -> None:
    """Give a node a portal: its settings, and a certificate of its own unless one lies there."""
    keys = folder / "keys"
    if not (keys / "tls.pem").is_file():
        keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_certificate(keys, urlsplit(settings.url).hostname or settings.host, settings.host)
    told = settings.to_document()
    operators = told.pop("operators", ())
    lines = [f"{name} = {json.dumps(value)}" for name, value in told.items()]
    for one in settings.operators if operators else ():
        lines += ["", "[[operators]]", f"sub = {json.dumps(one.sub)}", f"iss = {json.dumps(one.iss)}"]
    replace_file(folder / PORTAL, ("\n".join(lines) + "\n").encode())


@dataclass
class House:
    """A node put together for its portal. What it reads of files is read again when they change."""

    folder: Path
    settings: PortalSettings
    node: NodeSettings
    party: Party
    matching: MatchingNode
    logins: Logins | None
    access: NodeAccess
    base: sa.Engine
    holdings: StoreHoldings
    consents: ConsentBook
    citizens: CitizenBook
    forms: Forms
    reports: PatientReports
    operating: Operating
    public: PublicRegister
    clock: Callable[[], float]
    stopping: threading.Event = field(default_factory=threading.Event)
    _named: tuple[int, PortalSettings | None] = (0, None)

    def operates(self, identity: Identity) -> bool:
        """Whether ``portal.toml`` names this account now; nobody, while it cannot be read."""
        named = self._now()
        return named is not None and identity in named.operators

    def treats(self, identity: Identity) -> bool:
        """Whether this is the account of a vetted clinician of a hospital that ``portal.toml`` names now."""
        named = self._now()
        if named is None or not named.hospitals:
            return False
        register = self.access.register()
        person = next((one for one in register.persons if identity in one.identities), None)
        return (
            person is not None
            and "clinician" in person.roles
            and person.vetted
            and person.assigned
            and person.institution in named.hospitals
        )

    def _now(self) -> PortalSettings | None:
        path = self.folder / PORTAL
        stamp = path.stat().st_mtime_ns if path.is_file() else 0
        if stamp != self._named[0]:
            self._named = stamp, portal_settings(self.folder)
        return self._named[1]


def build_house(folder: Path, party: Party, matching: MatchingNode, *, clock: Callable[[], float]) -> House | None:
    """What a node's portal is given; ``None`` where the node has none."""
    settings = portal_settings(folder)
    if settings is None:
        return None
    node = node_settings(folder)
    development = node.network == "development"
    logins = build_logins(
        folder, hub=node.name, url=settings.url, key=matching.node.key, development=development, clock=clock
    )
    secret = read_secret(folder / "keys" / "secret")
    base = engine(f"sqlite:///{folder / 'node.db'}", durable=True)
    consents = ConsentBook(base, secret=secret)
    assert isinstance(matching.node.holdings, StoreHoldings)
    return House(
        folder,
        settings,
        node,
        party,
        matching,
        logins,
        NodeAccess(folder, _nothing, development=development),
        base,
        matching.node.holdings,
        consents,
        CitizenBook(base, secret=secret),
        Forms(base, clock),
        PatientReports(base),
        Operating(folder, base, secret=secret, clock=clock),
        PublicRegister(at_hub(node.hub_url, folder / "keys" / "hub.pem"), clock),
        clock,
    )


def serve_house(house: House, app: ASGIApp) -> Callable[[], None]:
    """Serve a node's portal over TLS in a thread; gives what ends it. A node whose portal fails works on without."""
    keys = house.folder / "keys"
    read_secret(keys / "tls.key")  # refused where others may read it
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=house.settings.host,
            port=house.settings.port,
            ssl_certfile=keys / "tls.pem",
            ssl_keyfile=str(keys / "tls.key"),
            timeout_graceful_shutdown=GRACE_S,
            log_level="warning",
            server_header=False,
            date_header=False,
        )
    )

    def run() -> None:
        try:
            server.run()
        except SystemExit:  # how uvicorn says that it cannot listen there
            LOG.error("the portal cannot be served at %s:%s", house.settings.host, house.settings.port)

    thread = threading.Thread(target=run, name="portal", daemon=True)
    thread.start()

    def end() -> None:
        house.stopping.set()
        server.should_exit = True  # it has as long as the node needs to end, and ends with the process

    return end


def _nothing(url: str) -> Mapping[str, Json]:
    raise Invalid("the portal fetches no keys.", where=url)
