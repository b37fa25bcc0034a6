"""Canonical words: equal ones mean equal people whoever they are, and what says nothing new makes no difference."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import product

import pytest

from federome.model.cohort import AgeBand, AnyOf, Carrier, Cohort, Diagnosis, Measurement
from federome.model.discovery import Every, Measured, Not, Some, Sought, Worded
from federome.model.span import Span
from federome.model.wording import Wording, canonical, narrowed, sought_words

SECRET = bytes(32)


@dataclass(frozen=True)
class Person:
    """Somebody, of whom codes or a value may be unknown."""

    sex: str
    age: int
    population: str
    codes: frozenset[str] | None
    bmi: float | None


def holds(condition: Diagnosis | Measurement | AnyOf, person: Person) -> bool | None:
    """Three-valued, as nodes read conditions."""
    match condition:
        case Diagnosis(code=code, descendants=below, present=present):
            if person.codes is None:
                return None
            wanted = code.upper().removeprefix("ICD10:").replace(".", "")
            return present == any(each.startswith(wanted) if below else each == wanted for each in person.codes)
        case Measurement(low=low, high=high):
            if person.bmi is None:
                return None
            return (low is None or person.bmi >= low) and (high is None or person.bmi <= high)
        case AnyOf(present=present):
            found = [holds(each, person) for each in (*condition.diagnoses, *condition.measurements)]
            some = True if True in found else None if None in found else False
            return None if some is None else some == present


def meets(cohort: Cohort, person: Person) -> bool:
    return (
        cohort.sex in (None, person.sex)
        and (cohort.age is None or cohort.age.low <= person.age <= cohort.age.high)
        and (not cohort.populations or person.population in cohort.populations)
        and all(holds(each, person) is True for each in (*cohort.diagnoses, *cohort.measurements, *cohort.any_of))
    )


EVERYBODY = [
    Person(sex, age, population, codes, bmi)
    for sex, age, population, codes, bmi in product(
        ("female", "male"),
        (10, 40),
        ("FIN", "IBS"),
        (
            None,
            frozenset[str](),
            frozenset({"E11"}),
            frozenset({"E119"}),
            frozenset({"E119", "C56"}),
            frozenset({"E10"}),
        ),
        (None, 20.0, 25.0, 31.0),
    )
]


def drawn(rng: random.Random) -> Cohort:
    def diagnosis() -> Diagnosis:
        code = rng.choice(["E1", "E11", "icd10:e11", "E11.9", "C56", "e10"])
        return Diagnosis(code, descendants=rng.random() < 0.7, present=rng.random() < 0.7)

    def measurement() -> Measurement:
        return Measurement("bmi", *(rng.choice([None, 20, 25.0, 30, 31]) for _ in range(2)))

    def some() -> AnyOf:
        codes = tuple(diagnosis() for _ in range(rng.randrange(3)))
        ranges = tuple(measurement() for _ in range(rng.randrange(0 if codes else 1, 3)))
        return AnyOf(codes, ranges, present=rng.random() < 0.7)

    return Cohort(
        sex=rng.choice([None, None, "female", "male"]),
        age=rng.choice([None, AgeBand(0, 50), AgeBand(30, 70)]),
        populations=rng.choice([(), ("FIN",), ("IBS", "FIN"), ("FIN", "IBS", "FIN")]),
        diagnoses=tuple(diagnosis() for _ in range(rng.randrange(3))),
        measurements=tuple(measurement() for _ in range(rng.randrange(3))),
        any_of=tuple(some() for _ in range(rng.randrange(3))),
    )


def test_canonical_conditions_mean_the_same_people_whoever_they_are() -> None:
    rng = random.Random(7)
    shorter = 0
    for _ in range(120):
        cohort = drawn(rng)
        short = canonical(cohort)
        assert [meets(short, person) for person in EVERYBODY] == [meets(cohort, person) for person in EVERYBODY], cohort
        assert canonical(short) == short
        shorter += len(short.any_of) < len(cohort.any_of)
    assert shorter > 8


E11, E119 = Diagnosis("E11"), Diagnosis("E11.9")
SAME = {
    "order and repeats": (Cohort(diagnoses=(E11, Diagnosis("C56"), E11)), Cohort(diagnoses=(Diagnosis("C56"), E11))),
    "spelling": (Cohort(diagnoses=(Diagnosis("icd10:e11.9"),)), Cohort(diagnoses=(E119,))),
    "implied code": (Cohort(diagnoses=(E11, E119)), Cohort(diagnoses=(E119,))),
    "implied absence": (
        Cohort(diagnoses=(replace(E11, present=False), replace(E119, present=False))),
        Cohort(diagnoses=(replace(E11, present=False),)),
    ),
    "ranges": (
        Cohort(measurements=(Measurement("bmi", 25), Measurement("bmi", 20, 30))),
        Cohort(measurements=(Measurement("bmi", 25.0, 30.0),)),
    ),
    "one alternative": (Cohort(any_of=(AnyOf((E11, E119)),)), Cohort(diagnoses=(E11,))),
    "implied alternatives": (
        Cohort(diagnoses=(E119,), any_of=(AnyOf((E11,), (Measurement("bmi", 30),)),)),
        Cohort(diagnoses=(E119,)),
    ),
    "touching ranges": (
        Cohort(any_of=(AnyOf(measurements=(Measurement("bmi", 20, 25), Measurement("bmi", 25, 30))),)),
        Cohort(measurements=(Measurement("bmi", 20, 30),)),
    ),
    "carriers": (
        Cohort(carriers=(Carrier(region="1:1,000-2,000", consequences=("b", "a")),)),
        Cohort(carriers=(Carrier(region="1:1000-2000", consequences=("a", "b", "a")),)),
    ),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=[*SAME])
def test_what_says_nothing_new_makes_no_difference(one: Cohort, other: Cohort) -> None:
    assert Wording.of(["b", "a"], one).token(SECRET) == Wording.of(["a", "b", "a"], other).token(SECRET)


def test_other_conditions_datasets_and_secrets_are_other_words() -> None:
    cut = AnyOf(measurements=(Measurement("bmi", None, 29.9), Measurement("bmi", 30.1)))
    cohorts = [
        Cohort(),
        Cohort(sex="female"),
        Cohort(age=AgeBand(0, 130)),
        Cohort(any_of=(cut,)),
        Cohort(diagnoses=(E11,)),
    ]
    words = [Wording.of(["a"], each) for each in cohorts]
    words += [Wording.of(["a", "b"], Cohort()), Wording.of(["a"], Cohort(), "row")]
    assert len({each.token(SECRET) for each in words} | {words[0].token(b"another")}) == len(words) + 1


def test_what_all_datasets_declare_of_everybody_says_nothing() -> None:
    cohort = Cohort(sex="female", populations=("FIN",))
    women = {"sex": "female", "population": "FIN"}
    assert Wording.of(["a"], cohort, constants=[women]) == Wording.of(["a"], Cohort())
    assert Wording.of(["a", "b"], cohort, constants=[women, {"population": "FIN"}]).cohort == Cohort(sex="female")
    known = Cohort(measurements=(Measurement("bmi"), Measurement("age", 5)))
    assert Wording.of(["a"], known, complete=["bmi", "age"]).cohort == Cohort(measurements=(Measurement("age", 5.0),))


def test_what_nobody_can_be_by_declaration_is_nobody_in_any_words() -> None:
    finns, nobody = {"population": "FIN"}, Wording(("a",), more=("nobody",))
    for cohort in (Cohort(populations=("IBS",)), Cohort(sex="male", populations=("IBS", "TSI"))):
        assert Wording.of(["a"], cohort, constants=[finns]) == nobody != Wording.of(["a"], cohort, constants=[{}])
        assert Wording.of(["a", "b"], cohort, constants=[finns, {}]).cohort == canonical(cohort)


def test_words_that_make_others_make_them_whoever_people_are() -> None:
    for cohort in (Cohort(), Cohort(sex="male"), Cohort(age=AgeBand(20, 45)), Cohort(populations=("FIN", "IBS"))):
        whole = {person for person in EVERYBODY if meets(cohort, person)}
        pairs = [*Wording.of(["a"], cohort).splits()]
        assert pairs
        for pair in pairs:
            one, other = ({person for person in EVERYBODY if meets(each.cohort, person)} for each in pair)
            assert whole in (one | other, one - other, other - one)


def test_a_group_has_the_words_of_the_cohort_with_its_condition() -> None:
    assert narrowed(Cohort(age=AgeBand(20, 70)), sex="male", age=AgeBand(60, 90), population="FIN") == Cohort(
        sex="male", age=AgeBand(60, 70), populations=("FIN",)
    )
    assert narrowed(Cohort(), known="bmi") == Cohort(measurements=(Measurement("bmi"),))
    assert narrowed(Cohort(sex="male"), sex="female") is None
    assert narrowed(Cohort(age=AgeBand(0, 9)), age=AgeBand(10, 19)) is None
    assert narrowed(Cohort(populations=("FIN",)), population="IBS") is None


def test_a_beacons_questions() -> None:
    old, older, human = Measured("age", ">=", 40), Measured("age", ">=", 60), Worded("sample_organism", "human")

    def token(*of: object, spans: tuple[Span, ...] | None = None) -> bytes:
        words = sought_words(Sought("fi", Every(of), spans), {"sample_organism": "human"})  # type: ignore[arg-type]
        return words.token(SECRET)

    span = Span("1", 5, 9, types=frozenset({"SNP", "DEL"}))
    assert token() == token(human) == token(Every((human, human))) == Wording(("fi",)).token(SECRET)
    assert token(old, older) == token(Every((older,)), human) == token(Not(Not(older))) == token(older)
    assert token(Some((old, older))) == token(old) != token(older)
    assert token(Some((older, human))) == token()
    assert token(old, spans=(span,)) != token(old) != token(Not(old))
    assert token(spans=(span, Span("2"))) == token(spans=(Span("2"), span))
