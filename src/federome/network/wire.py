"""HTTP/1.1 over kept-alive TLS connections, for the calls that a party makes in every round.

A general client spends more on each call than the call itself takes: a millisecond against a quarter, and a round of a
run is one call. This one knows only what the inner edge needs: a request with its body in hand, and an answer that is
read whole or in pieces. Certificates are checked by the context that is passed in.
"""

from __future__ import annotations

import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, RemoteDisconnected
from typing import Final
from urllib.parse import unquote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from federome.errors import Unavailable
from federome.network.protocol import Content, nothing

CONNECT_S: Final = 10.0
TOGETHER: Final = 1 << 16
"""A body up to this size leaves in one write with the head, and so arrives in one piece."""
PIECE: Final = 1 << 20
MAX_ANSWER_BYTES: Final = 1 << 28
"""Of an answer that is read whole: tasks of many runs with what belongs to them."""
_STALE: Final = (RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)


@dataclass(frozen=True)
class Answered:
    """A whole answer."""

    status: int
    content: bytes


class Wire:
    """Connections to one server. Safe for several threads: each call has a connection of its own while it lasts."""

    def __init__(self, url: str, context: ssl.SSLContext, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._secure, self._host = parts.scheme == "https", parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._base, self._context = parts.path.rstrip("/"), context
        fixed = {"Host": parts.netloc.rpartition("@")[2], **headers}
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()

    def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        patience_s: float,
        params: Mapping[str, str] | None = None,
        content: Content | None = None,
        meanwhile: Callable[[], None] = nothing,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answered:
        """The whole answer; ``Unavailable`` when the server cannot be reached, is silent for ``patience_s`` or floods.

        ``meanwhile`` is done while the server works, as often as the request is sent.
        """
        with self._explained():
            sock, response = self._sent(method, path, params, headers, content, patience_s, meanwhile)
            try:
                told = Answered(response.status, _whole(response, max_bytes))
            except BaseException:
                _hang_up(sock, response)
                raise
            self._give_back(sock, response)
            return told

    @contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str], patience_s: float, params: Mapping[str, str]
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Status and pieces of a GET, while the block lasts."""
        with self._explained():
            sock, response = self._sent("GET", path, params, headers, None, patience_s)
            try:
                yield response.status, iter(lambda: response.read(PIECE), b"")
            except BaseException:
                _hang_up(sock, response)
                raise
            self._give_back(sock, response)

    def close(self) -> None:
        """Let all idle connections go."""
        with self._lock:
            idle, self._idle = self._idle, []
        for sock in idle:
            sock.close()

    def _sent(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str],
        content: Content | None,
        patience_s: float,
        meanwhile: Callable[[], None] = nothing,
    ) -> tuple[socket.socket, HTTPResponse]:
        """Send a request and read the head of its answer; once more where a connection had been cut meanwhile."""
        query = f"?{urlencode(params)}" if params else ""
        head = f"{method} {self._base}{path}{query} HTTP/1.1\r\n{self._fixed}"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if content is not None:
            head += f"Content-Length: {len(content)}\r\n"
        if any("\n" in value or "\r" in value for value in (path, *headers.values())):
            raise ValueError("a header holds a line break")
        begun = f"{head}\r\n".encode("latin-1")
        while True:
            with self._lock:
                sock = self._idle.pop() if self._idle else None
            kept = sock is not None
            sock = sock or self._connect()
            try:
                return sock, _exchange(sock, method, begun, content or b"", patience_s, meanwhile)
            except BaseException as error:
                sock.close()
                # Every call of the inner edge may be repeated, so it does not matter how far this one came.
                if not (kept and isinstance(error, _STALE)):
                    raise

    def _connect(self) -> socket.socket:
        connection = self._connection()
        connection.connect()
        sock: socket.socket = connection.sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _connection(self) -> HTTPConnection:
        """Not yet open; through the proxy that the environment names for such addresses, if it names one."""
        proxy = getproxies().get("https" if self._secure else "http")
        if not self._secure:
            return HTTPConnection(self._host, self._port, timeout=CONNECT_S)
        if proxy is None or proxy_bypass(self._host):
            return HTTPSConnection(self._host, self._port, timeout=CONNECT_S, context=self._context)
        by = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = HTTPSConnection(by.hostname or "", by.port or 3128, timeout=CONNECT_S, context=self._context)
        login = f"{unquote(by.username)}:{unquote(by.password or '')}" if by.username else ""
        known = {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}
        connection.set_tunnel(self._host, self._port, known)
        return connection

    def _give_back(self, sock: socket.socket, response: HTTPResponse) -> None:
        if response.will_close or not response.isclosed():
            _hang_up(sock, response)
            return
        with self._lock:
            self._idle.append(sock)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, HTTPException) as error:
            raise Unavailable(f"the hub is out of reach ({type(error).__name__}).") from error


def _whole(response: HTTPResponse, max_bytes: int) -> bytes:
    if response.length is not None and response.length <= max_bytes:
        return response.read()
    content = b"" if response.length is not None else response.read(max_bytes)
    if response.length is not None or response.read(1):  # which also ends an answer that comes in chunks
        raise Unavailable("the hub's answer is too large.")
    return content


def _exchange(
    sock: socket.socket, method: str, head: bytes, content: Content, patience_s: float, meanwhile: Callable[[], None]
) -> HTTPResponse:
    sock.settimeout(patience_s)
    if len(content) <= TOGETHER:
        sock.sendall(head + content)
    else:
        sock.sendall(head)
        # A server may answer, and hang up, before it has all of what it will not take: its answer is worth reading.
        with suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(content)
    meanwhile()
    response = HTTPResponse(sock, method=method)
    try:
        response.begin()
    except BaseException:
        response.close()
        raise
    return response


def _hang_up(sock: socket.socket, response: HTTPResponse) -> None:
    """Both: a socket stays open as long as what reads from it does."""
    response.close()
    sock.close()
