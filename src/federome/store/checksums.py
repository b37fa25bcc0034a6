"""Checksums of the catalogue's tables, renewed by whoever writes to them: SQLite has none of its own.

Files are checked against the catalogue; the catalogue is checked against these. A flipped bit in somebody's sex, in
who has withdrawn or in where a batch was callable is found like one in a genotype.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from federome.errors import Damaged
from federome.store import tables


def renew(connection: Connection, written: Iterable[sa.Table] = tables.CHECKED) -> None:
    """Keep the checksums of these tables, by default of all, as they are within this transaction."""
    kept = tables.checksum
    for table in written:
        connection.execute(kept.delete().where(kept.c.name == table.name))
        connection.execute(kept.insert(), {"name": table.name, "sha256": _digest(connection, table)})


def check(connection: Connection) -> None:
    """Before writing: ``Damaged`` where a table is altered, since new checksums would call it whole."""
    if found := altered(connection):
        raise Damaged(
            f"the catalogue's table {found[0]} is not what was written.",
            where=connection.engine.url.database or "",
            remedy="Restore the catalogue from a backup, then run: federome store verify",
        )


def altered(connection: Connection, asked: Iterable[sa.Table] = tables.CHECKED) -> tuple[str, ...]:
    """Tables whose content is not what was written. Those of a store that nobody has written to since are unknown."""
    known: dict[str, str] = {row.name: row.sha256 for row in connection.execute(sa.select(tables.checksum))}
    found = []
    for table in asked:
        try:
            same = known.get(table.name) in (None, _digest(connection, table))
        except ValueError:  # a text that is no UTF-8, a document that is no JSON
            same = False
        if not same:
            found.append(table.name)
    return tuple(found)


def _digest(connection: Connection, table: sa.Table) -> str:
    """SHA-256 over all rows, sorted."""
    digest = hashlib.sha256()
    order = list(table.primary_key) or list(table.c)
    rows = connection.execution_options(yield_per=10_000).execute(sa.select(table).order_by(*order))
    for row in rows:
        digest.update(repr(tuple(row)).encode())
    return digest.hexdigest()
