"""The transparency log for everybody: its newest entries, everybody's checkpoints, and a checker of receipts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

from fastapi import Request
from fastapi.responses import Response

from federome.errors import FederomeError, Invalid, Refused
from federome.network.doors import open_to
from federome.network.exchange import Exchange
from federome.portal.languages import N_
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, visit_of
from federome.trust.canonical import JsonValue, parse_object
from federome.trust.log import Receipt
from federome.trust.members import MemberSource
from federome.trust.receipts import origin_of, verify_by_any

PLACE: Final = f"{PREFIX}/log"
SHOWN: Final = 50
MAX_RECEIPT: Final = 1 << 16
_REMEDY: Final = "Paste one receipt as it stands in a result's provenance: entry, index, proof and checkpoint."


@dataclass(frozen=True)
class Line:
    """One entry of the log as it is shown: digests and names of steps, as they were written."""

    index: int
    at: datetime | None
    run: str
    what: str
    digests: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Proved:
    """What a good receipt proves: this entry is in the log of this party, of that size."""

    party: str
    size: int
    line: Line


def pages(site: Site, exchange: Exchange, members: MemberSource) -> Face:
    """The log's entries, and the receipt checker."""
    api = pages_of(site)

    def shown(request: Request, before: int, *, status: int = 200, **told: object) -> Response:
        size = exchange.record.log.frontier().size
        end = min(before, size) if before > 0 else size
        first = max(0, end - SHOWN)
        held = exchange.record.log.entries(first=first, limit=end - first) if end else []
        lines = [line_of(index, entry) for index, entry in reversed(held)]
        rows = [(party, *note.split("\n")[1:3]) for party, note in exchange.checkpoints().items()]
        values = {"given": "", "proved": None, "fault": None} | told
        return site.page(
            request, "log.html", status=status, lines=lines, size=size, first=first, checkpoint_rows=rows, **values
        )

    @api.get("/log")
    @open_to("anyone")
    def log(request: Request, before: int = 0) -> Response:
        return shown(request, before)

    @api.post("/log")
    @open_to("anyone")
    def check(request: Request) -> Response:
        given = visit_of(request).one("receipt")
        try:
            return shown(request, 0, given=given, proved=checked(given, members, now=site.clock()))
        except FederomeError as fault:
            return shown(request, 0, given=given[:MAX_RECEIPT], fault=fault, status=fault.status)

    return Face(
        api,
        (
            MenuEntry(
                N_("Transparency log"),
                PLACE,
                says=N_("A record of every run that can only grow. Check a receipt yourself."),
            ),
        ),
    )


def checked(text: str, members: MemberSource, *, now: float) -> Proved:
    """What a pasted receipt proves under the keys of the member list; refused or damaged where it proves nothing."""
    if not text or len(text) > MAX_RECEIPT:
        raise Invalid("a receipt is needed, of at most 64 kB.", where="receipt", remedy=_REMEDY)
    try:
        receipt = Receipt.from_document(parse_object(text.encode()))
        parse_object(receipt.entry)
    except Invalid as error:
        raise Invalid("this is not a receipt.", where="receipt", remedy=_REMEDY) from error
    origin = receipt.checkpoint.partition("\n")[0]
    party = unquote(origin.removeprefix(origin_of("")))
    members.refresh()
    keys = members.ring().owned_by(party, now=now)
    if not keys:
        raise Refused("no party of the member list keeps this log.", codes=["issuer_untrusted"], remedy=_REMEDY)
    found = verify_by_any(receipt, party=party, keys=keys)
    return Proved(party, found.size, line_of(receipt.index, receipt.entry))


def line_of(index: int, entry: bytes) -> Line:
    """An entry for people; other members than the usual ones are shown as they are."""
    told = parse_object(entry)
    at = told.get("at")
    when = datetime.fromtimestamp(at, UTC) if isinstance(at, int | float) and 0 <= at < 1e11 else None
    rest = tuple((name, _text(value)) for name, value in told.items() if name not in ("at", "run", "what"))
    return Line(index, when, _text(told.get("run", "")), _text(told.get("what", "")), rest)


def _text(value: JsonValue) -> str:
    return str(value)[:300]
