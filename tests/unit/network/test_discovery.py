"""The desk against counting one by one, and what it does not tell: few, nearly all, the difference of two groups."""

from __future__ import annotations

from datetime import UTC, datetime
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.desks import ATC, HPO, ICD, NOW, POOL, World, carries, fits, make_desk, make_people

from federome.disclosure.counted import tell
from federome.disclosure.differencing import Members
from federome.errors import Invalid, Missing, Refused
from federome.governance.consent import ConsentEvent
from federome.model.discovery import (
    Coded,
    Criterion,
    Every,
    Guest,
    Measured,
    Not,
    Operator,
    Similarity,
    Some,
    Sought,
    Worded,
)
from federome.model.release import Policy
from federome.model.span import Span
from federome.network.census import Numbers
from federome.network.discovery import NodeDesk
from federome.store import kernels

CLOSED = Policy(k_min=5, k_public=10, difference_min=12, membership_power=0.9)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_people(tmp_path_factory.mktemp("open"), seed=4, size=150)


@pytest.fixture(scope="module")
def desk(world: World) -> NodeDesk:
    return make_desk(world)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_people(tmp_path_factory.mktemp("closed"), seed=5, size=200, policy=CLOSED)


likeness = st.sampled_from(get_args(Similarity))
leaves: st.SearchStrategy[Criterion] = st.one_of(
    st.builds(Coded, st.sampled_from([f"ICD10:{code}" for code in (*ICD, "E1", "I2")]), st.just(("diagnosis_icd10",)), st.booleans(), likeness),  # noqa: E501
    st.builds(Coded, st.sampled_from([*HPO, "HP:0000118"]), st.just(("hpo_terms",)), st.booleans(), likeness),
    st.builds(Coded, st.sampled_from([f"ATC:{code}" for code in (*ATC, "C10AA", "C")]), st.just(("medication_atc",)), st.booleans()),  # noqa: E501
    st.builds(Measured, st.just("bmi_kg_m2"), st.sampled_from(["=", "!", "<", ">", "<=", ">="]), st.integers(18, 40).map(float)),  # noqa: E501
    st.builds(Measured, st.sampled_from(["age", "age_of_onset"]), st.sampled_from(["<", ">=", "="]), st.integers(15, 90).map(float)),  # noqa: E501
    st.builds(Worded, st.just("smoking"), st.sampled_from(["never", "f%", "%er", "c%t"])),
    st.builds(Worded, st.just("population"), st.sampled_from(["FIN", "IBS", "%"])),
    st.builds(Worded, st.just("sex"), st.sampled_from(["male", "female"])),
)  # fmt: skip
criteria = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=0, max_size=3).map(lambda of: Every(tuple(of))),
        st.lists(inner, min_size=1, max_size=3).map(lambda of: Some(tuple(of))),
        inner.map(Not),
    ),
    max_leaves=5,
)
places = st.one_of(
    st.none(),
    st.sampled_from(POOL).map(
        lambda site: (Span(site[0], site[1], site[1], starts=(site[1], site[1]), ref=site[2], alt=site[3]),)
    ),
    st.just((Span("1", 900, 1_000_000),)),
    st.just((Span("1", 901, 902), Span("X", types=frozenset({"SNP"})))),
    st.just((Span("1", types=frozenset({"INS", "DEL"}), shortest=2),)),
)


@settings(max_examples=50)
@given(asked=criteria, spans=places)
def test_counts_equal_counting_one_by_one(
    world: World, desk: NodeDesk, asked: Criterion, spans: tuple[Span, ...] | None
) -> None:
    meant = [p["id"] for p in world.people if fits(p, asked) is True and carries(p, spans)]
    sought = Sought("fi", asked, spans)
    assert desk.count(sought).count == len(meant)
    assert [person.id for person in desk.people(sought, 0, 1000)] == meant


@settings(max_examples=25)
@given(asked=criteria)
def test_variants_are_those_that_these_people_carry(world: World, desk: NodeDesk, asked: Criterion) -> None:
    span = Span("1", 900, 2_500_000)
    told = {
        (v.chromosome, v.position, v.ref, v.alt): v.people.count for v in desk.variants(Sought("fi", asked, (span,)))
    }
    wanted: dict[tuple[str, int, str, str], int] = {}
    for person in world.people:
        if fits(person, asked) is True:
            for site, dosage in person["genotypes"].items():
                if dosage > 0 and site[0] == "1" and span.holds(*site[1:]):
                    wanted[site] = wanted.get(site, 0) + 1
    assert told == wanted


@given(
    column=st.lists(st.sampled_from([float("nan"), float("-inf"), -1.5, 0.0, -0.0, 27.3, 27.300000000000001, 3e38])),
    bound=st.sampled_from([float("-inf"), -1.5, -0.0, 0.0, 1.0, 27.3, float("inf"), float("nan")]),
    operator=st.sampled_from(get_args(Operator)),
)
def test_ranks_compare_as_numbers_do(column: list[float], bound: float, operator: Operator) -> None:
    compare = {"=": eq, "!": ne, "<": lt, "<=": le, ">": gt, ">=": ge}[operator]
    ranks = Numbers.of(np.array(column, np.float64))
    assert ranks.within(operator, bound).tolist() == [value == value and compare(value, bound) for value in column]
    assert [ranks.number_of(at) for at in range(len(column))] == [None if v != v else v for v in column]


def test_of_two_columns_both_must_be_known_for_somebody_to_be_without(world: World, desk: NodeDesk) -> None:
    """A term that may stand in either column is not known to be absent where one of them is not known."""
    asked = Coded("HP:0001250", ("hpo_terms", "diagnosis_icd10"), descendants=False)
    without = [
        person["id"]
        for person in world.people
        if person["hpo_terms"] is not None
        and person["diagnosis_icd10"] is not None
        and "HP:0001250" not in person["hpo_terms"]
    ]
    assert desk.count(Sought("fi", Not(asked))).count == len(without)
    told = {person.id: person.values for person in desk.people(Sought("fi", Every()), 0, 1000)}
    assert all(("hpo_terms" in told[person["id"]]) == (person["hpo_terms"] is not None) for person in world.people)


def test_similar_terms(desk: NodeDesk) -> None:
    def count(similarity: str) -> int:
        term = Coded("HP:0002197", ("hpo_terms",), similarity=similarity)  # type: ignore[arg-type]
        return desk.count(Sought("fi", term)).count

    # {All, abnormality, nervous, seizure, generalized} against {All, abnormality, nervous, seizure}: 4 of 5
    both = Some((Coded("HP:0002197", ("hpo_terms",)), Coded("HP:0001250", ("hpo_terms",), descendants=False)))
    assert count("exact") < count("high") == desk.count(Sought("fi", both)).count
    assert count("high") < count("medium") <= count("low")


def test_an_unknown_term_is_named(desk: NodeDesk) -> None:
    with pytest.raises(Invalid, match="HP:9999999"):
        desk.count(Sought("fi", Coded("HP:9999999", ("hpo_terms",))))
    with pytest.raises(Invalid, match="ORPHA:1"):
        desk.count(Sought("fi", Coded("ORPHA:1", ("orpha",))))


def test_few_nearly_all_and_rounding() -> None:
    policy, everybody = Policy(k_min=20, k_public=20), Members.of(np.ones(1000, bool))
    for size in range(0, 1001, 1):
        some = Members.of(np.arange(1000) < size)
        told = tell(some, everybody, policy, secret=bytes(16))
        assert told.few == (size < 20)
        if told.few:
            assert told.count == 0
        elif size > 980:
            assert told.count == 1000  # one state, whether one lacks it or nineteen do
        else:
            assert told.step == 10 and told.count % 10 == 0 and abs(told.count - size) < 10 and told.count >= 20
    assert tell(Members.of(np.arange(1000) < 3), everybody, Policy(open_data=True), secret=bytes(16)).count == 3


def test_the_difference_of_two_groups_is_not_told(closed: World) -> None:
    """The attack: count a group, then the same group without somebody who is known by their birth year."""
    everybody, one_less = Every(), Measured("age", ">", min(p["age"] for p in closed.people))
    without = sum(p["age"] > min(q["age"] for q in closed.people) for p in closed.people)
    assert 0 < len(closed.people) - without < CLOSED.difference_min  # undefended, the answers differ by these few
    desk = make_desk(closed)
    assert desk.count(Sought("fi", everybody)).count > 0
    with pytest.raises(Refused) as refusal:
        desk.count(Sought("fi", one_less))
    assert refusal.value.codes == ("differencing",)
    # That nobody lies between is refused in the same words, but order and repeats are the same question.
    with pytest.raises(Refused) as nobody:
        desk.count(Sought("fi", Measured("age", ">=", 0)))
    assert nobody.value.message == refusal.value.message
    assert desk.count(Sought("fi", Every((everybody, everybody)))) == desk.count(Sought("fi", everybody))


def test_a_complement_does_not_tell_of_the_few_that_were_withheld(world: World, closed: World) -> None:
    """Who is known at all, less who is known not to: where counts are exact, that is who the few are."""

    def few(people: list[dict[str, Any]]) -> list[Measured]:
        asked = [Measured("ldl_c_mmol_l", ">=", bound / 10) for bound in range(50, 60)]
        return [each for each in asked if 0 < sum(fits(p, each) is True for p in people) < CLOSED.k_public]

    undefended, it = make_desk(world), few(world.people)[0]
    known, without = (undefended.count(Sought("fi", each)).count for each in (Some((it, Not(it))), Not(it)))
    assert known - without == sum(fits(p, it) is True for p in world.people) > 0
    desk, it = make_desk(closed), few(closed.people)[0]
    assert desk.count(Sought("fi", it)).few
    desk.count(Sought("fi", Some((it, Not(it)))))
    with pytest.raises(Refused) as refused:
        desk.count(Sought("fi", Not(it)))
    assert refused.value.codes == ("differencing",)


def test_nobody_is_told_of_one_by_one_where_data_are_closed(closed: World) -> None:
    desk = make_desk(closed)
    with pytest.raises(Refused):
        desk.people(Sought("fi"), 0, 10)
    with pytest.raises(Missing):
        desk.count(Sought("fi", person="fi-3"))
    with pytest.raises(Missing):
        desk.count(Sought("fi", person="no such person"))


def test_tiers(closed: World) -> None:
    somebody, researcher = Guest(), Guest("r", registered=True)
    holder = Guest("h", datasets=frozenset({"fi"}))
    for tier, allowed in (("public", (1, 1, 1)), ("registered", (0, 1, 1)), ("controlled", (0, 0, 1))):
        desk = make_desk(closed, tier=tier)  # type: ignore[arg-type]
        for guest, may in zip((somebody, researcher, holder), allowed, strict=True):
            if may:
                assert desk.count(Sought("fi", guest=guest)).count
            else:
                with pytest.raises(Refused):
                    desk.count(Sought("fi", guest=guest))


def test_questions_about_genotypes_use_up_a_budget(tmp_path: Path) -> None:
    strict = Policy(k_min=5, k_public=10, difference_min=1, membership_power=0.1)
    world = make_people(tmp_path, seed=6, size=200, policy=strict)
    desk = make_desk(world)
    first = Sought("fi", Every(), (Span("1", 900, 900),))
    told = desk.count(first)
    refused: set[str] = set()
    for at, person in enumerate(world.people[:60]):
        asked = Every((Measured("bmi_kg_m2", ">", 18 + at % 9), Measured("age", ">", person["age"] % 40)))
        try:
            desk.count(Sought("fi", asked, (Span("1", 900, 900 + 40_000 * at),)))
        except Refused as refusal:
            refused.update(refusal.codes)
    assert "budget_exhausted" in refused
    assert desk.count(first) == told  # what was told already stays free


def test_other_questions_about_the_same_people_are_answered_too(closed: World) -> None:
    desk = make_desk(closed)
    nobody = (Measured("bmi_kg_m2", ">", 90.0), Measured("age", ">", 140.0))
    told = [desk.count(Sought("fi", asked, spans)) for asked in nobody for spans in (None, (Span("1", 900, 901),))]
    told.append(desk.count(Sought("fi", Worded("sex", "male"), (Span("1", 5, 6),))))
    assert all(each.few for each in told)


def test_consent_is_as_it_stands_now(tmp_path: Path) -> None:
    events: list[ConsentEvent] = []
    desk = make_desk(make_people(tmp_path, seed=7, size=60), events=events)
    assert desk.count(Sought("fi")).count == 60
    events.append(ConsentEvent("fi-3", "withdraw", datetime.fromtimestamp(NOW - 1, UTC)))
    assert desk.count(Sought("fi")).count == 59
    assert (
        make_desk(make_people(tmp_path / "b", seed=7, size=60), consent="allele-frequency").count(Sought("fi")).count
        == 0
    )


def test_rooms_name_terms_of_enough_people_only(closed: World) -> None:
    [room] = make_desk(closed).rooms()
    assert room.columns["hpo_terms"] == "codes" and room.columns["age_of_onset"] == "number"
    assert "smoking" in room.columns and "ancestry" not in room.columns
    assert {("ICD10:" + code) for code in ICD} >= {t.id for t in room.terms if t.column == "diagnosis_icd10"}
    for term in room.terms:
        having = sum(
            term.id.removeprefix("ICD10:").removeprefix("ATC:") in (p[term.column] or ()) for p in closed.people
        )
        assert having >= CLOSED.k_public
    assert room.people % 5 == 0 and ("GENE1", "1", 900, 1_000_000) in room.genes


def test_what_cannot_be_paid_is_not_put_on_record(tmp_path: Path) -> None:
    """Else somebody without a budget could fill the audit until everybody else is refused."""
    policy = Policy(k_min=5, k_public=10, difference_min=12, membership_power=0.06)
    desk = make_desk(make_people(tmp_path, seed=21, size=200, policy=policy))
    told = desk._told("fi")
    answered = refused = 0
    for bound in range(18, 40):
        before = len(told.groups(100))
        try:
            answer = desk.count(Sought("fi", Measured("bmi_kg_m2", ">=", float(bound))))
            answered += not answer.few
        except Refused as refusal:
            if "budget_exhausted" in refusal.codes:
                refused += 1
                assert len(told.groups(100)) == before
    assert answered and refused


def singled(tmp_path: Path, power: float) -> tuple[NodeDesk, list[Span], list[Span]]:
    """A desk over closed data, places that one person carries a variant at, and places where nobody does."""
    policy = Policy(k_min=5, k_public=10, difference_min=1, membership_power=power)
    world = make_people(tmp_path, seed=8, size=60, policy=policy)
    alone = [
        Span(site[0], site[1], site[1], (site[1], site[1]), None, site[2], site[3])
        for site in POOL
        if site[0] == "1" and 0 < sum(p["genotypes"].get(site, 0) > 0 for p in world.people) < 5
    ]
    absent = [Span("1", 5_000 + 7 * at, 5_000 + 7 * at, (5_000 + 7 * at,) * 2, None, "A", "G") for at in range(40)]
    assert alone and not any(carries(p, (span,)) for p in world.people for span in absent)
    return make_desk(world), alone, absent


def test_nobody_and_few_are_told_alike_and_cost_alike(tmp_path: Path) -> None:
    """Undefended, an answer that names nobody was the same each time and so free: who had nothing left to spend was
    told of nobody, and refused where there is somebody.
    """
    desk, alone, absent = singled(tmp_path, 0.15)
    account = f"people:public:{desk.rooms()[0].release}"

    def price(span: Span) -> float:
        before = desk._told("fi").spent(account)
        assert desk.count(Sought("fi", spans=(span,))).few
        return desk._told("fi").spent(account) - before

    paid = [price(absent[0]), price(alone[0]), price(absent[1])]
    assert paid[0] > 0 and paid == pytest.approx([paid[0]] * 3)
    assert price(absent[0]) == price(alone[0]) == 0  # the same question again
    for span in absent[2:]:
        try:
            desk.count(Sought("fi", spans=(span,)))
        except Refused:
            break
    for span in (*alone[1:2], absent[-1]):
        with pytest.raises(Refused, match="budget"):
            desk.count(Sought("fi", spans=(span,)))


def test_nobody_and_few_take_the_same_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time tells of a variant that one person carries where a record is read for it, and none where nobody does."""
    desk, alone, absent = singled(tmp_path, 1.0)
    read = kernels.any_carrier
    records: list[int] = []

    def counting(file: Any, variants: Any, mask: Any = None) -> Any:
        records.append(len(variants))
        return read(file, variants, mask)

    monkeypatch.setattr(kernels, "any_carrier", counting)
    work = []
    for span in (alone[0], absent[0]):
        desk.count(Sought("fi", spans=(span,)))
        work.append(records.copy())
        records.clear()
    assert work[0] == work[1] and 1 in work[0]
