"""Declared uncertainty: what a parameter may be, by which law, checked when the file is read and drawn in bulk.

A law is written either by its own parameters or by mean and sd; moments that no such law has are refused. Every
parameter has a stream of its own, derived from the seed and its name, so that adding one does not change the others.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from federome.economics.document import Section

Array = NDArray[np.float64]
Law = Literal["beta", "gamma", "lognormal", "normal", "uniform", "triangular"]


@dataclass(frozen=True)
class Distribution:
    """One law. ``parameters``: beta (a, b); gamma (shape, scale); lognormal (meanlog, sdlog); normal (mean, sd);

    uniform (low, high); triangular (low, mode, high).
    """

    law: Law
    parameters: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The law's mean."""
        match self.law, self.parameters:
            case "beta", (a, b):
                return a / (a + b)
            case "gamma", (shape, scale):
                return shape * scale
            case "lognormal", (mean, sd):
                return math.exp(mean + sd * sd / 2)
            case "normal", (mean, _):
                return mean
            case _, parameters:
                return sum(parameters) / len(parameters)

    def quantile(self, share: float | Array) -> Array:
        """Values below which this share lies."""
        share = np.asarray(share, np.float64)
        match self.law, self.parameters:
            case "beta", (a, b):
                return np.asarray(special.betaincinv(a, b, share))
            case "gamma", (shape, scale):
                return np.asarray(special.gammaincinv(shape, share) * scale)
            case "lognormal", (mean, sd):
                return np.asarray(np.exp(mean + sd * special.ndtri(share)))
            case "normal", (mean, sd):
                return np.asarray(mean + sd * special.ndtri(share))
            case "uniform", (low, high):
                return np.asarray(low + (high - low) * share)
            case _, (low, mode, high):
                rising = low + np.sqrt((mode - low) * (high - low) * share)
                falling = high - np.sqrt((high - mode) * (high - low) * (1 - share))
                return np.where(share * (high - low) < mode - low, rising, falling)
            case _:  # pragma: no cover - the reader makes no other
                raise AssertionError(self)

    def draw(self, generator: np.random.Generator, size: int) -> Array:
        """``size`` independent values."""
        match self.law, self.parameters:
            case "beta", (a, b):
                return generator.beta(a, b, size)
            case "gamma", (shape, scale):
                return generator.gamma(shape, scale, size)
            case "lognormal", (mean, sd):
                return generator.lognormal(mean, sd, size)
            case "normal", (mean, sd):
                return generator.normal(mean, sd, size)
            case "uniform", (low, high):
                return generator.uniform(low, high, size)
            case _, (low, mode, high):
                return generator.triangular(low, mode, high, size)
            case _:  # pragma: no cover - the reader makes no other
                raise AssertionError(self)

    def scaled(self, factor: float) -> Distribution:
        """The law of ``factor`` times the value (for amounts in another currency); not for beta."""
        match self.law, self.parameters:
            case "gamma", (shape, scale):
                return Distribution("gamma", (shape, scale * factor))
            case "lognormal", (mean, sd):
                return Distribution("lognormal", (mean + float(np.log(factor)), sd))
            case "beta", _:
                raise AssertionError("an amount has no beta law")
            case law, parameters:
                return Distribution(law, tuple(each * factor for each in parameters))

    def __str__(self) -> str:
        return f"{self.law}({', '.join(f'{each:g}' for each in self.parameters)})"


def from_counts(successes: int, trials: int) -> Distribution:
    """What is known of a share after ``successes`` of ``trials``: Jeffreys' posterior, Beta(x + ½, n − x + ½)."""
    return Distribution("beta", (successes + 0.5, trials - successes + 0.5))


def read(section: Section) -> Distribution:
    """A distribution as declared: ``{beta = {a = 2, b = 5}}``. ``Invalid`` for impossible moments."""
    names = list(section)
    if len(names) != 1:
        section.place().refuse("a distribution has exactly one law.", f"Known: {', '.join(_READERS)}.")
    law = section.place(names[0])
    if names[0] not in _READERS:
        law.refuse(f"the law {names[0][:30]!r} is not known.", f"Known: {', '.join(_READERS)}.")
    given = section.section(names[0])
    found = _READERS[names[0]](given)
    given.done()
    return found


def stream(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one parameter."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _need(section: Section, good: bool, told: str) -> None:
    if not good:
        section.place().refuse(f"no {section.path[-1]} law has these numbers: {told}.")


def _beta(given: Section) -> Distribution:
    if "mean" not in given:
        a, b = given.number("a"), given.number("b")
        _need(given, a > 0 and b > 0, "a and b must be above 0")
        return Distribution("beta", (a, b))
    mean, sd = given.number("mean"), given.number("sd")
    _need(given, 0 < mean < 1, "the mean must lie between 0 and 1")
    _need(given, 0 < sd * sd < mean * (1 - mean), "sd² must be above 0 and below mean × (1 − mean)")
    size = mean * (1 - mean) / (sd * sd) - 1
    return Distribution("beta", (mean * size, (1 - mean) * size))


def _gamma(given: Section) -> Distribution:
    if "mean" not in given:
        shape = given.number("shape")
        scale = given.number("scale") if "scale" in given else given.number("rate")
        _need(given, shape > 0 and scale > 0, "shape and scale (or rate) must be above 0")
        return Distribution("gamma", (shape, scale if "scale" in given else 1 / scale))
    mean, sd = given.number("mean"), given.number("sd")
    _need(given, mean > 0 and sd > 0, "mean and sd must be above 0")
    return Distribution("gamma", (mean * mean / (sd * sd), sd * sd / mean))


def _lognormal(given: Section) -> Distribution:
    if "meanlog" in given:
        meanlog, sdlog = given.number("meanlog"), given.number("sdlog")
    elif "median" in given:
        median, sdlog = given.number("median"), given.number("sdlog")
        _need(given, median > 0, "the median must be above 0")
        meanlog = float(np.log(median))
    elif "low" in given:
        low, high = given.number("low"), given.number("high")
        _need(given, 0 < low < high, "the 95 % interval must have 0 < low < high")
        meanlog = float(np.log(low * high) / 2)
        sdlog = float(np.log(high / low) / (2 * special.ndtri(0.975)))
    else:
        mean, sd = given.number("mean"), given.number("sd")
        _need(given, mean > 0 and sd > 0, "mean and sd must be above 0")
        sdlog = float(np.sqrt(np.log1p((sd / mean) ** 2)))
        meanlog = float(np.log(mean)) - sdlog**2 / 2
    _need(given, sdlog > 0, "sdlog must be above 0")
    return Distribution("lognormal", (meanlog, sdlog))


def _normal(given: Section) -> Distribution:
    mean, sd = given.number("mean"), given.number("sd")
    _need(given, sd > 0, "sd must be above 0")
    return Distribution("normal", (mean, sd))


def _uniform(given: Section) -> Distribution:
    low, high = given.number("low"), given.number("high")
    _need(given, low < high, "low must be below high")
    return Distribution("uniform", (low, high))


def _triangular(given: Section) -> Distribution:
    low, mode, high = given.number("low"), given.number("mode"), given.number("high")
    _need(given, low <= mode <= high and low < high, "low ≤ mode ≤ high must hold")
    return Distribution("triangular", (low, mode, high))


_READERS: Final[Mapping[str, Callable[[Section], Distribution]]] = {
    "beta": _beta,
    "gamma": _gamma,
    "lognormal": _lognormal,
    "normal": _normal,
    "uniform": _uniform,
    "triangular": _triangular,
}
