"""What every page works with: the site (sessions, login, register, clock) and the visit (who asks, in which language).

A page's door is its ``@open_to(...)``: ``anyone``, ``session`` (whoever is logged in), ``named`` (logged in, and the
page itself asks whether the thing is theirs), or roles of the register. ``route.py`` holds every page to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from federome.errors import Invalid, Refused
from federome.model.registry import Identity, Person
from federome.network.access import Register
from federome.network.doors import Caller
from federome.network.login import Logins
from federome.portal.drawing import draw
from federome.portal.languages import Language, language
from federome.portal.limits import Limit
from federome.portal.sessions import Session, Sessions

PREFIX: Final = "/portal"
SESSION_COOKIE: Final = "__Host-federome"
LOGIN_COOKIE: Final = "__Host-federome-login"
LANGUAGE_COOKIE: Final = "__Host-federome-language"
OPEN: Final[frozenset[Caller]] = frozenset({"anyone"})
LOGGED_IN: Final[frozenset[Caller]] = frozenset({"session", "named"})
LIVE_S: Final = 600.0
LIVE_TICK_S: Final = 1.0
MAX_LIVE: Final = 200


@dataclass(frozen=True)
class MenuEntry:
    """A line of the menu: shown to whom its page is open. ``says`` is what one finds there, for the first page."""

    title: str
    address: str
    to: frozenset[Caller] = OPEN
    says: str = ""


@dataclass(frozen=True)
class Face:
    """A group of pages: its routes, and its lines of the menu."""

    router: APIRouter
    menu: tuple[MenuEntry, ...] = ()


@dataclass(frozen=True)
class Visit:
    """One request: who asks, in which language, and what their form said."""

    language: Language
    session: Session | None = None
    person: Person | None = None
    roles: frozenset[Caller] = frozenset()
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    files: Mapping[str, UploadFile] = field(default_factory=dict)

    @property
    def logged_in(self) -> bool:
        """Whether somebody is logged in, registered or not."""
        return self.session is not None and not self.session.over

    @property
    def name(self) -> str:
        """What to call them: their name in the register, else what their provider calls them."""
        if self.session is None:
            return ""
        return self.person.id if self.person else self.session.identity.sub

    def may(self, declared: frozenset[Caller]) -> bool:
        """Whether a door that was declared so lets this visitor pass."""
        if declared & OPEN:
            return True
        return self.logged_in and bool(declared & LOGGED_IN or declared & self.roles)

    def registered(self) -> Person:
        """The registered person who asks; ``Refused`` for somebody whom the register does not know."""
        if self.person is None:
            raise Refused(
                "the register of accredited people does not know you yet.",
                codes=["person_unknown"],
                remedy="Your institution's signing official can name you; then log in again.",
            )
        return self.person

    def one(self, name: str, otherwise: str = "") -> str:
        """A field of the form, without space around it."""
        given = self.fields.get(name, ())
        return given[0].strip() if given else otherwise

    @property
    def once(self) -> str:
        """What makes this form's sending one: a second one with the same is the first one again."""
        return self.one("_once")[:64]

    def sent_once(self) -> str:
        """The same where a deed depends on it: a form without it would pass for one that was taken before."""
        if not self.once:
            raise Invalid("this form does not say which one it is.", remedy="Reload the page, and send its form.")
        return self.once


@dataclass
class Site:
    """One portal. ``url`` is its public address; ``register`` reads the register of people at each call.

    ``beside`` says which doors an account opens that the register does not know of: a node's operators, its citizens.
    """

    name: str
    url: str
    sessions: Sessions
    register: Callable[[], Register]
    clock: Callable[[], float]
    random: Callable[[], str]
    logins: Logins | None = None
    operator: str = ""
    beside: Callable[[Identity], frozenset[Caller]] = lambda _identity: frozenset()
    menu: tuple[MenuEntry, ...] = ()
    requests: Limit = field(init=False)
    forms: Limit = field(init=False)
    stopping: Callable[[], bool] = lambda: False
    live: int = 0

    def __post_init__(self) -> None:
        self.requests = Limit(1200, 600, self.clock)
        self.forms = Limit(60, 40, self.clock)

    def now(self) -> datetime:
        """The time."""
        return datetime.fromtimestamp(self.clock(), UTC)

    def person_of(self, session: Session) -> Person | None:
        """The registered person who has this session's identity."""
        return next((one for one in self.register().persons if session.identity in one.identities), None)

    def known(self, visit: Visit, session: Session | None) -> Visit:
        """The visit of whoever has this session: who they are in the register, and which doors are theirs."""
        if session is None or session.over:
            return replace(visit, session=session)
        person = self.person_of(session)
        roles = self.beside(session.identity).union(person.roles if person is not None else ())
        return replace(visit, session=session, person=person, roles=roles)

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A page drawn from its template for whoever asks."""
        visit = visit_of(request)
        told = {
            "site": self,
            "visit": visit,
            "here": request.url.path,
            "menu": [entry for entry in self.menu if visit.may(entry.to)],
            "once": self.random(),
            "address": _address(request),
            "now": self.now(),
        }
        return HTMLResponse(draw(template, visit.language, told | values), status)

    def stream(self, request: Request, version: Callable[[], str], seen: str = "") -> StreamingResponse:
        """Server-sent events for a page that is live: one whenever ``version`` says something new.

        The event says only that there is news; the page's script then fetches the page again. ``seen`` is what the page
        shows already, where it knows: else what comes between page and stream would be missed.
        """
        return StreamingResponse(self._news(request, version, seen), media_type="text/event-stream")

    async def _news(self, request: Request, version: Callable[[], str], seen: str) -> AsyncIterator[str]:
        if self.live >= MAX_LIVE:
            yield "retry: 30000\n\n"
            return
        self.live += 1
        try:
            seen = seen or await run_in_threadpool(version)
            yield "retry: 2000\n\n"
            for tick in range(int(LIVE_S / LIVE_TICK_S)):
                if self.stopping() or await request.is_disconnected():
                    return
                now = await run_in_threadpool(version)
                if now != seen:
                    seen = now
                    yield "event: news\ndata: \n\n"
                elif tick % 30 == 29:
                    yield ": still here\n\n"
                await asyncio.sleep(LIVE_TICK_S)
        finally:
            self.live -= 1


def visit_of(request: Request) -> Visit:
    """Who asks."""
    found = getattr(request.state, "visit", None)
    return found if isinstance(found, Visit) else Visit(language("en"))


def see(address: str) -> RedirectResponse:
    """Send the browser to a page of the portal, after a form was taken."""
    return RedirectResponse(address, 303)


def _address(request: Request) -> Callable[..., str]:
    """``address(lang="fi")``: where we are, with some of the address's words changed."""

    def changed(**words: str) -> str:
        query = dict(request.query_params) if request.method == "GET" else {}
        return f"{request.url.path}?{urlencode(query | words)}"

    return changed
