"""Published tables: equal to a count person by person, closed where a difference would tell of few, priced before."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.store.small_stores import Batch, draw_batch, draw_genotypes, manifest, put

from federome.db import engine
from federome.disclosure.budgets import Charge
from federome.errors import Damaged, Invalid, Refused
from federome.governance.consent import Consent, ConsentEvent, Ledger
from federome.model.release import Policy
from federome.model.table import Table
from federome.network import publication, publishing
from federome.network.holdings import StoreHoldings
from federome.network.publication import COUNTS, ZYGOSITY
from federome.network.publishing import publish, set_aside
from federome.network.spending import SqlBudgets
from federome.store.catalogue import Store

NOW = datetime(2026, 11, 2, tzinfo=UTC)


def holdings(store: Store, *, tier: Consent = "secondary-use", events: tuple[ConsentEvent, ...] = ()) -> StoreHoldings:
    return StoreHoldings(store, lambda: Ledger(events, default=tier), lambda: NOW.timestamp())


def people(seed: int, size: int) -> Batch:
    batch = draw_batch(np.random.default_rng(seed), "b1", size)
    return dataclasses.replace(batch, sexes=[("male", "female")[n % 2] for n in range(size)], callable="everywhere")


def drawn(seed: int, size: int) -> Batch:
    """People of known sex, whose genotypes fit it."""
    batch = people(seed, size)
    rng = np.random.default_rng(seed + 1)
    genotypes = {site: draw_genotypes(rng, site, batch.sexes) for site in batch.genotypes if site[0] != "Y"}
    return dataclasses.replace(batch, genotypes=genotypes)


def test_open_data_is_counted_person_by_person(tmp_path: Path) -> None:
    batch, store = drawn(3, 60), Store.open(tmp_path)
    about = dataclasses.replace(manifest(), policy=Policy(k_min=1, k_public=1, open_data=True))
    put(store, batch, about=about)
    told, table = publish(holdings(store), "fi", node="FI")
    assert told.strata == ("Total", "F", "M")
    assert told.rho == 0
    assert not any(table.withheld[name].any() for name in (*COUNTS, *ZYGOSITY))
    men = np.array([sex == "male" for sex in batch.sexes])
    seen = set()
    for record in table.records():
        key = (record["chromosome"], record["position"], record["ref"], record["alt"])
        dosage = batch.genotypes[key]  # type: ignore[index]
        one_copy = (
            men if key[0] == "X" and not 10_001 <= key[1] <= 2_781_479 and key[1] < 155_701_383 else np.zeros(60, bool)
        )  # type: ignore[operator]
        if key[0] == "MT":
            one_copy = np.ones(60, bool)
        for at, group in enumerate((np.ones(60, bool), ~men, men)):
            called = group & (dosage >= 0)
            copies = np.where(one_copy, 1, 2)
            alternate = np.where(one_copy, dosage // 2, dosage)
            assert record["called_alleles"][at] == copies[called].sum()  # type: ignore[index]
            assert record["alternate_alleles"][at] == alternate[called].sum()  # type: ignore[index]
            assert record["heterozygous"][at] == (called & ~one_copy & (dosage == 1)).sum()  # type: ignore[index]
            assert record["homozygous"][at] == (called & ~one_copy & (dosage == 2)).sum()  # type: ignore[index]
            assert record["hemizygous"][at] == (called & one_copy & (dosage == 2)).sum()  # type: ignore[index]
        seen.add(key)
    assert seen == set(batch.genotypes)


def test_only_those_who_consented_are_counted(tmp_path: Path) -> None:
    batch, store = drawn(4, 60), Store.open(tmp_path)
    put(store, batch, about=dataclasses.replace(manifest(), policy=Policy(k_min=1, k_public=1, open_data=True)))
    told, _ = publish(holdings(store, tier="allele-frequency"), "fi", node="FI")
    assert told.people == 60
    left = ConsentEvent(batch.people[0], "withdraw", NOW)
    told, _ = publish(holdings(store, events=(left,)), "fi", node="FI")
    assert told.people == 59
    nobody, table = publish(holdings(store, tier="none"), "fi", node="FI")
    assert (nobody.people, table.rows) == (0, 0)


def test_what_would_tell_of_members_is_refused_and_says_what_would_not(tmp_path: Path) -> None:
    batch, store = drawn(5, 60), Store.open(tmp_path)
    put(store, batch, about=dataclasses.replace(manifest(), policy=Policy(k_min=2, k_public=2)))
    with pytest.raises(Refused, match="membership test") as caught:
        publish(holdings(store), "fi", node="FI")
    assert caught.value.codes == ("budget_exhausted",)
    allowed = int(caught.value.remedy.split("at most ")[1].split()[0])
    assert allowed < 9
    small, table = publish(holdings(store), "fi", node="FI", regions=["1:999999-999999", "2:77-77"], by_sex=False)
    assert table.rows <= 2
    assert small.power <= 0.10


def counts(draw: st.DrawFn, people: int) -> tuple[int, int]:
    called = 2 * draw(st.integers(0, people))
    return draw(st.integers(0, called)), called


@st.composite
def partitions(draw: st.DrawFn) -> tuple[Table, dict[str, np.ndarray], dict[str, np.ndarray]]:  # type: ignore[type-arg]
    """Totals, cells that came through the gate, and an unnamed rest: cells are withheld as the gate would."""
    k = 20
    parts = [counts(draw, 60) for _ in range(draw(st.integers(2, 4)))]
    rest = counts(draw, draw(st.sampled_from([0, 5, 60])))
    alternate, called = sum(p[0] for p in parts) + rest[0], sum(p[1] for p in parts) + rest[1]
    numbers = (alternate, called, 0, 0, 0)
    whole = Table(
        {name: np.array([value]) for name, value in zip((*COUNTS, *ZYGOSITY), numbers, strict=True)},
        {name: np.zeros(1, bool) for name in (*COUNTS, *ZYGOSITY)},
    )
    hidden = np.array([[p[0] < 2 * k or p[1] - p[0] < 2 * k for p in parts]])
    cells = {
        "alternate_alleles": np.array([[p[0] for p in parts]]) * ~hidden,
        "called_alleles": np.array([[p[1] for p in parts]]) * ~hidden,
    } | {name: np.zeros_like(hidden, np.int64) for name in ZYGOSITY}
    masks = {name: hidden.copy() for name in (*COUNTS, *ZYGOSITY)}
    return whole, cells, masks


@given(partitions())
def test_nothing_small_can_be_had_by_subtraction(case: tuple[Table, dict, dict]) -> None:  # type: ignore[type-arg]
    """An adversary who subtracts all that is told of a partition from the total is left with nobody, or with enough."""
    whole, cells, masks = case
    closed = publishing._closed(whole, cells, masks, Policy(k_min=20))
    if closed[0]:
        return
    assert not masks["alternate_alleles"].any()
    left = whole.ints("called_alleles")[0] - cells["called_alleles"].sum()
    left_alt = whole.ints("alternate_alleles")[0] - cells["alternate_alleles"].sum()
    assert left == 0 or (left_alt >= 40 and left - left_alt >= 40)
    if left:
        assert all(masks[name].all() for name in ZYGOSITY)


def test_without_the_rule_a_difference_gives_a_cell_away() -> None:
    """The same adversary succeeds where a withheld cell does not close its neighbours."""
    whole = Table(
        {n: np.array([v]) for n, v in zip((*COUNTS, *ZYGOSITY), (100, 2000, 0, 0, 0), strict=True)},
        {n: np.zeros(1, bool) for n in (*COUNTS, *ZYGOSITY)},
    )
    hidden = np.array([[False, True]])
    cells = {"alternate_alleles": np.array([[97, 0]]), "called_alleles": np.array([[1000, 0]])}
    cells |= {name: np.zeros((1, 2), np.int64) for name in ZYGOSITY}
    attacked = whole.ints("alternate_alleles")[0] - cells["alternate_alleles"].sum()
    assert attacked == 3  # the men with the allele, although their cell was withheld
    assert publishing._closed(whole, cells, {n: hidden.copy() for n in (*COUNTS, *ZYGOSITY)}, Policy(k_min=20))[0]


def test_a_publication_is_read_as_written_or_not_at_all(tmp_path: Path) -> None:
    batch, store = drawn(6, 60), Store.open(tmp_path / "store")
    put(store, batch, about=dataclasses.replace(manifest(), policy=Policy(k_min=1, k_public=1, open_data=True)))
    told, table = publish(holdings(store), "fi", node="FI", genes=[("GENE1", "1", 5, 9)])
    for _ in range(2):  # again replaces it
        place = publication.write(tmp_path / "out", told, table)
    again, read = publication.read(place)
    assert again == told
    assert read.to_bytes() == table.to_bytes()
    assert publication.newest(tmp_path / "out") == (place,)
    assert sorted(p.name for p in place.parent.iterdir()) == [place.name]

    def broken(change: Callable[[bytes], bytes]) -> None:
        path = place / "frequencies.fdt"
        path.write_bytes(change(path.read_bytes()))
        with pytest.raises(Damaged):
            publication.read(place)

    broken(lambda data: data[:-1])
    broken(lambda data: data + b"x")
    (place / "frequencies.fdt").unlink()
    with pytest.raises(Damaged, match="incomplete"):
        publication.read(place)


def test_equal_tables_of_two_datasets_are_paid_for_each(tmp_path: Path) -> None:
    """Also one that was paid for when tables went by their digest alone: once, and not in another's place."""
    store = Store.open(tmp_path / "store")
    put(store, drawn(3, 60), about=dataclasses.replace(manifest(), policy=Policy(k_min=1, k_public=1, open_data=True)))
    told, _ = publish(holdings(store), "fi", node="FI")
    one = dataclasses.replace(told, rho=0.01)
    other = dataclasses.replace(one, dataset="other", release="sha256:" + "0" * 64)
    accounts = [f"public:{each.release}" for each in (one, other)]
    budgets = SqlBudgets(engine(f"sqlite:///{tmp_path}/new.db"), lambda: 0.0)
    for each in (one, other, one, other):
        budgets.commit(set_aside(budgets, each, limit=0.1))
    assert budgets.accounts() == dict.fromkeys(accounts, 0.01)

    old = SqlBudgets(engine(f"sqlite:///{tmp_path}/old.db"), lambda: 0.0)
    old.spend(f"table:{one.table}", [Charge(accounts[0], 0.01, 0.1)])
    with pytest.raises(Invalid):  # as it was: equal tables collide
        old.reserve(f"table:{one.table}", [Charge(accounts[1], 0.01, 0.1)])
    for each in (one, other):
        old.commit(set_aside(old, each, limit=0.1))
    assert old.accounts() == dict.fromkeys(accounts, 0.01)
