"""All benchmarks by name. Each is a function that measures and returns its rows; ``federome bench`` runs them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from federome.bench.report import Row, markdown, write_json
from federome.errors import Invalid

Benchmark = Callable[[Console, bool], Sequence[Row]]
NAMES: Final = (
    "access",
    "network",
    "store",
    "econ",
    "prs",
    "survival",
    "beacon",
    "portal",
    "matching",
    "genes",
    "pgx",
    "attacks",
    "onboard",
)


def run(name: str, *, console: Console, json_file: Path | None, quick: bool) -> bool:
    """Run one benchmark or ``all``; print their tables, write their rows. True when every bar was reached."""
    wanted = NAMES if name == "all" else (name,)
    if unknown := [each for each in wanted if each not in NAMES]:
        raise Invalid(f"no benchmark is called {unknown[0][:40]!r}.", remedy=f"Known: {', '.join(NAMES)}, all.")
    rows: list[Row] = []
    for each in wanted:
        measure: Benchmark = importlib.import_module(f"federome.bench.{each}").measure
        found = list(measure(console, quick))
        console.out(markdown(each, found), highlight=False)
        rows.extend(found)
    if json_file is not None:
        write_json(json_file, rows)
    return all(row.ok is not False for row in rows)
