"""Numerics of association that know no genome: least squares from cross-products and tail probabilities.

Everything here works on pooled sums, so it runs at the releaser in ``step`` and ``finish``, or on one node's people
in ``local``. Shapes: people x covariates, variants x covariates; K covariates, R variants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from federome.analysis.algorithm import Table
from federome.errors import Invalid

Floats = NDArray[np.float64]

COLLINEAR = 1e-6
"""A column whose share of variance not explained by the columns before it is below this cannot be told apart."""
LN10 = float(np.log(10.0))
POWERS = (40, 20, 0, -20, -40)
"""Moments of raw values are added at several powers of two, because nobody knows a column's unit beforehand."""
SATURATED = 2.0**35


def moments_at_powers(variables: Floats) -> tuple[Floats, Floats]:
    """Sums and sums of squares (powers · M,) of ``variables`` (n, M); a square that reaches the bound stays there."""
    with np.errstate(over="ignore"):
        scaled = [variables * 2.0**power for power in POWERS]
        total = np.concatenate([np.clip(values.sum(axis=0), -SATURATED, SATURATED) for values in scaled])
        square = np.concatenate([np.minimum((values**2).sum(axis=0), SATURATED) for values in scaled])
    return np.nan_to_num(total), square


def units(total: Table, names: tuple[str, ...], people: int, *, outcome: str = "") -> dict[str, Floats]:
    """``mean`` and ``scale`` (1, M) of the named variables from ``sum`` and ``square`` of :func:`moments_at_powers`.

    Of each variable the finest power is used at which no node reached the bound. ``Invalid`` if one is constant.
    """
    square = total.floats("square").reshape(len(POWERS), len(names))
    free = square < SATURATED
    if not free.any(axis=0).all():
        raise Invalid("a column holds values too large to compute with.", remedy="Use a larger unit.")
    finest, column = np.argmax(free, axis=0), np.arange(len(names))
    unit = 2.0 ** -np.array(POWERS)[finest]
    mean = total.floats("sum").reshape(square.shape)[finest, column] / people
    raw = square[finest, column] / people
    variance = raw - mean**2
    for name, spread, size in zip(names, variance, raw, strict=True):
        if spread <= 1e-10 * size:
            raise Invalid(
                f"{name!r} is the same for everybody who takes part.",
                where="phenotype" if name == outcome else "covariates",
                remedy="Leave it out, or subtract a constant if only its far digits differ.",
            )
    return {"mean": (unit * mean)[None], "scale": (unit * np.sqrt(variance))[None]}


def collinear(cross: Floats, total: Floats) -> int | None:
    """The first column explained by those before it, or ``None``. ``cross`` (K, K), ``total`` (K,) its scale.

    ``total`` holds each column's sum of squares before anything was projected out (site means included).
    """
    rest = cross.copy()
    for column in range(len(cross)):
        if rest[column, column] <= COLLINEAR * total[column]:
            return column
        rest -= np.outer(rest[:, column], rest[column]) / rest[column, column]
    return None


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """A linear null model from pooled cross-products of outcome and covariates.

    ``inverse`` (K, K) of the covariates' cross-products, ``effects`` (K,), ``rest`` the residual sum of squares.
    """

    inverse: Floats
    effects: Floats
    rest: float

    @classmethod
    def of(cls, cross: Floats) -> LeastSquares:
        """From cross-products (1 + K, 1 + K), the outcome first; the covariates must not be collinear."""
        inverse = inverted(cross[1:, 1:])
        effects = inverse @ cross[1:, 0]
        return cls(inverse, effects, float(cross[0, 0] - cross[0, 1:] @ effects))

    def partial(self, outcome: Floats, covariates: Floats, squares: Floats) -> tuple[Floats, Floats]:
        """Products of each variant's residual with the outcome and with itself, (R,) each (Frisch-Waugh-Lovell).

        From the variants' products with the outcome (R,), the covariates (R, K) and themselves (R,).
        """
        projected = covariates @ self.inverse
        return outcome - covariates @ self.effects, squares - np.einsum("rk,rk->r", projected, covariates)


def inverted(matrices: Floats) -> Floats:
    """Inverse of symmetric positive definite matrices (…, K, K), scaled to unit diagonal first; NaN where singular."""
    diagonal = np.einsum("...kk->...k", matrices)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where(diagonal > 0, 1 / np.sqrt(diagonal), np.nan)
    scaled = matrices * scale[..., :, None] * scale[..., None, :]
    unit = np.eye(matrices.shape[-1])
    finite = np.isfinite(scaled).all(axis=(-2, -1), keepdims=True)
    sound = finite & (np.linalg.det(np.where(finite, scaled, unit))[..., None, None] > 0)
    safe = np.where(sound, scaled, unit)
    inverse = np.linalg.inv(safe) * scale[..., :, None] * scale[..., None, :]
    inverse = (inverse + np.swapaxes(inverse, -1, -2)) / 2
    return np.where(sound, inverse, np.nan)


def packed(matrices: Floats) -> Floats:
    """Upper triangles (…, K·(K+1)/2) of symmetric matrices (…, K, K), row by row."""
    return np.asarray(matrices[(..., *np.triu_indices(matrices.shape[-1]))])


def unpacked(triangles: Floats, size: int) -> Floats:
    """Inverse of :func:`packed`."""
    out = np.empty((*triangles.shape[:-1], size, size))
    row, column = np.triu_indices(size)
    out[..., row, column] = triangles
    out[..., column, row] = triangles
    return out


def minus_log10_normal(z: Floats) -> Floats:
    """−log₁₀ of the two-sided normal p value, without underflow."""
    return np.asarray(-(special.log_ndtr(-np.abs(z)) + np.log(2.0)) / LN10)


def minus_log10_student(t: Floats, freedom: float) -> Floats:
    """−log₁₀ of the two-sided p value of Student's t, without underflow."""
    p = 2 * special.stdtr(freedom, -np.abs(t))
    with np.errstate(divide="ignore"):
        out = np.asarray(-np.log10(p))
    tiny = (p < 1e-290) & np.isfinite(t)
    out[tiny] = -_log_incomplete_beta(freedom / (freedom + t[tiny] ** 2), freedom / 2) / LN10
    return out


def _log_incomplete_beta(x: Floats, a: float) -> Floats:
    """ln I_x(a, ½) by its power series (DLMF 8.17.8), for the far tail where the value itself underflows; x > 0."""
    total, term, k = np.ones_like(x), np.ones_like(x), 0
    while term.size and term.max() > 1e-17 * total.min():
        term = term * x * (a + 0.5 + k) / (a + 1 + k)
        total += term
        k += 1
    return np.asarray(a * np.log(x) + 0.5 * np.log1p(-x) - np.log(a) - special.betaln(a, 0.5) + np.log(total))
