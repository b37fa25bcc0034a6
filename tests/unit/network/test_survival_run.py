"""Survival over real coordinator, nodes and releaser: the same tables as in one process, behind the gate and vetoes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tests.federation import build_federation
from tests.unit.analysis.survival_twins import sites_of
from tests.unit.analysis.test_cox import measured, patients
from tests.worlds import run, threshold_gate

from federome.analysis.cox import Cox
from federome.analysis.similar_tumours import SimilarTumours
from federome.analysis.survival_curves import SurvivalCurves
from federome.model.table import Table
from federome.network.protocol import mapping


def test_cox_and_curves_travel_and_come_back(tmp_path: Path) -> None:
    frame = measured(400, sites=3)
    sites = sites_of(frame, frame["site"])
    federation = build_federation(tmp_path, sites)
    for question, name, column in (
        (Cox(time="time", event="event", covariates=("x",), changing=("marker",), halvings=3), "effects", "beta"),
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


def melanomas(people: int = 360) -> pd.DataFrame:
    """Tumours alike in BRAF, some of them in PTEN, each with its therapy."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "months": rng.exponential(20, people) + 0.1,
            "died": (rng.random(people) < 0.7).astype(float),
            "tumour_genes": np.where(rng.random(people) < 0.5, "BRAF;PTEN", "BRAF;TP53"),
            "tumour_variants": "BRAF:p.V600E",
            "tumour_acquired": "",
            "tumour_panel": "BRAF;PTEN;TP53",
            "treatments": np.where(rng.random(people) < 0.5, "dabrafenib", "none"),
            "site": np.arange(people) % 3,
        }
    )
    return frame


def test_one_case_more_is_one_case_told_of_and_so_refused(tmp_path: Path) -> None:
    """Two answers that differ by the nearest case each tell, by their difference, what that case was given."""
    frame = melanomas()
    sites = sites_of(frame, frame["site"])
    plain = SimilarTumours(
        time="months", event="died", genes=("BRAF", "PTEN"), treatments=("dabrafenib",), nearest=45, exits_min=5
    )
    fewer = replace(plain, nearest=44)
    both = [run(each, sites, gate=threshold_gate(5))["treatments"].ints("cases")[0] for each in (plain, fewer)]
    assert 0 < both[0] - both[1] <= 3, "undefended, the difference is what three people were given"
    federation = build_federation(tmp_path, sites)
    first = federation.settle(federation.ask(plain))
    assert first.state == "complete", first.detail.get("problem")
    second = federation.settle(federation.ask(fewer))
    assert second.state == "failed"
    assert "differencing" in str(second.detail["problem"])
