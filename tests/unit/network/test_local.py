"""A party in the hub's own process: its thread is lent to what makes work for it, and then does that work."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.federation import Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.cohort_count import CohortCount
from federome.network.hub import Waiters, create_app
from federome.network.ledger import Run
from federome.network.local import LocalPort
from federome.network.protocol import PREFIX, Task, encode_reply
from federome.network.transport import party_token

HUB = "hub.test"


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    world = make_world(seed=5, people=120, variants=6)
    return build_federation(tmp_path, world.split(random_assignment(world, sites=3, seed=1)).sites)


def at_work(federation: Federation) -> tuple[Run, list[Task]]:
    """A run whose nodes have their part of a sum to do, and their tasks."""
    run = federation.ask(CohortCount())
    while run.state != "working":
        for party in federation.parties.values():
            if run.state != "working":
                party.once()
                run = federation.coordinator.ledger.run(run.id)
    return run, [federation.coordinator.poll(name, "another")[0] for name in federation.names]


def test_a_thread_that_waits_is_lent_and_finds_the_work_that_this_makes(federation: Federation) -> None:
    port = LocalPort(federation.coordinator, "FI", "one")
    where: list[str] = []

    def first() -> None:
        where.append(threading.current_thread().name)
        federation.ask(CohortCount())  # nobody is woken here: the thread must look by itself

    assert not port.lend(first)  # nobody waits
    with ThreadPoolExecutor(1, thread_name_prefix="party") as pool:
        polled = pool.submit(port.poll, 600.0)
        while not port.lend(first):
            time.sleep(0.001)
        assert [task.kind for task in polled.result()] == ["decide"]
    assert [name.partition("_")[0] for name in where] == ["party"]
    assert not port.lend(first)


def test_only_answers_that_a_party_of_this_process_waits_for_are_taken_in_its_thread(federation: Federation) -> None:
    coordinator = federation.coordinator
    asked = federation.ask(CohortCount())
    assert not coordinator.is_followed_within(f"{asked.id}/1/FI")  # the nodes' decisions: the hub goes on by itself
    run, tasks = at_work(federation)
    assert coordinator.is_followed_within(tasks[0].id)
    assert not coordinator.is_followed_within("no run/1/FI")
    assert not coordinator.is_followed_within("")
    federation.releaser_within = False
    assert not federation.new_coordinator().is_followed_within(tasks[0].id)
    assert run.state == "working"


def test_the_last_answer_of_a_step_is_taken_by_whoever_is_lent(federation: Federation) -> None:
    lent: list[str] = []
    run, tasks = at_work(federation)

    def lend(first: object) -> bool:
        assert callable(first)
        lent.append(federation.coordinator.ledger.run(run.id).state)
        first()
        return True

    app = create_app(federation.coordinator, hub=HUB, waiters=Waiters(), clock=federation.now, lend=lend)
    with TestClient(app) as http:

        def hand_in(name: str, task: Task, body: bytes) -> int:
            token = party_token(name, HUB, federation.keys[name], now=federation.now())
            headers = {"Authorization": f"Bearer {token}", "Federome-Instance": "another"}
            return http.post(f"{PREFIX}/reply", params={"task": task.id}, headers=headers, content=body).status_code

        answers = [
            federation.worker(name, federation.port(name)).answer(task)
            for name, task in zip(federation.names, tasks, strict=True)
        ]
        # An error there is told to whoever asked: one node's task is none of another's.
        assert (hand_in(federation.names[0], tasks[1], encode_reply(answers[1])), len(lent)) == (400, 1)
        for name, task, answer in zip(federation.names, tasks, answers, strict=True):
            assert hand_in(name, task, encode_reply(answer)) == 200
        assert lent == ["working", "working"]
    assert federation.coordinator.ledger.run(run.id).state == "leading"
    federation.parties = {name: federation.new_party(name) for name in federation.parties}  # nodes answered elsewhere
    assert federation.settle(run).state == "complete"
