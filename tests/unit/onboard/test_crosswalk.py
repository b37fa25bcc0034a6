"""Crosswalks: which codes are read as which, what a broad match does not do, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from federome.errors import Invalid
from federome.ingest.columns import COLUMNS
from federome.onboard.convert import People, convert, open_workbench
from federome.onboard.crosswalk import HEADER, read_crosswalk
from federome.onboard.mapping import FORMAT, FieldMapping, Plan, TableMapping, read_mapping, to_toml

HEAD = ",".join(HEADER)
# Local codes of a made-up hospital: what a crosswalk is about, without a terminology that has a licence.
LINES = (
    "MI-OLD,I25.2,exact,hospital coding guide p. 3,A. Reviewer,2026-05-02",
    "DM2-EYE,E11.3,narrow,hospital coding guide p. 9,A. Reviewer,2026-05-02",
    "MI-OLD,I25,broad,hospital coding guide p. 3,A. Reviewer,2026-05-02",
    "HEART,I51.9,broad,hospital coding guide p. 1,A. Reviewer,2026-05-02",
)


def write_walk(folder: Path, *lines: str, head: str = HEAD) -> Path:
    path = folder / "crosswalk-local.csv"
    path.write_text("\n".join((head, *lines)) + "\n")
    return path


def read(folder: Path, text: str, how: FieldMapping, *, mend: bool = False, by_words: bool = True) -> People:
    (folder / "t.csv").write_text(text)
    plan = Plan(FORMAT, (TableMapping("t.csv", "id", fields={"diagnosis_icd10": how}),))
    workbench = open_workbench(folder / "spill")
    return convert(workbench, plan, folder, scratch=folder, mend=mend, by_words=by_words)


WALKED = FieldMapping("dx", crosswalk="crosswalk-local.csv")
TEXT = "id,dx\nP1,MI-OLD\nP2,DM2-EYE;MI-OLD\nP3,HEART\nP4,MI-OLD;HEART\nP5,\n"


@pytest.mark.parametrize("by_words", [True, False])
def test_exact_and_narrow_are_used_and_broad_is_unknown_not_none(tmp_path: Path, by_words: bool) -> None:
    write_walk(tmp_path, *LINES)
    people = read(tmp_path, TEXT, WALKED, by_words=by_words)
    rows = people.connection.execute("SELECT person_id, diagnosis_icd10 FROM people ORDER BY rowid").fetchall()
    # Who has no code is known to have none; of whom a code is not used, that is not known.
    assert dict(rows) == {"P1": ["I25.2"], "P2": ["E11.3", "I25.2"], "P3": None, "P4": None, "P5": []}
    told = {(each.rule, each.level, each.value): tuple(each.lines) for each in people.findings}
    assert told == {
        ("V15", "repaired", "exact"): (2, 3, 5),
        ("V15", "repaired", "narrow"): (3,),
        ("V15", "warning", "broad"): (4, 5),
    }


@pytest.mark.parametrize("by_words", [True, False])
def test_a_code_that_the_crosswalk_does_not_know_stays_wrong(tmp_path: Path, by_words: bool) -> None:
    write_walk(tmp_path, *LINES)
    people = read(tmp_path, "id,dx\nP1,HEART;TYPO\nP2,I25.2\n", WALKED, by_words=by_words)
    assert [(each.rule, each.count) for each in people.findings if each.level == "error"] == [("V2", 2)]


def test_rows_of_a_further_table_that_are_unknown_are_not_lost_among_known_ones(tmp_path: Path) -> None:
    write_walk(tmp_path, *LINES)
    (tmp_path / "p.csv").write_text("id\nP1\nP2\nP3\n")
    (tmp_path / "d.csv").write_text("who,kind,dx\nP1,D,MI-OLD\nP1,X,HEART\nP2,D,MI-OLD\nP2,D,HEART\n")
    how = FieldMapping("dx", crosswalk="crosswalk-local.csv", where={"kind": "D"})
    tables = (TableMapping("p.csv", "id"), TableMapping("d.csv", "who", fields={"diagnosis_icd10": how}))
    people = convert(open_workbench(tmp_path / "spill"), Plan(FORMAT, tables), tmp_path, scratch=tmp_path, mend=False)
    rows = people.connection.execute("SELECT person_id, diagnosis_icd10 FROM people").fetchall()
    assert dict(rows) == {"P1": ["I25.2"], "P2": None, "P3": []}
    assert {each.value: tuple(each.lines) for each in people.findings} == {"exact": (2, 4), "broad": (5,)}


def test_a_field_of_one_code_is_unknown_by_a_broad_match(tmp_path: Path) -> None:
    source = "guide,A. Reviewer,2026-05-02"
    write_walk(tmp_path, f"never smoked,never,exact,{source}", f"smokes?,current,broad,{source}")
    (tmp_path / "t.csv").write_text("id,s\nP1,never smoked\nP2,smokes?\n")
    how = FieldMapping("s", crosswalk="crosswalk-local.csv")
    plan = Plan(FORMAT, (TableMapping("t.csv", "id", fields={"smoking": how}),))
    people = convert(open_workbench(tmp_path / "spill"), plan, tmp_path, scratch=tmp_path, mend=False)
    assert people.connection.execute("SELECT smoking FROM people").fetchall() == [("never",), (None,)]
    assert [each.level for each in people.findings] == ["repaired", "warning"]


GOOD = LINES[0]


@pytest.mark.parametrize(
    ("lines", "head", "said"),
    [
        ((), HEAD, "no matches"),
        ((GOOD,), "from,to,mark", "first line"),
        ((GOOD.replace("exact", "close"),), HEAD, "mark is none of"),
        ((GOOD.replace("A. Reviewer", " "),), HEAD, "reviewed_by is empty"),
        ((GOOD.replace("hospital coding guide p. 3", ""),), HEAD, "source is empty"),
        ((GOOD.replace("2026-05-02", "May"),), HEAD, "no day"),
        ((GOOD + ",more",), HEAD, "7 fields"),
        ((GOOD.replace("I25.2", "25.2"),), HEAD, "to is not"),
        ((GOOD, GOOD.replace("I25.2", "I25.3")), HEAD, "used in line 2"),
        ((GOOD, GOOD.replace("MI-OLD", "mi-old")), HEAD, "other letters"),
        (('"MI-OLD,I25.2',), HEAD, "not CSV"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, lines: tuple[str, ...], head: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        read_crosswalk(write_walk(tmp_path, *lines, head=head), COLUMNS["diagnosis_icd10"])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (FieldMapping("dx", crosswalk="crosswalk-none.csv"), "no such crosswalk"),
        (FieldMapping("dx", crosswalk="../crosswalk-local.csv"), "no name of a crosswalk"),
        (FieldMapping("dx", crosswalk="crosswalk-local.csv", values={"heart": "I51.9"}), "in values"),
    ],
)
def test_mappings_that_are_refused(tmp_path: Path, how: FieldMapping, said: str) -> None:
    write_walk(tmp_path, *LINES)
    with pytest.raises(Invalid, match=said):
        read(tmp_path, TEXT, how)


def test_not_text_and_not_codes_are_refused(tmp_path: Path) -> None:
    path = write_walk(tmp_path, GOOD)
    with pytest.raises(Invalid, match="for codes"):
        read_crosswalk(path, COLUMNS["bmi_kg_m2"])
    path.write_bytes(HEAD.encode() + b"\n\xff\xfe")
    with pytest.raises(Invalid, match="not CSV in UTF-8"):
        read_crosswalk(path, COLUMNS["diagnosis_icd10"])


def test_the_mapping_keeps_the_name_of_its_crosswalk(tmp_path: Path) -> None:
    plan = Plan(FORMAT, (TableMapping("t.csv", "id", fields={"diagnosis_icd10": WALKED}),))
    (tmp_path / "mapping.toml").write_text(to_toml(plan))
    assert read_mapping(tmp_path / "mapping.toml") == plan
