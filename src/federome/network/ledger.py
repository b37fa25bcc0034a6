"""The coordinator's memory: runs, tasks and blobs in one database and one folder; losing a process loses nothing.

Pure storage, no decisions: ``jobs.py`` decides what happens next. Blobs up to a quarter of a megabyte live in the
database beside the task that needs them; larger ones are files, written under a temporary name and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from federome.db import Schema, migrate, read, write
from federome.errors import Invalid, Unavailable
from federome.network.protocol import INLINE_BYTES, Body, Kind, Task
from federome.trust.canonical import canonical

METADATA = sa.MetaData()
RUN = sa.Table(
    "run",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("person", sa.String, nullable=False, index=True),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("ended", sa.Float),
    sa.Column("deadline", sa.Float, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)
TASK = sa.Table(
    "task",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("run", sa.String, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("party", sa.String, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("attached", sa.Text, nullable=False),
    sa.Column("done", sa.Boolean, nullable=False, default=False),
    sa.Column("reply", sa.Text),
    sa.Column("reply_digest", sa.String),
    sa.Column("lease", sa.Float, nullable=False, default=0.0),
    sa.Column("instance", sa.String, nullable=False, default=""),
    sa.Index("task_due", "party", "done"),
    sa.Index("task_of_run", "run", "seq"),
)
BLOB = sa.Table(
    "blob",
    METADATA,
    sa.Column("run", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("party", sa.String, primary_key=True),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("data", sa.LargeBinary),
)
SCHEMA = Schema("hub", METADATA)


@dataclass(frozen=True)
class Run:
    """One run as stored. ``detail`` is the coordinator's own JSON object."""

    id: str
    person: str
    state: str
    seq: int
    created: float
    ended: float | None
    deadline: float
    detail: Body


@dataclass(frozen=True)
class Answered:
    """A task with its answer, if there is one."""

    id: str
    party: str
    kind: str
    done: bool
    reply: Body


class Ledger:
    """Reads and writes. One instance per process; the engine serialises writers."""

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        migrate(engine, SCHEMA)
        self._engine = engine
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """All or nothing."""
        with write(self._engine) as connection:
            yield connection

    # runs

    def add_run(self, run: Run) -> None:
        """A new run; ``Invalid`` if its id was used before."""
        try:
            with self.transaction() as db:
                db.execute(RUN.insert().values(**_run_row(run)))
        except sa.exc.IntegrityError as error:
            raise Invalid("a run with this id exists.", remedy="Sign new orders with a new run id.") from error

    def save_run(self, db: sa.Connection, run: Run) -> None:
        """Store a run's new state inside a transaction."""
        db.execute(RUN.update().where(RUN.c.id == run.id).values(**_run_row(run)))

    def run(self, run: str) -> Run:
        """One run; ``Invalid`` if there is none."""
        with read(self._engine) as db:
            row = db.execute(sa.select(RUN).where(RUN.c.id == run)).one_or_none()
        if row is None:
            raise Invalid("no such run.", where=run[:80])
        return _run(row)

    def runs(self, *, person: str = "", states: Sequence[str] = (), limit: int = 1000) -> list[Run]:
        """Runs, newest first."""
        query = sa.select(RUN).order_by(RUN.c.created.desc(), RUN.c.id).limit(limit)
        if person:
            query = query.where(RUN.c.person == person)
        if states:
            query = query.where(RUN.c.state.in_(states))
        with read(self._engine) as db:
            return [_run(row) for row in db.execute(query)]

    # tasks

    def add_task(
        self, db: sa.Connection, run: str, seq: int, kind: Kind, party: str, body: Body, attached: Sequence[str] = ()
    ) -> None:
        """One thing to do for one party; ``attached`` names blobs of the run that travel with it if small."""
        db.execute(
            TASK.insert().values(
                id=f"{run}/{seq}/{party}",
                run=run,
                seq=seq,
                kind=kind,
                party=party,
                body=json.dumps(body),
                attached=json.dumps(list(attached)),
            )
        )

    def lease(self, party: str, instance: str, now: float, lease_s: float, limit: int = 16) -> tuple[list[Task], bool]:
        """Due tasks of a party, leased to this instance of it; and whether one was taken over from another instance.

        A party that started anew takes back what its earlier instance held, at once.
        """
        taken, resumed = [], False
        with self.transaction() as db:
            query = sa.select(TASK).where(TASK.c.party == party, TASK.c.done == sa.false()).order_by(TASK.c.id)
            for row in db.execute(query).all():
                if row.instance == instance and row.lease > now:
                    continue
                resumed |= row.instance not in ("", instance)
                db.execute(TASK.update().where(TASK.c.id == row.id).values(lease=now + lease_s, instance=instance))
                taken.append(row)
                if len(taken) >= limit:
                    break
        return [self._task(row) for row in taken], resumed

    def _task(self, row: sa.Row) -> Task:  # type: ignore[type-arg]
        attachments: dict[str, bytes] = {}
        room = INLINE_BYTES
        for name in json.loads(row.attached):
            data = self._inline(row.run, name)
            if data is not None and len(data) <= room:
                attachments[name] = data
                room -= len(data)
        return Task(row.id, row.run, row.seq, row.kind, json.loads(row.body), attachments)

    def extend(self, party: str, instance: str, tasks: Sequence[str], until: float) -> None:
        """Keep leases."""
        with self.transaction() as db:
            db.execute(
                TASK.update()
                .where(TASK.c.id.in_(list(tasks)), TASK.c.party == party, TASK.c.instance == instance)
                .values(lease=until)
            )

    def answer(self, db: sa.Connection, party: str, task: str, body: Body) -> tuple[str, bool]:
        """Store an answer; gives the run and whether it is new. A repeated answer is fine, a different one is not."""
        row = db.execute(sa.select(TASK).where(TASK.c.id == task, TASK.c.party == party)).one_or_none()
        if row is None:
            raise Invalid("no such task for this party.", where=task[:120])
        digest = hashlib.sha256(canonical(body)).hexdigest()
        if row.done:
            if row.reply_digest != digest:
                raise Invalid("this task was answered before, differently.", where=task)
            return row.run, False
        db.execute(
            TASK.update().where(TASK.c.id == task).values(done=True, reply=json.dumps(body), reply_digest=digest)
        )
        return row.run, True

    def answers(self, run: str, seq: int) -> list[Answered]:
        """All tasks of one step, by party."""
        with read(self._engine) as db:
            rows = db.execute(sa.select(TASK).where(TASK.c.run == run, TASK.c.seq == seq).order_by(TASK.c.party)).all()
        return [Answered(r.id, r.party, r.kind, r.done, json.loads(r.reply) if r.reply else {}) for r in rows]

    def open_tasks(self, run: str) -> list[str]:
        """Parties that still owe an answer."""
        with read(self._engine) as db:
            query = sa.select(TASK.c.party).where(TASK.c.run == run, TASK.c.done == sa.false())
            return sorted(db.execute(query).scalars())

    def close_tasks(self, db: sa.Connection, run: str) -> None:
        """Nothing more is due for this run."""
        db.execute(TASK.update().where(TASK.c.run == run, TASK.c.done == sa.false()).values(done=True))

    # blobs

    def put(self, run: str, name: str, party: str, data: bytes) -> str:
        """Store a blob; the same content again is fine, other content under the same name is ``Invalid``."""
        with self.transaction() as db:
            return self.put_in(db, run, name, party, data)

    def put_in(self, db: sa.Connection, run: str, name: str, party: str, data: bytes) -> str:
        """The same inside a transaction."""
        digest = hashlib.sha256(data).hexdigest()
        inline = data if len(data) <= INLINE_BYTES else None
        if inline is None:
            self._write(run, name, party, [data])
        self._enter(db, run, name, party, digest, len(data), inline)
        return digest

    def put_file(self, run: str, name: str, party: str, pieces: Path, digest: str, size: int) -> None:
        """Take over an uploaded temporary file as a blob."""
        target = self._path(run, name, party)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(pieces, target)
        with self.transaction() as db:
            self._enter(db, run, name, party, digest, size, None)

    def temporary(self) -> Path:
        """A name for an upload in progress."""
        folder = self._folder / "incoming"
        folder.mkdir(exist_ok=True)
        return folder / uuid4().hex

    def _enter(
        self, db: sa.Connection, run: str, name: str, party: str, digest: str, size: int, inline: bytes | None
    ) -> None:
        key = sa.and_(BLOB.c.run == run, BLOB.c.name == name, BLOB.c.party == party)
        held = db.execute(sa.select(BLOB.c.digest).where(key)).scalar_one_or_none()
        if held is None:
            values = {"run": run, "name": name, "party": party, "digest": digest, "size": size, "data": inline}
            db.execute(BLOB.insert().values(**values))
        elif held != digest:
            raise Invalid("a part was handed in before with other content.", where=f"{run}/{name}")

    def get(self, run: str, name: str, party: str = "") -> bytes:
        """One blob; ``Unavailable`` if it is not (yet) there."""
        return b"".join(self.stream(run, name, party))

    def stream(self, run: str, name: str, party: str = "", piece: int = 1 << 20) -> Iterator[bytes]:
        """One blob in pieces."""
        key = sa.and_(BLOB.c.run == run, BLOB.c.name == name, BLOB.c.party == party)
        with read(self._engine) as db:
            row = db.execute(sa.select(BLOB).where(key)).one_or_none()
        if row is None:
            raise Unavailable("this part of the run is not there.", where=f"{run}/{name}"[:160])
        if row.data is not None:
            yield row.data
            return
        with self._path(run, name, party).open("rb") as file:
            while chunk := file.read(piece):
                yield chunk

    def names(self, run: str, prefix: str, party: str) -> list[str]:
        """Names of a party's blobs under a prefix."""
        query = sa.select(BLOB.c.name).where(BLOB.c.run == run, BLOB.c.party == party, BLOB.c.name.startswith(prefix))
        with read(self._engine) as db:
            return sorted(db.execute(query).scalars())

    def drop(self, db: sa.Connection, run: str, names: Sequence[str]) -> None:
        """Forget blobs that are no longer needed; a name that ends in ``/`` stands for all below it."""
        for name in names:
            called = BLOB.c.name.startswith(name) if name.endswith("/") else BLOB.c.name == name
            query = sa.select(BLOB).where(BLOB.c.run == run, called, BLOB.c.data.is_(None))
            for row in db.execute(query).all():
                self._path(run, row.name, row.party).unlink(missing_ok=True)
            db.execute(BLOB.delete().where(BLOB.c.run == run, called))

    def forget_files(self, run: str) -> None:
        """Remove the folder of a run whose blobs were dropped."""
        shutil.rmtree(self._folder / _safe(run), ignore_errors=True)

    def _inline(self, run: str, name: str) -> bytes | None:
        with read(self._engine) as db:
            query = sa.select(BLOB.c.data).where(BLOB.c.run == run, BLOB.c.name == name, BLOB.c.party == "")
            return db.execute(query).scalar_one_or_none()

    def _write(self, run: str, name: str, party: str, pieces: Sequence[bytes]) -> None:
        temporary, target = self.temporary(), self._path(run, name, party)
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        os.replace(temporary, target)

    def _path(self, run: str, name: str, party: str) -> Path:
        # Names come from parties: hashed, so that no name can be a path.
        return self._folder / _safe(run) / _safe(f"{party}\x00{name}")


def _safe(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _run_row(run: Run) -> Mapping[str, object]:
    return {
        "id": run.id,
        "person": run.person,
        "state": run.state,
        "seq": run.seq,
        "created": run.created,
        "ended": run.ended,
        "deadline": run.deadline,
        "detail": json.dumps(run.detail),
    }


def _run(row: sa.Row) -> Run:  # type: ignore[type-arg]
    return Run(row.id, row.person, row.state, row.seq, row.created, row.ended, row.deadline, json.loads(row.detail))
