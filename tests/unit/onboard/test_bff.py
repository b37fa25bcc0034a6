"""A Beacon taken over from its files answers as they say, and files that do not fit together are named."""

from __future__ import annotations

import copy
import gzip
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.beacons import beacon_of
from tests.bffs import ALLELES, SIZE, ZYGOSITY, export, write

from federome.db import engine
from federome.errors import Damaged, FederomeError, Invalid, Refused
from federome.governance.consent import ConsentEvent
from federome.network.consents import ConsentBook
from federome.network.discovery import open_desk
from federome.onboard.bff import Imported, Wanted, import_bff
from federome.standards.beacon.routes import application
from federome.store.catalogue import Store

TODAY, NOW = date(2026, 11, 1), 1_793_620_000.0


def take(source: Path, folder: Path, **wanted: Any) -> list[Imported]:
    options = {"tier": "public", "synthetic": True} | wanted
    return import_bff(source, folder, Wanted(**options), node="EGA", today=TODAY, clock=lambda: NOW)


def served(folder: Path) -> TestClient:
    return TestClient(application(beacon_of(folder / "publications", open_desk(folder, clock=lambda: NOW))))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], list[Imported], TestClient]]:
    place = tmp_path_factory.mktemp("bff")
    kinds = export(place / "files")
    found = take(place / "files", place / "node", open_data=True)
    with served(place / "node") as http:
        yield kinds, found, http


def count(http: TestClient, question: str) -> int:
    answer = http.get(f"/api/individuals?requestedGranularity=count&{question}")
    assert answer.status_code == 200, answer.text
    return int(answer.json()["responseSummary"]["numTotalResults"])


def test_everything_is_served_as_the_files_say(told: tuple[dict[str, Any], list[Imported], TestClient]) -> None:
    kinds, [found], http = told
    assert (found.dataset, found.people, found.variants, found.published) == ("egad0001-cohort", SIZE, 4, 4)
    assert found.left_out["pedigrees"] == SIZE and found.left_out["diseases: XYZ"] > 0
    records = http.get("/api/g_variants?geneId=BRAF&requestedGranularity=record").json()["response"]["resultSets"][0]
    assert len(records["results"]) == len(ALLELES)
    for variant, record in zip(kinds["genomicVariations"], records["results"], strict=True):
        cells = {each["population"]: each for each in record["frequencyInPopulations"][0]["frequencies"]}
        copies = [1 if case["zygosity"] is ZYGOSITY[1] else 2 for case in variant["caseLevelData"]]
        assert cells["Total"]["alleleCount"] == sum(copies)
        assert cells["Total"]["alleleNumber"] == 2 * (SIZE - 5)  # who was not sequenced is not called
        assert cells["Total"]["alleleCountHomozygous"] == copies.count(2)
    protein = http.get("/api/g_variants?aminoacidChange=V600E&geneId=BRAF&requestedGranularity=count").json()
    assert protein["responseSummary"]["numTotalResults"] == 1


def test_people_are_counted_as_the_files_say(told: tuple[dict[str, Any], list[Imported], TestClient]) -> None:
    kinds, _, http = told
    people = {each["id"]: each for each in kinds["individuals"]}

    def having(code: str) -> set[str]:
        return {n for n, p in people.items() if any(d["diseaseCode"]["id"] == code for d in p.get("diseases", ()))}

    def bmi(name: str) -> float:
        measures = people[name].get("measures")
        return float(measures[0]["measurementValue"]["quantity"]["value"]) if measures else -1.0

    carriers = {case["biosampleId"].removeprefix("S-") for case in kinds["genomicVariations"][0]["caseLevelData"]}
    assert count(http, "filters=ICD10:E11") == len(having("ICD10:E11.9")) > 0
    mondo = [{"id": "MONDO:0004975", "includeDescendantTerms": False}]
    body = {"query": {"filters": mondo, "requestedGranularity": "count"}}
    asked = http.post("/api/individuals", json=body).json()["responseSummary"]["numTotalResults"]
    assert asked == len(having("MONDO:0004975")) > 0
    assert count(http, "filters=BMI>=30 kg/m2") == sum(bmi(name) >= 30 for name in people) > 0
    assert count(http, "filters=ageOfOnset>P40Y") == sum(bool(p.get("diseases")) for p in people.values()) > 0
    assert count(http, "filters=ethnicity=NCIT:C42331") == sum(
        p["ethnicity"]["id"] == "NCIT:C42331" for p in people.values()
    )
    place = "referenceName=7&start=99&referenceBases=A&alternateBases=T"
    assert count(http, place) == len(carriers)
    assert count(http, f"{place}&filters=ICD10:E11") == len(carriers & having("ICD10:E11.9"))
    one = http.get("/api/individuals/IND000").json()["response"]["resultSets"][0]["results"][0]
    assert one["sex"]["id"] == people["IND000"]["sex"]["id"]


def test_carriers_in_a_file_of_their_own_are_the_same(
    told: tuple[dict[str, Any], list[Imported], TestClient], tmp_path: Path
) -> None:
    export(tmp_path / "files", split=True)
    for kind in ("genomicVariations", "individuals"):  # and files may be packed
        path = tmp_path / "files" / f"{kind}.json"
        path.with_name(f"{kind}.json.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert take(tmp_path / "files", tmp_path / "node", open_data=True) == told[1]
    asked = "/api/g_variants?geneId=BRAF&requestedGranularity=record&limit=100"
    with served(tmp_path / "node") as http:
        assert http.get(asked).json()["response"] == told[2].get(asked).json()["response"]


def test_closed_data_keep_their_floors(tmp_path: Path) -> None:
    export(tmp_path / "files")
    [found] = take(tmp_path / "files", tmp_path / "node")
    assert found.published < found.variants  # a cell needs 20 people of either kind
    with served(tmp_path / "node") as http:
        answer = http.get("/api/individuals?requestedGranularity=record").json()
    assert answer["meta"]["returnedGranularity"] == "count"
    assert answer["responseSummary"]["numTotalResults"] % 10 == 0


def frequencies(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"frequencyInPopulations": [{"source": "s", "sourceReference": "r", "frequencies": list(cells)}]}


def counted(folder: Path) -> dict[str, Any]:
    kinds = export(folder)
    for at, each in enumerate(kinds["genomicVariations"]):
        del each["caseLevelData"]
        each |= frequencies(
            {"population": "Totals", "alleleFrequency": 0.1, "alleleCount": 60 + at, "alleleNumber": 2000,
             "alleleCountHomozygous": None},
            {"population": "EE", "alleleFrequency": 0.1, "alleleCount": 5, "alleleNumber": 50},
        )  # fmt: skip
    return {kind: kinds[kind] for kind in ("datasets", "genomicVariations")}


def test_frequencies_alone_are_published_under_the_floors(tmp_path: Path) -> None:
    kinds = counted(tmp_path / "made")
    kinds["genomicVariations"][0] = kinds["genomicVariations"][0] | frequencies(
        {"population": "Total", "alleleFrequency": 0.01, "alleleCount": 3, "alleleNumber": 2000}
    )
    write(tmp_path / "files", kinds)
    asked = "/api/g_variants?geneId=BRAF&requestedGranularity=record"
    for open_data in (True, False):
        folder = tmp_path / f"node-{open_data}"
        [found] = take(tmp_path / "files", folder, open_data=open_data)
        with TestClient(application(beacon_of(folder / "publications"))) as http:
            [part] = http.get(asked).json()["response"]["resultSets"]
        told = [each["frequencyInPopulations"][0]["frequencies"] for each in part["results"]]
        populations = {cell["population"] for cells in told for cell in cells}
        assert populations == ({"Total", "EE"} if open_data else {"Total"})
        assert len(told) == found.published == (4 if open_data else 3)
        assert told[-1][0]["alleleCount"] == 63
        assert not any("alleleCountHomozygous" in cell for cells in told for cell in cells)  # unknown is absent


def _set(kind: str, entry: int, value: object, *path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(kinds: dict[str, Any]) -> None:
        place = kinds[kind][entry]
        for step in path[:-1]:
            place = place[step]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return change


CASE = ("caseLevelData", 0)
START = ("variation", "location", "interval", "start", "value")
HGVS = ("identifiers", "genomicHGVSId")
WRONG = [
    (_set("datasets", 0, None, "id"), "datasets.json entry 1, id"),
    (_set("datasets", 0, "°°", "id"), "datasets.json entry 1, id"),
    (_set("individuals", 4, "IND000", "id"), "individuals.json entry 5, id"),
    (_set("individuals", 4, "a b", "id"), "individuals.json entry 5, id"),
    (_set("individuals", 4, {"id": "NCIT:C1"}, "sex"), "individuals.json entry 5, sex"),
    (_set("individuals", 4, "elsewhere", "datasetId"), "individuals.json entry 5, datasetId"),
    (_set("individuals", 4, {}, "diseases"), "individuals.json entry 5, diseases"),
    (_set("biosamples", 2, "nobody", "individualId"), "biosamples.json entry 3, individualId"),
    (_set("runs", 2, "nothing", "biosampleId"), "runs.json entry 3, biosampleId"),
    (_set("analyses", 0, None, "id"), "analyses.json entry 1, id"),
    (_set("genomicVariations", 1, "nobody", *CASE, "biosampleId"), "genomicVariations.json entry 2, caseLevelData 1"),
    (_set("genomicVariations", 1, {"id": "GENO:1", "label": "0/0"}, *CASE, "zygosity"), "caseLevelData 1, zygosity"),
    (_set("genomicVariations", 1, None, "caseLevelData"), "genomicVariations.json entry 2"),
    (_set("genomicVariations", 1, "1", *START), "interval, start, value"),
    (_set("genomicVariations", 1, -5, *START), "interval, start, value"),
    (_set("genomicVariations", 1, 10**9, *START), "json entry 2"),
    (_set("genomicVariations", 1, "NC_000007.13:g.1A>T", *HGVS), "genomicVariations.json entry 2"),
    (_set("genomicVariations", 0, "NC_000007.2:g.1A>T", *HGVS), "genomicVariations.json entry 1"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "where"), WRONG)
def test_what_does_not_fit_is_named_and_nothing_is_written(
    change: Callable[[dict[str, Any]], None], where: str, made: dict[str, Any], tmp_path: Path
) -> None:
    kinds = copy.deepcopy(made)
    change(kinds)
    write(tmp_path / "files", kinds)
    with pytest.raises(Invalid) as told:
        take(tmp_path / "files", tmp_path / "node")
    assert where in told.value.where and told.value.remedy
    assert "IND0" not in str(told.value)
    assert not list((tmp_path / "node").glob("publications/*")) and not (tmp_path / "node/discovery.json").exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return export(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("individuals.json", b"{", Invalid),
        ("individuals.json", b'[{"id": "a"}, 7]', Invalid),
        ("individuals.json", b"[" * 100_000, Invalid),
        ("genomicVariations.json", b"\xff\xfe", Invalid),
        ("datasets.json", b"[]", Invalid),
        ("runs.json.gz", b"\x1f\x8bnothing", Damaged),
    ],
)
def test_broken_files_are_named(
    name: str, content: bytes, error: type[FederomeError], made: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path, made)
    (tmp_path / name.replace(".gz", "")).unlink(missing_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error):
        take(tmp_path, tmp_path / "node")


def test_a_frequency_without_counts_is_refused(tmp_path: Path) -> None:
    kinds = counted(tmp_path)
    kinds["genomicVariations"][2] |= frequencies({"population": "Total", "alleleFrequency": 0.3})
    write(tmp_path, kinds)
    with pytest.raises(Invalid, match="minimum of people"):
        take(tmp_path, tmp_path / "node", open_data=True)


def test_frequencies_of_few_people_that_tell_of_them_are_refused(tmp_path: Path) -> None:
    kinds = counted(tmp_path)
    kinds["genomicVariations"] *= 40
    for at, each in enumerate(copied := [copy.deepcopy(each) for each in kinds["genomicVariations"]]):
        each["variation"]["location"]["interval"]["start"]["value"] = 1000 + 10 * at
        each |= frequencies({"population": "Total", "alleleFrequency": 0.3, "alleleCount": 60, "alleleNumber": 200})
    write(tmp_path, kinds | {"genomicVariations": copied})
    with pytest.raises(Refused, match="membership"):
        take(tmp_path, tmp_path / "node")


def other_export(folder: Path) -> dict[str, Any]:
    """Another Beacon's files, whose people are numbered as the first one's."""
    kinds = export(folder) | {"datasets": [{"id": "other", "name": "Another cohort"}]}
    del kinds["genomicVariations"][3]
    write(folder, kinds)
    return kinds


def withdraw(folder: Path, person: str) -> None:
    book = ConsentBook(engine(f"sqlite:///{folder / 'node.db'}"), secret=bytes(16))
    moment = datetime.fromtimestamp(NOW - 1, UTC)
    book.tell([ConsentEvent(person, "withdraw", moment)], now=moment)


def test_two_beacons_who_number_people_alike_do_not_share_their_consents(tmp_path: Path) -> None:
    """Undefended, whoever withdraws at one would be gone from the other, and who consents at one counted at both."""
    export(tmp_path / "files")
    other_export(tmp_path / "others")
    node = tmp_path / "node"
    take(tmp_path / "files", node, open_data=True)
    with pytest.raises(Invalid, match="share their consents") as refusal:
        take(tmp_path / "others", node, open_data=True)
    assert "--person-prefix" in refusal.value.remedy and "individuals.json" in refusal.value.where
    assert Store.open(node / "data").datasets() == ("egad0001-cohort",)
    take(tmp_path / "others", node, open_data=True, person_prefix="B-")
    withdraw(node, "IND007")
    with served(node) as http:
        left = [count(http, f"datasetIds={name}") for name in ("egad0001-cohort", "other")]
        assert left == [SIZE - 1, SIZE]


def test_the_same_people_are_said_to_be_and_not_of_another_sex(tmp_path: Path) -> None:
    export(tmp_path / "files")
    kinds = other_export(tmp_path / "others")
    node = tmp_path / "node"
    take(tmp_path / "files", node, open_data=True)
    take(tmp_path / "others", node, open_data=True, same_people=True)
    withdraw(node, "IND007")
    with served(node) as http:
        assert [count(http, f"datasetIds={name}") for name in ("egad0001-cohort", "other")] == [SIZE - 1] * 2
    sex = kinds["individuals"][3]["sex"]["id"]
    kinds["individuals"][3]["sex"]["id"] = "NCIT:C20197" if sex == "NCIT:C16576" else "NCIT:C16576"
    del kinds["genomicVariations"][2]
    write(tmp_path / "others", kinds | {"datasets": [{"id": "third", "name": "One is of another sex"}]})
    with pytest.raises(Invalid, match="not the same people"):
        take(tmp_path / "others", node, open_data=True, same_people=True)


def test_datasets_of_one_export_are_compared_too(tmp_path: Path) -> None:
    kinds = export(tmp_path / "files")
    both = {
        kind: [{**each, "datasetId": name} for name in ("EGAD0001 Cohort", "other") for each in listed]
        for kind, listed in kinds.items()
        if kind not in ("datasets", "analyses", "cohorts")
    }
    del both["genomicVariations"][-1]
    write(tmp_path / "files", both | {"datasets": [*kinds["datasets"], {"id": "other", "name": "Another"}]})
    with pytest.raises(Invalid, match="share their consents"):
        take(tmp_path / "files", tmp_path / "node", open_data=True)
    assert not (tmp_path / "node").exists()
    take(tmp_path / "files", tmp_path / "node", open_data=True, same_people=True)
