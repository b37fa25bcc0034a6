"""The coordinator's memory: runs, tasks and blobs in one database and one folder; losing a process loses nothing.

Pure storage, no decisions: ``jobs.py`` decides what happens next. Blobs up to a quarter of a megabyte live in the
database beside the task that needs them; larger ones are files, written under a temporary name and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple
from uuid import uuid4

import msgspec
import sqlalchemy as sa

from federome.db import Schema, migrate, read, write
from federome.errors import Invalid, Unavailable
from federome.network.protocol import INLINE_BYTES, Body, Kind, Task
from federome.trust.canonical import Json, canonical

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


NOTHING: Final[Mapping[str, bytes]] = MappingProxyType({})


class Due(NamedTuple):
    """A task to hand out. ``attached`` names blobs of the run that travel with it if small."""

    kind: Kind
    party: str
    body: Body
    attached: tuple[str, ...] = ()


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
    """Reads and writes. One instance per hub; the engine serialises writers.

    Open runs are also kept in memory as they were last committed, because every call of every party asks for one.
    """

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        migrate(engine, SCHEMA)
        self._engine = engine
        self._folder = folder
        self._open: dict[str, Run] = {}
        folder.mkdir(parents=True, exist_ok=True)

    # runs

    def add(self, run: Run, tasks: Sequence[Due]) -> None:
        """A new run with its first tasks; ``Invalid`` if its id was used before."""
        try:
            with write(self._engine) as db:
                db.execute(RUN.insert().values(**_run_row(run)))
                self._add_tasks(db, run, tasks)
        except sa.exc.IntegrityError as error:
            raise Invalid("a run with this id exists.", remedy="Sign new orders with a new run id.") from error
        self._remember(run)

    def save(self, run: Run, tasks: Sequence[Due] = (), blobs: Mapping[str, bytes] = NOTHING) -> None:
        """A run's new state with the tasks and documents that belong to it: all or nothing."""
        with write(self._engine) as db:
            for name, data in blobs.items():
                self._put(db, run.id, name, "", data)
            db.execute(RUN.update().where(RUN.c.id == run.id).values(**_run_row(run)))
            self._add_tasks(db, run, tasks)
            if run.ended is not None:
                db.execute(TASK.update().where(TASK.c.run == run.id, TASK.c.done == sa.false()).values(done=True))
        self._remember(run)

    def run(self, run: str) -> Run:
        """One run; ``Invalid`` if there is none."""
        if held := self._open.get(run):
            return held
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

    def open_runs(self) -> list[Run]:
        """Runs that have not ended, newest first."""
        query = sa.select(RUN).where(RUN.c.ended.is_(None)).order_by(RUN.c.created.desc(), RUN.c.id)
        with read(self._engine) as db:
            return [self._open.get(row.id) or _run(row) for row in db.execute(query)]

    def _remember(self, run: Run) -> None:
        if run.ended is None:
            self._open[run.id] = run
        else:
            self._open.pop(run.id, None)

    # tasks

    def _add_tasks(self, db: sa.Connection, run: Run, tasks: Sequence[Due]) -> None:
        if tasks:
            rows = [
                {
                    "id": f"{run.id}/{run.seq}/{task.party}",
                    "run": run.id,
                    "seq": run.seq,
                    "kind": task.kind,
                    "party": task.party,
                    "body": _json(task.body),
                    "attached": _json(list(task.attached)),
                }
                for task in tasks
            ]
            db.execute(TASK.insert(), rows)

    def due(self, party: str, *, but: Container[str], limit: int = 16) -> list[Task]:
        """What a party owes an answer to, without the tasks ``but``; oldest runs first."""
        query = sa.select(TASK).where(TASK.c.party == party, TASK.c.done == sa.false()).order_by(TASK.c.id)
        tasks = []
        with read(self._engine) as db:
            for row in db.execute(query):
                if row.id not in but:
                    tasks.append(self._task(db, row))
                if len(tasks) == limit:
                    break
        return tasks

    def _task(self, db: sa.Connection, row: sa.Row) -> Task:  # type: ignore[type-arg]
        attachments: dict[str, bytes] = {}
        room = INLINE_BYTES
        for name in json.loads(row.attached):
            query = sa.select(BLOB.c.data).where(BLOB.c.run == row.run, BLOB.c.name == name, BLOB.c.party == "")
            data = db.execute(query).scalar_one_or_none()
            if data is not None and len(data) <= room:
                attachments[name] = data
                room -= len(data)
        return Task(row.id, row.run, row.seq, row.kind, json.loads(row.body), attachments)

    def answer(self, party: str, task: str, body: Body, blobs: Mapping[tuple[str, str], bytes]) -> tuple[str, bool]:
        """Store an answer and the blobs in it, by (name, owner); gives the run and whether the answer is new.

        A repeated answer is fine, a different one is ``Invalid``.
        """
        digest = hashlib.sha256(canonical(body)).hexdigest()
        with write(self._engine) as db:
            held = db.execute(
                sa.select(TASK.c.run, TASK.c.done, TASK.c.reply_digest).where(TASK.c.id == task, TASK.c.party == party)
            ).one_or_none()
            if held is None:
                raise Invalid("no such task for this party.", where=task[:120])
            if held.done and held.reply_digest != digest:
                raise Invalid("this task was answered before, differently, or is no longer wanted.", where=task)
            if held.done:
                return held.run, False
            for (name, owner), data in blobs.items():
                self._put(db, held.run, name, owner, data)
            db.execute(TASK.update().where(TASK.c.id == task).values(done=True, reply=_json(body), reply_digest=digest))
        return held.run, True

    def answers(self, run: str, seq: int) -> list[Answered]:
        """All tasks of one step, by party."""
        query = sa.select(TASK).where(TASK.c.run == run, TASK.c.seq == seq).order_by(TASK.c.party)
        with read(self._engine) as db:
            rows = db.execute(query).all()
        return [Answered(r.id, r.party, r.kind, r.done, json.loads(r.reply) if r.reply else {}) for r in rows]

    # blobs

    def put(self, run: str, name: str, party: str, data: bytes) -> None:
        """Store a blob; the same content again is fine, other content under the same name is ``Invalid``."""
        with write(self._engine) as db:
            self._put(db, run, name, party, data)

    def put_pieces(self, run: str, name: str, party: str, pieces: Iterable[bytes]) -> None:
        """The same for a blob that is made piece by piece and too large for memory."""
        temporary = self.temporary()
        digest, size = hashlib.sha256(), 0
        try:
            with temporary.open("wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    size += file.write(piece)
            self.put_file(run, name, party, temporary, digest.hexdigest(), size)
        finally:
            temporary.unlink(missing_ok=True)

    def put_file(self, run: str, name: str, party: str, pieces: Path, digest: str, size: int) -> None:
        """Take over an uploaded temporary file as a blob."""
        target = self._path(run, name, party, digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(pieces, target)
        with write(self._engine) as db:
            self._enter(db, run, name, party, digest, size, None)

    def temporary(self) -> Path:
        """A name for an upload in progress."""
        folder = self._folder / "incoming"
        folder.mkdir(exist_ok=True)
        return folder / uuid4().hex

    def _put(self, db: sa.Connection, run: str, name: str, party: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        if len(data) > INLINE_BYTES:
            temporary, target = self.temporary(), self._path(run, name, party, digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            os.replace(temporary, target)
        self._enter(db, run, name, party, digest, len(data), data if len(data) <= INLINE_BYTES else None)

    def _enter(
        self, db: sa.Connection, run: str, name: str, party: str, digest: str, size: int, inline: bytes | None
    ) -> None:
        held = db.execute(sa.select(BLOB.c.digest).where(_key(run, name, party))).scalar_one_or_none()
        if held is None:
            values = {"run": run, "name": name, "party": party, "digest": digest, "size": size, "data": inline}
            db.execute(BLOB.insert().values(**values))
        elif held != digest:
            raise Invalid("a part was handed in before with other content.", where=f"{run}/{name}"[:160])

    def size(self, run: str, name: str, party: str = "") -> int | None:
        """Bytes of a blob, or ``None`` where there is none."""
        with read(self._engine) as db:
            return db.execute(sa.select(BLOB.c.size).where(_key(run, name, party))).scalar_one_or_none()

    def get(self, run: str, name: str, party: str = "") -> bytes:
        """One blob; ``Unavailable`` if it is not (yet) there."""
        return b"".join(self.stream(run, name, party))

    def stream(self, run: str, name: str, party: str = "", piece: int = 1 << 20) -> Iterator[bytes]:
        """One blob in pieces, of which all but the last have the given size, or in one if it is small."""
        with read(self._engine) as db:
            row = db.execute(sa.select(BLOB).where(_key(run, name, party))).one_or_none()
        if row is None:
            raise Unavailable("this part of the run is not there.", where=f"{run}/{name}"[:160])
        if row.data is not None:
            yield row.data
            return
        with self._path(run, name, party, row.digest).open("rb") as file:
            while chunk := file.read(piece):
                yield chunk

    def drop(self, run: str, names: Sequence[str]) -> None:
        """Forget blobs that are no longer needed; a name that ends in ``/`` stands for all below it."""
        called = sa.or_(
            *(BLOB.c.name.startswith(name) if name.endswith("/") else BLOB.c.name == name for name in names)
        )
        which = sa.and_(BLOB.c.run == run, called)
        with write(self._engine) as db:
            files = db.execute(
                sa.select(BLOB.c.name, BLOB.c.party, BLOB.c.digest).where(which, BLOB.c.data.is_(None))
            ).all()
            db.execute(BLOB.delete().where(which))
        for name, party, digest in files:  # last: a file without a row is litter, a row without its file is damage
            self._path(run, name, party, digest).unlink(missing_ok=True)

    def _path(self, run: str, name: str, party: str, digest: str) -> Path:
        # Names come from parties: hashed, so that no name can be a path. The content is part of it, so that an upload
        # that is refused for its content has not replaced the one before.
        return self._folder / _safe(run) / _safe(f"{party}\x00{name}\x00{digest}")


def _key(run: str, name: str, party: str) -> sa.ColumnElement[bool]:
    return sa.and_(BLOB.c.run == run, BLOB.c.name == name, BLOB.c.party == party)


def _json(document: Body | list[Json]) -> str:
    return msgspec.json.encode(document).decode()


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
        "detail": _json(run.detail),
    }


def _run(row: sa.Row) -> Run:  # type: ignore[type-arg]
    return Run(row.id, row.person, row.state, row.seq, row.created, row.ended, row.deadline, json.loads(row.detail))
