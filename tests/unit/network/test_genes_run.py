"""Questions about genes over real coordinator, nodes and releaser: the tables of one process, paid for by gene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.federation import build_federation
from tests.worlds import make_world, random_assignment, run, threshold_gate

from federome.analysis.gene_background import GeneBackground
from federome.analysis.gene_burden import GeneBurden
from federome.analysis.gene_skat import TESTS, GeneSkat
from federome.disclosure.risk import Question, price
from federome.model.release import Policy
from federome.model.table import Table
from federome.network import rounds
from federome.network.pricing import groups, worth

GENES = ("EARLY", "LATE", "ON-X", "BOTH", "UNKNOWN")


def test_background_burden_and_set_tests_travel_and_come_back(tmp_path: Path) -> None:
    world = make_world(seed=7, people=400, variants=40)
    sites = world.split(random_assignment(world, sites=4, seed=1)).sites
    federation = build_federation(tmp_path, sites)
    for question, name, column in (
        (GeneBackground(genes=GENES, rare_below=1.0), "rates", "rate"),
        (
            GeneBurden(genes=GENES, rare_below=1.0, phenotype="case", covariates=("age", "pc1")),
            "genes",
            "statistic",
        ),
        (GeneSkat(genes=GENES, rare_below=1.0, phenotype="case", covariates=("age", "pc1")), "genes", "acat_o"),
    ):
        ended = federation.settle(federation.ask(question))
        assert ended.state == "complete", ended.detail.get("problem")
        told, wanted = federation.tables(ended)[name], run(question, sites, gate=threshold_gate(10))[name]
        shown = ~told.withheld[column]
        assert shown.sum() >= 2
        np.testing.assert_allclose(told.floats(column)[shown], wanted.floats(column)[shown], rtol=0.05)


def test_scores_and_covariances_of_variants_stay_with_the_releaser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(seed=7, people=400, variants=40)
    federation = build_federation(tmp_path, world.split(random_assignment(world, sites=4, seed=1)).sites)
    shown: set[str] = set()
    read = rounds.document

    def watched(*asked: Any) -> Table:
        table = read(*asked)
        shown.update(table.columns)
        return table

    monkeypatch.setattr(rounds, "document", watched)
    question = GeneSkat(genes=GENES, rare_below=1.0, phenotype="case", covariates=("age", "pc1"))
    assert federation.settle(federation.ask(question)).state == "complete"
    assert {"carriers", "others", "information"} <= shown
    assert not {"cross", "covariates", *(f"tested_{name}" for name in TESTS)} & shown


def test_each_gene_is_paid_for() -> None:
    site, policy = make_world(seed=7, people=400).pooled(), Policy()
    question = GeneBackground(genes=GENES, rare_below=1.0)
    assert groups(question, site) == [400]  # type: ignore[arg-type]
    told = worth(question, site, [400], policy).charged  # type: ignore[arg-type]
    assert price(told) == pytest.approx(price(Question(400, sites=len(GENES)))) and price(told) > 0
