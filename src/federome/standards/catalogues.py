"""The catalogues of a network as its hub reads them: the FAIR Data Point beside each listed Beacon, parsed with care.

Only Turtle is read: it names no further document that reading it would fetch. A catalogue that is away, too large or no
Turtle costs that node's facts and nobody else's; pages say whose are missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, get_args

import httpx2 as httpx

from federome.model.catalogued import Catalogued, Catalogues
from federome.model.dataset import Profile
from federome.model.verdict import Decision
from federome.network.fetching import Bounds, fetch
from federome.standards.beacon.hub import Listed
from federome.standards.catalogue import DUO, TURTLE

if TYPE_CHECKING:
    from rdflib import Graph
    from rdflib.term import Node

FRESH_S: Final = 600.0
MAX_BYTES: Final = 4 << 20
ANSWER: Final = Bounds("the catalogue", max_bytes=MAX_BYTES, kinds=(TURTLE,))
MAX_DATASETS: Final = 500
MAX_TEXT: Final = 1000


def parsed(turtle: str, node: str, country: str) -> tuple[Catalogued, ...]:
    """The datasets of one catalogue in HealthDCAT-AP. ``ValueError`` (rdflib's kinds of it) for what is no Turtle."""
    from rdflib import RDF, Graph, URIRef

    held = Graph().parse(data=turtle, format="turtle")
    kind = URIRef("http://www.w3.org/ns/dcat#Dataset")
    places = sorted(held.subjects(RDF.type, kind), key=str)[:MAX_DATASETS]
    return tuple(_dataset(held, place, node, country) for place in places)


def _dataset(held: Graph, place: Node, node: str, country: str) -> Catalogued:
    def several(name: str) -> list[str]:
        return sorted(
            str(value)[:MAX_TEXT] for predicate, value in held.predicate_objects(place) if _is(predicate, name)
        )

    def one(name: str) -> str:
        return next(iter(several(name)), "")

    keywords, counted = several("keyword"), one("numberOfUniqueIndividuals")
    access = one("accessRights").rpartition("/")[2].lower()
    named = {iri: code for code, iri in DUO.items()}
    verdicts = [
        str(said)
        for predicate, about in held.predicate_objects(place)
        if _is(predicate, "hasQualityAnnotation")
        for inner, said in held.predicate_objects(about)
        if _is(inner, "bodyValue")
    ]
    return Catalogued(
        dataset=str(place).rpartition("/")[2][:200],
        node=node,
        country=country,
        title=one("title"),
        description=one("description"),
        people=int(counted) if counted.isascii() and counted.isdigit() and len(counted) < 12 else None,
        keywords=tuple(word for word in keywords if word not in get_args(Profile))[:100],
        access="public" if access == "public" else "restricted" if access == "restricted" else "",
        data_use=named.get(one("rights").rpartition("/")[2], ""),
        profile=next((word for word in keywords if word in get_args(Profile)), ""),
        quality=next((word for word in get_args(Decision) for said in verdicts if f": {word}." in said), ""),
        synthetic=any(each.endswith("/SYNTHETIC_DATA") for each in several("type")),
    )


def _is(predicate: Node, name: str) -> bool:
    return str(predicate).replace("#", "/").rpartition("/")[2] == name


@dataclass
class Reader:
    """Reads the catalogues of these nodes, again when they are older than ``FRESH_S``; nobody waits for it."""

    beacons: Sequence[Listed]
    clock: Callable[[], float]
    client: httpx.Client = field(default_factory=httpx.Client)
    bounds: Bounds = ANSWER
    known: Catalogues = field(default_factory=Catalogues)
    read_at: float = float("-inf")
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> Catalogues:
        """What is known now. Where that is old, reading begins in the background."""
        if self.clock() - self.read_at >= FRESH_S and self._busy.acquire(blocking=False):
            threading.Thread(target=self._read_and_free, daemon=True, name="catalogues").start()
        return self.known

    def _read_and_free(self) -> None:
        try:
            self.read()
        finally:
            self._busy.release()

    def read(self) -> None:
        """Read all of them. What a silent node's catalogue said before still stands."""
        found: list[Catalogued] = []
        unread = []
        for each in self.beacons:
            try:
                found += parsed(self._turtle(each), each.node, each.country)
            except Exception:  # noqa: BLE001 (rdflib raises many kinds at what others send; the page names the node)
                unread.append(each.node)
                found += [one for one in self.known.datasets if one.node == each.node]
        self.known, self.read_at = Catalogues(tuple(found), tuple(unread)), self.clock()

    def _turtle(self, each: Listed) -> str:
        place = f"{each.url.rstrip('/').removesuffix('/api')}/fdp/all"
        return fetch(place, http=self.client, headers={"accept": TURTLE}, bounds=self.bounds).decode()
