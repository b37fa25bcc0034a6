"""References and adjustments of scores: against plain arithmetic on everybody, and a general-purpose optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from tests.worlds import POPULATIONS, Split, make_world, random_assignment, run, threshold_gate

from federome.analysis.algorithm import Table
from federome.analysis.prs_adjustment import PrsAdjustment
from federome.analysis.prs_evaluate import PrsEvaluate
from federome.analysis.prs_reference import PrsReference
from federome.errors import Invalid
from federome.model.release import Number, Round
from federome.network import sums
from federome.network.sealing import encoding


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
    with pytest.raises(Invalid, match="the same for everybody"):
        run(PrsAdjustment(score="score", components=("flat",)), [flat])


def test_a_model_of_too_few_people_is_refused() -> None:
    world = make_world(seed=4, people=14, variants=1)
    with pytest.raises(Invalid, match="from 14 people"):
        run(PrsAdjustment(score="pc1", components=("pc2", "trait")), [world.pooled()], gate=lambda total, _: total)


NUMBERS = ("log_odds", "log_odds_se", "auc", "auc_low", "cases")


def sealed_gate(total: Table, due: Round) -> Table:
    """Totals as masked sums tell them: in fixed point, none beyond its bound."""
    told = dict(total.columns)
    for name, rule in due.totals.columns.items():
        if isinstance(rule, Number):
            how = encoding(due.totals, name, parties=1)
            told[name] = sums.decode(sums.encode(total[name], how, parties=1), how, parties=1)
    return Table(told, total.withheld)


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1e-8), (1e-3, 1e-7), (2e4, 1.0), (1e5, 1.0), (-1e7, 1e6), (0.0, 1e9)])
def test_a_score_may_have_any_unit(split: Split, mean: float, sd: float) -> None:
    """In fixed point, squares of raw scores lose digits where these are small and lie beyond the bound where large."""
    own = split.pooled.view
    z = own.numbers("score") - 40
    view = own.with_numbers("score", mean + sd * z).with_numbers("ill", (z > own.numbers("pc2")).astype(float))
    site = type(split.pooled)(view, split.pooled.variants, split.pooled.genotypes)
    plain = type(split.pooled)(view.with_numbers("score", z), split.pooled.variants, split.pooled.genotypes)
    (group,) = run(PrsReference(score="score"), [site], gate=sealed_gate)["groups"].records()
    assert group["mean"] == pytest.approx(view.numbers("score").mean(), rel=1e-12)
    assert group["sd"] == pytest.approx(view.numbers("score").std(ddof=1), rel=1e-9)
    told, expected = (
        run(PrsEvaluate(score="score", phenotype="ill"), [each], gate=gate)["groups"].records()[0]
        for each, gate in ((site, sealed_gate), (plain, lambda total, _: total))
    )
    assert [told[name] for name in NUMBERS] == pytest.approx([expected[name] for name in NUMBERS], rel=1e-9)
    told, expected = (
        run(PrsAdjustment(score="score", components=("pc1",)), [each], gate=gate)["model"].floats("log_variance")
        for each, gate in ((site, sealed_gate), (plain, lambda total, _: total))
    )
    assert told - [2 * np.log(sd), 0] == pytest.approx(expected, abs=1e-8)


def test_what_is_nearly_constant_has_no_odds(split: Split) -> None:
    view = split.pooled.view
    flat = view.with_numbers("score", np.full(view.people, 0.1)).with_numbers("ill", view.numbers("male"))
    site = type(split.pooled)(flat, split.pooled.variants, split.pooled.genotypes)
    (told,) = run(PrsEvaluate(score="score", phenotype="ill"), [site])["groups"].records()
    assert told["odds_ratio"] is told["auc"] is None
    (group,) = run(PrsReference(score="score"), [site])["groups"].records()
    assert (group["mean"], group["sd"]) == (pytest.approx(0.1), 0.0)
