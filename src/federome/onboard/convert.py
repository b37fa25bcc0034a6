"""The provider's tables, through the mapping, into one typed table ``people`` with a row a person.

Works by whole columns inside DuckDB with a memory limit, beyond which it spills: neither the text of a table nor its
typed form needs to fit into memory. Every cell that does not read as its field becomes a finding with its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest.columns import COLUMNS, Column
from federome.onboard import scan
from federome.onboard.canon import trimmed, value_class
from federome.onboard.crosswalk import uses, walked
from federome.onboard.findings import FIRST, Finding
from federome.onboard.mapping import FieldMapping, Plan, TableMapping, check_complete
from federome.onboard.reading import Cells, Reading, by_cell, items, reading, where
from federome.onboard.rows import Forms, Found, Rows, Stored, Test, Worded, Words
from federome.onboard.tables import (
    Source,
    broken_lines,
    forget_rejects,
    literal,
    open_table,
    quoted,
    shifted_line,
)
from federome.onboard.words import Coded, encode

MEMORY: Final = "1GB"


@dataclass
class People:
    """Everybody, rows as in ``main``: ``rows`` answers which of them meet a test, and ``connection`` has the table
    ``people``, which is made when it is first asked for. ``columns`` names each field's column, ``headers`` those of
    the main table.
    """

    main: Source
    fields: tuple[str, ...]
    count: int
    columns: Mapping[str, str]
    headers: Mapping[str, str]
    rows: Rows
    table: Callable[[], duckdb.DuckDBPyConnection]
    findings: list[Finding] = field(default_factory=list)

    @cached_property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The database with the table ``people``."""
        return self.table()

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
    read: list[_Table] = []
    judged: Words | None = None
    for number, planned in enumerate(plan.table):
        table, walks = walked(planned, folder)
        source = open_table(folder / table.file, table.dialect, scratch)
        check_complete(table, source.columns)
        one_table = _read(connection, f"t{number}", source, table, mend=mend, by_words=by_words, prefix=prefix)
        judged = one_table.judged() if len(plan.table) == 1 else None
        findings += _typed(one_table) if judged is None else one_table.said(judged)
        read.append(one_table)
        for name, walk in walks.items():
            how = table.fields[name]
            one = where(how, trimmed(how.column, table.missing))
            listed = items(how, one) if COLUMNS[name].listed else f"[{one}]"
            findings += uses(connection, source, table.file, how, listed, walk)
    main = read[0]
    columns = {field: how.column for table in plan.table for field, how in table.fields.items()}
    headers = {"person_id": main.table.person} | {field: how.column for field, how in main.table.fields.items()}
    if judged is not None:
        assert main.coded is not None
        unnamed = judged.find([Test(("person_id",), "person_id IS NULL")])[0]
        findings += _once_each(main, unnamed, judged.again("person_id"))
        fields = ("person_id", *main.table.fields)
        return People(
            main.source, fields, main.coded.rows, columns, headers, judged, partial(_made, connection, read), findings
        )
    findings += _once_each(main, *_named(connection))
    for other in read[1:]:
        findings += _known_people(connection, other.name, other.table)
    fields = _join(connection, [(each.name, tuple(each.table.fields)) for each in read])
    (count,) = connection.execute("SELECT count(*) FROM people").fetchall()[0]
    if not count:
        raise Invalid("the table has no people.", where=main.source.file, remedy="Give one row a person.")
    bad = {each.column for each in findings if each.level == "error"}
    wrong = {
        field: f"rowid IN (SELECT rowid FROM t0 WHERE (_wrong & {1 << at}::UBIGINT) <> 0)"  # noqa: S608
        for at, (field, how) in enumerate(main.table.fields.items())
        if how.column in bad
    }
    return People(
        main.source, fields, int(count), columns, headers, Stored(connection, wrong), lambda: connection, findings
    )


def _made(connection: duckdb.DuckDBPyConnection, read: Sequence[_Table]) -> duckdb.DuckDBPyConnection:
    """The table ``people`` of tables that were judged by their words: what is wrong in them has been said."""
    for each in read:
        list(_typed(each))
    _join(connection, [(each.name, tuple(each.table.fields)) for each in read])
    return connection


@dataclass(frozen=True)
class _Table:
    """One of the provider's tables, opened; ``known`` are fields whose every word has been read, and ``readings`` how
    cells of the others are. ``formed`` are columns of kept texts, by their forms.
    """

    connection: duckdb.DuckDBPyConnection
    name: str
    source: Source
    table: TableMapping
    coded: Coded | None
    readings: Mapping[str, Reading]
    known: Mapping[str, _Known]
    formed: Mapping[str, Forms | None]
    mend: bool
    prefix: str

    def judged(self) -> Words | None:
        """All fields as words; None where some column is not read so."""
        coded, fields = self.coded, self.table.fields
        if coded is None or not coded.rows or "person_id" in fields or any(how.where for how in fields.values()):
            return None
        columns: dict[str, Worded] = {}
        by_form: dict[str, Forms] = {}
        for column in {self.table.person, *(how.column for how in fields.values())} - set(coded.words):
            found = self.formed[column]
            if found is None or not _by_form_alone(found.words, self.table.missing):
                return None
            by_form[column] = found
        for at, (name, how) in enumerate(fields.items()):
            if how.column in coded.words:
                known = self.known[name]
                columns[name] = Worded(coded.codes[how.column], known.variable, known.wrong)
                continue
            form = by_form[how.column]
            known = _read_words(self.connection, at, how.column, form.words, self.readings[name], mend=self.mend)
            if known.mended.any() or not _of_form(COLUMNS[name], how):
                return None
            columns[name] = Worded(form.codes, known.variable, known.wrong, form)
        named = by_form.get(self.table.person)
        words = coded.words[self.table.person] if named is None else named.words
        codes = coded.codes[self.table.person] if named is None else named.codes
        _listed(self.connection, self.table.person, words, "words", {"value": self.person})
        _keep(self.connection, "value_person", "value")
        nothing = np.zeros(len(words), np.bool_)
        columns["person_id"] = Worded(codes, "value_person", nothing, named)
        return Words(self.connection, columns)

    def said(self, judged: Words) -> Iterator[Finding]:
        """What is wrong or was mended in cells, by their words."""
        for name in self.table.fields:
            column, cells = judged.columns[name], self.known.get(name)
            wrong = column.having(column.wrong)
            nothing = np.zeros(len(column.wrong), np.bool_)
            mended = nothing if cells is None else cells.mended
            fixable = 0 if self.mend else column.having(column.wrong & mended).count
            yield from _cell_findings(self, name, wrong, column.having(mended), fixable)

    @property
    def person(self) -> str:
        """SQL: who a row is about."""
        return f"{literal(self.prefix)} || {trimmed(self.table.person, self.table.missing)}"


def _read(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    table: TableMapping,
    *,
    mend: bool,
    by_words: bool,
    prefix: str,
) -> _Table:
    used = {table.person} | {column for how in table.fields.values() for column in (how.column, *how.where)}
    coded = encode(source, sorted(used)) if by_words else None
    readings = {
        field: reading(at, COLUMNS[field], how, table, mend=mend, gaps=how.column in source.lists)
        for at, (field, how) in enumerate(table.fields.items())
    }
    with ThreadPoolExecutor(1) as pool:  # forms are found while words are read
        forms = {column: pool.submit(Forms.of, texts) for column, texts in (coded.texts if coded else {}).items()}
        known = {
            field: _read_words(
                connection,
                at,
                how.column,
                coded.words[how.column],
                reading(at, COLUMNS[field], replace(how, where={}), table, mend=mend),
                mend=mend,
            )
            for at, (field, how) in enumerate(table.fields.items())
            if coded is not None and how.column in coded.words
        }
        formed = {column: each.result() for column, each in forms.items()}
    return _Table(connection, name, source, table, coded, readings, known, formed, mend, prefix)


def _typed(read: _Table) -> Iterator[Finding]:
    """Make the table of typed fields with two masks: which fields are wrong, which were mended."""
    connection, name, source, table = read.connection, read.name, read.source, read.table
    coded, known, readings, mend = read.coded, read.known, read.readings, read.mend
    rows = source.sql if coded is None else _coded_rows(connection, coded, table)
    others = [each for field, each in readings.items() if field not in known]
    cells = {
        field: _known_cells(at, known[field], coded, table.fields[field], listed=COLUMNS[field].listed)
        if coded is not None and field in known
        else by_cell(each, mend=mend)
        for at, (field, each) in enumerate(readings.items())
    }
    # Four projections, one over the other, so that nothing is computed twice: text, parsed, strict, outcome.
    text = [f"{read.person} AS _person", "*", *(each.text for each in others)]
    for layer in (text, ["*", *(each.parsed for each in others)], ["*", *(each.strict for each in others)]):
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
        yield from _cells(read)


@dataclass(frozen=True, eq=False)
class _Known:
    """The words of one field: which of them are wrong, and which were mended. A variable lists what they mean."""

    variable: str
    wrong: NDArray[np.bool_]
    mended: NDArray[np.bool_]


def _read_words(
    connection: duckdb.DuckDBPyConnection, at: int, column: str, words: Sequence[str], read: Reading, *, mend: bool
) -> _Known:
    """What every different word of a column means as the field in the place ``at``."""
    cells = by_cell(read, mend=mend)
    what = {"value": cells.value, "wrong": cells.wrong, "mended": cells.mended}
    _listed(connection, column, words, read.layers("words"), what)
    _keep(connection, f"value_{at}", "value")
    flags = connection.execute("SELECT wrong, mended FROM found ORDER BY rowid").fetchnumpy()
    wrong, mended = (np.ma.filled(np.ma.asarray(flags[name]), False).astype(np.bool_) for name in ("wrong", "mended"))
    for name, marks in (("wrong", wrong), ("mended", mended)):
        if marks.any():
            _keep(connection, f"{name}_{at}", name)
    return _Known(f"value_{at}", wrong, mended)


def _listed(
    connection: duckdb.DuckDBPyConnection, column: str, words: Sequence[str], rows: str, what: Mapping[str, str]
) -> None:
    """The table ``found``: expressions over ``rows``, which read the table ``words`` with this one column."""
    connection.register("words", {column: np.array(words, dtype=object)})
    listing = ", ".join(f"{sql} AS {name}" for name, sql in what.items())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE found AS SELECT {listing} FROM {rows}")  # noqa: S608


def _keep(connection: duckdb.DuckDBPyConnection, variable: str, name: str) -> None:
    """A column of the table ``found`` as a variable that is a list by word."""
    connection.execute(f"SET VARIABLE {variable} = (SELECT list({name} ORDER BY rowid) FROM found)")  # noqa: S608


def _known_cells(at: int, known: _Known, coded: Coded, how: FieldMapping, *, listed: bool) -> Cells:
    """A field of known words as SQL over the rows of numbers of words."""
    value, wrong, mended = (
        f"list_extract(getvariable('{name}_{at}'), {quoted(coded.number(how.column))} + 1)"
        for name in ("value", "wrong", "mended")
    )
    return Cells(
        where(how, value, otherwise="[]" if listed else "NULL"),
        where(how, wrong) if known.wrong.any() else "",
        where(how, mended) if known.mended.any() else "",
    )


def _coded_rows(connection: duckdb.DuckDBPyConnection, coded: Coded, table: TableMapping) -> str:
    """The rows as numbers of words and kept texts; columns whose text is asked for besides are written out."""
    numbers = {coded.number(column): codes for column, codes in coded.codes.items()}
    kept = {column: texts.strings() for column, texts in coded.texts.items()}
    connection.register("coded", pd.DataFrame(numbers | kept, copy=False))
    asked = {table.person} | {column for how in table.fields.values() for column in how.where}
    texts = ["*"]
    for at, column in enumerate(sorted(asked & set(coded.words))):
        _listed(connection, column, coded.words[column], "words", {"word": quoted(column)})
        _keep(connection, f"text_{at}", "word")
        number = quoted(coded.number(column))
        texts.append(f"list_extract(getvariable('text_{at}'), {number} + 1) AS {quoted(column)}")
    return f"(SELECT {', '.join(texts)} FROM coded)"  # noqa: S608 - names are quoted


def _of_form(column: Column, how: FieldMapping) -> bool:
    """Whether a text is right or wrong by its form alone (`rows.forms`): nowhere is one letter or figure asked for."""
    signs = re.sub(r"\\.|\{[^}]*\}", "", column.pattern)
    plain = column.kind == "text" and not column.values and not column.coded and not how.values
    return plain and not re.search("[0-9A-Za-z]", signs)


def _by_form_alone(words: Sequence[str], missing: Sequence[str]) -> bool:
    """Whether texts of these forms are never one of the words for missing, and have no space around them."""
    forms_ = {_form(word) for word in words}
    return all(word == word.strip() for word in words) and not forms_ & {_form(word) for word in missing}


def _form(text: str) -> bytes:
    return scan.SIGNS[np.frombuffer(text.encode(), np.uint8)].tobytes()


def _cells(read: _Table) -> Iterator[Finding]:
    """What is wrong or was mended in the table."""
    connection, name = read.connection, read.name
    fields = list(read.table.fields)
    parts = [
        f"count(*) FILTER ((_{what} & {1 << at}::UBIGINT) <> 0)"
        for at in range(len(fields))
        for what in ("wrong", "mended")
    ]
    if not parts:
        return
    odd = connection.execute(f"SELECT bit_or(_wrong) | bit_or(_mended) FROM {name}").fetchall()[0][0]  # noqa: S608
    if not odd:
        return
    counts = connection.execute(f"SELECT {', '.join(parts)} FROM {name}").fetchall()[0]  # noqa: S608 - names are ours
    for at, field_name in enumerate(fields):
        tests = [f"(_{what} & {1 << at}::UBIGINT) <> 0" for what in ("wrong", "mended")]
        wrong, mended = (
            Found(count, partial(_rows, connection, name, test))
            for count, test in zip(counts[2 * at : 2 * at + 2], tests, strict=True)
        )
        fixable = 0
        if wrong.count and not read.mend:
            both = f"SELECT count(*) FROM {name} WHERE {' AND '.join(tests)}"  # noqa: S608 - names are ours
            fixable = connection.execute(both).fetchall()[0][0]
        yield from _cell_findings(read, field_name, wrong, mended, fixable)


def _cell_findings(read: _Table, name: str, wrong: Found, mended: Found, fixable: int) -> Iterator[Finding]:
    column, how, source = COLUMNS[name], read.table.fields[name], read.source
    rule = "V8" if how.unit or column.unit else "V4" if column.kind == "date" else "V2"
    if wrong.count:
        remedy = "Add the word to the mapping's values, or correct it." if how.values else "Correct it."
        if fixable:
            remedy = f"--fix mends {fixable:,} of them without loss."
        yield Finding(
            rule, "error", source.file, how.column, f"{column.name} is not {column.expected}.", remedy, wrong.count,
            *_places(read, how, wrong),
        )  # fmt: skip
    if mended.count and read.mend:
        yield Finding(
            rule, "repaired", source.file, how.column, f"{column.name} was written in another form and was rewritten.",
            "Nothing to do.", mended.count, *_places(read, how, mended),
        )  # fmt: skip


def _places(read: _Table, how: FieldMapping, found: Found) -> tuple[list[int], str, Callable[[], Iterator[int]]]:
    """The first lines, what kind of thing stands in the first of them, and all lines."""
    first = list(found.rows(FIRST))
    return [read.source.line(row) for row in first], _kind(read, how, first[0]), partial(_lines, read.source, found)


def _lines(source: Source, found: Found) -> Iterator[int]:
    return (source.line(row) for row in found.rows(None))


def _rows(connection: duckdb.DuckDBPyConnection, name: str, test: str, most: int | None) -> Iterator[int]:
    bound = f" LIMIT {most}" if most else ""
    found = connection.cursor().execute(f"SELECT rowid FROM {name} WHERE {test} ORDER BY rowid{bound}")  # noqa: S608
    while rows := found.fetchmany(10_000):
        yield from (int(row) for (row,) in rows)


def _kind(read: _Table, how: FieldMapping, row: int) -> str:
    """What kind of thing stands in a row's cell; where it was not read as a word, the file is read up to there."""
    text = trimmed(how.column, read.table.missing)
    rows = f"(FROM {read.source.sql} LIMIT 1 OFFSET {row})"
    if read.coded is not None:
        rows = f"(SELECT {literal(read.coded.at(how.column, row))} AS {quoted(how.column)})"
    sql = f"SELECT {value_class('t')} FROM (SELECT {text} AS t FROM {rows})"  # noqa: S608 - names are quoted
    found = read.connection.execute(sql).fetchall()
    forget_rejects(read.connection)
    return str(found[0][0]) if found else ""


def _once_each(main: _Table, unnamed: Found, again: Found) -> Iterator[Finding]:
    for found, message, remedy in (
        (unnamed, "the row names no person.", "Give every row its person."),
        (again, "the person stands in an earlier row.", "Keep one row a person in the first table of the mapping."),
    ):
        if found.count:
            first = [main.source.line(row) for row in found.rows(FIRST)]
            yield Finding(
                "V1", "error", main.source.file, main.table.person, message, remedy, found.count, first, "identifier",
                partial(_lines, main.source, found),
            )  # fmt: skip


def _named(connection: duckdb.DuckDBPyConnection) -> tuple[Found, Found]:
    """The rows of the main table that name nobody, and those that name somebody again."""
    query = "SELECT count(*), count(_person), count(DISTINCT _person) FROM t0"
    rows, named, different = connection.execute(query).fetchall()[0]
    again = (
        "rowid IN (SELECT unnest(rows[2:]) FROM (SELECT list(rowid ORDER BY rowid) AS rows FROM t0 "
        "WHERE _person IS NOT NULL GROUP BY _person HAVING count(*) > 1))"
    )
    return (
        Found(rows - named, partial(_rows, connection, "t0", "_person IS NULL")),
        Found(named - different, partial(_rows, connection, "t0", again)),
    )


def _known_people(connection: duckdb.DuckDBPyConnection, name: str, table: TableMapping) -> Iterator[Finding]:
    test = "_person IS NULL OR _person NOT IN (SELECT _person FROM t0 WHERE _person IS NOT NULL)"
    (count,) = connection.execute(f"SELECT count(*) FROM {name} WHERE {test}").fetchall()[0]  # noqa: S608
    if count:
        source = Source(table.file, "", (), None)
        found = Found(count, partial(_rows, connection, name, test))
        lines = partial(_lines, source, found)
        yield Finding(
            "V1", "error", table.file, table.person, "the row is about a person whom the first table does not have.",
            "Remove the row, or add the person.", count, list(islice(lines(), FIRST)), "identifier", lines,
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
