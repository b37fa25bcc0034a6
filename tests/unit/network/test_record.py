"""The record: logs over SQL against RFC 9162 written out, receipts that hold offline, logs that were tampered with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federation import NOW, Federation, build_federation
from tests.timing import best_of
from tests.worlds import make_world, random_assignment
from typer.testing import CliRunner

from federome.analysis.cohort_count import CohortCount
from federome.cli import app
from federome.cli.approvals import receipt_app
from federome.client.result import Result
from federome.db import engine, write
from federome.errors import Damaged, Invalid, Refused, Unavailable
from federome.network import record as module
from federome.network.exchange import Exchange
from federome.network.ledger import Run
from federome.network.node import Node
from federome.network.notebook import Notebook
from federome.network.protocol import Body, Task, mapping
from federome.network.record import Record, SqlLog, Witness
from federome.standards.wes_documents import provenance
from federome.trust import merkle
from federome.trust.canonical import Json, parse_object
from federome.trust.keys import KeyRing, generate, save_private_key
from federome.trust.log import MemoryStore, Receipt, append, verify_receipt
from federome.trust.members import Member, MemberKey, Members, sign_members
from federome.trust.notes import cosigners, open_checkpoint
from federome.trust.receipts import check_receipt, origin_of

KEY = generate("Ed25519")
ORIGIN = origin_of("FI")
T0 = NOW.timestamp()


def root(entries: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162 §2.1.1, as it stands there."""
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + root(entries[:k]) + root(entries[k:])).digest()


def entries(count: int, *, first: int = 0, word: str = "entry") -> list[bytes]:
    return [f"{word} {first + at}".encode() for at in range(count)]


@pytest.fixture
def database(tmp_path: Path) -> sa.Engine:
    return engine(f"sqlite:///{tmp_path}/log.db", durable=True)


@pytest.fixture
def record(database: sa.Engine) -> Record:
    return Record(database, party="FI", key=KEY)


# the log


@given(st.lists(st.integers(0, 70), max_size=6))
@settings(max_examples=25, deadline=None)
def test_any_batches_give_the_tree_of_the_rfc(sizes: list[int]) -> None:
    log, memory, held = SqlLog(engine("sqlite://")), MemoryStore(), []
    for size in sizes:
        batch = entries(size, first=len(held))
        held += batch
        if batch:
            append(log, batch)
            append(memory, batch)
    frontier = log.check()
    assert (frontier.size, frontier.root()) == (len(held), root(held))
    for index in range(0, len(held), 7):
        proof = merkle.inclusion_proof(log.nodes, index, len(held))
        assert proof == merkle.inclusion_proof(memory.nodes, index, len(held))
        merkle.check_inclusion(merkle.leaf_hash(held[index]), index, len(held), proof=proof, root=root(held))
    for old in range(0, len(held) + 1, 5):
        proof = merkle.consistency_proof(log.nodes, old, len(held))
        merkle.check_consistency(old, len(held), old_root=root(held[:old]), new_root=root(held), proof=proof)


def test_what_was_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    append(SqlLog(engine(url)), entries(5))
    again = SqlLog(engine(url))
    append(again, entries(3, first=5))
    assert again.frontier().root() == root(entries(8))
    assert again.entry(6) == b"entry 6"
    with pytest.raises(Invalid):
        again.entry(8)


def test_two_writers_do_not_write_over_each_other(database: sa.Engine) -> None:
    one, other = SqlLog(database), SqlLog(database)
    append(one, entries(3))
    frontier, nodes = one.frontier().extend(merkle.leaf_hash(e) for e in entries(2))
    append(other, entries(1, word="other"))
    with pytest.raises(Unavailable):
        one.append(entries(2), nodes, frontier)
    assert one.check().root() == root([*entries(3), b"other 0"])


def test_a_batch_is_written_whole_or_not_at_all(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    record.write(entries(3))
    real = module._insert

    def dies(db: sa.Connection, *args: object, **named: object) -> None:
        real(db, *args, **named)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_insert", dies)
    with pytest.raises(KeyboardInterrupt):
        record.write(entries(9, first=3))
    monkeypatch.undo()
    assert record.log.check().root() == root(entries(3))


def test_a_log_that_grows_while_it_is_checked_is_whole(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    record.write(entries(20))
    monkeypatch.setattr(module, "BATCH", 8)
    read = record.log.entries

    def read_and_append(*, first: int = 0, run: str = "", limit: int = 1000) -> list[tuple[int, bytes]]:
        found = read(first=first, run=run, limit=limit)
        record.write(entries(1, first=100 + first))
        return found

    monkeypatch.setattr(record.log, "entries", read_and_append)
    assert record.log.check().size == 20
    assert record.log.frontier().size == 24


def test_entries_have_a_bound(record: Record) -> None:
    with pytest.raises(Invalid):
        record.write([bytes(65_536)])


@pytest.mark.parametrize("table", ["log_entry", "log_node", "log_head"])
def test_edits_under_the_log_are_found(record: Record, database: sa.Engine, table: str) -> None:
    record.write(entries(21))
    changes = {
        "log_entry": "UPDATE log_entry SET data = x'00' WHERE number = 4",
        "log_node": f"DELETE FROM log_node WHERE place = {1 << 48 | 1}",
        "log_head": "UPDATE log_head SET size = 20",
    }
    with write(database) as db:
        db.execute(sa.text(changes[table]))
    ask = partial(merkle.inclusion_proof, record.log.nodes, 0, 21) if table == "log_node" else record.log.check
    with pytest.raises(Damaged):
        ask()


def test_notes_are_sealed_once_and_in_order(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/node.db"
    notebook, record = Notebook(engine(url)), Record(engine(url, durable=True), party="FI", key=KEY)
    assert record.seal().size == 0
    for at in range(5):
        notebook.record(T0 + at, f"run-{at % 2}", "step", {"reply": f"sha256:{at}"})
    notebook.commit()
    assert record.seal().size == 5
    assert record.seal().size == 5
    notebook.record(T0 + 9, "run-0", "conclude", {})
    notebook.commit()
    frontier = record.seal()
    held = [parse_object(data) for _, data in record.log.entries()]
    assert [entry["at"] for entry in held] == [T0, T0 + 1, T0 + 2, T0 + 3, T0 + 4, T0 + 9]
    assert [index for index, _ in record.log.entries(run="run-0")] == [0, 2, 4, 5]
    receipt = record.receipt("run-0", frontier)
    assert receipt.index == 5
    assert verify_receipt(receipt, origin=ORIGIN, key=KEY.public).size == 6
    with pytest.raises(Invalid):
        record.receipt("run-9", frontier)


def test_durable_appends_keep_up(record: Record) -> None:
    """The bar is 5,000 entries a second; what the disk adds is one sync a batch, and not this test's."""
    batch = [bytes([at % 256]) * 400 for at in range(1_000)]
    took = best_of(lambda: record.write(batch), 0.2, tries=20)
    assert took < 0.2, f"{1_000 / took:.0f} a second"


def test_an_operator_reads_the_log_and_gives_it_to_whoever_checks(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    (folder / "keys").mkdir(parents=True)
    (folder / "node.toml").write_text('name = "FI"\nhub = "h"\nhub_url = "https://h.test"\n')
    save_private_key(KEY, folder / "keys" / "node.jwk")

    def shown(*words: str) -> str:
        done = CliRunner(env={"COLUMNS": "150"}).invoke(app, ["node", "log", "--dir", str(folder), *words])
        if done.exception is not None:
            raise done.exception
        return done.stdout

    with pytest.raises(Invalid, match="no log yet"):
        shown()
    assert not (folder / "node.db").exists()
    url = f"sqlite:///{folder}/node.db"
    notebook, record = Notebook(engine(url)), Record(engine(url), party="FI", key=KEY)
    for at in range(300):
        told: Body = {"permit": "P-1", "algorithm": {"name": "cohort-count", "version": "1.0", "digest": "sha256:0"}}
        notebook.record(T0 + at, f"run-{at % 3}", "contribute", told)
    notebook.record(T0 + 300, "run-2", "refused", {"codes": ["small_cell", "token_expired"], "task": "decide"})
    notebook.commit()
    frontier = record.seal()
    newest = json.loads(shown("--json"))
    assert [each["number"] for each in newest["entries"]] == [*range(281, 301)]
    assert (newest["node"], newest["size"], newest["root"]) == ("FI", 301, frontier.root().hex())
    of_one = json.loads(shown("--json", "--run", "run-1", "--last", "3"))["entries"]
    assert [(each["number"], each["run"]) for each in of_one] == [(292, "run-1"), (295, "run-1"), (298, "run-1")]
    text = shown("--last", "2")
    assert "cohort-count 1.0; permit P-1" in text and "small_cell, token_expired" in text and "2 of 301" in text
    shown("--tiles", str(tmp_path / "tiles"))
    found = open_checkpoint((tmp_path / "tiles" / "checkpoint").read_text(), origin=ORIGIN, key=KEY.public)
    assert (found.size, found.root) == (301, frontier.root())


def test_static_files_are_what_c2sp_says(record: Record, tmp_path: Path) -> None:
    held = entries(600)
    record.write(held)
    record.write_tiles(tmp_path / "tiles")
    found = open_checkpoint((tmp_path / "tiles" / "checkpoint").read_text(), origin=ORIGIN, key=KEY.public)
    leaves = b"".join((tmp_path / "tiles" / p).read_bytes() for p in ("tile/0/000", "tile/0/001", "tile/0/002.p/88"))
    hashes = [leaves[at : at + 32] for at in range(0, len(leaves), 32)]
    assert hashes == [hashlib.sha256(b"\x00" + entry).digest() for entry in held]
    upper = (tmp_path / "tiles" / "tile/1/000.p/2").read_bytes()
    assert upper == root(held[:256]) + root(held[256:512])
    bundle, read = (tmp_path / "tiles" / "tile/entries/002.p/88").read_bytes(), []
    while bundle:
        size = int.from_bytes(bundle[:2], "big")
        read.append(bundle[2 : 2 + size])
        bundle = bundle[2 + size :]
    assert read == held[512:]
    assert (found.size, found.root) == (600, root(held))


# witnesses


class Peers:
    """FI keeps a log, ES watches it; what passes between them passes through the hub."""

    def __init__(self, tmp_path: Path) -> None:
        self.keys = {name: generate("Ed25519") for name in ("FI", "ES")}
        self.members = Members(1, tuple(Member(n, "node", MemberKey.of(k.public)) for n, k in self.keys.items()))
        self.record = Record(engine(f"sqlite:///{tmp_path}/fi.db"), party="FI", key=self.keys["FI"])
        watcher = engine(f"sqlite:///{tmp_path}/es.db")
        self.witness = Witness(watcher, party="ES", key=self.keys["ES"], members=self.members)
        self.known = 0

    def show(self, record: Record | None = None, *, proof: list[Json] | None = None) -> dict[str, Json]:
        shown = record or self.record
        frontier = shown.log.frontier()
        made = shown.growth([self.known], frontier).get(str(self.known), [])
        told = self.witness.look(
            {"FI": {"note": shown.checkpoint(), "proof": made if proof is None else proof}}, now=T0
        )
        word = mapping(told, "FI")
        self.known = int(str(word["size"]))
        return word


@pytest.fixture
def peers(tmp_path: Path) -> Peers:
    return Peers(tmp_path)


def test_a_log_that_grows_is_cosigned(peers: Peers) -> None:
    for size in (3, 0, 7, 1, 250):
        if size:
            peers.record.write(entries(size))
        word = peers.show()
        note = peers.record.checkpoint() + str(word["line"])
        assert cosigners(note, {origin_of("ES"): peers.keys["ES"].public}) == {origin_of("ES"): int(T0)}
    assert peers.witness.broken() == []


def test_a_forked_log_is_proved_to_be(peers: Peers, tmp_path: Path) -> None:
    peers.record.write(entries(6))
    assert "line" in peers.show()
    forked = Record(engine(f"sqlite:///{tmp_path}/fork.db"), party="FI", key=peers.keys["FI"])
    forked.write([*entries(5), b"another story"])
    for _ in range(2):
        assert peers.show(forked) == {"size": 6, "broken": True}
    ((party, seen, shown),) = peers.witness.broken()
    one, other = (open_checkpoint(n, origin=ORIGIN, key=peers.keys["FI"].public) for n in (seen, shown))
    assert party == "FI"
    assert (one.size, one.root) == (6, root(entries(6)))
    assert (other.size, other.root) == (6, root([*entries(5), b"another story"]))


def test_an_edited_log_is_never_cosigned_again(peers: Peers, tmp_path: Path) -> None:
    peers.record.write(entries(6))
    peers.show()
    edited = Record(engine(f"sqlite:///{tmp_path}/edited.db"), party="FI", key=peers.keys["FI"])
    edited.write([b"edited", *entries(11)])
    assert peers.show(edited) == {"size": 6, "unproven": True}
    assert peers.show(edited, proof=[]) == {"size": 6, "unproven": True}
    assert peers.show(edited, proof=["!", 1]) == {"size": 6, "unproven": True}
    shorter = Record(engine(f"sqlite:///{tmp_path}/short.db"), party="FI", key=peers.keys["FI"])
    shorter.write(entries(4))
    assert peers.show(shorter) == {"size": 6}
    peers.record.write(entries(1))
    assert "line" in peers.show()  # the honest one still is


def test_what_its_party_did_not_sign_is_not_looked_at(peers: Peers, tmp_path: Path) -> None:
    false = Record(engine(f"sqlite:///{tmp_path}/false.db"), party="FI", key=generate("Ed25519"))
    false.write(entries(6))
    shown: dict[str, Json] = {
        "FI": {"note": false.checkpoint()},
        "XX": {"note": peers.record.checkpoint()},
        "ES": {"note": "ours"},
        "odd": 7,
    }
    assert peers.witness.look(shown, now=T0) == {}
    assert peers.witness.look({"FI": {}}, now=T0) == {}


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(["FI", "note", "proof", "receipt", "growth", "checkpoint", "size", "line"]), x
            )
        ),
        max_leaves=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_nonsense_from_the_wire_changes_nothing(said: Json) -> None:
    key = generate("Ed25519")
    members = Members(1, (Member("FI", "node", MemberKey.of(KEY.public)),))
    witness = Witness(engine("sqlite://"), party="ES", key=key, members=members)
    exchange = Exchange(engine("sqlite://"), party="hub", key=key)
    assert witness.look({"FI": said}, now=T0) == {}
    exchange.seen({"FI": said}, now=T0)
    exchange.published({"FI": said})
    assert exchange.checkpoints() == {}


# a federation


def federation_of(tmp_path: Path, sites: int = 3) -> Federation:
    world = make_world(seed=7, people=300, variants=10)
    split = world.split(random_assignment(world, sites=sites, seed=1))
    return build_federation(tmp_path, split.sites)


def ask(federation: Federation, question: CohortCount | None = None) -> Result:
    run = federation.settle(federation.ask(question or CohortCount()))
    assert run.state == "complete", run.detail.get("problem")
    return result_of(federation, run)


def result_of(federation: Federation, run: Run) -> Result:
    ledger = federation.coordinator.ledger
    told = provenance(run, first=ledger.answers(run.id, 1), last=ledger.answers(run.id, run.seq))
    tables = federation.tables(run) if mapping(told, "result")["mode"] != "alone" else {}
    return Result(run.id, tables, json.loads(json.dumps(told)))


def node_of(federation: Federation, name: str) -> Node:
    worker = federation.parties[name]._worker
    assert isinstance(worker, Node)
    return worker


@pytest.mark.parametrize("sites", [2, 3])
def test_every_contributor_gives_a_receipt(tmp_path: Path, sites: int) -> None:
    federation = federation_of(tmp_path, sites)
    result = ask(federation)
    checkpoints = result.verify_provenance(federation.members.ring(), now=federation.now())
    assert checkpoints.keys() == set(federation.names)
    for name, checkpoint in checkpoints.items():
        log = node_of(federation, name).log.log
        assert (checkpoint.size, checkpoint.root) == (log.check().size, log.frontier().root())


def test_the_record_names_nobody_and_quotes_nothing(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    ask(federation, CohortCount(by=("sex",)))
    for name in federation.names:
        held = b"\n".join(data for _, data in node_of(federation, name).log.log.entries())
        assert held.count(b"\n") >= 3
        for word in (b"alice", b"sex", b'"by"', federation.person.kid.encode()):
            assert word not in held


def test_receipts_that_were_exchanged_do_not_hold(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    result, other = ask(federation), ask(federation)
    ring, now = federation.members.ring(), federation.now()

    def changed(**logs: object) -> Result:
        receipts = {**result.provenance["receipts"], "logs": {**result.receipts.logs, **logs}}  # type: ignore[dict-item]
        return dataclasses.replace(result, provenance={**result.provenance, "receipts": receipts})

    result.verify(ring, now=now)
    for log in (other.receipts.logs["FI"], result.receipts.logs["ES"], {}, {"entry": 1}):
        with pytest.raises(Refused):
            changed(FI=log).verify(ring, now=now)
    with pytest.raises(Damaged):
        changed(FI={**result.receipts.logs["FI"], "proof": []}).verify(ring, now=now)
    with pytest.raises(Refused):
        result.verify_provenance(KeyRing(()), now=now)
    missing = {**result.provenance["receipts"], "logs": {}}  # type: ignore[dict-item]
    with pytest.raises(Refused, match="missing"):
        dataclasses.replace(result, provenance={**result.provenance, "receipts": missing}).verify(ring, now=now)


def test_checkpoints_are_cosigned_from_run_to_run(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    for _ in range(3):
        ask(federation)
    run = federation.ask(CohortCount())
    for name in federation.names:  # they agree to take part, and look at what the others logged
        federation.parties[name].once()
    notes = federation.coordinator._exchange.checkpoints()
    assert notes.keys() == {"hub", *federation.names}
    keys = {origin_of(name): federation.keys[name].public for name in federation.names}
    for party, note in notes.items():
        open_checkpoint(note, origin=origin_of(party), key=federation.keys[party].public)
        assert cosigners(note, keys).keys() == {origin_of(name) for name in federation.names if name != party}
    assert federation.settle(run).state == "complete"


def test_a_node_that_rewrote_its_log_is_not_cosigned(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    ask(federation)
    ask(federation)
    log = node_of(federation, "IT").log
    held = [data for _, data in log.log.entries()]
    with write(engine(f"sqlite:///{tmp_path}/IT/node.db")) as db:  # its operator writes the log anew, in other order
        for table in ("log_head", "log_entry", "log_node"):
            db.execute(sa.text(f"DELETE FROM {table}"))
    log.write([*held[1:], *held[:1], b"more"])
    for _ in range(2):
        ask(federation)
    run = federation.ask(CohortCount())
    for name in federation.names:
        federation.parties[name].once()
    notes = federation.coordinator._exchange.checkpoints()
    keys = {origin_of(name): federation.keys[name].public for name in federation.names}
    assert cosigners(notes["IT"], keys) == {}
    assert len(cosigners(notes["FI"], keys)) == 2
    assert federation.settle(run).state == "complete"


def test_the_hub_keeps_a_record_of_how_runs_ended(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    result = ask(federation)
    federation.coordinator.cancel(federation.ask(CohortCount()).id)
    told = [parse_object(data) for _, data in federation.coordinator._exchange.record.log.entries()]
    assert [entry["what"] for entry in told] == ["complete", "cancelled"]
    assert told[0]["run"] == result.run


# the command


def test_receipts_are_verified_offline(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    result = ask(federation)
    saved = result.save(tmp_path / "saved")
    token = sign_members(federation.members, federation.authority, authority="permits.test", now=T0)
    (tmp_path / "members.jwt").write_text(token)
    public = {"name": "permits.test", "jwk": federation.authority.public.jwk()}
    (tmp_path / "authority.json").write_text(json.dumps(public))
    trusted = ["--members", str(tmp_path / "members.jwt"), "--authority", str(tmp_path / "authority.json"), "--json"]
    for path in (saved, saved / "provenance.json"):
        done = CliRunner().invoke(receipt_app, ["verify", str(path), *trusted])
        assert done.exit_code == 0, (done.output, done.exception)
        assert json.loads(done.output)["logs"].keys() == set(federation.names)
    one = tmp_path / "one.json"
    one.write_text(json.dumps(result.receipts.logs["ES"]))
    done = CliRunner().invoke(receipt_app, ["verify", str(one), "--party", "ES", *trusted])
    assert done.exit_code == 0, (done.output, done.exception)
    done = CliRunner().invoke(receipt_app, ["verify", str(one), "--party", "FI", *trusted])
    assert isinstance(done.exception, Refused)
    (saved / "counts.csv").unlink()
    table = saved / "counts.federome"
    table.write_bytes(table.read_bytes()[:-8] + bytes(8))
    done = CliRunner().invoke(receipt_app, ["verify", str(saved), *trusted])
    assert isinstance(done.exception, Damaged)


def test_a_receipt_is_of_one_party_and_run(record: Record) -> None:
    frontier = record.write([b'{"run":"r","what":"conclude","statement":"sha256:00"}'])
    receipt = Receipt(record.log.entry(0), 0, (), record.checkpoint(frontier))
    ring = KeyRing(())
    with pytest.raises(Refused, match="something else"):
        check_receipt(receipt.to_document(), ring, party="FI", run="r", statement="x", now=T0)


# refusals


def refusals(federation: Federation, name: str) -> list[dict[str, Json]]:
    entries = [parse_object(data) for _, data in node_of(federation, name).log.log.entries()]
    return [entry for entry in entries if entry["what"] == "refused"]


def test_what_was_refused_is_on_the_log_with_every_code_and_no_word_of_it(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    question = CohortCount(by=("sex",))
    run = federation.coordinator.submit(federation.permit(datasets=()), federation.orders(question), person="alice")
    assert federation.settle(run).state == "failed"
    for name in federation.names:
        (entry,) = refusals(federation, name)
        codes = entry["codes"]
        assert isinstance(codes, list)
        assert {"dataset_not_in_permit", "node_not_in_permit"} <= set(codes)
        assert (entry["run"], entry["task"]) == (run.id, "decide")
        assert str(entry["decision"]).startswith("sha256:")  # the denied decision can be made again, too
        held = b"\n".join(data for _, data in node_of(federation, name).log.log.entries())
        for word in (b"alice", b"sex", federation.person.kid.encode()):
            assert word not in held
        node_of(federation, name).log.log.check()


@pytest.mark.parametrize("run", ["run-1", "x" * 5_000_000, "Älice", "", "a\n"])
def test_a_task_that_cannot_be_read_is_refused_and_on_the_log(tmp_path: Path, run: str) -> None:
    federation = federation_of(tmp_path)
    node = node_of(federation, "FI")
    body: Body = {"order": "x" * 1_000_000, "permit": "\ud800", "z" * 70_000: "y"}
    for _ in range(2):
        with pytest.raises(Refused):
            node.answer(Task(f"{run}/1/FI", run, 1, "decide", body))
    first, second = refusals(federation, "FI")
    assert first["codes"] == ["token_invalid"]
    assert (first["run"], first["shown"]) == (second["run"], second["shown"])
    assert (first["run"] == run) == (run == "run-1")


def test_a_step_that_is_refused_in_the_middle_of_a_run_is_on_the_log(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    run = federation.ask(CohortCount())
    for _ in range(2):
        for party in federation.parties.values():
            party.once()
    plain = federation.state
    federation.state = lambda node: dataclasses.replace(  # type: ignore[method-assign]
        plain(node), suspended=frozenset({"P-1"})
    )
    assert federation.settle(run).state == "failed"
    told = [entry for name in federation.names for entry in refusals(federation, name)]
    assert {str(entry["codes"]) for entry in told} == {"['permit_suspended']"}
