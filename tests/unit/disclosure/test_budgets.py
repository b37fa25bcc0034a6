"""Budgets are never overdrawn, whoever asks at once; phenotypes of a cohort are counted once each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from federome.disclosure.budgets import Charge, MemoryBudgets, MemoryPhenotypes, effective_phenotypes
from federome.errors import Invalid, Refused
from federome.model.release import Policy


def test_fifty_questions_at_once_on_the_last_unit_exactly_one_passes() -> None:
    budgets = MemoryBudgets()
    budgets.reserve("before", [Charge("permit", 0.9, 1.0)])
    barrier = Barrier(50)

    def ask(number: int) -> bool:
        barrier.wait()
        try:
            budgets.reserve(f"run {number}", [Charge("permit", 0.1, 1.0)])
        except Refused as error:
            return error.codes != ("budget_exhausted",)
        return True

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(ask, range(50))) == 1
    assert budgets.spent("permit") == pytest.approx(1.0)


def test_all_accounts_are_charged_or_none() -> None:
    budgets = MemoryBudgets()
    with pytest.raises(Refused):
        budgets.reserve("run", [Charge("permit", 0.5, 1.0), Charge("project over the cohort", 0.5, 0.4)])
    assert budgets.spent("permit") == 0
    budgets.reserve("run", [Charge("permit", 0.5, 1.0), Charge("permit", 0.5, 1.0)])
    assert budgets.spent("permit") == 1.0
    with pytest.raises(Refused):
        budgets.reserve("more", [Charge("permit", 0.1, 1.0)])


def test_a_run_is_charged_once_however_often_it_reserves() -> None:
    budgets = MemoryBudgets()
    for _ in range(3):
        budgets.reserve("run", [Charge("permit", 0.5, 1.0)])
    assert budgets.spent("permit") == 0.5
    with pytest.raises(Invalid):
        budgets.reserve("run", [Charge("permit", 0.4, 1.0)])
    for _ in range(2):
        budgets.commit("run")
    budgets.reserve("run", [Charge("permit", 0.5, 1.0)])
    assert budgets.spent("permit") == 0.5


def test_what_is_given_back_can_be_spent_and_what_is_committed_cannot() -> None:
    budgets = MemoryBudgets()
    for number in range(10):
        budgets.reserve(f"run {number}", [Charge("permit", 0.1, 1.0)])
    for number in range(9):
        budgets.refund(f"run {number}")
        budgets.refund(f"run {number}")
    budgets.commit("run 9")
    assert budgets.spent("permit") == 0.1
    budgets.reserve("large", [Charge("permit", 0.9, 1.0)])
    for call, run in ((budgets.refund, "run 9"), (budgets.commit, "run 0"), (budgets.refund, "nobody")):
        with pytest.raises(Invalid):
            call(run)
    with pytest.raises(Invalid):
        budgets.reserve("run 0", [Charge("permit", 0.1, 1.0)])


def test_tenths_add_up_to_the_limit() -> None:
    budgets = MemoryBudgets()
    for number in range(10):
        budgets.reserve(str(number), [Charge("permit", 0.1, 1.0)])
    with pytest.raises(Refused):
        budgets.reserve("10", [Charge("permit", 1e-6, 1.0)])


def test_an_infinite_price_is_never_covered_and_a_nonsensical_one_is_none() -> None:
    budgets = MemoryBudgets()
    with pytest.raises(Refused):
        budgets.reserve("run", [Charge("permit", float("inf"), 1e300)])
    for rho, limit in ((-1.0, 1.0), (float("nan"), 1.0), (0.1, -1.0), (0.1, float("inf")), (0.1, float("nan"))):
        with pytest.raises(Invalid):
            Charge("permit", rho, limit)


def test_each_phenotype_of_a_cohort_counts_once() -> None:
    ledger, policy = MemoryPhenotypes(), Policy(phenotype_share=0.05)
    for number in range(5):
        for _ in range(2):
            ledger.admit("cohort", f"phenotype {number}", people=100, policy=policy)
    assert ledger.count("cohort") == 5
    with pytest.raises(Refused) as error:
        ledger.admit("cohort", "one more", people=100, policy=policy)
    assert error.value.codes == ("budget_exhausted",)
    ledger.admit("cohort", "phenotype 3", people=100, policy=policy)
    ledger.admit("another cohort", "one more", people=100, policy=policy)
    ledger.admit("cohort", "one more", people=100, policy=Policy(open_data=True))
    assert (ledger.count("cohort"), ledger.count("another cohort"), ledger.count("none")) == (5, 1, 0)


def test_phenotypes_that_others_explain_add_nothing() -> None:
    rng = np.random.default_rng(1)
    three = rng.normal(size=(50, 3))
    values = np.column_stack([three, three @ rng.normal(size=(3, 4)), np.ones(50), three[:, 0] * 1e9 + 5])
    assert effective_phenotypes(values, Policy()) == 3
    slight = np.column_stack([three[:, 0], three[:, 0] + 1e-3 * three[:, 1]])
    assert effective_phenotypes(slight, Policy(digits=6)) == 2
    assert effective_phenotypes(slight, Policy(digits=2)) == 1
    assert effective_phenotypes(np.zeros((5, 0)), Policy()) == 0
