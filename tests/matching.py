"""Matching over five nodes in one process: real coordinator, nodes, offices, orders, contracts, envelopes; no sockets.

Patients are spread over the nodes' registries; ``doctor`` is at FI and holds the case that is asked about, every other
case is held by its node's own clinician.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray
from tests.federation import AUTHORITY, NOW, Federation, build_federation
from tests.unit.analysis.test_matching import LEAVES, MEASURE, random_patients
from tests.worlds import make_world, random_assignment

from federome.analysis.matching import Background
from federome.db import engine, write
from federome.governance.case import State
from federome.governance.permits import sign_permit
from federome.model.order import RunOrder
from federome.model.patient import Patient
from federome.model.permit import AlgorithmGrant, HealthcareContract, PersonKey, Purpose
from federome.model.registry import AlgorithmApproval, Dataset, Institution, Person
from federome.network import alerts
from federome.network.alerts import Channel, Message
from federome.network.cases import Case, CaseBook
from federome.network.ledger import Run
from federome.network.match_asker import Asker
from federome.network.match_desk import ASKED, HANDLE, MatchDesk
from federome.network.match_node import build_office, outgoing
from federome.network.match_office import LETTER, Office
from federome.network.match_question import Level, method
from federome.network.node import Node
from federome.network.party import Party
from federome.network.protocol import Reply, Task, mapping
from federome.trust.keys import PrivateKey, generate
from federome.trust.people import sign_order

NODES = ("FI", "ES", "IT", "GB", "EE")
RATES = Background({f"G{i}": 0.01 + i / 100 for i in range(40)}, 0.005, "test")
PATIENTS = [replace(p, id=f"{p.id}-a-name-at-home", group="") for p in random_patients(5, 300, genes=3)]
QUERY = Patient("mine", tuple(LEAVES[200:206]), genes=("G1", "G2"))


@dataclass
class Both:
    """A node's worker: letters to the office, all else to the node."""

    node: Node
    office: Office

    def answer(self, task: Task) -> Reply:
        return self.office.answer(task) if task.kind == "letter" else self.node.answer(task)

    def prepare(self, task: Task) -> None:
        self.node.prepare(task)


@dataclass
class World:
    """Everybody. ``gone`` holds (node, subject) who withdrew; ``down`` nodes that do not answer."""

    federation: Federation
    offices: dict[str, Office]
    going: dict[str, dict[str, Channel]]
    people: dict[str, PrivateKey]
    contract: str
    gone: set[tuple[str, str]] = field(default_factory=set)
    down: set[str] = field(default_factory=set)
    told: list[Message] = field(default_factory=list)
    sent: list[Run] = field(default_factory=list)
    runs: itertools.count[int] = field(default_factory=itertools.count)
    life: int = 0

    def reset(self) -> None:
        """As it was built: nobody else registered, nothing asked, everybody up; only the clock has gone on."""
        self.gone.clear(), self.down.clear(), self.told.clear(), self.sent.clear()
        self.life += (
            1  # other secrets, so other names of cases outside: the hub still has the letters about the old ones
        )
        known = {patient.id for patient in PATIENTS}
        for node, office in self.offices.items():
            object.__setattr__(office, "state", lambda node=node: self.federation.state(node))
            object.__setattr__(office, "desk", replace(office.desk, background=RATES))
            office.alerts._bars.clear()
            office.desk.book.secret = f"{node} {self.life}".encode()
            for holder in ("doctor", f"clinician-{node.lower()}"):
                for case in office.desk.book.cases(holder):
                    if case.name not in known:
                        office.desk.book.withdraw(case.name, holder)
            with write(office.desk.engine) as db:
                for table in (ASKED, HANDLE, LETTER, *alerts.METADATA.tables.values()):
                    db.execute(table.delete())

    @property
    def clock(self) -> Callable[[], float]:
        return self.federation.now

    def desk(self, node: str) -> MatchDesk:
        return self.offices[node].desk

    def register(self, node: str, case: Case) -> Case:
        return self.desk(node).book.register(case, MEASURE)

    def asker(self, node: str, name: str, holder: str) -> Asker:
        """A clinician with a registered case, ready to ask."""
        office, book = self.offices[node], self.desk(node).book
        case = book.case(name, holder)

        def registration(level: Level) -> str:
            return book.registration(case, MEASURE, node, key=office.key, box=office.box.public, level=level)

        return Asker(
            case,
            registration,
            self.people[holder],
            self.federation.members.ring("node"),
            self.sender(holder),
            self.clock,
        )

    def sender(self, person: str, **changes: object) -> Callable[..., SimpleNamespace]:
        """What ``client.care.Care.send`` does, over the coordinator itself."""

        def send(nodes: Sequence[str], sealed: Callable[[str], Mapping[str, str]]) -> SimpleNamespace:
            run = f"letters-{next(self.runs)}"
            ran = self.submit(run, self.orders(person, nodes, run, **changes), sealed(run))
            answers = mapping(mapping(ran.detail, "result"), "answers")
            absent = {node: str(dict(why).get("detail")) for node, why in mapping(ran.detail, "absent").items()}  # type: ignore[arg-type]
            return SimpleNamespace(run=run, answers=answers, absent=absent)

        return send

    def orders(self, person: str, nodes: Sequence[str], run: str, **changes: object) -> dict[str, str]:
        now = datetime.fromtimestamp(self.clock(), UTC)
        out = {}
        for node in nodes:
            order = RunOrder(
                person=person,
                node=node,
                jti=f"{run}-{node}",
                issued=now,
                expires=now + timedelta(hours=1),
                run=run,
                roster=tuple(nodes),
                permit="C-1",
                purpose=Purpose("care"),
                datasets=(f"{node.lower()}-1",),
                algorithm=method(),
                quorum=1,
                deadline=now + timedelta(seconds=60),
                allow_partial=True,
            )
            out[node] = sign_order(dataclasses.replace(order, **changes), self.people[person])
        return out

    def submit(self, run: str, orders: Mapping[str, str], sealed: Mapping[str, str]) -> Run:
        coordinator = self.federation.coordinator
        coordinator.submit(self.contract, orders, person="thumbprint", sealed=sealed)
        self.work()
        if coordinator.ledger.run(run).state != "complete":
            self.federation.clock[0] += 61
            coordinator.tick()
        self.sent.append(coordinator.ledger.run(run))
        return self.sent[-1]

    def work(self) -> None:
        """Everybody who is not down does what is due."""
        while sum(party.once() for name, party in self.federation.parties.items() if name not in self.down):
            pass

    def follow(self) -> int:
        """Every node that is up looks at its registry and outbox, and takes its post; alerts that clinicians got."""
        before = len(self.told)
        for node, office in self.offices.items():
            if node not in self.down:
                office.alerts.catch_up()
                office.alerts.deliver_due(self.going[node])
        self.work()
        for node, office in self.offices.items():
            if node not in self.down:
                office.alerts.deliver_due(self.going[node])
        return len(self.told) - before


def build_world(root: Path, *, patients: Sequence[Patient] = PATIENTS) -> World:
    """Five nodes with ``patients`` dealt out in turn."""
    world = make_world(seed=3, people=40, variants=2)
    federation = build_federation(root, world.split(random_assignment(world, sites=5, seed=1)).sites)
    names = ("doctor", *(f"clinician-{node.lower()}" for node in NODES))
    people = {name: generate("ES256") for name in names}
    contract = HealthcareContract(
        "C-1",
        AUTHORITY,
        "hospital",
        NODES,
        (AlgorithmGrant(release_class="match"),),
        date(2026, 1, 1),
        date(2027, 12, 31),
    )
    token = sign_permit(contract, federation.authority, issued=NOW - timedelta(days=1))
    persons = {
        name: Person(
            name, "hospital", vetted=True, assigned=True, roles=("clinician",), key=PersonKey.of(key.public.jwk())
        )
        for name, key in people.items()
    }
    made = World(federation, {}, {}, people, token)
    approved = AlgorithmApproval(method().name, method().version, method().digest, "match", ("match",))
    plain = federation.state

    def state(node: str) -> State:
        use = {"permission": "GRU", "modifiers": [{"code": "CC"}]}
        record = Dataset.from_document({"id": f"{node.lower()}-1", "node": node, "data_use": use}, where="dataset")
        return dataclasses.replace(
            plain(node),
            datasets={record.id: record},
            persons=dict(federation.persons),
            institutions={"hospital": Institution("hospital", "FI", provider=True)},
            approvals=(*federation.approvals, approved),
        )

    federation.state = state  # type: ignore[method-assign]
    federation.persons = persons
    for place, node in enumerate(NODES):
        _open(made, node, root)
        low = node.lower()
        cases = (Case(patient.id, f"clinician-{low}", f"{low}-1", patient) for patient in patients[place::5])
        made.desk(node).book.register_all(cases, MEASURE)
    return made


def _open(world: World, node: str, root: Path) -> None:
    federation = world.federation
    port = federation.port(node)
    worker = federation.worker(node, port)
    assert isinstance(worker, Node)
    base = engine(f"sqlite:///{root}/{node}/match.db")

    def consented(people: Sequence[str]) -> NDArray[np.bool_]:
        return np.array([(node, subject) not in world.gone for subject in people], np.bool_)

    book = CaseBook(base, f"{node} {world.life}".encode(), federation.now)
    desk = MatchDesk(node, base, book, MEASURE, RATES, consented, federation.now)
    held = world.offices.get(node)
    world.offices[node] = build_office(worker, desk, held.box if held else generate("ECDH-ES+A256KW"))
    world.going[node] = outgoing(port, worker.key, federation.now, world.told.append)
    federation.parties[node] = Party(port, Both(worker, world.offices[node]))


def restart(world: World, node: str) -> None:
    """The node's process, killed and started again on its files."""
    _open(world, node, world.federation.root)
