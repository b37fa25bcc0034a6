"""The outer face of runs: GA4GH WES 1.1 at the hub, for people and their programs.

It translates between WES and the coordinator and decides nothing: orders and permits pass through as they were
signed, and every node checks them for itself. Callers are told apart by their own key; a run is visible only to the
key that submitted it. Additions to WES are progress by long poll (``/events``) and released tables (``/tables``).
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from federome.errors import FederomeError, Invalid, Missing, Refused, Unavailable
from federome.governance.orders import claimed_order
from federome.model.order import RunOrder
from federome.model.sheet import csv_pieces, json_pieces
from federome.model.table import Table
from federome.network.course import ENDED
from federome.network.doors import open_to
from federome.network.jobs import Coordinator
from federome.network.ledger import Answered, Run
from federome.network.login import People
from federome.network.offers import Offer
from federome.network.people import read_sealed
from federome.network.protocol import Body, mapping, text
from federome.standards import wes_documents as documents
from federome.standards.form import read_form
from federome.standards.service_info import Operator, tested
from federome.trust.canonical import Json, canonical, parse, parse_object
from federome.trust.signing import peek

PREFIX: Final = "/ga4gh/wes/v1"
WAIT_S: Final = 25.0
MAX_FORM_BYTES: Final = 16 << 20
MAX_PAGE: Final = 100
MAX_COUNTED: Final = 10_000
TABLE_TYPE: Final = "application/vnd.federome.table"
_FIELDS: Final = frozenset(
    {
        "workflow_type",
        "workflow_type_version",
        "workflow_url",
        "workflow_params",
        "workflow_engine",
        "workflow_engine_version",
        "workflow_engine_parameters",
        "tags",
    }
)
# Narrower than an order's identifiers: a run's id stands in addresses.
_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_WAITS: Final = (0.02, 0.25)
PageSize = Annotated[int, Query(ge=1)]


class Unknown(Refused):
    """The caller did not show who they are."""

    title = "Who asks?"
    status = 401


@dataclass(frozen=True)
class Submission:
    """What POST /runs was given, read and found to belong together."""

    permit: str
    orders: Mapping[str, str]
    order: RunOrder
    tags: Mapping[str, str]
    passport: Mapping[str, str] | None = None
    sealed: Mapping[str, str] = field(default_factory=dict)


class ProblemRoute(APIRoute):
    """Errors as problem documents (RFC 9457) that are WES ErrorResponses as well; nothing is cached on the way."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[None, None, Response]]:
        handler = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                response = await handler(request)
            except FederomeError as error:
                response = _problem(error)
            except RequestValidationError as error:
                names = sorted({str(fault["loc"][-1]) for fault in error.errors()})
                response = _problem(Invalid("a parameter of the address is wrong.", where=", ".join(names)[:200]))
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return told


def who_asks(request: Request, people: Callable[[Request], str]) -> str:
    """The thumbprint of the key that asks; ``Unknown`` (401) without a good token."""
    try:
        return people(request)
    except Refused as error:
        raise Unknown(error.message, codes=error.codes, remedy=error.remedy) from error


class _Desk:
    """The coordinator's runs as one caller may see them."""

    def __init__(self, coordinator: Coordinator, people: Callable[[Request], str]) -> None:
        self._coordinator, self._people = coordinator, people
        self._ledger = coordinator.ledger

    def caller(self, request: Request) -> str:
        """See :func:`who_asks`."""
        return who_asks(request, self._people)

    def run(self, run_id: str, person: str) -> Run:
        """A run of this person; ``Missing`` otherwise."""
        missing = Missing("no such run.", where=run_id[:80])
        try:
            run = self._ledger.run(run_id)
        except Invalid:
            raise missing from None
        if run.person != person:
            raise missing
        return run

    def submit(self, person: str, submission: Submission) -> str:
        """Hand a run to the coordinator. The same submission again is the same run."""
        run_id = submission.order.run
        try:
            held = self.run(run_id, person)
        except Missing:
            run = self._coordinator.submit(
                submission.permit,
                submission.orders,
                person=person,
                passport=submission.passport,
                sealed=submission.sealed,
            )
            self._ledger.put(run.id, "tags", "", canonical(submission.tags))
        else:
            if (held.detail["orders"], held.detail["permit"]) != (dict(submission.orders), submission.permit):
                raise Invalid("a run with this id exists.", remedy="Sign new orders with a new run id.")
        return run_id

    def cancel(self, run: Run) -> None:
        """Stop a run."""
        self._coordinator.cancel(run.id)

    def tags(self, run: Run) -> dict[str, str]:
        """The caller's own labels; none, if the hub stopped before it could note them."""
        try:
            held = parse_object(self._ledger.get(run.id, "tags"))
        except Unavailable:
            return {}
        return {name: str(value) for name, value in held.items()}

    def page(self, person: str, size: int, after: tuple[float, str] | None) -> list[Run]:
        """Runs of a person, newest first, that stand behind ``after``; one more than ``size``, if there are more."""
        limit = size + 1
        while True:
            runs = self._ledger.runs(person=person, limit=limit)
            behind = [run for run in runs if after is None or (-run.created, run.id) > (-after[0], after[1])]
            if len(behind) > size or len(runs) < limit:
                return behind[: size + 1]
            limit *= 2

    def answered(self) -> list[str]:
        """The ids of everybody's runs that were answered, the newest first."""
        return self._ledger.answered(limit=MAX_COUNTED)

    def any(self, run_id: str) -> Run:
        """A run, whoever asked."""
        return self._ledger.run(run_id)

    def answers(self, run: Run, seq: int) -> list[Answered]:
        """What the parties of one step answered."""
        return self._ledger.answers(run.id, seq)

    def tasks(self, run: Run, size: int, after: tuple[int, int]) -> list[tuple[str, Answered]]:
        """Parts of the run's steps behind ``after`` (step, place), oldest first, numbered; at most ``size`` + 1."""
        found: list[tuple[str, Answered]] = []
        for seq in range(max(after[0], 1), run.seq + 1):
            for place, task in enumerate(self._ledger.answers(run.id, seq)):
                if (seq, place) > after:
                    found.append((f"{seq}.{place}", task))
            if len(found) > size:
                break
        return found[: size + 1]

    def pieces(self, run: Run, digest: str) -> Iterator[bytes]:
        """The bytes of a released table; the first piece is read now, so that a missing one is a proper error."""
        pieces = self._ledger.stream(run.id, f"document/{digest}")
        return chain([next(pieces, b"")], pieces)


class KeyRuns:
    """The runs of one key at a time, for pages: ``portal.pages.runs.Runs``."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._desk = _Desk(coordinator, lambda _request: "")
        self._answered: dict[str, tuple[str, str]] = {}

    def listed(self, key: str) -> list[Mapping[str, object]]:
        """The newest runs of a key."""
        return [documents.listed(run) for run in self._desk.page(key, MAX_PAGE, None)[:MAX_PAGE]]

    def counted(self) -> Mapping[str, Mapping[str, int]]:
        """How many questions were answered, by permit and algorithm; prices are none."""
        found: dict[str, dict[str, int]] = {}
        for run in self._desk.answered():
            if run not in self._answered:  # which does not change: a run is read once for all visitors
                told = documents.listed(self._desk.any(run))
                self._answered[run] = ("", "") if told["priced"] else (str(told["permit"]), str(told["algorithm"]))
            permit, algorithm = self._answered[run]
            if permit:
                counts = found.setdefault(permit, {})
                counts[algorithm] = counts.get(algorithm, 0) + 1
        return found

    def told(self, key: str, run: str) -> Mapping[str, object]:
        """One of them, with everything that its owner may know."""
        held = self._desk.run(run, key)
        return documents.told(held, first=self._desk.answers(held, 1), last=self._desk.answers(held, held.seq))

    def version(self, key: str, run: str) -> str:
        """Changes whenever there is something new to tell."""
        held = self._desk.run(run, key)
        done = sum(part.done for part in self._desk.answers(held, held.seq))
        return f"{held.state} {held.seq} {done} {len(documents.progress(held, '')['events'])}"  # type: ignore[arg-type]

    def table(self, key: str, run: str, name: str, node: str) -> Table:
        """A released table."""
        held = self._desk.run(run, key)
        return Table.from_bytes(b"".join(self._desk.pieces(held, _released(held, name, node).digest)))

    def cancel(self, key: str, run: str) -> None:
        """Stop it."""
        self._desk.cancel(self._desk.run(run, key))


def _released(run: Run, name: str, node: str) -> documents.Where:
    for where in documents.tables(run):
        if (where.name, where.node) == (name, node):
            return where
    raise Missing("the run released no such table.", where=name[:80])


def router(
    coordinator: Coordinator,
    *,
    hub: str,
    clock: Callable[[], float],
    operator: Operator,
    offers: Sequence[Offer],
    stopping: threading.Event | None = None,
    people: Callable[[Request], str] | None = None,
    nodes: Callable[[], Body] = dict,
) -> APIRouter:
    """WES for one hub. ``hub`` is its name, the audience of every token; ``offers`` are ``network.offers.offers()``.

    ``people`` tells whose key asks: by their own token, and with ``hub.people`` by that of a login, too. ``stopping``
    ends open long polls when the hub is about to stop. ``nodes`` are the nodes' own words about themselves.
    """
    api = APIRouter(prefix=PREFIX, route_class=ProblemRoute)
    desk = _Desk(coordinator, people or People(hub, clock))

    @api.get("/service-info")
    @open_to("anyone")
    def service_info() -> JSONResponse:
        found = tested({"ledger of runs": lambda: coordinator.ledger.has(""), "member list": coordinator.members.ring})
        return JSONResponse({**documents.about(operator, offers, hub=hub, self_test=found), "nodes": nodes()})

    _add_runs(api, desk)
    _add_tasks(api, desk)
    _add_events(api, desk, stopping or threading.Event())
    _add_tables(api, desk)
    return api


def _add_runs(api: APIRouter, desk: _Desk) -> None:
    @api.post("/runs")
    @open_to("person")
    async def submit(request: Request) -> JSONResponse:
        person = desk.caller(request)
        form = read_form(request.headers.get("content-type", ""), await _body(request))
        submission = await run_in_threadpool(read_submission, form, person)
        return JSONResponse({"run_id": await run_in_threadpool(desk.submit, person, submission)})

    @api.get("/runs")
    @open_to("person")
    def runs(request: Request, page_size: PageSize = 50, page_token: str = "") -> JSONResponse:
        person = desk.caller(request)
        size = min(page_size, MAX_PAGE)
        found = desk.page(person, size, _read_place(page_token) if page_token else None)
        shown = found[:size]
        following = _place(shown[-1]) if len(found) > size else ""
        listed: list[Json] = [documents.summary(run, desk.tags(run)) for run in shown]
        return JSONResponse({"runs": listed, "next_page_token": following})

    @api.get("/runs/{run_id}")
    @open_to("owner")
    def run_log(request: Request, run_id: str) -> JSONResponse:
        run = desk.run(run_id, desk.caller(request))
        base = f"{str(request.base_url).rstrip('/')}{PREFIX}/runs/{run.id}"
        first, last = desk.answers(run, 1), desk.answers(run, run.seq)
        return JSONResponse(documents.run_log(run, desk.tags(run), base=base, first=first, last=last))

    @api.get("/runs/{run_id}/status")
    @open_to("owner")
    def status(request: Request, run_id: str) -> JSONResponse:
        run = desk.run(run_id, desk.caller(request))
        return JSONResponse({"run_id": run.id, "state": documents.state(run)})

    @api.post("/runs/{run_id}/cancel")
    @open_to("owner")
    def cancel(request: Request, run_id: str) -> JSONResponse:
        run = desk.run(run_id, desk.caller(request))
        desk.cancel(run)
        return JSONResponse({"run_id": run.id})


def _add_tasks(api: APIRouter, desk: _Desk) -> None:
    @api.get("/runs/{run_id}/tasks")
    @open_to("owner")
    def tasks(request: Request, run_id: str, page_size: PageSize = 50, page_token: str = "") -> JSONResponse:
        run = desk.run(run_id, desk.caller(request))
        size = min(page_size, MAX_PAGE)
        after = _read_task(page_token, Invalid("the page token is not one of ours.")) if page_token else (0, 0)
        found = desk.tasks(run, size, after)
        shown: list[Json] = [documents.task_log(task, number) for number, task in found[:size]]
        following = found[size - 1][0] if len(found) > size else ""
        return JSONResponse({"task_logs": shown, "next_page_token": following})

    @api.get("/runs/{run_id}/tasks/{task_id}")
    @open_to("owner")
    def task(request: Request, run_id: str, task_id: str) -> JSONResponse:
        run = desk.run(run_id, desk.caller(request))
        missing = Missing("no such task.", where=task_id[:80])
        step, place = _read_task(task_id, missing)
        parts = desk.answers(run, step)
        if not place < len(parts):
            raise missing
        return JSONResponse(documents.task_log(parts[place], task_id))


def _add_events(api: APIRouter, desk: _Desk, stopping: threading.Event) -> None:
    @api.get("/runs/{run_id}/events")
    @open_to("owner")
    async def events(
        request: Request, run_id: str, after: str = "", wait: Annotated[float, Query(ge=0, le=WAIT_S)] = WAIT_S
    ) -> JSONResponse:
        person = desk.caller(request)
        end = time.monotonic() + wait
        pause, longest = _WAITS
        while True:
            run = await run_in_threadpool(desk.run, run_id, person)
            told = documents.progress(run, after)
            left = end - time.monotonic()
            if told["events"] or run.state in ENDED or left <= 0 or await request.is_disconnected():
                return JSONResponse(told)
            if stopping.is_set():
                # Not an empty answer: the caller would ask again at once, as long as anybody listens.
                raise Unavailable("the hub is about to stop.", remedy="Ask again in a moment.")
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)


def _add_tables(api: APIRouter, desk: _Desk) -> None:
    @api.get("/runs/{run_id}/tables/{name}")
    @open_to("owner")
    def table(
        request: Request, run_id: str, name: str, format: documents.Format = "json", node: str = ""
    ) -> StreamingResponse:
        run = desk.run(run_id, desk.caller(request))
        wanted = _released(run, name, node)
        headers = {"Federome-Digest": wanted.digest}
        pieces = desk.pieces(run, wanted.digest)
        if format == "federome":
            return StreamingResponse(pieces, media_type=TABLE_TYPE, headers=headers)
        read = Table.from_bytes(b"".join(pieces))
        if format == "csv":
            return StreamingResponse(csv_pieces(read), media_type="text/csv", headers=headers)
        return StreamingResponse(json_pieces(read), media_type="application/json", headers=headers)


def read_submission(form: Mapping[str, str], person: str) -> Submission:
    """A run request that belongs together and was signed by the caller's own key; ``Invalid`` or ``Refused`` else.

    The nodes verify signatures and content; here is only what makes the request one request.
    """
    if foreign := sorted(set(form) - _FIELDS):
        raise Invalid(f"a run request has no field {foreign[0][:40]!r}.", where="form")
    _expect(form, "workflow_type", documents.WORKFLOW_TYPE, required=True)
    _expect(form, "workflow_type_version", documents.WORKFLOW_TYPE_VERSION, required=True)
    _expect(form, "workflow_engine", documents.ENGINE, required=False)
    engine = _object(form, "workflow_engine_parameters")
    orders = {node: text(_orders(engine), node) for node in _orders(engine)}
    if not orders:
        raise Invalid("no order was given.", where="workflow_engine_parameters")
    for node, token in orders.items():
        if peek(token).header.get("kid") != person:
            raise Refused(
                "an order was signed with another key than the caller's.", codes=["issuer_untrusted"], where=node
            )
    order = claimed_order(next(iter(orders.values())))
    if not _RUN_ID.fullmatch(order.run):
        raise Invalid("the run's id has characters that an address cannot hold.", where="run", remedy="Use a UUID.")
    if form.get("workflow_url") != f"federome:{order.algorithm.name}@{order.algorithm.version}":
        raise Invalid("workflow_url is not the ordered algorithm.", remedy="Write federome:ALGORITHM@VERSION.")
    if "workflow_params" in form and _object(form, "workflow_params") != order.parameters:
        raise Invalid("workflow_params are not the ordered parameters.", remedy="Send what the orders say.")
    passport = read_sealed(_document(engine["passport"]), orders) if "passport" in engine else None
    letters = mapping({"sealed": _document(engine.get("sealed", {}))}, "sealed")
    sealed = {node: text(letters, node) for node in letters}
    return Submission(text(engine, "permit"), orders, order, _tags(form), passport, sealed)


def _expect(form: Mapping[str, str], name: str, value: str, *, required: bool) -> None:
    if form.get(name, None if required else value) != value:
        raise Invalid(f"{name} is not {value!r}.", where=name, remedy=f"Send {name}={value}.")


def _object(form: Mapping[str, str], name: str) -> dict[str, Json]:
    try:
        return parse_object(form.get(name, "{}").encode(), max_bytes=MAX_FORM_BYTES)
    except Invalid as error:
        raise Invalid(error.message, where=name, remedy=error.remedy) from error


def _orders(engine: Body) -> Body:
    """Node → order: a JSON object, or the text of one, as RunLog tells it."""
    return mapping({"orders": _document(engine.get("orders"))}, "orders")


def _document(told: Json) -> Json:
    return parse(told.encode(), max_bytes=MAX_FORM_BYTES) if isinstance(told, str) else told


def _tags(form: Mapping[str, str]) -> dict[str, str]:
    tags = _object(form, "tags")
    out = {name: value for name, value in tags.items() if isinstance(value, str)}
    if len(out) != len(tags) or len(out) > 50 or any(len(n) > 100 or len(v) > 1000 for n, v in out.items()):
        raise Invalid("tags are at most 50 short texts.", where="tags", remedy='Send {"name": "text"}.')
    return out


def _place(run: Run) -> str:
    return f"{run.created.hex()}~{run.id}"


def _read_place(token: str) -> tuple[float, str]:
    created, _, run = token.partition("~")
    try:
        return float.fromhex(created), run
    except (ValueError, OverflowError):
        raise Invalid("the page token is not one of ours.", where="page_token") from None


def _read_task(number: str, otherwise: FederomeError) -> tuple[int, int]:
    if not re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}", number):
        raise otherwise
    step, _, place = number.partition(".")
    return int(step), int(place)


async def _body(request: Request) -> bytes:
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) > MAX_FORM_BYTES:
            raise Invalid(f"a run request has at most {MAX_FORM_BYTES >> 20} MB.")
    return bytes(held)


def _problem(error: FederomeError) -> Response:
    body: Body = {**error.problem(), "msg": str(error), "status_code": error.status}  # type: ignore[dict-item]
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}.get(error.status, {})
    return JSONResponse(body, status_code=error.status, media_type="application/problem+json", headers=headers)
