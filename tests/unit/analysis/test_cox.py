"""``cox`` against slow twins, lifelines on the same grid, published fits, and people who would read its totals."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.unit.analysis.survival_twins import (
    STUDIES,
    Cut,
    Floats,
    Study,
    constant_hazards,
    cox,
    cuts,
    efron,
    efron_residuals,
    gridded,
    site_of,
    sites_of,
    study,
)
from tests.worlds import MemorySite, Watched, run, threshold_gate

from federome.analysis.algorithm import Table, build
from federome.analysis.at_risk import AtRisk, Slots
from federome.analysis.cox import Cox
from federome.analysis.follow_up import Grid
from federome.analysis.partial_likelihood import Episodes
from federome.errors import Invalid

K = 10
Frame = pd.DataFrame


def effects(told: Mapping[str, Table], column: str = "beta") -> np.ndarray:
    return told["effects"].floats(column)


def patients(people: int = 400, *, seed: int = 3, sites: int = 3) -> Frame:
    """Synthetic patients: late entries, a treatment that begins with time, two strata, clusters, three sites."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=people), (rng.random(people) < 0.4).astype(float)
    stratum = rng.choice(np.array(["a", "b"]), people)
    died = rng.exponential(12 / np.exp(0.5 * x - 0.4 * z) * np.where(stratum == "a", 1, 2))
    left = rng.uniform(2, 30, people)
    time = np.minimum(died, left).round(2) + 0.01
    start = rng.exponential(8, people).round(3)
    return pd.DataFrame(
        {
            "time": time,
            "event": (died <= left).astype(float),
            "x": x,
            "z": z,
            "stratum": stratum,
            "entry": np.where(rng.random(people) < 0.5, (time * rng.random(people)).round(3), 0.0),
            "treated_at": np.where(start < 1.5 * time, start, np.nan),
            "family": rng.integers(0, people // 3, people).astype(str),
            "site": np.arange(people) % sites,
        }
    )


def ask(frame: Frame, *, least: int = K, sites: str = "site", **changes: Any) -> Mapping[str, Table]:
    question = Cox(
        **{"time": "time", "event": "event", "covariates": ("x", "z"), "exits_min": least, "tell_shift": False}
        | changes  # type: ignore[arg-type]
    )
    return run(question, sites_of(frame, frame[sites]), gate=threshold_gate(least))


def on_grid(frame: Frame, *, least: int = K, halvings: int = 6) -> Frame:
    """The frame with its times on the grid of the twin."""
    time = gridded(frame["time"].to_numpy(), frame["event"].to_numpy(), least, halvings, lambda cut: cut.mean)
    return frame.assign(time=time).dropna(subset=["time"])


def fitted(lifelines: Any, frame: Frame, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lifelines.CoxPHFitter().fit(
            frame, "time", "event", fit_options={"precision": 1e-12, "r_precision": 1e-15}, **options
        )


@pytest.mark.parametrize("each", STUDIES, ids=lambda each: each.name)
def test_every_study_equals_pooled_and_lifelines_on_the_same_grid(shared: Path, lifelines: Any, each: Study) -> None:
    frame = study(shared, each.name)
    wanted = {"covariates": each.covariates, "least": each.least}
    if each.name == "g3":
        wanted["halvings"] = 2
    told = ask(frame, **wanted)
    pooled = ask(frame.assign(site=0), **wanted)
    for column in ("beta", "se"):
        assert np.abs(effects(told, column) - effects(pooled, column)).max() < 1e-9
    own = on_grid(frame, least=each.least, halvings=int(wanted.get("halvings", 6)))[["time", "event", *each.covariates]]
    peer = fitted(lifelines, own)
    scale = frame[list(each.covariates)].std().to_numpy()
    assert np.abs((effects(told) - peer.params_.to_numpy()) * scale).max() < 1e-6
    assert np.abs((effects(told, "se") - peer.standard_errors_.to_numpy()) * scale).max() < 1e-6
    assert told["model"]["log_likelihood"][0] == pytest.approx(peer.log_likelihood_, abs=1e-6)
    assert told["model"]["intervals"][0] == len(np.unique(own["time"][own["event"] > 0]))


@pytest.mark.parametrize("halvings", [1, 2, 4, 10])
def test_no_interval_of_the_pooled_totals_holds_fewer_than_k_people(shared: Path, halvings: int) -> None:
    """Opens every total and looks: risk sets differ, and events lie, by nobody or by at least k. On each grid by the
    way, too: what is a last grid here is one that finer questions pass through."""
    frame = study(shared, "metabric")
    watched = Watched(threshold_gate(K))
    question = Cox(time="time", event="event", covariates=("age", "npi"), halvings=halvings, exits_min=2)
    told = run(question, sites_of(frame, frame["site"]), gate=watched)
    at_risk = next(total.floats("plain") for total in watched.totals if "plain" in total)
    events = told["baseline"].ints("events")
    left = -np.diff([*at_risk, 0.0])
    assert len(at_risk) > min(2**halvings, 51) - 1
    for counts in (at_risk, events, left - events):
        assert np.all((np.abs(counts) < 1e-6) | (counts > K - 0.5))
    seen = [total for total in watched.totals if "risk" in total]
    assert seen[0].floats("risk").reshape(-1, 6)[0, 0] == len(frame), "nothing is weighted before the first step"
    if halvings == 10:
        assert all("left" in total or len(total.floats("risk")) == len(events) for total in seen)


def test_undefended_sums_over_exact_times_hand_over_a_patient(shared: Path) -> None:
    """Why the grid: on the times as recorded, two consecutive totals differ by one woman's age and index."""
    frame = study(shared, "metabric").sort_values("time", ignore_index=True)
    people = frame[["age", "npi"]].to_numpy()
    times = np.unique(frame["time"][frame["event"] > 0])
    stop = np.searchsorted(times, frame["time"].to_numpy(), side="right")
    nobody = np.zeros(len(frame), np.int64)
    slots = np.zeros(len(times), np.int64)
    exact = Episodes.ordered(np.arange(len(frame)), nobody, stop, frame["event"].to_numpy() > 0, people, slots)
    risk, _, _ = exact.sums(np.zeros(2))
    difference = risk[:-1] - risk[1:]
    alone = np.flatnonzero(np.abs(difference[:, 0] - 1) < 1e-9)
    assert len(alone) > 300
    victim = frame.iloc[np.flatnonzero(stop == alone[5] + 1)[0]]
    np.testing.assert_allclose(difference[alone[5], 1:3], [victim["age"], victim["npi"]], atol=1e-6)


def test_strata_have_risk_sets_of_their_own(lifelines: Any) -> None:
    frame = patients()
    told = ask(frame, strata="stratum", levels=("a", "b"))
    own = pd.concat([on_grid(frame[frame["stratum"] == name]) for name in ("a", "b")])
    peer = fitted(lifelines, own[["time", "event", "x", "z", "stratum"]], strata=["stratum"])
    assert effects(told) == pytest.approx(peer.params_.to_numpy(), abs=1e-7)
    assert told["model"]["log_likelihood"][0] == pytest.approx(peer.log_likelihood_, abs=1e-6)
    assert set(told["baseline"]["stratum"].tolist()) == {"a", "b"}


def ends_of(frame: Frame, *, halvings: int) -> Frame:
    """Ends at the upper, beginnings at the lower limits of their blocks, as with late entries."""

    def high(cut: Cut) -> float:
        return min(cut.high, 1e6)

    exits = gridded(frame["time"].to_numpy(), frame["event"].to_numpy(), K, halvings, high)
    out = frame.assign(time=exits)
    for name in ("entry", "treated_at"):
        values = frame[name].to_numpy()
        has = (values > 0) & (values < frame["time"].to_numpy())
        blocks = cuts(values[has].tolist(), K, halvings)
        low = [next(max(b.low, 0.0) for b in blocks if b.low < v <= b.high) if h else np.nan
               for v, h in zip(values.tolist(), has.tolist(), strict=True)]  # fmt: skip
        out[name] = low
    return out.assign(entry=out["entry"].fillna(0.0))


def test_late_entry_puts_people_at_risk_from_then_on(lifelines: Any) -> None:
    frame = patients()
    told = ask(frame, entry="entry", halvings=4)
    own = ends_of(frame, halvings=4)
    peer = fitted(lifelines, own[["time", "event", "x", "z", "entry"]], entry_col="entry")
    assert effects(told) == pytest.approx(peer.params_.to_numpy(), abs=1e-7)
    assert effects(told, "se") == pytest.approx(peer.standard_errors_.to_numpy(), abs=1e-7)


def test_treatment_counts_from_the_day_it_began(lifelines: Any) -> None:
    frame = patients()
    told = ask(frame, since=("treated_at",), halvings=4)
    own = ends_of(frame, halvings=4)
    rows = []
    for number, person in enumerate(own.to_dict("records")):
        switch = person["treated_at"]
        base = {"id": number, "x": person["x"], "z": person["z"]}
        if np.isfinite(switch):
            if switch > 0:
                rows.append({**base, "start": 0.0, "stop": switch, "event": 0.0, "on": 0.0})
            rows.append({**base, "start": switch, "stop": person["time"], "event": person["event"], "on": 1.0})
        else:
            rows.append({**base, "start": 0.0, "stop": person["time"], "event": person["event"], "on": 0.0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = lifelines.CoxTimeVaryingFitter().fit(
            pd.DataFrame(rows), id_col="id", event_col="event", start_col="start", stop_col="stop",
            fit_options={"precision": 1e-10},
        )  # fmt: skip
    assert told["effects"]["covariate"].tolist() == ["x", "z", "treated_at passed"]
    assert effects(told) == pytest.approx(peer.params_[["x", "z", "on"]].to_numpy(), abs=1e-7)


# values that change


def measured(people: int = 400, *, every: float = 1.5, **changes: Any) -> Frame:
    """Patients whose marker is measured anew every now and then, and drives the hazard of some."""
    frame = patients(people, **changes)
    rng = np.random.default_rng(5)
    first = rng.normal(size=people).round(2)
    lists = []
    for end in frame["time"]:
        times = np.cumsum(rng.exponential(every, 40)).round(3)
        lists.append(
            (tuple(times[times < 1.3 * end]), tuple(rng.normal(0.2, 1, int((times < 1.3 * end).sum())).round(2)))
        )
    return frame.assign(
        marker=first, marker_later_at=[at for at, _ in lists], marker_later=[value for _, value in lists]
    )


def standing(person: Mapping[str, Any], when: float) -> float:
    """The value of one person that was last measured up to a time, looked up in the lists as they are."""
    known = [v for at, v in zip(person["marker_later_at"], person["marker_later"], strict=True) if at <= when]
    return known[-1] if known else person["marker"]


def readings(frame: Frame, starts: Sequence[float], slots: Floats, least: int) -> list[int]:
    """At which intervals values are read: greedily, where at least so many differ from what they had at each before."""
    kept = [0]
    rows = frame.to_dict("records")
    for later in range(1, len(slots)):
        there = [p for p in rows if p["time"] >= slots[later]]
        moved = [sum(standing(p, starts[later]) != standing(p, starts[before]) for p in there) for before in kept]
        if min(moved) >= least:
            kept.append(later)
    return kept


def spans(frame: Frame, *, halvings: int, least: int = K) -> tuple[Frame, list[int]]:
    """Start-stop rows of everybody on the grid, as lifelines wants them, and at which intervals values are read."""
    own = on_grid(frame, least=least, halvings=halvings).assign(number=np.arange(len(frame)))
    blocks = cuts(frame["time"][frame["event"] > 0].tolist(), least, halvings)
    starts, slots = [max(b.low, 0.0) for b in blocks], np.array([b.mean for b in blocks])
    kept = readings(own, starts, slots, least)
    rows = []
    for person in own.to_dict("records"):
        passed = int((slots <= person["time"]).sum())
        for slot in range(passed):
            at = max(each for each in kept if each <= slot)
            rows.append(
                {
                    **{name: person[name] for name in ("number", "x", "z", "family")},
                    "marker": standing(person, starts[at]),
                    "start": slots[slot - 1] if slot else 0.0,
                    "stop": slots[slot],
                    "event": person["event"] * (slots[slot] == person["time"]),
                }
            )
    return pd.DataFrame(rows), kept


def time_varying(lifelines: Any, rows: Frame, names: Sequence[str]) -> Any:
    wanted = rows[["number", "start", "stop", "event", *names]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lifelines.CoxTimeVaryingFitter().fit(
            wanted, id_col="number", event_col="event", start_col="start", stop_col="stop",
            fit_options={"precision": 1e-12},
        )  # fmt: skip


@pytest.mark.parametrize("every", [1.5, 40.0], ids=["often", "rarely"])
def test_a_value_that_changes_counts_in_each_interval_as_it_was_known_then(lifelines: Any, every: float) -> None:
    frame = measured(every=every)
    told = ask(frame, changing=("marker",), halvings=5)
    pooled = ask(frame.assign(site=0), changing=("marker",), halvings=5)
    rows, kept = spans(frame, halvings=5)
    peer = time_varying(lifelines, rows, ["x", "z", "marker"])
    assert told["effects"]["covariate"].tolist() == ["x", "z", "marker changing"]
    assert told["effects"].floats("readings")[2] == len(kept)
    assert (len(kept) > 9) == (every < 2), "where few values change from one interval to the next, fewer are read"
    for column, theirs in (("beta", peer.params_), ("se", peer.standard_errors_)):
        np.testing.assert_allclose(effects(told, column), effects(pooled, column), atol=1e-9)
        np.testing.assert_allclose(effects(told, column), theirs.to_numpy(), atol=1e-6)
    assert told["model"]["log_likelihood"][0] == pytest.approx(peer.log_likelihood_, abs=1e-6)
    assert told["model"]["people"][0] == len(frame), "people, not their rows"
    first = effects(ask(frame, covariates=("x", "z", "marker"), halvings=5))
    assert abs(first[2] - effects(told)[2]) > 0.01, "the first value alone is another model"


def test_a_stratum_has_so_many_readings_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evenly over its intervals, the first always: so that counts of changes do not grow with the square of them."""
    frame = measured(every=0.5)
    asked = {"changing": ("marker",), "halvings": 4, "strata": "stratum", "levels": ("a", "b")}
    before = ask(frame, **asked)["effects"].floats("readings")[2]
    monkeypatch.setattr("federome.analysis.at_risk.READINGS", 4)
    told, pooled = (ask(each, **asked) for each in (frame, frame.assign(site=0)))
    assert 2 < told["effects"].floats("readings")[2] <= 8 < before
    np.testing.assert_allclose(effects(told), effects(pooled), atol=1e-9)


@pytest.mark.parametrize("cluster", ["", "family"])
def test_robust_variance_of_changing_values_is_that_of_people(cluster: str) -> None:
    """Residuals of all of a person's rows are one residual."""
    frame = measured()
    told = ask(frame.assign(site=0), changing=("marker",), robust=True, cluster=cluster, halvings=4)
    rows, _ = spans(frame, halvings=4)
    x, beta = rows[["x", "z", "marker"]].to_numpy(), effects(told)
    weight, parts, information = np.exp(x @ beta), np.zeros_like(x), np.zeros((3, 3))
    for stop in np.unique(rows["stop"]):
        risk = (rows["stop"] == stop).to_numpy()
        tied = risk & (rows["event"] > 0).to_numpy()
        for place in range(int(tied.sum())):
            own = np.where(tied, 1 - place / tied.sum(), 1.0) * risk * weight
            mean = own @ x / own.sum()
            parts[tied] += (x[tied] - mean) / tied.sum()
            parts -= (own / own.sum())[:, None] * (x - mean)
            information += (x * own[:, None]).T @ x / own.sum() - np.outer(mean, mean)
    summed = pd.DataFrame(parts).groupby(rows[cluster or "number"].to_numpy()).sum().to_numpy()
    inverse = np.linalg.inv(information)
    wanted = np.sqrt(np.diag(inverse @ summed.T @ summed @ inverse))
    assert effects(told, "robust_se") == pytest.approx(wanted, rel=1e-7)


def test_values_are_read_anew_where_enough_people_have_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks into every node: wherever values are read, those of at least k people differ from each reading before.
    Undefended, sums over consecutive intervals differ by the new values of a few. Here all have values that come back.
    """
    frame = measured(every=30.0).assign(marker=0.0)
    frame["marker_later"] = [tuple(float(i % 2 == 0) for i in range(len(v))) for v in frame["marker_later"]]

    def fewest() -> int:
        """The fewest people of all nodes whose value is another one than before, where anybody's is."""
        nodes: list[tuple[AtRisk, np.ndarray]] = []

        def remember(self: AtRisk, renewed: np.ndarray) -> np.ndarray:
            nodes.append((self, values(self, renewed)))
            return nodes[-1][1]

        values = AtRisk.values
        with monkeypatch.context() as patch:
            patch.setattr(AtRisk, "values", remember)
            ask(frame, changing=("marker",), halvings=5)
        counts = []
        for later in range(1, nodes[0][1].shape[1]):
            for before in range(later):
                last = [there.stop > later for there, _ in nodes]
                now, then = ([held[:, at, 0] for _, held in nodes] for at in (later, before))
                if any((a != held[:, later - 1, 0]).any() for a, (_, held) in zip(now, nodes, strict=True)):
                    counts.append(sum(int((m & (a != b)).sum()) for m, a, b in zip(last, now, then, strict=True)))
        return min(count for count in counts if count)

    assert fewest() >= K
    monkeypatch.setattr(Slots, "renewals", lambda self, enough, series: np.ones((series, self.size), np.bool_))
    assert fewest() < K


def test_constant_hazards_take_changing_values_too() -> None:
    """Poisson regression of the time that people spend in each interval, with the value known when it began."""
    frame = measured()
    told = ask(frame, changing=("marker",), model="piecewise-exponential", halvings=3)
    blocks = cuts(frame["time"][frame["event"] > 0].tolist(), K, 3)
    starts = [max(b.low, 0.0) for b in blocks]
    kept = readings(frame, starts, np.array([np.nextafter(s, 1e9) for s in starts]), K)
    rows = []
    for person in frame.to_dict("records"):
        for number, block in enumerate(blocks):
            spent = min(person["time"], block.high) - starts[number]
            if spent > 0:
                value = standing(person, starts[max(each for each in kept if each <= number)])
                died = float(person["event"] > 0 and person["time"] <= block.high)
                rows.append({"x": person["x"], "z": person["z"], "m": value, "block": number, "died": died, "t": spent})
    np.testing.assert_allclose(effects(told), poisson(pd.DataFrame(rows), ["x", "z", "m"]), atol=1e-7)


def test_the_shift_told_of_changing_values_is_that_from_their_recorded_times(lifelines: Any) -> None:
    frame = measured(1200)
    told = ask(frame, changing=("marker",), tell_shift=True)["effects"]
    rows = []
    for number, person in enumerate(frame.to_dict("records")):
        edges = [0.0, *(at for at in person["marker_later_at"] if at < person["time"]), person["time"]]
        for low, high in pairwise(edges):
            row = {"number": number, "x": person["x"], "z": person["z"], "marker": standing(person, low)}
            rows.append({**row, "start": low, "stop": high, "event": person["event"] * (high == person["time"])})
    peer = time_varying(lifelines, pd.DataFrame(rows), ["x", "z", "marker"])
    real = (peer.params_.to_numpy() - told.floats("beta")) / told.floats("se")
    left = (peer.params_.to_numpy() - told.floats("beta_recorded")) / told.floats("se")
    assert np.abs(left).max() < 0.1
    assert np.abs(left).max() < np.abs(real).max()


def test_changing_values_with_late_entry_strata_and_a_treatment(lifelines: Any) -> None:
    """All at once, over three nodes and over one; and who has no value yet when they come is incomplete."""
    frame = measured()
    frame["marker"] = frame["marker"].where(frame.index % 20 != 0)
    asked = {"changing": ("marker",), "entry": "entry", "since": ("treated_at",), "halvings": 3}
    told, pooled = (ask(each, **asked) for each in (frame, frame.assign(site=0)))
    np.testing.assert_allclose(effects(told), effects(pooled), atol=1e-9)
    unknown = sum(not np.isfinite(standing(p, p["entry"])) for p in frame.to_dict("records"))
    assert 0 < unknown == told["model"]["incomplete"][0]
    split = {**asked, "strata": "stratum", "levels": ("a", "b"), "entry": "", "since": ()}
    told, pooled = (ask(each, **split) for each in (frame, frame.assign(site=0)))
    np.testing.assert_allclose(effects(told), effects(pooled), atol=1e-9)
    assert np.isfinite(effects(told)).all()


@pytest.mark.parametrize("cluster", ["", "family"])
def test_robust_variance_is_the_sandwich_of_residuals(cluster: str) -> None:
    frame = patients()
    told = ask(frame.assign(site=0), robust=True, cluster=cluster)
    own = on_grid(frame)
    x = own[["x", "z"]].to_numpy()
    residuals = efron_residuals(own["time"].to_numpy(), own["event"].to_numpy(), x, effects(told))
    _, score, information = efron(own["time"].to_numpy(), own["event"].to_numpy(), x, effects(told))
    assert np.abs(residuals.sum(axis=0) - score).max() < 1e-8
    if cluster:
        residuals = pd.DataFrame(residuals).groupby(own["family"].to_numpy()).sum().to_numpy()
    inverse = np.linalg.inv(information)
    wanted = np.sqrt(np.diag(inverse @ residuals.T @ residuals @ inverse))
    assert effects(told, "robust_se") == pytest.approx(wanted, rel=1e-7)


def test_robust_variance_without_ties_is_lifelines(lifelines: Any) -> None:
    """lifelines' sandwich knows no ties, so here each event has a slot of its own."""
    rng = np.random.default_rng(0)
    people = 24
    order = np.cumsum(rng.permutation(np.linspace(1, 1.2, people)))
    frame = pd.DataFrame({"time": order, "event": 1.0, "x": rng.normal(size=people), "site": np.arange(people) % 3})
    episodes = Episodes.ordered(
        np.arange(people), np.zeros(people, np.int64), np.arange(1, people + 1), np.ones(people, bool),
        frame[["x"]].to_numpy(), np.zeros(people, np.int64),
    )  # fmt: skip
    peer = fitted(lifelines, frame[["time", "event", "x"]], robust=True)
    beta = peer.params_.to_numpy()
    risk, tied, _ = episodes.sums(beta)
    residuals = episodes.residuals(beta, risk, tied, np.ones(people, np.int64), efron=True)
    _, _, information = efron(frame["time"].to_numpy(), np.ones(people), frame[["x"]].to_numpy(), beta)
    wanted = np.sqrt((residuals**2).sum()) / information[0, 0]
    assert peer.standard_errors_.to_numpy()[0] == pytest.approx(wanted, rel=1e-6)


def test_published_fit_of_rossi_by_the_exact_twin(shared: Path) -> None:
    """R's coxph (Efron), as printed in Fox and Weisberg's appendix on Cox regression: the oracle is an oracle."""
    frame = study(shared, "rossi")
    names = ["fin", "age", "race", "wexp", "mar", "paro", "prio"]
    beta, se = cox(frame["time"].to_numpy(), frame["event"].to_numpy(), frame[names].to_numpy())
    printed = [-0.37942, -0.05744, 0.31390, -0.14980, -0.43370, -0.08487, 0.09150]
    assert beta == pytest.approx(printed, abs=6e-6)
    assert se == pytest.approx([0.19138, 0.02200, 0.30799, 0.21222, 0.38187, 0.19576, 0.02865], abs=6e-6)


@pytest.mark.parametrize("name", ["metabric", "gbsg2"])
def test_the_shift_told_is_the_shift_from_the_times_as_recorded(shared: Path, name: str) -> None:
    frame = study(shared, name)
    covariates = next(each.covariates for each in STUDIES if each.name == name)
    told = ask(frame, covariates=covariates, tell_shift=True, least=5)
    peer, se = cox(frame["time"].to_numpy(), frame["event"].to_numpy(), frame[list(covariates)].to_numpy())
    real, estimated = (peer - effects(told)) / se, effects(told, "shift_in_se")
    assert np.abs(real).max() < 0.25
    assert np.abs(real - estimated).max() < 0.08
    if name == "metabric":
        assert np.abs(real - estimated).max() < 0.5 * np.abs(real).max()


@pytest.mark.parametrize(("intervals", "errors", "share"), [(10, 0.117, 2.4), (20, 0.085, 1.9)])
def test_the_bar_of_ten_intervals_was_measured_on_constant_hazards(
    shared: Path, intervals: int, errors: float, share: float
) -> None:
    """The figures that the bar comes from, again: METABRIC's 1,980 patients, an unknown marker counted as absent, ties
    by Breslow; constant hazards between quantiles of the times of death; in standard errors, and in parts of each
    effect that is sure (|z| > 3). A Cox regression on so coarse a grid was not meant by it.
    """
    from statsmodels.duration.hazard_regression import PHReg

    from federome.demo import followed

    cohorts = followed.metabric(shared)
    frame = cohorts.frame.fillna(dict.fromkeys(("er", "her2", "chemotherapy", "hormone", "radio"), 0.0)).dropna()
    x = frame[[*cohorts.covariates, cohorts.treatment]].to_numpy()
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    time, event = frame["months"].to_numpy(), frame["died"].to_numpy()
    peer = PHReg(time, x, event, ties="breslow").fit()
    cuts_at = np.quantile(time[event > 0], np.arange(1, intervals) / intervals)
    away = np.abs(constant_hazards(time, event, x, cuts_at) - peer.params)
    assert (away / peer.bse).max() == pytest.approx(errors, abs=6e-4)
    sure = np.abs(peer.params / peer.bse) > 3
    assert 100 * (away / np.abs(peer.params))[sure].max() == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("model", ["cox", "piecewise-exponential"])
def test_eight_intervals_are_enough_for_a_tenth_of_a_standard_error(shared: Path, model: str) -> None:
    """METABRIC's recorded times, seven covariates: within 0.12 standard errors and 2.5 % of the largest effect. Of
    constant hazards, which use how long each was at risk, so already; of ``cox`` once the shift told is added."""
    from federome.demo import followed

    cohorts = followed.metabric(shared)
    names = (*cohorts.covariates, cohorts.treatment)
    frame = cohorts.frame.dropna().rename(columns={"months": "time", "died": "event"})
    told = ask(frame, covariates=names, tell_shift=True, halvings=3, model=model)["effects"]
    peer, se = cox(frame["time"].to_numpy(), frame["event"].to_numpy(), frame[list(names)].to_numpy())
    scale = frame[list(names)].std().to_numpy()
    beta = told.floats("beta_recorded" if model == "cox" else "beta")
    assert np.abs((beta - peer) / se).max() < 0.12
    assert np.abs((beta - peer) * scale).max() < 0.025 * np.abs(peer * scale).max()
    np.testing.assert_allclose(told.floats("beta_recorded"), told.floats("beta") + told.floats("shift"))


class Misled(Cox):
    """As if the coarser grids said that everything doubles the hazard many times over."""

    def _refined(self, grid: Grid, total: Table, trial: np.ndarray) -> np.ndarray:
        return np.full_like(trial, 5.9)


def test_a_grid_that_misleads_is_left_and_the_last_one_started_anew() -> None:
    """Steps on coarser grids only choose where Newton's method begins on the last: never where it ends."""
    frame = patients()
    question = Cox(time="time", event="event", covariates=("x", "z"), tell_shift=False)
    misled = Misled(time="time", event="event", covariates=("x", "z"), tell_shift=False)
    watched = Watched(threshold_gate(K))
    told, again = (run(asked, sites_of(frame, frame["site"]), gate=watched) for asked in (question, misled))
    assert sum("plain" in total for total in watched.totals) >= 7, "two and five fits: one from far away"
    for column in ("beta", "se"):
        np.testing.assert_allclose(effects(again, column), effects(told, column), atol=1e-10)


def poisson(rows: Frame, names: Sequence[str]) -> Floats:
    """Poisson regression with an intercept for each block and the time ``t`` as exposure."""
    import statsmodels.api as sm

    design = np.column_stack([pd.get_dummies(rows["block"]).to_numpy(float), rows[[*names]].to_numpy()])
    model = sm.GLM(rows["died"], design, family=sm.families.Poisson(), offset=np.log(rows["t"]))
    return np.asarray(model.fit(tol=1e-12).params)[-len(names) :]


@pytest.mark.parametrize("since", [(), ("treated_at",)], ids=["", "treated"])
def test_constant_hazards_count_everybodys_time_once(since: tuple[str, ...]) -> None:
    """Of those who leave before the first event, too, and of those who are treated some way on."""
    frame = patients()
    early = (frame["event"] == 0) & (frame.index % 2 == 0)
    frame["time"] = np.where(early, frame["time"] / 100, frame["time"])
    told = ask(frame, model="piecewise-exponential", halvings=3, since=since)
    blocks = cuts(frame["time"][frame["event"] > 0].tolist(), K, 3)
    switched = cuts(frame["treated_at"][frame["treated_at"] < frame["time"]].tolist(), K, 3)
    rows = []
    for person in frame.to_dict("records"):
        begun = next((b.low for b in switched if b.low < person["treated_at"] <= b.high), np.inf)
        begun = begun if person["treated_at"] < person["time"] else np.inf
        begun = max([0.0, *(b.high for b in blocks if b.high <= begun)]) if np.isfinite(begun) else np.inf
        for number, block in enumerate(blocks):
            low = max(block.low, 0.0)
            spent = min(person["time"], block.high) - low
            if spent > 0:
                died = float(person["event"] > 0 and block.low < person["time"] <= block.high)
                known = {"x": person["x"], "z": person["z"], "on": float(low >= begun)}
                rows.append({**known, "block": number, "died": died, "t": spent})
    names = ["x", "z", "on"] if since else ["x", "z"]
    np.testing.assert_allclose(effects(told), poisson(pd.DataFrame(rows), names), atol=1e-7)


def test_piecewise_exponential_is_poisson_regression_on_the_same_cuts() -> None:
    frame = patients()
    told = ask(frame, model="piecewise-exponential", halvings=3, robust=True)
    blocks = cuts(frame["time"][frame["event"] > 0].tolist(), K, 3)
    rows = []
    for person in frame.assign(number=np.arange(len(frame))).to_dict("records"):
        for number, block in enumerate(blocks):
            spent = min(person["time"], block.high) - max(block.low, 0.0)
            if spent > 0:
                died = person["event"] > 0 and block.low < person["time"] <= block.high
                known = {name: person[name] for name in ("number", "x", "z")}
                rows.append({**known, "block": number, "died": float(died), "log": np.log(spent)})
    import statsmodels.api as sm

    long = pd.DataFrame(rows)
    design = np.column_stack([pd.get_dummies(long["block"]).to_numpy(float), long[["x", "z"]].to_numpy()])
    model = sm.GLM(long["died"], design, family=sm.families.Poisson(), offset=long["log"])
    peer = model.fit(tol=1e-12)
    clustered = model.fit(
        tol=1e-12, cov_type="cluster", cov_kwds={"groups": long["number"].to_numpy(), "use_correction": False}
    )
    assert effects(told, "robust_se") == pytest.approx(np.asarray(clustered.bse)[-2:], abs=1e-6)
    assert effects(told) == pytest.approx(np.asarray(peer.params)[-2:], abs=1e-7)
    assert effects(told, "se") == pytest.approx(np.asarray(peer.bse)[-2:], abs=1e-6)
    hazard = told["baseline"].floats("hazard")
    centre = np.exp(-(effects(told) @ frame[["x", "z"]].mean().to_numpy()))
    assert hazard * centre == pytest.approx(np.exp(np.asarray(peer.params)[:-2]), rel=1e-5)


# bad input


def refused(frame: Frame, **changes: Any) -> str:
    with pytest.raises(Invalid) as error:
        ask(frame, **changes)
    with pytest.raises(Invalid) as alone:
        ask(frame.assign(site=0), **changes)
    assert str(error.value) == str(alone.value), "refused alike wherever the people are"
    return str(error.value)


def test_negative_times_are_refused() -> None:
    assert "negative or infinite times" in refused(
        patients().assign(time=lambda f: f["time"].where(f.index != 7, -1.0))
    )


def test_events_as_text_are_refused() -> None:
    assert "no numeric column 'event'" in refused(patients().assign(event="DECEASED"))


def test_other_codes_of_events_are_refused() -> None:
    assert "other values than 0 and 1" in refused(patients().assign(event=lambda f: f["event"] + 1))


def test_all_censored_is_refused() -> None:
    assert "too few events" in refused(patients().assign(event=0.0))


def test_missing_times_are_counted_and_stand_aside() -> None:
    frame = patients()
    holes = frame.assign(time=frame["time"].where(frame.index % 10 != 0))
    told = ask(holes)
    assert told["model"]["incomplete"][0] == 40
    assert effects(told) == pytest.approx(effects(ask(frame[frame.index % 10 != 0])), abs=1e-12)


def test_lists_of_later_values_that_do_not_fit_are_refused() -> None:
    frame = measured()
    asked = {"changing": ("marker",)}
    shorter = frame.assign(marker_later=lambda f: [v[1:] for v in f["marker_later"]])
    assert "different lengths" in refused(shorter, **asked)
    far = frame.assign(marker_later_at=lambda f: [tuple(np.inf for _ in v) for v in f["marker_later_at"]])
    assert "infinite times" in refused(far, **asked)
    assert "no column of lists 'marker_later'" in refused(frame.drop(columns="marker_later"), **asked)
    assert "used twice" in refused(frame, changing=("marker", "marker"))


def test_separation_is_refused() -> None:
    """Nobody with z has an event."""
    assert "no maximum" in refused(patients().assign(z=lambda f: 1.0 - f["event"]))


def test_collinear_and_constant_covariates_are_refused() -> None:
    assert "explained by those before it" in refused(patients().assign(z=lambda f: 2 * f["x"] + 1))
    assert "the same for everybody" in refused(patients().assign(z=1.0))


def test_a_site_without_the_level_answers_all_the_same() -> None:
    frame = patients().assign(grade=lambda f: np.where(f["site"] == 1, "I", np.where(f["x"] > 0, "II", "I")))
    told = ask(frame, covariates=("grade=II", "z"))
    assert effects(told) == pytest.approx(effects(ask(frame.assign(site=0), covariates=("grade=II", "z"))), abs=1e-9)


def test_a_site_without_the_column_is_refused() -> None:
    frame = patients()
    sites = sites_of(frame, frame["site"])
    lacking = site_of({"time": np.ones(5), "event": np.ones(5)})
    with pytest.raises(Invalid, match="no numeric column 'x'"):
        run(Cox(time="time", event="event", covariates=("x",)), [*sites, lacking])


def test_few_censored_people_stand_aside() -> None:
    """Three censored among hundreds: a total over them would tell of three people, so they are left out."""
    frame = patients().assign(event=lambda f: np.where(f.index < 3, 0.0, 1.0))
    watched = Watched(threshold_gate(K))
    question = Cox(time="time", event="event", covariates=("x", "z"), exits_min=K, tell_shift=False)
    told = run(question, sites_of(frame, frame["site"]), gate=watched)
    assert told["model"]["people"][0] == len(frame) - 3
    assert next(t for t in watched.totals if "risk" in t).floats("risk")[0, 0] == len(frame) - 3


def test_too_few_late_entries_are_refused() -> None:
    frame = patients().assign(entry=lambda f: np.where(f.index < 4, f["time"] / 2, 0.0))
    assert "too few people have a time above 0" in refused(frame, entry="entry")


def test_questions_that_make_no_sense_are_refused() -> None:
    plain = {"time": "t", "event": "e", "covariates": ["x"]}
    for changes, word in (
        ({"covariates": []}, "needs a covariate"),
        ({"covariates": ["x", "x"]}, "used twice"),
        ({"strata": "s"}, "need their levels"),
    ):
        with pytest.raises(Invalid, match=word):
            build("cox", plain | changes)


def test_more_parameters_than_events_allow_are_refused() -> None:
    frame = patients(60)
    more = frame.assign(**{f"n{i}": np.random.default_rng(i).normal(size=60) for i in range(12)})
    assert "fewer than five events each" in refused(more, covariates=tuple(f"n{i}" for i in range(12)))


def test_an_empty_site_changes_nothing() -> None:
    frame = patients()
    nobody: MemorySite = site_of({name: np.zeros(0) for name in ("time", "event", "x", "z")})
    question = Cox(time="time", event="event", covariates=("x", "z"))
    full = run(question, [*sites_of(frame, frame["site"]), nobody])
    assert effects(full) == pytest.approx(effects(run(question, sites_of(frame, frame["site"]))), abs=1e-12)
