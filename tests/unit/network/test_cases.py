"""A case's earlier descriptions: told to who holds it, forgotten with it, and none lost in an upgrade."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.analysis.test_matching import LEAVES, MEASURE

from federome.db import engine, write
from federome.errors import Missing
from federome.model.patient import Patient
from federome.network import cases
from federome.network.cases import Case, CaseBook

FIRST, SECOND, THIRD = LEAVES[250:253]
CASE = Case("c", "anna", "fi-1", Patient("", (FIRST, SECOND), genes=("G1",)))


def test_earlier_descriptions_are_told_to_the_holder_alone_and_go_with_the_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book = CaseBook(engine("sqlite://"), b"k", lambda: 1.0)
    more = replace(CASE, patient=Patient("", (SECOND, THIRD), (FIRST,)))
    for each in (CASE, CASE, more):  # nothing new in the second
        book.register(each, MEASURE)
    now, before = book.history("c", "anna")
    assert (now.added, now.taken) == ((THIRD, f"−{FIRST}"), (FIRST, "G1"))
    assert (before.added, before.taken, before.patient.genes) == ((), (), ("G1",))
    with pytest.raises(Missing):
        book.history("c", "bob")
    monkeypatch.setattr(cases, "MOST_EARLIER", 3)
    for number in range(9):
        book.register(replace(CASE, patient=Patient("", (FIRST,), genes=(f"G{number}",))), MEASURE)
    assert [each.patient.genes for each in book.history("c", "anna")] == [("G8",), ("G7",), ("G6",), ("G5",)]
    book.withdraw("c", "anna")
    with pytest.raises(Missing):
        book.history("c", "anna")
    book.register(CASE, MEASURE)
    assert len(book.history("c", "anna")) == 1


def test_a_registry_of_before_keeps_its_cases_and_gains_a_history(tmp_path: Path) -> None:
    place = engine(f"sqlite:///{tmp_path}/cases")
    CaseBook(place, b"k", lambda: 1.0).register(CASE, MEASURE)
    with write(place) as db:  # as version 1 left it
        db.exec_driver_sql("DROP TABLE match_case_earlier")
        db.exec_driver_sql("UPDATE schema_version SET version = 1 WHERE name = 'cases'")
    book = CaseBook(place, b"k", lambda: 2.0)
    book.register(replace(CASE, patient=Patient("", (FIRST,))), MEASURE)
    assert [each.at for each in book.history("c", "anna")] == [2.0, 1.0]
