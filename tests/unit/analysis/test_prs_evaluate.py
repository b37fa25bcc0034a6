"""Evaluation of scores: against an optimiser, all pairs of people, and what was put in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from tests.worlds import MemorySite, Split, make_world, random_assignment, run, threshold_gate

from federome.analysis.prs_evaluate import PrsEvaluate
from federome.errors import Invalid
from federome.model.cohort import AnyOf, Carrier, Cohort, Measurement

EFFECT = 0.8


@pytest.fixture(scope="module")
def split() -> Split:
    world = make_world(seed=6, people=1_500, variants=2)
    rng = np.random.default_rng(8)
    score = rng.normal(50, 4, 1_500)
    age = world.view.numbers("age")
    chance = expit(-1 + EFFECT * (score - 50) / 4 + 0.02 * (np.nan_to_num(age, nan=50) - 50))
    world = world.with_numbers("score", score).with_numbers("ill", (rng.random(1_500) < chance).astype(float))
    return world.split(random_assignment(world, sites=4, seed=3))


def columns(site: MemorySite, *names: str) -> np.ndarray:
    table = np.column_stack([site.view.numbers(name) for name in names])
    return table[np.isfinite(table).all(axis=1)]


def test_odds_are_those_of_a_logistic_regression(split: Split) -> None:
    found = run(PrsEvaluate(score="score", phenotype="ill", covariates=("age",)), split.sites)["groups"].records()[0]
    ill, score, age = columns(split.pooled, "ill", "score", "age").T
    z = (score - score.mean()) / score.std(ddof=1)
    design = np.column_stack([np.ones(len(z)), z, (age - age.mean()) / age.std(ddof=1)])
    best = minimize(
        lambda b: np.logaddexp(0, np.where(ill > 0, -1, 1) * (design @ b)).sum(), np.zeros(3), method="BFGS"
    )
    weight = expit(design @ best.x) * (1 - expit(design @ best.x))
    error = np.sqrt(np.linalg.inv((design * weight[:, None]).T @ design)[1, 1])
    assert found["log_odds"] == pytest.approx(best.x[1], abs=1e-5)
    assert found["log_odds_se"] == pytest.approx(error, rel=1e-4)
    assert found["odds_ratio"] == pytest.approx(np.exp(best.x[1]), rel=1e-4)
    assert found["odds_low"] < np.exp(EFFECT) < found["odds_high"]  # type: ignore[operator]
    assert (found["cases"], found["controls"]) == (int(ill.sum()), int((1 - ill).sum()))


def test_the_area_is_the_share_of_pairs_in_order_and_its_interval_delongs(split: Split) -> None:
    found = run(PrsEvaluate(score="score", phenotype="ill"), split.sites)["groups"].records()[0]
    ill, score = columns(split.pooled, "ill", "score").T
    ahead = (score[ill == 1][:, None] > score[ill == 0][None]).astype(float)
    area = ahead.mean()
    error = np.sqrt(ahead.mean(axis=1).var(ddof=1) / len(ahead) + ahead.mean(axis=0).var(ddof=1) / ahead.shape[1])
    assert found["auc"] == pytest.approx(area, abs=2e-3)  # people within a bin count as equal
    margin = 1.959964 * error / (area * (1 - area))
    assert found["auc_low"] == pytest.approx(expit(np.log(area / (1 - area)) - margin), abs=4e-3)
    assert found["auc_high"] == pytest.approx(expit(np.log(area / (1 - area)) + margin), abs=4e-3)


def test_withheld_bins_change_the_area_little(split: Split) -> None:
    whole = run(PrsEvaluate(score="score", phenotype="ill"), split.sites)["groups"].records()[0]
    gated = run(PrsEvaluate(score="score", phenotype="ill"), split.sites, gate=threshold_gate(10))["groups"].records()[
        0
    ]
    assert gated["auc"] == pytest.approx(whole["auc"], abs=2e-3)


def test_tenths_hold_a_tenth_each_and_expect_what_is_there(split: Split) -> None:
    found = run(PrsEvaluate(score="score", phenotype="ill", by="sex"), split.sites)["calibration"].records()
    for sex in ("female", "male"):
        mine = [row for row in found if row["sex"] == sex]
        people = np.array([row["cases"] + row["controls"] for row in mine])  # type: ignore[operator]
        assert len(mine) == 10
        assert np.abs(people / people.sum() - 0.1).max() < 0.04
        cases, expected = (np.array([row[name] for row in mine], float) for name in ("cases", "expected"))
        assert expected.sum() == pytest.approx(cases.sum(), rel=1e-6)  # the maximum of the likelihood says so
        assert (np.abs(cases - expected) < 4 * np.sqrt(expected)).all()
        assert (np.diff(expected / people) > 0).all()


def test_small_groups_say_nothing(split: Split) -> None:
    question = PrsEvaluate(score="score", phenotype="ill", populations=("FIN", "MLT"))
    found = run(question, split.sites, gate=threshold_gate(10))
    fin, mlt = found["groups"].records()
    assert fin["auc"] is not None
    assert all(mlt[name] is None for name in ("cases", "controls", "odds_ratio", "auc", "auc_low"))
    assert all(row["cases"] is None for row in found["calibration"].records() if row["population"] == "MLT")
    assert all(row["cases"] is None or row["cases"] >= 10 for row in found["calibration"].records())  # type: ignore[operator]


def test_a_score_that_separates_has_an_area_but_no_odds(split: Split) -> None:
    ill = split.pooled.view.numbers("ill")
    site = MemorySite(split.pooled.view.with_numbers("sure", ill + 1), split.pooled.variants, split.pooled.genotypes)
    found = run(PrsEvaluate(score="sure", phenotype="ill"), [site])["groups"].records()[0]
    assert found["odds_ratio"] is None
    assert found["cases"] == int(np.nansum(ill))


def test_cases_come_from_one_source_of_zeros_and_ones(split: Split) -> None:
    with pytest.raises(Invalid, match="from one source"):
        PrsEvaluate(score="score")
    with pytest.raises(Invalid, match="other values"):
        run(PrsEvaluate(score="score", phenotype="age"), split.sites)


def test_cases_may_be_those_of_a_definition(split: Split) -> None:
    """Whoever meets neither, or both, takes no part; as with a column that says so."""
    view = split.pooled.view
    age, pc = view.numbers("age"), view.numbers("pc1")
    case, control = (age >= 50) & (pc > -1), (age <= 45) | (pc <= -1.5)
    both = case & ((age <= 45) | (pc <= -1.5))
    status = np.select([both, case, control], [np.nan, 1.0, 0.0], np.nan)
    site = MemorySite(view.with_numbers("status", status), split.pooled.variants, split.pooled.genotypes)
    named = PrsEvaluate(
        score="score",
        cases=Cohort(measurements=(Measurement("age", low=50), Measurement("pc1", low=np.nextafter(-1, 0)))),
        controls=Cohort(any_of=(AnyOf(measurements=(Measurement("age", high=45), Measurement("pc1", high=-1.5))),)),
    )
    told, expected = (
        run(question, sites)["groups"].records()[0]
        for question, sites in ((named, split.sites), (PrsEvaluate(score="score", phenotype="status"), [site]))
    )
    assert told["cases"] == expected["cases"] == int(np.nansum(status))
    assert (told["controls"], told["log_odds"]) == (expected["controls"], pytest.approx(expected["log_odds"], rel=1e-9))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cases": Cohort(sex="female")}, "from one source"),
        ({"phenotype": "ill", "cases": Cohort(sex="female"), "controls": Cohort(sex="male")}, "from one source"),
        ({"cases": Cohort(sex="female"), "controls": Cohort()}, "has criteria"),
        ({"cases": Cohort(carriers=(Carrier(gene="LDLR"),)), "controls": Cohort(sex="male")}, "none of them"),
    ],
)
def test_half_a_definition_or_a_genotype_is_no_status(given: dict[str, object], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        PrsEvaluate(score="score", **given)  # type: ignore[arg-type]
