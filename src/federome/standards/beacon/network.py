"""A Beacon of Beacons: one question to all members at once, one answer that says who answered and who did not.

The hub serves it. Members are asked with a deadline; results are merged as they stand, each with its ``beaconId``; who
was late, away or refused is named in ``info.nodes``. A member that was late is not waited for again before it has
answered once: two dead nodes of 27 cost nobody ten seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, cast

import anyio
import httpx2 as httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from federome.errors import FederomeError, Unavailable
from federome.standards.beacon import documents
from federome.standards.beacon.documents import ALL_TYPES, Document, EntryType, Identity
from federome.standards.beacon.request import Asked, Granularity
from federome.standards.beacon.routes import BOTH, Handler, logo, lost, saying
from federome.standards.beacon.wire import CAPACITY, HEADERS, SEND_S, Capacity, failed, read_asked, sent
from federome.standards.service_info import tested
from federome.trust.canonical import Json

DEADLINE_S: Final = 5.0
CONNECT_S: Final = 1.0
GRACE_S: Final = 0.25
"""How long members that did not answer last time are waited for, once all others have."""
MAX_ANSWER: Final = 32 << 20
_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder().decode
Outcome = Literal["answered", "refused", "late", "away", "not a Beacon"]


@dataclass(frozen=True)
class Member:
    """One Beacon of the network: its name here, and where its API is (no slash at the end)."""

    name: str
    url: str


@dataclass(frozen=True)
class Heard:
    """What came back from one member."""

    member: Member
    outcome: Outcome
    seconds: float
    answer: Document = field(default_factory=dict)
    says: str = ""

    @property
    def told(self) -> Document:
        """The member's line in ``info.nodes``."""
        line: Document = {
            "node": self.member.name,
            "url": self.member.url,
            "outcome": self.outcome,
            "milliseconds": round(1000 * self.seconds),
        }
        meta = self.answer.get("meta")
        if isinstance(meta, dict):
            line |= {name: meta[name] for name in ("beaconId", "apiVersion") if name in meta}
        info = self.answer.get("info")
        if isinstance(info, dict) and "withheld" in info:  # a dataset that did not answer is not one without anybody
            line["withheld"] = info["withheld"]
        return line | ({"says": self.says} if self.says else {})


@dataclass
class Network:
    """The members and how they fared lately. ``client`` is passed in; it is told no secret of anybody."""

    identity: Identity
    members: Sequence[Member]
    client: httpx.AsyncClient
    deadline_s: float = DEADLINE_S
    clock: Callable[[], float] = time.monotonic
    suspected: set[str] = field(default_factory=set)

    async def ask(self, path: str, asked: Asked, authorization: str = "") -> AsyncIterator[Heard]:
        """Ask everybody; each member once, as they answer, and those that did not at the end."""
        started = self.clock()
        tasks = {asyncio.create_task(self._one(member, path, asked, authorization)): member for member in self.members}
        try:
            while tasks:
                healthy = [task for task, member in tasks.items() if member.name not in self.suspected]
                left = self.deadline_s - (self.clock() - started)
                patience = left if healthy else min(left, GRACE_S)
                done, _ = await asyncio.wait(tasks, timeout=max(patience, 0), return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for task in done:
                    heard = task.result()
                    del tasks[task]
                    self._learn(heard)
                    yield heard
            for member in tasks.values():
                heard = Heard(member, "late", self.clock() - started)
                self._learn(heard)
                yield heard
        finally:
            for task in tasks:
                task.cancel()

    def _learn(self, heard: Heard) -> None:
        if heard.outcome in ("late", "away"):
            self.suspected.add(heard.member.name)
        else:
            self.suspected.discard(heard.member.name)

    async def _one(self, member: Member, path: str, asked: Asked, authorization: str) -> Heard:
        started = self.clock()
        headers = {"accept-encoding": "identity"} | ({"authorization": authorization} if authorization else {})
        body = _ENCODE(body_of(asked))
        held = bytearray()
        try:
            async with self.client.stream(
                "POST", f"{member.url}/{path}", content=body, headers=headers, timeout=self._timeout()
            ) as response:
                if response.headers.get("content-encoding", "identity") != "identity":
                    says = "the answer is packed, and could unpack to any size"
                    return Heard(member, "not a Beacon", self.clock() - started, says=says)
                async for piece in response.aiter_bytes():
                    held += piece
                    if len(held) > MAX_ANSWER:
                        too_much = self.clock() - started
                        return Heard(member, "not a Beacon", too_much, says="the answer is too large")
            seconds = self.clock() - started
            answer = _DECODE(held)
        except httpx.TimeoutException:
            return Heard(member, "late", self.clock() - started)
        except httpx.HTTPError:
            return Heard(member, "away", self.clock() - started)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Heard(member, "not a Beacon", self.clock() - started, says="the answer is not JSON")
        if not isinstance(answer, dict) or not isinstance(answer.get("meta"), dict):
            return Heard(member, "not a Beacon", seconds, says="the answer has no meta")
        if response.status_code >= 400 or "error" in answer:
            error = answer.get("error")
            says = str(error.get("errorMessage", ""))[:300] if isinstance(error, dict) else ""
            return Heard(member, "refused", seconds, answer, says)
        return Heard(member, "answered", seconds, answer)

    def _timeout(self) -> httpx.Timeout:
        return httpx.Timeout(self.deadline_s, connect=min(CONNECT_S, self.deadline_s))

    def service(self) -> Document:
        """``/service-info``, with the members and whether each answered when it was asked last."""

        def answered(member: Member) -> None:
            if member.name in self.suspected:
                raise Unavailable("it did not answer when it was asked last.")

        capabilities: Document = {
            "entryTypes": [each.id for each in ALL_TYPES],
            "members": [each.name for each in self.members],
            "deadlineSeconds": self.deadline_s,
            "streaming": ["text/event-stream"],
        }
        checks = {f"member {each.name}": partial(answered, each) for each in self.members}
        return documents.service(self.identity, capabilities, tested(checks))

    async def answer(self, path: str, entry: EntryType, asked: Asked, authorization: str = "") -> Document:
        """Everybody's answers as one. ``exists`` is true if somebody has it, the counts are added."""
        heard = [each async for each in self.ask(path, asked, authorization)]
        return self.merged(entry, asked, heard)

    def merged(self, entry: EntryType, asked: Asked, heard: Sequence[Heard]) -> Document:
        """One document of what was heard, members in their own order."""
        order = {member.name: at for at, member in enumerate(self.members)}
        heard = sorted(heard, key=lambda each: order[each.member.name])
        answers = [each for each in heard if each.outcome == "answered"]
        summaries = [_summary(each) for each in answers]
        summary: Document = {"exists": any(bool(each.get("exists")) for each in summaries)}
        lowered = {cast(Document, each.answer["meta"]).get("returnedGranularity") for each in answers}
        lower = asked.granularity == "record" and lowered == {"count"}
        granularity: Granularity = "count" if lower else asked.granularity
        page: Document = {"skip": asked.skip, "limit": asked.limit}
        document: Document = {
            "meta": documents.meta(self.identity, asked, entry, granularity, page),
            "responseSummary": summary,
            "info": {
                "nodes": [each.told for each in heard],
                "complete": len(answers) == len(self.members),
            },
        }
        if asked.granularity == "boolean":
            return document
        key = "collections" if entry.collection else "resultSets"
        sets = once([part for each in answers for part in _parts(each, key)])
        counted = [part["resultsCount"] for part in sets if isinstance(part.get("resultsCount"), int)]
        totals = [each.get("numTotalResults") for each in summaries]
        # With the sets at hand, data that two members serve is counted once; else the members' sums are all there is.
        numbers = counted if sets and not entry.collection else totals
        summary["numTotalResults"] = len(sets) if entry.collection else sum(n for n in numbers if isinstance(n, int))
        said = {str(each["countPrecision"]) for each in summaries if "countPrecision" in each}
        if rough := [word for word in ("imprecise", "rounded") if word in said]:
            summary["countPrecision"] = rough[0]
        if asked.granularity == "record" and (asked.include != "NONE" or entry.collection):
            document["response"] = {key: list[Json](sets)}
        return document


def body_of(asked: Asked) -> Document:
    """The question as a POST to a member. Page tokens are not passed on: they hold at one Beacon only."""
    return {
        "meta": {"apiVersion": documents.API_VERSION, "requestedSchemas": []},
        "query": {
            "requestParameters": cast(Json, dict(asked.parameters)),
            "filters": [cast(Json, dict(each)) for each in asked.filters],
            "filtersLogic": asked.logic,
            "requestedGranularity": asked.granularity,
            "includeResultsetResponses": asked.include,
            "pagination": {"skip": asked.skip, "limit": asked.limit},
            "testMode": asked.test_mode,
        },
    }


def _summary(heard: Heard) -> Mapping[str, Json]:
    summary = heard.answer.get("responseSummary")
    return summary if isinstance(summary, dict) else {}


def _parts(heard: Heard, key: str) -> list[Document]:
    """A member's result sets or collections, each saying whose it is."""
    response = heard.answer.get("response")
    parts = response.get(key) if isinstance(response, dict) else None
    meta = heard.answer["meta"]
    beacon = meta.get("beaconId") if isinstance(meta, dict) else None
    found = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return [part | {"beaconId": part.get("beaconId") or beacon} for part in found]


def result_sets(heard: Sequence[Heard]) -> list[Document]:
    """The result sets of all who answered, each dataset once; ``member`` is who told it."""
    answers = [each for each in heard if each.outcome == "answered"]
    return once([part | {"member": each.member.name} for each in answers for part in _parts(each, "resultSets")])


def once(parts: Sequence[Document]) -> list[Document]:
    """Each dataset once. Served by two members, the answer with the stricter minimum stands: the other would leak."""
    kept: dict[str, Document] = {}
    for part in parts:
        name = str(part.get("id", len(kept)))
        if name not in kept or _floor(part) > _floor(kept[name]):
            kept[name] = part
    return list(kept.values())


def _floor(part: Document) -> int:
    info = part.get("info")
    floor = info.get("minimumPeople") if isinstance(info, dict) else None
    return floor if isinstance(floor, int) else 0


# addresses


def application(network: Network, *, prefix: str = "/api", capacity: int = CAPACITY) -> Starlette:
    """The network at ``prefix``. ``Accept: text/event-stream`` gives members' answers as they come."""
    identity = network.identity
    say: dict[str, Callable[[], Document]] = {
        "": lambda: documents.informational(identity, documents.info(identity)),
        "/": lambda: documents.informational(identity, documents.info(identity)),
        "/info": lambda: documents.informational(identity, documents.info(identity)),
        "/service-info": network.service,
        "/configuration": lambda: documents.informational(identity, documents.configuration((), ALL_TYPES)),
        "/map": lambda: documents.informational(identity, documents.beacon_map(identity, ALL_TYPES)),
        "/entry_types": lambda: documents.informational(identity, documents.entry_types(ALL_TYPES)),
        "/filtering_terms": lambda: documents.informational(identity, documents.filtering_terms()),
        "/health": lambda: {"status": "ok", "suspected": list[Json](sorted(network.suspected))},
    }
    routes = [Route(f"{prefix}{path}", saying(make), methods=["GET"]) for path, make in say.items()]
    routes += [
        Route(f"{prefix}/{entry.path}", _told(network, _asking(network, entry)), methods=BOTH) for entry in ALL_TYPES
    ]
    routes += [
        Route(f"{prefix}/logo.svg", logo, methods=["GET"]),
        Route("/{rest:path}", _told(network, lost(prefix)), methods=BOTH),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(Capacity, most=capacity, identity=identity)
    return app


def _told(network: Network, handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except FederomeError as failure:
            return failed(network.identity, failure)

    return answer


def _asking(network: Network, entry: EntryType) -> Handler:
    async def ask(request: Request) -> Response:
        asked = await read_asked(request)
        authorization = request.headers.get("authorization", "")
        if "text/event-stream" in request.headers.get("accept", ""):
            events = _events(network, entry, asked, authorization)
            patience = network.deadline_s + SEND_S
            return _Stream(events, patience)
        return sent(_ENCODE(await network.answer(entry.path, entry, asked, authorization)))

    return ask


class _Stream(StreamingResponse):
    """Server-sent events to a reader who is left where reading takes too long: a place is not held for ever."""

    def __init__(self, events: AsyncIterator[bytes], patience_s: float) -> None:
        super().__init__(events, media_type="text/event-stream", headers=HEADERS)
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        with anyio.move_on_after(self._patience_s):
            await super().__call__(scope, receive, send)


async def _events(network: Network, entry: EntryType, asked: Asked, authorization: str) -> AsyncIterator[bytes]:
    """Server-sent events: ``node`` for each member as it answers, then ``answer`` with everything merged."""
    heard = []
    async for each in network.ask(entry.path, asked, authorization):
        heard.append(each)
        parts = _parts(each, "collections" if entry.collection else "resultSets") if each.answer else []
        yield b"event: node\ndata: " + _ENCODE(each.told | {"results": list[Json](parts)}) + b"\n\n"
    yield b"event: answer\ndata: " + _ENCODE(network.merged(entry, asked, heard)) + b"\n\n"
