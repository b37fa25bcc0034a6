"""Which account of a national eID belongs to which person of this node: a table that the operator keeps at the node.

An identity provider tells a subject, the node knows people by the ids of its data holders, and only the holder knows
which is whose. The table holds subjects as digests under the node's own key, so that who steals it learns no eID.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from federome.db import Schema, migrate, read, write
from federome.errors import Invalid
from federome.model.registry import Identity
from federome.model.strict import Document, Identifier
from federome.trust.canonical import canonical

METADATA = sa.MetaData()
CITIZEN = sa.Table(
    "citizen",
    METADATA,
    sa.Column("account", sa.String, primary_key=True),
    sa.Column("person", sa.String, nullable=False),
)
SCHEMA = Schema("citizens", METADATA)
COLUMNS: Final = ("iss", "sub", "person")
CHUNK: Final = 500


@dataclass(frozen=True)
class Citizen(Document):
    """One line of the table: an account, and the person's id at this node."""

    iss: Identifier
    sub: Identifier
    person: Identifier


class CitizenBook:
    """The table in a node's database. ``secret`` keys the digests of accounts."""

    def __init__(self, engine: sa.Engine, *, secret: bytes) -> None:
        migrate(engine, SCHEMA)
        self._engine, self._secret = engine, secret

    def put(self, citizens: Sequence[Citizen]) -> int:
        """Add lines, all or none; how many were new. ``Invalid`` where an account would belong to two people.

        An account is never moved in silence: it would show one person's log to another. Take it out first.
        """
        rows = {self._account(Identity(one.sub, one.iss)): one.person for one in citizens}
        listed = {(one.sub, one.iss): one.person for one in citizens}
        twice = len({(one.sub, one.iss, one.person) for one in citizens}) - len(listed)
        with write(self._engine) as db:
            held = dict(self._held(db, [*rows]))
            moved = sum(held.get(account, person) != person for account, person in rows.items())
            if moved or twice:
                raise Invalid(
                    f"{moved + twice} accounts would belong to another person than before; nothing was changed.",
                    remedy="Take the account out first (--remove), if that is so.",
                )
            new = [{"account": account, "person": person} for account, person in rows.items() if account not in held]
            if new:
                db.execute(CITIZEN.insert(), new)
        return len(new)

    def remove(self, identities: Iterable[Identity]) -> int:
        """Take accounts out; how many were there."""
        accounts = {self._account(one) for one in identities}
        with write(self._engine) as db:
            return sum(db.execute(CITIZEN.delete().where(CITIZEN.c.account == one)).rowcount for one in accounts)

    def person(self, identity: Identity) -> str:
        """Whose account it is; empty where nobody of this node has it."""
        query = sa.select(CITIZEN.c.person).where(CITIZEN.c.account == self._account(identity))
        with read(self._engine) as db:
            return db.execute(query).scalar_one_or_none() or ""

    def count(self) -> int:
        """How many accounts are known."""
        with read(self._engine) as db:
            return int(db.execute(sa.select(sa.func.count()).select_from(CITIZEN)).scalar_one())

    def _held(self, db: sa.Connection, accounts: Sequence[str]) -> Iterable[tuple[str, str]]:
        for start in range(0, len(accounts), CHUNK):
            query = sa.select(CITIZEN).where(CITIZEN.c.account.in_(accounts[start : start + CHUNK]))
            yield from ((row.account, row.person) for row in db.execute(query))

    def _account(self, identity: Identity) -> str:
        told = canonical({"iss": identity.iss, "sub": identity.sub})
        return hmac.new(self._secret, b"citizen" + told, hashlib.sha256).hexdigest()


def read_citizens(lines: Iterable[str], *, where: str) -> list[Citizen]:
    """The table as a CSV file has it: a header, then issuer, subject and person; ``Invalid`` names the line."""
    table = csv.DictReader(lines)
    try:
        if tuple(table.fieldnames or ()) != COLUMNS:
            raise Invalid(f"the first line of this table is {','.join(COLUMNS)}.", where=where)
        return [Citizen.from_document(dict(row), where=f"{where}:{number}") for number, row in enumerate(table, 2)]
    except csv.Error as error:
        raise Invalid(f"this is no line of a table: {error}.", where=f"{where}:{table.line_num}") from error
