"""Counts that a data holder wants perturbed: the same each time, adding up, paid in ε once, and never beyond it."""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from tests.federation import Federation
from tests.unit.network.test_prices import priced
from tests.unit.network.test_spending import codes, federation_of, node_of

from federome.analysis.algorithm import Algorithm
from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.db import engine
from federome.disclosure.privacy import charge_epsilon, epsilon_of
from federome.disclosure.sticky import sticky_noise
from federome.errors import Refused
from federome.model.cohort import Cohort
from federome.model.release import Policy, strictest
from federome.network.spending import SqlBudgets

NOISE = 5.0
NOISY = Policy(k_min=5, difference_min=5, membership_power=1.0, noise=NOISE)
WOMEN = Cohort(sex="female")


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation_of(tmp_path_factory.mktemp("noisy") / "nodes", nodes=3, policy=NOISY)


def counts(federation: Federation, algorithm: Algorithm) -> dict[str, int]:
    run = federation.settle(federation.ask(algorithm))
    assert run.state == "complete", run.detail.get("problem")
    table = federation.tables(run)["counts"]
    return dict(zip(table["sex"].tolist(), table.ints("people").tolist(), strict=True))


def test_the_same_people_get_the_same_number_however_often_and_by_whatever_words(federation: Federation) -> None:
    by_sex = counts(federation, CohortCount(by=("sex",)))
    exact = sum(int((h.site.view.numbers("male") == 0).sum()) for h in federation.holdings.values())
    assert by_sex["female"] != exact  # of three nodes' noise; a draw of zero would fail for this fixed secret
    assert abs(by_sex["female"] - exact) < 20 * NOISE
    assert counts(federation, CohortCount(by=("sex",))) == by_sex
    assert counts(federation, CohortCount(cohort=WOMEN))["all"] == by_sex["female"]
    # The averaging attack gets nowhere: every repeat is the first answer again. With fresh noise it would converge.
    fresh = np.random.default_rng(1).laplace(0, NOISE * math.sqrt(3), 400)
    assert abs(fresh.mean()) < abs(by_sex["female"] - exact)
    assert by_sex["all"] >= by_sex["female"] + by_sex["male"]  # the table adds up; `other` is withheld


def test_a_node_answering_alone_perturbs_as_well(federation: Federation) -> None:
    run = federation.settle(federation.ask(CohortCount(by=("sex",)), roster=("FI",)))
    assert run.state == "complete", run.detail.get("problem")
    result = run.detail["result"]
    assert isinstance(result, dict) and result["mode"] == "alone"
    _, told = priced(federation, CohortCount(by=("sex",)))
    assert told["FI"]["noise"] == NOISE and told["FI"]["epsilon"] is None


def test_what_cannot_be_perturbed_waits_for_checkers(federation: Federation) -> None:
    run = federation.settle(federation.ask(AlleleFrequency()))
    assert run.state == "held", run.detail.get("problem")
    _, told = priced(federation, AlleleFrequency())
    assert told["FI"]["held"] == ["frequencies"] and "noise" not in told["FI"]


def test_epsilon_is_paid_once_for_each_question_until_nothing_is_left(tmp_path: Path) -> None:
    policy = Policy(k_min=5, difference_min=5, membership_power=1.0, noise=NOISE, epsilon=0.4)
    federation = federation_of(tmp_path / "ledger", nodes=3, policy=policy)
    _, told = priced(federation, CohortCount())
    assert told["FI"]["epsilon"] == {"cost": pytest.approx(0.2), "spent": 0, "allowed": 0.4}
    for algorithm in (CohortCount(), CohortCount(by=("sex",)), CohortCount()):
        counts(federation, algorithm)
    spent = node_of(federation).budgets.spent
    assert spent("epsilon:grant:P-1") == pytest.approx(0.4)
    refused = federation.settle(federation.ask(CohortCount(by=("age_band",))))
    assert codes(refused) == ["budget_exhausted"]
    counts(federation, CohortCount(by=("sex",)))  # free, since it was asked before
    _, told = priced(federation, CohortCount())
    assert told["FI"]["epsilon"]["cost"] == 0.0 and told["FI"]["epsilon"]["spent"] == pytest.approx(0.4)


def test_fifty_questions_at_once_on_the_last_epsilon_exactly_one_passes(tmp_path: Path) -> None:
    url, barrier = f"sqlite:///{tmp_path}/node.db", Barrier(50)
    SqlBudgets(engine(url), lambda: 0.0)

    def ask(number: int) -> bool:
        budgets = SqlBudgets(engine(url), lambda: 0.0)
        barrier.wait()
        try:
            charge_epsilon(budgets, f"question {number}", ["grant:P", "project:Q"], scale=5.0, limit=0.3)
        except Refused as error:
            return error.codes != ("budget_exhausted",)
        return True

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(ask, range(50))) == 1
    assert SqlBudgets(engine(url), lambda: 0.0).spent("epsilon:grant:P") == pytest.approx(0.2)


# the mechanism, against OpenDP and against its own promise


def test_noise_is_opendps_discrete_laplace() -> None:
    import opendp.prelude as dp

    dp.enable_features("contrib")
    peer = (dp.vector_domain(dp.atom_domain(T=int)), dp.l1_distance(T=int)) >> dp.m.then_laplace(scale=NOISE)
    theirs = np.array(peer([0] * 20_000))
    ours = sticky_noise(NOISE, secret=b"s" * 16, members="m", statistics=[str(n) for n in range(20_000)])
    for at in (0, 1, 2, 5, 10, 20):
        assert np.mean(np.abs(ours) <= at) == pytest.approx(np.mean(np.abs(theirs) <= at), abs=0.025)
    assert epsilon_of(NOISE) == pytest.approx(1 / NOISE)


def test_one_person_changes_no_answers_chance_by_more_than_epsilon() -> None:
    """Over many nodes' secrets, the answer about 20 people and that about 21: no answer is e^ε times as likely."""
    draws = 60_000
    with_them, without = (
        Counter(
            (n + sticky_noise(2.0, secret=b"s" * 16, members=f"set {n}", statistics=[str(i) for i in range(draws)]))
            .clip(0)
            .tolist()
        )
        for n in (21, 20)
    )
    common = [value for value in with_them if with_them[value] > 2_000 and without[value] > 2_000]
    assert len(common) >= 5
    for value in common:
        assert abs(math.log(with_them[value] / without[value])) <= epsilon_of(2.0) + 0.12
    assert max(abs(math.log(with_them[v] / without[v])) for v in common) > 0.4  # and it is no stronger than promised


def test_the_strictest_policy_perturbs_most_and_spends_least() -> None:
    told = strictest([Policy(), Policy(noise=2.0, epsilon=3.0), Policy(noise=4.0, epsilon=1.0)])
    assert (told.noise, told.epsilon) == (4.0, 1.0)
    with pytest.raises(Exception, match="needs noise"):
        Policy(epsilon=1.0)
