"""A Matchmaker Exchange node: ``/match``, ``/metrics``, ``/heartbeat``, over one corpus, for peers with a key or token.

Patients here are those whose clinicians share them with the exchange: a peer is shown the whole document, as its rules
demand. A test question meets test patients only, tells nobody and is not counted; a real one never meets them.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from federome.analysis.match_search import LEAD_OVER, Corpus
from federome.analysis.matching import Background, Measure
from federome.errors import FederomeError, Invalid, Refused
from federome.network.doors import open_to
from federome.standards import mme
from federome.standards.mme import Entry, Told
from federome.trust.canonical import Json, canonical, parse
from federome.trust.keys import KeyRing
from federome.trust.signing import OWN_ALGORITHMS, check_claims, verify

MAX_BODY: Final = 2 << 20
MAX_RESULTS: Final = 10
FLOOR: Final = 0.05
FLAT: Final = Background({}, 0.005, "one in 200, for lack of a table")
DISCLAIMER: Final = "Similarity of patients, not a diagnosis. Data are shared for this question only."
TERMS: Final = "Use results to find a cause for the patient asked about; do not re-identify, keep or pass on patients."

Verify = Callable[[str], str | None]
Notify = Callable[[Entry, Sequence[Entry]], None]


@dataclass(frozen=True)
class Counters:
    """Requests received and matches sent, tests aside."""

    received: int = 0
    sent: int = 0


@dataclass(eq=False)
class Exchange:
    """What a node of the exchange holds. ``keys`` maps the SHA-256 of an API key to the peer it was given to.

    ``verify`` tells whose OAuth bearer token it is, if anybody's; ``notify`` is told of real matches.
    """

    measure: Measure
    entries: tuple[Entry, ...]
    keys: Mapping[str, str]
    clock: Callable[[], float]
    verify: Verify = lambda _token: None
    notify: Notify = lambda _asked, _found: None
    background: Background = FLAT
    production: bool = False
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self.corpus = Corpus.of(self.measure, (entry.patient for entry in self.entries))
        self.tests = np.array([entry.test for entry in self.entries], np.bool_)
        self._lock = threading.Lock()

    def peer(self, headers: Mapping[str, str]) -> str:
        """Who asks; ``Refused`` (401) without a known API key or bearer token."""
        digest = hashlib.sha256(headers.get("x-auth-token", "").encode()).hexdigest()
        found = next((name for known, name in self.keys.items() if hmac.compare_digest(known, digest)), None)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if found is None and scheme.lower() == "bearer" and token:
            found = self.verify(token.strip())
        if found is None:
            raise Unauthorised("this needs an API key (X-Auth-Token) or a bearer token.", codes=["unauthenticated"])
        return found

    def match(self, asked: Entry) -> Told:
        """The best patients for one, those of the same kind (test or real) only."""
        # another node's ids are its own: ours of the same name is a candidate like any other
        patient = replace(asked.patient, id=f"asked:{asked.patient.id}")
        query = self.measure.profile(patient)
        notes = [f"{each.term} was ignored: {each.why}" for each in query.ignored] + list(asked.notes)
        if not query.rows and not patient.genes:
            notes.append("nothing of this patient could be used: this is not the same as no match")
        allowed = self.tests if asked.test else ~self.tests
        listed = self.corpus.rank(query, max(MAX_RESULTS, LEAD_OVER), self.background, allowed)
        chances = self.corpus.chances(query, listed, genes=True)
        ranked = [
            (chance, self.entries[match.number])
            for chance, match in zip(chances, listed[:MAX_RESULTS], strict=False)
            if chance >= FLOOR or match.gene_evidence > 0
        ]
        ranked.sort(key=lambda pair: -pair[0])
        if not asked.test:
            with self._lock:
                self.counters = Counters(self.counters.received + 1, self.counters.sent + len(ranked))
            self.notify(asked, [entry for _, entry in ranked])
        return mme.answer(ranked, disclaimer=DISCLAIMER, terms=TERMS, notes=notes)


class Unauthorised(Refused):
    """The peer did not show who it is."""

    title = "Who asks?"
    status = 401


class Spoken(Invalid):
    """The question is in a language or of a size that is not read here."""

    title = "Unsupported"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, remedy=f"Supported versions: {', '.join(mme.VERSIONS)}.")
        self.status = status  # type: ignore[misc]  # one class for 406, 413 and 415


def bearer(ring: KeyRing, *, audience: str, clock: Callable[[], float]) -> Verify:
    """Whose OAuth access token (RFC 9068) it is: signed by a pinned issuer, for this audience, in time."""

    def verify_token(token: str) -> str | None:
        try:
            now = clock()
            verified = verify(token, ring, typ="at+jwt", algorithms=OWN_ALGORITHMS, now=now)
            check_claims(verified.payload, now=now, audience=audience, require=("iat", "exp", "aud", "sub"))
        except Refused:
            return None
        return str(verified.payload["sub"])

    return verify_token


def application(exchange: Exchange) -> FastAPI:
    """The node as an ASGI application. Errors are the exchange's own: an object with ``message``."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(FederomeError)
    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, FederomeError)
        version = mme.negotiate(request.headers.get("accept", "")) or "1.1"
        body: Told = {"message": str(error), "supportedVersions": list(mme.VERSIONS)}
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
        return _response(body, version, status=error.status, headers=headers)

    @app.exception_handler(HTTPException)
    async def elsewhere(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        said = {404: "there is nothing here", 405: "this method is not allowed here"}
        body: Told = {"message": f"{said.get(error.status_code, 'this cannot be done')}."}
        return _response(body, "1.1", status=error.status_code, headers=dict(error.headers or {}))

    @app.post("/match")
    @open_to("peer")
    async def match(request: Request) -> Response:
        exchange.peer(request.headers)
        version = _spoken(request)
        if not mme.speaks(request.headers.get("content-type", "")):
            raise Spoken("the body's media type is not one of the exchange.", 415)
        entry = _asked(await _body(request))
        return _response(await run_in_threadpool(exchange.match, entry), version)

    @app.get("/metrics")
    @open_to("anyone")
    async def metrics(request: Request) -> Response:
        version = _spoken(request)
        counters = exchange.counters
        when = datetime.fromtimestamp(exchange.clock(), UTC).isoformat()
        told = mme.metrics(exchange.entries, received=counters.received, sent=counters.sent, generated=when)
        return _response({"metrics": told, "disclaimer": DISCLAIMER, "terms": TERMS}, version)

    @app.get("/heartbeat")
    @open_to("anyone")
    async def heartbeat(request: Request) -> Response:
        version = _spoken(request)
        told: Json = {"production": exchange.production, "version": "1.1", "accept": list(mme.VERSIONS)}
        return _response({"heartbeat": told, "disclaimer": DISCLAIMER, "terms": TERMS}, version)

    return app


def _spoken(request: Request) -> str:
    version = mme.negotiate(request.headers.get("accept", ""))
    if version is None:
        raise Spoken("none of the accepted versions is spoken here.", 406)
    return version


async def _body(request: Request) -> bytes:
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) > MAX_BODY:
            raise Spoken("the question is too large.", 413)
    return bytes(held)


def _asked(body: bytes) -> Entry:
    try:
        document = parse(body)
    except FederomeError as error:
        raise Invalid("the body is not JSON.") from error
    if not isinstance(document, dict):
        raise Invalid("the body is not a JSON object.")
    if "patient" not in document:
        raise mme.Unprocessable("a question holds a patient.", where="patient")
    return mme.read_entry(document["patient"])


def _response(body: Told, version: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(canonical(body), status, dict(headers or {}), mme.media_type(version))
