"""Replies that depend on data leave at one pace: without it a clock tells answers and refusals apart."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tests.unit.network.test_spending import federation_of, node_of

from federome.analysis.cohort_count import CohortCount
from federome.bench.attack_methods import auc
from federome.errors import Refused
from federome.model.cohort import AgeBand, Cohort
from federome.model.release import Policy
from federome.network.pace import LONGEST_S, Pace


class Clock:
    """A clock that moves when somebody works or sleeps, and does neither quite on time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rng = np.random.default_rng(4)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds + self.rng.exponential(1e-4)


def told_apart(pace: Pace, clock: Clock, *, slower: float, usual_s: float = 0.010, flooded: int = 0) -> float:
    """AUC of the time of refusals, which take ``slower`` times as long to work out, against answers.

    Before each, as many orders as ``flooded`` are refused at a glance.
    """
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(600 if flooded else 3_000):
        for _ in range(flooded):
            with suppress(Refused), pace.even("decide"):
                raise Refused("the permit has ended.", codes=["expired"])
        refused = number % 2 == 0
        began = clock.now
        with suppress(Refused), pace.even("decide"):
            clock.now += usual_s * (slower if refused else 1.0) * clock.rng.lognormal(0, 0.1)
            if refused:
                raise Refused("nearly the same people.", codes=["differencing"])
        times[refused].append(clock.now - began)
    return auc(np.array(times[True]), np.array(times[False]))


@pytest.mark.parametrize("slower", [0.3, 0.8, 1.2])
def test_a_clock_tells_refusals_from_answers_only_without_a_pace(slower: float) -> None:
    clock = Clock()
    off = told_apart(Pace(frozenset(), clock, clock.sleep), clock, slower=slower)
    on = told_apart(Pace(clock=clock, sleep=clock.sleep, draw=clock.rng.random), clock, slower=slower)
    assert abs(off - 0.5) > 0.35
    assert abs(on - 0.5) < 0.05


@pytest.mark.parametrize(("usual_s", "flooded"), [(2.0, 0), (0.1, 25)])
def test_neither_large_cohorts_nor_a_flood_of_bad_orders_bring_the_clock_back(usual_s: float, flooded: int) -> None:
    """Before, what took more than a second left as it came; so did everything after 64 orders with a bad permit."""
    clock = Clock()
    pace = Pace(clock=clock, sleep=clock.sleep, draw=clock.rng.random)
    off = Pace(frozenset(), clock, clock.sleep)
    assert told_apart(off, clock, slower=0.8, usual_s=usual_s) < 0.1
    assert abs(told_apart(pace, clock, slower=0.8, usual_s=usual_s, flooded=flooded) - 0.5) < 0.05


def test_one_task_that_takes_long_does_not_hold_the_next_ones_for_long() -> None:
    clock = Clock()
    pace = Pace(clock=clock, sleep=clock.sleep)
    for seconds in (*[0.01] * 30, 60.0, *[0.01] * 30):
        with pace.even("decide"):
            clock.now += seconds
    began = clock.now
    with pace.even("decide"):
        clock.now += 0.01
    assert clock.now - began < 0.05
    for _ in range(64):
        with pace.even("decide"):
            clock.now += 60.0
    began = clock.now
    with pace.even("decide"):
        pass
    assert clock.now - began < LONGEST_S + 0.1
    with pace.even("decide"):  # nor longer than a quarter of what it took
        clock.now += 60.0
    assert clock.now - began < LONGEST_S + 0.1 + 75.0
    began = clock.now
    with pace.even("contribute"):  # rounds depend on the question and on sizes, and are not held
        pass
    assert clock.now == began


def test_a_node_holds_what_it_decides_whatever_comes_of_it(tmp_path: Path) -> None:
    policy = Policy(k_min=5, difference_min=5, membership_power=1)
    federation = federation_of(tmp_path / "paced", nodes=3, policy=policy)
    node, now, held = node_of(federation), [0.0], list[float]()

    def clock() -> float:  # every look at it takes a millisecond
        now[0] += 0.001
        return now[0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    node.pace.kinds, node.pace.clock, node.pace.sleep = frozenset({"decide"}), clock, sleep
    outcomes = []
    for low in (18, 18, 20, 18):  # three people of FI are 18 or 19
        run = federation.ask(CohortCount(cohort=Cohort(age=AgeBand(low=low))))
        (task,) = federation.coordinator.poll("FI", run.id)
        began = now[0]
        outcomes.append(_outcome(node.answer, task))
        held.append(now[0] - began)
        federation.coordinator.cancel(run.id)
    assert outcomes == ["answered", "answered", "differencing", "answered"]
    assert all(0.005 <= seconds < 0.015 for seconds in held)


def _outcome(answer: object, task: object) -> str:
    try:
        answer(task)  # type: ignore[operator]
    except Refused as refusal:
        return refusal.codes[0]
    return "answered"
