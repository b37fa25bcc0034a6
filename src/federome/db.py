"""The one place that opens a database: SQLite by default, PostgreSQL by another URL. Store and network use it.

Reads and writes are told apart at the call: ``read(engine)`` sees one consistent snapshot, ``write(engine)`` takes
the write lock at once, so that what it has read is still true when it commits.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import StaticPool
from sqlalchemy.util import LRUCache

from federome.errors import Damaged, FederomeError, Invalid, Unavailable

if TYPE_CHECKING:
    from alembic.operations import Operations

BUSY_TIMEOUT_MS = 15_000
_SQLITE = sqlite.dialect(paramstyle="qmark")
_STATEMENTS = LRUCache[object, object](2_000)
_BUSY = ("database is locked", "database table is locked", "database is busy")

Step = Callable[["Operations"], None]
"""One change of a schema, written with Alembic's operations (its batch mode alters tables on SQLite too)."""
Change = tuple[sa.UpdateBase, Sequence[Mapping[str, object]]]
"""A statement and its rows: column or parameter names to values as the driver takes them."""


@dataclass(frozen=True)
class Schema:
    """A set of tables under one name. Version 1 is the first ``metadata``; each step leads to the next version.

    ``metadata`` is always the newest form: a fresh database is made from it directly, an older one takes the
    missing steps. Steps that have been released are never edited.
    """

    name: str
    metadata: sa.MetaData
    steps: tuple[Step, ...] = ()

    @property
    def version(self) -> int:
        """The version this program reads and writes."""
        return 1 + len(self.steps)


_versions = sa.MetaData()
_schema_version = sa.Table(
    "schema_version",
    _versions,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)
_look = sa.select(_schema_version.c.version).where(_schema_version.c.name == sa.bindparam("schema"))
_enter = _schema_version.insert()


def engine(url: str, *, durable: bool = False) -> Engine:
    """An engine for a SQLAlchemy URL (``sqlite:///path``, ``sqlite://`` in memory, ``postgresql+psycopg://…``).

    SQLite runs in WAL mode with foreign keys on. A commit survives the end of the process always; with ``durable``
    it also survives loss of power (``synchronous=FULL``, one fsync a commit).
    """
    parsed = sa.engine.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_pre_ping=True)
    in_memory = parsed.database in (None, "", ":memory:")
    arguments: dict[str, object] = {"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000}
    pool = StaticPool if in_memory else None  # every connection would be a database of its own
    options = {"compiled_cache": _STATEMENTS}
    made = sa.create_engine(parsed, connect_args=arguments, poolclass=pool, execution_options=options)
    made.dialect = _dialect()

    @event.listens_for(made, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver must not open transactions by itself; "begin" below does
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            f"synchronous = {'FULL' if durable else 'NORMAL'}",
            "foreign_keys = ON",
            "secure_delete = ON",  # keys of runs are destroyed, and their pages used again
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(made, "begin")
    def _begin(connection: Connection) -> None:
        mode = "IMMEDIATE" if connection.get_execution_options().get("federome_write") else "DEFERRED"
        connection.exec_driver_sql(f"BEGIN {mode}")

    return made


@lru_cache(maxsize=1)
def _dialect() -> sa.Dialect:
    """One for all databases of SQLite, so that a statement is compiled once for them all; it has met the library."""
    first = sa.create_engine("sqlite://")
    first.connect().close()
    first.dispose()
    return first.dialect


@contextmanager
def read(database: Engine) -> Iterator[Connection]:
    """A connection in one read transaction. Raises ``Unavailable`` if busy, ``Damaged`` if not a database."""
    with _explained(database), database.connect() as connection, connection.begin():
        yield connection


@contextmanager
def write(database: Engine) -> Iterator[Connection]:
    """A connection in one write transaction, committed at the end, rolled back on any error.

    SQLite takes the write lock at the start and waits for it up to ``BUSY_TIMEOUT_MS``; then ``Unavailable``.
    """
    with _explained(database), database.connect() as connection:
        connection = connection.execution_options(federome_write=True)
        with connection.begin():
            yield connection


def insert(connection: Connection, statement: sa.Insert, rows: Sequence[Mapping[str, object]]) -> None:
    """Many rows in the connection's transaction, all of the same columns; ``statement`` is made once, and kept.

    SQLite gets the text that it was compiled to: for tens of thousands of rows the rest took most of the time.
    """
    if not rows:
        return
    if connection.dialect.name != "sqlite":
        connection.execute(statement, rows)
        return
    text, order, fixed = _compiled(statement, tuple(rows[0]))
    connection.exec_driver_sql(text, [tuple(fixed[n] if n in fixed else row[n] for n in order) for row in rows])


class Writer:
    """Makes changes that are written in every step of a run. SQLite keeps one connection for them, and gets the text
    that each statement was compiled to once: a connection out of the pool, and a statement prepared anew, cost several
    times as much as to execute it. Safe for several threads, which wait for each other.
    """

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._kept: sa.PoolProxiedConnection | None = None

    def write(self, changes: Sequence[Change]) -> None:
        """In one write transaction, all or nothing; statements that return nothing, the same ones each time."""
        if self._database.dialect.name != "sqlite":
            with write(self._database) as connection:
                for statement, rows in changes:
                    connection.execute(statement, rows)
            return
        with _explained(self._database), self._lock:
            try:
                _write_all(self._connection(), changes)
            except sqlite3.Error as error:
                self._let_go()
                raise sa.exc.DBAPIError.instance(None, None, error, sqlite3.Error) from error
            except BaseException:
                self._let_go()
                raise

    def _connection(self) -> sqlite3.Connection:
        self._kept = self._kept or self._database.raw_connection()
        driver = self._kept.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        return driver

    def _let_go(self) -> None:
        """After a failure the next changes get a connection that the pool has looked at."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()


def _write_all(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement, rows in changes:
            text, order, fixed = _compiled(statement, tuple(rows[0]))
            connection.executemany(text, [[fixed[n] if n in fixed else row[n] for n in order] for row in rows])
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


@lru_cache(maxsize=256)
def _compiled(statement: sa.UpdateBase, given: tuple[str, ...]) -> tuple[str, list[str], Mapping[str, object]]:
    """For rows that give these names: SQLite's text, its parameters in order, values that the statement itself has."""
    compiled = statement.compile(dialect=_SQLITE, column_keys=list(given))
    assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
    assert not compiled.insert_prefetch  # a default in Python: rows for this give every column
    order = list(compiled.positiontup or ())
    fixed = {name: compiled.binds[name] for name in order if name not in given}
    if lacking := [name for name, bound in fixed.items() if bound.required]:
        raise KeyError(f"rows lack {', '.join(lacking)}")
    return compiled.string, order, {name: bound.effective_value for name, bound in fixed.items()}


class Watch:
    """Tells when anybody has written to a database, so that what was read from it need not be read again."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._connection: sa.PoolProxiedConnection | None = None

    def version(self) -> int | None:
        """Another number after every commit of any other connection; ``None`` where the database has none.

        SQLite has one for files; in memory, all share the asker's connection.
        """
        if self._database.dialect.name != "sqlite" or self._database.url.database in (None, "", ":memory:"):
            return None
        with self._lock:  # one connection for all askers: the number means something within a connection only
            if self._connection is None:
                self._connection = self._database.raw_connection()
            cursor = self._connection.cursor()
            try:
                return int(cursor.execute("PRAGMA data_version").fetchone()[0])
            finally:
                cursor.close()


def migrate(database: Engine, schema: Schema) -> None:
    """Bring the schema's tables to the newest version in one transaction; safe to call from many processes at once.

    Raises ``Invalid`` if the database was written by a newer program.
    """
    with write(database) as connection:
        _create(connection, _versions)
        held = connection.execute(_look, {"schema": schema.name}).scalar_one_or_none()
        if held == schema.version:
            return
        if held is None:
            _create(connection, schema.metadata)
            connection.execute(_enter, {"name": schema.name, "version": schema.version})
            return
        if held > schema.version:
            raise Invalid(
                f"the tables of {schema.name!r} have version {held}; this program knows {schema.version}.",
                where=_place(database),
                remedy="Run the newer release of the program that wrote them.",
            )
        # Slow to load, and an upgrade is rare.
        from alembic.migration import MigrationContext
        from alembic.operations import Operations

        operations = Operations(MigrationContext.configure(connection))
        for step in schema.steps[held - 1 :]:
            step(operations)
        connection.execute(
            _schema_version.update().where(_schema_version.c.name == schema.name).values(version=schema.version)
        )


def _create(connection: Connection, tables: sa.MetaData) -> None:
    """What is not there yet. For SQLite from text: each start asks, and to ask SQLAlchemy took as long as to create."""
    if connection.dialect.name != "sqlite":
        tables.create_all(connection)
        return
    for text in _creating(tables):
        connection.exec_driver_sql(text)


@lru_cache(maxsize=64)
def _creating(tables: sa.MetaData) -> list[str]:
    """SQLite's statements that make these tables and their indexes where they are not there."""
    made: list[sa.schema.ExecutableDDLElement] = []
    for table in tables.sorted_tables:
        made.append(sa.schema.CreateTable(table, if_not_exists=True))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        made += [sa.schema.CreateIndex(index, if_not_exists=True) for index in indexes]
    return [str(each.compile(dialect=_SQLITE)) for each in made]


def version(database: Engine, name: str) -> int | None:
    """The version that a schema has in this database, or ``None`` if it was never migrated."""
    with read(database) as connection:
        if not sa.inspect(connection).has_table(_schema_version.name):
            return None
        return connection.execute(_look, {"schema": name}).scalar_one_or_none()


def _place(database: Engine) -> str:
    return database.url.database or database.url.render_as_string(hide_password=True)


@contextmanager
def _explained(database: Engine) -> Iterator[None]:
    """Turn what the driver says into the three kinds of expected failure; constraint violations stay as they are."""
    try:
        yield
    except FederomeError:
        raise
    except sa.exc.IntegrityError:
        raise
    except sa.exc.OperationalError as error:
        text = str(error.orig)
        if any(words in text for words in _BUSY):
            raise Unavailable("the database is busy.", where=_place(database), remedy="Try again.") from error
        raise Unavailable(
            f"the database cannot be used: {text}.",
            where=_place(database),
            remedy="Check that the folder exists, is writable and has space left.",
        ) from error
    except UnicodeDecodeError as error:  # SQLite's own words about a schema that is damaged
        raise Damaged(
            "the file is not a whole database.", where=_place(database), remedy="Restore it from a backup."
        ) from error
    except sa.exc.DatabaseError as error:
        text = str(error.orig)
        if "not a database" in text or "malformed" in text:
            raise Damaged(
                "the file is not a whole database.", where=_place(database), remedy="Restore it from a backup."
            ) from error
        raise
