"""A Beacon as a process of its own: tiers by real passports, crowds, and a log that tells nobody what was asked."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from tests.beacons import Seen, put
from tests.desks import make_desk, make_people

from federome.demo.local import free_port, wait_for_port
from federome.governance.passports import GRANTS, RESEARCHER, TERMS
from federome.model.release import Policy
from federome.network.access import install_access
from federome.network.discovery_wire import SOCKET, DeskServer
from federome.network.issuing import ALL_TYPES, Issuer, VisaOf
from federome.onboard.bff import alone
from federome.trust.keys import generate

pytestmark = pytest.mark.processes
TERM = "https://doi.org/10.1038/s41431-018-0219-y"
BROKER = Issuer("https://login.example", generate("ES256"))
STRANGER = Issuer("https://elsewhere.example", generate("ES256"))
REGISTERED = (VisaOf(RESEARCHER, TERM, by="so"), VisaOf(TERMS, TERM, by="self"))
POLICY = Policy(k_min=5, k_public=10, difference_min=12, membership_power=1.0)
PLACE, SECRET = 31_337_421, "ACGTTGCAACGTTGCA"  # nobody else writes these


@dataclass
class Served:
    url: str
    log: Path
    http: httpx.Client

    def ask(self, path: str, passport: str = "") -> httpx.Response:
        headers = {"authorization": f"Bearer {passport}"} if passport else {}
        return self.http.get(f"{self.url}/{path}", headers=headers)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, port = tmp_path_factory.mktemp("beacon"), free_port()
    node = folder / "node"
    alone(node, "FI")
    for tier in ("public", "registered", "controlled"):
        seen = [Seen("7", PLACE + n, "A", "T", ((30, 2000),)) for n in range(5)]
        put(node / "publications", f"t-{tier}", seen, strata=("Total",), tier=tier, genes=[("BRAF", "7", "1", "2")])
    install_access(node, _access(BROKER))
    desk = make_desk(
        make_people(folder / "people", seed=5, size=150, policy=POLICY, dataset="people"), tier="controlled"
    )
    command = [
        sys.executable,
        "-m",
        "federome.cli",
        "beacon",
        "serve",
        "--people",
        "--dir",
        str(node),
        "--port",
        str(port),
    ]
    log = folder / "log"
    with DeskServer(node / SOCKET, desk) as server, log.open("wb") as file, httpx.Client(timeout=300) as http:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            wait_for_port("127.0.0.1", port, process)
            yield Served(f"http://127.0.0.1:{port}/api", log, http)
        finally:
            process.terminate()
            process.wait(30)
            server.shutdown()


def _access(issuer: Issuer) -> str:
    """``access.toml`` that trusts one issuer, whose keys stand in it."""
    visas = ", ".join(f'{{ type = "{kind}", sources = ["{issuer.url}"] }}' for kind in ALL_TYPES)
    keys = ", ".join(
        "{ " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in key.items()) + " }"
        for key in issuer.key_set()["keys"]  # type: ignore[union-attr]
    )
    return (
        f'[[clearinghouse.issuers]]\nissuer = "{issuer.url}"\nkey_urls = ["{issuer.key_url}"]\nbroker = true\n'
        f'visas = [{visas}]\n\n[key_sets."{issuer.key_url}"]\nkeys = [{keys}]\n'
    )


def passport(*visas: VisaOf, by: Issuer = BROKER, **options: Any) -> str:
    now = time.time()
    return by.passport("ada", [by.visa("ada", visa, now=now) for visa in visas], now=now, **options)


def grant(dataset: str) -> VisaOf:
    return VisaOf(GRANTS, f"urn:federome:FI:{dataset}", by="dac")


@pytest.mark.parametrize(
    ("visas", "may"),
    [
        (None, {"t-public"}),
        ((), {"t-public"}),
        (REGISTERED, {"t-public", "t-registered"}),
        ((grant("t-controlled"),), {"t-public", "t-controlled"}),
        ((*REGISTERED, grant("t-controlled")), {"t-public", "t-registered", "t-controlled"}),
        ((grant("people"),), {"t-public"}),
    ],
)
def test_each_dataset_answers_whom_its_tier_lets_in(
    visas: tuple[VisaOf, ...] | None, may: set[str], served: Served
) -> None:
    shown = "" if visas is None else passport(*visas)
    question = f"g_variants?referenceName=7&start={PLACE - 1}&end={PLACE + 4}&requestedGranularity=record"
    told = served.ask(question, shown).json()
    assert {each["id"] for each in told["response"]["resultSets"]} == may
    assert {each["dataset"] for each in told.get("info", {}).get("withheld", [])} == {
        "t-public", "t-registered", "t-controlled"
    } - may  # fmt: skip
    listed = served.ask("datasets", shown).json()["response"]["collections"]
    assert {each["id"] for each in listed} == {"people", "t-public", "t-registered", "t-controlled"}  # no secret
    people = served.ask("individuals?filters=sex=female&requestedGranularity=count", shown)
    if visas == (grant("people"),):
        assert people.json()["responseSummary"]["numTotalResults"] > 0
    else:
        assert people.json()["responseSummary"]["numTotalResults"] == 0
        assert people.json()["info"]["withheld"][0]["codes"] == ["missing_grant"]


@pytest.mark.parametrize(
    "shown",
    [
        "nonsense",
        passport(*REGISTERED, by=STRANGER),
        passport(*REGISTERED, audience=["ES"]),
        passport(*REGISTERED, life_s=-60),
    ],
)
def test_a_passport_that_does_not_stand_up_is_refused_and_not_ignored(shown: str, served: Served) -> None:
    refused = served.ask("g_variants?geneId=BRAF", shown)
    assert refused.status_code == 403
    assert refused.json()["error"]["codes"]


def test_a_crowd_below_capacity_is_answered_whole(served: Served) -> None:
    question = f"g_variants?referenceName=7&start={PLACE - 1}&end={PLACE + 4}&requestedGranularity=count"
    with ThreadPoolExecutor(32) as crowd, httpx.Client(timeout=300, limits=httpx.Limits(max_connections=32)) as http:
        answers = list(crowd.map(lambda _: http.get(f"{served.url}/{question}"), range(160)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["responseSummary"]["numTotalResults"] for answer in answers} == {5}


def test_nothing_that_is_asked_is_written_anywhere(served: Served) -> None:
    for path in (
        f"g_variants?referenceName=7&start={PLACE}&alternateBases={SECRET}",
        f"g_variants?referenceName=7&start={PLACE}&end=5",
        f"g_variants?referenceName={SECRET}&start={PLACE}",
        f"g_variants/GRCh38:7:{PLACE}:A:{SECRET}",
        f"individuals?referenceName=7&start={PLACE}&alternateBases={SECRET}&filters=ICD10:E11.42",
        f"individuals?aminoacidChange=V{PLACE % 10_000}E",
        f"nowhere/{SECRET}?start={PLACE}",
    ):
        served.ask(path, passport(grant("people")))
        served.http.post(f"{served.url}/g_variants", content=json.dumps({"query": {"x": [SECRET, PLACE]}}))
    served.http.post(f"{served.url}/g_variants", content=f'{{"broken {SECRET} {PLACE}'.encode())
    written = served.log.read_text()
    assert not [word for word in (SECRET, str(PLACE), str(PLACE % 10_000), "E11.42", "ada") if word in written]
