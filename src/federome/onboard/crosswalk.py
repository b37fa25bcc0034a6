"""Rule V15: codes of one system read as another's, by a reviewed file that says how good each match is.

Marks are those of SKOS: ``to`` means the same as ``from`` (exact), is narrower (narrow) or broader (broad). Exact and
narrow ones are used; where only a broad one is known, the field becomes unknown for that person, which is not the same
as none. A file is read whole or refused, and every use is told with its line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final, Literal, cast, get_args

import duckdb

from federome.errors import Invalid
from federome.ingest.columns import COLUMNS, Column
from federome.onboard.findings import FIRST, Finding
from federome.onboard.mapping import FieldMapping, TableMapping
from federome.onboard.tables import Source, literals

Mark = Literal["exact", "narrow", "broad"]
HEADER: Final = ("from", "to", "mark", "source", "reviewed_by", "reviewed_on")
PREFIX: Final = "crosswalk-"
_NAME: Final = re.compile(rf"{PREFIX}[A-Za-z0-9._-]{{1,80}}\.csv")
_MAX_BYTES: Final = 50_000_000
_SAID: Final[Mapping[Mark, str]] = {
    "exact": "a code was read as its exact match.",
    "narrow": "a code was read as a narrower one.",
    "broad": "only a broader code is known: it is not used, and the field is unknown.",
}


@dataclass(frozen=True)
class Match:
    """One line of the file: what was reviewed, by whom it need not say here."""

    line: int
    code: str
    to: str
    mark: Mark


@dataclass(frozen=True)
class Crosswalk:
    """A reviewed file: ``used`` holds the exact and narrow matches, ``unused`` codes with nothing but broad ones."""

    used: Mapping[str, Match]
    unused: frozenset[str]

    def values(self) -> dict[str, str]:
        """As words of a mapping, in which a word that means nothing known stands for unknown."""
        return {code: match.to for code, match in self.used.items()} | dict.fromkeys(sorted(self.unused), "")

    def codes(self, mark: Mark) -> tuple[str, ...]:
        """Codes (in small letters) that are read by a match of this mark, or for broad are not read."""
        if mark == "broad":
            return tuple(sorted(code.lower() for code in self.unused))
        return tuple(sorted(code.lower() for code, match in self.used.items() if match.mark == mark))


def read_crosswalk(path: Path, column: Column) -> Crosswalk:
    """The file for a field. ``Invalid`` names the line: wrong form, no review, two uses of a code, not the field's."""
    if column.kind not in ("text", "texts"):
        raise Invalid("a crosswalk is for codes, and the field has none.", where=f"{path.name}: {column.name}")
    used: dict[str, Match] = {}
    broad: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for match in _matches(path):
        where = f"{path.name}:{match.line}"
        if spelled.setdefault(match.code.lower(), match.code) != match.code:
            raise Invalid("the code stands here in other letters before.", where=where, remedy="Write it in one way.")
        if match.mark == "broad":
            broad[match.code] = match.to
            continue
        if not _fits(match.to, column):
            raise Invalid(f"to is not {column.expected}.", where=where, remedy="Correct it, or map another field.")
        if match.code in used:
            raise Invalid(
                f"the code is used in line {used[match.code].line} already.",
                where=where,
                remedy="Keep the one match that was meant, or mark it broad if none was.",
            )
        used[match.code] = match
    if not used and not broad:
        raise Invalid("the crosswalk has no matches.", where=path.name, remedy="Give one a line.")
    return Crosswalk(used, frozenset(broad.keys() - used.keys()))


def _matches(path: Path) -> Iterator[Match]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise Invalid("the crosswalk is larger than 50 MB.", where=path.name, remedy="Keep the codes in use.")
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except FileNotFoundError:
        raise Invalid("there is no such crosswalk.", where=path.name, remedy="Put it beside the tables.") from None
    except (UnicodeDecodeError, csv.Error):
        raise Invalid("this is not CSV in UTF-8.", where=path.name, remedy="Export it again.") from None
    if not rows or tuple(rows[0]) != HEADER:
        raise Invalid("the first line is another.", where=f"{path.name}:1", remedy=f"Write {','.join(HEADER)}.")
    for line, row in enumerate(rows[1:], 2):
        where = f"{path.name}:{line}"
        cells = [cell.strip() for cell in row]
        if len(cells) != len(HEADER):
            raise Invalid(f"the line has {len(cells)} fields.", where=where, remedy=f"Give {len(HEADER)}.")
        for name, cell in zip(HEADER, cells, strict=True):
            if not cell:
                raise Invalid(f"{name} is empty.", where=where, remedy="Every match has a source and a review.")
        code, to, mark, _source, _by, on = cells
        if mark not in get_args(Mark):
            raise Invalid("the mark is none of exact, narrow, broad.", where=where, remedy="Write one of them.")
        try:
            date.fromisoformat(on)
        except ValueError:
            raise Invalid("reviewed_on is no day.", where=where, remedy="Write YYYY-MM-DD.") from None
        yield Match(line, code, to, cast("Mark", mark))


def _fits(value: str, column: Column) -> bool:
    if column.values:
        return value in column.values
    return re.fullmatch(column.pattern or ".*", value) is not None


def walked(table: TableMapping, folder: Path) -> tuple[TableMapping, dict[str, Crosswalk]]:
    """The table's mapping with its crosswalks as words of their fields, and the crosswalks by field."""
    fields: dict[str, FieldMapping] = dict(table.fields)
    walks: dict[str, Crosswalk] = {}
    for name, how in table.fields.items():
        if not how.crosswalk:
            continue
        if not _NAME.fullmatch(how.crosswalk):
            raise Invalid(
                "this is no name of a crosswalk.",
                where=f"{table.file}: {name}",
                remedy=f"Name a file of the folder as {PREFIX}NAME.csv.",
            )
        walks[name] = read_crosswalk(folder / how.crosswalk, COLUMNS[name])
        words = walks[name].values()
        if {word.lower() for word in how.values} & {word.lower() for word in words}:
            raise Invalid(
                "a word stands in the crosswalk and in values.",
                where=f"{table.file}: {name}",
                remedy="Keep it in one of them.",
            )
        fields[name] = replace(how, values={**how.values, **words})
    return replace(table, fields=fields), walks


def uses(
    connection: duckdb.DuckDBPyConnection, source: Source, file: str, how: FieldMapping, items: str, walk: Crosswalk
) -> Iterator[Finding]:
    """One finding a mark: in which lines a crosswalk was used, or was not. ``items`` is SQL: a row's list of codes."""
    rows = f"SELECT row_number() OVER () - 1 AS row, {items} AS codes FROM {source.sql}"  # noqa: S608 - names are quoted
    for mark in get_args(Mark):
        codes = walk.codes(mark)
        if not codes:
            continue
        held = f"len(list_filter(codes, lambda x: lower(x) IN {literals(codes)})) > 0"
        found = connection.execute(f"SELECT row FROM ({rows}) WHERE {held} ORDER BY row").fetchall()  # noqa: S608
        lines = [source.line(int(row)) for (row,) in found]
        if lines:
            yield Finding(
                "V15", "warning" if mark == "broad" else "repaired", file, how.column, _SAID[mark],
                f"Reviewed in {how.crosswalk}." if mark != "broad" else f"Find a closer match for {how.crosswalk}.",
                len(lines), lines[:FIRST], mark, partial(iter, lines),
            )  # fmt: skip
