"""Micro-costing: what one genome or panel costs, as a tree of steps, each constant with its source.

A file names quantities and prices; each step adds up formulas by category (staff, consumables, equipment, …) and the
steps below it, and may happen more than once. Format: ``docs/reference/economic-models.md``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.economics import formula as language
from federome.economics.countries import Country, converted, money
from federome.economics.distribution import stream
from federome.economics.document import Place, Section, check_name, parse, read_text
from federome.economics.formula import Formula
from federome.economics.model import Parameter
from federome.economics.read import FORMAT, Reader
from federome.errors import Invalid

Array = NDArray[np.float64]
CATEGORIES: Final = ("staff", "consumables", "equipment", "computing", "storage", "overhead")
MAX_DEPTH: Final = 10


@dataclass(frozen=True)
class Step:
    """One step: costs by category, steps below it, and how often all of this happens."""

    name: str
    place: Place
    title: str
    costs: Mapping[str, Formula]
    steps: tuple[Step, ...]
    times: Formula | None


@dataclass(frozen=True)
class Pathway:
    """A whole costing. ``unit`` is what is paid for: a genome, a panel."""

    id: str
    file: str
    title: str
    unit: str
    currency: str
    price_year: int
    sources: Mapping[str, str]
    parameters: Mapping[str, Parameter]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Cost:
    """What a step costs by category, with all below it and its repetitions; ``depth`` counts from 0."""

    name: str
    title: str
    depth: int
    categories: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.categories.values())


@dataclass(frozen=True)
class Costed:
    """A pathway's total with its middle 95 % over draws, the costs of its steps, and how far constants move it."""

    pathway: Pathway
    total: float
    interval: tuple[float, float] | None
    steps: tuple[Cost, ...]
    drivers: tuple[tuple[str, float, float], ...]

    def categories(self) -> dict[str, float]:
        """The total by category."""
        top = [each for each in self.steps if each.depth == 0]
        return {name: found for name in CATEGORIES if (found := sum(each.categories.get(name, 0.0) for each in top))}


def shipped() -> dict[str, str]:
    """Pathways that come with the program: their texts by name."""
    folder = resources.files("federome.economics") / "pathways"
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".toml")), key=lambda each: each.name)
    return {each.name.removesuffix(".toml"): each.read_text("utf-8") for each in files}


def find_pathway(name: str) -> Pathway:
    """A pathway by the name of a shipped one, or by the path of a file."""
    if name.endswith(".toml"):
        return read_pathway(read_text(Path(name)), name)
    known = shipped()
    if name not in known:
        raise Invalid(
            f"no pathway is called {name[:60]!r}.", remedy=f"Known: {', '.join(known)}; or name a .toml file."
        )
    return read_pathway(known[name], f"{name}.toml")


def read_pathway(text: str, file: str) -> Pathway:
    """A checked pathway. ``Invalid`` names file, line and entry."""
    top = parse(text, file)
    if top.whole("format", low=1, high=99) != FORMAT:
        top.place("format").refuse(f"format {FORMAT} is expected.")
    reader = Reader(top)
    parameters = reader.constants()
    found = Pathway(
        id=top.text("id"),
        file=file,
        title=top.text("title"),
        unit=top.text("unit"),
        currency=top.text("currency"),
        price_year=top.whole("price_year", low=1970, high=2100),
        sources=reader.sources,
        parameters=parameters,
        steps=tuple(_steps(reader, top.section("steps"), MAX_DEPTH)),
    )
    top.done()
    return found


def _steps(reader: Reader, section: Section, depth: int) -> Iterator[Step]:
    if depth == 0:
        section.place().refuse("the steps are nested too deeply.")
    for name, at in section.sections():
        check_name(name, at.place())
        costs = {each: reader.formula(at, each, "amount") for each in CATEGORIES if each in at}
        below = tuple(_steps(reader, at.section("steps", needed=False), depth - 1))
        if not costs and not below:
            at.place().refuse("a step has costs or steps below it.", f"Categories: {', '.join(CATEGORIES)}.")
        times = reader.formula(at, "times", "number") if "times" in at else None
        yield Step(name, at.place(), at.text("title"), costs, below, times)
        at.done()


def localise(pathway: Pathway, profile: Country) -> Pathway:
    """The pathway with its prices converted to a country's currency and price year."""
    place = f"{pathway.file}, currency"
    factor = money().factor(pathway.currency, pathway.price_year, profile.currency, profile.price_year, where=place)
    moved = {
        name: converted(each, factor) if each.money and each.value is not None else each
        for name, each in pathway.parameters.items()
    }
    return dataclasses.replace(pathway, parameters=moved, currency=profile.currency, price_year=profile.price_year)


def evaluate_pathway(pathway: Pathway, *, draws: int = 0, seed: int = 1) -> Costed:
    """Costs of all steps; with draws also the middle 95 % of the total. ``Invalid`` for negative costs or times."""
    base = tuple(_costs(pathway, _Bound(pathway, {})))
    interval = None
    if draws:
        laws = {name: each.distribution for name, each in pathway.parameters.items() if each.distribution is not None}
        drawn = {name: law.draw(stream(seed, name), draws) for name, law in laws.items()}
        low, high = np.quantile(_total(pathway, drawn), [0.025, 0.975])
        interval = float(low), float(high)
    drivers = []
    for name, each in pathway.parameters.items():
        if (ends := each.interval()) is not None and each.value is not None:
            at_low, at_high = (float(_total(pathway, {name: np.asarray(end)})) for end in ends)
            drivers.append((name, at_low, at_high))
    total = sum(each.total for each in base if each.depth == 0)
    return Costed(pathway, total, interval, base, tuple(sorted(drivers, key=lambda each: -abs(each[2] - each[1]))))


def _total(pathway: Pathway, values: Mapping[str, Array]) -> Array:
    bound = _Bound(pathway, values)
    return np.asarray(np.sum([_sum(step, bound) for step in pathway.steps], axis=0), np.float64)


def _sum(step: Step, bound: _Bound) -> Array:
    """A step with all below it, as one number per draw."""
    own = [bound.amount(each) for each in step.costs.values()] + [_sum(each, bound) for each in step.steps]
    broadcast = np.sum(np.stack(np.broadcast_arrays(*own)), axis=0)
    return np.asarray(broadcast * bound.times(step))


def _costs(pathway: Pathway, bound: _Bound) -> Iterator[Cost]:
    """All steps, each before those below it."""

    def walk(step: Step, depth: int, factor: float) -> list[Cost]:
        factor *= float(bound.times(step))
        below = [walk(each, depth + 1, factor) for each in step.steps]
        parts = {name: factor * float(bound.amount(each)) for name, each in step.costs.items()}
        for first, *_ in below:
            for name, value in first.categories.items():
                parts[name] = parts.get(name, 0.0) + value
        return [Cost(step.name, step.title, depth, parts), *(each for found in below for each in found)]

    for step in pathway.steps:
        yield from walk(step, 0, 1.0)


@dataclass(frozen=True)
class _Bound:
    """Names as values: replaced ones, constants, and formulas worked out when asked for."""

    pathway: Pathway
    values: Mapping[str, Array]
    known: dict[str, Array] = field(default_factory=dict)

    def __call__(self, name: str) -> Array:
        if name == "cycle_years":  # probability(rate) without years means one year
            return np.asarray(1.0)
        if name in self.values:
            return self.values[name]
        if name not in self.known:
            parameter = self.pathway.parameters[name]
            if parameter.formula is not None:
                self.known[name] = language.evaluate(parameter.formula, self, {})
            else:
                self.known[name] = np.asarray(parameter.value, np.float64)
        return self.known[name]

    def amount(self, formula: Formula) -> Array:
        return self._positive(formula, "a cost")

    def times(self, step: Step) -> Array:
        return np.asarray(1.0) if step.times is None else self._positive(step.times, "a number of times")

    def _positive(self, formula: Formula, what: str) -> Array:
        found = language.evaluate(formula, self, {})
        if bool((found < 0).any()):
            formula.place.refuse(f"{what} is negative.")
        return found
