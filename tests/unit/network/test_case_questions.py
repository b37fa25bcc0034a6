"""A question that the own node prepared as a file, sent by the clinician's program, and its answers brought back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.matching import MEASURE, PATIENTS, QUERY, RATES, World, build_world

from federome.errors import FederomeError, Invalid, Missing, Refused
from federome.network.case_questions import CaseQuestions, Prepared
from federome.network.cases import Case
from federome.network.match_asker import contact_words, match_words, read_contact, watch_words
from federome.network.match_file import MatchFile
from federome.network.match_question import Level, merge

ABROAD: Mapping[str, list[str]] = {"ES": ["es-1"], "IT": ["it-1"]}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("questions"), patients=PATIENTS[:60])


class Clinic:
    """A doctor at FI in a browser: what pages do for them, and the program on their own computer."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder, self.made = world, folder, 0
        self.case = world.register("FI", Case("mine", "doctor", "fi-1", QUERY))
        self.questions = CaseQuestions(world.desk("FI"), self._token)
        self.nodes = world.federation.members.ring("node")

    def _token(self) -> str:
        self.made += 1
        return f"q{self.world.life}-{self.made}"

    def match(self, *, level: Level = "both") -> Prepared:
        words = match_words(self.case.patient, MEASURE, RATES, level=level, top=5)
        return self.find(self.questions.prepare(self.case, "match", words, ABROAD, level))

    def find(self, id_: str) -> Prepared:
        return self.questions.find(id_, "doctor")

    def file(self, asked: Prepared) -> MatchFile:
        office = self.world.offices["FI"]
        told = self.questions.file(
            asked, self.case, hub="https://hub.example", key=office.key, box=office.box.public, nodes=self.nodes
        )
        path = self.folder / f"{asked.id}.json"
        path.write_text(json.dumps(told))
        return MatchFile.read(path)

    def answers(self, asked: Prepared) -> bytes:
        file = self.file(asked)
        told = file.send(self.world.people["doctor"], self.world.sender("doctor"), self.world.clock)
        return json.dumps(file.answers(told)).encode()

    def ask(self, asked: Prepared) -> Prepared:
        self.questions.take(asked, self.answers(asked), self.nodes)
        return self.find(asked.id)


@pytest.fixture
def clinic(built: World, tmp_path: Path) -> Clinic:
    built.reset()
    return Clinic(built, tmp_path)


def test_the_list_is_the_one_of_the_command(clinic: Clinic) -> None:
    asked = clinic.ask(clinic.match())
    merged = merge(list(ABROAD), asked.answers, asked.silent, top=5)
    asker = clinic.world.asker("FI", "mine", "doctor")
    assert merged == asker.match(list(ABROAD), MEASURE, RATES, top=5) and len(merged.matches) == 5
    again = clinic.ask(clinic.find(asked.id))  # the same question is free, and says the same
    assert again.answers == asked.answers and again.answered >= asked.answered


def test_budget_near_repeats_and_unregistered_cases_are_refused_as_by_the_command(clinic: Clinic) -> None:
    clinic.ask(clinic.match())
    near = clinic.match()
    words = near.words | {"terms": near.words["terms"][:-1]}  # type: ignore[index]
    asked = clinic.ask(clinic.find(clinic.questions.prepare(clinic.case, "match", words, ABROAD, "both")))
    assert asked.answers == {} and all("nearly repeats" in why for why in asked.silent.values())
    foreign = near.words | {"genes": ["G30"]}  # words that the registered case has not
    asked = clinic.ask(clinic.find(clinic.questions.prepare(clinic.case, "match", foreign, ABROAD, "both")))
    assert asked.answers == {} and all("registered case has not" in why for why in asked.silent.values())
    gone = clinic.match()
    clinic.world.desk("FI").book.withdraw("mine", "doctor")
    with pytest.raises(Missing):
        clinic.world.desk("FI").book.case("mine", "doctor")
    clinic.questions.forget(clinic.case)
    with pytest.raises(Missing):
        clinic.find(gone.id)


def test_a_standing_question_stands_and_is_ended(clinic: Clinic) -> None:
    words = watch_words(clinic.case, MEASURE, RATES, level="both", days=30, rate=1e-3, severity="digest")
    assert clinic.questions.standing(clinic.case) == []
    clinic.ask(clinic.find(clinic.questions.prepare(clinic.case, "watch", words, ABROAD, "both")))
    stands = clinic.questions.standing(clinic.case)
    assert [(one.node, one.rate, one.severity, one.datasets) for one in stands] == [
        ("ES", 1e-3, "digest", ["es-1"]),
        ("IT", 1e-3, "digest", ["it-1"]),
    ]
    assert clinic.world.offices["ES"].alerts.standing() == 1
    clinic.world.federation.clock[0] += 1
    clinic.ask(clinic.find(clinic.questions.prepare(clinic.case, "unwatch", {}, {"ES": ["es-1"]}, "none")))
    assert [one.node for one in clinic.questions.standing(clinic.case)] == ["IT"]
    assert clinic.world.offices["ES"].alerts.standing() == 0


def test_contact_is_double_blind_by_file_too(clinic: Clinic) -> None:
    asked = clinic.ask(clinic.match())
    best = merge(list(ABROAD), asked.answers, asked.silent, top=1).matches[0]
    where = {best.node: ABROAD[best.node]}

    def contact(yes: bool | None) -> Prepared:
        words = contact_words(best.handle, yes=yes, address="doctor@fi.example")
        return clinic.ask(clinic.find(clinic.questions.prepare(clinic.case, "contact", words, where, "none")))

    assert read_contact(contact(True).answers[best.node]).state == "open"
    holder = f"clinician-{best.node.lower()}"
    clinic.world.desk(best.node).decided(holder, best.handle, yes=True, address="other@abroad.example")
    agreed = read_contact(contact(None).answers[best.node])
    assert (agreed.state, agreed.address) == ("agreed", "other@abroad.example") and agreed.patient is not None


def test_only_what_a_node_signed_for_this_question_is_taken_back(clinic: Clinic) -> None:
    asked = clinic.match()
    good = json.loads(clinic.answers(asked))
    other = clinic.match()
    token = good["signed"]["ES"]
    tries: list[tuple[dict[str, object], type[FederomeError]]] = [
        (good | {"id": other.id}, Invalid),
        (good | {"run": "another"}, Refused),
        (good | {"signed": {"IT": token}}, Refused),
        (good | {"signed": {"FI": token}}, Invalid),
        (good | {"signed": {"ES": token[:-8] + "AAAAAAAA"}}, Refused),
        (good | {"signed": []}, Invalid),
        (good | {"federome": "question"}, Invalid),
    ]
    for told, error in tries:
        with pytest.raises(error):
            clinic.questions.take(asked, json.dumps(told).encode(), clinic.nodes)
    for junk in (b"", b"[1]", b"\xff"):
        with pytest.raises(Invalid):
            clinic.questions.take(asked, junk, clinic.nodes)
    clinic.world.federation.clock[0] += 5
    later = clinic.match()  # the same words, asked about later: an old list is not its answer
    with pytest.raises(Refused):
        clinic.questions.take(later, json.dumps(good | {"id": later.id}).encode(), clinic.nodes)
    assert clinic.find(asked.id).answered == clinic.find(later.id).answered == 0
    with pytest.raises(Missing):
        clinic.questions.find(asked.id, "clinician-es")


def test_the_file_holds_no_word_beyond_the_level(clinic: Clinic) -> None:
    asked = clinic.match(level="genes")
    file = clinic.file(asked)
    said = json.dumps(file.words) + file.registration
    assert "G1" in json.dumps(file.words)
    assert not any(term in said for term in QUERY.observed)
    with pytest.raises(Invalid):
        MatchFile.read(clinic.folder / "nothing.json")
    path = clinic.folder / f"{asked.id}.json"
    path.write_text(path.read_text().replace('"act": "match"', '"act": "erase"'))
    with pytest.raises(Invalid):
        MatchFile.read(path)
