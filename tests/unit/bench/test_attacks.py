"""The attack benchmark: its rows, at a look's size, fail where defences are on and succeed where they are off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from federome.bench import attack_booted, attacks
from federome.bench.attack_methods import auc, differencing, expected, guesses, shown, wide_differencing
from federome.bench.attacks import OFF
from federome.bench.report import Row
from federome.client import Result
from federome.model.release import Policy
from federome.model.table import Table


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


def test_what_is_expected_of_a_small_advantage_is_what_guessing_comes_to() -> None:
    near = Policy(difference_min=10)
    guessed = guesses(wide_differencing, near, victims=300)
    assert expected(wide_differencing, near, victims=40) == pytest.approx(guessed, abs=3 * 0.5 / 300**0.5)
    assert expected(differencing, Policy(), victims=3) == 0.5 and expected(differencing, OFF, victims=3) == 1.0
    assert shown(0, 1) == 1.0 and shown(1, 1) == pytest.approx(0.75) and shown(10_000, 0) == pytest.approx(0.5)
    assert 0.5 < shown(128, 1) < shown(64, 1) < 0.55 < shown(6 * 128, 6)


def test_an_attacker_from_outside_asks_for_less_until_even_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also: frequencies that are withheld are not read, and a refusal leaves a guess."""
    left, seen = [7], []

    def asked(_connection: object, _algorithm: str, code: str, *, variants: list[str]) -> object:
        seen.append(len(variants))
        assert code == "budget_exhausted"
        if len(variants) > left[0]:
            return None
        left[0] -= len(variants)
        at = np.array([int(variant.split(":")[1]) for variant in variants])
        hidden = at == 10_000
        table = Table({"position": at, "frequency": np.where(hidden, 0.0, 0.25)}, {"frequency": hidden})
        return Result("run", {"frequencies": table}, {})

    monkeypatch.setattr(attack_booted, "asked", asked)
    told = attack_booted._frequencies(object(), range(100), 16)  # type: ignore[arg-type]
    assert told == dict.fromkeys(range(1, 7), 0.25)
    assert seen == [16, 4, 4, 1, 1, 1, 1]
    assert attack_booted._difference(7, 4, 2) == 1.0
    assert attack_booted._difference(7, 4, None) == attack_booted._difference(None, 4) == 0.5
