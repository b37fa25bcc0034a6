"""The clocks of an application for access: committee, veto window, silence, and what is due when.

Decisions ask ``standing`` whether an approval holds at a node (rule R21); the portal and the reminders ask ``due``.
Events are passed in, working days come from a calendar, nothing here looks at a real clock.
Sources: GDI-SOP0002 and GDI-SOP0003 v1 (1+MG data access committee, NCP veto).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal

from federome.governance.duo import months_later
from federome.model.strict import Document, Identifier

EventKind = Literal[
    "submitted",
    "returned",
    "recommended",
    "recommended-against",
    "reminded",
    "agreed",
    "vetoed",
    "justified",
    "veto-accepted",
    "review-closed",
    "subjects-informed",
    "applicant-told",
]
StandingState = Literal["not-submitted", "assessing", "veto-window", "confirmed", "vetoed", "rejected"]

ASSESSMENT_DAYS: Final = 5
VETO_DAYS: Final = 10
REMINDER_CALENDAR_DAYS: Final = 6
JUSTIFICATION_DAYS: Final = 1
INFORM_DAYS: Final = 1
REVIEW_MONTHS: Final = 2


@dataclass(frozen=True)
class Calendar(Document):
    """Which days are worked: Monday to Friday without the holidays of a country."""

    holidays: tuple[date, ...] = ()

    def works(self, day: date) -> bool:
        """Whether this is a working day."""
        return day.weekday() < 5 and day not in self.holidays

    def after(self, day: date, working_days: int) -> date:
        """The day on which so many working days have passed; the day itself is not counted."""
        while working_days > 0:
            day += timedelta(days=1)
            working_days -= self.works(day)
        return day


@dataclass(frozen=True)
class ProcessEvent(Document):
    """Something that happened to an application; ``node`` for what a national coordination point did."""

    kind: EventKind
    at: datetime
    node: Identifier | None = None


@dataclass(frozen=True)
class Process(Document):
    """One application: the permit it leads to, the nodes it concerns, and what happened so far, in any order."""

    permit: Identifier
    nodes: tuple[Identifier, ...]
    events: tuple[ProcessEvent, ...] = ()


@dataclass(frozen=True)
class Standing:
    """Where an application stands at one node: the state, the day it began, and a sentence for people."""

    state: StandingState
    since: date | None
    says: str
    late: bool = False


@dataclass(frozen=True, order=True)
class Due:
    """Something somebody must do by the end of a day."""

    by: date
    what: str
    who: str
    node: str = ""
    overdue: bool = False


def standing(process: Process, node: str, *, now: datetime, calendar: Calendar) -> Standing:
    """Where the application stands at ``node`` at this instant.

    A veto counts within ten working days of the recommendation; on the eleventh silence confirms. A vetoed node's
    data stays closed until the review of the veto is closed; other nodes are not affected.
    """
    told = _until(process, now)
    if not _first(told, "submitted"):
        return Standing("not-submitted", None, "the application was not submitted.")
    against, recommended = _last(told, "recommended-against"), _last(told, "recommended")
    if against and (recommended is None or recommended.at < against.at):
        return Standing("rejected", against.at.date(), "the committee recommended against it.")
    if recommended is None:
        return Standing("assessing", None, "the committee is still assessing it.")
    notice = recommended.at.date()
    last_day, silent_day = calendar.after(notice, VETO_DAYS), calendar.after(notice, VETO_DAYS + 1)
    at_node = [event for event in told if event.node == node and event.at >= recommended.at]
    veto = _last([event for event in at_node if event.at.date() <= last_day], "vetoed")
    late = any(event.kind == "vetoed" and event.at.date() > last_day for event in at_node)
    if veto is not None:
        return _vetoed(veto, [event for event in at_node if event.at >= veto.at], now, calendar)
    agreed = _first(at_node, "agreed")
    if agreed is not None:
        return Standing("confirmed", agreed.at.date(), "the national coordination point agreed.", late)
    if now.date() >= silent_day:
        return Standing("confirmed", silent_day, f"silence confirmed the recommendation on {silent_day}.", late)
    return Standing("veto-window", notice, f"the veto window is open through {last_day}.")


def due(process: Process, *, now: datetime, calendar: Calendar) -> tuple[Due, ...]:
    """Everything that is still owed by somebody, soonest first, with what is overdue marked."""
    told = _until(process, now)
    today = now.date()
    owed: list[Due] = []
    submitted = _last(told, "submitted")
    assessed = [event for event in told if event.kind in ("recommended", "recommended-against", "returned")]
    if submitted and not any(event.at >= submitted.at for event in assessed):
        owed.append(Due(calendar.after(submitted.at.date(), ASSESSMENT_DAYS), "assess the application", "DAC"))
    recommended = _last(told, "recommended")
    for node in process.nodes if recommended else ():
        assert recommended is not None
        owed.extend(_due_at(node, recommended, told, now=now, process=process, calendar=calendar))
    return tuple(sorted(Due(d.by, d.what, d.who, d.node, d.by < today) for d in owed))


def _due_at(
    node: str,
    recommended: ProcessEvent,
    told: list[ProcessEvent],
    *,
    now: datetime,
    process: Process,
    calendar: Calendar,
) -> list[Due]:
    place = standing(process, node, now=now, calendar=calendar)
    notice = recommended.at.date()
    here = [event for event in told if event.node == node and event.at >= recommended.at]
    match place.state:
        case "veto-window":
            owed = [Due(calendar.after(notice, VETO_DAYS), "agree or veto", "NCP", node)]
            if _last(here, "reminded") is None:
                reminder = notice + timedelta(days=REMINDER_CALENDAR_DAYS)
                owed.append(Due(reminder, "remind of the veto window", "DAC", node))
            return owed
        case "vetoed":
            veto = _last(here, "vetoed")
            assert veto is not None
            day = veto.at.date()
            owed = []
            if _last(here, "justified") is None:
                owed.append(Due(calendar.after(day, JUSTIFICATION_DAYS), "justify the veto", "NCP", node))
            if _last(here, "applicant-told") is None:
                owed.append(Due(months_later(day, REVIEW_MONTHS), "tell the applicant of the open review", "DAC", node))
            return owed
        case "confirmed" if _last(here, "subjects-informed") is None:
            assert place.since is not None
            return [Due(calendar.after(place.since, INFORM_DAYS), "inform the data subjects", "NCP", node)]
        case _:
            return []


def _vetoed(veto: ProcessEvent, here: list[ProcessEvent], now: datetime, calendar: Calendar) -> Standing:
    day = veto.at.date()
    accepted = _last(here, "veto-accepted")
    if accepted is not None:
        return Standing("rejected", accepted.at.date(), "the committee accepted the veto.")
    closed = _last(here, "review-closed")
    if closed is not None:
        return Standing("confirmed", closed.at.date(), "the review of the veto was closed in favour.")
    deadline = calendar.after(day, JUSTIFICATION_DAYS)
    justified = _first(here, "justified")
    late = (justified is None and now.date() > deadline) or (justified is not None and justified.at.date() > deadline)
    return Standing("vetoed", day, f"the national coordination point vetoed it on {day}.", late)


def _until(process: Process, now: datetime) -> list[ProcessEvent]:
    return sorted((event for event in process.events if event.at <= now), key=lambda event: (event.at, event.kind))


def _first(events: list[ProcessEvent], kind: EventKind) -> ProcessEvent | None:
    return next((event for event in events if event.kind == kind), None)


def _last(events: list[ProcessEvent], kind: EventKind) -> ProcessEvent | None:
    return _first(events[::-1], kind)
