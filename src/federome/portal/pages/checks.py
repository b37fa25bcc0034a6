"""Results that wait for two output checkers: the queue, one result with its files and their digest, and what was said.

A vote counts by the checker's own signature over the digest that is shown, so it is cast with ``federome review``; the
page shows it as soon as it is. Whoever asked finds their own result here, without its tables, and can contest a
rejection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from fastapi import Request
from fastapi.responses import Response

from federome.errors import Invalid, Missing
from federome.model.sheet import csv_pieces
from federome.model.table import Table
from federome.network.doors import Caller, open_to
from federome.portal.languages import N_
from federome.portal.pages.runs import key_of
from federome.portal.results import heads_of, rows_of
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, see, visit_of

PLACE: Final = f"{PREFIX}/checks"
STATES: Final[Mapping[str, tuple[str, str]]] = {
    "waiting": (N_("Waits for output checkers"), "care"),
    "rejected": (N_("Rejected"), "bad"),
    "contested": (N_("Contested: two others look"), "care"),
    "released": (N_("Released"), "good"),
    "closed": (N_("Rejected twice, and destroyed"), "bad"),
}
SAID: Final[Mapping[str, str]] = {
    "approve": N_("approves"),
    "reject": N_("rejects"),
    "comment": N_("comments"),
    "contest": N_("contests"),
}


class Checks(Protocol):
    """A hub's results that wait, by the thumbprint of whoever asks. ``Missing`` for somebody without a part in one."""

    def listed(self, key: str) -> Sequence[Mapping[str, Any]]:
        """Results that wait: all for a checker, else one's own."""

    def show(self, key: str, run: str) -> Mapping[str, Any]:
        """One result: method, parameters, ``state``, ``classes``, ``files``, ``files_digest``, ``entries``."""

    def reads(self, key: str, run: str) -> bool:
        """Whether this is a checker, who sees the tables; else whoever asked."""

    def table(self, key: str, run: str, file: str) -> Table:
        """One of its files, for a checker."""

    def contest(self, key: str, run: str, reasons: str) -> None:
        """Not to accept a rejection of one's own result."""


def pages(site: Site, checks: Checks) -> Face:
    """The queue, one result, its files, and the contest."""
    api = pages_of(site)

    def key(request: Request) -> str:
        held = key_of(visit_of(request).registered())
        if not held:
            raise Missing("there is no such result.")
        return held

    @api.get("/checks")
    @open_to("output-reviewer")
    def queue(request: Request) -> Response:
        held = key_of(visit_of(request).registered())
        listed = checks.listed(held) if held else ()
        return site.page(request, "checks.html", key=held, waiting=listed, states=STATES)

    @api.get("/checks/{run}")
    @open_to("named")
    def one(request: Request, run: str) -> Response:
        held = key(request)
        told, reader = checks.show(held, run), checks.reads(held, run)
        shown = told["files"] if reader and told["state"] != "closed" else ()  # a closed one was destroyed
        tables = [(name, checks.table(held, run, name)) for name in shown]
        language = visit_of(request).language
        return site.page(
            request,
            "check.html",
            told=told,
            reader=reader,
            tables=[(name, heads_of(table), rows_of(table, language), table.rows) for name, table in tables],
            states=STATES,
            said=SAID,
        )

    @api.get("/checks/{run}/file.csv")
    @open_to("named")
    def file(request: Request, run: str, name: str = "") -> Response:
        table = checks.table(key(request), run, name)
        headers = {"Content-Disposition": 'attachment; filename="table.csv"'}
        return Response("".join(csv_pieces(table)), media_type="text/csv", headers=headers)

    @api.post("/checks/{run}/contest")
    @open_to("named")
    def contest(request: Request, run: str) -> Response:
        reasons = visit_of(request).one("reasons")
        held = key(request)
        checks.show(held, run)
        if not reasons:
            raise Invalid("this needs reasons.", where="reasons", remedy="Say why, in a sentence.")
        checks.contest(held, run, reasons)
        return see(f"{PLACE}/{run}")

    to: frozenset[Caller] = frozenset({"output-reviewer"})
    return Face(
        api, (MenuEntry(N_("Results to check"), PLACE, to, N_("Results that wait for two people before they leave.")),)
    )
