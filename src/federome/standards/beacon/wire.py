"""Requests to a Beacon read within bounds of size and time, answers as they are sent, no more at a time than it holds.

Above its capacity a Beacon says so at once, with the time after which to try again: whoever waits in a queue without
end is not answered either, and the queue takes memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from federome.errors import FederomeError, Invalid, Unavailable
from federome.standards.beacon import documents
from federome.standards.beacon.documents import Identity
from federome.standards.beacon.request import Asked, from_body, from_query
from federome.trust.canonical import Json

MAX_BODY: Final = 1 << 18
MAX_QUERY: Final = 1 << 14
BODY_S: Final = 10.0
"""How long a body may take to arrive."""
PIECE: Final = 1 << 18
SEND_S: Final = 60.0
"""How long a reader may take for an answer."""
CAPACITY: Final = 64
"""Requests answered at a time: that many pages of a few MB are what a small machine holds."""
RETRY_S: Final = 1
HEADERS: Final = {
    "access-control-allow-origin": "*",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder().decode


async def read_asked(request: Request) -> Asked:
    """The question of a GET or POST."""
    if len(request.url.query) > MAX_QUERY:
        raise Invalid("the address is too long.", remedy="Send a POST.")
    if request.method == "GET":
        return from_query(request.query_params.multi_items())
    return from_body(await _body(request))


async def _body(request: Request) -> Json | Mapping[str, object]:
    held = bytearray()
    with anyio.move_on_after(BODY_S) as patience:
        async for piece in request.stream():
            held += piece
            if len(held) > MAX_BODY:
                raise Invalid("the request is too large.", remedy=f"Send at most {MAX_BODY >> 10} kB.")
    if patience.cancelled_caught:
        raise Invalid("the request did not arrive in time.", where="body", remedy="Send it at once.")
    if not held:
        return {}
    try:
        told: Json = _DECODE(bytes(held))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("the request is not JSON.", where="body") from None
    return told


class _Pieces(Response):
    """A long body handed over as its reader takes it, so that whoever does not read holds one place and no buffer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as in Response
        """See the ASGI specification. A reader that takes too long is left."""
        body = memoryview(self.body)
        with anyio.move_on_after(SEND_S):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(body), PIECE):
                more = start + PIECE < len(body)
                await send(
                    {"type": "http.response.body", "body": bytes(body[start : start + PIECE]), "more_body": more}
                )


def sent(body: bytes, status: int = 200, headers: Mapping[str, str] = HEADERS) -> Response:
    """An encoded document."""
    kind = _Pieces if len(body) > PIECE else Response
    return kind(body, status_code=status, media_type="application/json", headers=headers)


def failed(identity: Identity, failure: FederomeError) -> Response:
    """A failure as Beacon tells it; one that may pass says when to try again."""
    headers = HEADERS | ({"retry-after": str(RETRY_S)} if failure.status == Unavailable.status else {})
    return sent(_ENCODE(documents.error(identity, failure)), failure.status, headers)


class Capacity:
    """Answers at most so many requests at a time, and refuses others before anything is read of them."""

    def __init__(self, app: ASGIApp, *, most: int, identity: Identity) -> None:
        self._app, self._most, self._inside = app, most, 0
        self._full = failed(identity, Unavailable("more is asked at this moment than can be answered.",
                                                  remedy=f"Try again after {RETRY_S} s."))  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._inside >= self._most:
            await self._full(scope, receive, send)
        else:
            self._inside += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._inside -= 1
