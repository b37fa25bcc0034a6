"""Matching at a node as a process: put together from its folder, answering letters, following its registry.

``federome match open`` writes ``matching/settings.json`` (which ontology, which gene background); a node without it
takes no letters. Clinicians' commands work on the same database beside the process.
"""

from __future__ import annotations

import json
import logging
import smtplib
import ssl
import threading
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

import httpx2 as httpx
import numpy as np
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from federome.analysis.match_search import warm
from federome.analysis.matching import Background, Measure
from federome.db import engine
from federome.errors import FederomeError, Invalid, Refused, Unavailable
from federome.governance.case import Evidence, State, request_of
from federome.governance.consent import Ledger, cohort_mask
from federome.governance.decide import decide
from federome.governance.evidence import Anchors
from federome.governance.orders import claimed_order
from federome.governance.permits import verify_grant
from federome.ingest import ontologies
from federome.ingest.rates import read_rates
from federome.network import channels
from federome.network.alerts import Alerts, Channel, Message, seal_alert
from federome.network.cases import Case, CaseBook
from federome.network.consents import node_consents
from federome.network.files import replace_file
from federome.network.holdings import StoreHoldings
from federome.network.match_asker import Asker, Send
from federome.network.match_desk import Consented, MatchDesk
from federome.network.match_office import Office
from federome.network.match_question import Level
from federome.network.match_releases import follow_release, followed
from federome.network.node import Node
from federome.network.operating import is_paused
from federome.network.protocol import Body, HubPort, Reply, Task
from federome.network.rotation import OwnKeys
from federome.network.setup import node_settings, read_members
from federome.trust.keys import KeyRing, PrivateKey, Signer, generate, load_private_key, read_secret, save_private_key
from federome.trust.people import unseal_passport

TICK_S: Final = 1.0
RARE: Final = 0.005
"""The rate of every gene where no background is given: one in two hundred."""
LOG: Final = logging.getLogger("federome")


@dataclass(frozen=True)
class Tables:
    """What scores come from."""

    measure: Measure
    background: Background


def open_matching(folder: Path, ontology: Path, background: Path | None) -> None:
    """Let a node take letters about patients: note its tables, make its box, compile what the first letter needs."""
    warm(_read_tables(ontology.resolve(), background.resolve() if background else None).measure)
    place = folder / "matching"
    place.mkdir(mode=0o700, exist_ok=True)
    told = {"ontology": str(ontology.resolve()), "background": str(background.resolve()) if background else ""}
    if not (folder / "keys" / "box.jwk").is_file():
        save_private_key(generate("ECDH-ES+A256KW"), folder / "keys" / "box.jwk")
    # Last, because a node that runs opens its office as soon as it sees the settings.
    replace_file(place / "settings.json", f"{json.dumps(told, indent=1)}\n".encode())


def tables(folder: Path) -> Tables:
    """The tables that a node's settings name; ``Invalid`` where matching was not opened."""
    path = folder / "matching" / "settings.json"
    if not path.is_file():
        raise Invalid("this node takes no cases yet.", where=str(folder), remedy="Run: federome match open")
    told = json.loads(path.read_text())
    chosen = str(told["background"])
    return _read_tables(Path(told["ontology"]), Path(chosen) if chosen else None)


def _read_tables(ontology: Path, background: Path | None) -> Tables:
    """The tables in these files, read once while nobody writes to them: a process may stand beside several nodes."""
    files = (*ontology.glob("*"), *((background,) if background else ()))
    stamps = tuple((str(file), file.stat().st_mtime_ns) for file in sorted(files) if file.is_file())
    return _kept_tables(ontology, background, stamps)


@lru_cache(maxsize=2)
def _kept_tables(ontology: Path, background: Path | None, _stamps: tuple[tuple[str, int], ...]) -> Tables:
    made = Background({}, RARE, "one in 200, for lack of a table")
    if background is not None:
        rates = read_rates(background)
        made = Background(rates, min(rates.values()), background.name)
    return Tables(Measure.of(ontologies.load(ontology)), made)


def open_desk(folder: Path, name: str, clock: Callable[[], float], made: Tables | None = None) -> MatchDesk:
    """The registry and desk of a node's folder, for its process and for commands beside it."""
    made = made or tables(folder)
    secret = read_secret(folder / "keys" / "secret")
    base = engine(f"sqlite:///{folder / 'matching' / 'match.db'}", durable=True)
    book = CaseBook(base, secret, clock)
    return MatchDesk(name, base, book, made.measure, made.background, consenting(node_consents(folder), clock), clock)


def consenting(ledger: Callable[[], Ledger], clock: Callable[[], float]) -> Consented:
    """Whose consent covers being found, by the ledger as it is now (rule R15)."""

    def asked(people: Sequence[str]) -> NDArray[np.bool_]:
        now = datetime.fromtimestamp(clock(), UTC)
        return cohort_mask(ledger(), people, operation="match", basis="care", now=now).included

    return asked


def still_permitted(
    grant: Mapping[str, str], state: Callable[[], State], anchors: Callable[[], Anchors], clock: Callable[[], float]
) -> bool:
    """Whether what a standing question rests on holds now: contract, clinician, consented use, approval, own refusals.

    The order itself was checked when the question came; it is as old as the question, so its deadline is not asked.
    """
    now = datetime.fromtimestamp(clock(), UTC)
    try:
        says = verify_grant(grant["permit"], anchors().authorities, now)
    except Refused:
        return False
    order = claimed_order(grant["order"])
    order = replace(order, expires=now + timedelta(hours=1), deadline=now + timedelta(hours=1))
    known = state()
    request = request_of(order, says, stage="start", now=now)
    return request.operation == "match" and decide(request, Evidence(grant=says, order=order), known, now).allowed


def build_office(node: Node, desk: MatchDesk, box: PrivateKey) -> Office:
    """The post office of a node that runs."""

    def record(run: str, what: str, detail: Body) -> None:
        node.notebook.record(node.clock(), run, what, detail)
        node.notebook.commit()
        node.log.seal()

    def permitted(grant: Mapping[str, str]) -> bool:
        return still_permitted(grant, node.state, node.anchors, node.clock)

    return Office(
        name=node.name,
        key=node.key,
        box=box,
        secret=node.secret,
        members=node.members,
        anchors=node.anchors,
        state=node.state,
        desk=desk,
        alerts=Alerts(desk, permitted=permitted, clock=node.clock),
        record=record,
        clock=node.clock,
        unseal=lambda run, sealed: unseal_passport(sealed, node.boxes(), run=run, node=node.name),
        notices=node.notices,
    )


def outgoing(port: HubPort, key: Signer, clock: Callable[[], float], own: Channel) -> dict[str, Channel]:
    """The channels of a node: to the node of the clinician who asked, and to clinicians here (``own``)."""

    def home(message: Message) -> None:
        try:
            port.letter(message.to, message.key, seal_alert(message, key, now=clock()))
        except FederomeError as error:
            raise Unavailable(f"the hub did not take the alert: {error.message}") from error

    return {"home": home, "clinician": own}


def notifier(folder: Path, http: httpx.Client) -> Channel:
    """How clinicians here are told, from ``matching/notify.toml``: webhook or mail; all see their inbox anyhow."""

    def tell(message: Message) -> None:
        try:
            for channel in _chosen(folder, message.person, http):
                channel(message)
        except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, OSError, Invalid) as error:
            # The operator's file is wrong: the message waits until it is mended.
            raise Unavailable(f"notify.toml cannot be used ({type(error).__name__}).") from error

    return tell


def _chosen(folder: Path, person: str, http: httpx.Client) -> list[Channel]:
    path = folder / "matching" / "notify.toml"
    told = tomllib.loads(path.read_text()) if path.is_file() else {}
    chosen = told.get("clinicians", {}).get(person, {})
    found = []
    if "webhook" in chosen:
        found.append(channels.webhook(str(chosen["webhook"]), http))
    if "mail" in chosen:
        smtp = told["smtp"]
        found.append(channels.mail(lambda: _smtp(smtp), sender=str(smtp["sender"]), to=str(chosen["mail"])))
    return found


def _smtp(told: Mapping[str, object]) -> smtplib.SMTP:
    """A connection that is greeted and, unless said otherwise, encrypted; logged in where a user is named.

    The server's certificate is checked: by the machine's authorities, or against the one that ``certificate`` names.
    """
    server = smtplib.SMTP(str(told["host"]), int(str(told.get("port", 587))), timeout=20)
    if told.get("tls", True):
        own = str(told["certificate"]) if "certificate" in told else None
        server.starttls(context=ssl.create_default_context(cafile=own))
    if "user" in told:
        server.login(str(told["user"]), Path(str(told["password_file"])).read_text().strip())
    return server


@dataclass(eq=False)
class MatchingNode:
    """A worker for both: letters about patients, and everything else, which is the node's. See ``party.Worker``."""

    node: Node
    folder: Path
    _office: Office | None = None
    _stamp: int = 0
    _followed: object = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, task: Task) -> Reply:
        """The reply to a task."""
        if task.kind != "letter":
            return self.node.answer(task)
        with self._lock:
            office = self.office()
            if office is None:
                raise Refused("this node takes no questions about patients.", codes=["wrong_state"])
            return office.answer(task)

    def office(self) -> Office | None:
        """The office, opened when matching is; anew when its settings change."""
        path = self.folder / "matching" / "settings.json"
        stamp = path.stat().st_mtime_ns if path.is_file() else 0
        if stamp != self._stamp:
            desk = open_desk(self.folder, self.node.name, self.node.clock)
            box = load_private_key(self.folder / "keys" / "box.jwk")
            self._office, self._stamp = build_office(self.node, desk, box), stamp
        return self._office if stamp else None

    def _knows_the_present(self) -> bool:
        if self.node.notices is not None:
            try:
                self.node.notices.check(self.node.members)
            except (Refused, Unavailable):
                return False
        return True

    def follow(self, going: Mapping[str, Channel]) -> int:
        """One look at the registry and the outbox; how many messages were taken.

        None while the node is paused, or does not know of the present what it must: nothing is lost, all waits.
        """
        if is_paused(self.folder) or not self._knows_the_present():
            return 0
        with self._lock:
            office = self.office()
            if office is None:
                return 0
            self._follow_releases(office.desk)
            office.alerts.catch_up()
            return office.alerts.deliver_due(going)

    def _follow_releases(self, desk: MatchDesk) -> None:
        """Bring cases of followed datasets up to date, when somebody has written to the store or to the list."""
        holdings, told = self.node.holdings, followed(self.folder)
        if not told or not isinstance(holdings, StoreHoldings):
            return
        seen = holdings.store.written.version(), told
        if seen == self._followed:
            return
        for dataset, holder in told.items():
            follow_release(desk.book, desk.measure, dataset, holder, holdings.unsolved(dataset))
        self._followed = seen

    def run(self, ended: threading.Event) -> None:
        """Follow until told to stop. What fails is tried again at the next look."""
        with httpx.Client() as http:
            going = outgoing(self.node.port, self.node.key, self.node.clock, notifier(self.folder, http))
            while not ended.wait(TICK_S):
                try:
                    self.follow(going)
                except FederomeError as error:
                    LOG.warning("standing questions wait: %s", error.message)
                except (SQLAlchemyError, OSError) as error:  # a database that is busy, a full disk
                    LOG.warning("standing questions wait: %s", type(error).__name__)


@dataclass(frozen=True, eq=False)
class Home:
    """A clinician's own node, for what they do beside its process: its registry and desk, and whom it trusts."""

    name: str
    desk: MatchDesk
    key: PrivateKey
    box: PrivateKey
    nodes: KeyRing
    alerts: Alerts

    def asker(self, case: Case, key: PrivateKey, send: Send) -> Asker:
        """The clinician who holds this case, ready to ask other nodes."""

        def registration(level: Level) -> str:
            book, measure = self.desk.book, self.desk.measure
            return book.registration(case, measure, self.name, key=self.key, box=self.box.public, level=level)

        return Asker(case, registration, key, self.nodes, send, self.desk.clock)


def open_home(folder: Path, clock: Callable[[], float]) -> Home:
    """The node of this folder, as its clinicians use it; ``Invalid`` where matching was not opened."""
    name = node_settings(folder).name
    desk = open_desk(folder, name, clock)
    return Home(
        name=name,
        desk=desk,
        key=OwnKeys(folder / "keys", "node", party=name, clock=clock).current,
        box=load_private_key(folder / "keys" / "box.jwk"),
        nodes=read_members(folder, now=clock()).ring("node"),
        alerts=Alerts(desk, permitted=lambda _grant: False, clock=clock),
    )
