"""A Beacon under load and under attack: full is said at once, slow bodies end, and it tests itself."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2 as httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.testclient import TestClient
from tests.beacons import IDENTITY, Seen, beacon_of, put
from tests.desks import make_desk, make_people
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from federome.errors import Unavailable
from federome.model.discovery import Guest, Room
from federome.standards.beacon import network as beacon_network
from federome.standards.beacon import punctual, wire
from federome.standards.beacon.network import Member, Network
from federome.standards.beacon.network import application as network_application
from federome.standards.beacon.people import People
from federome.standards.beacon.request import VARIANT_PARAMETERS, Asked
from federome.standards.beacon.routes import application
from federome.standards.beacon.server import Beacon

SEEN = [Seen("17", 100 + n, "A", "G", ((30, 2000),)) for n in range(5)] + [Seen("X", 5, "AC", "A", ((30, 2000),))]


@pytest.fixture
def beacon(tmp_path: Path) -> Beacon:
    put(tmp_path / "tables", "one", SEEN, strata=("Total",))
    return beacon_of(tmp_path / "tables")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A Beacon over a table and over open data of people."""
    folder = tmp_path_factory.mktemp("whole")
    put(folder / "tables", "one", SEEN, strata=("Total",))
    desk = make_desk(make_people(folder / "people", seed=4, size=40))
    with TestClient(application(beacon_of(folder / "tables", desk))) as http:
        yield http


def test_beyond_capacity_it_says_so_at_once_and_below_nobody_is_refused(beacon: Beacon) -> None:
    async def crowd() -> tuple[list[httpx.Response], list[httpx.Response], list[httpx.Response]]:
        gate, inside = asyncio.Event(), 0

        async def waits(_request: Request) -> Guest:
            nonlocal inside
            inside += 1
            await gate.wait()
            return Guest()

        app = application(Beacon(IDENTITY, beacon.shelf, waits), capacity=5)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://b") as http:

            def ask() -> Any:
                return http.get("/api/g_variants?referenceName=17&requestedGranularity=count")

            first = [asyncio.create_task(ask()) for _ in range(5)]
            while inside < 5:
                await asyncio.sleep(0)
            beyond = [await ask() for _ in range(50)]  # each answered while the five still wait
            gate.set()
            served = [await each for each in first]
            return served, beyond, [await ask() for _ in range(5)]

    served, beyond, after = asyncio.run(crowd())
    assert {each.status_code for each in (*served, *after)} == {200}
    assert {each.json()["responseSummary"]["numTotalResults"] for each in served} == {5}
    assert {each.status_code for each in beyond} == {503}
    assert int(beyond[0].headers["retry-after"]) >= 1
    error = beyond[0].json()["error"]
    assert error["errorCode"] == error["status"] == 503 and beyond[0].json()["meta"]["beaconId"]


def test_a_body_that_does_not_arrive_is_not_waited_for(beacon: Beacon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_S", 0.05)

    async def drips() -> int:
        told: list[Any] = []
        pieces = iter([{"type": "http.request", "body": b'{"query"', "more_body": True}])

        async def receive() -> Any:
            for piece in pieces:
                return piece
            await asyncio.sleep(3600)

        async def send(message: Any) -> None:
            told.append(message)

        scope = {"type": "http", "method": "POST", "path": "/api/g_variants", "query_string": b"", "headers": []}
        await application(beacon)(scope, receive, send)
        return int(told[0]["status"])

    assert asyncio.run(drips()) == 400


@pytest.mark.parametrize("kind", [H11Protocol, punctual.Punctual])
def test_whoever_does_not_begin_a_request_is_hung_up_on(
    kind: type[H11Protocol], beacon: Beacon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand clients who send half a head, or nothing, each hold a file of the process: under uvicorn alone."""
    monkeypatch.setattr(punctual, "HEAD_S", 0.2)
    config = uvicorn.Config(application(beacon), http=kind, lifespan="off", log_level="critical")

    async def attack() -> tuple[int, bytes]:
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: kind(config, state, {}), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
        for number, (_, writer) in enumerate(held):
            writer.write((b"", b"GET /api/heal", b"GET /api/health HTTP/1.1\r\nhost: b\r\nx-slow: ")[number % 3])
        ended = asyncio.gather(*(reader.read() for reader, _ in held))
        if kind is punctual.Punctual:
            await asyncio.wait_for(ended, 30)
        else:
            await asyncio.sleep(0.6)
        left = len(state.connections)
        ended.cancel()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answers = b""
        for _ in range(2):  # who sends whole requests may take their time between them
            writer.write(b"GET /api/health HTTP/1.1\r\nhost: b\r\n\r\n")
            answers += await reader.readuntil(b'"}')
            await asyncio.sleep(0.3)
        server.close()
        for _, each in (*held, (reader, writer)):
            each.transport.abort()
        return left, answers

    left, answers = asyncio.run(attack())
    assert left == (0 if kind is punctual.Punctual else 30)
    assert answers.count(b"200 OK") == 2


@pytest.mark.parametrize("kind", [H11Protocol, punctual.Punctual])
def test_a_thousand_connections_hold_out_nobody(
    kind: type[H11Protocol], beacon: Beacon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them have asked once and keep their connection, half ask for nothing: under uvicorn alone all stay."""
    monkeypatch.setattr(punctual, "MOST", 20)
    config = uvicorn.Config(application(beacon), http=kind, lifespan="off", log_level="critical")

    async def attack() -> tuple[int, list[bytes]]:
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: kind(config, state, {}), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        held, answers = [], []
        for number in range(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            held.append(writer)
            if number % 2:
                writer.write(b"GET /api/health HTTP/1.1\r\nhost: b\r\n\r\n")
                answers.append(await reader.readuntil(b'"}'))
        left = len(state.connections)
        server.close()
        for each in held:
            each.transport.abort()
        return left, answers

    left, answers = asyncio.run(attack())
    assert left <= 21 if kind is punctual.Punctual else left == 60
    assert len(answers) == 30 and all(b"200 OK" in each for each in answers)  # whoever comes last is answered too


def test_a_stream_that_nobody_reads_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacon_network, "SEND_S", 0.05)

    async def hang() -> int:
        client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, json={})))
        network = Network(IDENTITY, [Member("FI", "http://fi/api")], client, deadline_s=0.05)
        app = network_application(network, capacity=1)

        async def receive() -> Any:
            await asyncio.sleep(3600)

        async def send(_message: Any) -> None:
            await asyncio.sleep(3600)

        accept = [(b"accept", b"text/event-stream")]
        scope = {"type": "http", "method": "GET", "path": "/api/g_variants", "query_string": b"", "headers": accept}
        hangs = asyncio.create_task(app(scope, receive, send))
        await asyncio.wait_for(hangs, 30)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://b") as http:
            return (await http.get("/api/health")).status_code

    assert asyncio.run(hang()) == 200


@pytest.mark.parametrize("packed", [False, True])
def test_a_member_whose_answer_does_not_end_is_left(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacon_network, "MAX_ANSWER", 1 << 16)
    pieces = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal pieces
            while pieces < 10_000:
                pieces += 1
                yield b" " * 4096

    async def ask() -> str:
        headers = {"content-encoding": "gzip"} if packed else {}
        endless = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=Endless()))
        client = httpx.AsyncClient(transport=endless)
        network = Network(IDENTITY, [Member("FI", "http://fi/api")], client)
        [heard] = [each async for each in network.ask("g_variants", Asked({}))]
        return heard.outcome

    assert asyncio.run(ask()) == "not a Beacon"
    assert pieces <= (0 if packed else 20)


class _Away:
    """A desk that is not there."""

    def rooms(self) -> tuple[Room, ...]:
        raise Unavailable("the node's desk is not there.")


def test_service_info_tells_what_can_be_asked_and_what_a_self_test_found(beacon: Beacon, tmp_path: Path) -> None:
    desk = make_desk(make_people(tmp_path / "people", seed=4, size=40))
    whole = Beacon(IDENTITY, beacon.shelf, people=People(IDENTITY, desk))
    with TestClient(application(whole)) as http:
        told = http.get("/api/service-info").json()
    assert told["selfTest"]["passed"]
    assert {each["name"] for each in told["selfTest"]["checks"]} == {"table of one", "desk of people"}
    assert (
        "aminoacidChange" in told["capabilities"]["parameters"] and "mateName" not in told["capabilities"]["parameters"]
    )
    assert "individual" in told["capabilities"]["entryTypes"]
    [book] = beacon.shelf().books
    book.keys = book.keys + 1  # as if the columns were of other records
    half = Beacon(IDENTITY, beacon.shelf, people=People(IDENTITY, _Away()))  # type: ignore[arg-type]
    with TestClient(application(half)) as http:
        found = http.get("/api/service-info").json()["selfTest"]
        away = http.get("/api/individuals")
    assert not found["passed"] and [each["passed"] for each in found["checks"]] == [False, False]
    assert away.status_code == 503 and away.headers["retry-after"]


def test_a_network_tells_which_members_did_not_answer() -> None:
    network = Network(IDENTITY, [Member("fi", "http://fi"), Member("es", "http://es")], httpx.AsyncClient())
    network.suspected.add("es")
    with TestClient(network_application(network)) as http:
        told = http.get("/api/service-info").json()
    assert told["capabilities"]["members"] == ["fi", "es"]
    assert [each["passed"] for each in told["selfTest"]["checks"]] == [True, False]


PLACE, SECRET = 31_337_421, "ACGTTGCAACGTTGCA"
BAD: list[Any] = [
    {"referenceName": "17", "start": [PLACE], "alternateBases": SECRET, "assemblyId": "GRCh37"},
    {"referenceName": "17", "start": [PLACE], "alternateBases": SECRET, "assemblyId": "hg17"},
    {"referenceName": "17", "start": [-PLACE], "alternateBases": SECRET},
    {"referenceName": "17", "start": [PLACE * 1000], "alternateBases": SECRET},
    {"referenceName": "17", "start": [PLACE, PLACE], "end": [5, 6]},
    {"referenceName": "17", "start": [PLACE], "alternateBases": SECRET * 70_000},
    {"referenceName": "1" * 1_000_000, "start": [PLACE], "alternateBases": SECRET},
    {"genomicAlleleShortForm": f"NC_000017.11:g.{PLACE}{SECRET * 60_000}"},
    {"aminoacidChange": SECRET * 60_000},
    {"geneId": f"'; DROP TABLE genes; -- {SECRET}"},
    {"geneId": "{{7*7}}${7*7}<%= 7*7 %>"},
    {"referenceName": "17' OR '1'='1", "start": [PLACE], "alternateBases": "A"},
    {"genomicAlleleShortForm": "NC_000017.11:g.5C>T", "referenceName": "17", "start": [PLACE]},
    {"variantType": "SNP'; --", "referenceName": "17"},
]


@pytest.mark.parametrize("parameters", BAD)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_bad_questions_are_refused_in_beacons_envelope_and_logged_nowhere(
    method: str,
    parameters: dict[str, Any],
    beacon: Beacon,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    with TestClient(application(beacon)) as http:
        if method == "GET":
            flat = {key: ",".join(map(str, v)) if isinstance(v, list) else v for key, v in parameters.items()}
            if sum(map(len, map(str, flat.values()))) > 60_000:
                flat = {key: str(v)[:17_000] for key, v in flat.items()}  # no client sends more in an address
            answer = http.get("/api/g_variants", params=flat)
        else:
            answer = http.post("/api/g_variants", content=json.dumps({"query": {"requestParameters": parameters}}))
    assert answer.status_code == 400
    told = answer.json()
    assert told["meta"]["beaconId"] and told["error"]["errorCode"] == 400
    assert {"type", "title", "status", "detail"} <= told["error"].keys()  # RFC 9457
    assert len(answer.content) < 2_000
    said = capfd.readouterr()
    ours = [record for record in caplog.records if not record.name.startswith("httpx")]  # the test's own client
    written = said.out + said.err + "".join(record.getMessage() for record in ours)
    assert SECRET not in written and str(PLACE) not in written


ODD = (
    "'; DROP TABLE person; --",
    '" OR ""="',
    "1) UNION SELECT * FROM consent --",
    "%' ESCAPE '%",
    "{{7919*7907}}${7919*7907}#{7919*7907}<%= 7919*7907 %>",
    "{% import os %}{{ os.popen('id').read() }}",
    "<script>alert(1)</script>",
    "../../../../etc/passwd\x00",
    "%s%n%x",
    "__class__.__mro__",
)
QUERY = ("filters", "filtersLogic", "requestedGranularity", "includeResultsetResponses", "testMode")
PAGE = ("skip", "limit", "currentPage", "nextPage", "previousPage")


@pytest.mark.parametrize("odd", ODD)
def test_fragments_of_other_languages_are_text_in_every_parameter(odd: str, whole: TestClient) -> None:
    """Nothing is run or filled in: refused, or no such thing here; and what comes back is JSON that holds no result."""
    base = {"referenceName": "17", "start": "99", "alternateBases": "G"}
    asked = [
        whole.get(
            f"/api/{path}", params=(base if name in VARIANT_PARAMETERS and path == "g_variants" else {}) | {name: odd}
        )
        for path in ("g_variants", "individuals", "datasets")
        for name in (*VARIANT_PARAMETERS, *QUERY, *PAGE, odd)
    ]
    asked += [
        whole.post("/api/individuals", content=json.dumps({"query": {"filters": [filter_]}}))
        for filter_ in (
            {"id": odd},
            {"id": "BMI", "operator": odd, "value": 3},
            {"id": "BMI", "operator": ">", "value": odd},
            {"id": "smoking", "operator": "=", "value": odd},
            {"id": "HP:0001250", "scope": odd},
            {"id": "HP:0001250", "similarity": odd},
            {"id": "HP:0001250", "includeDescendantTerms": odd},
            {odd: odd},
            {"or": [{"id": odd}]},
        )
    ]
    asked += [
        whole.get(f"/api/{kind}/{quote(odd, safe='')}{below}")
        for kind in ("g_variants", "individuals", "biosamples", "datasets", "cohorts", "runs", "analyses")
        for below in ("", "/g_variants", "/filtering_terms")
    ]
    for answer in asked:
        told = answer.json()
        assert answer.headers["content-type"] == "application/json" and answer.headers["x-content-type-options"]
        assert answer.status_code in (200, 400, 404), answer.text
        assert "62615533" not in answer.text and "root:" not in answer.text and "uid=" not in answer.text
        if answer.status_code == 200:  # a value that nobody has: of no person, and of no variant
            assert not told.get("responseSummary", {}).get("exists", False), answer.request.url
        else:
            assert told["error"]["errorCode"] == answer.status_code and len(answer.content) < 2_000
    assert whole.get("/api/individuals").json()["responseSummary"]["exists"]  # all are still there


def test_pages_add_up_to_the_total_by_number_and_by_token(whole: TestClient) -> None:
    for path, question in (
        ("g_variants", "referenceName=17&"),
        ("individuals", ""),
        ("biosamples", "filters=BMI>=20&"),
    ):
        address = f"/api/{path}?{question}requestedGranularity=record&limit=3"
        pages = [whole.get(f"{address}&skip=0").json()]
        token = pages[0]["meta"]["receivedRequestSummary"]["pagination"].get("nextPage")
        while token:
            pages.append(whole.get(f"{address}&currentPage={token}").json())
            assert whole.get(f"{address}&nextPage={token}").json()["response"] == pages[-1]["response"]
            token = pages[-1]["meta"]["receivedRequestSummary"]["pagination"].get("nextPage")
        total = pages[0]["responseSummary"]["numTotalResults"]
        found = [
            record.get("id") or record["variantInternalId"]
            for page in pages
            for each in page["response"]["resultSets"]
            for record in each["results"]
        ]
        assert len(found) == len(set(found)) == total > 3
        assert {page["responseSummary"]["numTotalResults"] for page in pages} == {total}
        for page in pages:
            assert sum(each["resultsCount"] for each in page["response"]["resultSets"]) == total
        for number, page in enumerate(pages):
            assert whole.get(f"{address}&skip={number}").json()["response"] == page["response"]


def test_a_cursor_of_people_is_of_its_dataset_too(whole: TestClient, tmp_path: Path) -> None:
    page = whole.get("/api/datasets/fi/individuals?requestedGranularity=record&limit=3").json()
    token = page["meta"]["receivedRequestSummary"]["pagination"]["nextPage"]
    good = whole.get(f"/api/datasets/fi/individuals?requestedGranularity=record&limit=3&currentPage={token}")
    assert good.status_code == 200
    for other in ("/api/individuals?", "/api/datasets/one/g_variants?", "/api/individuals?filters=BMI>=20&"):
        answer = whole.get(f"{other}requestedGranularity=record&limit=3&currentPage={token}")
        assert answer.status_code == 400 and "currentPage" in answer.json()["error"]["errorMessage"]


@pytest.mark.parametrize("ref", ["C", "CC", "T"])
def test_another_reference_base_than_is_known_is_an_error_and_not_an_empty_answer(ref: str, beacon: Beacon) -> None:
    with TestClient(application(beacon)) as http:
        wrong = http.get(f"/api/g_variants?referenceName=17&start=100&referenceBases={ref}&alternateBases=G")
        nothing_known = http.get(f"/api/g_variants?referenceName=17&start=7000&referenceBases={ref}&alternateBases=G")
        right = http.get("/api/g_variants?referenceName=17&start=100&referenceBases=A&alternateBases=T")
    assert wrong.status_code == 400 and "referenceBases" in wrong.json()["error"]["errorMessage"]
    assert nothing_known.json()["responseSummary"] == right.json()["responseSummary"] == {"exists": False}


def test_a_cursor_of_another_dataset_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        put(tmp_path, name, SEEN, strata=("Total",))
    with TestClient(application(beacon_of(tmp_path))) as http:
        page = http.get("/api/datasets/one/g_variants?requestedGranularity=record&limit=2").json()
        token = page["meta"]["receivedRequestSummary"]["pagination"]["nextPage"]
        assert http.get(f"/api/datasets/one/g_variants?limit=2&requestedGranularity=record&currentPage={token}").json()[
            "response"
        ]
        other = http.get(f"/api/datasets/two/g_variants?limit=2&requestedGranularity=record&currentPage={token}")
    assert other.status_code == 400 and "currentPage" in other.json()["error"]["errorMessage"]


def test_the_process_of_a_beacon_has_nothing_that_reads_genotypes() -> None:
    code = (
        "import sys, federome.standards.beacon.serve, federome.network.guests, federome.network.discovery_wire\n"
        "heavy = ('federome.store', 'federome.ingest', 'numba', 'duckdb')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_people_are_counted_on_the_assembly_that_is_asked_for(whole: TestClient) -> None:
    """Undefended, the parameter was read of questions about variants only, and else everybody was counted."""
    counts = [whole.get(f"/api/individuals?requestedGranularity=count{more}") for more in ("", "&assemblyId=GRCh38")]
    assert [each.json()["responseSummary"]["numTotalResults"] for each in counts] == [40, 40]
    for name in ("GRCh37", "hg17"):
        answer = whole.get(f"/api/individuals?requestedGranularity=count&assemblyId={name}")
        assert answer.status_code == 400 and "assembly" in answer.text
