"""FHIR R4 exports to tables: against a cohort whose truth is known, spoilt in every usual way."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from federome.db import engine
from federome.demo import synthetic
from federome.demo.hospital import export_hospital
from federome.errors import Invalid
from federome.model.cohort import Cohort
from federome.model.verdict import Verdict
from federome.network.consents import ConsentBook
from federome.network.holdings import StoreHoldings
from federome.network.question import Use
from federome.onboard import fhir_read
from federome.onboard.course import Course, Options
from federome.onboard.fhir import BIRTH_SEX, TIER
from federome.onboard.fhir_tables import FAULTS, NOT_TAKEN, take_in
from federome.store.catalogue import Store

Resource = dict[str, Any]
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def coded(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def about(kind: str, person: str, **more: Any) -> Resource:
    return {"resourceType": kind, "subject": {"reference": f"Patient/{person}"}, **more}


def patient(person: str = "p1", **more: Any) -> Resource:
    return {"resourceType": "Patient", "id": person, "gender": "female", "birthDate": "1980-02-03", **more}


def ldl(person: str = "p1", value: float = 100, **more: Any) -> Resource:
    quantity = more.pop("quantity", {"value": value, "code": "mg/dL"})
    return about("Observation", person, status="final", code=coded("http://loinc.org", "2089-1"),
                 valueQuantity=quantity, **more)  # fmt: skip


def consent(person: str = "p1", **more: Any) -> Resource:
    said: Resource = {
        "resourceType": "Consent", "status": "active", "patient": {"reference": f"Patient/{person}"},
        "scope": coded("http://terminology.hl7.org/CodeSystem/consentscope", "research"),
        "category": [coded(TIER, "secondary-use")], "dateTime": "2025-03-04T10:00:00+01:00",
        "policy": [{"uri": "form-7"}],
        "provision": {"type": "permit", "purpose": [
            {"system": "http://purl.obolibrary.org/obo/duo.owl", "code": "DUO:0000042"}]},
    }  # fmt: skip
    return said | more


def bundle(*resources: Resource, **more: Any) -> str:
    return json.dumps(
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in resources], **more}
    )


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., tuple[dict[str, list[dict[str, str]]], dict[str, Any]]]:
    """Take a text in; gives the tables by name and what was not taken."""

    def taken(text: str, name: str = "a.json", choices: str = "") -> Any:
        (tmp_path / "export").mkdir()
        (tmp_path / "folder").mkdir()
        (tmp_path / "export" / name).write_text(text)
        if choices:
            (tmp_path / "export" / "fhir.toml").write_text('format = "federome-fhir/1"\n' + choices)
        take_in(tmp_path / "export", tmp_path / "folder", {})
        tables = {p.name: list(csv.DictReader(p.read_text().splitlines())) for p in (tmp_path / "folder").glob("*.csv")}
        return tables, json.loads((tmp_path / "folder" / NOT_TAKEN).read_text())

    return taken


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_entries_are_those_of_the_document_read_whole(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fhir_read, "_PIECE", piece)
    entries = [patient(f"p{n}", note=['"}{][\\', n, -1.5, None, {"a": [[]]}, "ä€"]) for n in range(20)]
    path = tmp_path / "a.json"
    for around in ({}, {"total": 12345, "meta": {"x": [1]}}):
        path.write_text(json.dumps(json.loads(bundle(*entries, **around)), indent=1))
        whole = [each["resource"] for each in json.loads(path.read_text())["entry"]]
        assert [json.loads(json.dumps(e.resource, default=float)) for e in fhir_read.read_entries(path)] == whole
        path.write_text(json.dumps({**around, "entry": [], "type": "batch", "resourceType": "Bundle"}))
        assert list(fhir_read.read_entries(path)) == []


def test_a_long_document_is_never_held_whole(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "a.json"
    path.write_text(bundle(*[patient(f"p{n}", pad="x" * 1000) for n in range(12_000)]))
    tracemalloc.start()
    assert sum(1 for _ in fhir_read.read_entries(path)) == 12_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        (bundle(patient(), ldl())[:-40], "a.json: entry 2", "breaks off"),
        (bundle(patient()) + "{}", "a.json", "more than one document"),
        (bundle(patient(), {"resourceType": "No such type!"}), "a.json: entry 2", "no type of resource"),
        (bundle(patient(), {"id": "1"}), "a.json: entry 2", "no resourceType"),
        (bundle(patient(), ldl(quantity={"value": 3})), "a.json: entry 2", "has no unit"),
        (bundle(patient(), ldl(quantity={"value": 3, "code": "stone"})), "a.json: entry 2", "not known"),
        (bundle(patient(), ldl(quantity={"value": "3", "code": "g/L"})), "a.json: entry 2", "no number"),
        (bundle(patient(), ldl("p2")), "a.json: entry 2", "whom the export does not have"),
        (bundle(patient(), patient()), "a.json: entry 2", "stands before"),
        (bundle(patient(), consent(modifierExtension=[])), "a.json: entry 2", "rules of its own"),
        (bundle(patient(), consent(dateTime="2025")), "a.json: entry 2", "not a day"),
        (bundle(patient(), {"resourceType": "Condition", "code": 3}), "a.json: entry 2", "not in the form"),
        (bundle(patient(birthDate=5)), "a.json: entry 1", "not in the form"),
        (bundle(patient(), type="history"), "a.json", "present resources"),
        (bundle(patient(), link=[{"relation": "next", "url": "x"}]), "a.json", "names a next one"),
        (bundle(ldl()).replace('"final"', '"final", "status": "final"'), "a.json: entry 1", "no JSON"),
        (bundle(patient()).replace('"1980-02-03"', "NaN"), "a.json: entry 1", "no JSON"),
        (bundle(patient()).replace('"1980-02-03"', "[" * 100_000), "a.json: entry 1", "no JSON"),
        (bundle(), "folder", "no Patient"),
    ],
)
def test_faults_name_file_and_entry(text: str, where: str, said: str, take: Any, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        take(text)
    assert caught.value.where.endswith(where)
    assert {p.name for p in (tmp_path / "folder").iterdir()} <= {FAULTS}  # nothing of a faulty export is left


def test_all_faults_are_counted(take: Any, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="3 faults"):
        take("\n".join(map(json.dumps, [patient(), ldl("p2"), ldl("p3"), ldl(quantity={})])), "a.ndjson")
    told = json.loads((tmp_path / "folder" / FAULTS).read_text())
    assert [each["where"] for each in told["faults"]] == ["a.ndjson: line 4", "a.ndjson: line 2", "a.ndjson: line 3"]


def test_what_is_not_taken_is_listed_and_direct_identifiers_are_kept_nowhere(take: Any, tmp_path: Path) -> None:
    someone = patient(
        name=[{"family": "Sibelius"}], telecom=[{"value": "0401234567"}], address=[{"city": "Hämeenlinna"}],
        identifier=[{"system": "urn:national", "value": "131052-308T"}, {"system": "urn:study", "value": "S-1"}],
        text={"div": "Sibelius, Jean"}, maritalStatus=coded("x", "M"),
    )  # fmt: skip
    tables, left = take(
        bundle(someone, {"resourceType": "Encounter"}, about("Condition", "p1", code=coded("urn:own", "Sibelius"))),
        choices='identifier_system = "urn:study"\nsex_from_gender = true\n',
    )
    assert tables["fhir-people.csv"] == [{"person_id": "S-1", "sex": "female", "gender": "female", "born": "1980"}]
    assert {(e["type"], e["element"]) for e in left["not_taken"]} == {
        ("Patient", "name.family"), ("Patient", "telecom.value"), ("Patient", "address.city"), ("Patient", "text.div"),
        ("Patient", "identifier"), ("Patient", "birthDate"), ("Patient", "maritalStatus.coding.system"),
        ("Patient", "maritalStatus.coding.code"), ("Encounter", ""), ("Condition", ""),
    }  # fmt: skip
    written = "".join(p.read_text() for p in (tmp_path / "folder").iterdir())
    for secret in ("Sibelius", "0401234567", "linna", "131052", "02-03", "p1"):
        assert secret not in written


def test_the_latest_value_counts_in_the_profiles_unit(take: Any) -> None:
    new, old = ldl(value=100, effectiveDateTime="2024-01-01"), ldl(value=200, effectiveDateTime="2020-01-01")
    bound = ldl(quantity={"value": 5, "comparator": "<", "code": "mg/dL"})
    tables, left = take(bundle(ldl(value=300), new, old, bound, patient()))
    assert tables["fhir-measurements.csv"] == [
        {"person_id": "p1", "what": "ldl_c_mmol_l", "value": f"{1000 / 386.65:.6g}"}
    ]
    reasons = {each["reason"]: each["count"] for each in left["not_taken"]}
    assert reasons["a later one of the same person is taken"] == 2
    assert reasons["it is a bound, not a value"] == 1


@pytest.mark.parametrize(
    ("change", "tier"),
    [
        ({}, "secondary-use"),
        ({"status": "inactive"}, "none"),
        ({"status": "rejected"}, "none"),
        ({"category": [coded("urn:own", "broad")]}, "subject-query"),
        ({"category": [coded("urn:other", "broad")]}, "none"),
        ({"category": [coded(TIER, "secondary-use"), coded(TIER, "allele-frequency")]}, "allele-frequency"),
        ({"provision": {"type": "deny"}}, "none"),
        ({"provision": {}}, "none"),
        ({"provision": {"type": "permit", "provision": [{"type": "deny"}]}}, "none"),
        ({"provision": {"type": "permit", "actor": []}}, "none"),
        ({"provision": {"type": "permit", "purpose": [{"system": "urn:own", "code": "x"}]}}, "none"),
    ],
)
def test_in_doubt_a_consent_gives_nothing(change: Resource, tier: str, take: Any) -> None:
    tables, _ = take(bundle(patient(), consent(**change)), choices='[tiers]\n"urn:own|broad" = "subject-query"\n')
    (row,) = tables["consent.csv"]
    assert (row["tier"], row["signed"], row["form_id"]) == (tier, "2025-03-04", "form-7")
    if not change:
        assert row["duo"] == "GRU"


def export_fhir(truth: Path, to: Path) -> None:
    """The made-up cohort as a hospital's bulk export, in units that are not the profile's."""
    with duckdb.connect() as db:
        found_people = db.execute(f"SELECT * FROM read_parquet('{truth / 'phenotypes.parquet'}')")
        names = [each[0] for each in found_people.description or ()]
        people = [dict(zip(names, row, strict=True)) for row in found_people.fetchall()]
    quantities = (("bmi_kg_m2", "39156-5", "kg/m2", 1), ("ldl_c_mmol_l", "2089-1", "mg/dL", 38.665),
                  ("creatinine_umol_l", "2160-0", "mg/dL", 113.12 / 1e4), ("hba1c_mmol_mol", "59261-8", "mmol/mol", 1),
                  ("sbp_mmhg", "8480-6", "mm[Hg]", 1), ("dbp_mmhg", "8462-4", "mm[Hg]", 1))  # fmt: skip
    found: list[Resource] = []
    for number, told in enumerate(people):
        who = told["person_id"]
        found.append({"resourceType": "Patient", "id": who, "gender": told["administrative_gender"],
                      "birthDate": f"{told['birth_year']}-01-01",
                      "extension": [{"url": BIRTH_SEX, "valueCode": told["sex"][0].upper()}]})  # fmt: skip
        for code, year in zip(told["diagnosis_icd10"], told["diagnosis_year"], strict=True):
            found.append(about("Condition", who, code=coded("http://hl7.org/fhir/sid/icd-10", code),
                               onsetDateTime=str(year)))  # fmt: skip
        found += [about("Observation", who, status="final", code=coded("http://human-phenotype-ontology.org", code))
                  for code in told["hpo_terms"]]  # fmt: skip
        found += [about("MedicationStatement", who, status="active",
                        medicationCodeableConcept=coded("http://www.whocc.no/atc", code))
                  for code in told["medication_atc"]]  # fmt: skip
        found += [about("Observation", who, status="final", code=coded("http://loinc.org", code),
                        valueQuantity={"value": told[name] * factor, "code": unit})
                  for name, code, unit, factor in quantities if told[name] is not None]  # fmt: skip
        found.append(about("Specimen", who, id=f"{who}-S1",
                           collection={"collectedDateTime": told["sample_date"].isoformat()}))  # fmt: skip
        if number % 4:
            found.append(consent(who))
    to.mkdir()
    (to / "all.json").write_text(bundle(*found))


def test_a_fhir_folder_and_a_vcf_become_a_released_dataset(tmp_path: Path) -> None:
    hospital = export_hospital(tmp_path / "hospital", people=120, variants=4_000, seed=3)
    lines = (hospital / "genotypes.vcf").read_text().splitlines(keepends=True)
    few = "".join(line for line in lines if line.startswith(("#", "21\t", "22\t")))
    (hospital / "genotypes.vcf").write_text(few.replace("HOSP-", ""))  # named as in the export
    for name in ("patients.csv", "consent.csv", "callable.bed"):
        (hospital / name).unlink()
    synthetic.write_hospital(tmp_path / "truth", "FI", people=120, variants=4_000, seed=3)
    export_fhir(tmp_path / "truth", tmp_path / "export")
    from federome.onboard.provider import read_provider

    words = read_provider(hospital / "provider.toml", today=NOW.date())
    take_in(tmp_path / "export", hospital, words.constants)
    truth = f"read_parquet('{tmp_path / 'truth' / 'phenotypes.parquet'}')"
    with duckdb.connect() as db:  # what FHIR does not say comes from a table of its own
        db.execute(
            f"COPY (SELECT person_id, case_status, country_of_origin FROM {truth}) TO '{hospital / 'cases.csv'}'"
        )
    with (hospital / "mapping.toml").open("a") as file:
        file.write('\n[[table]]\nfile = "cases.csv"\nperson = "person_id"\n'
                   '[table.fields.case_status]\ncolumn = "case_status"\n'
                   '[table.fields.country_of_origin]\ncolumn = "country_of_origin"\n')  # fmt: skip
    node = tmp_path / "node"
    node.mkdir()
    book = ConsentBook(engine(f"sqlite:///{node / 'node.db'}", durable=True), secret=b"s" * 32)
    made = Course(hospital, node, book, Options(today=date(2026, 11, 26)), NOW,
                  judge=lambda _w, _f, _o: Verdict("hospital-fi", "accept", people=120, by="test"))  # fmt: skip
    record = made.run()
    assert record is not None
    assert record.people == 120
    holdings = StoreHoldings(Store.open(node / "data"), book.ledger, NOW.timestamp)
    assert holdings.open(holdings.freeze(["hospital-fi"], Cohort(), Use("run", "research"))).view.people == 90
    with duckdb.connect() as db:
        equal = " AND ".join(f"t.{n} IS NOT DISTINCT FROM m.{n}" for n in
                             ("sex", "birth_year", "administrative_gender", "diagnosis_icd10", "diagnosis_year",
                              "medication_atc", "hpo_terms", "sample_date", "case_status"))  # fmt: skip
        near = " AND ".join(f"(t.{n} IS NULL AND m.{n} IS NULL OR abs(t.{n} - m.{n}) <= 1e-5 * t.{n})" for n in
                            ("bmi_kg_m2", "ldl_c_mmol_l", "hba1c_mmol_mol", "creatinine_umol_l"))  # fmt: skip
        (same,) = db.execute(
            f"SELECT count(*) FROM {truth} t JOIN read_parquet('{made.made / 'phenotypes.parquet'}') m "
            f"USING (person_id) WHERE {equal} AND {near}"
        ).fetchall()[0]
    assert same == 120
