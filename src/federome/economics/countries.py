"""Country profiles: a model moved into a country's money, discounting and willingness to pay.

Every number stands in ``countries.toml`` with its source and whether it was checked there; reports repeat both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from federome.economics.document import Section, parse
from federome.economics.model import Discount, Model, Parameter
from federome.economics.read import check_discount
from federome.errors import Invalid


@dataclass(frozen=True)
class Fact:
    """Something a profile says, where from, and whether it was checked in the source."""

    says: str
    source: str
    verified: bool


@dataclass(frozen=True)
class Country:
    """One country. ``thresholds`` are in its currency per QALY, lowest first; the first is the default."""

    code: str
    name: str
    currency: str
    price_year: int
    perspective: str
    discount_cost: Discount
    discount_effect: Discount
    thresholds: tuple[float, ...]
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Money:
    """Prices over years and currencies: ``index[currency][year]``, and parities of one year."""

    index: Mapping[str, Mapping[int, float]]
    parity: Mapping[str, float]
    parity_year: int
    facts: tuple[Fact, ...]

    def factor(self, currency: str, year: int, to: str, to_year: int, *, where: str) -> float:
        """What one unit of ``currency`` in ``year`` is in ``to`` in ``to_year``.

        Prices move within their own currency to the year of the parities, cross there, and move on. ``Invalid`` for
        currencies and years that are not known.
        """
        for name, when in ((currency, year), (to, to_year)):
            if name not in self.index or name not in self.parity:
                known = ", ".join(sorted(self.parity))
                raise Invalid(f"the currency {name[:10]!r} is not known.", where=where, remedy=f"Known: {known}.")
            if when not in self.index[name]:
                years = sorted(self.index[name])
                raise Invalid(
                    f"prices of {when} are not known.", where=where, remedy=f"Known: {years[0]} to {years[-1]}."
                )
        if currency == to:
            return self.index[to][to_year] / self.index[to][year]
        there = self.index[currency][self.parity_year] / self.index[currency][year]
        onward = self.index[to][to_year] / self.index[to][self.parity_year]
        return there * self.parity[to] / self.parity[currency] * onward


def country(code: str) -> Country:
    """A profile by its two-letter code."""
    known = countries()
    if code not in known:
        raise Invalid(f"there is no profile of {code[:10]!r}.", remedy=f"Known: {', '.join(known)}.")
    return known[code]


@cache
def countries() -> Mapping[str, Country]:
    """All profiles."""
    return {code: _country(code, at) for code, at in _file().section("countries").sections()}


@cache
def money() -> Money:
    """Price indices and parities."""
    prices, parities = _file().section("prices"), _file().section("ppp")
    years = [int(year) for year in prices.numbers("years")]
    index, rates = prices.section("index"), parities.section("rates")
    return Money(
        index={name: dict(zip(years, index.numbers(name), strict=True)) for name in index},
        parity={name: rates.number(name) for name in rates},
        parity_year=parities.whole("year", low=1970, high=2100),
        facts=(_fact(prices, "consumer prices"), _fact(parities, "purchasing power parities")),
    )


def adapt(model: Model, profile: Country) -> Model:
    """The model as it is for a country: its own values where the file has them, else prices converted; its discounting.

    Values that the model's file gives for the country are taken to be in its currency and price year.
    """
    place = f"{model.file}, currency"
    factor = money().factor(model.currency, model.price_year, profile.currency, profile.price_year, where=place)
    local = model.countries.get(profile.code, {})
    changed = {
        name: converted(each, factor)
        for name, each in model.parameters.items()
        if each.money and each.value is not None and name not in local
    }
    moved = dataclasses.replace(
        model.replace_parameters({**changed, **local}),
        currency=profile.currency,
        price_year=profile.price_year,
        perspective=profile.perspective,
        country=profile.code,
        outcomes=tuple(
            dataclasses.replace(each, unit=profile.currency) if each.role == "cost" else each for each in model.outcomes
        ),
    )
    return moved.with_discounts(profile.discount_cost, profile.discount_effect)


def converted(parameter: Parameter, factor: float) -> Parameter:
    """A constant amount of money with its law and range, times a factor."""
    assert parameter.value is not None
    return dataclasses.replace(
        parameter,
        value=parameter.value * factor,
        distribution=None if parameter.distribution is None else parameter.distribution.scaled(factor),
        low=None if parameter.low is None else parameter.low * factor,
        high=None if parameter.high is None else parameter.high * factor,
    )


def _file() -> Section:
    text = (resources.files("federome.economics") / "countries.toml").read_text("utf-8")
    return parse(text, "countries.toml")


def _country(code: str, at: Section) -> Country:
    thresholds, tariff = at.section("thresholds"), at.section("tariff")
    facts = [
        _fact(at.section("discount_cost"), "discount rate of costs"),
        _fact(at.section("discount_effect"), "discount rate of effects"),
        _fact(thresholds, f"willingness to pay, {thresholds.text('says')}"),
        _fact(tariff, tariff.text("name")),
    ]
    return Country(
        code=code,
        name=at.text("name"),
        currency=at.text("currency"),
        price_year=at.whole("price_year", low=1970, high=2100),
        perspective=at.text("perspective"),
        discount_cost=_steps(at.section("discount_cost")),
        discount_effect=_steps(at.section("discount_effect")),
        thresholds=tuple(sorted(thresholds.numbers("values"))),
        facts=tuple(facts),
    )


def _steps(at: Section) -> Discount:
    return check_discount(Discount(tuple(zip(at.numbers("from"), at.numbers("rates"), strict=True))), at.place())


def _fact(at: Section, says: str) -> Fact:
    return Fact(says, at.text("source"), at.flag("verified", default=False))


def unverified(profile: Country) -> Iterator[Fact]:
    """What a profile (and the money it is reckoned in) says that was not checked in its source."""
    yield from (each for each in (*profile.facts, *money().facts) if not each.verified)
