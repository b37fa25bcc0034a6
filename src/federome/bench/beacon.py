"""What a Beacon costs: point queries, pages, crowds, a network with dead members, start and memory.

The data is made here and the harness is all there is: no public benchmark of Beacons existed when it was written. Each
latency is told beside that of the same server's empty endpoint in the same run, so that a slow machine is no excuse and
a fast one no merit. The published figures of peers stand in the README of this benchmark's page, not in its rows.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from rich.console import Console

from federome.bench import beacon_people
from federome.bench.report import Row, at_most
from federome.errors import Unavailable
from federome.model.table import Table
from federome.network import publication
from federome.network.publication import Publication
from federome.standards.beacon.shelf import bind
from federome.trust.canonical import digest_bytes

STRATA: Final = ("Total", "F", "M", *(f"P{n}" for n in range(1, 10)))
NODES: Final = 27
DEAD: Final = 2
WARM: Final = 50
_SERVE: Final = """
import sys
from pathlib import Path
from federome.standards.beacon.documents import Identity
from federome.standards.beacon.serve import serve
from federome.standards.service_info import Operator
port = int(sys.argv[2])
base = f"http://127.0.0.1:{port}"
who = Identity(Operator("bench", "bench", "bench", base, environment="test"), base + "/api")
serve(Path(sys.argv[1]), who, host="127.0.0.1", port=port)
"""
_NETWORK: Final = """
import sys
from federome.standards.beacon.documents import Identity
from federome.standards.beacon.network import Member
from federome.standards.beacon.serve import serve_network
from federome.standards.service_info import Operator
port, base = int(sys.argv[1]), f"http://127.0.0.1:{sys.argv[1]}"
members = [Member(f"N{n}", url) for n, url in enumerate(sys.argv[2:])]
who = Identity(Operator("bench", "bench", "bench", base, environment="test"), base + "/api")
serve_network(members, who, host="127.0.0.1", port=port, deadline_s=1.5)
"""
MEMBERS: Final = """
import sys, uvicorn
from pathlib import Path
from starlette.applications import Starlette
from starlette.routing import Mount
from federome.standards.beacon.documents import Identity
from federome.standards.beacon.routes import application
from federome.standards.beacon.server import Beacon
from federome.standards.beacon.shelf import Shelf
from federome.standards.service_info import Operator
shelf, port = Shelf.open(Path(sys.argv[1])), int(sys.argv[2])
base = f"http://127.0.0.1:{port}"
def member(n):
    who = Identity(Operator(f"bench.n{n}", "bench", "bench", base, environment="test"), f"{base}/n{n}/api")
    return Mount(f"/n{n}", app=application(Beacon(who, lambda: shelf)))
app = Starlette(routes=[member(n) for n in range(int(sys.argv[3]))])
uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
"""


def measure(console: Console, quick: bool) -> list[Row]:
    """All rows. ``quick`` makes a tenth of the variants and asks less often."""
    variants, asks = (27_000, 200) if quick else (270_000, 1_000)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as root, console.status("making a table") as status:
        one, many, first = Path(root, "one"), Path(root, "many"), Path(root, "first")
        positions = make(one, "d0", variants, strata=STRATA[:3], seed=1)
        for number in range(8):
            make(many, f"d{number}", 20_000, strata=STRATA, seed=2)
        make(first, "d0", 20_000, strata=STRATA, seed=2)
        status.update("asking for alleles")
        with served(_SERVE, str(one)) as server:
            rows += _points(server, positions, asks)
        status.update("asking for pages")
        rows += _pages(first, many, asks // 4)
        status.update("asking 27 nodes, two of them dead")
        rows += _network(first, 20 if quick else 100)
        status.update("making people and counting them")
        rows += beacon_people.measure(Path(root), people=50_000 if quick else 1_000_000, asks=asks // 5)
    return rows


def make(folder: Path, dataset: str, variants: int, *, strata: Sequence[str], seed: int) -> list[tuple[int, str, str]]:
    """A published and bound table of single-base variants on chromosome 1; returns their places."""
    rng = np.random.default_rng(seed)
    positions = np.sort(rng.choice(np.arange(10_000, 10_000 + 40 * variants), variants, replace=False))
    bases = np.array(list("ACGT"))
    refs = rng.integers(0, 4, variants)
    alts = (refs + rng.integers(1, 4, variants)) % 4
    called = np.full((variants, len(strata)), 40_000, np.int64)
    counts = np.minimum(20 + (20_000 * rng.random((variants, 1)) ** 8).astype(np.int64), 20_000) * np.ones_like(called)
    none = np.zeros(called.shape, bool)
    table = Table(
        {
            "chromosome": np.full(variants, "1"),
            "position": positions,
            "ref": bases[refs],
            "alt": bases[alts],
            "alternate_alleles": counts,
            "called_alleles": called,
            "homozygous": counts // 4,
            "heterozygous": counts - 2 * (counts // 4),
            "hemizygous": np.zeros_like(counts),
        },
        dict.fromkeys((*publication.COUNTS, *publication.ZYGOSITY), none),
    )
    about = Publication(
        dataset=dataset,
        node="BENCH",
        title=f"Synthetic frequencies {dataset}",
        holder="nobody",
        assembly="GRCh38",
        release=digest_bytes(f"{dataset}{seed}".encode()),
        released_on=date(2026, 1, 1),
        people=20_000,
        strata=tuple(strata),
        k=20,
        sites=variants,
        rho=0.0,
        power=0.05,
        open_data=True,
        synthetic=True,
        table=digest_bytes(table.to_bytes()),
    )
    bind(publication.write(folder, about, table))
    return list(zip(positions.tolist(), bases[refs].tolist(), bases[alts].tolist(), strict=True))


# rows


def _points(server: Server, places: Sequence[tuple[int, str, str]], asks: int) -> list[Row]:
    chosen = np.random.default_rng(3).integers(0, len(places), asks)
    bodies = [_allele(places[at]) for at in chosen.tolist()]
    address = "/api/g_variants"
    with connected(server.port) as http:
        empty = latencies(lambda _: get(http, "/api/health"), bodies)
        point = latencies(lambda body: _found(post(http, address, body)), bodies)
    half = f"point query, p50 {1000 * median(point):.2f} ms"
    rows = [
        at_most(half, median(point) / median(empty), "× an empty one", 3.0),
        _rate("point queries, 8 clients", _crowd(server.port, 8, bodies), 500.0),
    ]  # fmt: skip
    crowd = _crowd(server.port, 32, bodies)
    rows.append(at_most("answers refused or failed, 32 clients", crowd.failed, "of " + str(crowd.asked), 0))
    rows.append(at_most("cold start to the first answer", server.started_s, "s", 2.0))
    rows.append(at_most("memory after all this", server.private_mb(), "MB", 200.0))
    return rows


def _pages(first: Path, many: Path, asks: int) -> list[Row]:
    body = json.dumps(
        {
            "query": {
                "requestParameters": {"referenceName": "1", "start": [100_000], "end": [400_000]},
                "requestedGranularity": "record",
                "pagination": {"limit": 1000},
            }
        }
    ).encode()
    rates = []
    for folder in (first, many):
        with served(_SERVE, str(folder)) as server, connected(server.port) as http:
            sizes = len(post(http, "/api/g_variants", body))
            rates.append((1 / median(latencies(lambda b: post(http, "/api/g_variants", b), [body] * asks)), sizes))
    (one, size), (eight, _) = rates
    return [
        Row(f"pages of 1,000 rows of 12 populations ({size / 1e6:.1f} MB), 1 dataset", one, "per s", 200.0, one >= 200),
        Row("the same page out of 8 datasets", eight, "per s", 200.0, eight >= 200, "1 dataset", one, eight / one),
    ]


def _network(folder: Path, asks: int) -> list[Row]:
    body = json.dumps(
        {
            "query": {
                "requestParameters": {"referenceName": "1", "start": [100_000], "end": [100_400]},
                "requestedGranularity": "record",
                "pagination": {"limit": 10},
            }
        }
    ).encode()
    with (
        served(MEMBERS, str(folder), tail=[str(NODES - DEAD)], ready="/n0/api/health") as members,
        deaf_ports(DEAD) as deaf,
    ):
        urls = [f"http://127.0.0.1:{members.port}/n{n}/api" for n in range(NODES - DEAD)]
        urls += [f"http://127.0.0.1:{port}/api" for port in deaf]
        with served(_NETWORK, tail=urls) as hub, connected(hub.port) as http:
            answers: list[bytes] = []
            seconds = latencies(lambda b: answers.append(post(http, "/api/g_variants", b)), [body] * asks, warm=0)
    told = [json.loads(answer)["info"]["nodes"] for answer in answers]
    named = all(sum(node["outcome"] == "late" for node in nodes) == DEAD for nodes in told)
    heard = [sum(node["outcome"] == "answered" for node in nodes) for nodes in told]
    p95 = float(np.quantile(seconds, 0.95))
    return [
        at_most("27 nodes, two of them dead: p95", p95, "s", 2.0),
        at_most("the same, the first question of all", seconds[0], "s", 10.0),
        Row("living nodes heard in every answer", float(min(heard)), f"of {NODES - DEAD}", NODES - DEAD,
            named and min(heard) == NODES - DEAD),
    ]  # fmt: skip


def _rate(name: str, crowd: Crowd, bar: float) -> Row:
    return Row(name, crowd.rate, "per s", bar, crowd.rate >= bar and not crowd.failed)


# servers and clients


class Server:
    """A process that listens."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, started_s: float) -> None:
        self.process, self.port, self.started_s = process, port, started_s

    def private_mb(self) -> float:
        """Memory that is its own: anonymous pages, without mapped tables, which the system may drop at will."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        kept = next((line for line in lines if line.startswith("RssAnon")), "RssAnon: 0 kB")
        return int(kept.split()[1]) / 1024


@contextmanager
def served(code: str, *head: str, tail: Sequence[str] = (), ready: str = "/api/health") -> Iterator[Server]:
    """A server in a process of its own, from the moment it answers; ended with the block."""
    port = _free_port()
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *head, str(port), *tail], env=os.environ)  # noqa: S603
    try:
        while True:
            try:
                with connected(port) as http:
                    get(http, ready)
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - started > 120:
                    raise Unavailable("the server of the benchmark did not start.") from None
                time.sleep(0.01)
        yield Server(process, port, time.perf_counter() - started)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def deaf_ports(number: int) -> Iterator[list[int]]:
    """Ports where somebody listens and never answers."""
    sockets = [socket.create_server(("127.0.0.1", 0), backlog=512) for _ in range(number)]
    try:
        yield [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def connected(port: int) -> Iterator[http.client.HTTPConnection]:
    """A connection to a server of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        yield connection
    finally:
        connection.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def get(connection: http.client.HTTPConnection, path: str) -> bytes:
    """The body of an answer."""
    connection.request("GET", path)
    return connection.getresponse().read()


def post(connection: http.client.HTTPConnection, path: str, body: bytes) -> bytes:
    """The body of an answer that is no error."""
    connection.request("POST", path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    told = response.read()
    if response.status != 200:
        raise Unavailable(f"the server answered {response.status}.")
    return told


def _found(answer: bytes) -> None:
    if b'"exists":true' not in answer:
        raise Unavailable("a variant that was published was not found.")


def _allele(place: tuple[int, str, str]) -> bytes:
    position, ref, alt = place
    asked = {
        "referenceName": "1",
        "start": [position - 1],
        "end": [position],
        "referenceBases": ref,
        "alternateBases": alt,
        "assemblyId": "GRCh38",
    }
    return json.dumps({"query": {"requestParameters": asked, "requestedGranularity": "record"}}).encode()


def latencies(ask: Callable[[bytes], object], bodies: Sequence[bytes], warm: int = WARM) -> list[float]:
    """Seconds of each question, after some that are not counted."""
    for body in bodies[:warm]:
        ask(body)
    seconds = []
    for body in bodies:
        started = time.perf_counter()
        ask(body)
        seconds.append(time.perf_counter() - started)
    return seconds


class Crowd:
    """What many clients at once got."""

    def __init__(self, asked: int, failed: int, seconds: float) -> None:
        self.asked, self.failed, self.rate = asked, failed, asked / seconds


def _crowd(port: int, clients: int, bodies: Sequence[bytes]) -> Crowd:
    """The questions, shared out over so many clients that ask without pause."""
    failed = [0] * clients

    def work(number: int) -> None:
        with connected(port) as connection:
            for body in bodies[number::clients]:
                try:
                    _found(post(connection, "/api/g_variants", body))
                except (OSError, Unavailable, http.client.HTTPException):
                    failed[number] += 1
                    connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Crowd(len(bodies), sum(failed), time.perf_counter() - started)
