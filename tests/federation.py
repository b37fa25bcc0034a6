"""A whole federation in one process: real coordinator, nodes, releaser, keys, permits and orders over worlds in memory.

Only the sockets are missing. ``build_federation`` makes it, ``Federation.ask`` signs and submits a question, and
``Federation.settle`` lets everybody work until the run has ended.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.worlds import GENES, KEY, MemorySite, name_table

from federome.analysis.algorithm import Algorithm, Block, Variants, View, content_digest, parameters, registered
from federome.db import engine
from federome.disclosure.cohorts import FileCohorts
from federome.errors import Invalid
from federome.governance.case import NodePolicy, State
from federome.governance.consent import cohort_mask
from federome.governance.evidence import Anchors
from federome.governance.orders import claimed_order, sign_order
from federome.governance.passports import Keys
from federome.governance.permits import sign_permit
from federome.model.cohort import Carrier, Cohort
from federome.model.index import BlockIndex
from federome.model.ontology import Icd10
from federome.model.order import RunOrder
from federome.model.permit import AlgorithmGrant, AlgorithmRef, DatasetGrant, NamedPerson, Permit, PersonKey, Purpose
from federome.model.registry import AlgorithmApproval, Dataset, Institution, Person
from federome.model.release import Policy
from federome.model.table import Mask, Table
from federome.model.variant import Bin, Region, Variant, token
from federome.network.consents import ConsentBook
from federome.network.course import ENDED
from federome.network.defining import Definitions
from federome.network.exchange import Exchange
from federome.network.jobs import Coordinator
from federome.network.ledger import Ledger, Run
from federome.network.local import LocalPort
from federome.network.node import Node
from federome.network.notebook import Notebook
from federome.network.party import Party
from federome.network.pricing import Published
from federome.network.protocol import Body, mapping
from federome.network.question import Terms, Use
from federome.network.record import Record, Witness
from federome.network.releaser import Releaser
from federome.network.spending import SqlBudgets, SqlPhenotypes
from federome.trust.canonical import Json
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, generate
from federome.trust.members import Member, MemberKey, Members
from federome.trust.people import seal_passport

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
AUTHORITY = "permits.test"
GENEROUS = Policy(membership_power=1, difference_min=10)
"""Worlds of a few hundred people would have nearly no budget; tests about budgets pass a policy of their own."""


@dataclass
class WorldSite:
    """A memory site as a node opens it: tokens under the run's own key, names, and whether somebody left."""

    site: MemorySite
    holdings: WorldHoldings
    key: bytes = b""

    @property
    def view(self) -> View:
        return self.site.view

    def use(self, key: bytes) -> None:
        self.key = key

    def block(self, index: BlockIndex, rows: Table | None) -> Block:
        if index.named:
            return self.site.block(index, rows)
        mine = {_token(v, self.key): _token(v, KEY) for v in self.site.known}
        tokens = np.array([mine.get(int(t), int(t)) for t in index.tokens], np.uint64)
        return self.site.block(dataclasses.replace(index, tokens=tokens), rows)

    def tokens(self, variants: Variants, key: bytes) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        bins: dict[int, list[int]] = {}
        for v in self.site.known:
            if not variants.regions or any(r.holds(v.chromosome, v.position) for r in variants.regions):
                bins.setdefault(Bin.of(v).code, []).append(_token(v, key))
        for code in sorted(bins):
            yield code, np.array(sorted(bins[code]), np.uint64)

    def sites(self, variants: Variants) -> int:
        return sum(len(tokens) for _, tokens in self.tokens(variants, b""))

    def names(self, index: BlockIndex, rows: Table, key: bytes) -> Table:
        if index.named:
            wanted = rows.ints("row")
            return name_table(wanted, [index.named[row] for row in wanted.tolist()])
        mine = {(Bin.of(v).code, _token(v, key)): v for v in self.site.known}
        found = [
            (row, mine[int(index.bins[row]), int(index.tokens[row])])
            for row in rows.ints("row").tolist()
            if (int(index.bins[row]), int(index.tokens[row])) in mine
        ]
        return name_table(np.array([row for row, _ in found], np.int64), [v for _, v in found])

    def members(self, some: Mask | None = None) -> Mask:
        ids = self.site.view.ids if some is None else self.site.view.ids[some]
        mask = np.zeros(int(ids.max(initial=0)) + 1, bool)
        mask[ids] = True
        return mask

    def numbers(self) -> NDArray[np.int64]:
        return self.site.view.ids

    def stretches(self, wanted: Carrier) -> tuple[Region, ...]:
        if wanted.variant:
            found = Variant.parse(wanted.variant)
            return (Region(found.chromosome, found.position, found.position + len(found.ref) - 1),)
        return (Region.parse(wanted.region),) if wanted.region else GENES.get(wanted.gene, ())

    def complete(self, column: str) -> bool:
        return column.startswith("prs_") and bool(np.isfinite(self.holdings.site.view.numbers(column)).all())

    def changed(self) -> bool:
        return self.holdings.left or not self.holdings.may(self.site.view).all()


@dataclass
class WorldHoldings:
    """A node's data in memory. ``left`` says that a person of every cohort has left since it was frozen.

    People are called ``p`` and their column; ``consents`` and ``clock`` are the node's own, once it runs.
    """

    dataset: str
    site: MemorySite
    policy: Policy
    left: bool = False
    consents: ConsentBook | None = None
    clock: Callable[[], float] = lambda: NOW.timestamp()

    def terms(self, datasets: Sequence[str]) -> Terms:
        if list(datasets) != [self.dataset]:
            raise Invalid("this node does not hold that dataset.", where=",".join(datasets))
        return Terms({self.dataset: "release-1"}, (self.policy,))

    def freeze(self, datasets: Sequence[str], cohort: Cohort, use: Use) -> bytes:
        self.use = use
        return np.packbits(self.site.view.meets(cohort) & self.may(self.site.view)).tobytes()

    def may(self, view: View) -> Mask:
        assert self.consents is not None
        people = [f"p{number}" for number in view.ids]
        now = datetime.fromtimestamp(self.clock(), UTC)
        ledger = self.consents.ledger()
        return cohort_mask(ledger, people, operation=self.use.operation, basis=self.use.basis, now=now).included

    def open(self, frozen: bytes) -> WorldSite:
        keep = np.unpackbits(np.frombuffer(frozen, np.uint8), count=self.site.view.people).astype(bool)
        return WorldSite(self.site.where(keep), self)


def _token(variant: Variant, key: bytes) -> int:
    return token(key, variant.chromosome, variant.position, variant.ref, variant.alt)


@dataclass
class Federation:
    """Everybody, and the clock they share."""

    root: Path
    names: tuple[str, ...]
    keys: Mapping[str, PrivateKey]
    authority: PrivateKey
    person: PrivateKey
    members: Members
    holdings: Mapping[str, WorldHoldings]
    clock: list[float]
    policy: NodePolicy = field(default_factory=NodePolicy)
    approvals: tuple[AlgorithmApproval, ...] = ()
    instance: Iterator[int] = field(default_factory=itertools.count)
    keep_exact: bool = False
    key_sets: Keys | None = None
    persons: Mapping[str, Person] = field(default_factory=dict)
    institutions: Mapping[str, Institution] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    grants: Mapping[str, str] = field(default_factory=dict)
    releaser_within: bool = True
    boxes: Mapping[str, PrivateKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.approvals = self.approvals or approvals()
        self.coordinator = self.new_coordinator()
        self.parties = {name: self.new_party(name) for name in (*self.names, "releaser")}
        self.runs = itertools.count(1)

    def now(self) -> float:
        return self.clock[0]

    def new_coordinator(self) -> Coordinator:
        """A coordinator on the same database: what a restarted hub is."""
        ledger = Ledger(engine(f"sqlite:///{self.root}/hub.db"), self.root / "hub")
        exchange = Exchange(engine(f"sqlite:///{self.root}/record.db"), party="hub", key=self.keys["hub"])
        within = ("releaser",) if self.releaser_within else ()
        return Coordinator(ledger, self.members, exchange=exchange, clock=self.now, within=within)

    def port(self, name: str) -> LocalPort:
        return LocalPort(self.coordinator, name, f"instance-{next(self.instance)}")

    def worker(self, name: str, port: LocalPort) -> Node | Releaser:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        if name == "releaser":
            return Releaser(
                name, key=self.keys[name], members=self.members, port=port, folder=folder, clock=self.now,
                keep_exact=self.keep_exact,
            )  # fmt: skip
        log = engine(f"sqlite:///{folder}/node.db", durable=True)
        self.holdings[name].consents = ConsentBook(log, secret=b"secret")
        self.holdings[name].clock = self.now
        return Node(
            name=name,
            key=self.keys[name],
            secret=f"a secret that belongs to {name}".encode(),
            members=self.members,
            anchors=lambda: Anchors(KeyRing((PinnedKey(AUTHORITY, self.authority.public),)), self.key_sets),
            state=lambda: self.state(name),
            holdings=self.holdings[name],
            notebook=Notebook(engine(f"sqlite:///{folder}/node.db")),
            cohorts=FileCohorts(folder / "cohorts.audit"),
            modelled=FileCohorts(folder / "modelled.audit"),
            definitions=Definitions(engine(f"sqlite:///{folder}/definitions.db", durable=True)),
            budgets=SqlBudgets(log, self.now),
            phenotypes=SqlPhenotypes(log),
            published=lambda: self.published,
            boxes=lambda: (self.boxes[name],),
            log=Record(log, party=name, key=self.keys[name]),
            witness=Witness(log, party=name, key=self.keys[name], members=self.members),
            port=port,
            folder=folder,
            clock=self.now,
        )

    def new_party(self, name: str) -> Party:
        """A party on the same files: what a restarted process is."""
        port = self.port(name)
        return Party(port, self.worker(name, port))

    def state(self, node: str) -> State:
        dataset = self.holdings[node].dataset
        record = Dataset.from_document(
            {"id": dataset, "node": node, "data_use": {"permission": "GRU"}}, where="dataset"
        )
        if dataset in self.grants:
            record = dataclasses.replace(record, grant=self.grants[dataset])
        return State(
            node=node,
            ontology=Icd10(),
            policy=self.policy,
            datasets={dataset: record},
            approvals=self.approvals,
            persons=self.persons,
            institutions=self.institutions,
        )

    def permit(self, **changes: object) -> str:
        """A signed permit for everything here."""
        permit = Permit(
            id="P-1",
            authority=AUTHORITY,
            holder="uni",
            persons=(NamedPerson("alice", PersonKey.of(self.person.public.jwk())),),
            datasets=tuple(DatasetGrant(h.dataset, node) for node, h in self.holdings.items()),
            purpose=Purpose("research", ("general",)),
            algorithms=tuple(AlgorithmGrant(name=name) for name in registered()),
            valid_from=date(2026, 1, 1),
            valid_until=date(2027, 12, 31),
        )
        return sign_permit(dataclasses.replace(permit, **changes), self.authority, issued=NOW - timedelta(days=1))

    def orders(
        self, algorithm: Algorithm, *, roster: Sequence[str] = (), run: str = "", **changes: object
    ) -> dict[str, str]:
        """One signed order per node."""
        run = run or f"run-{next(self.runs)}"
        nodes = tuple(roster or self.names)
        out = {}
        for node in nodes:
            order = RunOrder(
                person="alice",
                node=node,
                jti=f"{run}-{node}",
                issued=datetime.fromtimestamp(self.now(), UTC),
                expires=datetime.fromtimestamp(self.now(), UTC) + timedelta(hours=1),
                run=run,
                roster=nodes,
                permit="P-1",
                purpose=Purpose("research", ("general",)),
                datasets=(self.holdings[node].dataset,),
                algorithm=AlgorithmRef(algorithm.name, algorithm.version, content_digest(type(algorithm))),
                quorum=len(nodes),
                deadline=datetime.fromtimestamp(self.now(), UTC) + timedelta(minutes=30),
                parameters=parameters(algorithm),
            )
            out[node] = sign_order(dataclasses.replace(order, **changes), self.person)
        return out

    def ask(self, algorithm: Algorithm, *, passport: Body | None = None, **changes: object) -> Run:
        """Submit a question; nothing works on it yet."""
        orders = self.orders(algorithm, **changes)
        sealed = None if passport is None else self.sealed(passport, orders)
        return self.coordinator.submit(self.permit(), orders, person="alice", passport=sealed)

    def sealed(self, passport: Json, orders: Mapping[str, str]) -> dict[str, str]:
        """A passport for these orders as a client seals it."""
        run = claimed_order(next(iter(orders.values()))).run
        return {n: seal_passport(passport, self.boxes[n].public, run=run, node=n) for n in orders}

    def settle(self, run: Run, *, limit: int = 400) -> Run:
        """Let everybody work until the run has ended or nobody has anything to do."""
        for _ in range(limit):
            worked = sum(party.once() for party in self.parties.values())
            state = self.coordinator.ledger.run(run.id)
            if state.state in ENDED or not worked:
                return state
        raise AssertionError("the run does not come to an end")

    def tables(self, run: Run) -> dict[str, Table]:
        """The tables of a completed run."""
        result = mapping(run.detail, "result")
        return {
            name: Table.from_bytes(self.coordinator.ledger.get(run.id, f"document/{digest}"))
            for name, digest in mapping(result, "tables").items()
        }


def approvals() -> tuple[AlgorithmApproval, ...]:
    """Approvals of every built-in algorithm."""
    return tuple(_approved(name, cls) for name, cls in registered().items())


@cache
def _approved(name: str, cls: type[Algorithm]) -> AlgorithmApproval:
    return AlgorithmApproval(
        name=name,
        version=cls.version,
        digest=content_digest(cls),
        release_class="counts",
        automatic=("counts", "frequencies", "summary-statistics"),
    )


def build_federation(
    root: Path, sites: Sequence[MemorySite], *, policy: Policy | None = None, keep_exact: bool = False
) -> Federation:
    """A federation with one node per site: FI, ES, IT, … and datasets fi-1, es-1, …"""
    names = ("FI", "ES", "IT", "GB", "EE", "DE", "FR")[: len(sites)]
    keys = {name: generate("Ed25519") for name in (*names, "releaser", "hub")}
    boxes = {name: generate("ECDH-ES+A256KW") for name in names}
    members = Members(
        1,
        tuple(
            Member(
                name,
                name if name in ("releaser", "hub") else "node",
                MemberKey.of(key.public),
                str(boxes[name].public.jwk()["x"]) if name in boxes else None,
            )
            for name, key in keys.items()
        ),
    )
    return Federation(
        root=root,
        names=names,
        keys=keys,
        authority=generate("ES256"),
        person=generate("ES256"),
        members=members,
        holdings={
            name: WorldHoldings(f"{name.lower()}-1", site, policy or GENEROUS)
            for name, site in zip(names, sites, strict=True)
        },
        clock=[NOW.timestamp()],
        keep_exact=keep_exact,
        boxes=boxes,
    )
