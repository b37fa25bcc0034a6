"""``treatment-effect`` against textbook weighting on pooled patients, a planted truth, and METABRIC's trap."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.unit.analysis.survival_twins import sites_of, study
from tests.worlds import Watched, run, threshold_gate

from federome.analysis.algorithm import Table
from federome.analysis.comparison import e_value, pairs, risk_ratio, solve
from federome.analysis.treatment_effect import TreatmentEffect
from federome.errors import Invalid

K = 10


def confounded(people: int = 3000, *, benefit: float = -0.4, seed: int = 2) -> pd.DataFrame:
    """The sick are treated more often, so that a treatment that helps looks as if it harmed."""
    rng = np.random.default_rng(seed)
    sick, age = rng.normal(size=people), rng.normal(size=people)
    treated = rng.random(people) < 1 / (1 + np.exp(0.5 - 1.2 * sick + 0.3 * age))
    died = rng.exponential(20 / np.exp(benefit * treated + 0.9 * sick + 0.2 * age))
    left = rng.uniform(5, 60, people)
    return pd.DataFrame(
        {
            "time": np.minimum(died, left),
            "event": (died <= left).astype(float),
            "treated": treated.astype(float),
            "sick": sick,
            "age": age,
            "site": np.arange(people) % 4,
        }
    )


def ask(frame: pd.DataFrame, **changes: Any) -> Mapping[str, Table]:
    plain = {"time": "time", "event": "event", "treatment": "treated", "covariates": ("sick", "age")}
    question = TreatmentEffect(**plain | changes)  # type: ignore[arg-type]
    return run(question, sites_of(frame, frame["site"]), gate=threshold_gate(K))


def effect(told: Mapping[str, Table], comparison: str) -> dict[str, Any]:
    return next(row for row in told["effect"].records() if row["comparison"] == comparison)


@pytest.mark.parametrize("estimand", ["ate", "att", "overlap"])
def test_a_planted_benefit_is_found_where_the_unadjusted_comparison_shows_harm(estimand: str) -> None:
    told = ask(confounded(), estimand=estimand)
    crude, weighted = effect(told, "unadjusted"), effect(told, "weighted")
    assert crude["low"] > 1, "the trap: the treated die more"
    assert "not an effect" in crude["says"]
    assert weighted["high"] < 1
    assert weighted["low"] < np.exp(-0.4) * 1.25  # a marginal ratio lies nearer to 1 than the one within patients
    assert np.abs(told["balance"].floats("before")).max() > 0.5
    assert np.abs(told["balance"].floats("after")).max() < 0.1


def test_matched_pairs_find_the_planted_benefit_and_are_balanced() -> None:
    assert "still differ" in effect(ask(confounded(), estimand="matched"), "matched")["says"]
    told = ask(confounded(), estimand="matched", caliper=0.1)
    matched = effect(told, "matched")
    assert effect(told, "unadjusted")["low"] > 1
    assert np.exp(-0.4) * 0.8 < matched["hazard_ratio"] < matched["high"] < 1
    assert matched["largest_imbalance"] < 0.1 < np.abs(told["balance"].floats("before")).max()
    sizes = told["groups"].records()[0]
    assert sizes["effective_treated"] == sizes["effective_others"] < sizes["people"] / 2
    assert matched["se"] > effect(told, "unadjusted")["se"]


def by_hand(frame: pd.DataFrame, caliper: float) -> pd.DataFrame:
    """Pairs chosen one by one, everybody compared with everybody, within each site."""
    import statsmodels.api as sm  # more than a second to load, for all who collect

    design = np.column_stack([frame[["sick", "age"]].to_numpy(), pd.get_dummies(frame["site"]).to_numpy(float)])
    logit = design @ np.asarray(sm.Logit(frame["treated"], design).fit(disp=0, tol=1e-12).params)
    found = frame.assign(logit=logit, pair=-1)
    for site, some in found.groupby("site"):
        free = some[some["treated"] == 0]
        chosen = some[some["treated"] == 1].sort_values("logit", ascending=False)
        for number, person in enumerate(chosen.itertuples()):
            gap = (free["logit"] - person.logit).abs()
            if len(gap) and gap.min() <= caliper * some["logit"].std(ddof=0):
                found.loc[[person.Index, gap.idxmin()], "pair"] = 10_000 * int(str(site)) + number
                free = free.drop(gap.idxmin())
    return found


def test_pairs_are_those_that_one_would_choose_by_hand_and_their_variance_goes_by_pairs() -> None:
    frame = confounded(900)
    told = ask(frame, estimand="matched", exits_min=2)
    own = by_hand(frame, 0.2)
    own = own[own["pair"] >= 0]
    matched = effect(told, "matched")
    assert told["groups"].records()[0]["effective_treated"] == len(own) / 2
    for name, row in zip(("sick", "age"), told["balance"].records(), strict=True):
        spread = np.sqrt(sum(frame[frame["treated"] == g][name].var(ddof=0) for g in (0, 1)) / 2)
        means = own.groupby("treated")[name].mean()
        assert row["after"] == pytest.approx((means[1] - means[0]) / spread, abs=1e-9)
    beta, se = breslow(own)
    assert matched["log_hazard_ratio"] == pytest.approx(beta, abs=0.6 * se)  # the grid: some 2 x 20 intervals
    assert matched["se"] == pytest.approx(se, rel=0.08)


def breslow(own: pd.DataFrame) -> tuple[float, float]:
    """Cox on the times as recorded, variance over pairs."""
    lifelines = pytest.importorskip("lifelines")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = lifelines.CoxPHFitter().fit(
            own[["time", "event", "treated", "pair"]], "time", "event", cluster_col="pair", robust=True
        )
    return float(fitted.params_["treated"]), float(fitted.standard_errors_["treated"])


def test_everybody_finds_the_nearest_who_is_free() -> None:
    rng = np.random.default_rng(1)
    for people in (1, 2, 7, 60):
        chance, treated = rng.uniform(0.05, 0.95, people).round(1 if people < 60 else 3), rng.random(people) < 0.4
        found = pairs(chance, treated, 0.3)
        logit = np.log(chance / (1 - chance))
        reach, free = 0.3 * logit.std(), set(np.flatnonzero(~treated).tolist())
        for person in np.flatnonzero(treated)[np.argsort(-logit[treated], kind="stable")].tolist():
            mate = [i for i in np.flatnonzero(found == found[person]).tolist() if i != person]
            nearest = min((abs(logit[i] - logit[person]) for i in free), default=np.inf)
            if found[person] < 0:
                assert nearest > reach
            else:
                assert len(mate) == 1
                assert abs(logit[mate[0]] - logit[person]) == pytest.approx(nearest)
                free.discard(mate[0])


def test_no_block_of_the_matched_holds_few_of_either_group() -> None:
    """Opens the totals: the second grid, too, tells of nobody or of at least k in both groups."""
    frame = confounded(900)
    watched = Watched(threshold_gate(K))
    question = TreatmentEffect(
        time="time", event="event", treatment="treated", covariates=("sick", "age"), estimand="matched", halvings=8
    )
    run(question, sites_of(frame, frame["site"]), gate=watched)
    sums = next(total for total in watched.totals if "at_risk" in total)
    for row in (0, 1):
        for ended in (sums.floats("ended_treated")[row], (sums.floats("ended") - sums.floats("ended_treated"))[row]):
            assert np.all((ended == 0) | (ended > K - 0.5))
        at_risk = sums.floats("at_risk_treated")[row]
        left = -np.diff(np.append(at_risk, 0.0))
        assert np.all((np.abs(left) < 1e-9) | (left > K - 0.5))


def test_few_without_a_partner_are_not_told_of() -> None:
    rng = np.random.default_rng(3)
    frame = confounded(600).assign(treated=(rng.random(600) < 0.3).astype(float))  # all find one: nothing decides
    with pytest.raises(Invalid, match="too few patients find no partner"):
        ask(frame, estimand="matched", caliper=0.5)


def test_no_effect_where_none_was_planted() -> None:
    weighted = effect(ask(confounded(benefit=0.0)), "weighted")
    assert weighted["low"] < 1 < weighted["high"]
    assert "no effect shown" in weighted["says"]
    assert weighted["e_value_limit"] == 1


def test_weights_and_hazards_are_those_of_pooled_textbook_fits() -> None:
    """Propensities by statsmodels with an indicator per site, differences and sums by hand."""
    import statsmodels.api as sm  # more than a second to load, for all who collect

    frame = confounded(800)
    told = ask(frame, estimand="ate", trim=0.0)
    dummies = pd.get_dummies(frame["site"]).to_numpy(float)
    design = np.column_stack([frame[["sick", "age"]].to_numpy(), dummies])
    chance = sm.Logit(frame["treated"], design).fit(disp=0, tol=1e-12).predict(design)
    treated = frame["treated"].to_numpy() > 0
    weight = np.where(treated, 1 / chance, 1 / (1 - chance))
    for name, row in zip(("sick", "age"), told["balance"].records(), strict=True):
        x = frame[name].to_numpy()
        spread = np.sqrt((x[treated].var() + x[~treated].var()) / 2)
        means = [np.average(x[group], weights=weight[group]) for group in (treated, ~treated)]
        assert row["before"] == pytest.approx((x[treated].mean() - x[~treated].mean()) / spread, rel=1e-9)
        assert row["after"] == pytest.approx((means[0] - means[1]) / spread, abs=1e-9)
    sizes = told["groups"].records()[0]
    for name, group in (("effective_treated", treated), ("effective_others", ~treated)):
        assert sizes[name] == pytest.approx(weight[group].sum() ** 2 / (weight[group] ** 2).sum(), rel=1e-9)


def test_one_round_of_sums_solves_the_regression() -> None:
    rng = np.random.default_rng(4)
    time, x = rng.integers(1, 9, 300).astype(float), (rng.random(300) < 0.4).astype(float)
    event, weight = (rng.random(300) < 0.6).astype(float), rng.uniform(0.2, 3, 300)
    times = np.unique(time[event > 0])
    sums = [np.array([(weight * f * (time >= t)).sum() for t in times]) for f in (np.ones(300), x)] + [
        np.array([(weight * f * event * (time == t)).sum() for t in times]) for f in (np.ones(300), x)
    ]

    def score(beta: float) -> float:
        total = 0.0
        for i in np.flatnonzero(event).tolist():
            risk = (time >= time[i]) * weight * np.exp(beta * x)
            total += weight[i] * (x[i] - (risk * x).sum() / risk.sum())
        return total

    beta, information = solve(*sums)
    assert abs(score(beta)) < 1e-8
    assert information == pytest.approx(-(score(beta + 1e-5) - score(beta - 1e-5)) / 2e-5, rel=1e-4)


def test_metabric_unadjusted_chemotherapy_points_the_wrong_way_and_is_not_told_as_an_effect(shared: Path) -> None:
    frame = study(shared, "metabric")
    told = ask(frame, treatment="chemo", covariates=("age", "npi", "er", "her2", "hormone", "radio"), estimand="ate")
    crude, weighted = effect(told, "unadjusted"), effect(told, "weighted")
    assert crude["hazard_ratio"] > 1.2
    assert crude["says"] == "a difference between patients, not an effect of treatment"
    assert crude["e_value"] is None
    assert weighted["largest_imbalance"] > 0.1, "nearly everybody's treatment follows from age and tumour"
    assert weighted["says"] == "treated and others still differ, so no effect can be told"


def test_overlap_counts_nobody_in_small_bands() -> None:
    told = ask(confounded(600))["overlap"]
    hidden = told.withheld["treated"]
    assert told["chance_from"].tolist()[0] == "all"
    assert hidden[1:].any()
    assert told.ints("treated")[~hidden].min() >= K


def test_a_node_that_treats_nobody_stands_aside() -> None:
    frame = confounded()
    lacking = frame.assign(treated=frame["treated"].where(frame["site"] != 2, 0.0))
    told, without = ask(lacking), ask(lacking[lacking["site"] != 2])
    assert effect(told, "weighted")["hazard_ratio"] == pytest.approx(
        effect(without, "weighted")["hazard_ratio"], rel=1e-12
    )
    assert told["groups"]["incomplete"][0] == int((frame["site"] == 2).sum())


def test_treatment_that_follows_from_covariates_is_refused() -> None:
    frame = confounded(600).assign(treated=lambda f: (f["sick"] > 0).astype(float))
    with pytest.raises(Invalid, match="nobody to compare with"):
        ask(frame)


def test_bad_input_is_refused() -> None:
    for changes, word in (
        ({"treated": 2.0}, "other values than 0 and 1"),
        ({"time": -1.0}, "negative"),
        ({"event": 0.0}, "too few events"),
        ({"age": 1.0}, "the same for everybody"),
    ):
        with pytest.raises(Invalid, match=word):
            ask(confounded(300).assign(**changes))
    for limits in ({"caliper": 0.201}, {"trim": 0.021}):
        with pytest.raises(Invalid, match="nobody can be aimed at"):
            ask(confounded(300), estimand="matched", **limits)
    with pytest.raises(Invalid, match="used twice"):
        TreatmentEffect(time="t", event="e", treatment="x", covariates=("x",))


def test_e_values_are_the_published_ones() -> None:
    """VanderWeele and Ding (2017): a risk ratio of 3.9 with lower limit 1.8 gives 7.26 and 3.0."""
    assert e_value(3.9) == pytest.approx(7.26, abs=0.005)
    assert e_value(1.8) == pytest.approx(3.0, abs=0.005)
    assert e_value(1 / 3.9) == pytest.approx(e_value(3.9))
    assert risk_ratio(1.0) == 1
    assert 1 < risk_ratio(2.0) < 2
