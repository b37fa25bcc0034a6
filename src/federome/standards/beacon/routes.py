"""The addresses of a Beacon: which question each asks, and what comes back over HTTP.

``server.py`` knows the answers. Here requests become questions, failures become Beacon's error object, and a service
that is full says so at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federome.errors import FederomeError, Missing
from federome.standards.beacon import documents
from federome.standards.beacon.documents import DATASET, PEOPLE_TYPES, RELATED, VARIANT, Document, EntryType
from federome.standards.beacon.people import People
from federome.standards.beacon.request import Asked, Granularity
from federome.standards.beacon.server import Beacon
from federome.standards.beacon.wire import CAPACITY, HEADERS, Capacity, failed, read_asked, sent

LOGO: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" role="img"><title>Federome</title>'
    '<g fill="none" stroke="#14507a" stroke-width="5"><path d="M20 6c0 26 24 26 24 52M44 6c0-26-24 26-24 52"/>'
    '<path d="M24 16h16M24 48h16"/></g></svg>'
)
BOTH: Final = ("GET", "POST")
Handler = Callable[[Request], Awaitable[Response]]
_ENCODE: Final = msgspec.json.Encoder().encode


def application(
    beacon: Beacon, *, prefix: str = "/api", beside: Sequence[Route] = (), capacity: int = CAPACITY
) -> Starlette:
    """The Beacon at ``prefix``: framework endpoints, datasets, and records by GET and POST; ``beside`` it others.

    At most ``capacity`` requests are answered at a time.
    """
    doors = _Doors(beacon)
    routes = [*_about_itself(doors, prefix), *_tables(doors, prefix)]
    if beacon.people is not None:
        routes += _people(doors, _Counted(beacon, beacon.people), prefix)
    app = Starlette(routes=[*routes, *beside, Route("/{rest:path}", doors.told(lost(prefix)), methods=BOTH)])
    app.add_middleware(Capacity, most=capacity, identity=beacon.identity)
    return app


def _about_itself(doors: _Doors, prefix: str) -> Iterator[Route]:
    beacon, identity = doors.beacon, doors.beacon.identity
    say: dict[str, Callable[[], Document]] = {
        "": lambda: documents.informational(identity, documents.info(identity)),
        "/": lambda: documents.informational(identity, documents.info(identity)),
        "/info": lambda: documents.informational(identity, documents.info(identity)),
        "/service-info": beacon.service,
        "/configuration": lambda: documents.informational(identity, beacon.configuration()),
        "/map": lambda: documents.informational(identity, documents.beacon_map(identity, beacon.types)),
        "/entry_types": lambda: documents.informational(identity, documents.entry_types(beacon.types)),
        "/filtering_terms": lambda: beacon.terms(None),
        "/health": lambda: {"status": "ok"},
    }
    for path, make in say.items():
        aside = beacon.people is not None and path != "/health"
        yield Route(f"{prefix}{path}", doors.told(saying(make, aside=aside)), methods=["GET"])
    yield Route(f"{prefix}/logo.svg", logo, methods=["GET"])


def _tables(doors: _Doors, prefix: str) -> Iterator[Route]:
    for path, handler in {
        "g_variants": doors.variants,
        "g_variants/{id}": doors.variant,
        "datasets": doors.datasets,
        "datasets/{id}": doors.datasets,
        "datasets/{id}/g_variants": doors.variants_of_dataset,
        "datasets/{id}/filtering_terms": doors.terms,
    }.items():
        yield Route(f"{prefix}/{path}", doors.told(handler), methods=BOTH)


def _people(doors: _Doors, counted: _Counted, prefix: str) -> Iterator[Route]:
    handlers: dict[str, Handler] = {
        "individuals/filtering_terms": doors.terms,
        "cohorts/{id}/filtering_terms": doors.terms,
        "cohorts": counted.cohorts,
        "cohorts/{id}": counted.cohorts,
    }
    for entry in PEOPLE_TYPES:
        handlers[entry.path] = counted.all_of(entry)
        handlers[f"{entry.path}/{{id}}"] = counted.one_of(entry)
    for parent, entries in RELATED.items():
        for entry in entries:
            if (parent, entry) != (DATASET, VARIANT):
                handlers[f"{parent.path}/{{id}}/{entry.path}"] = counted.below(entry, parent)
    for path, handler in handlers.items():
        yield Route(f"{prefix}/{path}", doors.told(handler), methods=BOTH)


@dataclass(frozen=True)
class _Doors:
    """What tables answer, and people where they are asked about by the same address."""

    beacon: Beacon

    def told(self, handler: Handler) -> Handler:
        """The same, with expected failures as Beacon's error object."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except FederomeError as failure:
                return failed(self.beacon.identity, failure)

        return answer

    async def variants(self, request: Request) -> Response:
        """Variants of the tables or, with filters, those that people carry."""
        return await self._variants(request, await asked_of(request, self.beacon), None)

    async def variants_of_dataset(self, request: Request) -> Response:
        """The same of one dataset."""
        name = request.path_params["id"]
        if name not in self.beacon.shelf().by_dataset and name not in await self._rooms():
            raise Missing("no dataset has this id here.", where="id")
        return await self._variants(request, await asked_of(request, self.beacon, name), name)

    async def _rooms(self) -> set[str]:
        return {room.dataset for room in await to_thread.run_sync(lambda: self.beacon.rooms)}

    async def _variants(self, request: Request, asked: Asked, only: str | None) -> Response:
        beacon = self.beacon
        if beacon.people and (asked.filters or (only is not None and only not in beacon.shelf().by_dataset)):
            return await _Counted(beacon, beacon.people).answer(request, VARIANT, asked)
        return sent(beacon.variants(asked, await beacon.visitor(request)))

    async def variant(self, request: Request) -> Response:
        """One variant by its id."""
        asked = await asked_of(request, self.beacon)
        granularity: Granularity = asked.granularity if "requestedGranularity" in request.query_params else "record"
        guest = await self.beacon.visitor(request)
        return sent(self.beacon.variant(request.path_params["id"], guest, granularity))

    async def datasets(self, request: Request) -> Response:
        """All datasets, or one."""
        asked = _recorded(request, await asked_of(request, self.beacon))
        only = request.path_params.get("id")
        return sent(_ENCODE(await to_thread.run_sync(lambda: self.beacon.datasets(asked, only))))

    async def terms(self, request: Request) -> Response:
        """What can be filtered by, in all or in one of the datasets."""
        only = request.path_params.get("id")
        return sent(_ENCODE(await to_thread.run_sync(lambda: self.beacon.terms(only))))


@dataclass(frozen=True)
class _Counted:
    """What the node's desk answers about people."""

    beacon: Beacon
    people: People

    async def answer(
        self, request: Request, entry: EntryType, asked: Asked, of: tuple[EntryType, str] | None = None
    ) -> Response:
        """Records of one kind, or how many there are."""
        guest = await self.beacon.visitor(request)
        told = await to_thread.run_sync(lambda: self.people.answer(entry, asked, guest, self.beacon.atlas(), of=of))
        return sent(_ENCODE(told))

    def all_of(self, entry: EntryType) -> Handler:
        """Records of one kind."""

        async def answer(request: Request) -> Response:
            return await self.answer(request, entry, await asked_of(request, self.beacon))

        return answer

    def one_of(self, entry: EntryType) -> Handler:
        """One record by its id."""

        async def answer(request: Request) -> Response:
            asked = _recorded(request, await asked_of(request, self.beacon))
            return await self.answer(request, entry, asked, (entry, request.path_params["id"]))

        return answer

    def below(self, entry: EntryType, parent: EntryType) -> Handler:
        """Records of one kind that belong to a record of another, by its id."""

        async def answer(request: Request) -> Response:
            name = request.path_params["id"]
            if not parent.collection:
                return await self.answer(request, entry, await asked_of(request, self.beacon), (parent, name))
            if name not in {room.dataset for room in await to_thread.run_sync(lambda: self.beacon.rooms)}:
                raise Missing(f"no {parent.id} has this id here.", where="id")
            return await self.answer(request, entry, await asked_of(request, self.beacon, name))

        return answer

    async def cohorts(self, request: Request) -> Response:
        """All cohorts, or one."""
        asked = _recorded(request, await asked_of(request, self.beacon))
        only = request.path_params.get("id")
        return sent(_ENCODE(await to_thread.run_sync(lambda: self.people.cohorts(asked, only))))


def _recorded(request: Request, asked: Asked) -> Asked:
    """Where an address says nothing of granularity, records: a yes or no helps nobody who asks for these."""
    silent = request.method == "GET" and "requestedGranularity" not in request.query_params
    return replace(asked, granularity="record") if silent else asked


# shared with the network's addresses


def saying(make: Callable[[], Document], *, aside: bool = False) -> Handler:
    """A handler that tells a document which is made anew each time; ``aside`` in a thread, where a desk is asked."""

    async def say_it(_request: Request) -> Response:
        return sent(_ENCODE(await to_thread.run_sync(make) if aside else make()))

    return say_it


async def logo(_request: Request) -> Response:
    """The organisation's picture."""
    return Response(LOGO, media_type="image/svg+xml", headers=HEADERS)


def lost(prefix: str) -> Handler:
    """Where people end up who mistype an address: told what there is."""
    likely: Mapping[str, str] = {"genomicVariations": "g_variants", "genomic_variations": "g_variants"}

    async def answer(request: Request) -> Response:
        word = request.path_params["rest"].rstrip("/").rpartition("/")[2][:40]
        remedy = f"Try {prefix}/{likely[word]}." if word in likely else f"See {prefix}/map."
        raise Missing("there is nothing at this address.", remedy=remedy)

    return answer


async def asked_of(request: Request, beacon: Beacon, dataset: str | None = None) -> Asked:
    """The question of a request, about one dataset where its path says so; a page token must be one for it."""
    asked = await read_asked(request)
    if dataset is not None:
        asked = replace(asked, datasets=frozenset({dataset}))
    if asked.token:
        await to_thread.run_sync(beacon.check_page, asked)
    return asked
