"""A node's own memory of runs: orders used, rosters, frozen cohorts, round keys, what was sent, and the record.

Everything that keeps a restarted node consistent with itself is here, in the node's database, before anything leaves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec
import sqlalchemy as sa

from federome.db import Schema, Writer, migrate, read, write
from federome.errors import Invalid, Refused
from federome.governance.orders import claimed_order
from federome.network.protocol import Body
from federome.network.sums import Roster, RoundKey, admit

if TYPE_CHECKING:
    from alembic.operations import Operations

MAX_HELD: Final = 64
METADATA = sa.MetaData()
ORDER = sa.Table(
    "order_used",
    METADATA,
    sa.Column("jti", sa.String, primary_key=True),
    sa.Column("until", sa.Float, nullable=False),
)
WORK = sa.Table(
    "work",
    METADATA,
    sa.Column("run", sa.String, primary_key=True),
    sa.Column("order_token", sa.Text, nullable=False),
    sa.Column("permit_token", sa.Text, nullable=False),
    sa.Column("frozen", sa.LargeBinary, nullable=False),
    sa.Column("last_task", sa.String, nullable=False, default=""),
    sa.Column("last_reply", sa.LargeBinary),
    sa.Index("work_by_end", "last_task"),
)
DETAIL = sa.Table(  # of runs that have not ended: written in each turn, which a cohort of a million people need not be
    "work_detail",
    METADATA,
    sa.Column("run", sa.String, primary_key=True),
    sa.Column("detail", sa.Text, nullable=False),
)
GRANT = sa.Table(
    "grant_newest",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("issued", sa.Integer, nullable=False),
)
KEY = sa.Table(
    "round_key",
    METADATA,
    sa.Column("run", sa.String, primary_key=True),
    sa.Column("turn", sa.Integer, primary_key=True),
    sa.Column("secret", sa.LargeBinary, nullable=False),
    sa.Column("announcement", sa.Text, nullable=False),
)
SENT = sa.Table(
    "sent",
    METADATA,
    sa.Column("run", sa.String, primary_key=True),
    sa.Column("turn", sa.Integer, primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True),
    sa.Column("digest", sa.String, nullable=False),
)
ADMITTED = sa.Table(
    "admitted",
    METADATA,
    sa.Column("question", sa.String, primary_key=True),
    sa.Column("data_release", sa.String, primary_key=True),
    sa.Column("constellation", sa.String, nullable=False),
)
RECORD = sa.Table(
    "record",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("run", sa.String, nullable=False, index=True),
    sa.Column("what", sa.String, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)


def _with_open_runs(operations: Operations) -> None:
    """Version 2: what changes of a run stands by itself, and runs that have not ended are found without the others."""
    DETAIL.create(db := operations.get_bind())
    old = sa.table("work", sa.column("run"), sa.column("detail"), sa.column("last_task"))
    open_ = sa.select(old.c.run, old.c.detail).where(old.c.last_task == "")
    db.execute(DETAIL.insert().from_select(["run", "detail"], open_))
    with operations.batch_alter_table("work") as work:
        work.drop_column("detail")
    operations.create_index("work_by_end", "work", ["last_task"])


SCHEMA = Schema("node", METADATA, (_with_open_runs,))
EXPIRED: Final = "expired"
"""Stands for the last task of a run that will have none."""


@dataclass(frozen=True)
class Work:
    """One run at this node. ``frozen`` is the cohort as the store froze it; ``detail`` the node's own JSON object.

    The last answer is kept, because the node may die before it knows that the hub has taken it. ``roster`` is the one
    in ``detail``, read.
    """

    run: str
    order: str
    permit: str
    frozen: bytes
    detail: Body
    last_task: str = ""
    last_reply: bytes = b""
    roster: Roster | None = None

    @property
    def ended(self) -> bool:
        """Whether this node has done its last task of the run."""
        return bool(self.last_task)


@dataclass(frozen=True)
class Beginning:
    """A run that is about to begin, as ``governance.orders.consume`` sees it: using its order up begins it."""

    notebook: Notebook
    work: Work

    def used(self, jti: str) -> bool:
        """See ``governance.orders.Seen``."""
        return self.notebook.used(jti)

    def remember(self, jti: str, until: datetime) -> bool:
        """See ``governance.orders.Seen``."""
        return self.notebook.remember(jti, until, self.work)


_DETAIL = DETAIL.update().where(DETAIL.c.run == sa.bindparam("of_run")).values(detail=sa.bindparam("new_detail"))
_KEY = KEY.insert()
_KEYS = KEY.delete().where(KEY.c.run == sa.bindparam("of_run"), KEY.c.turn != sa.bindparam("but"))
_SENT = SENT.insert()
_RECORD = RECORD.insert()


class Notebook:
    """Reads and writes of one node, for one thread.

    What a task changes is noted at once and written together, in one transaction, before anything of it leaves: see
    :meth:`together` and :meth:`commit`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        migrate(engine, SCHEMA)
        self._engine, self._writer = engine, Writer(engine)
        self._works: dict[str, Work] = {}
        self._keys: dict[str, dict[int, tuple[RoundKey, str]]] = {}
        self._sent: dict[str, tuple[int, dict[int, str]]] = {}
        self._changed: set[str] = set()
        self._waiting: dict[sa.UpdateBase, list[dict[str, object]]] = {}
        self._issued: dict[str, int] = {}

    @contextmanager
    def together(self) -> Iterator[None]:
        """One task: all of its changes are written at the end, or, if it fails, none that was not written before."""
        try:
            yield
            self.commit()
        except BaseException:
            self._forget()
            raise

    def commit(self) -> None:
        """Write what was noted, before it may leave."""
        for run in self._changed:
            self._note(_DETAIL, of_run=run, new_detail=_json(self._works[run].detail))
        if self._waiting:
            self._writer.write(list(self._waiting.items()))
        self._waiting.clear()
        self._changed.clear()
        if len(self._works) > MAX_HELD:
            self._forget()

    def _note(self, statement: sa.UpdateBase, **row: object) -> None:
        self._waiting.setdefault(statement, []).append(row)

    def _forget(self) -> None:
        for held in (self._works, self._keys, self._sent, self._changed, self._waiting):
            held.clear()

    def used(self, jti: str) -> bool:
        """Whether an order was told before (see ``governance.orders.Seen``)."""
        with read(self._engine) as db:
            return db.execute(sa.select(ORDER.c.jti).where(ORDER.c.jti == jti)).first() is not None

    def remember(self, jti: str, until: datetime, work: Work | None = None) -> bool:
        """True the first time an order is told (see ``orders.Seen``); ``work`` begins with it or not at all."""
        with write(self._engine) as db:
            if db.execute(sa.select(ORDER.c.jti).where(ORDER.c.jti == jti)).first():
                return False
            db.execute(ORDER.insert().values(jti=jti, until=until.timestamp()))
            if work is not None:
                values = {"order_token": work.order, "permit_token": work.permit, "frozen": work.frozen}
                db.execute(WORK.insert().values(run=work.run, **values))
                db.execute(DETAIL.insert().values(run=work.run, detail=_json(work.detail)))
            return True

    def newest(self, grant: str, issued: int) -> int:
        """When the newest signed form of a grant was issued that this node was shown, this one among them."""
        if issued > self._issued.get(grant, -1):
            with write(self._engine) as db:
                held = db.execute(sa.select(GRANT.c.issued).where(GRANT.c.id == grant)).scalar_one_or_none()
                if held is None or issued > held:
                    db.execute(GRANT.delete().where(GRANT.c.id == grant))
                    db.execute(GRANT.insert().values(id=grant, issued=issued))
            self._issued[grant] = max(issued, -1 if held is None else held)
        return self._issued[grant]

    def work(self, run: str) -> Work | None:
        """A run this node knows, or ``None``."""
        if held := self._works.get(run):
            return held
        with read(self._engine) as db:
            found = sa.select(WORK, DETAIL.c.detail).outerjoin(DETAIL, DETAIL.c.run == WORK.c.run)
            row = db.execute(found.where(WORK.c.run == run)).one_or_none()
        if row is None:
            return None
        detail = json.loads(row.detail or "{}")
        last = row.last_task, row.last_reply or b""
        self._works[run] = Work(
            row.run, row.order_token, row.permit_token, row.frozen, detail, *last, roster=_roster(detail)
        )
        return self._works[run]

    def update(self, run: str, detail: Body) -> None:
        """Replace a run's detail."""
        work = self.work(run)
        assert work is not None
        same = detail.get("roster") is work.detail.get("roster")
        self._works[run] = replace(work, detail=detail, roster=work.roster if same else _roster(detail))
        self._changed.add(run)

    def end(self, run: str, task: str, reply: bytes) -> None:
        """The last task of a run was answered: the answer is kept, keys and state are destroyed."""
        self.commit()
        self._forget()
        with write(self._engine) as db:
            _close(db, run, last_task=task, last_reply=reply)
        self._clear_log()

    def expire(self, now: datetime) -> list[str]:
        """End runs whose orders no longer hold, so that no step can follow; which ones that were.

        A hub need not say that it gave a run up, and a run that fails elsewhere ends without this node.
        """
        with read(self._engine) as db:
            rows = db.execute(sa.select(WORK.c.run, WORK.c.order_token).where(WORK.c.last_task == "")).all()
        over = [row.run for row in rows if claimed_order(row.order_token).expires < now]
        if over:
            self.commit()
            self._forget()
            with write(self._engine) as db:
                for run in over:
                    _close(db, run, last_task=EXPIRED)
            self._clear_log()
        return over

    def _clear_log(self) -> None:
        """What was written over stands in SQLite's log until its changes are in the database itself: now."""
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
                db.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def admit(self, roster: Roster, *, party: str) -> None:
        """Remember this circle of contributors for its question; ``Refused`` if another one was admitted before."""
        with write(self._engine) as db:
            held = {
                (row.question, row.data_release): row.constellation
                for row in db.execute(sa.select(ADMITTED).where(ADMITTED.c.question == roster.question))
            }
            (question, release), constellation = admit(roster, party=party, earlier=held)
            if (question, release) not in held:
                values = {"question": question, "data_release": release, "constellation": constellation}
                db.execute(ADMITTED.insert().values(**values))

    def narrow(self, roster: Roster, constellation: str, *, party: str) -> None:
        """From now on only these survivors of the roster may sum its question over this node's data release."""
        where = ADMITTED.c.question == roster.question, ADMITTED.c.data_release == roster.member(party).data_release
        with write(self._engine) as db:
            db.execute(ADMITTED.update().where(*where).values(constellation=constellation))

    def key(self, run: str, turn: int) -> tuple[RoundKey, str] | None:
        """This node's round key of a turn and its announcement, if it was made."""
        return self._keys_of(run).get(turn)

    def _keys_of(self, run: str) -> dict[int, tuple[RoundKey, str]]:
        if run not in self._keys:
            with read(self._engine) as db:
                rows = db.execute(sa.select(KEY).where(KEY.c.run == run)).all()
            self._keys[run] = {row.turn: (RoundKey.from_bytes(row.secret), row.announcement) for row in rows}
        return self._keys[run]

    def keep_key(self, run: str, key: RoundKey, announcement: str) -> None:
        """Note a round key before it is announced."""
        self._note(_KEY, run=run, turn=key.round, secret=key.to_bytes(), announcement=announcement)
        self._keys[run] = self._keys_of(run) | {key.round: (key, announcement)}

    def destroy_keys(self, run: str, *, but: int = 0) -> None:
        """Round keys of a run are needed no more, except that of one turn."""
        held = self._keys_of(run)
        if held.keys() - {but}:
            self._note(_KEYS, of_run=run, but=but)
            self._keys[run] = {turn: kept for turn, kept in held.items() if turn == but}

    def commit_part(self, run: str, turn: int, part: int, digest: str) -> None:
        """Note what is about to be sent. The same part with other content is ``Refused``.

        One mask must never cover two different vectors: their difference would be in the clear.
        """
        sent = self._sent_in(run, turn)
        if part not in sent:
            sent[part] = digest
            self._note(_SENT, run=run, turn=turn, part=part, digest=digest)
        elif sent[part] != digest:
            raise Refused("a masked part would be sent with other content.", codes=["recompute_required"])

    def _sent_in(self, run: str, turn: int) -> dict[int, str]:
        """Digests of the parts of a turn that were noted before."""
        last, sent = self._sent.get(run, (turn + 1, {}))
        if last != turn:
            # A turn after one that is held here is new: no other process of this node has come further.
            sent = {} if last < turn else self._read_sent(run, turn)
            self._sent[run] = turn, sent
        return sent

    def _read_sent(self, run: str, turn: int) -> dict[int, str]:
        query = sa.select(SENT.c.part, SENT.c.digest).where(SENT.c.run == run, SENT.c.turn == turn)
        with read(self._engine) as db:
            return {row.part: row.digest for row in db.execute(query)}

    def record(self, at: float, run: str, what: str, detail: Body) -> None:
        """Append to the node's record: keyed digests and decisions, never data."""
        self._note(_RECORD, at=at, run=run, what=what, detail=_json(detail))

    def records(self, *, run: str = "", limit: int = 1000) -> list[tuple[float, str, str, Body]]:
        """(at, run, what, detail), oldest first."""
        if limit < 1:
            raise Invalid("a limit is at least 1.")
        query = sa.select(RECORD).order_by(RECORD.c.id).limit(limit)
        if run:
            query = query.where(RECORD.c.run == run)
        with read(self._engine) as db:
            return [(r.at, r.run, r.what, json.loads(r.detail)) for r in db.execute(query)]


def _close(db: sa.Connection, run: str, **last: object) -> None:
    """Keys and state of a run are destroyed; its order, permit and last answer stay."""
    db.execute(WORK.update().where(WORK.c.run == run).values(**last))
    for table in (DETAIL, KEY):
        db.execute(table.delete().where(table.c.run == run))


def _roster(detail: Body) -> Roster | None:
    document = detail.get("roster")
    return Roster.from_document(document) if isinstance(document, dict) else None


def _json(document: Body) -> str:
    return msgspec.json.encode(document).decode()
