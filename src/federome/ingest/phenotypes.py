"""Phenotype tables (CSV, Parquet, Phenopackets) into one typed table, checked column by column against `columns`.

Stands between the batch folder and the store. All checks run inside DuckDB on whole columns; each failing one names
the file and line (row in Parquet, packet in Phenopackets) of its first case, never a value or a person.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from federome.errors import Invalid
from federome.ingest.columns import (
    COLUMNS,
    MAX_NULL_RATE,
    MAX_TEXT,
    NULL_FLAVORS,
    UNKNOWN_FLAVORS,
    Column,
    check_names,
)
from federome.ingest.manifest import Manifest
from federome.ingest.phenopackets import LISTS, read_phenopackets

_TYPES = {
    "text": "VARCHAR",
    "integer": "INTEGER",
    "number": "DOUBLE",
    "date": "DATE",
    "texts": "VARCHAR[]",
    "integers": "INTEGER[]",
}
_MAX_FIELD = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Phenotypes:
    """The checked table of a batch; ``table`` has one row a person and every field, constants included.

    ``people`` and ``men`` follow the rows of the file; ``where`` says where row i (0-based) stands in it;
    ``null_rates`` is the share of people without a known value, for each field.
    """

    table: duckdb.DuckDBPyRelation
    people: Sequence[str]
    men: Sequence[bool]
    populations: tuple[str, ...]
    null_rates: Mapping[str, float]
    where: Callable[[int], str]
    connection: duckdb.DuckDBPyConnection


def read_phenotypes(path: Path, manifest: Manifest, *, today: date) -> Phenotypes:
    """Read and check a table (``.csv``, ``.parquet``) or Phenopackets (``.json`` or a folder of them).

    Raises ``Invalid`` with file, line or field, and remedy, for anything that `columns` does not allow.
    """
    connection = duckdb.connect()
    connection.execute("SET threads = 1; SET preserve_insertion_order = true")
    where = _load(connection, path)
    types = {str(name): str(kind) for name, kind, *_ in connection.execute("DESCRIBE raw").fetchall() if name != "_row"}
    header = f"{path}:1" if path.suffix == ".csv" else str(path)
    check_names(
        dict.fromkeys(types, header), {name: manifest.where(name) for name in manifest.constants}, manifest.profile
    )
    _check_types(types, header)
    _check_values(connection, types, where)
    _make_typed(connection, types, manifest)
    people = _check_people(connection, where)
    _check_rules(connection, manifest, where, today)
    rates = _null_rates(connection, manifest, header)
    populations = connection.execute("SELECT DISTINCT population FROM typed WHERE population IS NOT NULL ORDER BY 1")
    return Phenotypes(
        table=connection.sql("SELECT * EXCLUDE (_row) FROM typed ORDER BY _row"),
        people=[person for person, _ in people],
        men=[sex == "male" for _, sex in people],
        populations=tuple(str(name) for (name,) in populations.fetchall()),
        null_rates=rates,
        where=where,
        connection=connection,
    )


def _load(connection: duckdb.DuckDBPyConnection, path: Path) -> Callable[[int], str]:
    """Make the table ``raw`` with a row number ``_row`` from 0; returns where a row stands."""
    if path.suffix == ".csv":
        _check_csv(path)
        connection.execute(
            "CREATE TABLE raw AS SELECT row_number() OVER () - 1 AS _row, * FROM read_csv(?, all_varchar = true, "  # noqa: S608
            "header = true, delim = ',', quote = '\"', escape = '\"', nullstr = '', auto_detect = false, "
            f"columns = {_csv_columns(path)}, max_line_size = {_MAX_FIELD})",
            [str(path)],
        )
        return lambda row: f"{path}:{row + 2}"
    if path.suffix == ".parquet":
        try:
            connection.execute(
                "CREATE TABLE raw AS SELECT row_number() OVER () - 1 AS _row, * FROM read_parquet(?)", [str(path)]
            )
        except duckdb.Error:
            raise Invalid(
                "the table is truncated or not Parquet.", where=str(path), remedy="Write or copy the file again."
            ) from None
        _refuse_empty(connection, path)
        return lambda row: f"{path}, row {row + 1}"
    packets = read_phenopackets(path)
    names = list(dict.fromkeys(name for packet in packets.rows for name in packet))
    kinds = "".join(f", {_quoted(name)} VARCHAR{'[]' if name in LISTS else ''}" for name in names)
    connection.execute(f"CREATE TABLE raw (_row BIGINT{kinds})")
    connection.executemany(
        f"INSERT INTO raw VALUES (?{', ?' * len(names)})",  # noqa: S608 - only placeholders
        [[number, *(_given(packet, name) for name in names)] for number, packet in enumerate(packets.rows)],
    )
    _refuse_empty(connection, path)
    return lambda row: packets.places[row]


def _given(packet: Mapping[str, str], name: str) -> str | list[str] | None:
    """A field of a packet's row; a list that the packet says nothing of is not known, and not empty."""
    value = packet.get(name)
    return [item for item in value.split(";") if item] if value is not None and name in LISTS else value


def _refuse_empty(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    if connection.execute("SELECT count(*) FROM raw").fetchall() == [(0,)]:
        raise Invalid("the table has no people.", where=str(path), remedy="Add one row a person.")


def _check_csv(path: Path) -> None:
    """Form only: encoding, delimiter, one line a record, as many fields as the header has."""
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise Invalid(
            "the table begins with a byte order mark.", where=f"{path}:1", remedy="Save it as UTF-8 without BOM."
        )
    header: list[str] = []
    records = 0
    for line, record in _csv_records(path):
        if not header:
            header = record
            _check_header(path, header)
        elif len(record) != len(header):
            raise Invalid(
                f"this line has {len(record)} fields, the header has {len(header)}.",
                where=f"{path}:{line}",
                remedy="Use commas between fields, quotes around fields that hold commas, and points in numbers.",
            )
        else:
            records += 1
    if not records:
        raise Invalid("the table has no people.", where=str(path), remedy="Add a header and one line a person.")


def _check_header(path: Path, header: list[str]) -> None:
    other = next((name for name, mark in (("semicolons", ";"), ("tabs", "\t")) if mark in header[0]), "")
    if len(header) == 1 and other:
        raise Invalid(
            f"the fields are separated by {other}.", where=f"{path}:1", remedy="Save the table with commas and points."
        )
    doubled = next((name for name in header if header.count(name) > 1), None)
    if doubled is not None:
        raise Invalid(f"the field {doubled[:60]!r} stands twice.", where=f"{path}:1", remedy="Keep one of them.")


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Records with the line they stand on; a record never runs over its line."""
    number = 0
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            for record in reader:
                number += 1
                if reader.line_num != number or not record:
                    raise Invalid(
                        "a record runs over the end of the line, or a line is empty.",
                        where=f"{path}:{number}",
                        remedy="Write one person a line and close every quote.",
                    )
                yield number, record
    except csv.Error:
        raise Invalid(
            "the quotes of this line are wrong.", where=f"{path}:{number + 1}", remedy="Double quotes inside quotes."
        ) from None
    except UnicodeDecodeError:
        raise Invalid(
            "the table is not UTF-8.", where=f"{path}:{number + 1} or later", remedy="Save it as UTF-8."
        ) from None


def _csv_columns(path: Path) -> str:
    _, header = next(_csv_records(path))
    return "{" + ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in header) + "}"


def _check_types(types: Mapping[str, str], where: str) -> None:
    """A Parquet list must be a list in our table and the other way round; text may stand for anything."""
    for name, kind in types.items():
        if kind.endswith("]") != COLUMNS[name].listed and kind != "VARCHAR":
            wanted = "a list" if COLUMNS[name].listed else "one value a person"
            raise Invalid(f"the field {name!r} has the type {kind}.", where=where, remedy=f"Store {wanted}.")


def _value(name: str, kind: str) -> str:
    """SQL of a raw field's typed value; NULL both for missing and for what does not convert."""
    column, quoted = COLUMNS[name], _quoted(name)
    if column.listed:
        items = f"string_split({quoted}, ';')" if kind == "VARCHAR" else quoted
        if column.kind == "integers":
            items = f"list_transform({items}, lambda item: {_whole('item')})"
        # an empty cell of a text table is an empty list; a list that Parquet does not have is not known
        return (
            f"coalesce({items}, [])::{_TYPES[column.kind]}" if kind == "VARCHAR" else f"{items}::{_TYPES[column.kind]}"
        )
    match column.kind:
        case "integer":
            return _whole(quoted)
        case "number" if kind != "VARCHAR":  # NaN stands for missing where tables come from numerical programs
            return f"CASE WHEN isnan({quoted}::DOUBLE) THEN NULL ELSE {quoted}::DOUBLE END"
        case "number":
            return f"TRY_CAST({quoted} AS DOUBLE)"
        case "date" if kind == "VARCHAR":
            return rf"CASE WHEN regexp_full_match({quoted}, '\d{{4}}-\d\d-\d\d') THEN TRY_CAST({quoted} AS DATE) END"
        case "date":
            return f"TRY_CAST({quoted} AS DATE)"
        case _:
            return f"{quoted}::VARCHAR"


def _whole(value: str) -> str:
    """SQL: a whole number, NULL for anything else."""
    number = f"TRY_CAST({value} AS DOUBLE)"
    return f"CASE WHEN {number} = floor({number}) AND abs({number}) < 1e9 THEN {number}::INTEGER END"


def _is_wrong(name: str, kind: str) -> str:
    """SQL condition: the raw field holds something, and it is not allowed."""
    column, quoted, value = COLUMNS[name], _quoted(name), _value(name, kind)
    if column.listed:
        item = _item_is_right(column, "item")
        return f"len(list_filter({value}, lambda item: NOT coalesce({item}, false))) > 0"
    given = f"{quoted} IS NOT NULL"
    if column.kind == "number" and kind != "VARCHAR":
        given = f"({value}) IS NOT NULL"
    return f"{given} AND NOT coalesce({_item_is_right(column, f'({value})')}, false)"


def _item_is_right(column: Column, value: str) -> str:
    if column.kind in ("integer", "integers", "number"):
        return f"{value} BETWEEN {column.low} AND {column.high}"
    if column.kind == "date":
        return f"{value} IS NOT NULL"
    if column.values:
        right = f"{value} IN {_literals(column.values)}"
    else:
        right = f"length({value}) BETWEEN 1 AND {MAX_TEXT}"
        if column.pattern:
            right += f" AND regexp_full_match({value}, {_literal(column.pattern)})"
    return f"({right} OR {value} IN {_literals(NULL_FLAVORS)})" if column.coded else f"({right})"


def _check_values(connection: duckdb.DuckDBPyConnection, types: Mapping[str, str], where: Callable[[int], str]) -> None:
    """One scan: for every field, how many people hold something that is not allowed, and the first of them."""
    checks = [
        f"count(*) FILTER (WHERE {_is_wrong(name, kind)}), min(_row) FILTER (WHERE {_is_wrong(name, kind)})"
        for name, kind in types.items()
    ]
    (found,) = connection.execute(f"SELECT {', '.join(checks)} FROM raw").fetchall()  # noqa: S608 - names are ours
    for name, count, row in zip(types, found[::2], found[1::2], strict=True):
        if not count:
            continue
        column = COLUMNS[name]
        remedy = f"Write {column.expected}."
        if column.kind == "number" and types[name] == "VARCHAR" and _decimal_comma(connection, name, row):
            remedy = "Write decimals with a point, not a comma."
        raise Invalid(
            f"the field {name!r} holds a value that is not allowed, here and for {count - 1:,} more.",
            where=f"{where(row)}, field {name}",
            remedy=remedy,
        )


def _decimal_comma(connection: duckdb.DuckDBPyConnection, name: str, row: int) -> bool:
    sql = f"SELECT regexp_full_match({_quoted(name)}, '-?[0-9]+,[0-9]+') FROM raw WHERE _row = ?"  # noqa: S608
    return connection.execute(sql, [row]).fetchall() == [(True,)]


def _make_typed(connection: duckdb.DuckDBPyConnection, types: Mapping[str, str], manifest: Manifest) -> None:
    """The table ``typed``: all fields in their types, batch constants filled in, absent ones NULL."""
    fields = ["_row"]
    values: list[object] = []
    for column in COLUMNS.values():
        if column.place == "constants" or column.presence(manifest.profile) == "forbidden":
            continue
        quoted = _quoted(column.name)
        if column.name in types:
            fields.append(f"({_value(column.name, types[column.name])})::{_TYPES[column.kind]} AS {quoted}")
        elif column.name in manifest.constants:
            fields.append(f"?::{_TYPES[column.kind]} AS {quoted}")
            values.append(manifest.constants[column.name])
        elif column.name == "population":
            fields.append("NULL::VARCHAR AS population")
    connection.execute(f"CREATE TABLE typed AS SELECT {', '.join(fields)} FROM raw", values)  # noqa: S608 - names are ours
    connection.execute("DROP TABLE raw")


def _check_people(connection: duckdb.DuckDBPyConnection, where: Callable[[int], str]) -> list[tuple[str, str]]:
    names = {row[0] for row in connection.execute("DESCRIBE typed").fetchall()}
    for name in ("person_id", "sample_id"):
        if name not in names:
            continue
        again = connection.execute(
            f"SELECT min(_row), count(*) FROM (SELECT _row, row_number() OVER (PARTITION BY {name} ORDER BY _row) AS n "  # noqa: S608
            f"FROM typed WHERE {name} IS NOT NULL) WHERE n > 1"
        ).fetchall()
        row, count = again[0]
        if count:
            raise Invalid(
                f"{count:,} rows repeat a {name} that stands in an earlier row.",
                where=f"{where(row)}, field {name}",
                remedy="Keep one row a person.",
            )
    return [
        (str(p), str(s)) for p, s in connection.execute("SELECT person_id, sex FROM typed ORDER BY _row").fetchall()
    ]


def _check_rules(
    connection: duckdb.DuckDBPyConnection, manifest: Manifest, where: Callable[[int], str], today: date
) -> None:
    """Rules over several fields (V4, V5, V8 of the minimal dataset); each is skipped where a field is absent."""
    index = str(manifest.constants.get("index_diagnosis_icd10", "")).replace(".", "")
    has_index = f"len(list_filter(diagnosis_icd10, lambda code: replace(code, '.', '') LIKE '{index}%')) > 0"
    rules: tuple[tuple[tuple[str, ...], str, str], ...] = (
        (("diagnosis_icd10", "case_status"), "case_status <> 'control' AND len(diagnosis_icd10) = 0",
         "a case has no diagnosis."),
        (("diagnosis_icd10", "diagnosis_year"),
         "len(diagnosis_year) > 0 AND len(diagnosis_year) <> len(diagnosis_icd10)",
         "there are not as many diagnosis years as diagnoses."),
        (("diagnosis_year", "birth_year"), "list_min(diagnosis_year) < birth_year",
         "a diagnosis is older than the person."),
        (("sample_date", "birth_year"), "year(sample_date) < birth_year", "a sample is older than the person."),
        (("sample_date", "diagnosis_year"), "list_max(diagnosis_year) > year(sample_date)",
         "a diagnosis is younger than the sample."),
        (("sample_date",), f"sample_date > DATE '{today.isoformat()}'", "a sample was taken in the future."),
        (("birth_year",), f"birth_year > {today.year}", "a person is born in the future."),
        (("case_status", "diagnosis_icd10"), f"'{index}' <> '' AND (case_status <> 'control') <> ({has_index})",
         "the case status contradicts the diagnoses and index_diagnosis_icd10."),
    )  # fmt: skip
    names = {row[0] for row in connection.execute("DESCRIBE typed").fetchall()}
    for fields, condition, message in rules:
        if not names.issuperset(fields):
            continue
        sql = f"SELECT count(*), min(_row) FROM typed WHERE {condition}"  # noqa: S608 - conditions are ours
        count, row = connection.execute(sql).fetchall()[0]
        if count:
            raise Invalid(
                f"{message[:-1]}, here and for {count - 1:,} more.",
                where=f"{where(row)}, field {fields[0]}",
                remedy=f"Correct {' or '.join(fields)}.",
            )


def _null_rates(connection: duckdb.DuckDBPyConnection, manifest: Manifest, header: str) -> dict[str, float]:
    """Share of people without a known value; mandatory fields may not be empty, nor unknown for too many."""
    columns = [COLUMNS[row[0]] for row in connection.execute("DESCRIBE typed").fetchall() if row[0] != "_row"]
    single = [column for column in columns if not column.listed]
    parts = [
        f"count(*) FILTER (WHERE {c.name} IS NULL), "
        + (f"count(*) FILTER (WHERE {c.name} IN {_literals(UNKNOWN_FLAVORS)})" if c.coded else "0")
        for c in single
    ]
    (found,) = connection.execute(f"SELECT count(*), {', '.join(parts)} FROM typed").fetchall()  # noqa: S608
    people, rates = found[0], {}
    for column, empty, flavoured in zip(single, found[1::2], found[2::2], strict=True):
        mandatory = column.presence(manifest.profile) == "mandatory"
        if mandatory and empty and not column.gaps:
            flavor = " or a NullFlavor" if column.coded else ""
            raise Invalid(
                f"the mandatory field {column.name!r} is empty for {empty:,} people.",
                where=f"{header}, field {column.name}",
                remedy=f"Give its value{flavor}.",
            )
        rates[column.name] = (empty + flavoured) / people
        if mandatory and rates[column.name] > MAX_NULL_RATE:
            raise Invalid(
                f"the mandatory field {column.name!r} is unknown for {rates[column.name]:.0%} of the people.",
                where=f"{header}, field {column.name}",
                remedy=f"At most {MAX_NULL_RATE:.0%} may be unknown.",
            )
    return rates


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literals(texts: Sequence[str]) -> str:
    return "(" + ", ".join(_literal(text) for text in texts) + ")"
