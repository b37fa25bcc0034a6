"""What the store tells of people's genotypes: weighted sums for a block of variants, and who carries what of a gene."""

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


class Carried(NamedTuple):
    """Who carries which variant, one line a person and variant, each of shape (lines,)."""

    people: NDArray[np.int64]
    """The person's place in the view."""
    variants: NDArray[np.uint64]
    """The variant's token under no key, the same at every node: see :func:`federome.model.variant.token`."""
    copies: NDArray[np.int8]
    """1 or 2; a man's one copy on X counts 2."""
