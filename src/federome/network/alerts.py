"""Standing questions: a node remembers whom to tell when a match arrives, tells them at least once, and never twice.

A standing question is a minimised patient with permit, consent and expiry. It is evaluated when a case arrives or is
described anew; whoever withdrew is neither found nor told. An alert is said again only if the kind of evidence has
risen. Messages wait in an outbox on disk until a channel has taken them, so a node that was down catches up; a message
may arrive twice after a crash, with the same key, and is never lost. Nothing in a message tells of the other patient
but the kind of evidence, and whether the two are of one family.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from federome.analysis.matching import Background, Measure, alert_strength
from federome.db import Schema, migrate, read, write
from federome.errors import Invalid, Unavailable
from federome.model.patient import Patient

Severity = Literal["immediate", "digest"]
Channel = Callable[["Message"], None]
EVIDENCE: Final = ("phenotype", "gene")
RETRY_S: Final = 60.0
RETRY_MOST_S: Final = 6 * 3600.0

METADATA = sa.MetaData()
QUESTION = sa.Table(
    "standing_question",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("permit", sa.String, nullable=False),
    sa.Column("terms", sa.String, nullable=False),
    sa.Column("genes", sa.String, nullable=False),
    sa.Column("family", sa.String, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("channel", sa.String, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
OUTBOX = sa.Table(
    "alert_outbox",
    METADATA,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("question", sa.String, nullable=False),
    sa.Column("found", sa.String, nullable=False),
    sa.Column("evidence", sa.String, nullable=False),
    sa.Column("family", sa.Boolean, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("channel", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("due", sa.Float, nullable=False),
)
SCHEMA = Schema("alerts", METADATA)


@dataclass(frozen=True)
class Standing:
    """A question that waits. ``family`` is a pseudonym that relatives share, empty where none is known."""

    id: str
    owner: str
    permit: str
    patient: Patient
    severity: Severity
    channel: str
    until: float


@dataclass(frozen=True)
class Message:
    """What a channel delivers. ``key`` is the same however often it is delivered."""

    key: str
    question: str
    evidence: str
    family: bool


class Alerts:
    """One node's standing questions and its outbox.

    ``threshold`` is a strength (see ``alert_threshold``: expected false alerts at each arrival); ``permitted`` says
    whether a permit and the consent behind a question hold now.
    """

    def __init__(
        self,
        engine: sa.Engine,
        measure: Measure,
        background: Background,
        *,
        threshold: float,
        permitted: Callable[[str], bool],
        clock: Callable[[], float],
    ) -> None:
        migrate(engine, SCHEMA)
        self._engine, self._measure, self._background = engine, measure, background
        self._threshold, self._permitted, self._clock = threshold, permitted, clock

    def register(self, standing: Standing) -> None:
        """Remember a question; ``Invalid`` if it could never match or has expired."""
        profile = self._measure.profile(standing.patient)
        if not profile.rows and not standing.patient.genes:
            raise Invalid("a standing question needs a usable term or gene.", where=standing.id)
        if standing.until <= self._clock():
            raise Invalid("the standing question has expired already.", where=standing.id)
        row = {
            "id": standing.id,
            "owner": standing.owner,
            "permit": standing.permit,
            "terms": " ".join(standing.patient.observed),
            "genes": " ".join(standing.patient.genes),
            "family": standing.patient.group,
            "severity": standing.severity,
            "channel": standing.channel,
            "until": standing.until,
        }
        with write(self._engine) as db:
            db.execute(QUESTION.delete().where(QUESTION.c.id == standing.id))
            db.execute(QUESTION.insert().values(**row))

    def withdraw(self, name: str) -> None:
        """Forget a question or a found case: nothing more is said about either, also what waits in the outbox."""
        with write(self._engine) as db:
            db.execute(QUESTION.delete().where(QUESTION.c.id == name))
            waits = (OUTBOX.c.state == "waiting") & ((OUTBOX.c.question == name) | (OUTBOX.c.found == name))
            db.execute(OUTBOX.delete().where(waits))

    def arrived(self, patients: Iterable[Patient]) -> int:
        """Evaluate cases that are new or described anew; how many messages were put into the outbox.

        Ingest calls this in the order of its log; calling it again for the same cases adds nothing.
        """
        added = 0
        with write(self._engine) as db:
            rows = db.execute(sa.select(QUESTION).where(QUESTION.c.until > self._clock())).mappings().all()
            rows = [row for row in rows if self._permitted(row["permit"])]
            for patient in patients:
                found = self._measure.profile(patient)
                for row in rows:
                    if row["id"] == patient.id:
                        continue
                    genes = tuple(row["genes"].split())
                    asked = self._measure.profile(Patient(row["id"], tuple(row["terms"].split()), (), genes))
                    evidence = self._background.shared(genes, patient.genes)
                    shared = self._measure.shared(asked, found)
                    if alert_strength(asked, found, shared=shared, genes=evidence) > self._threshold:
                        kind = "gene" if evidence > 0 else "phenotype"
                        added += self._put(db, row, patient, kind)
        return added

    def _put(self, db: Connection, row: RowMapping, patient: Patient, kind: str) -> int:
        pair = (OUTBOX.c.question == row["id"]) & (OUTBOX.c.found == patient.id)
        said = [str(each) for each in db.execute(sa.select(OUTBOX.c.evidence).where(pair)).scalars()]
        if any(EVIDENCE.index(each) >= EVIDENCE.index(kind) for each in said):
            return 0
        key = hashlib.sha256(f"{row['id']}\n{patient.id}\n{kind}".encode()).hexdigest()
        values = {
            "key": key,
            "question": row["id"],
            "found": patient.id,
            "evidence": kind,
            "family": bool(patient.group) and patient.group == row["family"],
            "severity": row["severity"],
            "channel": row["channel"],
            "state": "waiting",
            "tries": 0,
            "due": self._clock(),
        }
        db.execute(OUTBOX.insert().values(**values))
        return 1

    def deliver(self, channels: Mapping[str, Channel], *, digest: bool = False) -> int:
        """Hand due messages to their channels; how many were taken. ``digest`` also delivers what may wait.

        A channel raises ``Unavailable`` when it could not deliver; the message waits longer each time and stays.
        """
        now = self._clock()
        due = (OUTBOX.c.state == "waiting") & (OUTBOX.c.due <= now)
        if not digest:
            due &= OUTBOX.c.severity == "immediate"
        with read(self._engine) as db:
            rows = db.execute(sa.select(OUTBOX).where(due).order_by(OUTBOX.c.due, OUTBOX.c.key)).mappings().all()
        taken = 0
        for row in rows:
            message = Message(row["key"], row["question"], row["evidence"], bool(row["family"]))
            change: dict[str, object] = {"state": "taken"}
            try:
                if row["channel"] not in channels:
                    raise Unavailable("no such channel", where=row["channel"])
                channels[row["channel"]](message)
                taken += 1
            except Unavailable:
                wait = min(RETRY_S * 2 ** min(row["tries"], 20), RETRY_MOST_S)
                change = {"tries": row["tries"] + 1, "due": now + wait}
            with write(self._engine) as db:
                db.execute(OUTBOX.update().where(OUTBOX.c.key == row["key"]).values(**change))
        return taken

    def waiting(self) -> int:
        """How many messages no channel has taken yet."""
        with read(self._engine) as db:
            query = sa.select(sa.func.count()).select_from(OUTBOX).where(OUTBOX.c.state == "waiting")
            return int(db.execute(query).scalar_one())
