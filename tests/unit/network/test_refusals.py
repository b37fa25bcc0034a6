"""What must not happen, does not: each refusal by name, and a hub that cheats is caught by the nodes."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.federation import Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.cohort_count import CohortCount
from federome.errors import Invalid
from federome.governance.case import LocalRefusal
from federome.model.permit import DatasetGrant
from federome.model.release import Policy
from federome.network.jobs import Coordinator
from federome.network.ledger import Run
from federome.network.protocol import Body, Reply, Task, mapping

QUESTION = CohortCount(by=("sex",))


def build(tmp_path: Path, *, sites: int = 4, policy: Policy | None = None) -> Federation:
    world = make_world(seed=11, people=300, variants=8)
    split = world.split(random_assignment(world, sites=sites, seed=2))
    return build_federation(tmp_path, split.sites, policy=policy)


def codes(run: Run) -> list[str]:
    problem = mapping(run.detail, "problem")
    told = problem.get("codes", [])
    return [str(code) for code in told] if isinstance(told, list) else []


def says(run: Run) -> str:
    return str(mapping(run.detail, "problem")["detail"])


def test_without_a_permit_for_it_nobody_answers(tmp_path: Path) -> None:
    federation = build(tmp_path)
    permit = federation.permit(datasets=())
    run = federation.coordinator.submit(permit, federation.orders(QUESTION), person="alice")
    ended = federation.settle(run)
    assert ended.state == "failed"
    assert "dataset_not_in_permit" in codes(ended)
    assert says(ended) == "ES, FI, GB and IT refused: permit P-1 does not cover the data of these nodes."


def test_nodes_that_refuse_alike_are_named_together_and_the_others_apart(tmp_path: Path) -> None:
    federation = build(tmp_path)
    permit = federation.permit(datasets=(DatasetGrant("another", "FI"), DatasetGrant("it-1", "IT")))
    ended = federation.settle(federation.coordinator.submit(permit, federation.orders(QUESTION), person="alice"))
    assert says(ended) == (
        "ES and GB refused: permit P-1 does not cover the data of these nodes; "
        "FI refused: permit P-1 does not cover fi-1."
    )


def test_an_order_is_good_for_one_run(tmp_path: Path) -> None:
    federation = build(tmp_path)
    orders = federation.orders(QUESTION, run="first")
    assert federation.settle(federation.coordinator.submit(federation.permit(), orders, person="a")).state == "complete"
    with pytest.raises(Invalid, match="exists"):
        federation.coordinator.submit(federation.permit(), orders, person="a")
    # A hub that forgot the run on purpose gets no further: the nodes remember.
    (federation.root / "hub.db").unlink()
    fresh = federation.coordinator = federation.new_coordinator()
    federation.parties = {name: federation.new_party(name) for name in (*federation.names, "releaser")}
    ended = federation.settle(fresh.submit(federation.permit(), orders, person="a"))
    assert ended.state == "failed"


def test_a_question_is_summed_over_one_circle_only(tmp_path: Path) -> None:
    federation = build(tmp_path)
    assert federation.settle(federation.ask(QUESTION)).state == "complete"
    fewer = federation.names[:3]
    ended = federation.settle(federation.ask(QUESTION, roster=fewer))
    assert ended.state == "failed"
    assert codes(ended) == ["differencing"]
    again = federation.settle(federation.ask(QUESTION))
    assert again.state == "complete"


def test_a_withdrawal_in_the_middle_stops_the_result(tmp_path: Path) -> None:
    federation = build(tmp_path)
    run = federation.ask(QUESTION)
    for _ in range(3):
        for party in federation.parties.values():
            party.once()
    assert federation.coordinator.ledger.run(run.id).state not in ("complete", "failed")
    federation.holdings["ES"].left = True
    ended = federation.settle(run)
    assert ended.state == "failed"
    assert codes(ended) == ["recompute_required"]


def test_an_operator_may_always_refuse_and_partial_is_named(tmp_path: Path) -> None:
    federation = build(tmp_path)
    plain = federation.state

    def state(node: str) -> object:
        held = plain(node)
        return dataclasses.replace(held, refusals=(LocalRefusal("not this week"),)) if node == "IT" else held

    federation.state = state  # type: ignore[method-assign, assignment]
    refused = federation.settle(federation.ask(QUESTION))
    assert refused.state == "failed"
    assert "IT" in says(refused)
    partial = federation.settle(federation.ask(QUESTION, allow_partial=True, quorum=3))
    assert partial.state == "complete"
    assert list(mapping(partial.detail, "absent")) == ["IT"]
    assert mapping(partial.detail, "result")["contributors"] == ["ES", "FI", "GB"]


def test_a_refusal_takes_effect_in_the_middle_of_a_run(tmp_path: Path) -> None:
    federation = build(tmp_path)
    run = federation.ask(QUESTION)
    for _ in range(2):
        for party in federation.parties.values():
            party.once()
    plain = federation.state
    federation.state = lambda node: dataclasses.replace(  # type: ignore[method-assign]
        plain(node), suspended=frozenset({"P-1"})
    )
    ended = federation.settle(run)
    assert ended.state == "failed"
    assert "permit_suspended" in codes(ended)


def test_fewer_than_three_answer_each_for_themselves(tmp_path: Path) -> None:
    federation = build(tmp_path, sites=2)
    ended = federation.settle(federation.ask(QUESTION))
    assert ended.state == "complete", ended.detail.get("problem")
    result = mapping(ended.detail, "result")
    assert result["mode"] == "alone"
    assert sorted(mapping(result, "results")) == ["ES", "FI"]


def test_a_class_that_is_not_approved_for_it_waits_for_reviewers(tmp_path: Path) -> None:
    federation = build(tmp_path)
    federation.approvals = tuple(dataclasses.replace(a, automatic=()) for a in federation.approvals)
    ended = federation.settle(federation.ask(QUESTION))
    assert ended.state == "held"
    assert mapping(ended.detail, "review")["state"] == "waiting"


def test_the_deadline_names_who_was_waited_for(tmp_path: Path) -> None:
    federation = build(tmp_path)
    run = federation.ask(QUESTION)
    for name, party in federation.parties.items():
        if name != "GB":
            party.once()
    federation.clock[0] += timedelta(hours=2).total_seconds()
    federation.coordinator.tick()
    ended = federation.coordinator.ledger.run(run.id)
    assert ended.state == "failed"
    assert mapping(ended.detail, "problem")["late"] == ["GB"]


def test_a_late_node_is_named_where_partial_is_allowed(tmp_path: Path) -> None:
    federation = build(tmp_path)
    silent = federation.parties.pop("GB")
    run = federation.ask(QUESTION, allow_partial=True, quorum=3)
    federation.settle(run)
    federation.clock[0] += 11
    federation.coordinator.tick()
    ended = federation.settle(run)
    assert ended.state == "complete"
    assert mapping(mapping(ended.detail, "absent"), "GB")["status"] == 503
    federation.parties["GB"] = silent


class Cheating:
    """A hub that alters tasks on the way to one node."""

    def __init__(self, coordinator: Coordinator, victim: str, kind: str, change: str) -> None:
        self.coordinator, self.victim, self.kind, self.change = coordinator, victim, kind, change
        self.done = False

    def poll(self, party: str, instance: str) -> list[Task]:
        tasks = self._poll(party, instance)
        return [self._altered(task) if party == self.victim and task.kind == self.kind else task for task in tasks]

    def _altered(self, task: Task) -> Task:
        self.done = True
        body: Body = dict(task.body)
        match self.change:
            case "command":
                body["command"] = str(body["command"])[:-6] + "AAAAAA"
            case "turn":
                body["turn"] = int(str(body["turn"])) + 1
            case "announcement":
                others = dict(mapping(body, "announcements"))
                mine, other = sorted(others)[:2]
                others[mine] = others[other]
                body["announcements"] = others
            case "roster":
                roster = dict(mapping(body, "roster"))
                roster["contributors"] = list(roster["contributors"])[:-1]  # type: ignore[arg-type]
                body["roster"] = roster
            case "releaser":
                roster = dict(mapping(body, "roster"))
                roster["releaser"] = {"name": "releaser", "kid": "x" * 43}
                body["roster"] = roster
        return Task(task.id, task.run, task.seq, task.kind, body, task.attachments)

    def install(self) -> None:
        self._poll = self.coordinator.poll
        self.coordinator.poll = self.poll  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("contribute", "command"),
        ("contribute", "turn"),
        ("contribute", "announcement"),
        ("roster", "roster"),
        ("roster", "releaser"),
    ],
)
def test_a_cheating_hub_is_caught_by_the_node(tmp_path: Path, kind: str, change: str) -> None:
    federation = build(tmp_path)
    cheat = Cheating(federation.coordinator, "FI", kind, change)
    cheat.install()
    run = federation.ask(QUESTION)
    ended = federation.settle(run)
    assert cheat.done
    assert ended.state == "failed"


def test_the_hub_learns_neither_parts_nor_totals(tmp_path: Path) -> None:
    federation = build(tmp_path)
    seen: list[np.ndarray] = []
    plain = federation.coordinator.reply

    def listen(party: str, task: str, reply: Reply) -> None:
        seen.extend(np.frombuffer(data, "<u8") for data in reply.parts.values())
        plain(party, task, reply)

    federation.coordinator.reply = listen  # type: ignore[method-assign]
    ended = federation.settle(federation.ask(QUESTION))
    assert ended.state == "complete"
    told = federation.tables(ended)["counts"].ints("people")
    assert seen
    total = np.sum(np.stack([part for part in seen if len(part) == len(seen[0])][: len(federation.names)]), axis=0)
    assert not np.isin(total, told.astype(np.uint64)).any()
    assert min(int(part.min()) for part in seen) > 2**32  # a count would be small; noise is not


def test_an_order_must_not_outlive_its_deadline(tmp_path: Path) -> None:
    federation = build(tmp_path)
    past = datetime.fromtimestamp(federation.now(), UTC) - timedelta(minutes=1)
    ended = federation.settle(federation.ask(QUESTION, deadline=past))
    assert ended.state == "failed"
