"""One field of a provider's table as SQL in layers, from its text to its value, and where it does not read."""

from __future__ import annotations

from dataclasses import dataclass

from federome.ingest.columns import Column
from federome.onboard.canon import SQL_TYPES, cell, trimmed
from federome.onboard.mapping import FieldMapping, TableMapping
from federome.onboard.tables import literal, literals, quoted


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
class Cells:
    """One field as SQL over the rows: its value, and where it is wrong or was mended; empty for nowhere."""

    value: str
    wrong: str
    mended: str


def by_cell(read: Reading, *, mend: bool) -> Cells:
    hopeless = f"CASE WHEN {read.failed} THEN {read.hopeless} ELSE false END"
    mended = f"CASE WHEN {read.failed} THEN NOT ({read.hopeless}) ELSE false END"
    return Cells(read.outcome, hopeless if mend else read.failed, mended)


def reading(
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
    unknown += [where(how, f"({' OR '.join(untold)})", otherwise="false")] if untold else []
    some_unknown = " OR ".join(unknown) or "false"
    holes = f"len(s{at}) > len(list_filter(s{at}, lambda x: x IS NOT NULL))"
    better = f"list_transform(p{at}, lambda x: coalesce(({read.strict})::{item}, ({read.mended})::{item}))"
    value = f"CASE WHEN {holes} THEN {better} ELSE s{at} END" if mend else f"s{at}"
    return Reading(
        f"{_kept(how, table)} AS r{at}",
        f"{items(how, f'r{at}')} AS p{at}",
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
    return where(how, trimmed(how.column, table.missing))


def where(how: FieldMapping, sql: str, otherwise: str = "NULL") -> str:
    if not how.where:
        return sql
    held = " AND ".join(f"trim({quoted(name)}) = {literal(value)}" for name, value in how.where.items())
    return f"CASE WHEN {held} THEN {sql} ELSE {otherwise} END"


def items(how: FieldMapping, raw: str) -> str:
    """SQL: the items of a list cell, NULL where the cell is empty."""
    mark = literal(how.separator or ";")
    whole = raw if how.separator else f"translate({raw}, '|', ';')"
    return f"list_filter(list_transform(string_split({whole}, {mark}), lambda x: trim(x)), lambda x: x <> '')"
