"""What was done at a node, told back: its runs for the operator, and for a citizen those that used their data.

Read from the node's own notebook: the signed orders and permits, and the people as they were frozen. Nothing is asked
of the hub but its public register, which is the same for everybody who reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal

import httpx2 as httpx
import msgspec
import sqlalchemy as sa

from federome.db import read
from federome.errors import FederomeError
from federome.governance.orders import claimed_order
from federome.network.fetching import JSON, Bounds
from federome.network.fetching import fetch as fetch_bounded
from federome.network.holdings import cohort_datasets
from federome.network.notebook import EXPIRED, RECORD, WORK
from federome.network.transport import tls_context
from federome.trust.signing import peek

FRESH_S: Final = 600.0
RETRY_S: Final = 60.0
ANSWER: Final = Bounds("the hub", patience_s=3.0, max_bytes=8 << 20, kinds=JSON)
Course = Literal["under way", "answered", "priced", "refused", "too late"]


@dataclass(frozen=True)
class Run:
    """One run at this node, as its order and its permit say. ``datasets`` are those that it read."""

    id: str
    person: str
    permit: str
    holder: str
    basis: str
    topics: tuple[str, ...]
    datasets: tuple[str, ...]
    algorithm: str
    ordered: datetime
    deadline: datetime
    course: Course
    last: datetime | None = None
    budget: float | None = None


def runs_of(engine: sa.Engine, *, now: float, newest: int = 200) -> list[Run]:
    """The runs of a node, the newest first: all that are under way, and of the others the last ones."""
    with read(engine) as db:
        columns = WORK.c.run, WORK.c.order_token, WORK.c.permit_token, WORK.c.last_task
        open_ = sa.select(*columns).where(WORK.c.last_task == "")
        ended = sa.select(*columns).where(WORK.c.last_task != "").order_by(sa.literal_column("rowid").desc())
        rows = [*db.execute(open_), *db.execute(ended.limit(newest))]
        lasts = _lasts(db, [row.run for row in rows])
    found = [_run(row, lasts.get(row.run), now) for row in rows]
    return sorted(found, key=lambda run: run.ordered, reverse=True)


def uses_of(engine: sa.Engine, numbers: Mapping[str, int], *, now: float) -> list[Run]:
    """The runs whose people one person was among, the newest first; ``numbers`` as ``holdings.numbers_of`` has them."""
    if not numbers:
        return []
    found = []
    with read(engine) as db:
        for row in db.execute(sa.select(WORK)):
            datasets = cohort_datasets(row.frozen, numbers)
            if datasets:
                found.append((row, datasets))
        lasts = _lasts(db, [row.run for row, _ in found])
    runs = [_run(row, lasts.get(row.run), now, datasets) for row, datasets in found]
    return sorted(runs, key=lambda run: run.ordered, reverse=True)


def _lasts(db: sa.Connection, runs: Sequence[str]) -> dict[str, tuple[float, str]]:
    """When what was noted last of each run."""
    found: dict[str, tuple[float, str]] = {}
    for start in range(0, len(runs), 500):
        query = sa.select(RECORD.c.run, RECORD.c.at, RECORD.c.what).where(RECORD.c.run.in_(runs[start : start + 500]))
        for row in db.execute(query.order_by(RECORD.c.id)):
            found[row.run] = row.at, row.what
    return found


def _run(row: Any, last: tuple[float, str] | None, now: float, datasets: tuple[str, ...] = ()) -> Run:
    order, said = claimed_order(row.order_token), peek(row.permit_token).payload.get("grant")
    permit = said if isinstance(said, dict) else {}
    answered, late = row.last_task not in ("", EXPIRED), order.deadline.timestamp() < now
    return Run(
        id=row.run,
        person=order.person,
        permit=order.permit,
        holder=str(permit.get("holder", permit.get("institution", ""))),
        basis=order.purpose.basis,
        topics=tuple(map(str, order.purpose.topics)),
        datasets=datasets or order.datasets,
        algorithm=order.algorithm.name,
        ordered=order.issued,
        deadline=order.deadline,
        course=_course(last, answered=answered, price_only=order.price_only, late=late),
        last=datetime.fromtimestamp(last[0], UTC) if last else None,
        budget=float(str(permit["budget_rho"])) if permit.get("budget_rho") is not None else None,
    )


def _course(last: tuple[float, str] | None, *, answered: bool, price_only: bool, late: bool) -> Course:
    if answered:
        return "priced" if price_only else "answered"
    if last is not None and last[1] == "refused":
        return "refused"
    return "too late" if late else "under way"


# what came out


@dataclass(frozen=True)
class Project:
    """What the public register says of one permit."""

    title: str
    summary: str
    state: str
    published: tuple[str, ...]


@dataclass
class PublicRegister:
    """The hub's public register, read as a whole: whose log is looked at here is nobody's business there.

    The hub's words are words: short texts, shown as such. While it is away the last reading counts; ``None`` without.
    """

    fetch: Callable[[], bytes]
    clock: Callable[[], float]
    _held: Mapping[str, Project] | None = None
    _due: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def projects(self) -> Mapping[str, Project] | None:
        """By permit."""
        with self._lock:
            if self.clock() >= self._due:
                try:
                    self._held = dict(_projects(self.fetch()))
                    self._due = self.clock() + FRESH_S
                except (FederomeError, OSError, ValueError, msgspec.DecodeError):
                    self._due = self.clock() + RETRY_S
            return self._held


def at_hub(hub_url: str, certificate: Path) -> Callable[[], bytes]:
    """Gets the register from a hub, within seconds and within bounds."""

    def fetch() -> bytes:
        with httpx.Client(verify=tls_context(certificate)) as http:
            return fetch_bounded(f"{hub_url.rstrip('/')}/portal/register.json", http=http, bounds=ANSWER)

    return fetch


class _Line(msgspec.Struct):
    id: str
    title: str
    summary: str = ""
    state: str = ""
    published: list[str] = []


class _Register(msgspec.Struct):
    projects: list[_Line]


def _projects(data: bytes) -> Iterator[tuple[str, Project]]:
    for one in msgspec.json.decode(data, type=_Register).projects:
        texts = (one.title[:300], one.summary[:3000], one.state[:40])
        yield one.id, Project(*texts, tuple(each[:1000] for each in one.published[:50]))
