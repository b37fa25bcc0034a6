"""``POST /consents`` at a node's portal: a program that keeps consents elsewhere tells a change, and it holds at once.

No page: JSON in and out, a token in the place of a login, problems as RFC 9457 says.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from federome.errors import FederomeError, Invalid
from federome.network.consent_sources import Source, events_of, source_of
from federome.network.doors import open_to
from federome.network.holdings import people_among
from federome.network.house import House
from federome.portal.site import Face, Site

MOST_BYTES: Final = 4 << 20


def routes(site: Site, house: House) -> Face:
    """The one route. Whether a token is right is looked up before anything of the body is read."""
    api = APIRouter(include_in_schema=False)

    @api.post("/consents")
    @open_to("source")
    async def tell(request: Request) -> Response:
        try:
            site.requests.take(request.client.host if request.client else "")
            source = await run_in_threadpool(source_of, house.folder, request.headers.get("authorization", ""))
            body = await _body(request)
            return JSONResponse(await run_in_threadpool(_tell, site, house, source, body))
        except FederomeError as error:
            return JSONResponse(error.problem(), status_code=error.status, media_type="application/problem+json")

    return Face(api)


def _tell(site: Site, house: House, source: Source, body: bytes) -> dict[str, int]:
    now = site.now()
    events = events_of(body, source, lambda ids: people_among(house.holdings.store, source.datasets, ids), now=now)
    return {"told": len(events), "new": house.consents.tell(events, now=now)}


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise Invalid("this is too long.", where="body", remedy=f"At most {MOST_BYTES >> 20} MB at once.")
    return body
