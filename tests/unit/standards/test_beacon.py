"""The Beacon against a loop over all variants: any query, by GET and by POST, page by page; and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.beacons import IDENTITY, Seen, beacon_of, put

from federome.errors import Damaged, Invalid
from federome.model.discovery import Guest
from federome.model.span import variant_type
from federome.standards.beacon.routes import application
from federome.standards.beacon.sequences import genomic_hgvs, read_hgvs, sequence
from federome.standards.beacon.server import Beacon
from federome.standards.beacon.shelf import Book, Shelf, bind

GENES = [("BRCA1", "17", "900", "1100")]


def made(seed: int, size: int) -> list[Seen]:
    """Variants crowded together, of all kinds, in genome order, each once."""
    rng = np.random.default_rng(seed)
    found: dict[tuple[str, int, str, str], Seen] = {}
    for _ in range(size):
        chromosome = str(rng.choice(["1", "17", "X"]))
        position = int(rng.integers(900, 1100))
        kind = rng.integers(0, 5)
        base, other = rng.choice(list("ACGT"), 2, replace=False)
        tail = "".join(rng.choice(list("ACGT"), int(rng.integers(1, 12))))
        ref, alt = {0: (base, other), 1: (base, base + tail), 2: (base + tail, base)}.get(kind, (base, other))
        if kind == 4:
            ref, alt = base + tail[:1] + base, other + tail[:1] + other
        counts = tuple((int(rng.integers(20, 90)), 2000) if rng.random() < 0.8 else None for _ in range(3))
        found[chromosome, position, ref, alt] = Seen(chromosome, position, ref, alt, counts)
    ranks = {"1": 0, "17": 1, "X": 2}
    return sorted(found.values(), key=lambda v: (ranks[v.chromosome], v.position, v.ref, v.alt))


DATA = {"one": made(1, 150), "two": made(2, 150), "three": made(3, 20)}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("publications")
    for dataset, variants in DATA.items():
        put(folder, dataset, variants, genes=GENES)
    with TestClient(application(beacon_of(folder))) as client:
        yield client


def told(answer: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        each["id"]: [record["variantInternalId"] for record in each["results"]]
        for each in answer["response"]["resultSets"]
    }


def names(variants: list[Seen]) -> list[str]:
    return [f"GRCh38:{v.chromosome}:{v.position}:{v.ref}:{v.alt}" for v in variants]


def get(http: TestClient, parameters: Mapping[str, object], **more: object) -> dict[str, Any]:
    flat = {name: ",".join(map(str, v)) if isinstance(v, list) else v for name, v in (parameters | more).items()}
    answer = http.get(f"/api/g_variants?{urlencode(flat)}")
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def post(http: TestClient, parameters: Mapping[str, object], *, nested: bool = False, **more: object) -> dict[str, Any]:
    pagination = {name: more.pop(name) for name in ("skip", "limit", "currentPage") if name in more}
    inner = {"g_variant": dict(parameters)} if nested else dict(parameters)
    body = {"meta": {}, "query": {"requestParameters": inner, "pagination": pagination, **more}}
    answer = http.post("/api/g_variants", content=json.dumps(body))
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


positions = st.integers(895, 1105)
kinds = {"SNP": {"SNP"}, "INDEL": {"INS", "DEL", "DELINS"}, "DEL": {"DEL"}, "SO:0000667": {"INS"}}


@st.composite
def questions(draw: st.DrawFn) -> tuple[dict[str, object], Any]:
    """Parameters, and a predicate over variants that says the same in plain words."""
    chromosome = draw(st.sampled_from(["1", "17", "X"]))
    spelled = draw(st.sampled_from([chromosome, f"chr{chromosome}"]))
    form = draw(st.sampled_from(["range", "bracket", "gene", "chromosome"]))
    given_: dict[str, object] = {"assemblyId": "hg38"}
    first, last = sorted((draw(positions), draw(positions)))
    if form == "gene":
        given_["geneId"] = "brca1"
        where = lambda v: v.chromosome == "17" and v.position <= 1100 and v.position + len(v.ref) - 1 >= 900  # noqa: E731
    elif form == "chromosome":
        given_["referenceName"] = spelled
        where = lambda v: v.chromosome == chromosome  # noqa: E731
    elif form == "range":
        given_ |= {"referenceName": spelled, "start": [first], "end": [last + 1]}
        # 0-based half-open [first, last + 1) against the bases of REF
        where = lambda v: (  # noqa: E731
            v.chromosome == chromosome and v.position - 1 < last + 1 and v.position - 1 + len(v.ref) > first
        )
    else:
        length = draw(st.integers(0, 12))
        starts, ends = [first, last + 1], [first + 1, last + 2 + length]
        given_ |= {"referenceName": spelled, "start": starts, "end": ends}
        where = lambda v: (  # noqa: E731
            v.chromosome == chromosome
            and starts[0] <= v.position - 1 < starts[1]
            and ends[0] <= v.position - 1 + len(v.ref) < ends[1]
        )
    tests = [where]
    if draw(st.booleans()):
        word = draw(st.sampled_from(sorted(kinds)))
        given_["variantType"] = word
        tests.append(lambda v: variant_type(v.ref, v.alt) in kinds[word])
    if draw(st.booleans()):
        shortest = draw(st.integers(0, 8))
        given_["variantMinLength"] = shortest
        tests.append(lambda v: max(len(v.ref), len(v.alt)) >= shortest)
    if draw(st.booleans()):
        longest = draw(st.integers(1, 8))
        given_["variantMaxLength"] = longest
        tests.append(lambda v: max(len(v.ref), len(v.alt)) <= longest)
    if form != "bracket" and draw(st.booleans()):
        base = draw(st.sampled_from(["A", "C", "N"]))
        given_["alternateBases"] = base
        tests.append(lambda v: base in ("N", v.alt))
    return given_, lambda v: all(test(v) for test in tests)


@given(question=questions(), nested=st.booleans())
def test_every_query_equals_a_loop_over_all_variants(
    http: TestClient, question: tuple[dict[str, object], Any], nested: bool
) -> None:
    parameters, fits = question
    wanted = {name: names([v for v in variants if fits(v)]) for name, variants in DATA.items()}
    by_get = get(http, parameters, requestedGranularity="record", limit=1000, includeResultsetResponses="ALL")
    by_post = post(
        http, parameters, nested=nested, requestedGranularity="record", limit=1000, includeResultsetResponses="ALL"
    )
    assert told(by_get) == told(by_post) == wanted
    total = sum(map(len, wanted.values()))
    assert by_get["responseSummary"] == by_post["responseSummary"]
    assert by_get["responseSummary"]["numTotalResults"] == total
    assert get(http, parameters)["responseSummary"] == {"exists": total > 0}
    hits = get(http, parameters, requestedGranularity="record", limit=1000)
    assert set(told(hits)) == {name for name, found in wanted.items() if found}


def test_pages_are_in_genome_order_over_all_datasets_and_miss_nothing(http: TestClient) -> None:
    everything = {"referenceName": "1"}
    seen: list[tuple[int, str]] = []
    token: object = None
    for number in range(50):
        answer = post(
            http, everything, requestedGranularity="record", limit=7, **({"currentPage": token} if token else {})
        )
        page = sorted((int(n.split(":")[2]), f"{d}/{n}") for d, found in told(answer).items() for n in found)
        assert len(page) <= 7
        assert not seen or not page or page[0][0] >= seen[-1][0]
        seen += page
        pagination = answer["meta"]["receivedRequestSummary"]["pagination"]
        assert pagination["skip"] == number
        token = pagination.get("nextPage")
        if token is None:
            break
    wanted = {f"{d}/{n}" for d, variants in DATA.items() for n in names([v for v in variants if v.chromosome == "1"])}
    assert {name for _, name in seen} == wanted
    assert len(seen) == len(wanted)
    by_number = [
        n
        for skip in range(50)
        for d, found in told(get(http, everything, requestedGranularity="record", limit=7, skip=skip)).items()
        for n in (f"{d}/{each}" for each in found)
    ]
    assert sorted(by_number) == sorted(wanted)


def test_a_page_token_holds_for_its_question_only(http: TestClient) -> None:
    answer = post(http, {"referenceName": "1"}, requestedGranularity="record", limit=7)
    token = answer["meta"]["receivedRequestSummary"]["pagination"]["nextPage"]
    body = {"query": {"requestParameters": {"referenceName": "X"}, "pagination": {"currentPage": token, "limit": 7}}}
    refused = http.post("/api/g_variants", content=json.dumps(body))
    assert refused.status_code == 400
    assert "another question" in refused.json()["error"]["errorMessage"]


def test_each_variant_is_found_by_allele_by_name_and_by_hgvs(http: TestClient) -> None:
    for dataset, variants in DATA.items():
        for v in variants[::7]:
            allele = {
                "referenceName": v.chromosome,
                "start": v.position - 1,
                "referenceBases": v.ref,
                "alternateBases": v.alt,
                "assemblyId": "GRCh38",
            }
            name = names([v])[0]
            assert name in told(get(http, allele, requestedGranularity="record"))[dataset]
            hgvs = {"genomicAlleleShortForm": genomic_hgvs(*v.key, "GRCh38")}
            assert name in told(get(http, hgvs, requestedGranularity="record", limit=100))[dataset]
            single = http.get(f"/api/g_variants/{name}").json()
            assert name in told(single)[dataset]
    assert http.get("/api/g_variants/GRCh38:1:5:A:C").status_code == 404


def test_frequencies_are_those_published_and_what_is_withheld_is_absent(http: TestClient) -> None:
    answer = get(http, {"datasetIds": "one"}, requestedGranularity="record", limit=1000)
    records = answer["response"]["resultSets"][0]["results"]
    assert len(records) == len(DATA["one"])
    for v, record in zip(DATA["one"], records, strict=True):
        populations = {
            cell["population"]: (cell["alleleCount"], cell["alleleNumber"])
            for source in record.get("frequencyInPopulations", [])
            for cell in source["frequencies"]
        }
        wanted = {name: cell for name, cell in zip(("Total", "F", "M"), v.counts, strict=True) if cell}
        assert populations == wanted
        assert "alleleCountHomozygous" not in json.dumps(record)  # withheld everywhere in this table


def test_the_portal_of_gdi_gets_what_it_reads(http: TestClient) -> None:
    """Request and fields as the GDI user portal sends and reads them (research note, 1.4)."""
    v = next(v for v in DATA["one"] if v.counts[0])
    body = {
        "meta": {"apiVersion": "2.0"},
        "query": {
            "filters": [],
            "includeResultsetResponses": "HIT",
            "pagination": {"skip": 0, "limit": 1000},
            "requestParameters": {
                "referenceName": v.chromosome,
                "start": [str(v.position - 1)],
                "end": [str(v.position - 1 + len(v.ref))],
                "referenceBases": v.ref,
                "alternateBases": v.alt,
                "assemblyId": "GRCh38",
            },
            "requestedGranularity": "record",
            "testMode": False,
        },
    }
    answer = http.post("/api/g_variants", content=json.dumps(body)).json()
    results = {s["id"]: s for s in answer["response"]["resultSets"]}["one"]["results"]
    frequency = results[0]["frequencyInPopulations"][0]["frequencies"][0]
    assert frequency["population"] == "Total"
    assert frequency["alleleFrequency"] == pytest.approx(v.counts[0][0] / v.counts[0][1])  # type: ignore[index]
    assert results[0]["variation"]["location"]["interval"]["start"]["value"] == v.position - 1
    assert results[0]["identifiers"]["genomicHGVSId"] == genomic_hgvs(*v.key, "GRCh38")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("?filters=HP:0001250", "filter HP:0001250"),
        ("?start=5", "referenceName"),
        ("?referenceName=1&start=5", "alternateBases"),
        ("?referenceName=1&start=10&end=5", "end"),
        ("?referenceName=1&start=10,20&end=15", "start"),
        ("?referenceName=1&start=-1&alternateBases=A", "start"),
        ("?referenceName=1&start=99999999999&alternateBases=A", "start"),
        ("?referenceName=1&start=1&alternateBases=A%27%20OR%201=1", "alternateBases"),
        ("?referenceName=%7B%7B7*7%7D%7D&start=1&alternateBases=A", "chromosome"),
        ("?referenceName=NC_000001.99&start=1&alternateBases=A", "referenceName"),
        ("?referenceName=NC_000001.10&start=1&alternateBases=A&assemblyId=GRCh38", "assemblyId"),
        ("?referenceName=1&start=1&alternateBases=A&assemblyId=GRCh37", "assemblyId"),
        ("?referenceName=1&start=1&alternateBases=A&assemblyId=T2T", "assembly"),
        ("?geneId=NOSUCHGENE", "geneId"),
        ("?geneId=BRCA1&start=5", "geneId"),
        ("?mateName=2", "mateName"),
        ("?variantType=DUP&referenceName=1", "variantType"),
        ("?variantType=ODD&referenceName=1", "variantType"),
        ("?genomicAlleleShortForm=NM_004006.2:c.4375C>T", "genomicAlleleShortForm"),
        ("?genomicAlleleShortForm=NC_000017.11:g.5C>T&referenceName=17", "genomicAlleleShortForm"),
        ("?limit=many", "limit"),
        ("?skip=1&skip=2", "skip"),
        ("?colour=blue", "colour"),
        ("?requestedGranularity=all", "requestedGranularity"),
        ("?datasetIds=one,nowhere", "datasetIds"),
        ("?testMode=perhaps", "testMode"),
        (f"?referenceName=1&alternateBases={'A' * 20_000}", "too long"),
    ],
)
def test_what_cannot_be_answered_is_said(address: str, says: str, http: TestClient) -> None:
    answer = http.get(f"/api/g_variants{address}")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert says in error["errorMessage"]
    assert error["status"] == error["errorCode"] == 400
    assert error["type"].startswith("urn:federome:problem:")


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'{"query": []}',
        b'{"query": {"colour": 1}}',
        b'{"query": {"filters": {"id": "x"}}}',
        b'{"query": {"filtersLogic": "XOR"}}',
        b'{"query": {"requestParameters": {"start": 5, "g_variant": {"start": 6}}}}',
        b'{"query": {"pagination": {"limit": -1}}}',
        b'{"a":' * 3000,
        b'{"query": {"requestParameters": ' + b'{"g_variant":' * 40 + b"1" + b"}" * 42,
        b'"' + b"a" * (1 << 19) + b'"',
        b"\xff\xfe",
    ],
)
def test_odd_bodies_are_refused(body: bytes, http: TestClient) -> None:
    answer = http.post("/api/g_variants", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["errorCode"] == 400


@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "query",
                        "meta",
                        "requestParameters",
                        "g_variant",
                        "start",
                        "end",
                        "filters",
                        "id",
                        "pagination",
                        "limit",
                        "referenceName",
                        "x",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_answered_or_refused(http: TestClient, body: object) -> None:
    answer = http.post("/api/g_variants", content=json.dumps(body))
    assert answer.status_code in (200, 400)


def test_a_dataset_that_is_not_public_answers_only_who_may(tmp_path: Path) -> None:
    put(tmp_path, "open", DATA["one"])
    put(tmp_path, "closed", DATA["two"], tier="controlled")

    async def member(request: Any) -> Guest:
        return Guest(datasets=frozenset({"closed"} if request.headers.get("authorization") == "yes" else ()))

    beacon = beacon_of(tmp_path)
    with TestClient(application(Beacon(IDENTITY, beacon.shelf, member))) as http:
        address = "/api/g_variants?referenceName=1&requestedGranularity=record&includeResultsetResponses=ALL&limit=500"
        stranger = http.get(address).json()
        assert set(told(stranger)) == {"open"}
        assert stranger["info"]["withheld"] == [{"dataset": "closed", "needs": "a grant for this dataset"}]
        assert stranger["beaconHandovers"][0]["url"].endswith("datasets=closed")
        assert set(told(http.get(address, headers={"authorization": "yes"}).json())) == {"open", "closed"}
        only = names([v for v in DATA["two"] if v.key not in {w.key for w in DATA["one"]}])[0]
        assert http.get(f"/api/g_variants/{only}").status_code == 404
        assert {d["id"] for d in http.get("/api/datasets").json()["response"]["collections"]} == {"open", "closed"}


def test_the_newest_release_answers_and_damage_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, "one", DATA["one"], released_on=date(2026, 1, 1))
    shelf = Shelf.open(tmp_path)
    assert [book.rows for book in shelf.books] == [len(DATA["one"])]
    place = next(tmp_path.glob("one/*"))
    assert bind(place) == place / "beacon"  # bound already
    table = place / "frequencies.fdt"
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(bytes(data))
    (place / "beacon" / "book.npz").write_bytes(b"torn")  # has to be bound anew, from a table that was changed
    with pytest.raises(Damaged, match="changed"):
        Shelf.open(tmp_path)


def test_an_empty_folder_is_an_empty_beacon(tmp_path: Path) -> None:
    put(tmp_path, "empty", [])
    with TestClient(application(beacon_of(tmp_path))) as http:
        answer = http.get("/api/g_variants?requestedGranularity=record").json()
        assert answer["responseSummary"] == {"exists": False, "numTotalResults": 0, "countPrecision": "exact"}
    assert Shelf.open(tmp_path / "none").books == ()
    with pytest.raises(FileNotFoundError):
        Book(tmp_path / "none")


def test_names_of_sequences_and_variants() -> None:
    assert sequence("refseq:NC_000017.11") == ("17", "GRCh38")
    assert sequence("NC_012920.1") == ("MT", None)
    assert sequence("chrM") == ("MT", None)
    with pytest.raises(Invalid):
        sequence("NC_000025.1")
    # HGVS recommendations, genomic level: examples of their forms on our own coordinates
    assert genomic_hgvs("19", 44908684, "T", "C", "GRCh38") == "NC_000019.10:g.44908684T>C"
    assert genomic_hgvs("7", 100, "CTT", "C", "GRCh37") == "NC_000007.13:g.101_102del"
    assert genomic_hgvs("7", 100, "C", "CTT", "GRCh37") == "NC_000007.13:g.100_101insTT"
    assert genomic_hgvs("7", 100, "CA", "TG", "GRCh37") == "NC_000007.13:g.100_101delinsTG"
    assert genomic_hgvs("MT", 73, "A", "G", "GRCh38") == "NC_012920.1:m.73A>G"
    assert read_hgvs("NC_000007.13:g.101_102del") == ("7", "GRCh37", 101, 102, None, "")
    for wrong in ("NC_000007.13:g.5_9insA", "NC_000007.13:g.9_5del", "NC_000007.13:g.5_6ins", "7:g.5dup"):
        with pytest.raises(Invalid):
            read_hgvs(wrong)
