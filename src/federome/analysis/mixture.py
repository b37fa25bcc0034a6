"""Tail of a weighted sum of squared normal numbers, Σ λᵢ·Zᵢ²: what variance-component tests are measured by.

The tail is an integral of exp(K(s) − s·q) / s along a line between the pole at 0 and the branch point at 1/(2·λmax),
K the cumulant generating function. The line is bent into the path of steepest descent through the saddle point, along
which the integrand is a bell, so that the trapezoid rule gives the tail to many digits however small it is (Helstrom
1983, SIAM J. Sci. Stat. Comput. 4:353). Davies' method inverts along the imaginary axis and loses the far tail.
"""

from __future__ import annotations

import numpy as np

from federome.analysis.regression import LN10, Floats

NEGLIGIBLE = 1e-12
"""Weights below this share of the largest are rounding."""
_NODES, _REACH, _DROP = 500, 1e4, 50.0


def minus_log10_tail(q: float, weights: Floats) -> float:
    """−log₁₀ P(Σ λᵢ·Zᵢ² > q); NaN where no weight is above zero."""
    largest = float(np.max(weights, initial=0.0))
    if not largest > 0 or not np.isfinite(q):
        return float("nan")
    if q <= 0:
        return 0.0
    kept = weights[weights > NEGLIGIBLE * largest] / largest
    return _minus_log10_tail(q / largest, kept)


def _minus_log10_tail(q: float, weights: Floats) -> float:
    """The same with a largest weight of 1, so that the branch point is at one half."""
    from scipy import optimize  # half a second to load, and most processes never come here

    def exponent(s: complex | Floats) -> Floats:
        return np.asarray(-0.5 * np.log(1 - 2 * np.multiply.outer(s, weights)).sum(axis=-1) - np.multiply(s, q))

    def slope(s: float) -> float:
        return float((weights / (1 - 2 * s * weights)).sum() - q - 1 / s)

    edge = 1e-14
    while slope(0.5 * (1 - edge)) < 0:  # far in the tail the saddle point lies close to the branch point
        edge *= 1e-1
        if edge < 1e-300:  # pragma: no cover - beyond what a double can hold
            return float("inf")
    saddle = float(optimize.brentq(slope, 1e-300, 0.5 * (1 - edge), xtol=1e-300, rtol=1e-14))
    scaled = weights / (1 - 2 * saddle * weights)
    second = float((2 * scaled**2).sum() + 1 / saddle**2)
    third = float((8 * scaled**3).sum() - 2 / saddle**3)
    width = 1 / np.sqrt(second)
    bend = max(third / (6 * second) * width, 0.05)
    height = float(exponent(np.float64(saddle))) - np.log(saddle)

    def along(t: Floats) -> Floats:
        """The integrand over its value at the saddle point, its step along the path included."""
        s = saddle + width * (1j * t + bend * t**2)
        grown = np.exp(exponent(s) - np.log(s) - height)
        return np.asarray((grown * (1j + 2 * bend * t)).imag)

    reach = 1.0
    while reach < _REACH and abs(along(np.array([reach]))[0]) > np.exp(-_DROP):
        reach *= 1.25
    t = np.linspace(0, reach, _NODES)
    values = along(t)
    total = float((values.sum() - 0.5 * (values[0] + values[-1])) * (t[1] - t[0]))
    return max(0.0, float(-(height + np.log(total * width / np.pi)) / LN10))
