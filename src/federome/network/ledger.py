"""The coordinator's memory: runs, tasks and blobs in one database and one folder; losing a process loses nothing.

Pure storage, no decisions: ``jobs.py`` decides what happens next. Blobs up to a quarter of a megabyte live in the
database beside the task that needs them; larger ones are files, written under a temporary name and renamed.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec
import sqlalchemy as sa

from federome.db import Change, Schema, Writer, migrate, read
from federome.errors import Invalid
from federome.network.blobs import METADATA, Blobs, Held, below
from federome.network.protocol import INLINE_BYTES, MESSAGE_BYTES, Body, Kind, Task
from federome.trust.canonical import Json, canonical

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
SCHEMA = Schema("hub", METADATA)


MADE: Final = "made here"
"""In the place of a digest."""
PARTY: Final = "party "
"""How the owner of a run is called that a party began (a letter that it has carried): it belongs to no person."""
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


@dataclass
class _Open:
    """A task of the step that its run is in. ``stored`` and ``told``: the task, its answer stand in the database."""

    task: Task
    party: str
    attached: tuple[str, ...]
    done: bool = False
    digest: str = ""
    reply: Body = field(default_factory=dict)
    stored: bool = False
    told: bool = False


@dataclass
class _Step:
    """What memory holds of an open run: where it stands, the tasks of its step by id, small blobs of the step.

    The rest is owed to the database: tasks of ``earlier`` steps, ``fresh`` blobs, names to ``drop``.
    """

    run: Run
    tasks: dict[str, _Open]
    small: dict[tuple[str, str], bytes] = field(default_factory=dict)
    earlier: list[_Open] = field(default_factory=list)
    fresh: dict[tuple[str, str], bytes] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    held: bool = False

    def take(self, held: _Open, body: Body, digest: str, small: Mapping[tuple[str, str], bytes]) -> None:
        """An answer to one of the tasks, with the small blobs in it."""
        self.small.update(small)
        self.fresh.update(small)
        held.reply, held.digest, held.done = body, digest, True

    @property
    def owes(self) -> bool:
        """Whether memory is ahead of the database."""
        return self.held or any(task.done and not task.told for task in self.tasks.values())


_ANSWERED = (
    TASK.update()
    .where(TASK.c.id == sa.bindparam("task"))
    .values(done=True, reply=sa.bindparam("told"), reply_digest=sa.bindparam("told_digest"))
)
_NEW_RUN = RUN.insert()
_NEW_TASK = TASK.insert()
_USED = TASK.update().where(TASK.c.id == sa.bindparam("task")).values(body="{}")
_CLOSED = TASK.update().where(TASK.c.run == sa.bindparam("of"), TASK.c.done == sa.false()).values(done=True)
_DECIDED = TASK.update().where(TASK.c.run == sa.bindparam("of"), TASK.c.kind == "decide").values(body="{}")
_SAVED = (
    RUN.update()
    .where(RUN.c.id == sa.bindparam("of"))
    .values({name: sa.bindparam(f"new_{name}") for name in ("state", "seq", "ended", "detail")})
)


class Ledger:
    """Reads and writes. One instance per hub.

    Open runs, the tasks of their present step and its small blobs are kept in memory, because every call of every
    party asks for them. What another process is told was committed before: a step is written, with the answers that
    led to it, before its tasks can be seen. An answer alone is written a moment later (:meth:`settle`). One that is
    lost with the process is asked for again, and parties give the same answer twice.
    """

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        migrate(engine, SCHEMA)
        self._engine, self._writer = engine, Writer(engine)
        self._blobs = Blobs(engine, folder)
        self._writing = threading.RLock()
        with read(engine) as db:
            runs = [_run(row) for row in db.execute(sa.select(RUN).where(RUN.c.ended.is_(None)))]
            self._open = {run.id: _Step(run, self._tasks_of(db, run)) for run in runs}

    @contextmanager
    def _write(self, run: str) -> Iterator[list[Change]]:
        """Changes to make in one transaction. Writers of this process wait for each other here, fairly and shortly."""
        with self._writing:
            try:
                changes: list[Change] = []
                yield changes
                self._writer.write([(statement, rows) for statement, rows in changes if rows])
            except BaseException:
                self._blobs.unsure(run)
                raise
            if run not in self._open:
                self._blobs.unsure(run)

    # runs

    def add(self, run: Run, tasks: Sequence[Due]) -> None:
        """A new run with its first tasks; ``Invalid`` if its id was used before."""
        opened = {task.task.id: task for task in (_opened(run, due) for due in tasks)}
        try:
            with self._write(run.id) as changes:
                changes.append((_NEW_RUN, [_run_row(run)]))
                changes.append((_NEW_TASK, [_task_row(task) for task in opened.values()]))
        except sa.exc.IntegrityError as error:
            raise Invalid("a run with this id exists.", remedy="Sign new orders with a new run id.") from error
        for task in opened.values():
            task.stored = True
        self._open[run.id] = _Step(run, opened)

    def save(
        self,
        run: Run,
        tasks: Sequence[Due] = (),
        blobs: Mapping[str, bytes] = NOTHING,
        drop: Sequence[str] = (),
        *,
        hold: bool = False,
    ) -> None:
        """A run's new state with the tasks and documents that belong to it, all or nothing; ``drop`` as in ``drop``.

        ``hold`` keeps it in memory until the next step is saved: for tasks that only this process can be given, and
        that are worked out again from the step before if it ends.
        """
        with self._writing:
            step = self._following(run, tasks, {(name, ""): data for name, data in blobs.items()}, drop)
            if hold and run.ended is None:
                step.held = True
            else:
                self._write_out(step)
            if run.ended is None:
                self._open[run.id] = step
            else:
                self._open.pop(run.id, None)
                self._blobs.unsure(run.id)

    def settle(self) -> None:
        """Write the answers that have waited for their step to be complete."""
        for step in list(self._open.values()):
            with self._writing:
                if step.owes and self._open.get(step.run.id) is step:
                    self._write_out(step)

    def _following(
        self, run: Run, tasks: Sequence[Due], blobs: Mapping[tuple[str, str], bytes], drop: Sequence[str]
    ) -> _Step:
        """Where the run stands now: its next step, or the same one with another detail."""
        before = self._open.get(run.id) or _Step(run, {})
        fresh = {**before.fresh, **blobs}
        if not tasks and run.ended is None:
            step = _Step(run, before.tasks, before.small, before.earlier, fresh, (*before.drop, *drop))
            step.held = before.held
            return step
        opened = {task.task.id: task for task in (_opened(run, due) for due in tasks)}
        wanted = {name for task in opened.values() for name in task.attached}
        small = {key: data for key, data in {**before.small, **blobs}.items() if key[0] in wanted}
        earlier = [*before.earlier, *before.tasks.values()]
        return _Step(run, opened, small, earlier, fresh, (*before.drop, *drop))

    def _write_out(self, step: _Step) -> None:
        """Everything owed to the database, in one transaction."""
        run, tasks = step.run, [*step.earlier, *step.tasks.values()]
        new = [task for task in tasks if not task.stored]
        answered = [task for task in tasks if task.stored and task.done and not task.told]
        kept = {key: data for key, data in step.fresh.items() if not any(below(key[0], name) for name in step.drop)}
        told = [{"task": t.task.id, "told": _json(t.reply), "told_digest": t.digest} for t in answered]
        used = [{"task": task.task.id} for task in answered if "passport" in task.task.body]
        litter: list[Path] = []
        with self._write(run.id) as changes:
            changes += self._blobs.enter(run.id, kept)
            changes.append((_SAVED, [{f"new_{name}": value for name, value in _run_row(run).items()} | {"of": run.id}]))
            changes.append((_NEW_TASK, [_task_row(task) for task in new]))
            changes.append((_ANSWERED, told))
            changes.append((_USED, used))  # a passport is not kept beyond its use
            if run.ended is not None:
                changes += [(_CLOSED, [{"of": run.id}]), (_DECIDED, [{"of": run.id}])]
            if step.drop:
                dropped, litter = self._blobs.drop(run.id, step.drop)
                changes += dropped
        for task in tasks:
            task.stored, task.told = True, task.done
        step.earlier, step.fresh, step.drop, step.held = [], {}, (), False
        for path in litter:
            path.unlink(missing_ok=True)

    def run(self, run: str) -> Run:
        """One run; ``Invalid`` if there is none."""
        if step := self._open.get(run):
            return step.run
        with read(self._engine) as db:
            row = db.execute(sa.select(RUN).where(RUN.c.id == run)).one_or_none()
        if row is None:
            raise Invalid("no such run.", where=run[:80])
        return _run(row)

    def open_run(self, run: str) -> Run | None:
        """One run that has not ended, from memory; ``None`` for any other."""
        step = self._open.get(run)
        return None if step is None else step.run

    def has(self, run: str) -> bool:
        """Whether there is a run of this id."""
        try:
            self.run(run)
        except Invalid:
            return False
        return True

    def runs(self, *, person: str = "", states: Sequence[str] = (), limit: int = 1000) -> list[Run]:
        """Runs, newest first."""
        query = sa.select(RUN).order_by(RUN.c.created.desc(), RUN.c.id).limit(limit)
        if person:
            query = query.where(RUN.c.person == person)
        if states:
            query = query.where(RUN.c.state.in_(states))
        with read(self._engine) as db:
            return [_run(row) for row in db.execute(query)]

    def answered(self, *, limit: int) -> list[str]:
        """The ids of people's runs that were answered, newest first."""
        asked = (RUN.c.state == "complete") & ~RUN.c.person.startswith(PARTY)
        query = sa.select(RUN.c.id).where(asked).order_by(RUN.c.created.desc(), RUN.c.id).limit(limit)
        with read(self._engine) as db:
            return [str(run) for run in db.execute(query).scalars()]

    def open_runs(self) -> list[Run]:
        """Runs that have not ended."""
        return [step.run for step in list(self._open.values())]

    # tasks

    def _tasks_of(self, db: sa.Connection, run: Run) -> dict[str, _Open]:
        tasks = {}
        for row in db.execute(sa.select(TASK).where(TASK.c.run == run.id, TASK.c.seq == run.seq)):
            task = Task(row.id, row.run, row.seq, row.kind, json.loads(row.body))
            told: Body = json.loads(row.reply) if row.reply else {}
            attached = tuple(json.loads(row.attached))
            known = row.done, row.reply_digest or "", told
            tasks[row.id] = _Open(task, row.party, attached, *known, stored=True, told=row.done)
        return tasks

    def due(self, party: str, *, but: Container[str], limit: int = 16) -> list[Task]:
        """What a party owes an answer to, without the tasks ``but``."""
        owed = [
            (step, task)
            for step in list(self._open.values())
            for task in list(step.tasks.values())
            if task.party == party and not task.done and task.task.id not in but
        ]
        return [self._with_attachments(step, task) for step, task in owed[:limit]]

    def _with_attachments(self, step: _Step, task: _Open) -> Task:
        attachments: dict[str, bytes] = {}
        room = MESSAGE_BYTES
        for name in task.attached:
            data = step.small.get((name, "")) or self._blobs.inline(step.run.id, name)
            if data is not None and len(data) <= room:
                attachments[name] = data
                room -= len(data)
        return msgspec.structs.replace(task.task, attachments=attachments)

    def answer(self, party: str, task: str, body: Body, blobs: Mapping[tuple[str, str], bytes]) -> tuple[str, bool]:
        """Take an answer and the blobs in it, by (name, owner); gives the run and whether the answer is new.

        A repeated answer is fine, a different one is ``Invalid``. It is written with the step that it completes, or
        by :meth:`settle`.
        """
        digest = hashlib.sha256(canonical(body)).hexdigest()
        with self._writing:
            step = self._open.get(task.rsplit("/", 2)[0])
            held = None if step is None else step.tasks.get(task)
            if step is None or held is None or held.done or held.party != party:
                if step is not None and step.owes:
                    self._write_out(step)
                return self._answered_before(party, task, digest), False
            small = {key: data for key, data in blobs.items() if len(data) <= INLINE_BYTES}
            if len(small) < len(blobs):
                with self._write(step.run.id) as changes:
                    changes += self._blobs.enter(step.run.id, {k: data for k, data in blobs.items() if k not in small})
            step.take(held, body, digest, small)
        return step.run.id, True

    def answer_at_once(self, party: str, task: str, body: Body, blobs: Mapping[tuple[str, str], bytes]) -> bool:
        """Take a new answer that does not complete its step and needs no writing, without waiting for anybody.

        ``False``, and nothing is changed, in every other case.
        """
        if not self._writing.acquire(blocking=False):
            return False
        try:
            step = self._open.get(task.rsplit("/", 2)[0])
            held = None if step is None else step.tasks.get(task)
            if step is None or held is None or held.done or held.party != party:
                return False
            if all(each.done or each is held for each in step.tasks.values()):
                return False
            if any(len(data) > INLINE_BYTES for data in blobs.values()):
                return False
            step.take(held, body, hashlib.sha256(canonical(body)).hexdigest(), blobs)
            return True
        finally:
            self._writing.release()

    def _answered_before(self, party: str, task: str, digest: str) -> str:
        query = sa.select(TASK.c.run, TASK.c.reply_digest).where(TASK.c.id == task, TASK.c.party == party)
        with read(self._engine) as db:
            held = db.execute(query).one_or_none()
        if held is None:
            raise Invalid("no such task for this party.", where=task[:120])
        if held.reply_digest != digest:
            raise Invalid("this task was answered before, differently, or is no longer wanted.", where=task)
        return str(held.run)

    def answers(self, run: str, seq: int) -> list[Answered]:
        """All tasks of one step, by party."""
        step = self._open.get(run)
        if step is not None and step.run.seq == seq:
            tasks = list(step.tasks.items())
            found = [Answered(name, t.party, t.task.kind, t.done, t.reply if t.done else {}) for name, t in tasks]
            return sorted(found, key=lambda answer: answer.party)
        self.settle()
        query = sa.select(TASK).where(TASK.c.run == run, TASK.c.seq == seq).order_by(TASK.c.party)
        with read(self._engine) as db:
            rows = db.execute(query).all()
        return [Answered(r.id, r.party, r.kind, r.done, json.loads(r.reply) if r.reply else {}) for r in rows]

    # blobs

    def put(self, run: str, name: str, party: str, data: bytes) -> None:
        """Store a blob; the same content again is fine, other content under the same name is ``Invalid``."""
        with self._write(run) as changes:
            changes += self._blobs.enter(run, {(name, party): data})

    def put_made(self, run: str, name: str, pieces: Iterable[memoryview]) -> None:
        """A blob that is made here of others, piece by piece and too large for memory: of those it is always the same,
        and is not hashed."""
        temporary = self.temporary()
        try:
            with temporary.open("wb") as file:
                size = sum(map(file.write, pieces))
            self.put_file(run, name, "", temporary, MADE, size)
        finally:
            temporary.unlink(missing_ok=True)

    def put_file(self, run: str, name: str, party: str, pieces: Path, digest: str, size: int) -> None:
        """Take over an uploaded temporary file as a blob."""
        with self._write(run) as changes:
            changes += self._blobs.take_file(run, name, party, pieces, Held(digest, size, inline=False))

    def temporary(self) -> Path:
        """A name for an upload in progress."""
        return self._blobs.temporary()

    def size(self, run: str, name: str, party: str = "") -> int | None:
        """Bytes of a blob, or ``None`` where there is none."""
        if (data := self._small(run, name, party)) is not None:
            return len(data)
        return self._blobs.size(run, name, party)

    def get(self, run: str, name: str, party: str = "") -> bytes:
        """One blob; ``Unavailable`` if it is not (yet) there."""
        return b"".join(self.stream(run, name, party))

    def stream(self, run: str, name: str, party: str = "") -> Iterator[bytes]:
        """One blob in pieces, of which all but the last have 1 MiB, or in one if it is small."""
        if (data := self._small(run, name, party)) is not None:
            yield data
        else:
            yield from self._blobs.stream(run, name, party)

    def _small(self, run: str, name: str, party: str) -> bytes | None:
        step = self._open.get(run)
        return None if step is None else step.small.get((name, party)) or step.fresh.get((name, party))


def _json(document: Body | list[Json]) -> str:
    return msgspec.json.encode(document).decode()


def _opened(run: Run, due: Due) -> _Open:
    task = Task(f"{run.id}/{run.seq}/{due.party}", run.id, run.seq, due.kind, due.body)
    return _Open(task, due.party, due.attached)


def _task_row(task: _Open) -> dict[str, object]:
    return {
        "id": task.task.id,
        "run": task.task.run,
        "seq": task.task.seq,
        "kind": task.task.kind,
        "party": task.party,
        "body": _json(task.task.body),
        "attached": _json(list(task.attached)),
        "done": task.done,
        "reply": _json(task.reply) if task.done else None,
        "reply_digest": task.digest if task.done else None,
    }


def _run_row(run: Run) -> dict[str, object]:
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
