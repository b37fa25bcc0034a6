"""A ``Table`` as text for people and programs outside: CSV and JSON, in pieces, so that long tables need no memory.

What was withheld or cannot be computed is empty (CSV) or null (JSON), never zero. The hub serves these forms and the
client writes them. A column with a second axis becomes one CSV column for each of its cells: ``name[0]``, ``name[1]``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

import numpy as np

from federome.model.table import Cell, Column, Mask, Table

ROWS: int = 4096
"""Rows a piece."""


def flat(table: Table) -> Iterator[tuple[str, Column, Mask]]:
    """Columns of one axis each: name, values, and which of them are withheld."""
    for name, values in table.columns.items():
        hidden = table.withheld.get(name, np.zeros(values.shape, np.bool_))
        if values.ndim == 1:
            yield name, values, hidden
        else:
            for at in range(values.shape[1]):
                yield f"{name}[{at}]", values[:, at], hidden[:, at]


def csv_pieces(table: Table) -> Iterator[str]:
    """RFC 4180 with a header line. Numbers are written so that reading them gives the same number."""
    flattened = list(flat(table))
    whole = Table({name: values for name, values, _ in flattened}, {name: mask for name, _, mask in flattened})
    yield _lines([list(whole)])
    for rows in _pieces(whole):
        yield _lines([["" if cell is None else _text(cell) for cell in row.values()] for row in rows.records()])


def json_pieces(table: Table) -> Iterator[str]:
    """``{"columns": {name: type}, "withheld": {name: number of cells}, "rows": [{name: cell}]}``."""
    columns = {name: _kind(values) for name, values in table.columns.items()}
    withheld = {name: int(mask.sum()) for name, mask in table.withheld.items() if mask.any()}
    yield f'{{"columns":{json.dumps(columns)},"withheld":{json.dumps(withheld)},"rows":['
    separator = ""
    for rows in _pieces(table):
        yield separator + ",".join(json.dumps(row) for row in rows.records())
        separator = ","
    yield "]}"


def _pieces(table: Table) -> Iterator[Table]:
    for start in range(0, table.rows, ROWS):
        yield table.take(np.arange(start, min(start + ROWS, table.rows)))


def _lines(rows: list[list[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def _text(cell: Cell) -> str:
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


def _kind(values: Column) -> str:
    return {"i": "integer", "f": "number", "b": "boolean", "U": "text"}[values.dtype.kind]
