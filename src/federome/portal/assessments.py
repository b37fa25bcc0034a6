"""Self-assessments of maturity that somebody has saved at this portal: one for each country and day, newest kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Final

import sqlalchemy as sa

from federome.db import Schema, migrate, read, write
from federome.economics.maturity import Assessment, assessment_of
from federome.errors import Invalid
from federome.model.registry import Identity

MOST: Final = 200
_METADATA = sa.MetaData()
_SAVED = sa.Table(
    "portal_assessment",
    _METADATA,
    sa.Column("sub", sa.String, primary_key=True),
    sa.Column("iss", sa.String, primary_key=True),
    sa.Column("country", sa.String, primary_key=True),
    sa.Column("assessed_on", sa.String, primary_key=True),
    sa.Column("levels", sa.Text, nullable=False),
)
SCHEMA: Final = Schema("portal_assessments", _METADATA)


class Assessments:
    """What people saved, each their own and nobody else's."""

    def __init__(self, engine: sa.Engine) -> None:
        migrate(engine, SCHEMA)
        self._engine = engine

    def save(self, whose: Identity, found: Assessment) -> None:
        """Keep an assessment; one of the same country and day gives way to it."""
        held = [each for each in self.of(whose) if (each.country, each.on) != (found.country, found.on)]
        if len(held) >= MOST:
            raise Invalid("you have saved very many assessments.", remedy="Download them; the file is the same.")
        levels = {name: each.level for name, each in found.judgements.items() if each.level is not None}
        key = {"sub": whose.sub, "iss": whose.iss, "country": found.country, "assessed_on": found.on.isoformat()}
        with write(self._engine) as connection:
            connection.execute(_SAVED.delete().where(*(_SAVED.c[name] == value for name, value in key.items())))
            connection.execute(_SAVED.insert().values(**key, levels=json.dumps(levels)))

    def of(self, whose: Identity) -> list[Assessment]:
        """All of somebody's, by country and day."""
        mine = (_SAVED.c.sub == whose.sub) & (_SAVED.c.iss == whose.iss)
        with read(self._engine) as connection:
            rows = connection.execute(sa.select(_SAVED).where(mine)).all()
        found = [assessment_of(row.country, date.fromisoformat(row.assessed_on), _levels(row.levels)) for row in rows]
        return sorted(found, key=lambda each: (each.country, each.on))


def _levels(text: str) -> Mapping[str, int]:
    return {str(name): int(level) for name, level in json.loads(text).items()}
