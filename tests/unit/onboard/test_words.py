"""Reading each different word once finds, line by line, what reading every cell finds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from federome.onboard import words
from federome.onboard.convert import convert, open_workbench
from federome.onboard.mapping import FORMAT, FieldMapping, Plan, TableMapping
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


@pytest.mark.parametrize("seed", range(3))
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
            rows = people.connection.execute(f"SELECT {', '.join(people.fields)} FROM people ORDER BY rowid").fetchall()
            places = [list(each.every()) if each.every else [] for each in people.findings]
            told.append((rows, [each.to_json() for each in people.findings], places))
        assert told[0] == told[1]
        assert len(told[0][1]) > 5


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
