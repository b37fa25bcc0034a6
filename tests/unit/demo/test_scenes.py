"""A story that nodes refuse by chance, of few people, is left; nothing else that is refused is passed over."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from federome.demo import play
from federome.demo.cohorts import Prepared
from federome.demo.local import LocalFederation
from federome.demo.stage import Facts, Stage
from federome.errors import Refused


def near(_stage: Stage) -> None:
    raise Refused("nearly one that was answered about [before].", codes=["differencing"])


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    nobody = cast(LocalFederation, None)
    return Stage(Console(record=True, width=200), nobody, Prepared((), "", ()), tmp_path, Facts())


def test_a_story_of_few_people_may_be_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "STORIES", (near,))
    play.tell(near, stage, few=True)
    assert stage.facts.untold == {"near": ["differencing"]}
    assert "answered about [before]" in stage.console.export_text()
    with pytest.raises(Refused):
        play.tell(near, stage, few=False)


def test_what_a_federation_answers_by_itself_may_not(stage: Stage) -> None:
    with pytest.raises(Refused):
        play.tell(near, stage, few=True)
    assert not stage.facts.untold
