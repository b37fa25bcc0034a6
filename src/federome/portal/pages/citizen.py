"""A citizen at their own node: which projects used their data, what for, what came out; and what it may be used for.

Whose data it is follows from the login and from nothing else: no address and no form names a person here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_args

from fastapi import Request
from fastapi.responses import Response

from federome.errors import Invalid, Missing
from federome.governance.consent import Consent, ConsentEvent, Standing
from federome.network.doors import Caller, open_to
from federome.network.holdings import numbers_of
from federome.network.house import House
from federome.network.uses import Project, Run, uses_of
from federome.portal.languages import N_
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, Visit, see, visit_of
from federome.portal.wording import BASES, COURSES, method_in_words

LOG: Final = f"{PREFIX}/my-data"
CHOICES: Final = f"{PREFIX}/my-choices"
TIERS: Final[Mapping[Consent, tuple[str, str]]] = {
    "secondary-use": (
        N_("Studies under a permit"),
        N_(
            "Your data may be used in studies that a committee and your country have approved, and for "
            "everything below."
        ),
    ),
    "subject-query": (
        N_("Being found"),
        N_(
            "A doctor elsewhere who looks for a patient like you may learn that there is one here, and for "
            "everything below. Nobody is named without a doctor of yours."
        ),
    ),
    "allele-frequency": (
        N_("Being counted"),
        N_("Your genome counts in tables of how common genetic variants are. Nothing else."),
    ),
    "none": (
        N_("Nothing"),
        N_("Your data is used for your own care only."),
    ),
}
"""From the widest consent to none."""
KINDS_TOLD: Final = {
    "withdraw": N_("consent taken back"),
    "reinstate": N_("consent given again"),
    "opt-out": N_("opted out"),
    "opt-in": N_("opted in again"),
}
LOOKS: Final = {"answered": "good", "refused": "own", "under way": "care"}


@dataclass(frozen=True)
class Use:
    """One project that used somebody's data: its runs, and what the public register says of it, if anything."""

    permit: str
    runs: tuple[Run, ...]
    told: Project | None


def pages(site: Site, house: House) -> Face:
    """The log, one project of it, the log as a file, and the choices."""
    api = pages_of(site)

    def uses(person: str) -> list[Use]:
        numbers = numbers_of(house.holdings.store, person)
        return _grouped(uses_of(house.base, numbers, now=house.clock()), house.public.projects() or {})

    @api.get("/my-data")
    @open_to("citizen")
    def mine(request: Request) -> Response:
        person = _whose(house, visit_of(request))
        datasets = numbers_of(house.holdings.store, person)
        tables = [one for one in house.matching.node.published() if one.dataset in datasets]
        return site.page(
            request,
            "my_data.html",
            uses=uses(person),
            datasets=datasets,
            tables=tables,
            views=house.reports.views(person),
            away=house.public.projects() is None,
            standing=_standing(house, person, site.now()),
            **_words(),
        )

    @api.get("/my-data/project")
    @open_to("citizen")
    def project(request: Request, permit: str = "") -> Response:
        found = next((use for use in uses(_whose(house, visit_of(request))) if use.permit == permit), None)
        if found is None:
            raise Missing("no project of this name has used your data.")
        return site.page(request, "my_project.html", use=found, away=house.public.projects() is None, **_words())

    @api.get("/my-data.json")
    @open_to("citizen")
    def file(request: Request) -> Response:
        person = _whose(house, visit_of(request))
        told = json.dumps(as_file(house, person, uses(person), site.now()), indent=1, default=str)
        headers = {"Content-Disposition": 'attachment; filename="my-data.json"'}
        return Response(told + "\n", media_type="application/json", headers=headers)

    @api.get("/my-choices")
    @open_to("citizen")
    def choices(request: Request, done: str = "") -> Response:
        person = _whose(house, visit_of(request))
        ledger = house.consents.ledger()
        return site.page(
            request,
            "my_choices.html",
            standing=_standing(house, person, site.now()),
            history=[event for event in ledger.events if event.subject == person][::-1],
            laws=[law for law in ledger.overrides if law.valid_until is None or law.valid_until > site.now()],
            done=done == "yes",
            **_words(),
        )

    @api.post("/my-choices")
    @open_to("citizen")
    def choose(request: Request) -> Response:
        visit = visit_of(request)
        person = _whose(house, visit)
        form = f"citizen {person} {visit.sent_once()}"
        if not house.forms.taken(form):
            events = wanted(visit, person, _standing(house, person, site.now()), site.now())
            house.consents.tell(events, now=site.now())
            house.forms.take(form)
        return see(f"{CHOICES}?done=yes")

    to: frozenset[Caller] = frozenset({"citizen"})
    return Face(
        api,
        (
            MenuEntry(N_("My data"), LOG, to, N_("Which projects used your data, what for, and what came out.")),
            MenuEntry(N_("My choices"), CHOICES, to, N_("What your data may be used for. Change it at any time.")),
        ),
    )


def _whose(house: House, visit: Visit) -> str:
    """The person whose account is logged in."""
    person = house.citizens.person(visit.session.identity) if visit.session is not None else ""
    if not person:
        raise Missing("this account belongs to nobody of this node.")
    return person


def _standing(house: House, person: str, now: datetime) -> Standing:
    ledger = house.consents.ledger()
    return ledger.standings(now).get(person, Standing(ledger.default))


def wanted(visit: Visit, person: str, held: Standing, now: datetime) -> list[ConsentEvent]:
    """The changes that lead from where somebody stands to what their form says; none where it says the same."""
    match visit.one("what"):
        case "tier" if visit.one("tier") in get_args(Consent):
            tier: Consent = visit.one("tier")  # type: ignore[assignment]
            changes = [ConsentEvent(person, "tier", now, tier)] if tier != held.tier else []
            return changes + ([ConsentEvent(person, "reinstate", now)] if held.withdrawn and tier != "none" else [])
        case "opt-out":
            return [] if held.opted_out else [ConsentEvent(person, "opt-out", now)]
        case "opt-in":
            return [ConsentEvent(person, "opt-in", now)] if held.opted_out else []
        case "withdraw":
            return [] if held.withdrawn else [ConsentEvent(person, "withdraw", now)]
    raise Invalid("choose one of the choices.", where="what")


def as_file(house: House, person: str, uses: Iterable[Use], now: datetime) -> dict[str, Any]:
    """Everything that the pages tell one person, as a document."""
    standing = _standing(house, person, now)
    return {
        "node": house.node.name,
        "made": now.isoformat(),
        "datasets": sorted(numbers_of(house.holdings.store, person)),
        "consent": {"tier": standing.tier, "withdrawn": standing.withdrawn, "opted_out": standing.opted_out},
        "changes": [
            {"kind": event.kind, "at": event.at.isoformat()} | ({"tier": event.tier} if event.tier else {})
            for event in house.consents.ledger().events
            if event.subject == person
        ],
        "reports_opened": [
            {"at": one.at.isoformat(), "by": one.clinician, "made": one.made.isoformat()}
            for one in house.reports.views(person)
        ],
        "projects": [
            {
                "permit": use.permit,
                "title": use.told.title if use.told else None,
                "summary": use.told.summary if use.told else None,
                "results": list(use.told.published) if use.told else None,
                "holder": use.runs[0].holder,
                "purpose": use.runs[0].basis,
                "topics": list(use.runs[0].topics),
                "uses": [
                    {
                        "run": run.id,
                        "ordered": run.ordered.isoformat(),
                        "method": run.algorithm,
                        "datasets": list(run.datasets),
                        "course": run.course,
                    }
                    for run in use.runs
                ],
            }
            for use in uses
        ],
    }


def _grouped(runs: Iterable[Run], told: Mapping[str, Project]) -> list[Use]:
    """By permit, the one that was used last first."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.permit, []).append(run)
    return [Use(permit, tuple(held), told.get(permit)) for permit, held in found.items()]


def _words() -> dict[str, Any]:
    told = {"kinds_told": KINDS_TOLD}
    return told | {"tiers": TIERS, "bases": BASES, "courses": COURSES, "looks": LOOKS, "in_words": method_in_words}
