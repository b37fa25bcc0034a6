"""The hub's HTTP face towards nodes and releaser: long poll, leases, idempotent answers, streamed parts.

All state is in the ledger; this module only translates. Faces for people (WES and later ones) are routers passed in.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from io import BufferedWriter
from pathlib import Path
from typing import Final

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.types import Receive, Scope, Send

from federome import __version__
from federome.errors import FederomeError, Invalid, Refused
from federome.network.doors import open_to
from federome.network.jobs import Coordinator
from federome.network.protocol import (
    INLINE_BYTES,
    MAX_LETTER_BYTES,
    MAX_PART_BYTES,
    MAX_REPLY_BYTES,
    POLL_S,
    PREFIX,
    Reply,
    decode_reply,
    encode_tasks,
)
from federome.network.transport import PARTY_TYPE
from federome.trust.signing import OWN_ALGORITHMS, Verified, check_claims, verify

MSGPACK: Final = "application/msgpack"
TICK_S: Final = 0.5
LOOK_S: Final = 5.0
"""How often a poll looks whether its caller is still there."""
MAX_HEARTBEAT_BYTES: Final = 1 << 14
UPLOAD_PIECE: Final = 1 << 20
TOKENS_REMEMBERED: Final = 1024


class Waiters:
    """Who waits for work. ``wake`` may be called from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._local: dict[str, threading.Event] = {}

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Know the event loop that polls wait in."""
        self._loop = loop

    def local(self, party: str, ready: threading.Event) -> None:
        """A party in this process is woken through its own event."""
        self._local[party] = ready

    def wake(self, *parties: str) -> None:
        """Something is due for these parties."""
        for ready in filter(None, map(self._local.get, parties)):
            ready.set()
        remote = [party for party in parties if party not in self._local]
        if remote and self._loop is not None:
            self._loop.call_soon_threadsafe(self._let_go, remote)

    @contextmanager
    def expected(self, party: str) -> Iterator[asyncio.Future[None]]:
        """What a poll of this party waits for, from now on; in the event loop only."""
        woken = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(party, set()).add(woken)
        try:
            yield woken
        finally:
            self._waiting[party].discard(woken)

    def wake_all(self) -> None:
        """Let every open poll return: the hub is about to stop."""
        self._let_go(list(self._waiting))

    def _let_go(self, parties: Sequence[str]) -> None:
        for party in parties:
            for woken in self._waiting.get(party, ()):
                _end(woken)


class Callers:
    """Checks the token of each request; a token seen before is not verified again before it expires."""

    def __init__(self, coordinator: Coordinator, hub: str, clock: Callable[[], float]) -> None:
        self._coordinator, self._hub, self._clock = coordinator, hub, clock
        self._known: dict[str, tuple[str, float]] = {}

    def party(self, request: Request) -> str:
        """The member who calls; ``Refused`` otherwise."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            raise Refused("this call needs a party's token.", codes=["token_invalid"])
        now = self._clock()
        kid, until = self._known.get(token, ("", 0.0))
        if now >= until:
            verified = self._verified(token, now)
            check_claims(verified.payload, now=now, audience=self._hub, require=("iss", "aud", "iat", "exp"))
            if verified.payload["iss"] != verified.owner:
                raise Refused("the token names another party.", codes=["token_invalid"])
            kid, until = verified.kid, float(str(verified.payload["exp"]))
            if len(self._known) >= TOKENS_REMEMBERED:
                self._known = {t: held for t, held in self._known.items() if held[1] > now}
            self._known[token] = (kid, until)
        # A key that has ended, or whose owner has left, ends the tokens that it signed before.
        return self._coordinator.members.ring().find(kid, now=now).owner

    def _verified(self, token: str, now: float) -> Verified:
        members = self._coordinator.members
        held = members.ring()
        try:
            return verify(token, held, typ=PARTY_TYPE, algorithms=OWN_ALGORITHMS, now=now)
        except Refused:
            members.refresh()  # a party may sign with its next key before this list names it
            if members.ring() is held:
                raise
            return verify(token, members.ring(), typ=PARTY_TYPE, algorithms=OWN_ALGORITHMS, now=now)


def create_app(
    coordinator: Coordinator,
    *,
    hub: str,
    waiters: Waiters,
    clock: Callable[[], float] = time.time,
    routers: Sequence[APIRouter] = (),
    stopping: threading.Event | None = None,
    lend: Callable[[Callable[[], None]], bool] = lambda _first: False,
) -> FastAPI:
    """The hub as an ASGI application. ``hub`` is its name, the audience of every token.

    ``lend`` gives something to do to the thread of a party in this process, if it has nothing to do (``local.py``).
    """
    ended = stopping or threading.Event()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        waiters.start(asyncio.get_running_loop())
        ticking = asyncio.create_task(_tick(coordinator, ended))
        yield
        ended.set()
        waiters.wake_all()
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking

    callers = Callers(coordinator, hub, clock)
    app = _Application(title="Federome hub", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.turns = _Turns(coordinator, callers, waiters, ended, lend)
    app.add_exception_handler(FederomeError, _problem)
    app.include_router(_blobs(coordinator, callers))
    app.include_router(_letters(coordinator, callers))
    for router in routers:
        app.include_router(router)
    return app


class _Turns:
    """The three calls that every party makes in every round, answered without the framework's routing in between."""

    def __init__(
        self,
        coordinator: Coordinator,
        callers: Callers,
        waiters: Waiters,
        ended: threading.Event,
        lend: Callable[[Callable[[], None]], bool],
    ) -> None:
        self._coordinator, self._callers, self._waiters, self._ended = coordinator, callers, waiters, ended
        self._lend = lend
        self.calls = {
            ("GET", f"{PREFIX}/work"): self._work,
            ("POST", f"{PREFIX}/heartbeat"): self._heartbeat,
            ("POST", f"{PREFIX}/reply"): self._reply,
        }

    def takes(self, scope: Scope) -> bool:
        """Whether this is one of them."""
        return scope["type"] == "http" and (scope["method"], scope["path"]) in self.calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI face."""
        request = Request(scope, receive)
        try:
            response = await self.calls[scope["method"], scope["path"]](request, self._callers.party(request))
        except FederomeError as error:
            response = await _problem(request, error)
        await response(scope, receive, send)

    @open_to("party")
    async def _work(self, request: Request, party: str) -> Response:
        return await self._due(request, party, _seconds(request, POLL_S))

    @open_to("party")
    async def _heartbeat(self, request: Request, party: str) -> Response:
        try:
            tasks = msgspec.msgpack.decode(await bounded(request, MAX_HEARTBEAT_BYTES), type=list[str])
        except msgspec.DecodeError as error:
            raise Invalid("a heartbeat is a list of tasks.") from error
        self._coordinator.heartbeat(party, _instance(request), tasks)
        return Response(status_code=204)

    @open_to("party")
    async def _reply(self, request: Request, party: str) -> Response:
        received = await bounded(request, MAX_REPLY_BYTES)
        answer, wait = decode_reply(received), _seconds(request, 0.0)
        said = party, request.query_params.get("task", ""), answer
        # All but the last answer of a step change memory only, which takes less time than to hand them to a thread.
        if len(received) > INLINE_BYTES or not self._coordinator.take_at_once(*said):
            await self._take(*said)
        return await self._due(request, party, wait) if wait > 0 else Response(encode_tasks(()), media_type=MSGPACK)

    async def _take(self, party: str, task: str, answer: Reply) -> None:
        """Take an answer in another thread: of the party that comes next, if it waits in this process."""
        if self._coordinator.is_followed_within(task):
            taken = Future[None]()
            if self._lend(partial(_resolve, taken, partial(self._coordinator.reply, party, task, answer))):
                return await asyncio.wrap_future(taken)
        return await run_in_threadpool(self._coordinator.reply, party, task, answer)

    async def _due(self, request: Request, party: str, wait: float) -> Response:
        """What the party has to do, as soon as there is something, or nothing after ``wait`` seconds."""
        instance, end = _instance(request), time.monotonic() + min(wait, POLL_S)
        while True:
            with self._waiters.expected(party) as woken:
                tasks = self._coordinator.poll(party, instance)  # from memory
                left = end - time.monotonic()
                if tasks or left <= 0 or self._ended.is_set():
                    return Response(encode_tasks(tasks), media_type=MSGPACK)
                await _until(woken, min(left, LOOK_S))
            if _hung_up(request):
                return Response(encode_tasks(()), media_type=MSGPACK)


class _Application(FastAPI):
    turns: _Turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.turns if self.turns.takes(scope) else super().__call__)(scope, receive, send)


def _blobs(coordinator: Coordinator, callers: Callers) -> APIRouter:
    inner = APIRouter(prefix=PREFIX)

    @inner.put("/runs/{run}/blobs")
    @open_to("asked")
    async def upload(request: Request, run: str, name: str) -> Response:
        party = callers.party(request)
        await _receive(request, coordinator, party, run, name)
        return Response(status_code=204)

    @inner.get("/runs/{run}/blobs")
    @open_to("asked")
    async def download(request: Request, run: str, name: str) -> Response:
        party = callers.party(request)
        pieces = await run_in_threadpool(_first, coordinator.download(party, run, name))
        return StreamingResponse(iterate_in_threadpool(pieces), media_type="application/octet-stream")

    return inner


def _letters(coordinator: Coordinator, callers: Callers) -> APIRouter:
    inner = APIRouter(prefix=PREFIX)

    @inner.post("/letters")
    @open_to("party")
    async def carry(request: Request, to: str, name: str) -> Response:
        party = callers.party(request)
        sealed = (await bounded(request, MAX_LETTER_BYTES)).decode("ascii", "replace")
        await run_in_threadpool(coordinator.carry, party, to, name, sealed)
        return Response(status_code=204)

    return inner


async def _receive(request: Request, coordinator: Coordinator, party: str, run: str, name: str) -> None:
    """Take an upload piece by piece: small ones into the database, large ones into a file."""
    await run_in_threadpool(coordinator.may_upload, party, run, name)
    intake = _Intake(coordinator.ledger.temporary())
    held: list[bytes] = []
    size = waiting = 0
    try:
        async for piece in request.stream():
            held.append(piece)
            size += len(piece)
            waiting += len(piece)
            if size > MAX_PART_BYTES:
                raise Invalid("the part is too large.", remedy="Use smaller blocks.")
            if waiting > UPLOAD_PIECE:
                await run_in_threadpool(intake.write, held)
                held, waiting = [], 0
        if size == waiting:
            await run_in_threadpool(coordinator.upload, party, run, name, b"".join(held))
        else:
            sha256 = await run_in_threadpool(intake.close, held)
            await run_in_threadpool(coordinator.take_file, party, run, name, intake.path, sha256, size)
    finally:
        await run_in_threadpool(intake.discard)


class _Intake:
    """A large upload on its way into a file, hashed as it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digest = hashlib.sha256()
        self._file: BufferedWriter | None = None

    def write(self, pieces: Sequence[bytes]) -> None:
        """Pieces that arrived."""
        self._file = self._file or self.path.open("wb")
        for piece in pieces:
            self._digest.update(piece)
            self._file.write(piece)

    def close(self, pieces: Sequence[bytes]) -> str:
        """The last pieces; gives the SHA-256 of all."""
        self.write(pieces)
        assert self._file is not None
        self._file.close()
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Whatever was not taken over is removed."""
        if self._file is not None:
            self._file.close()
            self.path.unlink(missing_ok=True)


async def bounded(request: Request, limit: int) -> bytes:
    """A request's body; ``Invalid`` as soon as it is too large."""
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) > limit:
            raise Invalid("the request is too large.", remedy="Upload large parts first.")
    return bytes(held)


def _resolve(future: Future[None], work: Callable[[], None]) -> None:
    """Do something whose end somebody waits for in another thread, unless they have gone."""
    if future.set_running_or_notify_cancel():
        try:
            work()
            future.set_result(None)
        except BaseException as error:  # noqa: BLE001 -- it is raised where it is waited for
            future.set_exception(error)


async def _until(woken: asyncio.Future[None], seconds: float) -> None:
    """Wait until it is done, for so long at most; then it is done, too."""
    late = asyncio.get_running_loop().call_later(seconds, _end, woken)
    try:
        await woken
    finally:
        late.cancel()


def _end(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


async def _tick(coordinator: Coordinator, ended: threading.Event) -> None:
    while not ended.is_set():
        await run_in_threadpool(coordinator.tick)
        await asyncio.sleep(TICK_S)


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, FederomeError)
    headers = {"Retry-After": "5"} if error.status == 503 else {}
    return JSONResponse(
        error.problem(), status_code=error.status, media_type="application/problem+json", headers=headers
    )


def _first(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Fetch the first piece now, so that a missing document is an error and not a broken stream."""
    first = next(pieces, b"")

    def rest() -> Iterator[bytes]:
        yield first
        yield from pieces

    return rest()


def _hung_up(request: Request) -> bool:
    """Whether the caller is gone: tasks are not leased to a connection that nobody reads.

    One step of ``receive`` tells; what it would have waited for stays for the next who asks.
    """
    waiting = request.receive()
    try:
        waiting.send(None)  # type: ignore[attr-defined]
    except StopIteration as told:
        return bool(told.value["type"] == "http.disconnect")
    waiting.close()  # type: ignore[attr-defined]
    return False


def _seconds(request: Request, otherwise: float) -> float:
    """How long the caller will wait."""
    try:
        wait = float(request.query_params.get("wait", otherwise))
    except ValueError:
        wait = -1.0
    if not wait >= 0:
        raise Invalid("this is no time to wait.", where="wait", remedy="A number of seconds, 0 or more.")
    return wait


def _instance(request: Request) -> str:
    return request.headers.get("federome-instance", "")[:80]
