"""A node with its portal on this machine: a small store, ready-made citizens and operators, a clock that tests move."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
from tests.portals import MONDAY, Clock, Served, free_port, person, served
from tests.unit.ingest.test_ontologies import folder as ontology_folder
from tests.unit.store.small_stores import draw_batch, manifest, put

from federome.analysis.algorithm import content_digest, parameters
from federome.analysis.cohort_count import CohortCount
from federome.db import write
from federome.demo.dev_idp import PEOPLE, DevPerson, create_app, open_idp
from federome.governance.permits import sign_permit
from federome.ingest import ontologies
from federome.model.order import RunOrder
from federome.model.permit import AlgorithmGrant, AlgorithmRef, DatasetGrant, NamedPerson, Permit, PersonKey, Purpose
from federome.model.registry import DataUse, Identity, Institution
from federome.network.access import Register, install_register
from federome.network.approvals import approve_built_in
from federome.network.case_questions import write_answers
from federome.network.certificates import make_certificate
from federome.network.citizens import Citizen
from federome.network.house import House, PortalSettings, build_house, open_portal
from federome.network.match_node import Home, open_home
from federome.network.match_question import ANSWER_TYPE
from federome.network.protocol import Body, Reply, Task
from federome.network.serve_node import build_node
from federome.network.setup import make_keys, pin_authority
from federome.portal.node import node_application
from federome.store.catalogue import Store
from federome.trust.canonical import canonical
from federome.trust.keys import PrivateKey, generate, load_private_key, save_private_key
from federome.trust.members import Member, MemberKey, Members, sign_members
from federome.trust.people import sign_order
from federome.trust.signing import sign

PEOPLE_OF: Mapping[str, str] = {"maria": "pa-0", "pablo": "pa-1"}
"""Citizens by their account; their ids in the data."""
OPERATORS = ("grace", "gustav")
CLINICIAN, COLLEAGUE, FOREIGN = "carla", "connor", "celia"
"""Two clinicians of the node's own hospital, and one of another."""
CAST = (*PEOPLE_OF, *OPERATORS, CLINICIAN, COLLEAGUE, FOREIGN, "stranger")
NODE, DATASET = "FI", "fi"


@dataclass
class NodePortal(Served):
    """A node's portal."""

    house: House
    authority: PrivateKey
    researcher: PrivateKey
    other: PrivateKey
    tasks: dict[str, Task] = field(default_factory=dict, kw_only=True)

    def task(self, run: str, *, permit: str = "P-1", kind: str = "decide") -> Task:
        """A task of a run that counts the people of the dataset, under a permit."""
        now = datetime.fromtimestamp(self.clock(), UTC)
        named = NamedPerson("rita", PersonKey.of(self.researcher.public.jwk()))
        purpose = Purpose("research", ("health",))
        says = Permit(
            id=permit,
            authority="authority",
            holder="uni-x",
            persons=(named,),
            datasets=(DatasetGrant(DATASET, NODE),),
            purpose=purpose,
            algorithms=(AlgorithmGrant(name="cohort-count"),),
            valid_from=date(2026, 1, 1),
            valid_until=date(2027, 12, 31),
            budget_rho=0.25,
        )
        order = RunOrder(
            person="rita",
            node=NODE,
            jti=f"{run}-{NODE}",
            issued=now,
            expires=now + timedelta(hours=1),
            run=run,
            roster=("ES", NODE, "IT"),
            permit=permit,
            purpose=purpose,
            datasets=(DATASET,),
            algorithm=AlgorithmRef("cohort-count", CohortCount.version, content_digest(CohortCount)),
            quorum=3,
            deadline=now + timedelta(minutes=30),
            parameters=parameters(CohortCount()),
        )
        body: Body = {
            "order": sign_order(order, self.researcher),
            "permit": sign_permit(says, self.authority, issued=now - timedelta(days=1)),
        }
        return Task(f"{run}/1/{NODE}", run, 1, kind, body)  # type: ignore[arg-type]

    def ask(self, run: str, **changes: str) -> Reply:
        """Have the node decide on a run, once more if it was asked before; ``Refused`` if it does not agree."""
        task = self.tasks.setdefault(run, self.task(run, **changes))
        return self.house.matching.answer(task)

    def end(self, run: str) -> None:
        """The node has said its last word in a run."""
        self.house.matching.node.notebook.end(run, f"{run}/9/{NODE}", b"")


def node_folder(folder: Path, authority: PrivateKey, other: PrivateKey, *, people: int = 24) -> Path:
    """A node's folder as enrolment leaves it, with one small dataset; its hub, and the node ``ES``, are away."""
    keys = make_keys(folder)
    make_certificate(keys, "127.0.0.1")
    (keys / "tls.pem").rename(keys / "hub.pem")
    pin_authority(folder, "authority", authority.public)
    hub = f"https://127.0.0.1:{free_port()}"
    (folder / "node.toml").write_text(f'name = "{NODE}"\nhub = "hub"\nhub_url = "{hub}"\nnetwork = "development"\n')
    about = replace(manifest(k=10), data_use=DataUse("GRU").to_document())
    batch = draw_batch(np.random.default_rng(1), "a", people)
    put(Store.open(folder / "data"), batch, on=date(2026, 1, 1), about=about)
    known = {NODE: load_private_key(keys / "node.jwk"), "ES": other}
    members = tuple(Member(name, "node", MemberKey.of(key.public)) for name, key in known.items())
    listed = sign_members(Members(1, members), authority, authority="authority", now=MONDAY.timestamp())
    (folder / "members.jwt").write_text(listed)
    return folder


@contextmanager
def node_portal(folder: Path) -> Iterator[NodePortal]:
    """A node's portal and a provider, both served. The node itself does not dial."""
    port, idp_port = free_port(), free_port()
    url, issuer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{idp_port}"
    authority, researcher, clock = generate("ES256"), generate("ES256"), Clock()
    place = node_folder(folder / "node", authority, other := generate("Ed25519"))
    operators = tuple(Identity(name, issuer) for name in OPERATORS)
    open_portal(
        place,
        PortalSettings(
            url, port=port, operator="Test biobank", contact="+358 1", operators=operators, hospitals=("hospital",)
        ),
    )
    accredited = (
        person(CLINICIAN, "hospital", "clinician", issuer=issuer),
        person(COLLEAGUE, "hospital", "clinician", issuer=issuer),
        person(FOREIGN, "hospital-es", "clinician", issuer=issuer),
        person("stranger", "node-es", "node-operator", issuer=issuer),  # of another node
    )
    register = Register(
        accredited, (Institution("hospital", "FI"), Institution("hospital-es", "ES"), Institution("node-es", "ES"))
    )
    approve_built_in(place, ["cohort-count"])
    install_register(place, canonical(register.to_document()).decode())
    idp_folder = folder / "idp"
    idp_folder.mkdir()
    listed = [DevPerson(name, name.title()).to_document() for name in CAST]
    (idp_folder / PEOPLE).write_text(canonical(listed).decode())  # type: ignore[arg-type]
    idp = open_idp(idp_folder, (place,), port=idp_port, clock=clock)
    party, matching = build_node(place, clock=clock)
    house = build_house(place, party, matching, clock=clock)
    assert house is not None
    house.citizens.put([Citizen(issuer, name, one) for name, one in PEOPLE_OF.items()])
    app = node_application(house)
    with served(create_app(idp), idp_port), served(app, port):
        yield NodePortal(place, app, url, issuer, clock, house, authority, researcher, other)
        house.stopping.set()


def open_cases(there: NodePortal, place: Path) -> Home:
    """Let the node take cases, with an ontology of five terms; its registry as the commands have it."""
    kept = ontologies.install(ontologies.from_folder(ontology_folder(place / "in")), place / "kept")
    place = there.folder / "matching"  # as ``open_matching`` does, which compiles for a minute what no page needs
    place.mkdir(mode=0o700)
    save_private_key(generate("ECDH-ES+A256KW"), there.folder / "keys" / "box.jwk")
    (place / "settings.json").write_text(json.dumps({"ontology": str(kept.folder), "background": ""}))
    return open_home(there.folder, there.clock)


def ask_contact(home: Home, case: str, person: str = "bob") -> str:
    """Somebody at another node has a patient like this case: the handle of the contact."""
    with write(home.desk.engine) as db:
        return home.desk.note(db, person, {"home": "ES", "case": "x"}, case, "gene", "", origin="alert")


def answers_of(there: NodePortal, file: bytes, told: Body, *, silent: Mapping[str, str] | None = None) -> bytes:
    """What ``federome match send`` writes for this question file, where ES answers so."""
    claims: Body = {"iat": int(there.clock()), "node": "ES", "run": "run-1", "told": told}
    signed = sign(claims, there.other, typ=ANSWER_TYPE)
    return json.dumps(write_answers(json.loads(file)["id"], "run-1", {"ES": signed}, silent or {})).encode()
