"""The record: a Merkle log per party over SQL, receipts from it, and checkpoints that parties cosign for each other.

A node's notebook notes every step at once; the notes are sealed into the log, durably and in one batch, before the
node's last word in a run leaves with its receipt. The hub keeps a log of its own and carries checkpoints between
nodes; each node cosigns only what continues the log it saw before, so nobody can show two histories unnoticed.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from federome.db import Schema, insert, migrate, read, write
from federome.errors import Damaged, Invalid, Refused, Unavailable
from federome.network.files import replace_file
from federome.network.notebook import RECORD
from federome.network.protocol import Body
from federome.trust import merkle
from federome.trust.canonical import Json
from federome.trust.keys import Signer
from federome.trust.log import MAX_ENTRY_BYTES, Receipt, append, witness
from federome.trust.members import MemberSource
from federome.trust.merkle import HASH_BYTES, TILE_WIDTH, Coordinate, Frontier, Node
from federome.trust.notes import Checkpoint, open_by_any, sign_checkpoint
from federome.trust.receipts import log_entry, origin_of

METADATA = sa.MetaData()
HEAD = sa.Table(
    "log_head",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("peaks", sa.LargeBinary, nullable=False),
)
ENTRY = sa.Table(
    "log_entry",
    METADATA,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("run", sa.Text, nullable=False, index=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
NODE = sa.Table(
    "log_node",
    METADATA,
    # level << 48 | index: one integer, so that SQLite keeps the hashes in the key's own order
    sa.Column("place", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
SEEN = sa.Table(
    "checkpoint_seen",
    METADATA,
    sa.Column("party", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)
BROKEN = sa.Table(
    "log_broken",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("party", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("seen", sa.Text, nullable=False),
    sa.Column("shown", sa.Text, nullable=False),
)
SCHEMA = Schema("log", METADATA)
_ENTRY: Final = ENTRY.insert()
_NODE: Final = NODE.insert()

BATCH: Final = 10_000
MAX_PEERS: Final = 4
"""Checkpoints that one task carries to a node; those it has not seen for longest come first."""
MAX_KNOWN: Final = 16
_QUERY: Final = 500


class SqlLog:
    """Implements ``trust.log.LogStore``. With a durable engine, what was appended survives a loss of power."""

    def __init__(self, engine: sa.Engine) -> None:
        migrate(engine, SCHEMA)
        self._engine = engine

    def frontier(self) -> Frontier:
        """See ``LogStore``."""
        with read(self._engine) as db:
            return _frontier(db)

    def append(self, entries: Sequence[bytes], nodes: Sequence[Node], frontier: Frontier) -> None:
        """See ``LogStore``."""
        with write(self._engine) as db:
            if _frontier(db).size != frontier.size - len(entries):
                raise Unavailable("the log has grown meanwhile.", remedy="Append again.")
            _insert(db, entries, nodes, frontier)

    def nodes(self, wanted: Sequence[Coordinate]) -> Sequence[bytes]:
        """See ``LogStore``. ``Damaged`` if one is missing."""
        places = [_place(level, index) for level, index in wanted]
        found: dict[int, bytes] = {}
        with read(self._engine) as db:
            for start in range(0, len(places), _QUERY):
                query = sa.select(NODE).where(NODE.c.place.in_(places[start : start + _QUERY]))
                found.update((row.place, row.hash) for row in db.execute(query))
        if len(found) < len(set(places)):
            raise Damaged("the log lacks a hash it has written.", remedy="Restore it from a backup.")
        return [found[place] for place in places]

    def entry(self, index: int) -> bytes:
        """See ``LogStore``."""
        with read(self._engine) as db:
            data = db.execute(sa.select(ENTRY.c.data).where(ENTRY.c.number == index)).scalar_one_or_none()
        if data is None:
            raise Invalid(f"the log has no entry {index}.")
        return bytes(data)

    def entries(self, *, first: int = 0, run: str = "", limit: int = 1000) -> list[tuple[int, bytes]]:
        """(index, entry) from ``first`` on, of one run if named."""
        query = sa.select(ENTRY.c.number, ENTRY.c.data).where(ENTRY.c.number >= first)
        query = query.where(ENTRY.c.run == run) if run else query
        with read(self._engine) as db:
            return [(row.number, row.data) for row in db.execute(query.order_by(ENTRY.c.number).limit(limit))]

    def newest(self, *, run: str = "", limit: int) -> list[tuple[int, bytes]]:
        """The last entries, of one run if named, in order."""
        query = sa.select(ENTRY.c.number, ENTRY.c.data)
        query = query.where(ENTRY.c.run == run) if run else query
        with read(self._engine) as db:
            found = db.execute(query.order_by(ENTRY.c.number.desc()).limit(limit)).all()
        return [(row.number, row.data) for row in reversed(found)]

    def check(self) -> Frontier:
        """Hash every entry again, bottom to top; ``Damaged`` where one is not what was appended.

        What is appended meanwhile is left to the next check.
        """
        held, again, at = self.frontier(), Frontier(), 0
        while found := self.entries(first=at, limit=min(BATCH, held.size - at)):
            again, _ = again.extend(merkle.leaf_hash(data) for _, data in found)
            at = found[-1][0] + 1
        if again != held:
            raise Damaged("the log's entries are not those it committed to.", remedy="Restore it from a backup.")
        return again


def seal(engine: sa.Engine) -> Frontier:
    """Move every note of the notebook in a party's database into its log, for which no key is needed."""
    while True:
        with write(engine) as db:
            rows = db.execute(sa.select(RECORD).order_by(RECORD.c.id).limit(BATCH)).all()
            frontier = _frontier(db)
            if rows:
                entries = [
                    log_entry(at=row.at, run=row.run, what=row.what, detail=json.loads(row.detail)) for row in rows
                ]
                frontier, nodes = frontier.extend(merkle.leaf_hash(entry) for entry in entries)
                _insert(db, entries, nodes, frontier, runs=[row.run for row in rows])
                db.execute(RECORD.delete().where(RECORD.c.id <= rows[-1].id))
        if len(rows) < BATCH:
            return frontier


class Record:
    """A party's log with the name and key that sign its checkpoints."""

    def __init__(self, engine: sa.Engine, *, party: str, key: Signer) -> None:
        self.log = SqlLog(engine)
        self._engine, self._party, self._key = engine, party, key

    def write(self, entries: Sequence[bytes]) -> Frontier:
        """Append entries durably, in one batch."""
        return append(self.log, entries)

    def seal(self) -> Frontier:
        """Move every note of the notebook in the same database into the log: each once, whatever happens."""
        return seal(self._engine)

    def checkpoint(self, frontier: Frontier | None = None) -> str:
        """The signed note that commits to the log as it is (or was, at ``frontier``)."""
        held = frontier or self.log.frontier()
        return sign_checkpoint(Checkpoint(origin_of(self._party), held.size, held.root()), self._key.current)

    def receipt(self, run: str, frontier: Frontier) -> Receipt:
        """The receipt for the last entry of a run, under the log as it was at ``frontier``."""
        last = sa.select(sa.func.max(ENTRY.c.number)).where(ENTRY.c.run == run, ENTRY.c.number < frontier.size)
        with read(self._engine) as db:
            index = db.execute(last).scalar_one()
        if index is None:
            raise Invalid("nothing is on record about that run.", where=run)
        proof = merkle.inclusion_proof(self.log.nodes, index, frontier.size)
        return Receipt(self.log.entry(index), index, proof, self.checkpoint(frontier))

    def growth(self, known: Iterable[int], frontier: Frontier) -> Body:
        """Consistency proofs from sizes that others know to ``frontier``: size → hashes in base64."""
        sizes = sorted({size for size in known if 0 < size < frontier.size}, reverse=True)[:MAX_KNOWN]
        return {str(size): _texts(merkle.consistency_proof(self.log.nodes, size, frontier.size)) for size in sizes}

    def ending(self, run: str, known: Iterable[int]) -> Body:
        """What goes with a party's last word in a run: its receipt, and proofs for those who cosign."""
        frontier = self.seal()
        return {"receipt": self.receipt(run, frontier).to_document(), "growth": self.growth(known, frontier)}

    def write_tiles(self, folder: Path) -> Checkpoint:
        """The log as static files (C2SP tlog-tiles): checkpoint, tiles and entry bundles, to publish or archive.

        What is written never changes, but for partial tiles and the checkpoint, which comes last.
        """
        frontier = self.log.frontier()
        level, width = 0, frontier.size
        while width:
            for index in range(-(-width // TILE_WIDTH)):
                data = merkle.tile(self.log.nodes, level, index, size=frontier.size)
                _file(folder / merkle.tile_path(level, index, width=len(data) // HASH_BYTES), data)
            level, width = level + 1, width // TILE_WIDTH
        for index in range(-(-frontier.size // TILE_WIDTH)):
            count = min(TILE_WIDTH, frontier.size - index * TILE_WIDTH)
            found = self.log.entries(first=index * TILE_WIDTH, limit=count)
            bundle = b"".join(len(data).to_bytes(2, "big") + data for _, data in found)
            _file(folder / merkle.tile_path(0, index, width=count).replace("tile/0/", "tile/entries/", 1), bundle)
        _file(folder / "checkpoint", self.checkpoint(frontier).encode())
        return Checkpoint(origin_of(self._party), frontier.size, frontier.root())


class Witness:
    """What a party remembers of the others' logs, and cosigns."""

    def __init__(self, engine: sa.Engine, *, party: str, key: Signer, members: MemberSource) -> None:
        migrate(engine, SCHEMA)
        self._engine, self._party, self._key, self._members = engine, party, key, members

    def look(self, shown: Mapping[str, Json], *, now: float) -> Body:
        """Look at checkpoints that were relayed (party → note and proof): for each, the size we hold, and our line.

        A checkpoint that continues what we saw is remembered and cosigned. One that is older, or not shown to
        continue what we saw (``unproven``), is left alone: the relay may be at fault, but a log that was edited can
        never be shown to. One size with two roots is a lie of the party itself: both notes are kept as evidence, and
        it is told as ``broken``.
        """
        told: Body = {}
        for party, entry in list(shown.items())[: MAX_PEERS + 1]:
            if party == self._party or not isinstance(entry, dict):
                continue
            try:
                told[party] = self._one(party, entry, now)
            except Refused:
                continue  # no member, or not this member's signature
        return told

    def broken(self) -> list[tuple[str, str, str]]:
        """(party, note seen, note shown) of every contradiction: two signatures that cannot both be honest."""
        with read(self._engine) as db:
            return [(row.party, row.seen, row.shown) for row in db.execute(sa.select(BROKEN).order_by(BROKEN.c.id))]

    def _one(self, party: str, entry: Mapping[str, Json], now: float) -> Body:
        note, origin = str(entry.get("note")), origin_of(party)
        current, key = open_by_any(note, origin=origin, keys=self._members.find(party).keys(now))
        with write(self._engine) as db:
            row = db.execute(sa.select(SEEN).where(SEEN.c.party == party)).one_or_none()
            held = Checkpoint(origin, row.size, row.root) if row else None
            if row is not None and current.size <= row.size:
                if current.size == row.size and current.root != row.root:
                    _keep_evidence(db, party, seen=row.note, shown=note, at=now)
                    return {"size": row.size, "broken": True}
                if current.size < row.size:
                    return {"size": row.size}
            proof = _proof(entry.get("proof")) if held and 0 < held.size < current.size else ()
            try:
                cosigned, _ = witness(
                    note,
                    origin=origin,
                    key=key,
                    previous=held,
                    proof=proof,
                    name=origin_of(self._party),
                    witness_key=self._key.current,
                    now=int(now),
                )
            except Damaged:
                assert held is not None
                return {"size": held.size, "unproven": True}
            db.execute(SEEN.delete().where(SEEN.c.party == party))
            db.execute(SEEN.insert().values(party=party, size=current.size, root=current.root, note=note))
        return {"size": current.size, "line": cosigned.removeprefix(note)}


def known_sizes(body: Mapping[str, Json]) -> list[int]:
    """The sizes of our log that others know, as the hub tells them with a task; nothing, if it does not."""
    told = body.get("known")
    return [size for size in told if type(size) is int][:MAX_KNOWN] if isinstance(told, list) else []


def _frontier(db: Connection) -> Frontier:
    row = db.execute(sa.select(HEAD)).one_or_none()
    if row is None:
        return Frontier()
    peaks = tuple(row.peaks[at : at + HASH_BYTES] for at in range(0, len(row.peaks), HASH_BYTES))
    return Frontier(row.size, peaks)


def _insert(
    db: Connection, entries: Sequence[bytes], nodes: Sequence[Node], frontier: Frontier, *, runs: Sequence[str] = ()
) -> None:
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise Invalid(f"a log entry holds at most {MAX_ENTRY_BYTES} bytes.", remedy="Log its digest instead.")
    first = frontier.size - len(entries)
    named = runs or [""] * len(entries)
    rows = [{"number": first + at, "run": named[at], "data": entry} for at, entry in enumerate(entries)]
    insert(db, _ENTRY, rows)
    insert(db, _NODE, [{"place": _place(level, index), "hash": digest} for level, index, digest in nodes])
    db.execute(HEAD.delete())
    db.execute(HEAD.insert().values(id=1, size=frontier.size, peaks=b"".join(frontier.peaks)))


def _keep_evidence(db: Connection, party: str, *, seen: str, shown: str, at: float) -> None:
    same = sa.select(BROKEN.c.id).where(BROKEN.c.party == party, BROKEN.c.seen == seen, BROKEN.c.shown == shown)
    if db.execute(same).first() is None:
        db.execute(BROKEN.insert().values(party=party, at=at, seen=seen, shown=shown))


def _place(level: int, index: int) -> int:
    return level << 48 | index


def _texts(proof: Sequence[bytes]) -> list[Json]:
    return [b64encode(digest).decode() for digest in proof]


def _proof(told: Json) -> tuple[bytes, ...]:
    """A proof as it was relayed; nothing, if it is none."""
    if not isinstance(told, list) or len(told) > 64 or not all(isinstance(one, str) for one in told):
        return ()
    try:
        return tuple(b64decode(str(one), validate=True) for one in told)
    except ValueError:
        return ()


def _file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data)
