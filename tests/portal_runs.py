"""Real runs of a federation in one process, carried into the ledger of a hub whose portal is looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa
from tests.federation import Federation, approvals, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.db import engine
from federome.network.blobs import BLOB
from federome.network.ledger import RUN, TASK, Ledger, Run
from federome.trust.keys import PrivateKey, PublicKey

COUNT = CohortCount(by=("sex",))


def ask_all(folder: Path) -> tuple[Path, dict[str, str]]:
    """A federation that has answered, priced, refused and held back, and is asked once more: its hub's database, runs
    by name.
    """
    world = make_world(seed=7, people=400, variants=12)
    split = world.split(random_assignment(world, sites=3, seed=1))
    federation = build_federation(folder, split.sites)
    complete, priced = federation.ask(COUNT), federation.ask(COUNT, price_only=True)
    refused = federation.ask(COUNT, permit="P-2")
    for run in (complete, priced, refused):
        federation.settle(run)
    federation.coordinator.ledger.settle()
    ledger = federation.coordinator.ledger
    names = {"complete": complete.id, "priced": priced.id, "refused": refused.id}
    assert [ledger.run(run).state for run in names.values()] == ["complete", "complete", "failed"]
    names["held"] = _held(federation).id
    names["open"] = federation.ask(COUNT).id
    ledger.settle()
    return Path(str(ledger._engine.url.database)), names


def held_run(folder: Path, key: PrivateKey) -> tuple[Path, str]:
    """A run whose frequencies do not leave by themselves, asked with this key: its hub's database, and its id."""
    world = make_world(seed=7, people=400, variants=12)
    federation = build_federation(folder, world.split(random_assignment(world, sites=3, seed=1)).sites)
    federation.person = key
    run = _held(federation)
    federation.coordinator.ledger.settle()
    return Path(str(federation.coordinator.ledger._engine.url.database)), run.id


def _held(federation: Federation) -> Run:
    federation.approvals = tuple(replace(each, automatic=("counts",)) for each in approvals())
    run = federation.settle(federation.ask(AlleleFrequency()))
    assert run.state == "held", run.detail.get("problem")
    federation.approvals = approvals()
    return run


def carry(source: Path, hub: Path, key: PublicKey) -> None:
    """Put the runs of one hub's database into that of a hub's folder, as runs of this key."""
    given, taken = engine(f"sqlite:///{source}"), engine(f"sqlite:///{hub / 'hub.db'}")
    Ledger(taken, hub / "runs")
    with given.connect() as old, taken.begin() as new:
        for table in (RUN, TASK, BLOB):
            rows = [dict(row._mapping) for row in old.execute(sa.select(table))]
            new.execute(table.insert(), [row | {"person": key.kid} if table is RUN else row for row in rows])
