"""A node's own memory of runs: orders used, rosters, frozen cohorts, round keys, what was sent, and the record.

Everything that keeps a restarted node consistent with itself is here, in the node's database, before anything leaves.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from federome.db import Schema, migrate, read, write
from federome.errors import Invalid, Refused
from federome.network.protocol import Body
from federome.network.sums import Roster, admit

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
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("last_task", sa.String, nullable=False, default=""),
    sa.Column("last_reply", sa.LargeBinary),
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
SCHEMA = Schema("node", METADATA)


@dataclass(frozen=True)
class Work:
    """One run at this node. ``frozen`` is the cohort as the store froze it; ``detail`` the node's own JSON object.

    The last answer is kept, because the node may die before it knows that the hub has taken it.
    """

    run: str
    order: str
    permit: str
    frozen: bytes
    detail: Body
    last_task: str = ""
    last_reply: bytes = b""

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


class Notebook:
    """Reads and writes of one node."""

    def __init__(self, engine: sa.Engine) -> None:
        migrate(engine, SCHEMA)
        self._engine = engine

    def used(self, jti: str) -> bool:
        """Whether an order was told before (see ``governance.orders.Seen``)."""
        with read(self._engine) as db:
            return db.execute(sa.select(ORDER.c.jti).where(ORDER.c.jti == jti)).first() is not None

    def forget_orders(self, now: float) -> None:
        """Orders past their expiry are refused for that, and need no memory."""
        with write(self._engine) as db:
            db.execute(ORDER.delete().where(ORDER.c.until < now))

    def remember(self, jti: str, until: datetime, work: Work | None = None) -> bool:
        """True the first time an order is told (see ``orders.Seen``); ``work`` begins with it or not at all."""
        with write(self._engine) as db:
            if db.execute(sa.select(ORDER.c.jti).where(ORDER.c.jti == jti)).first():
                return False
            db.execute(ORDER.insert().values(jti=jti, until=until.timestamp()))
            if work is not None:
                values = {"order_token": work.order, "permit_token": work.permit, "frozen": work.frozen}
                db.execute(WORK.insert().values(run=work.run, detail=json.dumps(work.detail), **values))
            return True

    def work(self, run: str) -> Work | None:
        """A run this node knows, or ``None``."""
        with read(self._engine) as db:
            row = db.execute(sa.select(WORK).where(WORK.c.run == run)).one_or_none()
        if row is None:
            return None
        detail = json.loads(row.detail)
        return Work(
            row.run, row.order_token, row.permit_token, row.frozen, detail, row.last_task, row.last_reply or b""
        )

    def update(self, run: str, detail: Body) -> None:
        """Replace a run's detail."""
        with write(self._engine) as db:
            db.execute(WORK.update().where(WORK.c.run == run).values(detail=json.dumps(detail)))

    def end(self, run: str, task: str, reply: bytes) -> None:
        """The last task of a run was answered: the answer is kept, keys and state are destroyed."""
        with write(self._engine) as db:
            values = {"last_task": task, "last_reply": reply, "detail": "{}"}
            db.execute(WORK.update().where(WORK.c.run == run).values(**values))
            db.execute(KEY.delete().where(KEY.c.run == run))

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

    def key(self, run: str, turn: int) -> tuple[bytes, str] | None:
        """(secret, announcement) of this node's round key, if it was made."""
        with read(self._engine) as db:
            row = db.execute(sa.select(KEY).where(KEY.c.run == run, KEY.c.turn == turn)).one_or_none()
        return (row.secret, row.announcement) if row else None

    def keep_key(self, run: str, turn: int, secret: bytes, announcement: str) -> None:
        """Store a round key before it is announced; keys of turns long past are destroyed."""
        with write(self._engine) as db:
            db.execute(KEY.insert().values(run=run, turn=turn, secret=secret, announcement=announcement))
            db.execute(KEY.delete().where(KEY.c.run == run, KEY.c.turn < turn - 2))

    def commit_part(self, run: str, turn: int, part: int, digest: str) -> None:
        """Remember what is about to be sent. The same part with other content is ``Refused``.

        One mask must never cover two different vectors: their difference would be in the clear.
        """
        key = sa.and_(SENT.c.run == run, SENT.c.turn == turn, SENT.c.part == part)
        with write(self._engine) as db:
            held = db.execute(sa.select(SENT.c.digest).where(key)).scalar_one_or_none()
            if held is None:
                db.execute(SENT.insert().values(run=run, turn=turn, part=part, digest=digest))
            elif held != digest:
                raise Refused("a masked part would be sent with other content.", codes=["recompute_required"])

    def record(self, at: float, run: str, what: str, detail: Body) -> None:
        """Append to the node's record: keyed digests and decisions, never data."""
        with write(self._engine) as db:
            db.execute(RECORD.insert().values(at=at, run=run, what=what, detail=json.dumps(detail, sort_keys=True)))

    def records(self, *, run: str = "", limit: int = 1000) -> list[tuple[float, str, str, Body]]:
        """(at, run, what, detail), oldest first."""
        if limit < 1:
            raise Invalid("a limit is at least 1.")
        query = sa.select(RECORD).order_by(RECORD.c.id).limit(limit)
        if run:
            query = query.where(RECORD.c.run == run)
        with read(self._engine) as db:
            return [(r.at, r.run, r.what, json.loads(r.detail)) for r in db.execute(query)]
