"""The integrity check of a whole node: its store, its log, and the audits that say what it has answered.

``federome store verify`` does it once; a served node does it every week by itself, half of the time at rest so that
answers do not wait. What is damaged is told in the log with the command that mends it, and from then on every file is
checked again before a number comes from it. What was found last lies in ``integrity.json``.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from federome.db import engine
from federome.disclosure.cohorts import check_file
from federome.errors import Damaged, FederomeError
from federome.network.files import replace_file
from federome.network.record import SqlLog
from federome.store.catalogue import Store
from federome.store.verify import Problem, Report, verify

FILE: Final = "integrity.json"
EVERY_S: Final = 7 * 86_400
LOOK_S: Final = 3_600
FIRST_S: Final = 600
"""A node that has just started reads what it answers from, and perhaps compiles; the check comes after that."""
AUDITS: Final = ("cohorts.audit", "modelled.audit")
LOG: Final = "node.db"


def verify_node(folder: Path, store: Store, between: Callable[[], None] = lambda: None) -> Report:
    """Read every byte of the store and of the audits in a node's folder, and hash its log; see ``store.verify``."""
    report = verify(store, between)
    files, size, problems = report.files, report.bytes, list(report.problems)
    for path in (folder / name for name in AUDITS):
        if path.is_file():
            files += 1
            try:
                check_file(path)
                size += path.stat().st_size
            except Damaged as error:
                problems.append(Problem(error.where, error.message, error.remedy))
            between()
    if (path := folder / LOG).is_file():
        files += 1
        try:
            SqlLog(engine(f"sqlite:///{path}")).check()
        except Damaged as error:
            problems.append(Problem(str(path), error.message, error.remedy))
        between()
    return replace(report, files=files, bytes=size, problems=tuple(problems))


class Integrity:
    """A served node's own check, from time to time."""

    def __init__(self, folder: Path, store: Store, clock: Callable[[], float], report: Callable[[str], None]) -> None:
        self._folder, self._store, self._clock, self._report = folder, store, clock, report

    def due(self) -> bool:
        """Whether the last check that was finished is a week old, or there was none."""
        try:
            last = float(json.loads((self._folder / FILE).read_bytes())["at"])
        except (OSError, ValueError, KeyError, TypeError):
            return True
        return not last <= self._clock() < last + EVERY_S

    def look(self, between: Callable[[], None] = lambda: None) -> Report:
        """Check now, tell what is damaged, and keep what was found."""
        found = verify_node(self._folder, self._store, between)
        if found.problems:
            self._store.blocks.distrust()
        for each in found.problems:
            self._report(f"damaged: {each.file}: {each.message} {each.remedy}")
        said = {"at": self._clock(), "ok": found.ok, **asdict(found)}
        replace_file(self._folder / FILE, json.dumps(said, indent=1).encode())
        return found

    def watch(self, ended: threading.Event, *, every_s: float = LOOK_S) -> None:
        """Check whenever it is due until the node ends, which does not wait for it."""
        rest: float = FIRST_S
        while not ended.wait(rest):
            rest = every_s
            try:
                if self.due():
                    self.look(_Rests(ended))
            except _Ended:
                return
            except (FederomeError, OSError) as error:  # busy, or no room for what was found: the next look will tell
                self._report(f"the integrity check was not finished: {error}")


class _Ended(Exception):
    """The node ends in the midst of a check."""


class _Rests:
    """Called between files: rests as long as the last one took, so that a check uses half of one core and disk."""

    def __init__(self, ended: threading.Event) -> None:
        self._ended = ended
        self._since = time.monotonic()

    def __call__(self) -> None:
        if self._ended.wait(time.monotonic() - self._since):
            raise _Ended
        self._since = time.monotonic()
