"""A releaser that steers an iteration onto one person: first past nodes that do not look, then past nodes that do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.federation import Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.algorithm import State
from federome.analysis.gwas_logistic import GwasLogistic
from federome.disclosure.door import check_steering
from federome.errors import Refused
from federome.model.release import Policy
from federome.model.table import Table
from federome.network import rounds, steps
from federome.network.protocol import Reply, mapping
from federome.network.releaser import Releaser
from federome.network.session import Session

QUESTION = GwasLogistic(phenotype="case", covariates=("age", "pc1"), minor_alleles_min=5)


class Steering(Releaser):
    """Puts effects of its own choice in the place of the step's, so that one person's weight outweighs all others."""

    def _next(self, session: Session, *, total: Table | None = None) -> Reply:
        program = session.program
        if program.round is not None and program.round.name == self.when:
            shared = program.shared.shared
            if "effects" in shared:
                steered = np.full_like(shared.floats("effects"), 40.0)
                program.shared = program.shared.to(
                    program.shared.round, shared=shared.only(*shared.columns).with_column("effects", steered)
                )
        return super()._next(session, total=total if self.shows else None)

    when = "null"
    shows = True


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    world = make_world(seed=3, people=400, variants=12)
    return build_federation(tmp_path, world.split(random_assignment(world, sites=3, seed=5)).sites)


def ask(federation: Federation, *, when: str, shows: bool) -> list[str]:
    worker = federation.parties["releaser"]._worker
    assert isinstance(worker, Releaser)
    worker.__class__ = Steering
    worker.when, worker.shows = when, shows  # type: ignore[attr-defined]
    ended = federation.settle(federation.ask(QUESTION))
    problem = ended.detail.get("problem")
    return [str(code) for code in problem["codes"]] if isinstance(problem, dict) and "codes" in problem else []


@pytest.mark.parametrize(("when", "shows"), [("null", True), ("null", False), ("score", False), ("counts", False)])
def test_a_step_that_is_none_is_refused(federation: Federation, when: str, shows: bool) -> None:
    assert ask(federation, when=when, shows=shows) == ["algorithm_digest_mismatch"]


def test_an_honest_run_is_not_taken_for_a_steered_one(federation: Federation) -> None:
    ended = federation.settle(federation.ask(QUESTION))
    assert ended.state == "complete", ended.detail.get("problem")


@pytest.fixture
def gullible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that believe any step, as if the releaser had forged the total that it follows from."""
    monkeypatch.setattr(rounds, "_same", lambda *_tables: True)


@pytest.mark.usefixtures("gullible")
def test_weights_on_few_people_are_refused_whatever_they_follow_from(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallest: list[float] = []

    def look(weights: np.ndarray, policy: Policy) -> None:
        smallest.append(float(weights.sum() ** 2 / (weights**2).sum()))
        if not blind:
            check_steering(weights, policy)

    monkeypatch.setattr(steps, "check_steering", look)
    monkeypatch.setattr(steps, "check_model", lambda *_, **__: None)  # which ends a steered run, too, in the end
    blind = True
    assert "small_cell" not in ask(federation, when="null", shows=True)
    assert min(smallest) < 4  # undefended, a node's part of the sums rests on three people
    blind = False
    again = federation.settle(federation.ask(GwasLogistic(phenotype="case", covariates=("pc1", "age"))))
    assert "small_cell" in mapping(again.detail, "problem")["codes"]


@pytest.mark.parametrize(("people", "few"), [(400, 9), (20, 4), (6, 1)])
def test_a_small_node_asks_for_a_quarter_of_its_people(people: int, few: int) -> None:
    weights = np.zeros(people)
    weights[:few] = 1.0
    with pytest.raises(Refused):
        check_steering(weights, Policy())
    check_steering(np.ones(people), Policy())
    check_steering(weights, Policy(open_data=True))


def test_nobody_else_is_asked_for_weights() -> None:
    assert list(QUESTION.weights(None, State("moments"))) == []  # type: ignore[arg-type]
