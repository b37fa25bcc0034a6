"""What waits for whom: the queues of officials, coordination, committee and nations, and everybody's notices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

from fastapi import Request
from fastapi.responses import Response

from federome.governance.application_course import counts, dues
from federome.governance.applications import Act, Application
from federome.governance.clocks import Due
from federome.model.registry import Person
from federome.network.desk import Desk
from federome.network.doors import Caller, open_to
from federome.portal import wording
from federome.portal.languages import N_
from federome.portal.pages.applications import title_of
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, see, visit_of

WORKERS: Final[frozenset[Caller]] = frozenset(
    {"signing-official", "dac-member", "ncp", "administrator", "node-operator", "auditor"}
)
NEVER: Final = date(9999, 12, 31)
_IDLE: Final = frozenset({"suspend", "report-breach", "withdraw", "close", "publish", "inform-subjects", "justify"})
_WHO: Final = {"DAC": "dac-member", "NCP": "ncp", "node operator": "node-operator"}


@dataclass(frozen=True)
class Waiting:
    """An application in a queue: what somebody could do, and what they owe until when."""

    found: Application
    acts: tuple[Act, ...]
    owed: tuple[Due, ...]
    title: str


def pages(site: Site, desk: Desk) -> Face:
    """The queue of whoever decides, and notices for everybody."""
    api = pages_of(site)

    @api.get("/queue")
    @open_to("signing-official", "dac-member", "ncp", "administrator", "node-operator", "auditor")
    def queue(request: Request) -> Response:
        person = visit_of(request).registered()
        desk.tick_all()
        waiting = [_waiting(desk, found, person) for found in desk.visible(person)]
        due = sorted((w for w in waiting if w.acts or w.owed), key=lambda w: min((d.by for d in w.owed), default=NEVER))
        rest = [w for w in waiting if not (w.acts or w.owed)]
        running = {w.found.opened.id: counts(w.found, desk.now(), desk.calendars) for w in due}
        return site.page(request, "queue.html", due=due, rest=rest, running=running, **wording.words())

    @api.get("/notices")
    @open_to("session")
    def notices(request: Request) -> Response:
        person = visit_of(request).person
        told = desk.book.notices(person.id) if person else []
        return site.page(request, "notices.html", told=told)

    @api.post("/notices")
    @open_to("session")
    def read(request: Request) -> Response:
        person = visit_of(request).person
        if person is not None:
            desk.book.mark_read(person.id, desk.now())
        return see(f"{PREFIX}/notices")

    menu = (
        MenuEntry(N_("Queue"), f"{PREFIX}/queue", WORKERS, N_("What waits for you, by the day it is due.")),
        MenuEntry(
            N_("Notices"),
            f"{PREFIX}/notices",
            frozenset({"session"}),
            N_("What happened to the applications and programs that you have to do with."),
        ),
    )
    return Face(api, menu)


def _waiting(desk: Desk, found: Application, person: Person) -> Waiting:
    nodes = desk.nodes_of(found, person)
    owed = tuple(
        each
        for each in dues(found, desk.now(), desk.calendars)
        if _WHO.get(each.who) in person.roles and (not each.node or each.node in nodes or "dac-member" in person.roles)
    )
    acts = tuple(act for act in desk.offered(found, person) if act.name not in _IDLE and not _done(found, act, person))
    return Waiting(found, acts, owed, title_of(desk, found))


def _done(found: Application, act: Act, person: Person) -> bool:
    """Whether this person has done their part of an act that several people do."""
    return (
        act.name in ("vote", "sign", "agree", "prepare", "confirm-deletion")
        and any(event.actor == person.id for event in found.of(act.name))
    ) or (act.name == "sign-off" and found.signed_off == found.version)
