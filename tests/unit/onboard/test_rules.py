"""Each rule of the minimal dataset by its number: a right person, and what is said where the rule is broken."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest

from federome.ingest.columns import COLUMNS
from federome.onboard.convert import convert, open_workbench
from federome.onboard.mapping import FORMAT, FieldMapping, Plan, TableMapping
from federome.onboard.rules import check

TODAY = date(2026, 11, 26)
TUMOUR = {
    "sample_pathological_state": "metastasis",
    "tumour_topography": "C34.1",
    "tumour_morphology": "8140/3",
    "matched_normal": "N7",
}
RIGHT = {
    "birth_year": "1960",
    "case_status": "unsolved",
    "diagnosis_icd10": "C34.1",
    "diagnosis_year": "2020",
    "sample_date": "2022-03-04",
    "sample_id": "S7",
    "sbp_mmhg": "130",
    "dbp_mmhg": "80",
    "infection_test_date": "2021-02-10",
    "infection_severity_date": "2021-02-14",
    "travel_end": "2021-02-01",
    **TUMOUR,
}
CONSTANTS = dict.fromkeys((name for name in COLUMNS if name not in RIGHT and not name.startswith("sequence_")), "x") | {
    "index_diagnosis_icd10": "C34"
}
LABORATORY = {
    **dict.fromkeys((n for n, c in COLUMNS.items() if n.startswith("sequence_") and c.minimal == "mandatory"), "x"),
    "sequence_input_format": "EDAM:format_1930",
    "sequence_output_format": "EDAM:format_2572",
    "sequence_aligner": "bwa-mem2 2.2.1",
    "sequence_iso15189": "no",
    "sequence_iso17025": "yes",
}


def found(
    tmp_path: Path, cells: Mapping[str, str], laboratory: Mapping[str, object] = LABORATORY
) -> set[tuple[str, str]]:
    """Rule and level of everything that is said of one person."""
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", *cells), ("P1", *cells.values())])
    table = TableMapping("t.csv", "id", fields={name: FieldMapping(name) for name in cells})
    people = convert(open_workbench(tmp_path / "spill"), Plan(FORMAT, (table,)), tmp_path, scratch=tmp_path, mend=False)
    said = [*people.findings, *check(people, CONSTANTS | laboratory, "minimal-dataset", today=TODAY)]
    assert all(each.message and each.remedy for each in said)
    return {(each.rule, each.level) for each in said}


def test_nothing_is_said_of_a_right_person(tmp_path: Path) -> None:
    assert found(tmp_path, RIGHT) == set()


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ("V2", {"birth_year": "03.12.1960"}),  # V3: a day of birth is no value of the profile
        ("V4", {"birth_year": "2021"}),
        ("V4", {"sample_date": "2027-01-01"}),
        ("V4", {"diagnosis_year": "2023"}),
        ("V5", {"diagnosis_icd10": "", "diagnosis_year": ""}),
        ("V7", {"tumour_morphology": ""}),
        ("V7", {"tumour_topography": ""}),
        ("V7", {"matched_normal": ""}),
        ("V7", {"sample_pathological_state": ""}),
        ("V8", {"dbp_mmhg": "150"}),
        ("V8", {"case_status": "control"}),
        ("V14", {"sample_id": "120580-123A"}),
    ],
)
def test_a_broken_rule_is_named(rule: str, changed: Mapping[str, str], tmp_path: Path) -> None:
    assert (rule, "error") in found(tmp_path, {**RIGHT, **changed})


@pytest.mark.parametrize(
    "text",
    ["ask Anna Virtanen", "anna@clinic.fi", "call 040 123 4567", "+358 40 1234567", "born 12.05.1980", "1980-05-12",
     "120580-123A", "see RSSMRA85T10A562S", "12345678Z", "943 476 5919", "Virtanen, Anna", "1 85 05 78 006 084 36"],
)  # fmt: skip
def test_v14_free_text_that_speaks_of_somebody_is_refused_and_never_shown(text: str, tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", *RIGHT), ("P1", *(RIGHT | {"matched_normal": text}).values())])
    table = TableMapping("t.csv", "id", fields={name: FieldMapping(name) for name in RIGHT})
    people = convert(open_workbench(tmp_path / "spill"), Plan(FORMAT, (table,)), tmp_path, scratch=tmp_path, mend=False)
    found = [*people.findings, *check(people, CONSTANTS | LABORATORY, "minimal-dataset", today=TODAY)]
    assert [(each.rule, each.level, each.column) for each in found] == [("V14", "error", "matched_normal")]
    assert not any(word in str(each.to_json()) for each in found for word in text.split() if len(word) > 2)


@pytest.mark.parametrize("text", ["none taken", "N7", "S-2021-000123", "refused by the patient", "blood, frozen"])
def test_v14_reasons_and_names_of_samples_are_no_identifiers(text: str, tmp_path: Path) -> None:
    assert found(tmp_path, RIGHT | {"matched_normal": text}) == set()


def test_v3_a_day_of_birth_becomes_its_year_and_nothing_keeps_the_day(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,born\nP1,1960-12-03\n")
    table = TableMapping("t.csv", "id", fields={"birth_year": FieldMapping("born", date="YYYY-MM-DD")})
    people = convert(open_workbench(tmp_path / "spill"), Plan(FORMAT, (table,)), tmp_path, scratch=tmp_path, mend=False)
    assert people.connection.execute("SELECT birth_year FROM people").fetchall() == [(1960,)]
    assert not people.findings
    assert [name for name, column in COLUMNS.items() if "birth" in name and column.kind == "date"] == []


@pytest.mark.parametrize(
    ("name", "rule"), [("Pé1", "V1"), ("-1", "V1"), ("P" * 65, "V1"), ("P1/2", "V1"), ("P-1.a_2", "")]
)
def test_v1_the_node_can_keep_consents_of_an_identifier(name: str, rule: str, tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", *RIGHT), (name, *RIGHT.values())])
    table = TableMapping("t.csv", "id", fields={name: FieldMapping(name) for name in RIGHT})
    people = convert(open_workbench(tmp_path / "spill"), Plan(FORMAT, (table,)), tmp_path, scratch=tmp_path, mend=False)
    said = [*people.findings, *check(people, CONSTANTS | LABORATORY, "minimal-dataset", today=TODAY)]
    assert [each.rule for each in said] == ([rule] if rule else [])


def test_places_are_named_by_the_providers_own_headers(tmp_path: Path) -> None:
    cells = RIGHT | {"dbp_mmhg": "150", "sample_id": "120580-123A"}
    header = ["Patient No", *(f"col {name}" for name in cells)]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, ("Anna Virtanen", *cells.values())])
    table = TableMapping("t.csv", "Patient No", fields={name: FieldMapping(f"col {name}") for name in cells})
    people = convert(open_workbench(tmp_path / "spill"), Plan(FORMAT, (table,)), tmp_path, scratch=tmp_path, mend=False)
    said = [*people.findings, *check(people, CONSTANTS | LABORATORY, "minimal-dataset", today=TODAY)]
    places = {(each.rule, each.column) for each in said}
    assert places == {("V1", "Patient No"), ("V14", "Patient No"), ("V14", "col sample_id"), ("V8", "col dbp_mmhg")}


def test_v7_a_column_that_is_not_there_is_missed_too(tmp_path: Path) -> None:
    without = {name: cell for name, cell in RIGHT.items() if name != "tumour_morphology"}
    assert found(tmp_path, without) == {("V7", "error")}
    normal = {**without, "sample_pathological_state": "germline normal", "tumour_topography": ""}
    assert found(tmp_path, normal) == set()


@pytest.mark.parametrize(
    "changed", [{"infection_test_date": "2021-01-01", "travel_end": ""}, {"travel_end": "2020-12-01"},
                {"travel_end": "2021-02-12"}]
)  # fmt: skip
def test_v9_warns(changed: Mapping[str, str], tmp_path: Path) -> None:
    assert found(tmp_path, {**RIGHT, **changed}) == {("V9", "warning")}


@pytest.mark.parametrize(
    "changed",
    [{"sequence_aligner": ""}, {"sequence_iso17025": "no"},
     {"sequence_iso17025": "no", "sequence_proficiency_test": "no"}],
)  # fmt: skip
def test_v11_a_laboratory_says_how_it_aligned_and_was_tested(changed: Mapping[str, str], tmp_path: Path) -> None:
    assert found(tmp_path, RIGHT, LABORATORY | changed) == {("V11", "error")}
    tested = {"sequence_iso17025": "no", "sequence_proficiency_test": "yes"}
    assert found(tmp_path, RIGHT, LABORATORY | tested) == set()
