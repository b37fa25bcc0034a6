"""What happens to an application by itself: clocks that run out, reminders, what is owed by whom, and the permission.

``ticks`` lists what the clock does now, ``dues`` what people owe and until when, ``permission_of`` writes the document
that nodes believe. Where an application stands and who may do what is in ``applications.py``; national clocks (veto,
silence) are those of ``clocks.py``. Nothing here stores, sends or looks at a real clock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal

from federome.errors import Refused
from federome.governance.applications import BY_NAME, ENDED, Application, Event, party_of
from federome.governance.clocks import VETO_DAYS, Calendar, Due, Standing, due, standing
from federome.governance.duo import months_later
from federome.model.permit import DatasetGrant, HealthcareContract, HealthDataRequest, Permit

ASSESSMENT_DAYS: Final = 5
VULNERABLE_DAYS: Final = 10
"""Working days of the committee; the source says only "longer" for vulnerable groups, the number is ours."""
DELETION_MONTHS: Final = 6
PUBLICATION_MONTHS: Final = 18
"""Results are made public within 18 months (EHDS Art. 61); deletion within 6 months of the end (not verified)."""

Calendars = Mapping[str, Calendar]
"""The working days of each node's country; a node without one has Monday to Friday."""


def standings(application: Application, now: datetime, calendars: Calendars) -> dict[DatasetGrant, Standing]:
    """Where each dataset's nation stands (``clocks.standing``)."""
    return {
        grant: standing(application.process(grant), grant.node, now=now, calendar=_calendar(calendars, grant.node))
        for grant in application.datasets
    }


def ticks(application: Application, now: datetime, calendars: Calendars) -> Iterator[Event]:
    """What happens by itself at this instant: at most one change of state, and any reminders that are due.

    Ask again after appending: one thing may lead to the next.
    """
    match application.state:
        case "veto-window" | "consensus":
            yield from _reminders(application, now, calendars)
            act = _settled(application, [s.state for s in standings(application, now, calendars).values()])
            if act:
                yield _by_clock(application, act, now)
        case "agreement" if _parties(application, now, calendars) <= {
            party_of(application, event) for event in application.of("sign")
        }:
            yield _by_clock(application, "seal", now)
        case "preparation" if _open_nodes(application, now, calendars) <= {
            event.node for event in application.of("prepare")
        }:
            yield _by_clock(application, "open", now)
        case "active" | "suspended" if application.valid_until and now.date() > application.valid_until:
            yield _by_clock(application, "expire", now)
        case "closing" if _open_nodes(application, now, calendars) <= {
            event.node for event in application.of("confirm-deletion")
        }:
            yield _by_clock(application, "archive", now)


def _settled(application: Application, states: Sequence[str]) -> str:
    """Which act of the clock the nations' standings call for, if any."""
    if any(state in ("veto-window", "assessing", "not-submitted") for state in states):
        return ""
    if "confirmed" in states:
        return "settle"
    if "vetoed" in states:
        return "wait" if application.state == "veto-window" else ""
    return "fail"


def _reminders(application: Application, now: datetime, calendars: Calendars) -> Iterator[Event]:
    told = {event.node for event in application.of("remind")}
    for owed in dues(application, now, calendars):
        if owed.what.startswith("remind") and owed.by <= now.date() and owed.node not in told:
            told.add(owed.node)
            yield dataclasses.replace(_by_clock(application, "remind", now, owed.node), node=owed.node)


def _by_clock(application: Application, act: str, now: datetime, about: str = "") -> Event:
    """An event of the clock. Its id follows from where the application stands, so that it happens once."""
    number = len(application.events)
    return Event("-".join(filter(None, (application.opened.id, str(number), act, about))), act, "clock", now)


def _open_nodes(application: Application, now: datetime, calendars: Calendars) -> set[str]:
    """The nodes where at least one dataset is confirmed; all of them where no nation is asked (care contracts)."""
    if application.opened.kind == "contract":
        return set(application.nodes)
    return {grant.node for grant, s in standings(application, now, calendars).items() if s.state == "confirmed"}


def _parties(application: Application, now: datetime, calendars: Calendars) -> set[str]:
    return {application.opened.institution, *_open_nodes(application, now, calendars)}


def dues(application: Application, now: datetime, calendars: Calendars) -> tuple[Due, ...]:
    """What is still owed by somebody, soonest first; what is overdue is marked."""
    owed: set[Due] = set()
    today = now.date()
    for grant in application.datasets if application.state not in ("draft", *ENDED) else ():
        told = due(application.process(grant), now=now, calendar=_calendar(calendars, grant.node))
        owed |= {d for d in told if d.who != "DAC" or not d.what.startswith("assess")}
    assert application.since is not None
    since = application.since.date()
    match application.state:
        case "assessment":
            days = VULNERABLE_DAYS if application.content and application.content.vulnerable else ASSESSMENT_DAYS
            owed.add(Due(Calendar().after(since, days), "assess the application", "DAC"))
        case "closing":
            done = {event.node for event in application.of("confirm-deletion")}
            by = months_later(since, DELETION_MONTHS)
            for node in _open_nodes(application, now, calendars) - done:
                owed.add(Due(by, "delete the project's data", "node operator", node))
    if application.state in ("closing", "archived") and not application.of("publish"):
        ended = next((e.at.date() for e in application.events if BY_NAME[e.act].to == "closing"), since)
        owed.add(Due(months_later(ended, PUBLICATION_MONTHS), "publish the results", "applicant"))
    return tuple(sorted(dataclasses.replace(d, overdue=d.by < today) for d in owed))


@dataclass(frozen=True)
class Count:
    """A clock for people: which working day of how many it is, and the day on which silence or lateness speaks."""

    what: Literal["assessment", "veto"]
    day: int
    of: int
    ends: date
    node: str = ""


def counts(application: Application, now: datetime, calendars: Calendars) -> tuple[Count, ...]:
    """The clocks that run now: the committee's, or each nation's that has neither agreed nor vetoed."""
    if application.state == "assessment":
        assert application.since is not None
        days = VULNERABLE_DAYS if application.content and application.content.vulnerable else ASSESSMENT_DAYS
        since, calendar = application.since.date(), Calendar()
        return (Count("assessment", _passed(calendar, since, now.date()), days, calendar.after(since, days)),)
    if application.state != "veto-window":
        return ()
    found = {}
    for grant, held in standings(application, now, calendars).items():
        if held.state == "veto-window" and held.since is not None:
            calendar = _calendar(calendars, grant.node)
            day = min(VETO_DAYS, _passed(calendar, held.since, now.date()))
            found[grant.node] = Count("veto", day, VETO_DAYS, calendar.after(held.since, VETO_DAYS + 1), grant.node)
    return tuple(found[node] for node in sorted(found))


def _passed(calendar: Calendar, since: date, today: date) -> int:
    """How many working days have begun after ``since``."""
    days = (today - since).days
    return sum(calendar.works(since + timedelta(days=at)) for at in range(1, days + 1))


def _calendar(calendars: Calendars, node: str) -> Calendar:
    return calendars.get(node, Calendar())


def granted(application: Application, now: datetime, calendars: Calendars) -> tuple[DatasetGrant, ...]:
    """The datasets that the permit may name: confirmed by their nations, in the order they were asked for."""
    if application.opened.kind == "contract":
        return application.datasets
    held = standings(application, now, calendars)
    return tuple(grant for grant in application.datasets if held[grant].state == "confirmed")


Permission = Permit | HealthDataRequest | HealthcareContract


def permission_of(
    application: Application, now: datetime, calendars: Calendars, *, authority: str, budget_rho: float | None = None
) -> Permission:
    """The document that a permit authority signs when access begins: what was asked for, where it was confirmed.

    ``Refused`` while the application is not active: nothing is signed that was not decided.
    """
    content = application.content
    if application.state != "active" or content is None:
        raise Refused("this application gives no access now.", codes=["wrong_state"])
    assert content.valid_from is not None
    assert application.valid_until is not None
    if application.opened.kind == "contract":
        return HealthcareContract(
            id=application.opened.id,
            authority=authority,
            institution=application.opened.institution,
            nodes=application.nodes,
            algorithms=content.algorithms,
            valid_from=content.valid_from,
            valid_until=application.valid_until,
        )
    assert content.purpose is not None
    common = Permit(
        id=application.opened.id,
        authority=authority,
        holder=application.opened.institution,
        persons=content.persons,
        datasets=granted(application, now, calendars),
        purpose=content.purpose,
        algorithms=content.algorithms,
        valid_from=content.valid_from,
        valid_until=application.valid_until,
        project=application.opened.id,
        ethics=content.ethics,
        budget_rho=budget_rho,
    )
    if application.opened.kind == "permit":
        return common
    return HealthDataRequest(**vars(common), question=content.question)
