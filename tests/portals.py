"""A hub with its portal on this machine, a clock that tests move, ready-made people, and a browser."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from socket import socket
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2 as httpx
import uvicorn
from axe_core_python import sync_playwright as axe_package
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.applications import Starlette
from starlette.routing import compile_path
from tests.conftest import missing

from federome.cli.hub import faces
from federome.db import engine
from federome.demo.dev_idp import PEOPLE, DevPerson, create_app, open_idp
from federome.model.permit import PersonKey
from federome.model.registry import Identity, Institution, Person
from federome.network.access import Register, install_register
from federome.network.serve_hub import Hub, build_hub
from federome.network.setup import HubSettings, init_hub
from federome.portal.sessions import IDLE_S, Sessions
from federome.portal.site import PREFIX, SESSION_COOKIE
from federome.trust.canonical import canonical
from federome.trust.keys import PrivateKey, generate, save_private_key

HANGS_S = 120.0
"""Longer than any answer takes on a machine that others use, too."""
MONDAY = datetime(2026, 6, 1, 9, tzinfo=UTC)
AXE = (Path(axe_package.__file__).parent / "axe.min.js").read_text()
AXE = f"""() => {{
  if (window.axe) return;
  {AXE}
  axe.configure({{rules: [
    {{id: "color-contrast", selector: "[data-look]"}}, {{id: "link-in-text-block", selector: "a[href][data-look]"}}
  ]}});
}}"""
LOOK = """known => {
  const seen = new Set(known), added = [], held = new Map();
  const styled = (e, names) => { const style = getComputedStyle(e); return names.map(name => style[name]).join(); };
  const plain = "rgba(0, 0, 0, 0),none,1,none,static,none,normal";
  const behind = e => {  // what lies behind a text: of all around it, what is not plain
    if (!e) return "";
    if (!held.has(e)) {
      const own = styled(e, ["backgroundColor", "backgroundImage", "opacity", "filter", "position", "clip",
                             "mixBlendMode"]).replace(",auto,", ",none,");
      held.set(e, behind(e.parentElement) + (own === plain ? "" : `|${own}`));
    }
    return held.get(e);
  };
  const text = e => e ? styled(e, ["color", "fontSize", "fontWeight", "textDecorationLine", "textShadow"]) : "";
  for (const e of document.querySelectorAll("*")) {
    const own = [...e.childNodes].map(each => each.nodeType === Node.TEXT_NODE ? each.data.trim() : "").join("");
    let look = false;
    if ((e.value || own).length > 1 && e.checkVisibility({visibilityProperty: true})) {
      const sign = [e.tagName, e.type, e.disabled, e.className, text(e), text(e.parentElement), behind(e)].join(";");
      if ((look = !seen.has(sign))) added.push(sign);
      seen.add(sign);
    }
    e.toggleAttribute("data-look", look);
  }
  return added;
}"""
"""Marks what the rules about colours look at: of all texts in the same colours and size, on the same ground, the first.
They take two thirds of the time of all rules otherwise."""
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOURS = ["color-contrast", "link-in-text-block"]
"""The rules that another colour scheme can break."""
WATCH = """
window.federomeViolations = [];
document.addEventListener("securitypolicyviolation",
  e => window.federomeViolations.push(e.violatedDirective + " " + e.blockedURI));
"""


def person(name: str, institution: str, *roles: str, issuer: str = "") -> Person:
    """A registered person whose account at the development provider has the same name."""
    return Person(
        name,
        institution,
        vetted=True,
        assigned=True,
        roles=roles,  # type: ignore[arg-type]
        identities=(Identity(name, issuer),),
        key=PersonKey.of(KEYS[name].public.jwk()) if name in KEYS else None,
    )


CAST: Mapping[str, tuple[str, ...]] = {
    "alice": ("uni-a", "researcher"),
    "anton": ("uni-a", "researcher"),
    "carla": ("hospital-c", "clinician"),
    "sofia": ("uni-a", "signing-official"),
    "heidi": ("dac", "dac-member"),
    "hugo": ("dac", "dac-member"),
    "nina": ("ncp-fi", "ncp"),
    "pedro": ("ncp-es", "ncp"),
    "grace": ("node-fi", "node-operator"),
    "elena": ("node-es", "node-operator"),
    "otto": ("office", "administrator"),
    "olga": ("uni-b", "output-reviewer"),
    "oskar": ("uni-b", "output-reviewer"),
    "ivan": ("office", "output-reviewer"),
    "arne": ("uni-b", "algorithm-reviewer"),
    "ruta": ("office", "algorithm-reviewer"),
    "audra": ("office", "auditor"),
}
KEYS = {
    name: generate("ES256") for name in ("alice", "anton", "carla", "olga", "oskar", "ivan", "ines", "arne", "ruta")
}
DESK = """
budget_rho = 0.5

[[offices]]
node = "FI"
country = "FI"
coordination = ["ncp-fi"]
operators = ["node-fi"]
fees = { application = 50000, dataset = 20000, year = 100000, public_body_percent = 50, source = "made up for tests" }

[[offices]]
node = "ES"
country = "ES"
coordination = ["ncp-es"]
operators = ["node-es"]

[[offers]]
id = "fi-biobank"
node = "FI"
title = "Finnish biobank sample"
grant = "https://data.example/fi-biobank"

[[offers]]
id = "es-hospitals"
node = "ES"
title = "Spanish hospitals"

[[offers]]
id = "es-registry"
node = "ES"
title = "Spanish cancer registry"

[contacts]
alice = "alice@uni-a.test"
nina = "nina@ncp-fi.test"
ruta = "ruta@office.test"

[mail]
host = "127.0.0.1"
sender = "portal@hub.test"
"""
INSTITUTIONS = {
    "uni-a": "DE", "uni-b": "EE", "hospital-c": "FR", "dac": "BE", "ncp-fi": "FI", "ncp-es": "ES", "node-fi": "FI",
    "node-es": "ES", "office": "BE",
}  # fmt: skip


@dataclass
class Clock:
    """The time at the hub and its provider, which a test moves."""

    now: datetime = MONDAY

    def __call__(self) -> float:
        return self.now.timestamp()

    def wait(self, **more: float) -> None:
        self.now += timedelta(**more)


@dataclass
class Served:
    """A portal that is served: its address, its clock, and cookies of whoever a test wants to be."""

    folder: Path
    app: FastAPI
    url: str
    issuer: str
    clock: Clock
    cookies: dict[str, tuple[str, float]] = field(default_factory=dict, kw_only=True)
    held_routes: list[str] = field(default_factory=list, kw_only=True)

    def cookie(self, name: str) -> str:
        """A session of somebody, as if they had logged in."""
        token, until = self.cookies.get(name, ("", 0.0))
        if self.clock() > until:
            sessions = Sessions(engine(f"sqlite:///{self.folder / 'portal.db'}"), self.clock)
            token = sessions.begin(Identity(name, self.issuer))
            self.cookies[name] = (token, self.clock() + IDLE_S)
        return token

    def http(self, name: str = "") -> httpx.Client:
        """A client that is logged in as somebody, or as nobody."""
        cookies = {SESSION_COOKIE: self.cookie(name)} if name else {}
        told = {"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}
        return httpx.Client(base_url=self.url, headers=told, timeout=HANGS_S)

    def routes(self) -> list[str]:
        """The template of every GET route of the portal, in the order in which they are tried."""
        if not self.held_routes:  # read once: a crawl asks thousands of times, and the framework reads slowly
            found = iter_route_contexts(self.app.routes)
            self.held_routes = [
                str(r.path) for r in found if "GET" in (r.methods or ()) and str(r.path).startswith(PREFIX)
            ]
        return self.held_routes


@dataclass
class Portal(Served):
    """A hub's portal."""

    hub: Hub
    authority: PrivateKey


def free_port() -> int:
    with socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@contextmanager
def served(app: Starlette, port: int) -> Iterator[str]:
    """An application on a port of this machine, in a thread."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def portal(folder: Path, prepare: Callable[[Path], None] = lambda _folder: None) -> Iterator[Portal]:
    """A hub with its portal and a provider, both served; ``prepare`` puts further files into the hub's folder."""
    port, idp_port = free_port(), free_port()
    url, issuer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{idp_port}"
    authority = generate("ES256")
    place = folder / "hub"
    init_hub(place, HubSettings("hub.test", url, network="development", operator="Test operator"), authority.public)
    people = tuple(person(name, *told, issuer=issuer) for name, told in CAST.items())
    institutions = tuple(Institution(name, country, for_profit=False) for name, country in INSTITUTIONS.items())
    install_register(place, canonical(Register(people, institutions).to_document()).decode())
    idp_folder = folder / "idp"
    idp_folder.mkdir()
    cast = [DevPerson(name, f"{name.title()} of {told[0]}").to_document() for name, told in CAST.items()]
    (idp_folder / PEOPLE).write_text(canonical([*cast, DevPerson("nobody", "Somebody new").to_document()]).decode())  # type: ignore[arg-type]
    clock = Clock()
    idp = open_idp(idp_folder, (place,), port=idp_port, clock=clock)
    (place / "desk.toml").write_text(DESK)
    save_private_key(authority, place / "keys" / "authority.jwk")
    prepare(place)
    hub, app = build_hub(place, faces=lambda hub: faces(hub, clock=clock), clock=clock)
    with served(create_app(idp), idp_port), served(app, port):
        yield Portal(place, app, url, issuer, clock, hub, authority)
        hub.stopping.set()


ANSWERS: Mapping[str, str] = {
    "title": "Rare variants in early heart disease",
    "summary": "We look for rare changes that make hearts ill early.",
    "expected": "Better advice for families within five years.",
    "persons": "alice\nanton",
    "minimisation": "Carriers of such changes are rare: one country is not enough.",
    "algorithms": "gwas-logistic\ncohort-count",
    "suitability": "Counts per gene, with power for odds ratios above two.",
    "plan": "One test per gene; no individual is looked at.",
    "safeguards": "Keys on hardware tokens.",
    "valid_from": "2026-07-01",
    "valid_until": "2027-06-30",
}
TICKED = {"basis": ("research",), "prohibited": ("yes",), "datasets": ("fi-biobank", "es-hospitals", "es-registry")}


def furnish(served: Portal, name: str = "whole") -> str:
    """A draft of Alice's, and an application of hers that is with the nations; gives the latter's id."""
    desk = served.hub.desk
    people = {one.id: one for one in desk.register().persons}
    alice = people["alice"]
    answers = {name: tuple(text.split("\n")) for name, text in ANSWERS.items()} | TICKED
    desk.open("request", alice, once="draft")
    application = desk.open("permit", alice, once=name).opened.id
    desk.save(application, alice, answers, once=f"{name}-1", seen=None)
    desk.attach(application, alice, "ethics.pdf", b"%PDF-1.7 approval", once=f"{name}-file")
    desk.do(application, people["sofia"], "sign-off", once=f"{name}-2")
    desk.do(application, alice, "submit", once=f"{name}-3", version=1)
    desk.do(application, people["otto"], "accept", once=f"{name}-4")
    for who in ("heidi", "hugo"):
        desk.do(application, people[who], "vote", once=f"{name}-5", vote="for")
    desk.comment(application, people["heidi"], "Power is thin.", once=f"{name}-6", audience="judges")
    desk.do(application, people["heidi"], "recommend", once=f"{name}-7")
    return application


def activate(served: Portal, application: str) -> None:
    """The nations agree, everybody signs, the data is ready: access begins."""
    desk = served.hub.desk
    people = {one.id: one for one in desk.register().persons}
    speakers = {"FI": ("nina", "grace"), "ES": ("pedro", "elena")}
    for act, place in (("agree", 0), ("sign", 0), ("prepare", 1)):
        if act == "sign":
            desk.do(application, people["sofia"], "sign", once=f"{application}-sign")
        for node, who in speakers.items():
            desk.do(application, people[who[place]], act, once=f"{application}-{act}-{node}", node=node)


# a browser


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium under Playwright; skips with the reason where it is absent.

    Where there is one, the form of it without what shows windows: it does the same in three quarters of the time.
    """
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if path is None:
        missing("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Window:
    """A browser window of somebody, and everything in it that must not be."""

    page: Any
    url: str
    faults: list[str] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    """Which texts the rules about colours have looked at, on whichever page."""

    def log_in(self, served: Served, name: str) -> None:
        """Have somebody's session in this window."""
        cookie = {"name": SESSION_COOKIE, "value": served.cookie(name), "domain": "127.0.0.1", "path": "/"}
        self.page.context.add_cookies([{**cookie, "secure": True, "httpOnly": True, "sameSite": "Lax"}])

    def go(self, place: str) -> None:
        self.page.goto(urljoin(self.url, place))

    def check(self) -> list[str]:
        """What is wrong with the page that is open: accessibility, content policy, foreign requests."""
        found = [f"policy: {each}" for each in self.page.evaluate("window.federomeViolations || []")]
        return self._axe(TAGS) + [f"{self.page.url}: {fault}" for fault in [*found, *self.faults]]

    def check_dark(self) -> list[str]:
        """What is wrong with its colours in the dark, after ``check``."""
        self.page.emulate_media(color_scheme="dark")
        found = self._axe(COLOURS)
        self.page.emulate_media(color_scheme="light")
        return [f"dark: {fault}" for fault in found]

    def _axe(self, only: list[str]) -> list[str]:
        self.looked += (new := self.page.evaluate(LOOK, self.looked))
        if only == COLOURS and not new:
            return []
        self.page.evaluate(AXE)
        how = "{runOnly: only, resultTypes: ['violations'], preload: false}"
        run = f"only => axe.run(document, {how}).then(told => told.violations)"
        found = []
        for each in self.page.evaluate(run, only):
            found += [
                f"axe {each['id']}: {node['target']} {node['html'][:120]} {node['failureSummary']}"
                for node in each["nodes"]
            ]
        return [f"{self.page.url}: {fault}" for fault in found]

    def narrow(self, *to: int) -> list[int]:
        """How wide the page is in windows of so many px: 320 are 1280 px at 400 % zoom, too."""
        usual, found = self.page.viewport_size, []
        for wide in to:
            self.page.set_viewport_size({"width": wide, "height": 640})
            found.append(self.width())
        self.page.set_viewport_size(usual)
        return found

    def width(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def shoot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=True)


@contextmanager
def window(browser: Any, served: Served, name: str = "", **options: Any) -> Iterator[Window]:
    """A window in which somebody is logged in already (or nobody)."""
    context = browser.new_context(
        viewport=options.pop("viewport", {"width": 1100, "height": 800}), reduced_motion="reduce", **options
    )
    context.set_default_timeout(60_000)
    context.add_init_script(WATCH)
    held = Window(context.new_page(), served.url)
    if name:
        held.log_in(served, name)
    own = {urlsplit(served.url).netloc, urlsplit(served.issuer).netloc}
    held.page.on("request", lambda r: None if urlsplit(r.url).netloc in own else held.faults.append(f"foreign {r.url}"))
    held.page.on("pageerror", lambda error: held.faults.append(f"script: {error}"))
    held.page.on("console", lambda m: held.faults.append(f"console: {m.text}") if "Refused to" in m.text else None)
    yield held
    context.close()


def crawl(served: Served, name: str, seen: dict[str, tuple[str, str]], start: str = PREFIX) -> list[str]:
    """Follow every link as somebody. Adds the first address of each route; gives what did not answer as it should."""
    wrong: list[str] = []
    waiting, done = [start], set()
    instances: dict[str, int] = {}
    with served.http(name) as http:
        while waiting:
            place = waiting.pop(0)
            path = urlsplit(place).path
            if place in done or not path.startswith(PREFIX):
                continue
            template = template_of(served, path)
            if instances.get(template, 0) >= 2:
                continue
            done.add(place)
            instances[template] = instances.get(template, 0) + 1
            answer = http.get(place)
            if answer.status_code not in (200, 303):
                wrong.append(f"{name or 'nobody'}: {place} -> {answer.status_code}")
            if answer.status_code == 200 and answer.headers["content-type"].startswith("text/html"):
                seen.setdefault(template, (name, place))
                new = dict.fromkeys(urljoin(place, link) for link in links(answer.text))
                waiting += [each for each in new if each not in done]
    return wrong


def links(html: str) -> list[str]:
    from html.parser import HTMLParser

    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            told = dict(attrs)
            if tag == "a" and "download" not in told and (told.get("href") or "").startswith("/"):
                found.append(str(told["href"]).partition("#")[0])

    Reader().feed(html)
    return found


def template_of(served: Served, path: str) -> str:
    """The route that answers a path."""
    return next((each for each in served.routes() if _pattern(each).match(path)), path)


@cache
def _pattern(route: str) -> re.Pattern[str]:
    return compile_path(route)[0]
