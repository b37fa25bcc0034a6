"""Logging in and out, and the form that waited meanwhile."""

from __future__ import annotations

import secrets
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import Response

from federome.errors import Invalid, Refused
from federome.network.doors import open_to
from federome.portal.route import pages_of
from federome.portal.site import LOGIN_COOKIE, PREFIX, SESSION_COOKIE, Face, Site, see, visit_of
from federome.trust.oauth import challenge_of

PENDING_S: Final = 600


def pages(site: Site) -> Face:
    """Login, welcome, logout, and the form that was kept."""
    api = pages_of(site)

    @api.get("/login")
    @open_to("anyone")
    def login(request: Request, next: str = PREFIX) -> Response:
        return site.page(request, "login.html", next=own_place(next), possible=site.logins is not None)

    @api.get("/login/start")
    @open_to("anyone")
    def start(next: str = PREFIX) -> Response:
        if site.logins is None or site.logins.provider is None:
            raise Invalid("nobody can log in at this portal.", remedy="Its operator must name an identity provider.")
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
        to = site.logins.begin(f"{site.url}{PREFIX}/welcome", state, challenge_of(verifier))
        response = see(to)
        kept = f"{state}.{verifier}.{own_place(next)}"
        response.set_cookie(LOGIN_COOKIE, kept, max_age=PENDING_S, secure=True, httponly=True, samesite="lax")
        return response

    @api.get("/welcome")
    @open_to("anyone")
    def welcome(request: Request, code: str = "", state: str = "") -> Response:
        begun, verifier, place = (*request.cookies.get(LOGIN_COOKIE, "").split(".", 2), "", "", "")[:3]
        if site.logins is None or not begun or not secrets.compare_digest(begun.encode(), state.encode()):
            raise Refused("no such login is under way here.", codes=["token_invalid"], remedy="Log in again.")
        found = site.logins.book.redeem(code, verifier)
        earlier = request.cookies.get(SESSION_COOKIE, "")
        if earlier:
            site.sessions.end(earlier)
        token = site.sessions.begin(found.identity)
        response = see(f"{PREFIX}/kept" if site.sessions.held(found.identity) else own_place(place))
        response.set_cookie(SESSION_COOKIE, token, secure=True, httponly=True, samesite="lax")
        response.delete_cookie(LOGIN_COOKIE, secure=True, httponly=True, samesite="lax")
        return response

    @api.post("/logout")
    @open_to("session")
    def logout(request: Request) -> Response:
        site.sessions.end(request.cookies.get(SESSION_COOKIE, ""))
        response = see(PREFIX)
        response.delete_cookie(SESSION_COOKIE, secure=True, httponly=True, samesite="lax")
        return response

    @api.get("/kept")
    @open_to("session")
    def kept(request: Request) -> Response:
        session = visit_of(request).session
        assert session is not None
        return site.page(request, "kept.html", held=site.sessions.held(session.identity))

    @api.post("/kept/drop")
    @open_to("session")
    def drop(request: Request) -> Response:
        session = visit_of(request).session
        assert session is not None
        site.sessions.drop(session.identity)
        return see(PREFIX)

    @api.get("/me")
    @open_to("session")
    def me(request: Request) -> Response:
        return site.page(request, "me.html")

    return Face(api)


def own_place(place: str) -> str:
    """A page of this portal to come back to; its first page, for anything else."""
    parts = urlsplit(place)
    own = not parts.scheme and not parts.netloc and (parts.path == PREFIX or parts.path.startswith(f"{PREFIX}/"))
    return place[:1500] if own and "\\" not in place and place.isprintable() and place.isascii() else PREFIX
