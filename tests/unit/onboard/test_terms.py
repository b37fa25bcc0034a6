"""Obsolete, merged and unknown terms of phenotypes: found in every row, rewritten where that loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from federome.model.ontology import compile_terms, parse_obo
from federome.onboard.convert import People, convert, open_workbench
from federome.onboard.mapping import FORMAT, FieldMapping, Plan, TableMapping
from federome.onboard.terms import check_terms, successor

OBO = """\
format-version: 1.2
data-version: hp/2026-01-01

[Term]
id: HP:0000001
name: All

[Term]
id: HP:0000118
name: Phenotypic abnormality
is_a: HP:0000001

[Term]
id: HP:0000005
name: Mode of inheritance
is_a: HP:0000001

[Term]
id: HP:0001250
name: Seizure
alt_id: HP:0002279
is_a: HP:0000118

[Term]
id: HP:0009999
name: obsolete fit
is_obsolete: true
replaced_by: HP:0001250

[Term]
id: HP:0008888
name: obsolete and forked
is_obsolete: true
consider: HP:0001250
consider: HP:0000118
"""
ONTOLOGY = compile_terms(parse_obo(OBO.splitlines()))


def people(tmp_path: Path, cells: list[str]) -> People:
    rows = "".join(f"P{n},{cell}\n" for n, cell in enumerate(cells))
    (tmp_path / "t.csv").write_text("id,x\n" + rows)
    plan = Plan(FORMAT, (TableMapping("t.csv", "id", fields={"hpo_terms": FieldMapping("x")}),))
    return convert(open_workbench(tmp_path / "spill"), plan, tmp_path, scratch=tmp_path, mend=False)


def terms_of(found: People) -> list[list[str]]:
    return [sorted(t) for (t,) in found.connection.execute("SELECT hpo_terms FROM people ORDER BY rowid").fetchall()]


@pytest.mark.parametrize(
    ("cell", "rule", "said"),
    [
        ("HP:7777777", "V2", "none of"),
        ("HP:0008888", "V2", "not one successor"),
        ("HP:0000005", "V6", "no phenotypic abnormality"),
        ("HP:0009999", "V2", "--fix"),
        ("HP:0002279", "V2", "--fix"),
    ],
)
def test_each_is_found_in_every_row(cell: str, rule: str, said: str, tmp_path: Path) -> None:
    held = people(tmp_path, ["HP:0001250", cell, "", f"HP:0001250;{cell}"])
    found = list(check_terms(held, ONTOLOGY, mend=False))
    assert [(f.level, f.rule, f.count, list(f.lines)) for f in found] == [("error", rule, 2, [3, 5])]
    assert said in found[0].message + found[0].remedy
    assert cell not in str(found[0].to_json())


def test_one_successor_is_written_in_its_place_once(tmp_path: Path) -> None:
    held = people(tmp_path, ["HP:0009999", "HP:0009999;HP:0001250", "HP:0002279", "", "HP:0000118"])
    found = list(check_terms(held, ONTOLOGY, mend=True))
    assert [(f.level, f.count) for f in found] == [("repaired", 3)]
    assert terms_of(held) == [["HP:0001250"], ["HP:0001250"], ["HP:0001250"], [], ["HP:0000118"]]
    assert not list(check_terms(held, ONTOLOGY, mend=False))


def test_what_cannot_be_replaced_is_left_as_it_is(tmp_path: Path) -> None:
    held = people(tmp_path, ["HP:0008888", "HP:7777777"])
    assert {f.level for f in check_terms(held, ONTOLOGY, mend=True)} == {"error"}
    assert terms_of(held) == [["HP:0008888"], ["HP:7777777"]]


def test_successors_are_followed_and_do_not_run_in_circles() -> None:
    assert successor(ONTOLOGY, "HP:0009999") == successor(ONTOLOGY, "HP:0002279") == "HP:0001250"
    assert successor(ONTOLOGY, "HP:0008888") == ""


def test_v6_a_term_and_its_ancestor_are_told_and_stand(tmp_path: Path) -> None:
    table = people(tmp_path, ["HP:0001250;HP:0000118", "HP:0001250", "HP:0000118|HP:0002279", "HP:0000118;HP:0000118"])
    said = [each for each in check_terms(table, ONTOLOGY, mend=False) if each.level == "warning"]
    assert [(each.rule, list(each.lines)) for each in said] == [("V6", [2, 4])]
