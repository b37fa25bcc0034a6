"""Genotypes for what callability costs: people miss what the description says, and files tell it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from federome.bench import batches, callability


def test_stretches_are_missed_together_and_the_rest_alone(tmp_path: Path) -> None:
    people, bases = 400, 100_000
    places = np.arange(0, bases, 50)
    lists = list(callability.missed(people, bases, places))
    assert all(np.array_equal(each, np.unique(each)) for each in lists)
    missed = np.array([len(each) for each in lists]) / people
    hard = missed > 0.5
    assert hard.mean() == callability.HARD
    assert missed[hard].mean() == pytest.approx(callability.HARD_MISSED, abs=0.02)
    assert missed[~hard].mean() == pytest.approx(callability.DERIVED.own, rel=0.2)
    assert 0 < callability.bytes_a_genome(tmp_path, people, 10_000, 200) < 5e6
    more = list(callability.missed(people, bases, places, callability.COUNTED))
    missed = np.array([len(each) for each in more]) / people
    assert missed[~hard].mean() == pytest.approx(callability.COUNTED.own, rel=0.2)


def test_a_gvcf_batch_leaves_files_alone(tmp_path: Path) -> None:
    rows = {row.name.split(": ")[-1]: row for row in batches.growing(tmp_path, 400, variants=200)}
    assert rows["bytes of existing files changed"].value == 0
    assert rows["size over one batch of everybody"].value > 0
    assert 5 < batches.bytes_a_site(tmp_path, 20, 3_000, 24_573) < 12
