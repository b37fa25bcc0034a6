"""The official Beacon schemas (2.1.1, with VRS 1.3) against every live route at every granularity.

A validator that accepts everything proves nothing: each answer is also altered in ways that must be refused.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7, DRAFT202012
from starlette.testclient import TestClient
from tests.beacons import Seen, beacon_of, put
from tests.desks import make_desk, make_people

from federome.model.release import Policy
from federome.standards.beacon.routes import application

ROOT = "https://raw.githubusercontent.com/ga4gh-beacon/beacon-v2/main/"
VRS = "https://w3id.org/ga4gh/schema/vrs/1.3/vrs.json"
RESPONSES = "framework/json/responses/"
MODELS = "models/json/beacon-v2-default-model/"


@pytest.fixture(scope="module")
def validator(shared: Path) -> Callable[[str], Draft202012Validator]:
    """``validator("framework/json/responses/…")``: schemas by their path, every reference resolved offline."""
    folder = shared / "standards" / "beacon-v2.1.1"
    registry: Registry[Any] = Registry().with_resource(
        VRS, Resource.from_contents(json.loads((folder / "vrs-1.3.json").read_text()), default_specification=DRAFT7)
    )
    for path in folder.rglob("*.json"):
        if path.name == "vrs-1.3.json" or "examples" in path.parts:
            continue
        contents = json.loads(path.read_text())
        resource = Resource.from_contents(contents, default_specification=DRAFT202012)
        registry = registry.with_resource(ROOT + path.relative_to(folder).as_posix(), resource)
    # The dataset model refers to a file that lies in the framework instead.
    info = registry[ROOT + "framework/json/common/info.json"]
    registry = registry.with_resource(ROOT + MODELS + "common/info.json", info)
    registry = registry.crawl()  # once and not at every reference
    return cache(lambda name: Draft202012Validator({"$ref": ROOT + name}, registry=registry))


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("publications")
    variants = [
        Seen("17", 43_045_700 + n, "A", "G", ((30 + n, 2000), (15 + n, 1000), (15, 1000) if n % 2 else None))
        for n in range(25)
    ]
    put(folder, "fi-cohort", variants, genes=[("BRCA1", "17", "43044295", "43125364")])
    put(folder, "fi-small", [Seen("17", 43_045_700, "A", "G", ((25, 400), None, None))])
    desk = make_desk(make_people(folder / "open", seed=3, size=40))
    with TestClient(application(beacon_of(folder, desk))) as client:
        yield client


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """People of whom only numbers are told."""
    folder = tmp_path_factory.mktemp("closed")
    desk = make_desk(make_people(folder / "store", seed=3, size=100, policy=Policy()))
    with TestClient(application(beacon_of(folder, desk))) as client:
        yield client


INFORMATIONAL = {
    "/api/": "beaconInfoResponse.json",
    "/api/info": "beaconInfoResponse.json",
    "/api/configuration": "beaconConfigurationResponse.json",
    "/api/map": "beaconMapResponse.json",
    "/api/entry_types": "beaconEntryTypesResponse.json",
    "/api/filtering_terms": "beaconFilteringTermsResponse.json",
    "/api/service-info": "ga4gh-service-info-1-0-0-schema.json",
    "/api/datasets/fi-cohort/filtering_terms": "beaconFilteringTermsResponse.json",
    "/api/datasets/fi/filtering_terms": "beaconFilteringTermsResponse.json",
    "/api/cohorts/fi/filtering_terms": "beaconFilteringTermsResponse.json",
    "/api/individuals/filtering_terms": "beaconFilteringTermsResponse.json",
}
VARIANTS = {
    "boolean": "beaconBooleanResponse.json",
    "count": "beaconCountResponse.json",
    "record": "beaconResultsetsResponse.json",
}
PLACES = ("", "referenceName=17&start=43045699&end=43045710", "geneId=BRCA1&variantType=SNP&limit=5&skip=1")


def errors(check: Draft202012Validator, document: object) -> list[str]:
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in check.iter_errors(document)]


@pytest.mark.shared
@pytest.mark.parametrize("path", INFORMATIONAL)
def test_what_it_says_about_itself(path: str, http: TestClient, validator: Any) -> None:
    answer = http.get(path)
    assert answer.status_code == 200
    assert errors(validator(RESPONSES + INFORMATIONAL[path]), answer.json()) == []


@pytest.mark.shared
@pytest.mark.parametrize("granularity", VARIANTS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("path", ["/api/g_variants", "/api/datasets/fi-cohort/g_variants"])
@pytest.mark.parametrize("include", ["HIT", "ALL", "MISS", "NONE"])
def test_answers_about_variants(
    path: str, place: str, granularity: str, include: str, http: TestClient, validator: Any
) -> None:
    address = f"{path}?{place}&requestedGranularity={granularity}&includeResultsetResponses={include}"
    answer = http.get(address.replace("?&", "?"))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    shape = "count" if granularity == "record" and include == "NONE" else granularity
    assert errors(validator(RESPONSES + VARIANTS[shape]), told) == []
    for result_set in told.get("response", {}).get("resultSets", []):
        for record in result_set["results"]:
            assert errors(validator(MODELS + "genomicVariations/defaultSchema.json"), record) == []


@pytest.mark.shared
@pytest.mark.parametrize("path", ["/datasets", "/datasets/fi-cohort", "/datasets/fi", "/cohorts", "/cohorts/fi"])
def test_collections(path: str, http: TestClient, validator: Any) -> None:
    told = http.get("/api" + path).json()
    assert errors(validator(RESPONSES + "beaconCollectionsResponse.json"), told) == []
    assert told["response"]["collections"]
    for record in told["response"]["collections"]:
        assert errors(validator(f"{MODELS}{path.split('/')[1]}/defaultSchema.json"), record) == []


KINDS = {
    "individuals": "individuals",
    "biosamples": "biosamples",
    "runs": "runs",
    "analyses": "analyses",
    "g_variants": "genomicVariations",
}
PEOPLE = (
    "/individuals", "/biosamples", "/runs", "/analyses",
    "/individuals/fi-3", "/biosamples/fi-3:sample", "/runs/fi-3:run", "/analyses/fi-3:analysis",
    "/individuals/fi-3/biosamples", "/individuals/fi-3/g_variants",
    "/biosamples/fi-3:sample/analyses", "/biosamples/fi-3:sample/runs", "/biosamples/fi-3:sample/g_variants",
    "/runs/fi-3:run/analyses", "/runs/fi-3:run/g_variants", "/analyses/fi-3:analysis/g_variants",
    "/datasets/fi/individuals", "/datasets/fi/biosamples", "/datasets/fi/g_variants", "/cohorts/fi/individuals",
    "/g_variants/GRCh38:1:900:A:C/individuals", "/g_variants/GRCh38:1:900:A:C/biosamples",
)  # fmt: skip


@pytest.mark.shared
@pytest.mark.parametrize("granularity", VARIANTS)
@pytest.mark.parametrize("path", PEOPLE)
def test_people_of_open_data(path: str, granularity: str, http: TestClient, validator: Any) -> None:
    answer = http.get(f"/api{path}?requestedGranularity={granularity}")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert errors(validator(RESPONSES + VARIANTS[granularity]), told) == []
    assert told["meta"]["returnedGranularity"] == granularity
    found = [record for each in told.get("response", {}).get("resultSets", []) for record in each["results"]]
    assert bool(found) == (granularity == "record")
    kind = next(word for word in reversed(path.split("/")) if word in KINDS)
    for record in found:
        assert errors(validator(f"{MODELS}{KINDS[kind]}/defaultSchema.json"), record) == []
    posted = http.post(f"/api{path}", json={"query": {"requestedGranularity": granularity}})
    assert posted.json() == told


@pytest.mark.shared
@pytest.mark.parametrize("granularity", VARIANTS)
@pytest.mark.parametrize("question", ["", "filters=sex=male", "filters=bmi>39", "referenceName=1&start=899&end=26000"])
@pytest.mark.parametrize("kind", ["individuals", "biosamples", "runs", "analyses"])
def test_people_of_closed_data(kind: str, question: str, granularity: str, closed: TestClient, validator: Any) -> None:
    told = closed.get(f"/api/{kind}?{question}&requestedGranularity={granularity}".replace("?&", "?")).json()
    lowered = "count" if granularity == "record" else granularity
    assert told["meta"]["returnedGranularity"] == lowered
    assert errors(validator(RESPONSES + VARIANTS[lowered]), told) == []
    if granularity == "record" and not told.get("info"):
        assert errors(validator(RESPONSES + VARIANTS["record"]), told) == []
    for each in told.get("response", {}).get("resultSets", []):
        assert each["results"] == [] and each["countPrecision"] != "exact"


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["individuals", "biosamples", "runs", "analyses"])
def test_the_schemas_of_people_refuse_what_is_altered(kind: str, http: TestClient, validator: Any) -> None:
    told = http.get(f"/api/{kind}?requestedGranularity=record").json()
    record = told["response"]["resultSets"][0]["results"][0]
    check = validator(f"{MODELS}{kind}/defaultSchema.json")
    for name in REQUIRED[kind]:
        altered = copy.deepcopy(record)
        del altered[name]
        assert errors(check, altered)
    assert errors(check, record | {"id": 7})


REQUIRED = {
    "individuals": ("id", "sex"),
    "biosamples": ("id", "biosampleStatus", "sampleOriginType"),
    "runs": ("id", "biosampleId", "runDate"),
    "analyses": ("id", "analysisDate", "pipelineName"),
}


@pytest.mark.shared
@pytest.mark.parametrize(
    "address", ["/api/nowhere", "/api/g_variants?start=1", "/api/g_variants?filters=XX:0000001", "/api/datasets/none"]
)
def test_errors(address: str, http: TestClient, validator: Any) -> None:
    answer = http.get(address)
    assert answer.status_code in (400, 404)
    assert errors(validator(RESPONSES + "beaconErrorResponse.json"), answer.json()) == []


def _without(*path: str | int) -> Callable[[Any], None]:
    def cut(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        del document[path[-1]]

    return cut


def _with(value: object, *path: str | int) -> Callable[[Any], None]:
    def put_in(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return put_in


@pytest.mark.shared
@pytest.mark.parametrize(
    "change",
    [
        _without("meta"),
        _without("meta", "beaconId"),
        _without("meta", "returnedGranularity"),
        _without("meta", "receivedRequestSummary", "pagination"),
        _with({"start": 7}, "meta", "receivedRequestSummary", "requestParameters"),
        _with("some", "meta", "returnedGranularity"),
        _without("responseSummary", "exists"),
        _with("many", "responseSummary", "numTotalResults"),
        _without("response", "resultSets", 0, "id"),
        _with("yes", "response", "resultSets", 0, "exists"),
        _with({}, "response", "resultSets"),
    ],
)
def test_the_schema_refuses_what_is_altered(change: Callable[[Any], None], http: TestClient, validator: Any) -> None:
    told = http.get(f"/api/g_variants?{PLACES[1]}&requestedGranularity=record").json()
    check = validator(RESPONSES + "beaconResultsetsResponse.json")
    assert errors(check, told) == []
    altered: Mapping[str, Any] = copy.deepcopy(told)
    change(altered)
    assert errors(check, altered)


@pytest.mark.shared
@pytest.mark.parametrize(
    "change",
    [
        _without("variation"),
        _without("variantInternalId"),
        _with("7", "variation", "location", "interval", "start"),
        _without("frequencyInPopulations", 0, "source"),
        _with([], "frequencyInPopulations", 0, "frequencies"),
        _with("often", "frequencyInPopulations", 0, "frequencies", 0, "alleleFrequency"),
    ],
)
def test_the_record_schema_refuses_what_is_altered(
    change: Callable[[Any], None], http: TestClient, validator: Any
) -> None:
    told = http.get(f"/api/g_variants?{PLACES[1]}&requestedGranularity=record").json()
    record = told["response"]["resultSets"][0]["results"][0]
    check = validator(MODELS + "genomicVariations/defaultSchema.json")
    assert errors(check, record) == []
    change(record)
    assert errors(check, record)
