"""Reading each different word once finds, line by line, what reading every cell finds."""

from __future__ import annotations

import random
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from federome.bench.onboard import plan as bench_plan
from federome.bench.onboard import write_people
from federome.onboard import rows, words
from federome.onboard.convert import convert, open_workbench
from federome.onboard.mapping import FORMAT, FieldMapping, Plan, TableMapping
from federome.onboard.rules import check
from federome.onboard.tables import Dialect, open_table

CELLS = {
    "sex": ["male", "female", "Male", "M", "", " female ", "NA"],
    "year": ["1970", "1985", "03.12.1970", "70", "", "1970.0"],
    "icd": ["I25.1", "I25.1;E11.9", "i251", "nonsense;I10", "", ";", '"I10;I25.1"', "E11.9|I10"],
    "ldl": ["3.1", "3,1", "116 mg/dL", "116", "", "4.25", "99999"],
    "day": ["2024-02-29", "29.02.2024", "45351", "2023-02-29", ""],
    "what": ["ldl", "LDL ", "hdl", ""],
    "sample": ["S%d", "S%d", "S%dé", "", "S %d x"],
}
FIELDS = {
    "sex": FieldMapping("sex", values={"male": "male", "female": "female", "M": "male"}),
    "birth_year": FieldMapping("year"),
    "diagnosis_icd10": FieldMapping("icd"),
    "ldl_c_mmol_l": FieldMapping("ldl", where={"what": "ldl"}),
    "hpo_terms": FieldMapping("icd", where={"what": "hdl"}),
    "sample_date": FieldMapping("day"),
    "sample_id": FieldMapping("sample", where={"what": "ldl"}),
}


def table(path: Path, rows: int, draw: random.Random, *, mark: str, end: str) -> None:
    lines = [mark.join(("person", *CELLS))]
    for row in range(rows):
        cells = [draw.choice(said).replace("%d", str(row)) for said in CELLS.values()]
        quoted = [f'"{cell}"' if mark in cell and not cell.startswith('"') else cell for cell in cells]
        lines.append(mark.join((draw.choice((f"P{row}", f"P{row}", "P1", "")), *quoted)))
    path.write_bytes(end.join([*lines, ""]).encode())


@pytest.mark.parametrize("seed", range(2))
def test_by_words_and_by_cells_find_the_same(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    mark, end = draw.choice((",", ";", "\t")), draw.choice(("\n", "\r\n"))
    # Small limits, so that parts, columns that keep their texts, and words that come late are all met.
    monkeypatch.setattr(words, "SAMPLE", 500)
    monkeypatch.setattr(words, "MOST", 64)
    table(tmp_path / "t.csv", 300, draw, mark=mark, end=end)
    mapped = TableMapping("t.csv", "person", separator=mark, missing=("NA",), fields=FIELDS)
    source = open_table(tmp_path / "t.csv", mapped.dialect, tmp_path)
    coded = words.encode(source, source.columns)
    assert coded is not None and coded.texts.keys() == {"person", "sample"}
    for mend in (False, True):
        told = []
        for by_words in (True, False):
            people = convert(
                open_workbench(tmp_path / "spill"),
                Plan(FORMAT, (mapped,)),
                tmp_path,
                scratch=tmp_path,
                mend=mend,
                by_words=by_words,
            )
            found = people.connection.execute(
                f"SELECT {', '.join(people.fields)} FROM people ORDER BY rowid"
            ).fetchall()
            places = [list(each.every()) if each.every else [] for each in people.findings]
            told.append((found, [each.to_json() for each in people.findings], places))
        assert told[0] == told[1]
        assert len(told[0][1]) > 5


WHOLE = {
    "sex": ["male", "female", "Male", ""],
    "birth_year": ["1970", "1985", "2031", "1985.0", "x"],
    "case_status": ["control", "solved", "unsolved"],
    "icd": ["I25.1", "I25.1;E11.9", "i251", "I10", "", "NA", "25.1"],
    "diagnosis_year": ["2015", "2015;2019", "1960", "", "2040", "2015,0"],
    "dbp_mmhg": ["80", "90", "150", "", "90,5"],
    "sbp_mmhg": ["130", "120", "85", "", "x"],
    "sample_id": ["S%d", "S7", "120580%d-123A", "120580%d-123B", "Anna Virtanen", "s%d", "Sé%d", "", "é@b.c", "T123456A1234"],  # noqa: E501
    "sample_date": ["2022-01-02", "2041-01-01", "1980-05-05", "2022-02-30", ""],
    "sample_pathological_state": ["metastasis", "germline normal", "", ""],
    "tumour_topography": ["C34.1", "", "C34"],
    "matched_normal": ["N%d", "", "none taken"],
    "infection_test_date": ["2021-02-10", "2021-06-10", ""],
    "infection_severity_date": ["2021-02-14", ""],
}  # fmt: skip


@pytest.mark.parametrize(
    ("most", "people", "odd", "mend"),
    [(64, 250, "", False), (1 << 12, 100, "", True), (16, 60, "person", True), (16, 60, "sample", False)],
    ids=["by-form", "words", "with-space", "missing-word"],
)
def test_rules_asked_of_combinations_name_the_rows_that_a_scan_names(
    most: int, people: int, odd: str, mend: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All findings with all lines, in which columns are words, or texts by their form, or nothing is."""
    draw = random.Random(most + people)
    monkeypatch.setattr(words, "SAMPLE", 500)
    monkeypatch.setattr(words, "MOST", most)
    monkeypatch.setattr(rows, "PAIRS", 20)  # some combinations are sorted, others are counted
    lines = [",".join(("person", *WHOLE))]
    for row in range(people):
        cells = [draw.choice(said).replace("%d", str(row)) for said in WHOLE.values()]
        person = draw.choice((f"P{row}", f"P{row}", f"P{row}", "P1", "", "010199-123A", "b.n@x.fi"))
        person = f" {person} " if odd == "person" and row % 3 else person
        lines.append(",".join((person, *(f'"{cell}"' for cell in cells))))
    (tmp_path / "t.csv").write_bytes("\n".join([*lines, ""]).encode())
    missing = ("NA", "S1") if odd == "sample" else ("NA",)
    fields = {name if name != "icd" else "diagnosis_icd10": FieldMapping(name) for name in WHOLE}
    mapped = TableMapping("t.csv", "person", missing=missing, fields=fields)
    constants = {"index_diagnosis_icd10": "I25", "sequence_iso15189": "no", "sequence_iso17025": "no"}
    told = []
    for by_words in (True, False):
        found = convert(
            open_workbench(tmp_path / "spill"),
            Plan(FORMAT, (mapped,)),
            tmp_path,
            scratch=tmp_path,
            mend=mend,
            by_words=by_words,
            prefix="fi-" if mend else "",
        )
        findings = [*found.findings, *check(found, constants, "minimal-dataset", today=date(2026, 11, 27))]
        places = [list(each.every()) if each.every else [] for each in findings]
        table = found.connection.execute(f"SELECT {', '.join(found.fields)} FROM people ORDER BY rowid").fetchall()
        after = [list(each.every()) if each.every else [] for each in findings]
        assert all(each.count for each in findings)
        assert isinstance(found.rows, rows.Words) == (by_words and not odd)
        told.append((found.count, [each.to_json() for each in findings], places, after, table))
    assert told[0] == told[1]
    assert {"V1", "V2", "V4", "V5", "V7", "V8", "V9", "V14"} <= {each["rule"] for each in told[0][1]}


def test_most_tables_are_judged_by_words_alone(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv", 5_000)
    source = open_table(tmp_path / "people.csv", Dialect(), tmp_path)
    assert set(words.encode(source, source.columns).texts) == {"person_id", "sample_id"}  # type: ignore[union-attr]
    people = convert(open_workbench(tmp_path / "s"), bench_plan("people.csv"), tmp_path, scratch=tmp_path, mend=False)
    assert isinstance(people.rows, rows.Words) and not people.findings


@pytest.mark.parametrize(
    "text",
    [
        'a,b\n1,"two ""words"""\n',
        'a,b\n1,"two\nlines"\n',
        "a,b\n1,2,3\n",
        "a,b\n1\n",
        "a,b\n\n1,2\n",
        'a,b\n1,x"y\n',
        "a,b\n1,x\ry\n",
        "a,b\n1,\x00\n",
        "a,b\n",
        "a\n\n",
    ],
)
def test_what_is_not_plain_is_left_to_the_other_reader(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    source = open_table(tmp_path / "t.csv", Dialect(), tmp_path)
    assert words.encode(source, source.columns) is None


def test_a_last_line_without_an_end_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes('a,b\n1,"x, y"\r\n2,ä'.encode())
    source = open_table(tmp_path / "t.csv", Dialect(), tmp_path)
    coded = words.encode(source, source.columns)
    assert coded is not None and coded.rows == 2
    assert [coded.words["b"][at] for at in coded.codes["b"]] == ["x, y", "ä"]


@pytest.mark.parametrize("seed", range(20))
def test_texts_that_stand_twice_are_those_that_a_set_finds(seed: int) -> None:
    """Rising texts take a shorter way; an earlier one that is not counted does not count."""
    draw = random.Random(seed)
    cells = [f"{draw.choice('AB')}{draw.randrange(40):03d}{'x' * draw.choice((0, 0, 9, 20))}" for _ in range(60)]
    cells = sorted(set(cells), key=lambda cell: (len(cell), cell)) if seed % 2 else cells
    counted = np.array([seed % 4 < 2 or draw.random() < 0.8 for _ in cells])
    data = np.frombuffer("".join(cells).encode(), np.uint8).copy()
    lengths = np.array([len(cell) for cell in cells], np.int32)
    texts = words.Texts(data, np.cumsum(lengths, dtype=np.int64) - lengths, lengths)
    seen: set[str] = set()
    expected = []
    for cell, is_counted in zip(cells, counted, strict=True):
        expected.append(bool(is_counted) and cell in seen)
        seen |= {cell} if is_counted else set()
    formed = rows.Forms.of(texts)
    assert formed is not None and formed.again(counted).tolist() == expected
    same = words.Texts(np.frombuffer(b"S1S2S2S3", np.uint8).copy(), np.arange(0, 8, 2), np.full(4, 2, np.int32))
    formed = rows.Forms.of(same)
    assert formed is not None and formed.again(np.ones(4, np.bool_)).tolist() == [False, False, True, False]
