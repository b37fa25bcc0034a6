"""Released tables for people: which of them are figures, their first rows, and files to take away.

Withheld is never zero: it is written out in pages and stays empty in files, as the nodes' own export does it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from federome.model.sheet import csv_pieces, flat
from federome.model.table import Table
from federome.portal.charts import Bar, Chart, Line, Points, bars, lines, number, points
from federome.portal.languages import N_, Language

SHOWN: Final = 50
MOST_BARS: Final = 24
COUNTED: Final = ("people", "frequency", "rate", "carriers", "cases", "variants")
_KINDS: Final = {"i": "BIGINT", "f": "DOUBLE", "b": "BOOLEAN", "U": "VARCHAR"}
_GENOME: Final = {name: at for at, name in enumerate([*map(str, range(1, 23)), "X", "Y", "MT"])}


def rows_of(table: Table, language: Language) -> list[tuple[str, ...]]:
    """The first rows in words."""
    withheld = language.gettext(N_("withheld"))
    columns = [
        [_cell(value, withheld if gone else "") for value, gone in islice(zip(values, hidden, strict=True), SHOWN)]
        for _, values, hidden in flat(table)
    ]
    return list(zip(*columns, strict=True))


def heads_of(table: Table) -> list[str]:
    """Its columns."""
    return [name for name, _, _ in flat(table)]


def _cell(value: object, gone: str) -> str:
    match value.item() if isinstance(value, np.generic) else value:
        case _ if gone:
            return gone
        case bool() as truth:
            return "yes" if truth else "no"
        case int() as count:
            return str(count)
        case float() as share:
            return f"{share:.6g}" if share == share else "–"
        case text:
            return str(text)


def figure_of(name: str, table: Table, language: Language) -> Chart | None:
    """A table as a picture, where it is one of those that have one."""
    has = set(table)
    if table.rows == 0:
        return None
    if {"chromosome", "start", "minus_log10_p"} <= has:
        return _manhattan(table, language)
    if {"time", "survival"} <= has:
        return _survival(table, language)
    if {"threshold", "net_benefit", "treat_all"} <= has:
        return _decision(name, table)
    counted = next((column for column in COUNTED if column in has and table[column].ndim == 1), None)
    labels = [column for column in table if table[column].dtype.kind == "U"]
    if counted and table.rows <= MOST_BARS and (labels or table.rows == 1):
        return _bars(name, table, labels, counted)
    return None


def _bars(name: str, table: Table, labels: list[str], counted: str) -> Chart:
    hidden = table.withheld.get(counted, np.zeros(table.rows, np.bool_))
    telling = [column for column in labels if len(set(table[column].tolist())) > 1] or labels[:1]
    words = list(zip(*(table[column].tolist() for column in telling), strict=True)) or [(name,)]
    held = [
        Bar(" ".join(filter(None, map(str, label))) or name, None if gone or value != value else float(value))
        for label, value, gone in zip(words, table[counted].tolist(), hidden.tolist(), strict=True)
    ]
    return bars(f"{name}: {counted}", held, heads=(" ".join(telling) or name, counted))


def _survival(table: Table, language: Language) -> Chart:
    groups = table["group"].tolist() if "group" in table else [""] * table.rows
    hidden = table.withheld.get("survival", np.zeros(table.rows, np.bool_)).tolist()
    seen: dict[str, list[tuple[float, float | None]]] = {}
    for group, at, left, gone in zip(groups, table["time"].tolist(), table["survival"].tolist(), hidden, strict=True):
        seen.setdefault(str(group), [(0.0, 1.0)]).append((float(at), None if gone or left != left else float(left)))
    everybody = language.gettext(N_("everybody"))
    drawn = [
        Line(group or everybody, tuple(sorted(held, key=lambda p: p[0])), steps=True) for group, held in seen.items()
    ]
    say = language.gettext
    return lines(say(N_("Survival")), drawn, across=say(N_("time")), up=say(N_("share without the event")))


def _decision(name: str, table: Table) -> Chart:
    """Net benefit over the risk from which one would act: by the score, by treating everybody, by treating nobody."""
    at = [float(each) for each in table["threshold"].tolist()]
    drawn = [
        Line(column, tuple(zip(at, (float(each) for each in table[column].tolist()), strict=True)))
        for column in ("net_benefit", "treat_all")
    ]
    nobody = Line("treat_none", tuple((each, 0.0) for each in at))
    return lines(name, [*drawn, nobody], across="threshold", up="net_benefit", from_zero=False)


def _manhattan(table: Table, language: Language) -> Chart:
    where = [_GENOME.get(str(name).removeprefix("chr"), len(_GENOME)) for name in table["chromosome"].tolist()]
    starts, heights = table["start"].tolist(), table["minus_log10_p"].tolist()
    ends: dict[int, float] = {}
    for at, start in zip(where, starts, strict=True):
        ends[at] = max(ends.get(at, 0.0), float(start))
    offset, offsets = 0.0, {}
    for at in sorted(ends):
        offsets[at], offset = offset, offset + ends[at]
    held: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for at, start, height in zip(where, starts, heights, strict=True):
        if height == height:
            held[at % 2].append((offsets[at] + float(start), float(height)))
    say = language.gettext
    return points(
        say(N_("Strength of association along the genome")),
        [Points(tuple(each)) for each in held],
        across=say(N_("place in the genome")),
        up="−log10 p",
        marks=[(offsets[at] + ends[at] / 2, _named(at)) for at in sorted(ends)],
        description=say(N_("The highest point of each stretch; the strongest is")) + f" {number(max(heights))}.",
    )


def _named(at: int) -> str:
    return next((name for name, place in _GENOME.items() if place == at), "?")


def parquet(table: Table) -> bytes:
    """The table as Parquet; withheld and undefined cells are null."""
    import duckdb

    kinds = ", ".join(f"{_quoted(name)}: '{_KINDS[values.dtype.kind]}'" for name, values, _ in flat(table))
    with tempfile.TemporaryDirectory(prefix="federome-") as folder, duckdb.connect() as db:
        source, target = Path(folder) / "table.csv", Path(folder) / "table.parquet"
        with source.open("w", encoding="utf-8", newline="") as file:
            file.writelines(csv_pieces(table))
        db.execute(
            f"COPY (SELECT * FROM read_csv('{source}', header = true, columns = {{{kinds}}})) "  # noqa: S608
            f"TO '{target}' (FORMAT PARQUET)"
        )
        return target.read_bytes()


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def stem(name: str, node: str) -> str:
    """What a table's file is called."""
    return f"{node}-{name}" if node else name


def citation(told: Mapping[str, object], hub: str) -> str:
    """How to cite a run: what was run, of which content, by which nodes, and where its proofs are."""
    return (
        f"{told['algorithm']} (content {told['digest']}), run {told['run']} over {', '.join(told['contributors'])} "  # type: ignore[arg-type]
        f"by {hub}, permit {told['permit']}, ended {told['ended']}. Every contributor's signature and its receipt of a "
        "public log are in provenance.json."
    )
