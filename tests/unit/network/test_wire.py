"""The party's own HTTP client against a bare server in a thread that misbehaves as told."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from federome.errors import Unavailable
from federome.network.wire import PIECE, TOGETHER, Wire


class Server(ThreadingHTTPServer):
    daemon_threads = True
    connections = 0
    cut_next = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.silent = threading.Event()

    def handle_error(self, *_: object) -> None:
        """Clients hang up in the middle here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        if self.path.endswith("/silent"):
            self.server.silent.wait(20)
            return
        if self.path.endswith("/hang-up"):
            self.close_connection = True
            return
        answer = body if self.command == "POST" else b"x" * (2 * PIECE + 7)
        self.send_response(418 if "teapot" in self.path else 200)
        if "chunks" in self.path:
            self.send_header("Transfer-Encoding", "chunked")
            answer = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (answer[:9], answer[9:], b""))
        else:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = self.server.cut_next  # without saying so: the client thinks that it may go on
        self.server.cut_next = False

    do_GET = do_POST = handle_one  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        working = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        working.start()
        yield serving
        serving.silent.set()
        serving.shutdown()
        working.join()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    made = Wire(f"http://127.0.0.1:{server.server_port}/base", ssl.create_default_context(), {"Fixed": "always"})
    yield made
    made.close()


def post(wire: Wire, content: bytes = b"body", path: str = "/echo", patience_s: float = 20.0) -> bytes:
    return wire.call("POST", path, headers={"One": "1"}, patience_s=patience_s, content=content).content


def test_calls_share_a_connection_and_arrive_as_they_were_meant(server: Server, wire: Wire) -> None:
    large = bytes(range(256)) * (TOGETHER // 128)
    assert post(wire) == b"body" and post(wire, large) == large and post(wire, b"") == b""
    told = wire.call("GET", "/teapot", headers={}, patience_s=20.0, params={"name": "part/1 é&"})
    assert (told.status, len(told.content)) == (418, 2 * PIECE + 7)
    assert server.connections == 1
    assert server.seen[-1][:2] == ("GET", "/base/teapot?name=part%2F1+%C3%A9%26")
    host = f"127.0.0.1:{server.server_port}"
    assert {"Host": host, "Fixed": "always", "One": "1"}.items() <= server.seen[0][2].items()


def test_a_stream_comes_in_pieces_and_may_be_left_early(server: Server, wire: Wire) -> None:
    with wire.stream("/all", headers={}, patience_s=20.0, params={}) as (status, pieces):
        assert (status, [len(piece) for piece in pieces]) == (200, [PIECE, PIECE, 7])
    with wire.stream("/some", headers={}, patience_s=20.0, params={}) as (_, pieces):
        assert len(next(pieces)) == PIECE
    assert post(wire) == b"body"  # what was left of the stream does not turn up in the next answer
    assert server.connections == 2


def test_a_connection_that_was_cut_meanwhile_is_made_again(server: Server, wire: Wire) -> None:
    server.cut_next = True
    assert post(wire) == b"body" and post(wire, b"again") == b"again"
    assert server.connections == 2
    assert [body for *_, body in server.seen] == [b"body", b"again"]


def test_a_server_that_is_silent_hangs_up_or_is_away_is_unavailable(server: Server, wire: Wire) -> None:
    for path, patience_s in (("/silent", 0.5), ("/hang-up", 20.0)):
        with pytest.raises(Unavailable, match="out of reach"):
            post(wire, path=path, patience_s=patience_s)
    assert len(server.seen) == 2  # on a new connection nothing is tried twice here
    with Server() as gone:
        port = gone.server_port
    with pytest.raises(Unavailable, match="out of reach"):
        post(Wire(f"http://127.0.0.1:{port}", ssl.create_default_context(), {}))


@pytest.mark.parametrize("path", ["/all", "/chunks"])
def test_an_answer_beyond_its_bound_is_not_read(server: Server, wire: Wire, path: str) -> None:
    size = 2 * PIECE + 7
    told = wire.call("GET", path, headers={}, patience_s=20.0, max_bytes=size)
    assert len(told.content) == size
    with pytest.raises(Unavailable, match="too large"):
        wire.call("GET", path, headers={}, patience_s=20.0, max_bytes=size - 1)
    assert post(wire) == b"body"  # what was left does not turn up in the next answer
    assert server.connections == 2


def test_a_header_holds_no_line_break(wire: Wire) -> None:
    with pytest.raises(ValueError, match="line break"):
        wire.call("GET", "/x", headers={"One": "1\r\n\r\nGET /y"}, patience_s=1.0)


def test_the_environment_names_the_proxy(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Wire("https://hub.example:8443", ssl.create_default_context(), {})
    monkeypatch.setenv("https_proxy", "http://me:pass%20word@proxy.example:3129")
    monkeypatch.setenv("no_proxy", "near.example")
    through = made._connection()
    assert (through.host, through.port) == ("proxy.example", 3129)
    assert (through._tunnel_host, through._tunnel_port) == ("hub.example", 8443)  # type: ignore[attr-defined]
    assert through._tunnel_headers["Proxy-Authorization"] == "Basic bWU6cGFzcyB3b3Jk"  # type: ignore[attr-defined]
    direct = Wire("https://near.example", ssl.create_default_context(), {})._connection()
    assert (direct.host, direct.port) == ("near.example", 443)
