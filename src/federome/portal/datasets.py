"""Datasets as people look for them: what the desk offers beside what nodes' catalogues tell, and facets over both.

A facet's value that a catalogue does not tell is "not said", which can be chosen like any other: a dataset is never
dropped for what nobody wrote down.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from federome.governance.application_form import Offer
from federome.model.catalogued import Catalogued
from federome.portal.languages import N_

UNSAID: Final = "-"
SIZES: Final = ((1_000, "small"), (10_000, "middle"), (100_000, "large"))
CODE: Final = re.compile(
    r"(?:MONDO|HP|ORPHA(?:NET)?|OMIM|DOID|ICD-?10|NCIT):[A-Z0-9.]{2,12}|[A-TV-Z][0-9]{2}(?:\.[0-9A-Z]{1,4})?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Dataset:
    """One line of the catalogue's page: ``offered`` if the desk takes applications for it."""

    about: Catalogued
    offered: bool
    used: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        """Every word by which it is found."""
        about = self.about
        return about.dataset, about.title, about.node, about.country, about.description, *about.keywords


@dataclass(frozen=True)
class Facet:
    """Something by which datasets differ: its name in the address, its words, and a dataset's values of it."""

    name: str
    title: str
    values: Callable[[Dataset], Sequence[str]]
    words: Mapping[str, str]

    def said(self, value: str) -> str:
        """A value as people read it."""
        return self.words.get(value, value)


def size_class(people: int | None) -> str:
    """How large a dataset is."""
    return "" if people is None else next((name for below, name in SIZES if people < below), "huge")


def diseases_of(about: Catalogued) -> tuple[str, ...]:
    """The keywords that are codes of diseases or phenotypes."""
    return tuple(word for word in about.keywords if CODE.fullmatch(word))


YES_NO: Final = {"yes": N_("yes"), "no": N_("no"), UNSAID: N_("not said")}
FACETS: Final = (
    Facet("country", N_("Country"), lambda each: [each.about.country], YES_NO),
    Facet("node", N_("Node"), lambda each: [each.about.node], YES_NO),
    Facet("profile", N_("Profile"), lambda each: [each.about.profile], YES_NO),
    Facet("disease", N_("Disease or phenotype"), lambda each: diseases_of(each.about), YES_NO),
    Facet("size", N_("People"), lambda each: [size_class(each.about.people)], {
        "small": N_("below 1000"), "middle": N_("1000 to 10 000"), "large": N_("10 000 to 100 000"),
        "huge": N_("100 000 and more"), UNSAID: N_("not said"),
    }),
    Facet("access", N_("Access"), lambda each: [each.about.access], {
        "public": N_("open data"), "restricted": N_("under a permit"), UNSAID: N_("not said"),
    }),
    Facet("use", N_("Data use (DUO)"), lambda each: [each.about.data_use], {
        "NRES": N_("NRES: no restriction"), "GRU": N_("GRU: general research"), "HMB": N_("HMB: health research"),
        "DS": N_("DS: one disease"), "POA": N_("POA: population research only"), UNSAID: N_("not said"),
    }),
    Facet("quality", N_("Quality control"), lambda each: [each.about.quality], {
        "accept": N_("accepted"), "refer": N_("with reservations"), "refuse": N_("refused"), UNSAID: N_("not said"),
    }),
    Facet("used", N_("In use by a project"), lambda each: ["yes" if each.used else "no"], YES_NO),
)  # fmt: skip


def joined(offers: Sequence[Offer], told: Sequence[Catalogued], uses: Mapping[str, int]) -> list[Dataset]:
    """What is offered, with what its own node's catalogue tells of it, then what is only catalogued."""
    by_place = {(each.node, each.dataset): each for each in told}
    countries = {each.node: each.country for each in told}
    found = []
    for offer in offers:
        bare = Catalogued(offer.id, offer.node, countries.get(offer.node, ""))
        about = replace(by_place.pop((offer.node, offer.id), bare), title=offer.title)
        found.append(Dataset(about, offered=True, used=uses.get(offer.id, 0)))
    return found + [Dataset(each, offered=False, used=uses.get(each.dataset, 0)) for each in by_place.values()]


def values_of(facet: Facet, each: Dataset) -> tuple[str, ...]:
    """A dataset's values, or that nothing is said."""
    return tuple(value for value in facet.values(each) if value) or (UNSAID,)


def chosen(found: Sequence[Dataset], wanted: Mapping[str, str]) -> list[Dataset]:
    """The datasets that have every wanted value; an empty wish is none."""
    return [
        each for each in found if all(not wanted.get(f.name) or wanted[f.name] in values_of(f, each) for f in FACETS)
    ]


def counted(facet: Facet, found: Sequence[Dataset], wanted: Mapping[str, str]) -> list[tuple[str, int]]:
    """A facet's values with how many datasets have each, under all other wishes; what is wished is always there."""
    others = {name: value for name, value in wanted.items() if name != facet.name}
    counts = Counter(value for each in chosen(found, others) for value in values_of(facet, each))
    wish = wanted.get(facet.name, "")
    values = sorted(set(counts) | ({wish} if wish else set()), key=lambda value: (value == UNSAID, value))
    return [(value, counts[value]) for value in values]
