"""Frozen people: their columns, criteria, relatives and digests, over several batches and datasets."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.store.small_stores import POOL, Batch, Site, draw_batch, manifest, put

from federome.errors import Invalid
from federome.model.cohort import Carrier, Cohort, Measurement
from federome.model.variant import Region, chromosome_class
from federome.store.catalogue import Store
from federome.store.view import StudyView
from federome.store.writer import GeneRegion, Relatives

WHEN = datetime(2026, 6, 1, tzinfo=UTC)
pytestmark = pytest.mark.usefixtures("quick_disk")
FEW = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))


def two_datasets(folder: Path) -> tuple[Store, StudyView, list[str]]:
    """Finland with two batches of different columns, Spain with one; the names of the view's people in order."""
    store = Store.open(folder)
    rng = np.random.default_rng(1)
    names: list[str] = []
    for dataset, name, columns, day in (
        ("es", "a", {"birth_year": 1980, "bmi_kg_m2": 25.0, "population": "IBS"}, date(2026, 1, 1)),
        ("fi", "a", {"birth_year": 1990, "bmi_kg_m2": 20.0}, date(2026, 1, 1)),
        ("fi", "b", {"population": "FIN"}, date(2026, 8, 1)),
    ):
        batch = draw_batch(rng, name, 10, prefix=dataset)
        table = pd.DataFrame({"person_id": batch.people, **columns})
        put(store, batch, about=manifest(dataset), phenotypes=table, on=day)
        names += batch.people
    return store, StudyView.freeze(store, [store.release("fi"), store.release("es")]), names


def test_columns_of_several_batches_join(tmp_path: Path) -> None:
    _, view, names = two_datasets(tmp_path)
    assert view.people == len(names) == 30
    assert view.columns == {"birth_year", "bmi_kg_m2", "population", "sex"}
    np.testing.assert_array_equal(view.numbers("age"), [1980 * 0 + 45] * 10 + [36] * 10 + [np.nan] * 10)
    np.testing.assert_array_equal(view.numbers("bmi_kg_m2"), [25.0] * 10 + [20.0] * 10 + [np.nan] * 10)
    assert view.labels("population").tolist() == ["IBS"] * 10 + [""] * 10 + ["FIN"] * 10
    sex = view.labels("sex")
    np.testing.assert_array_equal(view.numbers("male"), [{"male": 1.0, "female": 0.0, "": np.nan}[s] for s in sex])
    assert view.meets(Cohort(measurements=(Measurement("bmi_kg_m2", 22),))).tolist() == [True] * 10 + [False] * 20
    for ask in (lambda: view.numbers("height"), lambda: view.labels("height"), lambda: view.labels("bmi_kg_m2")):
        with pytest.raises(Invalid):
            ask()
    with pytest.raises(Invalid, match="Columns here: birth_year"):
        view.meets(Cohort(measurements=(Measurement("height"),)))


def test_where_keeps_the_order_and_the_columns(tmp_path: Path) -> None:
    _, view, _ = two_datasets(tmp_path)
    keep = np.random.default_rng(0).random(30) < 0.5
    part = view.where(keep)
    assert part.people == keep.sum()
    np.testing.assert_array_equal(part.numbers("birth_year"), view.numbers("birth_year")[keep])
    assert part.labels("sex").tolist() == view.labels("sex")[keep].tolist()
    some = Cohort(sex="male")
    assert part.meets(some).tolist() == view.meets(some)[keep].tolist()
    again = part.where(np.zeros(part.people, np.bool_))
    assert again.people == 0 and again.numbers("age").shape == (0,) and again.unrelated().shape == (0,)
    with pytest.raises(Invalid, match="mask"):
        part.where(keep)


def test_a_cohort_is_frozen_from_criteria(tmp_path: Path) -> None:
    store, view, _ = two_datasets(tmp_path)
    releases = [store.release("es"), store.release("fi")]
    men = StudyView.freeze(store, releases, Cohort(sex="male"))
    assert men.people == (view.labels("sex") == "male").sum()
    assert men.digest(b"k") == view.where(view.labels("sex") == "male").digest(b"k")


def test_what_makes_no_view_is_refused(tmp_path: Path) -> None:
    store, _, _ = two_datasets(tmp_path)
    release = store.release("fi")
    for releases in ([], [release, release]):
        with pytest.raises(Invalid, match="one release of each"):
            StudyView.freeze(store, releases)
    batch = Batch("a", ["x"], ["male"], {("1", 5, "A", "C"): np.zeros(1, np.int8)})
    put(store, batch, about=replace(manifest("uk"), assembly="GRCh37"))
    with pytest.raises(Invalid, match="different assemblies"):
        StudyView.freeze(store, [release, store.release("uk")])


def test_digests_follow_the_set_and_the_secret(tmp_path: Path) -> None:
    store, view, _ = two_datasets(tmp_path)
    one = view.where(np.arange(30) % 2 == 0)
    assert one.digest(b"secret") == view.where(np.arange(30) % 2 == 0).digest(b"secret")
    assert len({one.digest(b"secret"), one.digest(b"other"), view.digest(b"secret")}) == 3
    finland = StudyView.freeze(store, [store.release("fi")])
    both = view.where(np.arange(30) >= 10)
    assert finland.digest(b"s") == both.digest(b"s") and finland.bitmap() == both.bitmap()
    numbers = np.flatnonzero(np.unpackbits(np.frombuffer(one.bitmap(), np.uint8), bitorder="little"))
    assert numbers.tolist() == sorted(one.numbers_at_node.tolist())


@FEW
@given(st.integers(0, 10**6))
def test_unrelated_people_are_a_maximal_set(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        first, second = draw_batch(rng, "a", 15), draw_batch(rng, "b", 15)
        put(store, first)
        names = [*first.people, *second.people]
        pairs = {tuple(sorted(rng.choice(30, 2, replace=False).tolist())) for _ in range(int(rng.integers(0, 40)))}
        kin = {pair: float(rng.choice([0.05, 0.0883, 0.0884, 0.25])) for pair in pairs if max(pair) >= 0}
        put(store, second, relatives=[Relatives(names[b], names[a], k) for (a, b), k in kin.items()])
        gone = {name for name in names if rng.random() < 0.1}
        store.withdraw(gone, WHEN)
        view = StudyView.freeze(store, [store.release("fi")])
        here = [i for i, name in enumerate(names) if name not in gone]
        close = [{here.index(a), here.index(b)} for (a, b), k in kin.items() if k >= 0.0884 and {a, b} <= set(here)]
        kept = set(np.flatnonzero(view.unrelated()).tolist())
        assert not any(pair <= kept for pair in close)
        for person in set(range(view.people)) - kept:
            assert any(pair <= kept | {person} for pair in close if person in pair)
        assert np.array_equal(view.unrelated(), view.unrelated())
        distant = view.unrelated(kinship=0.01)
        assert distant.sum() <= view.people


def alleles(batch: Batch, site: Site, row: int) -> tuple[int, int]:
    """ALT and all alleles of one person, from one copy on X, else from two."""
    copies = int(batch.genotypes[site][row]) if site in batch.genotypes else 0
    kind = chromosome_class(site[0], site[1], "GRCh38")
    if copies < 0:
        return 0, 0
    if kind == "X" and batch.sexes[row] == "male":
        return copies // 2, 1
    return copies, 2


def rare(batches: list[Batch], site: Site, limit: float) -> bool:
    """Whether a variant's ALT frequency over all people who can be counted is small."""
    seen = called = 0
    for batch in batches:
        listed = site in batch.genotypes
        if not listed and not batch.callable_at(site[0], site[1], site[1] + len(site[2]) - 1):
            continue
        for row, sex in enumerate(batch.sexes):
            if site[0] == "Y" and not listed and sex != "male":
                continue
            one, all_of_them = alleles(batch, site, row)
            seen, called = seen + one, called + all_of_them
    return seen <= limit * called


@FEW
@given(st.integers(0, 10**6))
def test_carriers_equal_the_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        batches = [draw_batch(rng, name, int(rng.integers(1, 30))) for name in ("a", "b", "c")]
        genes = [
            GeneRegion("GENE1", "1", 800, 901),
            GeneRegion("GENE1", "1", 850, 1_000_000),
            GeneRegion("GENE1", "X", 1, 6_000_000),
        ]
        for batch in batches:
            put(store, batch, genes=genes)
        store.withdraw([name for batch in batches for name in batch.people if rng.random() < 0.1], WHEN)
        view = StudyView.freeze(store, [store.release("fi")])
        flat = [(batch, row) for batch in batches for row in range(len(batch.people))]
        active = np.concatenate([store.active(record) for record in store.release("fi").batches])
        flat = [person for person, here in zip(flat, active, strict=True) if here]
        limit = float(rng.choice([0.02, 0.3, 0.6, 1.0]))

        def carries(batch: Batch, row: int, sites: list[Site]) -> bool:
            return any(site in batch.genotypes and batch.genotypes[site][row] > 0 for site in sites)

        site = POOL[int(rng.integers(len(POOL)))]
        swapped = (site[0], site[1], site[3], site[2])
        asked = Carrier(variant=":".join(map(str, site)))
        expected = [
            carries(batch, row, [site])
            or (len(site[2]) == len(site[3]) and swapped in batch.genotypes and batch.genotypes[swapped][row] in (0, 1))
            for batch, row in flat
        ]
        assert view.meets(Cohort(carriers=(asked,))).tolist() == expected

        region = Region("1", 900, 999_999) if rng.random() < 0.5 else Region("X", 1, 5_000_000)
        listed = {s for batch in batches for s in batch.genotypes}
        inside = [s for s in listed if region.holds(s[0], s[1]) and rare(batches, s, limit)]
        found = view.meets(Cohort(carriers=(Carrier(region=str(region), rare_below=limit),)))
        assert found.tolist() == [carries(batch, row, inside) for batch, row in flat]

        wanted = ("missense_variant", "stop_gained")
        placed = [s for s in listed if any(g.chromosome == s[0] and g.start <= s[1] <= g.end for g in genes)]
        effective = [s for s in placed if rare(batches, s, limit)]
        expected = [
            any(
                carries(batch, row, [s])
                and any(gene in ("GENE1", "") and term in wanted for gene, term in batch.effects.get(s, ()))
                for s in effective
            )
            for batch, row in flat
        ]
        if any(batch.effects.get(s) for batch in batches for s in placed):
            asked = Carrier(gene="GENE1", rare_below=limit, consequences=wanted)
            assert view.meets(Cohort(carriers=(asked,))).tolist() == expected


def test_carrier_criteria_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    site = ("1", 900, "A", "C")
    put(store, Batch("a", ["x"], ["male"], {site: np.ones(1, np.int8)}))
    view = StudyView.freeze(store, [store.release("fi")])
    for carrier, message in (
        (Carrier(), "names one of"),
        (Carrier(variant="1:900:A:C", gene="G"), "names one of"),
        (Carrier(gene="G"), "no gene is called 'G'"),
        (Carrier(region="1:1-1000", consequences=("missense_variant",)), "carry no consequences"),
        (Carrier(variant="GRCh37:1:900:A:C"), "lies on GRCh37"),
        (Carrier(variant="nonsense"), "not a variant"),
    ):
        with pytest.raises(Invalid, match=message):
            view.meets(Cohort(carriers=(carrier,)))
    assert view.meets(Cohort(carriers=(Carrier(variant="1:900:A:C"),))).all()
    assert not view.meets(Cohort(carriers=(Carrier(variant="1:901:A:C"), Carrier(region="2"))))[0]


@pytest.mark.parametrize(
    ("chromosome", "position", "sexes", "copies", "frequency"),
    [
        ("1", 900, ["male", "male", "female", "female"], [2, 0, 1, 0], 3 / 8),
        ("1", 900, ["male", "male", "female", "female"], [2, -1, 1, 0], 3 / 6),
        ("X", 5_000_000, ["male", "male", "female", "female"], [2, 0, 1, 0], 2 / 6),
        ("X", 1_000_000, ["male", "male", "female", "female"], [2, 0, 1, 0], 3 / 8),
        ("MT", 263, ["male", "male", "female", "female"], [2, 0, 0, 0], 1 / 4),
    ],
)
def test_the_frequency_that_is_rare_counts_the_copies_that_exist(
    tmp_path: Path, chromosome: str, position: int, sexes: list[str], copies: list[int], frequency: float
) -> None:
    store = Store.open(tmp_path)
    site = (chromosome, position, "A", "C")
    put(store, Batch("a", list("abcd"), sexes, {site: np.array(copies, np.int8)}))
    view = StudyView.freeze(store, [store.release("fi")])
    asked = {"region": f"{chromosome}:{position}-{position}"}
    at_the_limit = view.meets(Cohort(carriers=(Carrier(**asked, rare_below=frequency),)))
    assert at_the_limit.tolist() == [copy > 0 for copy in copies]
    assert not view.meets(Cohort(carriers=(Carrier(**asked, rare_below=frequency - 1e-9),))).any()
