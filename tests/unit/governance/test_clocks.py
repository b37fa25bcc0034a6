"""The clocks of an application: working days against a naive count, silence, vetoes, and what is due when."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federome.governance.clocks import Calendar, Process, ProcessEvent, due, standing

PLAIN = Calendar()


def at(day: str, hour: int = 12) -> datetime:
    return datetime.fromisoformat(f"{day}T{hour:02}:00:00").replace(tzinfo=UTC)


def course(*events: tuple[str, str] | tuple[str, str, str]) -> Process:
    told = [ProcessEvent("submitted", at("2026-05-26"))]
    told += [ProcessEvent(event[0], at(event[1]), *event[2:]) for event in events]  # type: ignore[arg-type]
    return Process("P1", ("FI", "PT"), tuple(told))


RECOMMENDED = ("recommended", "2026-06-01")


def state(process: Process, day: str, node: str = "PT", calendar: Calendar = PLAIN) -> str:
    return standing(process, node, now=at(day), calendar=calendar).state


@pytest.mark.parametrize(
    ("start", "days", "end"),
    [
        (date(2026, 6, 1), 10, date(2026, 6, 15)),
        (date(2026, 6, 1), 11, date(2026, 6, 16)),
        (date(2026, 6, 5), 1, date(2026, 6, 8)),
        (date(2026, 6, 6), 1, date(2026, 6, 8)),
        (date(2026, 6, 1), 0, date(2026, 6, 1)),
    ],
)
def test_working_days(start: date, days: int, end: date) -> None:
    assert PLAIN.after(start, days) == end


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 700), st.integers(0, 30), st.sets(st.integers(0, 800), max_size=10))
def test_working_days_equal_a_naive_count(offset: int, days: int, holidays: set[int]) -> None:
    calendar = Calendar(tuple(date(2026, 1, 1) + timedelta(days=h) for h in sorted(holidays)))
    start = date(2026, 1, 1) + timedelta(days=offset)
    end = calendar.after(start, days)
    passed = [start + timedelta(days=n) for n in range(1, (end - start).days + 1)]
    assert sum(day.weekday() < 5 and day not in calendar.holidays for day in passed) == days
    assert days == 0 or calendar.works(end)


def test_silence_confirms_on_the_eleventh_working_day_and_a_holiday_moves_it() -> None:
    process = course(RECOMMENDED)
    assert state(process, "2026-06-15") == "veto-window"
    assert state(process, "2026-06-16") == "confirmed"
    holiday = Calendar((date(2026, 6, 10),))
    assert state(process, "2026-06-16", calendar=holiday) == "veto-window"
    assert state(process, "2026-06-17", calendar=holiday) == "confirmed"


def test_an_agreement_confirms_at_once_and_only_its_own_node() -> None:
    process = course(RECOMMENDED, ("agreed", "2026-06-03", "FI"))
    assert state(process, "2026-06-03", "FI") == "confirmed"
    assert state(process, "2026-06-03", "PT") == "veto-window"


def test_a_veto_closes_its_node_until_the_review_is_closed() -> None:
    process = course(RECOMMENDED, ("vetoed", "2026-06-05", "PT"), ("justified", "2026-06-08", "PT"))
    assert state(process, "2026-06-04") == "veto-window"
    assert state(process, "2026-06-05") == "vetoed"
    assert state(process, "2026-09-01") == "vetoed"
    assert state(process, "2026-06-16", "FI") == "confirmed"
    closed = course(*[(e.kind, str(e.at.date()), e.node) for e in process.events[1:] if e.node], RECOMMENDED)
    for kind, outcome in (("review-closed", "confirmed"), ("veto-accepted", "rejected")):
        ended = Process("P1", ("FI", "PT"), (*closed.events, ProcessEvent(kind, at("2026-07-01"), "PT")))  # type: ignore[arg-type]
        assert state(ended, "2026-07-01") == outcome


def test_a_veto_after_day_ten_comes_too_late_and_is_noted() -> None:
    process = course(RECOMMENDED, ("vetoed", "2026-06-16", "PT"))
    place = standing(process, "PT", now=at("2026-06-17"), calendar=PLAIN)
    assert (place.state, place.late) == ("confirmed", True)


@pytest.mark.parametrize(("justified", "late"), [("2026-06-08", False), ("2026-06-09", True), (None, True)])
def test_a_veto_is_justified_within_one_working_day(justified: str | None, *, late: bool) -> None:
    events = [RECOMMENDED, ("vetoed", "2026-06-05", "PT")]  # a Friday
    if justified:
        events.append(("justified", justified, "PT"))  # type: ignore[arg-type]
    place = standing(course(*events), "PT", now=at("2026-06-10"), calendar=PLAIN)
    assert (place.state, place.late) == ("vetoed", late)


def test_before_and_against() -> None:
    assert standing(Process("P1", ("FI",)), "FI", now=at("2026-06-01"), calendar=PLAIN).state == "not-submitted"
    assert state(course(), "2026-06-01") == "assessing"
    assert state(course(("recommended-against", "2026-06-01")), "2026-06-02") == "rejected"
    again = course(("recommended-against", "2026-06-01"), ("recommended", "2026-06-03"))
    assert state(again, "2026-06-03") == "veto-window"


def test_the_future_is_not_known() -> None:
    assert state(course(RECOMMENDED, ("vetoed", "2026-06-05", "PT")), "2026-06-02") == "veto-window"


def duties(process: Process, day: str) -> list[tuple[str, str, str, bool]]:
    return [(str(d.by), d.what, d.node, d.overdue) for d in due(process, now=at(day), calendar=PLAIN)]


def test_what_is_due_and_when() -> None:
    assert duties(course(), "2026-05-27") == [("2026-06-02", "assess the application", "", False)]
    assert duties(course(), "2026-06-03")[0][3]
    window = course(RECOMMENDED, ("agreed", "2026-06-02", "FI"), ("subjects-informed", "2026-06-03", "FI"))
    assert duties(window, "2026-06-04") == [
        ("2026-06-07", "remind of the veto window", "PT", False),
        ("2026-06-15", "agree or veto", "PT", False),
    ]
    vetoed = course(
        RECOMMENDED,
        ("agreed", "2026-06-02", "FI"),
        ("subjects-informed", "2026-06-03", "FI"),
        ("vetoed", "2026-06-05", "PT"),
    )
    assert duties(vetoed, "2026-08-06") == [
        ("2026-06-08", "justify the veto", "PT", True),
        ("2026-08-05", "tell the applicant of the open review", "PT", True),
    ]
    silent = course(RECOMMENDED)
    assert duties(silent, "2026-06-16") == [
        ("2026-06-17", "inform the data subjects", "FI", False),
        ("2026-06-17", "inform the data subjects", "PT", False),
    ]
