"""The economic story: the share in the model is the one that a whole federation counted, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console
from tests.federation import Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.algorithm import build
from federome.client import Result
from federome.demo import economics
from federome.demo.stage import Facts, Stage
from federome.errors import Refused
from federome.standards.wes_documents import provenance


class Asking:
    """A connection without sockets: the same question to a federation in this process."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation

    def run(self, name: str, *, datasets: object, deadline_s: float, **wanted: object) -> Result:
        run = self.federation.settle(self.federation.ask(build(name, wanted)))
        assert run.state == "complete", run.detail.get("problem")
        ledger = self.federation.coordinator.ledger
        told = provenance(run, first=ledger.answers(run.id, 1), last=ledger.answers(run.id, run.seq))
        return Result(run.id, self.federation.tables(run), json.loads(json.dumps(told)))


class Refusing:
    """A connection whose nodes refuse."""

    def run(self, name: str, **_: object) -> Result:
        raise Refused(f"{name} is not permitted.", codes=["not_permitted"])


def staged(asking: Asking | Refusing, out: Path) -> Stage:
    console = Console(record=True, width=140)

    @contextmanager
    def connection(_permit: str) -> Any:
        yield asking

    @contextmanager
    def timed(_name: str) -> Any:
        same: Callable[[Result], Result] = lambda result: result  # noqa: E731
        yield same

    made: Any = SimpleNamespace(
        console=console, out=out, facts=Facts(), title=console.print, connection=connection, timed=timed,
        permit=lambda: "", real={}, synthetic={},
    )  # fmt: skip
    return cast(Stage, made)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Five nodes over 900 people."""
    world = make_world(seed=7, people=900, variants=5)
    split = world.split(random_assignment(world, sites=5, seed=1))
    return build_federation(tmp_path_factory.mktemp("federation"), split.sites)


def test_the_share_is_the_federation_s(federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Women stand for carriers: what is tested is the way of a count, and nearly half of the world are women.
    women = economics.Asked({"sex": "female"}, {}, "are women")
    monkeypatch.setattr(economics, "whom", lambda _stage: women)
    stage = staged(Asking(federation), tmp_path)
    economics.economics_story(stage)
    story = cast("dict[str, Any]", stage.facts.stories["economics"])
    views = [holding.site.view for holding in federation.holdings.values()]
    male = np.concatenate([np.asarray(view.numbers("male")) for view in views])
    told = story["from_the_network"]
    assert told["share"] == (male == 0).sum() / len(male)
    low, high = told["interval"]
    assert low < told["share"] < high
    assert told["icer"] < story["as_printed"]["icer"], "twice the carriers, half the cost of a life year"
    assert 0 <= told["probability_panel_is_best"] <= 1
    for run in (tmp_path / "economics").iterdir():
        receipt = json.loads((run / "provenance.json").read_text())["receipts"]["releaser"]
        assert receipt, "each count is signed for"
        assert run.name in story["provenance"]
    assert "missing" not in story["provenance"]
    shown = stage.console.export_text()
    assert f"{told['share']:.1%}" in shown
    assert "decides nothing" in shown
    assert (tmp_path / "economics-acceptability.svg").read_text().startswith("<?xml")


def test_a_refused_count_leaves_the_story_out_and_says_so(tmp_path: Path) -> None:
    stage = staged(Refusing(), tmp_path)
    economics.economics_story(stage)
    assert "economics" not in stage.facts.stories
    assert "cohort-count is not permitted" in stage.console.export_text()


@pytest.mark.parametrize(("real", "says"), [({"FI": ["fin-real"]}, "CYP2C9"), ({}, "synthetic people")])
def test_who_is_counted(real: dict[str, list[str]], says: str) -> None:
    stage: Any = SimpleNamespace(real=real, synthetic={"FI": ["fi"]})
    asked = economics.whom(stage)
    assert says in asked.says
    assert asked.datasets == (real or {"FI": ["fi"]})
    build("cohort-count", {"cohort": dict(asked.cohort)})  # refuses what is no cohort
