"""Ask other nodes of the Matchmaker Exchange, all of them, and name those who did not answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import httpx2 as httpx

from federome.errors import FederomeError, Invalid, Unavailable
from federome.network.fetching import JSON, Bounds, call
from federome.standards import mme
from federome.trust.canonical import Json, canonical, parse

ANSWER: Final = Bounds("the node", patience_s=30.0, max_bytes=4 << 20, kinds=JSON)


@dataclass(frozen=True)
class Peer:
    """Another node: its base address and the key it gave us."""

    name: str
    url: str
    key: str


@dataclass(frozen=True)
class Answered:
    """What a peer said: scored patients, or why it said nothing."""

    peer: str
    results: tuple[tuple[float, Mapping[str, Json]], ...] = ()
    failed: str = ""


def ask(
    peers: Sequence[Peer], patient: Mapping[str, Json], http: httpx.Client, *, bounds: Bounds = ANSWER
) -> list[Answered]:
    """Send one patient to every peer; version 1.1, and 1.0 to those that know no better. Everybody has an entry."""
    mme.read_entry(dict(patient))
    body = canonical({"patient": dict(patient)})
    return [_ask(peer, body, http, bounds) for peer in peers]


def _ask(peer: Peer, body: bytes, http: httpx.Client, bounds: Bounds) -> Answered:
    said = "the node could not be reached"
    for version in mme.VERSIONS:
        kind = mme.media_type(version)
        headers = {"Content-Type": kind, "Accept": kind, "X-Auth-Token": peer.key}
        try:
            place = f"{peer.url.rstrip('/')}/match"
            told = call("POST", place, http=http, headers=headers, content=body, bounds=bounds)
            if told.is_success:
                return Answered(peer.name, _results(told.content))
        except Unavailable as error:
            return Answered(peer.name, failed=f"the node could not be reached: {error.message}")
        except FederomeError as error:
            return Answered(peer.name, failed=f"the answer is not one of the exchange: {error.message}")
        said = f"the node refused ({told.status})"
        if told.status not in (406, 415):
            break
    return Answered(peer.name, failed=said)


def _results(content: bytes) -> tuple[tuple[float, Mapping[str, Json]], ...]:
    document = parse(content)
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list):
        raise Invalid("there are no results.")
    found: list[tuple[float, Mapping[str, Json]]] = []
    for each in results:
        score = each.get("score") if isinstance(each, dict) else None
        value = score.get("patient") if isinstance(score, dict) else None
        if not isinstance(each, dict) or isinstance(value, bool) or not isinstance(value, int | float):
            raise Invalid("a result has no score.")
        if not 0 <= value <= 1:
            raise Invalid("a score is not between 0 and 1.")
        found.append((float(value), mme.read_entry(each.get("patient")).document))
    return tuple(found)
