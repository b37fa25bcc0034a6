"""The provider's tables, through the mapping, into one typed table ``people`` with a row a person.

Works by whole columns inside DuckDB with a memory limit, beyond which it spills: neither the text of a table nor its
typed form needs to fit into memory. Every cell that does not read as its field becomes a finding with its line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import duckdb
import pandas as pd

from federome.errors import Invalid
from federome.ingest.columns import COLUMNS, Column
from federome.onboard.canon import SQL_TYPES, cell, trimmed, value_class
from federome.onboard.crosswalk import uses, walked
from federome.onboard.findings import FIRST, Finding
from federome.onboard.mapping import FieldMapping, Plan, TableMapping, check_complete
from federome.onboard.tables import Source, broken_lines, literal, literals, open_table, quoted, shifted_line
from federome.onboard.words import Coded, encode

MEMORY: Final = "1GB"


@dataclass
class People:
    """The table ``people`` of ``connection``, rows as in ``main``. ``wrong`` is SQL: rows whose cell of a field did not
    read, which is said already and not said again as missing.
    """

    connection: duckdb.DuckDBPyConnection
    main: Source
    fields: tuple[str, ...]
    count: int
    wrong: Mapping[str, str]
    columns: Mapping[str, str]
    findings: list[Finding] = field(default_factory=list)

    def line(self, row: int) -> int:
        """The line of a person's row in the main table."""
        return self.main.line(row)


def open_workbench(spill: Path, *, threads: int = 2) -> duckdb.DuckDBPyConnection:
    """A database for one conversion: bounded in memory, beyond which it spills into a folder of that name."""
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{MEMORY}'; SET threads = {threads}; SET preserve_insertion_order = true")
    connection.execute("SET temp_directory = " + literal(str(spill)))
    return connection


def convert(
    connection: duckdb.DuckDBPyConnection,
    plan: Plan,
    folder: Path,
    *,
    scratch: Path,
    mend: bool,
    by_words: bool = True,
    prefix: str = "",
) -> People:
    """Read all mapped tables. With ``mend``, cells that can be mended without loss are, and each kind is reported.

    ``by_words`` reads each different word once where a table allows it; what is found is the same without. ``prefix``
    is put before every id of a person.
    """
    findings: list[Finding] = []
    main: Source | None = None
    parts: list[tuple[str, tuple[str, ...]]] = []
    for number, planned in enumerate(plan.table):
        table, walks = walked(planned, folder)
        source = open_table(folder / table.file, table.dialect, scratch)
        check_complete(table, source.columns)
        findings += _typed(connection, f"t{number}", source, table, mend=mend, by_words=by_words, prefix=prefix)
        for name, walk in walks.items():
            how = table.fields[name]
            one = _where(how, trimmed(how.column, table.missing))
            items = _items(how, one) if COLUMNS[name].listed else f"[{one}]"
            findings += uses(connection, source, table.file, how, items, walk)
        main = main or source
        parts.append((f"t{number}", tuple(table.fields)))
    assert main is not None
    findings += _once_each(connection, main, plan.table[0])
    for number, table in enumerate(plan.table[1:], 1):
        findings += _known_people(connection, f"t{number}", table)
    fields = _join(connection, parts)
    (count,) = connection.execute("SELECT count(*) FROM people").fetchall()[0]
    if not count:
        raise Invalid("the table has no people.", where=main.file, remedy="Give one row a person.")
    columns = {field: how.column for table in plan.table for field, how in table.fields.items()}
    wrong = {
        field: f"rowid IN (SELECT rowid FROM t0 WHERE (_wrong & {1 << at}::UBIGINT) <> 0)"  # noqa: S608
        for at, field in enumerate(plan.table[0].fields)
    }
    return People(connection, main, fields, int(count), wrong, columns, findings)


def _typed(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    table: TableMapping,
    *,
    mend: bool,
    by_words: bool,
    prefix: str,
) -> Iterator[Finding]:
    """Make the table ``name`` of typed fields with two masks: which fields are wrong, which were mended."""
    used = {table.person} | {column for how in table.fields.values() for column in (how.column, *how.where)}
    coded = encode(source, sorted(used)) if by_words else None
    readings = {
        field: _reading(at, COLUMNS[field], how, table, mend=mend, gaps=how.column in source.lists)
        for at, (field, how) in enumerate(table.fields.items())
    }
    known = {} if coded is None else _read_words(connection, coded, table, mend=mend)
    rows = source.sql if coded is None else _coded_rows(connection, coded, table)
    by_cell = [read for field, read in readings.items() if field not in known]
    cells = {field: known.get(field) or _by_cell(read, mend=mend) for field, read in readings.items()}
    # Four projections, one over the other, so that nothing is computed twice: text, parsed, strict, outcome.
    person = f"{literal(prefix)} || {trimmed(table.person, table.missing)}"
    text = [f"{person} AS _person", "*", *(read.text for read in by_cell)]
    for layer in (text, ["*", *(read.parsed for read in by_cell)], ["*", *(read.strict for read in by_cell)]):
        rows = f"(SELECT {', '.join(layer)} FROM {rows})"  # noqa: S608 - names are quoted
    outcome = ["_person", *(f"{each.value} AS {field}" for field, each in cells.items())]
    for mask, tests in (("_wrong", [c.wrong for c in cells.values()]), ("_mended", [c.mended for c in cells.values()])):
        flags = [f"CASE WHEN {test} THEN {1 << at}::UBIGINT ELSE 0 END" for at, test in enumerate(tests) if test]
        outcome.append(f"{' + '.join(['0::UBIGINT', *flags])} AS {mask}")
    connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT {', '.join(outcome)} FROM {rows}")  # noqa: S608
    broken: list[Finding] = []
    if coded is None and source.dialect is not None:
        broken = list(broken_lines(connection, source))
        if not broken:
            (count,) = connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0]  # noqa: S608
            broken = list(shifted_line(source, int(count)))
    yield from broken
    if not broken:
        yield from _cells(connection, name, source, table, {field: COLUMNS[field] for field in readings}, mend=mend)


@dataclass(frozen=True)
class Reading:
    """One field of one table as SQL in four layers, each over the one before, so that nothing is computed twice.

    ``text``, ``parsed``, ``strict`` and ``outcome`` are what each layer selects; ``failed`` holds where a cell did not
    read strictly, ``hopeless`` where it cannot be mended either.
    """

    text: str
    parsed: str
    strict: str
    outcome: str
    failed: str
    hopeless: str

    def layers(self, rows: str) -> str:
        """The first three layers over some rows, which stay beside them."""
        for layer in (self.text, self.parsed, self.strict):
            rows = f"(SELECT *, {layer} FROM {rows})"  # noqa: S608 - names are quoted
        return rows


@dataclass(frozen=True)
class _Cells:
    """One field as SQL over the rows: its value, and where it is wrong or was mended; empty for nowhere."""

    value: str
    wrong: str
    mended: str


def _by_cell(read: Reading, *, mend: bool) -> _Cells:
    hopeless = f"CASE WHEN {read.failed} THEN {read.hopeless} ELSE false END"
    mended = f"CASE WHEN {read.failed} THEN NOT ({read.hopeless}) ELSE false END"
    return _Cells(read.outcome, hopeless if mend else read.failed, mended)


def _read_words(
    connection: duckdb.DuckDBPyConnection, coded: Coded, table: TableMapping, *, mend: bool
) -> dict[str, _Cells]:
    """Every different word of a column is read once; a row then takes what was made of its word."""
    found: dict[str, _Cells] = {}
    for at, (name, how) in enumerate(table.fields.items()):
        if how.column not in coded.words:
            continue
        column = COLUMNS[name]
        read = _reading(at, column, replace(how, where={}), table, mend=mend)
        cells = _by_cell(read, mend=mend)
        connection.register("words", pd.DataFrame({how.column: coded.words[how.column]}, dtype=object))
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE found AS SELECT {cells.value} AS value, {cells.wrong} AS wrong, "  # noqa: S608
            f"{cells.mended} AS mended FROM {read.layers('words')}"
        )
        connection.unregister("words")
        (wrong, mended) = connection.execute("SELECT bool_or(wrong), bool_or(mended) FROM found").fetchall()[0]
        value = _looked_up(connection, f"value_{at}", "value", coded, how.column)
        tests = [
            _where(how, _looked_up(connection, f"{what}_{at}", what, coded, how.column)) if any_ else ""
            for what, any_ in (("wrong", wrong), ("mended", mended))
        ]
        value = _where(how, value, otherwise="[]" if column.listed else "NULL")
        found[name] = _Cells(value, *tests)
    return found


def _looked_up(connection: duckdb.DuckDBPyConnection, name: str, what: str, coded: Coded, column: str) -> str:
    """SQL: of a row's word, what the table ``found`` says of it."""
    connection.execute(f"SET VARIABLE {name} = (SELECT list({what} ORDER BY rowid) FROM found)")  # noqa: S608
    return f"list_extract(getvariable('{name}'), {quoted(coded.number(column))} + 1)"


def _coded_rows(connection: duckdb.DuckDBPyConnection, coded: Coded, table: TableMapping) -> str:
    """The rows as numbers of words and kept texts; columns whose text is asked for besides are written out."""
    numbers = {coded.number(column): codes for column, codes in coded.codes.items()}
    connection.register("coded", pd.DataFrame(numbers | dict(coded.texts), copy=False))
    asked = {table.person} | {column for how in table.fields.values() for column in how.where}
    texts = ["*"]
    for at, column in enumerate(sorted(asked & set(coded.words))):
        connection.register("words", pd.DataFrame({"word": coded.words[column]}, dtype=object))
        connection.execute("CREATE OR REPLACE TEMP TABLE found AS SELECT word FROM words")
        texts.append(f"{_looked_up(connection, f'text_{at}', 'word', coded, column)} AS {quoted(column)}")
    return f"(SELECT {', '.join(texts)} FROM coded)"  # noqa: S608 - names are quoted


def _reading(
    at: int, column: Column, how: FieldMapping, table: TableMapping, *, mend: bool, gaps: bool = False
) -> Reading:
    """How the field in the place ``at`` is read from its text.

    An empty cell is an empty list, except with ``gaps``; a word for missing makes a list unknown.
    """
    kind = SQL_TYPES[column.kind]
    nothing = _unknown(how)
    if not column.listed:
        kept = _kept(how, table)
        text = f"{f'CASE WHEN lower({kept}) IN {nothing} THEN NULL ELSE {kept} END' if nothing else kept} AS r{at}"
        read = cell(column, how, table.dialect, f"r{at}", f"p{at}")
        better = f"({read.mended})::{kind}"
        return Reading(
            text,
            f"({read.parsed})::{read.kind} AS p{at}",
            f"({read.strict})::{kind} AS s{at}",
            f"coalesce(s{at}, {better})" if mend else f"s{at}",
            f"r{at} IS NOT NULL AND s{at} IS NULL",
            f"{better} IS NULL",
        )
    read = cell(column, how, table.dialect, "x", "x")
    item = kind.removesuffix("[]")
    unknown = [f"len(list_filter(p{at}, lambda x: lower(x) IN {nothing})) > 0"] if nothing else []
    untold = [f"trim({quoted(how.column)}) IN {literals(table.missing)}"] if table.missing else []
    untold += [f"{quoted(how.column)} IS NULL"] if gaps else []
    unknown += [_where(how, f"({' OR '.join(untold)})", otherwise="false")] if untold else []
    some_unknown = " OR ".join(unknown) or "false"
    holes = f"len(s{at}) > len(list_filter(s{at}, lambda x: x IS NOT NULL))"
    better = f"list_transform(p{at}, lambda x: coalesce(({read.strict})::{item}, ({read.mended})::{item}))"
    value = f"CASE WHEN {holes} THEN {better} ELSE s{at} END" if mend else f"s{at}"
    return Reading(
        f"{_kept(how, table)} AS r{at}",
        f"{_items(how, f'r{at}')} AS p{at}",
        f"list_transform(p{at}, lambda x: ({read.strict})::{item}) AS s{at}",
        f"CASE WHEN {some_unknown} THEN NULL ELSE "
        f"coalesce(CASE WHEN {holes} THEN list_filter({value}, lambda x: x IS NOT NULL) ELSE s{at} END, []) "
        f"END::{kind}",
        f"s{at} IS NOT NULL AND {holes}",
        f"len({better}) > len(list_filter({better}, lambda x: x IS NOT NULL))",
    )


def _unknown(how: FieldMapping) -> str:
    """SQL: the words of a field (in small letters) that stand for unknown; empty for none."""
    words = tuple(word.strip().lower() for word, value in how.values.items() if not value)
    return literals(words) if words else ""


def _kept(how: FieldMapping, table: TableMapping) -> str:
    return _where(how, trimmed(how.column, table.missing))


def _where(how: FieldMapping, sql: str, otherwise: str = "NULL") -> str:
    if not how.where:
        return sql
    held = " AND ".join(f"trim({quoted(name)}) = {literal(value)}" for name, value in how.where.items())
    return f"CASE WHEN {held} THEN {sql} ELSE {otherwise} END"


def _items(how: FieldMapping, raw: str) -> str:
    """SQL: the items of a list cell, NULL where the cell is empty."""
    mark = literal(how.separator or ";")
    whole = raw if how.separator else f"translate({raw}, '|', ';')"
    return f"list_filter(list_transform(string_split({whole}, {mark}), lambda x: trim(x)), lambda x: x <> '')"


def _cells(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    table: TableMapping,
    columns: Mapping[str, Column],
    *,
    mend: bool,
) -> Iterator[Finding]:
    parts = [
        f"count(*) FILTER ((_{what} & {1 << at}::UBIGINT) <> 0)"
        for at in range(len(columns))
        for what in ("wrong", "mended")
    ]
    if not parts:
        return
    odd = connection.execute(f"SELECT bit_or(_wrong) | bit_or(_mended) FROM {name}").fetchall()[0][0]  # noqa: S608
    if not odd:
        return
    counts = connection.execute(f"SELECT {', '.join(parts)} FROM {name}").fetchall()[0]  # noqa: S608 - names are ours
    for at, (field_name, column) in enumerate(columns.items()):
        bad, better = counts[2 * at], counts[2 * at + 1]
        how = table.fields[field_name]
        if bad:
            yield _cell_finding(connection, name, source, table, how, at, bad, what="wrong", column=column, mend=mend)
        if better and mend:
            yield _cell_finding(
                connection, name, source, table, how, at, better, what="mended", column=column, mend=mend
            )


def _cell_finding(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    table: TableMapping,
    how: FieldMapping,
    at: int,
    count: int,
    *,
    what: str,
    column: Column,
    mend: bool,
) -> Finding:
    test = f"(_{what} & {1 << at}::UBIGINT) <> 0"
    lines = partial(_lines, connection, name, test, source)
    first = list(lines(FIRST))
    kinds = _kinds(connection, source, table, how, first[0] - source.first_line)
    rule = "V8" if how.unit or column.unit else "V4" if column.kind == "date" else "V2"
    if what == "mended":
        return Finding(
            rule, "repaired", source.file, how.column, f"{column.name} was written in another form and was rewritten.",
            "Nothing to do.", count, first, kinds, lines,
        )  # fmt: skip
    message = f"{column.name} is not {column.expected}."
    remedy = "Add the word to the mapping's values, or correct it." if how.values else "Correct it."
    if not mend:
        fixable = connection.execute(
            f"SELECT count(*) FROM {name} WHERE {test} AND (_mended & {1 << at}::UBIGINT) <> 0"  # noqa: S608
        ).fetchall()[0][0]
        if fixable:
            remedy = f"--fix mends {fixable:,} of them without loss."
    return Finding(rule, "error", source.file, how.column, message, remedy, count, first, kinds, lines)


def _lines(
    connection: duckdb.DuckDBPyConnection, name: str, test: str, source: Source, limit: int | None = None
) -> Iterator[int]:
    bound = f" LIMIT {limit}" if limit else ""
    found = connection.cursor().execute(f"SELECT rowid FROM {name} WHERE {test} ORDER BY rowid{bound}")  # noqa: S608
    while rows := found.fetchmany(10_000):
        for (row,) in rows:
            yield source.line(int(row))


def _kinds(
    connection: duckdb.DuckDBPyConnection, source: Source, table: TableMapping, how: FieldMapping, row: int
) -> str:
    """What kind of thing stands in the first bad cell: the file is read again up to there."""
    text = trimmed(how.column, table.missing)
    sql = f"SELECT {value_class('t')} FROM (SELECT {text} AS t FROM {source.sql} LIMIT 1 OFFSET {row})"  # noqa: S608
    found = connection.execute(sql).fetchall()
    connection.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
    return str(found[0][0]) if found else ""


def _once_each(connection: duckdb.DuckDBPyConnection, main: Source, table: TableMapping) -> Iterator[Finding]:
    rows, different = connection.execute("SELECT count(*), count(DISTINCT _person) FROM t0").fetchall()[0]
    if rows == different:
        return
    empty = "_person IS NULL"
    again = (
        "rowid IN (SELECT unnest(rows[2:]) FROM (SELECT list(rowid ORDER BY rowid) AS rows FROM t0 "
        "WHERE _person IS NOT NULL GROUP BY _person HAVING count(*) > 1))"
    )
    for test, message, remedy in (
        (empty, "the row names no person.", "Give every row its person."),
        (again, "the person stands in an earlier row.", "Keep one row a person in the first table of the mapping."),
    ):
        (count,) = connection.execute(f"SELECT count(*) FROM t0 WHERE {test}").fetchall()[0]  # noqa: S608
        if count:
            lines = partial(_lines, connection, "t0", test, main)
            yield Finding(
                "V1", "error", main.file, table.person, message, remedy, count, list(lines(FIRST)), "identifier", lines
            )


def _known_people(connection: duckdb.DuckDBPyConnection, name: str, table: TableMapping) -> Iterator[Finding]:
    test = "_person IS NULL OR _person NOT IN (SELECT _person FROM t0 WHERE _person IS NOT NULL)"
    (count,) = connection.execute(f"SELECT count(*) FROM {name} WHERE {test}").fetchall()[0]  # noqa: S608
    if count:
        source = Source(table.file, "", (), None)
        lines = partial(_lines, connection, name, test, source)
        yield Finding(
            "V1", "error", table.file, table.person, "the row is about a person whom the first table does not have.",
            "Remove the row, or add the person.", count, list(lines(FIRST)), "identifier", lines,
        )  # fmt: skip


def _join(connection: duckdb.DuckDBPyConnection, parts: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """The table ``people`` in the main table's order; of several rows a person, lists are joined, the last counts."""
    main, own = parts[0]
    if len(parts) == 1 and "person_id" not in own:
        # The table is there already: it is given its name, and is still found under the other.
        view = f"CREATE VIEW {main} AS SELECT rowid, person_id AS _person, _wrong, _mended FROM people"  # noqa: S608
        connection.execute(f"ALTER TABLE {main} RENAME COLUMN _person TO person_id")
        connection.execute(f"ALTER TABLE {main} RENAME TO people; {view}")
        return ("person_id", *own)
    selected = [f"m.{name}" for name in own if name != "person_id"]
    joins, fields = [], [name for name in own if name != "person_id"]
    for table, names in parts[1:]:
        gathered = [
            f"CASE WHEN count({name}) = count(*) THEN flatten(list({name} ORDER BY rowid)) END AS {name}"
            if COLUMNS[name].listed
            else f"last({name} ORDER BY rowid) FILTER ({name} IS NOT NULL) AS {name}"
            for name in names
        ]
        rows = f"SELECT _person, {', '.join(gathered)} FROM {table} GROUP BY _person"  # noqa: S608 - names are ours
        joins.append(f"LEFT JOIN ({rows}) {table} USING (_person)")
        selected += [
            f"CASE WHEN {table}._person IS NULL THEN [] ELSE {table}.{n} END AS {n}"
            if COLUMNS[n].listed
            else f"{table}.{n}"
            for n in names
        ]
        fields += names
    listing = "".join(f", {each}" for each in selected)
    order = " ORDER BY m.rowid" if joins else ""
    sql = f"SELECT _person AS person_id{listing} FROM {main} m {' '.join(joins)}{order}"  # noqa: S608 - names are ours
    connection.execute(f"CREATE OR REPLACE TABLE people AS {sql}")
    return ("person_id", *fields)
