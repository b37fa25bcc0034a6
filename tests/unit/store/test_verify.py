"""The integrity check: any flipped bit, missing or exchanged file is found and named; nothing is computed from it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from tests.unit.store.small_stores import Batch, draw_batch, put

from federome.errors import Damaged, Invalid
from federome.model.cohort import AgeBand, Cohort
from federome.model.index import named_blocks
from federome.model.variant import Variant
from federome.store import checksums, derived, erasure, tables
from federome.store.catalogue import Store
from federome.store.compact import compact
from federome.store.site import StudySite
from federome.store.verify import verify
from federome.store.view import StudyView
from federome.store.writer import GeneRegion, Interval, Relatives


def small(root: Path) -> Store:
    rng = np.random.default_rng(9)
    store = Store.open(root)
    for name in ("a", "b"):
        put(store, draw_batch(rng, name, 25), on=date(2026, 1, 1))
    return store


def files(root: Path) -> list[Path]:
    return sorted(p for folder in ("store", "batches") for p in (root / folder).rglob("*") if p.is_file())


def test_a_whole_store_is_whole(tmp_path: Path) -> None:
    report = verify(small(tmp_path))
    assert report.ok and report.strangers == ()
    assert report.files == len(files(tmp_path))
    assert report.bytes == sum(path.stat().st_size for path in files(tmp_path))
    report.check()


@pytest.mark.parametrize("suffix", [".pgen", ".pvar.zst", ".index", ".sites", ".psam", ".parquet"])
@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "remove"])
def test_every_harm_is_found_and_named(tmp_path: Path, suffix: str, harm: str) -> None:
    store = small(tmp_path)
    path = [p for p in files(tmp_path) if p.name.endswith(suffix)][1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    match harm:
        case "flip":
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[:-1])
        case "empty":
            path.write_bytes(b"")
        case _:
            path.unlink()
    report = verify(store)
    assert not report.ok and {p.file for p in report.problems} == {str(path)}
    assert all("federome store verify" in p.remedy for p in report.problems)
    with pytest.raises(Damaged) as caught:
        report.check()
    assert caught.value.where == str(path)


def test_a_flipped_bit_in_a_column_of_scores_is_found(tmp_path: Path) -> None:
    store = small(tmp_path)
    folder = store.layout.batch("fi~a")
    derived.write(folder, "prs_height", np.arange(25.0))
    whole = verify(store)
    assert whole.ok and whole.strangers == () and whole.files == len(files(tmp_path))
    path = folder / "prs_height.derived"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert {p.file for p in verify(store).problems} == {str(path)}


CELLS = (
    ("person", "sex = 'male'"),
    ("person", "row = row + 1000"),
    ("withdrawn", "person = person + 1"),
    ("callable_interval", "start = start + 1"),
    ("gene", '"end" = "end" - 1'),
    ("relative", "kinship = kinship / 2"),
    ("batch", "callable = 'everywhere'"),
    ("batch", "first_person = first_person + 1"),
    ("block_file", "first = first + 1"),
    ("batch_file", "sha256 = upper(sha256)"),
    ("dataset", "assembly = 'GRCh37'"),
    ("release", "manifest = replace(manifest, 'Test', 'Tesu')"),
    ("release", "manifest = '{'"),
    ("release_batch", "ordinal = 1"),
)


def test_a_changed_cell_of_the_catalogue_is_found_and_its_table_named(tmp_path: Path) -> None:
    """SQLite's own check finds none of these: they are whole rows that say something else."""
    store = Store.open(tmp_path)
    batch = draw_batch(np.random.default_rng(3), "a", 25)
    batch.callable, batch.intervals = "intervals", [Interval("1", 1, 9_999)]
    put(store, batch, relatives=[Relatives("pa-1", "pa-2", 0.25)], genes=[GeneRegion("G", "1", 5, 9)])
    store.withdraw(["pa-3"], datetime(2026, 2, 1, tzinfo=UTC))
    assert verify(store).ok
    assert {table for table, _ in CELLS} == {table.name for table in tables.CHECKED}
    plain = sa.create_engine(f"sqlite:///{store.layout.catalogue}")
    for table, assignment in CELLS:
        with plain.connect() as connection:
            connection.exec_driver_sql(f"UPDATE {table} SET {assignment}")
            assert checksums.altered(connection) == (table,)
            connection.rollback()
    with plain.begin() as connection:
        connection.exec_driver_sql("DELETE FROM withdrawn")
    [problem] = verify(store).problems
    assert problem.file == str(store.layout.catalogue) and "withdrawn" in problem.message
    assert "federome store verify" in problem.remedy
    # Nothing is written that would call it whole; only a withdrawal does not wait.
    for write in (lambda: put(store, draw_batch(np.random.default_rng(4), "b", 25)), lambda: compact(store, "fi")):
        with pytest.raises(Damaged, match="withdrawn") as caught:
            write()
        assert caught.value.where == str(store.layout.catalogue)
    assert store.withdraw(["pa-4"], datetime(2026, 2, 1, tzinfo=UTC)) == 1
    assert [p.message for p in verify(store).problems] == [problem.message]


def test_a_torn_catalogue_is_a_finding_and_no_crash(tmp_path: Path) -> None:
    store = small(tmp_path)
    erasure.scrub(store.database)
    store.database.dispose()
    content = bytearray(store.layout.catalogue.read_bytes())
    content[4096 : len(content) // 2] = bytes(len(content) // 2 - 4096)
    store.layout.catalogue.write_bytes(content)
    assert {each.file for each in verify(store).problems} == {str(store.layout.catalogue)}
    content[: 2 * 4096] = content[: 2 * 4096].replace(b"CREATE TABLE", b"CREATE \xc3ABLE")
    store.database.dispose()
    store.layout.catalogue.write_bytes(content)
    with pytest.raises(Damaged) as caught:
        Store.open(tmp_path)
    assert caught.value.where == str(store.layout.catalogue)


def test_notes_of_a_commit_and_of_an_erasure_that_are_damaged_are_named(tmp_path: Path) -> None:
    """Whoever opens the store after a crash reads them; what cannot be read is no crash and is not guessed."""
    store = small(tmp_path)
    folder = store.layout.staging / "fi~c"
    folder.mkdir()
    for path in (folder / "commit.json", store.layout.staging / "fi.erasing"):
        path.write_bytes(b'[["a", "\xff')
        with pytest.raises(Damaged) as caught:
            Store.open(tmp_path)
        assert caught.value.where == str(path) and "federome store verify" in caught.value.remedy
        path.unlink()
    with store.database.begin() as connection:
        connection.exec_driver_sql("UPDATE release SET manifest = '{'")
    with pytest.raises(Damaged) as caught:
        store.release("fi")
    assert caught.value.where == str(store.layout.catalogue)


def test_a_batch_that_is_compacted_meanwhile_is_no_damage(tmp_path: Path) -> None:
    store, calls = small(tmp_path), iter(range(1_000))
    store.withdraw(["pa-3"], datetime(2026, 2, 1, tzinfo=UTC))

    def between() -> None:
        if next(calls) == 2:
            compact(Store.open(tmp_path), "fi", merge_people=1)

    assert verify(store, between).ok and next(calls) > 3


def test_exchanged_files_are_found(tmp_path: Path) -> None:
    store = small(tmp_path)
    one, two = [p for p in files(tmp_path) if p.name.endswith(".pgen")][:2]
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert {p.file for p in verify(store).problems} == {str(one), str(two)}


def test_strangers_are_listed_and_harm_nothing(tmp_path: Path) -> None:
    store = small(tmp_path)
    odd = tmp_path / "batches" / "note.txt"
    odd.write_text("x")
    report = verify(store)
    assert report.ok and report.strangers == (str(odd),)


def answers(root: Path) -> None:
    """What a node does with a store: a cohort, a block, its counts, sums and columns."""
    store = Store.open(root)
    view = StudyView.freeze(store, [store.release("fi")])
    view.labels("sex")
    view.meets(Cohort(sex="female"))
    everything = [Variant.of("GRCh38", *site) for site in draw_sites(root)]
    for index in named_blocks(everything):
        StudySite(view).block(index).counts(view, np.zeros(view.people, np.int64), 1)


def draw_sites(root: Path) -> list[tuple[str, int, str, str]]:
    rng = np.random.default_rng(9)
    batches: list[Batch] = [draw_batch(rng, name, 25) for name in ("a", "b")]
    return [site for batch in batches for site in batch.genotypes]


@pytest.mark.parametrize("suffix", [".pgen", ".index", ".sites", ".parquet"])
def test_a_flipped_bit_is_an_error_and_never_a_number(tmp_path: Path, suffix: str) -> None:
    small(tmp_path)
    answers(tmp_path)
    for path in [p for p in files(tmp_path) if p.name.endswith(suffix)][:4]:
        whole = path.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 1):
            content = bytearray(whole)
            content[at] ^= 1
            path.write_bytes(content)
            with pytest.raises(Damaged) as caught:
                answers(tmp_path)
            assert caught.value.where == str(path)
        path.unlink()
        with pytest.raises(Damaged, match="not there"):
            answers(tmp_path)
        path.write_bytes(whole)
    answers(tmp_path)


def test_a_column_that_no_batch_has_is_not_damage(tmp_path: Path) -> None:
    store = small(tmp_path)
    view = StudyView.freeze(store, [store.release("fi")])
    with pytest.raises(Invalid, match="birth_year"):
        view.meets(Cohort(age=AgeBand(20, 30)))
