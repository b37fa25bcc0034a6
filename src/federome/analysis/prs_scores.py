"""What the algorithms about polygenic scores share: who has a score, groups of people, and where its bins lie.

Scores are columns that each node has computed for itself (``federome prs keep``); a column's name holds the digest of
the scoring file, so that all nodes mean the same score. No value of a person ever leaves.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import Algorithm, Table, View
from federome.analysis.cohort_count import Population, check_populations
from federome.analysis.regression import POWERS, SATURATED, Floats, moments_at_powers
from federome.errors import Invalid
from federome.model.table import Mask

Column = Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
Populations = Annotated[tuple[Population, ...], msgspec.Meta(max_length=200)]
EVERYBODY: Final = "everybody"
WIDEST: Final = 9.0
"""Stands for the open ends of the outermost bins, in standard deviations."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_FLOOR, CONSTANT = 1e-12, 1e-4
"""Least variance as a share of the mean square that is used as a first unit, and in that unit what is no spread."""


def check_groups(score: str, populations: tuple[str, ...]) -> None:
    """``Invalid`` for names that cannot be a column, and for populations that are listed twice."""
    if not _NAME.fullmatch(score):
        raise Invalid("a score is a column's name.", where="score", remedy="See federome prs keep.")
    check_populations(populations, wanted=bool(populations))


def group_names(populations: tuple[str, ...]) -> tuple[str, ...]:
    """The groups: the populations, or everybody."""
    return populations or (EVERYBODY,)


def groups_of(view: View, populations: tuple[str, ...], known: Mask) -> NDArray[np.int64]:
    """Each person's group, −1 for those of none; groups do not overlap, so none follows from the others."""
    if not populations:
        return np.where(known, 0, -1)
    labels = view.labels("population")
    out = np.full(view.people, -1, np.int64)
    for at, name in enumerate(populations):
        out[(labels == name) & known] = at
    return out


def by_group(group: NDArray[np.int64], values: Floats, groups: int) -> Floats:
    """Sums of values by group, in a fixed order of addition: (groups,)."""
    inside = group >= 0
    return np.bincount(group[inside], weights=values[inside], minlength=groups).astype(np.float64)


def moments_of(group: NDArray[np.int64], values: Floats, groups: int) -> tuple[Floats, Floats]:
    """Sums and sums of squares (groups, powers · M) of ``values`` (n, M): nobody knows a score's unit beforehand."""
    found = [moments_at_powers(values[group == at]) for at in range(groups)]
    return np.stack([total for total, _ in found]), np.stack([square for _, square in found])


def located(sums: Floats, squares: Floats, people: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean and nearly the spread (groups, M) from pooled :func:`moments_of`; a spread of 0 where values are too large.

    The spread loses the digits that it lies below the mean: who needs it adds up squared distances in a second round.
    """
    size = len(people)
    sums, squares = (each.reshape(size, len(POWERS), -1) for each in (sums, squares))
    free = squares < SATURATED
    finest = np.argmax(free, axis=1)[:, None]
    unit = 2.0 ** -np.array(POWERS)[finest[:, 0]]
    mean, raw = (np.take_along_axis(each, finest, axis=1)[:, 0] / people[:, None] for each in (sums, squares))
    spread = np.sqrt(np.maximum(raw - mean**2, _FLOOR * raw))
    return unit * mean, np.where(free.any(axis=1), unit * spread, 0.0)


def edges(bins: int, span: float) -> Floats:
    """Bounds of the bins in standard deviations, open ends included: (bins + 1,)."""
    return np.concatenate([[-WIDEST], np.linspace(-span, span, bins - 1), [WIDEST]])


def bin_of(z: Floats, bounds: Floats) -> NDArray[np.int64]:
    """Bin of each value; what lies beyond the open ends counts in them."""
    return np.clip(np.searchsorted(bounds, z, side="right") - 1, 0, len(bounds) - 2)


def hidden_in(total: Table, column: str) -> Mask:
    """Where a gated column is withheld."""
    return total.withheld.get(column, np.zeros(total[column].shape, np.bool_))


def placed(total: Table, column: str, rows: int) -> tuple[NDArray[np.int64] | Floats, Mask]:
    """A column of a gated round over all declared rows, zero and hidden where rows are gone."""
    values = total[column]
    out = np.zeros((rows, *values.shape[1:]), values.dtype)
    hidden = np.ones(out.shape, np.bool_)
    at = total.ints("row")
    hidden[at] = hidden_in(total, column)
    out[at] = np.where(hidden[at], 0, values)
    return out, hidden


def modules() -> tuple[str, ...]:
    """For the content digest of algorithms that use this module."""
    return (__name__, "federome.analysis.cohort_count", "federome.analysis.regression")


def require(algorithm: Algorithm, people: int, parameters: int) -> None:
    """``Invalid`` where a model has more parameters than a third of its people."""
    if parameters * 3 > people:
        raise Invalid(
            f"{algorithm.name} would estimate {parameters} numbers from {people} people.",
            remedy="Use fewer covariates or components, or more people.",
        )
