"""The cancer story tells an adjusted estimate with its limits, finds what was planted, and leaves its figures."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zipfile import ZipFile

import numpy as np
import pytest
from rich.console import Console

from federome.demo import cancer, cancer_figures, followed
from federome.demo.stage import Facts, Stage
from federome.errors import Invalid, Unavailable
from federome.ingest.registry import Archive
from federome.model.cohort import Cohort, Measurement
from federome.model.table import Table


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    console = Console(record=True, width=140)
    made: Any = SimpleNamespace(console=console, out=tmp_path, facts=Facts(), title=lambda text: console.print(text))
    return cast(Stage, made)


def test_the_story_on_metabric(stage: Stage, shared: Path) -> None:
    story = cancer.treatment(stage, followed.metabric(shared))
    text = stage.console.export_text()
    assert "a difference between patients, not an effect of treatment" in text
    assert "Limits" in text
    assert story["nodes"] == 5
    for name in ("cancer-survival", "cancer-hazards", "cancer-balance"):
        assert (stage.out / f"{name}.svg").read_text().startswith("<?xml")
        assert (stage.out / f"{name}.csv").read_text().count("\n") > 2


def test_the_story_on_gbsg2_where_there_is_nothing_else(
    stage: Stage, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (shared / "data/cancer/survival/gbsg2.csv").read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked: list[Archive] = []

    def carried(archive: Archive, path: Path, _patience_s: float) -> None:
        asked.append(archive)
        with ZipFile(path, "w") as wheel:
            wheel.writestr("lifelines/datasets/gbsg2.csv", data)

    with pytest.raises(Unavailable, match="not the pinned file"):
        followed.public_cohorts(None, download=carried)
    assert asked == [followed.LIFELINES]
    made = tmp_path / "wheel"
    carried(followed.LIFELINES, made, 0)
    pinned = replace(followed.LIFELINES, sha256=hashlib.sha256(made.read_bytes()).hexdigest())
    monkeypatch.setattr(followed, "LIFELINES", pinned)
    cohorts = followed.public_cohorts(None, download=lambda _archive, path, _s: path.write_bytes(made.read_bytes()))
    assert cancer.treatment(stage, cohorts)["nodes"] == 3


def test_the_planted_resistance_is_found(stage: Stage) -> None:
    assert cancer.resistance(stage)["cases"] == 120
    rows = (stage.out / "cancer-alterations.csv").read_text().splitlines()
    assert rows[0] == "gene,group,sequenced,altered,share"
    assert len(rows) == 1 + 2 * len(cancer.GENES)
    assert "No case left its node" in stage.console.export_text()


def test_withheld_cells_are_drawn_as_such(tmp_path: Path) -> None:
    hidden = np.array([False, True])
    cancer_figures.alterations(
        Table({"gene": np.array(["BRAF", "PTEN"]), "group": np.array(["all", "all"]), "share": np.array([0.4, 0.0])},
              {"share": hidden}),
        tmp_path / "genes.svg", title="genes",
    )  # fmt: skip
    assert ">few<" in (tmp_path / "genes.svg").read_text()
    assert (tmp_path / "genes.csv").read_text().splitlines()[2] == "PTEN,all,"
    bands = {name: np.array([0.2, 0.0]) for name in ("predicted", "observed", "low", "high")}
    table = Table({"people": np.array([40, 0]), **bands}, {"people": hidden})
    cancer_figures.calibration(table, tmp_path / "calibration.svg", title="calibration")
    assert (tmp_path / "calibration.svg").is_file()


def test_a_decision_curve_stands_beside_everybody_and_nobody(tmp_path: Path) -> None:
    """Treating everybody falls below zero where the risk asked for is beyond the mean; its table goes with it."""
    at = np.array([0.1, 0.3, 0.5])
    table = Table(
        {"threshold": at, "net_benefit": np.array([0.22, 0.12, 0.03]), "treat_all": 0.3 - 0.7 * at / (1 - at)}
    )
    cancer_figures.decision(table, tmp_path / "decision.svg", title="decision")
    drawn = (tmp_path / "decision.svg").read_text()
    assert all(f">{words}<" in drawn for words in ("treat nobody", "treat everybody", "by the score"))
    assert (tmp_path / "decision.csv").read_text().splitlines()[0] == "threshold,net_benefit,treat_all"


def test_people_of_a_frame_answer_what_they_know_and_refuse_the_rest() -> None:
    view = followed.FrameSite.of(followed.synthetic(30, 1).at("S0")).view
    assert view.meets(Cohort(measurements=(Measurement("x", low=0.0),))).sum() < 30
    with pytest.raises(Invalid, match="measurements only"):
        view.meets(Cohort(sex="male"))
    with pytest.raises(Invalid, match="no numeric column"):
        view.numbers("nothing")
