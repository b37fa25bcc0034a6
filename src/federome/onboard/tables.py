"""Tables as hospitals export them: which encoding, separator and decimal mark, and the rows as text, line by line.

CSV in any usual dialect and Parquet. Nothing is loaded into Python: DuckDB reads the files by whole columns, and the
line of a row is its number plus one for the header. What cannot be a table (mixed encodings, other numbers of fields,
quotes that do not end) is found here, by line.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import duckdb

from federome.errors import Invalid
from federome.onboard.findings import FIRST, Finding

Encoding = Literal["utf-8", "utf-16", "windows-1252"]
SEPARATORS: Final = (",", ";", "\t", "|")
TABLES: Final = (".csv", ".tsv", ".txt", ".parquet")
MAX_LINE: Final = 1 << 20
MAX_COLUMNS: Final = 2_000
_SAMPLE: Final = 1 << 18
_PIECE: Final = 1 << 22


@dataclass(frozen=True)
class Dialect:
    """How a text file is written. ``bom``: it begins with a byte order mark."""

    encoding: Encoding = "utf-8"
    separator: str = ","
    decimal: Literal[".", ","] = "."
    bom: bool = False


@dataclass(frozen=True)
class Source:
    """A table that can be scanned: ``sql`` stands in a FROM clause and gives text columns."""

    file: str
    sql: str
    columns: Sequence[str]
    dialect: Dialect | None
    first_line: int = 2
    path: Path | None = None
    lists: frozenset[str] = frozenset()
    """Columns that hold lists in the file itself: nothing there is no empty list."""

    def line(self, row: int) -> int:
        """Where a row (from 0) stands: line of a text file, row of a Parquet file."""
        return row + self.first_line


def sniff(path: Path) -> Dialect:
    """Read the file once and say how it is written; ``Invalid`` for mixed encodings and for what is no text."""
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        sample = path.read_bytes()[:_SAMPLE].decode("utf-16", errors="ignore")
        return Dialect("utf-16", *_marks(sample, path), True)
    encoding = _encoding(path)
    bom = start.startswith(codecs.BOM_UTF8)
    with path.open("rb") as file:
        sample = file.read(_SAMPLE).decode("utf-8-sig" if encoding == "utf-8" else "cp1252", errors="ignore")
    return Dialect(encoding, *_marks(sample, path), bom)


def _encoding(path: Path) -> Encoding:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                if b"\x00" in piece:
                    raise Invalid("this is no text file.", where=str(path), remedy="Export it as CSV.")
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        return "utf-8"
    except UnicodeDecodeError:
        return _legacy(path)


def _legacy(path: Path) -> Encoding:
    """Windows-1252, unless some lines are UTF-8 beyond ASCII and others cannot be."""
    other = 0
    good = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                good = good or number
            except UnicodeDecodeError:
                other = other or number
            if good and other:
                raise Invalid(
                    f"the file mixes encodings: line {good} is UTF-8, line {other} is not.",
                    where=f"{path}:{max(good, other)}",
                    remedy="Export all of it at one time, as UTF-8.",
                )
    return "windows-1252"


def _marks(sample: str, path: Path) -> tuple[str, Literal[".", ","]]:
    """Separator and decimal mark from the first lines."""
    lines = [line for line in sample.splitlines()[:200] if line.strip()]
    if not lines:
        raise Invalid("the table is empty.", where=str(path), remedy="Export it again, or remove it.")
    counts = {mark: len(next(csv.reader([lines[0]], delimiter=mark), [])) for mark in SEPARATORS}
    separator = max(SEPARATORS, key=counts.__getitem__)
    decimal: Literal[".", ","] = "."
    if separator != ",":
        cells = Counter(
            "," if "," in cell else "."
            for row in csv.reader(lines[1:], delimiter=separator)
            for cell in row
            if re.fullmatch(r"-?[0-9]+[.,][0-9]+", cell.strip())
        )
        decimal = "," if cells[","] > cells["."] else "."
    return separator, decimal


def open_table(path: Path, dialect: Dialect | None, scratch: Path, *, quotes: bool = True) -> Source:
    """A table to scan. Other encodings than plain UTF-8 are rewritten into ``scratch`` first.

    Without ``quotes``, a quotation mark is a sign like others.
    """
    if path.suffix == ".parquet":
        return _parquet(path)
    dialect = dialect or sniff(path)
    plain = path if dialect.encoding == "utf-8" and not dialect.bom else _as_utf8(path, dialect, scratch)
    header = _header(plain, path, dialect)
    columns = "{" + ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header) + "}"
    marks = "quote = '\"', escape = '\"'" if quotes else "quote = '', escape = ''"
    sql = (
        f"read_csv({literal(str(plain))}, all_varchar = true, header = true, auto_detect = false, "
        f"delim = {literal(dialect.separator)}, {marks}, nullstr = '', "
        f"columns = {columns}, max_line_size = {MAX_LINE}, store_rejects = true)"
    )
    return Source(path.name, sql, header, dialect, path=plain)


def _parquet(path: Path) -> Source:
    try:
        with duckdb.connect() as connection:
            described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
    except duckdb.Error:
        raise Invalid("the table is truncated or not Parquet.", where=str(path), remedy="Copy it again.") from None
    columns = [str(row[0]) for row in described]
    listed = ", ".join(
        f"array_to_string({quoted(name)}, ';') AS {quoted(name)}"
        if str(kind).endswith("]")
        else f"{quoted(name)}::VARCHAR AS {quoted(name)}"
        for name, kind, *_ in described
    )
    sql = f"(SELECT {listed} FROM read_parquet({literal(str(path))}))"  # noqa: S608 - names are quoted
    lists = frozenset(str(name) for name, kind, *_ in described if str(kind).endswith("]"))
    return Source(path.name, sql, columns, None, first_line=1, lists=lists)


def _as_utf8(path: Path, dialect: Dialect, scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True)
    plain = scratch / f"{path.stem}.utf8.csv"
    encoding = {"utf-8": "utf-8-sig", "utf-16": "utf-16", "windows-1252": "cp1252"}[dialect.encoding]
    try:
        with path.open(encoding=encoding, newline="") as file, plain.open("w", encoding="utf-8", newline="") as out:
            while piece := file.read(_PIECE):
                out.write(piece)
    except UnicodeDecodeError as error:
        raise Invalid(
            f"the file is not {dialect.encoding} throughout (byte {error.start:,}).",
            where=str(path),
            remedy="Export it as UTF-8.",
        ) from None
    return plain


def _header(plain: Path, path: Path, dialect: Dialect) -> list[str]:
    with plain.open(encoding="utf-8", newline="") as file:
        header = [name.strip() for name in next(csv.reader(file, delimiter=dialect.separator), [])]
    if len(header) > MAX_COLUMNS:
        raise Invalid(f"the table has {len(header):,} columns.", where=f"{path}:1", remedy=f"At most {MAX_COLUMNS:,}.")
    doubled = next((number for number, name in enumerate(header, 1) if header.count(name) > 1 or not name), 0)
    if doubled:
        raise Invalid(
            f"the header's column {doubled} is empty or stands twice.", where=f"{path}:1", remedy="Name each once."
        )
    return header


def broken_lines(connection: duckdb.DuckDBPyConnection, source: Source) -> Iterator[Finding]:
    """Lines that DuckDB could not take as rows, after a scan; there may be none before the rows' lines are counted."""
    found = connection.execute("SELECT DISTINCT line FROM reject_errors ORDER BY line").fetchall()
    if found:
        lines = [int(line) for (line,) in found]
        yield Finding(
            "form", "error", source.file, "", "the line has other fields than the header.",
            "Put quotes around fields that hold the separator, and write one row a line.",
            count=len(lines), lines=lines[:FIRST], value="row", every=lambda: iter(lines),
        )  # fmt: skip
    forget_rejects(connection)


def forget_rejects(connection: duckdb.DuckDBPyConnection) -> None:
    """What a scan that looks at a part of the rows has left behind; every such scan is followed by a whole one."""
    connection.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")


def shifted_line(source: Source, rows: int) -> Iterator[Finding]:
    """A record that runs over the end of its line, or an empty line before others: no later line could be told."""
    if source.path is None or source.dialect is None:
        return
    with source.path.open("rb") as file:
        lines = sum(piece.count(b"\n") for piece in iter(lambda: file.read(_PIECE), b""))
    if lines in (rows, rows + 1):  # the last line may end without a mark
        return
    with source.path.open(encoding="utf-8", newline="") as text:
        reader = csv.reader(text, delimiter=source.dialect.separator)
        number = 0
        for record in reader:
            if record and reader.line_num != number + 1:
                yield Finding(
                    "form", "error", source.file, "", "a record runs over the end of its line, or a line is empty.",
                    "Write one row a line.", 1, [number + 1], "row",
                )  # fmt: skip
                return
            number += bool(record)


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Sequence[str]) -> str:
    """A list for IN."""
    return "(" + ", ".join(map(literal, texts)) + ")"
