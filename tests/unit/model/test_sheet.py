"""Tables as text: numbers survive, and what is withheld or undefined is empty, never zero."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from federome.model import sheet
from federome.model.table import Table

TABLE = Table(
    {
        "sex": np.array(["female", 'ma"le', "a,b"]),
        "people": np.array([12, 0, 30]),
        "mean": np.array([0.1, np.nan, -2.5e-300]),
        "open": np.array([True, False, True]),
        "cells": np.array([[1, 2], [0, 4], [5, 6]]),
    },
    {
        "people": np.array([False, True, False]),
        "cells": np.array([[False, False], [True, False], [False, False]]),
    },
)


def rows(table: Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO("".join(sheet.csv_pieces(table)))))


def test_csv() -> None:
    assert rows(TABLE) == [
        ["sex", "people", "mean", "open", "cells[0]", "cells[1]"],
        ["female", "12", "0.1", "true", "1", "2"],
        ['ma"le', "", "", "false", "", "4"],
        ["a,b", "30", "-2.5e-300", "true", "5", "6"],
    ]


def test_json() -> None:
    told = json.loads("".join(sheet.json_pieces(TABLE)))
    assert told["columns"] == {
        "sex": "text", "people": "integer", "mean": "number", "open": "boolean", "cells": "integer"
    }  # fmt: skip
    assert told["withheld"] == {"people": 1, "cells": 1}
    assert told["rows"] == TABLE.records()
    assert told["rows"][1] == {"sex": 'ma"le', "people": None, "mean": None, "open": False, "cells": [None, 4]}


def test_nothing_is_a_sheet_too() -> None:
    empty = Table({"people": np.array([], np.int64)})
    assert rows(empty) == [["people"]]
    assert json.loads("".join(sheet.json_pieces(empty)))["rows"] == []


def test_long_tables_come_in_pieces() -> None:
    long = Table({"n": np.arange(3 * sheet.ROWS + 1)})
    assert len(list(sheet.csv_pieces(long))) == 5
    assert [row[0] for row in rows(long)[1:]] == [str(n) for n in range(3 * sheet.ROWS + 1)]
    assert [row["n"] for row in json.loads("".join(sheet.json_pieces(long)))["rows"]] == list(range(3 * sheet.ROWS + 1))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.data())
def test_reading_gives_the_same_numbers(values: list[float], data: st.DataObject) -> None:
    hidden = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    table = Table({"x": np.array(values)}, {"x": np.array(hidden)})
    told = [row[0] if row else "" for row in rows(table)[1:]]
    assert [cell == "" for cell in told] == hidden
    assert [float(c) for c in told if c] == [v for v, h in zip(values, hidden, strict=True) if not h]
