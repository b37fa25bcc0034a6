"""Reports about patients that a node's portal shows: kept at the node, each for the clinician whom its maker named.

``federome patient report --node`` puts them here, beside the node; nothing else makes one, and nothing of one leaves. A
report is a snapshot of research output, so it goes after ninety days.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from federome.db import Schema, migrate, read, write
from federome.errors import Invalid, Missing

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
)
SCHEMA = Schema("patient reports", METADATA)


@dataclass(frozen=True)
class Kept:
    """One report: the clinician's name of the patient, and when it was made."""

    name: str
    at: float


class PatientReports:
    """The reports in a node's database."""

    def __init__(self, engine: sa.Engine) -> None:
        migrate(engine, SCHEMA)
        self._engine = engine

    def put(self, clinician: str, name: str, document: Mapping[str, object], *, now: float) -> None:
        """Keep a report for one clinician, in place of an earlier one of this name; old ones go."""
        for what, given in (("--for", clinician), ("--name", name)):
            if not given or len(given) > MOST_LETTERS or not given.isprintable():
                raise Invalid(f"a report needs a name of at most {MOST_LETTERS} characters.", where=what)
        row = {"clinician": clinician, "name": name, "document": json.dumps(document), "at": now}
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

    def find(self, clinician: str, name: str, *, now: float) -> Mapping[str, object]:
        """One of a clinician's own; ``Missing``, and not a word more, for anybody else's."""
        query = sa.select(REPORT.c.document).where(_of(clinician, name) & (REPORT.c.at >= now - KEPT_S))
        with read(self._engine) as db:
            document = db.execute(query).scalar()
        if document is None:
            raise Missing("there is no such report.")
        found: Mapping[str, object] = json.loads(document)
        return found


def _of(clinician: str, name: str) -> sa.ColumnElement[bool]:
    return (REPORT.c.clinician == clinician) & (REPORT.c.name == name)
