"""Entitlements that a REMS server has given, taken over as grants of this hub.

REMS (CSCfi/rems, ``GET /api/entitlements``) lists who may use which resource, from when and until when. An import
states the whole list of its source: what is not in it any more has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

from federome.db import Schema, migrate, read, write
from federome.errors import Invalid
from federome.model.registry import Identity, Person
from federome.model.strict import is_identifier

_METADATA = sa.MetaData()
_TABLE = sa.Table(
    "entitlement",
    _METADATA,
    sa.Column("source", sa.String, primary_key=True),
    sa.Column("person", sa.String, primary_key=True),
    sa.Column("value", sa.String, primary_key=True),
    sa.Column("start", sa.Float, nullable=False),
    sa.Column("until", sa.Float),
)
SCHEMA: Final = Schema("entitlements", _METADATA)
MAX_ENTRIES: Final = 100_000


@dataclass(frozen=True)
class Entitlement:
    """One person's grant for one resource."""

    person: str
    value: str
    start: datetime
    until: datetime | None = None


def read_rems(document: object, source: str, persons: Sequence[Person]) -> tuple[list[Entitlement], int]:
    """The entitlements of REMS' list, and how many belong to people whom the register does not know.

    A REMS user is a registered person who has the identity (``userid``, ``source``). ``Invalid`` names the entry.
    """
    if not isinstance(document, list) or len(document) > MAX_ENTRIES:
        raise Invalid("entitlements are a JSON list.", where="entitlements")
    known = {identity: person.id for person in persons for identity in person.identities}
    found, unknown = [], 0
    for at, entry in enumerate(document):
        where = f"entitlements[{at}]"
        user = entry.get("user") if isinstance(entry, Mapping) else None
        if not isinstance(user, Mapping) or not isinstance(entry, Mapping):
            raise Invalid("an entitlement names its user.", where=where)
        resource, userid = str(entry.get("resource", "")), str(user.get("userid", ""))
        if not is_identifier(resource) or not is_identifier(userid):
            raise Invalid("an entitlement names a resource and a userid.", where=where)
        person = known.get(Identity(userid, source))
        if person is None:
            unknown += 1
            continue
        start, until = _instant(entry.get("start"), where), _instant(entry.get("end"), where)
        found.append(Entitlement(person, resource, start or datetime.fromtimestamp(0, UTC), until))
    return found, unknown


class Entitlements:
    """What was taken over, in the hub's database."""

    def __init__(self, engine: sa.Engine) -> None:
        migrate(engine, SCHEMA)
        self._engine = engine

    def replace(self, source: str, listed: Sequence[Entitlement]) -> None:
        """What a source lists now, in place of what it listed before."""
        rows = {(each.person, each.value): each for each in listed}
        with write(self._engine) as db:
            db.execute(_TABLE.delete().where(_TABLE.c.source == source))
            for each in rows.values():
                until = each.until.timestamp() if each.until else None
                values = {"person": each.person, "value": each.value, "start": each.start.timestamp(), "until": until}
                db.execute(_TABLE.insert().values(source=source, **values))

    def of(self, person: str, now: datetime) -> list[str]:
        """The resources that a person may use now."""
        wanted = sa.select(_TABLE.c.value).where(_TABLE.c.person == person, _TABLE.c.start <= now.timestamp())
        wanted = wanted.where(sa.or_(_TABLE.c.until.is_(None), _TABLE.c.until > now.timestamp()))
        with read(self._engine) as db:
            return sorted(set(db.execute(wanted).scalars()))


def _instant(text: object, where: str) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise Invalid("a time is written as 2027-01-31T12:00:00Z.", where=where) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
