"""The way to a permit: whole journeys with a moved clock, every refusal of the table, and walks nobody planned."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federome.errors import Invalid, Refused
from federome.governance import application_course as course
from federome.governance import applications
from federome.governance.application_course import dues, granted, permission_of, ticks
from federome.governance.applications import (
    ACTS,
    BY_NAME,
    Application,
    Content,
    Event,
    Kind,
    Opened,
    allowed,
    check,
    fold,
)
from federome.governance.calendars import calendar_of
from federome.model.permit import (
    AlgorithmGrant,
    DatasetGrant,
    HealthcareContract,
    HealthDataRequest,
    NamedPerson,
    Permit,
    PersonKey,
    Purpose,
)
from federome.model.registry import Person
from federome.trust.canonical import digest_bytes
from federome.trust.keys import generate

DOCS = Path(__file__).resolve().parents[3] / "docs"
MONDAY = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PEOPLE = {
    person.id: person
    for person in (
        Person("alice", "uni-a", roles=("researcher",)),
        Person("sofia", "uni-a", roles=("signing-official",)),
        Person("heidi", "dac", roles=("dac-member",)),
        Person("hugo", "dac", roles=("dac-member",)),
        Person("nina", "ncp-fi", roles=("ncp",)),
        Person("pedro", "ncp-pt", roles=("ncp",)),
        Person("grace", "node-fi", roles=("node-operator",)),
        Person("otto", "office", roles=("administrator",)),
    )
}
KEY = PersonKey.of(generate("ES256").public.jwk())
CONTENT = Content(
    digest_bytes(b"answers"),
    datasets=(DatasetGrant("D1", "FI"), DatasetGrant("D2", "PT"), DatasetGrant("D5", "PT")),
    persons=(NamedPerson("alice", KEY),),
    purpose=Purpose("research"),
    algorithms=(AlgorithmGrant("gwas"),),
    question="How many?",
    valid_from=date(2026, 7, 1),
    valid_until=date(2027, 6, 30),
)


class Journey:
    """An application with a clock, as the hub would keep it: checked, appended, ticked."""

    def __init__(self, kind: Kind = "permit") -> None:
        self.opened = Opened("A-1", kind, "uni-a", ("alice",), MONDAY)
        self.events: list[Event] = []
        self.now = MONDAY
        self.calendars: course.Calendars = {}

    @property
    def application(self) -> Application:
        return fold(self.opened, self.events)

    @property
    def state(self) -> str:
        return self.application.state

    def append(self, event: Event) -> None:
        check(self.application, event, PEOPLE.get(event.actor))
        self.events.append(event)

    def does(self, actor: str, act: str, **more: object) -> Journey:
        event = Event(f"e{len(self.events)}", act, actor, self.now)
        if BY_NAME[act].reasoned:
            more.setdefault("reasons", "because")
        if act == "save":
            more.setdefault("content", CONTENT)
        if act == "submit":
            more.setdefault("version", self.application.version)
        self.append(dataclasses.replace(event, **more))  # type: ignore[arg-type]
        return self.tick()

    def tick(self) -> Journey:
        while due := list(ticks(self.application, self.now, self.calendars)):
            for event in due:
                self.append(event)
        return self

    def wait(self, until: str) -> Journey:
        end = datetime.fromisoformat(until).replace(tzinfo=UTC) + DAY / 2
        while self.now < end:
            self.now += DAY
            self.tick()
        return self

    def submitted(self) -> Journey:
        return self.does("alice", "save").does("sofia", "sign-off").does("alice", "submit").does("otto", "accept")

    def recommended(self) -> Journey:
        self.submitted().does("heidi", "vote", vote="for").does("hugo", "vote", vote="for")
        return self.does("heidi", "recommend")

    def signed(self) -> Journey:
        return self.does("sofia", "sign").does("nina", "sign", node="FI").does("pedro", "sign", node="PT")

    def acts(self) -> list[str]:
        return [event.act for event in self.events]


def refused(code: str):  # type: ignore[no-untyped-def]
    return pytest.raises(Refused, match="") if not code else _Code(code)


class _Code:
    def __init__(self, code: str) -> None:
        self.code = code

    def __enter__(self) -> None:
        self.raised = pytest.raises(Refused)
        self.caught = self.raised.__enter__()

    def __exit__(self, *what: object) -> bool:
        done = bool(self.raised.__exit__(*what))  # type: ignore[arg-type]
        assert self.code in self.caught.value.codes
        return done


# journeys


def test_the_whole_way_with_silence_in_one_country_and_a_partial_veto_in_another() -> None:
    way = Journey().recommended()
    assert way.state == "veto-window"
    way.wait("2026-06-03").does("pedro", "veto", node="PT", datasets=("D5",)).does("pedro", "justify", node="PT")
    way.wait("2026-06-15")
    assert way.state == "veto-window"
    assert way.acts().count("remind") == 2  # one for each nation that had not spoken about everything
    way.wait("2026-06-16")
    assert way.state == "agreement"  # silence confirmed on the eleventh working day
    assert [g.dataset for g in granted(way.application, way.now, {})] == ["D1", "D2"]
    way.signed()
    assert way.state == "preparation"
    way.does("grace", "prepare", node="FI").does("grace", "prepare", node="PT")
    assert way.state == "active"
    permit = permission_of(way.application, way.now, {}, authority="authority")
    assert isinstance(permit, Permit)
    assert [g.dataset for g in permit.datasets] == ["D1", "D2"]
    way.does("heidi", "close-review", node="PT", datasets=("D5",))
    assert [g.dataset for g in granted(way.application, way.now, {})] == ["D1", "D2", "D5"]
    way.does("alice", "ask-extension").does("heidi", "extend", until=date(2027, 12, 31))
    way.wait("2027-12-31")
    assert way.state == "active"
    way.wait("2028-01-01")
    assert way.state == "closing"
    owed = {(d.what, d.node): d.by for d in dues(way.application, way.now, {})}
    assert owed["delete the project's data", "FI"] == date(2028, 7, 1)
    assert owed["publish the results", ""] == date(2029, 7, 1)
    way.does("alice", "publish").does("grace", "confirm-deletion", node="FI")
    assert way.state == "closing"
    way.does("grace", "confirm-deletion", node="PT")
    assert way.state == "archived"
    assert dues(way.application, way.now, {}) == ()


def test_a_veto_by_every_nation_waits_for_consensus_and_fails_or_goes_on() -> None:
    ends = {"accept-veto": "rejected", "close-review": "agreement"}
    for act, end in ends.items():
        way = Journey().recommended()
        way.does("nina", "veto", node="FI").does("pedro", "veto", node="PT")
        assert way.state == "consensus"
        way.does("heidi", act, node="FI")
        if act == "accept-veto":
            assert way.state == "consensus"
        way.does("heidi", act, node="PT") if way.state == "consensus" else None
        assert way.state == end


def test_a_request_gets_an_answer_without_agreement_or_preparation() -> None:
    way = Journey("request").recommended().does("nina", "agree", node="FI").does("pedro", "agree", node="PT")
    assert way.state == "active"
    assert isinstance(permission_of(way.application, way.now, {}, authority="authority"), HealthDataRequest)


def test_a_care_contract_needs_no_committee() -> None:
    way = Journey("contract").submitted()
    assert way.state == "agreement"
    way.signed()
    assert way.state == "active"
    contract = permission_of(way.application, way.now, {}, authority="authority")
    assert isinstance(contract, HealthcareContract)
    assert contract.nodes == ("FI", "PT")


def test_rejection_can_be_repaired_or_appealed() -> None:
    way = Journey().submitted().does("heidi", "vote", vote="against").does("hugo", "vote", vote="against")
    way.does("heidi", "recommend-against")
    assert way.state == "rejected"
    appealed = Journey()
    appealed.events, appealed.now = list(way.events), way.now
    appealed.does("alice", "appeal").does("otto", "overturn")
    assert appealed.state == "assessment"
    with refused("wrong_state"):  # earlier votes do not count, and it takes new ones
        appealed.does("heidi", "recommend")
    late = Journey()
    late.events, late.now = list(way.events), way.now + 31 * DAY
    with refused("deadline_passed"):
        late.does("alice", "appeal")
    way.does("alice", "repair")
    assert way.state == "draft"
    way.does("alice", "save").does("sofia", "sign-off").does("alice", "submit").does("otto", "accept")
    with refused("wrong_state"):  # last time's votes are no votes about this version
        way.does("heidi", "recommend")


def test_a_breach_closes_access_at_once_and_may_end_it() -> None:
    way = Journey("request").recommended().does("nina", "agree", node="FI").does("pedro", "agree", node="PT")
    way.does("nina", "report-breach")
    with refused("wrong_state"):
        permission_of(way.application, way.now, {}, authority="authority")
    way.does("otto", "blacklist")
    assert way.state == "closing"


# refusals


def test_what_is_not_complete_is_not_submitted_but_always_saved() -> None:
    way = Journey().does("alice", "save", content=Content(digest_bytes(b"little"), missing=("benefit",)))
    with refused("incomplete"):
        way.does("alice", "submit")
    way.does("alice", "save")
    with refused("sign_off_missing"):
        way.does("alice", "submit")
    way.does("sofia", "sign-off").does("alice", "save")
    with refused("sign_off_missing"):  # signed was the version before
        way.does("alice", "submit")
    with pytest.raises(Invalid, match="changed meanwhile"):
        way.does("alice", "submit", version=1)


def test_nobody_judges_a_project_of_their_own() -> None:
    way = Journey().submitted()
    for own in (
        dataclasses.replace(PEOPLE["heidi"], projects=("A-1",)),
        dataclasses.replace(PEOPLE["alice"], roles=("dac-member",)),
    ):
        event = Event("x", "vote", own.id, way.now, vote="for")
        with refused("conflict_of_interest"):
            check(way.application, event, own)
        assert "vote" not in {act.name for act in allowed(way.application, own)}
    named = dataclasses.replace(CONTENT, persons=(*CONTENT.persons, NamedPerson("heidi", KEY)))
    way = Journey()
    way.does("alice", "save", content=named).does("sofia", "sign-off").does("alice", "submit").does("otto", "accept")
    with refused("conflict_of_interest"):
        way.does("heidi", "vote", vote="for")


def test_one_vote_a_member_and_a_majority() -> None:
    way = Journey().submitted().does("heidi", "vote", vote="for")
    with refused("wrong_state"):
        way.does("heidi", "recommend")
    with refused("wrong_state"):
        way.does("heidi", "vote", vote="for")
    way.does("hugo", "vote", vote="against")
    for act in ("recommend", "recommend-against"):
        with refused("wrong_state"):
            way.does("heidi", act)


def test_reasons_nodes_and_datasets_are_named() -> None:
    way = Journey().recommended()
    with pytest.raises(Invalid, match="reason"):
        way.does("pedro", "veto", node="PT", reasons="  ")
    with pytest.raises(Invalid, match="node"):
        way.does("pedro", "veto", node="SE")
    with pytest.raises(Invalid, match="not asked for"):
        way.does("pedro", "veto", node="PT", datasets=("D1",))


def test_the_clock_is_nobody_and_nobody_is_the_clock() -> None:
    way = Journey().recommended()
    with refused("not_your_role"):
        check(way.application, Event("x", "settle", "otto", way.now), PEOPLE["otto"])
    with refused("not_your_role"):
        check(way.application, Event("x", "agree", "clock", way.now, node="FI"), None)


@pytest.mark.parametrize("act", [act.name for act in ACTS])
def test_no_act_is_done_by_a_stranger(act: str) -> None:
    stranger = Person("mallory", "elsewhere", roles=("researcher", "auditor"))
    for state in BY_NAME[act].at:
        kind: Kind = next(iter(sorted(BY_NAME[act].kinds)))
        application = dataclasses.replace(
            Application(Opened("A-1", kind, "uni-a", ("alice",), MONDAY), content=CONTENT, since=MONDAY), state=state
        )
        with refused("not_your_role"):
            check(application, Event("x", act, "mallory", MONDAY, node="FI", reasons="r"), stranger)


# whatever happens


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["permit", "request", "contract"]),
    st.lists(
        st.tuples(
            st.sampled_from(sorted(PEOPLE)),
            st.sampled_from([act.name for act in ACTS if "system" not in act.who]),
            st.sampled_from([None, "FI", "PT", "SE"]),
            st.integers(0, 20),
            st.sampled_from(["for", "against"]),
        ),
        max_size=60,
    ),
)
def test_any_walk_is_refused_or_leads_on(kind: Kind, steps: Sequence[tuple[str, str, str | None, int, str]]) -> None:
    way = Journey(kind).submitted()
    for actor, act, node, days, vote in steps:
        before = way.application
        way.now += days * DAY
        way.tick()
        with_more = {"node": node, "vote": vote, "until": (way.now + 400 * DAY).date()}
        with suppress(Refused, Invalid):
            way.does(actor, act, **with_more)
            assert actor != "alice" or act not in applications._JUDGING
        after = way.application
        assert after.events[: len(before.events)] == before.events  # nothing is lost or rewritten
        assert after.state in {act.to for act in ACTS} | {"draft"}
        if after.state == "active" and kind == "permit":
            signed = {event.node for event in after.of("sign")}
            assert signed >= {None, *({event.node for event in after.of("prepare")} - {None})} - {"SE"}
            assert granted(after, way.now, {}), "access without a nation that confirmed"
    assert fold(way.opened, way.events) == way.application


def test_the_diagram_in_the_documentation_is_the_table() -> None:
    assert applications.diagram() in (DOCS / "reference" / "applications.md").read_text()


def test_public_holidays_move_the_clock_of_a_country() -> None:
    finland = calendar_of("FI", 2026, 2026)
    assert not finland.works(date(2026, 6, 19))  # Midsummer Eve
    assert not finland.works(date(2026, 6, 20))
    assert calendar_of("DE", 2026, 2026).works(date(2026, 6, 4))  # Corpus Christi: some Länder only
    way = Journey().recommended()
    way.calendars = {"FI": finland, "PT": calendar_of("PT", 2026, 2026)}
    way.wait("2026-06-16")
    assert way.state == "veto-window"  # 4 and 10 June are holidays in Portugal
    way.wait("2026-06-18")
    assert way.state == "agreement"
    with pytest.raises(Invalid, match="no public holidays"):
        calendar_of("XX", 2026, 2026)
