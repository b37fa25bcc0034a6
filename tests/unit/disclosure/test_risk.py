"""The risk meter: prices from the literature, known before a question is asked, and told in plain words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from federome.disclosure.risk import (
    MISCALLED,
    Question,
    _at_most,
    _exactly,
    _last,
    _more,
    explain,
    power,
    price,
    rare_price,
    rho_at,
    worst_rare_price,
)
from federome.errors import Invalid


@pytest.mark.parametrize(
    ("sites", "people", "expected"),
    # ../shared/reference/research/security.md §1.2: by the formula at N = 10 000 and a million, 100 000 sites
    [(100_000, 10_000, 0.94), (100_000, 1_000_000, 0.09), (0, 1_000, 0.05), (125, 1_000, 0.10)],
)
def test_power_is_that_of_the_law(sites: int, people: int, expected: float) -> None:
    assert power(sites / people) == pytest.approx(expected, abs=0.006)


def test_a_limit_is_the_price_at_which_power_reaches_it() -> None:
    for limit in (0.06, 0.1, 0.5, 0.99):
        assert power(rho_at(limit)) == pytest.approx(limit)
    assert rho_at(0.10) == pytest.approx(1 / 8, rel=0.06)
    assert power(rho_at(1)) == 1.0
    for wrong in (0.05, 1.1):
        with pytest.raises(Invalid):
            rho_at(wrong)


def slow_price(share: float, people: int, at_least: int, counted: bool) -> float:
    """The divergence, state by state, from all numbers of carriers there can be."""

    def answer(carriers: int) -> int:
        return -1 if carriers < at_least else carriers if counted else 0

    without: dict[int, float] = {}
    member: dict[int, float] = {}
    for carriers in range(people + 1):
        without[answer(carriers)] = without.get(answer(carriers), 0) + binom.pmf(carriers, people, share)
        if carriers:
            chance = binom.pmf(carriers - 1, people - 1, share)
            member[answer(carriers)] = member.get(answer(carriers), 0) + chance
    total = 0.0
    for state, chance in without.items():
        told = MISCALLED * chance + (1 - MISCALLED) * member.get(state, 0.0)
        if chance > 1e-14 and told > 0:
            total += (told - chance) * math.log(told / chance)
    return total


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("at_least", [1, 2, 10])
@pytest.mark.parametrize("share", [0.0005, 0.005, 0.02])
def test_a_rare_site_costs_what_its_answers_tell_apart(share: float, at_least: int, counted: bool) -> None:
    fast = rare_price(share, 400, at_least=at_least, counted=counted)
    assert fast == pytest.approx(slow_price(share, 400, at_least, counted), rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("share", [0.0, 1e-6, 0.003, 0.5, 1.0])
@pytest.mark.parametrize("n", [0, 1, 7, 5_000])
def test_chances_are_those_of_the_binomial_distribution(n: int, share: float) -> None:
    numbers = np.unique(np.clip([-1, 0, 1, int(n * share), int(n * share) + 1, n - 1, n, n + 1], -1, None))
    assert _exactly(numbers, n, share) == pytest.approx(binom.pmf(numbers, n, share), rel=1e-9)
    for number in numbers.tolist():
        assert _at_most(number, n, share) == pytest.approx(binom.cdf(number, n, share), rel=1e-9)
        assert _more(number, n, share) == pytest.approx(binom.sf(number, n, share), rel=1e-9)
    assert _last(n, share) == max(0, int(binom.isf(1e-12, n, share)))


def test_a_site_that_becomes_common_costs_what_common_sites_cost_a_carrier() -> None:
    people, share = 100_000, 0.01
    assert rare_price(share, people, at_least=1, counted=True) == pytest.approx(1 / (people * share), rel=0.02)


def test_a_yes_about_an_allele_that_nobody_else_has_is_a_proof() -> None:
    assert rare_price(0.0, 1_000, at_least=1, counted=False) == math.inf
    assert rare_price(0.0, 1_000, at_least=2, counted=False) == 0.0
    assert worst_rare_price(1_000, at_least=1, counted=False) == math.inf
    worst = worst_rare_price(1_000, at_least=10, counted=True)
    assert worst >= max(rare_price(q, 1_000, at_least=10, counted=True) for q in np.geomspace(1e-5, 0.035, 17))
    assert worst < rho_at(0.10)


@pytest.mark.parametrize("wrong", [(-0.1, 10, 1), (1.1, 10, 1), (0.1, 0, 1), (0.1, 10, 0)])
def test_impossible_sites_have_no_price(wrong: tuple[float, int, int]) -> None:
    with pytest.raises(Invalid):
        rare_price(wrong[0], wrong[1], at_least=wrong[2], counted=True)


def test_prices_add_up_and_public_and_open_answers_are_free() -> None:
    parts = [Question(1_000, sites=20), Question(1_000, rare=(0.001, 0.01)), Question(1_000, unknown=1)]
    whole = Question(1_000, sites=20, rare=(0.001, 0.01), unknown=1)
    assert price(whole) == pytest.approx(sum(price(part) for part in parts))
    assert price(parts[0]) == 0.02
    assert price(Question(1_000, sites=20, published=True)) == 0
    assert price(Question(1_000, unknown=5, at_least=1, open_data=True)) == 0
    for wrong in ({"people": 0}, {"people": 5, "sites": -1.0}, {"people": 5, "sites": math.inf}):
        with pytest.raises(Invalid):
            Question(**wrong)


def test_a_price_is_told_before_the_question_in_words() -> None:
    limit = rho_at(0.10)
    fits = " ".join(explain(Question(1_000, sites=50), spent=0.01, limit=limit))
    assert "38% of your budget" in fits
    assert "6 of 100 patients" in fits
    assert "8 of 100" in fits
    beyond = " ".join(explain(Question(1_000, sites=500), spent=0.01, limit=limit))
    assert "cannot be answered" in beyond
    assert "121 independent variants" in beyond
    assert price(Question(1_000, sites=121)) + 0.01 <= limit < price(Question(1_000, sites=123)) + 0.01
    rare = " ".join(explain(Question(1_000, rare=(0.001,), at_least=1), spent=0.0, limit=limit))
    assert "Rare variants tell most" in rare
    proof = " ".join(explain(Question(1_000, unknown=1, at_least=1), spent=0.0, limit=limit))
    assert "nearly all" in proof
    tiny = " ".join(explain(Question(1_000_000, sites=5), spent=0.0, limit=limit))
    assert "less than 1 %" in tiny
    for free in (Question(10, published=True), Question(10, open_data=True)):
        (said,) = explain(free, spent=limit, limit=limit)
        assert "nothing" in said


@pytest.mark.parametrize("jargon", ["rho", "ρ", "Φ", "epsilon", "likelihood", "false positive", "LD", "carriers"])
def test_no_jargon_in_what_a_physician_reads(jargon: str) -> None:
    limit = rho_at(0.10)
    for question in (Question(1_000, sites=50), Question(1_000, sites=500), Question(1_000, unknown=3)):
        assert jargon not in " ".join(explain(question, spent=0.01, limit=limit))
