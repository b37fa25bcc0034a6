"""A release's unsolved people as cases: registered, described anew, withdrawn, and told of by standing questions."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.matching import MEASURE, NODES, PATIENTS, QUERY, RATES, World, build_world
from tests.unit.store.small_stores import Batch, manifest, put

from federome.db import engine
from federome.governance.consent import Ledger
from federome.model.patient import Patient
from federome.network.cases import Case, CaseBook
from federome.network.holdings import StoreHoldings
from federome.network.match_node import MatchingNode
from federome.network.match_releases import Followed, follow, follow_release, followed
from federome.network.node import Node
from federome.store.catalogue import Store

SITE = ("1", 900, "A", "C")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return build_world(tmp_path, patients=PATIENTS[:20])


def released(store: Store, name: str, people: dict[str, tuple[str, Any]], on: date) -> None:
    """A batch of people, each with a case status and terms; all have the query's genes on their list."""
    batch = Batch(name, list(people), ["female"] * len(people), {SITE: np.zeros(len(people), np.int8)})
    table = pd.DataFrame(
        {
            "person_id": list(people),
            "case_status": [status for status, _ in people.values()],
            "hpo_terms": [terms for _, terms in people.values()],
            "candidate_genes": [list(QUERY.genes)] * len(people),
        }
    )
    put(store, batch, about=manifest("es-1"), phenotypes=table, on=on)


def test_a_release_registers_cases_and_a_standing_question_is_told(world: World, tmp_path: Path) -> None:
    world.register("FI", Case("my-own-case", "doctor", "fi-1", QUERY))
    told = world.asker("FI", "my-own-case", "doctor").watch(NODES, MEASURE, RATES)
    assert set(told.answers) == set(NODES) and world.follow() == 0
    store = Store.open(tmp_path / "data")
    terms = list(QUERY.observed)
    released(
        store, "one", {"p1": ("unsolved", terms), "p2": ("solved", terms), "p3": ("control", [])}, date(2026, 1, 1)
    )
    holdings = StoreHoldings(store, lambda: Ledger(()), world.clock)
    (tmp_path / "node" / "matching").mkdir(parents=True)
    follow(tmp_path / "node", "es-1", "clinician-es")
    assert followed(tmp_path / "node") == {"es-1": "clinician-es"}
    office = world.offices["ES"]
    worker = world.federation.worker("ES", world.federation.port("ES"))
    assert isinstance(worker, Node)
    node = MatchingNode(dataclasses.replace(worker, holdings=holdings), tmp_path / "node")
    node._follow_releases(office.desk)
    assert [c.name for c in office.desk.book.cases("clinician-es") if c.name.startswith("es-1/")] == ["es-1/p1"]
    assert world.follow() == 1 and world.told[-1].evidence == "gene"
    change = office.desk.book.last_change()
    node._follow_releases(office.desk)  # nobody has written: nothing is read, nothing changes
    assert office.desk.book.last_change() == change
    released(store, "two", {"p4": ("unsolved", terms), "p5": ("unsolved", ["HP:7777777"])}, date(2026, 2, 1))
    node._follow_releases(office.desk)
    assert world.follow() == 1  # of p4 alone, not of p1 again
    store.withdraw(["p1"], datetime.fromtimestamp(world.clock(), UTC))
    node._followed = None
    node._follow_releases(office.desk)
    assert office.desk.book.find("es-1/p1").active is False  # type: ignore[union-attr]
    assert office.desk.book.find("es-1/p4").active is True  # type: ignore[union-attr]


def test_a_new_description_replaces_the_old_one_and_what_a_clinician_says_stays(tmp_path: Path) -> None:
    book, terms = CaseBook(engine(f"sqlite:///{tmp_path}/match.db"), b"secret", lambda: 0.0), QUERY.observed
    one, two = Patient("p1", terms[:3]), Patient("p2", terms[3:])
    assert follow_release(book, MEASURE, "es-1", "clinician-es", [one, two]) == Followed(2, 0, 0, 0)
    assert follow_release(book, MEASURE, "es-1", "clinician-es", [one, two]) == Followed(0, 2, 0, 0)
    private = dataclasses.replace(book.case("es-1/p1", "clinician-es"), shared=False, family="f")
    book.register(private, MEASURE)
    more = Patient("p1", terms)
    lost = Patient("p3", ("HP:7777777",))
    assert follow_release(book, MEASURE, "es-1", "clinician-es", [more, lost]) == Followed(1, 0, 1, 1)
    held = book.case("es-1/p1", "clinician-es")
    assert (held.shared, held.family, held.patient.observed) == (False, "f", terms)
    book.withdraw("es-1/p1", "clinician-es")
    assert follow_release(book, MEASURE, "es-1", "clinician-es", [more]) == Followed(0, 1, 0, 0)
    assert book.find("es-1/p1").active is False  # type: ignore[union-attr]
    assert follow_release(book, MEASURE, "es-1", "clinician-es", [one]).registered == 1


def test_people_whose_terms_are_not_known_are_compared_by_genes_and_this_is_said(world: World, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "data")
    people: dict[str, tuple[str, Any]] = {
        "p1": ("unsolved", None),
        "p2": ("unsolved", []),
        "p3": ("unsolved", list(QUERY.observed)),
    }
    released(store, "one", people, date(2026, 1, 1))
    found = {each.id: each for each in StoreHoldings(store, lambda: Ledger(()), world.clock).unsolved("es-1")}
    assert [bool(found[name].notes) for name in people] == [True, False, False]
    assert found["p1"].observed == found["p2"].observed == () and found["p3"].observed == QUERY.observed
