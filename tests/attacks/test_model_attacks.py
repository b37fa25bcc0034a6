"""Two models of one cohort, of which the second reads a column that one person lacks: they differ by that person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.federation import Federation, build_federation
from tests.property.examples import EXAMPLES
from tests.unit.analysis.survival_twins import sites_of
from tests.worlds import MemorySite, make_world

from federome.analysis.algorithm import Algorithm, build
from federome.analysis.cox import Cox
from federome.analysis.prs_evaluate import PrsEvaluate
from federome.analysis.prs_reference import PrsReference
from federome.analysis.status import Status
from federome.model.cohort import Cohort, Measurement
from federome.network.protocol import mapping

SCORE, COPY, OTHER = "prs_pgs1_aaaaaaaa", "prs_pgs1_bbbbbbbb", "prs_pgs2_aaaaaaaa"
VICTIM = 7


@pytest.fixture
def frame() -> pd.DataFrame:
    """A score, the same without the victim's, another without a third of the people; survival with covariates."""
    rng, many = np.random.default_rng(8), 600
    score = rng.normal(3.0, 1.0, many)
    victim, third = np.arange(many) == VICTIM, np.arange(many) % 9 < 3
    return pd.DataFrame(
        {
            SCORE: score,
            COPY: np.where(victim, np.nan, score),
            OTHER: np.where(third, np.nan, score),
            "time": rng.exponential(5.0, many) + 0.1,
            "event": (rng.random(many) < 0.7).astype(float),
            "x": score,
            "nearly_x": np.where(victim, np.nan, score),
        }
    )


@pytest.fixture
def federation(tmp_path: Path, frame: pd.DataFrame) -> Federation:
    return build_federation(tmp_path, sites_of(frame, np.arange(len(frame)) % 3))


def codes_of(federation: Federation, question: Algorithm, **changes: object) -> object:
    """Why a question is refused; nothing if it is answered."""
    ended = federation.settle(federation.ask(question, **changes))
    return None if ended.state == "complete" else mapping(ended.detail, "problem").get("codes")


def total(federation: Federation, score: str) -> float:
    """What the answer says of everybody's scores together."""
    ended = federation.settle(federation.ask(PrsReference(score=score)))
    assert ended.state == "complete", ended.detail.get("problem")
    told = federation.tables(ended)["groups"]
    return float(told.ints("people")[0] * told.floats("mean")[0])


def test_undefended_two_means_tell_the_score_of_who_lacks_one(
    federation: Federation, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrsReference, "analysed", Algorithm.analysed)
    apart = total(federation, SCORE) - total(federation, COPY)
    assert apart == pytest.approx(frame[SCORE][VICTIM], abs=0.05)


def test_a_second_model_without_one_of_its_people_is_refused(federation: Federation) -> None:
    """By whichever algorithm: what matters is whose records went in. A price is no model."""
    plain, nearly = (Cox(time="time", event="event", covariates=(name,), halvings=2) for name in ("x", "nearly_x"))
    assert codes_of(federation, PrsReference(score=SCORE)) is None
    assert codes_of(federation, PrsReference(score=COPY)) == ["differencing"]
    assert codes_of(federation, PrsReference(score=OTHER)) is None  # one hides among many
    assert codes_of(federation, plain) is None  # the same people again
    assert codes_of(federation, nearly, price_only=True) is None
    assert codes_of(federation, nearly) == ["differencing"]


def by_limit(limit: float) -> PrsEvaluate:
    """Everybody is a case or a control, by whether ``x`` reaches a limit that the question names."""
    below = float(np.nextafter(limit, -np.inf))
    one, other = (Cohort(measurements=(Measurement("x", **limits),)) for limits in ({"low": limit}, {"high": below}))
    return PrsEvaluate(score=SCORE, cases=one, controls=other)


@pytest.mark.parametrize("defended", [False, True])
def test_a_case_definition_moved_past_one_person_is_refused(
    federation: Federation, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, *, defended: bool
) -> None:
    """The same people go into both models; undefended, their answers tell what one of them has between two limits."""
    if not defended:
        monkeypatch.setattr(Status, "told_of", lambda _, __: iter(()))
    ordered = np.sort(frame["x"].to_numpy())
    first, second = (by_limit(float(limit)) for limit in ordered[[300, 301]])
    assert codes_of(federation, first) is None
    if defended:
        assert codes_of(federation, second) == ["differencing"]
        assert codes_of(federation, by_limit(float(ordered[100]))) is None
        return
    ended = [federation.settle(federation.ask(each)) for each in (by_limit(float(ordered[300])), second)]
    told = [federation.tables(each)["groups"].ints("cases")[0] for each in ended]
    assert told[0] - told[1] == 1


def test_models_that_name_each_others_covariates_run_over_the_same_people(federation: Federation) -> None:
    """``complete`` from the start: the victim is in neither model, so both are answered. Not so in an afterthought."""
    first = Cox(time="time", event="event", covariates=("x",), complete=("nearly_x",), halvings=2)
    second = Cox(time="time", event="event", covariates=("nearly_x",), halvings=2)
    assert codes_of(federation, first) is None
    assert codes_of(federation, second) is None
    assert codes_of(federation, PrsEvaluate(score=COPY, phenotype="event", complete=("nearly_x",))) is None
    assert codes_of(federation, PrsReference(score=SCORE)) == ["differencing"]


def lacking(site: MemorySite, column: str, person: int) -> MemorySite:
    """The same people, one of whom lacks a value."""
    values = site.view.numbers(column).copy()
    values[person] = np.nan
    return MemorySite(site.view.with_numbers(column, values), site.variants, site.genotypes)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_who_estimates_says_whose_records_enter(name: str) -> None:
    """Every algorithm with parameters, whoever adds it; and who comes to lack a value that it reads is out."""
    pooled = make_world(seed=11, people=max(90, EXAMPLES[name].people[0]), variants=8).pooled()
    for values in EXAMPLES[name].parameters(pooled):
        question = build(name, values)
        if not question.estimates(1):
            continue
        masks = list(question.analysed(pooled.view))
        assert masks, f"{name} does not say whose records it uses"
        for column in sorted({*getattr(question, "covariates", ())} & {*pooled.view.numeric}):
            person = int(np.flatnonzero(masks[0])[0])
            left = next(iter(question.analysed(lacking(pooled, column, person).view)))
            assert not left[person], f"{name} keeps who lacks {column}"


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_whatever_takes_covariates_can_be_asked_of_people_complete_in_others(name: str) -> None:
    pooled = make_world(seed=11, people=max(90, EXAMPLES[name].people[0]), variants=8).pooled()
    values = EXAMPLES[name].parameters(pooled)[0]
    plain = build(name, values)
    if not hasattr(plain, "covariates"):
        return
    rest = pooled.view.with_numbers("rest", np.where(np.arange(pooled.view.people) % 9 < 3, np.nan, 1.0))
    first = build(name, {**values, "complete": ["rest", "population=FIN"]})
    (before,), (after,) = list(plain.analysed(rest))[:1], list(first.analysed(rest))[:1]
    missing = np.isnan(rest.numbers("rest")) | (rest.labels("population") == "")
    assert (before & missing).any(), "it would have used some of them"
    assert not (after & missing).any()
    assert {"rest", "population"} <= set(first.reads.columns)
    if not getattr(plain, "unrelated", False):
        np.testing.assert_array_equal(after, before & ~missing)
