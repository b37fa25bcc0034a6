"""A price before the question: answered by the nodes, nothing run and nothing charged, and no word about the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.federation import Federation
from tests.unit.network.test_spending import PEOPLE, codes, federation_of, node_of

from federome.analysis.algorithm import Algorithm, Variants
from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.analysis.gwas_linear import GwasLinear
from federome.disclosure.risk import Question, power, price, rho_at
from federome.errors import Refused
from federome.model.cohort import Cohort
from federome.model.release import Policy
from federome.model.variant import Region, Variant
from federome.network.ledger import Run
from federome.network.pricing import _in_regions, _merged, _rare
from federome.network.protocol import mapping
from federome.network.words import STATEMENT_TYPE
from federome.trust.signing import OWN_ALGORITHMS, verify

TIGHT = Policy(difference_min=10, membership_power=0.11)


def priced(federation: Federation, algorithm: Algorithm, **changes: object) -> tuple[Run, dict[str, Any]]:
    run = federation.settle(federation.ask(algorithm, price_only=True, **changes))
    assert run.state == "complete", run.detail.get("problem")
    return run, mapping(mapping(run.detail, "result"), "prices")


def name_of(variant: Variant) -> str:
    return f"{variant.chromosome}:{variant.position}:{variant.ref}:{variant.alt}"


def variant_in(federation: Federation, *, rare: bool) -> str:
    """A variant that fewer than k people of every node carry, or that many do."""
    sites = [holding.site for holding in federation.holdings.values()]
    return next(
        name_of(variant)
        for variant in sites[0].variants
        if all(bool(_rare(Variants(named=(variant,)), site, PEOPLE, TIGHT)) is rare for site in sites)  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation_of(tmp_path_factory.mktemp("prices") / "tight", policy=TIGHT)


def test_what_is_told_is_what_a_run_is_charged_and_nothing_is_charged_for_asking(federation: Federation) -> None:
    run, told = priced(federation, AlleleFrequency())
    assert sorted(told) == sorted(federation.names)
    limit, spent = rho_at(0.11), node_of(federation).budgets.spent
    assert spent("grant:P-1") == 0
    (account,) = told["FI"]["accounts"]
    assert (account["account"], account["before"], account["covered"]) == ("grant:P-1", 0.05, [True, True])
    for node, token in mapping(mapping(run.detail, "result"), "statements").items():
        said = verify(
            str(token), federation.members.ring(), typ=STATEMENT_TYPE, algorithms=OWN_ALGORITHMS, now=federation.now()
        )
        assert (said.owner, said.payload["price"], said.payload["run"]) == (node, told[node], run.id)
    done = federation.settle(federation.ask(AlleleFrequency()))
    assert done.state == "complete", done.detail.get("problem")
    assert account["cost"][0] == pytest.approx(spent("grant:P-1") / limit)
    assert account["after"][0] == round(power(spent("grant:P-1")), 2)
    _, again = priced(federation, AlleleFrequency())
    (account,) = again["FI"]["accounts"]
    assert account["before"] > 0.05 and account["covered"] == [False, False]
    assert "cannot be answered" in " ".join(again["FI"]["says"])


def test_it_tells_what_would_leave_and_who_must_agree(federation: Federation) -> None:
    _, told = priced(federation, CohortCount(by=("sex",)))
    price = told["ES"]
    assert price["free"] is True and price["held"] == [] and price["threshold"] == 10
    assert price["tiers"] == {"es-1": "controlled"}
    assert "people" in price["leaves"]["counts"]["columns"]
    assert price["traits"] is None
    run, study = priced(federation, GwasLinear(phenotype="age", covariates=()))
    people = federation.holdings["ES"].site.view.people // 10 * 10
    assert not run.detail["absent"]
    assert study["ES"]["traits"] == {"on_record": 0, "allowed": int(0.05 * people)}
    phenotypes = node_of(federation, "ES").phenotypes
    assert phenotypes.count(str(federation)) == 0


def test_whether_a_named_variant_is_rare_is_not_told_by_its_price(federation: Federation) -> None:
    """Undefended, a price would be a beacon that answers for nothing."""
    told = []
    for key in (variant_in(federation, rare=True), variant_in(federation, rare=False)):
        _, prices = priced(federation, AlleleFrequency(variants=(key,)))
        told.append(prices["FI"])
    assert told[0] == told[1]
    least, most = told[0]["accounts"][0]["cost"]
    assert least < most
    assert "not said beforehand" in " ".join(told[0]["says"])


def test_a_region_is_no_beacon(federation: Federation) -> None:
    """One base where somebody carries an allele, and one where nobody does: same price, same course, no rows."""
    variant = next(
        v for v in federation.holdings["FI"].site.variants if name_of(v) == variant_in(federation, rare=True)
    )
    there, nowhere = (
        AlleleFrequency(regions=(f"{variant.chromosome}:{position}-{position}",))
        for position in (variant.position, variant.position + 1)
    )
    told = [priced(federation, question)[1]["FI"]["accounts"][0]["cost"] for question in (there, nowhere)]
    assert told[0] == told[1] and told[0][0] > 0.3
    lenient = federation_of(federation.root.parent / "lenient", policy=Policy(difference_min=10, membership_power=0.9))
    courses = []
    for question in (there, nowhere):
        run = lenient.settle(lenient.ask(question))
        assert run.state == "complete", run.detail.get("problem")
        assert lenient.tables(run)["frequencies"].rows == 0
        courses.append([event["said"] for event in run.detail["events"] if "price" not in event["said"]])
    assert courses[0] == courses[1]


PLACES = ((1, 10), (5, 20), (21, 30), (100, 50_099), (1_000_000, 2_000_000))


def test_regions_are_priced_by_how_they_could_be_laid() -> None:
    regions = [Region("1", start, end) for start, end in PLACES]
    assert _merged([*regions[::-1], Region("2", 1, 1)]) == [30, 50_000, 1_000_001, 1]
    asked = _in_regions(regions[:1], 0, 1_000, TIGHT), _in_regions(regions[:1], 9, 1_000, TIGHT)
    assert asked[0] == asked[1] and asked[0].unknown == 1
    wide = _in_regions(regions[-1:], 1_234, 1_000, TIGHT)
    assert (wide.unknown, wide.sites) == (3, 1_300.0)
    assert price(_in_regions(regions[3:4], 0, 1_000, TIGHT)) > price(asked[0])


def test_a_refusal_that_tells_of_a_rare_variant_is_paid_for(tmp_path: Path) -> None:
    federation = federation_of(tmp_path / "refused", policy=Policy(difference_min=10, membership_power=0.06))
    key = variant_in(federation, rare=True)
    limit, spent = rho_at(0.06), node_of(federation).budgets.spent
    least = price(Question(400, sites=1.0))
    assert least < limit < price(Question(400, unknown=1))
    for _ in range(2):
        run = federation.settle(federation.ask(AlleleFrequency(variants=(key,))))
        assert codes(run) == ["budget_exhausted"]
        # All that is left: a refusal is an answer. The next one follows from the question alone.
        assert spent("grant:P-1") == pytest.approx(limit)


def test_breaking_off_after_the_price_gives_nothing_back_that_was_told(tmp_path: Path) -> None:
    federation = federation_of(tmp_path / "broken", policy=Policy(difference_min=10, membership_power=0.3))
    run = federation.ask(AlleleFrequency(variants=(variant_in(federation, rare=True),)))
    while federation.coordinator.ledger.run(run.id).state in ("deciding", "rostering"):
        sum(party.once() for party in federation.parties.values())
    federation.coordinator.cancel(run.id)
    before = node_of(federation).budgets.spent("grant:P-1")
    federation.clock[0] += 2 * 3600
    assert node_of(federation).budgets.spent("grant:P-1") == before > 0


def test_a_priced_cohort_goes_on_record_because_its_size_is_told(tmp_path: Path) -> None:
    federation = federation_of(tmp_path / "sizes", policy=TIGHT)
    _, told = priced(federation, AlleleFrequency(cohort=Cohort(sex="male")))
    assert len(told) == len(federation.names)
    view = federation.holdings["FI"].site.view
    assert [cohort.size for cohort in node_of(federation).cohorts.recent(5)] == [int((view.numbers("male") == 1).sum())]


def test_an_order_for_a_price_cannot_be_made_to_run_nor_the_other_way_round(federation: Federation) -> None:
    """A hub that asks for a contribution under an order for a price, or for a price under one to run, gets neither."""
    for price_only, wanted in ((True, "roster"), (False, "price")):
        run = federation.ask(CohortCount(), price_only=price_only)
        (task,) = federation.coordinator.poll("FI", f"x{price_only}")
        node = node_of(federation)
        node.answer(task)
        turned = msgspec.structs.replace(task, id=f"{run.id}/2/FI", kind=wanted, body={"statements": {}, "roster": {}})
        with pytest.raises(Refused) as refused:
            node.answer(turned)
        assert "wrong_state" in refused.value.codes
        federation.coordinator.cancel(run.id)


def test_nodes_that_refuse_are_absent_and_the_others_tell_their_own_price(tmp_path: Path) -> None:
    federation = federation_of(tmp_path / "two", policy=TIGHT)
    federation.holdings["GB"].dataset = "gb-2"
    run = federation.ask(AlleleFrequency(), price_only=True, roster=("FI", "ES", "GB"))
    federation.holdings["GB"].dataset = "gb-1"
    run = federation.settle(run)
    assert run.state == "complete" and list(mapping(run.detail, "absent")) == ["GB"]
    told = mapping(mapping(run.detail, "result"), "prices")
    people = federation.holdings["FI"].site.view.people
    assert mapping(told, "FI")["people"] == people  # of two nodes each answers for itself


def test_a_price_waits_only_so_long_for_a_node_that_is_away(tmp_path: Path) -> None:
    federation = federation_of(tmp_path / "away", policy=TIGHT)
    run = federation.ask(CohortCount(), price_only=True)
    away = federation.parties.pop("GB")
    for _ in range(3):
        federation.settle(run)
        federation.clock[0] += 11
        federation.coordinator.tick()
    run = federation.settle(run)
    assert away is not None and run.state == "complete"
    assert list(mapping(run.detail, "absent")) == ["GB"]
