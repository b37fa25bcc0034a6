"""Does a dataset's consented use admit this purpose? All 25 terms of the Data Use Ontology, decided by machine.

``decide.py`` asks ``match`` once per dataset, at submission, at the node and at release (rules R12 to R14).
The answer is one of five, with every reason: a record that makes no sense is refused, never read kindly.
Terms and labels: EBISPOT/DUO; the semantics of matching are this project's rules.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, Literal

from federome.governance.decision import Obligation, Reason
from federome.model.ontology import Hierarchy
from federome.model.permit import EthicsDocument, Purpose
from federome.model.registry import DataUse, Institution, Modifier

Verdict = Literal["allow", "allow-with-obligations", "refer", "deny", "invalid"]
VERDICTS: Final[tuple[Verdict, ...]] = ("allow", "allow-with-obligations", "refer", "deny", "invalid")


@dataclass(frozen=True)
class Term:
    """One DUO class: ``kind`` is what it may be used as in a record (a root is never used itself)."""

    id: str
    code: str
    label: str
    kind: Literal["permission", "modifier", "root"]


TERMS: Final[tuple[Term, ...]] = (
    Term("DUO:0000001", "", "data use permission", "root"),
    Term("DUO:0000004", "NRES", "no restriction", "permission"),
    Term("DUO:0000042", "GRU", "general research use", "permission"),
    Term("DUO:0000006", "HMB", "health or medical or biomedical research", "permission"),
    Term("DUO:0000007", "DS", "disease specific research", "permission"),
    Term("DUO:0000011", "POA", "population origins or ancestry research only", "permission"),
    Term("DUO:0000017", "", "data use modifier", "root"),
    Term("DUO:0000012", "RS", "research specific restrictions", "modifier"),
    Term("DUO:0000015", "NMDS", "no general methods research", "modifier"),
    Term("DUO:0000016", "GSO", "genetic studies only", "modifier"),
    Term("DUO:0000018", "NPUNCU", "not for profit, non commercial use only", "modifier"),
    Term("DUO:0000019", "PUB", "publication required", "modifier"),
    Term("DUO:0000020", "COL", "collaboration required", "modifier"),
    Term("DUO:0000021", "IRB", "ethics approval required", "modifier"),
    Term("DUO:0000022", "GS", "geographical restriction", "modifier"),
    Term("DUO:0000024", "MOR", "publication moratorium", "modifier"),
    Term("DUO:0000025", "TS", "time limit on use", "modifier"),
    Term("DUO:0000026", "US", "user specific restriction", "modifier"),
    Term("DUO:0000027", "PS", "project specific restriction", "modifier"),
    Term("DUO:0000028", "IS", "institution specific restriction", "modifier"),
    Term("DUO:0000029", "RTN", "return to database or resource", "modifier"),
    Term("DUO:0000043", "CC", "clinical care use", "modifier"),
    Term("DUO:0000044", "NPOA", "population origins or ancestry research prohibited", "modifier"),
    Term("DUO:0000045", "NPU", "not for profit organisation use only", "modifier"),
    Term("DUO:0000046", "NCU", "non-commercial use only", "modifier"),
)
_BY_NAME: Final[Mapping[str, Term]] = {term.id: term for term in TERMS} | {t.code: t for t in TERMS if t.code}

EU: Final = frozenset({
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV",
    "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
})  # fmt: skip
EEA: Final = EU | {"IS", "LI", "NO"}
_REGIONS: Final[Mapping[str, frozenset[str]]] = {"EU": EU, "EEA": EEA}


@dataclass(frozen=True)
class Use:
    """The use to be judged: who wants what, since when, and which questions a committee has answered by hand.

    ``began`` is the first day of the permit (TS counts from it); ``new`` marks an application, where an
    obsolete disease id is sent back to a person instead of being refused.
    """

    purpose: Purpose
    ontology: Hierarchy
    now: datetime
    person: str | None = None
    institution: Institution | None = None
    project: str | None = None
    ethics: tuple[EthicsDocument, ...] = ()
    began: date | None = None
    resolved: frozenset[str] = frozenset()
    new: bool = False

    @property
    def care(self) -> bool:
        """Whether this is care for one patient and not research."""
        return self.purpose.basis == "care"


@dataclass(frozen=True)
class Match:
    """One dataset's answer: the verdict, all reasons with a sentence each, and the obligations that come with it."""

    verdict: Verdict
    reasons: tuple[Reason, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    explanation: tuple[str, ...] = field(default=(), compare=False)


def match(data_use: DataUse, use: Use, *, dataset: str) -> Match:
    """Whether ``dataset``, consented as ``data_use`` says, admits the use. Never raises: bad records are a verdict."""
    faults = tuple(_faults(data_use))
    if faults:
        says = f"The data use record of {dataset} makes no sense: {' '.join(faults)}"
        return Match("invalid", (Reason("R12", "incomplete", "deny", dataset, says),), (), (says,))
    reasons = list(_permission(data_use, use, dataset))
    obligations: list[Obligation] = []
    for modifier in data_use.modifiers:
        code = _BY_NAME[modifier.code].code
        if code in _OBLIGATIONS:
            obligations.append(_obligation(code, modifier, dataset))
        else:
            reasons.extend(_MODIFIERS[code](modifier, use, dataset))
    found = tuple(sorted(set(reasons)))
    owed = tuple(sorted(set(obligations)))
    return Match(_verdict(found, owed), found, owed, _explanation(data_use, found, owed, dataset))


def record_faults(data_use: DataUse) -> tuple[str, ...]:
    """What is wrong with a record, for whoever onboards it: the sentences behind the verdict ``invalid``."""
    return tuple(_faults(data_use))


def in_region(country: str, region: str) -> bool:
    """Whether an ISO country lies in a region: EU, EEA or a country code."""
    return country in _REGIONS.get(region, frozenset({region}))


def _verdict(reasons: tuple[Reason, ...], obligations: tuple[Obligation, ...]) -> Verdict:
    effects = {reason.effect for reason in reasons}
    if "deny" in effects:
        return "deny"
    if "refer" in effects:
        return "refer"
    return "allow-with-obligations" if obligations else "allow"


def _explanation(
    data_use: DataUse, reasons: tuple[Reason, ...], obligations: tuple[Obligation, ...], dataset: str
) -> tuple[str, ...]:
    names = [_BY_NAME[data_use.permission], *(_BY_NAME[modifier.code] for modifier in data_use.modifiers)]
    terms = "; ".join(f"{term.code} ({term.label})" for term in names)
    return (
        f"{dataset} is consented for {terms}.",
        *(reason.says for reason in reasons),
        *(f"Whoever uses {dataset} owes: {obligation}." for obligation in obligations),
    )


# --- R12: the permission ---------------------------------------------------------------------------------------


def _permission(data_use: DataUse, use: Use, dataset: str) -> Iterator[Reason]:
    if use.care:
        if not any(_BY_NAME[modifier.code].code == "CC" for modifier in data_use.modifiers):
            yield _deny("R12", "duo_clinical", dataset, "it is not consented for clinical care (CC)")
        return
    permission = _BY_NAME[data_use.permission].code
    yield from _disease_ids(use, dataset)
    if permission in ("NRES", "GRU"):
        return
    for topic in use.purpose.studied:
        if permission == "POA" and topic != "population":
            yield _deny("R12", "duo_population", dataset, "it is for population or ancestry research only (POA)")
        elif permission != "POA" and topic == "population":
            yield _deny("R12", "duo_population", dataset, f"{permission} does not admit population research")
        elif permission in ("HMB", "DS") and topic == "general":
            yield _deny("R12", "duo_general_on_specific", dataset, f"{permission} does not admit general research")
        elif permission == "DS" and (topic == "health" or (topic == "methods" and not use.purpose.diseases)):
            yield _deny("R12", "duo_general_on_specific", dataset, "it admits research on its own disease only")
    if permission == "DS":
        for disease in use.purpose.diseases:
            if not any(use.ontology.covers(own, disease) for own in data_use.diseases):
                own_ids = " ".join(data_use.diseases)
                yield _deny("R12", "duo_disease", dataset, f"it is for {own_ids}, and {disease} is not below that")


def _disease_ids(use: Use, dataset: str) -> Iterator[Reason]:
    for disease in use.purpose.diseases:
        status = use.ontology.status(disease)
        if status in ("merged", "obsolete") and use.new:
            says = f"{disease} is {status} in {use.ontology.release}; a person must say which disease is meant."
            yield Reason("R12", "duo_disease", "refer", dataset, says)
        elif status in ("obsolete", "unknown"):
            yield _deny("R12", "duo_disease", dataset, f"{disease} is {status} in {use.ontology.release}")


# --- R13 and R14: the modifiers --------------------------------------------------------------------------------


def _geography(modifier: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    country = use.institution.country if use.institution else None
    if country is None or not any(in_region(country, region) for region in modifier.regions):
        where = f"the institution is in {country}" if country else "the institution's country is not known"
        yield _deny("R14", "duo_geography", dataset, f"it is for {' '.join(modifier.regions)}, and {where}")


def _non_commercial(_: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    if use.purpose.commercial:
        yield _deny("R13", "duo_commercial", dataset, "commercial use is excluded")


def _not_for_profit(_: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    if use.institution is None or use.institution.for_profit:
        yield _deny("R13", "duo_nonprofit_org", dataset, "only not-for-profit organisations may use it")


def _not_for_profit_non_commercial(modifier: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    yield from _not_for_profit(modifier, use, dataset)
    yield from _non_commercial(modifier, use, dataset)


def _users(modifier: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    if use.person not in modifier.persons:
        yield _deny("R13", "duo_user", dataset, "it is for listed users only (US)")


def _projects(modifier: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    if use.project not in modifier.projects:
        yield _deny("R13", "duo_project", dataset, "it is for listed projects only (PS)")


def _institutions(modifier: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    if use.institution is None or use.institution.id not in modifier.institutions:
        yield _deny("R13", "duo_institution", dataset, "it is for listed institutions only (IS)")


def _time_limit(modifier: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    began = use.began or use.now.date()
    if use.now.date() >= months_later(began, modifier.months or 0):
        yield _deny("R13", "duo_time_limit", dataset, f"its {modifier.months} months of use are over (TS)")


def _genetic_only(_: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    if not use.purpose.genetic:
        yield _deny("R13", "duo_genetic_only", dataset, "it is for genetic studies only (GSO)")


def _no_methods(_: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    if not use.care and "methods" in use.purpose.studied:
        yield _deny("R13", "duo_methods", dataset, "methods development is excluded (NMDS)")


def _no_population(_: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    if not use.care and "population" in use.purpose.studied:
        yield _deny("R13", "duo_population", dataset, "population and ancestry research is excluded (NPOA)")


def _ethics(_: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    if not use.care and not any(paper.valid_until >= use.now.date() for paper in use.ethics):
        held = "has expired" if use.ethics else "is missing"
        yield _deny("R13", "duo_ethics_missing", dataset, f"it requires an ethics approval (IRB), which {held}")


def _free_text(_: Modifier, use: Use, dataset: str) -> Iterator[Reason]:
    if not use.resolved & {"RS", "DUO:0000012"}:
        says = f"{dataset} has a restriction in words (RS) that a person must read."
        yield Reason("R13", "duo_free_text", "refer", dataset, says)


_MODIFIERS: Final[Mapping[str, Callable[[Modifier, Use, str], Iterator[Reason]]]] = {
    "GS": _geography,
    "NCU": _non_commercial,
    "NPU": _not_for_profit,
    "NPUNCU": _not_for_profit_non_commercial,
    "US": _users,
    "PS": _projects,
    "IS": _institutions,
    "TS": _time_limit,
    "GSO": _genetic_only,
    "NMDS": _no_methods,
    "NPOA": _no_population,
    "IRB": _ethics,
    "RS": _free_text,
    "CC": lambda _modifier, _use, _dataset: iter(()),  # adds a use and restricts none; ``_permission`` asks for it
}
_OBLIGATIONS: Final[Mapping[str, str]] = {
    "PUB": "publish",
    "MOR": "no_publication_before",
    "COL": "collaborate",
    "RTN": "return_results",
}
# What a modifier needs to be decided at all.
_NEEDS: Final[Mapping[str, Callable[[Modifier], bool]]] = {
    "GS": lambda m: bool(m.regions) and all(_is_region(region) for region in m.regions),
    "US": lambda m: bool(m.persons),
    "PS": lambda m: bool(m.projects),
    "IS": lambda m: bool(m.institutions),
    "TS": lambda m: m.months is not None and 0 < m.months <= 1200,
    "MOR": lambda m: m.until is not None,
    "RS": lambda m: bool(m.text.strip()),
}


def _obligation(code: str, modifier: Modifier, dataset: str) -> Obligation:
    detail = modifier.until.isoformat() if code == "MOR" and modifier.until else ""
    return Obligation(_OBLIGATIONS[code], detail, dataset)


def _faults(data_use: DataUse) -> Iterator[str]:
    permission = _BY_NAME.get(data_use.permission)
    if permission is None or permission.kind != "permission":
        yield "its permission is not one of NRES, GRU, HMB, DS, POA."
    elif (permission.code == "DS") != bool(data_use.diseases):
        yield "diseases belong to DS, and DS needs them."
    codes = set()
    for modifier in data_use.modifiers:
        term = _BY_NAME.get(modifier.code)
        if term is None or term.kind != "modifier":
            yield "one of its modifiers is not a DUO modifier."
            continue
        codes.add(term.code)
        if term.code in _NEEDS and not _NEEDS[term.code](modifier):
            yield f"{term.code} lacks what it needs to be decided."
    if permission is not None and permission.code == "POA" and "NPOA" in codes:
        yield "it both demands and excludes population research."


def _is_region(region: str) -> bool:
    return region in _REGIONS or (len(region) == 2 and region.isascii() and region.isalpha() and region.isupper())


def _deny(rule: str, code: str, dataset: str, why: str) -> Reason:
    return Reason(rule, code, "deny", dataset, f"{dataset}: {why}.")


def months_later(day: date, months: int) -> date:
    """The same day so many months later, or the last day of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
