"""Blocks computed by other processes: a site travels without its catalogue, and the bits are those of one thread."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.conftest import missing
from tests.unit.network.test_parallel import totals
from tests.unit.store.small_stores import POOL, draw_batch, put

from federome.errors import Invalid, Unavailable
from federome.model.cohort import Cohort
from federome.model.index import named_blocks
from federome.model.variant import Variant
from federome.network.parallel import Item, Result, Workers
from federome.store.catalogue import Store
from federome.store.site import StudySite
from federome.store.view import StudyView


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two batches with a trait, to be asked about."""
    folder = tmp_path_factory.mktemp("cluster")
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        batch = draw_batch(rng, name, 60)
        trait = rng.normal(size=len(batch.people))
        put(Store.open(folder), batch, phenotypes=pd.DataFrame({"person_id": batch.people, "trait": trait}))
    return folder


def test_a_site_that_travelled_answers_without_the_catalogue(root: Path) -> None:
    store = Store.open(root)
    site = StudySite(StudyView.freeze(store, [store.release("fi")]))
    [index, *_] = named_blocks([Variant.of("GRCh38", *each) for each in POOL])
    packed = pickle.dumps(site)
    away = store.layout.catalogue.rename(root / "elsewhere")
    try:
        there: StudySite = pickle.loads(packed)
        assert pickle.dumps(there) == packed
        assert there.view.bitmap() == site.view.bitmap()
        assert np.array_equal(there.view.unrelated(), np.ones(there.view.people, np.bool_))
        assert there.view.where(there.view.meets(Cohort())).people == site.view.people
        assert np.array_equal(there.view.numbers("trait"), site.view.numbers("trait"))
        assert np.array_equal(there.block(index).dosages(there.view), site.block(index).dosages(site.view))
        assert there.view.parts[0].store.gene(there.view.parts[0].release, "NONE") == ()
        with pytest.raises(Unavailable, match="withdrawn"):
            there.changed()
        assert not store.layout.catalogue.exists(), "a worker opened the catalogue"
    finally:
        away.rename(store.layout.catalogue)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(Invalid, match=r"federome\[cluster\]"):
        Workers.cluster("tcp://127.0.0.1:1")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a Dask cluster of two processes on this machine."""
    try:
        import dask
        from distributed import LocalCluster
    except ImportError:
        missing("distributed is not installed")
    patient = {"distributed.comm.timeouts.connect": "300s", "distributed.comm.timeouts.tcp": "300s"}
    with (
        dask.config.set(patient),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster,
    ):
        yield cluster.scheduler_address


@dataclass(frozen=True)
class Deadly(Workers):
    """Workers of whom one is killed within a task, once. The caller computes some blocks itself and must live."""

    marker: Path = Path()

    def map(self, fn: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        return super().map(partial(_or_die, self.marker, os.getpid(), fn), items)


def _or_die(marker: Path, caller: int, fn: Callable[[Item], Result], item: Item) -> Result:
    if os.getpid() != caller:
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return fn(item)
        os.kill(os.getpid(), signal.SIGKILL)
    return fn(item)


@pytest.mark.processes
def test_a_cluster_gives_the_same_bits_though_a_worker_is_killed(root: Path, scheduler: str, tmp_path: Path) -> None:
    alone = totals(root, Workers())
    many = Workers.cluster(scheduler)
    assert many.window == 5
    deadly = Deadly(many.executor, many.window, marker=tmp_path / "killed")
    assert totals(root, deadly) == alone
    assert (tmp_path / "killed").exists(), "nobody was killed"
    with pytest.raises(Invalid, match="person of the view"):  # an error comes back as what it was
        list(many.map(_refuse, [1]))
    many.close()


def _refuse(_: int) -> None:
    raise Invalid("one row a person of the view", where="here", remedy="Mend it.")


@pytest.mark.usefixtures("scheduler")
def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federome.network.parallel.CONNECT_S", 0.2)
    with pytest.raises(Unavailable, match="scheduler"):
        Workers.cluster("tcp://127.0.0.1:1")
