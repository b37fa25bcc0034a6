"""Whoever stops, at whatever moment, and starts again: no run is lost and nothing is counted twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import close_garbage
from tests.federation import Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.algorithm import Algorithm
from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.gwas_linear import GwasLinear
from federome.errors import Unavailable
from federome.model.table import Table
from federome.network.course import ENDED
from federome.network.ledger import Run
from federome.network.party import Party
from federome.network.protocol import Reply, Task


class Dead(BaseException):
    """The process was killed here."""


class Dying:
    """A worker that may be killed before it works, after it worked, or after its answer was taken."""

    def __init__(self, party: Party, rng: random.Random, often: float) -> None:
        self.party, self.rng, self.often = party, rng, often

    def once(self) -> int:
        tasks = self.party._port.poll(0.0)
        for task in tasks:
            self.maybe()
            self.serve(task)
        return len(tasks)

    def serve(self, task: Task) -> None:
        reply = self.party._worker.answer(task)
        self.maybe()
        self.party._port.reply(task.id, reply)
        self.maybe()
        self.party._port.reply(task.id, reply)  # handed in twice, as after a lost connection

    def maybe(self) -> None:
        if self.rng.random() < self.often:
            raise Dead


def settle_with_deaths(federation: Federation, run: Run, *, seed: int, often: float = 0.25) -> tuple[Run, int]:
    rng = random.Random(seed)
    deaths = 0
    for _ in range(2_000):
        name = rng.choice([*federation.parties])
        if rng.random() < 0.05:
            federation.coordinator = federation.new_coordinator()
            for other in federation.parties:
                federation.parties[other] = federation.new_party(other)
            federation.coordinator.tick()
        try:
            Dying(federation.parties[name], rng, often).once()
        except Dead:
            deaths += 1
            federation.parties[name] = federation.new_party(name)
            close_garbage()  # as the end of a process does
        ended = federation.coordinator.ledger.run(run.id)
        if ended.state in ENDED:
            return ended, deaths
    raise AssertionError("the run did not end")


def build(tmp_path: Path) -> Federation:
    world = make_world(seed=3, people=300, variants=40)
    split = world.split(random_assignment(world, sites=3, seed=5))
    return build_federation(tmp_path, split.sites)


@pytest.fixture(params=["frequencies", "association"])
def question(request: pytest.FixtureRequest) -> Algorithm:
    if request.param == "frequencies":
        return AlleleFrequency(by="sex")
    return GwasLinear(phenotype="trait", covariates=("age", "pc1"), minor_alleles_min=5)


def equal(one: dict[str, Table], other: dict[str, Table]) -> Iterator[bool]:
    assert one.keys() == other.keys()
    for name, table in one.items():
        order, reverse = _order(table), _order(other[name])
        for column in table.columns:
            a, b = table[column][order], other[name][column][reverse]
            same = np.array_equal(a, b, equal_nan=True) if a.dtype.kind == "f" else np.array_equal(a, b)
            yield bool(same)


def _order(table: Table) -> np.ndarray:
    keys = [table[name] for name in reversed(list(table.columns)) if table[name].dtype.kind in "US"]
    numeric = [table[name] for name in reversed(list(table.columns)) if table[name].dtype.kind == "i"]
    return np.lexsort([*numeric, *keys]) if keys or numeric else np.arange(table.rows)


@pytest.mark.parametrize("seed", range(4))
def test_deaths_change_nothing(tmp_path: Path, question: Algorithm, seed: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    calm = build(tmp_path / "a")
    expected = calm.settle(calm.ask(question))
    assert expected.state == "complete", expected.detail.get("problem")
    stormy = build(tmp_path / "b")
    ended, deaths = settle_with_deaths(stormy, stormy.ask(question), seed=seed)
    assert ended.state == "complete", ended.detail.get("problem")
    assert deaths > 3
    assert ended.detail["resumed"] is True
    assert all(equal(calm.tables(expected), stormy.tables(ended)))


def test_a_hub_that_is_away_loses_no_answer(tmp_path: Path) -> None:
    federation = build(tmp_path)
    run = federation.ask(AlleleFrequency())
    party = federation.parties["FI"]
    task = party._port.poll(0.0)[0]
    tries = []

    class Flaky:
        def reply(self, name: str, reply: Reply, wait_s: float, *, meanwhile: object) -> list[Task]:
            tries.append(name)
            if len(tries) < 3:
                raise Unavailable("the hub is out of reach.")
            return federation.port("FI").reply(name, reply)

    Party(Flaky(), party._worker).serve(task)  # type: ignore[arg-type]
    assert len(tries) == 3
    assert federation.settle(run).state == "complete"


@pytest.mark.parametrize("within", [True, False])
def test_answers_lost_with_the_hub_are_given_again(tmp_path: Path, within: bool) -> None:
    """A hub that dies after it took two of three answers has told nobody of them: it asks for them again."""
    federation = build(tmp_path)
    federation.releaser_within = within
    federation.coordinator = federation.new_coordinator()
    federation.parties = {name: federation.new_party(name) for name in federation.parties}
    run = federation.ask(AlleleFrequency(by="sex"))
    for _ in range(40):
        for name in federation.names[:2]:
            federation.parties[name].once()
        federation.coordinator = federation.new_coordinator()
        federation.parties = {name: federation.new_party(name) for name in federation.parties}
        run = federation.coordinator.ledger.run(run.id)
        assert not any(a.done for a in federation.coordinator.ledger.answers(run.id, run.seq))
        for party in federation.parties.values():
            party.once()
        run = federation.coordinator.ledger.run(run.id)
        if run.state in ENDED:
            break
    assert run.state == "complete", run.detail.get("problem")


def test_answers_are_written_when_their_step_takes_long(tmp_path: Path) -> None:
    federation = build(tmp_path)
    run = federation.ask(AlleleFrequency(by="sex"))
    federation.parties["FI"].once()
    federation.coordinator.tick()
    held = {a.party: a.done for a in federation.new_coordinator().ledger.answers(run.id, run.seq)}
    assert held == {"FI": True, "ES": False, "IT": False}
