"""Matching over five nodes: the pooled list, a late node by name, other tables, probing, and double-blind contact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from tests.unit.analysis.test_matching import LEAVES, MEASURE, random_patients

from federome.analysis.match_search import Corpus
from federome.analysis.matching import Background
from federome.db import engine
from federome.errors import Invalid, Refused
from federome.model.patient import Patient
from federome.network.match_desk import HANDLE_LIFE, QUESTIONS_A_CASE, MatchDesk
from federome.network.match_question import (
    MOST_TERMS,
    MatchQuestion,
    Merged,
    background_digest,
    merge,
    minimise,
    open_question,
    seal,
)
from federome.trust.keys import KeyRing, PinnedKey, generate

NOW = 1_900_000_000.0
NODES = ("FI", "ES", "IT", "SE", "NO")
RATES = Background({f"G{i}": 0.01 + i / 100 for i in range(40)}, 0.005, "test")
PATIENTS = [replace(p, group=p.id) for p in random_patients(5, 300, genes=3)]
QUERY = Patient("mine", tuple(LEAVES[200:206]), genes=("G1", "G2"))


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """Five nodes, one clinician, and everybody's keys."""

    clock: Clock
    desks: dict[str, MatchDesk]
    masks: dict[str, Any]
    keys: dict[str, Any]
    person: Any
    box: Any

    def question(self, patient: Patient = QUERY, *, case: str = "c1", top: int = 10, **more: Any) -> MatchQuestion:
        told = {"measure": MEASURE.version, "background": background_digest(RATES), **more}
        least = minimise(patient, MEASURE, "both")
        return MatchQuestion("run1", "doctor", case, "permit1", least, top, box=self.box.public, **told)

    def ask(self, question: MatchQuestion, nodes: tuple[str, ...] = NODES) -> Merged:
        people = KeyRing((PinnedKey("doctor", self.person.public),))
        answers, refused = {}, {}
        for node in nodes:
            sealed = seal(
                question, self.person, node, self.keys[node][1].public, now=self.clock(), expires=self.clock() + 60
            )
            try:
                opened = open_question(sealed, self.keys[node][1], people, node=node, now=self.clock())
                answers[node] = self.desks[node].answer(opened)
            except Refused as refusal:
                refused[node] = refusal.codes[0]
        ring = KeyRing(tuple(PinnedKey(node, pair[0].public) for node, pair in self.keys.items()))
        return merge(question, NODES, answers, refused, box=self.box, nodes=ring, now=self.clock())


@pytest.fixture
def world() -> World:
    clock, numbers = Clock(), count()
    keys = {node: (generate("Ed25519"), generate("ECDH-ES+A256KW")) for node in NODES}
    desks, masks = {}, {}
    for place, node in enumerate(NODES):
        corpus = Corpus.of(MEASURE, PATIENTS[place::5])
        masks[node] = np.ones(len(corpus.patients), np.bool_)
        desks[node] = MatchDesk(
            node,
            keys[node][0],
            engine("sqlite://"),
            corpus,
            RATES,
            lambda node=node: masks[node],  # type: ignore[misc]
            lambda _question: None,
            lambda person, case: (person, case) in {("doctor", "c1"), ("doctor", "c2")},
            clock,
            "release-1",
            lambda: f"h{next(numbers):06d}",
        )
    return World(clock, desks, masks, keys, generate("Ed25519"), generate("ECDH-ES+A256KW"))


def pooled(top: int, without: tuple[str, ...] = ()) -> list[float]:
    """Scores of the pooled list, to two digits."""
    kept = [p for place, node in enumerate(NODES) if node not in without for p in PATIENTS[place::5]]
    query = MEASURE.profile(minimise(QUERY, MEASURE, "both"))
    return [round(m.score, 2) for m in Corpus.of(MEASURE, kept).rank(query, top, RATES)]


def holders(world: World, merged: Merged) -> list[str]:
    """Whom the handles stand for, which only the nodes know."""
    from federome.db import read
    from federome.network.match_desk import HANDLE

    names = []
    for match in merged.matches:
        with read(world.desks[match.node].engine) as db:
            names.append(str(db.execute(HANDLE.select().where(HANDLE.c.handle == match.handle)).one().patient))
    return names


def test_five_nodes_give_the_pooled_list(world: World) -> None:
    merged = world.ask(world.question())
    query = MEASURE.profile(minimise(QUERY, MEASURE, "both"))
    whole = Corpus.of(MEASURE, PATIENTS).rank(query, 10, RATES)
    assert [m.score for m in merged.matches] == pooled(10) and not merged.silent and not merged.mismatched
    assert set(holders(world, merged)) == {m.patient.id for m in whole}
    assert {m.evidence for m in merged.matches} <= {"gene", "phenotype"}


def test_a_late_and_a_refusing_node_are_named_and_the_rest_is_the_pool_of_the_others(world: World) -> None:
    def no(_question: MatchQuestion) -> None:
        raise Refused("no contract", codes=["no_healthcare_contract"])

    world.desks["IT"] = replace(world.desks["IT"], decide=no)
    merged = world.ask(world.question(), nodes=("FI", "ES", "IT", "SE"))
    assert merged.silent == {"IT": "no_healthcare_contract", "NO": "late: no answer by the deadline"}
    assert [m.score for m in merged.matches] == pooled(10, without=("IT", "NO"))


def test_other_tables_are_flagged_and_not_mixed_in(world: World) -> None:
    world.desks["SE"] = replace(world.desks["SE"], background=Background({}, 0.01, "old"))
    merged = world.ask(world.question())
    assert list(merged.mismatched) == ["SE"] and all(m.node != "SE" for m in merged.matches)
    assert set(world.ask(world.question(case="c2", measure="overlap/0 old")).mismatched) == set(NODES)


def test_consent_is_a_mask_before_scoring_and_holds_for_earlier_answers(world: World) -> None:
    before = world.ask(world.question())
    gone = next(m for m in before.matches)
    name = holders(world, before)[0]
    number = [p.id for p in world.desks[gone.node].corpus.patients].index(name)
    world.masks[gone.node][number] = False
    again = world.ask(world.question())
    assert gone.handle not in {m.handle for m in again.matches}


def test_the_hub_cannot_read_a_question_and_no_node_another_s(world: World) -> None:
    question = world.question()
    sealed = seal(question, world.person, "FI", world.keys["FI"][1].public, now=NOW, expires=NOW + 60)
    assert "HP:" not in sealed and question.person not in sealed and sealed.count(".") == 4
    people = KeyRing((PinnedKey("doctor", world.person.public),))
    with pytest.raises(Refused):
        open_question(sealed, world.keys["ES"][1], people, node="ES", now=NOW)
    with pytest.raises(Refused):
        open_question(sealed, world.keys["FI"][1], people, node="ES", now=NOW)
    with pytest.raises(Refused):
        open_question(sealed, world.keys["FI"][1], people, node="FI", now=NOW + 61)
    stranger = KeyRing((PinnedKey("doctor", generate("Ed25519").public),))
    with pytest.raises(Refused):
        open_question(sealed, world.keys["FI"][1], stranger, node="FI", now=NOW)


def test_only_the_least_travels() -> None:
    rich = Patient("name of a person", tuple(LEAVES[150:190]), (LEAVES[3],), ("G1",), "family")
    least = minimise(rich, MEASURE, "both")
    assert (least.id, least.group, least.excluded) == ("asked", "", ()) and len(least.observed) == MOST_TERMS
    assert minimise(rich, MEASURE, "genes").observed == () and minimise(rich, MEASURE, "terms").genes == ()
    with pytest.raises(Invalid):
        minimise(Patient("x", ("HP:9999999",)), MEASURE, "both")


def test_reading_a_record_word_by_word_works_undefended_and_is_refused_here(world: World) -> None:
    """The score moves when one word is right: ask again and again with one word changed, keep what raises it."""
    target = world.desks["FI"].corpus.patients[7]
    hidden = MEASURE.profile(target)
    start = tuple(LEAVES[100:104])

    def undefended(words: tuple[str, ...]) -> float:
        return MEASURE.score(MEASURE.profile(Patient("p", words)), hidden)

    right = [t for t in LEAVES if undefended((*start, t)) > undefended(start)]
    assert set(target.observed) & set(MEASURE.usable) <= {*right, *start}  # the whole record is among them
    asked = Patient("p", start)
    assert world.ask(world.question(asked), ("FI",)).silent.get("FI") is None
    for word in right[:3]:
        merged = world.ask(world.question(Patient("p", (*start, word))), ("FI",))
        assert merged.silent["FI"] == "differencing"


def test_the_same_question_is_free_and_the_budget_ends(world: World) -> None:
    first = world.ask(world.question(), ("FI",))
    assert world.ask(world.question(), ("FI",)).matches == first.matches
    for number in range(1, QUESTIONS_A_CASE):
        far = Patient("p", tuple(LEAVES[180 + 5 * number : 184 + 5 * number]))
        assert "FI" not in world.ask(world.question(far), ("FI",)).silent
    more = Patient("p", tuple(LEAVES[250:255]))
    assert world.ask(world.question(more), ("FI",)).silent["FI"] == "budget_exhausted"
    assert "FI" not in world.ask(world.question(more, case="c2"), ("FI",)).silent
    assert world.ask(world.question(case="not mine"), ("FI",)).silent["FI"] == "not_your_role"


def test_contact_needs_both_and_refusal_looks_like_silence(world: World) -> None:
    merged = world.ask(world.question())
    desks = world.desks
    agreed, refused, silent = merged.matches[:3]
    for match in (agreed, refused, silent):
        desks[match.node].say(match.handle, "asker", yes=True, address="me@home")
    desks[agreed.node].say(agreed.handle, "holder", yes=True, address="you@there")
    desks[refused.node].say(refused.handle, "holder", yes=False, address="you@there")
    assert desks[agreed.node].contact(agreed.handle, "asker").address == "you@there"
    assert desks[agreed.node].contact(agreed.handle, "holder").address == "me@home"
    said = [desks[m.node].contact(m.handle, "asker") for m in (refused, silent)]
    unknown = desks["FI"].contact("no such handle", "asker")
    assert said[0] == said[1] == unknown and said[0].address == ""
    desks[refused.node].say(refused.handle, "holder", yes=True, address="changed@mind")
    assert desks[refused.node].contact(refused.handle, "asker").state == "open"
    world.clock.now = NOW + HANDLE_LIFE + 1
    desks[silent.node].say(silent.handle, "holder", yes=True, address="late@there")
    assert desks[silent.node].contact(silent.handle, "asker").state == "open"
