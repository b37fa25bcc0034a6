"""Writing batches: what is refused, what survives, and that an interrupted writer never shows."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.unit.store.small_stores import Batch, draw_batch, manifest, put

from federome.errors import Invalid, Unavailable
from federome.model.dataset import DatasetManifest
from federome.store import kernels
from federome.store.catalogue import Store
from federome.store.verify import verify
from federome.store.writer import BatchWriter, GeneRegion, Interval, Relatives, VariantInfo

DAY = date(2026, 1, 1)
PEOPLE, SEXES = ["ann-1", "bea-2", "cem-3"], ["male", "female", "unknown"]


def begin(store: Store, name: str = "b", **changes: object) -> BatchWriter:
    given: dict[str, object] = {"people": PEOPLE, "sexes": SEXES} | changes
    about = given.pop("about", manifest())
    people, sexes = given.pop("people"), given.pop("sexes")
    return BatchWriter.begin(store, about, name, people, sexes, **given)  # type: ignore[arg-type]


def add(writer: BatchWriter, chromosome: str = "1", sites: str = "5AC", rows: object = ((0, 1, 2),)) -> None:
    """Add variants written like ``5AC 7GT``."""
    parts = [(int(text[:-2]), text[-2], text[-1]) for text in sites.split()]
    writer.add_dense(
        chromosome,
        np.array([p for p, _, _ in parts], np.int64),
        [r for _, r, _ in parts],
        [a for _, _, a in parts],
        np.array(rows, np.int8),
    )


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("block", [1, 2, 65_536])
def test_what_was_put_in_comes_out(tmp_path: Path, sparse: bool, block: int) -> None:
    store = Store.open(tmp_path)
    batch = draw_batch(np.random.default_rng(1), "b", 70)
    release = put(store, batch, sparse=sparse, block_variants=block)
    again = Store.open(tmp_path)
    found = {}
    for chromosome in {site[0] for site in batch.genotypes}:
        for file in again.files(release.batches[0], release, chromosome):
            opened = again.blocks.open(file)
            rows = kernels.decode(opened.pgen, range(opened.pgen.variants))
            for i, row in enumerate(rows):
                sites = opened.sites
                site = (chromosome, int(sites.positions[i]), sites.refs[i], sites.alts[i])
                found[site] = row
                assert sites.effects[sites.effect[i]] == batch.effects[site]
                counted = [int((row == code).sum()) for code in (0, 1, 2, -1)]
                assert opened.counts[i].tolist() == counted
                if sites.male_counts is not None:
                    men = row[[sex == "male" for sex in batch.sexes]]
                    assert sites.male_counts[i].tolist() == [int((men == code).sum()) for code in (0, 1, 2, -1)]
    assert set(found) == set(batch.genotypes)
    for site, row in found.items():
        np.testing.assert_array_equal(row, batch.genotypes[site])
    assert release.batches[0].variants == len(found) and verify(again).ok


def test_dense_and_sparse_give_the_same_release(tmp_path: Path) -> None:
    batch = draw_batch(np.random.default_rng(2), "b", 50)
    digests = {put(Store.open(tmp_path / str(sparse)), batch, sparse=sparse).digest for sparse in (False, True)}
    assert len(digests) == 1


def test_not_left_aligned_is_kept(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with begin(store) as writer:
        info = VariantInfo(not_left_aligned=[False, True])
        rows = np.zeros((2, 3), np.int8)
        writer.add_dense("1", np.array([5, 6]), ["A", "AT"], ["C", "A"], rows, info)
        release = writer.commit(DAY)
    [file] = store.files(release.batches[0], release, "1")
    assert store.blocks.open(file).sites.not_left_aligned.tolist() == [False, True]


@pytest.mark.parametrize(
    ("chromosome", "sites", "rows", "message"),
    [
        ("1", "7AC 5AC", ((0, 1, 2), (0, 0, 0)), "positions fall"),
        ("1", "0AC", ((0, 0, 0),), "positions fall"),
        ("1", "5AC 5AC", ((0, 1, 2), (0, 0, 0)), "given twice"),
        ("1", "5AC 5CA", ((0, 1, 2), (0, 0, 0)), "given twice"),
        ("1", "5AA", ((0, 1, 2),), "given twice, or its alleles are equal"),
        ("1", "5A*", ((0, 1, 2),), "not made of"),
        ("1", "5aC", ((0, 1, 2),), "not made of"),
        ("1", "5AC", ((0, 1),), "3 people"),
        ("1", "5AC", ((0, 1, 3),), "0, 1, 2 or -1"),
        ("1", "5AC", ((0, 1, 2), (0, 0, 0)), "differ in length"),
        ("X", "5000000AC", ((1, 0, 0),), "one-copy"),
        ("MT", "5AC", ((0, 1, 0),), "one-copy"),
        ("Y", "3000000AC", ((1, -1, 0),), "one-copy"),
        ("Y", "3000000AC", ((2, 0, 0),), "women have genotypes"),
        ("7_random", "5AC", ((0, 0, 0),), "not a chromosome"),
    ],
)
def test_bad_variants_are_refused(tmp_path: Path, chromosome: str, sites: str, rows: object, message: str) -> None:
    store = Store.open(tmp_path)
    with begin(store) as writer, pytest.raises(Invalid, match=message):
        add(writer, chromosome, sites, rows)
    assert store.datasets() == ()


def test_order_and_repetition_are_checked_across_calls(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with begin(store) as writer:
        add(writer, "1", "5AC")
        with pytest.raises(Invalid, match="given twice"):
            add(writer, "1", "5CA")
        with pytest.raises(Invalid, match="positions fall"):
            add(writer, "1", "4AC")


def test_two_copies_are_allowed_where_they_exist(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with begin(store) as writer:
        add(writer, "X", "20000AC 5000000AC", ((1, 1, 1), (2, 1, -1)))
        add(writer, "Y", "3000000AC", ((2, -1, 0),))
        assert writer.commit(DAY).batches[0].variants == 3


def test_untrimmed_alleles_are_refused(tmp_path: Path) -> None:
    with begin(Store.open(tmp_path)) as writer, pytest.raises(Invalid, match="not trimmed"):
        writer.add_dense("1", np.array([5]), ["CTT"], ["CT"], np.zeros((1, 3), np.int8))


@pytest.mark.parametrize(
    ("offsets", "carriers", "codes"),
    [
        ([0, 2], [0], [1]),
        ([1, 1], [0], [1]),
        ([0, 1], [3], [1]),
        ([0, 1], [0], [4]),
        ([0, 2, 1], [0], [1]),
        ([], [], []),
    ],
)
def test_carriers_that_do_not_fit_are_refused(
    tmp_path: Path, offsets: list[int], carriers: list[int], codes: list[int]
) -> None:
    count = max(0, len(offsets) - 1)
    where = (np.arange(5, 5 + count), ["A"] * count, ["C"] * count)
    who = (np.array(offsets, np.int64), np.array(carriers, np.uint32), np.array(codes, np.uint8))
    with begin(Store.open(tmp_path)) as writer, pytest.raises(Invalid, match="do not fit"):
        writer.add_sparse("1", *where, *who)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"people": ["a", "a", "c"]}, "repeated"),
        ({"people": []}, "none"),
        ({"sexes": ["male"]}, "not as many"),
        ({"people": ["a b", "b", "c"]}, "1 pseudonyms"),
        ({"sexes": ["man", "female", "male"]}, "sex"),
        ({"name": "Größe"}, "file name"),
        ({"name": "../x"}, "file name"),
        ({"block_variants": 65_537}, "block holds"),
    ],
)
def test_bad_batches_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        begin(Store.open(tmp_path), **changes)


def test_a_dataset_keeps_its_assembly_its_people_and_its_batches(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with begin(store) as writer:
        add(writer)
        writer.commit(DAY)
    other = DatasetManifest("fi", "Test", "Nobody", "minimal-dataset", "GRCh37")
    for changes, message in (
        ({"people": ["x"], "sexes": ["male"]}, "batch of this name"),
        ({"name": "c"}, "3 people are in the dataset"),
        ({"name": "c", "people": ["x"], "sexes": ["male"], "about": other}, "GRCh38"),
    ):
        with pytest.raises(Invalid, match=message) as caught:
            begin(store, **changes)
        assert not any(name in str(caught.value) for name in PEOPLE)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with begin(store) as writer:
        add(writer)
        with pytest.raises(Unavailable, match="another process"):
            begin(Store.open(tmp_path))  # opening sweeps, and must leave a living writer alone
        writer.commit(DAY)
    assert store.release("fi").people == 3


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda w: None, "no variants"),
        (lambda w: add(w) or w.set_relatives([Relatives("ann-1", "z", 0.25)]), "not in the dataset"),
        (lambda w: add(w) or w.set_relatives([Relatives("ann-1", "ann-1", 0.5)]), "one person"),
        (
            lambda w: add(w) or w.set_relatives([Relatives("ann-1", "bea-2", 0.5), Relatives("bea-2", "ann-1", 0.5)]),
            "twice",
        ),
    ],
)
def test_what_cannot_be_committed_leaves_nothing(tmp_path: Path, prepare: object, message: str) -> None:
    store = Store.open(tmp_path)
    with begin(store) as writer:
        prepare(writer)  # type: ignore[operator]
        with pytest.raises(Invalid, match=message):
            writer.commit(DAY)
    assert store.datasets() == () and verify(store).strangers == ()


def test_intervals_that_were_promised_must_come(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    about = DatasetManifest("fi", "T", "H", "minimal-dataset", "GRCh38", callable="intervals")
    with begin(store, about=about) as writer:
        add(writer)
        with pytest.raises(Invalid, match="set_callable"):
            writer.commit(DAY)
        writer.set_callable([Interval("chr1", 5, 9), Interval("1", 10, 20), Interval("1", 1, 7), Interval("2", 3, 3)])
        release = writer.commit(DAY)
    assert store.intervals(release.batches[0], "1").tolist() == [[1, 20]]
    assert store.intervals(release.batches[0], "2").tolist() == [[3, 3]]


def test_bad_regions_are_refused(tmp_path: Path) -> None:
    with begin(Store.open(tmp_path)) as writer:
        with pytest.raises(Invalid, match="gene region"):
            writer.set_genes([GeneRegion("G", "1", 9, 5)])
        with pytest.raises(Invalid, match="callable interval"):
            writer.set_callable([Interval("1", 9, 5)])


def test_a_batch_goes_on_where_it_was_left(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a")
    with begin(store, source="v1") as writer:
        add(writer, "1")
        add(writer, "2", "5AC 6AC", ((0, 1, 2), (1, 1, 1)))
        add(writer, "X", "20000AC")
        assert writer.done("1") and writer.done("chr2") and not writer.done("X")
    store = Store.open(tmp_path / "a")
    assert store.datasets() == ()
    with begin(store, source="v1") as writer:
        assert [writer.done(c) for c in ("1", "2", "X", "3")] == [True, True, False, False]
        with pytest.raises(Invalid, match="is finished"):
            add(writer, "2")
        add(writer, "X", "20000AC")
        resumed = writer.commit(DAY)
    with begin(Store.open(tmp_path / "b")) as writer:
        add(writer, "1")
        add(writer, "2", "5AC 6AC", ((0, 1, 2), (1, 1, 1)))
        add(writer, "X", "20000AC")
        assert writer.commit(DAY).digest == resumed.digest


@pytest.mark.parametrize("change", ["source", "people", "sexes", "damage"])
def test_other_input_or_damage_starts_afresh(tmp_path: Path, change: str) -> None:
    store = Store.open(tmp_path)
    with begin(store, source="v1") as writer:
        add(writer, "1")
        add(writer, "2")
    given: dict[str, object] = {"source": "v1"}
    match change:
        case "source":
            given["source"] = "v2"
        case "people":
            given["people"] = ["ann-1", "bea-2", "dan-4"]
        case "sexes":
            given["sexes"] = ["female", "female", "unknown"]
        case _:
            [path] = (tmp_path / "staging").glob("*/1/*.pgen")
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(content)
    with begin(store, **given) as writer:
        assert not writer.done("1")


INGEST = """
import os, signal, sys
from datetime import date
from pathlib import Path
import numpy as np
from tests.unit.store.small_stores import manifest
from federome.store.catalogue import Store
from federome.store.writer import BatchWriter
from federome.store import kernels
import federome.store.verify, duckdb, pandas
kernels.warm()

def ingest(root, name, calls):
    left = [int(calls)]
    def counted(real):
        def call(*args, **named):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **named)
        return call
    for each in ("fsync", "replace", "rename", "unlink", "rmdir"):
        setattr(os, each, counted(getattr(os, each)))
    rng = np.random.default_rng(ord(name))
    people = [f"{name}-{i}" for i in range(60)]
    store = Store.open(Path(root))
    with BatchWriter.begin(store, manifest(), name, people, ["female"] * 60, block_variants=40) as writer:
        for chromosome in ("1", "2", "3"):
            rows = rng.integers(-1, 3, (100, 60)).astype(np.int8)
            if writer.done(chromosome):
                continue
            for start in range(0, 100, 25):
                part = slice(start, start + 25)
                writer.add_dense(chromosome, np.arange(100)[part] + 1, ["A"] * 25, ["C"] * 25, rows[part])
        writer.commit(date(2026, 1, 1))
    return left[0]

print("ready", flush=True)
for line in sys.stdin:  # a warm parent: each attempt is a process of its own without the imports
    child = os.fork()
    if child == 0:
        print(ingest(*line.split()), flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.processes
def test_kill_at_any_step_leaves_the_last_release_whole(tmp_path: Path) -> None:
    """A step is a file made durable, moved or deleted. The first and the last ones, and some between them."""
    repo = Path(__file__).resolve().parents[3]
    script = f"import sys; sys.path.insert(0, {str(repo)!r})\n{INGEST}"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin and parent.stdout and parent.stdout.readline() == "ready\n"

        def attempt(root: Path, name: str, kill_at: int | None = None) -> int:
            """The number of steps it took."""
            budget = 10**9 if kill_at is None else kill_at
            print(root, name, budget, file=parent.stdin, flush=True)
            assert parent.stdout is not None
            left = budget if kill_at is not None else int(parent.stdout.readline())
            assert int(parent.stdout.readline()) == (0 if kill_at is None else -signal.SIGKILL)
            return budget - left

        attempt(tmp_path / "calm", "a")
        steps = attempt(tmp_path / "calm", "b")
        assert steps > 100
        calm = Store.open(tmp_path / "calm").releases("fi")
        first = tmp_path / "first"
        attempt(first, "a")
        assert Store.open(first).releases("fi") == calm[:1]
        outcomes = []
        for kill_at in [1, *sorted(random.Random(7).sample(range(2, steps - 30), 5)), steps - 25, steps]:
            killed = tmp_path / f"killed-{kill_at}"
            shutil.copytree(first, killed)
            attempt(killed, "b", kill_at)
            store = Store.open(killed)
            report = verify(store)
            assert report.ok and report.strangers == ()
            outcomes.append(store.releases("fi"))
            assert outcomes[-1] in (calm[:1], calm)
            if outcomes[-1] == calm[:1]:
                attempt(killed, "b")
                store = Store.open(killed)
                assert store.releases("fi") == calm
                assert not list((killed / "staging").glob("*/*"))
        assert outcomes[0] == calm[:1] and outcomes[-1] == calm
        parent.stdin.close()


def test_a_commit_that_stopped_halfway_is_undone_and_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every single rename of a commit can be the last thing that happens."""
    import os as system

    from federome.store import staging

    class Stopped(BaseException):
        pass

    batch = draw_batch(np.random.default_rng(3), "b", 20)
    expected = put(Store.open(tmp_path / "calm"), batch).digest
    real = system.rename
    for allowed in range(0, 60, 7):
        root = tmp_path / str(allowed)
        left = [allowed]

        def rename(source: object, target: object, left: list[int] = left) -> None:
            if left[0] == 0:
                raise Stopped
            left[0] -= 1
            real(source, target)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(staging.os, "rename", rename)
            try:
                put(Store.open(root), batch)
            except Stopped:
                pass
            else:
                break
        store = Store.open(root)
        assert store.datasets() == () and verify(store).strangers == ()
        assert put(store, batch).digest == expected
    else:
        pytest.fail("a commit of this size has fewer than 60 files")


def test_rows_of_phenotypes_follow_the_people(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with begin(store) as writer:
        add(writer)
        writer.set_phenotypes(pd.DataFrame({"person_id": ["cem-3", "ann-1", "bea-2"], "bmi_kg_m2": [3.0, 1.0, None]}))
        release = writer.commit(DAY)
    table = store.phenotypes(release.batches[0])
    np.testing.assert_array_equal(table.numbers("bmi_kg_m2"), [1.0, np.nan, 3.0])
    assert table.labels("sex").tolist() == SEXES
    assert b"person_id" not in table.path.read_bytes()


def test_people_of_one_batch_only_once(tmp_path: Path) -> None:
    """Two writers of different batches race for the same people: the second commit is refused, the first stands."""
    store = Store.open(tmp_path)
    one = Batch("x", PEOPLE, SEXES, {})
    with begin(store, "x", people=one.people) as first, begin(store, "y", people=one.people) as second:
        add(first)
        add(second)
        first.commit(DAY)
        with pytest.raises(Invalid, match="3 people are in the dataset"):
            second.commit(DAY)
    store = Store.open(tmp_path)
    assert [batch.name for batch in store.release("fi").batches] == ["x"]
    assert verify(store).ok and verify(store).strangers == ()
