"""A node's memory of runs: what an earlier version wrote is read, and a run that nobody ended is not said to be."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.federation import build_federation
from tests.worlds import make_world, random_assignment

from federome.bench.workload import Rounds
from federome.db import engine
from federome.network.node import Node
from federome.network.notebook import Notebook
from federome.network.uses import runs_of

VERSION_1 = """
CREATE TABLE schema_version (name TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL);
INSERT INTO schema_version VALUES ('node', 1);
CREATE TABLE order_used (jti VARCHAR NOT NULL PRIMARY KEY, until FLOAT NOT NULL);
CREATE TABLE work (run VARCHAR NOT NULL PRIMARY KEY, order_token TEXT NOT NULL, permit_token TEXT NOT NULL,
  frozen BLOB NOT NULL, detail TEXT NOT NULL, last_task VARCHAR NOT NULL, last_reply BLOB);
CREATE TABLE grant_newest (id VARCHAR NOT NULL PRIMARY KEY, issued INTEGER NOT NULL);
CREATE TABLE round_key (run VARCHAR NOT NULL, turn INTEGER NOT NULL, secret BLOB NOT NULL, announcement TEXT NOT NULL,
  PRIMARY KEY (run, turn));
CREATE TABLE sent (run VARCHAR NOT NULL, turn INTEGER NOT NULL, part INTEGER NOT NULL, digest VARCHAR NOT NULL,
  PRIMARY KEY (run, turn, part));
CREATE TABLE admitted (question VARCHAR NOT NULL, data_release VARCHAR NOT NULL, constellation VARCHAR NOT NULL,
  PRIMARY KEY (question, data_release));
CREATE TABLE record (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, at FLOAT NOT NULL, run VARCHAR NOT NULL,
  what VARCHAR NOT NULL, detail TEXT NOT NULL);
CREATE INDEX ix_record_run ON record (run);
INSERT INTO work VALUES ('open', 'o1', 'p1', x'01', '{"audited": true}', '', NULL);
INSERT INTO work VALUES ('ended', 'o2', 'p2', x'02', '{}', 'ended/4/FI', x'03');
"""


def test_runs_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "node.db") as old:
        old.executescript(VERSION_1)
    old.close()
    notebook = Notebook(engine(f"sqlite:///{tmp_path}/node.db"))
    going, over = notebook.work("open"), notebook.work("ended")
    assert going is not None and over is not None
    assert (going.order, going.frozen, going.detail, going.ended) == ("o1", b"\x01", {"audited": True}, False)
    assert (over.permit, over.last_reply, over.detail, over.ended) == ("p2", b"\x03", {}, True)
    with notebook.together():
        notebook.update("open", {"audited": True, "told": [1]})
    again = Notebook(engine(f"sqlite:///{tmp_path}/node.db")).work("open")
    assert again is not None and again.detail == {"audited": True, "told": [1]}


@pytest.mark.parametrize("ending", ["answered", "given up"])
def test_only_a_run_that_was_answered_is_said_to_be(tmp_path: Path, ending: str) -> None:
    world = make_world(seed=7, people=120, variants=4)
    federation = build_federation(tmp_path, world.split(random_assignment(world, sites=3, seed=1)).sites)
    run = federation.ask(Rounds(turns=3))
    if ending == "answered":
        federation.settle(run)
    else:
        while federation.coordinator.ledger.run(run.id).detail["turn"] != 2:
            assert sum(party.once() for party in federation.parties.values())
    federation.clock[0] += 2 * 3600
    finn = federation.parties["FI"]._worker
    assert isinstance(finn, Node)
    finn.forget_expired()
    (found,) = runs_of(finn.notebook._engine, now=federation.now())
    assert found.course == ("answered" if ending == "answered" else "too late")
