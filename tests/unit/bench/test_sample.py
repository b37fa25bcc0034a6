"""Genotypes of the store's benchmarks: frequencies as their description states, and files that say what was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from federome.bench import sample
from federome.store import kernels


@pytest.mark.parametrize(
    ("people", "frequent", "singletons"), [(10_000, 0.080, 0.62), (100_000, 0.022, 0.47), (500_000, 0.013, 0.34)]
)
def test_the_spectrum_is_the_one_described(people: int, frequent: float, singletons: float) -> None:
    counts = sample.minor_counts(np.random.default_rng(1), people, 200_000, "mixed")
    assert counts.min() == 1 and counts.max() <= people
    assert (counts >= sample.FREQUENT * 2 * people - 1).mean() == pytest.approx(frequent, rel=0.1)
    assert (counts == 1).mean() == pytest.approx(singletons, abs=0.02)


@pytest.mark.parametrize("kind", ["mixed", "common", "frequent", "rare", "common, missing", 3, 90])
def test_files_hold_what_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: sample.Kind) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    people, variants = 1_000, 120
    made = sample.make(people, variants, kind)
    written = made.pgen.stat().st_mtime_ns
    with sample.make(people, variants, kind).open() as file:
        rows = kernels.decode(file, range(variants))
    assert made.pgen.stat().st_mtime_ns == written  # from the cache
    for row, (carriers, codes, dense) in zip(rows, sample.draw(people, variants, kind, seed=1), strict=True):
        twin = np.zeros(people, np.int8)
        twin[carriers] = codes
        np.testing.assert_array_equal(row, twin if dense is None else dense)
        assert row.any() and (row.min() < 0) == (kind == "common, missing")
    if isinstance(kind, int):
        carriers_each = (rows > 0).sum(axis=1)
        assert carriers_each.max() <= kind and carriers_each.mean() > 0.95 * kind
    lines = made.prefix.with_suffix(".pvar").read_text().splitlines()
    assert len(lines) == 1 + variants and lines[1] == "1\t10000\tv0\tA\tC"
    assert len(made.prefix.with_suffix(".psam").read_text().splitlines()) == 1 + people
