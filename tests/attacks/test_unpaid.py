"""Observations without paying: runs that are broken off, nodes that are lost, processes that are killed in between.

What was set aside at a node is spent as soon as anything of it could have been opened, and free again, when the order
expires, where nothing left. A hub that withholds the end of a run, or somebody who kills a node, gains nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.federation import Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.gwas_linear import GwasLinear
from federome.model.release import Policy
from federome.network import steps
from federome.network.ledger import Run
from federome.network.node import Node
from federome.network.protocol import mapping

ACCOUNT = "grant:P-1"
HOUR = 3600.0


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """A budget for one question about all sites, and not for two."""
    split = (world := make_world(seed=7, people=400, variants=40)).split(random_assignment(world, sites=3, seed=1))
    return build_federation(tmp_path, split.sites, policy=Policy(difference_min=10, membership_power=0.11))


def spent(federation: Federation) -> list[float]:
    """By node, what is spent when every order has expired."""
    federation.clock[0] += 2 * HOUR
    out = []
    for name in federation.names:
        worker = federation.parties[name]._worker
        assert isinstance(worker, Node)
        out.append(worker.budgets.spent(ACCOUNT))
    return out


def work(federation: Federation, run: Run, until: Callable[[Run], bool], *, without: str = "") -> Run:
    """Let everybody work (but one) until a moment comes, or until nobody has anything to do."""
    for _ in range(400):
        now = federation.coordinator.ledger.run(run.id)
        if until(now) or not sum(party.once() for name, party in federation.parties.items() if name != without):
            return now
    raise AssertionError("that moment does not come")


def doing(what: str) -> Callable[[Run], bool]:
    return lambda run: run.detail.get("doing") == what or run.state in ("complete", "failed")


def test_a_hub_that_breaks_runs_off_learns_totals_and_pays_for_the_first(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lets the sums be opened, reads what the nodes are to look at, and never asks for the end of the run."""

    def observed() -> bool:
        run = federation.ask(AlleleFrequency())
        now = work(federation, run, doing("veto"))
        seen = now.detail.get("doing") == "veto"
        federation.coordinator.cancel(run.id)
        federation.clock[0] += 2 * HOUR
        return seen

    with monkeypatch.context() as undefended:
        undefended.setattr(steps, "spend", lambda *_: None)
        assert [observed() for _ in range(2)] == [True, True]
        assert spent(federation) == [0.0, 0.0, 0.0]
    assert [observed() for _ in range(2)] == [True, False]
    assert min(spent(federation)) > 0


def test_a_node_lost_for_good_costs_nothing_before_and_all_after_a_part_left(federation: Federation) -> None:
    lost = "IT"
    run = federation.ask(AlleleFrequency())
    work(federation, run, lambda now: now.state == "working")
    federation.coordinator.cancel(run.id)
    assert spent(federation) == [0.0, 0.0, 0.0]
    run = federation.ask(AlleleFrequency())
    work(federation, run, doing("contribute"))
    work(federation, run, lambda _: False, without=lost)
    federation.clock[0] += HOUR
    federation.coordinator.tick()
    assert federation.settle(run).state == "failed"
    paid = dict(zip(federation.names, spent(federation), strict=True))
    assert paid.pop(lost) == 0.0
    assert min(paid.values()) > 0


@pytest.mark.parametrize("killed", ["FI", "hub"])
def test_whoever_is_killed_between_setting_aside_and_releasing_pays_once(federation: Federation, killed: str) -> None:
    run = federation.ask(AlleleFrequency())
    for _ in range(400):
        if federation.coordinator.ledger.run(run.id).state in ("complete", "failed"):
            break
        sum(party.once() for party in federation.parties.values())
        if killed == "hub":
            federation.coordinator = federation.new_coordinator()
            federation.parties = {name: federation.new_party(name) for name in (*federation.names, "releaser")}
        else:
            federation.parties[killed] = federation.new_party(killed)
    ended = federation.coordinator.ledger.run(run.id)
    assert ended.state == "complete", ended.detail.get("problem")
    paid = spent(federation)
    assert min(paid) > 0
    again = federation.settle(federation.ask(AlleleFrequency()))
    assert mapping(again.detail, "problem")["codes"] == ["budget_exhausted"]
    assert spent(federation) == paid


def test_runs_that_are_broken_off_use_up_nobodys_traits(tmp_path: Path) -> None:
    """Only so many traits of a cohort are told of, to all permits together: whoever breaks off takes none of them."""
    split = (world := make_world(seed=7, people=400, variants=12)).split(random_assignment(world, sites=3, seed=1))
    policy = Policy(difference_min=10, membership_power=1, phenotype_share=0.009)  # one trait
    federation = build_federation(tmp_path, split.sites, policy=policy)
    theirs = federation.ask(GwasLinear(phenotype="pc2", covariates=()))
    work(federation, theirs, lambda now: now.state == "working")
    federation.coordinator.cancel(theirs.id)
    ours = federation.settle(federation.ask(GwasLinear(phenotype="pc1", covariates=())))
    assert ours.state == "complete", ours.detail.get("problem")
    again = federation.settle(federation.ask(GwasLinear(phenotype="pc2", covariates=())))
    assert mapping(again.detail, "problem")["codes"] == ["budget_exhausted"]


def killed_at(federation: Federation, name: str, what: str, *, after: bool) -> None:
    """Let another process do the node's next task, killed by signal 9 before or after it changes accounts."""
    (task,) = federation.port(name).poll(0.0)
    child = os.fork()
    if child == 0:
        worker = federation.worker(name, federation.port(name))
        assert isinstance(worker, Node)
        change = getattr(worker.budgets, what)

        def dies(*asked: object, **more: object) -> None:
            if after:
                change(*asked, **more)
            os.kill(os.getpid(), signal.SIGKILL)

        try:
            setattr(worker.budgets, what, dies)
            worker.answer(task)
        finally:
            os._exit(1)  # it was to be killed
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    federation.parties[name] = federation.new_party(name)


@pytest.mark.parametrize("back", [True, False])
def test_kill_9_around_each_change_of_an_account_neither_loses_nor_doubles_the_charge(
    federation: Federation, back: bool
) -> None:
    """Whoever does not come back has paid from the moment when its part could have left, and nothing before."""
    name, run = "FI", federation.ask(AlleleFrequency())
    for step, what in (("rostering", "reserve"), ("contribute", "commit")):
        work(federation, run, lambda now, step=step: step in (now.state, now.detail.get("doing")))  # type: ignore[misc]
        for after in (False, True):
            killed_at(federation, name, what, after=after)
    if back:
        assert federation.settle(run).state == "complete"
        assert len({round(each, 12) for each in spent(federation)}) == 1
    else:
        federation.coordinator.cancel(run.id)
    paid = spent(federation)
    assert paid[0] > 0
    assert federation.settle(federation.ask(AlleleFrequency())).state == "failed"
    assert spent(federation) == paid
