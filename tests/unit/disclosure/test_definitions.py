"""Which definitions are too near to be told of beside earlier ones."""

from __future__ import annotations

import numpy as np
import pytest

from federome.disclosure.definitions import Definition, is_near
from federome.disclosure.differencing import Members
from federome.model.release import Policy

SECRET, POLICY = b"sixteen bytes of secret", Policy(k_min=10)
MANY = 400
EVERYBODY = Members.of(np.ones(MANY, np.bool_))


def definition(words: str, people: object, among: Members = EVERYBODY) -> Definition:
    numbers = np.array(sorted(people), np.int64)  # type: ignore[call-overload]
    return Definition("GENE", words, among, numbers[among.holds(numbers)])


def near(new: Definition, *earlier: Definition) -> bool:
    return is_near(new, earlier, secret=SECRET, policy=POLICY)


@pytest.mark.parametrize("people", [0, 1, 64, 301])
def test_who_is_in_a_packed_set(people: int) -> None:
    mask = np.random.default_rng(people).random(people) < 0.5
    asked = np.arange(400)
    assert Members.of(mask).holds(asked).tolist() == [each < people and bool(mask[each]) for each in range(400)]


@pytest.mark.parametrize("apart", [0, 1, 9, 21, 60])
def test_another_definition_is_told_from_twice_the_threshold_on(apart: int) -> None:
    narrow = definition("narrow", range(50))
    assert near(definition("wide", range(50 + apart)), narrow) == (apart < 20)
    assert not near(definition("narrow", range(50)), narrow)  # the same again


def test_only_people_of_both_questions_count() -> None:
    some = Members.of(np.arange(MANY) < 100)
    others = Members.of(np.arange(MANY) >= 100)
    narrow = definition("narrow", range(90, 200), some)
    assert not near(definition("narrow", range(90, 200)), narrow)  # of more people: the cohorts' own audit
    assert near(definition("wide", range(89, 300)), narrow)  # far apart, but not among those
    assert near(definition("wide", range(90, 300), others), narrow, definition("narrow", range(90, 200)))
    assert not near(definition("narrow", range(90, 200), others), narrow)


def test_the_same_definition_of_changed_data_is_audited() -> None:
    assert near(definition("narrow", range(51)), definition("narrow", range(50)))


def test_four_definitions_do_not_tell_of_what_only_one_class_and_frequency_has() -> None:
    """Loss of function or any change, very rare or rare: all pairs are far apart, and one carrier is in one only."""
    loss_rarest, loss, rarest = range(40), range(80), [*range(40), *range(100, 140)]
    everything = [*range(80), *range(100, 140), 200]
    corners = [
        definition("loss .001", loss_rarest),
        definition("loss .01", loss),
        definition("any .001", rarest),
        definition("any .01", everything),
    ]
    for last in range(4):
        others = [each for at, each in enumerate(corners) if at != last]
        assert all(not near(corners[last], other) for other in others)
        assert near(corners[last], *others)
    apart = definition("any .01", [*everything, *range(300, 340)])
    assert not near(apart, *corners[:3])
