"""Economic analysis against slow and obvious twins, for whatever numbers come."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federome.economics.document import Place
from federome.economics.evaluate import totals, weights
from federome.economics.formula import evaluate, parse
from federome.economics.incremental import compare
from federome.economics.model import Discount
from federome.economics.read import find_model
from federome.economics.uncertainty import acceptability, draw, evppi

HERE = Place("test.toml", 1, "x")
numbers = st.integers(-20, 20).map(float)
pairs = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=7)


@given(pairs)
def test_the_frontier_is_who_is_best_at_some_willingness_to_pay(given_pairs: list[tuple[float, float]]) -> None:
    """On the frontier is whoever is the single best choice at some threshold: tried at and between all crossings."""
    costs, effects = zip(*given_pairs, strict=True)
    names = [str(at) for at in range(len(costs))]
    found = compare(names, costs, effects)
    crossings = {0.0} | {
        (costs[a] - costs[b]) / (effects[a] - effects[b])
        for a in range(len(costs))
        for b in range(len(costs))
        if effects[a] != effects[b]
    }
    tried = sorted(each for each in crossings if each >= 0)
    tried = [(one + two) / 2 for one, two in itertools.pairwise(tried)] + [tried[-1] + 1]
    best = set()
    for threshold in tried:
        net = [threshold * e - c for c, e in zip(costs, effects, strict=True)]
        top = max(net)
        best.add(next(at for at, value in enumerate(net) if value >= top - 1e-9))
    values = {(costs[at], effects[at]) for at in best}
    front = [each for each in found if each.status == "frontier"]
    # the cheapest strategy opens the frontier; at a threshold of nothing it is best, if only there
    assert {(each.cost, each.effect) for each in front} | {(front[0].cost, front[0].effect)} >= values
    assert {(each.cost, each.effect) for each in front[1:]} <= values
    ratios = [each.icer for each in front[1:] if each.icer is not None]
    assert ratios == sorted(set(ratios))
    assert len(found) == len(names)


@given(pairs)
def test_dominated_means_that_another_is_at_least_as_good(given_pairs: list[tuple[float, float]]) -> None:
    costs, effects = zip(*given_pairs, strict=True)
    for each in compare([str(at) for at in range(len(costs))], costs, effects):
        at = int(each.strategy)
        others = [b for b in range(len(costs)) if b != at and costs[b] <= costs[at] and effects[b] >= effects[at]]
        strictly = [b for b in others if (costs[b], effects[b]) != (costs[at], effects[at]) or b < at]
        assert (each.status == "dominated") == bool(strictly)


tables = st.integers(2, 4).flatmap(
    lambda k: st.lists(st.lists(numbers, min_size=2 * k, max_size=2 * k), min_size=1, max_size=12)
)


@given(tables, st.floats(0, 50))
def test_acceptability_draw_by_draw(rows: list[list[float]], threshold: float) -> None:
    both = np.array(rows)
    half = both.shape[1] // 2
    costs, effects = both[:, :half], both[:, half:]
    found = acceptability(costs, effects, [threshold])
    wins, losses = [0] * half, [0.0] * half
    for cost, effect in zip(costs, effects, strict=True):
        net = [threshold * e - c for c, e in zip(cost, effect, strict=True)]
        wins[net.index(max(net))] += 1
        losses = [loss + max(net) - value for loss, value in zip(losses, net, strict=True)]
    assert found.likely[0] == pytest.approx([each / len(rows) for each in wins])
    assert found.loss[0] == pytest.approx([each / len(rows) for each in losses], abs=1e-9)
    assert found.evpi[0] == pytest.approx(min(losses) / len(rows), abs=1e-9)


def test_knowing_a_parameter_is_worth_what_theory_says() -> None:
    """Net benefit of B over A is θ₁ + θ₂, normal: EVPPI of θ₁ is sd₁ φ(m/sd₁) − |m| Φ(−|m|/sd₁)."""
    generator = np.random.default_rng(1)
    one, two = generator.normal(0.3, 1, 100_000), generator.normal(0, 2, 100_000)
    effects = np.stack([np.zeros(100_000), one + two], axis=1)
    costs = np.zeros_like(effects)

    def theory(mean: float, sd: float) -> float:
        from scipy.stats import norm

        return float(sd * norm.pdf(mean / sd) - mean * norm.cdf(-mean / sd))

    assert evppi(costs, effects, 1.0, one) == pytest.approx(theory(0.3, 1), abs=0.01)
    assert evppi(costs, effects, 1.0, two) == pytest.approx(theory(0.3, 2), abs=0.02)
    assert evppi(costs, effects, 1.0, one, two) == pytest.approx(
        float(acceptability(costs, effects, [1.0]).evpi[0]), abs=1e-6
    )


@pytest.mark.parametrize("name", ["sick-sicker", "hiv-briggs", "hip-briggs"])
def test_many_draws_at_once_are_each_draw_alone(name: str) -> None:
    model = find_model(name)
    drawn = draw(model, 1500, seed=4)  # more than one block
    together = totals(model, drawn)
    for at in (0, 1, 1023, 1024, 1499):
        alone = totals(model, {key: values[at : at + 1] for key, values in drawn.items()})
        assert together.values[:, :, at] == pytest.approx(alone.values[:, :, 0], rel=1e-12)


@given(st.integers(2, 60), st.floats(0, 0.2))
def test_weights_and_discounts(cycles: int, rate: float) -> None:
    rows = cycles + 1
    assert weights("half", rows).sum() == pytest.approx(cycles)
    assert weights("start", rows).sum() == weights("end", rows).sum() == cycles
    if cycles % 2 == 0:
        assert weights("simpson", rows).sum() * 1.0 == pytest.approx(
            1 / 3 * 2 + 2 / 3 * (cycles // 2) + 4 / 3 * (cycles // 2 - 1)
        )
    years = np.arange(rows, dtype=float)
    plain = Discount(((0.0, rate),)).factor(years)
    assert plain == pytest.approx([1 / (1 + rate) ** year for year in range(rows)])
    stepped = Discount(((0.0, rate), (5.0, rate / 2))).factor(years)
    slow = [1.0]
    for year in range(1, rows):
        slow.append(slow[-1] / (1 + (rate if year <= 5 else rate / 2)))
    assert stepped == pytest.approx(slow)


small = st.integers(-9, 9).map(str)
formulas = st.recursive(
    small | st.sampled_from(["x", "y"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} if {p[1]} > 0 else {p[2]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda p: f"{p[0]}({p[1]}, {p[2]})"),
        st.tuples(inner, st.sampled_from(["<", "<=", "==", "!="]), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(formulas, st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
def test_formulas_mean_what_python_means(text: str, points: list[tuple[float, float]]) -> None:
    formula = parse(text, HERE)
    columns = {"x": np.array([x for x, _ in points]), "y": np.array([y for _, y in points])}
    found = np.broadcast_to(evaluate(formula, columns.__getitem__, {}), len(points))
    for value, (x, y) in zip(found, points, strict=True):
        assert value == float(eval(text, {"__builtins__": {}, "min": min, "max": max}, {"x": x, "y": y}))
