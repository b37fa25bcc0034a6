"""WES 1.1 at the hub: every answer, errors included, against the published OpenAPI document, over a real federation."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federation import Federation, build_federation
from tests.openapi import Specification, fuzzed
from tests.outer import HUB, outer_app
from tests.worlds import make_world, random_assignment

from federome.analysis.algorithm import Algorithm
from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.db import write
from federome.errors import from_problem
from federome.model.table import Table
from federome.network import letters
from federome.network.ledger import RUN as RUNS
from federome.network.protocol import mapping
from federome.standards import wes
from federome.trust.canonical import digest, digest_bytes
from federome.trust.keys import PrivateKey, generate
from federome.trust.people import person_token
from federome.trust.signing import peek

SERVICE_INFO = "https://raw.githubusercontent.com/ga4gh-discovery/ga4gh-service-info/v1.0.0/service-info.yaml"
RUN = re.compile(r"/runs/[^/?]+")
COUNT = CohortCount(by=("sex",))


@pytest.fixture(scope="module")
def specification(shared: Path) -> Specification:
    folder = shared / "standards"
    return Specification(
        folder / "wes" / "workflow_execution_service.openapi.yaml",
        {SERVICE_INFO: folder / "service-info" / "service-info.yaml"},
    )


@dataclass
class Hub:
    """A federation behind its WES face."""

    federation: Federation
    http: TestClient
    stopping: threading.Event

    def token(self, key: PrivateKey | None = None) -> dict[str, str]:
        signed = person_token(key or self.federation.person, hub=HUB, now=self.federation.now())
        return {"Authorization": f"Bearer {signed}"}

    def call(self, method: str, path: str, *, key: PrivateKey | None = None, **more: Any) -> httpx.Response:
        return self.http.request(method, f"{wes.PREFIX}{path}", headers=self.token(key), **more)

    def get(self, path: str, **more: Any) -> Any:
        answer = self.call("GET", path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def form(self, algorithm: Algorithm = COUNT, *, permit: str = "", **changes: Any) -> dict[str, str]:
        orders = self.federation.orders(algorithm, **changes)
        engine = {"permit": permit or self.federation.permit(), "orders": orders}
        first = peek(next(iter(orders.values()))).payload
        return {
            "workflow_type": "FEDEROME",
            "workflow_type_version": "1.0",
            "workflow_url": f"federome:{algorithm.name}@{algorithm.version}",
            "workflow_params": json.dumps(first["parameters"]),
            "workflow_engine_parameters": json.dumps(engine),
            "tags": json.dumps({"study": "sex ratio"}),
        }

    def post(self, form: Mapping[str, str], **more: Any) -> httpx.Response:
        return self.call("POST", "/runs", files={name: (None, value) for name, value in form.items()}, **more)

    def submit(self, algorithm: Algorithm = COUNT, **changes: Any) -> str:
        answer = self.post(self.form(algorithm, **changes))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["run_id"])

    def settle(self, run: str) -> str:
        return self.federation.settle(self.federation.coordinator.ledger.run(run)).state

    def done(self, algorithm: Algorithm = COUNT, **changes: Any) -> str:
        run = self.submit(algorithm, **changes)
        assert self.settle(run) == "complete"
        return run


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    world = make_world(seed=7, people=400, variants=40)
    split = world.split(random_assignment(world, sites=4, seed=1), lacking={1: [3, 4]}, absent={2: [5]})
    federation = build_federation(tmp_path_factory.mktemp("federation"), split.sites)
    stopping = threading.Event()
    with TestClient(outer_app(federation, stopping)) as http:
        yield Hub(federation, http, stopping)


@pytest.fixture(scope="module")
def counted(hub: Hub) -> str:
    """A complete run."""
    return hub.done()


@pytest.fixture(scope="module")
def alone(hub: Hub) -> str:
    """A complete run of two nodes, who each answer for themselves."""
    return hub.done(roster=("FI", "ES"))


def test_service_info_tells_what_can_run(hub: Hub, specification: Specification) -> None:
    answer = hub.http.get(f"{wes.PREFIX}/service-info")
    told = answer.json()
    specification.response("/service-info", "get", 200, told)
    assert told["supported_wes_versions"] == ["1.1.0"]
    assert told["workflow_type_versions"] == {"FEDEROME": {"workflow_type_version": ["1.0"]}}
    assert told["tags"]["hub"] == HUB
    listed = {a["name"]: a for a in told["algorithms"]}
    assert listed["cohort-count"]["version"] == COUNT.version
    assert listed["cohort-count"]["releases"] == {"counts": ["sex", "age_band", "population", "people"]}
    order = peek(hub.federation.orders(COUNT)["FI"]).payload
    assert listed["cohort-count"]["digest"] == mapping(order, "algorithm")["digest"]


def test_a_run_from_form_to_table(hub: Hub, specification: Specification) -> None:
    answer = hub.post(hub.form())
    specification.response("/runs", "post", 200, answer.json())
    run = answer.json()["run_id"]
    status = hub.get(f"/runs/{run}/status")
    specification.response("/runs/{run_id}/status", "get", 200, status)
    assert status == {"run_id": run, "state": "QUEUED"}
    before = hub.get(f"/runs/{run}")
    specification.response("/runs/{run_id}", "get", 200, before)
    assert before["outputs"]["tables"] == []
    assert hub.settle(run) == "complete"
    log = hub.get(f"/runs/{run}")
    specification.response("/runs/{run_id}", "get", 200, log)
    assert (log["state"], log["run_log"]["exit_code"]) == ("COMPLETE", 0)
    assert log["request"]["tags"] == {"study": "sex ratio"}
    assert log["request"]["workflow_params"]["by"] == ["sex"]
    (table,) = log["outputs"]["tables"]
    assert (table["name"], "node" in table) == ("counts", False)
    data = hub.call("GET", table["links"]["federome"].partition(wes.PREFIX)[2]).content
    assert digest_bytes(data) == table["digest"]
    people = Table.from_bytes(data).ints("people")
    assert people.sum() > 300


def test_an_echoed_request_can_be_sent_again(hub: Hub, counted: str) -> None:
    request = hub.get(f"/runs/{counted}")["request"]
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in request.items()}
    assert hub.post(form).json() == {"run_id": counted}


def test_the_same_submission_twice_is_one_run(hub: Hub) -> None:
    form = hub.form()
    first, again = hub.post(form), hub.post(form)
    assert first.json() == again.json()
    run = first.json()["run_id"]
    other = hub.post(hub.form(run=run, roster=("FI", "ES", "IT")))
    assert other.status_code == 400
    assert "exists" in other.json()["msg"]


def test_provenance_can_be_checked_without_believing_the_hub(hub: Hub, counted: str) -> None:
    told = hub.get(f"/runs/{counted}")["outputs"]["provenance"]
    assert told["result"]["contributors"] == sorted(hub.federation.names)
    assert told["data_releases"] == {n: {f"{n.lower()}-1": "release-1"} for n in hub.federation.names}
    assert told["absent"] == {}
    assert told["permit"] == "P-1"
    named = digest(told["result"])
    assert peek(told["receipts"]["releaser"]).payload == {"result": named, "run": counted}
    assert set(told["receipts"]["nodes"]) == set(hub.federation.names)
    for node, statement in told["receipts"]["nodes"].items():
        said = peek(statement).payload
        assert (said["node"], said["run"], said["result"]) == (node, counted, named)
    assert [e["said"] for e in told["events"]][-1] == "complete"


def test_two_nodes_answer_each_for_itself(hub: Hub, alone: str, specification: Specification) -> None:
    log = hub.get(f"/runs/{alone}")
    specification.response("/runs/{run_id}", "get", 200, log)
    assert [(t["name"], t["node"]) for t in log["outputs"]["tables"]] == [("counts", "ES"), ("counts", "FI")]
    for table in log["outputs"]["tables"]:
        path = table["links"]["federome"].partition(wes.PREFIX)[2]
        assert digest_bytes(hub.call("GET", path).content) == table["digest"]
        said = peek(log["outputs"]["provenance"]["receipts"]["nodes"][table["node"]]).payload
        assert said["tables"] == {"counts": table["digest"]}
    assert log["outputs"]["provenance"]["result"]["mode"] == "alone"
    assert hub.call("GET", f"/runs/{alone}/tables/counts").status_code == 404


def test_tables_as_json_and_csv_hold_the_same_and_nothing_for_what_is_withheld(hub: Hub) -> None:
    run = hub.done(AlleleFrequency(by="sex"))
    path = f"/runs/{run}/tables/frequencies"
    exact = Table.from_bytes(hub.call("GET", path, params={"format": "federome"}).content)
    hidden = exact.withheld["carriers"]
    assert hidden.any()
    assert not hidden.all()
    told = hub.get(path)
    assert told["columns"]["frequency"] == "number"
    assert told["withheld"]["carriers"] == int(hidden.sum())
    assert told["rows"] == exact.records()
    answer = hub.call("GET", path, params={"format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [r["carriers"] == "" for r in rows] == hidden.tolist()
    shown = np.flatnonzero(~hidden).tolist()
    assert [int(rows[i]["carriers"]) for i in shown] == exact.ints("carriers")[shown].tolist()
    seen = np.flatnonzero(~exact.withheld["frequency"]).tolist()
    assert [float(rows[i]["frequency"]) for i in seen] == exact.floats("frequency")[seen].tolist()


def test_a_refusal_is_told_with_every_code(hub: Hub, specification: Specification) -> None:
    run = hub.submit(permit=hub.federation.permit(id="P-2"))
    assert hub.settle(run) == "failed"
    log = hub.get(f"/runs/{run}")
    specification.response("/runs/{run_id}", "get", 200, log)
    assert log["state"] == "EXECUTOR_ERROR"
    problem = log["run_log"]["problem"]
    assert problem["type"] == "urn:federome:problem:refused"
    assert log["run_log"]["exit_code"] == 77
    assert str(from_problem(problem)) == log["run_log"]["system_logs"][-1]
    assert set(log["outputs"]["provenance"]["absent"]) == set(hub.federation.names)
    tasks = hub.get(f"/runs/{run}/tasks")["task_logs"]
    assert [(t["party"], t["name"], t["exit_code"]) for t in tasks] == [
        (node, "decide", 77) for node in sorted(hub.federation.names)
    ]
    assert hub.call("GET", f"/runs/{run}/tables/counts").status_code == 404


def test_cancel(hub: Hub, specification: Specification) -> None:
    run = hub.submit()
    answer = hub.call("POST", f"/runs/{run}/cancel")
    specification.response("/runs/{run_id}/cancel", "post", 200, answer.json())
    assert hub.get(f"/runs/{run}/status")["state"] == "CANCELED"
    assert hub.call("POST", f"/runs/{run}/cancel").status_code == 200
    log = hub.get(f"/runs/{run}")
    specification.response("/runs/{run_id}", "get", 200, log)
    assert "exit_code" not in log["run_log"]


def test_a_complete_run_stays_complete_when_cancelled(hub: Hub, counted: str) -> None:
    hub.call("POST", f"/runs/{counted}/cancel")
    assert hub.get(f"/runs/{counted}/status")["state"] == "COMPLETE"


def test_runs_are_listed_newest_first_page_by_page(hub: Hub, specification: Specification) -> None:
    key = generate("ES256")
    start = hub.federation.clock[0]
    made = []
    for number in range(7):
        hub.federation.clock[0] = start + number // 2  # some at the same instant
        orders = hub.federation.orders(COUNT)
        submission = peek(orders["FI"]).payload["run"]
        hub.federation.coordinator.submit(hub.federation.permit(), orders, person=key.public.thumbprint)
        made.append((hub.federation.clock[0], str(submission)))
    expected = [run for _, run in sorted(made, key=lambda m: (-m[0], m[1]))]
    seen: list[str] = []
    token = ""
    for size in (2, 3, 1, 50):
        told = hub.get("/runs", key=key, params={"page_size": size, "page_token": token})
        specification.response("/runs", "get", 200, told)
        assert len(told["runs"]) <= size
        seen += [run["run_id"] for run in told["runs"]]
        token = told["next_page_token"]
    assert (seen, token) == (expected, "")
    for run in expected:
        hub.federation.coordinator.cancel(run)


def test_tasks_page_by_page(hub: Hub, counted: str, specification: Specification) -> None:
    whole = hub.get(f"/runs/{counted}/tasks", params={"page_size": 100})
    specification.response("/runs/{run_id}/tasks", "get", 200, whole)
    assert whole["next_page_token"] == ""
    kinds = [task["name"] for task in whole["task_logs"]]
    assert kinds[:4] == ["decide"] * 4
    assert {"roster", "begin", "contribute", "opened", "conclude"} <= set(kinds)
    assert all(task["exit_code"] == 0 for task in whole["task_logs"])
    seen, token = [], ""
    while True:
        told = hub.get(f"/runs/{counted}/tasks", params={"page_size": 3, "page_token": token})
        seen += told["task_logs"]
        token = told["next_page_token"]
        if not token:
            break
    assert seen == whole["task_logs"]
    one = hub.get(f"/runs/{counted}/tasks/{seen[5]['id']}")
    specification.response("/runs/{run_id}/tasks/{task_id}", "get", 200, one)
    assert one == seen[5]


def test_events_begin_where_the_last_answer_ended(hub: Hub) -> None:
    run = hub.submit()
    first = hub.get(f"/runs/{run}/events", params={"wait": 0})
    assert [e["said"] for e in first["events"]] == ["orders sent to the nodes"]
    nothing = hub.get(f"/runs/{run}/events", params={"wait": 0, "after": first["next"]})
    assert (nothing["events"], nothing["next"]) == ([], first["next"])
    worker = threading.Timer(0.05, hub.settle, [run])
    worker.start()
    state, after, heard = "", first["next"], []
    while state != "COMPLETE":
        told = hub.get(f"/runs/{run}/events", params={"wait": 20, "after": after})
        assert told["events"]
        state, after = told["state"], told["next"]
        heard += [e["said"] for e in told["events"]]
    worker.join()
    whole = hub.get(f"/runs/{run}/events")
    assert [e["said"] for e in whole["events"]] == ["orders sent to the nodes", *heard]


def test_an_open_poll_ends_when_the_hub_stops(hub: Hub) -> None:
    run = hub.submit()
    after = hub.get(f"/runs/{run}/events", params={"wait": 0})["next"]
    stop = threading.Timer(0.05, hub.stopping.set)
    stop.start()
    try:
        answer = hub.call("GET", f"/runs/{run}/events", params={"wait": 25, "after": after})
    finally:
        stop.join()
        hub.stopping.clear()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["type"] == "urn:federome:problem:unavailable"


ROUTES = [
    ("GET", "/runs"),
    ("POST", "/runs"),
    ("GET", "/runs/RUN"),
    ("GET", "/runs/RUN/status"),
    ("POST", "/runs/RUN/cancel"),
    ("GET", "/runs/RUN/tasks"),
    ("GET", "/runs/RUN/tasks/1.0"),
    ("GET", "/runs/RUN/events"),
    ("GET", "/runs/RUN/tables/counts"),
]


def published(path: str) -> str:
    return re.sub(r"/tasks/[^/]+", "/tasks/{task_id}", RUN.sub("/runs/{run_id}", path))


def check_error(answer: httpx.Response, method: str, path: str, specification: Specification) -> None:
    told = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert told["status_code"] == told["status"] == answer.status_code
    assert told["msg"]
    assert told["type"].startswith("urn:federome:problem:")
    if "/events" not in path and "/tables" not in path:
        specification.response(published(path), method.lower(), answer.status_code, told)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_is_served_without_a_token(
    method: str, path: str, hub: Hub, counted: str, specification: Specification
) -> None:
    whole = f"{wes.PREFIX}{path.replace('RUN', counted)}"
    for headers in ({}, {"Authorization": "Bearer a.b.c"}, {"Authorization": "Basic eA=="}):
        answer = hub.http.request(method, whole, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        check_error(answer, method, path, specification)


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if "RUN" in route[1]])
def test_a_run_is_nobody_elses(method: str, path: str, hub: Hub, counted: str, specification: Specification) -> None:
    theirs = hub.call(method, path.replace("RUN", counted), key=generate("ES256"))
    nobodys = hub.call(method, path.replace("RUN", "no-such-run"))
    for answer in (theirs, nobodys):
        assert answer.status_code == 404
        check_error(answer, method, path, specification)
    assert theirs.json()["msg"] == nobodys.json()["msg"].replace("no-such-run", counted)


def test_other_peoples_runs_are_not_listed(hub: Hub, counted: str) -> None:
    assert hub.get("/runs", key=generate("ES256")) == {"runs": [], "next_page_token": ""}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/runs?page_size=0", 400),
        ("/runs?page_size=many", 400),
        ("/runs?page_token=~", 400),
        ("/runs/RUN/tasks?page_token=next", 400),
        ("/runs/RUN/tasks/1.99", 404),
        ("/runs/RUN/tasks/one", 404),
        ("/runs/RUN/events?wait=nan", 400),
        ("/runs/RUN/events?wait=3600", 400),
        ("/runs/RUN/tables/counts?format=pickle", 400),
        ("/runs/RUN/tables/secrets", 404),
        ("/runs/RUN/tables/counts?node=FI", 404),
    ],
)
def test_wrong_parameters(path: str, status: int, hub: Hub, counted: str, specification: Specification) -> None:
    answer = hub.call("GET", path.replace("RUN", counted))
    assert answer.status_code == status
    if not (status == 400 and "/tasks" in path):  # the document forgets 400 there
        check_error(answer, "GET", path.partition("?")[0], specification)


@pytest.mark.parametrize(
    ("changes", "status", "msg"),
    [
        ({"workflow_type": "CWL"}, 400, "workflow_type"),
        ({"workflow_type_version": "2.0"}, 400, "workflow_type_version"),
        ({"workflow_engine": "cwltool"}, 400, "workflow_engine"),
        ({"workflow_url": "https://example.test/workflow.cwl"}, 400, "workflow_url"),
        ({"workflow_params": '{"by": []}'}, 400, "workflow_params"),
        ({"workflow_params": "by=sex"}, 400, "workflow_params"),
        ({"workflow_engine_parameters": "{}"}, 400, "orders"),
        ({"workflow_engine_parameters": '{"orders": {}}'}, 400, "no order"),
        ({"workflow_engine_parameters": '{"orders": {"FI": 3}}'}, 400, "FI"),
        ({"workflow_engine_parameters": '{"orders": {"FI": "x"}}'}, 403, "token"),
        ({"tags": '{"study": 3}'}, 400, "tags"),
        ({"tags": json.dumps({str(n): "" for n in range(51)})}, 400, "tags"),
        ({"workflow_script": "rm"}, 400, "workflow_script"),
    ],
)
def test_wrong_forms(changes: dict[str, str], status: int, msg: str, hub: Hub, specification: Specification) -> None:
    answer = hub.post(hub.form() | changes)
    assert (answer.status_code, msg in answer.json()["msg"]) == (status, True), answer.text
    check_error(answer, "POST", "/runs", specification)


def test_orders_are_submitted_by_who_signed_them(hub: Hub, specification: Specification) -> None:
    answer = hub.post(hub.form(), key=generate("ES256"))
    assert (answer.status_code, answer.json()["codes"]) == (403, ["issuer_untrusted"])
    check_error(answer, "POST", "/runs", specification)


def test_a_run_id_stands_in_addresses(hub: Hub) -> None:
    answer = hub.post(hub.form(run="run/1"))
    assert answer.status_code == 400


def test_files_and_other_media_are_not_taken(hub: Hub, specification: Specification) -> None:
    for more in (
        {"files": {"workflow_attachment": ("main.cwl", b"cwlVersion: v1.2")}},
        {"json": {"workflow_type": "FEDEROME"}},
        {"content": b"x" * (wes.MAX_FORM_BYTES + 1)},
    ):
        answer = hub.call("POST", "/runs", **more)
        assert answer.status_code == 400
        check_error(answer, "POST", "/runs", specification)


FIELD = st.sampled_from(
    ["workflow_type", "workflow_type_version", "workflow_url", "workflow_params", "workflow_engine_parameters", "tags"]
)
JUNK = st.text(max_size=30) | st.sampled_from(
    [
        "{}",
        "[]",
        "null",
        '{"orders": "{}"}',
        '{"orders": []}',
        '{"orders": "["}',
        '{"permit": 1, "orders": {"FI": "a.b.c"}}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        "[" * 60,
        "9" * 40,
    ]
)


@pytest.fixture(scope="module")
def good_form(hub: Hub) -> dict[str, str]:
    return hub.form()


@settings(max_examples=60, deadline=None)
@given(fields=st.dictionaries(FIELD, JUNK, max_size=3), mostly_right=st.booleans())
def test_no_form_breaks_the_hub(
    hub: Hub, good_form: dict[str, str], fields: dict[str, str], mostly_right: bool
) -> None:
    form = (good_form if mostly_right else {}) | fields
    answer = hub.post(form or {"tags": "{}"})
    assert answer.status_code in (200, 400, 403)
    assert ("run_id" in answer.json()) == (answer.status_code == 200)


@settings(max_examples=60, deadline=None)
@given(
    body=st.binary(max_size=200),
    kind=st.sampled_from(["multipart/form-data; boundary=b", "multipart/form-data", "text/plain"]),
)
def test_no_body_breaks_the_hub(hub: Hub, body: bytes, kind: str) -> None:
    headers = {**hub.token(), "Content-Type": kind}
    for content in (body, b"--b\r\nContent-Disposition: form-data; name=tags\r\n\r\n" + body + b"\r\n--b--"):
        assert hub.http.post(f"{wes.PREFIX}/runs", content=content, headers=headers).status_code == 400


_FORM: dict[int, dict[str, str]] = {}


def FORM(hub: Hub) -> dict[str, str]:
    """One good form, made once: signing many orders for each example would be slow."""
    return _FORM.setdefault(id(hub), hub.form())


def test_requests_derived_from_the_document_find_no_fault_of_the_server(hub: Hub, shared: Path) -> None:
    document = shared / "standards" / "wes" / "workflow_execution_service.openapi.yaml"

    def send(request: dict[str, Any]) -> httpx.Response:
        return hub.http.request(**request | {"headers": request["headers"] | hub.token()})

    statuses = fuzzed(document, send)
    assert 200 in statuses["GET /runs"]
    assert statuses["POST /runs"] <= {400, 401, 403, 415, 422}


def test_answered_questions_are_counted_for_pages_and_letters_are_none(hub: Hub, counted: str) -> None:
    """A letter that a node's answer to a standing question travelled in is a run, too, and of no method."""
    runs = wes.KeyRuns(hub.federation.coordinator)
    letter, _ = letters.carried("ES", "FI", "a" * 64, "sealed", now=hub.federation.now())
    row = {**vars(letter), "state": "complete", "detail": json.dumps(letter.detail)}
    with write(hub.federation.coordinator.ledger._engine) as db:
        db.execute(RUNS.insert().values(row))
    before = runs.counted()
    assert sum(before["P-1"].values()) >= 1
    hub.done()
    again = runs.counted()
    assert again["P-1"][COUNT.name] > before["P-1"][COUNT.name]
    assert again == wes.KeyRuns(hub.federation.coordinator).counted()  # what was read before is still true
