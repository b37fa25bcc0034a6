"""Survival over real coordinator, nodes and releaser: the same tables as in one process, behind the gate and vetoes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.federation import build_federation
from tests.unit.analysis.survival_twins import sites_of
from tests.unit.analysis.test_cox import patients
from tests.worlds import run, threshold_gate

from federome.analysis.cox import Cox
from federome.analysis.survival_curves import SurvivalCurves
from federome.model.table import Table
from federome.network.protocol import mapping


def test_cox_and_curves_travel_and_come_back(tmp_path: Path) -> None:
    frame = patients(400, sites=3)
    sites = sites_of(frame, frame["site"])
    federation = build_federation(tmp_path, sites)
    for question, name, column in (
        (Cox(time="time", event="event", covariates=("x", "z"), robust=True, halvings=4), "effects", "beta"),
        (SurvivalCurves(time="time", event="event", halvings=4, until=8.0), "groups", "restricted_mean"),
    ):
        ended = federation.settle(federation.ask(question))
        assert ended.state == "complete", ended.detail.get("problem")
        told = federation.tables(ended)[name].floats(column)
        wanted = run(question, sites, gate=threshold_gate(10))[name].floats(column)
        np.testing.assert_allclose(told, wanted, rtol=0.15)  # contributors may object to cells and make a coarser grid
        assert np.isfinite(told).all()


def test_two_nodes_answer_each_for_itself(tmp_path: Path) -> None:
    """Of two, each could subtract itself: so each fits its own people, on intervals of at least k of its own events."""
    frame = patients(400, sites=2)
    federation = build_federation(tmp_path, sites_of(frame, frame["site"]))
    question = Cox(time="time", event="event", covariates=("x", "z"))
    ended = federation.settle(federation.ask(question))
    assert ended.state == "complete", ended.detail.get("problem")
    ledger = federation.coordinator.ledger
    parts = mapping(mapping(ended.detail, "result"), "results")
    betas = []
    for part in parts:
        digests = mapping(mapping(parts, part), "tables")
        told = {
            table: Table.from_bytes(ledger.get(ended.id, f"document/{digest}")) for table, digest in digests.items()
        }
        assert told["model"]["method"].tolist() == ["piecewise-exponential"], "asked for Cox: it says what it fitted"
        assert told["baseline"].ints("events").min() >= 10
        betas.append(told["effects"].floats("beta"))
    own = [sites_of(frame[frame["site"] == at], ["all"] * 200) for at in (0, 1)]
    wanted = [run(question.alone(), each, gate=threshold_gate(10))["effects"].floats("beta") for each in own]
    np.testing.assert_allclose(np.sort(betas, axis=0), np.sort(wanted, axis=0), rtol=1e-5)
