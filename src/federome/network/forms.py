"""Forms of a node's pages that were taken: one that is sent again changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from federome.db import Schema, migrate, read, write

METADATA = sa.MetaData()
TAKEN = sa.Table(
    "form_taken",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("at", sa.Float, nullable=False, index=True),
)
SCHEMA = Schema("forms", METADATA)
REMEMBERED_S: Final = 30 * 86_400.0


class Forms:
    """Which forms were taken. An id begins with whose form it is, so that nobody uses up another's."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], float]) -> None:
        migrate(engine, SCHEMA)
        self._engine, self._clock = engine, clock

    def taken(self, form: str) -> bool:
        """Whether a form was taken before."""
        with read(self._engine) as db:
            return db.execute(sa.select(TAKEN.c.id).where(TAKEN.c.id == form)).first() is not None

    def take(self, form: str) -> None:
        """Remember that a form was taken."""
        now = self._clock()
        with write(self._engine) as db:
            db.execute(TAKEN.delete().where((TAKEN.c.at < now - REMEMBERED_S) | (TAKEN.c.id == form)))
            db.execute(TAKEN.insert().values(id=form, at=now))
