"""Each kernel against a NumPy twin on generated genotypes, in our own files and in pgenlib's; damaged records."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pgenlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from federome.errors import Damaged, Invalid
from federome.store import encode, kernels, records, sums, tally
from federome.store.kernels import Masks, Weights
from federome.store.pgen import PgenFile, PgenIndex, PgenWriter

Rows = NDArray[np.int8]


class World(NamedTuple):
    """A file and the genotypes that were written to it."""

    file: PgenFile
    rows: Rows

    @property
    def all(self) -> range:
        return range(len(self.rows))


def simulate(people: int, variants: int, seed: int) -> Rows:
    """Every kind of variant; a third of them resemble or invert the one before, so that pgenlib relates them."""
    rng = np.random.default_rng(seed)
    rows = np.empty((variants, people), np.int8)
    for k, row in enumerate(rows):
        if k and rng.random() < 0.3:
            before = rows[k - 1]
            row[:] = np.where(before >= 0, 2 - before, before) if rng.random() < 0.5 else before
            row[rng.integers(0, people, max(1, people // 50))] = rng.integers(-1, 3)
        else:
            row[:] = rng.binomial(2, rng.choice([0, 0.002, 0.02, 0.06, 0.12, 0.3, 0.5, 0.97, 1]), people)
            row[rng.random(people) < rng.choice([0, 0, 0, 0.01, 0.1, 0.9, 1])] = -1
    return rows


def ours(path: Path, rows: Rows) -> None:
    with PgenWriter(path, rows.shape[1], max_variants=len(rows)) as writer:
        writer.append_many(rows)


def theirs(path: Path, rows: Rows) -> None:
    writer = pgenlib.PgenWriter(bytes(path), rows.shape[1], variant_ct=len(rows), nonref_flags=False)
    for row in rows:
        writer.append_biallelic(np.where(row < 0, -9, row).astype(np.int8))
    writer.close()


Build = Callable[[int, int, int, Callable[[Path, Rows], None]], World]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``build(people, variants, seed, writer)`` makes a world in a file of its own."""
    folder = tmp_path_factory.mktemp("kernels")

    def make(people: int, variants: int, seed: int, writer: Callable[[Path, Rows], None]) -> World:
        rows = simulate(people, variants, seed)
        path = folder / f"{people}-{variants}-{seed}-{writer.__name__}.pgen"
        writer(path, rows)
        file = PgenFile.open(path)
        path.unlink()  # the mapping keeps it
        return World(file, rows)

    return make


@pytest.fixture(scope="module", params=[ours, theirs])
def large(request: pytest.FixtureRequest, build: Build) -> World:
    """Enough people for planes and tables, several stretches of people, and sample numbers of three bytes."""
    return build(70001, 40, 7, request.param)


worlds = given(people=st.integers(1, 400), seed=st.integers(0, 2**32), writer=st.sampled_from([ours, theirs]))
few = settings(max_examples=40, deadline=None)


# --- The twins ---------------------------------------------------------------------------------------------


def twin_counts(rows: Rows) -> NDArray[np.int64]:
    return np.stack([(rows == category).sum(axis=1) for category in (0, 1, 2, -1)], axis=1)


def twin_products(rows: Rows, weights: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    called = np.where(rows < 0, 0, rows)
    return [each.astype(np.float64) @ weights for each in (called, rows < 0, rows == 2)]


def twin_sums(rows: Rows, weights: NDArray[np.float64], fill: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(rows < 0, fill[:, np.newaxis], rows).T @ weights


# --- Each kernel -------------------------------------------------------------------------------------------


def check_counts(world: World) -> None:
    assert np.array_equal(kernels.counts(world.file, world.all), twin_counts(world.rows))


def check_masked(world: World, sets: NDArray[np.bool_]) -> None:
    got = kernels.counts_masked(world.file, world.all, Masks.of(sets))
    for each, members in zip(got.swapaxes(0, 1), sets, strict=True):
        assert np.array_equal(each, twin_counts(world.rows[:, members]))


def check_carriers(world: World) -> None:
    lists = [kernels.carriers(world.file, variant) for variant in world.all]  # all before any: none may change another
    for row, (people, genotypes) in zip(world.rows, lists, strict=True):
        assert people.dtype == np.uint32 and genotypes.dtype == np.uint8
        assert np.array_equal(people, np.flatnonzero(row))
        assert np.array_equal(genotypes, row[people].view(np.uint8) & 3)


def check_any_carrier(world: World, mask: NDArray[np.bool_]) -> None:
    for chosen in (world.all, np.arange(0, len(world.rows), 3), np.array([], np.int64)):
        expected = (world.rows[np.asarray(chosen, np.int64)] > 0).any(axis=0)
        assert np.array_equal(kernels.any_carrier(world.file, chosen), expected)
        assert np.array_equal(kernels.any_carrier(world.file, chosen, mask), expected & mask)


def check_products(world: World, weights: NDArray[np.float64]) -> None:
    got = kernels.inner_products(world.file, world.all, weights)
    scale = np.abs(weights).sum(axis=0)
    for each, expected in zip(got, twin_products(world.rows, weights), strict=True):
        assert each.shape == expected.shape
        assert np.all(np.abs(each - expected) <= 1e-12 * scale)


def check_sums(world: World, weights: NDArray[np.float64], fill: NDArray[np.float64]) -> None:
    got = kernels.weighted_sums(world.file, world.all, weights, fill)
    expected = twin_sums(world.rows, weights, fill)
    assert np.all(np.abs(got - expected) <= 1e-12 * 2 * np.abs(weights).sum(axis=0))


@few
@worlds
def test_every_kernel_equals_its_twin(
    build: Build, people: int, seed: int, writer: Callable[[Path, Rows], None]
) -> None:
    world = build(people, 12, seed, writer)
    rng = np.random.default_rng(seed)
    assert np.array_equal(kernels.decode(world.file, world.all), world.rows)
    check_counts(world)
    check_carriers(world)
    check_masked(world, rng.random((rng.integers(1, 20), people)) < 0.5)
    check_any_carrier(world, rng.random(people) < 0.5)
    check_products(world, rng.standard_normal((people, rng.integers(1, 20))))
    check_sums(world, rng.standard_normal((12, rng.integers(1, 4))), rng.random(12))


def test_every_kernel_equals_its_twin_among_many_people(large: World) -> None:
    rng = np.random.default_rng(1)
    people, variants = large.file.people, len(large.rows)
    assert np.array_equal(kernels.decode(large.file, large.all), large.rows)
    check_counts(large)
    check_carriers(large)
    check_masked(large, rng.random((13, people)) < rng.random((13, 1)))
    check_any_carrier(large, rng.random(people) < 0.5)
    check_products(large, rng.standard_normal((people, 12)))
    check_sums(large, rng.standard_normal((variants, 2)), rng.random(variants))


def test_more_planes_than_one_tile_holds(build: Build) -> None:
    world = build(640, 400, 5, ours)
    check_products(world, np.random.default_rng(1).standard_normal((640, 3)))
    check_sums(world, np.random.default_rng(1).standard_normal((400, 3)), np.full(400, 0.5))


@pytest.mark.parametrize("frequency", [0.0005, 0.006, 0.02, 0.035])
def test_difflists_of_every_density(tmp_path: Path, frequency: float) -> None:
    """All records of one sparse type, from a few people to where they are handled as planes."""
    rng = np.random.default_rng(2)
    rows = rng.binomial(2, frequency, (300, 5000)).astype(np.int8)
    rows[:, 7] = -1
    ours(tmp_path / "a", rows)
    with PgenFile.open(tmp_path / "a") as file:
        assert set(file.record_types.tolist()) == {4}
        world = World(file, rows)
        check_products(world, rng.standard_normal((5000, 2)))
        check_sums(world, rng.standard_normal((300, 2)), np.full(300, 0.5))


def test_one_alternate_allele_in_each_place(build: Build, tmp_path: Path) -> None:
    """Every person in turn is the only carrier: sparse and dense order of people agree."""
    rows = np.eye(200, dtype=np.int8)
    dense = np.where(np.eye(200, dtype=np.bool_), np.int8(1), np.int8(2) * (np.arange(200) % 2).astype(np.int8))
    for name, matrix in (("sparse", rows), ("dense", dense)):
        ours(tmp_path / name, matrix)
        with PgenFile.open(tmp_path / name) as file:
            weights = np.arange(1.0, 201.0)[:, np.newaxis]
            assert np.array_equal(kernels.inner_products(file, range(200), weights).dosage, matrix @ weights)
            single = kernels.weighted_sums(file, range(200), np.eye(200), np.zeros(200))
            assert np.array_equal(single, matrix.T)


def test_integer_weights_give_exact_sums(large: World) -> None:
    weights = np.random.default_rng(3).integers(-9, 10, (large.file.people, 9)).astype(np.float64)
    got = kernels.inner_products(large.file, large.all, Weights.of(weights))
    for each, expected in zip(got, twin_products(large.rows, weights), strict=True):
        assert np.array_equal(each, expected)


def test_sums_are_as_exact_as_promised(large: World) -> None:
    """Against long double, where the twin's own rounding would hide ours."""
    weights = np.random.default_rng(4).standard_normal((large.file.people, 2)) * 1e6
    got = kernels.inner_products(large.file, large.all, weights)
    wide = weights.astype(np.longdouble)
    for row, each in zip(large.rows, got.dosage, strict=True):
        called = np.where(row < 0, 0, row).astype(np.longdouble)[:, np.newaxis]
        bound = 1e-13 * (called * np.abs(wide)).sum(axis=0)
        assert np.all(np.abs(each - (called * wide).sum(axis=0)) <= bound)


def test_steps_of_every_length(tmp_path: Path) -> None:
    """Distances that take one to four bytes, in every order, and lists that end anywhere within eight bytes."""
    rng = np.random.default_rng(6)
    people = 30_000_000
    with PgenWriter(tmp_path / "a", people, max_variants=300) as writer:
        wanted = []
        for size in range(1, 301):
            steps = rng.choice([1, 127, 128, 16_383, 16_384, 70_000], size)
            steps[rng.integers(size)] = 2_097_152
            wanted.append((np.cumsum(steps).astype(np.uint32), rng.integers(1, 4, size).astype(np.uint8)))
            writer.append_sparse(*wanted[-1])
    mask = np.zeros(people, np.bool_)
    mask[np.concatenate([who for who, _ in wanted])[::2]] = True
    with PgenFile.open(tmp_path / "a") as file:
        counted = kernels.counts_masked(file, range(300), Masks.of(np.stack([mask, ~mask])))
        for variant, (who, genotypes) in enumerate(wanted):
            found = kernels.carriers(file, variant)
            assert np.array_equal(found[0], who) and np.array_equal(found[1], genotypes)
            for part, within in zip(counted[variant], (mask[who], ~mask[who]), strict=True):
                assert np.array_equal(part[1:], np.bincount(genotypes[within], minlength=4)[1:])


# --- Which variants ----------------------------------------------------------------------------------------


def test_any_choice_and_order_of_variants_gives_the_same_bits(large: World) -> None:
    people = large.file.people
    weights = Weights.of(np.random.default_rng(2).standard_normal((people, 11)))
    masks = Masks.of(np.random.default_rng(2).random((9, people)) < 0.3)
    whole = kernels.inner_products(large.file, large.all, weights)
    strata = kernels.counts_masked(large.file, large.all, masks)
    order = np.random.default_rng(5).permutation(len(large.rows))
    for chosen in (order, order[:7], order[3:4], np.sort(order[:20])):
        for each, all_of_them in zip(kernels.inner_products(large.file, chosen, weights), whole, strict=True):
            assert each.tobytes() == all_of_them[chosen].tobytes()
        assert np.array_equal(kernels.counts_masked(large.file, chosen, masks), strata[chosen])


def test_threads_give_the_same_bits(large: World) -> None:
    weights = Weights.of(np.random.default_rng(2).standard_normal((large.file.people, 3)))
    whole = kernels.inner_products(large.file, large.all, weights).dosage
    start = threading.Barrier(4)

    def part(k: int) -> NDArray[np.float64]:
        start.wait()
        return kernels.inner_products(large.file, range(10 * k, 10 * k + 10), weights).dosage

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(part, range(4)))
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_variants_that_are_not_in_the_file_give_zeros(large: World) -> None:
    chosen = np.array([-1, 3, -1, 0], np.int64)
    present = chosen >= 0
    people = large.file.people
    weights = np.ones((people, 2))
    results = [
        kernels.counts(large.file, chosen),
        kernels.counts_masked(large.file, chosen, Masks.of(np.ones(people, np.bool_))),
        *kernels.inner_products(large.file, chosen, weights),
    ]
    for each in results:
        assert not each[~present].any() and each[present].any()
    assert np.all(kernels.decode(large.file, chosen)[~present] == -1)
    assert not kernels.any_carrier(large.file, chosen[~present]).any()
    none = kernels.weighted_sums(large.file, chosen[~present], np.ones((2, 1)), np.ones(2))
    assert none.shape == (people, 1) and not none.any()


def test_no_variants_at_all(large: World) -> None:
    assert kernels.counts(large.file, range(0)).shape == (0, 4)
    assert kernels.inner_products(large.file, range(5, 5), np.ones((large.file.people, 2))).dosage.shape == (0, 2)
    assert not kernels.weighted_sums(large.file, range(0), np.ones((0, 1)), np.ones(0)).any()


def test_numbers_outside_the_file_are_an_error(large: World) -> None:
    last = len(large.rows)
    for chosen in (range(0, last + 1), range(-1, 2), range(0, 4, 2), np.array([last]), np.array([-2])):
        with pytest.raises(ValueError, match=r"variant"):
            kernels.counts(large.file, chosen)
    for single in (-1, last):
        with pytest.raises(ValueError, match="no variant"):
            kernels.carriers(large.file, single)


# --- Masks and weights -------------------------------------------------------------------------------------


def test_masks_and_weights_for_other_people_are_refused(large: World) -> None:
    other = large.file.people - 1
    calls: list[Callable[[], object]] = [
        lambda: kernels.counts_masked(large.file, range(1), Masks.of(np.ones(other, np.bool_))),
        lambda: kernels.any_carrier(large.file, range(1), np.ones(other, np.bool_)),
        lambda: kernels.inner_products(large.file, range(1), np.ones((other, 1))),
    ]
    for call in calls:
        with pytest.raises(Invalid, match="people"):
            call()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_must_be_finite(large: World, bad: float) -> None:
    with pytest.raises(Invalid, match="finite"):
        Weights.of(np.full((4, 1), bad))
    with pytest.raises(Invalid, match="finite"):
        kernels.weighted_sums(large.file, range(1), np.full((1, 1), bad), np.zeros(1))


# --- Damage ------------------------------------------------------------------------------------------------


def ask_everything(file: PgenFile) -> None:
    """Call every kernel; each either raises Damaged or answers in the right shape."""
    everything, people, variants = range(file.variants), file.people, file.variants
    calls: list[tuple[Callable[[], NDArray[np.generic]], tuple[int, ...]]] = [
        (lambda: kernels.counts(file, everything), (variants, 4)),
        (lambda: kernels.counts_masked(file, everything, Masks.of(np.ones(people, np.bool_))), (variants, 1, 4)),
        (lambda: kernels.any_carrier(file, everything), (people,)),
        (lambda: kernels.inner_products(file, everything, np.ones((people, 1))).dosage, (variants, 1)),
        (lambda: kernels.weighted_sums(file, everything, np.ones((variants, 1)), np.ones(variants)), (people, 1)),
        (lambda: kernels.decode(file, everything), (variants, people)),
    ]
    for call, shape in calls:
        with contextlib.suppress(Damaged):
            assert call().shape == shape
    for variant in everything:
        try:
            listed, genotypes = kernels.carriers(file, variant)
        except Damaged:
            continue
        assert listed.shape == genotypes.shape
        assert np.all(np.diff(listed.astype(np.int64)) > 0)
        assert not listed.size or listed[-1] < people


@pytest.mark.parametrize("writer", [ours, theirs])
def test_altered_bytes_never_crash_a_kernel(tmp_path: Path, writer: Callable[[Path, Rows], None]) -> None:
    rows = simulate(2000, 30, seed=13)
    writer(tmp_path / "a.pgen", rows)
    content = np.frombuffer((tmp_path / "a.pgen").read_bytes(), np.uint8)
    rng = np.random.default_rng(17)
    refused = 0
    for trial in range(400):
        altered = content.copy()
        zone = len(content) if trial % 2 else 200  # half of the trials alter the header and first records
        places = rng.integers(0, zone, rng.integers(1, 4))
        altered[places] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)], len(places))
        (tmp_path / "b.pgen").write_bytes(altered.tobytes())
        try:
            file = PgenFile.open(tmp_path / "b.pgen")
        except Invalid:
            refused += 1
            continue
        if file.people < 10_000:  # a header that claims a million people is believed: only memory would be tested
            ask_everything(file)
    assert 50 < refused < 350


def test_records_that_contradict_themselves_are_named(tmp_path: Path) -> None:
    """One record at a time is replaced by nonsense of the same length."""
    rows = np.zeros((5, 1000), np.int8)
    rows[0, ::12] = 1  # a difflist of two groups
    rows[1] = np.arange(1000) % 2  # 1-bit
    rows[2] = np.arange(1000) % 4 - 1  # 2-bit
    rows[3] = 2 - rows[0]  # a difflist over hom-alt
    rows[4, 700] = 1
    ours(tmp_path / "a.pgen", rows)
    content = (tmp_path / "a.pgen").read_bytes()
    with PgenFile.open(tmp_path / "a.pgen") as file:
        assert file.record_types.tolist() == [4, 1, 0, 6, 4]
        offsets = file.record_offsets.tolist()
    for variant in (0, 1, 3, 4):
        start, stop = offsets[variant], offsets[variant + 1]
        (tmp_path / "b.pgen").write_bytes(content[:start] + b"\xff" * (stop - start) + content[stop:])
        with PgenFile.open(tmp_path / "b.pgen") as file:
            for call in (
                lambda file=file: kernels.counts(file, range(5)),
                lambda file=file: kernels.decode(file, range(5)),
                lambda file=file: kernels.inner_products(file, range(5), np.ones((1000, 1))),
                lambda file=file, variant=variant: kernels.carriers(file, variant),
            ):
                with pytest.raises(Damaged, match=f"record {variant} ") as caught:
                    call()
                assert "store verify" in caught.value.remedy


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (b"\x01\xe8\x03\x01", "a person beyond the last"),
        (b"\x7e" + bytes(600), "more entries than people // 8"),
        (b"\x02\x05\x00\x05\x00", "the same person twice"),
        (b"\x02\x05\x00\x05\x80", "a varint that runs out"),
        (b"\x02\x05\x00\x05\xff\xff\xff\xff\x7f", "a step out of the file"),
        (b"\x0a\x05\x00\x55\x55\x05\x80\x80\x80\x80\x10" + b"\x01" * 8, "a step that wraps around 32 bits"),
        (b"\x02\xe7\x03\x05\x02", "a step beyond the last person"),
        (b"\x09\xe0\x03\x55\x55\x01" + b"\x03" * 8, "eight steps beyond the last person"),
        (b"\x05\x05\x00\x55\x01\x80\x01\x01\x00\x01", "a step of zero among four"),
        (b"\x09\x05\x00\x55\x55\x01\x01\x01\x01\x00\x01\x01\x01\x01", "a step of zero among eight"),
        (b"\x02\x05\x00\x05\x85\x00", "a step written longer than needed"),
        (b"\x01\x05\x00\x01\x00", "bytes after the end"),
        (b"\x80\x80\x80\x80\x80\x01", "a count of six bytes"),
    ],
)
def test_difflists_are_checked(tmp_path: Path, record: bytes, why: str) -> None:
    for follows in (b"", bytes(250)):  # where nothing follows, steps are read one by one
        lengths = [len(each) for each in (record, follows) if each]
        body = b"\x04" + b"".join(size.to_bytes(2, "little") for size in lengths)
        header = b"\x6c\x1b\x10" + len(lengths).to_bytes(4, "little") + (1000).to_bytes(4, "little") + b"\x41"
        header += (20 + len(body)).to_bytes(8, "little") + body
        (tmp_path / "a.pgen").write_bytes(header + record + follows)
        with PgenFile.open(tmp_path / "a.pgen") as file, pytest.raises(Damaged, match="record 0"):
            kernels.carriers(file, 0)


def test_the_first_row_at_a_position_is_numpys() -> None:
    positions = np.array([5, 5, 9, 2**31 - 1], np.int64)
    for some in (positions, positions[:1], positions[:0]):
        for at in (0, 5, 6, 9, 10, 2**31 - 1, 2**31):
            assert records.first_at(some, at) == np.searchsorted(some, at)


def test_a_thread_keeps_what_it_reads_into_unless_that_is_much() -> None:
    assert records.scratch(100) is records.scratch(100)
    assert records.scratch(records.KEPT + 1) is not records.scratch(records.KEPT + 1)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(records.scratch, 100).result() is not records.scratch(100)


# --- Compilation -------------------------------------------------------------------------------------------


def test_each_kernel_is_compiled_once(tmp_path: Path) -> None:
    """Read-only, strided and other arrays reach the same machine code: another copy would take seconds to compile."""
    kernels.warm()
    rows = np.asfortranarray(simulate(130, 6, seed=1))
    rows.flags.writeable = False
    with PgenWriter(tmp_path / "a", 130, max_variants=9) as writer:
        writer.append_many(rows)
        writer.append_sparse(*(np.broadcast_to(each, 1) for each in (np.uint32(3), np.uint8(1))))
    index = PgenIndex.from_bytes(writer.index.to_bytes(), where="")
    index.record_types.flags.writeable = False
    with PgenFile.open(tmp_path / "a", index) as file:
        numbers = np.arange(12, dtype=np.int64)[::2]
        numbers.flags.writeable = False
        assert np.array_equal(kernels.decode(file, numbers[:3]), rows[::2][:3])
        weights = np.broadcast_to(0.5, (3, 2))
        kernels.weighted_sums(file, numbers[:3], weights, weights[:, 0])
        kernels.inner_products(file, numbers[:3], np.broadcast_to(np.float32(1), (130, 2)))
        kernels.counts(file, numbers[:3])
        kernels.counts_masked(file, numbers[:3], Masks.of(np.broadcast_to(np.True_, 130)))
        kernels.any_carrier(file, numbers[:3])
        kernels.carriers(file, 1)
    for kernel in (encode.encode_rows, encode.encode_carriers, tally.count, tally.count_masked, records.expand,
                   records.first_at, records.list_carriers, records.mark_carriers, sums.inner, sums.score):  # fmt: skip
        assert len(kernel.signatures) == 1, kernel
