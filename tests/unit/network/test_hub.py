"""The hub against strangers and nonsense: whatever is sent, the answer is a refusal and never a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import httpx2 as httpx
import msgspec
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federation import Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.algorithm import Algorithm
from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.errors import FederomeError
from federome.model.table import Table
from federome.network.hub import Waiters, create_app
from federome.network.ledger import Run
from federome.network.protocol import MAX_REPLY_BYTES, PREFIX, Reply, Task, decode_tasks
from federome.network.serve_hub import _Server, build_hub
from federome.network.setup import HubSettings, admit, init_hub
from federome.network.transport import party_token
from federome.trust.keys import generate

HUB = "hub.test"
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8) | st.binary()
WIRE = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(0, 9), inner),
    max_leaves=6,
)
DEEP = b"\x81\xa4body\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"
NAMES = st.sampled_from(["part/1/1", "tokens/0", "document/x", "sum/1/1", "block/0", "..", "", "\x00"]) | st.text(
    max_size=12
)


@dataclass
class Face:
    """A hub's inner face, and a run that waits for its nodes' decisions."""

    federation: Federation
    http: TestClient
    run: Run

    def call(self, method: str, path: str, *, party: str = "FI", **more: object) -> httpx.Response:
        token = party_token(party, HUB, self.federation.keys[party], now=self.federation.now())
        headers = {"Authorization": f"Bearer {token}", "Federome-Instance": "one"}
        return self.http.request(method, f"{PREFIX}{path}", headers=headers, **more)  # type: ignore[arg-type]


def build(root: Path, people: int = 120) -> Federation:
    world = make_world(seed=5, people=people, variants=6)
    return build_federation(root, world.split(random_assignment(world, sites=3, seed=1)).sites)


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    federation = build(tmp_path_factory.mktemp("hub"))
    run = federation.ask(CohortCount())
    with TestClient(create_app(federation.coordinator, hub=HUB, waiters=Waiters(), clock=federation.now)) as http:
        yield Face(federation, http, run)


@given(body=st.binary(max_size=40) | WIRE.map(msgspec.msgpack.encode), task=st.text(max_size=20), name=NAMES)
@settings(max_examples=60, deadline=None)
def test_nonsense_is_refused(face: Face, body: bytes, task: str, name: str) -> None:
    answers = [
        face.call("POST", "/heartbeat", content=body),
        face.call("POST", "/reply", params={"task": task}, content=body),
        face.call("POST", "/reply", params={"task": f"{face.run.id}/1/ES"}, content=body),
        face.call("PUT", f"/runs/{face.run.id}/blobs", params={"name": f"x{name}"}, content=body),
        face.call("GET", f"/runs/{face.run.id}/blobs", params={"name": name}),
        face.call("GET", "/runs/other/blobs", params={"name": name}),
    ]
    assert {answer.status_code for answer in answers[1:]} <= {400, 403, 404, 422, 503}
    assert answers[0].status_code in (204, 400)


@pytest.mark.parametrize("wait", ["nan", "-1", "x", "", "-inf"])
def test_a_wait_is_a_length_of_time(face: Face, wait: str) -> None:
    assert face.call("GET", "/work", params={"wait": wait}).status_code in (400, 422)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/reply?task=a/1/b"), ("POST", "/heartbeat"), ("PUT", "/runs/r/blobs?name=part/1/1")]
)
@pytest.mark.parametrize("body", [DEEP, b"\xdf\xff\xff\xff\xff", b"", bytes(MAX_REPLY_BYTES + 1)])
def test_bombs_are_refused(face: Face, method: str, path: str, body: bytes) -> None:
    assert face.call(method, path, content=body).status_code in (400, 403)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic eDp5", "Bearer \xe9.\xe9.\xe9", "Bearer a.b.c"])
def test_without_a_good_token_nobody_is_heard(face: Face, header: str) -> None:
    calls = [("GET", "/work"), ("POST", "/heartbeat"), ("POST", "/reply"), ("GET", "/runs/r/blobs")]
    for method, path in [*calls, ("PUT", "/runs/r/blobs")]:
        params = {"task": "t", "name": "n", "wait": "0"}
        headers = {"Authorization": header.encode("latin-1")}
        answer = face.http.request(method, f"{PREFIX}{path}", params=params, headers=headers)
        assert (answer.status_code, answer.json()["codes"]) == (403, ["token_invalid"])


def test_a_token_is_for_one_hub_one_party_and_a_short_time(face: Face) -> None:
    now = face.federation.now()
    key = face.federation.keys["FI"]
    tokens = {
        "audience_mismatch": party_token("FI", "another", key, now=now),
        "token_expired": party_token("FI", HUB, key, now=now - 3600),
        "not_yet_valid": party_token("FI", HUB, key, now=now + 3600),
        "token_invalid": party_token("ES", HUB, key, now=now),
        "issuer_untrusted": party_token("FI", HUB, generate("Ed25519"), now=now),
    }
    for code, token in tokens.items():
        answer = face.http.get(f"{PREFIX}/work", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["codes"]) == (403, [code])


def test_work_is_handed_to_each_start_of_a_party_once(face: Face) -> None:
    first = decode_tasks(face.call("GET", "/work", params={"wait": "0"}, party="IT").content)
    again = decode_tasks(face.call("GET", "/work", params={"wait": "0"}, party="IT").content)
    assert [task.kind for task in first] == ["decide"]
    assert again == []


# the rest of the face: joining, and comparing in demonstrations


@pytest.fixture(scope="module")
def joining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("joining") / "hub"
    authority = generate("ES256")
    init_hub(folder, HubSettings("h", "https://127.0.0.1:1", keep_exact=True, network="development"), authority.public)
    admit(folder, "authority", authority, now=1_700_000_000)
    _, app = build_hub(folder, faces=lambda _hub: ())
    with TestClient(app) as http:
        yield http


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["node", "code", "jwk", "kty"]), inner),
)


@given(body=st.binary(max_size=40) | JSON.map(msgspec.json.encode))
@settings(max_examples=60, deadline=None)
def test_strangers_do_not_enrol(joining: TestClient, body: bytes) -> None:
    assert joining.post(f"{PREFIX}/enrol", content=body).status_code in (400, 403)


def test_an_enrolment_is_small(joining: TestClient) -> None:
    answer = joining.post(f"{PREFIX}/enrol", content=b'"' + b"x" * (1 << 20) + b'"')
    assert (answer.status_code, answer.json()["detail"]) == (400, "the request is too large.")


@given(body=st.binary(max_size=40), name=st.text(max_size=20), by=st.text(max_size=20))
@settings(max_examples=30, deadline=None)
def test_a_comparison_with_nonsense_is_refused(joining: TestClient, body: bytes, name: str, by: str) -> None:
    table = Table({"x": np.arange(3)}).to_bytes()
    for content in (body, table):
        answer = joining.post(f"{PREFIX}/runs/r/compare", params={"name": name, "by": by}, content=content)
        assert answer.status_code == 400


# what parties answer


def tampered(federation: Federation, question: Algorithm, *, kind: str, member: str, value: object) -> Run:
    """Run a question in which one party answers one kind of task with one member changed."""
    run = federation.ask(question)
    for _ in range(60):
        for name in federation.parties:
            port = federation.parties[name]._port
            for task in port.poll(0.0):
                _answer(federation, name, task, kind, member, value)
        federation.coordinator.tick()
        state = federation.coordinator.ledger.run(run.id)
        if state.ended is not None:
            return state
    raise AssertionError("the run does not end")


def _answer(federation: Federation, name: str, task: Task, kind: str, member: str, value: object) -> None:
    party = federation.parties[name]
    try:
        reply = party._worker.answer(task)
    except FederomeError as error:
        reply = Reply({"refused": dict(error.problem())})  # type: ignore[arg-type]
    if task.kind == kind and name in ("ES", "releaser"):
        body = {key: item for key, item in reply.body.items() if key != member}
        reply = Reply(body if value is None else {**body, member: value}, reply.parts, reply.documents)  # type: ignore[dict-item]
    party._port.reply(task.id, reply)


MEMBERS = [
    ("decide", "terms"),
    ("decide", "statement"),
    ("roster", "acknowledged"),
    ("roster", "announcement"),
    ("roster", "box"),
    ("deal", "keys"),
    ("index", "pieces"),
    ("contribute", "shapes"),
    ("roster", "ahead"),
    ("names", "released"),
    ("conclude", "statement"),
    ("begin", "do"),
    ("begin", "command"),
    ("begin", "parts"),
    ("begin", "documents"),
    ("opened", "command"),
    ("concluded", "result"),
]


@pytest.mark.parametrize(("kind", "member"), MEMBERS)
@pytest.mark.parametrize("value", [None, ["x", {}]], ids=["missing", "list"])
def test_a_party_that_answers_nonsense_ends_only_its_run(tmp_path: Path, kind: str, member: str, value: object) -> None:
    federation = build(tmp_path, people=60)
    ended = tampered(federation, AlleleFrequency(), kind=kind, member=member, value=value)
    assert ended.state in ("failed", "complete")
    if ended.state == "failed":
        problem = ended.detail["problem"]
        assert isinstance(problem, dict)
        assert problem["status"] != 500, problem


def test_the_hub_says_when_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    async def start() -> None:
        config = uvicorn.Config(FastAPI(), host="127.0.0.1", port=0, lifespan="off", log_config=None)
        config.load()
        server = _Server(config, Event(), Waiters())
        server.lifespan = config.lifespan_class(config)
        assert not caplog.messages
        await server.startup()
        await server.shutdown()

    with caplog.at_level("INFO", logger="federome"):
        asyncio.run(start())
    assert [each for each in caplog.messages if "the hub answers at port" in each]
