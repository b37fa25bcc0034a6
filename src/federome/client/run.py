"""What a command line needs around a run: parameters and datasets from words, tables and results as text.

Pure functions: ``federome run`` calls them and does the printing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from federome.client.connection import Event, Offered
from federome.client.result import Result
from federome.errors import Invalid
from federome.model.sheet import csv_pieces, flat, json_pieces
from federome.model.table import Table
from federome.trust.canonical import Json, digest_bytes, parse

Form = Literal["text", "csv", "json"]
WITHHELD: Final = "withheld"
UNDEFINED: Final = "-"


def read_parameters(words: Iterable[str]) -> dict[str, Json]:
    """``["by=sex", "limit=5", 'regions=[…]']`` → parameters. Values are JSON; what is no JSON is taken as text.

    A text that would read as JSON is quoted: ``name='"22"'``. ``Invalid`` for a word without ``=``, a repeated name,
    and a value that begins like a JSON list, object or string and is none.
    """
    out: dict[str, Json] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name.isidentifier():
            raise Invalid("a parameter is written NAME=VALUE.", where=word[:60], remedy="For example: --param by=sex")
        if name in out:
            raise Invalid("the parameter is given twice.", where=name, remedy="Give a list as JSON: name='[1, 2]'.")
        try:
            out[name] = parse(value.encode())
        except Invalid as error:
            if value[:1] in ("[", "{", '"'):
                raise Invalid(error.message, where=name, remedy="Check brackets and quotes.") from error
            out[name] = value
    return out


def read_datasets(words: Sequence[str]) -> dict[str, list[str]] | Literal["all"]:
    """``["FI:fi-1,ES:es-1", "ES:es-2"]`` → datasets by node; no word, or ``all``, means all that the permit covers."""
    if not words or list(words) == ["all"]:
        return "all"
    out: dict[str, list[str]] = {}
    for pair in (pair for word in words for pair in word.split(",")):
        node, separator, dataset = pair.strip().partition(":")
        if not separator or not node or not dataset:
            raise Invalid("datasets are written NODE:DATASET.", where=pair[:60], remedy="--datasets FI:fi-1,ES:es-1")
        if dataset in out.setdefault(node, []):
            raise Invalid("the dataset is named twice.", where=f"{node}:{dataset}")
        out[node].append(dataset)
    return out


def render(table: Table, form: Form, *, most: int | None = None) -> str:
    """A table for a terminal (aligned, at most ``most`` rows), as CSV or as JSON; ends with a line break."""
    match form:
        case "csv":
            return "".join(csv_pieces(table))
        case "json":
            return "".join(json_pieces(table)) + "\n"
        case "text":
            return _aligned(table, table.rows if most is None else min(most, table.rows))


def summarise(result: Result) -> dict[str, Json]:
    """A result in short, for ``--json``: who contributed, who did not and why, and the tables' sizes and digests."""
    return {
        "run": result.run,
        "contributors": list(result.contributors),
        "absent": dict(result.absent),
        "resumed": result.provenance.get("resumed"),
        "tables": {
            name: {"rows": table.rows, "columns": list(table), "digest": digest_bytes(table.to_bytes())}
            for name, table in result.tables.items()
        },
    }


def describe(event: Event) -> str:
    """One line of progress."""
    return f"{datetime.fromtimestamp(event.at, UTC):%H:%M:%S} {event.said}"


def list_algorithms(offered: Mapping[str, Offered]) -> list[dict[str, Json]]:
    """Algorithms on offer, for people who choose: name, version, digest, one line, and the tables they release."""
    return [
        {
            "name": one.algorithm.name,
            "version": one.algorithm.version,
            "digest": one.algorithm.digest,
            "summary": one.summary,
            "tables": list(one.releases),
        }
        for one in offered.values()
    ]


def _aligned(table: Table, rows: int) -> str:
    columns: list[list[str]] = []
    for name, values, hidden in flat(table):
        cells = [
            WITHHELD if gone else _cell(value)
            for value, gone in zip(values[:rows].tolist(), hidden[:rows].tolist(), strict=True)
        ]
        width = max(map(len, (name, *cells)))
        right = values.dtype.kind in "if"
        columns.append([text.rjust(width) if right else text.ljust(width) for text in (name, *cells)])
    lines = ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
    more = table.rows - rows
    return "\n".join([*lines, *([f"… {more} more"] if more else [])]) + "\n"


def _cell(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}" if value == value else UNDEFINED
        case _:
            # Names come from far away: nothing in them may steer a terminal.
            return "".join(c if c.isprintable() else "?" for c in str(value))
