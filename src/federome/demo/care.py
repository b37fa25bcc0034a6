"""Clinicians of the demonstration: a care contract, a registry of cases at each node, and letters over the running hub.

What clinicians do here is what ``federome match`` does beside a node's folder, with the same functions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeVar

import numpy as np

from federome.analysis.match_search import warm
from federome.analysis.matching import Measure
from federome.client.care import open_care
from federome.demo import synthetic
from federome.demo.local import AUTHORITY
from federome.demo.stage import Stage, plain
from federome.errors import Unavailable
from federome.governance.permits import sign_permit
from federome.ingest import ontologies
from federome.ingest.folder import ingest_folder
from federome.model.patient import Patient
from federome.model.permit import AlgorithmGrant, HealthcareContract, PersonKey
from federome.model.registry import Institution, Person
from federome.model.strict import write
from federome.network.access import REGISTER, Register, install_register
from federome.network.cases import Case
from federome.network.match_asker import Asker
from federome.network.match_node import Home, open_home, open_matching
from federome.network.match_question import method
from federome.store.catalogue import Store
from federome.trust.keys import PrivateKey, generate

NATIONS: Final = 3
OTHERS: Final = 60
"""Invented cases at each node among which the right one is to be found."""
PATIENCE_S: Final = 120.0
T = TypeVar("T")


@dataclass(frozen=True)
class Clinic:
    """A clinician and their own node."""

    node: str
    person: str
    key: PrivateKey
    home: Home
    dataset: str

    @property
    def address(self) -> str:
        """Where the other clinician may write to, once both agree."""
        return f"{self.person}@hospital.{self.node.lower()}.example"

    def register(self, patient: Patient, **more: object) -> Case:
        """Register a case of this clinician's, or describe it anew."""
        case = Case(patient.id, self.person, self.dataset, patient, subject=f"{self.node} {patient.id}", **more)  # type: ignore[arg-type]
        return self.home.desk.book.register(case, self.home.desk.measure)


@dataclass(frozen=True)
class Clinics:
    """Clinicians of three nations under one care contract."""

    stage: Stage
    contract: str
    clinics: tuple[Clinic, ...]

    @property
    def nodes(self) -> list[str]:
        """Whose registries are asked."""
        return [clinic.node for clinic in self.clinics]

    @contextmanager
    def asker(self, clinic: Clinic, case: Case) -> Iterator[Asker]:
        """The clinician who holds a case, with a way to the other nodes."""
        federation = self.stage.federation
        with open_care(
            federation.url,
            key=clinic.key,
            person=clinic.person,
            contract=self.contract,
            datasets={each.node: [each.dataset] for each in self.clinics},
            method=method(),
            certificate=federation.certificate,
            deadline_s=300.0,
        ) as care:
            yield clinic.home.asker(case, clinic.key, care.send)


@contextmanager
def clinics(stage: Stage) -> Iterator[Clinics]:
    """Matching at three nodes that run, for the length of a scene. ``Unavailable`` with fewer, or without HPO."""
    if len(stage.nodes) < NATIONS:
        raise Unavailable(f"this takes {NATIONS} nations.", remedy=f"Start the demonstration with --nodes {NATIONS}.")
    ontology = ontologies.at_hand()
    nodes = [data.node for data in stage.nodes[:NATIONS]]
    keys = {node: generate("ES256") for node in nodes}
    names = {node: f"clinician-{node.lower()}" for node in nodes}
    register = _register({names[node]: key for node, key in keys.items()})
    for node in nodes:
        folder = stage.federation.node_folder(node)
        _care_dataset(stage, node)
        if not (folder / "matching" / "settings.json").is_file():
            open_matching(folder, ontology, None)
        install_register(folder, register)
        until((folder / "members.jwt").is_file)  # a node fetches the member list once it has reached the hub
    made = [
        Clinic(
            node, names[node], keys[node], open_home(stage.federation.node_folder(node), time.time), _dataset_of(node)
        )
        for node in nodes
    ]
    for number, clinic in enumerate(made):
        _others(clinic, seed=number)
    try:
        yield Clinics(stage, _contract(stage, nodes), tuple(made))
    finally:
        for node in nodes:
            (stage.federation.node_folder(node) / REGISTER).unlink()


def played(stage: Stage, name: str, title: str, play: Callable[[Clinics], dict[str, object]]) -> None:
    """A story between clinicians, with its facts as ``name``; what keeps it from being told is said instead."""
    stage.title(title)
    started = time.perf_counter()
    try:
        with clinics(stage) as open_:
            story = play(open_)
    except Unavailable as error:
        stage.console.print(f"  [yellow]left out:[/] {plain(str(error))}")
        return
    story["seconds"] = round(time.perf_counter() - started, 1)
    stage.facts.stories[name] = story


def prepare() -> None:
    """Have HPO and the compiled kernels of matching at hand for later scenes; without HPO, those say so."""
    with suppress(Unavailable):
        warm(Measure.of(ontologies.load(ontologies.at_hand())))


def until(look: Callable[[], T], *, patience_s: float = PATIENCE_S) -> T:
    """What a look gives as soon as it gives something; ``Unavailable`` if it never does."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise Unavailable("the nodes did not tell in time.", remedy="Look into their logs.")


def _register(keys: dict[str, PrivateKey]) -> str:
    persons = tuple(
        Person(
            name, "demo-hospital", vetted=True, assigned=True, roles=("clinician",), key=PersonKey.of(k.public.jwk())
        )
        for name, k in keys.items()
    )
    return json.dumps(write(Register(persons, (Institution("demo-hospital", "FI", provider=True),))))


def _contract(stage: Stage, nodes: Sequence[str]) -> str:
    today = datetime.now(UTC).date()
    contract = HealthcareContract(
        "DEMO-CARE-001",
        AUTHORITY,
        "demo-hospital",
        tuple(nodes),
        (AlgorithmGrant(release_class="match"),),
        today - timedelta(days=1),
        today + timedelta(days=365),
    )
    return sign_permit(contract, stage.federation.authority, issued=datetime.now(UTC))


def _dataset_of(node: str) -> str:
    return f"care-{node.lower()}"


def _care_dataset(stage: Stage, node: str) -> None:
    """The dataset that cases stand in: its people agreed to care. A running node follows its catalogue."""
    store = Store.open(stage.federation.node_folder(node) / "data")
    if _dataset_of(node) in store.datasets():
        return
    code = node if node in synthetic.COUNTRIES else next(iter(synthetic.COUNTRIES))
    batch = stage.federation.root / "batches" / _dataset_of(node)
    synthetic.write_hospital(batch, code, people=synthetic.MIN_PEOPLE, variants=4_000, seed=11, prefix="CARE-")
    manifest = batch / "manifest.toml"
    told = manifest.read_text().replace(f'id = "synthetic-{code.lower()}"', f'id = "{_dataset_of(node)}"')
    care = 'permission = "GRU"\nmodifiers = [{ code = "CC" }]'
    manifest.write_text(told.replace('permission = "GRU"', care))
    ingest_folder(store, batch, released_on=date(2026, 11, 1))


def _others(clinic: Clinic, *, seed: int) -> None:
    """Invented cases: a handful of random terms and genes each."""
    rng = np.random.default_rng(seed)
    measure = clinic.home.desk.measure
    terms = np.array(sorted(measure.usable))
    patients = [
        Patient(
            f"other-{number}", tuple(rng.choice(terms, 7, replace=False).tolist()), (), (f"GENE{rng.integers(999)}",)
        )
        for number in range(OTHERS)
    ]
    cases = [Case(p.id, clinic.person, clinic.dataset, p, subject=f"{clinic.node} {p.id}") for p in patients]
    clinic.home.desk.book.register_all(cases, measure)
