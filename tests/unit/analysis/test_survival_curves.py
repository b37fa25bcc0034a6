"""``survival-curves`` against lifelines and slow twins on the same grid."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests.unit.analysis.survival_twins import STUDIES, Cut, cuts, gridded, sites_of, study
from tests.worlds import Watched, run, threshold_gate

from federome.analysis.algorithm import Table, build
from federome.analysis.survival_curves import SurvivalCurves
from federome.errors import Invalid

K = 10
Frame = pd.DataFrame


def ask(frame: Frame, *, least: int = K, **changes: Any) -> Mapping[str, Table]:
    question = SurvivalCurves(**{"time": "time", "event": "event", "exits_min": least} | changes)  # type: ignore[arg-type]
    return run(question, sites_of(frame, frame["site"]), gate=threshold_gate(least))


def on_grid(frame: Frame, *, least: int = K, halvings: int = 6) -> Frame:
    time = gridded(frame["time"].to_numpy(), frame["event"].to_numpy(), least, halvings, lambda cut: cut.mean)
    return frame.assign(time=time).dropna(subset=["time"])


def in_groups(people: int = 600, seed: int = 5) -> Frame:
    """Two groups with causes 1 and 2 of an end, over four sites."""
    rng = np.random.default_rng(seed)
    group = rng.choice(np.array(["new", "old"]), people)
    ends = np.stack(
        [rng.exponential(np.where(group == "new", 30, 18)), rng.exponential(40, people), rng.uniform(1, 60, people)]
    )
    return pd.DataFrame(
        {
            "time": ends.min(axis=0).round(2) + 0.01,
            "event": np.array([1.0, 2.0, 0.0])[ends.argmin(axis=0)],
            "group": group,
            "site": np.arange(people) % 4,
        }
    )


def common_grid(frame: Frame, *, halvings: int) -> Frame:
    """The twin of a grid common to groups: a block is cut only if both halves hold enough people of every group."""
    out = np.full(len(frame), np.nan)
    time, kind, group = (frame[name].to_numpy() for name in ("time", "event", "group"))

    def split(own: np.ndarray, left: int) -> None:
        mean = float(f"{time[own].mean():.9g}")
        halves = [own[time[own] <= mean], own[time[own] > mean]]
        enough = all(np.sum(group[half] == name) >= K for half in halves for name in ("new", "old"))
        if left == 0 or not enough:
            out[own] = mean
            return
        for half in halves:
            split(half, left - 1)

    for each in np.unique(kind):
        split(np.flatnonzero(kind == each), halvings)
    return frame.assign(time=out)


@pytest.mark.parametrize("name", [each.name for each in STUDIES if each.name != "g3"])
def test_kaplan_meier_equals_lifelines_on_the_grid(shared: Path, lifelines: Any, name: str) -> None:
    frame = study(shared, name)
    least = next(each.least for each in STUDIES if each.name == name)
    told = ask(frame, least=least)
    own = on_grid(frame, least=least)
    peer = lifelines.KaplanMeierFitter().fit(own["time"], own["event"])
    curve = told["curves"]
    time = curve.floats("time")
    assert curve.floats("survival") == pytest.approx(peer.survival_function_at_times(time).to_numpy(), abs=1e-9)
    bands = peer.confidence_interval_
    for column, at in (("low", 0), ("high", 1)):
        known = (curve.floats("survival") > 0) & (curve.floats("survival") < 1)
        assert curve.floats(column)[known] == pytest.approx(bands.loc[time[known]].to_numpy()[:, at], abs=1e-9)
    table = peer.event_table
    np.testing.assert_array_equal(curve.ints("at_risk"), table.loc[time, "at_risk"].to_numpy())
    np.testing.assert_array_equal(curve.ints("events"), table.loc[time, "observed"].to_numpy())
    row = told["groups"].records()[0]
    assert row["people"] == len(own)
    median = peer.median_survival_time_
    assert row["median"] == (pytest.approx(median) if np.isfinite(median) else None)
    horizon = told["tests"].floats("horizon")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mean = lifelines.utils.restricted_mean_survival_time(peer, t=horizon)
    assert row["restricted_mean"] == pytest.approx(mean, rel=1e-6)


def test_restricted_mean_has_the_error_of_its_influence() -> None:
    """Against the jackknife, which knows no formula."""
    frame = in_groups(300).assign(event=lambda f: np.minimum(f["event"], 1))
    told = ask(frame, until=15.0)["groups"].records()[0]
    own = on_grid(frame)
    time, event = own["time"].to_numpy(), own["event"].to_numpy()

    def mean(keep: np.ndarray) -> float:
        area, survival, at = 0.0, 1.0, 0.0
        t, e = time[keep], event[keep]
        for moment in np.unique(t[(e > 0) & (t < 15.0)]).tolist():
            area += survival * (moment - at)
            survival *= 1 - np.sum((t == moment) & (e > 0)) / np.sum(t >= moment)
            at = moment
        return area + survival * (15.0 - at)

    everybody = np.ones(len(own), bool)
    assert told["restricted_mean"] == pytest.approx(mean(everybody), rel=1e-12)
    without = []
    for person in range(len(own)):
        everybody[person] = False
        without.append(mean(everybody))
        everybody[person] = True
    n = len(own)
    error = np.sqrt((n - 1) / n * np.sum((np.array(without) - np.mean(without)) ** 2))
    assert told["restricted_mean_se"] == pytest.approx(error, rel=0.02)


def test_log_rank_equals_lifelines_on_the_grid(lifelines: Any) -> None:
    frame = in_groups().assign(event=lambda f: np.minimum(f["event"], 1))
    told = ask(frame, by="group", groups=("new", "old"), halvings=4)
    own = common_grid(frame, halvings=4)
    statistics = importlib.import_module(f"{lifelines.__name__}.statistics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer, exact = (statistics.multivariate_logrank_test(f["time"], f["group"], f["event"]) for f in (own, frame))
    test = told["tests"].records()[0]
    assert test["statistic"] == pytest.approx(peer.test_statistic, rel=1e-9)
    assert 10 ** -float(str(test["minus_log10_p"])) == pytest.approx(peer.p_value, rel=1e-6)
    distance = np.sqrt(float(str(test["statistic"]))) - np.sqrt(exact.test_statistic)
    assert abs(distance) < 1, "and not far from that of the times as recorded, although blocks of two groups are wide"


def test_far_tails_of_the_log_rank_test_do_not_underflow() -> None:
    rng = np.random.default_rng(1)
    group = np.repeat(np.array(["new", "old"]), 3000)
    time = np.where(group == "new", rng.uniform(50, 100, 6000), rng.uniform(1, 50, 6000))
    frame = pd.DataFrame({"time": time, "event": 1.0, "group": group, "site": np.arange(6000) % 3})
    test = ask(frame, by="group", groups=("new", "old"), least=2, halvings=3)["tests"].records()[0]
    if test["statistic"] is not None:
        wanted = -stats.chi2.logsf(float(str(test["statistic"])), 1) / np.log(10)
        assert test["minus_log10_p"] == pytest.approx(wanted, rel=1e-3)


def test_aalen_johansen_equals_lifelines_on_the_grid(lifelines: Any) -> None:
    frame = in_groups()
    told = ask(frame, cause=1)
    own = on_grid(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = lifelines.AalenJohansenFitter(calculate_variance=True).fit(own["time"], own["event"].astype(int), 1)
    curve = told["curves"]
    time = curve.floats("time")
    assert curve.floats("incidence") == pytest.approx(peer.cumulative_density_.loc[time].to_numpy()[:, 0], abs=1e-9)
    variance = peer.variance_.loc[time].to_numpy().ravel()
    assert curve.floats("incidence_se") == pytest.approx(np.sqrt(variance), rel=0.02)
    assert curve.ints("competing").sum() == int((own["event"] == 2).sum())


def test_no_cell_of_a_group_is_smaller_than_k() -> None:
    frame = in_groups()
    watched = Watched(threshold_gate(K))
    question = SurvivalCurves(time="time", event="event", cause=1, by="group", groups=("new", "old"), exits_min=2)
    told = run(question, sites_of(frame, frame["site"]), gate=watched)
    for column in ("events", "competing"):
        shown = told["curves"].ints(column)
        assert shown[shown > 0].min() >= K
    at_risk = told["curves"].ints("at_risk")
    group = told["curves"]["group"]
    for name in ("new", "old"):
        steps = -np.diff(at_risk[group == name])
        assert np.all((steps == 0) | (steps >= K))


def test_a_block_that_was_not_cut_is_not_tried_again() -> None:
    """The difference of two tries would count the few people between two cuts."""
    frame = in_groups()
    watched = Watched(threshold_gate(K))
    question = SurvivalCurves(time="time", event="event", cause=1, by="group", groups=("new", "old"), halvings=10)
    run(question, sites_of(frame, frame["site"]), gate=watched)
    asked = [total.ints("left").shape[1] for total in watched.totals if "left" in total]
    passed = [int((t.ints("left").reshape(-1, 2).min(axis=1) >= K).sum()) for t in watched.totals if "left" in t]
    for now, later in zip(passed, asked[1:], strict=False):
        assert later <= 2 * 2 * now


def test_a_group_without_enough_events_is_withheld_not_zero() -> None:
    frame = in_groups().assign(
        event=lambda f: np.where((f["group"] == "new") & (f.index > 20), 0, np.minimum(f["event"], 1))
    )
    few = int(((frame["group"] == "new") & (frame["event"] > 0)).sum())
    assert 0 < few < 2 * K
    told = ask(frame, by="group", groups=("new", "old"), least=2 * K)
    assert told["groups"].withheld["people"].tolist() == [True, False]
    assert set(told["curves"]["group"].tolist()) == {"old"}
    assert told["tests"].records()[0]["statistic"] is None


def test_bad_input_is_refused_alike_everywhere() -> None:
    frame = in_groups().assign(event=lambda f: np.minimum(f["event"], 1))
    for changes, word in (
        ({"time": frame["time"].where(frame.index != 3, -2.0)}, "negative"),
        ({"event": "dead"}, "no numeric column"),
        ({"event": 0.0}, "too few events"),
        ({"event": 0.5}, "other values"),
    ):
        said = set()
        for sites in (frame["site"], 0):
            with pytest.raises(Invalid, match=word) as error:
                ask(frame.assign(**changes).assign(site=sites))
            said.add(str(error.value))
        assert len(said) == 1


def test_groups_are_listed_once_and_only_with_a_column() -> None:
    for changes in ({"by": "sex"}, {"groups": ["a"]}, {"by": "sex", "groups": ["a", "a"]}):
        with pytest.raises(Invalid, match="groups need a column"):
            build("survival-curves", {"time": "t", "event": "e"} | changes)


def test_the_twin_cuts_as_the_rule_says() -> None:
    found = cuts([1.0, 2.0, 3.0, 10.0], 2, 3)
    assert found == [Cut(-1.0, np.inf, 4.0, 4)]
    assert [c.people for c in cuts([1.0, 2.0, 9.0, 10.0], 2, 3)] == [2, 2]
