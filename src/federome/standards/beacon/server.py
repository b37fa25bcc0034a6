"""Beacon v2 behind HTTP: a small ASGI application over a shelf of published tables.

The process that serves it holds published tables and nothing else: no genotype, no person, no key of the node. Where
people can be counted it asks the node's desk. A page
is put together from slices that were encoded when the table was published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import numpy as np
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federome.errors import FederomeError, Invalid, Missing
from federome.model.discovery import Guest, Room
from federome.model.span import Span
from federome.model.variant import Assembly, Variant
from federome.standards.beacon import documents
from federome.standards.beacon.documents import (
    ALL_TYPES,
    DATASET,
    ENTRY_TYPES,
    PEOPLE_TYPES,
    RELATED,
    VARIANT,
    Document,
    EntryType,
    Identity,
)
from federome.standards.beacon.filters import ids
from federome.standards.beacon.people import People
from federome.standards.beacon.people import dataset as room_as_dataset
from federome.standards.beacon.request import Asked, Granularity, from_body, from_query, spans
from federome.standards.beacon.shelf import Book, Rows, Shelf, paged
from federome.trust.canonical import Json

MAX_BODY: Final = 1 << 18
MAX_QUERY: Final = 1 << 14
LOGO: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" role="img"><title>Federome</title>'
    '<g fill="none" stroke="#14507a" stroke-width="5"><path d="M20 6c0 26 24 26 24 52M44 6c0 26-24 26-24 52"/>'
    '<path d="M24 16h16M24 48h16"/></g></svg>'
)
_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder().decode
HEADERS: Final = {
    "access-control-allow-origin": "*",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
Visitor = Callable[[Request], Awaitable[Guest]]
"""Who asks, by the proofs in the request."""
NOBODY: Final = Guest()


async def anybody(_request: Request) -> Guest:
    """Nobody is known: public datasets only."""
    return NOBODY


@dataclass(frozen=True)
class Atlas:
    """Where questions can be about: what the shelf and the rooms of the desk know together."""

    assemblies: frozenset[Assembly]
    genes: Mapping[tuple[str, Assembly], tuple[tuple[str, int, int], ...]]


@dataclass(frozen=True)
class Beacon:
    """The questions a Beacon answers; ``server`` of this module gives them addresses."""

    identity: Identity
    shelf: Callable[[], Shelf]
    visitor: Visitor = anybody
    people: People | None = None
    _atlases: dict[tuple[object, ...], Atlas] = field(default_factory=dict, repr=False, compare=False)

    @property
    def types(self) -> tuple[EntryType, ...]:
        """The kinds of records that can be asked for here."""
        return ALL_TYPES if self.people else ENTRY_TYPES

    @property
    def rooms(self) -> tuple[Room, ...]:
        """The datasets whose people can be counted."""
        return self.people.desk.rooms() if self.people else ()

    def atlas(self) -> Atlas:
        """Where questions about people can be about."""
        shelf, rooms = self.shelf(), self.rooms
        key = (shelf, *((room.dataset, room.release) for room in rooms))
        if key not in self._atlases:
            genes: dict[tuple[str, Assembly], set[tuple[str, int, int]]] = {}
            for name, places in shelf.genes.items():
                genes.setdefault(name, set()).update(places)
            for room in rooms:
                for symbol, chromosome, first, last in room.genes:
                    genes.setdefault((symbol.upper(), room.assembly), set()).add((chromosome, first, last))
            self._atlases.clear()
            self._atlases[key] = Atlas(
                shelf.assemblies | {room.assembly for room in rooms},
                {name: tuple(sorted(places)) for name, places in genes.items()},
            )
        return self._atlases[key]

    def variants(self, asked: Asked, guest: Guest) -> bytes:
        """The answer to a question about variants, encoded."""
        shelf = self.shelf()
        if asked.filters:
            raise Invalid(
                "frequency tables hold no people, so nothing can be filtered here.",
                where=f"filter {next(ids(asked.filters), '')[:60]}",
                remedy="See /filtering_terms; ask about variants without filters.",
            )
        wanted = spans(asked, shelf)
        if asked.datasets and (unknown := sorted(asked.datasets - set(shelf.by_dataset))):
            raise Invalid(f"{len(unknown)} of the named datasets are not here.", where="datasetIds")
        everywhere = not asked.parameters.keys() - {"datasetIds", "assemblyId", "variantType"} and not wanted
        found: list[tuple[Book, Rows]] = []
        closed: dict[str, str] = {}
        for book in shelf.books:
            if asked.datasets is not None and book.about.dataset not in asked.datasets:
                continue
            if not guest.may(book.about.tier, book.about.dataset):
                closed[book.about.dataset] = "a grant for this dataset"
            elif "aminoacidChange" in asked.parameters and not book.annotated:
                closed[book.about.dataset] = "to be annotated with changes of proteins"
            else:
                found.append((book, _rows(book, wanted, everywhere=everywhere)))
        if "aminoacidChange" in asked.parameters and not any(book.annotated for book in shelf.books):
            raise Invalid(
                "no table here is annotated with changes of proteins.",
                where="aminoacidChange",
                remedy="Ask by gene, region or allele.",
            )
        return self._told(asked, found, closed, shelf)

    def _told(self, asked: Asked, found: list[tuple[Book, Rows]], closed: Mapping[str, str], shelf: Shelf) -> bytes:
        total = sum(len(rows) for _, rows in found)
        page = _page(asked, total, shelf)
        head = documents.meta(self.identity, asked, VARIANT, asked.granularity, page)
        if asked.test_mode:
            head["info"] = {"testMode": "the same answer: published tables hold nothing that a test may not see"}
        summary: Document = {"exists": total > 0}
        body: Document = {"meta": head, "responseSummary": summary}
        if handed := documents.handovers(self.identity, list(closed) or [b.about.dataset for b, r in found if len(r)]):
            body["beaconHandovers"] = handed
        if closed:
            body["info"] = {"withheld": [{"dataset": name, "needs": needs} for name, needs in closed.items()]}
        if asked.granularity == "boolean":
            return _ENCODE(body)
        summary |= {"numTotalResults": total, "countPrecision": "exact"}
        if asked.granularity == "count" or asked.include == "NONE":
            return _ENCODE(body)
        start = _ENCODE(body)[:-1] + b',"response":{"resultSets":['
        shown = paged(found, asked.first, asked.limit) if total else [(book, rows) for book, rows in found]
        sets = [
            piece
            for (book, here), (_, rows) in zip(shown, found, strict=True)
            if asked.include == "ALL" or (asked.include == "HIT") == (len(rows) > 0)
            for piece in _result_set(book, here, len(rows))
        ]
        return b"".join([start, *sets[:-1], b"]}}"]) if sets else start + b"]}}"

    def variant(self, name: str, guest: Guest, granularity: Granularity) -> bytes:
        """One variant by its id, ``ASSEMBLY:CHROMOSOME:POSITION:REF:ALT``."""
        try:
            at = Variant.parse(name[:4000])
        except Invalid:
            raise Missing("no variant has this id here.", where="id") from None
        asked = Asked({"assemblyId": at.assembly}, granularity=granularity, limit=100)
        shelf = self.shelf()
        span = Span(at.chromosome, at.position, at.position, starts=(at.position, at.position), ref=at.ref, alt=at.alt)
        open_here = [b for b in shelf.books if guest.may(b.about.tier, b.about.dataset)]
        found = [(b, b.find(span)) for b in open_here if b.about.assembly == at.assembly]
        if not any(len(rows) for _, rows in found):
            raise Missing("no variant has this id here.", where="id")
        return self._told(replace(asked, parameters={}), found, {}, shelf)

    def datasets(self, asked: Asked, only: str | None = None) -> Document:
        """The datasets as a collection: what is here is no secret."""
        if asked.filters or asked.parameters.keys() - {"datasetIds"}:
            named = next(ids(asked.filters), "")[:60] or min(asked.parameters)
            raise Invalid("datasets are not filtered here.", where=named)
        here = {name: documents.dataset(book.about) for name, book in self.shelf().by_dataset.items()}
        here = {room.dataset: room_as_dataset(room) for room in self.rooms} | here
        if only is not None and only not in here:
            raise Missing("no dataset has this id here.", where="id")
        wanted = [only] if only is not None else sorted(here if asked.datasets is None else asked.datasets & set(here))
        shown = wanted[asked.first : asked.first + asked.limit]
        page: Document = {"skip": asked.skip, "limit": asked.limit}
        body: Document = {
            "meta": documents.meta(self.identity, asked, DATASET, asked.granularity, page),
            "responseSummary": {"exists": bool(wanted)},
        }
        if asked.granularity != "boolean":
            body["responseSummary"] = {"exists": bool(wanted), "numTotalResults": len(wanted)}
        if asked.granularity == "record":
            body["response"] = {"collections": [here[name] for name in shown]}
        return body


def _rows(book: Book, wanted: Sequence[tuple[str, Span]], *, everywhere: bool) -> Rows:
    here = [book.find(span) for assembly, span in wanted if assembly == book.about.assembly]
    if everywhere:
        return np.arange(book.rows)
    if not here:
        return np.zeros(0, np.int64)
    return here[0] if len(here) == 1 else np.unique(np.concatenate(here))


def _result_set(book: Book, rows: Rows, total: int) -> list[bytes | memoryview]:
    """One dataset's share of a page, and the comma behind it."""
    head: Document = {
        "id": book.about.dataset,
        "setType": "dataset",
        "exists": total > 0,
        "resultsCount": total,
        "countPrecision": "exact",
        "info": {"node": book.about.node, "release": book.about.release, "minimumPeople": book.about.k},
    }
    pieces: list[bytes | memoryview] = [_ENCODE(head)[:-1], b',"results":[']
    for number, piece in enumerate(book.page(rows)):
        pieces += [b",", piece] if number else [piece]
    return [*pieces, b"]}", b","]


def _page(asked: Asked, total: int, shelf: Shelf) -> Document:
    """Where the page stands, with tokens that hold for this question on these releases and no other."""
    page: Document = {"skip": asked.skip, "limit": asked.limit}
    if asked.granularity != "record":
        return page
    page["currentPage"] = token(asked, shelf, asked.skip)
    if asked.first + asked.limit < total:
        page["nextPage"] = token(asked, shelf, asked.skip + 1)
    if asked.skip:
        page["previousPage"] = token(asked, shelf, asked.skip - 1)
    return page


def token(asked: Asked, shelf: Shelf, number: int) -> str:
    """The name of a page: its number, and a digest of the question and the releases it is asked of."""
    releases = [book.about.release for book in shelf.books]
    question = [
        dict(asked.parameters),
        [dict(each) for each in asked.filters],
        asked.logic,
        asked.limit,
        sorted(asked.datasets or ()),
        releases,
    ]
    return f"p{number}.{hashlib.blake2b(_ENCODE(question), digest_size=8).hexdigest()}"


# addresses


def application(beacon: Beacon, *, prefix: str = "/api", beside: Sequence[Route] = ()) -> Starlette:
    """The Beacon at ``prefix``: framework endpoints, datasets, and variants by GET and POST; ``beside`` it others."""
    say: dict[str, Callable[[], Document]] = {
        "": lambda: documents.informational(beacon.identity, documents.info(beacon.identity)),
        "/info": lambda: documents.informational(beacon.identity, documents.info(beacon.identity)),
        "/service-info": lambda: documents.service(beacon.identity),
        "/configuration": lambda: documents.informational(beacon.identity, _configuration(beacon)),
        "/map": lambda: documents.informational(beacon.identity, documents.beacon_map(beacon.identity, beacon.types)),
        "/entry_types": lambda: documents.informational(beacon.identity, documents.entry_types(beacon.types)),
        "/filtering_terms": lambda: _terms(beacon, None),
        "/health": lambda: {"status": "ok"},
    }

    def saying(make: Callable[[], Document]) -> Callable[[Request], Awaitable[Response]]:
        async def say_it(_request: Request) -> Response:
            return _json(_ENCODE(make()))

        return say_it

    async def variants(request: Request, only: str | None = None) -> Response:
        asked = await _asked(request, beacon)
        if only is not None:
            asked = replace(asked, datasets=frozenset({only}))
        if beacon.people and (asked.filters or (only is not None and only not in beacon.shelf().by_dataset)):
            return await about_people(request, VARIANT, asked)
        return _json(beacon.variants(asked, await beacon.visitor(request)))

    async def of_dataset(request: Request) -> Response:
        name = request.path_params["id"]
        if name not in beacon.shelf().by_dataset and name not in {room.dataset for room in beacon.rooms}:
            raise Missing("no dataset has this id here.", where="id")
        return await variants(request, name)

    async def about_people(
        request: Request, entry: EntryType, asked: Asked, of: tuple[EntryType, str] | None = None
    ) -> Response:
        assert beacon.people is not None
        guest = await beacon.visitor(request)
        told = await to_thread.run_sync(
            lambda: beacon.people.answer(entry, asked, guest, beacon.atlas(), of=of)  # type: ignore[union-attr]
        )
        return _json(_ENCODE(told))

    def below(entry: EntryType, parent: EntryType) -> Callable[[Request], Awaitable[Response]]:
        """Records of one kind that belong to a record of another, by its id."""

        async def of_parent(request: Request) -> Response:
            asked, name = await _asked(request, beacon), request.path_params["id"]
            if not parent.collection:
                return await about_people(request, entry, asked, (parent, name))
            if name not in {room.dataset for room in beacon.rooms}:
                raise Missing(f"no {parent.id} has this id here.", where="id")
            return await about_people(request, entry, replace(asked, datasets=frozenset({name})))

        return of_parent

    def of_kind(entry: EntryType) -> Callable[[Request], Awaitable[Response]]:
        async def all_of(request: Request) -> Response:
            return await about_people(request, entry, await _asked(request, beacon))

        return all_of

    def single(entry: EntryType) -> Callable[[Request], Awaitable[Response]]:
        async def one(request: Request) -> Response:
            asked = await _asked(request, beacon)
            if "requestedGranularity" not in request.query_params and request.method == "GET":
                asked = replace(asked, granularity="record")
            return await about_people(request, entry, asked, (entry, request.path_params["id"]))

        return one

    async def cohorts(request: Request) -> Response:
        assert beacon.people is not None
        asked = await _asked(request, beacon)
        if request.method == "GET" and "requestedGranularity" not in request.query_params:
            asked = replace(asked, granularity="record")
        return _json(_ENCODE(beacon.people.cohorts(asked, request.path_params.get("id"))))

    async def variant(request: Request) -> Response:
        asked = await _asked(request, beacon)
        granularity: Granularity = asked.granularity if "requestedGranularity" in request.query_params else "record"
        return _json(beacon.variant(request.path_params["id"], await beacon.visitor(request), granularity))

    async def datasets(request: Request) -> Response:
        asked = await _asked(request, beacon)
        if request.method == "GET" and "requestedGranularity" not in request.query_params:
            asked = replace(asked, granularity="record")  # a list of names helps nobody who asks for datasets
        return _json(_ENCODE(beacon.datasets(asked, request.path_params.get("id"))))

    async def terms(request: Request) -> Response:
        return _json(_ENCODE(_terms(beacon, request.path_params.get("id"))))

    async def logo(_request: Request) -> Response:
        return Response(LOGO, media_type="image/svg+xml", headers=HEADERS)

    def told(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except FederomeError as failure:
                return _json(_ENCODE(documents.error(beacon.identity, failure)), failure.status)

        return answer

    both = ["GET", "POST"]
    routes = [Route(f"{prefix}{path}", told(saying(make)), methods=["GET"]) for path, make in say.items()]
    routes += [
        Route(f"{prefix}/", told(saying(say[""])), methods=["GET"]),
        Route(f"{prefix}/logo.svg", logo, methods=["GET"]),
        Route(f"{prefix}/g_variants", told(variants), methods=both),
        Route(f"{prefix}/g_variants/{{id}}", told(variant), methods=both),
        Route(f"{prefix}/datasets", told(datasets), methods=both),
        Route(f"{prefix}/datasets/{{id}}", told(datasets), methods=both),
        Route(f"{prefix}/datasets/{{id}}/g_variants", told(of_dataset), methods=both),
        Route(f"{prefix}/datasets/{{id}}/filtering_terms", told(terms), methods=both),
    ]
    if beacon.people is not None:
        routes.append(Route(f"{prefix}/individuals/filtering_terms", told(terms), methods=both))
        routes.append(Route(f"{prefix}/cohorts/{{id}}/filtering_terms", told(terms), methods=both))
        for path in ("", "/{id}"):
            routes.append(Route(f"{prefix}/cohorts{path}", told(cohorts), methods=both))
        for entry in PEOPLE_TYPES:
            routes.append(Route(f"{prefix}/{entry.path}", told(of_kind(entry)), methods=both))
            routes.append(Route(f"{prefix}/{entry.path}/{{id}}", told(single(entry)), methods=both))
        routes += [
            Route(f"{prefix}/{parent.path}/{{id}}/{entry.path}", told(below(entry, parent)), methods=both)
            for parent, entries in RELATED.items()
            for entry in entries
            if (parent, entry) != (DATASET, VARIANT)
        ]
    return Starlette(routes=[*routes, *beside, Route("/{rest:path}", told(_lost(prefix)), methods=both)])


def _configuration(beacon: Beacon) -> Document:
    books, rooms = [book.about for book in beacon.shelf().books], beacon.rooms
    tiers = {*(each.tier for each in books), *(each.tier for each in rooms)}
    synthetic = all(each.synthetic for each in books) and all(each.synthetic for each in rooms)
    return documents.configuration(tiers, beacon.types, synthetic=synthetic)


def _terms(beacon: Beacon, only: str | None) -> Document:
    """What can be filtered by: nothing of frequency tables, which hold no people."""
    if beacon.people is None or (only is not None and only not in {room.dataset for room in beacon.rooms}):
        if only is not None and only not in beacon.shelf().by_dataset:
            raise Missing("no dataset has this id here.", where="id")
        return documents.informational(beacon.identity, documents.filtering_terms())
    return documents.informational(beacon.identity, beacon.people.terms(only))


def _lost(prefix: str) -> Callable[[Request], Awaitable[Response]]:
    """Where people end up who mistype an address: told what there is."""
    likely: Mapping[str, str] = {"genomicVariations": "g_variants", "genomic_variations": "g_variants"}

    async def lost(request: Request) -> Response:
        word = request.path_params["rest"].rstrip("/").rpartition("/")[2][:40]
        remedy = f"Try {prefix}/{likely[word]}." if word in likely else f"See {prefix}/map."
        raise Missing("there is nothing at this address.", remedy=remedy)

    return lost


async def _asked(request: Request, beacon: Beacon) -> Asked:
    """The question of a request; a page token in it must be one for this question."""
    asked = await read_asked(request)
    if asked.token and asked.token != token(asked, beacon.shelf(), asked.skip):
        raise Invalid(
            "this page token belongs to another question or an older data release.",
            where="currentPage",
            remedy="Start at the first page.",
        )
    return asked


async def read_asked(request: Request) -> Asked:
    """The question of a GET or POST."""
    if len(request.url.query) > MAX_QUERY:
        raise Invalid("the address is too long.", remedy="Send a POST.")
    if request.method == "GET":
        return from_query(request.query_params.multi_items())
    return from_body(await _body(request))


async def _body(request: Request) -> Json | Mapping[str, object]:
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) > MAX_BODY:
            raise Invalid("the request is too large.", remedy=f"Send at most {MAX_BODY >> 10} kB.")
    if not held:
        return {}
    try:
        told: Json = _DECODE(bytes(held))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("the request is not JSON.", where="body") from None
    return told


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status_code=status, media_type="application/json", headers=HEADERS)


__all__ = ["Beacon", "EntryType", "anybody", "application", "read_asked", "token"]
