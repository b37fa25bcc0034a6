"""Blocks of a run against a twin that goes person by person, over random small stores of several batches."""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.store.small_stores import POOL, Batch, Site, counted, draw_batch, manifest, put

from federome.analysis.algorithm import Variants
from federome.errors import Invalid
from federome.model.index import BlockIndex, merge, named_blocks
from federome.model.table import Table
from federome.model.variant import BIN_SIZE, Bin, Region, Variant, chromosome_class, oriented, token
from federome.store.callability import bin_span
from federome.store.catalogue import Store
from federome.store.site import StudySite
from federome.store.view import StudyView

KEY = b"the key of a run"
WHEN = datetime(2026, 6, 1, tzinfo=UTC)
pytestmark = pytest.mark.usefixtures("quick_disk")
FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


class World:
    """A store of random batches in one or two datasets, some people withdrawn, and its twin."""

    def __init__(self, folder: Path, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.rng = rng
        self.store = Store.open(folder)
        self.batches: list[Batch] = []
        datasets = ["es", "fi"][: int(rng.integers(1, 3))]
        for dataset in datasets:
            for number in range(int(rng.integers(1, 4))):
                batch = draw_batch(rng, f"b{number}", int(rng.integers(1, 40)), prefix=dataset)
                put(self.store, batch, about=manifest(dataset), sparse=bool(rng.random() < 0.5))
                self.batches.append(batch)
        self.gone = {name for batch in self.batches for name in batch.people if rng.random() < 0.1}
        self.store.withdraw(self.gone, WHEN)
        self.view = StudyView.freeze(self.store, [self.store.release(each) for each in reversed(datasets)])
        self.active = [np.array([name not in self.gone for name in batch.people]) for batch in self.batches]

    def expected(self, site: Site, *, known: list[bool], reference_counts: bool) -> np.ndarray:
        """Counted alleles of everybody in the view."""
        parts = [
            counted(batch, site, reference_counts=reference_counts, known=here)[active]
            for batch, active, here in zip(self.batches, self.active, known, strict=True)
        ]
        return np.concatenate(parts)

    def populated(self) -> list[Batch]:
        return [batch for batch, active in zip(self.batches, self.active, strict=True) if active.any()]


def token_rows(world: World, index: BlockIndex) -> list[Site]:
    """The variant that each row of an index block stands for, by the plain token function."""
    names: dict[int, Site] = {}
    for site in POOL:
        names[token(KEY, *site) >> 1] = site
    return [names[int(each) >> 1] for each in index.tokens]


def bin_known(batch: Batch, site: Site) -> bool:
    """Whether all of a variant's bin that belongs to its class is callable, base range by base range."""
    kind = chromosome_class(site[0], site[1], "GRCh38")
    first, last = bin_span(Bin.of(Variant.of("GRCh38", *site)).code, "GRCh38")
    assert chromosome_class(site[0], first, "GRCh38") == chromosome_class(site[0], last, "GRCh38") == kind
    return batch.callable_at(site[0], first, last)


def check_block(world: World, site: StudySite, index: BlockIndex, expected: np.ndarray, rows: Table | None) -> None:
    """Counts, products and dosages of a block and of a restricted view against the expected dosages."""
    rng, view = world.rng, world.view
    block = site.block(index, rows)
    assert block.rows == len(expected) and block.chromosome == index.chromosome
    keep = rng.random(view.people) < 0.7
    for seen, dosage in ((view, expected), (view.where(keep), expected[:, keep])):
        groups = rng.integers(-1, 3, seen.people)
        counts = block.counts(seen, groups, 3)
        for group in range(3):
            within = dosage[:, groups == group]
            want = np.stack([(within == code).sum(axis=1) for code in (0, 1, 2, -1)], axis=1)
            np.testing.assert_array_equal(counts[:, group], want)
        everybody = block.counts(seen, np.zeros(seen.people, np.int64), 1)[:, 0]
        np.testing.assert_array_equal(everybody.sum(axis=1), seen.people)
        np.testing.assert_array_equal(everybody[:, 3], (dosage < 0).sum(axis=1))
        weights = rng.normal(size=(seen.people, 3))
        products = block.products(seen, weights)
        np.testing.assert_allclose(products.dosage, np.where(dosage < 0, 0, dosage) @ weights, atol=1e-12)
        np.testing.assert_allclose(products.missing, (dosage < 0) @ weights, atol=1e-12)
        np.testing.assert_allclose(products.double, (dosage == 2) @ weights, atol=1e-12)
        np.testing.assert_array_equal(block.dosages(seen), dosage)
        np.testing.assert_array_equal(block.dosages(seen, slice(1, 2)), dosage[1:2])


def check_tokens(world: World, site: StudySite) -> None:
    """Blocks by token."""
    indices = list(merge(((code, [found]) for code, found in site.tokens(Variants(), KEY)), rows=3))
    named = [name for index in indices for name in token_rows(world, index)]
    listed = {s for s in POOL if any(b.lists(s) for b in world.populated())}
    assert sorted(named) == sorted(listed)
    for index in indices:
        sites = token_rows(world, index)
        assert [Bin.of(Variant.of("GRCh38", *s)).code for s in sites] == index.bins.tolist()
        expected = []
        for each in sites:
            spellings = [own for b in world.populated() if (own := b.lists(each))]
            reference_counts = all(oriented(own[2], own[3])[2] for own in spellings)
            known = [bin_known(batch, each) for batch in world.batches]
            expected.append(world.expected(each, known=known, reference_counts=reference_counts))
        check_block(world, site, index, np.array(expected), None)
        wanted = Table({"row": np.array([index.rows - 1, 0], np.int64)})
        check_block(world, site, index, np.array(expected)[[index.rows - 1, 0]], wanted)


def check_named(world: World, site: StudySite) -> None:
    """Blocks of named variants."""
    asked = [Variant.of("GRCh38", *each) for each in (*POOL, ("1", 1_500_000, "G", "T"), ("1", 1_199_999, "CTG", "C"))]
    for index in named_blocks(asked):
        expected = []
        for v in index.named:
            each = (v.chromosome, v.position, v.ref, v.alt)
            last = v.position + len(v.ref) - 1
            known = [batch.callable_at(v.chromosome, v.position, last) for batch in world.batches]
            reference_counts = oriented(v.ref, v.alt)[2]
            expected.append(world.expected(each, known=known, reference_counts=reference_counts))
        check_block(world, site, index, np.array(expected), None)


def check_names(world: World, site: StudySite) -> None:
    """Names are as a batch lists them."""
    for index in merge((code, [found]) for code, found in site.tokens(Variants(), KEY)):
        sites = token_rows(world, index)
        rows = np.arange(index.rows - 1, -1, -1)
        names = site.names(index, Table({"row": rows}), KEY)
        assert names["row"].tolist() == rows.tolist()
        for row, *name, flipped in zip(*(names[c].tolist() for c in names), strict=True):
            own = [batch.lists(sites[row]) for batch in world.batches]
            assert tuple(name) in own
            assert flipped == oriented(name[2], name[3])[2]


@FEW
@given(st.integers(0, 10**6))
def test_blocks_and_names_equal_the_twin(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), seed)
        site = StudySite(world.view)
        check_tokens(world, site)
        check_named(world, site)
        check_names(world, site)


def test_tokens_of_a_region_and_of_other_keys_differ(tmp_path: Path) -> None:
    world = World(tmp_path, 5)
    site = StudySite(world.view)
    everything = dict(site.tokens(Variants(), KEY))
    region = Region("1", 900, 1_000_000)
    some = dict(site.tokens(Variants(regions=(region,)), KEY))
    inside = {token(KEY, *s) >> 1 for s in POOL if region.holds(s[0], s[1])}
    assert {int(t) >> 1 for found in some.values() for t in found} == {
        int(t) >> 1 for found in everything.values() for t in found if int(t) >> 1 in inside
    }
    other = dict(site.tokens(Variants(), b"another key"))
    assert set(other) == set(everything)
    assert not set(np.concatenate(list(other.values()))) & set(np.concatenate(list(everything.values())))


def test_tokens_come_in_genome_order(tmp_path: Path) -> None:
    world = World(tmp_path, 11)
    codes = [code for code, _ in StudySite(world.view).tokens(Variants(), KEY)]
    assert codes == sorted(set(codes))
    for _, found in StudySite(world.view).tokens(Variants(), KEY):
        assert np.all(np.diff(found) > 0)


def test_a_restarted_site_reads_an_index_with_the_key_alone(tmp_path: Path) -> None:
    world = World(tmp_path, 3)
    site = StudySite(world.view)
    [first, *_] = merge((code, [found]) for code, found in site.tokens(Variants(), KEY))
    groups = np.zeros(world.view.people, np.int64)
    again = StudySite(world.view, key=KEY).block(first).counts(world.view, groups, 1)
    np.testing.assert_array_equal(again, site.block(first).counts(world.view, groups, 1))
    with pytest.raises(Invalid, match="key is needed"):
        StudySite(world.view).block(first)


def test_a_small_cache_gives_the_same_answers(tmp_path: Path) -> None:
    world = World(tmp_path / "a", 8)
    site = StudySite(world.view, mapping_bytes=1)
    small = Store.open(tmp_path / "a", cached_blocks=1)
    view = StudyView.freeze(small, [small.release(each) for each in small.datasets()])
    starved = StudySite(view, mapping_bytes=1)
    indices = list(merge(((code, [found]) for code, found in site.tokens(Variants(), KEY)), rows=2))
    starved.use(KEY)
    groups = np.zeros(view.people, np.int64)
    for index in (*indices, *reversed(indices)):
        np.testing.assert_array_equal(
            site.block(index).counts(world.view, groups, 1), starved.block(index).counts(view, groups, 1)
        )


def test_foreign_views_rows_and_groups_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path, 4)
    site = StudySite(world.view)
    [index, *_] = merge((code, [found]) for code, found in site.tokens(Variants(), KEY))
    block = site.block(index)
    stranger = StudyView.freeze(world.store, [world.store.release(each) for each in world.store.datasets()])
    people = world.view.people
    with pytest.raises(Invalid, match="not one of this block's"):
        block.counts(stranger, np.zeros(people, np.int64), 1)
    with pytest.raises(Invalid, match="groups"):
        block.counts(world.view, np.zeros(people + 1, np.int64), 1)
    with pytest.raises(Invalid, match="groups"):
        block.counts(world.view, np.ones(people, np.int64), 1)
    with pytest.raises(Invalid, match="weights"):
        block.products(world.view, np.zeros((people + 1, 2)))
    with pytest.raises(Invalid, match="outside its block"):
        site.block(index, Table({"row": np.array([index.rows], np.int64)}))
    with pytest.raises(Invalid, match="needs no tokens"):
        site.tokens(Variants(named=(Variant.parse("1:900:A:C"),)), KEY)


def test_bins_end_where_their_class_ends() -> None:
    spans = {
        (code // 100_000, code % 100_000): bin_span(code, assembly)
        for assembly in ("GRCh38",)
        for code in (1, 0, 248, 249, 22 * 100_000, 22 * 100_000 + 2, 23 * 100_000, 23 * 100_000 + 2, 23 * 100_000 + 156)
    }
    assert spans[0, 0] == (1, BIN_SIZE - 1)
    assert spans[0, 1] == (BIN_SIZE, 2 * BIN_SIZE - 1)
    assert spans[0, 248] == (248_000_000, 248_956_422)
    assert spans[0, 249] == (1, 0)
    assert spans[22, 0] == (10_001, 999_999)
    assert spans[22, 2] == (2_000_000, 2_781_479)
    assert spans[23, 0] == (1, 10_000)
    assert spans[23, 2] == (2_781_480, 2_999_999)
    assert spans[23, 156] == (156_030_896, 156_040_895)


def test_withdrawal_shows_in_new_views_only(tmp_path: Path) -> None:
    world = World(tmp_path, 21)
    site = StudySite(world.view)
    assert not site.changed()
    name = next(n for b in world.batches for n in b.people if n not in world.gone)
    assert world.store.withdraw([name], WHEN) == 1
    assert site.changed()
    fresh = StudyView.freeze(world.store, [world.store.release(each) for each in world.store.datasets()])
    assert fresh.people == world.view.people - 1


def test_releases_are_read_as_of_their_day(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    rng = np.random.default_rng(0)
    first, second = draw_batch(rng, "a", 12), draw_batch(rng, "b", 15)
    put(store, first, on=date(2026, 1, 1))
    put(store, second, on=date(2026, 2, 1))
    assert StudyView.freeze(store, [store.release("fi", on=date(2026, 1, 31))]).people == 12
    assert StudyView.freeze(store, [store.release("fi")]).people == 27


def test_nodes_that_disagree_on_ref_count_one_allele_in_one_row(tmp_path: Path) -> None:
    """One node lists a variant as A>C, two as C>A, one not at all: there, reference is what most say it is."""
    people, sexes = ["1", "2", "3"], ["male"] * 3
    one_way = {("1", 900, "A", "C"): np.array([0, 1, 2], np.int8)}
    other_way = {("1", 900, "C", "A"): np.array([2, 1, 0], np.int8)}
    without = {("1", 901, "CT", "C"): np.array([0, 0, 0], np.int8)}
    sites = []
    for name, held in (("a", one_way), ("b", other_way), ("c", other_way), ("d", without)):
        store = Store.open(tmp_path / name)
        sites.append(StudySite(StudyView.freeze(store, [put(store, Batch("x", people, sexes, held))])))
    streams = [dict(site.tokens(Variants(), KEY)) for site in sites]
    [index] = merge((code, [stream[code] for stream in streams]) for code in streams[0])
    assert index.rows == 2
    row = int(np.flatnonzero(index.tokens >> np.uint64(1) == token(KEY, "1", 900, "A", "C") >> 1)[0])
    for site in sites[:3]:
        assert site.block(index).dosages(site.view)[row].tolist() == [0, 1, 2]
    assert sites[3].block(index).dosages(sites[3].view)[row].tolist() == [2, 2, 2]
    names = [site.names(index, Table({"row": np.array([row])}), KEY) for site in sites]
    assert [each["ref"].tolist() for each in names] == [["A"], ["C"], ["C"], []]
    assert [each["flipped"].tolist() for each in names] == [[False], [True], [True], []]
