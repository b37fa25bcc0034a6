"""What is made ahead of a turn: used where it is what would be made then, and never trusted beyond that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.federation import Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.bench.workload import Rounds
from federome.network import sums
from federome.network.jobs import Coordinator
from federome.network.node import Node
from federome.network.protocol import Body, Reply, Task, mapping
from federome.network.releaser import Releaser

TURNS = 4
QUESTION = Rounds(turns=TURNS)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    world = make_world(seed=7, people=120, variants=4)
    return build_federation(tmp_path, world.split(random_assignment(world, sites=3, seed=1)).sites)


def people(federation: Federation) -> int:
    return sum(holdings.site.view.people for holdings in federation.holdings.values())


def masks_made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(who works on a task meanwhile, turn) of each time that masks are made."""
    working: list[str] = []
    made: list[tuple[str, int]] = []
    make = sums.make_pads

    def noted(own: sums.RoundKey, keys: sums.RoundKeys) -> sums.Pads:
        made.append((working[-1] if working else "", own.round))
        return make(own, keys)

    def at_work(worker: type, name: str) -> None:
        answer: Callable[[object, Task], Reply] = worker.answer  # type: ignore[attr-defined]

        def answered(self: object, task: Task) -> Reply:
            working.append(name)
            try:
                return answer(self, task)
            finally:
                working.pop()

        monkeypatch.setattr(worker, "answer", answered)

    at_work(Node, "node")
    at_work(Releaser, "releaser")
    monkeypatch.setattr(sums, "make_pads", noted)
    return made


def test_masks_are_made_while_others_work(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    made = masks_made(monkeypatch)
    ended = federation.settle(federation.ask(QUESTION))
    assert federation.tables(ended)["counts"].ints("value").tolist() == [people(federation)]
    assert [who for who, _ in made if who] == ["node"] * 3  # of the first turn, for which nothing was known before
    assert {turn for who, turn in made if not who} == set(range(1, TURNS + 2))  # one more than the run then needed


@pytest.mark.parametrize("lie", ["swapped", "old", "nonsense", "none"])
def test_what_a_hub_says_ahead_is_not_believed(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    """Nobody's masks are made by it: what counts are the announcements of the turn, checked in the turn."""
    made = masks_made(monkeypatch)
    poll = Coordinator.poll

    def altered(task: Task) -> Task:
        if "ahead" not in task.body:
            return task
        told = dict(mapping(task.body, "ahead"))
        first, second, *_ = sorted(told)
        match lie:
            case "swapped":
                told[first] = told[second]
            case "old":
                told = mapping(task.body, "announcements")
            case "nonsense":
                told[first] = "a.b.c"
            case "none":
                told = {}
        body: Body = {**task.body, "ahead": told}
        return Task(task.id, task.run, task.seq, task.kind, body, task.attachments)

    monkeypatch.setattr(Coordinator, "poll", lambda *asked: [altered(task) for task in poll(*asked)])
    ended = federation.settle(federation.ask(QUESTION))
    assert ended.state == "complete", ended.detail.get("problem")
    assert federation.tables(ended)["counts"].ints("value").tolist() == [people(federation)]
    assert [turn for who, turn in made if who == "node"] == sorted([*range(1, TURNS + 1)] * 3)
    assert all(turn == 1 for who, turn in made if not who)  # the releaser, of what came with its first task


def test_a_key_is_shown_only_after_it_was_kept(federation: Federation) -> None:
    """One that was made ahead and never announced is gone with the process, and another takes its place."""
    node = federation.parties["FI"]._worker
    assert isinstance(node, Node)
    run = federation.ask(QUESTION)
    while federation.coordinator.ledger.run(run.id).detail["turn"] != 2:
        assert sum(party.once() for party in federation.parties.values())
    ahead = node.ready[run.id].key
    assert node.notebook.key(run.id, ahead.round) is None
    node.ready.clear()
    ended = federation.settle(run)
    assert federation.tables(ended)["counts"].ints("value").tolist() == [people(federation)]
