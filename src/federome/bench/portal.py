"""What the portal costs: pages beside an empty answer of the same server, the first view, silent nodes, a crowd.

A hub runs as a real process over TLS, with ready-made people and two applications; its 27 Beacons are real too, and two
of the addresses take connections and never answer.
"""

from __future__ import annotations

import re
import ssl
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Final

import httpx2 as httpx
import numpy as np
from rich.console import Console

from federome.bench.beacon import DEAD, MEMBERS, NODES, STRATA, deaf_ports, make, served
from federome.bench.report import Row, at_most
from federome.demo import portal
from federome.demo.local import LocalFederation
from federome.network.transport import tls_context
from federome.standards.beacon.hub import BEACONS

PEOPLE: Final = 50
SILENT: Final = range(NODES - DEAD, NODES)
EMPTY: Final = "/portal/static/mark.svg"
PAGES: Final = (
    "/portal",
    "/portal/register",
    "/portal/datasets",
    "/portal/log",
    "/portal/search?q=LDL",
    "/portal/login",
)
FIRST: Final = ("/portal", "/portal/static/federome.css", "/portal/static/live.js", EMPTY)
TIMES_EMPTY: Final = 5.0
FIRST_BYTES: Final = 150_000


def measure(console: Console, quick: bool) -> list[Row]:
    """All rows. ``quick`` asks less often."""
    asks = 10 if quick else 40
    with tempfile.TemporaryDirectory() as root, console.status("making a table") as status:
        table = Path(root, "table")
        make(table, "bench", 2_000, strata=STRATA[:3], seed=1)
        with (
            served(MEMBERS, str(table), tail=[str(NODES - DEAD)], ready="/n0/api/health") as members,
            deaf_ports(DEAD) as deaf,
        ):
            urls = [f"http://127.0.0.1:{members.port}/n{n}/api" for n in range(NODES - DEAD)]
            urls += [f"http://127.0.0.1:{port}/api" for port in deaf]

            def furnish(federation: LocalFederation) -> None:
                portal.furnish(federation, [portal.Holds(node, f"people-{node.lower()}") for node in federation.nodes])
                listed = (f'[[beacons]]\nnode = "N{n}"\ncountry = "FI"\nurl = "{url}"\n' for n, url in enumerate(urls))
                (federation.root / "hub" / BEACONS).write_text("\n".join(listed))

            with LocalFederation(Path(root, "federation"), ("FI", "ES"), furnish=furnish) as federation:
                status.update("starting a hub")
                federation.set_up()
                status.update("asking for pages")
                return rows(federation.url, tls_context(federation.certificate), asks)


def rows(url: str, context: ssl.SSLContext, asks: int) -> list[Row]:
    """The rows of one hub."""
    with httpx.Client(base_url=url, verify=context, timeout=60) as http:
        beside = {page: _beside(http, page, asks) for page in PAGES}
        first = sum(len(_got(http, place)) for place in FIRST)
        time.sleep(31)  # the portal counts requests of one place: a crowd begins with a full allowance
        first_s, first_page = _searched(http)
        whole_s, whole_page = _searched(http, wait="all")
    crowd = _crowd(url, context, each=8)
    slowest = max(beside, key=lambda page: beside[page][0] / beside[page][1])
    page, empty = beside[slowest]
    return [
        at_most(f"the slowest page ({slowest}) over an empty answer", page / empty, "×", TIMES_EMPTY),
        at_most("the same page alone", page, "s", None),
        at_most("first view: page, style, script, mark", first, "bytes", FIRST_BYTES),
        at_most("a search of 27 nodes, two of them silent: what there is so far", first_s, "s", 10.0),
        _named("silent nodes named in it as not heard yet", first_page, "has not answered yet", SILENT),
        at_most("the same, waited for", whole_s, "s", 10.0),
        _named("nodes heard in it", whole_page, "answered", range(NODES - DEAD)),
        _named("silent nodes named in it as late", whole_page, "did not answer in time", SILENT),
        at_most(f"{PEOPLE} people at once: requests that failed", crowd[0], f"of {PEOPLE * 8}", 0),
        at_most("the same: p95 of a page", crowd[1], "s", None),
    ]  # fmt: skip


def _beside(http: httpx.Client, page: str, asks: int) -> tuple[float, float]:
    """Median seconds of a page, and of an empty answer that is asked for in turn with it."""
    _got(http, page)
    taken = [(_seconds(http, page), _seconds(http, EMPTY)) for _ in range(asks)]
    return median(one for one, _ in taken), median(other for _, other in taken)


def _seconds(http: httpx.Client, place: str) -> float:
    started = time.perf_counter()
    _got(http, place)
    return time.perf_counter() - started


def _got(http: httpx.Client, place: str) -> bytes:
    answer = http.get(place)
    answer.raise_for_status()
    return answer.content


def _searched(http: httpx.Client, wait: str = "") -> tuple[float, str]:
    """How long a search takes while nodes are silent, and its page."""
    started = time.perf_counter()
    page = _got(http, f"/portal/frequencies?q=1:100000-100400&wait={wait}").decode()
    return time.perf_counter() - started, page


def _named(name: str, page: str, outcome: str, nodes: range) -> Row:
    """How many of these nodes a page names with an outcome."""
    found = sum(re.search(rf"\bN{node}(?: \([A-Z]+\))?: {outcome}", page) is not None for node in nodes)
    return Row(name, float(found), f"of {len(nodes)}", len(nodes), found == len(nodes))


def _crowd(url: str, context: ssl.SSLContext, *, each: int) -> tuple[int, float]:
    """So many people, every one with a connection of their own: failed requests, and the 95th percentile."""

    def person(number: int) -> list[float]:
        taken: list[float] = []
        with httpx.Client(base_url=url, verify=context, timeout=120) as http:
            for at in range(each):
                started = time.perf_counter()
                try:
                    ok = http.get(PAGES[(number + at) % len(PAGES)]).status_code == 200
                except httpx.HTTPError:
                    ok = False
                taken.append(time.perf_counter() - started if ok else float("inf"))
        return taken

    with ThreadPoolExecutor(PEOPLE) as pool:
        seconds: Sequence[float] = [one for taken in pool.map(person, range(PEOPLE)) for one in taken]
    good = [one for one in seconds if one != float("inf")]
    return len(seconds) - len(good), float(np.quantile(good, 0.95)) if good else float("inf")
