"""Which definitions are too near to be told of beside earlier ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from federome.disclosure.definitions import Definition, is_near
from federome.disclosure.differencing import Members
from federome.model.release import Policy
from federome.model.variant import Region

SECRET, POLICY = b"sixteen bytes of secret", Policy(k_min=10)
MANY = 400
EVERYBODY = Members.of(np.ones(MANY, np.bool_))


def definition(
    words: str,
    people: object,
    among: Members = EVERYBODY,
    *,
    of: str = "carriers GENE",
    at: str = "",
    annotated: bool = False,
) -> Definition:
    numbers = np.array(sorted(people), np.int64)  # type: ignore[call-overload]
    places = tuple(map(Region.parse, at.split()))
    return Definition(of, words, among, numbers[among.holds(numbers)], places, annotated)


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


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (("carriers A", "1:100-200"), ("carriers B", "1:200-300"), True),
        (("carriers A", "1:100-200"), ("carriers B", "1:201-300"), False),
        (("carriers A", "1:100-200"), ("carriers B", "2:100-200"), False),
        (("carriers A", "1:100-200 X:5-9"), ("carriers B", "2:1-9 X:9-12"), True),
        (("carriers A", "1:100-200"), ("others A", "1:100-200"), False),
        (("carriers A", ""), ("carriers A", "1:100-200"), True),  # told before places were kept
    ],
)
def test_definitions_meet_by_place_or_name(one: tuple[str, str], other: tuple[str, str], meet: bool) -> None:
    a, b = (definition("w", range(50), of=of, at=at) for of, at in (one, other))
    assert a.meets(b) == b.meets(a) == meet


@pytest.mark.parametrize(("at", "meet"), [("1:101-200", True), ("1:140-260", True), ("1:160-260", False)])
def test_two_annotated_genes_of_one_scan_meet_where_they_share_half(at: str, meet: bool) -> None:
    """By other words, or where annotation does not decide what counts, one shared base is enough."""
    one = definition("w", range(50), of="carriers A", at="1:101-200", annotated=True)
    other = definition("w", range(50), of="carriers B", at=at, annotated=True)
    assert one.meets(other) == other.meets(one) == meet
    assert one.meets(replace(other, words="v")) and one.meets(replace(other, annotated=False))


@pytest.mark.parametrize("apart", [0, 1, 60])
def test_a_region_is_compared_with_a_gene_that_it_overlaps(apart: int) -> None:
    """That nobody has what lies between is not told either: of equal words too, where names differ."""
    gene = definition("narrow", range(50), at="1:100-200")
    region = definition("narrow", range(50 + apart), of="carriers 1:150-400", at="1:150-400")
    elsewhere = definition("narrow", range(50 + apart), of="carriers 1:300-400", at="1:300-400")
    assert near(region, gene) == (apart < 20)
    assert not near(elsewhere, gene)


def test_parts_of_a_region_and_the_region_do_not_tell_of_what_is_in_neither() -> None:
    """In whichever order: the parts do not overlap each other, and each is far from the whole."""
    parts = (
        definition("w", range(50), of="carriers 1:1-9", at="1:1-9"),
        definition("w", range(100, 150), of="carriers 1:11-19", at="1:11-19"),
    )
    whole = definition("w", [*range(50), *range(100, 150), 200], of="carriers 1:1-19", at="1:1-19")
    assert near(whole, *parts)
    assert near(parts[1], parts[0], whole)
    assert near(parts[0], whole, parts[1])
    assert not near(parts[1], parts[0])
    assert not near(whole, parts[0])
