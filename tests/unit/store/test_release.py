"""Data releases: dated, frozen, grown by whole batches, and what a withdrawal does to them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from tests.unit.store.small_stores import draw_batch, manifest, put

from federome.errors import Invalid
from federome.model.release import Policy
from federome.store.catalogue import Store
from federome.store.writer import GeneRegion

WHEN = datetime(2026, 6, 1, tzinfo=UTC)


def batches(count: int, people: int = 12) -> list:
    rng = np.random.default_rng(count)
    return [draw_batch(rng, f"b{i}", people) for i in range(count)]


def test_each_batch_makes_a_release_that_keeps_the_earlier_ones(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    made = [put(store, each, on=date(2026, i + 1, 1)) for i, each in enumerate(batches(3))]
    assert Store.open(tmp_path).releases("fi") == tuple(made)
    assert [[batch.name for batch in release.batches] for release in made] == [["b0"], ["b0", "b1"], ["b0", "b1", "b2"]]
    assert [release.people for release in made] == [12, 24, 36]
    assert len({release.digest for release in made}) == 3
    assert store.release("fi", on=date(2026, 2, 27)) == made[1]
    assert store.release("fi") == made[2]
    assert store.datasets() == ("fi",)


def test_there_is_no_release_before_the_first_or_of_another_dataset(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    put(store, batches(1)[0], on=date(2026, 1, 1))
    with pytest.raises(Invalid, match="no data release on 2025-12-31"):
        store.release("fi", on=date(2025, 12, 31))
    with pytest.raises(Invalid, match="Datasets here: fi"):
        store.release("es")


def test_a_new_release_needs_enough_new_people_unless_it_is_the_first(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    small, enough, few = draw_batch(np.random.default_rng(0), "s", 3), *batches(2, 10)
    few = replace(
        few, people=few.people[:9], sexes=few.sexes[:9], genotypes={k: v[:9] for k, v in few.genotypes.items()}
    )
    put(store, small, about=manifest(k=10))
    put(store, enough, about=manifest(k=10))
    with pytest.raises(Invalid, match="at least 10 new people; this batch has 9") as caught:
        put(store, few, about=manifest(k=10))
    assert "Collect more people" in caught.value.remedy
    assert store.release("fi").people == 13
    open_data = replace(manifest(), policy=Policy(open_data=True))
    assert put(store, few, about=open_data).people == 22


def test_releases_do_not_go_back_in_time(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    first, second = batches(2)
    put(store, first, on=date(2026, 2, 1))
    with pytest.raises(Invalid, match="last release is of 2026-02-01"):
        put(store, second, on=date(2026, 1, 31))
    assert put(store, second, on=date(2026, 2, 1)) == store.release("fi", on=date(2026, 2, 1))


def test_a_release_keeps_the_manifest_of_its_day(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    first, second = batches(2)
    put(store, first, about=replace(manifest(), title="Before"))
    put(store, second, about=replace(manifest(), title="After", data_use={"permission": "HMB", "modifiers": ["NPU"]}))
    assert [release.manifest.title for release in store.releases("fi")] == ["Before", "After"]
    assert store.release("fi").manifest.data_use == {"permission": "HMB", "modifiers": ["NPU"]}


def test_the_digest_follows_every_part_of_a_batch(tmp_path: Path) -> None:
    batch = batches(1)[0]
    site = next(iter(batch.genotypes))
    other = batch.genotypes[site].copy()
    other[0] = -1 if other[0] >= 0 else 0
    variants = {
        "same": batch,
        "genotype": replace(batch, genotypes=batch.genotypes | {site: other}),
        "people": replace(batch, people=[f"{name}x" for name in batch.people]),
        "callable": replace(batch, callable="sites" if batch.callable != "sites" else "everywhere", intervals=[]),
        "name": replace(batch, name="c"),
    }
    digests = {name: put(Store.open(tmp_path / name), each).digest for name, each in variants.items()}
    digests["genes"] = put(Store.open(tmp_path / "g"), batch, genes=[GeneRegion("G", "1", 1, 9)]).digest
    digests["day"] = put(Store.open(tmp_path / "d"), batch, on=date(2026, 1, 2)).digest
    assert put(Store.open(tmp_path / "again"), batch).digest == digests["same"]
    assert len(set(digests.values())) == len(digests)


def test_a_monthly_batch_rewrites_no_byte(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    first, second = batches(2)
    put(store, first)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*~*") if p.is_file()}
    put(store, second)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before} == before


def test_withdrawal_masks_at_once_and_keeps_the_release(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    first, second = batches(2)
    put(store, first)
    release = put(store, second)
    digest = store.active_digest(release)
    assert store.withdraw([first.people[3], second.people[0]], WHEN) == 2
    assert store.withdraw([first.people[3]], WHEN) == 0
    assert store.release("fi").digest == release.digest
    assert store.active_digest(release) != digest
    again = Store.open(tmp_path)
    assert np.flatnonzero(~again.active(release.batches[0])).tolist() == [3]
    assert np.flatnonzero(~again.active(release.batches[1])).tolist() == [0]
    assert again.active_digest(release) == store.active_digest(release)


def test_withdrawing_strangers_changes_nothing_and_names_nobody(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    batch = batches(1)[0]
    release = put(store, batch)
    with pytest.raises(Invalid, match="1 of 2 people are not in the store") as caught:
        store.withdraw([batch.people[0], "stranger"], WHEN)
    assert "stranger" not in str(caught.value) and store.active(release.batches[0]).all()


def test_withdrawal_can_be_limited_to_a_dataset(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    batch = batches(1)[0]
    finland, spain = put(store, batch, about=manifest("fi")), put(store, batch, about=manifest("es"))
    assert store.withdraw([batch.people[0]], WHEN, dataset="es") == 1
    assert store.active(finland.batches[0]).all() and not store.active(spain.batches[0])[0]
    assert store.withdraw([batch.people[0]], WHEN) == 1


def test_people_keep_their_numbers_and_nobody_shares_one(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    releases = [put(store, each) for each in batches(3)]
    numbers = np.concatenate([store.people(batch).numbers for batch in releases[-1].batches])
    assert numbers.tolist() == list(range(1, 37))


def test_genes_come_from_the_newest_batch_that_has_them(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    a, b, c = batches(3)
    put(store, a, genes=[GeneRegion("OLD", "chr1", 5, 9), GeneRegion("BOTH", "1", 1, 2)])
    put(store, b)
    put(store, c, genes=[GeneRegion("BOTH", "1", 3, 4), GeneRegion("BOTH", "X", 7, 8)])
    first, second, third = store.releases("fi")
    assert store.gene(first, "OLD") == store.gene(second, "OLD") == (("1", 5, 9),)
    assert store.gene(third, "OLD") == ()
    assert store.gene(third, "BOTH") == (("1", 3, 4), ("X", 7, 8))
