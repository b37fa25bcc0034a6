"""An independent twin: people simulated one by one from the published numbers, not from the model file."""

from __future__ import annotations

import math

import numpy as np
import pytest

from federome.economics.evaluate import totals, trace
from federome.economics.read import find_model, read_model

PEOPLE = 20_000
COSTS = np.array([2000, 4000, 15000, 0.0])
DRUGS = {"SoC": 0.0, "A": 12000.0, "B": 13000.0, "AB": 25000.0}


def simulate(strategy: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Costs and QALYs of each person under Simpson's rule, and the shares in each state by year."""
    generator = np.random.default_rng(seed)
    chance = lambda rate: 1 - math.exp(-rate)  # noqa: E731
    die = [chance(0.002), chance(0.006), chance(0.02), 1.0]
    worse = chance(0.105 * (0.6 if "B" in strategy else 1))
    sick, well = chance(0.15), chance(0.5)
    state = np.zeros(PEOPLE, np.int64)
    cost, effect = np.zeros(PEOPLE), np.zeros(PEOPLE)
    utility = np.array([1, 0.95 if "A" in strategy else 0.75, 0.5, 0.0])
    price = COSTS + np.array([0, DRUGS[strategy], DRUGS[strategy], 0])
    shares = []
    for year in range(76):
        weight = 1 / 3 if year in (0, 75) else 2 / 3 if year % 2 == 1 else 4 / 3
        factor = weight / 1.03**year
        cost += price[state] * factor
        effect += utility[state] * factor
        shares.append(np.bincount(state, minlength=4) / PEOPLE)
        survives = generator.random(PEOPLE) >= np.take(die, state)
        luck = generator.random(PEOPLE)
        following = state.copy()
        following[(state == 0) & (luck < sick)] = 1
        following[(state == 1) & (luck < well)] = 0
        following[(state == 1) & (luck >= well) & (luck < well + worse)] = 2
        state = np.where(survives, following, 3)
    return cost, effect, np.array(shares)


@pytest.mark.parametrize("strategy", ["SoC", "A", "B", "AB"])
def test_people_one_by_one_agree_with_the_cohort(strategy: str) -> None:
    cost, effect, shares = simulate(strategy, seed=20)
    model = find_model("sick-sicker")
    found = totals(model).table()[strategy]
    for values, expected in ((cost, found["cost"]), (effect, found["qaly"])):
        assert abs(values.mean() - expected) < 4 * values.std() / math.sqrt(PEOPLE)
    _, expected_shares = trace(model, strategy)
    errors = np.sqrt(expected_shares * (1 - expected_shares) / PEOPLE) + 1e-12
    assert (np.abs(shares - expected_shares) < 5 * errors + 1e-9).all()


TUNNELS = """
format = 1
id = "relapse"
title = "Relapse depends on the time since the last one"
question = "-"
population = "-"
perspective = "payer"
horizon = "40 cycles"
currency = "EUR"
price_year = 2023
[sources]
own = "made up for this test"
[cohort]
cycles = 40
counting = "end"
states = ["ill", "remission", "dead"]
tunnels = { remission = 5 }
[cohort.start]
ill = 0.8
remission = "rest"
[cohort.moves.ill]
ill = "rest"
remission = 0.4
dead = 0.05
[cohort.moves.remission]
ill = "risk"
remission = "rest"
dead = "probability(0.01)"
[cohort.moves.dead]
dead = 1
[tables.relapse]
kind = "probability"
at = [1, 2, 3, 5]
values = [0.5, 0.3, 0.2, 0.02]
source = "own"
[parameters.risk]
kind = "probability"
says = "Relapse by years since remission, less so late in life"
formula = "relapse(state_time) * (0.5 if cycle > 20 else 1)"
[strategies.only]
title = "Only"
[outcomes.cost]
role = "cost"
unit = "EUR"
discount = 0
states = { ill = 100, remission = "10 / state_time", dead = 0 }
[outcomes.years]
role = "effect"
unit = "year"
discount = 0
states = { ill = 1, remission = 1, dead = 0 }
"""


def test_tunnel_states_remember_how_long_someone_has_been_there() -> None:
    generator = np.random.default_rng(5)
    costs, years = [], []
    for _ in range(6000):
        state, spent = ("ill", 0) if generator.random() < 0.8 else ("remission", 1)
        cost, alive = 0.0, 0
        for cycle in range(1, 41):
            luck = generator.random()
            if state == "ill":
                state, spent = ("remission", 1) if luck < 0.4 else ("dead", 0) if luck < 0.45 else ("ill", 0)
            elif state == "remission":
                relapse = {1: 0.5, 2: 0.3, 3: 0.2, 4: 0.2, 5: 0.02}[spent] * (0.5 if cycle > 20 else 1)
                die = 1 - math.exp(-0.01)
                if luck < relapse:
                    state, spent = "ill", 0
                elif luck < relapse + die:
                    state = "dead"
                else:
                    spent = min(spent + 1, 5)
            cost += {"ill": 100.0, "dead": 0.0}.get(state, 10 / max(spent, 1))
            alive += state != "dead"
        costs.append(cost)
        years.append(alive)
    found = totals(read_model(TUNNELS, "relapse.toml")).table()["only"]
    for values, expected in ((costs, found["cost"]), (years, found["years"])):
        assert abs(np.mean(values) - expected) < 4 * np.std(values) / math.sqrt(len(values))
