"""``score-validation``: the Nottingham index on METABRIC, concordance by all pairs, calibration and net benefit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.unit.analysis.survival_twins import metabric, sites_of
from tests.worlds import run, threshold_gate

from federome.analysis.algorithm import Table, build
from federome.analysis.score_validation import LATE, NOTTINGHAM, ScoreValidation, cts5, nottingham
from federome.errors import Invalid

K = 10


def ask(frame: pd.DataFrame, *, least: int = K, **changes: Any) -> Mapping[str, Table]:
    plain = {"time": "time", "event": "event", "horizon": 60.0, "exits_min": least}
    question = ScoreValidation(**plain | changes)  # type: ignore[arg-type]
    return run(question, sites_of(frame, frame["site"]), gate=threshold_gate(least))


def scored(people: int = 3000, seed: int = 9, *, skew: float = 1.0) -> pd.DataFrame:
    """People whose risk by 60 months is what ``risk`` says, if ``skew`` is 1."""
    rng = np.random.default_rng(seed)
    risk = rng.beta(2, 4, people)
    died = rng.exponential(-60 / np.log1p(-np.minimum(risk * skew, 0.99)))
    left = rng.uniform(40, 150, people)
    return pd.DataFrame(
        {"time": np.minimum(died, left), "event": (died <= left) * 1.0, "risk": risk, "site": np.arange(people) % 4}
    )


def test_the_nottingham_index_is_its_formula() -> None:
    """Two centimetres, two positive nodes, grade 3: 0.4 + 2 + 3; METABRIC lists the same index."""
    found = nottingham(np.array([20.0, 10, 30, 20]), np.array([2.0, 0, 5, 1]), np.array([3.0, 1, 2, 4]))
    np.testing.assert_allclose(found, [5.4, 2.2, 5.6, np.nan])


def test_cts5_is_its_formula() -> None:
    """By hand: 0.438 · group of nodes + 0.988 · (0.093 · mm − 0.001 · mm² + 0.375 · grade + 0.017 · age)."""
    size, nodes = np.array([20.0, 45, 10, 10, 10, -1]), np.array([0.0, 1, 3, 9, 10, 0])
    found = cts5(size, nodes, np.array([2.0, 3, 1, 1, 1, 1]), np.array([60.0, 70, 50, 50, 50, 50]))
    wanted = [0.988 * 3.23, 0.438 + 0.988 * (1.89 + 1.125 + 1.19)]
    wanted += [0.438 * group + 0.988 * (0.83 + 0.375 + 0.85) for group in (2, 3, 4)]
    np.testing.assert_allclose(found[:5], wanted)
    assert np.isnan(found[5])
    assert np.isnan(cts5(*(np.array([value]) for value in (20.0, np.nan, 2.0, 60.0))))


def test_cts5_is_computed_at_the_nodes() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "tumour_size_mm": rng.uniform(5, 40, 3000), "positive_nodes": rng.integers(0, 12, 3000).astype(float),
            "grade": rng.integers(1, 4, 3000).astype(float), "age_at_diagnosis": rng.uniform(50, 80, 3000),
        }
    )  # fmt: skip
    score = cts5(
        *(frame[name].to_numpy() for name in ("tumour_size_mm", "positive_nodes", "grade", "age_at_diagnosis"))
    )
    died = rng.exponential(30 / np.exp(score - 4))
    frame = frame.assign(time=np.minimum(died, 20), event=(died <= 20).astype(float))
    question = ScoreValidation(time="time", event="event", score="cts5", edges=LATE, horizon=10)
    told = run(question, sites_of(frame, np.arange(3000) % 3), gate=threshold_gate(K))
    bands = np.searchsorted(LATE, score, side="left")
    assert told["bands"].ints("people").tolist() == np.bincount(bands).tolist()
    assert told["summary"].floats("concordance")[0] > 0.6


def test_the_index_tells_prognosis_on_metabric(shared: Path) -> None:
    told = ask(metabric(shared), score="npi", edges=NOTTINGHAM)
    bands = told["bands"].records()
    assert [row["band"] for row in bands] == ["up to 3.4", "3.4 to 5.4", "over 5.4"]
    risks = [float(str(row["observed"])) for row in bands]
    assert risks == sorted(risks)
    assert risks[2] > 2 * risks[0]
    assert 0.55 < told["summary"]["concordance"][0] < 0.7
    assert told["summary"]["incomplete"].tolist() == [0] or told["summary"].withheld["incomplete"].all()


def test_concordance_is_that_of_all_pairs_on_the_grid() -> None:
    """Against every pair of people, with their times on the grid: two bands, every cell on the same blocks."""
    from federome.analysis.survival_curves import Curve

    rng = np.random.default_rng(1)
    frame = scored(400)
    told = ask(frame, score="risk", edges=(0.3,), least=5)
    assert told["summary"]["concordance"][0] > 0.5
    ends = rng.integers(1, 8, (2, 60)).astype(float)
    event = rng.random((2, 60)) < 0.6
    people = [(b, ends[b, i], event[b, i]) for b in range(2) for i in range(60)]
    right = pairs = 0.0
    for band, time, died in people:
        for other, later, _ in people:
            if died and later > time:
                pairs += 1
                right += 1.0 if band > other else 0.5 if band == other else 0.0
    curves = []
    for b in range(2):
        times = np.unique(ends[b][event[b]])
        empty = np.zeros(len(times))
        counts = np.array([(event[b] & (ends[b] == t)).sum() for t in times])
        sizes = np.ones(60, np.int64)
        curves.append(Curve(ends[b], sizes, times, counts, counts, counts, empty, empty, empty, empty, empty))
    from federome.analysis.score_validation import concordance

    assert concordance(curves) == pytest.approx(right / pairs, rel=1e-12)


def test_calibration_holds_where_it_was_planted_and_fails_where_not() -> None:
    for skew, fits in ((1.0, True), (1.8, False)):
        told = ask(scored(skew=skew), score="risk", predicted="risk", edges=(0.2, 0.3, 0.4, 0.5))["bands"]
        inside = (told.floats("low") <= told.floats("predicted")) & (told.floats("predicted") <= told.floats("high"))
        assert inside.all() if fits else not inside.any()


def test_net_benefit_is_that_of_the_people_counted() -> None:
    frame = scored().assign(time=lambda f: np.where(f["event"] > 0, f["time"], 200.0 + f["time"]))
    told = ask(frame, score="risk", edges=(0.2, 0.4), halvings=8)
    died = (frame["event"] > 0) & (frame["time"] <= 60)
    for row in told["decision"].records():
        edge = float(str(row["threshold"]))
        for column, chosen in (("net_benefit", frame["risk"] > edge), ("treat_all", frame["risk"] >= 0)):
            wanted = ((chosen & died).sum() - (chosen & ~died).sum() * edge / (1 - edge)) / len(frame)
            assert float(str(row[column])) == pytest.approx(wanted, abs=0.02)


def test_a_risk_before_the_first_block_of_events_is_not_known_rather_than_none() -> None:
    """Ten in the lower band had the event: the grid, common to both bands, holds all events in one block."""
    rng = np.random.default_rng(3)
    risk = np.repeat([0.1, 0.5], 300)
    event = np.concatenate([np.arange(300) < 10, rng.random(300) < 0.6])
    time = np.where(event, rng.uniform(2, 100, 600), rng.uniform(60, 120, 600))
    frame = pd.DataFrame({"time": time, "event": event * 1.0, "risk": risk, "site": np.arange(600) % 3})
    assert ((time < 12) & event).sum() > 10
    told = ask(frame, score="risk", edges=(0.3,), horizon=12.0)
    assert told["bands"].ints("people").tolist() == [300, 300]
    for name in ("observed", "low", "high"):
        assert np.isnan(told["bands"].floats(name)).all()
    assert np.isnan(told["decision"].floats("treat_all")).all()
    late = ask(frame, score="risk", edges=(0.3,), horizon=90.0)["bands"]
    assert late.floats("observed") == pytest.approx([10 / 300, 0.6], abs=0.1)
    assert all(60 < followed <= 120 for followed in late.floats("followed").tolist())


def test_bad_input_is_refused() -> None:
    frame = scored(200)
    with pytest.raises(Invalid, match="edges of bands rise"):
        build("score-validation", {"time": "t", "event": "e", "score": "s", "edges": [2.0, 1.0], "horizon": 5.0})
    with pytest.raises(Invalid, match="below 0 or above 1"):
        ask(frame.assign(p=2.0), score="risk", predicted="p", edges=(0.3,))
    with pytest.raises(Invalid, match="negative"):
        ask(frame.assign(time=-1.0), score="risk", edges=(0.3,))
