"""Covariates as questions name them, and who has a value in all of them.

A model uses complete people only, so a second one with a further covariate is about nearly the same people, which the
differencing audit refuses. ``complete`` is the way out: the first question names what the later ones will ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
import numpy as np

from federome.analysis.algorithm import View
from federome.analysis.regression import Floats
from federome.model.table import Mask

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
Optional = Annotated[str, msgspec.Meta(max_length=60)]
Complete = Annotated[tuple[Name, ...], msgspec.Meta(max_length=100)]
"""Further columns, written as covariates are: whoever lacks a value in one of them stands aside."""


def covariate(view: View, name: str) -> Floats:
    """A numeric column, or 1 and 0 for ``column=level`` of a text column; NaN where unknown, (people,)."""
    column, equals, level = name.partition("=")
    if not equals:
        return view.numbers(column)
    labels = view.labels(column)
    return np.where(labels == "", np.nan, labels == level)


def columns_of(names: Iterable[str]) -> tuple[str, ...]:
    """The columns that covariates are read from, each once."""
    return tuple(dict.fromkeys(name.partition("=")[0] for name in names))


def complete_in(view: View, names: Iterable[str]) -> Mask:
    """Who has a value in all of these, (people,)."""
    known = np.ones(view.people, np.bool_)
    for name in names:
        known &= np.isfinite(covariate(view, name))
    return known
