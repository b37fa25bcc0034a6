"""Runs are charged at the node: before anything is summed, once, to all who share a grant, and never too much."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from tests.federation import Federation, WorldHoldings, WorldSite, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.analysis.gwas_linear import GwasLinear
from federome.analysis.gwas_logistic import GwasLogistic
from federome.db import engine, read, write
from federome.disclosure.budgets import Charge
from federome.disclosure.risk import Question, price, rho_at
from federome.errors import Invalid, Refused
from federome.model.cohort import Cohort
from federome.model.release import Policy
from federome.network.ledger import Run
from federome.network.node import Node
from federome.network.pricing import Published, groups, pooled_sizes, told_sizes, worth
from federome.network.protocol import mapping
from federome.network.spending import _LATE, _SPENT, SqlBudgets, SqlPhenotypes

PEOPLE, VARIANTS = 400, 40


def federation_of(root: Path, *, nodes: int = 4, policy: Policy | None = None) -> Federation:
    root.mkdir(exist_ok=True)
    world = make_world(seed=7, people=PEOPLE, variants=VARIANTS)
    split = world.split(random_assignment(world, sites=nodes, seed=1))
    return build_federation(root, split.sites, policy=policy or Policy(difference_min=10, membership_power=0.3))


def node_of(federation: Federation, name: str = "FI") -> Node:
    worker = federation.parties[name]._worker
    assert isinstance(worker, Node)
    return worker


def codes(run: Run) -> object:
    return mapping(run.detail, "problem").get("codes")


# accounts on disk


def test_fifty_questions_at_once_on_the_last_unit_exactly_one_passes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/node.db"
    SqlBudgets(engine(url), lambda: 0.0).reserve("before", [Charge("grant:P", 0.9, 1.0)])
    barrier = Barrier(50)

    def ask(number: int) -> bool:
        budgets = SqlBudgets(engine(url), lambda: 0.0)  # as another process of the node would
        barrier.wait()
        try:
            budgets.reserve(f"run {number}", [Charge("grant:P", 0.1, 1.0), Charge("project:Q", 0.1, 9.0)])
        except Refused as error:
            return error.codes != ("budget_exhausted",)
        return True

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(ask, range(50))) == 1
    budgets = SqlBudgets(engine(url), lambda: 0.0)
    assert budgets.accounts() == {"grant:P": pytest.approx(1.0), "project:Q": pytest.approx(0.1)}


def test_what_was_spent_before_totals_were_kept_stays_spent(tmp_path: Path) -> None:
    database = engine(f"sqlite:///{tmp_path}/node.db")
    budgets = SqlBudgets(database, lambda: 0.0)
    budgets.spend("kept", [Charge("grant:P", 0.5, 1.0), Charge("project:Q", 0.25, 1.0)])
    budgets.reserve("open", [Charge("grant:P", 0.125, 1.0)])
    budgets.reserve("back", [Charge("grant:P", 0.25, 1.0)])
    budgets.refund("back")
    with write(database) as db:  # as version 1 left it
        db.exec_driver_sql("DROP TABLE spending_total")
        db.exec_driver_sql("DROP INDEX spending_run_open")
        db.exec_driver_sql("UPDATE schema_version SET version = 1 WHERE name = 'spending'")
    after = SqlBudgets(database, lambda: 0.0)
    assert after.accounts() == {"grant:P": 0.625, "project:Q": 0.25}
    after.commit("open")
    after.commit("open")
    after.spend("open", [Charge("grant:P", 0.125, 1.0)])  # what is paid is not paid again
    assert after.spent("grant:P") == 0.625
    with pytest.raises(Refused):
        after.spend("more", [Charge("grant:P", 0.5, 1.0)])


def test_a_price_is_looked_up_and_not_added_up(tmp_path: Path) -> None:
    """What an account has spent is found through indexes, however much was asked before."""
    budgets = SqlBudgets(engine(f"sqlite:///{tmp_path}/node.db"), lambda: 0.0)
    budgets.spend("one", [Charge("grant:P", 0.5, 1.0)])
    with read(budgets._engine) as db:
        for statement in (_SPENT, _LATE):
            text = statement.compile(db)
            values = tuple(
                text.construct_params({"of": "grant:P", "now": 0.0})[name] for name in text.positiontup or []
            )
            plan = [row[-1] for row in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]
            assert plan and not any("SCAN spending" in step or "charge_of_account" in step for step in plan), plan


def test_a_reservation_is_kept_given_back_or_runs_out(tmp_path: Path) -> None:
    now = [0.0]
    budgets = SqlBudgets(engine(f"sqlite:///{tmp_path}/node.db"), lambda: now[0])
    for run in ("kept", "given back", "forgotten"):
        for _ in range(2):
            budgets.reserve(run, [Charge("grant:P", 0.3, 1.0)], until=100.0)
    with pytest.raises(Refused):
        budgets.reserve("more", [Charge("grant:P", 0.3, 1.0)], until=100.0)
    with pytest.raises(Invalid):
        budgets.reserve("kept", [Charge("grant:P", 0.2, 1.0)])
    budgets.commit("kept")
    budgets.refund("given back")
    assert budgets.spent("grant:P") == pytest.approx(0.6)
    now[0] = 101.0
    assert budgets.spent("grant:P") == pytest.approx(0.3)
    budgets.reserve("more", [Charge("grant:P", 0.7, 1.0)], until=200.0)
    for call, run in ((budgets.commit, "forgotten"), (budgets.commit, "given back"), (budgets.refund, "kept")):
        with pytest.raises(Invalid):
            call(run)


def test_phenotypes_on_disk_are_bounded_for_each_cohort(tmp_path: Path) -> None:
    ledger, policy = SqlPhenotypes(engine(f"sqlite:///{tmp_path}/node.db")), Policy(phenotype_share=0.02)
    for trait in ("a", "b", "a"):
        ledger.admit("cohort", trait, people=100, policy=policy)
    with pytest.raises(Refused) as refused:
        ledger.admit("cohort", "c", people=100, policy=policy)
    assert refused.value.codes == ("budget_exhausted",)
    ledger.admit("another", "c", people=100, policy=policy)
    ledger.admit("cohort", "c", people=100, policy=Policy(open_data=True))
    assert (ledger.count("cohort"), ledger.count("another")) == (2, 1)


def test_a_study_is_priced_for_what_it_may_tell_about_the_fewest_it_tells_of() -> None:
    world = make_world(seed=7, people=300, variants=40)
    (held,) = world.split(random_assignment(world, sites=1, seed=1)).sites
    site = WorldSite(held, WorldHoldings("d", held, Policy()))
    cases = held.view.numbers("case")
    question = GwasLogistic(phenotype="case", hits_max=3)
    sizes = groups(question, site)
    assert sizes == [300, (cases == 1).sum(), (cases == 0).sum()]
    told = worth(question, site, sizes, Policy())
    assert price(told.charged) == pytest.approx(3 / min(sizes))
    assert GwasLogistic(phenotype="case").tells(10**6) == 20


def test_sizes_are_told_in_steps_of_the_threshold() -> None:
    assert told_sizes([0, 9, 10, 19, 1234], Policy(k_min=10)) == [0, 0, 10, 10, 1230]
    assert told_sizes([7], Policy(open_data=True)) == [7]
    assert pooled_sizes([[100, 40], [20, 0]]) == [120, 40]
    with pytest.raises(Refused):
        pooled_sizes([[100, 40], [20]])


# in runs


def test_a_question_is_paid_for_by_every_contributor(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    run = federation.settle(federation.ask(AlleleFrequency()))
    assert run.state == "complete", run.detail.get("problem")
    people = sum(h.site.view.people // 10 * 10 for h in federation.holdings.values())
    expected = price(Question(people, sites=VARIANTS))
    for name in federation.names:
        assert node_of(federation, name).budgets.spent("grant:P-1") == pytest.approx(expected, rel=0.1)
    assert any("price:" in str(event) for event in run.detail["events"])  # type: ignore[union-attr]
    free = federation.settle(federation.ask(CohortCount()))
    assert free.state == "complete", free.detail.get("problem")
    assert node_of(federation).budgets.spent("grant:P-1") == pytest.approx(expected, rel=0.1)


def test_the_last_question_that_fits_is_answered_and_the_next_is_not(tmp_path: Path) -> None:
    """Also where two people share the grant: the account is the grant's."""
    federation = federation_of(tmp_path, policy=Policy(difference_min=10, membership_power=0.11))
    states = []
    for _ in range(3):
        run = federation.settle(federation.ask(AlleleFrequency()))
        states.append(run.state)
    assert states == ["complete", "failed", "failed"]
    assert codes(run) == ["budget_exhausted"]
    says = str(mapping(run.detail, "problem")["detail"])
    assert "cannot be answered" in says
    assert "of 100" in says
    limit = rho_at(0.11)
    assert all(node_of(federation, name).budgets.spent("grant:P-1") <= limit for name in federation.names)


def test_what_was_not_released_is_free_again_when_its_order_has_expired(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    run = federation.ask(AlleleFrequency())
    for _ in range(400):
        sum(party.once() for party in federation.parties.values())
        if federation.coordinator.ledger.run(run.id).state == "working":
            break
    budgets = node_of(federation).budgets
    assert budgets.spent("grant:P-1") > 0
    federation.coordinator.cancel(run.id)
    assert budgets.spent("grant:P-1") > 0
    federation.clock[0] += 2 * 3600
    assert budgets.spent("grant:P-1") == 0


def test_a_permit_may_allow_less_than_the_data_holder_and_not_more(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    orders = federation.orders(AlleleFrequency())
    poor = federation.coordinator.submit(federation.permit(budget_rho=0.01), orders, person="alice")
    assert codes(federation.settle(poor)) == ["budget_exhausted"]
    generous = federation_of(tmp_path / "strict", policy=Policy(difference_min=10, membership_power=0.06))
    run = generous.coordinator.submit(
        generous.permit(budget_rho=5.0), generous.orders(AlleleFrequency()), person="alice"
    )
    assert codes(generous.settle(run)) == ["budget_exhausted"]


def test_permits_of_one_project_share_an_account(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, policy=Policy(difference_min=10, membership_power=0.11))
    ended = []
    for number in (1, 2):
        permit = federation.permit(id=f"P-{number}", project="cholesterol")
        orders = federation.orders(AlleleFrequency(), permit=f"P-{number}")
        ended.append(federation.settle(federation.coordinator.submit(permit, orders, person="alice")))
    assert [run.state for run in ended] == ["complete", "failed"]
    assert codes(ended[1]) == ["budget_exhausted"]


def test_open_and_published_data_cost_nothing(tmp_path: Path) -> None:
    open_data = federation_of(tmp_path / "open", policy=Policy(open_data=True, membership_power=0.06))
    run = open_data.settle(open_data.ask(AlleleFrequency()))
    assert run.state == "complete", run.detail.get("problem")
    # Other rows of the table, or another cohort, were not published.
    female = AlleleFrequency(cohort=Cohort(sex="female"))
    for number, question in enumerate((AlleleFrequency(), AlleleFrequency(by="sex"), female)):
        closed = federation_of(tmp_path / f"closed {number}", policy=Policy(difference_min=10, membership_power=0.06))
        shape = {"by": "all", "populations": []}
        closed.published = tuple(Published(h.dataset, "release-1", shape, 0.1) for h in closed.holdings.values())
        run = closed.settle(closed.ask(question))
        if number:
            assert codes(run) == ["budget_exhausted"]
        else:
            assert run.state == "complete", run.detail.get("problem")
            assert node_of(closed).budgets.spent("grant:P-1") == 0


def test_variants_that_few_carry_cost_more_each_however_they_are_picked(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, policy=Policy(difference_min=10, membership_power=0.11))
    rare = next(h for h in federation.holdings.values()).site.variants[:3]
    keys = tuple(f"{v.chromosome}:{v.position}:{v.ref}:{v.alt}" for v in rare)
    spent = node_of(federation).budgets.spent
    picked = AlleleFrequency(regions=tuple(f"{v.chromosome}:{v.position}-{v.position}" for v in rare))
    for question in (AlleleFrequency(variants=keys), picked):
        before = spent("grant:P-1")
        run = federation.settle(federation.ask(question))
        assert (run.state == "failed" and codes(run) == ["budget_exhausted"]) or spent("grant:P-1") - before > 0.01


def test_with_one_node_the_price_is_that_of_its_own_people(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, policy=Policy(difference_min=10, membership_power=0.11))
    run = federation.settle(federation.ask(AlleleFrequency(), roster=("FI",)))
    assert codes(run) == ["budget_exhausted"]


def test_many_traits_of_the_same_people_are_refused(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, policy=Policy(difference_min=10, membership_power=1, phenotype_share=0.03))
    first = federation.settle(federation.ask(GwasLinear(phenotype="pc1", covariates=())))
    assert first.state == "complete", first.detail.get("problem")
    again = federation.settle(federation.ask(GwasLinear(phenotype="pc1", covariates=("pc2",))))
    assert again.state == "complete", again.detail.get("problem")
    second = federation.settle(federation.ask(GwasLinear(phenotype="pc2", covariates=())))
    assert codes(second) == ["budget_exhausted"]


def test_a_hub_cannot_skip_the_audit_or_invent_sizes(tmp_path: Path) -> None:
    """Every size is signed by its node: a hub that raises one to lower the price is found out."""
    federation = federation_of(tmp_path)
    run = federation.ask(AlleleFrequency())
    for party in federation.parties.values():
        party.once()
    held = federation.coordinator.ledger.run(run.id)
    assert held.state == "rostering"
    (task,) = federation.coordinator.poll("FI", "x")
    body = dict(task.body)
    statements = dict(mapping(body, "statements"))
    statements["ES"] = statements["IT"]
    worker = node_of(federation)
    with pytest.raises(Refused):
        worker.answer(replace_task(task, {**body, "statements": statements}))  # type: ignore[arg-type]


def replace_task(task: object, body: dict[str, object]) -> object:
    import msgspec

    return msgspec.structs.replace(task, body=body)  # type: ignore[type-var]
