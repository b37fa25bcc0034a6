"""A served node's own check of its bytes: when it is due, what it finds, and that no number comes from damage."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from tests.unit.store.small_stores import draw_batch, put
from typer.testing import CliRunner

from federome.cli import app
from federome.db import engine, write
from federome.disclosure.cohorts import FileCohorts, check_file
from federome.disclosure.differencing import Members
from federome.errors import Damaged, Invalid
from federome.model.index import named_blocks
from federome.model.variant import Variant
from federome.network.integrity import EVERY_S, FILE, FIRST_S, Integrity, verify_node
from federome.network.record import Record
from federome.store.catalogue import Store
from federome.store.site import StudySite
from federome.store.verify import check_start
from federome.store.view import StudyView
from federome.trust.keys import generate


def node(folder: Path) -> Store:
    """A node's folder with a store and an audit of three cohorts."""
    store = Store.open(folder / "data")
    put(store, draw_batch(np.random.default_rng(9), "a", 25))
    audit = FileCohorts(folder / "cohorts.audit")
    for words in (1, 3, 9):
        audit.add(Members(np.arange(1, words + 1, dtype=np.uint64)))
    audit.note(b"a charge")
    audit.close()
    return store


def test_every_flipped_bit_of_an_audit_is_found(tmp_path: Path) -> None:
    store = node(tmp_path)
    path = tmp_path / "cohorts.audit"
    assert check_file(path) == 4 and verify_node(tmp_path, store).ok
    whole = path.read_bytes()
    for at in range(0, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(Damaged) as caught:
            check_file(path)
        assert caught.value.where == str(path) and "federome store verify" in caught.value.remedy
    [problem] = verify_node(tmp_path, store).problems
    assert problem.file == str(path)
    path.write_bytes(whole[:-1])  # somebody is appending just now
    assert check_file(path) == 3


@pytest.mark.parametrize("damage", ["edited", "removed", "no database"])
def test_a_log_that_was_altered_is_found(tmp_path: Path, damage: str) -> None:
    store, path = node(tmp_path), tmp_path / "node.db"
    database = engine(f"sqlite:///{path}")
    Record(database, party="FI", key=generate("Ed25519")).write([b"one", b"two", b"three"])
    assert verify_node(tmp_path, store).ok
    change = "UPDATE log_entry SET data = x'00' WHERE number = 1" if damage == "edited" else "DELETE FROM log_entry"
    with write(database) as db:
        db.execute(sa.text(change))
    if damage == "no database":
        database.dispose()
        path.write_bytes(b"something else" * 999)
    [problem] = verify_node(tmp_path, store).problems
    assert problem.file == str(path) and problem.remedy


def test_a_folder_without_a_store_is_not_said_to_be_whole(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["store", "verify", "--dir", str(tmp_path / "mistyped")])
    assert isinstance(done.exception, Invalid) and "no store here" in str(done.exception)
    assert not list(tmp_path.iterdir())
    node(tmp_path)
    assert "as they were written" in CliRunner().invoke(app, ["store", "verify", "--dir", str(tmp_path)]).stdout


def test_damage_under_an_open_block_ends_its_answers(tmp_path: Path) -> None:
    """Blocks are hashed once and then mapped: what rots afterwards is found by the node's own check."""
    store, told = node(tmp_path), list[str]()
    view = StudyView.freeze(store, [store.release("fi")])
    site = draw_batch(np.random.default_rng(9), "a", 25)
    [index, *_] = named_blocks([Variant.of("GRCh38", *each) for each in site.genotypes])

    def count() -> None:
        StudySite(view).block(index).counts(view, np.zeros(view.people, np.int64), 1)

    count()
    path = sorted((tmp_path / "data" / "store").rglob("*.pgen"))[0]
    stamp = path.stat()
    with path.open("r+b") as file:  # in place, as a disk rots: same file, same size
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    count()  # nothing tells
    found = Integrity(tmp_path, store, lambda: 1_000.0, told.append).look()
    assert [each.file for each in found.problems] == [str(path)]
    assert len(told) == 1 and str(path) in told[0] and "federome store verify" in told[0]
    with pytest.raises(Damaged) as caught:
        count()
    assert caught.value.where == str(path)
    assert json.loads((tmp_path / FILE).read_bytes())["ok"] is False


def test_it_is_done_once_a_week_and_ends_with_the_node(tmp_path: Path) -> None:
    store, now = node(tmp_path), [5e8]
    own = Integrity(tmp_path, store, lambda: now[0], lambda _: None)
    assert own.due()
    ended = threading.Event()

    rests: list[float | None] = []

    class Once(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            rests.append(timeout)
            if timeout == 7.0:
                self.set()
            return self.is_set()

    own.watch(Once(), every_s=7.0)
    assert rests[0] == FIRST_S  # a node that starts is left in peace
    assert json.loads((tmp_path / FILE).read_bytes())["ok"] is True
    assert not own.due()
    now[0] += EVERY_S - 1
    assert not own.due()
    now[0] += 1
    assert own.due()
    now[0] = 0.0  # a clock that was set back
    assert own.due()
    ended.set()
    own.watch(ended)
    (tmp_path / FILE).write_bytes(b"{")
    assert own.due()


def test_a_node_does_not_start_on_an_altered_catalogue(tmp_path: Path) -> None:
    store = node(tmp_path)
    check_start(store)
    with store.database.begin() as connection:
        connection.exec_driver_sql("UPDATE person SET sex = 'unknown'")
    with pytest.raises(Damaged, match="person") as caught:
        check_start(store)
    assert caught.value.where == str(store.layout.catalogue)
