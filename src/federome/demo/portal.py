"""The demonstration's portal: ready-made people of every role, and two applications so that nobody's page is empty.

Everything stands in the hub's folder before its process starts, as an operator would put it there: the register, the
desk's settings, the list of Beacons, the identity provider. The two applications go the way that the pages go.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import Final, Literal, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from rich.console import Console
from rich.table import Table as Grid

from federome.db import engine
from federome.demo.dev_idp import PEOPLE, DevPerson, open_idp, read_people
from federome.demo.local import AUTHORITY, PERSON, LocalFederation, free_port, wait_for_port
from federome.governance.application_form import Offer
from federome.model.permit import PersonKey
from federome.model.registry import Identity, Institution, Person, Role
from federome.network.access import Register, install_register
from federome.network.citizens import Citizen, CitizenBook
from federome.network.desk import DESK, Desk, DeskSettings, Office, open_desk
from federome.network.house import PortalSettings, open_portal
from federome.network.output_queue import CHECKERS, Checkers
from federome.network.reviews import install_root
from federome.standards.beacon.hub import BEACONS
from federome.trust.approval import Reviewer, Root, sign_root
from federome.trust.envelopes import add_signature
from federome.trust.keys import PrivateKey, generate, read_secret, save_private_key

UNIVERSITY: Final = "demo-university"
COMMITTEE: Final = "demo-committee"
OFFICE: Final = "demo-office"
HOSPITAL: Final = "demo-hospital"
CHECK: Final = ("olga", "oskar")
"""Who checks outputs, each with a key of their own."""
REVIEW: Final = ("arne", "ruta")
"""Who reviews programs, likewise, of two organisations."""
HOST: Final = "127.0.0.1"
TICK_S: Final = 0.2


class Holding(Protocol):
    """What the desk offers of a node: its datasets, as ``cohorts.NodeData`` names them."""

    @property
    def node(self) -> str:
        """The node."""

    @property
    def synthetic_dataset(self) -> str:
        """Its controlled dataset."""

    @property
    def real_dataset(self) -> str:
        """Its open one; empty, if it has none."""


@dataclass(frozen=True)
class Holds:
    """A node's datasets by name alone."""

    node: str
    synthetic_dataset: str
    real_dataset: str = ""


@dataclass(frozen=True)
class Player:
    """Somebody ready-made: who they are in the register, and which page is theirs."""

    id: str
    name: str
    institution: str
    role: Role | Literal["citizen"]
    begins: str


def cast(nodes: Sequence[str]) -> tuple[Player, ...]:
    """One person of every role, two where two must decide, and two of each nation."""
    nations = [
        player
        for node in nodes
        for player in (
            Player(f"ncp-{node.lower()}", f"{node}: coordination point", f"ncp-{node.lower()}", "ncp", "queue"),
            Player(
                f"operator-{node.lower()}", f"{node}: node operator", f"node-{node.lower()}", "node-operator", "queue"
            ),
        )
    ]
    return (
        Player(PERSON, "Rita, a researcher", UNIVERSITY, "researcher", "applications"),
        Player("clara", "Clara, a clinician", HOSPITAL, "clinician", "applications"),
        Player("sven", "Sven, signs for the university", UNIVERSITY, "signing-official", "queue"),
        Player("dora", "Dora, of the access committee", COMMITTEE, "dac-member", "queue"),
        Player("daniel", "Daniel, of the access committee", COMMITTEE, "dac-member", "queue"),
        Player("otto", "Otto, of the hub's office", OFFICE, "administrator", "queue"),
        Player("olga", "Olga, checks outputs", OFFICE, "output-reviewer", "checks"),
        Player("oskar", "Oskar, checks outputs", OFFICE, "output-reviewer", "checks"),
        Player("arne", "Arne, reviews programs", OFFICE, "algorithm-reviewer", "submissions"),
        Player("ruta", "Ruta, reviews programs", HOSPITAL, "algorithm-reviewer", "submissions"),
        Player("audra", "Audra, audits", OFFICE, "auditor", "queue"),
        *nations,
    )


def furnish(federation: LocalFederation, prepared: Sequence[Holding]) -> None:
    """Put into the hub's folder what its portal needs, and start the identity provider beside it."""
    hub, players = federation.root / "hub", cast(federation.nodes)
    idp = federation.ports["idp"] = free_port()
    issuer = f"http://{HOST}:{idp}"
    keys = {PERSON: federation.person} | {name: generate("ES256") for name in (*CHECK, *REVIEW)}
    people = tuple(_registered(player, issuer, keys.get(player.id)) for player in players)
    for person in people:
        if person.id in (*CHECK, *REVIEW):
            save_private_key(keys[person.id], federation.root / f"{person.id}.jwk")
        if person.id in CHECK:
            Checkers(hub / CHECKERS).appoint(person)
    install_root(hub, _root(people, keys), first=True)
    countries = {player.institution: _country(player.institution, federation.nodes) for player in players}
    institutions = tuple(Institution(name, land, for_profit=False) for name, land in countries.items())
    install_register(hub, json.dumps(Register(people, institutions).to_document()))
    (hub / DESK).write_text(_toml_desk(_settings(federation, prepared)))
    save_private_key(federation.authority, hub / "keys" / "authority.jwk")
    for node in federation.nodes:
        federation.ports[f"beacon-{node}"] = free_port()
    (hub / BEACONS).write_text("".join(_toml_beacon(node, federation) for node in federation.nodes))
    folder = federation.root / "idp"
    folder.mkdir(parents=True)
    listed = [DevPerson(player.id, player.name).to_document() for player in players]
    (folder / PEOPLE).write_text(json.dumps(listed, indent=1))
    federation.start("idp", "dev-idp", "--dir", str(folder), "--hub", str(hub), "--port", str(idp))
    _apply(open_desk(hub, url=federation.url, clock=time.time), federation, prepared)
    wait_for_port(HOST, idp, federation.processes["idp"])


def _root(people: Sequence[Person], keys: Mapping[str, PrivateKey]) -> bytes:
    """Whose reviews of programs the hub shows; nodes of the demonstration pin none, their operators approve."""
    pinned = [Reviewer(one.id, one.institution, one.key) for one in people if one.id in REVIEW and one.key]
    first, second = (keys[name] for name in REVIEW)
    return add_signature(sign_root(Root(1, tuple(pinned)), first), second)


def _registered(player: Player, issuer: str, key: PrivateKey | None) -> Person:
    return Person(
        player.id,
        player.institution,
        vetted=True,
        assigned=True,
        roles=() if player.role == "citizen" else (player.role,),
        identities=(Identity(player.id, issuer),),
        key=PersonKey.of(key.public.jwk()) if key is not None else None,
    )


def _country(institution: str, nodes: Sequence[str]) -> str:
    """A nation's own bodies are in it; all others are where the first node is."""
    return next((node for node in nodes if institution.endswith(f"-{node.lower()}")), nodes[0])


def _settings(federation: LocalFederation, prepared: Sequence[Holding]) -> DeskSettings:
    offices = [Office(node, node, (f"ncp-{node.lower()}",), (f"node-{node.lower()}",)) for node in federation.nodes]
    offers = [
        Offer(dataset, data.node, title)
        for data in prepared
        for dataset, title in (
            (data.synthetic_dataset, f"Synthetic people of {data.node}"),
            (data.real_dataset, f"1000 Genomes, {data.real_dataset}"),
        )
        if dataset
    ]
    return DeskSettings(authority=AUTHORITY, offices=tuple(offices), offers=tuple(offers))


def _toml_desk(settings: DeskSettings) -> str:
    quoted = json.dumps
    lines = [f"authority = {quoted(settings.authority)}"]
    for office in settings.offices:
        lines += ["", "[[offices]]", f"node = {quoted(office.node)}", f"country = {quoted(office.country)}"]
        lines += [
            f"coordination = {quoted(list(office.coordination))}",
            f"operators = {quoted(list(office.operators))}",
        ]
    for offer in settings.offers:
        lines += ["", "[[offers]]", *(f"{name} = {quoted(getattr(offer, name))}" for name in ("id", "node", "title"))]
    return "\n".join(lines) + "\n"


def _toml_beacon(node: str, federation: LocalFederation) -> str:
    url = f"http://{HOST}:{federation.ports[f'beacon-{node}']}/api"
    return f'[[beacons]]\nnode = "{node}"\ncountry = "{node}"\nurl = "{url}"\n\n'


# a node's own portal


def open_node(federation: LocalFederation, node: str, subjects: Sequence[str]) -> None:
    """Give one node a portal: for its operator, and for citizens who are the first of ``subjects`` in its data.

    The identity provider is started again, since it has to know whom it sends back where.
    """
    folder, idp = federation.node_folder(node), federation.root / "idp"
    port = federation.ports["node"] = free_port()
    issuer = f"http://{HOST}:{federation.ports['idp']}"
    operator = Identity(f"operator-{node.lower()}", issuer)
    settings = PortalSettings(
        f"https://{HOST}:{port}",
        HOST,
        port,
        f"The demonstration's node {node}",
        "nobody real",
        (operator,),
        (HOSPITAL,),
    )
    open_portal(folder, settings)
    database = engine(f"sqlite:///{folder / 'node.db'}")
    book = CitizenBook(database, secret=read_secret(folder / "keys" / "secret"))
    book.put([Citizen(issuer, one.id, subject) for one, subject in zip(citizens(node), subjects, strict=False)])
    database.dispose()
    known = [*read_people((idp / PEOPLE).read_text()).values(), *(DevPerson(o.id, o.name) for o in citizens(node))]
    (idp / PEOPLE).write_text(json.dumps([one.to_document() for one in known], indent=1))
    open_idp(idp, (folder,), port=federation.ports["idp"], clock=time.time)  # before the node starts: its login.toml
    federation.kill("idp")
    hubs = [word for place in (federation.root / "hub", folder) for word in ("--hub", str(place))]
    federation.start("idp", "dev-idp", "--dir", str(idp), *hubs, "--port", str(federation.ports["idp"]))


def citizens(node: str) -> tuple[Player, ...]:
    """Two people whose data a node holds."""
    return tuple(
        Player(name.lower(), f"{node}: {name}, a citizen", node, "citizen", "my-data") for name in ("Maria", "Mikael")
    )


# the two applications


def _apply(desk: Desk, federation: LocalFederation, prepared: Sequence[Holding]) -> None:
    """One application of Rita's that waits for the nations, and one that all of them have agreed to."""
    people = {one.id: one for one in desk.register().persons}
    year = datetime.now(UTC).year
    datasets = tuple(data.synthetic_dataset for data in prepared)
    waiting = _submitted(desk, people, "Rare variants in early heart disease", datasets, year)
    assert waiting.startswith("A-")
    whole = _submitted(desk, people, "Which variants move LDL cholesterol?", datasets, year)
    for node in federation.nodes:
        desk.do(whole, people[f"ncp-{node.lower()}"], "agree", once=f"agree-{node}", node=node)
    desk.do(whole, people["sven"], "sign", once="sign")
    for node in federation.nodes:
        desk.do(whole, people[f"ncp-{node.lower()}"], "sign", once=f"sign-{node}", node=node)
    for node in federation.nodes:
        desk.do(whole, people[f"operator-{node.lower()}"], "prepare", once=f"prepare-{node}", node=node)


def _submitted(desk: Desk, people: Mapping[str, Person], title: str, datasets: tuple[str, ...], year: int) -> str:
    """A new application of Rita's, recommended by the committee; gives its id."""
    rita = people[PERSON]
    application = desk.open("permit", rita, once=title).opened.id
    answers = {
        "title": (title,),
        "summary": ("We compare people with and without the trait in several countries, because one is not enough.",),
        "expected": ("Better advice for families within five years.",),
        "persons": (PERSON,),
        "basis": ("research",),
        "topics": ("health",),
        "prohibited": ("yes",),
        "datasets": datasets,
        "minimisation": ("Carriers are rare, and the effects small: fewer people would show nothing.",),
        "algorithms": ("gwas-linear", "cohort-count", "allele-frequency", "gwas-logistic"),
        "suitability": ("Linear regression per variant; power is enough for effects above 0.1 standard deviations.",),
        "plan": ("Counts first, then one association study per trait.",),
        "safeguards": ("The key is on one machine; results are read by the group until they are published.",),
        "valid_from": (f"{year}-01-01",),
        "valid_until": (f"{year + 2}-12-31",),
    }
    desk.save(application, rita, answers, once=f"{application}-save", seen=None)
    desk.do(application, people["sven"], "sign-off", once=f"{application}-sign-off")
    desk.do(application, rita, "submit", once=f"{application}-submit", version=1)
    desk.do(application, people["otto"], "accept", once=f"{application}-accept")
    for who in ("dora", "daniel"):
        desk.do(application, people[who], "vote", once=f"{application}-vote", vote="for")
    desk.do(application, people["dora"], "recommend", once=f"{application}-recommend")
    return application


# the end of the demonstration


def told(federation: LocalFederation) -> dict[str, object]:
    """The portal's address and its people, as ``--json`` writes them."""
    node = federation.nodes[0]
    people = [*cast(federation.nodes), *(citizens(node) if "node" in federation.ports else ())]
    listed = [{"id": one.id, "name": one.name, "role": one.role} for one in people]
    nodes = {node: _node_url(federation)} if "node" in federation.ports else {}
    return {"url": f"{federation.url}/portal", "nodes": nodes, "people": listed}


def _node_url(federation: LocalFederation) -> str:
    return f"https://{HOST}:{federation.ports['node']}/portal"


def keep(federation: LocalFederation, console: Console, more: Sequence[str] = ()) -> None:
    """Say where the portal is and who can log in there (and ``more``), and leave everything up until told to end."""
    grid = Grid(title=f"The portal: {federation.url}/portal", title_justify="left")
    for heading in ("log in as", "role", "begin at"):
        grid.add_column(heading, no_wrap=True)
    for one in cast(federation.nodes):
        grid.add_row(one.name, one.role, f"/portal/{one.begins}")
    console.print(grid)
    if "node" in federation.ports:
        node = federation.nodes[0]
        own = Grid(title=f"Node {node}'s own portal: {_node_url(federation)}", title_justify="left")
        for heading in ("log in as", "role", "begin at"):
            own.add_column(heading, no_wrap=True)
        for one in citizens(node):
            own.add_row(one.name, one.role, f"/portal/{one.begins}")
        own.add_row(f"{node}: node operator", "node-operator", "/portal/operate")
        own.add_row("Clara, a clinician", "clinician", "/portal/cases")
        console.print(own)
    certificate = x509.load_pem_x509_certificate(federation.certificate.read_bytes())
    for line in (
        "  The browser warns once, of a certificate that was made for this demonstration. Its SHA-256:",
        f"  {certificate.fingerprint(hashes.SHA256()).hex()}",
        "  No passwords: Log in, then choose a person. Rita's key, for federome run:",
        f"  {federation.root / 'person.jwk'}",
        f"  A result waits for Olga and Oskar; for federome review: {federation.root / 'olga.jwk'} and oskar.jwk",
        "  Arne and Ruta review programs that Rita submits; for federome algorithm: arne.jwk and ruta.jwk there",
        *more,
        "  [bold]Everything stays up until Ctrl-C.[/]",
    ):
        console.print(line, soft_wrap=True)
    with _until_told() as told_to_end:
        while not told_to_end:
            time.sleep(TICK_S)
    console.print("  Ended.")


@contextmanager
def _until_told() -> Iterator[list[int]]:
    """A list of the signals that came. Whoever waits looks again and again: a lock that a signal is to release can be
    held by the waiting thread itself, and a signal just before it waits does not wake it.
    """
    ended: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        ended.append(number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
