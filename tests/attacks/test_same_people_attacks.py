"""A refusal is an answer: the trait asked for as a condition, then once more without whoever fits a description."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.federation import GENEROUS, Federation, build_federation
from tests.worlds import MemorySite, make_world

from federome.analysis.cohort_count import CohortCount
from federome.bench.attack_methods import conditioned, conditioned_halves, guesses
from federome.model.cohort import AgeBand, Cohort
from federome.model.release import Policy, SamePeople
from federome.network.protocol import mapping

SITES, PEOPLE = 3, 90
TRAIT = Cohort(sex="female")
"""What is asked of the victim, the only person who is 91: are they a woman?"""


def sites(sex: str) -> list[MemorySite]:
    """Three nodes whose people are 30 to 60, and at the first of them one person of 91, of this sex."""
    world = make_world(seed=3, people=SITES * PEOPLE, families=0, missing=0)
    number = np.arange(SITES * PEOPLE)
    sexes = np.where(number == 0, sex, np.where(number % 2 == 0, "female", "male"))
    numeric = {**world.view.numeric, "age": np.where(number == 0, 91.0, 30.0 + number % 31)}
    numeric["male"] = (sexes == "male").astype(np.float64)
    view = replace(world.view, numeric=numeric, texts={**world.view.texts, "sex": sexes})
    return list(replace(world, view=view).split(number % SITES).sites)


def heard(federation: Federation, cohort: Cohort) -> object:
    """How many, or why not."""
    ended = federation.settle(federation.ask(CohortCount(cohort=cohort)))
    if ended.state == "complete":
        return int(federation.tables(ended)["counts"].ints("people")[0])
    return mapping(ended.detail, "problem")["codes"]


@pytest.mark.parametrize("same_people", ["answer", "refuse"])
def test_a_refusal_does_not_tell_whether_somebody_has_a_trait(tmp_path: Path, same_people: SamePeople) -> None:
    """Undefended, the second question is refused for a woman and answered for a man; defended, for both refused."""
    told = {}
    for sex in ("female", "male"):
        (tmp_path / sex).mkdir()
        federation = build_federation(tmp_path / sex, sites(sex), policy=replace(GENEROUS, same_people=same_people))
        assert isinstance(heard(federation, TRAIT), int)
        told[sex] = heard(federation, replace(TRAIT, age=AgeBand(0, 90)))
        if same_people == "refuse":
            assert heard(federation, replace(TRAIT, age=AgeBand(0, 91))) == ["differencing"]
            assert isinstance(heard(federation, TRAIT), int)  # by its own words it is answered as ever
    assert (told["female"] == told["male"] == ["differencing"]) == (same_people == "refuse")
    if same_people == "answer":
        assert told["female"] == ["differencing"] and isinstance(told["male"], int)


@pytest.mark.parametrize("attack", [conditioned, conditioned_halves])
def test_whoever_takes_a_refusal_for_an_answer_guesses(attack: object) -> None:
    assert guesses(attack, Policy(same_people="answer"), victims=40) >= 0.95  # type: ignore[arg-type]
    assert guesses(attack, Policy(), victims=40) <= 0.55  # type: ignore[arg-type]
