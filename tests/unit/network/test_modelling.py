"""Models of too many parameters are refused by every node: before any work, and over all rounds of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.federation import GENEROUS, Federation, build_federation
from tests.unit.analysis.survival_twins import sites_of
from tests.unit.analysis.test_cox import patients
from tests.worlds import make_world, random_assignment

from federome.analysis.algorithm import registered
from federome.analysis.cohort_count import CohortCount
from federome.analysis.cox import Cox
from federome.analysis.gwas_linear import GwasLinear
from federome.errors import Refused
from federome.model.release import Policy, Round, Rows
from federome.model.table import Table
from federome.network.ledger import Run
from federome.network.modelling import check_model, taking_part, turns_told
from federome.network.node import Node
from federome.network.protocol import mapping

QUESTION = GwasLinear(phenotype="trait", covariates=("age",), maf_min=0, minor_alleles_min=1)  # with 3 nodes: 5
LOOSE = dataclasses.replace(GENEROUS, parameter_share=1.0)


def federation_of(root: Path, policy: Policy, *, nodes: int = 3, people: int = 120) -> Federation:
    world = make_world(seed=3, people=people, variants=12)
    split = world.split(random_assignment(world, sites=nodes, seed=1))
    return build_federation(root, split.sites, policy=policy)


def problem(run: Run) -> tuple[list[object], str]:
    found = mapping(run.detail, "problem")
    codes = found["codes"]
    assert isinstance(codes, list)
    return [*codes], str(found)


def works_of(federation: Federation, run: Run) -> list[object]:
    """What each node has noted of the turns in which it told numbers."""
    workers = [federation.parties[name]._worker for name in federation.names]
    works = [worker.notebook.work(run.id) for worker in workers if isinstance(worker, Node)]
    return [work.detail.get("told") for work in works if work is not None]


def test_a_model_of_few_parameters_passes(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, GENEROUS)
    run = federation.settle(federation.ask(QUESTION))
    assert run.state == "complete", run.detail.get("problem")


def test_too_many_parameters_are_refused_before_anything_is_summed(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, dataclasses.replace(GENEROUS, parameter_share=0.03))
    run = federation.settle(federation.ask(QUESTION))
    assert run.state == "failed"
    codes, said = problem(run)
    assert codes == ["small_cell"]
    assert "5 parameters" in said
    assert not any(works_of(federation, run))
    assert not [event for event in run.detail["events"] if "round" in str(event)]  # type: ignore[union-attr]


def test_the_price_of_such_a_question_is_not_told_either(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, dataclasses.replace(GENEROUS, parameter_share=0.03))
    run = federation.settle(federation.ask(QUESTION, price_only=True))
    told = str(run.detail["absent"])
    assert "5 parameters" in told
    assert "small_cell" in told
    assert "account" not in told


def test_a_node_alone_asks_it_of_its_own_people(tmp_path: Path) -> None:
    frame = patients(400, sites=2)
    question = Cox(time="time", event="event", covariates=("x", "z"), model="piecewise-exponential")
    strict = dataclasses.replace(GENEROUS, parameter_share=0.002)
    for policy, state in ((strict, "failed"), (GENEROUS, "complete")):
        root = tmp_path / state
        root.mkdir()
        federation = build_federation(root, sites_of(frame, frame["site"]), policy=policy)
        assert federation.settle(federation.ask(question)).state == state


def test_numbers_are_counted_over_all_rounds(tmp_path: Path) -> None:
    """Once five parameters for a hundred people and more: enough. In a second round of sums they are ten: too many."""
    federation = federation_of(tmp_path, dataclasses.replace(GENEROUS, parameter_share=0.06))
    run = federation.settle(federation.ask(QUESTION))
    assert run.state == "failed"
    codes, said = problem(run)
    assert codes == ["small_cell"]
    assert "10 parameters" in said
    assert all(isinstance(told, list) and len(told) == 1 for told in works_of(federation, run))


def test_who_lacks_a_covariate_does_not_count_as_people() -> None:
    assert taking_part(Table({}), [40, 30]) == 70
    assert taking_part(Table({"people": np.array([50])}), [40, 30]) == 50
    assert taking_part(Table({"people": np.array([90])}), [40, 30]) == 70


def test_a_turn_that_is_done_twice_counts_once() -> None:
    gated, plain = Round("count", "people", Rows({}), gated=True), Round("sums", "people", Rows({}))
    assert turns_told(None, gated, 1) == []
    assert turns_told([1], plain, 3) == turns_told([1, 3], plain, 3) == [1, 3]


def test_open_data_and_counts_need_no_people() -> None:
    check_model(QUESTION, 1, Policy(open_data=True), nodes=3)
    check_model(CohortCount(), 0, Policy(), nodes=3)
    with pytest.raises(Refused) as refused:
        check_model(QUESTION, 24, Policy(parameter_share=1.0, k_min=20), nodes=3)  # 19 left
    assert refused.value.codes == ("small_cell",)


def test_whatever_releases_a_fitted_model_says_how_many_parameters_it_has() -> None:
    """Rounds of sums that no count of people guards are those of a model."""
    silent = {
        name
        for name, cls in registered().items()
        if not cls.__module__.startswith("federome.bench.")  # which a hub runs only where its settings name it
        and any(not each.gated for each in cls.rounds)
        and "estimates" not in {k for c in cls.__mro__[:-3] for k in vars(c)}
    }
    assert silent == set()
