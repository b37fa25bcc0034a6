"""Lessons on synthetic people: every example answers, small cells are withheld, nobody takes more than a share."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from time import sleep

import pytest

from federome.demo import learning
from federome.demo.learning import WAITING, School
from federome.errors import Invalid, Unavailable
from federome.model.table import Table
from federome.network.offers import offers
from federome.portal.pages.learn import EXAMPLES
from federome.portal.questions import fields_of, parameters_of

OFFERS = {offer.algorithm.name: offer for offer in offers()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("school") / "learning"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "PEOPLE", 300)
        learning.make(made)
    return made


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_example_is_a_question_that_is_answered(folder: Path, name: str) -> None:
    form = {field: [text] for field, text in EXAMPLES[name].items()}
    tables = learning.ask(folder, name, parameters_of(fields_of(OFFERS[name]), form))
    assert set(tables) <= set(OFFERS[name].releases)
    assert tables


def test_few_people_are_withheld(folder: Path) -> None:
    counts = learning.ask(folder, "cohort-count", {"by": ["age_band"], "band_years": 1})["counts"]
    hidden = counts.withheld["people"]
    assert hidden.any()
    assert counts["people"][~hidden].min() >= 10
    assert not counts["people"][hidden].any()


def test_a_question_has_a_process_with_bounds(tmp_path: Path) -> None:
    folder = tmp_path / "learning"
    school = School(folder, time_s=600)  # a process starts within the minute, but not on every machine of tests
    told = school("cohort-count", {"by": ["sex"]})  # the first one: its people are made up first
    assert told["counts"].to_bytes() == learning.ask(folder, "cohort-count", {"by": ["sex"]})["counts"].to_bytes()
    assert school("cohort-count", {"by": ["sex"]}) is told  # the same question is not run again
    with pytest.raises(Unavailable, match="longer than"):
        School(folder, time_s=0.01)("cohort-count", {})
    with pytest.raises(Unavailable, match="memory"):
        School(folder, time_s=600, memory=100 << 20)("cohort-count", {})
    with pytest.raises(Invalid) as fault:
        school("cohort-count", {"by": ["nobody"]})
    assert "nobody" in fault.value.message


def test_few_wait_and_the_rest_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, running = Event(), []

    def slow(self: School, question: str) -> Mapping[str, Table]:
        running.append(question)
        go.wait(60)
        running.remove(question)
        return {}

    monkeypatch.setattr(School, "_ask", slow)
    school = School(tmp_path)
    with ThreadPoolExecutor(2 * WAITING) as pool:
        asked = [pool.submit(school, "cohort-count", {"band_years": years}) for years in range(1, WAITING + 2)]
        while not running or school._places._value:
            sleep(0.01)
        with pytest.raises(Unavailable, match="others are trying"):
            school("cohort-count", {"band_years": 50})
        assert len(running) == 1
        go.set()
        assert [each.result() for each in asked] == [{}] * (WAITING + 1)
