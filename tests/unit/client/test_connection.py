"""The client against a real hub: questions travel, results and refusals come back as what they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from tests.federation import Federation, build_federation
from tests.outer import HUB, outer_app, working
from tests.worlds import make_world, random_assignment

from federome.analysis.algorithm import content_digest
from federome.analysis.cohort_count import CohortCount
from federome.client import Connection, Event, Result, connect
from federome.client.orders import Grant, Question, sign_orders
from federome.client.price import lines
from federome.client.result import RESULT_TYPE, STATEMENT_TYPE, to_frame
from federome.client.run import list_algorithms, summarise
from federome.client.wire import Wire
from federome.errors import Damaged, Invalid, Refused, Unavailable
from federome.governance.orders import verify_order
from federome.model.permit import AlgorithmRef, PersonKey
from federome.model.table import Table
from federome.network import releaser, words
from federome.trust.keys import KeyRing, PinnedKey, generate, save_private_key


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    world = make_world(seed=7, people=400, variants=40)
    split = world.split(random_assignment(world, sites=4, seed=1))
    return build_federation(tmp_path_factory.mktemp("federation"), split.sites)


@pytest.fixture(scope="module")
def http(federation: Federation) -> Iterator[httpx.Client]:
    with TestClient(outer_app(federation)) as client, working(federation):
        yield client


@pytest.fixture
def connection(federation: Federation, http: httpx.Client) -> Connection:
    return dial(federation, http)


def dial(federation: Federation, http: httpx.Client, *, permit: str | Path = "", **more: object) -> Connection:
    return connect(
        "https://hub.test",
        key=federation.person,
        person="alice",
        permit=permit or federation.permit(),
        clock=federation.now,
        http=http,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def answered(federation: Federation, http: httpx.Client) -> tuple[Result, list[Event]]:
    events: list[Event] = []
    return dial(federation, http).run("cohort-count", by=("sex",), on_event=events.append, tags={"study": "x"}), events


@pytest.fixture(scope="module")
def alone(federation: Federation, http: httpx.Client) -> Result:
    return dial(federation, http).run("cohort-count", datasets={"FI": ["fi-1"], "ES": ["es-1"]})


def test_a_question_and_its_answer(federation: Federation, answered: tuple[Result, list[Event]]) -> None:
    result, events = answered
    men = sum(int((h.site.view.numbers("male") == 1).sum()) for h in federation.holdings.values())
    frame = result.frame()
    assert frame[frame["sex"] == "male"]["people"].tolist() == [men]
    assert frame.dtypes.astype(str).to_dict()["people"] == "Int64"
    assert result.contributors == tuple(sorted(federation.names))
    assert result.absent == {}
    assert events[0].said == "orders sent to the nodes"
    assert (events[-1].said, events[-1].state, events[-1].run) == ("complete", "COMPLETE", result.run)
    told = summarise(result)
    assert told["contributors"] == sorted(federation.names)
    json.dumps(told)


def test_a_price_before_the_question(federation: Federation, connection: Connection) -> None:
    told = connection.price("allele-frequency", by="sex")
    assert told.covered == "yes" and told.absent == {} and sorted(told.nodes) == sorted(federation.names)
    ring = federation.members.ring()
    told.verify(ring, now=federation.now())
    changed = {**told.nodes, "FI": {**told.nodes["FI"], "threshold": 1}}
    with pytest.raises(Refused):
        replace(told, nodes=changed).verify(ring, now=federation.now())
    said = "\n".join(lines(told))
    for line in ("What would leave: frequencies", "Access is controlled", "released automatically", "Nothing was run"):
        assert line in said
    json.dumps(told.to_document())
    few = connection.price("cohort-count", datasets={"FI": ["fi-1"], "ES": ["none"]})
    assert list(few.absent) == ["ES"] and "ES would not take part" in "\n".join(lines(few))
    nobody = connection.price("cohort-count", datasets={"ES": ["none"]})
    assert nobody.covered == "no" and nobody.nodes == {}


def test_what_is_withheld_is_missing_in_the_frame(connection: Connection) -> None:
    result = connection.run("allele-frequency", by="sex")
    table, frame = result.tables["frequencies"], result.frame("frequencies")
    hidden = table.withheld["carriers"]
    assert hidden.any()
    assert frame["carriers"].isna().tolist() == hidden.tolist()
    assert frame["carriers"].dropna().tolist() == table.ints("carriers")[~hidden].tolist()
    assert str(frame["ref"].dtype).startswith("str")


def test_signatures_hold_without_the_hub(
    federation: Federation, answered: tuple[Result, list[Event]], alone: Result
) -> None:
    ring, now = federation.members.ring(), federation.now()
    for result in (answered[0], alone):
        result.verify(ring, now=now)
        with pytest.raises(Refused):
            result.verify(KeyRing(()), now=now)
        with pytest.raises(Refused):
            replace(result, run="run-other").verify(ring, now=now)
        strangers = KeyRing(tuple(PinnedKey("FI", pinned.key) for pinned in ring.keys))
        with pytest.raises(Refused):
            result.verify(strangers, now=now)
        other = {name: table.take(np.arange(0)) for name, table in result.tables.items()}
        with pytest.raises(Damaged):
            replace(result, tables=other).verify(ring, now=now)
        receipts = {"releaser": None, "nodes": {}}
        with pytest.raises(Refused):
            replace(result, provenance={**result.provenance, "receipts": receipts}).verify(ring, now=now)
    assert (RESULT_TYPE, STATEMENT_TYPE) == (releaser.RESULT_TYPE, words.STATEMENT_TYPE)


def test_fewer_than_three_nodes_answer_each_for_itself(alone: Result) -> None:
    assert sorted(alone.tables) == ["ES/counts", "FI/counts"]
    assert alone.contributors == ("ES", "FI")
    with pytest.raises(Invalid, match="ES/counts"):
        alone.frame()
    assert len(alone.frame("FI/counts")) == 1


def test_a_result_is_saved_whole(alone: Result, tmp_path: Path) -> None:
    folder = alone.save(tmp_path / "deep" / "result")
    assert sorted(p.name for p in folder.iterdir()) == [
        "ES-counts.csv", "ES-counts.federome", "FI-counts.csv", "FI-counts.federome", "provenance.json"
    ]  # fmt: skip
    exact = Table.from_bytes((folder / "FI-counts.federome").read_bytes())
    assert exact.records() == alone.tables["FI/counts"].records()
    people = pd.read_csv(folder / "FI-counts.csv")["people"].tolist()
    assert people == exact.ints("people").tolist()
    assert json.loads((folder / "provenance.json").read_text())["receipts"]["nodes"].keys() == {"ES", "FI"}
    with pytest.raises(Invalid, match="there already"):
        alone.save(folder)


def test_a_refusal_far_away_is_the_same_refusal_here(federation: Federation, http: httpx.Client) -> None:
    connection = dial(federation, http, permit=federation.permit(id="P-2", algorithms=(), datasets=()))
    with pytest.raises(Refused) as refused:
        connection.run("cohort-count", datasets={n: [f"{n.lower()}-1"] for n in federation.names})
    assert {"dataset_not_in_permit", "node_not_in_permit"} <= set(refused.value.codes)


def test_a_wrong_parameter_is_invalid_before_it_travels(connection: Connection) -> None:
    with pytest.raises(Invalid, match="no parameter 'bye'"):
        connection.run("cohort-count", bye=["sex"])
    with pytest.raises(Invalid, match="no JSON value"):
        connection.run("cohort-count", by=object())


def test_an_unknown_algorithm_names_the_known_ones(connection: Connection) -> None:
    with pytest.raises(Invalid, match="cohort-count"):
        connection.run("cohort-counts")


def test_a_partial_answer_says_who_is_missing(federation: Federation, http: httpx.Client) -> None:
    datasets = {n: [f"{n.lower()}-1"] for n in federation.names} | {"GB": ["gb-2"]}
    connection = dial(federation, http)
    with pytest.raises(Refused, match="GB"):
        connection.run("cohort-count", datasets=datasets, by=["age_band"])
    result = connection.run("cohort-count", datasets=datasets, allow_partial=True, by=["age_band"])
    assert result.contributors == ("ES", "FI", "IT")
    assert list(result.absent) == ["GB"]


def test_algorithms_and_datasets(federation: Federation, connection: Connection) -> None:
    offered = connection.algorithms()
    count = offered["cohort-count"]
    assert count.algorithm == AlgorithmRef("cohort-count", CohortCount.version, content_digest(CohortCount))
    assert count.releases["counts"] == ("sex", "age_band", "population", "people")
    assert "CohortCount" in str(count.parameters)
    assert [one["name"] for one in list_algorithms(offered)] == list(offered)
    assert connection.datasets() == {n: (f"{n.lower()}-1",) for n in federation.names}


def test_a_pinned_algorithm_must_be_that_one(connection: Connection) -> None:
    right = content_digest(CohortCount)
    assert connection.question("cohort-count", pin=right).algorithm.digest == right
    with pytest.raises(Refused, match="pinned"):
        connection.run("cohort-count", pin="sha256:" + "0" * 64)


def test_submit_status_cancel_resume(federation: Federation, http: httpx.Client) -> None:
    federation.parties, held = {}, federation.parties  # nobody works for a while
    try:
        connection = dial(federation, http)
        run = connection.submit(connection.question("cohort-count"))
        assert connection.status(run) == "QUEUED"
        with pytest.raises(Unavailable, match="resume"):
            connection.resume(run, wait_s=0.05)
        stopped = connection.submit(connection.question("cohort-count"))
        connection.cancel(stopped)
        assert connection.status(stopped) == "CANCELED"
        with pytest.raises(Invalid, match="cancelled"):
            connection.resume(stopped)
    finally:
        federation.parties = held
    assert dial(federation, http).resume(run).frame()["people"].tolist() == [400]
    with pytest.raises(Invalid, match="no such run"):
        connection.resume("run-nobody")


def test_a_run_that_misses_its_deadline_fails_by_name(federation: Federation, http: httpx.Client) -> None:
    federation.parties, held = {}, federation.parties
    start = federation.clock[0]
    try:
        connection = dial(federation, http)
        run = connection.submit(connection.question("cohort-count", deadline_s=5))
        federation.clock[0] = start + 6
        with pytest.raises(Unavailable, match="FI"):
            connection.resume(run, wait_s=10)
    finally:
        federation.clock[0] = start
        federation.parties = held


class Flaky(httpx.BaseTransport):
    """A hub that is away for a while, before and after it did what it was asked."""

    def __init__(self, http: httpx.Client, faults: Sequence[str]) -> None:
        self.http, self.faults, self.calls = http, list(faults), 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before":
            raise httpx.ConnectError("refused", request=request)
        answer = self.http.request(
            request.method, request.url.raw_path.decode(), headers=dict(request.headers), content=request.read()
        )
        if fault == "after":
            raise httpx.ReadError("reset", request=request)
        if fault == "gateway":
            return httpx.Response(502, text="<html>Bad gateway</html>")
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def test_a_hub_that_starts_anew_loses_no_question(federation: Federation, http: httpx.Client) -> None:
    faults = ["before", "after", "", "gateway", "", "after", "before", "", "after", "", "gateway", "after"]
    flaky = Flaky(http, faults)
    with httpx.Client(transport=flaky, base_url="https://hub.test") as client:
        before = len(federation.coordinator.ledger.runs())
        result = dial(federation, client).run("cohort-count")
    assert flaky.faults == []
    assert result.frame()["people"].tolist() == [400]
    assert len(federation.coordinator.ledger.runs()) == before + 1


def test_patience_ends(federation: Federation, http: httpx.Client) -> None:
    flaky = Flaky(http, ["before"] * 1000)
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    with httpx.Client(transport=flaky, base_url="https://hub.test") as client:
        wire = Wire(client, key=federation.person, clock=federation.now, sleep=sleep, monotonic=lambda: now[0])
        with pytest.raises(Unavailable, match="out of reach"):
            wire.call("GET", "/service-info", patience_s=60)
    assert sum(slept) == pytest.approx(60)
    assert max(slept) == 5
    assert flaky.calls == len(slept) + 1


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b'{"tags": {"hub": 3}}', b'{"a": 1, "a": 2}'])
def test_something_else_than_a_hub(content: bytes, federation: Federation) -> None:
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=content))
    with httpx.Client(transport=transport, base_url="https://hub.test") as client, pytest.raises(Invalid):
        dial(federation, client)


def test_another_table_than_the_signed_one_is_not_taken(federation: Federation, http: httpx.Client) -> None:
    def bend(request: httpx.Request) -> httpx.Response:
        answer = http.request(
            request.method, request.url.raw_path.decode(), headers=dict(request.headers), content=request.read()
        )
        content = answer.content
        if "/tables/" in request.url.path:
            content = Table({"people": np.array([1_000_000])}).to_bytes()
        return httpx.Response(answer.status_code, content=content)

    with httpx.Client(transport=httpx.MockTransport(bend), base_url="https://hub.test") as client:
        connection = dial(federation, client)
        with pytest.raises(Damaged, match="signed"):
            connection.run("cohort-count")


def test_who_may_connect(federation: Federation, http: httpx.Client, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="another hub"):
        dial(federation, http, hub="other.test")
    assert dial(federation, http, hub=HUB).hub_name() == HUB
    with pytest.raises(Invalid, match="HTTPS"):
        connect("http://hub.test", key=federation.person, person="alice", permit=federation.permit())
    with pytest.raises(Invalid, match="ES256"):
        connect("https://hub.test", key=generate("Ed25519"), person="alice", permit=federation.permit())
    with pytest.raises(Invalid, match="no signed permit"):
        dial(federation, http, permit="P-1")
    with pytest.raises(Unavailable, match="permit"):
        dial(federation, http, permit=tmp_path / "none.jwt")
    file, key = tmp_path / "permit.jwt", tmp_path / "key.jwk"
    file.write_text(federation.permit() + "\n")
    save_private_key(federation.person, key)
    with connect(
        "https://hub.test", key=key, person="alice", permit=file, clock=federation.now, http=http, patience_s=1
    ) as connection:
        assert connection.datasets()
    assert not http.is_closed


def test_orders_are_what_a_node_verifies(federation: Federation) -> None:
    grant = Grant.read(federation.permit())
    ref = AlgorithmRef("cohort-count", "1.0", "sha256:" + "0" * 64)
    question = Question(ref, {"FI": ["fi-1"], "ES": ["es-1"]}, {"by": ["sex"]}, deadline_s=30.5)
    now = federation.now() + 0.75
    orders = sign_orders(question, grant, person="alice", key=federation.person, run="run-x", now=now)
    key = PersonKey.of(federation.person.public.jwk())
    at = datetime.fromtimestamp(now, UTC)
    told = {node: verify_order(token, key, node=node, now=at) for node, token in orders.items()}
    assert {node: order.datasets for node, order in told.items()} == {"ES": ("es-1",), "FI": ("fi-1",)}
    assert len({order.jti for order in told.values()}) == 2
    for order in told.values():
        assert (order.quorum, order.allow_partial, order.roster) == (2, False, ("ES", "FI"))
        assert 30.5 <= (order.deadline - order.issued).total_seconds() <= 31.5
        assert order.expires > order.deadline
        assert order.parameters == {"by": ["sex"]}
    assert replace(question, allow_partial=True).least == 2
    assert replace(question, datasets=dict.fromkeys("ABCDE", ("d",)), allow_partial=True).least == 3


@pytest.mark.parametrize("changes", [{"datasets": {}}, {"deadline_s": 0.5}, {"deadline_s": float("nan")}])
def test_questions_that_cannot_be_meant(changes: dict[str, object]) -> None:
    ref = AlgorithmRef("cohort-count", "1.0", "sha256:" + "0" * 64)
    with pytest.raises(Invalid):
        Question(**({"algorithm": ref, "datasets": {"FI": ["fi-1"]}} | changes))  # type: ignore[arg-type]


def test_frames_keep_types_and_gaps() -> None:
    table = Table(
        {
            "name": np.array(["a", ""]),
            "count": np.array([1, 2**53 + 1]),
            "share": np.array([np.nan, 0.5]),
            "open": np.array([True, False]),
            "cells": np.array([[1, 2], [3, 4]]),
        },
        {name: np.array([False, True]) for name in ("name", "open")} | {"cells": np.array([[True, False]] * 2)},
    )
    frame = to_frame(table)
    assert list(frame) == ["name", "count", "share", "open", "cells[0]", "cells[1]"]
    assert frame["count"].tolist() == [1, 2**53 + 1]
    assert frame.isna().to_dict("list") == {
        "name": [False, True], "count": [False, False], "share": [True, False], "open": [False, True],
        "cells[0]": [True, True], "cells[1]": [False, False],
    }  # fmt: skip
    assert to_frame(Table({})).empty


def test_importing_the_client_stays_light() -> None:
    code = (
        "import sys, federome.client\n"
        "heavy = {'pandas', 'numba', 'scipy', 'sqlalchemy', 'fastapi', 'federome.network', 'federome.analysis'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert told.stdout.strip() == "[]"
