"""People in the Beacon against counting one by one, by GET and by POST; filters that are not understood are named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.beacons import IDENTITY, beacon_of
from tests.desks import ATC, HPO, ICD, World, carries, fits, make_desk, make_people
from tests.openapi import fuzzed

from federome.model.discovery import Coded, Criterion, Every, Measured, Not, Similarity, Some, Worded
from federome.model.release import Policy
from federome.model.span import Span
from federome.standards.beacon.people import People
from federome.standards.beacon.routes import application
from federome.standards.beacon.server import Beacon


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_people(tmp_path_factory.mktemp("people"), seed=8, size=120)


@pytest.fixture(scope="module")
def http(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with TestClient(application(beacon_of(tmp_path_factory.mktemp("none"), make_desk(world)))) as client:
        yield client


Filter = dict[str, Any]
Case = tuple[Filter, Criterion]


def _icd(code: str, below: bool) -> Case:
    sent = {"id": f"ICD10:{code}"} | ({} if below else {"includeDescendantTerms": False})
    return sent, Coded(f"ICD10:{code}", ("diagnosis_icd10",), below)


def _hpo(code: str, below: bool) -> Case:
    return {"id": code, "includeDescendantTerms": below, "scope": "individuals"}, Coded(code, ("hpo_terms",), below)


def _like(code: str, similarity: Similarity) -> Case:
    column = "hpo_terms" if code.startswith("HP:") else "diagnosis_icd10"
    return {"id": code, "similarity": similarity}, Coded(code, (column,), True, similarity)


def _ldl(tenths: int, unit: str) -> Case:
    bound = tenths / 10 + 0.05  # between two values, so that no rounding of units decides
    value = {"mmol/L": bound, "mg/dL": bound * 38.665}[unit]
    return {"id": "LDL", "operator": ">", "value": f"{value:.5f} {unit}"}, Measured("ldl_c_mmol_l", ">", bound)


def _age(years: int, months: int) -> Case:
    return {"id": "age", "operator": ">=", "value": f"P{years}Y{months}M"}, Measured("age", ">=", years + months / 12)


def _bmi(operator: str, value: int, spelling: str) -> Case:
    return {"id": spelling, "operator": operator, "value": f"{value} kg/m2" if value % 2 else value}, Measured(
        "bmi_kg_m2",
        operator,  # type: ignore[arg-type]
        float(value),
    )


def _onset(operator: str, years: int) -> Case:
    # the portal's own spelling
    sent = {
        "id": "diseases.ageOfOnset.iso8601duration",
        "operator": operator,
        "value": f"P{years}Y",
        "scope": "individual",
    }
    return sent, Measured("age_of_onset", operator, float(years))  # type: ignore[arg-type]


def _smoking(operator: str, pattern: str) -> Case:
    found: Criterion = Worded("smoking", pattern)
    return {"id": "smoking", "operator": operator, "value": pattern}, found if operator == "=" else Not(found)


plain: st.SearchStrategy[Case] = st.one_of(
    st.builds(_icd, st.sampled_from([*ICD, "I25"]), st.booleans()),
    st.builds(_hpo, st.sampled_from([*HPO, "HP:0000118"]), st.booleans()),
    st.builds(_bmi, st.sampled_from(["=", "!", "<", ">", "<=", ">="]), st.integers(18, 40), st.sampled_from(["BMI", "bmi", "LOINC:39156-5", "bmi_kg_m2"])),  # noqa: E501
    st.builds(_like, st.sampled_from([*HPO, "ICD10:E11.2", "ICD10:I25"]), st.sampled_from(get_args(Similarity))),
    st.builds(_ldl, st.integers(10, 59), st.sampled_from(["mmol/L", "mg/dL"])),
    st.builds(_age, st.integers(30, 80), st.integers(1, 11)),
    st.builds(_onset, st.sampled_from(["<", ">=", ">"]), st.integers(20, 60)),
    st.builds(_smoking, st.sampled_from(["=", "!"]), st.sampled_from(["never", "%er", "f%"])),
    st.sampled_from(ATC).map(lambda c: ({"id": "treatment", "operator": "=", "value": f"ATC:{c}"}, Coded(f"ATC:{c}", ("medication_atc",)))),  # noqa: E501
    st.just(({"id": "NCIT:C16576"}, Worded("sex", "female"))),
    st.just(({"id": "population:FIN"}, Worded("population", "FIN"))),
    st.just(({"id": "sex", "operator": "=", "value": "NCIT:C20197"}, Worded("sex", "male"))),
)  # fmt: skip
nested: st.SearchStrategy[Case] = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(
            lambda c: ({"or": [s for s, _ in c]}, Some(tuple(k for _, k in c)))
        ),
        st.lists(inner, min_size=1, max_size=2).map(
            lambda c: ({"and": [s for s, _ in c]}, Every(tuple(k for _, k in c)))
        ),
        inner.map(lambda c: ({"not": c[0]}, Not(c[1]))),
    ),
    max_leaves=4,
)
places: st.SearchStrategy[tuple[Mapping[str, Any], tuple[Span, ...] | None]] = st.sampled_from(
    [
        ({}, None),
        ({"geneId": "GENE1"}, (Span("1", 900, 1_000_000),)),
        ({"referenceName": "chr1", "start": [899], "end": [901]}, (Span("1", 900, 901),)),
        ({"referenceName": "X", "start": [0], "end": [10**8], "variantType": "SNP"}, (Span("X", 1, 10**8),)),
        ({"genomicAlleleShortForm": "NC_000001.11:g.902del"}, (Span("1", 901, 901, ref="CT", alt="C"),)),
    ]
)


@settings(max_examples=60)
@given(cases=st.lists(nested, max_size=3), logic=st.sampled_from(["AND", "OR"]), place=places)
def test_get_and_post_count_what_one_by_one_counts(
    world: World,
    http: TestClient,
    cases: list[Case],
    logic: str,
    place: tuple[Mapping[str, Any], tuple[Span, ...] | None],
) -> None:
    parts = tuple(criterion for _, criterion in cases)
    asked = Some(parts) if logic == "OR" and parts else Every(parts)
    meant = [p["id"] for p in world.people if fits(p, asked) is True and carries(p, place[1])]
    body = {"filters": [sent for sent, _ in cases], "filtersLogic": logic, "requestParameters": place[0]}
    rest = {"requestedGranularity": "record", "includeResultsetResponses": "ALL"}
    posted = http.post("/api/individuals", json={"query": body | rest | {"pagination": {"limit": 1000}}}).json()
    flat = {name: ",".join(map(str, v)) if isinstance(v, list) else v for name, v in place[0].items()}
    address = flat | rest | {"limit": "1000", "filters": json.dumps(body["filters"]), "filtersLogic": logic}
    assert http.get(f"/api/individuals?{urlencode(address)}").json() == posted
    [told] = posted["response"]["resultSets"]
    assert [record["id"] for record in told["results"]] == meant
    assert told["resultsCount"] == posted["responseSummary"]["numTotalResults"] == len(meant)
    counted = http.post("/api/runs", json={"query": body | {"requestedGranularity": "count"}}).json()
    assert counted["responseSummary"] == {
        "exists": bool(meant),
        "numTotalResults": len(meant),
        "countPrecision": "exact",
    }


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("HP:0001250,bmi>=30", [{"id": "HP:0001250"}, {"id": "bmi", "operator": ">=", "value": "30"}]),
        ("!smoking=never", [{"not": {"id": "smoking", "operator": "=", "value": "never"}}]),
        ("smoking!=never", [{"id": "smoking", "operator": "!", "value": "never"}]),
        ("!HP:0000478,age<P40Y6M", [{"not": {"id": "HP:0000478"}}, {"id": "age", "operator": "<", "value": "P40Y6M"}]),
        ("ldl>100 mg/dL", [{"id": "LDL", "operator": ">", "value": 2.586318}]),
    ],
)
def test_filters_in_short(short: str, long: list[Filter], http: TestClient) -> None:
    by_get = http.get(f"/api/individuals?{urlencode({'filters': short, 'requestedGranularity': 'count'})}").json()
    by_post = http.post("/api/individuals", json={"query": {"filters": long, "requestedGranularity": "count"}}).json()
    assert by_get["responseSummary"] == by_post["responseSummary"]
    assert by_get["responseSummary"]["numTotalResults"]


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ("eyeColour=blue", "eyeColour"),
        ("XYZ:0001", "XYZ:0001"),
        ("NCIT:C4349", "NCIT:C4349"),  # the portal's colon cancer: a term, but nobody is described with it
        ("HP:12", "HP:12"),
        ("HP:9999999", "HP:9999999"),
        ("ICD10:hello", "ICD10:hello"),
        ("bmi=fat", "bmi"),
        ("bmi=30 stone", "bmi"),
        ("age=P", "age"),
        ("smoking>never", "smoking"),
        ("bmi", "bmi"),
        ("ancestry:HANCESTRO:0005", "ancestry"),  # known, but no dataset here holds it
        ("sex=male' OR 1=1 --", ""),
        ("{{7*7}}", "{{7*7}}"),
        ("=", "="),
    ],
)
def test_a_filter_that_is_not_understood_is_named(sent: str, named: str, http: TestClient) -> None:
    answer = http.get(f"/api/individuals?{urlencode({'filters': sent, 'requestedGranularity': 'count'})}")
    if not named:  # a word nobody has: no error, and nobody
        assert answer.json()["responseSummary"]["numTotalResults"] == 0
        return
    assert answer.status_code == 400
    assert named in answer.json()["error"]["where"]


@pytest.mark.parametrize(
    "sent",
    [
        {"id": "HP:0001250", "scope": "run"},
        {"id": "HP:0001250", "scope": 7},
        {"id": "HP:0001250", "similarity": "some"},
        {"id": "HP:0001250", "includeDescendantTerms": "maybe"},
        {"id": "NCIT:C16576", "similarity": "high"},
        {"id": "bmi", "operator": "~", "value": 3},
        {"id": "bmi", "operator": ">"},
        {"id": "bmi", "value": {"a": 1}},
        {"id": "bmi", "value": True},
        {"id": "bmi", "value": 3, "wild": 1},
        {"or": []},
        {"or": [{"id": "HP:0001250"}], "id": "x"},
        {"not": [{"id": "HP:0001250"}, {"id": "HP:0000478"}]},
        {"not": {"not": {"not": {"not": {"not": {"not": {"not": {"not": {"id": "HP:0001250"}}}}}}}}},
        7,
        None,
        {"id": "x" * 1_000_000},
        {"or": [{"id": "HP:0001250"}] * 100},
    ],
)
def test_odd_filters_are_refused(sent: Any, http: TestClient) -> None:
    answer = http.post("/api/individuals", content=json.dumps({"query": {"filters": [sent]}}))
    assert answer.status_code in (400, 413)
    assert len(answer.content) < 3000


def test_a_page_runs_through_people(world: World, http: TestClient) -> None:
    seen: list[str] = []
    for skip in range(4):
        told = http.get(f"/api/individuals?requestedGranularity=record&limit=31&skip={skip}").json()
        seen += [record["id"] for record in told["response"]["resultSets"][0]["results"]]
    assert seen == [person["id"] for person in world.people]
    by_token: list[str] = []
    address = "/api/individuals?requestedGranularity=record&limit=31"
    for more in range(4):
        told = http.get(address).json()
        by_token += [record["id"] for record in told["response"]["resultSets"][0]["results"]]
        token = told["meta"]["receivedRequestSummary"]["pagination"].get("nextPage")
        assert (token is None) == (more == 3)
        address = f"/api/individuals?requestedGranularity=record&limit=31&currentPage={token}"
    assert by_token == seen
    assert http.get(address.replace("31", "30")).status_code == 400  # of another question


def test_variants_of_one_person(world: World, http: TestClient) -> None:
    person = world.people[11]
    told = http.get(f"/api/individuals/{person['id']}/g_variants?requestedGranularity=record&limit=100").json()
    found = {record["variantInternalId"] for record in told["response"]["resultSets"][0]["results"]}
    assert found == {"GRCh38:" + ":".join(map(str, site)) for site, dosage in person["genotypes"].items() if dosage > 0}
    assert http.get("/api/individuals/nobody/g_variants").status_code == 404
    assert http.get(f"/api/biosamples/{person['id']}").status_code == 404  # a person is no sample


def test_variants_of_people_who_meet_filters(world: World, http: TestClient) -> None:
    address = (
        "/api/g_variants?filters=HP:0001250&referenceName=1&start=0&end=3000000&requestedGranularity=record&limit=50"
    )
    told = http.get(address).json()
    records = told["response"]["resultSets"][0]["results"]
    having = [p for p in world.people if fits(p, Coded("HP:0001250", ("hpo_terms",)))]
    for record in records:
        chromosome, position, ref, alt = record["variantInternalId"].split(":")[1:]
        site = (chromosome, int(position), ref, alt)
        assert record["info"]["carriers"]["people"] == sum(p["genotypes"][site] > 0 for p in having) > 0


def test_what_may_not_be_told_is_said_to_be_withheld(tmp_path: Path) -> None:
    world = make_people(
        tmp_path / "s", seed=9, size=200, policy=Policy(k_min=5, k_public=10, difference_min=12, membership_power=0.1)
    )
    with TestClient(application(beacon_of(tmp_path, make_desk(world)))) as http:
        everybody = http.get("/api/individuals?requestedGranularity=record").json()
        assert everybody["meta"]["returnedGranularity"] == "count"
        [told] = everybody["response"]["resultSets"]
        assert told["results"] == [] and told["countPrecision"] == "rounded" and told["resultsCount"] % 5 == 0
        oldest = min(p["birth_year"] for p in world.people)
        nearly = http.get(f"/api/individuals?requestedGranularity=count&filters=age<{2025 - oldest}").json()
        assert nearly["info"]["withheld"][0]["codes"] == ["differencing"]
        assert nearly["responseSummary"]["countPrecision"] == "imprecise"  # nothing told is not nobody
        few = http.get(
            f"/api/individuals?requestedGranularity=record&filters=age>={2025 - oldest}&includeResultsetResponses=ALL"
        ).json()
        assert few["response"]["resultSets"][0]["info"]["fewerThan"] == 10
        assert few["responseSummary"] == {
            "exists": False,
            "numTotalResults": 0,
            "countPrecision": "imprecise",
            "countAdjustedTo": [0, 5],
        }
        some = world.people[3]["id"]
        for path in (f"individuals/{some}", "individuals/nobody", f"individuals/{some}/g_variants", f"runs/{some}:run"):
            assert http.get(f"/api/{path}").status_code == 404


def test_closed_data_do_not_tell_who_is_in_them(tmp_path: Path) -> None:
    policy = Policy(k_min=5, k_public=10, difference_min=12, membership_power=0.9)
    desk = make_desk(make_people(tmp_path / "people", seed=8, size=60, policy=policy))
    with TestClient(application(beacon_of(tmp_path / "tables", desk))) as client:
        for path in ("individuals/{}", "biosamples/{}:sample", "individuals/{}/g_variants", "runs/{}:run/analyses"):
            inside, outside = (client.get("/api/" + path.format(name)) for name in ("fi-3", "fi-99999"))
            assert inside.status_code == outside.status_code == 404, inside.text
            assert inside.text.replace("fi-3", "") == outside.text.replace("fi-99999", "")


def test_two_datasets_and_one_that_cannot_answer(tmp_path: Path, world: World) -> None:
    class Both:
        """A desk of two datasets, one of which knows nothing of smoking."""

        def __init__(self) -> None:
            self.inner = make_desk(world)

        def rooms(self) -> Any:
            [room] = self.inner.rooms()
            import msgspec

            fewer = {name: kind for name, kind in room.columns.items() if name != "smoking"}
            return (room, msgspec.structs.replace(room, dataset="es", columns=fewer))

        def count(self, sought: Any) -> Any:
            import msgspec

            return self.inner.count(msgspec.structs.replace(sought, dataset="fi"))

    beacon = beacon_of(tmp_path)
    with TestClient(application(Beacon(IDENTITY, beacon.shelf, people=People(IDENTITY, Both())))) as http:  # type: ignore[arg-type]
        both = http.get("/api/individuals?requestedGranularity=count").json()
        assert both["responseSummary"]["numTotalResults"] == 2 * len(world.people)
        one = http.get("/api/individuals?requestedGranularity=count&filters=smoking=never").json()
        assert one["info"]["withheld"] == [{"dataset": "es", "needs": "to hold smoking"}]
        assert one["responseSummary"]["numTotalResults"] == sum(p["smoking"] == "never" for p in world.people)


@pytest.mark.parametrize("entry", ["genomicVariations", "individuals"])
def test_requests_derived_from_the_documents_find_no_fault_of_the_server(
    http: TestClient, shared: Path, entry: str
) -> None:
    models = shared / "standards" / "beacon-v2.1.1" / "models" / "json" / "beacon-v2-default-model"

    def send(request: dict[str, Any]) -> Any:
        return http.request(**request | {"url": f"/api{request['url']}"})

    statuses = fuzzed(models / entry / "endpoints.json", send)
    assert not [label for label, found in statuses.items() if 404 in found and "{" not in label]
