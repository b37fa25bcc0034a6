"""Blocks side by side: order, bounds and exceptions are those of a plain loop, and so are the bits."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.store.small_stores import POOL, draw_batch, put
from tests.worlds import pass_gate

from federome.analysis.algorithm import State
from federome.analysis.gwas_linear import GwasLinear
from federome.analysis.program import PEOPLE, Program, contribution
from federome.errors import Invalid
from federome.model.index import named_blocks
from federome.model.table import Table
from federome.model.variant import Variant
from federome.network.parallel import Workers, in_order
from federome.store.catalogue import Store
from federome.store.site import StudySite
from federome.store.view import StudyView


class Lazy(Executor):
    """Runs nothing before its result is asked for: shows how much is submitted at once."""

    def __init__(self) -> None:
        self.open = 0
        self.most = 0

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[object]:  # type: ignore[override]
        self.open += 1
        self.most = max(self.most, self.open)
        outer = self

        class Late(Future[object]):
            def result(self, timeout: float | None = None) -> object:
                if not self.done():
                    outer.open -= 1
                    self.set_result(fn(*args, **kwargs))
                return super().result(timeout)

        return Late()


@given(st.integers(0, 30), st.integers(1, 8), st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_it_is_map(size: int, window: int, threads: int, seed: int) -> None:
    rng = random.Random(seed)
    pauses = [rng.random() / 2_000 for _ in range(size)]

    def slow(item: int) -> int:
        time.sleep(pauses[item])
        return item * item

    with ThreadPoolExecutor(threads) as pool:
        assert list(in_order(slow, range(size), pool, window)) == [item * item for item in range(size)]


@pytest.mark.parametrize("window", [1, 2, 5])
def test_no_more_than_the_window_is_submitted_or_drawn(window: int) -> None:
    executor, drawn = Lazy(), []

    def items() -> Iterator[int]:
        for item in range(20):
            drawn.append(item)
            yield item

    taken = []
    for result in in_order(lambda item: item, items(), executor, window):
        taken.append(result)
        assert len(drawn) <= len(taken) + window
    assert taken == list(range(20)) and executor.most == window


def test_the_first_is_finished_before_others_begin() -> None:
    done = threading.Event()

    def work(item: int) -> bool:
        if item == 0:
            time.sleep(0.05)
            done.set()
        return done.is_set()

    with ThreadPoolExecutor(4) as pool:
        assert all(in_order(work, range(8), pool, 4))


@pytest.mark.parametrize("bad", [0, 3, 9])
def test_an_exception_comes_where_its_result_would(bad: int) -> None:
    running, lock = set(), threading.Lock()

    def work(item: int) -> int:
        with lock:
            running.add(item)
        time.sleep(0.002)
        with lock:
            running.discard(item)
        if item == bad:
            raise KeyError(item)
        return item

    with ThreadPoolExecutor(4) as pool:
        taken = []
        with pytest.raises(KeyError, match=str(bad)):
            taken.extend(in_order(work, range(50), pool, 4))
        assert not running
        assert list(in_order(abs, [-1, -2], pool, 4)) == [1, 2]  # the executor still works
    assert taken in ([], list(range(bad)))


def test_an_exception_of_the_items_and_an_early_end_leave_nothing_under_way() -> None:
    started = []

    def work(item: int) -> int:
        started.append(item)
        return item

    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("gone")

    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(OSError, match="gone"):
            list(in_order(work, items(), pool, 3))
        some = in_order(work, range(100), pool, 3)
        assert [next(some), next(some)] == [0, 1]
        some.close()  # type: ignore[attr-defined]
        seen = len(started)
        time.sleep(0.02)
        assert len(started) == seen < 20
    with pytest.raises(ValueError, match="window"):
        list(in_order(work, [1], pool, 0))


def test_workers() -> None:
    assert Workers.threads(1) == Workers() and list(Workers().map(abs, [-1])) == [1]
    with pytest.raises(Invalid, match="threads"):
        Workers.threads(-1)
    two = Workers.threads(2)
    assert two.window == 3 and list(two.map(abs, range(-9, 0))) == list(range(9, 0, -1))
    assert two.executor is not None
    two.executor.shutdown()


def totals(root: Path, workers: Workers) -> list[bytes]:
    """Everything that one node contributes to an association study, byte for byte."""
    store = Store.open(root)
    site = StudySite(StudyView.freeze(store, [store.release("fi")]))
    study = GwasLinear(phenotype="trait", covariates=("male",), minor_alleles_min=1, call_rate_min=0.1)
    # one block a variant, so that there are many, lined up anew each time
    indices = [index for each in POOL for index in named_blocks([Variant.of("GRCh38", *each)])]
    by_number = {number: dataclasses.replace(index, number=number) for number, index in enumerate(indices)}
    program, out = Program(study, list(by_number.values())), []

    def part(asked: tuple[int, State]) -> Table:
        number, state = asked
        return contribution(study, site, None if number == PEOPLE else by_number[number], state)

    while program.round is not None:
        waiting = program.waiting
        asked = [(number, program.state(number)) for number in waiting]
        for number, table in zip(waiting, workers.map(part, asked), strict=True):
            out.append(table.to_bytes())
            program.accept(number, pass_gate(program.numbered(number, table), program.due))
    return out


def test_threads_give_the_same_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        batch = draw_batch(rng, name, 150)
        trait = rng.normal(size=len(batch.people))
        put(Store.open(tmp_path), batch, phenotypes=pd.DataFrame({"person_id": batch.people, "trait": trait}))
    alone = totals(tmp_path, Workers())
    assert len(alone) > 20
    for threads in (2, 50):
        many = Workers.threads(threads)
        assert totals(tmp_path, many) == alone
        assert many.executor is not None
        many.executor.shutdown()
