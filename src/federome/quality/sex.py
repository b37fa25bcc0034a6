"""Is somebody's genetic sex the declared one? From heterozygous calls on X and calls on Y.

Two copies of X are heterozygous as often as anybody's, one copy never is: F = 1 − observed / expected is near 0 or near
1 (PLINK's cuts at 0.2 and 0.8 are used). The store keeps no heterozygous call of a declared man on X outside the
pseudo-autosomal regions (they became "not called") and no call of a declared woman on Y; so a man's missing calls
beyond those of other men count as heterozygous, and Y speaks for declared men only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from federome.quality.census import HET, MISSING, Census
from federome.quality.subject import ON_X, ON_Y

Genetic = Literal["female", "male", "ambiguous", "unknown"]
FEMALE_BELOW, MALE_ABOVE = 0.2, 0.8
LEAST_EXPECTED: Final = 70.0
"""Heterozygous calls expected of two copies, from which X says anything."""
NOISE: Final = 5.0
"""Standard deviations of counting that F of two copies may lie above zero, where few variants make 0.2 too strict."""
LEAST_ON_Y: Final = 10
Y_CALLED, Y_ABSENT = 0.5, 0.2
_ENOUGH: Final = 10
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SexCheck:
    """One person: ``f`` of X and the share of variants called on Y, None where nothing can be said."""

    declared: Genetic
    genetic: Genetic
    f: float | None
    y_called: float | None

    @property
    def mismatch(self) -> bool:
        """Whether the genotypes say the other sex."""
        return {self.declared, self.genetic} == {"female", "male"}


def check(census: Census, sexes: NDArray[np.int8]) -> list[SexCheck]:
    """Everybody of a batch; sexes int8 (1 male, 0 female, -1 unknown)."""
    f = _f_of_x(census, sexes)
    on_y = int(census.variants[ON_Y])
    y = 1 - census.calls[ON_Y, MISSING] / on_y if on_y >= LEAST_ON_Y else np.full(len(sexes), np.nan)
    below = max(FEMALE_BELOW, NOISE / max(census.x_expected, 1.0) ** 0.5)
    return [_one(*each, below) for each in zip(sexes.tolist(), f.tolist(), y.tolist(), strict=True)]


def _f_of_x(census: Census, sexes: NDArray[np.int8]) -> Floats:
    """1 − observed / expected heterozygous calls, expected being what declared women have in the middle."""
    on_x = int(census.variants[ON_X])
    if census.x_expected < LEAST_EXPECTED:
        return np.full(len(sexes), np.nan)
    men, women = sexes == 1, sexes == 0
    missing = census.calls[ON_X, MISSING] / on_x
    usual = np.median(missing[men]) if men.sum() >= _ENOUGH else np.nan_to_num(1 - census.call_rate())
    hidden = np.where(men, np.maximum(missing - usual, 0) * on_x, 0)
    ratio = (census.calls[ON_X, HET] + hidden) / (census.x_expected * np.maximum(1 - missing + hidden / on_x, 0.05))
    middle = float(np.median(ratio[women])) if women.sum() >= _ENOUGH else 1.0
    return np.asarray(1 - ratio / (middle if middle > 0.5 else 1.0), np.float64)


def _one(sex: int, f: float, y: float, below: float) -> SexCheck:
    declared: Genetic = "male" if sex == 1 else "female" if sex == 0 else "unknown"
    x = None if np.isnan(f) else f
    called = None if np.isnan(y) else y
    genetic: Genetic = "unknown"
    if x is not None:
        genetic = "female" if x < below else "male" if x > MALE_ABOVE else "ambiguous"
        if called is not None and declared == "male":  # calls of others on Y are not kept
            if genetic == "male" and called < Y_ABSENT:
                genetic = "ambiguous"
            if genetic == "female" and called > Y_CALLED:
                genetic = "ambiguous"
    elif called is not None and declared == "male" and called < Y_ABSENT:
        genetic = "ambiguous"
    return SexCheck(declared, genetic, x, called)
