"""Tails of weighted sums of squared normals, against chi-square, published values and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from federome.analysis.mixture import minus_log10_tail


@pytest.mark.parametrize("freedom", [1, 2, 7, 60])
@pytest.mark.parametrize("level", [0.9, 0.5, 1e-3, 1e-8, 1e-30, 1e-200])
def test_equal_weights_are_chi_square(freedom: int, level: float) -> None:
    q = stats.chi2.isf(level, freedom)
    assert minus_log10_tail(3 * q, np.full(freedom, 3.0)) == pytest.approx(-np.log10(level), rel=1e-9, abs=2e-6)


@pytest.mark.parametrize(
    ("weights", "q", "tail"),
    [  # Imhof 1961, table 1: Q1 and Q2
        ((0.6, 0.3, 0.1), 0.1, 0.9458),
        ((0.6, 0.3, 0.1), 0.7, 0.5064),
        ((0.6, 0.3, 0.1), 2.0, 0.1240),
        ((0.6, 0.6, 0.3, 0.3, 0.1, 0.1), 0.2, 0.9936),
        ((0.6, 0.6, 0.3, 0.3, 0.1, 0.1), 2.0, 0.3998),
        ((0.6, 0.6, 0.3, 0.3, 0.1, 0.1), 6.0, 0.0161),
    ],
)
def test_published_values(weights: tuple[float, ...], q: float, tail: float) -> None:
    assert 10 ** -minus_log10_tail(q, np.array(weights)) == pytest.approx(tail, abs=6e-5)


def test_unequal_weights_agree_with_simulation() -> None:
    rng = np.random.default_rng(3)
    weights = np.array([5.0, 1.0, 0.3, 0.3, 0.01, 1e-4])
    drawn = rng.standard_normal((400_000, len(weights))) ** 2 @ weights
    for share in (0.05, 0.5, 0.9, 0.99, 0.999):
        tail = 10 ** -minus_log10_tail(float(np.quantile(drawn, share)), weights)
        assert tail == pytest.approx(1 - share, abs=5 * np.sqrt(share * (1 - share) / len(drawn)))


def test_the_far_tail_lies_above_that_of_the_largest_weight_alone() -> None:
    weights = np.array([1.0, 1e-3, *[1e-5] * 50])
    alone = -stats.chi2.logsf(900, 1) / np.log(10)
    assert alone - 0.01 < minus_log10_tail(900.0, weights) < alone


def test_nothing_to_measure_by() -> None:
    assert np.isnan(minus_log10_tail(1.0, np.zeros(3))) and np.isnan(minus_log10_tail(1.0, np.zeros(0)))
    assert minus_log10_tail(0.0, np.ones(2)) == 0
