"""What an economic model is: parameters with their sources, strategies, outcomes, and a cohort or a tree.

Frozen values made by ``read.py`` from a file and computed by ``evaluate.py``. A model is valid once it exists: names
are defined, formulas do not go round in circles, and rates, probabilities and amounts are where they belong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from federome.economics.distribution import Distribution
from federome.economics.document import Place
from federome.economics.formula import Formula, Kind, Lookup

Array = NDArray[np.float64]
Counting = Literal["simpson", "half", "none", "start", "end"]
"""How rows of the trace are weighted: Simpson's 1/3 rule, half a cycle at both ends, all rows alike, or all but the
last (``start``) or the first (``end``)."""
Role = Literal["cost", "effect"]


@dataclass(frozen=True)
class Result:
    """The released count that a share comes from: a row of a table of an approved algorithm's run.

    ``where`` gives the value that other columns have in the row; ``count`` is the column counted, ``of`` that of all.
    Where both are one and the same, everybody is counted by a run of its own.
    """

    algorithm: str
    table: str
    count: str
    of: str
    where: Mapping[str, str]


@dataclass(frozen=True)
class Parameter:
    """A constant (``value``) with what is known of it, or a ``formula`` of others."""

    name: str
    place: Place
    kind: Kind
    says: str
    value: float | None = None
    formula: Formula | None = None
    distribution: Distribution | None = None
    low: float | None = None
    high: float | None = None
    money: bool = False
    source: str = ""
    verified: bool = False
    result: Result | None = None
    provenance: str = ""

    def interval(self) -> tuple[float, float] | None:
        """The range for one-way analysis: as declared, else the law's middle 95 %."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        if self.distribution is None:
            return None
        low, high = self.distribution.quantile(np.array([0.025, 0.975]))
        return float(low), float(high)


@dataclass(frozen=True)
class Discount:
    """Yearly rates by the year from which they hold, ascending from 0: ``((0, 0.04), (40, 0.03))``."""

    steps: tuple[tuple[float, float], ...] = ((0.0, 0.0),)

    def factor(self, years: Array) -> Array:
        """What one unit ``years`` from now is worth today."""
        growth = np.zeros_like(years, dtype=np.float64)
        for at, (begin, rate) in enumerate(self.steps):
            end = self.steps[at + 1][0] if at + 1 < len(self.steps) else np.inf
            growth = growth + np.log1p(rate) * np.clip(years - begin, 0, end - begin)
        if len(self.steps) == 1:  # the textbook's own expression, to its last digit
            return np.asarray((1 + self.steps[0][1]) ** -years, np.float64)
        return np.exp(-growth)

    def __str__(self) -> str:
        many = len(self.steps) > 1
        return ", ".join(f"{rate:.4g} a year" + (f" from year {begin:g}" if many else "") for begin, rate in self.steps)


@dataclass(frozen=True)
class Outcome:
    """Something that is summed up per person. ``states`` gives it per cycle and state, ``once`` at the start."""

    name: str
    place: Place
    role: Role
    unit: str
    discount: Discount
    states: Mapping[str, Formula] = field(default_factory=dict)
    once: Formula | None = None


@dataclass(frozen=True)
class Strategy:
    """One way to act: a title and the parameters it sets. ``root`` is where it enters a tree."""

    name: str
    place: Place
    title: str
    sets: Mapping[str, Formula]
    root: str = ""


@dataclass(frozen=True)
class Cohort:
    """A state-transition model: moves[from][to] per cycle. ``tunnels`` tells time spent in a state, up to a limit."""

    cycles: int
    cycle_years: float
    counting: Counting
    states: tuple[str, ...]
    tunnels: Mapping[str, int]
    start: Mapping[str, Formula]
    moves: Mapping[str, Mapping[str, Formula]]


@dataclass(frozen=True)
class Node:
    """A point of a decision tree: what is added to outcomes there, and what may follow with which probability."""

    name: str
    place: Place
    years: float
    adds: Mapping[str, Formula]
    follows: Mapping[str, Formula]


@dataclass(frozen=True)
class Tree:
    """A decision tree: nodes by name, without circles."""

    root: str
    nodes: Mapping[str, Node]


@dataclass(frozen=True)
class Model:
    """A whole model. ``choices`` are the names that every strategy sets and that are no parameters."""

    id: str
    file: str
    title: str
    question: str
    population: str
    perspective: str
    horizon: str
    currency: str
    price_year: int
    sources: Mapping[str, str]
    parameters: Mapping[str, Parameter]
    tables: Mapping[str, Lookup]
    strategies: tuple[Strategy, ...]
    outcomes: tuple[Outcome, ...]
    body: Cohort | Tree
    scenarios: Mapping[str, Mapping[str, Formula]]
    countries: Mapping[str, Mapping[str, Parameter]]
    groups: tuple[tuple[tuple[str, ...], tuple[float, ...]], ...] = ()
    correlations: tuple[tuple[str, str, float], ...] = ()
    assumptions: tuple[str, ...] = ()
    country: str = ""

    @property
    def cost(self) -> Outcome:
        """The outcome that is paid."""
        return next(each for each in self.outcomes if each.role == "cost")

    @property
    def effect(self) -> Outcome:
        """The first effect in the file: the one that strategies are compared by."""
        return next(each for each in self.outcomes if each.role == "effect")

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of every name that formulas may use."""
        chosen: dict[str, Kind] = {name: "number" for each in self.strategies for name in each.sets}
        return chosen | {name: each.kind for name, each in self.parameters.items()}

    def uncertain(self) -> tuple[str, ...]:
        """Parameters with a distribution of their own."""
        return tuple(name for name, each in self.parameters.items() if each.distribution is not None)

    def replace_parameters(self, changed: Mapping[str, Parameter]) -> Model:
        """The model with some parameters replaced."""
        return dataclasses.replace(self, parameters={**self.parameters, **changed})

    def with_discounts(self, cost: Discount, effect: Discount) -> Model:
        """The model with other discounting of costs and of the effect that decides; other effects keep theirs."""
        rates = {self.cost.name: cost, self.effect.name: effect}
        outcomes = (dataclasses.replace(each, discount=rates.get(each.name, each.discount)) for each in self.outcomes)
        return dataclasses.replace(self, outcomes=tuple(outcomes))

    def with_counting(self, counting: Counting) -> Model:
        """The cohort model with another cycle correction."""
        assert isinstance(self.body, Cohort)
        return dataclasses.replace(self, body=dataclasses.replace(self.body, counting=counting))
