"""Output review over HTTP, beside the runs it is about: lists for checkers, signed votes, and a way to contest.

Additions under the WES prefix, so that one token and one address serve all. Tables of a result that waits are shown to
appointed checkers only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from federome.errors import Invalid, Missing, Refused
from federome.model.sheet import csv_pieces
from federome.model.table import Table
from federome.network.doors import open_to
from federome.network.hub import bounded
from federome.network.ledger import Ledger
from federome.network.output_queue import OutputQueue
from federome.network.protocol import Body, text
from federome.standards import wes_documents as documents
from federome.standards.wes import PREFIX, ProblemRoute, who_asks
from federome.trust.canonical import parse_object

MAX_VOTE_BYTES: Final = 1 << 15


def router(queue: OutputQueue, ledger: Ledger, *, people: Callable[[Request], str]) -> APIRouter:
    """The routes for one hub's queue."""
    api = APIRouter(prefix=f"{PREFIX}/reviews", route_class=ProblemRoute)

    def caller(request: Request) -> str:
        return who_asks(request, people)

    @api.get("")
    @open_to("person")
    def listed(request: Request) -> JSONResponse:
        return JSONResponse({"reviews": queue.listed(caller(request))})

    @api.get("/{run_id}")
    @open_to("reviewer")
    def show(request: Request, run_id: str) -> JSONResponse:
        return JSONResponse(queue.show(run_id, caller(request)))

    @api.get("/{run_id}/tables")
    @open_to("reviewer")
    def table(request: Request, run_id: str, file: str) -> StreamingResponse:
        digest, table = read_file(queue, ledger, run_id, caller(request), file)
        return StreamingResponse(csv_pieces(table), media_type="text/csv", headers={"Federome-Digest": digest})

    @api.post("/votes")
    @open_to("person")
    async def vote(request: Request) -> JSONResponse:
        caller(request)
        body = await _read(request)
        return JSONResponse(await run_in_threadpool(queue.vote, text(body, "vote")))

    @api.post("/{run_id}/contest")
    @open_to("owner")
    async def contest(request: Request, run_id: str) -> JSONResponse:
        who = caller(request)
        await run_in_threadpool(queue.asked, run_id, who)  # whose run it is comes before what they say
        body = await _read(request)
        return JSONResponse(await run_in_threadpool(queue.contest, run_id, who, text(body, "reasons")))

    return api


def read_file(queue: OutputQueue, ledger: Ledger, run_id: str, who: str, file: str) -> tuple[str, Table]:
    """A file of a result that waits, with its digest, for a checker."""
    run = queue.run(run_id, who)
    queue.check_reader(run, who)
    wanted = [each for each in documents.files(run) if "/".join(filter(None, (each.node, each.name))) == file]
    if not wanted:
        raise Missing("the result has no such file.", where=file[:80])
    data = b"".join(ledger.stream(run.id, f"document/{wanted[0].digest}"))
    return wanted[0].digest, Table.from_bytes(data)


@dataclass(frozen=True)
class KeyChecks:
    """The same by the thumbprint of a proven key, for pages: ``portal.pages.checks.Checks``."""

    queue: OutputQueue
    ledger: Ledger

    def listed(self, key: str) -> Sequence[Mapping[str, Any]]:
        """Results that wait."""
        return self.queue.listed(key)

    def show(self, key: str, run: str) -> Mapping[str, Any]:
        """One of them; ``Missing`` where nothing of a run waits, too."""
        try:
            return self.queue.show(run, key)
        except Invalid as error:
            raise Missing("there is no such result.") from error

    def reads(self, key: str, run: str) -> bool:
        """Whether this is a checker."""
        try:
            self.queue.check_reader(self.queue.run(run, key), key)
        except Refused:
            return False
        return True

    def table(self, key: str, run: str, file: str) -> Table:
        """One of its files."""
        return read_file(self.queue, self.ledger, run, key, file)[1]

    def contest(self, key: str, run: str, reasons: str) -> None:
        """Contest a rejection of one's own."""
        self.queue.asked(run, key)
        self.queue.contest(run, key, reasons)


async def _read(request: Request) -> Body:
    data = await bounded(request, MAX_VOTE_BYTES)
    if not data:
        raise Invalid("the request has no body.", remedy="Send a JSON object.")
    return parse_object(data)
