"""The search for frequencies: every notation means the same place, and what is not known is never shown as zero."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient
from tests.beacons import Seen, beacon_of, put

from federome.db import engine
from federome.errors import Invalid
from federome.model.variant import Assembly
from federome.network.access import Register
from federome.portal.app import create_app, own_faces
from federome.portal.notations import read
from federome.portal.pages import frequencies
from federome.portal.searches import KEPT_S
from federome.portal.sessions import Sessions
from federome.portal.site import Site
from federome.standards.beacon import routes
from federome.standards.beacon.hub import BEACONS, asker, beacons_of
from federome.standards.beacon.request import from_body, spans
from federome.standards.service_info import Operator

URL = "https://hub.test"
STRATA = ("Total", "F", "EE_M")
FI = [
    Seen("19", 44_908_684, "T", "C", ((180, 1000), (100, 500), None)),
    Seen("19", 44_908_822, "C", "T", ((60, 1000), (30, 500), (30, 500))),
]
ES = [Seen("19", 44_908_684, "T", "C", ((120, 1000), (60, 500), (60, 500)))]
OPERATOR = Operator("test.hub", "hub", "Test operator", URL)


class Places:
    assemblies: frozenset[Assembly] = frozenset({"GRCh38"})
    genes: Mapping[tuple[str, Assembly], Any] = {("APOE", "GRCh38"): (("19", 44_905_791, 44_909_393),)}


class Hosts(httpx.AsyncBaseTransport):
    """Two Beacons, one that nobody runs, one that says odd things."""

    def __init__(self, folder: Path) -> None:
        self.apps = {}
        for name, variants in (("fi", FI), ("es", ES)):
            put(
                folder / name,
                f"{name}-cohort",
                variants,
                node=name.upper(),
                strata=STRATA,
                genes=[("APOE", "19", "44905791", "44909393")],
            )
            self.apps[name] = httpx.ASGITransport(routes.application(beacon_of(folder / name)))
        self.odd: object = "<b>welcome</b>"
        self.silent: set[str] = set()
        self.asked = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        while request.url.host in self.silent:
            await asyncio.sleep(0.01)
        if request.url.host == "odd":
            return httpx.Response(200, json=self.odd)
        if request.url.host not in self.apps:
            raise httpx.ConnectError("refused", request=request)
        return await self.apps[request.url.host].handle_async_request(request)


class Bench:
    """A portal without login over these Beacons."""

    def __init__(self, folder: Path) -> None:
        self.hosts = Hosts(folder)
        lines = [
            f'[[beacons]]\nnode = "{n.upper()}"\ncountry = "{c}"\nurl = "http://{n}/api/"\n'
            for n, c in (("fi", "FI"), ("es", "ES"), ("gone", "IT"), ("odd", "SE"))
        ]
        (folder / BEACONS).write_text("".join(lines))
        self.seek = asker(folder, OPERATOR, URL, httpx.AsyncClient(transport=self.hosts))
        self.now = 0.0
        clock = lambda: self.now  # noqa: E731
        site = Site("hub.test", URL, Sessions(engine("sqlite://"), clock), lambda: Register((), ()), clock, lambda: "1")
        app = create_app(site, lambda site: (*own_faces(site), frequencies.pages(site, self.seek)))
        self.http = TestClient(app, base_url=URL, follow_redirects=False, raise_server_exceptions=False)

    def page(self, q: str, **more: str) -> httpx.Response:
        self.now += KEPT_S  # whatever was found before is forgotten
        return self.http.get("/portal/frequencies", params={"q": q, **more})


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("beacons"))
    with made.http:  # one event loop for all requests, as a server has
        yield made


@pytest.mark.parametrize(
    "text",
    [
        "19:44908684:T:C",
        "chr19-44908684-T-C",
        "GRCh38:19:44908684:T>C",
        " 19:44908684:t:c ",
        "NC_000019.10:g.44908684T>C",
        "nc_000019.10:44908683:t:c",
        "19:g.44908684T>C",
        "19:44908683:GT:GC",
        "19-44908684-T-C",
        "chr19:44908684 T>C",
        "chr19:44,908,684T>C",
        "19:44908684 T/C",
        "19_44908684_T_C",
        "hg38 chr19:44908684 T>C",
        "chr19\t44908684\t.\tT\tC",
        "19 44908684 rs429358 T C",
    ],
)
def test_every_notation_means_the_same_place(text: str) -> None:
    asked = from_body({"query": {"requestParameters": dict(read(text, "GRCh38"))}})
    ((assembly, span),) = spans(asked, Places())
    assert (assembly, span.chromosome, span.starts, span.alt or span.inserted) == (
        "GRCh38",
        "19",
        (44_908_684, 44_908_684),
        "C",
    )


def test_an_assembly_that_is_written_counts() -> None:
    assert read("hg19 chr19:45411941 T>C", "GRCh38")["assemblyId"] == "GRCh37"


def test_genes_and_regions() -> None:
    assert read("apoe", "hg38") == {"geneId": "APOE", "assemblyId": "GRCh38"}
    assert read("HLA-A", "GRCh37")["geneId"] == "HLA-A"
    told = read("chr19:44,905,791-44,909,393", "GRCh38")
    assert (told["start"], told["end"]) == ([44_905_790], [44_909_393])
    assert read("X-155-T-C", "GRCh38")["referenceName"] == "X"


def test_rs_numbers_of_drug_genes_are_places() -> None:
    """By their published places: SLCO1B1 c.521T>C, on both assemblies, and a site of two alternatives."""
    told = read("rs4149056", "GRCh38")
    assert told == read("12:21178615:T:C", "GRCh38")
    assert read("RS4149056", "GRCh37") == read("12:21331549:T:C", "GRCh37")
    assert read("rs3211371", "GRCh38") == read("19:41016810-41016810", "GRCh38")  # C>A and C>T: both are wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 301,
        "chr19",
        "7",
        "rs429358",
        "19:5-4",
        "25 apples",
        "19:0:A:T",
        "NM_000041.4:c.388T>C",
        "<script>",
        "\u202e",
        "99:1-2",
        "chr99:5 A>T",
        "19:0 A>T",
    ],
)
def test_bad_text_says_what_to_write(text: str) -> None:
    with pytest.raises(Invalid) as told:
        read(text, "GRCh38")
    assert told.value.remedy


def test_one_variant_with_every_group(bench: Bench) -> None:
    answer = bench.page("19:44908684:T:C")
    assert answer.status_code == 200
    text = answer.text
    assert all(word in text for word in ("0.18", "0.12", "fi-cohort", "es-cohort", "<svg", "women", "withheld"))
    assert "This result is partial" in text
    assert "could not be reached" in text
    assert "gave an answer that cannot be read" in text
    assert "0.0<" not in text


def test_answers_come_one_by_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frequencies, "GRACE_S", 0.05)
    bench.hosts.silent = {"fi", "es"}
    text = bench.page("19:44908684:T:C").text
    assert "2 of 4 nodes have answered" in text
    assert "ES: has not answered yet" in text
    assert "not a frequency of zero" not in text  # nobody who knows has spoken
    news = re.search(r'data-live="([^"]+)"', text)
    assert news is not None
    bench.hosts.silent = {"es"}
    asked = bench.hosts.asked
    with bench.http.stream("GET", news[1].replace("&amp;", "&")) as stream:
        assert "event: news" in next(line for line in stream.iter_lines() if line.startswith("event"))
        text = bench.http.get("/portal/frequencies", params={"q": "19:44908684:T:C"}).text
        assert "3 of 4 nodes have answered" in text
        assert "fi-cohort" in text
        assert "es-cohort" not in text
        patient = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', text)  # without JavaScript
        assert patient is not None
        bench.hosts.silent = set()
        text = bench.http.get(patient[1].replace("&amp;", "&")).text
        assert "es-cohort" in text
        assert "data-live" not in text
        assert "http-equiv" not in text
    assert bench.hosts.asked == asked  # nobody was asked twice


def test_many_searches_at_once_have_an_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frequencies, "GRACE_S", 0.0)
    monkeypatch.setattr("federome.portal.searches.MOST_SEARCHES", 2)
    bench.now += KEPT_S
    bench.hosts.silent = {"fi"}
    told = [bench.http.get("/portal/frequencies", params={"q": f"19:{at}:T:C"}).status_code for at in (1, 2, 3, 1)]
    bench.hosts.silent = set()
    assert told == [200, 200, 503, 200]


def test_a_gene_lists_its_variants_and_a_dash_is_not_zero(bench: Bench) -> None:
    text = bench.page("APOE").text
    assert text.index("19:44908684:T:C") < text.index("19:44908822:C:T")
    assert ">–<" in text
    assert ">0<" not in text


def test_the_file_holds_the_cells_and_who_did_not_answer(bench: Bench) -> None:
    answer = bench.http.get("/portal/frequencies.csv", params={"q": "APOE"})
    said, rows = (
        [line for line in answer.text.splitlines() if line.startswith("#") is wanted] for wanted in (True, False)
    )
    assert said == ["# IT GONE: away", "# SE ODD: not a Beacon"]
    cells = list(csv.DictReader(io.StringIO("\n".join(rows))))
    found = {(c["country"], c["variant"], c["ancestry"], c["sex"]): c for c in cells}
    assert len(found) == len(cells) == 3 * 3 - 1  # one cell is withheld: absent
    one = found["FI", "GRCh38:19:44908822:C:T", "EE", "M"]
    assert (one["alternate"], one["called"], one["homozygous"]) == ("30", "500", "")


def test_what_no_table_has_is_not_called_zero(bench: Bench) -> None:
    text = bench.page("1:5:A:T").text
    assert "not a frequency of zero" in text


def test_a_wrong_search_keeps_what_was_written(bench: Bench) -> None:
    answer = bench.page('"><script>alert(1)</script>')
    assert answer.status_code == 400
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert "dbSNP" in bench.page("rs429358").text
    assert bench.page("APOE", assembly="GRCh99").status_code == 400


@pytest.mark.parametrize(
    "cell",
    [
        {"population": "Total"},
        {"population": "Total", "alleleFrequency": 7},
        "x",
        {"population": "Total", "alleleFrequency": "NaN"},
    ],
)
def test_an_odd_beacon_spoils_its_own_answer_only(bench: Bench, cell: object) -> None:
    record = {"variantInternalId": "GRCh38:1:1:A:T", "frequencyInPopulations": [{"frequencies": [cell]}]}
    sets = [{"id": "odd", "resultsCount": 1, "results": [record]}]
    bench.hosts.odd = {"meta": {"beaconId": "odd"}, "response": {"resultSets": sets}}
    text = bench.page("APOE").text
    bench.hosts.odd = "<b>welcome</b>"
    assert "gave an answer that cannot be read" in text
    assert "fi-cohort" in text


def test_too_many_variants_are_counted_and_not_half_shown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frequencies, "MOST", 1)
    text = bench.page("APOE").text
    assert "Ask for a smaller region" in text
    assert "<li>FI: 2</li>" in text
    assert "44908822" not in text


def test_a_hub_without_beacons_says_so(tmp_path: Path) -> None:
    assert asker(tmp_path, OPERATOR, URL) is None
    (tmp_path / BEACONS).write_text('[[beacons]]\nnode = "FI"\ncountry = "FI"\nurl = "ftp://x"\n')
    with pytest.raises(Invalid):
        beacons_of(tmp_path)
