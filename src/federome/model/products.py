"""Weighted sums over people for a block of variants: what the store's kernels return and regressions are built from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Products(NamedTuple):
    """Each of shape (rows, K), for weights of shape (people, K)."""

    dosage: NDArray[np.float64]
    """Σ gᵢ·Wᵢ over people whose genotype is called."""
    missing: NDArray[np.float64]
    """Σ Wᵢ over people not called."""
    double: NDArray[np.float64]
    """Σ Wᵢ over people with two copies of the counted allele."""
