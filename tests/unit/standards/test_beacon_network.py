"""A network of Beacons: the union of its members' answers, and the truth about those who did not give one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.beacons import IDENTITY, Seen, beacon_of, put
from tests.desks import make_desk, make_people

from federome.model.release import Policy
from federome.standards.beacon import routes
from federome.standards.beacon.network import Member, Network, application

TABLES = {
    "fi": [Seen("17", 100 + n, "A", "G", ((30, 2000),)) for n in range(5)],
    "es": [Seen("17", 103 + n, "A", "G", ((40, 2000),)) for n in range(5)],
    "it": [Seen("1", 7, "C", "T", ((50, 2000),))],
}


async def hangs(_request: Request) -> Response:
    await asyncio.sleep(30)
    return PlainTextResponse("too late")


async def babbles(_request: Request) -> Response:
    return PlainTextResponse("<html>welcome</html>")


class Dead(httpx.AsyncBaseTransport):
    """Nobody listens there."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)


class Hosts(httpx.AsyncBaseTransport):
    """Many hosts in one process, by name; counts what each was asked."""

    def __init__(self, apps: dict[str, Any]) -> None:
        self.transports = {
            name: app if isinstance(app, httpx.AsyncBaseTransport) else httpx.ASGITransport(app)
            for name, app in apps.items()
        }
        self.asked: dict[str, int] = dict.fromkeys(apps, 0)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked[request.url.host] += 1
        timeout = request.extensions["timeout"]["read"]
        answer = self.transports[request.url.host].handle_async_request(request)
        try:
            return await asyncio.wait_for(answer, timeout)  # in process, nothing else keeps the time
        except TimeoutError:
            raise httpx.ReadTimeout("late", request=request) from None


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, variants in TABLES.items():
        folder = tmp_path_factory.mktemp(name)
        put(folder, f"{name}-cohort", variants, node=name.upper(), strata=("Total",), genes=[("G", "17", "90", "200")])
        out[name] = routes.application(beacon_of(folder))
    out["hung"] = Starlette(routes=[Route("/{rest:path}", hangs, methods=["GET", "POST"])])
    out["odd"] = Starlette(routes=[Route("/{rest:path}", babbles, methods=["GET", "POST"])])
    out["gone"] = Dead()
    return out


def network_of(apps: dict[str, Any], *names: str, deadline_s: float = 3.0) -> tuple[Network, Hosts]:
    hosts = Hosts({name: apps[name] for name in names})
    client = httpx.AsyncClient(transport=hosts)
    members = [Member(name, f"http://{name}/api") for name in names]
    return Network(IDENTITY, members, client, deadline_s=deadline_s), hosts


async def asked(network: Network, path: str, body: object = None, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application(network)), base_url="http://hub") as http:
        if body is None:
            return await http.get(path, headers=headers)
        return await http.post(path, content=json.dumps(body), headers=headers)


def test_the_answer_is_the_union_of_the_members(apps: dict[str, Any]) -> None:
    network, _ = network_of(apps, "fi", "es", "it", deadline_s=10)
    told = run(asked(network, "/api/g_variants?referenceName=17&requestedGranularity=record&limit=100")).json()
    assert told["responseSummary"] == {"exists": True, "numTotalResults": 10}
    sets = {each["id"]: each for each in told["response"]["resultSets"]}
    assert {name: len(each["results"]) for name, each in sets.items()} == {"fi-cohort": 5, "es-cohort": 5}
    assert all(each["beaconId"] for each in sets.values())
    assert told["info"]["complete"]
    assert [node["outcome"] for node in told["info"]["nodes"]] == ["answered"] * 3
    nobody = run(asked(network, "/api/g_variants?referenceName=2")).json()
    assert nobody["responseSummary"] == {"exists": False}
    datasets = run(asked(network, "/api/datasets?requestedGranularity=record")).json()
    assert {each["id"] for each in datasets["response"]["collections"]} == {"fi-cohort", "es-cohort", "it-cohort"}


def test_who_did_not_answer_is_named_and_waited_for_once(apps: dict[str, Any]) -> None:
    network, hosts = network_of(apps, "hung", "fi", "gone", "odd")

    async def twice() -> list[dict[str, Any]]:
        address = "/api/g_variants?referenceName=17&requestedGranularity=record&limit=100"
        return [(await asked(network, address)).json() for _ in range(2)]

    for told in run(twice()):
        outcomes = {node["node"]: node["outcome"] for node in told["info"]["nodes"]}
        assert outcomes == {"hung": "late", "fi": "answered", "gone": "away", "odd": "not a Beacon"}
        assert not told["info"]["complete"]
        assert told["responseSummary"] == {"exists": True, "numTotalResults": 5}
    assert network.suspected == {"hung", "gone"}
    assert hosts.asked["hung"] == 2  # still asked, no longer waited for
    hosts.transports["gone"] = hosts.transports["fi"]
    run(asked(network, "/api/g_variants?referenceName=17"))
    assert network.suspected == {"hung"}  # one answer and it is believed again


def test_a_refusal_is_told_in_the_members_words(apps: dict[str, Any]) -> None:
    network, _ = network_of(apps, "fi", "it", deadline_s=10)
    told = run(asked(network, "/api/g_variants?geneId=NOWHERE&requestedGranularity=count")).json()
    assert {node["outcome"] for node in told["info"]["nodes"]} == {"refused"}
    assert "gene" in told["info"]["nodes"][0]["says"]
    wrong = run(asked(network, "/api/g_variants?colour=blue"))
    assert wrong.status_code == 400  # what no member could read is not sent to any


def test_one_dataset_at_two_members_counts_once_under_the_stricter_minimum(
    apps: dict[str, Any], tmp_path: Path
) -> None:
    put(tmp_path, "fi-cohort", TABLES["fi"][:2], node="XX", strata=("Total",), k=50)
    strict = beacon_of(tmp_path)
    network, _ = network_of(apps | {"strict": routes.application(strict)}, "fi", "strict", deadline_s=10)
    told = run(asked(network, "/api/g_variants?referenceName=17&requestedGranularity=record")).json()
    assert [each["resultsCount"] for each in told["response"]["resultSets"]] == [2]
    assert told["responseSummary"]["numTotalResults"] == 2


def test_answers_are_told_as_they_come(apps: dict[str, Any]) -> None:
    network, _ = network_of(apps, "hung", "fi", "es")
    body = {"query": {"requestParameters": {"referenceName": "17"}, "requestedGranularity": "record"}}
    response = run(asked(network, "/api/g_variants", body, accept="text/event-stream"))
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\ndata: ", 1) for block in response.text.strip().split("\n\n")]
    assert [name for name, _ in events] == ["event: node"] * 3 + ["event: answer"]
    told = [json.loads(data) for _, data in events]
    assert {each["node"]: each["outcome"] for each in told[:3]} == {"hung": "late", "fi": "answered", "es": "answered"}
    assert told[2]["node"] == "hung"
    assert told[3]["responseSummary"]["numTotalResults"] == 10
    assert told[3]["info"]["nodes"][0]["node"] == "hung"


def test_people_of_all_members_are_counted(tmp_path: Path) -> None:
    """The European portal's own question about individuals, and that closed data lower what is told."""
    closed = make_people(
        tmp_path / "a", seed=15, size=120, policy=Policy(k_min=5, k_public=10, difference_min=12), dataset="a"
    )
    opened = make_people(tmp_path / "b", seed=16, size=60, dataset="b")
    desks = {world.dataset: make_desk(world) for world in (closed, opened)}
    members = {name: routes.application(beacon_of(tmp_path / f"none-{name}", desk)) for name, desk in desks.items()}
    body = {
        "meta": {"apiVersion": "v2.0"},
        "query": {
            "filters": [
                {"id": "diseases.ageOfOnset.iso8601duration", "operator": ">=", "value": "P20Y", "scope": "individual"}
            ],
            "includeResultsetResponses": "HIT",
            "pagination": {"skip": 0, "limit": 100},
            "requestedGranularity": "record",
        },
    }
    having = [p for p in opened.people if (p["age_of_onset"] or 0) >= 20]

    def told(*names: str) -> Any:
        network, _ = network_of(members, *names, deadline_s=20)
        return run(asked(network, "/api/individuals", body)).json()

    both = told("a", "b")
    sets = {each["id"]: each for each in both["response"]["resultSets"]}
    assert sets["b"]["resultsCount"] == len(having) == len(sets["b"]["results"])
    assert sets["a"]["results"] == [] and sets["a"]["resultsCount"] % 5 == 0
    assert both["responseSummary"]["numTotalResults"] == sum(each["resultsCount"] for each in sets.values())
    assert both["responseSummary"]["countPrecision"] == "rounded"
    assert both["meta"]["returnedGranularity"] == "record" and told("a")["meta"]["returnedGranularity"] == "count"
    youngest = max(p["birth_year"] for p in closed.people)
    body["query"]["filters"] = []
    assert told("a")["responseSummary"]["exists"]
    body["query"]["filters"] = [{"id": "age", "operator": ">=", "value": 0}]  # everybody, in other words
    [node] = told("a")["info"]["nodes"]
    assert node["withheld"][0]["codes"] == ["differencing"]
    body["query"]["filters"] = [{"id": "age", "operator": ">", "value": 2025 - youngest}]  # nearly the same people
    [node] = told("a")["info"]["nodes"]
    assert node["withheld"][0]["codes"] == ["differencing"]  # named at the hub as well
    body["query"]["filters"] = [{"id": "eyeColour:blue"}]
    assert {node["outcome"] for node in told("a", "b")["info"]["nodes"]} == {"refused"}
