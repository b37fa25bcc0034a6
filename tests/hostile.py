"""Servers that misbehave, on the loopback interface: they hang, drip, flood, pack, or send elsewhere."""

from __future__ import annotations

import gzip
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final

Answer = Callable[[socket.socket], None]
Hostile = Callable[[Answer], str]
FLOOD_BYTES: Final = 24 << 20
"""More than any bound of answers."""


@contextmanager
def serving() -> Iterator[Hostile]:
    """Starts a server that answers each connection as told; gives its address."""
    held: list[socket.socket] = []

    def start(answer: Answer) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        held.append(listening)

        def serve() -> None:
            try:
                while True:
                    talking, _ = listening.accept()
                    with closing(talking):
                        _hear(talking)
                        answer(talking)
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for listening in held:
        listening.close()


def _hear(talking: socket.socket) -> None:
    """The whole request: whoever hangs up on unread bytes takes the answer back."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += talking.recv(65_536) or b"\r\n\r\n"
    head, _, body = heard.partition(b"\r\n\r\n")
    left = int((re.findall(rb"(?i)content-length: *(\d+)", head) or [b"0"])[0]) - len(body)
    while left > 0 and (more := talking.recv(65_536)):
        left -= len(more)


def said(body: bytes, status: str = "200 OK", more: bytes = b"") -> Answer:
    """One whole answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n".encode()

    def answer(talking: socket.socket) -> None:
        talking.sendall(head + more + b"\r\n" + body)

    return answer


def drip(talking: socket.socket) -> None:
    """For ever: whoever waits for the end of it does not pass the test."""
    talking.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        talking.sendall(b" ")
        time.sleep(0.05)


def drip_heads(talking: socket.socket) -> None:
    """The same before the body: no line of it is late, and none the last."""
    talking.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        talking.sendall(b"X-Slow: 1\r\n")
        time.sleep(0.05)


def flood(talking: socket.socket) -> None:
    """Of the right kind, and without an end that anybody waits for."""
    talking.sendall(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"keys":[')
    for _ in range(FLOOD_BYTES // (315 * 13)):
        talking.sendall(b'{"kty":"EC"},' * 315)


def hang(_talking: socket.socket) -> None:
    """Says nothing."""
    time.sleep(3)


PACKED: Final = said(gzip.compress(bytes(FLOOD_BYTES)), more=b"Content-Encoding: gzip\r\n")
"""Small on its way, and large where it is read."""
ELSEWHERE: Final = said(b"{}", "302 Found", b"Location: http://127.0.0.1:1/\r\n")
HTML: Final = said(b"<p>Log in first</p>", more=b"Content-Type: text/html\r\n")
