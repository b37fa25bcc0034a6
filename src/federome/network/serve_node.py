"""A node as a process: put together from its folder, dialling its hub, ended in good order.

Nothing is decided here. A node that is killed loses nothing, because everything it owes is in its notebook and at the
hub; what its operator decides by hand takes effect at the next step, because the files are read again when they change.
"""

from __future__ import annotations

import json
import logging
import secrets
import signal
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

import httpx2 as httpx

from federome.db import engine
from federome.disclosure.cohorts import FileCohorts
from federome.errors import FederomeError, Invalid, Refused
from federome.governance.case import LocalRefusal, State
from federome.model.cohort import Cohort
from federome.model.ontology import Icd10
from federome.model.registry import AlgorithmApproval, Dataset, DataUse
from federome.network import about
from federome.network.access import NodeAccess
from federome.network.approvals import load_modules
from federome.network.bundled import Runner, installed, register
from federome.network.consents import ConsentBook
from federome.network.defining import Definitions
from federome.network.fetching import key_sets
from federome.network.files import changed_at
from federome.network.holdings import StoreHoldings
from federome.network.integrity import Integrity
from federome.network.match_node import MatchingNode
from federome.network.node import Node
from federome.network.notebook import Notebook
from federome.network.notices import FILE as NOTICE
from federome.network.notices import Notices, published
from federome.network.operating import is_paused
from federome.network.pace import Pace
from federome.network.parallel import Workers
from federome.network.party import Party
from federome.network.pricing import Published
from federome.network.question import Holdings, Use
from federome.network.record import Record, Witness
from federome.network.reviews import SignedApprovals
from federome.network.rotation import OwnKeys
from federome.network.sandbox_selftest import open_tested
from federome.network.setup import SEALING, MemberList, node_settings
from federome.network.spending import SqlBudgets, SqlPhenotypes
from federome.network.tes import Profile, open_service
from federome.network.transport import HttpPort
from federome.network.warm import for_answers
from federome.store.catalogue import Store
from federome.store.verify import check_start
from federome.trust.canonical import Json
from federome.trust.keys import read_secret

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from federome.network.house import House

GRACE_S: Final = 2
PORTAL: Final = "portal.toml"
LOG: Final = logging.getLogger("federome")
T = TypeVar("T")
_READ: Final = ("policy", "datasets", "persons", "institutions", "approvals", "revocations_at", "refusals")


@dataclass
class NodeState:
    """What governance knows at this node, read from its folder; files are read again when they change.

    Approved algorithms are what the reviewers of a pinned root signed (``reviews.py``); without a root, what the
    operator listed in ``approvals.json``. ``refusals.json`` lists the operator's own refusals (rule R20),
    ``suspended.json`` permits that are suspended; ``access`` holds the node's policy and the register. Datasets and
    their data use come from the store.
    """

    name: str
    folder: Path
    store: Store
    access: NodeAccess
    clock: Callable[[], float] = time.time
    notices: Notices | None = None
    _read: dict[str, tuple[int, tuple[object, ...]]] = field(default_factory=dict)
    _ontology: Icd10 = field(default_factory=Icd10)
    _last: State | None = None
    _catalogue: tuple[int | None, Mapping[str, Dataset]] = (None, MappingProxyType({}))
    _signed: SignedApprovals = field(init=False)

    def __post_init__(self) -> None:
        self._signed = SignedApprovals(self.folder, self.clock)

    def __call__(self) -> State:
        """The state at this moment."""
        signed = self._signed
        now = State(
            node=self.name,
            ontology=self._ontology,
            policy=self.access.policy(),
            datasets=self._datasets(),
            persons=self.access.persons(),
            institutions=self.access.institutions(),
            approvals=signed.standing().approvals if signed.pinned else self._own_approvals(),
            revocations_at=signed.revocations_at() if signed.pinned else None,
            refusals=self._listed("refusals.json", LocalRefusal.from_document),
            suspended=frozenset(self._listed("suspended.json", str)) | self._noticed(),
        )
        # Made of the very same parts it is the same state, whose records have their digests already.
        if self._last is None or not _same(now, self._last):
            self._last = now
        return self._last

    def _noticed(self) -> frozenset[str]:
        return self.notices.suspended() if self.notices is not None else frozenset()

    def published(self) -> tuple[Published, ...]:
        """Frequency tables that were priced when they were published (``federome risk publish``)."""
        return self._listed("published.json", Published.from_document)

    def _own_approvals(self) -> tuple[AlgorithmApproval, ...]:
        return self._listed("approvals.json", AlgorithmApproval.from_document)

    def _datasets(self) -> Mapping[str, Dataset]:
        """Datasets as the catalogue has them now; read again only where somebody has written to it."""
        version = self.store.written.version()
        if version is None or version != self._catalogue[0]:
            self._catalogue = version, self._read_datasets()
        return self._catalogue[1]

    def _read_datasets(self) -> Mapping[str, Dataset]:
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

    def _listed(self, name: str, read: Callable[[object], T]) -> tuple[T, ...]:
        stamp = changed_at(f"{self.folder}/{name}")
        held = self._read.get(name)
        if held is None or held[0] != stamp:
            path = self.folder / name
            document = json.loads(path.read_text()) if stamp else []
            if not isinstance(document, list):
                raise Invalid("this file holds a list.", where=str(path))
            held = self._read[name] = (stamp, tuple(read(entry) for entry in document))
        return held[1]  # type: ignore[return-value]


def _same(one: State, other: State) -> bool:
    """Whether two states have the same parts, without looking into them: what was not read again is the same."""
    return one.suspended == other.suspended and all(getattr(one, part) is getattr(other, part) for part in _READ)


def build_node(
    folder: Path, *, clock: Callable[[], float] = time.time, report: Callable[[str], None] = LOG.info
) -> tuple[Party, MatchingNode]:
    """A node from its folder, ready to run; and its matching, which also follows its registry of cases."""
    settings = node_settings(folder)
    load_modules(settings.modules)
    key = OwnKeys(folder / "keys", "node", party=settings.name, clock=clock)
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
    check_start(store)
    far = settings.authority_url
    listed = [port.members, *([published(far, "members.jwt")] if far else [])]
    members = MemberList(folder, clock, *listed)
    noticed = [port.notice, *([published(far, NOTICE)] if far else [])]
    notices = Notices(folder, clock, noticed, limit_h=settings.notice_age_h, demanded=bool(far))
    key.follow(members)
    # What is sealed must survive a loss of power; the steps in between are done again after one.
    programs = open_programs(folder, report)
    log = engine(f"sqlite:///{folder / 'node.db'}", durable=True)
    secret = read_secret(folder / "keys" / "secret")
    access = NodeAccess(folder, key_sets(), development=settings.network == "development")
    state = NodeState(settings.name, folder, store, access, clock, notices)
    node = Node(
        name=settings.name,
        key=key,
        secret=secret,
        members=members,
        anchors=access.anchors,
        state=state,
        holdings=StoreHoldings(store, ConsentBook(log, secret=secret).ledger, clock),
        notebook=Notebook(engine(f"sqlite:///{folder / 'node.db'}")),
        cohorts=FileCohorts(folder / "cohorts.audit"),
        modelled=FileCohorts(folder / "modelled.audit"),
        definitions=Definitions(engine(f"sqlite:///{folder / 'definitions.db'}", durable=True)),
        budgets=SqlBudgets(log, clock),
        phenotypes=SqlPhenotypes(log),
        published=state.published,
        boxes=OwnKeys(folder / "keys", SEALING, party=settings.name, clock=clock).all,
        log=Record(log, party=settings.name, key=key),
        witness=Witness(log, party=settings.name, key=key, members=members),
        port=port,
        folder=folder / "runs",
        clock=clock,
        notices=notices,
        programs=programs,
        pace=Pace(),
        workers=Workers.cluster(settings.cluster) if settings.cluster else Workers.threads(settings.threads),
    )
    worker = MatchingNode(node, folder)
    return Party(port, worker, report=report, paused=lambda: is_paused(folder), clock=clock), worker


def open_programs(folder: Path, report: Callable[[str], None]) -> Mapping[str, Json]:
    """Put up the walls for installed bundles, after the hostile self-test; what it found, as the node says of itself.

    A node whose self-test fails takes no program of others; without bundles nothing waits for it (``_say``).
    """
    programs = installed(folder)
    if not programs:
        about.keep(folder, about.UNTESTED)
        return {}
    try:
        runner, found = _open_runner(folder)
    except Refused as refusal:
        report(f"programs of others are not run: {refusal.message}")
        failed: Mapping[str, Json] = {"passed": False, "codes": [*refusal.codes]}
        about.keep(folder, failed)
        return failed
    about.keep(folder, found)
    for program in programs:
        register(program, runner)
    report(f"programs of others run behind {found['backend']}: the self-test's hostile ones were stopped")
    return found


def _open_runner(folder: Path) -> tuple[Runner, Mapping[str, Json]]:
    """The task service that ``tes.toml`` declares, after its canary; without one this machine's own sandbox."""
    declared = folder / "tes.toml"
    if declared.is_file():
        profile = Profile.from_document(tomllib.loads(declared.read_text()), where=str(declared))
        return open_service(profile, httpx.Client()).run, {"backend": "tes", "passed": True}
    place = folder / "sandbox"
    place.mkdir(mode=0o700, exist_ok=True)
    sandbox, found = open_tested(place, preload=("numpy", "numba"), protected=[folder / "data", folder / "keys"])
    return sandbox.run, dict(found.to_document())  # type: ignore[arg-type]


def serve_node(folder: Path, *, pages: Callable[[House], ASGIApp]) -> None:
    """Run a node until SIGTERM or SIGINT. It needs no open port: it dials the hub.

    Where ``portal.toml`` says so it also serves its portal, which ``pages`` makes.
    """
    party, matching = build_node(folder)
    close = _open_house(folder, party, matching, pages)
    ended, told = threading.Event(), SimpleQueue[None]()
    for number in (signal.SIGTERM, signal.SIGINT):  # no event: its lock may be held by whoever waits as a signal comes
        signal.signal(number, lambda *_: told.put(None))

    def work() -> None:
        get_ready(matching.node.holdings, lambda: matching.node.state().datasets, LOG.error)
        party.run()

    working = threading.Thread(target=work, name="node", daemon=True)
    working.start()
    threading.Thread(target=_say, args=(folder, matching.node, ended), name="about", daemon=True).start()
    if (notices := matching.node.notices) is not None:
        threading.Thread(target=notices.watch, args=(ended,), name="notices", daemon=True).start()
    threading.Thread(target=matching.run, args=(ended,), name="matching", daemon=True).start()
    holdings = matching.node.holdings
    assert isinstance(holdings, StoreHoldings)
    integrity = Integrity(folder, holdings.store, time.time, LOG.error)
    threading.Thread(target=integrity.watch, args=(ended,), name="integrity", daemon=True).start()
    while working.is_alive():
        with suppress(Empty):
            told.get(timeout=0.5)
            break
    ended.set()
    party.stop()
    close()
    # An open poll would hold the thread for up to half a minute; it is a daemon and ends with the process.
    if party.at_work:
        working.join(GRACE_S)


def get_ready(holdings: Holdings, datasets: Callable[[], Iterable[str]], report: Callable[[str], None]) -> None:
    """Load what the first question needs before it comes: it would take a second, and those after it be held as long.

    ``pace.py`` holds replies for as long as most took lately. What cannot be read is reported, and refused when asked.
    """
    for_answers()
    try:
        for dataset in datasets():
            holdings.freeze([dataset], Cohort(), Use("run", "research"))
    except FederomeError as error:
        report(f"not everything can be read: {error.message}")


def _open_house(
    folder: Path, party: Party, matching: MatchingNode, pages: Callable[[House], ASGIApp]
) -> Callable[[], None]:
    """Serve the node's portal if it has one; a node without does not load what serves pages."""
    if not (folder / PORTAL).is_file():
        return lambda: None
    from federome.network.house import build_house, serve_house

    house = build_house(folder, party, matching, clock=time.time)
    return serve_house(house, pages(house)) if house is not None else lambda: None


def _say(folder: Path, node: Node, ended: threading.Event) -> None:
    """Try the walls where nothing needed them yet, unless all this is a rehearsal, and tell the hub what they hold."""
    if not node.programs and node_settings(folder).network == "production":
        about.keep(folder, about.try_walls(folder))
    assert isinstance(node.port, HttpPort)
    found = about.kept(folder)
    about.tell(node.port, lambda: about.statement(node.name, found, node.key.current, now=node.clock()), ended)
