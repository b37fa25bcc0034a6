"""A federation of real processes over TLS: it answers as if pooled, survives any death, and lets nobody in unasked."""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import quote

import httpx2 as httpx
import numpy as np
import pytest
import sqlalchemy as sa

from federome.analysis.algorithm import Algorithm, parameters
from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.gwas_linear import GwasLinear
from federome.client import Connection, Event, Result, connect
from federome.db import engine, read
from federome.demo import synthetic
from federome.demo.local import PERSON, LocalFederation
from federome.demo.pooled import run_pooled
from federome.disclosure.cohorts import FileCohorts
from federome.errors import FederomeError, Refused, Unavailable
from federome.ingest.folder import ingest_folder
from federome.model.cohort import AgeBand, Cohort
from federome.model.table import Table
from federome.network.protocol import PREFIX
from federome.network.setup import Invitation, enrol, invite
from federome.network.spending import PHENOTYPE, SqlBudgets
from federome.network.transport import HttpPort, tls_context
from federome.store import kernels
from federome.store.catalogue import Store
from federome.trust.keys import PrivateKey, generate, load_private_key

pytestmark = pytest.mark.processes

NODES = ("ES", "FI", "IT")
HUB = "hub"
GWAS = GwasLinear(phenotype="ldl_c_mmol_l", minor_alleles_min=20)
FREQUENCIES = AlleleFrequency(by="sex")
END_S = 20.0  # less than an open poll lasts


class Quick(LocalFederation):
    """A federation whose hub waits one second, not ten, for nodes that do not decide."""

    def start_hub(self) -> None:
        settings = self.root / "hub" / "hub.toml"
        settings.write_text(settings.read_text().replace("decide_s = 10.0", "decide_s = 1.0"))
        super().start_hub()

    def start_again(self, name: str) -> None:
        if name == HUB:
            self.start_hub()
        else:
            self.start_node(name)

    def mend(self) -> None:
        """Start whatever is not running."""
        for name in (HUB, *self.nodes):
            if name not in self.processes or self.processes[name].poll() is not None:
                self.start_again(name)

    def log(self, name: str) -> str:
        return (self.root / "logs" / f"{name}.log").read_text()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Every node's store, ingested once."""
    root = tmp_path_factory.mktemp("stores")
    kernels.warm()  # so that the nodes find them compiled
    for node in NODES:
        synthetic.write_hospital(root / "batches" / node, node, people=300, variants=4_000, seed=3)
        ingest_folder(Store.open(root / node), root / "batches" / node, released_on=date(2026, 11, 1))
    return {node: root / node for node in NODES}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, stores: Mapping[str, Path]) -> Iterator[Quick]:
    """Hub and nodes as processes; ended by process id, whatever happens."""
    with Quick(tmp_path_factory.mktemp("federation"), NODES) as federation:
        federation.set_up()
        for node in NODES:
            shutil.copytree(stores[node], federation.node_folder(node) / "data")
        federation.start_nodes()
        yield federation


@pytest.fixture
def federation(running: Quick) -> Iterator[Quick]:
    """The federation, mended after each test."""
    yield running
    for node in NODES:
        (running.node_folder(node) / "refusals.json").unlink(missing_ok=True)
    running.mend()


@pytest.fixture(scope="module")
def permit(running: Quick) -> str:
    """The module's only permit: one signed later would put it out of force."""
    return running.permit({node: [dataset(node)] for node in NODES})


@pytest.fixture
def asking(federation: Quick, permit: str) -> Iterator[Connection]:
    with connect(
        federation.url, key=federation.person, person=PERSON, permit=permit, certificate=federation.certificate
    ) as connection:
        yield connection


def dataset(node: str) -> str:
    return f"synthetic-{node.lower()}"


def ask(asking: Connection, question: Algorithm, on_event: Callable[[Event], None] | None = None) -> Result:
    return asking.run(question.name, deadline_s=600, on_event=on_event, **parameters(question))


@pytest.fixture(scope="module")
def calm(running: Quick, permit: str) -> Callable[[Algorithm], tuple[Result, list[str]]]:
    """The result and the events of a question that nobody disturbed, asked once."""
    held: dict[str, tuple[Result, list[str]]] = {}

    def run(question: Algorithm) -> tuple[Result, list[str]]:
        if question.name not in held:
            said: list[str] = []
            with connect(
                running.url, key=running.person, person=PERSON, permit=permit, certificate=running.certificate
            ) as connection:
                result = ask(connection, question, lambda event: said.append(event.said))
            held[question.name] = result, said
        return held[question.name]

    return run


# a whole run


def test_frequencies_equal_those_of_everybody_at_once(
    calm: Callable[[Algorithm], tuple[Result, list[str]]], stores: Mapping[str, Path]
) -> None:
    result, _ = calm(FREQUENCIES)
    told = keyed(result.tables["frequencies"])
    pooled = keyed(run_pooled([(stores[node], dataset(node)) for node in NODES], FREQUENCIES)[0]["frequencies"])
    assert result.contributors == NODES
    assert len(told) > 100
    shown = [key for key, row in told.items() if None not in row.values()]
    assert len(shown) > 50
    for key in shown:
        assert told[key]["alternate_alleles"] == pooled[key]["alternate_alleles"]
        assert told[key]["called_alleles"] == pooled[key]["called_alleles"]


def test_association_equals_that_of_everybody_at_once(
    federation: Quick, asking: Connection, stores: Mapping[str, Path]
) -> None:
    question = dataclasses.replace(GWAS, site_intercepts=False)  # pooled people have no sites
    run = ask(asking, question).run
    _, exact = run_pooled([(stores[node], dataset(node)) for node in NODES], question)
    pooled = exact["statistics"]
    url = f"{federation.url}{PREFIX}/runs/{quote(run, safe='')}/compare"
    with httpx.Client(verify=tls_context(federation.certificate)) as http:
        order = {"name": "statistics", "by": "block,statistic"}
        gaps = http.post(url, params=order, content=pooled.to_bytes()).json()
    assert pooled.rows > 50
    assert gaps["statistic"] <= 1e-9 * max(1.0, float(np.nanmax(np.abs(pooled.floats("statistic")))))


def keyed(table: Table) -> dict[tuple[object, ...], dict[str, object]]:
    names = ("chromosome", "position", "ref", "alt", "stratum")
    return {tuple(row[name] for name in names): row for row in table.records()}


# deaths


@pytest.mark.parametrize(("question", "seed"), [(FREQUENCIES, 1), (GWAS, 2)], ids=lambda value: str(value)[:9])
def test_everybody_may_be_killed_at_any_moment(
    federation: Quick,
    asking: Connection,
    calm: Callable[[Algorithm], tuple[Result, list[str]]],
    question: Algorithm,
    seed: int,
) -> None:
    """Hub and nodes are killed once each, in random order at random steps; the answer is the same to the bit."""
    expected, steps = calm(question)
    rng = random.Random(seed)
    victims = rng.sample((HUB, *NODES), k=4)
    moments = sorted(rng.sample(range(len(steps) - 1), k=4))
    due = dict(zip(moments, victims, strict=True))
    killed: list[str] = []
    seen: set[tuple[float, str]] = set()

    def watch(event: Event) -> None:
        seen.add((event.at, event.said))
        while due and min(due) < len(seen):
            victim = due.pop(min(due))
            time.sleep(rng.uniform(0.0, 0.2))
            federation.kill(victim)
            federation.start_again(victim)
            killed.append(victim)

    result = ask(asking, question, watch)
    assert sorted(killed) == sorted((HUB, *NODES))
    assert result.provenance["resumed"] is True
    assert result.contributors == NODES
    assert result.tables.keys() == expected.tables.keys()
    for name, table in result.tables.items():
        assert contents(table) == contents(expected.tables[name]), name


def contents(table: Table) -> list[bytes]:
    """The rows as bytes, ordered: variants of one genome bin may come in another order."""
    masks = {f"withheld {name}": mask for name, mask in table.withheld.items()}
    rows = np.rec.fromarrays([*table.columns.values(), *masks.values()]) if table.rows else []
    return sorted(row.tobytes() for row in rows)


@dataclass(frozen=True)
class Books:
    """What a node's files say was told, read while no process of it runs."""

    spent: Mapping[str, float]
    cohorts: int
    modelled: int
    traits: int

    @classmethod
    def of(cls, folder: Path) -> Books:
        base = engine(f"sqlite:///{folder / 'node.db'}")
        with read(base) as db:
            traits = db.execute(sa.select(sa.func.count()).select_from(PHENOTYPE)).scalar_one()
        counted = []
        for name in ("cohorts", "modelled"):
            record = FileCohorts(folder / f"{name}.audit")
            counted.append(len(record.recent(100)))
            record.close()
        return cls(SqlBudgets(base, time.time).accounts(), *counted, traits)


def test_whoever_is_killed_once_a_part_has_left_has_it_on_every_account(federation: Quick, asking: Connection) -> None:
    """All at once, where sums have been opened and nothing has been released; and going on charges nothing twice."""
    asking.run("cohort-count", deadline_s=120)  # everybody is up and has its books
    nodes = {node: federation.node_folder(node) for node in NODES}
    before = {node: Books.of(folder) for node, folder in nodes.items()}
    dead: dict[str, Books] = {}

    def watch(event: Event) -> None:
        if event.said.startswith("contributors look for cells") and not dead:
            for name in (HUB, *NODES):
                federation.kill(name)
            dead.update({node: Books.of(folder) for node, folder in nodes.items()})
            federation.mend()

    # Nobody else asks about these: counts by sex put all women on record.
    younger = dataclasses.replace(GWAS, cohort=Cohort(age=AgeBand(high=54)))
    assert ask(asking, younger, watch).contributors == NODES
    for node, then in dead.items():
        was = before[node]
        assert sum(then.spent.values()) > sum(was.spent.values())
        assert (then.cohorts, then.modelled, then.traits) == (was.cohorts + 1, was.modelled + 1, was.traits + 1)
    for name in NODES:
        federation.kill(name)
    assert {node: Books.of(folder) for node, folder in nodes.items()} == dead


@pytest.mark.parametrize("name", [HUB, "FI"])
def test_a_process_ends_soon_after_sigterm(federation: Quick, name: str) -> None:
    time.sleep(0.2)  # the nodes' polls are open
    process = federation.processes[name]
    process.send_signal(signal.SIGTERM)
    assert process.wait(END_S) == 0


def test_a_node_starts_while_the_hub_is_away(federation: Quick, asking: Connection) -> None:
    federation.kill(HUB)
    federation.kill("FI")
    federation.start_node("FI")
    time.sleep(0.5)
    federation.start_hub()
    assert asking.run("cohort-count", deadline_s=600).contributors == NODES


# refusals and absences


def test_a_node_that_refuses_is_named(federation: Quick, asking: Connection) -> None:
    command = [sys.executable, "-m", "federome.cli", "node", "refuse", "--dir", str(federation.node_folder("IT"))]
    subprocess.run([*command, "--reason", "not on Mondays"], check=True, capture_output=True, timeout=60)
    with pytest.raises(Refused) as refusal:
        asking.run("cohort-count", deadline_s=600)
    assert "IT refused: the node operator refuses: not on Mondays." in refusal.value.message
    partial = asking.run("cohort-count", deadline_s=600, allow_partial=True, quorum=2)
    assert partial.contributors == ("ES", "FI")
    assert list(partial.absent) == ["IT"]
    assert set(partial.tables) == {"ES/counts", "FI/counts"}  # two contributors cannot hide behind each other


def test_a_node_that_is_away_is_named_late(federation: Quick, asking: Connection) -> None:
    federation.kill("ES")
    partial = asking.run("cohort-count", deadline_s=600, allow_partial=True, quorum=2)
    assert partial.contributors == ("FI", "IT")
    (absent,) = partial.absent.values()
    assert isinstance(absent, dict)
    assert absent["type"] == "urn:federome:problem:unavailable"


def test_a_node_lost_for_good_fails_the_run_by_name(federation: Quick, asking: Connection) -> None:
    def watch(event: Event) -> None:
        if event.said == "3 nodes agreed":
            federation.kill("FI")

    asking.run("cohort-count", deadline_s=600)  # whoever an earlier test killed is back
    started = time.monotonic()
    asking.run("cohort-count", deadline_s=600)
    enough_s = 6 + 4 * (time.monotonic() - started)
    with pytest.raises(Unavailable, match="FI"):
        asking.run("cohort-count", deadline_s=enough_s, on_event=watch)
    assert "FI" not in federation.processes


# strangers


def test_everybody_reads_what_each_node_says_of_its_walls(federation: Quick, asking: Connection) -> None:
    """A rehearsal installs no programs of others and tests nothing; whose word it is is signed all the same."""
    deadline = time.time() + 300
    while set(told := asking._info()["nodes"]) < {"FI", "ES", "IT"}:  # type: ignore[arg-type]
        assert time.time() < deadline
        time.sleep(0.2)
    assert isinstance(told, dict)
    assert {str(word["sandbox"]["codes"]) for word in told.values()} == {"['not_tested']"}  # type: ignore[call-overload,index]


def test_an_invitation_works_once(federation: Quick, tmp_path: Path) -> None:
    invitation = invite(federation.root / "hub", "SE")
    enrol(tmp_path / "SE", invitation)
    enrol(tmp_path / "SE", invitation)  # the same node, which did not hear the answer
    with pytest.raises(Refused) as refusal:
        enrol(tmp_path / "thief", invitation)
    assert refusal.value.codes == ("replayed",)
    with pytest.raises(Refused):
        enrol(tmp_path / "guess", dataclasses.replace(invitation, code="guessed"))


def test_a_hub_with_another_certificate_is_refused(federation: Quick, tmp_path: Path) -> None:
    invitation = invite(federation.root / "hub", "SE")
    wrong = Invitation.decoded(dataclasses.replace(invitation, fingerprint="0" * 64).encoded())
    with pytest.raises(Refused) as refusal:
        enrol(tmp_path / "SE", wrong)
    assert refusal.value.codes == ("issuer_untrusted",)


def port(federation: Quick, party: str, key: PrivateKey) -> HttpPort:
    return HttpPort(
        federation.url, party=party, hub="demo-hub", key=key, instance="test", certificate=federation.certificate
    )


def test_a_party_with_an_unknown_key_is_refused(federation: Quick) -> None:
    stranger = port(federation, "FI", generate("Ed25519"))
    for call in (
        lambda: stranger.poll(0.0),
        lambda: stranger.heartbeat([]),
        lambda: stranger.upload("run", "part/1/1", b""),
        lambda: stranger.download("run", "block/0"),
    ):
        with pytest.raises(Refused) as refusal:
            call()
        assert refusal.value.codes == ("issuer_untrusted",)
    stranger.close()


def test_what_is_not_for_a_node_is_not_told(federation: Quick, asking: Connection) -> None:
    """Sums and other nodes' parts are for the hub and the releaser, and a run is for those whom it asked."""
    run = asking.run("cohort-count", datasets={n: [dataset(n)] for n in ("FI", "IT")}, deadline_s=600, quorum=2).run
    for node, names in {"ES": ("block/0", "document/x"), "FI": ("sum/5/-1", "part/5/-1", "tokens/0", "tags")}.items():
        calling = port(federation, node, load_private_key(federation.node_folder(node) / "keys" / "node.jwk"))
        for name in names:
            with pytest.raises(Refused) as refusal:
                calling.download(run, name)
            assert refusal.value.status == 403
        if node == "ES":
            with pytest.raises(Refused):
                calling.upload(run, "part/5/-1", b"12345678")
        with pytest.raises(FederomeError):
            calling.upload(run, "sum/5/-1", b"12345678")
        calling.close()
