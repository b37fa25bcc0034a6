"""Every route of every application, as everybody, in every state of a run: who gets through is who was declared.

The routes are read from the applications as they are served. A route without ``open_to`` fails the first test; one that
lets somebody else in, or keeps out whom it names, fails the matrix.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import httpx2 as httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.testclient import TestClient
from starlette.routing import Route
from tests.node_portals import node_folder
from tests.outer import OPERATOR

from federome.analysis.algorithm import content_digest
from federome.analysis.cohort_count import CohortCount
from federome.cli.hub import faces
from federome.db import engine
from federome.demo.dev_idp import create_app, open_idp
from federome.model.order import RunOrder
from federome.model.permit import AlgorithmRef, Purpose
from federome.model.registry import Identity, Person
from federome.model.registry import Role as PersonRole
from federome.network.access import Register, install_register
from federome.network.citizens import Citizen
from federome.network.doors import ATTRIBUTE, Caller, open_to
from federome.network.house import PortalSettings, build_house, open_portal
from federome.network.hub import _Application
from federome.network.protocol import Reply, encode_reply
from federome.network.provider import LOGIN
from federome.network.serve_hub import Hub, build_hub
from federome.network.serve_node import build_node
from federome.network.setup import Enrolments, HubSettings, admit, init_hub
from federome.network.transport import party_token
from federome.portal.node import node_application
from federome.portal.sessions import Sessions
from federome.portal.site import SESSION_COOKIE
from federome.standards.beacon.documents import Identity as BeaconIdentity
from federome.standards.beacon.routes import application
from federome.standards.beacon.server import Beacon
from federome.standards.beacon.shelf import Shelf
from federome.trust.dpop import make_proof
from federome.trust.keys import PrivateKey, generate, load_private_key
from federome.trust.oauth import Bearer, issue_token
from federome.trust.people import person_token, sign_order

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC).timestamp()
HUB, URL = "hub.test", "https://hub.test:8443"
IDP = "http://127.0.0.1:9400"
ASKED = ("ES", "FI")
FRAMEWORK = {"/openapi.json"}
"""Told by the framework itself: what routes there are, as the documentation tells."""
QUERY = {"/federation/v1/runs/{run}/blobs": {"name": "block/0"}}
"""What a route must be asked for, where any text will not do to come past its door."""
NO_TURNS = SimpleNamespace(calls={})
STATES = ("none", "deciding", "complete")


@dataclass
class World:
    """A hub as it is served, everybody's keys, and runs in every state."""

    folder: Path
    hub: Hub
    app: FastAPI
    http: TestClient
    keys: dict[str, PrivateKey]
    sessions: Sessions
    count: Iterator[int] = field(default_factory=itertools.count)
    logins: dict[str, str] = field(default_factory=dict)

    def run(self, state: str) -> str:
        """A new run of the owner's, in one state; an id that nobody has, for ``none``."""
        run = f"run-{next(self.count)}"
        if state == "none":
            return run
        orders = {node: sign_order(order(node, run), self.keys["owner"]) for node in ASKED}
        held = self.hub.coordinator.submit("permit", orders, person=self.keys["owner"].public.thumbprint)
        if state != "deciding":
            self.hub.coordinator.ledger.save(dataclasses.replace(held, state=state, ended=NOW))
        return run

    def headers(self, role: str, method: str, path: str) -> dict[str, str]:
        """How somebody shows who they are."""
        kind = ROLES[role].shows
        key = self.keys.get(role.split()[-1], self.keys["stranger"])
        match kind:
            case "nothing":
                return {}
            case "nonsense":
                return {"Authorization": "Bearer a.b.c", "DPoP": "a.b.c"}
            case "party":
                return {"Authorization": f"Bearer {party_token(ROLES[role].named, HUB, key, now=ROLES[role].at)}"}
            case "person":
                return {"Authorization": f"Bearer {person_token(key, hub=ROLES[role].hub, now=ROLES[role].at)}"}
            case "portal":
                if method != "GET":  # an act may be to log out
                    return {"Cookie": f"{SESSION_COOKIE}={self.sessions.begin(Identity(role, IDP))}"}
                if role not in self.logins:
                    self.logins[role] = self.sessions.begin(Identity(role, IDP))
                return {"Cookie": f"{SESSION_COOKIE}={self.logins[role]}"}
            case "login":
                signer = self.keys["hub"] if ROLES[role].hub == HUB else self.keys["stranger-node"]
                bearer = Bearer("alice", "https://idp.test", self.keys["owner"].public.thumbprint, NOW + 60)
                token = issue_token(bearer, signer, hub=HUB, now=NOW, jti="t")
                jti = f"proof-{next(self.count):06}"
                proof = make_proof(key, method, f"{URL}{path}", now=NOW, jti=jti, token=token)
                return {"Authorization": f"DPoP {token}", "DPoP": proof}
        raise AssertionError(kind)


@dataclass(frozen=True)
class Role:
    """Somebody: what they show, and for whom they may pass."""

    shows: str
    passes: frozenset[Caller]
    named: str = ""
    at: float = NOW
    hub: str = HUB


ANYONE: frozenset[Caller] = frozenset({"anyone"})
PARTY: frozenset[Caller] = ANYONE | {"party"}
PERSON: frozenset[Caller] = ANYONE | {"person"}
PORTAL: frozenset[Caller] = ANYONE | {"session"}
ROLES: Mapping[str, Role] = {
    "anonymous": Role("nothing", ANYONE),
    "nonsense": Role("nonsense", ANYONE),
    # parties: the last word names whose key signs
    "FI": Role("party", PARTY | {"asked"}, "FI"),
    "SE": Role("party", PARTY, "SE"),  # a member that this run did not ask
    "releaser": Role("party", PARTY | {"asked"}, "releaser"),
    "hub": Role("party", PARTY, "hub"),
    "a stranger's key as stranger-node": Role("party", ANYONE, "FI"),
    "a node that was never admitted NO": Role("party", ANYONE, "NO"),
    "another node's name SE": Role("party", ANYONE, "FI"),
    "yesterday's token FI": Role("party", ANYONE, "FI", NOW - 86_400),
    "authority as party authority": Role("party", ANYONE, "authority"),
    # people
    "owner": Role("person", PERSON | {"owner"}),
    "stranger": Role("person", PERSON),
    "authority": Role("person", PERSON),
    "yesterday's token of owner": Role("person", ANYONE, at=NOW - 86_400),
    "a token for another hub of owner": Role("person", ANYONE, hub="other.test"),
    "logged in owner": Role("login", PERSON | {"owner"}),
    "stolen login stranger": Role("login", ANYONE),
    "a login of another hub owner": Role("login", ANYONE, hub="other.test"),
    # people in a browser
    "a visitor": Role("portal", PORTAL),
    **{role: Role("portal", PORTAL | {role}) for role in get_args(PersonRole)},
}


def order(node: str, run: str) -> RunOrder:
    now = datetime.fromtimestamp(NOW, UTC)
    return RunOrder(
        person="alice",
        node=node,
        jti=f"{run}.{node}",
        issued=now,
        expires=now + timedelta(hours=1),
        run=run,
        roster=ASKED,
        permit="P-1",
        purpose=Purpose("research"),
        datasets=("d-1",),
        algorithm=AlgorithmRef("cohort-count", CohortCount.version, content_digest(CohortCount)),
        quorum=2,
        deadline=now + timedelta(minutes=30),
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("routes") / "hub"
    keys = {name: generate("ES256") for name in ("owner", "stranger", "authority")}
    keys |= {name: generate("Ed25519") for name in ("ES", "FI", "SE", "NO", "stranger-node")}
    init_hub(folder, HubSettings(HUB, URL, keep_exact=True, network="development"), keys["authority"].public)
    for node in ("ES", "FI", "SE"):
        Enrolments(folder).expect(node, "code")
        Enrolments(folder).enrol(node, "code", keys[node].public)
    admit(folder, "authority", keys["authority"], now=NOW)
    open_idp(folder.parent / "idp", (folder,), port=9400, clock=lambda: NOW)  # writes login.toml
    assert (folder / LOGIN).is_file()
    keys |= {name: load_private_key(folder / "keys" / f"{name}.jwk") for name in ("hub", "releaser")}
    people = [Person(role, "uni-a", roles=(role,), identities=(Identity(role, IDP),)) for role in get_args(PersonRole)]
    install_register(folder, json.dumps(Register(tuple(people)).to_document()))
    hub, app = build_hub(folder, faces=_faces_at, clock=lambda: NOW)
    sessions = Sessions(engine(f"sqlite:///{folder / 'portal.db'}"), lambda: NOW)
    with TestClient(app, base_url=URL) as http:
        yield World(folder, hub, app, http, keys, sessions)


def _faces_at(hub: Hub) -> object:
    return faces(hub, clock=lambda: NOW)


@dataclass(frozen=True)
class Door:
    """One route: its method and path, who may pass, and what it must be told."""

    method: str
    path: str
    declared: frozenset[Caller]
    named: tuple[str, ...] = ()
    query: tuple[str, ...] = ()

    @property
    def about_a_run(self) -> bool:
        """At a page it makes no difference how far a run is: it is somebody's, or there is none."""
        return bool({"run", "run_id"} & set(self.named)) and not self.path.startswith("/portal")


def routes(app: FastAPI) -> list[Door]:
    """All doors of an application: its routes, and the calls that the hub answers before the framework does."""
    turns = getattr(app, "turns", NO_TURNS).calls
    found = [Door(method, path, getattr(call, ATTRIBUTE)) for (method, path), call in turns.items()]
    declared = [route for route in iter_route_contexts(app.routes) if hasattr(route.endpoint, ATTRIBUTE)]
    found.extend(_door(route) for route in declared)
    return found


def _door(route: RouteContext) -> Door:
    query = [p.alias for p in route.dependant.query_params if p.field_info.is_required()]
    return Door(
        *((route.methods or set()) - {"HEAD"}),
        str(route.path),
        getattr(route.endpoint, ATTRIBUTE),
        tuple(parameter.name for parameter in route.dependant.path_params),
        tuple(query),
    )


def undeclared(app: FastAPI) -> list[str]:
    """Routes of an application of which nobody said who may call them."""
    turns = getattr(app, "turns", NO_TURNS).calls
    assert type(app).__call__ in (FastAPI.__call__, _Application.__call__), "something answers before the routes do"
    assert all(hasattr(call, ATTRIBUTE) for call in turns.values())
    contexts = iter_route_contexts(app.routes)
    return [str(r.path) for r in contexts if not hasattr(r.endpoint, ATTRIBUTE) and r.path not in FRAMEWORK]


def test_every_route_says_who_may_call_it(world: World, tmp_path: Path) -> None:
    idp = open_idp(tmp_path / "idp", (world.folder,), port=9400, clock=lambda: NOW)
    assert undeclared(world.app) == []
    assert undeclared(create_app(idp)) == []
    assert len(routes(world.app)) >= 22


def test_a_new_route_without_a_rule_fails() -> None:
    app = FastAPI()

    @app.get("/new")
    def new() -> None: ...

    @app.get("/declared")
    @open_to("person")
    def declared() -> None: ...

    app.mount("/files", FastAPI())
    assert undeclared(app) == ["/docs", "/docs/oauth2-redirect", "/redoc", "/new", "/files"]


def called(world: World, door: Door, role: str, run: str) -> httpx.Response:
    path = door.path
    for name in door.named:
        path = path.replace(f"{{{name}}}", (run if name in ("run", "run_id") else "") or "1.0")
    query = dict.fromkeys(door.query, "x") | {"wait": "0"} | QUERY.get(door.path, {})
    headers = world.headers(role, door.method, path)
    form = None
    if "Cookie" in headers and door.method == "POST":
        session = world.sessions.find(headers["Cookie"].partition("=")[2])
        assert session is not None
        form = {"_csrf": session.csrf}
    world.http._transport.client = (role, 50_000)  # type: ignore[attr-defined]  # one place each: requests are counted
    return world.http.request(door.method, path, params=query, headers=headers, data=form, follow_redirects=False)


def opened(door: Door, answer: httpx.Response) -> bool:
    """Whether somebody came past the door: what they are told behind it may still be that their words make no sense."""
    if answer.headers.get("location", "").startswith("/portal/login?"):
        return False
    if answer.status_code in (401, 403) and not answer.headers["content-type"].startswith("text/html"):
        codes = answer.json().get("codes")
        assert codes, "a refusal names its reasons"
    if answer.status_code in (401, 403):
        return False
    if "reviewer" in door.declared and answer.status_code == 400:
        return False  # no run here waits for reviewers, and that is all that is told
    if answer.status_code == 404 and door.declared & {"owner", "reviewer"}:
        return not str(answer.json()["detail"]).startswith("no such")
    return True


def tried_at(door: Door) -> list[str]:
    """Everybody who could matter: tokens of every kind at a page are one case, and so are sessions at other doors."""
    few = {"anonymous", "nonsense", "owner", "FI"} if door.path.startswith("/portal") else {"administrator"}
    pages = door.path.startswith("/portal")
    return [role for role, told in ROLES.items() if role in few or (told.shows == "portal") == pages]


def test_everybody_at_every_door(world: World) -> None:
    wrong = []
    tried = 0
    for door in routes(world.app):
        for state in STATES if door.about_a_run else ("any",):
            run = world.run(state) if state != "any" else ""
            answers = {role: called(world, door, role, run) for role in tried_at(door)}
            for role, answer in answers.items():
                tried += 1
                if "anyone" in door.declared:
                    good = answer.status_code == answers["anonymous"].status_code
                elif "named" in door.declared:
                    good = not opened(door, answer) or answer.status_code in (400, 404)
                elif state == "none" and door.declared & {"owner", "asked", "reviewer"}:
                    good = not opened(door, answer) or (answer.status_code == 400 and "asked" in door.declared)
                else:
                    good = opened(door, answer) == bool(door.declared & ROLES[role].passes)
                if not good:
                    wrong.append((door.path, door.method, state, role, answer.status_code))
    assert wrong == []
    assert tried > 900


def test_everybody_at_every_door_of_a_nodes_portal(tmp_path: Path) -> None:
    """Other doors than at the hub: the operators whom the node names, its citizens, its own register."""
    folder = node_folder(tmp_path / "node", generate("ES256"), generate("Ed25519"))
    operator, citizen = Identity("operator", IDP), Identity("citizen", IDP)
    open_portal(folder, PortalSettings(URL, operators=(operator,), hospitals=("uni-a",)))
    people = [
        Person(role, "uni-a", vetted=True, assigned=True, roles=(role,), identities=(Identity(role, IDP),))
        for role in get_args(PersonRole)
    ]
    install_register(folder, json.dumps(Register(tuple(people)).to_document()))
    open_idp(tmp_path / "idp", (folder,), port=9400, clock=lambda: NOW)
    house = build_house(folder, *build_node(folder, clock=lambda: NOW), clock=lambda: NOW)
    assert house is not None
    house.citizens.put([Citizen(IDP, citizen.sub, "p1")])
    app = node_application(house)
    assert undeclared(app) == []
    sessions = Sessions(engine(f"sqlite:///{folder / 'portal.db'}"), lambda: NOW)
    others = {role: told.passes for role, told in ROLES.items() if told.shows == "portal"}
    passes = others | {role: PORTAL | {role} for role in ("operator", "citizen")} | {"anonymous": ANYONE}
    passes["clinician"] |= {"own-clinician"}
    wrong = []
    with TestClient(app, base_url=URL, follow_redirects=False) as http:
        for door in (door for door in routes(app) if "anyone" not in door.declared):
            for role, passing in passes.items():
                http._transport.client = (role, 50_000)  # type: ignore[attr-defined]
                http.cookies.clear()  # each is somebody else
                token = sessions.begin(Identity(role, IDP)) if role != "anonymous" else ""
                session = sessions.find(token)
                form = {"_csrf": session.csrf} if session is not None and door.method == "POST" else None
                path = re.sub(r"\{\w+\}", "x", door.path)
                headers = {"Cookie": f"{SESSION_COOKIE}={token}"} if token else {}
                answer = http.request(door.method, path, headers=headers, data=form)
                good = opened(door, answer) == bool(door.declared & passing)
                if not (good or ("named" in door.declared and answer.status_code in (400, 403, 404))):
                    wrong.append((door.path, door.method, role, answer.status_code))
    assert wrong == []


def test_the_matrix_can_fail(world: World) -> None:
    """A door that was left open is found."""
    app = FastAPI()

    @app.get("/runs/{run_id}")
    @open_to("owner")
    def show(run_id: str) -> str:
        return run_id

    careless = dataclasses.replace(world, app=app, http=TestClient(app, base_url=URL))
    (door,) = (door for door in routes(app))
    answers = [opened(door, called(careless, door, role, "r")) for role in ROLES]
    assert all(answers)


def test_a_party_answers_its_own_tasks_only(world: World) -> None:
    run = world.run("deciding")
    for role in ("FI", "SE", "releaser", "hub"):
        headers = world.headers(role, "POST", "")
        answer = world.http.post(
            "/federation/v1/reply",
            params={"task": f"{run}/1/ES"},
            content=encode_reply(Reply({"terms": {}})),
            headers=headers,
        )
        assert answer.status_code == 400
    assert not any(each.done for each in world.hub.coordinator.ledger.answers(run, 1))


def test_a_beacon_s_doors_are_for_anyone(tmp_path: Path) -> None:
    """It holds published tables and nothing else: no token opens or closes anything at its own doors."""
    identity = BeaconIdentity(OPERATOR, "https://beacon.test")
    app = application(Beacon(identity, lambda: Shelf.open(tmp_path)))
    http = TestClient(app)
    paths = [str(route.path).replace("{id}", "x") for route in app.routes if isinstance(route, Route)]
    assert len(paths) >= 10
    for path in paths:
        told = [http.get(path, headers=headers).status_code for headers in ({}, {"Authorization": "Bearer a.b.c"})]
        assert told[0] == told[1]
        assert told[0] in (200, 400, 404)
