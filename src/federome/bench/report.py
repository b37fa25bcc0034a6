"""What a benchmark says: rows of medians with the bar they must reach and the peer measured in the same run."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np


@dataclass(frozen=True)
class Row:
    """One measurement. ``ratio`` relates it to the peer so that more is better where ``bar`` is a floor.

    ``bar`` is ``None`` where nothing is asked; ``ok`` is then ``None`` as well.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    ok: bool | None = None
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None


def at_most(name: str, value: float, unit: str, bar: float | None, **peer: object) -> Row:
    """A row that is fine while the value stays at or below the bar."""
    return Row(name, value, unit, bar, None if bar is None else value <= bar, **peer)  # type: ignore[arg-type]


def against(name: str, ours: float, unit: str, *, peer: str, theirs: float, bar: float | None) -> Row:
    """A row whose ratio peer ÷ ours (times: how often as fast) must reach the bar."""
    ratio = theirs / ours if ours else float("inf")
    return Row(name, ours, unit, bar, None if bar is None else ratio >= bar, peer, theirs, ratio)


def timed(work: Callable[[], object], *, repeats: int = 5, warm: int = 1) -> float:
    """Median seconds of a call."""
    for _ in range(warm):
        work()
    seconds = []
    for _ in range(repeats):
        started = perf_counter()
        work()
        seconds.append(perf_counter() - started)
    return median(seconds)


def memory_bandwidth() -> float:
    """Bytes a second that one thread reads from memory, here and now: what kernels are measured against."""
    block = np.ones(32 << 20, np.float64)
    return block.nbytes / timed(block.sum, repeats=5)


def machine() -> dict[str, object]:
    """What this was measured on."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "memory_read_gb_s": round(memory_bandwidth() / 1e9, 1),
    }


def markdown(title: str, rows: Sequence[Row]) -> str:
    """The rows as a table for people."""
    lines = [
        f"## {title}",
        "",
        "| what | value | bar | ok | peer | peer's value | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:g}"
        good = "" if row.ok is None else ("yes" if row.ok else "**no**")
        theirs = "" if row.peer_value is None else f"{row.peer_value:.4g} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        lines.append(f"| {row.name} | {row.value:.4g} {row.unit} | {bar} | {good} | {row.peer} | {theirs} | {ratio} |")
    return "\n".join(lines) + "\n"


def write_json(path: Path, rows: Sequence[Row]) -> None:
    """The rows for machines."""
    path.write_text(json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
