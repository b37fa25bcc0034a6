"""Counts by person on compressed records against dense NumPy twins; sex from X and Y; the store before commit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from federome.bench import quality_cohort as made
from federome.quality import census, sex
from federome.quality.metrics import HET_HOM_INDEL, HET_HOM_SNV, INS_DEL, TI_TV
from federome.quality.subject import Subject, of_release, of_writer
from federome.store import kernels
from federome.store.catalogue import Store
from federome.store.pgen import PgenFile, PgenWriter

COHORT = made.make(260, snvs=900, families=4)


def slow(genotypes: NDArray[np.int8], classes: NDArray[np.int64], count: int) -> NDArray[np.int32]:
    """Person by person and class by class, on dense genotypes."""
    out = np.zeros((count, 3, genotypes.shape[1]), np.int32)
    for row, kind in zip(genotypes, classes.tolist(), strict=True):
        if kind >= 0:
            for at, code in enumerate((1, 2, -1)):
                out[kind, at] += row == code
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 200), st.integers(0, 2**31), st.sampled_from([0.001, 0.02, 0.3, 0.9]))
def test_counts_by_person_equal_the_slow_twin(people: int, variants: int, seed: int, share: float) -> None:
    """Frequencies from private to nearly fixed give records of every type, also ones that refer to others."""
    import tempfile

    rng = np.random.default_rng(seed)
    rows = (rng.random((2, variants, people)) < share * rng.random((variants, 1))).sum(axis=0).astype(np.int8)
    rows[rng.random(rows.shape) < 0.05 * rng.random()] = -1
    rows[1::3] = rows[0::3][: len(rows[1::3])]  # like the one before: such records are stored as differences
    classes = rng.integers(-1, 4, variants)
    with tempfile.TemporaryDirectory() as folder:
        with PgenWriter(Path(folder) / "a.pgen", people, max_variants=variants) as writer:
            writer.append_many(rows)
        with PgenFile.open(Path(folder) / "a.pgen") as file:
            found = np.zeros((4, 3, people), np.int32)
            kernels.counts_by_person(file, range(variants), classes, found)
            half = np.zeros((4, 3, people), np.int32)
            for part in (np.arange(0, variants, 2), np.arange(1, variants, 2)):
                kernels.counts_by_person(file, part, classes[part], half)
    np.testing.assert_array_equal(found, slow(rows, classes, 4))
    np.testing.assert_array_equal(half, found)


def test_counters_do_not_run_over(tmp_path: Path) -> None:
    """A thousand variants that everybody carries: far more than a counter of six bits holds."""
    rows = np.ones((1_000, 130), np.int8)
    rows[:, 7] = 2
    with PgenWriter(tmp_path / "a.pgen", 130, max_variants=1_000) as writer:
        writer.append_many(rows)
    with PgenFile.open(tmp_path / "a.pgen") as file:
        found = np.zeros((1, 3, 130), np.int32)
        kernels.counts_by_person(file, range(1_000), np.zeros(1_000, np.int64), found)
        with pytest.raises(ValueError, match="class"):
            kernels.counts_by_person(file, range(1_000), np.ones(1_000, np.int64), found)
    assert found[0, 0].tolist() == [0 if person == 7 else 1_000 for person in range(130)]
    assert found[0, 1, 7] == 1_000


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    store, release = COHORT.write(tmp_path_factory.mktemp("store"))
    return of_release(store, release)


def test_metrics_of_people_equal_plain_arithmetic(subject: Subject) -> None:
    (batch,) = subject.batches
    found = census.count(batch).metrics()
    kinds = np.array([_kind(ref, alt) if c.isdigit() else "" for c, _, ref, alt in COHORT.sites])
    carried_by = (COHORT.genotypes > 0).sum(axis=1)
    copies = np.where(COHORT.genotypes > 0, COHORT.genotypes, 0).sum(axis=1)
    lonely = (carried_by == 1) & (copies == 1) & (kinds != "")
    for person in (0, 1, 128, 259):
        held = COHORT.genotypes[:, person]
        number = {(kind, code): int(((kinds == kind) & (held == code)).sum()) for kind in set(kinds) for code in (1, 2)}
        snv = {code: number["ti", code] + number["tv", code] for code in (1, 2)}
        ins, gone = (number[kind, 1] + number[kind, 2] for kind in ("ins", "del"))
        expected = {
            "count_snvs": snv[1] + snv[2],
            "count_insertions": ins,
            "count_deletions": gone,
            HET_HOM_SNV: snv[1] / snv[2],
            TI_TV: (number["ti", 1] + number["ti", 2]) / (number["tv", 1] + number["tv", 2]),
            "call_rate": float((held[kinds != ""] >= 0).mean()),
            "count_singletons": int((held[lonely] == 1).sum()),
        }
        if gone >= census.LEAST:
            expected[INS_DEL] = ins / gone
        hom_indels = number["ins", 2] + number["del", 2]
        if hom_indels >= census.LEAST:
            expected[HET_HOM_INDEL] = (number["ins", 1] + number["del", 1]) / hom_indels
        assert found[person] == pytest.approx(expected, abs=1e-12)


def _kind(ref: str, alt: str) -> str:
    if len(ref) != len(alt):
        return "ins" if len(alt) > len(ref) else "del"
    return "ti" if {ref, alt} in ({"A", "G"}, {"C", "T"}) else "tv"


def test_a_ratio_over_too_few_is_unknown(subject: Subject) -> None:
    (batch,) = subject.batches
    counted = census.count(batch, threads=1)
    counted.calls[:, census.HOM] = 0
    assert HET_HOM_SNV not in counted.metrics()[0]
    assert "count_snvs" in counted.metrics()[0]


def test_a_batch_is_assessed_before_it_is_committed(subject: Subject, tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with COHORT.writer(store) as writer:
        waiting = of_writer(writer)
        assert store.datasets() == ()
        assert waiting.release == ""
        assert waiting.samples == subject.samples
        ours, theirs = (census.count(each.batches[0]) for each in (waiting, subject))
        np.testing.assert_array_equal(ours.calls, theirs.calls)


def test_sexes_agree_and_swapped_ones_are_found(subject: Subject, tmp_path: Path) -> None:
    (batch,) = subject.batches
    clean = sex.check(census.count(batch), batch.sexes)
    assert {(each.declared, each.genetic) for each in clean} == {("female", "female"), ("male", "male")}
    swapped = made.swap_sexes(made.swap_sexes(COHORT, 10, 11), 100, 151)
    store, release = swapped.write(tmp_path)
    (batch,) = of_release(store, release).batches
    # the store has taken out what contradicts the declared sex: heterozygous men on X, women on Y
    found = sex.check(census.count(batch), batch.sexes)
    assert [row for row, each in enumerate(found) if each.mismatch] == [10, 11, 100, 151]
    others = [each for row, each in enumerate(found) if row not in (10, 11, 100, 151)]
    assert all(each.declared == each.genetic for each in others)


def test_sex_is_unknown_without_x(tmp_path: Path) -> None:
    from dataclasses import replace

    rows = COHORT.autosomal
    part = replace(COHORT, sites=tuple(COHORT.sites[row] for row in rows), genotypes=COHORT.genotypes[rows])
    store, release = part.write(tmp_path)
    (batch,) = of_release(store, release).batches
    assert {each.genetic for each in sex.check(census.count(batch), batch.sexes)} == {"unknown"}
