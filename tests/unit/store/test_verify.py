"""The integrity check: any flipped bit, missing or exchanged file is found and named; nothing is computed from it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from tests.unit.store.small_stores import Batch, draw_batch, put

from federome.errors import Damaged, Invalid
from federome.model.cohort import AgeBand, Cohort
from federome.model.index import named_blocks
from federome.model.variant import Variant
from federome.store.catalogue import Store
from federome.store.site import StudySite
from federome.store.verify import verify
from federome.store.view import StudyView


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
