"""Nodes that really answer at a hub whose portal is looked at: in this process, without sockets between them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from unittest import mock

import httpx2 as httpx
import numpy as np
from tests.portals import HANGS_S, KEYS, Portal, Served, free_port, served
from tests.unit.store.small_stores import Batch, draw_batch, manifest, put

from federome.client import Connection, Result, connect
from federome.client.asked import Asked
from federome.client.reviews import Reviews
from federome.errors import Missing
from federome.model.registry import DataUse
from federome.network import serve_node
from federome.network.access import install_register
from federome.network.approvals import approve_built_in
from federome.network.citizens import Citizen
from federome.network.course import ENDED
from federome.network.house import House, PortalSettings, build_house, open_portal
from federome.network.ledger import Run
from federome.network.local import LocalPort
from federome.network.match_node import MatchingNode
from federome.network.party import Party
from federome.network.setup import Enrolments, admit, make_certificate, make_keys, pin_authority
from federome.portal.node import node_application
from federome.store.catalogue import Store
from federome.trust.keys import load_private_key

HELD = "cohort-count"
"""The method whose results wait for checkers at these nodes."""
PEOPLE = 240


def join(there: Portal, folder: Path, name: str, datasets: Sequence[str]) -> Mapping[str, Batch]:
    """A node's folder as enrolment leaves it, and the node on the hub's list of who has come; its people by dataset."""
    keys = make_keys(folder)
    make_certificate(keys, "127.0.0.1")
    (keys / "tls.pem").rename(keys / "hub.pem")
    pin_authority(folder, "authority", there.authority.public)
    hub = f"https://127.0.0.1:{free_port()}"
    (folder / "node.toml").write_text(
        f'name = "{name}"\nhub = "hub.test"\nhub_url = "{hub}"\nnetwork = "development"\n'
    )
    rng = np.random.default_rng(1)
    people = {dataset: draw_batch(rng, "a", PEOPLE) for dataset in datasets}
    for dataset, batch in people.items():
        about = replace(manifest(dataset, k=5), data_use=DataUse("GRU").to_document())
        put(Store.open(folder / "data"), batch, on=date(2026, 1, 1), about=about)
    approve_built_in(folder, [HELD])
    approvals = folder / "approvals.json"
    approvals.write_text(json.dumps([{**one, "automatic": []} for one in json.loads(approvals.read_text())]))
    install_register(folder, (there.folder / "register.json").read_text())
    enrolments, code = Enrolments(there.folder), secrets.token_hex(8)
    enrolments.expect(name, code)
    enrolments.enrol(name, code, load_private_key(keys / "node.jwk").public)
    return people


class Near(LocalPort):
    """A node's port to the hub of this process."""

    def __init__(self, there: Portal, party: str) -> None:
        super().__init__(there.hub.coordinator, party, secrets.token_hex(8))
        self._members = there.folder / "members.jwt"

    def members(self) -> str:
        """The hub's member list."""
        return self._members.read_text()

    def notice(self) -> str:
        """None was given."""
        raise Missing("the authority has given no notice.")


@dataclass
class Working:
    """The hub's releaser and its nodes, who work when a test says so."""

    there: Portal
    folder: Path
    nodes: Mapping[str, tuple[Party, MatchingNode]]
    people: Mapping[str, Batch]
    seen: set[str] = field(default_factory=set)
    """Runs whose end a test has seen."""

    @classmethod
    def begin(cls, there: Portal, folder: Path, datasets: Mapping[str, Sequence[str]]) -> Working:
        people: dict[str, Batch] = {}
        for name, listed in datasets.items():
            people |= join(there, folder / name, name, listed)
        admit(there.folder, "authority", there.authority, now=there.clock())
        nodes = {}
        for name in datasets:
            (folder / name / "members.jwt").write_bytes((there.folder / "members.jwt").read_bytes())
            with mock.patch.object(serve_node, "HttpPort", lambda _url, **told: Near(there, told["party"])):
                nodes[name] = serve_node.build_node(folder / name, clock=there.clock)
        return cls(there, folder, nodes, people)

    def until(self, *states: str) -> Run:
        """Let everybody work until the only run whose end was not seen yet is in one of these states."""
        parties, state = [party for party, _ in self.nodes.values()], "none"
        for _ in range(20_000):
            for run in self.there.hub.coordinator.ledger.runs(limit=len(self.seen) + 1):
                if run.id not in self.seen:
                    if (state := run.state) in states:
                        return run
                    assert state not in ENDED, run.detail.get("problem")
            if not sum(party.once() for party in (*parties, self.there.hub.party)):
                time.sleep(0.01)  # for whoever asks
        raise AssertionError(f"the run never came there: {state}")

    def ended(self) -> Run:
        """The same run, when it has ended or waits for checkers."""
        found = self.until(*ENDED, "held")
        self.seen.add(found.id)
        return found

    def house(self, name: str, accounts: Mapping[str, str]) -> tuple[House, AbstractContextManager[str], Served]:
        """One node's own portal: how to serve it, and for whose accounts."""
        party, worker = self.nodes[name]
        url = f"http://127.0.0.1:{(port := free_port())}"
        open_portal(self.folder / name, PortalSettings(url, port=port, operator="Test biobank"))
        house = build_house(self.folder / name, party, worker, clock=self.there.clock)
        assert house is not None
        house.citizens.put([Citizen(self.there.issuer, sub, person) for sub, person in accounts.items()])
        house.public.fetch = lambda: httpx.get(f"{self.there.url}/portal/register.json", timeout=HANGS_S).content
        app = node_application(house)
        made = Served(self.folder / name, app, url, self.there.issuer, self.there.clock)
        return house, served(app, port), made


@contextmanager
def asking(there: Portal, question: Asked, who: str) -> Iterator[Connection]:
    """Somebody's own program, on their own machine."""
    with (
        httpx.Client(base_url=there.url, timeout=HANGS_S) as http,
        connect(
            question.hub, key=KEYS[who], person=question.person, permit=question.permit, http=http, clock=there.clock
        ) as connection,
    ):
        yield connection


def sent(there: Portal, question: Asked, who: str) -> Future[Result]:
    """What ``federome ask FILE --yes`` does, while the nodes work."""

    def ask() -> Result:
        with asking(there, question, who) as connection:
            return connection.run(
                question.algorithm,
                datasets=question.datasets,
                deadline_s=question.deadline_s,
                pin=question.digest,
                **question.parameters,  # type: ignore[arg-type]
            )

    pool = ThreadPoolExecutor(1)
    told = pool.submit(ask)
    pool.shutdown(wait=False)
    return told


def votes(there: Portal, who: str, run: str, act: str, reasons: str, files: str) -> None:
    """What ``federome review`` does for an output checker, over the digest that the page showed."""
    with (
        httpx.Client(base_url=there.url, timeout=HANGS_S) as http,
        Reviews(there.url, key=KEYS[who], http=http, clock=there.clock) as reviews,
    ):
        reviews.vote(run, act, reasons, files)  # type: ignore[arg-type]
