"""A node that is lost before its part of the first sum: the rest is answered, by name and exactly, or nothing is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.federation import Federation, build_federation
from tests.unit.network.test_restarts import settle_with_deaths
from tests.worlds import make_world, random_assignment, run, threshold_gate

from federome.analysis.cohort_count import CohortCount
from federome.analysis.gwas_linear import GwasLinear
from federome.errors import Refused
from federome.model.release import Policy
from federome.network.course import ENDED
from federome.network.ledger import Run
from federome.network.protocol import mapping, text

QUESTION = CohortCount(by=("sex",))


def build(root: Path, sites: int = 4) -> Federation:
    world = make_world(seed=7, people=400, variants=10)
    return build_federation(root, world.split(random_assignment(world, sites=sites, seed=1)).sites)


def settle_without(federation: Federation, asked: Run, lost: str, *, until: str = "working") -> Run:
    """Everybody works until the run first reaches that state; from then on one node does not."""
    present = dict(federation.parties)
    for _ in range(400):
        state = federation.coordinator.ledger.run(asked.id)
        if state.state in ENDED:
            return state
        if (state.detail.get("doing") or state.state) == until:
            present.pop(lost, None)
        if not sum(party.once() for party in present.values()):
            return federation.coordinator.ledger.run(asked.id)
    raise AssertionError("the run does not come to an end")


def test_the_rest_is_answered_without_the_lost(tmp_path: Path) -> None:
    federation = build(tmp_path)
    waiting = settle_without(
        federation, federation.ask(QUESTION, quorum=3, allow_partial=True), "ES", until="contribute"
    )
    assert waiting.state == "working"
    federation.coordinator.tick()
    assert federation.coordinator.ledger.run(waiting.id).state == "working"  # not yet: it may come back
    federation.clock[0] += 61
    federation.coordinator.tick()
    ended = settle_without(federation, waiting, "ES", until="surviving")
    assert ended.state == "complete", ended.detail.get("problem")
    result = mapping(ended.detail, "result")
    assert (result["contributors"], result["lost"]) == (["FI", "GB", "IT"], ["ES"])
    assert text(mapping(mapping(ended.detail, "absent"), "ES"), "detail").startswith("The node was lost")
    left = [federation.holdings[name].site for name in ("FI", "IT", "GB")]
    expected = run(QUESTION, left, gate=threshold_gate(Policy().k_min))["counts"]
    assert np.array_equal(federation.tables(ended)["counts"]["people"], expected["people"])


def test_shares_change_no_answer_where_nobody_is_lost(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    question = GwasLinear(phenotype="trait", covariates=("age",), minor_alleles_min=5)
    told = []
    for folder, changes in (("a", {}), ("b", {"quorum": 3, "allow_partial": True})):
        federation = build(tmp_path / folder)
        ended = federation.settle(federation.ask(question, **changes))
        assert ended.state == "complete", ended.detail.get("problem")
        assert mapping(ended.detail, "result")["lost"] == []
        told.append(federation.tables(ended))
    for name, table in told[0].items():
        numbers = [column for column in table.columns if table[column].dtype.kind in "if"]
        assert numbers
        assert all(np.array_equal(np.sort(table[c]), np.sort(told[1][name][c]), equal_nan=True) for c in numbers)


@pytest.mark.parametrize(
    ("changes", "until"),
    [
        ({"quorum": 4, "allow_partial": True}, "contribute"),  # the order wants all four
        ({"quorum": 3, "allow_partial": False}, "contribute"),  # the order wants no partial result
        ({"quorum": 3, "allow_partial": True}, "veto"),  # a total with its people has been opened
        ({"quorum": 3, "allow_partial": True}, "conclude"),
    ],
)
def test_otherwise_the_run_fails_by_name(tmp_path: Path, changes: dict[str, object], until: str) -> None:
    federation = build(tmp_path)
    waiting = settle_without(federation, federation.ask(QUESTION, **changes), "ES", until=until)
    federation.clock[0] += 61
    federation.coordinator.tick()
    assert federation.coordinator.ledger.run(waiting.id).state == "working"
    federation.clock[0] += 3600
    federation.coordinator.tick()
    ended = federation.coordinator.ledger.run(waiting.id)
    assert ended.state == "failed"
    assert mapping(ended.detail, "problem")["late"] == ["ES"]


def test_three_nodes_can_lose_none(tmp_path: Path) -> None:
    """With two survivors, each would read the other's number off the total."""
    federation = build(tmp_path, sites=3)
    waiting = settle_without(
        federation, federation.ask(QUESTION, quorum=2, allow_partial=True), "ES", until="contribute"
    )
    federation.clock[0] += 61
    federation.coordinator.tick()
    assert federation.coordinator.ledger.run(waiting.id).state == "working"


def test_a_slow_node_is_not_lost(tmp_path: Path) -> None:
    federation = build(tmp_path)
    waiting = settle_without(
        federation, federation.ask(QUESTION, quorum=3, allow_partial=True), "ES", until="contribute"
    )
    federation.clock[0] += 61
    slow = federation.port("ES")
    slow.poll(0.0)
    tasks = [task.id for task in slow.poll(0.0)] or [f"{waiting.id}/{waiting.seq}/ES"]
    slow.heartbeat(tasks)
    federation.coordinator.tick()
    assert federation.coordinator.ledger.run(waiting.id).state == "working"


def test_survivors_are_signed_once(tmp_path: Path) -> None:
    """A hub that claims one loss and then another gets one signature: two sets would differ by one node's part."""
    federation = build(tmp_path, sites=5)
    asked = federation.ask(QUESTION, quorum=4, allow_partial=True)
    waiting = settle_without(federation, asked, "ES", until="contribute")
    federation.clock[0] += 61
    federation.coordinator.tick()
    node = federation.parties["FI"]._worker
    task = federation.port("FI").poll(0.0)[0]
    assert task.kind == "survive"
    everybody = [*federation.names]
    node.answer(task)
    for other in (everybody, ["FI", "ES", "IT", "GB"], ["FI", "IT", "GB"]):
        body = {**task.body, "survivors": sorted(other)}
        with pytest.raises(Refused):
            node.answer(type(task)(task.id, task.run, task.seq, "survive", body))
    assert node.answer(task).body["survivors"]  # the same again is fine
    del waiting


def test_after_a_loss_the_whole_circle_is_never_summed_again(tmp_path: Path) -> None:
    """The total over all, less the one over the survivors, would be the part of the lost."""
    federation = build(tmp_path)
    waiting = settle_without(
        federation, federation.ask(QUESTION, quorum=3, allow_partial=True), "ES", until="contribute"
    )
    federation.clock[0] += 61
    federation.coordinator.tick()
    assert settle_without(federation, waiting, "ES", until="surviving").state == "complete"
    again = federation.settle(federation.ask(QUESTION))
    assert again.state == "failed"
    assert "differencing" in mapping(again.detail, "problem")["codes"]


@pytest.mark.parametrize("seed", range(2))
def test_deaths_lose_no_share(tmp_path: Path, seed: int) -> None:
    federation = build(tmp_path)
    ended, deaths = settle_with_deaths(
        federation, federation.ask(QUESTION, quorum=3, allow_partial=True), seed=seed, often=0.2
    )
    assert ended.state == "complete", ended.detail.get("problem")
    assert deaths > 3
    assert mapping(ended.detail, "result")["lost"] == []
