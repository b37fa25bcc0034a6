"""Consent at a node: an append-only ledger, cohorts that follow it, and a change of mind in the middle of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federation import NOW, Federation, build_federation
from tests.unit.store.small_stores import draw_batch, manifest, put
from tests.worlds import make_world, random_assignment
from typer.testing import CliRunner

from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.cli.approvals import consent_app
from federome.db import engine
from federome.errors import Invalid
from federome.governance.consent import ConsentEvent, Ledger, NationalOverride, cohort_mask
from federome.model.cohort import Cohort
from federome.network.consents import COVERED, ConsentBook, _events, instant, read_events
from federome.network.holdings import StoreHoldings, unknown_people
from federome.network.ledger import Run
from federome.network.protocol import mapping
from federome.network.question import Use
from federome.network.record import Record
from federome.store.catalogue import Store
from federome.trust.canonical import canonical, parse_object
from federome.trust.keys import generate

RUN, CARE = Use("run", "research"), Use("match", "care")
HOUR = timedelta(hours=1)


def said(subject: str, kind: str, hours: float = 0, tier: str | None = None) -> ConsentEvent:
    return ConsentEvent(subject, kind, NOW + hours * HOUR, tier)  # type: ignore[arg-type]


@pytest.fixture
def database(tmp_path: Path) -> sa.Engine:
    return engine(f"sqlite:///{tmp_path}/node.db")


@pytest.fixture
def book(database: sa.Engine) -> ConsentBook:
    return ConsentBook(database, secret=b"secret")


# the ledger


def test_telling_twice_changes_nothing(book: ConsentBook) -> None:
    events = [said("p1", "withdraw"), said("p2", "opt-out")]
    assert book.tell(events, now=NOW) == 2
    assert book.tell([*events, said("p1", "reinstate", 1)], now=NOW + HOUR) == 1
    assert book.ledger() == Ledger((*events, said("p1", "reinstate", 1)), COVERED)


def test_a_ledger_survives_and_is_the_same_for_all_who_read_it(book: ConsentBook, database: sa.Engine) -> None:
    law = NationalOverride("FI-552/2019", ("public-health",), NOW)
    other = ConsentBook(database, secret=b"secret")
    assert other.ledger().default == COVERED
    assert book.override(law, now=NOW)
    assert not book.override(law, now=NOW)
    assert book.set_default("none", now=NOW)
    assert not book.set_default("none", now=NOW)
    assert book.set_default("secondary-use", now=NOW)
    assert book.set_default("none", now=NOW)
    book.tell([said("p1", "tier", tier="secondary-use")], now=NOW)
    expected = Ledger((said("p1", "tier", tier="secondary-use"),), "none", (law,))
    assert other.ledger() == expected
    assert other.ledger() is other.ledger()  # read once, until something is told
    assert ConsentBook(database, secret=b"secret").ledger() == expected
    with pytest.raises(Invalid):
        book.set_default("everything", now=NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize("subject", ["Pé1", "-P1", "_1", "P 1", "", "P" * 300])
def test_an_id_that_could_not_be_read_back_is_refused_and_the_ledger_stays_readable(
    subject: str, book: ConsentBook, database: sa.Engine
) -> None:
    """Kept, it would make every later reading of the ledger fail, and the node would answer nobody."""
    with pytest.raises(Invalid, match="1 changes are of people whose ids") as error:
        book.tell([said("P1", "withdraw"), said(subject, "withdraw")], now=NOW)
    assert not subject or subject not in str(error.value)
    assert ConsentBook(database, secret=b"s" * 32).ledger().events == ()


def test_each_change_is_on_record_and_names_nobody(book: ConsentBook, database: sa.Engine) -> None:
    book.tell([said("person-77", "withdraw"), said("person-78", "withdraw")], now=NOW)
    book.set_default("none", now=NOW)
    record = Record(database, party="FI", key=generate("Ed25519"))
    assert record.seal().size == 3
    held = b"".join(data for _, data in record.log.entries())
    assert b"consent-event" in held
    assert b"person-7" not in held


@pytest.mark.parametrize("line", ["{", "[]", '{"subject": "p1", "kind": "leave", "at": "2026-11-02T09:00:00Z"}',
    '{"subject": "p 1", "kind": "withdraw", "at": "2026-11-02T09:00:00Z"}', '{"subject": "p1", "kind": "withdraw"}',
    '{"subject": "p1", "kind": "tier", "at": "2026-11-02T09:00:00Z"}'])  # fmt: skip
def test_registers_are_read_strictly(line: str) -> None:
    good = '{"subject": "p1", "kind": "withdraw", "at": "2026-11-02T09:00:00Z"}'
    assert read_events([good, "", good], where="f") == [said("p1", "withdraw")] * 2
    with pytest.raises(Invalid):
        read_events([good, line], where="f")


@pytest.mark.parametrize("text", ["yesterday", "2026-11-02T09:00:00", "2026-13-01T00:00:00Z"])
def test_instants_have_an_offset(text: str) -> None:
    with pytest.raises(Invalid):
        instant(text)


# cohorts over a real store


class Node:
    """A small store, its consent ledger and a clock."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(folder / "data")
        rng = np.random.default_rng(5)
        self.names: list[str] = []
        for dataset in ("fi", "es"):
            batch = draw_batch(rng, "one", 12, prefix=f"{dataset}-")
            put(self.store, batch, about=manifest(dataset))
            self.names += batch.people
        self.now = NOW.timestamp()
        self.book = ConsentBook(engine(f"sqlite:///{folder}/node.db"), secret=b"secret")
        self.holdings = StoreHoldings(self.store, self.book.ledger, lambda: self.now)

    def inside(self, use: Use = RUN) -> set[str]:
        site = self.holdings.open(self.holdings.freeze(["fi", "es"], Cohort(), use))
        return self.named(site.view.numbers_at_node.tolist())

    def named(self, numbers: list[int]) -> set[str]:
        with self.store.database.connect() as db:
            rows = db.execute(sa.text("SELECT number, id FROM person")).all()
        ids = dict(tuple(row) for row in rows)
        return {ids[number] for number in numbers}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    return Node(tmp_path_factory.mktemp("node"))


def test_everybody_is_in_until_something_is_told(node: Node) -> None:
    assert node.inside() == set(node.names)
    node.book.tell([said(node.names[0], "withdraw"), said(node.names[1], "opt-out")], now=NOW)
    assert node.inside() == set(node.names[2:])
    assert node.inside(CARE) == set(node.names) - {node.names[0]}


def test_nobody_is_in_unless_they_said_so_where_that_is_the_default(node: Node) -> None:
    node.book.set_default("allele-frequency", now=NOW)
    assert node.inside() == set()
    node.book.tell([said(node.names[3], "tier", tier="secondary-use")], now=NOW)
    node.book.tell([said(node.names[4], "tier", tier="subject-query")], now=NOW)
    assert node.inside() == {node.names[3]}
    assert node.inside(CARE) == {node.names[3], node.names[4]}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 23),
            st.sampled_from(["withdraw", "reinstate", "opt-out", "opt-in", "none", "subject-query", "secondary-use"]),
            st.integers(-3, 3),
        ),
        max_size=12,
    ),
    st.sampled_from(["none", "secondary-use"]),
    st.sampled_from([RUN, CARE]),
)
@settings(max_examples=25, deadline=None)
def test_cohorts_against_the_rule_person_by_person(
    shared_node: Node, told: list[tuple[int, str, int]], default: str, use: Use
) -> None:
    node = shared_node
    node.book = ConsentBook(engine("sqlite://"), secret=b"secret")
    holdings = StoreHoldings(node.store, node.book.ledger, lambda: node.now)
    node.book.set_default(default, now=NOW)  # type: ignore[arg-type]
    plain = ("withdraw", "reinstate", "opt-out", "opt-in")
    node.book.tell(
        [
            said(node.names[who], what, hours) if what in plain else said(node.names[who], "tier", hours, what)
            for who, what, hours in told
        ],
        now=NOW,
    )
    ledger = node.book.ledger()
    mask = cohort_mask(ledger, node.names, operation=use.operation, basis=use.basis, now=NOW).included
    site = holdings.open(holdings.freeze(["fi", "es"], Cohort(), use))
    expected = {name for name, is_in in zip(node.names, mask, strict=True) if is_in}
    assert node.named(site.view.numbers_at_node.tolist()) == expected
    assert not site.changed()


def test_a_frozen_cohort_knows_when_somebody_may_not_be_in_it_any_more(node: Node) -> None:
    frozen = node.holdings.freeze(["fi", "es"], Cohort(), RUN)
    site = node.holdings.open(frozen)
    assert not site.changed()
    node.book.tell([said("stranger", "withdraw"), said(node.names[0], "withdraw", hours=2)], now=NOW)
    assert not site.changed()  # not yet, and not of this cohort
    node.now += 3 * 3600
    assert site.changed()
    assert node.holdings.open(frozen).changed()  # and a node that was started again knows as well
    node.book.tell([said(node.names[0], "reinstate", hours=2.5)], now=NOW)
    assert not site.changed()
    node.book.set_default("none", now=NOW)
    assert site.changed()


def test_a_law_that_ends_takes_its_people_with_it(node: Node) -> None:
    use = Use("run", "public-health")
    node.book.tell([said(name, "opt-out", -1) for name in node.names], now=NOW)
    assert node.inside(use) == set()
    node.book.override(NationalOverride("FI-552/2019", ("public-health",), NOW, NOW + HOUR), now=NOW)
    site = node.holdings.open(node.holdings.freeze(["fi", "es"], Cohort(), use))
    assert site.view.people == len(node.names)
    assert node.inside(RUN) == set()
    assert not site.changed()
    node.now += 3600
    assert site.changed()


# in the middle of a run


def federation_of(tmp_path: Path, sites: int) -> Federation:
    world = make_world(seed=7, people=400, variants=30)
    split = world.split(random_assignment(world, sites=sites, seed=1))
    return build_federation(tmp_path, split.sites)


def step_until(federation: Federation, run: Run, reached: Callable[[Run], bool]) -> None:
    for _ in range(100):
        for party in federation.parties.values():
            party.once()
            if reached(federation.coordinator.ledger.run(run.id)):
                return
    raise AssertionError("the run never came there")


def codes(run: Run) -> object:
    return mapping(run.detail, "problem").get("codes")


def change_at(federation: Federation, node: str, kind: str) -> str:
    """Somebody of this node changes their mind now."""
    holdings = federation.holdings[node]
    assert holdings.consents is not None
    person = f"p{holdings.site.view.ids[0]}"
    now = datetime.fromtimestamp(federation.now(), UTC)
    holdings.consents.tell([ConsentEvent(person, kind, now)], now=now)  # type: ignore[arg-type]
    return person


@pytest.mark.parametrize("kind", ["withdraw", "opt-out"])
@pytest.mark.parametrize("moment", ["rostering", "leading", "working"])
def test_a_withdrawal_in_the_middle_of_a_sealed_run(tmp_path: Path, moment: str, kind: str) -> None:
    federation = federation_of(tmp_path, 3)
    run = federation.ask(AlleleFrequency())
    step_until(federation, run, lambda at: at.state == moment)
    change_at(federation, "ES", kind)
    ended = federation.settle(run)
    assert ended.state == "failed"
    assert codes(ended) == ["recompute_required"]
    assert "result" not in ended.detail


def test_a_withdrawal_in_the_middle_of_separate_answers(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, 2)
    run = federation.ask(CohortCount(), quorum=2)
    step_until(federation, run, lambda at: at.state == "alone")
    change_at(federation, "FI", "withdraw")
    ended = federation.settle(run)
    assert (ended.state, codes(ended)) == ("failed", ["recompute_required"])
    again = federation.settle(federation.ask(CohortCount(), quorum=2))  # as the remedy says
    assert codes(again) == ["differencing"]


def test_a_withdrawal_before_the_freeze_is_simply_obeyed(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, 3)
    everybody = sum(h.site.view.people for h in federation.holdings.values())
    for name in federation.names:
        change_at(federation, name, "withdraw")
    ended = federation.settle(federation.ask(CohortCount()))
    assert ended.state == "complete", ended.detail.get("problem")
    (people,) = federation.tables(ended)["counts"].ints("people")[:1]
    exact = everybody - 3
    assert people <= exact  # counts are rounded down to the policy's step, never up to somebody who left


def test_what_was_released_stands(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, 3)
    first = federation.settle(federation.ask(CohortCount()))
    assert first.state == "complete"
    change_at(federation, "IT", "withdraw")
    assert federation.coordinator.ledger.run(first.id).state == "complete"
    assert federation.tables(first)["counts"].rows
    # Asked again, the answer would differ from the released one by one person: it waits.
    again = federation.settle(federation.ask(CohortCount()))
    assert again.state == "failed"
    assert codes(again) == ["differencing"]


# the commands


def test_the_ledger_from_the_command_line(tmp_path: Path) -> None:
    node = Node(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "secret").write_bytes(b"secret")

    def run(*words: str) -> dict[str, object]:
        done = CliRunner().invoke(consent_app, [*words, "--dir", str(tmp_path), "--json"])
        if done.exception is not None:
            raise done.exception
        return json.loads(done.output)

    one, two, three = node.names[:3]
    at = ("--at", "2026-11-02T08:00:00Z")
    (tmp_path / "people").write_text(f"{two}\n{three}\n")
    assert run("withdraw", one, *at) == {"told": 1, "new": 1}
    assert run("withdraw", one, *at) == {"told": 1, "new": 0}
    assert run("opt-out", f"@{tmp_path}/people", *at) == {"told": 2, "new": 2}
    assert node.inside() == set(node.names[3:])
    run("reinstate", one, "--at", "2026-11-02T08:30:00Z")
    run("opt-in", two, "--at", "2026-11-02T08:30:00Z")
    run("tier", "allele-frequency", two, *at)
    assert node.inside() == {one, *node.names[3:]}
    assert run("override", "FI-552/2019", "research", "--from", "2026-11-01T00:00:00Z")["new"] is True
    assert node.inside() == {one, three, *node.names[3:]}
    (tmp_path / "register").write_text(json.dumps(said(one, "opt-out", -0.1).to_document()) + "\n")
    assert run("import", str(tmp_path / "register")) == {"told": 1, "new": 1}
    assert run("default", "none")["new"] is True
    assert run("show")["default"] == "none"
    assert node.inside() == set()
    with pytest.raises(Invalid, match="1 people are not in the store"):
        run("withdraw", one, "nobody")
    assert run("withdraw", "nobody", "--ahead", *at)["new"] == 1
    with pytest.raises(Invalid):
        run("tier", "everything", one)
    assert unknown_people(tmp_path / "data", {one, "nobody"}) == 1


def test_the_quick_way_of_reading_an_event_gives_what_the_checked_way_gives() -> None:
    at = datetime(2026, 3, 29, 1, 30, 0, 250_000, tzinfo=UTC)
    told = [
        ConsentEvent("FI-1", "tier", at, "secondary-use"),
        ConsentEvent("FI-1", "withdraw", at.replace(microsecond=0)),
        ConsentEvent("FI-2", "opt-out", at.astimezone(timezone(timedelta(hours=2)))),
    ]
    for event in told:
        text = canonical(event.to_document()).decode()
        assert _events([text]) == [ConsentEvent.from_document(parse_object(text.encode()))] == [event]
    for wrong in (
        '{"subject":"Pé1","kind":"withdraw","at":"2026-01-01T00:00:00Z"}',
        '{"subject":"FI-1","kind":"tier","at":"2026-01-01T00:00:00Z"}',
        '{"subject":"FI-1","kind":"forget","at":"2026-01-01T00:00:00Z"}',
        '{"subject":"FI-1","kind":"withdraw","at":"2026-01-01T00:00:00"}',
        '{"subject":"FI-1","kind":"withdraw","at":"2026-01-01T00:00:00Z","more":1}',
        '{"subject":"FI-1","kind":"withdraw","at":1767225600}',
    ):
        with pytest.raises(Invalid):
            ConsentEvent.from_document(parse_object(wrong.encode()))
        with pytest.raises(Invalid):
            _events([wrong])
