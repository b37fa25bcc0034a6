"""The desk in a process of its own: a Beacon reaches it over a Unix socket and can ask for nothing but its answers.

Whoever breaks into the Beacon, which listens to the world, finds no genotype there and no key, only this socket. Frames
are a length and a MessagePack document; a question is one of four, and an answer is what the door let out.
"""

from __future__ import annotations

import os
import queue
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from federome.errors import FederomeError, Invalid, Missing, Unavailable, from_problem
from federome.model.discovery import Carried, Counted, Person, Room, Sought

if TYPE_CHECKING:
    from federome.network.discovery import Desk  # the Beacon's process needs nothing that reads a store

SOCKET: Final = "desk.sock"
MAX_QUESTION: Final = 1 << 20
MAX_ANSWER: Final = 256 << 20
TIMEOUT_S: Final = 30.0
FRESH_S: Final = 2.0
"""How long what a desk says of its datasets is taken to hold."""
_LENGTH: Final = struct.Struct(">I")
T = TypeVar("T")


class _Rooms(msgspec.Struct, frozen=True, tag=True):
    pass


class _Count(msgspec.Struct, frozen=True, tag=True):
    sought: Sought


class _People(msgspec.Struct, frozen=True, tag=True):
    sought: Sought
    first: int
    limit: int


class _Variants(msgspec.Struct, frozen=True, tag=True):
    sought: Sought


_Question = _Rooms | _Count | _People | _Variants


class _Answer(msgspec.Struct, frozen=True):
    told: msgspec.Raw = msgspec.Raw(b"\xc0")
    problem: dict[str, str | int | list[str]] | None = None


_ENCODER: Final = msgspec.msgpack.Encoder()
_QUESTION: Final = msgspec.msgpack.Decoder(_Question)
_ANSWER: Final = msgspec.msgpack.Decoder(_Answer)


def _answer(desk: Desk, asked: bytes) -> bytes:
    """The encoded answer to an encoded question; an expected failure is an answer as well."""
    try:
        match _QUESTION.decode(asked):
            case _Rooms():
                told: object = desk.rooms()
            case _Count(sought):
                told = desk.count(sought)
            case _People(sought, first, limit):
                told = desk.people(sought, first, limit)
            case _Variants(sought):
                told = desk.variants(sought)
        return _ENCODER.encode(_Answer(told=msgspec.Raw(_ENCODER.encode(told))))
    except FederomeError as failure:
        return _ENCODER.encode(_Answer(problem=failure.problem()))
    except msgspec.DecodeError:
        return _ENCODER.encode(_Answer(problem=Invalid("this is no question to a desk.").problem()))


class DeskServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers at a socket that only this user may open. Start it with ``serve_forever``."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, desk: Desk) -> None:
        with suppress(FileNotFoundError):
            path.unlink()
        before = os.umask(0o177)
        try:
            super().__init__(str(path), _Handler)
        except OSError as error:
            raise Unavailable(f"the desk cannot listen: {error.strerror}.", where=str(path)) from error
        finally:
            os.umask(before)
        self.desk = desk


class _Handler(socketserver.BaseRequestHandler):
    server: DeskServer

    def handle(self) -> None:
        """Questions one after another, until the other side hangs up."""
        with suppress(ConnectionError):
            while (asked := _receive(self.request, MAX_QUESTION)) is not None:
                _send(self.request, _answer(self.server.desk, asked))


class RemoteDesk:
    """See :class:`federome.network.discovery.Desk`: a desk that listens at a socket. Any number of threads may ask."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._idle: queue.LifoQueue[socket.socket] = queue.LifoQueue()
        self._lock = threading.Lock()
        self._rooms: tuple[float, tuple[Room, ...]] | None = None

    def rooms(self) -> tuple[Room, ...]:
        """See :class:`Desk`; asked for anew every few seconds."""
        with self._lock:
            now = self._clock()
            if self._rooms is None or now - self._rooms[0] > FRESH_S:
                self._rooms = now, self._ask(_Rooms(), tuple[Room, ...])
            return self._rooms[1]

    def count(self, sought: Sought) -> Counted:
        """See :class:`Desk`."""
        return self._ask(_Count(sought), Counted)

    def people(self, sought: Sought, first: int, limit: int) -> tuple[Person, ...]:
        """See :class:`Desk`."""
        return self._ask(_People(sought, first, limit), tuple[Person, ...])

    def variants(self, sought: Sought) -> tuple[Carried, ...]:
        """See :class:`Desk`."""
        return self._ask(_Variants(sought), tuple[Carried, ...])

    def close(self) -> None:
        """Hang up."""
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _ask(self, question: _Question, kind: type[T]) -> T:
        sent = _ENCODER.encode(question)
        if len(sent) > MAX_QUESTION:
            raise Invalid("the question is too long.")
        try:
            answer = _ANSWER.decode(self._exchange(sent))
        except msgspec.DecodeError as error:
            raise Unavailable("the desk's answer cannot be read.", where=self._path.name) from error
        if answer.problem is not None:
            if answer.problem.get("status") == Missing.status:
                raise Missing(str(answer.problem.get("detail", "")), where=str(answer.problem.get("where", "")))
            raise from_problem(answer.problem)
        return msgspec.msgpack.decode(answer.told, type=kind)

    def _exchange(self, sent: bytes) -> bytes:
        """One question and its answer over an idle connection; over a new one if that was closed meanwhile."""
        for fresh in (False, True):
            connection = self._connected(fresh=fresh)
            try:
                _send(connection, sent)
                told = _receive(connection, MAX_ANSWER)
            except OSError:
                told = None
            if told is not None:
                self._idle.put(connection)
                return told
            connection.close()
        raise Unavailable("the node's desk does not answer.", remedy="Start it: federome node desk --dir DIR")

    def _connected(self, *, fresh: bool) -> socket.socket:
        if not fresh:
            with suppress(queue.Empty):
                return self._idle.get_nowait()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise Unavailable(
                "the node's desk is not there.", remedy="Start it: federome node desk --dir DIR"
            ) from error
        return connection


def _send(connection: socket.socket, frame: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(frame)) + frame)


def _receive(connection: socket.socket, most: int) -> bytes | None:
    """One frame; ``None`` where the other side hung up or sends too much."""
    head = _exactly(connection, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    return _exactly(connection, length) if length <= most else None


def _exactly(connection: socket.socket, length: int) -> bytes | None:
    out = bytearray()
    while len(out) < length:
        piece = connection.recv(min(length - len(out), 1 << 20))
        if not piece:
            return None
        out += piece
    return bytes(out)
