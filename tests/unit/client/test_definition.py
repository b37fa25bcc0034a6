"""Case definitions against people one by one, their digests and reviews, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from federome.cli import app
from federome.client.definition import Definition, Review, known, read_definition
from federome.errors import FederomeError, Invalid
from federome.store.phenotypes import conditions

KINDS = {
    "diagnosis_icd10": "VARCHAR[]",
    "medication_atc": "VARCHAR[]",
    "hba1c_mmol_mol": "DOUBLE",
    "ldl_c_mmol_l": "DOUBLE",
}
DIABETES = [
    # diagnoses, drugs, HbA1c: case, control
    ((["E11.9"], [], 40.0), (True, False)),
    (([], ["A10BA02"], 40.0), (True, False)),
    (([], [], 48.0), (True, False)),
    (([], [], 47.9), (False, True)),
    (([], [], None), (False, False)),  # nothing speaks for it, and it is not known
    ((["I10"], [], 35.0), (False, True)),
    ((["E10.9"], ["A10AB01"], 60.0), (False, False)),  # another kind of diabetes
    ((["E11.9", "O24.4"], [], 50.0), (False, False)),
    ((["E14.9"], [], 40.0), (False, False)),  # which kind is not said
    ((["E11"], None, None), (True, False)),  # one thing known is enough for a case
    ((None, None, 55.0), (False, False)),  # exclusion is not known
    (([], None, 40.0), (False, False)),
]
CHOLESTEROL = [
    ((["E78.01"], ["C10AA05"], 3.0), (True, False)),
    (([], [], 8.5), (True, False)),
    (([], [], 8.4), (False, False)),  # neither: much too high for a control
    (([], [], 3.2), (False, True)),
    (([], ["C10AA05"], 3.2), (False, False)),  # lowered by a drug
    ((["E03.9"], [], 9.0), (False, False)),
    ((["E78.0"], [], 3.2), (False, False)),
    (([], [], None), (False, False)),
]


@pytest.mark.parametrize(
    ("name", "number", "people"),
    [("type-2-diabetes", "hba1c_mmol_mol", DIABETES), ("familial-hypercholesterolaemia", "ldl_c_mmol_l", CHOLESTEROL)],
)
def test_who_is_a_case_and_who_a_control(name: str, number: str, people: list) -> None:  # type: ignore[type-arg]
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE p (n INT, diagnosis_icd10 VARCHAR[], medication_atc VARCHAR[], {number} DOUBLE)")
        db.executemany("INSERT INTO p VALUES (?, ?, ?, ?)", [(at, *row) for at, (row, _) in enumerate(people)])
        for at, part in enumerate(("case", "control")):
            asked = conditions(known()[name].cohort(part), KINDS, released_on=date(2026, 1, 1), ontology=None)
            test = " AND ".join(f"({sql})" for sql, _ in asked)
            values = [value for _, given in asked for value in given]
            found = {n for (n,) in db.execute(f"SELECT n FROM p WHERE {test}", values).fetchall()}
            assert found == {n for n, (_, expected) in enumerate(people) if expected[at]}, part


def test_a_node_without_a_column_finds_cases_by_the_others_and_no_controls() -> None:
    without = {name: kind for name, kind in KINDS.items() if name != "hba1c_mmol_mol"}
    with duckdb.connect() as db:
        db.execute("CREATE TABLE p AS SELECT ['E11']::VARCHAR[] AS diagnosis_icd10, []::VARCHAR[] AS medication_atc")
        told = []
        for part in ("case", "control"):
            cohort = known()["type-2-diabetes"].cohort(part)
            asked = conditions(cohort, without, released_on=date(2026, 1, 1), ontology=None)
            test = " AND ".join(f"({sql})" for sql, _ in asked)
            told.append(len(db.execute(f"FROM p WHERE {test}", [v for _, given in asked for v in given]).fetchall()))
    assert told == [1, 0]


def reviewed(definition: Definition, *organisations: str, digest: str = "") -> Definition:
    reviews = tuple(Review("Dr X", name, date(2026, 11, 1), digest or definition.digest) for name in organisations)
    return dataclasses.replace(definition, review=reviews)


def test_a_review_is_of_one_text_and_two_organisations_are_needed() -> None:
    plain = known()["type-2-diabetes"]
    assert not plain.reviewed() and plain.review == ()  # nobody has, and nobody says so
    assert not reviewed(plain, "a", "a").reviewed() and reviewed(plain, "a", "b").reviewed()
    assert reviewed(plain, "a", "b").digest == plain.digest
    changed = dataclasses.replace(reviewed(plain, "a", "b"), case={"diagnoses": [{"code": "E11"}]})
    assert changed.digest != plain.digest and not changed.reviewed() and changed.reviewed_by() == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("federome-definition/1", "federome-definition/9", "another format"),
        ("present = false", "presemt = false", "presemt"),
        ("low = 48.0", 'low = "48"', "float"),
        ("[[control.any_of]]", "[[other]]", "unknown field"),
        ("[[source]]", "[[sources]]", "unknown field"),
        ("[[case.any_of]]", "[[case.any_of", "not TOML"),
    ],
)
def test_a_definition_that_could_be_taken_otherwise_is_refused(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    import federome.client as client

    text = (Path(client.__file__).parent / "definitions" / "type-2-diabetes.toml").read_text()
    (tmp_path / "d.toml").write_text(text)
    assert read_definition(tmp_path / "d.toml") == known()["type-2-diabetes"]
    (tmp_path / "d.toml").write_text(text.replace(old, new))
    with pytest.raises(Invalid, match=message):
        read_definition(tmp_path / "d.toml")
    with pytest.raises(FederomeError, match="no such definition"):
        read_definition(tmp_path / "none.toml")


def test_commands_print_criteria_that_a_question_takes() -> None:
    told = CliRunner().invoke(app, ["definition", "show", "type-2-diabetes", "--part", "case"]).stdout
    assert json.loads(told) == known()["type-2-diabetes"].case
    listed = json.loads(CliRunner().invoke(app, ["definition", "list", "--json"]).stdout)
    assert {each["id"]: each["reviewed"] for each in listed} == dict.fromkeys(known(), False)
    shown = CliRunner().invoke(app, ["definition", "show", "familial-hypercholesterolaemia"])
    assert shown.exit_code == 0 and "not reviewed by two organisations" in shown.stdout
