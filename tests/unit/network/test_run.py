"""Runs from order to result, over real coordinator, nodes and releaser in one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.federation import Federation, build_federation
from tests.worlds import make_world, random_assignment, run, threshold_gate

from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.model.release import Policy
from federome.network.protocol import mapping


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """Four nodes over one world of 400 people."""
    world = make_world(seed=7, people=400, variants=40)
    split = world.split(random_assignment(world, sites=4, seed=1), lacking={1: [3, 4]}, absent={2: [5]})
    return build_federation(tmp_path, split.sites)


def test_a_count_travels_and_comes_back(federation: Federation) -> None:
    question = CohortCount(by=("sex",))
    ended = federation.settle(federation.ask(question))
    assert ended.state == "complete", ended.detail.get("problem")
    expected = run(question, [h.site for h in federation.holdings.values()], gate=threshold_gate(10))["counts"]
    told = federation.tables(ended)["counts"]
    hidden = told.withheld.get("people", np.zeros(told.rows, bool))
    assert (told.ints("people")[~hidden] == expected.ints("people")[~hidden]).all()
    assert told.ints("people").sum() > 300
    assert set(mapping(mapping(ended.detail, "result"), "statements")) == set(federation.names)


def test_frequencies_over_an_index_that_names_nobody(federation: Federation) -> None:
    question = AlleleFrequency(by="sex")
    ended = federation.settle(federation.ask(question))
    assert ended.state == "complete", ended.detail.get("problem")
    told = federation.tables(ended)["frequencies"]
    assert told.rows > 20
    policy = Policy()
    shown = ~told.withheld["carriers"]
    assert told.ints("carriers")[shown].min() >= policy.k_min
