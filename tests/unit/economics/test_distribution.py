"""Laws of parameters against scipy's, whose frozen laws take a hundred times as long and half a second to load."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from federome.economics.distribution import Distribution, Law

SHARES = np.array([0.0, 1e-6, 0.025, 0.3, 0.5, 0.9, 0.975, 1 - 1e-9, 1.0])


@pytest.mark.parametrize(
    ("law", "parameters", "oracle"),
    [
        ("beta", (2.0, 5.0), stats.beta(2, 5)),
        ("beta", (0.5, 1000.5), stats.beta(0.5, 1000.5)),
        ("gamma", (2.5, 30.0), stats.gamma(2.5, scale=30)),
        ("lognormal", (0.3, 0.8), stats.lognorm(0.8, scale=math.exp(0.3))),
        ("normal", (3.0, 2.0), stats.norm(3, 2)),
        ("uniform", (1.0, 4.0), stats.uniform(1, 3)),
        ("triangular", (1.0, 2.0, 5.0), stats.triang(0.25, 1, 4)),
        ("triangular", (1.0, 1.0, 5.0), stats.triang(0, 1, 4)),
        ("triangular", (1.0, 5.0, 5.0), stats.triang(1, 1, 4)),
    ],
)
def test_means_and_quantiles_are_those_of_scipy(law: Law, parameters: tuple[float, ...], oracle: Any) -> None:
    one = Distribution(law, parameters)
    assert one.mean == pytest.approx(oracle.mean(), rel=1e-13)
    np.testing.assert_allclose(one.quantile(SHARES), oracle.ppf(SHARES), rtol=1e-13)
    assert float(one.quantile(0.3)) == pytest.approx(oracle.ppf(0.3), rel=1e-13)
