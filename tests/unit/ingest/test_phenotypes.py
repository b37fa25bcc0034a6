"""Phenotype tables: what a right one becomes, and which line of a wrong one is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pytest
from tests.unit.ingest.batch_folders import DAY, MANIFEST, MINIMAL

from federome.errors import Invalid
from federome.ingest.columns import COLUMNS, check_names
from federome.ingest.manifest import read_manifest
from federome.ingest.phenotypes import Phenotypes, read_phenotypes

ROW = {
    "person_id": "P0",
    "sex": "female",
    "birth_year": "1970",
    "administrative_gender": "female",
    "case_status": "unsolved",
    "diagnosis_icd10": "I25.1;E78.0",
    "diagnosis_year": "2010;2012",
    "hpo_terms": "HP:0001677",
    "medication_atc": "C10AA05;B01AC06",
    "smoking": "NASK",
    "bmi_kg_m2": "27.5",
    "ldl_c_mmol_l": "3.1",
    "sample_id": "S0",
    "sample_date": "2021-05-04",
}


def rows(count: int, **changes: str) -> list[dict[str, str]]:
    """Right rows; ``changes`` apply to the second person."""
    made = [ROW | {"person_id": f"P{n}", "sample_id": f"S{n}"} for n in range(count)]
    made[1] |= changes
    return made


def write_csv(path: Path, people: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(people[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(people)
    return path


def read(folder: Path, path: Path, *, manifest: str = MINIMAL) -> Phenotypes:
    (folder / "manifest.toml").write_text(manifest)
    return read_phenotypes(path, read_manifest(folder / "manifest.toml"), today=DAY)


def table_of(phenotypes: Phenotypes) -> list[Mapping[str, object]]:
    return [dict(zip(phenotypes.table.columns, row, strict=True)) for row in phenotypes.table.fetchall()]


def test_a_csv_becomes_typed_columns_with_constants(tmp_path: Path) -> None:
    people = rows(5, sex="male", diagnosis_icd10="", diagnosis_year="", case_status="control", ldl_c_mmol_l="")
    phenotypes = read(tmp_path, write_csv(tmp_path / "phenotypes.csv", people))
    first, second = table_of(phenotypes)[:2]
    assert phenotypes.people == ["P0", "P1", "P2", "P3", "P4"]
    assert phenotypes.men == [False, True, False, False, False]
    assert phenotypes.null_rates["ldl_c_mmol_l"] == 0.2
    assert phenotypes.null_rates["smoking"] == 1
    assert phenotypes.populations == ()
    assert first["diagnosis_icd10"] == ["I25.1", "E78.0"]
    assert first["diagnosis_year"] == [2010, 2012]
    assert first["bmi_kg_m2"] == 27.5
    assert str(first["sample_date"]) == "2021-05-04"
    assert first["consent_tier"] == "secondary-use"
    assert second["diagnosis_icd10"] == []
    assert second["ldl_c_mmol_l"] is None


def test_parquet_gives_the_same_as_csv(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "phenotypes.csv", rows(4))
    parquet = tmp_path / "phenotypes.parquet"
    duckdb.execute(
        "COPY (SELECT * REPLACE (string_split(diagnosis_icd10, ';') AS diagnosis_icd10,"
        " string_split(diagnosis_year, ';')::SMALLINT[] AS diagnosis_year,"
        " string_split(hpo_terms, ';') AS hpo_terms, string_split(medication_atc, ';') AS medication_atc,"
        " birth_year::DOUBLE AS birth_year, CASE WHEN person_id = 'P1' THEN 'nan' ELSE ldl_c_mmol_l END::DOUBLE"
        f" AS ldl_c_mmol_l) FROM read_csv('{path}', all_varchar = true)) TO '{parquet}'"
    )
    from_parquet = table_of(read(tmp_path, parquet))
    from_csv = table_of(read(tmp_path, write_csv(path, rows(4, ldl_c_mmol_l=""))))
    assert from_parquet == from_csv


def test_a_reference_panel_has_three_fields(tmp_path: Path) -> None:
    path = tmp_path / "phenotypes.csv"
    path.write_text("person_id,sex,population\nA,female,FIN\nB,male,GBR\n")
    phenotypes = read(tmp_path, path, manifest=MANIFEST)
    assert phenotypes.populations == ("FIN", "GBR")
    assert phenotypes.table.columns == ["person_id", "sex", "population"]
    path.write_text("person_id,sex,population,birth_year\nA,female,FIN,1970\n")
    with pytest.raises(Invalid, match="'birth_year' is not allowed in the profile"):
        read(tmp_path, path, manifest=MANIFEST)


@pytest.mark.parametrize(
    ("field", "value", "message", "remedy"),
    [
        ("sex", "F", "'sex' holds a value that is not allowed, here and for 0 more", "female, male"),
        ("sex", "", "'sex' is empty for 1 people", "Give its value"),
        ("birth_year", "1970.5", "'birth_year'", "1850 to 2200"),
        ("birth_year", "70", "'birth_year'", "1850 to 2200"),
        ("administrative_gender", "f", "'administrative_gender'", "NullFlavor"),
        ("bmi_kg_m2", "27,5", "'bmi_kg_m2'", "point, not a comma"),
        ("bmi_kg_m2", "275", "'bmi_kg_m2'", "10 to 100 kg/m²"),
        ("bmi_kg_m2", "nan", "'bmi_kg_m2'", "10 to 100 kg/m²"),
        ("ldl_c_mmol_l", "n/a", "'ldl_c_mmol_l'", "0.1 to 30 mmol/L"),
        ("diagnosis_icd10", "heart attack", "'diagnosis_icd10'", "ICD-10 codes like I25.1"),
        ("diagnosis_icd10", "I25.1;;E78.0", "'diagnosis_icd10'", "ICD-10"),
        ("diagnosis_icd10", "", "a case has no diagnosis", "Correct diagnosis_icd10 or case_status"),
        ("diagnosis_year", "2010", "not as many diagnosis years", "Correct"),
        ("diagnosis_year", "1950;1951", "older than the person", "birth_year"),
        ("hpo_terms", "HP:123", "'hpo_terms'", "HP:0001250"),
        ("medication_atc", "aspirin", "'medication_atc'", "ATC"),
        ("sample_date", "04.05.2021", "'sample_date'", "2026-06-01"),
        ("sample_date", "2021-13-04", "'sample_date'", "2026-06-01"),
        ("sample_date", "2011-05-04", "younger than the sample", "Correct"),
        ("sample_date", "2027-05-04", "in the future", "Correct"),
        ("person_id", "P0", "1 rows repeat a person_id", "one row a person"),
        ("sample_id", "S0", "1 rows repeat a sample_id", "one row a person"),
        ("person_id", "P 1", "'person_id'", "a pseudonym"),
    ],
)
def test_refuses_a_value_with_its_line(tmp_path: Path, field: str, value: str, message: str, remedy: str) -> None:
    path = write_csv(tmp_path / "phenotypes.csv", rows(4, **{field: value}))
    with pytest.raises(Invalid, match=message) as caught:
        read(tmp_path, path)
    line = 1 if "is empty" in message else 3
    assert caught.value.where.startswith(f"{path}:{line}, field ")
    assert remedy in caught.value.remedy
    # names of people and their values stay out of messages
    assert (
        not value or len(value) < 3 or value in ("female", "nan") or value not in str(caught.value).replace(remedy, "")
    )


def test_case_status_agrees_with_the_index_diagnosis(tmp_path: Path) -> None:
    manifest = MINIMAL + 'index_diagnosis_icd10 = "I25"\n'
    path = write_csv(tmp_path / "phenotypes.csv", rows(4))
    assert len(read(tmp_path, path, manifest=manifest).people) == 4
    write_csv(path, rows(4, diagnosis_icd10="E78.0", diagnosis_year="2012"))
    with pytest.raises(Invalid, match="contradicts the diagnoses"):
        read(tmp_path, path, manifest=manifest)


@pytest.mark.parametrize(
    ("content", "line", "message", "remedy"),
    [
        (b"\xef\xbb\xbfperson_id,sex\nA,female\n", 1, "byte order mark", "without BOM"),
        (b"person_id;sex\nA;female\n", 1, "separated by semicolons", "commas"),
        (b"person_id\tsex\nA\tfemale\n", 1, "separated by tabs", "commas"),
        (b"person_id,sex,sex\nA,female,male\n", 1, "'sex' stands twice", "Keep one"),
        (b"person_id,sex\nA,female\nB\n", 3, "1 fields, the header has 2", "commas between"),
        (b"person_id,sex\nA,female\nB,male,27,5\n", 3, "4 fields, the header has 2", "points in numbers"),
        (b'person_id,sex\nA,"fem\nale"\n', 2, "runs over the end of the line", "one person a line"),
        (b'person_id,sex\nA,"female\n', 2, "runs over|quotes of this line", "quote"),
        (b'person_id,sex\nA,"female"x\n', 2, "quotes of this line", "quotes"),
        (b"person_id,sex\nA,female\n\nB,male\n", 3, "a line is empty", "one person a line"),
    ],
)
def test_refuses_other_kinds_of_csv(tmp_path: Path, content: bytes, line: int, message: str, remedy: str) -> None:
    path = tmp_path / "phenotypes.csv"
    path.write_bytes(content)
    with pytest.raises(Invalid, match=message) as caught:
        read(tmp_path, path, manifest=MANIFEST)
    assert caught.value.where == f"{path}:{line}"
    assert remedy in caught.value.remedy


def test_refuses_empty_truncated_and_foreign_tables(tmp_path: Path) -> None:
    path = tmp_path / "phenotypes.csv"
    for content, message in ((b"", "no people"), (b"person_id,sex\n", "no people"), (b"person_id,s\xe9x\n", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(Invalid, match=message):
            read(tmp_path, path, manifest=MANIFEST)
    parquet = tmp_path / "phenotypes.parquet"
    duckdb.execute(f"COPY (SELECT 'A' AS person_id, ['female'] AS sex, 'FIN' AS population) TO '{parquet}'")
    with pytest.raises(Invalid, match=r"'sex' has the type VARCHAR\[\]"):
        read(tmp_path, parquet, manifest=MANIFEST)
    parquet.write_bytes(parquet.read_bytes()[:-20])
    with pytest.raises(Invalid, match="truncated or not Parquet"):
        read(tmp_path, parquet, manifest=MANIFEST)


def test_refuses_fields_that_are_missing_unknown_or_in_two_places(tmp_path: Path) -> None:
    path = tmp_path / "phenotypes.csv"
    for people, message in (
        (
            [{k: v for k, v in row.items() if k != "bmi_kg_m2"} for row in rows(3)],
            "mandatory field 'bmi_kg_m2' is missing",
        ),
        ([row | {"surname": "x"} for row in rows(3)], "'surname' is not known"),
        ([row | {"consent_tier": "none"} for row in rows(3)], "in the phenotype table and in"),
        ([row | {"index_diagnosis_icd10": "I25"} for row in rows(3)], r"belongs into \[constants\]"),
    ):
        with pytest.raises(Invalid, match=message):
            read(tmp_path, write_csv(path, people))


def test_refuses_a_mandatory_field_that_too_many_people_lack(tmp_path: Path) -> None:
    people = rows(10)
    for row in people[:3]:
        row["administrative_gender"] = "UNK"
    path = write_csv(tmp_path / "phenotypes.csv", people)
    with pytest.raises(Invalid, match="unknown for 30% of the people"):
        read(tmp_path, path)
    people[0]["administrative_gender"] = "OTH"
    assert read(tmp_path, write_csv(path, people)).null_rates["administrative_gender"] == 0.2
    for row in people[:3]:
        row["bmi_kg_m2"] = ""
    with pytest.raises(Invalid, match="'bmi_kg_m2' is unknown for 30%"):
        read(tmp_path, write_csv(path, people))


def test_the_published_table_names_the_same_fields() -> None:
    """docs/reference/batch-folder.md and the rules may not drift apart."""
    page = (Path(__file__).parents[3] / "docs" / "reference" / "batch-folder.md").read_text()
    marks = {"M": "mandatory", "O": "optional", "–": "forbidden"}
    places = {"T": "table", "C": "constants", "T/C": "either"}
    published = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 7 and cells[0].startswith("`"):
            coded = "°" in cells[0]
            listed = cells[1].endswith("[]")
            for name in cells[0].replace("°", "").replace("`", "").split(","):
                published[name.strip()] = (
                    coded,
                    listed,
                    places[cells[3]],
                    marks[cells[4]],
                    marks[cells[5]],
                    cells[6].replace("–", ""),
                )
    ours = {c.name: (c.coded, c.listed, c.place, c.reference, c.minimal, str(c.row or "")) for c in COLUMNS.values()}
    assert ours == published


def test_names_are_judged_before_values() -> None:
    constants = {name: "m" for name, column in COLUMNS.items() if column.place != "table"}
    table = {name: "t" for name, column in COLUMNS.items() if column.place == "table"}
    check_names(table, constants, "minimal-dataset")
    with pytest.raises(Invalid, match="'person_id' is missing"):
        check_names({}, constants, "minimal-dataset")


PACKET = {
    "id": "packet-1",
    "subject": {
        "id": "P0",
        "sex": "FEMALE",
        "gender": {"id": "SNOMED:446141000124107", "label": "Female"},
        "dateOfBirth": "1970-03-02T00:00:00Z",
    },
    "phenotypicFeatures": [
        {"type": {"id": "HP:0001677", "label": "Coronary artery atherosclerosis"}},
        {"type": {"id": "HP:0000822"}, "excluded": True},
    ],
    "diseases": [
        {"term": {"id": "ICD10:I25.1"}, "onset": {"age": {"iso8601duration": "P40Y3M"}}},
        {"term": {"id": "ICD-10:E78.0"}, "onset": {"timestamp": "2012-01-01T00:00:00Z"}},
        {"term": {"id": "MONDO:0005010"}},
        {"term": {"id": "ICD10:E11.9"}, "excluded": True},
    ],
    "medicalActions": [
        {"treatment": {"agent": {"id": "ATC:C10AA05"}}},
        {"treatment": {"agent": {"id": "ATC:B01AC06"}}},
        {"procedure": {"code": {"id": "NCIT:C1"}}},
    ],
    "measurements": [
        {"assay": {"id": "LOINC:39156-5"}, "value": {"quantity": {"unit": {"id": "UCUM:kg/m2"}, "value": 27.5}}},
        {"assay": {"id": "LOINC:22748-8"}, "value": {"quantity": {"unit": {"id": "mmol/L"}, "value": 3.1}}},
        {"assay": {"id": "LOINC:1-1"}, "value": {"ontologyClass": {"id": "X:1"}}},
    ],
    "biosamples": [
        {
            "id": "S0",
            "timeOfCollection": {"timestamp": "2021-05-04T10:00:00Z"},
            "taxonomy": {"id": "NCBITaxon:9606"},
            "sampledTissue": {"id": "UBERON:0000178"},
        }
    ],
    "interpretations": [{"id": "i", "progressStatus": "UNSOLVED"}],
    "metaData": {"phenopacketSchemaVersion": "2.0"},
}


def without_sample_constants(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("sample_")) + "\n"


def test_phenopackets_give_the_same_as_a_table(tmp_path: Path) -> None:
    path = tmp_path / "phenopackets.json"
    path.write_text(json.dumps([PACKET]))
    found = table_of(read(tmp_path, path, manifest=without_sample_constants(MINIMAL)))[0]
    row = {name: value for name, value in ROW.items() if name != "smoking"}
    expected = table_of(read(tmp_path, write_csv(tmp_path / "phenotypes.csv", [row])))[0]
    assert found == expected


def test_a_list_that_a_packet_is_silent_of_is_unknown_and_an_empty_one_is_known(tmp_path: Path) -> None:
    silent = {name: value for name, value in PACKET.items() if name != "medicalActions"} | {"diseases": []}
    silent |= {"subject": {**PACKET["subject"], "id": "P1"}, "biosamples": [{**PACKET["biosamples"][0], "id": "S1"}]}  # type: ignore[dict-item,index]
    path = tmp_path / "phenopackets.json"
    path.write_text(json.dumps([PACKET, silent | {"interpretations": [{"summary": "control"}]}]))
    table = read(tmp_path, path, manifest=without_sample_constants(MINIMAL)).table
    query = "SELECT diagnosis_icd10, medication_atc FROM p ORDER BY person_id"
    assert table.query("p", query).fetchall() == [(["I25.1", "E78.0"], ["C10AA05", "B01AC06"]), ([], None)]


def test_phenopackets_in_a_folder_and_in_snake_case(tmp_path: Path) -> None:
    folder = tmp_path / "phenopackets"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(PACKET))
    text = json.dumps(PACKET).replace("P0", "P1").replace("S0", "S1")
    for camel, snake in (("dateOfBirth", "date_of_birth"), ("medicalActions", "medical_actions")):
        text = text.replace(camel, snake)
    (folder / "b.json").write_text(text)
    one, two = table_of(read(tmp_path, folder, manifest=without_sample_constants(MINIMAL)))
    assert one | {"person_id": "P1", "sample_id": "S1"} == two


@pytest.mark.parametrize(
    ("old", "new", "message", "place"),
    [
        ('"mmol/L"', '"mg/dL"', "unit of 'ldl_c_mmol_l' is another", ".measurements[1].value.quantity"),
        ("27.5", '"27.5"', "a number belongs here", ".measurements[0].value.quantity.value"),
        ('"FEMALE"', "2", "a text belongs here", ".subject.sex"),
        ('"diseases": [', '"diseases": {"a": [', "not JSON", ":1"),
        ("27.5", "[" * 100_000, "not JSON", ":1"),
        ("27.5", "1" * 5_000, "not JSON", ":1"),
        ('"FEMALE"', '"OTHER_SEX"', "'sex' is missing", "profile minimal-dataset"),
        ('"value": 27.5', '"value": 2.75', "'bmi_kg_m2' holds", ", packet 1, field bmi_kg_m2"),
    ],
)
def test_refuses_wrong_packets(tmp_path: Path, old: str, new: str, message: str, place: str) -> None:
    path = tmp_path / "phenopackets.json"
    path.write_text(json.dumps([PACKET]).replace(old, new, 1))
    with pytest.raises(Invalid, match=message) as caught:
        read(tmp_path, path, manifest=without_sample_constants(MINIMAL))
    assert place in caught.value.where


def test_refuses_packets_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "phenopackets.json"
    path.write_text(json.dumps({"not": ["a", "packet"]}))
    with pytest.raises(Invalid, match="mandatory field 'person_id' is missing"):
        read(tmp_path, path)
    (tmp_path / "phenopackets").mkdir()
    with pytest.raises(Invalid, match="holds no Phenopackets"):
        read(tmp_path, tmp_path / "phenopackets")
