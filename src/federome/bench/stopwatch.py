"""Where a node's time goes in a run, measured in the run itself: CPU seconds in kernels, masks and calls to the hub.

A benchmark names this module among those that its nodes load, and a folder in the environment; it wraps the few
functions that count and writes their sums beside each other when a run ends. Nothing else ever loads it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from federome.network import node, steps, sums, tags, transport

FOLDER: Final = "FEDEROME_BENCH_STOPWATCH"
P = ParamSpec("P")
R = TypeVar("R")
_spent: Counter[str] = Counter()
_lock = threading.Lock()


def _timed(work: Callable[P, R], kind: str) -> Callable[P, R]:
    """The same function, whose thread's CPU time is added up."""

    @wraps(work)
    def call(*args: P.args, **named: P.kwargs) -> R:
        started = time.thread_time()
        try:
            return work(*args, **named)
        finally:
            with _lock:
                _spent[kind] += time.thread_time() - started  # type: ignore[assignment]

    return call


def _install(folder: Path) -> None:
    steps._computed = _timed(steps._computed, "kernels")
    sums.mask = _timed(sums.mask, "masks")
    tags.put = _timed(tags.put, "masks")
    transport.HttpPort._call = _timed(transport.HttpPort._call, "wire")  # type: ignore[method-assign]
    forget = node.Node.forget

    def forgetting(self: node.Node, *args: object) -> None:
        forget(self, *args)  # type: ignore[arg-type]
        told = {**_spent, "all": time.process_time()}
        (folder / f"{os.getpid()}.json").write_text(json.dumps(told))

    node.Node.forget = forgetting  # type: ignore[assignment]


def read(folder: Path) -> Mapping[str, float]:
    """CPU seconds of all nodes so far, by kind."""
    total: Counter[str] = Counter()
    for path in folder.glob("*.json"):
        total.update(json.loads(path.read_text()))
    return total


if FOLDER in os.environ:
    _install(Path(os.environ[FOLDER]))
