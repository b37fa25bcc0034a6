"""Matching over five nodes: the pooled list, a late node by name, other tables, probing, forgery, and contact."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import pytest
from tests.matching import MEASURE, NODES, PATIENTS, QUERY, RATES, World, build_world
from tests.unit.analysis.test_matching import LEAVES

from federome.analysis.match_search import Corpus
from federome.analysis.matching import Background, best_score, told_probability
from federome.db import read
from federome.errors import Invalid, Missing, Refused
from federome.model.finding import Finding
from federome.model.match import Handle
from federome.model.patient import Patient
from federome.network.cases import Case
from federome.network.match_desk import HANDLE, HANDLE_LIFE, QUESTIONS_A_CASE, Contact
from federome.network.match_question import (
    MOST_TERMS,
    Merged,
    minimise,
    open_letter,
    read_registration,
    seal,
    sign_registration,
)
from federome.trust.keys import KeyRing, PinnedKey, generate
from federome.trust.signing import sign


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("matching"))


@pytest.fixture
def world(built: World) -> World:
    built.reset()
    built.register("FI", Case("my-own-case", "doctor", "fi-1", QUERY))
    return built


def ask(world: World, patient: Patient = QUERY, *, name: str = "my-own-case", top: int = 10, **more: object) -> Merged:
    if patient is not QUERY:
        world.register("FI", Case(name, "doctor", "fi-1", patient))
    asked = tuple(more.pop("nodes", NODES))  # type: ignore[call-overload]
    return world.asker("FI", name, "doctor").match(asked, MEASURE, RATES, top=top, **more)  # type: ignore[arg-type]


def pooled(top: int, without: tuple[str, ...] = ()) -> list[float]:
    """Scores of the pooled list, as shares of the best possible, to two digits."""
    kept = [p for place, node in enumerate(NODES) if node not in without for p in PATIENTS[place::5]]
    query = MEASURE.profile(minimise(QUERY, MEASURE, "both"))
    best = best_score(query, RATES)
    return [round(m.score / best, 2) for m in Corpus.of(MEASURE, kept).rank(query, top, RATES)]


def holders(world: World, merged: Merged) -> list[str]:
    """Whom the handles stand for, which only the nodes know."""
    names = []
    for match in merged.matches:
        with read(world.desk(match.node).engine) as db:
            names.append(str(db.execute(HANDLE.select().where(HANDLE.c.handle == match.handle)).one().patient))
    return names


def test_five_nodes_give_the_pooled_list(world: World) -> None:
    merged = ask(world)
    query = MEASURE.profile(minimise(QUERY, MEASURE, "both"))
    whole = Corpus.of(MEASURE, PATIENTS).rank(query, 40, RATES)
    scores = pooled(40)
    assert [m.score for m in merged.matches] == scores[:10] and not merged.silent and not merged.mismatched
    # Whoever is listed has that very score in the pool: only the order among equals is open.
    by_score = {m.patient.id: score for m, score in zip(whole, scores, strict=True)}
    assert [by_score[name] for name in holders(world, merged)] == scores[:10]
    assert {m.evidence for m in merged.matches} <= {"gene", "phenotype"}


def test_a_late_and_a_refusing_node_are_named_and_the_rest_is_the_pool_of_the_others(world: World) -> None:
    world.down.add("EE")
    refusals = world.offices["IT"].state

    def refusing() -> object:
        return replace(refusals(), persons={})

    object.__setattr__(world.offices["IT"], "state", refusing)
    merged = ask(world)
    assert set(merged.silent) == {"IT", "EE"} and "in time" in merged.silent["EE"]
    assert [m.score for m in merged.matches] == pooled(10, without=("IT", "EE"))


def test_a_node_that_refuses_never_sees_the_words(world: World) -> None:
    object.__setattr__(
        world.offices["IT"], "state", lambda: replace(world.federation.state("IT"), suspended=frozenset({"C-1"}))
    )
    merged = ask(world)
    assert "IT" in merged.silent
    assert all("IT" not in run.detail["asked"] for run in world.sent[1:])  # type: ignore[operator]


def test_other_tables_are_flagged_and_not_mixed_in(world: World) -> None:
    office = world.offices["GB"]
    object.__setattr__(office, "desk", replace(office.desk, background=Background({}, 0.01, "old")))
    merged = ask(world)
    assert list(merged.mismatched) == ["GB"] and all(m.node != "GB" for m in merged.matches)


def test_consent_is_a_mask_before_scoring_and_holds_for_earlier_answers(world: World) -> None:
    before = ask(world)
    gone, name = before.matches[0], holders(world, before)[0]
    world.gone.add((gone.node, name))
    again = ask(world)
    assert gone.handle not in {m.handle for m in again.matches} and name not in holders(world, again)


def test_a_case_that_is_not_shared_and_the_asked_case_itself_are_not_found(world: World) -> None:
    world.register("ES", Case("twin", "clinician-es", "es-1", QUERY, shared=False))
    world.register("IT", Case("elsewhere", "clinician-it", "it-2", QUERY))
    found = holders(world, ask(world))
    assert not {"my-own-case", "twin", "elsewhere"} & set(found)
    world.register("ES", Case("twin", "clinician-es", "es-1", QUERY))
    assert holders(world, ask(world))[0] == "twin"


def test_the_same_person_and_a_relative_are_labelled(world: World) -> None:
    world.register("FI", Case("my-own-case", "doctor", "fi-1", QUERY, person="pseudonym-1", family="family-1"))
    world.register("ES", Case("again", "clinician-es", "es-1", QUERY, person="pseudonym-1"))
    world.register("IT", Case("sister", "clinician-it", "it-1", QUERY, person="pseudonym-2", family="family-1"))
    world.register("GB", Case("other", "clinician-gb", "gb-1", QUERY))
    merged = ask(world)
    kin = dict(zip(holders(world, merged), (m.kin for m in merged.matches), strict=True))
    assert (kin["again"], kin["sister"], kin["other"]) == ("same person", "family", "")


def test_the_hub_learns_nothing_but_who_asked_whom_and_when(world: World) -> None:
    """Everything that the hub keeps, tasks, answers and its log, holds no word of the patient, no case, no score."""
    merged = ask(world)
    asker = world.asker("FI", "my-own-case", "doctor")
    asker.contact(merged.matches[0].node, merged.matches[0].handle, yes=True, address="doctor@hospital.example")
    world.federation.coordinator.ledger.settle()
    folder, seen = world.federation.root, ""
    for path in (*folder.glob("hub.db*"), *folder.glob("record.db*"), *(folder / "hub").rglob("*")):
        seen += path.read_bytes().decode("latin-1") if path.is_file() else ""
    assert "sealed" in seen and "patient-match" in seen
    own = ["my-own-case", world.desk("FI").book.outside("my-own-case"), "doctor@hospital"]
    secrets = [*minimise(QUERY, MEASURE, "both").observed, *own]
    secrets += [match.handle for match in merged.matches] + holders(world, merged)
    assert not found_in(seen, secrets)
    # The same search finds them where a letter is signed and not sealed.
    told = {"terms": list(QUERY.observed), "case": "my-own-case"}
    assert found_in(sign(told, world.people["doctor"], typ="open"), secrets)  # type: ignore[arg-type]


def found_in(seen: str, secrets: list[str]) -> list[str]:
    """Which of these words somebody finds who reads a text, and whatever in it is base64."""
    coded = (part[: len(part) // 4 * 4] for part in re.findall(r"[A-Za-z0-9_-]{40,}", seen))
    parts = [base64.urlsafe_b64decode(part) for part in coded]
    whole = seen + b"\n".join(parts).decode("latin-1")
    return [secret for secret in secrets if secret in whole]


def letter_of(world: World, registration: str, *, key: object = None, run: str = "run", node: str = "FI") -> str:
    told = {"terms": [], "genes": []}
    return seal(
        "match",
        told,  # type: ignore[arg-type]
        key or world.people["doctor"],  # type: ignore[arg-type]
        run=run,
        registration=registration,
        node=node,
        to=world.offices["FI"].box.public,
        box=generate("ECDH-ES+A256KW").public,
        now=world.clock(),
        expires=world.clock() + 60,
    )


def test_a_letter_is_for_one_node_and_from_one_person(world: World) -> None:
    asker = world.asker("FI", "my-own-case", "doctor")
    people = KeyRing((PinnedKey("doctor", world.people["doctor"].public),))
    nodes = world.federation.members.ring("node")
    sealed = letter_of(world, asker.registration("both"))
    assert "HP:" not in sealed and "doctor" not in sealed and sealed.count(".") == 4

    def open_at(
        node: str, *, ring: KeyRing = people, later: float = 0.0, box: str = "FI", token: str = sealed
    ) -> object:
        return open_letter(token, world.offices[box].box, ring, nodes, node=node, now=world.clock() + later)

    assert open_at("FI")
    for wrong in (
        {"node": "ES", "box": "ES"},
        {"node": "ES"},
        {"node": "FI", "later": 61.0},
        {"node": "FI", "ring": KeyRing((PinnedKey("doctor", generate("ES256").public),))},
    ):
        with pytest.raises(Refused):
            open_at(**wrong)  # type: ignore[arg-type]


def test_a_forged_case_is_refused(world: World) -> None:
    """A clinician who makes up a patient: signed by nobody, by a stranger's key, by a node for somebody else."""
    book, box = world.desk("FI").book, generate("ECDH-ES+A256KW").public
    told = {"node": "FI", "person": "doctor", "case": "x", "terms": [LEAVES[3]], "genes": [], "same": "", "family": ""}
    people = KeyRing((PinnedKey("doctor", world.people["doctor"].public),))
    nodes, now = world.federation.members.ring("node"), world.clock()

    def attempt(registration: str) -> None:
        open_letter(letter_of(world, registration), world.offices["FI"].box, people, nodes, node="FI", now=now)

    forged = sign_registration(told, generate("Ed25519"), box, now=now, until=now + 100)  # type: ignore[arg-type]
    other_node = sign_registration(told, world.offices["ES"].key, box, now=now, until=now + 100)  # type: ignore[arg-type]
    expired = sign_registration(told, world.offices["FI"].key, box, now=now - 100, until=now - 1)  # type: ignore[arg-type]
    somebody = book.case(PATIENTS[0].id, "clinician-fi")
    foreign = book.registration(somebody, MEASURE, "FI", key=world.offices["FI"].key, box=box)
    good = sign_registration(told, world.offices["FI"].key, box, now=now, until=now + 100)  # type: ignore[arg-type]
    attempt(good)
    for bad in (forged, other_node, expired, foreign):
        with pytest.raises(Refused):
            attempt(bad)
    with pytest.raises(Missing):
        book.case(PATIENTS[0].id, "doctor")


def test_words_that_are_not_the_case_s_are_refused(world: World) -> None:
    asker = world.asker("FI", "my-own-case", "doctor")
    other = replace(asker, case=replace(asker.case, patient=replace(QUERY, observed=tuple(LEAVES[100:104]))))
    merged = other.match(NODES, MEASURE, RATES)
    assert set(merged.silent) == set(NODES) and not merged.matches


def test_an_order_is_used_once_and_the_same_letter_is_answered_alike(world: World) -> None:
    """A hub that plays an order again with another letter is refused; a lost answer is given again, byte for byte."""
    asker = world.asker("FI", "my-own-case", "doctor")
    run = "letters-x"
    sealed = letter_of(world, asker.registration("both"), run=run)
    task_body = {"order": world.orders("doctor", ["FI"], run)["FI"], "permit": world.contract}
    from federome.network.protocol import Task

    office = world.offices["FI"]
    first = office.answer(Task(f"{run}/1/FI", run, 1, "letter", dict(task_body)))
    again = office.answer(Task(f"{run}/1/FI", run, 1, "letter", dict(task_body)))
    assert first.body == again.body
    with pytest.raises(Refused) as refused:
        office.answer(Task(f"{run}/2/FI", run, 2, "letter", {**task_body, "sealed": sealed}))
    assert refused.value.codes == ("replayed",)


def test_reading_a_record_word_by_word_works_undefended_and_is_refused_here(world: World) -> None:
    """The score moves when one word is right: ask again and again with one word changed, keep what raises it."""
    target = PATIENTS[35]  # at FI
    hidden = MEASURE.profile(target)
    start = tuple(LEAVES[100:104])

    def undefended(words: tuple[str, ...]) -> float:
        return MEASURE.score(MEASURE.profile(Patient("p", words)), hidden)

    right = [t for t in LEAVES if undefended((*start, t)) > undefended(start)]
    assert set(target.observed) & set(MEASURE.usable) <= {*right, *start}  # the whole record is among them
    assert ask(world, Patient("p", start), nodes=("FI",)).silent.get("FI") is None
    for number, word in enumerate(right[:3]):  # describing the case anew, or another one, changes nothing
        merged = ask(world, Patient("p", (*start, word)), name=f"my-own-{number}", nodes=("FI",))
        assert "nearly repeats" in merged.silent["FI"]


def test_the_same_question_is_free_and_the_budget_ends(world: World) -> None:
    first = ask(world, nodes=("FI",))
    assert [m.handle for m in ask(world, nodes=("FI",)).matches] == [m.handle for m in first.matches]
    for number in range(QUESTIONS_A_CASE - 1):
        assert not ask(world, Patient("p", tuple(LEAVES[60 + 10 * number : 65 + 10 * number])), nodes=("FI",)).silent
    assert "budget" in ask(world, Patient("p", tuple(LEAVES[150:155])), nodes=("FI",)).silent["FI"]


def test_contact_is_blind_until_both_agree(world: World) -> None:
    merged = ask(world)
    found, name = merged.matches[0], holders(world, merged)[0]
    clinician, desk = f"clinician-{found.node.lower()}", world.desk(found.node)
    asker = world.asker("FI", "my-own-case", "doctor")
    assert desk.waiting(clinician) == []  # nobody is troubled by being on a list
    assert asker.contact(found.node, found.handle, yes=True, address="doctor@fi.example") == Contact("open")
    (waits,) = desk.waiting(clinician)
    assert (waits.case, waits.home, waits.state, waits.address) == (name, "FI", "undecided", "")
    assert desk.decided(clinician, found.handle, yes=None) == Contact("open")
    agreed = desk.decided(clinician, found.handle, yes=True, address="clinic@abroad.example")
    assert agreed == Contact("agreed", "doctor@fi.example")
    told = asker.contact(found.node, found.handle, yes=None)
    assert (told.state, told.address) == ("agreed", "clinic@abroad.example")
    # With the address comes the description, and the reasons are found beside the asker's own case.
    held = next(p for p in PATIENTS if p.id == holders(world, merged)[0])
    assert told.patient is not None and told.patient.observed == held.observed and told.patient.genes == held.genes
    why = asker.reasons(told, MEASURE)
    assert why is not None and set(why.genes) == set(held.genes) & set(QUERY.genes)
    assert asker.reasons(Contact("open"), MEASURE) is None
    world.gone.add((found.node, held.id))
    assert asker.contact(found.node, found.handle, yes=None).patient is None


def test_refusal_silence_expiry_and_strangers_look_the_same(world: World) -> None:
    merged = ask(world)
    no, silent, foreign = merged.matches[:3]
    asker = world.asker("FI", "my-own-case", "doctor")
    told = {asker.contact(m.node, m.handle, yes=True, address="doctor@fi.example") for m in merged.matches[:3]}
    world.desk(no.node).decided(f"clinician-{no.node.lower()}", no.handle, yes=False)
    told |= {asker.contact(m.node, m.handle, yes=None) for m in (no, silent)}
    told.add(asker.contact("ES", "no-such-handle", yes=True, address="x"))
    # A stolen handle, played by another clinician with a case of their own, is nothing to them.
    thief = world.asker("ES", PATIENTS[1].id, "clinician-es")
    world.desk(foreign.node).decided(f"clinician-{foreign.node.lower()}", foreign.handle, yes=True, address="clinic")
    told.add(thief.contact(foreign.node, foreign.handle, yes=True, address="thief"))
    world.federation.clock[0] += HANDLE_LIFE + 1
    world.desk(silent.node).decided(f"clinician-{silent.node.lower()}", silent.handle, yes=True, address="late")
    assert world.desk(silent.node).decided(f"clinician-{silent.node.lower()}", silent.handle, yes=None) == Contact(
        "open"
    )
    assert told == {Contact("open")}


def test_a_withdrawn_case_is_not_found_and_a_new_description_counts(world: World) -> None:
    world.register("ES", Case("twin", "clinician-es", "es-1", QUERY))
    assert holders(world, ask(world))[0] == "twin"
    world.register("ES", Case("twin", "clinician-es", "es-1", Patient("twin", (LEAVES[250],))))
    assert "twin" not in holders(world, ask(world))
    world.register("ES", Case("twin", "clinician-es", "es-1", QUERY))
    world.desk("ES").book.withdraw("twin", "clinician-es")
    assert "twin" not in holders(world, ask(world))


def test_the_asker_makes_a_probability_of_what_was_told(world: World) -> None:
    merged = ask(world)
    asker = world.asker("FI", "my-own-case", "doctor")
    chances, parts = asker.chances(merged, MEASURE, RATES), asker.parts(merged, MEASURE, RATES)
    assert chances[0] == max(chances) and min(chances) > 0 and max(chances) < 1
    query = MEASURE.profile(minimise(QUERY, MEASURE, "both"))
    kept = Corpus.of(MEASURE, PATIENTS).rank(query, 10, RATES)
    best = best_score(query, RATES)
    for match, chance, (low, high) in zip(merged.matches, chances, parts, strict=True):
        assert chance == told_probability(match.score, match.evidence, query, RATES)
        true = [m for m in kept if round(m.score / best, 2) == match.score]
        assert any(low - 0.01 <= m.phenotype <= high + 0.01 for m in true)
    assert told_probability(0.0, "phenotype", query, RATES) == 0.0
    rising = [told_probability(s / 100, "gene", query, RATES) for s in range(101)]
    assert rising == sorted(rising)


def test_only_the_least_travels() -> None:
    rich = Patient("name of a person", tuple(LEAVES[150:190]), (LEAVES[3],), ("G1",), "family")
    least = minimise(rich, MEASURE, "both")
    assert (least.id, least.group, least.excluded) == ("asked", "", ()) and len(least.observed) == MOST_TERMS
    assert minimise(rich, MEASURE, "genes").observed == () and minimise(rich, MEASURE, "terms").genes == ()
    with pytest.raises(Invalid):
        minimise(Patient("x", ("HP:9999999",)), MEASURE, "both")


def test_a_level_bounds_what_a_node_reads_of_the_registration_too(world: World) -> None:
    """A node opens the letter with the registration in it: words that a question leaves out must not stand there."""
    patient = replace(QUERY, findings=(Finding("G1", "1:1000:A:G"),))
    world.register("FI", Case("my-own-case", "doctor", "fi-1", patient))
    asker, ring = world.asker("FI", "my-own-case", "doctor"), world.federation.members.ring("node")
    read = {
        level: read_registration(asker.registration(level), ring, now=world.clock())  # type: ignore[arg-type]
        for level in ("none", "genes", "terms", "both", "variants")
    }
    assert [level for level, told in read.items() if told.terms] == ["terms", "both", "variants"]
    assert [level for level, told in read.items() if told.genes] == ["genes", "both", "variants"]
    assert [level for level, told in read.items() if told.findings] == ["variants"]


def test_variants_travel_only_when_asked_to_and_are_told_as_such(world: World) -> None:
    same = Finding("G1", "1:1000:A:G", "", "missense_variant")
    patient = replace(QUERY, findings=(same,))
    world.register("FI", Case("my-own-case", "doctor", "fi-1", patient))
    world.register("ES", Case("twin", "clinician-es", "es-1", replace(patient, id="twin")))
    asker = world.asker("FI", "my-own-case", "doctor")
    told = asker.match(("ES",), MEASURE, RATES, level="genes").matches[0]
    assert told.evidence == "gene"
    told = asker.match(("ES",), MEASURE, RATES, level="variants").matches[0]
    assert (told.evidence, told.score) == ("variant", 1.0)
    world.desk("ES").book.withdraw("twin", "clinician-es")


def test_a_case_without_a_usable_word_is_refused_with_the_reason(world: World) -> None:
    with pytest.raises(Invalid, match="unknown"):
        world.register("FI", Case("bad", "doctor", "fi-1", Patient("bad", ("HP:9999999",))))
    with pytest.raises(Invalid, match="another clinician"):
        world.register("FI", Case("my-own-case", "clinician-fi", "fi-1", QUERY))


def test_without_a_contract_nobody_is_matched(world: World) -> None:
    research = world.federation.permit()
    contract, world.contract = world.contract, research
    merged = ask(world)
    assert set(merged.silent) == set(NODES)
    world.contract = contract
    assert not ask(world).silent


def test_the_door_lets_no_more_out_than_a_match() -> None:
    from federome.disclosure.door import release_matches

    assert release_matches([Handle("FI", "h234567", 0.56789, "gene")], top=5).handles[0].score == 0.57
    for bad in (Handle("FI", "case 7 of anna", 0.5, "gene"), Handle("FI", "h234567", 14.2, "gene")):
        with pytest.raises(Refused):
            release_matches([bad], top=5)
