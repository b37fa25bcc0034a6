"""``federome.connect(url, …).run(…)``: a person's connection to a hub, from a question to a result.

The person's key signs one order per node here; the hub carries them, and its progress is followed until the run ends.
What a run is and what came of it is kept by the hub: a connection that breaks is taken up again with ``resume``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import quote
from uuid import uuid4

import httpx2 as httpx

from federome.client.orders import Grant, Question, plain, read_authority, read_passport, seal_for, sign_orders
from federome.client.price import Price
from federome.client.result import Named, Result, named_tables
from federome.client.session import Session
from federome.client.wire import Wire, open_http, problem_of, read_document
from federome.errors import Damaged, FederomeError, Invalid, Refused, Unavailable
from federome.model.permit import AlgorithmRef
from federome.model.table import Table
from federome.trust.canonical import Json, digest_bytes
from federome.trust.keys import KeyRing, PrivateKey, load_private_key
from federome.trust.members import verify_members

ENDED: Final = frozenset({"COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED", "PAUSED"})
WAIT_S: Final = 25.0
GRACE_S: Final = 15.0
"""How long after its deadline a run is still waited for: the hub ends it, and may be starting anew."""


@dataclass(frozen=True)
class Event:
    """One step of a run, as the hub tells it: when (Unix seconds), what, and the run's WES state by then."""

    run: str
    at: float
    said: str
    state: str


@dataclass(frozen=True)
class Offered:
    """An algorithm that the hub offers. ``parameters`` is a JSON schema, ``releases`` the columns of each table."""

    algorithm: AlgorithmRef
    summary: str
    parameters: Mapping[str, Json]
    releases: Mapping[str, Sequence[str]]


def connect(
    url: str,
    *,
    key: Path | PrivateKey,
    person: str,
    permit: Path | str,
    passport: Path | str | Sequence[str] | None = None,
    session: Path | Session | None = None,
    certificate: Path | None = None,
    authority: Path | KeyRing | None = None,
    hub: str = "",
    patience_s: float = 10.0,
    clock: Callable[[], float] = time.time,
    http: httpx.Client | None = None,
) -> Connection:
    """A connection to the hub at ``url`` (https), for a person with their ES256 key and a permit.

    ``permit`` is a file or the signed text. ``passport``, where nodes demand one, is a broker's token, as a file or as
    text, or a list of visas. It goes to the nodes with every question, sealed to each of them, so that the hub cannot
    read it; for that the member list is needed, which ``authority`` signed: a public key file that you trust.
    ``session`` is a login (``federome login``), where the hub asks for one; a passport in it is used as well.
    ``certificate`` pins the hub's own certificate. ``hub`` is the hub's name; where it is given, a hub that calls
    itself otherwise is refused. ``patience_s`` is how long single calls are tried again while the hub is away. ``http``
    replaces the HTTPS client and stays open.
    Raises ``Invalid``, ``Refused`` or ``Unavailable``.
    """
    own = key if isinstance(key, PrivateKey) else load_private_key(key)
    if own.algorithm != "ES256":
        raise Invalid("people sign with an ES256 key.", where="key", remedy="Use a P-256 key.")
    grant = Grant.read(permit)
    logged_in = Session.load(session) if isinstance(session, Path) else session
    shows = Path(logged_in.certificate) if logged_in is not None and logged_in.certificate else None
    both = (shows, key) if shows is not None and isinstance(key, Path) else None
    opened = http or open_http(url, certificate, own=both)
    wire = Wire(opened, key=own, clock=clock, owned=http is None, session=logged_in)
    if passport is None and logged_in is not None:
        passport = logged_in.passport or None
    shown = None if passport is None else read_passport(passport)
    ring = read_authority(authority) if isinstance(authority, Path) else authority
    if shown is not None and ring is None:
        raise Invalid(
            "a passport is sealed to the nodes, and nobody says whose list of nodes counts.",
            where="authority",
            remedy="Name the authority's public key file (--authority).",
        )
    connection = Connection(
        wire, key=own, person=person, grant=grant, passport=shown, ring=ring, patience_s=patience_s, clock=clock
    )
    try:
        named = connection.hub_name()
        if hub and named != hub:
            raise Refused("this is another hub than expected.", codes=["audience_mismatch"], where=named[:80])
    except BaseException:
        wire.close()
        raise
    wire.hub = named
    return connection


class Connection:
    """See :func:`connect`. A context manager; not for use by several threads at once."""

    def __init__(
        self,
        wire: Wire,
        *,
        key: PrivateKey,
        person: str,
        grant: Grant,
        passport: Mapping[str, Json] | None = None,
        ring: KeyRing | None = None,
        patience_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._wire, self._key, self._person, self._grant = wire, key, person, grant
        self._passport, self._ring, self._patience_s, self._clock = passport, ring, patience_s, clock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go. Runs go on without it."""
        self._wire.close()

    def hub_name(self) -> str:
        """What the hub calls itself: the audience of our tokens."""
        tags = self._info().get("tags")
        name = tags.get("hub") if isinstance(tags, dict) else None
        if not isinstance(name, str) or not name:
            raise Invalid("this is no Federome hub.", remedy="Check the address.")
        return name

    def algorithms(self) -> dict[str, Offered]:
        """What the hub offers to run, by name."""
        listed = self._info().get("algorithms")
        offered = [_offered(one) for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        return {one.algorithm.name: one for one in offered}

    def datasets(self) -> dict[str, tuple[str, ...]]:
        """What the permit covers: datasets by node."""
        return self._grant.datasets

    def run(
        self,
        algorithm: str,
        *,
        datasets: Mapping[str, Sequence[str]] | Literal["all"] = "all",
        deadline_s: float = 300.0,
        quorum: int | None = None,
        allow_partial: bool = False,
        pin: str = "",
        tags: Mapping[str, str] | None = None,
        on_event: Callable[[Event], None] | None = None,
        **parameters: object,
    ) -> Result:
        """Ask, wait and fetch. ``datasets`` by node; ``parameters`` are the algorithm's own.

        With ``allow_partial`` the run goes on without nodes that refuse or are late, down to ``quorum`` nodes. ``pin``
        is the digest that the algorithm must have. ``on_event`` is told every step. Raises what the hub or a node
        raised: ``Refused`` with every reason code, ``Invalid``, or ``Unavailable`` (deadline, hub away).
        """
        question = self.question(
            algorithm,
            datasets=datasets,
            deadline_s=deadline_s,
            quorum=quorum,
            allow_partial=allow_partial,
            pin=pin,
            parameters=parameters,
        )
        run = self.submit(question, tags=tags)
        return self.resume(run, wait_s=deadline_s + GRACE_S, on_event=on_event)

    def price(
        self,
        algorithm: str,
        *,
        datasets: Mapping[str, Sequence[str]] | Literal["all"] = "all",
        deadline_s: float = 60.0,
        pin: str = "",
        **parameters: object,
    ) -> Price:
        """What ``run`` with the same arguments would cost, what would leave and who must agree. Nothing is run.

        The nodes decide as for a run, and those that refuse are ``absent``. Raises as :meth:`run` does.
        """
        question = self.question(algorithm, datasets=datasets, deadline_s=deadline_s, pin=pin, parameters=parameters)
        run = self.submit(replace(question, price_only=True))
        return Price.of(self.resume(run, wait_s=deadline_s + GRACE_S))

    def question(
        self,
        algorithm: str,
        *,
        datasets: Mapping[str, Sequence[str]] | Literal["all"] = "all",
        deadline_s: float = 300.0,
        quorum: int | None = None,
        allow_partial: bool = False,
        pin: str = "",
        parameters: Mapping[str, object] | None = None,
    ) -> Question:
        """What ``run`` asks, bound to the algorithm by digest. Nothing is signed or sent yet."""
        offered = self.algorithms()
        if algorithm not in offered:
            raise Invalid(
                f"the hub offers no {algorithm[:60]!r}.", where="algorithm", remedy=f"It has: {', '.join(offered)}."
            )
        found = offered[algorithm].algorithm
        if pin and found.digest != pin:
            raise Refused(
                "the hub offers another content of this algorithm than the pinned one.",
                codes=["algorithm_not_approved"],
                where=f"{found.name}@{found.version}",
                remedy="Review the new version, then pin its digest.",
            )
        return Question(
            algorithm=found,
            datasets=self.datasets() if datasets == "all" else datasets,
            parameters=plain(parameters or {}),
            deadline_s=deadline_s,
            quorum=quorum,
            allow_partial=allow_partial,
        )

    def submit(self, question: Question, *, tags: Mapping[str, str] | None = None) -> str:
        """Sign the orders and hand them in; gives the run's id. Does not wait for the run."""
        return self.hand_in(question, *self.signed(question), tags=tags)

    def signed(self, question: Question) -> tuple[str, dict[str, str]]:
        """A new run's id and the signed order of each node. Nothing is sent yet."""
        run = f"run-{uuid4().hex}"
        return run, sign_orders(question, self._grant, person=self._person, key=self._key, run=run, now=self._clock())

    def hand_in(
        self, question: Question, run: str, orders: Mapping[str, str], *, tags: Mapping[str, str] | None = None
    ) -> str:
        """Hand in orders that were signed before; gives the run's id."""
        form = {
            "workflow_type": "FEDEROME",
            "workflow_type_version": "1.0",
            "workflow_url": f"federome:{question.algorithm.name}@{question.algorithm.version}",
            "workflow_params": json.dumps(question.parameters),
            "workflow_engine_parameters": json.dumps(
                {"permit": self._grant.token, "orders": orders} | self._shown(run, orders)
            ),
            "tags": json.dumps(dict(tags or {})),
        }
        told = read_document(self._wire.call("POST", "/runs", patience_s=question.deadline_s, form=form))
        if told.get("run_id") != run:
            raise Damaged("the hub confirmed another run than the one handed in.", where=run)
        return run

    def _shown(self, run: str, orders: Mapping[str, str]) -> dict[str, Json]:
        """The passport for a run, if there is one: sealed anew for each."""
        if self._passport is None or self._ring is None:
            return {}
        members = verify_members(self._wire.members().strip(), self._ring, now=self._clock())
        return {"passport": seal_for(sorted(orders), dict(self._passport), members, run=run)}

    def resume(self, run: str, *, wait_s: float = 300.0, on_event: Callable[[Event], None] | None = None) -> Result:
        """Follow a run that was submitted before until it ends, and fetch its result; as :meth:`run` does."""
        left = self._follow(run, wait_s, on_event or (lambda _event: None))
        patience_s = max(left, self._patience_s)
        log = self._get(f"/runs/{_safe(run)}", patience_s)
        state, outputs = str(log.get("state")), log.get("outputs")
        if state != "COMPLETE":
            raise self._failure(run, state, log)
        provenance = outputs.get("provenance") if isinstance(outputs, dict) else None
        if not isinstance(provenance, dict):
            raise Damaged("the hub tells no provenance.", where=run)
        tables = {named.label: self._table(run, named, patience_s) for named in named_tables(provenance)}
        return Result(run, tables, provenance)

    def status(self, run: str) -> str:
        """The run's WES state: QUEUED, INITIALIZING, RUNNING, COMPLETE, EXECUTOR_ERROR or CANCELED."""
        return str(self._get(f"/runs/{_safe(run)}/status", self._patience_s).get("state"))

    def cancel(self, run: str) -> None:
        """Stop a run. One that has ended stays as it is."""
        self._wire.call("POST", f"/runs/{_safe(run)}/cancel", patience_s=self._patience_s)

    def _info(self) -> dict[str, Json]:
        return self._get("/service-info", self._patience_s)

    def _get(self, path: str, patience_s: float) -> dict[str, Json]:
        return self._wire.document("GET", path, patience_s=patience_s)

    def _follow(self, run: str, wait_s: float, on_event: Callable[[Event], None]) -> float:
        """Tell every event until the run ends; how many of ``wait_s`` seconds are left then."""
        end = self._wire.monotonic() + wait_s
        again = f"Take it up again: resume({run!r})."
        after = ""
        while True:
            left = max(end - self._wire.monotonic(), 0.0)
            params = {"after": after, "wait": f"{min(WAIT_S, left):.3f}"}
            try:
                told = self._wire.document("GET", f"/runs/{_safe(run)}/events", patience_s=left, params=params)
            except Unavailable as error:
                raise Unavailable(error.message, where=run, remedy=again) from error
            state, after = str(told.get("state")), str(told.get("next"))
            for event in _events(run, told, state):
                on_event(event)
            if state in ENDED:
                return left
            if left == 0:
                raise Unavailable("the run has not ended yet.", where=run, remedy=again)

    def _table(self, run: str, named: Named, patience_s: float) -> Table:
        params = {"format": "federome"} | ({"node": named.node} if named.node else {})
        path = f"/runs/{_safe(run)}/tables/{_safe(named.name)}"
        data = self._wire.call("GET", path, patience_s=patience_s, params=params)
        if digest_bytes(data) != named.digest:
            raise Damaged("a table is not the one that was signed.", where=f"{run}/{named.label}")
        return Table.from_bytes(data)

    def _failure(self, run: str, state: str, log: Mapping[str, Json]) -> FederomeError:
        """The error that ended the run, as if it had been raised here."""
        if state == "PAUSED":
            return Refused(
                "the result is there, and waits for two independent output checkers.",
                codes=["needs_second_reviewer"],
                where=run,
                remedy=f"Fetch it once they have released it: federome review fetch {run}",
            )
        if state == "CANCELED":
            return Invalid("the run was cancelled.", where=run, remedy="Ask again.")
        inner = log.get("run_log")
        problem = inner.get("problem") if isinstance(inner, dict) else None
        if isinstance(problem, dict):
            return problem_of(problem)
        return Unavailable(f"the run ended as {state}, and the hub does not say why.", where=run)


def _events(run: str, told: Mapping[str, Json], state: str) -> list[Event]:
    listed = told.get("events")
    events = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [Event(run, float(str(one.get("at", 0))), str(one.get("said", "")), state) for one in events]


def _offered(told: Mapping[str, Json]) -> Offered:
    parameters, releases = told.get("parameters"), told.get("releases")
    ref = AlgorithmRef.from_document({name: told.get(name) for name in ("name", "version", "digest")}, where="hub")
    return Offered(
        ref,
        str(told.get("summary", "")),
        parameters if isinstance(parameters, dict) else {},
        {name: tuple(map(str, columns)) for name, columns in releases.items() if isinstance(columns, list)}
        if isinstance(releases, dict)
        else {},
    )


def _safe(part: str) -> str:
    return quote(part, safe="")
