"""Deterministic sensitivity: one or two parameters moved over their range, whole scenarios, and the budget's view."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federome.economics.evaluate import totals, yearly
from federome.economics.incremental import Compared, compare_table
from federome.economics.model import Model
from federome.errors import Invalid

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bar:
    """One bar of a tornado: incremental net benefit at the two ends of a parameter's range."""

    parameter: str
    says: str
    low: float
    high: float
    at_low: float
    at_high: float

    @property
    def width(self) -> float:
        """How far the result moves."""
        return abs(self.at_high - self.at_low)


def one_way(model: Model, parameter: str, values: Sequence[float]) -> tuple[Array, Array]:
    """Costs and effects with one parameter at each of these values, each values x strategies."""
    found = totals(model, {_constant(model, parameter): np.asarray(values, np.float64)})
    return found.of(model.cost.name), found.of(model.effect.name)


def two_way(model: Model, one: tuple[str, Sequence[float]], two: tuple[str, Sequence[float]]) -> tuple[Array, Array]:
    """Costs and effects on a grid of two parameters, each values of one x values of two x strategies."""
    if one[0] == two[0]:
        raise Invalid("two different parameters are needed.", where=one[0][:40])
    first, second = np.meshgrid(np.asarray(one[1], np.float64), np.asarray(two[1], np.float64), indexing="ij")
    moved = {_constant(model, one[0]): first.ravel(), _constant(model, two[0]): second.ravel()}
    found = totals(model, moved)
    shape = (*first.shape, len(model.strategies))
    return found.of(model.cost.name).reshape(shape), found.of(model.effect.name).reshape(shape)


def tornado(model: Model, strategy: str, against: str, *, threshold: float) -> tuple[Bar, ...]:
    """The incremental net benefit over every parameter's range, widest bar first."""
    names = [each.name for each in model.strategies]
    if strategy not in names or against not in names or strategy == against:
        raise Invalid("name two different strategies of the model.", remedy=f"Known: {', '.join(names)}.")
    ranged = {name: each.interval() for name, each in model.parameters.items() if each.value is not None}
    ends = {name: interval for name, interval in ranged.items() if interval is not None}
    if not ends:
        return ()
    moved = {name: np.full(2 * len(ends), model.parameters[name].value, np.float64) for name in ends}
    for at, (name, interval) in enumerate(ends.items()):
        moved[name][2 * at : 2 * at + 2] = interval
    found = totals(model, moved)
    net = threshold * found.of(model.effect.name) - found.of(model.cost.name)
    more = (net[:, names.index(strategy)] - net[:, names.index(against)]).reshape(-1, 2)
    bars = [
        Bar(name, model.parameters[name].says, low, high, float(more[at, 0]), float(more[at, 1]))
        for at, (name, (low, high)) in enumerate(ends.items())
    ]
    return tuple(sorted(bars, key=lambda bar: (-bar.width, bar.parameter)))


def scenarios(model: Model) -> dict[str, tuple[Compared, ...]]:
    """The comparison under each scenario the file declares, and as it stands (``base``)."""
    found = {"base": _compared(model)}
    for name, sets in model.scenarios.items():
        changed = tuple(dataclasses.replace(each, sets={**sets, **each.sets}) for each in model.strategies)
        found[name] = _compared(dataclasses.replace(model, strategies=changed))
    return found


def _compared(model: Model) -> tuple[Compared, ...]:
    return compare_table(totals(model).table(), model.cost.name, model.effect.name)


@dataclass(frozen=True)
class Budget:
    """Spending by calendar year, not discounted: as things are, as planned, and the difference."""

    now: Array
    planned: Array

    @property
    def net(self) -> Array:
        """What the plan adds to each year's spending."""
        return self.planned - self.now


def budget_impact(
    model: Model,
    people: Sequence[float],
    *,
    now: Mapping[str, Sequence[float]],
    planned: Mapping[str, Sequence[float]],
) -> Budget:
    """Spending over ``len(people)`` years when that many enter each year and are split over strategies.

    ``now`` and ``planned`` give each strategy's share of those who enter, by year; shares of a year sum to one.
    Survivors of earlier entries go on to cost (Sullivan et al. 2014, ISPOR budget impact guidance).
    """
    entering = np.asarray(people, np.float64)
    if not entering.size or (entering < 0).any() or not np.isfinite(entering).all():
        raise Invalid("people entering a year are counted from 0.", where="people")
    spent = yearly(model, model.cost.name)
    names = [each.name for each in model.strategies]
    return Budget(*(_spending(spent, entering, _shares(given, names, len(entering))) for given in (now, planned)))


def _shares(given: Mapping[str, Sequence[float]], names: Sequence[str], years: int) -> Array:
    """Shares, strategies x years."""
    if unknown := [each for each in given if each not in names]:
        raise Invalid(f"the model has no strategy {unknown[0][:40]!r}.", remedy=f"Known: {', '.join(names)}.")
    if any(len(each) != years for each in given.values()):
        raise Invalid("each strategy's shares are given for every year.", where="shares")
    found = np.array([given.get(name, [0.0] * years) for name in names], np.float64)
    if (found < 0).any() or not np.allclose(found.sum(axis=0), 1, atol=1e-9):
        raise Invalid("the shares of a year are not negative and sum to one.", where="shares")
    return found


def _spending(spent: Array, entering: Array, shares: Array) -> Array:
    """Each year's entries cost what their strategy costs in their first, second, … year."""
    years = len(entering)
    total = np.zeros(years)
    for year in range(years):
        per_person = shares[:, year] @ spent[:, : years - year]
        total[year : year + len(per_person)] += entering[year] * per_person
    return total


def _constant(model: Model, name: str) -> str:
    parameter = model.parameters.get(name)
    if parameter is None or parameter.value is None:
        raise Invalid(f"{name[:40]!r} is no constant of the model.", where=model.file, remedy="Formulas follow others.")
    return name
