"""Reports about patients that a node's portal shows: kept at the node, each for the clinician whom its maker named.

``federome patient report --node`` puts them here, beside the node; nothing else makes one, and nothing of one leaves. A
report is a snapshot of research output, so it goes after ninety days. Whoever opens one is written down first, for
the operator and, where its maker said whose report it is, for that person; this stays when the report has gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from federome.db import Schema, migrate, read, write
from federome.errors import Invalid, Missing

if TYPE_CHECKING:
    from alembic.operations import Operations

KEPT_S: Final = 90 * 86_400.0
MOST_LETTERS: Final = 100

METADATA = sa.MetaData()
REPORT = sa.Table(
    "patient_report",
    METADATA,
    sa.Column("clinician", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("person", sa.String, nullable=False, server_default=""),
)
VIEW = sa.Table(
    "patient_report_view",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("clinician", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("made", sa.Float, nullable=False),
    sa.Column("person", sa.String, nullable=False, index=True),
)


def _with_views(operations: Operations) -> None:
    operations.add_column("patient_report", sa.Column("person", sa.String, nullable=False, server_default=""))
    VIEW.create(operations.get_bind())


SCHEMA = Schema("patient reports", METADATA, (_with_views,))


@dataclass(frozen=True)
class Kept:
    """One report: the clinician's name of the patient, and when it was made."""

    name: str
    at: float


@dataclass(frozen=True)
class View:
    """One opening of a report: when, by which clinician, their name for the patient, and when it was made."""

    at: datetime
    clinician: str
    name: str
    made: datetime


class PatientReports:
    """The reports in a node's database."""

    def __init__(self, engine: sa.Engine) -> None:
        migrate(engine, SCHEMA)
        self._engine = engine

    def put(self, clinician: str, name: str, document: Mapping[str, object], *, now: float, person: str = "") -> None:
        """Keep a report for one clinician, in place of an earlier one of this name; old ones go.

        ``person`` is the patient's id in the node's data, where they have one: they see who opens it.
        """
        for what, given in (("--for", clinician), ("--name", name)):
            if not given or len(given) > MOST_LETTERS or not given.isprintable():
                raise Invalid(f"a report needs a name of at most {MOST_LETTERS} characters.", where=what)
        row = {"clinician": clinician, "name": name, "document": json.dumps(document), "at": now, "person": person}
        with write(self._engine) as db:
            db.execute(REPORT.delete().where((REPORT.c.at < now - KEPT_S) | _of(clinician, name)))
            db.execute(REPORT.insert().values(**row))

    def remove(self, clinician: str, name: str) -> None:
        """Take a report away; ``Missing`` if there is none."""
        with write(self._engine) as db:
            if not db.execute(REPORT.delete().where(_of(clinician, name))).rowcount:
                raise Missing("there is no such report.")

    def listed(self, clinician: str, *, now: float) -> list[Kept]:
        """A clinician's own, newest first."""
        where = (REPORT.c.clinician == clinician) & (REPORT.c.at >= now - KEPT_S)
        query = sa.select(REPORT.c.name, REPORT.c.at).where(where).order_by(REPORT.c.at.desc(), REPORT.c.name)
        with read(self._engine) as db:
            return [Kept(row.name, float(row.at)) for row in db.execute(query)]

    def open(self, clinician: str, name: str, *, now: float) -> Mapping[str, object]:
        """One of their own, written down before it is given; ``Missing``, and not a word more, for another's."""
        query = sa.select(REPORT).where(_of(clinician, name) & (REPORT.c.at >= now - KEPT_S))
        with write(self._engine) as db:
            row = db.execute(query).one_or_none()
            if row is None:
                raise Missing("there is no such report.")
            seen = {"at": now, "clinician": clinician, "name": name, "made": row.at, "person": row.person}
            db.execute(VIEW.insert().values(**seen))
        found: Mapping[str, object] = json.loads(row.document)
        return found

    def views(self, person: str = "", *, limit: int = 200) -> list[View]:
        """Who opened reports, newest first: those about one person, or all."""
        query = sa.select(VIEW).order_by(VIEW.c.id.desc()).limit(limit)
        with read(self._engine) as db:
            rows = db.execute(query.where(VIEW.c.person == person) if person else query)
            return [View(_day(row.at), row.clinician, row.name, _day(row.made)) for row in rows]


def _day(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _of(clinician: str, name: str) -> sa.ColumnElement[bool]:
    return (REPORT.c.clinician == clinician) & (REPORT.c.name == name)
