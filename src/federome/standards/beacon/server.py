"""What a Beacon v2 answers: about itself, its datasets, and the variants of a shelf of published tables.

The process that serves it holds published tables and nothing else: no genotype, no person, no key of the node. Where
people can be counted it asks the node's desk. A page is put together from slices that were encoded when the table was
published. ``routes.py`` gives the answers addresses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, get_args

import msgspec
import numpy as np
from starlette.requests import Request

from federome.errors import Invalid, Missing
from federome.model.discovery import Guest, Room
from federome.model.span import Span
from federome.model.variant import Assembly, Variant
from federome.standards.beacon import documents
from federome.standards.beacon.documents import (
    ALL_TYPES,
    DATASET,
    ENTRY_TYPES,
    VARIANT,
    Document,
    EntryType,
    Identity,
)
from federome.standards.beacon.filters import ids
from federome.standards.beacon.people import People
from federome.standards.beacon.people import dataset as room_as_dataset
from federome.standards.beacon.request import (
    UNANSWERABLE,
    VARIANT_PARAMETERS,
    Asked,
    Granularity,
    paginated,
    spans,
    token,
)
from federome.standards.beacon.shelf import Book, Rows, Shelf, paged
from federome.standards.service_info import tested

_ENCODE: Final = msgspec.json.Encoder().encode
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
    """The questions a Beacon answers."""

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

    def check_page(self, asked: Asked) -> None:
        """``Invalid`` for a page token of another question, or of data releases that are no longer the newest."""
        if not asked.token:
            return
        of_tables = [book.about.release for book in self.shelf().books]
        of_people = [room.release for room in self.rooms]
        if asked.token not in {token(asked, releases, asked.skip) for releases in (of_tables, of_people)}:
            raise Invalid(
                "this page token belongs to another question or an older data release.",
                where="currentPage",
                remedy="Start at the first page.",
            )

    def configuration(self) -> Document:
        """``/configuration``."""
        books, rooms = [book.about for book in self.shelf().books], self.rooms
        tiers = {*(each.tier for each in books), *(each.tier for each in rooms)}
        synthetic = all(each.synthetic for each in books) and all(each.synthetic for each in rooms)
        return documents.configuration(tiers, self.types, synthetic=synthetic)

    def terms(self, only: str | None) -> Document:
        """What can be filtered by, everywhere or in one dataset: nothing of frequency tables, which hold no people."""
        if self.people is None or (only is not None and only not in {room.dataset for room in self.rooms}):
            if only is not None and only not in self.shelf().by_dataset:
                raise Missing("no dataset has this id here.", where="id")
            return documents.informational(self.identity, documents.filtering_terms())
        return documents.informational(self.identity, self.people.terms(only))

    def service(self) -> Document:
        """``/service-info``, with what can be asked here and whether tables and desk answer now."""
        shelf, people = self.shelf(), self.people
        checks: dict[str, Callable[[], object]] = {f"table of {name}": b.check for name, b in shelf.by_dataset.items()}
        if people is not None:
            checks["desk of people"] = people.desk.rooms
        capabilities: Document = {
            "entryTypes": [each.id for each in self.types],
            "granularities": [*get_args(Granularity)],
            "parameters": [*sorted(VARIANT_PARAMETERS - UNANSWERABLE.keys())],
            "assemblies": [*sorted(shelf.assemblies)],
            "filters": [] if people is None else ["ontology", "alphanumeric", "custom"],
            "filtersLogic": [] if people is None else ["AND", "OR", "NOT"],
        }
        return documents.service(self.identity, capabilities, tested(checks))

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
        if not any(len(rows) for _, rows in found):
            _check_reference(asked, wanted, [book for book, _ in found])
        if "aminoacidChange" in asked.parameters and not any(book.annotated for book in shelf.books):
            raise Invalid(
                "no table here is annotated with changes of proteins.",
                where="aminoacidChange",
                remedy="Ask by gene, region or allele.",
            )
        return self._told(asked, found, closed, shelf)

    def _told(self, asked: Asked, found: list[tuple[Book, Rows]], closed: Mapping[str, str], shelf: Shelf) -> bytes:
        total = sum(len(rows) for _, rows in found)
        page = paginated(asked, total, [book.about.release for book in shelf.books])
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


def _check_reference(asked: Asked, wanted: Sequence[tuple[str, Span]], books: Sequence[Book]) -> None:
    """``Invalid`` where tables show that REF is another: an empty answer would read as "not seen"."""
    if "referenceBases" not in asked.parameters:
        return
    for assembly, span in wanted:
        here = [book.base_at(span.chromosome, span.first) for book in books if book.about.assembly == assembly]
        first = (span.ref or "N")[0]
        if span.starts == (span.first, span.first) and first != "N" and any(base not in ("", first) for base in here):
            raise Invalid(
                "the reference sequence has another base there.",
                where="referenceBases",
                remedy="Check assembly and position: they count from 0.",
            )


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
