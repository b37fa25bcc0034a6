"""Countries: money over years and borders, discounting, and the four own models in all of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from federome.economics.countries import adapt, countries, country, money, unverified
from federome.economics.evaluate import totals
from federome.economics.read import find_model, read_model, shipped
from federome.economics.sensitivity import scenarios
from federome.economics.uncertainty import draw
from federome.errors import Invalid

OWN = ("rare-disease-genome-first", "prs-statins", "pgx-panel", "brca-cascade")


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("code", sorted(countries()))
def test_own_models_run_in_every_country(name: str, code: str) -> None:
    profile = country(code)
    model = adapt(find_model(name), profile)
    found = totals(model)
    assert (found.of(model.cost.name) > 0).all()
    assert np.isfinite(found.values).all()
    assert model.currency == model.cost.unit == profile.currency
    assert model.effect.discount == profile.discount_effect


@pytest.mark.parametrize("name", sorted(shipped()))
def test_means_over_draws_are_near_the_base_case(name: str) -> None:
    """A law whose mean is far from its value would show: costs and effects stay within a tenth."""
    model = find_model(name)
    drawn = totals(model, draw(model, 3000, seed=2)).values.mean(axis=2)
    assert drawn == pytest.approx(totals(model).values[:, :, 0], rel=0.1)


@pytest.mark.parametrize("name", OWN)
def test_scenarios_change_something(name: str) -> None:
    found = scenarios(find_model(name))
    assert len(found) > 1
    assert all(found[each] != found["base"] for each in found if each != "base")


def test_every_constant_has_a_source_and_facts_say_whether_they_were_checked() -> None:
    for name in shipped():
        model = find_model(name)
        assert all(each.source in model.sources for each in model.parameters.values() if each.value is not None)
    assert all(fact.source for each in countries().values() for fact in each.facts)
    assert list(unverified(country("NL")))


def test_money_moves_through_years_and_borders() -> None:
    rates = money()
    year = rates.parity_year
    assert rates.factor("EUR", 2015, "EUR", 2022, where="x") == pytest.approx(116.8 / 100)
    assert rates.factor("EUR", year, "USD", year, where="x") == pytest.approx(1 / 0.70)
    there = rates.factor("GBP", 2018, "SEK", 2023, where="x")
    assert there == pytest.approx(121.7 / 105.9 * 8.7 / 0.68 * 403.7 / 371.9)
    back = rates.factor("SEK", 2023, "GBP", 2018, where="x")
    assert there * back == pytest.approx(1)


def test_costs_are_converted_once_and_nothing_else_is() -> None:
    model = find_model("pgx-panel")
    moved = adapt(model, country("SE"))
    factor = money().factor("EUR", 2022, "SEK", 2023, where="x")
    for name, each in model.parameters.items():
        if each.value is not None:
            assert moved.parameters[name].value == pytest.approx(each.value * (factor if each.money else 1)), name
    law = moved.parameters["c_panel"].distribution
    assert law is not None
    assert law.mean == pytest.approx(150 * factor)
    undiscounted = totals(dataclasses.replace(moved, outcomes=model.outcomes)).of("cost")
    assert undiscounted == pytest.approx(totals(model).of("cost") * factor)


def test_a_country_s_own_price_is_taken_as_it_stands() -> None:
    own = """
[countries.NL.c_panel]
kind = "cost"
says = "Panel, Dutch tariff"
value = 222
source = "assumed"
"""
    model = adapt(read_model(shipped()["pgx-panel"] + own, "pgx-panel.toml"), country("NL"))
    assert model.parameters["c_panel"].value == 222


def test_unknown_countries_currencies_and_years() -> None:
    with pytest.raises(Invalid, match="no profile of 'XX'"):
        country("XX")
    text = shipped()["pgx-panel"]
    for old, new, told in (
        ('currency = "EUR"', 'currency = "DKK"', "'DKK' is not known"),
        ("price_year = 2022", "price_year = 1999", "prices of 1999"),
    ):
        model = read_model(text.replace(old, new, 1), "mine.toml")
        with pytest.raises(Invalid, match=told) as caught:
            adapt(model, country("NL"))
        assert caught.value.where.startswith("mine.toml")


def test_the_norwegian_rate_falls_in_steps() -> None:
    factor = country("NO").discount_effect.factor(np.array([0.0, 1, 40, 41, 75, 76]))
    assert factor == pytest.approx(
        [1, 1.04**-1, 1.04**-40, 1.04**-40 / 1.03, 1.04**-40 * 1.03**-35, 1.04**-40 * 1.03**-35 / 1.02]
    )
