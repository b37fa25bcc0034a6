"""How mature a country's genomic medicine is: 8 domains, 49 indicators, levels 1 to 5, assessed by the country itself.

An assessment is a file; several over time make a series. What is not assessed stays unknown and is never counted as
zero. A node can state evidence for some indicators; a level is always a person's judgement. The indicators stand in
``maturity.toml``, in our own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from federome.economics.document import Section, parse, read_text
from federome.errors import Invalid

LEVELS: Final = range(1, 6)


@dataclass(frozen=True)
class Indicator:
    """One thing that is judged. ``known`` names the fact that a node can state about it, or is empty."""

    id: str
    text: str
    known: str = ""


@dataclass(frozen=True)
class Domain:
    """A field of indicators."""

    id: str
    title: str
    indicators: tuple[Indicator, ...]


@dataclass(frozen=True)
class Judgement:
    """The level of one indicator, ``None`` where nobody has judged it yet, and what speaks for it."""

    level: int | None
    evidence: str = ""


@dataclass(frozen=True)
class Assessment:
    """A country's judgements on one day, for every indicator."""

    country: str
    on: date
    judgements: Mapping[str, Judgement]

    def mean(self, domain: Domain) -> float | None:
        """Mean level of the domain's assessed indicators; ``None`` if none is."""
        found = [self.judgements[each.id].level for each in domain.indicators]
        levels = [level for level in found if level is not None]
        return sum(levels) / len(levels) if levels else None

    @property
    def assessed(self) -> int:
        """How many indicators have a level."""
        return sum(each.level is not None for each in self.judgements.values())


@dataclass(frozen=True)
class Gap:
    """An indicator below the target, or not assessed (``level`` and ``missing`` are ``None``)."""

    domain: str
    indicator: Indicator
    level: int | None
    missing: int | None


@cache
def domains() -> tuple[Domain, ...]:
    """All domains in their order."""
    name = "maturity.toml"
    whole = parse(resources.files(__package__).joinpath(name).read_text("utf-8"), name)
    return tuple(_domain(id_, section) for id_, section in whole.section("domains").sections())


@cache
def level_meanings() -> Mapping[int, str]:
    """What each level means."""
    name = "maturity.toml"
    whole = parse(resources.files(__package__).joinpath(name).read_text("utf-8"), name)
    section = whole.section("levels")
    return {level: section.text(str(level)) for level in LEVELS}


def assessment_of(country: str, on: date, levels: Mapping[str, int]) -> Assessment:
    """An assessment of these levels by indicator; ``Invalid`` names what there is not."""
    if len(country) != 2 or not country.isascii() or not country.isupper():
        raise Invalid("a country is a two-letter code in capitals.", where="country")
    judged = {each.id: Judgement(None) for domain in domains() for each in domain.indicators}
    for name, level in levels.items():
        if name not in judged or level not in LEVELS:
            raise Invalid("there is no such indicator or level.", where=name[:40])
        judged[name] = Judgement(level)
    return Assessment(country, on, judged)


def as_toml(assessment: Assessment) -> str:
    """The file that ``read_assessment`` reads; levels only."""
    levels = [f"{name} = {each.level}" for name, each in assessment.judgements.items() if each.level is not None]
    head = [f'country = "{assessment.country}"', f'on = "{assessment.on.isoformat()}"', "", "[levels]"]
    return "\n".join([*head, *levels]) + "\n"


def read_assessment(path: Path) -> Assessment:
    """A self-assessment file: ``country``, ``on`` and a table ``levels`` of levels by indicator.

    An entry of ``levels`` is a whole number, or ``{ level = 3, evidence = "…" }``, or evidence alone. ``Invalid`` with
    file, line and name for unknown indicators and other levels than 1 to 5.
    """
    whole = parse(read_text(path), str(path))
    country = whole.text("country")
    if len(country) != 2 or not country.isascii() or not country.isupper():
        whole.place("country").refuse("a country is a two-letter code in capitals.")
    try:
        on = date.fromisoformat(whole.text("on"))
    except ValueError:
        whole.place("on").refuse("a day is written as YYYY-MM-DD, in quotes.")
    known = {each.id for domain in domains() for each in domain.indicators}
    judged = dict.fromkeys(known, Judgement(None))
    held = whole.section("levels")
    for name in held:
        if name not in known:
            held.place(name).refuse("there is no such indicator.", "List them: federome econ maturity --indicators.")
        judged[name] = _judgement(held, name)
    whole.done()
    return Assessment(country, on, judged)


def with_evidence(assessment: Assessment, facts: Mapping[str, str]) -> Assessment:
    """The same with what a node states about itself, behind what was written by hand; levels stay as they are."""
    judged = dict(assessment.judgements)
    for domain in domains():
        for each in domain.indicators:
            if stated := facts.get(each.known):
                was = judged[each.id]
                evidence = "; ".join(text for text in (was.evidence, f"node: {stated}") if text)
                judged[each.id] = replace(was, evidence=evidence)
    return replace(assessment, judgements=judged)


def gaps(assessment: Assessment, *, target: int) -> tuple[Gap, ...]:
    """What lies below the target level, farthest first; then what is not assessed."""
    if target not in LEVELS:
        raise Invalid("a target is a level from 1 to 5.", where="--target")
    found = []
    for domain in domains():
        for each in domain.indicators:
            level = assessment.judgements[each.id].level
            if level is None or level < target:
                found.append(Gap(domain.id, each, level, None if level is None else target - level))
    return tuple(sorted(found, key=lambda gap: (gap.missing is None, -(gap.missing or 0))))


def series(assessments: Sequence[Assessment]) -> tuple[Assessment, ...]:
    """The assessments of one country by day; ``Invalid`` for several countries, or two of one day."""
    ordered = sorted(assessments, key=lambda each: each.on)
    if len({each.country for each in ordered}) > 1:
        raise Invalid("a series is of one country.", remedy="Give one country's files at a time.")
    if len({each.on for each in ordered}) < len(ordered):
        raise Invalid("two assessments are of the same day.", remedy="Leave one of them out.")
    return tuple(ordered)


def _domain(id_: str, section: Section) -> Domain:
    held = section.section("indicators")
    found = []
    for name in held:
        if isinstance(held.values[name], str):
            found.append(Indicator(name, held.text(name)))
        else:
            entry = held.section(name)
            found.append(Indicator(name, entry.text("text"), entry.text("known")))
    return Domain(id_, section.text("title"), tuple(found))


def _judgement(held: Section, name: str) -> Judgement:
    if not isinstance(held.values[name], Mapping):
        return Judgement(held.whole(name, low=LEVELS[0], high=LEVELS[-1]))
    entry = held.section(name)
    level = entry.whole("level", low=LEVELS[0], high=LEVELS[-1]) if "level" in entry else None
    evidence = entry.text("evidence", "")
    entry.done()
    return Judgement(level, evidence)
