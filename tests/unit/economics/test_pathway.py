"""Micro-costing: totals by hand, laws carried through, countries, and what is refused."""

from __future__ import annotations

import json

import pytest
from scipy import stats

from federome.cli.econ import cost
from federome.economics.countries import country, money
from federome.economics.pathway import evaluate_pathway, find_pathway, localise, read_pathway, shipped
from federome.errors import Invalid

SMALL = """
format = 1
id = "small"
title = "A small one"
unit = "sample"
currency = "EUR"
price_year = 2022
[sources]
own = "For this test"
[steps.laboratory]
title = "Laboratory"
times = "1 / (1 - failed)"
equipment = "yearly / samples"
[steps.laboratory.steps.library]
title = "Library"
staff = "hours * wage"
consumables = 30
[steps.laboratory.steps.run]
title = "Run"
times = 2
consumables = 100
[steps.report]
title = "Report"
staff = "wage"
[parameters.failed]
kind = "probability"
says = "Failed"
value = 0.2
source = "own"
[parameters.samples]
kind = "number"
says = "Samples a year"
value = 400
source = "own"
[parameters.price]
kind = "cost"
says = "Sequencer"
value = 100000
source = "own"
[parameters.yearly]
kind = "cost"
says = "Sequencer a year"
formula = "price / 5"
[parameters.hours]
kind = "number"
says = "Hours"
value = 1.5
source = "own"
[parameters.wage]
kind = "cost"
says = "Wage"
value = 40
distribution = { gamma = { mean = 40, sd = 8 } }
source = "own"
"""


def test_a_tree_by_hand() -> None:
    found = evaluate_pathway(read_pathway(SMALL, "small.toml"))
    laboratory = (100_000 / 5 / 400 + 1.5 * 40 + 30 + 2 * 100) / 0.8
    assert found.total == pytest.approx(laboratory + 40, rel=1e-12)
    assert found.categories() == pytest.approx(
        {"staff": 60 / 0.8 + 40, "consumables": 230 / 0.8, "equipment": 50 / 0.8}, rel=1e-12
    )
    told = [(each.name, each.depth, each.total) for each in found.steps]
    expected = [
        ("laboratory", 0, laboratory), ("library", 1, 90 / 0.8), ("run", 1, 200 / 0.8), ("report", 0, 40.0),
    ]  # fmt: skip
    assert [each[:2] for each in told] == [each[:2] for each in expected]
    assert [each[2] for each in told] == pytest.approx([each[2] for each in expected], rel=1e-12)
    assert found.interval is None


def test_the_interval_and_the_driver_follow_the_law() -> None:
    found = evaluate_pathway(read_pathway(SMALL, "small.toml"), draws=20_000, seed=2)
    # The wage alone is uncertain and enters 1.5 / 0.8 + 1 times, so that the interval is known.
    law = stats.gamma(25, scale=1.6)
    ends = [(340 - 60) / 0.8 + end * (1.5 / 0.8 + 1) for end in law.ppf([0.025, 0.975])]
    assert found.interval is not None
    assert found.interval == pytest.approx(ends, rel=0.01)
    ((name, low, high),) = found.drivers
    assert name == "wage"
    assert (low, high) == pytest.approx(ends, rel=1e-9)


@pytest.mark.parametrize("name", list(shipped()))
def test_shipped_pathways_add_up_and_name_their_sources(name: str) -> None:
    pathway = find_pathway(name)
    found = evaluate_pathway(pathway, draws=200)
    assert sum(found.categories().values()) == pytest.approx(found.total, rel=1e-12)
    assert found.interval is not None
    assert found.interval[0] < found.total < found.interval[1]
    constants = [each for each in pathway.parameters.values() if each.value is not None]
    assert all(pathway.sources[each.source] for each in constants)
    assert not any(each.verified for each in constants), "placeholders are flagged as such"
    assert {driver for driver, _, _ in found.drivers} == {each.name for each in constants}, "each moves the total"


def test_shipped_pathways_stand_in_a_believable_order() -> None:
    """Consumables are most of a genome's cost, as the micro-costing says that gave the parts."""
    found = {name: evaluate_pathway(find_pathway(name)) for name in shipped()}
    assert found["panel"].total < found["short-read"].total < found["long-read"].total
    assert found["reprocessing"].total < found["short-read"].total
    for name in ("short-read", "long-read"):
        assert found[name].categories()["consumables"] > 0.5 * found[name].total


def test_a_country_converts_money_and_nothing_else() -> None:
    pathway = find_pathway("reprocessing")
    moved = localise(pathway, country("SE"))
    factor = money().factor("EUR", 2022, "SEK", moved.price_year, where="")
    assert (moved.currency, moved.parameters["core_hours"].value) == ("SEK", pathway.parameters["core_hours"].value)
    assert evaluate_pathway(moved).total == pytest.approx(evaluate_pathway(pathway).total * factor, rel=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "told", "place"),
    [
        ('staff = "wage"', 'staff = "wages"', "'wages' is not defined", "line 24, steps.report.staff"),
        ('staff = "wage"', 'staff = "-wage"', "negative", "steps.report.staff"),
        ('staff = "wage"', 'stuff = "wage"', "costs or steps", "steps.report"),
        ('title = "Report"', 'title = "Report"\nextra = 1', "nothing is known", "steps.report.extra"),
        ('formula = "price / 5"', 'formula = "yearly + price"', "circle", "parameters.yearly"),
        ("times = 2", 'times = "cycle"', "'cycle' is not defined", "times"),
        ('times = "1 / (1 - failed)"', 'times = "failed - 1"', "negative", "steps.laboratory.times"),
        ('source = "own"\n[parameters.wage]', 'source = "none"\n[parameters.wage]', "not listed", "parameters.hours"),
        ("format = 1", "format = 2", "format 1 is expected", "format"),
    ],
)
def test_what_is_refused(old: str, new: str, told: str, place: str) -> None:
    assert old in SMALL
    with pytest.raises(Invalid, match=told) as raised:
        evaluate_pathway(read_pathway(SMALL.replace(old, new, 1), "small.toml"))
    assert "small.toml" in raised.value.where
    assert place in raised.value.where


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    cost(["short-read", "panel"], country="GB", draws=100)
    text = capsys.readouterr().out
    assert "GBP per genome" in text
    assert "GBP per panel" in text
    assert "not verified in their source: 20 of 20" in text
    cost(["reprocessing"], as_json=True)
    (told,) = json.loads(capsys.readouterr().out)["pathways"]
    assert told["total"] == evaluate_pathway(find_pathway("reprocessing")).total
    with pytest.raises(Invalid, match="no pathway"):
        cost(["short"])
