"""Compaction: what is left is what was, what is erased is nowhere, and no instant to be killed at does harm."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import zstandard
from numpy.typing import NDArray
from tests.unit.store.small_stores import POOL, Batch, Site, draw_batch, exchanged, manifest, put

from federome.disclosure.cohorts import FileCohorts
from federome.disclosure.differencing import Members, check
from federome.errors import Damaged, Invalid, Refused, Unavailable
from federome.model.cohort import Cohort
from federome.model.index import named_blocks
from federome.model.release import Policy
from federome.model.variant import Variant, oriented
from federome.model.wording import Wording
from federome.store import erasure, merging
from federome.store.catalogue import Store
from federome.store.compact import Progress, compact
from federome.store.packed import MAGIC
from federome.store.site import StudySite
from federome.store.verify import verify
from federome.store.view import StudyView
from federome.store.writer import GeneRegion, Interval, Relatives

DAY, AT = date(2026, 1, 1), datetime(2026, 3, 1, tzinfo=UTC)
POLICY, SECRET = Policy(), b"a secret of this node"
PRIVATE: Site = ("1", 1_234_567, "ACGTACGTACGT", "A")
pytestmark = pytest.mark.usefixtures("quick_disk")


def table(batch: Batch, *, extra: bool = False) -> pd.DataFrame:
    """Phenotypes that name their person, so that a leftover is recognised."""
    frame = pd.DataFrame(
        {
            "person_id": batch.people,
            "birth_year": [1900 + sum(map(ord, name)) % 100 for name in batch.people],
            "note": [f"note-of-{name}" for name in batch.people],
            "diagnosis_icd10": [["E11"] if sum(map(ord, name)) % 3 else [] for name in batch.people],
        }
    )
    return frame.assign(only_here=1.5) if extra else frame


def everywhere(rng: np.random.Generator, name: str, people: int) -> Batch:
    """A batch that was callable everywhere and spells every variant with the same REF as all others."""
    drawn = draw_batch(rng, name, people)
    genotypes = {site: row for site, row in drawn.genotypes.items() if site in POOL}
    return dataclasses.replace(drawn, genotypes=genotypes, callable="everywhere", intervals=[])


def with_private(batch: Batch, person: int) -> Batch:
    """A variant that one person carries and nobody else."""
    row = np.zeros(len(batch.people), np.int8)
    row[person] = 1
    effects = batch.effects | {PRIVATE: (("PRIVATEGENE", "stop_gained"),)}
    return dataclasses.replace(batch, genotypes=batch.genotypes | {PRIVATE: row}, effects=effects)


def without(batch: Batch, gone: Sequence[int], name: str) -> Batch:
    """The slow twin of erasing: the batch as it would have been handed over without some people."""
    keep = np.setdiff1d(np.arange(len(batch.people)), gone)
    genotypes = {}
    for site, row in batch.genotypes.items():
        alone = (row[list(gone)] > 0).any() and not (row[keep] > 0).any()
        if not alone:
            genotypes[site] = row[keep]
    people = [batch.people[i] for i in keep]
    return dataclasses.replace(
        batch, name=name, people=people, sexes=[batch.sexes[i] for i in keep], genotypes=genotypes
    )


def files(root: Path) -> dict[str, bytes]:
    """All files of a store but the catalogue, by name."""
    found = (path for part in ("store", "batches") for path in (root / part).rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def traces(root: Path, *words: str) -> list[str]:
    """Names of files anywhere in the folder that hold one of the words, compressed files as they read unpacked."""
    found = []
    with duckdb.connect(":memory:") as connection:
        for path in (path for path in root.rglob("*") if path.is_file()):
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += str(connection.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()).encode()
            elif content.startswith(MAGIC):
                content += zstandard.decompress(content)
            if any(word.encode() in content for word in words):
                found.append(path.name)
    return found


def test_erasing_gives_the_bytes_of_a_store_without_those_people(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    batches = [with_private(draw_batch(rng, "a", 30), 4), draw_batch(rng, "b", 25), draw_batch(rng, "c", 20)]
    store, gone = Store.open(tmp_path / "old"), {"a": [4, 9, 29], "b": [], "c": [0]}
    for batch in batches:
        put(store, batch, on=DAY, phenotypes=table(batch, extra=batch.name == "b"))
    names = [batch.people[i] for batch in batches for i in gone[batch.name]]
    store.withdraw(names, AT)
    report = compact(store, "fi", merge_people=1, block_variants=3)
    assert (report.erased, report.replaced, report.batches) == (4, ("a", "c"), ("a.c1", "b", "c.c1"))
    assert report.releases_gone == 3 and report.release == store.release("fi") and len(store.releases("fi")) == 1

    fresh = Store.open(tmp_path / "fresh")
    for batch in batches:
        name = batch.name if batch.name == "b" else f"{batch.name}.c1"
        kept = without(batch, gone[batch.name], name)
        put(fresh, kept, on=DAY, phenotypes=table(kept, extra=batch.name == "b"))
    assert files(tmp_path / "old") == files(tmp_path / "fresh")
    assert verify(store).ok and verify(store).strangers == ()
    assert report.bytes_before > report.bytes_after > 0
    ours, theirs = (s.release("fi").batches for s in (store, fresh))
    assert [(b.name, b.people, b.variants, b.digest) for b in ours] == [
        (b.name, b.people, b.variants, b.digest) for b in theirs
    ]
    assert not compact(store, "fi", merge_people=1).changed


def test_nothing_of_an_erased_person_is_left_anywhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    one, two = with_private(everywhere(rng, "a", 30), 4), everywhere(rng, "b", 25)
    store, gone = Store.open(tmp_path), "gone-for-good"
    one.people[4] = gone
    put(store, one, on=DAY, phenotypes=table(one), relatives=[Relatives(gone, "pa-5", 0.25)])
    put(store, two, on=DAY, phenotypes=table(two), relatives=[Relatives(gone, "pb-1", 0.5)])
    [number] = store.people(store.release("fi").batches[0]).numbers[[4]]
    words = (gone, f"note-of-{gone}", "PRIVATEGENE", PRIVATE[2])
    erasure.scrub(store.database)  # so that the database itself holds it, not only its log
    assert {Path(name).suffix for name in traces(tmp_path, *words)} >= {
        ".psam",
        ".parquet",
        ".sites",
        ".zst",
        ".sqlite",
    }
    store.withdraw([gone], AT)
    compact(store, "fi")
    assert traces(tmp_path, *words) == []
    with store.database.connect() as connection:
        for name, column in (("person", "number"), ("withdrawn", "person"), ("relative", "first")):
            query = f"SELECT count(*) FROM {name} WHERE {column} = {number}"
            assert connection.exec_driver_sql(query).scalar_one() == 0


def test_an_answer_before_and_one_after_do_not_tell_of_the_erased(tmp_path: Path) -> None:
    """What audits keep of somebody erased names nobody; without it, two counts would tell of them."""
    rng = np.random.default_rng(7)
    one = with_private(everywhere(rng, "a", 60), 4)
    store = Store.open(tmp_path / "store")
    put(store, one, on=DAY, phenotypes=table(one))
    audit = FileCohorts(tmp_path / "cohorts.audit")

    def asked() -> tuple[int, Members]:
        view = StudyView.freeze(store, [store.release("fi")])
        [index] = named_blocks([Variant.of("GRCh38", *PRIVATE)])
        counts = StudySite(view).block(index).counts(view, np.zeros(view.people, np.int64), 1)
        return int(counts.sum()), Members.from_bytes(view.bitmap() + bytes(-len(view.bitmap()) % 8))

    counted, everybody = asked()
    by = Wording(("fi",))
    assert not check(everybody, audit, by=by, secret=SECRET, policy=POLICY)
    audit.add(everybody)
    store.withdraw([one.people[4]], AT)
    compact(store, "fi")
    again, rest = asked()
    assert counted != again and (everybody ^ rest).size == 1  # what an attacker would subtract
    with pytest.raises(Refused, match="nearly"):
        check(rest, FileCohorts(tmp_path / "cohorts.audit"), by=by, secret=SECRET, policy=POLICY)


def merged_row(batches: Sequence[Batch], site: Site) -> tuple[Site, NDArray[np.int8]]:
    """The slow twin of merging one variant: the spelling kept, and everybody's copies of its ALT."""
    spellings = [own for own in (batch.lists(site) for batch in batches) if own is not None]
    kept = sorted(spellings, key=lambda own: oriented(own[2], own[3])[2])[0]
    rows = []
    for batch in batches:
        own = batch.lists(site)
        if own is not None:
            rows.append(batch.genotypes[own] if own == kept else exchanged(batch.genotypes[own]))
            continue
        known = batch.callable_at(site[0], kept[1], kept[1] + len(kept[2]) - 1)
        row = np.full(len(batch.people), 0 if known else -1, np.int8)
        if site[0] == "Y":
            row[[sex != "male" for sex in batch.sexes]] = -1
        rows.append(row)
    return kept, np.concatenate(rows)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("where", ["everywhere", "intervals", "sites"])
def test_merging_gives_the_bytes_of_one_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, where: str
) -> None:
    monkeypatch.setattr(merging, "SITE_BYTES", 1_000)  # so that these few sites are worth it
    rng = np.random.default_rng(seed)
    intervals = [Interval("1", 1, 999_999), Interval("X", 2_781_480, 6_000_000)]
    batches = [
        dataclasses.replace(
            draw_batch(rng, name, 20), callable=where, intervals=intervals if where == "intervals" else []
        )
        for name in "abc"
    ]
    store = Store.open(tmp_path / "old")
    for batch in batches:
        batch.effects.clear()
        put(store, batch, on=DAY, phenotypes=table(batch, extra=batch.name == "b"))
    gone = [sorted(rng.choice(20, 3, replace=False).tolist()) for _ in batches]
    store.withdraw([b.people[i] for b, some in zip(batches, gone, strict=True) for i in some], AT)
    numbers = [store.people(b).numbers[store.active(b)] for b in store.release("fi").batches]
    report = compact(store, "fi", block_variants=3)
    assert report.batches == ("c.c1",) and report.erased == 9
    np.testing.assert_array_equal(store.people(store.release("fi").batches[0]).numbers, np.concatenate(numbers))

    whole = Batch(
        "all", [n for b in batches for n in b.people], [s for b in batches for s in b.sexes], {}, where, intervals
    )
    whole.genotypes = dict(merged_row(batches, site) for site in POOL if any(b.lists(site) for b in batches))
    kept = without(whole, [20 * i + j for i, some in enumerate(gone) for j in some], "c.c1")
    fresh = Store.open(tmp_path / "fresh")
    columns = pd.concat([table(b, extra=b.name == "b") for b in batches])
    put(fresh, kept, on=DAY, phenotypes=columns[columns["person_id"].isin(kept.people)])
    ours, theirs = files(tmp_path / "old"), files(tmp_path / "fresh")
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.parametrize("new_sites", [0, 1, 20])
def test_what_knows_only_its_sites_is_merged_where_that_saves_space(tmp_path: Path, new_sites: int) -> None:
    """The newer batch lists all sites of the older, as gVCF files answer at them, and some that it found."""
    rng = np.random.default_rng(12)
    store = Store.open(tmp_path)
    places = [("2", 1_000 + 10 * i, "A", "G") for i in range(20 + new_sites)]
    for name, count in (("a", 20), ("b", 20 + new_sites)):
        drawn = draw_batch(rng, name, 200)
        rows = {site: rng.integers(-1, 3, 200).astype(np.int8) for site in places[:count]}
        put(store, dataclasses.replace(drawn, genotypes=rows, callable="sites", intervals=[], effects={}), on=DAY)
    before, asked = answers(store), [Variant.of("GRCh38", *site) for site in places]
    view = StudyView.freeze(store, [store.release("fi")])
    counts = [StudySite(view).block(i).counts(view, np.zeros(400, np.int64), 1) for i in named_blocks(asked)]
    report = compact(store, "fi")
    assert report.batches == (("b.c1",) if new_sites < 20 else ("a", "b"))
    assert (report.bytes_after < report.bytes_before) is (new_sites < 20)
    for one, other in zip(before, answers(store), strict=True):
        np.testing.assert_array_equal(one, other)
    view = StudyView.freeze(store, [store.release("fi")])
    again = [StudySite(view).block(i).counts(view, np.zeros(400, np.int64), 1) for i in named_blocks(asked)]
    for one, other in zip(counts, again, strict=True):
        np.testing.assert_array_equal(one, other)


def answers(store: Store) -> list[NDArray[np.int64]]:
    view = StudyView.freeze(store, [store.release("fi")])
    site, asked = StudySite(view), [Variant.of("GRCh38", *each) for each in POOL]
    groups = np.zeros(view.people, np.int64)
    found = [site.block(index).counts(view, groups, 1) for index in named_blocks(asked)]
    women = view.where(view.meets(Cohort(sex="female")))
    return [*found, view.numbers_at_node, women.numbers_at_node, view.unrelated(0.1).astype(np.int64)]


def test_answers_stay_what_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    store = Store.open(tmp_path)
    batches = [everywhere(rng, name, 30) for name in "abcd"]
    for batch in batches:
        pairs = [Relatives(batch.people[1], batch.people[2], 0.25)]
        put(store, batch, on=DAY, phenotypes=table(batch), relatives=pairs, genes=[GeneRegion(batch.name, "1", 1, 9)])
    store.withdraw(["pa-0", "pb-1", "pd-29"], AT)
    before = answers(store)
    report = compact(store, "fi", merge_people=60)
    assert report.release is not None and len(report.batches) == 2
    for one, other in zip(before, answers(Store.open(tmp_path)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert store.gene(report.release, "d") == (("1", 1, 9),)
    late = put(store, everywhere(rng, "e", 10), on=DAY)
    newest = store.people(late.batches[-1]).numbers
    assert newest.min() == 121  # the number of pd-29, who was the last, is not given out again


def test_what_must_not_be_merged_is_left_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    store = Store.open(tmp_path)
    first, second, third = (everywhere(rng, name, 20) for name in "abc")
    drawn = [dataclasses.replace(everywhere(rng, name, 20), callable="sites") for name in "de"]
    sites = dataclasses.replace(drawn[0], genotypes={s: g for s, g in drawn[0].genotypes.items() if s[0] == "1"})
    other = dataclasses.replace(drawn[1], genotypes={s: g for s, g in drawn[1].genotypes.items() if s[0] != "1"})
    put(store, first, on=DAY, phenotypes=table(first))
    put(store, second, on=DAY, phenotypes=table(second).astype({"birth_year": "float64"}))
    for batch in (third, sites, other):
        put(store, batch, on=DAY)
    assert compact(store, "fi").batches == ("a", "c.c1", "d", "e")


def test_a_dataset_of_which_nobody_is_left(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    store = Store.open(tmp_path)
    put(store, everywhere(rng, "a", 12), on=DAY)
    store.withdraw([f"pa-{i}" for i in range(12)], AT)
    before = files(tmp_path)
    with pytest.raises(Invalid, match="nobody would be left"):
        compact(store, "fi")
    assert files(tmp_path) == before and verify(store).ok
    put(store, everywhere(rng, "b", 9), about=manifest("se"), on=DAY)
    report = compact(store, "fi")
    assert (report.erased, report.batches, report.release) == (12, (), None)
    assert store.datasets() == ("se",) and not any("fi~" in name for name in files(tmp_path))
    assert verify(store).ok and not list((tmp_path / "staging").glob("*/"))


def test_damage_and_company_stop_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    store = Store.open(tmp_path)
    for name in "ab":
        put(store, everywhere(rng, name, 20), on=DAY)
    before = store.release("fi")
    with pytest.raises(Invalid, match="no data release"):
        compact(store, "xx")
    held = erasure.lock(store.layout, "fi")
    with pytest.raises(Unavailable):
        compact(store, "fi")
    held.release()
    path = next(tmp_path.rglob("*.sites"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(Damaged) as caught:
        compact(Store.open(tmp_path), "fi")
    assert caught.value.where == str(path) and Store.open(tmp_path).release("fi") == before
    path.write_bytes(whole)
    told: list[Progress] = []
    assert compact(Store.open(tmp_path), "fi", told.append).changed
    assert told[-1].stage == "erasing" and any(each.variants == each.total for each in told)


def test_a_reader_delays_the_last_step_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    store = Store.open(tmp_path)
    batch = everywhere(rng, "a", 20)
    put(store, batch, on=DAY, phenotypes=table(batch))
    store.withdraw(["pa-4"], AT)
    reader = Store.open(tmp_path).database.connect()
    reader.exec_driver_sql("SELECT count(*) FROM person").scalar_one()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(erasure, "SECURE_DELETE", "PRAGMA busy_timeout = 50")
        with pytest.raises(Unavailable, match="log"):
            compact(store, "fi")
    assert store.release("fi").batches[0].name == "a.c1" and not any(
        "fi~a." in n for n in files(tmp_path) if ".c1" not in n
    )
    reader.close()
    Store.open(tmp_path)
    assert traces(tmp_path, "note-of-pa-4", "pa-4\t") == []
    assert not list((tmp_path / "staging").glob("*.erasing"))


COMPACT = """
import os, signal, sys
from datetime import date
from pathlib import Path
from federome.store.catalogue import Store
from federome.store.compact import compact
import federome.store.verify, duckdb, pandas
from federome.store import kernels
kernels.warm()

def attempt(root, calls):
    store = Store.open(Path(root))
    left = [int(calls)]
    def counted(real):
        def call(*args, **named):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **named)
        return call
    for name in ("fsync", "replace", "rename", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    compact(store, "fi", block_variants=3)
    print(-left[0], file=open(Path(root).parent / "calls", "w"))

print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        attempt(*line.split())
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@pytest.mark.processes
def test_kill_at_any_step_leaves_the_old_or_the_new_store(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    batches = [with_private(everywhere(rng, "a", 20), 4), everywhere(rng, "b", 20)]

    def start(name: str) -> Path:
        store = Store.open(tmp_path / name)
        for batch in batches:
            put(store, batch, on=DAY, phenotypes=table(batch))
        store.withdraw(["pa-4"], AT)
        return tmp_path / name

    with subprocess.Popen(
        [sys.executable, "-c", COMPACT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin and parent.stdout and parent.stdout.readline() == "ready\n"

        def attempt(root: Path, calls: int) -> None:
            parent.stdin.write(f"{root} {calls}\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == "ended\n"

        calm = start("calm")
        before = answers(Store.open(calm))
        attempt(calm, 10**9)
        expected = files(calm)
        steps = 10**9 - int((tmp_path / "calls").read_text().lstrip("-"))
        assert steps > 100
        chosen = [*random.Random(3).sample(range(1, steps + 1), 4), steps - 3, steps - 25]
        root = start("killed-0")
        outcomes = set()
        for number, calls in enumerate(sorted(chosen)):
            attempt(root, calls)
            store = Store.open(root)
            for one, other in zip(before, answers(store), strict=True):
                np.testing.assert_array_equal(one, other)
            assert verify(store).ok and verify(store).strangers == ()
            new = store.has_batch("fi", "b.c1")
            outcomes.add(new)
            if new:
                assert files(root) == expected
                assert traces(root, "note-of-pa-4", "PRIVATEGENE") == []
                root = start(f"killed-{number + 1}")
        assert outcomes == {False, True}
        attempt(root, 10**9)
        assert files(root) == expected and not list((root / "staging").glob("*/"))
        parent.stdin.close()
