"""The database rim: migrations, transactions, and what its failures look like to a person."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations

from federome import db
from federome.errors import Damaged, Invalid, Unavailable


def first() -> sa.MetaData:
    metadata = sa.MetaData()
    sa.Table("node", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
    return metadata


def second() -> sa.MetaData:
    metadata = sa.MetaData()
    sa.Table(
        "node",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("country", sa.Text, nullable=False, server_default=""),
    )
    return metadata


def add_country(operations: Operations) -> None:
    with operations.batch_alter_table("node") as batch:
        batch.add_column(sa.Column("country", sa.Text, nullable=False, server_default=""))


def url(path: Path) -> str:
    return f"sqlite:///{path / 'x.sqlite'}"


def test_an_old_database_becomes_what_a_fresh_one_is(tmp_path: Path) -> None:
    database = db.engine(url(tmp_path))
    db.migrate(database, db.Schema("t", first()))
    with db.write(database) as connection:
        connection.execute(sa.text("INSERT INTO node (name) VALUES ('fi')"))
    newer = db.Schema("t", second(), (add_country,))
    db.migrate(database, newer)
    db.migrate(database, newer)
    assert db.version(database, "t") == 2
    with db.read(database) as connection:
        assert connection.execute(sa.text("SELECT name, country FROM node")).all() == [("fi", "")]
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: name != "schema_version"}
        )
        assert compare_metadata(context, newer.metadata) == []


def test_a_step_that_fails_leaves_the_old_version_whole(tmp_path: Path) -> None:
    def broken(operations: Operations) -> None:
        add_country(operations)
        raise Invalid("halfway")

    database = db.engine(url(tmp_path))
    db.migrate(database, db.Schema("t", first()))
    with pytest.raises(Invalid, match="halfway"):
        db.migrate(database, db.Schema("t", second(), (broken,)))
    assert db.version(database, "t") == 1
    with db.read(database) as connection:
        assert [c["name"] for c in sa.inspect(connection).get_columns("node")] == ["id", "name"]


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    database = db.engine(url(tmp_path))
    db.migrate(database, db.Schema("t", second(), (add_country,)))
    with pytest.raises(Invalid, match="version 2; this program knows 1"):
        db.migrate(database, db.Schema("t", first()))


def test_version_is_none_before_the_first_migration(tmp_path: Path) -> None:
    database = db.engine(url(tmp_path))
    assert db.version(database, "t") is None
    db.migrate(database, db.Schema("t", first()))
    assert db.version(database, "other") is None


def test_settings_of_sqlite(tmp_path: Path) -> None:
    for durable, level in ((False, 1), (True, 2)):
        with db.read(db.engine(url(tmp_path), durable=durable)) as connection:
            pragma = {p: connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous")}
            assert pragma == {"journal_mode": "wal", "synchronous": level}
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_writers_take_turns_and_lose_nothing(tmp_path: Path) -> None:
    database = db.engine(url(tmp_path))
    db.migrate(database, db.Schema("t", first()))
    with db.write(database) as connection:
        connection.execute(sa.text("INSERT INTO node (id, name) VALUES (1, '0')"))

    def add() -> None:
        for _ in range(20):
            with db.write(database) as connection:  # read, then write what was read: needs the lock from the start
                value = connection.execute(sa.text("SELECT name FROM node WHERE id = 1")).scalar_one()
                connection.execute(sa.text("UPDATE node SET name = :v WHERE id = 1"), {"v": str(int(value) + 1)})

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read(database) as connection:
        assert connection.execute(sa.text("SELECT name FROM node")).scalar_one() == "80"


def test_a_write_is_rolled_back_on_error(tmp_path: Path) -> None:
    database = db.engine(url(tmp_path))
    db.migrate(database, db.Schema("t", first()))

    def fail() -> None:
        with db.write(database) as connection:
            connection.execute(sa.text("INSERT INTO node (name) VALUES ('x')"))
            raise Invalid("no")

    with pytest.raises(Invalid):
        fail()
    with db.read(database) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM node")).scalar_one() == 0


def test_a_reader_sees_one_snapshot(tmp_path: Path) -> None:
    database = db.engine(url(tmp_path))
    db.migrate(database, db.Schema("t", first()))
    count = sa.text("SELECT count(*) FROM node")
    with db.read(database) as reader:
        assert reader.execute(count).scalar_one() == 0
        with db.write(database) as writer:
            writer.execute(sa.text("INSERT INTO node (name) VALUES ('x')"))
        assert reader.execute(count).scalar_one() == 0
    with db.read(database) as reader:
        assert reader.execute(count).scalar_one() == 1


def test_in_memory_is_one_database_for_all_connections() -> None:
    database = db.engine("sqlite://")
    db.migrate(database, db.Schema("t", first()))
    assert db.version(database, "t") == 1


def test_a_busy_database_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "BUSY_TIMEOUT_MS", 20)
    one, two = db.engine(url(tmp_path)), db.engine(url(tmp_path))
    with db.write(one), pytest.raises(Unavailable, match="busy"), db.write(two):
        pass


def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_bytes(b"not a database at all " * 100)
    with pytest.raises(Damaged, match="not a whole database"):
        db.migrate(db.engine(url(tmp_path)), db.Schema("t", first()))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=str(tmp_path)):
        db.migrate(db.engine(url(tmp_path / "absent")), db.Schema("t", first()))


def test_foreign_keys_hold(tmp_path: Path) -> None:
    metadata = first()
    sa.Table("key", metadata, sa.Column("node", sa.ForeignKey("node.id"), primary_key=True))
    database = db.engine(url(tmp_path))
    db.migrate(database, db.Schema("t", metadata))
    with pytest.raises(sa.exc.IntegrityError), db.write(database) as connection:
        connection.execute(sa.text("INSERT INTO key (node) VALUES (7)"))


def test_a_watch_sees_commits_of_others_and_nothing_else(tmp_path: Path) -> None:
    database, others = db.engine(url(tmp_path)), db.engine(url(tmp_path))
    db.migrate(database, db.Schema("t", first()))
    watch = db.Watch(database)
    seen = watch.version()
    with db.read(others):
        pass
    assert seen is not None and watch.version() == seen
    for writer in (others, database):  # this process's own connections are others too
        with db.write(writer) as connection:
            connection.execute(sa.text("INSERT INTO node (name) VALUES (:n)"), {"n": str(writer is others)})
        assert watch.version() != seen
        seen = watch.version()
    assert db.Watch(db.engine("sqlite://")).version() is None


def changes(*rows: dict[str, object]) -> list[db.Change]:
    node = first().tables["node"]
    named = node.update().where(node.c.id == sa.bindparam("of")).values(name="renamed")
    return [(node.insert(), list(rows)), (named, [{"of": rows[0]["id"]}])]


def made(tmp_path: Path) -> sa.Engine:
    database = db.engine(url(tmp_path))
    db.migrate(database, db.Schema("t", first()))
    return database


def held(database: sa.Engine) -> list[tuple[int, str]]:
    with db.read(database) as connection:
        return [tuple(row) for row in connection.execute(sa.text("SELECT id, name FROM node ORDER BY id"))]


def test_changes_written_together_are_those_written_one_by_one(tmp_path: Path) -> None:
    database = made(tmp_path)
    rows: list[dict[str, object]] = [{"id": 1, "name": "fi"}, {"name": "es", "id": 2}]
    db.Writer(database).write(changes(*rows))
    together = held(database)
    with db.write(database) as connection:
        connection.execute(sa.text("DELETE FROM node"))
        for statement, given in changes(*rows):
            connection.execute(statement, given)
    assert together == held(database) == [(1, "renamed"), (2, "es")]


def test_many_rows_are_those_inserted_one_by_one(tmp_path: Path) -> None:
    database, node = made(tmp_path), first().tables["node"]
    rows: list[dict[str, object]] = [{"id": 1, "name": "fi"}, {"name": "es", "id": 2}]
    with db.write(database) as connection:
        db.insert(connection, node.insert(), [])
        db.insert(connection, node.insert(), rows)
    many = held(database)
    with db.write(database) as connection:
        connection.execute(sa.text("DELETE FROM node"))
        for row in rows:
            connection.execute(node.insert(), row)
    assert many == held(database) == [(1, "fi"), (2, "es")]
    with pytest.raises(sa.exc.IntegrityError), db.write(database) as connection:
        db.insert(connection, node.insert(), [{"id": 3, "name": "it"}, {"id": 1, "name": "again"}])
    assert held(database) == many


def test_changes_are_all_made_or_none(tmp_path: Path) -> None:
    database = made(tmp_path)
    writer = db.Writer(database)
    writer.write(changes({"id": 1, "name": "fi"}))
    with pytest.raises(sa.exc.IntegrityError):
        writer.write(changes({"id": 2, "name": "es"}, {"id": 1, "name": "again"}))
    with pytest.raises(KeyError):  # of a row that lacks a name, and of a statement that none of its rows gives one
        writer.write(changes({"id": 2, "name": "es"}, {"id": 3}))
    node = first().tables["node"]
    with pytest.raises(KeyError, match="of"):
        writer.write([(node.delete().where(node.c.id == sa.bindparam("of")), [{"name": "x"}])])
    writer.write(changes({"id": 2, "name": "es"}))
    assert held(database) == [(1, "renamed"), (2, "renamed")]


def test_changes_wait_for_who_writes_and_say_so_when_they_waited_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "BUSY_TIMEOUT_MS", 20)
    database = made(tmp_path)
    writer = db.Writer(database)
    with db.write(database), pytest.raises(Unavailable, match="busy"):
        writer.write(changes({"id": 1, "name": "fi"}))
    writer.write(changes({"id": 1, "name": "fi"}))
    assert held(database) == [(1, "renamed")]
