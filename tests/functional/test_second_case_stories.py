"""The demonstration's scenes about the second case, on processes of their own: letters, contact and alerts."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from federome.demo import care, synthetic
from federome.demo.cohorts import NodeData, Prepared
from federome.demo.infection import infection
from federome.demo.local import LocalFederation
from federome.demo.rare_disease import rare_disease
from federome.demo.stage import Facts, Stage
from federome.store import kernels
from federome.store.catalogue import Store

pytestmark = pytest.mark.processes
NODES = ("FI", "ES", "IT")


def test_a_second_case_and_two_brothers_over_real_processes(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDEROME_SHARED", str(shared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kernels.warm()
    care.prepare()
    with LocalFederation(tmp_path / "federation", NODES) as federation:
        federation.set_up()
        for node in NODES:
            Store.open(federation.node_folder(node) / "data")
        federation.start_nodes()
        data = tuple(NodeData(node, tmp_path, "", "", cast("synthetic.Facts", None), 0, 0) for node in NODES)
        stage = Stage(Console(width=120), federation, Prepared(data, "", ()), tmp_path, Facts())
        rare_disease(stage)
        infection(stage)
    rare, brothers = stage.facts.stories["rare disease"], stage.facts.stories["infection"]
    assert isinstance(rare, dict) and isinstance(brothers, dict)
    assert (rare["found_at"], rare["evidence"], rare["shared_genes"]) == ("ES", "gene", ["SYNGAP1"])
    assert {rare["after_decline"], *rare["before_both_agree"]} == {"open"} and rare["after_both_agree"] == "agreed"
    assert brothers["alerts"] == [
        {"node": "ES", "evidence": "gene", "kin": "family"},
        {"node": "IT", "evidence": "gene", "kin": ""},
    ]
