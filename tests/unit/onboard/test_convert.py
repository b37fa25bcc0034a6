"""Tables by columns against a loop of models over records; cells that are mended, and those that must not be."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import duckdb
import pytest

from federome.bench.onboard import FAULTS, plan, validate, write_people, wrong_records
from federome.errors import Invalid
from federome.onboard.convert import convert, open_workbench
from federome.onboard.findings import Finding, write_all
from federome.onboard.mapping import FORMAT, FieldMapping, Plan, TableMapping
from federome.onboard.tables import sniff
from federome.onboard.units import UNITS


def test_ten_thousand_clean_people_are_refused_nothing(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv", 10_000)
    assert validate(tmp_path / "people.csv", tmp_path) == []
    assert not list(wrong_records(tmp_path / "people.csv"))


def test_planted_faults_are_found_where_the_slow_loop_finds_them(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv", 2_000, every=100, seed=5)
    found = validate(tmp_path / "people.csv", tmp_path)
    lines = {line for each in found if each.every for line in each.every()}
    assert lines == set(wrong_records(tmp_path / "people.csv"))
    told = {(each.rule, each.column): each.count for each in found}
    assert all(told[rule, field] >= 20 for field, (rule, _) in FAULTS.items())
    assert write_all(found, tmp_path / "findings.csv") == sum(each.count for each in found)
    text = (tmp_path / "findings.csv").read_text()
    assert "120580" not in text and "19O5" not in text and "HP:123," not in text


def read(tmp_path: Path, field: str, cells: list[str], *, mend: bool, how: FieldMapping, decimal: str = "."):  # type: ignore[no-untyped-def]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([("id", "x"), *((f"P{n}", cell) for n, cell in enumerate(cells))])
    table = TableMapping("t.csv", "id", separator=";", decimal=decimal, fields={field: how})  # type: ignore[arg-type]
    people = convert(open_workbench(tmp_path / "spill"), Plan(FORMAT, (table,)), tmp_path, scratch=tmp_path, mend=mend)
    values = [v for (v,) in people.connection.execute(f"SELECT {field} FROM people ORDER BY rowid").fetchall()]
    return values, people.findings


@pytest.mark.parametrize(
    ("field", "cell", "value"),
    [
        ("sample_date", "2024-02-29", None),
        ("sample_date", "29.02.2024", date(2024, 2, 29)),
        ("sample_date", "45351", date(2024, 2, 29)),
        ("sample_date", "2024-02-29T08:15:00Z", date(2024, 2, 29)),
        ("birth_year", "03.12.1970", 1970),
        ("birth_year", "1970.0", 1970),
        ("bmi_kg_m2", "27,4", 27.4),
        ("ldl_c_mmol_l", "116 mg/dL", pytest.approx(3.0001, abs=1e-3)),
        ("ldl_c_mmol_l", "3,1 mmol/l", 3.1),
        ("hba1c_mmol_mol", "6,5 %", pytest.approx(47.53, abs=0.01)),
        ("creatinine_umol_l", "1 mg/dL", pytest.approx(88.4, abs=0.01)),
        ("diagnosis_icd10", "i251; E119", ["I25.1", "E11.9"]),
        ("hpo_terms", "hp_0001250|HP: 0001249", ["HP:0001250", "HP:0001249"]),
        ("medication_atc", "c10aa05", ["C10AA05"]),
        ("sex", "Male", "male"),
        ("smoking", "unk", "UNK"),
        ("sequence_target", "wgs", "WGS"),
    ],
)
def test_what_can_be_said_in_one_way_only_is_mended_if_asked(
    field: str, cell: str, value: object, tmp_path: Path
) -> None:
    plain, found = read(tmp_path, field, [cell], mend=False, how=FieldMapping("x"))
    if value is None:
        assert plain == [date(2024, 2, 29)] and not found
        return
    assert plain in ([None], [[]]) and [each.level for each in found] == ["error"]
    assert "--fix mends 1" in found[0].remedy
    mended, found = read(tmp_path, field, [cell], mend=True, how=FieldMapping("x"))
    assert mended == [value]
    assert [each.level for each in found] == ["repaired"]


@pytest.mark.parametrize(
    ("field", "cell"),
    [
        ("sample_date", "03/04/2024"),
        ("sample_date", "31.02.2024"),
        ("sample_date", "1.2.24"),
        ("birth_year", "70"),
        ("birth_year", "1970.5"),
        ("bmi_kg_m2", "1.234,5"),
        ("bmi_kg_m2", "nan"),
        ("ldl_c_mmol_l", "116 stones"),
        ("ldl_c_mmol_l", "116"),
        ("diagnosis_icd10", "25.3"),
        ("diagnosis_icd10", "I25.1;nonsense"),
        ("sex", "M"),
    ],
)
def test_what_could_mean_two_things_stays_wrong(field: str, cell: str, tmp_path: Path) -> None:
    values, found = read(tmp_path, field, [cell, ""], mend=True, how=FieldMapping("x"))
    assert [(each.level, each.count, list(each.lines)) for each in found] == [("error", 1, [2])]
    assert cell not in str(found[0].to_json()) or cell in ("M", "nan", "70")
    assert values[1] in (None, [])


def test_a_word_for_missing_makes_a_list_unknown_and_an_empty_cell_an_empty_list(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,x\nP1,I10\nP2,\nP3, NA \n")
    with duckdb.connect() as db:
        rows = "(VALUES ('P1', ['I10']), ('P2', []), ('P3', NULL)) t(id, x)"
        db.execute(f"COPY (FROM {rows}) TO '{tmp_path / 't.parquet'}' (FORMAT parquet)")
    for file, by_words in (("t.csv", True), ("t.csv", False), ("t.parquet", False)):
        table = TableMapping(file, "id", missing=("NA",), fields={"diagnosis_icd10": FieldMapping("x")})
        plan = Plan(FORMAT, (table,))
        bench = open_workbench(tmp_path / "spill")
        people = convert(bench, plan, tmp_path, scratch=tmp_path, mend=False, by_words=by_words)
        assert people.connection.execute("SELECT diagnosis_icd10 FROM people").fetchall() == [
            (["I10"],),
            ([],),
            (None,),
        ]
        assert not people.findings


def test_units_and_days_that_the_mapping_names_are_no_faults(tmp_path: Path) -> None:
    values, found = read(
        tmp_path, "ldl_c_mmol_l", ["116,0"], mend=False, how=FieldMapping("x", unit="mg/dL"), decimal=","
    )
    assert values == [pytest.approx(3.0001, abs=1e-3)] and not found
    values, found = read(tmp_path, "sample_date", ["03/04/2024"], mend=False, how=FieldMapping("x", date="MM/DD/YYYY"))
    assert values == [date(2024, 3, 4)] and not found


def test_published_conversions() -> None:
    """Examples of the laboratories themselves: 100 mg/dL LDL, 1 mg/dL creatinine, HbA1c 6.5 %."""
    assert UNITS["ldl_c_mmol_l"]["mg/dL"](100) == pytest.approx(2.59, abs=0.005)
    assert UNITS["creatinine_umol_l"]["mg/dL"](1) == pytest.approx(88.4, abs=0.05)
    assert UNITS["hba1c_mmol_mol"]["%"](6.5) == pytest.approx(48, abs=0.6)


def failing(tmp_path: Path, content: bytes) -> list[Finding]:
    (tmp_path / "t.csv").write_bytes(content)
    dialect = sniff(tmp_path / "t.csv")
    table = TableMapping(
        "t.csv", "id", encoding=dialect.encoding, separator=dialect.separator, decimal=dialect.decimal,
        byte_order_mark=dialect.bom, fields={"bmi_kg_m2": FieldMapping("x")},
    )  # fmt: skip
    people = convert(open_workbench(tmp_path / "spill"), Plan(FORMAT, (table,)), tmp_path, scratch=tmp_path, mend=False)
    return people.findings


@pytest.mark.parametrize(
    "content",
    [
        b"id,x\nP1,27.5\nP2,30\n",
        b"\xef\xbb\xbfid,x\r\nP1,27.5\r\nP2,30\r\n",
        "id;x\nP1;27,5\nP2;30\n".encode("utf-16"),
        "id\tx\nPä\t27.5\nP2\t30\n".encode("cp1252"),
        b'"id"|"x"\n"P1"|27.5\n"P2"|30\n',
    ],
    ids=["plain", "bom", "utf-16", "windows-1252", "bars"],
)
def test_any_usual_dialect_is_read(content: bytes, tmp_path: Path) -> None:
    assert failing(tmp_path, content) == []


def test_a_file_of_two_encodings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="mixes encodings: line 2 is UTF-8, line 3 is not"):
        failing(tmp_path, "id,x\nPä,27\n".encode() + "Pö,28\n".encode("cp1252"))


def test_lines_with_other_fields_are_told_by_line(tmp_path: Path) -> None:
    found = failing(tmp_path, b"id,x\nP1,27\nP2\nP3,28,1\nP4,29\n")
    assert [(each.rule, list(each.lines)) for each in found] == [("form", [3, 4])]


@pytest.mark.parametrize(
    "content", [b'id,x\nP1,27\n"P\n2",28\nP3,29\n', b"id,x\nP1,27\n\nP3,29\n"], ids=["quote", "empty"]
)
def test_lines_that_are_no_rows_would_shift_all_others(content: bytes, tmp_path: Path) -> None:
    found = failing(tmp_path, content)
    assert [(each.rule, list(each.lines)) for each in found] == [("form", [3])]
    assert failing(tmp_path, b"id,x\nP1,27\nP3,29\n\n") == [] == failing(tmp_path, b"id,x\nP1,27\nP3,29")


def test_people_twice_or_unknown_are_told_by_line(tmp_path: Path) -> None:
    found = failing(tmp_path, b"id,x\nP1,27\nP2,28\nP1,27\n,29\n")
    assert {(each.message.split(" ")[1], tuple(each.lines)) for each in found} == {("person", (4,)), ("row", (5,))}
    (tmp_path / "m.csv").write_text("id,ldl\nP1,3\nP9,4\n")
    (tmp_path / "t.csv").write_text("id,x\nP1,27\n")
    two = Plan(
        FORMAT,
        (
            TableMapping("t.csv", "id", fields={"bmi_kg_m2": FieldMapping("x")}),
            TableMapping("m.csv", "id", fields={"ldl_c_mmol_l": FieldMapping("ldl")}),
        ),
    )
    people = convert(open_workbench(tmp_path / "spill"), two, tmp_path, scratch=tmp_path, mend=False)
    assert [(each.file, list(each.lines)) for each in people.findings] == [("m.csv", [3])]


def test_long_tables_are_gathered_by_person(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,x\nP1,27\nP2,28\n")
    (tmp_path / "lab.csv").write_text("id,test,v\nP1,LDL,3\nP1,LDL,4\nP1,BP,120\n")
    (tmp_path / "dx.csv").write_text("id,code\nP2,I25.1\nP2,E11.9\n")
    lab = {
        "ldl_c_mmol_l": FieldMapping("v", where={"test": "LDL"}),
        "sbp_mmhg": FieldMapping("v", where={"test": "BP"}),
    }
    several = Plan(
        FORMAT,
        (
            TableMapping("p.csv", "id", fields={"bmi_kg_m2": FieldMapping("x")}),
            TableMapping("lab.csv", "id", fields=lab),
            TableMapping("dx.csv", "id", fields={"diagnosis_icd10": FieldMapping("code")}),
        ),
    )
    people = convert(open_workbench(tmp_path / "spill"), several, tmp_path, scratch=tmp_path, mend=False)
    rows = people.connection.execute("SELECT * FROM people").fetchall()
    assert rows == [("P1", 27.0, 4.0, 120.0, []), ("P2", 28.0, None, None, ["I25.1", "E11.9"])]
    assert not people.findings


def test_the_plan_of_the_bench_reads_every_field(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv", 50)
    people = convert(open_workbench(tmp_path / "s"), plan("people.csv"), tmp_path, scratch=tmp_path, mend=True)
    assert people.count == 50 and len(people.fields) == 19
