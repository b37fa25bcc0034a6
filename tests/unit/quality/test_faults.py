"""Every planted fault is found and nothing else is: swapped sexes, duplicate, wrong father, batch artefact, more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from federome.bench import quality_cohort as made
from federome.bench.quality_cohort import Cohort
from federome.quality import association, relatives
from federome.quality.metrics import Measured
from federome.quality.policy import Policy
from federome.quality.run import Evidence, assess
from federome.quality.subject import Batch, Known, Subject, of_release
from federome.quality.verdict import DatasetVerdict
from federome.store.catalogue import Store
from federome.store.writer import Compared, Relatives

TODAY = date(2026, 6, 2)
CLEAN = made.make(480, snvs=2_400, families=12)


def evidence(cohort: Cohort) -> Evidence:
    def labels(values: object) -> dict[str, object]:
        return dict(zip(cohort.people, values, strict=True))  # type: ignore[arg-type]

    return Evidence(
        groups=labels(cohort.groups),  # type: ignore[arg-type]
        sequenced=labels(cohort.sequenced),  # type: ignore[arg-type]
        cases=labels(cohort.cases.tolist()),  # type: ignore[arg-type]
        parents={cohort.people[c]: (cohort.people[f], cohort.people[m]) for c, f, m in cohort.trios},
    )


def verdict(cohort: Cohort, folder: Path, *, given: Evidence | None = None) -> DatasetVerdict:
    store, release = cohort.write(folder)
    return assess(of_release(store, release), given or evidence(cohort), Policy(), today=TODAY)


def reasons(found: DatasetVerdict) -> dict[str, set[str]]:
    """Checks that refer or refuse, with their samples; "" is the dataset itself."""
    out: dict[str, set[str]] = {}
    for sample, findings in [("", found.findings), *((each.sample, each.findings) for each in found.samples)]:
        for finding in findings:
            if finding.level != "remark" and finding.check != "samples":
                out.setdefault(finding.check, set()).add(sample)
    return out


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> DatasetVerdict:
    return verdict(CLEAN, tmp_path_factory.mktemp("clean"))


def test_a_clean_cohort_is_accepted(clean: DatasetVerdict) -> None:
    assert reasons(clean) == {}
    assert clean.verdict == "accept"
    assert clean.counts == {"accept": 480, "refer": 0, "refuse": 0}
    assert clean.unknown.keys() == {"alignment_metrics", "contamination", "laboratory"}
    assert "cross_contamination_rate" not in clean.samples[0].metrics  # unknown is absent, not zero
    assert clean.facts["mendelian_error_rate_median"] < 0.001


P = CLEAN.people
FAULTS: dict[str, tuple[Callable[[Cohort], Cohort], dict[str, set[str]]]] = {
    "swapped sexes": (lambda c: made.swap_sexes(c, 40, 41), {"sex": {P[40], P[41]}}),
    "duplicate": (lambda c: made.duplicate(c, 50, 61), {"duplicate": {P[50], P[61]}}),
    "wrong father": (lambda c: made.wrong_father(c, 3, 55), {"pedigree": {P[CLEAN.trios[3][0]]}}),
    "batch artefact": (made.batch_artefact, {"batch": {""}}),
    "missing in cases": (made.missing_in_cases, {"missing_by_case": {""}}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(fault: str, tmp_path: Path) -> None:
    plant, expected = FAULTS[fault]
    found = verdict(plant(CLEAN), tmp_path)
    assert reasons(found) == expected
    assert found.verdict in ("refer", "refuse")


def test_declared_twins_are_no_fault_and_a_false_twin_is(tmp_path: Path) -> None:
    cohort = made.duplicate(CLEAN, 50, 61)
    same = frozenset({frozenset((P[50], P[61])), frozenset((P[70], P[73]))})
    found = verdict(cohort, tmp_path, given=replace(evidence(cohort), same=same))
    assert reasons(found) == {"duplicate": {P[70], P[73]}}


def test_a_duplicate_in_another_batch_is_found(tmp_path: Path) -> None:
    """Kinship at ingest compares the people of one batch; quality control those of the whole dataset."""
    twin = made.duplicate(CLEAN, 50, 61)
    store = Store.open(tmp_path)
    halves = []
    for name, rows in (("one", np.arange(0, 60)), ("two", np.arange(60, 480))):
        halves.append(
            replace(
                twin,
                genotypes=np.ascontiguousarray(twin.genotypes[:, rows]),
                people=tuple(twin.people[row] for row in rows),
                sexes=twin.sexes[rows],
            )
        )
        with halves[-1].writer(store, batch=name) as writer:
            release = writer.commit(made.DAY)
    found = assess(of_release(store, release), evidence(twin), Policy(), today=TODAY)
    assert reasons(found)["duplicate"] == {P[50], P[61]}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    store, release = made.duplicate(made.duplicate(CLEAN, 50, 61), 90, 99, differ=0.01).write(
        tmp_path_factory.mktemp("twins")
    )
    return of_release(store, release)


def test_relatives_that_ingest_found_are_not_looked_for_again(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    snps = relatives.common_snps(subject)
    kin = relatives.relatives(snps)
    assert kin.limit is not None
    rows = zip(kin.pairs.first.tolist(), kin.pairs.second.tolist(), kin.pairs.kinship.tolist(), strict=True)
    pairs = [Relatives(P[first], P[second], value) for first, second, value in rows]
    known = replace(subject, known=Known(pairs, Compared(len(snps.rows), kin.limit)))
    looked = assess(subject, evidence(CLEAN), Policy(), today=TODAY)
    monkeypatch.delattr(relatives, "relatives")
    assert assess(known, evidence(CLEAN), Policy(), today=TODAY) == looked
    assert reasons(looked)["duplicate"] == {P[50], P[61], P[90], P[99]}


def test_hashing_finds_what_comparing_everybody_finds(subject: Subject) -> None:
    snps = relatives.common_snps(subject)
    assert len(snps.rows) > 1_500
    hashed = relatives.duplicates(snps)
    everybody = relatives.relatives(snps)
    close = everybody.pairs.kinship >= relatives.DUPLICATE
    pairs = list(zip(everybody.pairs.first[close], everybody.pairs.second[close], strict=True))
    assert list(zip(hashed.first, hashed.second, strict=True)) == pairs == [(50, 61), (90, 99)]
    # parents and children are found as relatives, and only they
    assert len(everybody.pairs) == 2 + 2 * 12


def test_genotypes_come_back_from_packed_rows(subject: Subject) -> None:
    snps = relatives.common_snps(subject)
    slabs = np.concatenate(list(relatives.unpacked(snps.rows, snps.people)))
    np.testing.assert_array_equal(slabs[:, [3, 400]], snps.genotypes([3, 400]))


def test_mendelian_errors_are_those_of_all_nine_by_three_tables() -> None:
    """Against the definition: one allele from each parent."""
    cases = [(f, m, c) for f in range(3) for m in range(3) for c in range(3)]
    gives = {0: {0}, 1: {0, 1}, 2: {1}}
    expected = [c not in {a + b for a in gives[f] for b in gives[m]} for f, m, c in cases]
    columns = np.array(cases, np.int8)
    found = relatives._impossible(columns[:, 2], [columns[:, 0], columns[:, 1]])
    assert found.tolist() == expected
    alone = relatives._impossible(columns[:, 2], [columns[:, 0]])
    assert alone.tolist() == [c not in {a + b for a in gives[f] for b in (0, 1)} for f, m, c in cases]


def test_exact_hardy_weinberg_equals_the_slow_twin() -> None:
    def slow(hom: int, het: int, other: int) -> float:
        """Every table with these alleles, by factorials (Wigginton et al. 2005, equation 1)."""
        people, rare = hom + het + other, 2 * min(hom, other) + het
        from math import comb

        def chance(h: int) -> float:
            r = (rare - h) // 2
            return comb(people, h) * comb(people - h, r) * 2.0**h / comb(2 * people, rare)

        seen = chance(het)
        return sum(p for h in range(rare % 2, rare + 1, 2) if (p := chance(h)) <= seen * (1 + 1e-9))

    rng = np.random.default_rng(4)
    tables = rng.integers(0, 40, (200, 3))
    counts = np.column_stack([tables, np.zeros(200, np.int64)])
    assert association.hwe(counts) == pytest.approx([slow(*row) for row in tables.tolist()], rel=1e-9, abs=1e-300)
    # and of many people it is what the normal approximation says
    big = association.hwe(np.array([[40_300, 46_900, 12_800, 0]]))[0]
    p = (2 * 40_300 + 46_900) / 200_000
    chi2 = sum(
        (a - b) ** 2 / b for a, b in ((40_300, 1e5 * p * p), (46_900, 2e5 * p * (1 - p)), (12_800, 1e5 * (1 - p) ** 2))
    )
    assert big == pytest.approx(stats.chi2.sf(chi2, 1), rel=0.05)


def test_hardy_weinberg_across_groups_accuses_good_variants(clean: DatasetVerdict) -> None:
    """The same clean genotypes: none out of proportion within groups, hundreds across (Wahlund 1928)."""
    within = [v for name, v in clean.facts.items() if name.startswith("hwe") and association.ACROSS not in name]
    assert within == [0.0, 0.0, 0.0]
    assert clean.facts[f"hwe_below_chance {association.ACROSS}"] > 50


def test_differences_between_sets_equal_a_trend_test_by_strata() -> None:
    """One stratum: N−1 times the squared correlation of dosage with the set. Two: scores and variances add."""
    rng = np.random.default_rng(8)
    counts = rng.integers(1, 60, (50, 2, 2, 3))

    def parts(table: np.ndarray) -> tuple[float, float]:  # type: ignore[type-arg]
        dosage = np.repeat([0, 1, 2, 0, 1, 2], table.reshape(-1))
        side = np.repeat([1, 1, 1, 0, 0, 0], table.reshape(-1))
        score = (dosage * side).sum() - dosage.mean() * side.sum()
        n = len(dosage)
        return score, dosage.var() * n * side.sum() * (n - side.sum()) / (n * (n - 1))

    expected = []
    for row in counts:
        scores, variances = zip(*(parts(stratum) for stratum in row), strict=True)
        expected.append(stats.chi2.sf(sum(scores) ** 2 / sum(variances), 1))
    assert association.between(counts) == pytest.approx(expected, rel=1e-9)


def test_unlabelled_people_are_judged_after_components(tmp_path: Path) -> None:
    """Without ancestry labels a good cohort of three ancestries is still accepted, and a bad sample still refused."""
    found = verdict(CLEAN, tmp_path, given=Evidence())
    assert found.counts["refuse"] == 0
    assert found.verdict == "accept"


def test_withdrawn_people_have_no_verdict(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    store, release = CLEAN.write(tmp_path)
    store.withdraw([P[0], P[479]], datetime(2026, 6, 2, tzinfo=UTC))
    subject = of_release(store, release)
    assert len(subject.samples) == 478
    found = assess(subject, Evidence(measured=Measured({P[0]: {"mean_autosome_coverage": 5.0}})), Policy(), today=TODAY)
    assert P[0] not in {each.sample for each in found.samples}
    assert "laboratory_samples" in found.unknown
    (batch,) = subject.batches
    assert isinstance(batch, Batch)
    assert not batch.active[0]


@pytest.mark.parametrize("expected", [1e-3, 0.5, 4.0, 120.0])
def test_more_below_than_chance_is_what_poissons_law_says(expected: float) -> None:
    for below in range(int(2 * expected) + 5):
        more = below > 0 and stats.poisson.sf(below - 1, expected) < 0.01
        assert association.Tested("", 1_000, below, expected, 0.0).more_than_chance is bool(more)
