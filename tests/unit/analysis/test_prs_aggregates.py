"""References and adjustments of scores: against plain arithmetic on everybody, and a general-purpose optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from tests.worlds import POPULATIONS, Split, make_world, random_assignment, run, threshold_gate

from federome.analysis.algorithm import Table
from federome.analysis.prs_adjustment import PrsAdjustment
from federome.analysis.prs_reference import PrsReference
from federome.errors import Invalid


@pytest.fixture(scope="module")
def split() -> Split:
    world = make_world(seed=3, people=600, variants=4)
    rng = np.random.default_rng(5)
    pc1, pc2 = world.view.numbers("pc1"), world.view.numbers("pc2")
    world = world.with_numbers("score", 40 + 2 * pc1 - pc2 + np.exp(0.3 * pc1) * rng.normal(size=600))
    return world.split(random_assignment(world, sites=3, seed=2))


def rows(table: Table) -> list[dict[str, object]]:
    return table.records()  # type: ignore[return-value]


def test_a_reference_is_what_numpy_says_of_everybody(split: Split) -> None:
    question = PrsReference(score="score", populations=POPULATIONS, bins=10, span=2.0)
    found = run(question, split.sites)
    score, labels = split.pooled.view.numbers("score"), split.pooled.view.labels("population")
    for row, name in zip(rows(found["groups"]), POPULATIONS, strict=True):
        mine = score[labels == name]
        assert (row["population"], row["people"]) == (name, len(mine))
        assert row["mean"] == pytest.approx(mine.mean(), rel=1e-12)
        assert row["sd"] == pytest.approx(mine.std(ddof=1), rel=1e-12)
        z = (mine - mine.mean()) / mine.std(ddof=1)
        for bin_ in (each for each in rows(found["histogram"]) if each["population"] == name):
            low, high = (float(bin_[end]) for end in ("low", "high"))  # type: ignore[arg-type]
            assert bin_["people"] == np.count_nonzero((z >= low) & (z < high))


def test_small_bins_are_withheld_with_company_and_small_nations_wholly(split: Split) -> None:
    question = PrsReference(score="score", populations=(*POPULATIONS, "MLT"))
    found = run(question, split.sites, gate=threshold_gate(10))
    groups = {row["population"]: row for row in rows(found["groups"])}
    assert groups["MLT"]["people"] is groups["MLT"]["mean"] is None
    bins = [row["people"] for row in rows(found["histogram"])]
    assert all(people is None or people >= 10 for people in bins)  # type: ignore[operator]
    assert None in bins


def test_an_adjustment_is_least_squares_and_a_gamma_regression(split: Split) -> None:
    found = run(PrsAdjustment(score="score", components=("pc1", "pc2")), split.sites)["model"]
    view = split.pooled.view
    score = view.numbers("score")
    design = np.column_stack([np.ones(view.people), view.numbers("pc1"), view.numbers("pc2")])
    effects = np.linalg.lstsq(design, score, rcond=None)[0]
    assert found.floats("mean") == pytest.approx(effects, rel=1e-9)
    squares = (score - design @ effects) ** 2

    def loss(spread: np.ndarray) -> float:
        return float((design @ spread + squares * np.exp(-design @ spread)).sum())

    start = np.array([np.log(squares.mean()), 0, 0])
    best = minimize(loss, start, method="BFGS", options={"gtol": 1e-7})
    assert found.floats("log_variance") == pytest.approx(best.x, abs=1e-5)
    assert found.floats("log_variance")[1] == pytest.approx(0.6, abs=0.15)


def test_a_component_that_says_nothing_new_is_refused(split: Split) -> None:
    world = split.pooled
    twice = world.view.with_numbers("again", 3 * world.view.numbers("pc1") - 1)
    site = type(world)(twice, world.variants, world.genotypes)
    with pytest.raises(Invalid, match="again"):
        run(PrsAdjustment(score="score", components=("pc1", "again")), [site])
    flat = type(world)(world.view.with_numbers("flat", np.full(600, 2.0)), world.variants, world.genotypes)
    with pytest.raises(Invalid, match="does not vary"):
        run(PrsAdjustment(score="score", components=("flat",)), [flat])


def test_a_model_of_too_few_people_is_refused() -> None:
    world = make_world(seed=4, people=14, variants=1)
    with pytest.raises(Invalid, match="from 14 people"):
        run(PrsAdjustment(score="pc1", components=("pc2", "trait")), [world.pooled()], gate=lambda total, _: total)
