"""The Beacons that a hub's pages ask: listed in its folder, asked at once, heard as far as they answer."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2 as httpx

from federome.errors import Invalid
from federome.model.strict import Country, Document, Identifier
from federome.standards.beacon import documents
from federome.standards.beacon.documents import VARIANT
from federome.standards.beacon.network import DEADLINE_S, Member, Network, once, result_sets
from federome.standards.beacon.request import from_body
from federome.standards.service_info import Operator
from federome.trust.canonical import Json

BEACONS: Final = "beacons.toml"
Told = dict[str, Json]


@dataclass(frozen=True)
class Listed(Document):
    """One Beacon of ``beacons.toml``: its node, its country, and the address of its API."""

    node: Identifier
    country: Country
    url: str


@dataclass(frozen=True)
class Beacons(Document):
    """``beacons.toml``. ``deadline_s``: how long a page waits for those who do not answer."""

    beacons: tuple[Listed, ...] = ()
    deadline_s: float = DEADLINE_S


def beacons_of(folder: Path) -> Beacons:
    """What ``beacons.toml`` of a hub's folder says; no Beacon where there is no such file."""
    path = folder / BEACONS
    if not path.is_file():
        return Beacons()
    try:
        told = Beacons.from_document(tomllib.loads(path.read_text()), where=BEACONS)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the settings cannot be read: {error}.", where=str(path)) from error
    if any(not each.url.startswith(("http://", "https://")) for each in told.beacons):
        raise Invalid("a Beacon's url begins with https://.", where=BEACONS)
    if len({each.node for each in told.beacons}) < len(told.beacons):
        raise Invalid("two Beacons have the same node.", where=BEACONS)
    if not 0.1 <= told.deadline_s <= 60:
        raise Invalid("the deadline is between 0.1 and 60 seconds.", where=BEACONS)
    return told


@dataclass(frozen=True)
class Asker:
    """The question to all listed Beacons; ``countries`` has one of each node, in the order of the list."""

    network: Network
    countries: Mapping[str, str]

    async def ask(self, parameters: Mapping[str, object], most: int) -> AsyncIterator[Told]:
        """Each node's word as it comes: its line as ``node`` and its result ``sets``, of at most so many variants."""
        query = {
            "requestParameters": dict(parameters),
            "requestedGranularity": "record",
            "includeResultsetResponses": "HIT",
            "pagination": {"skip": 0, "limit": most},
        }
        async for heard in self.network.ask(VARIANT.path, from_body({"query": query})):
            country: Told = {"country": self.countries[heard.member.name]}
            yield {"node": heard.told | country, "sets": [each | country for each in result_sets([heard])]}

    def once(self, sets: Sequence[Told]) -> Sequence[Told]:
        """Result sets of several nodes, each dataset once."""
        return once(sets)


def asker(folder: Path, operator: Operator, url: str, client: httpx.AsyncClient | None = None) -> Asker | None:
    """Who asks the listed Beacons; ``None`` where none is listed."""
    told = beacons_of(folder)
    if not told.beacons:
        return None
    members = [Member(each.node, each.url.rstrip("/")) for each in told.beacons]
    identity = documents.Identity(operator, url)
    network = Network(identity, members, client or httpx.AsyncClient(), deadline_s=told.deadline_s)
    return Asker(network, {each.node: each.country for each in told.beacons})
