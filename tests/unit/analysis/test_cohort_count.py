"""Counts of people against plain loops over rows, and what the total may tell about withheld cells."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.worlds import POPULATIONS, World, make_world, random_assignment, run, threshold_gate

from federome.analysis.algorithm import build
from federome.analysis.cohort_count import CohortCount, complement
from federome.errors import Invalid

Cell = tuple[str, str, str]


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(seed=8, people=300, variants=4)


def band(age: float, width: int) -> str:
    top = 90 // width * width
    if np.isnan(age):
        return "other"
    return f"{top}+" if age >= top else f"{int(age // width) * width}-{int(age // width) * width + width - 1}"


def by_hand(world: World, by: tuple[str, ...], populations: tuple[str, ...], width: int) -> Counter[Cell]:
    """Person by person: the cell where all of it is known, else ``other`` for all of it."""
    found: Counter[Cell] = Counter()
    view = world.view
    for sex, age, place in zip(view.labels("sex"), view.numbers("age"), view.labels("population"), strict=True):
        told = {
            "sex": str(sex) or "other",
            "age_band": band(float(age), width),
            "population": str(place) if place in populations else "other",
        }
        unknown = any(told[name] == "other" for name in by)
        cell = [("other" if unknown else told[name]) if name in by else "all" for name in told]
        found[cell[0], cell[1], cell[2]] += 1
    return found


@pytest.mark.parametrize("width", [10, 25, 90])
@pytest.mark.parametrize(
    "by", [("sex",), ("age_band",), ("population",), ("population", "sex"), ("sex", "age_band", "population")]
)
def test_cells_equal_a_loop_over_people(world: World, by: tuple[str, ...], width: int) -> None:
    populations = POPULATIONS[:3] if "population" in by else ()
    question = build("cohort-count", {"by": list(by), "populations": list(populations), "band_years": width})
    split = world.split(random_assignment(world, sites=3, seed=1))
    counts = run(question, split.sites)["counts"]
    wanted = by_hand(world, by, populations, width)
    found = {(str(r["sex"]), str(r["age_band"]), str(r["population"])): r["people"] for r in counts.records()}
    assert found.pop(("all", "all", "all")) == world.people
    assert {cell: people for cell, people in found.items() if people} == dict(wanted)
    assert sum(int(str(people)) for people in found.values()) == world.people


def test_age_bands_are_listed_in_order_and_the_last_is_open() -> None:
    categories = CohortCount(by=("age_band",))._categories("age_band")
    assert categories[:2] == ("0-9", "10-19")
    assert categories[-2:] == ("80-89", "90+")
    assert CohortCount(by=("age_band",), band_years=50)._categories("age_band") == ("0-49", "50+")


def test_only_the_columns_of_the_table_are_read() -> None:
    assert CohortCount().reads.columns == ()
    assert CohortCount().reads.variants is None
    assert CohortCount(by=("age_band", "sex")).reads.columns == ("age", "male")


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"by": ["sex", "sex"]}, "by"),
        ({"by": ["population"]}, "populations"),
        ({"populations": ["FIN"]}, "populations"),
        ({"by": ["population"], "populations": ["FIN", "FIN"]}, "populations"),
        ({"by": ["population"], "populations": [""]}, "populations"),
        ({"band_years": 0}, "band_years"),
        ({"cohort": {"age": {"low": 3, "high": 500}}}, "cohort.age.high"),
    ],
)
def test_contradictory_parameters_are_refused(values: dict[str, object], where: str) -> None:
    with pytest.raises(Invalid, match=where):
        build("cohort-count", values)


def test_a_small_cell_is_marked_and_never_zero(world: World) -> None:
    question = build("cohort-count", {"by": ["sex", "age_band"]})
    counts = run(question, [world.pooled()], gate=threshold_gate(10))["counts"]
    assert counts.rows == 1 + 2 * 10 + 1
    assert any(record["people"] is None for record in counts.records())
    assert all(record["people"] is None or int(str(record["people"])) >= 10 for record in counts.records())


def test_the_total_never_tells_a_remainder_below_the_threshold() -> None:
    # 3 people of unknown sex would follow from the total: the smaller of the two cells goes with them.
    assert complement(np.array([103, 40, 60, 0]), np.array([False, False, False, True])).tolist() == [
        False,
        True,
        False,
        True,
    ]
    # 30 people in cells that are small one by one follow from the total, which is as much as a cell that passed.
    hidden = np.array([False, False, *[True] * 6])
    assert complement(np.array([50, 20, *[0] * 6]), hidden).tolist() == hidden.tolist()


def test_the_total_of_a_run_hides_what_it_must() -> None:
    """People of unknown sex are few; the smaller of the two sexes goes with them, the total stays."""
    world = make_world(seed=9, people=300, variants=1)
    unknown = int((world.view.labels("sex") == "").sum())
    women, men = (int((world.view.labels("sex") == sex).sum()) for sex in ("female", "male"))
    assert 0 < unknown < 30 < min(women, men) < max(women, men)
    counts = run(build("cohort-count", {"by": ["sex"]}), [world.pooled()], gate=threshold_gate(30))["counts"]
    shown = {record["sex"]: record["people"] for record in counts.records()}
    assert shown["all"] == world.people
    assert shown["other"] is None
    assert {shown["female"], shown["male"]} == {None, max(women, men)}


@given(
    cells=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    k=st.integers(1, 15),
    zeros_shown=st.booleans(),
)
def test_the_remainder_is_nothing_or_as_large_as_a_cell_may_be(cells: list[int], k: int, zeros_shown: bool) -> None:
    people = np.array([sum(cells), *cells])
    hidden = (people < k) & ~(zeros_shown & (people == 0))
    after = complement(np.where(hidden, 0, people), hidden)
    assert (after >= hidden).all()
    if after[1:].any() and not after[0]:
        assert people[1:][after[1:]].sum() >= k
    assert after.sum() <= hidden.sum() + 1
