"""The attack benchmark: its rows, at a look's size, fail where defences are on and succeed where they are off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from federome.bench import attacks
from federome.bench.attack_methods import auc
from federome.bench.report import Row


def test_cells_and_digits_hold_and_the_figure_is_drawn(tmp_path: Path) -> None:
    rows = [attacks._complement(2), attacks._residual(4), attacks._digits()]
    assert all(row.ok for row in rows), rows
    attacks.figure(rows, tmp_path / "attacks.png")
    assert (tmp_path / "attacks.png").stat().st_size > 5_000


def test_a_row_is_not_fine_unless_the_attack_works_undefended() -> None:
    assert attacks._attacked("x", 0.05, 0.95, "power", 0.1, 0.9).ok
    assert not attacks._attacked("x", 0.05, 0.5, "power", 0.1, 0.9).ok
    assert not attacks._attacked("x", 0.2, 0.95, "power", 0.1, 0.9).ok
    assert isinstance(attacks._attacked("x", 0.2, 0.95, "power", None, 0.9), Row)


def test_times_that_differ_are_told_apart() -> None:
    rng = np.random.default_rng(1)
    assert auc(rng.random(200) + 1, rng.random(200)) == 1.0
    assert auc(np.ones(5), np.ones(5)) == pytest.approx(0.5)
