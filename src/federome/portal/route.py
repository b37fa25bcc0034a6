"""What every request to a page goes through, in one place: limit, language, session, door, form, page, headers.

A page cannot forget any of it, since ``pages_of`` makes all its routes. Errors become pages that say what to do next.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.types import Message

from federome.errors import FederomeError, Invalid, Refused
from federome.network.doors import ATTRIBUTE, Caller
from federome.portal.languages import LANGUAGES, N_, chosen, language
from federome.portal.site import LANGUAGE_COOKIE, PREFIX, SESSION_COOKIE, Site, Visit, visit_of

LOG: Final = logging.getLogger("federome")
MAX_FORM_BYTES: Final = 12 << 20
MAX_DRAINED_BYTES: Final = 128 << 20
MAX_FIELD_BYTES: Final = 1 << 19
YEAR_S: Final = 31_536_000
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), interest-cohort=()",
    "Strict-Transport-Security": "max-age=31536000",
}
HEADINGS: Final[Mapping[int, str]] = {
    400: N_("Something in this request is not right"),
    401: N_("You are not logged in"),
    403: N_("You may not do this"),
    404: N_("There is no such page"),
    405: N_("This page does not take that"),
    413: N_("This is too large"),
    429: N_("Too many requests"),
    500: N_("Something went wrong here"),
    503: N_("Not available now"),
}


class TooLarge(Invalid):
    """A form that is larger than forms may be (413)."""

    title = "Too large"
    status = 413


class LoggedOut(Refused):
    """A form came without a session, or after its session had ended (401)."""

    title = "Not logged in"
    status = 401


def pages_of(site: Site) -> APIRouter:
    """A router for pages of this site, under its prefix."""

    class Bound(PageRoute):
        at = site

    return APIRouter(prefix=PREFIX, route_class=Bound, include_in_schema=False)


class PageRoute(APIRoute):
    """A route of a page: its handler is called for visitors whom its door lets pass, and never otherwise."""

    at: ClassVar[Site]

    def get_route_handler(self) -> Callable[[Request], Coroutine[None, None, Response]]:
        """See the module."""
        handler = super().get_route_handler()
        site = self.at
        declared: frozenset[Caller] = getattr(self.endpoint, ATTRIBUTE, frozenset())

        async def answer(request: Request) -> Response:
            try:
                response = await _through(site, declared, request, handler)
            except (FederomeError, RequestValidationError, HTTPException) as error:
                response = await run_in_threadpool(problem, site, request, error)
            except Exception:  # (the edge: a visitor gets a page, the operator gets the trace)
                LOG.exception("a page failed: %s", self.path)
                response = await run_in_threadpool(problem, site, request, FederomeError("the page could not be made."))
            return finished(request, response)

        return answer


async def _through(
    site: Site,
    declared: frozenset[Caller],
    request: Request,
    handler: Callable[[Request], Coroutine[Any, Any, Response]],
) -> Response:
    words = request.query_params.get("lang", ""), request.cookies.get(LANGUAGE_COOKIE, "")
    request.state.visit = visit = Visit(language(chosen(*words, request.headers.get("accept-language", ""))))
    place = request.client.host if request.client else ""
    site.requests.take(place)
    token = request.cookies.get(SESSION_COOKIE, "")
    if token:
        session = await run_in_threadpool(site.sessions.find, token)
        request.state.visit = visit = await run_in_threadpool(site.known, visit, session)
    if request.method not in ("GET", "HEAD"):
        site.forms.take(token or place)
        form = await _form(request)
        try:
            request.state.visit = visit = _taken(site, declared, request, visit, form)
            _pass(declared, visit)
            response = await handler(request)
        finally:
            await form.close()
        if visit.one("_kept") and visit.session is not None:
            await run_in_threadpool(site.sessions.drop, visit.session.identity)
        return response
    if not visit.may(declared) and not visit.logged_in:
        return RedirectResponse(f"{PREFIX}/login?next={quote(_place(request), safe='')}", 303)
    _pass(declared, visit)
    return await handler(request)


def _pass(declared: frozenset[Caller], visit: Visit) -> None:
    if not visit.may(declared):
        needed = " or ".join(sorted(declared))
        raise Refused(f"this page is for the role {needed}.", codes=["not_your_role"])


def _taken(site: Site, declared: frozenset[Caller], request: Request, visit: Visit, form: FormData) -> Visit:
    """The visit with its form, if the form is one that this site made for this session."""
    origin = request.headers.get("origin", "")
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin" or origin not in ("", site.url):
        raise Refused("this form was sent from another site.", codes=["token_invalid"], remedy="Use the form here.")
    fields: dict[str, list[str]] = {}
    files: dict[str, UploadFile] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            files[name] = value
        else:
            fields.setdefault(name, []).append(value)
    visit = replace(visit, fields=fields, files=files)
    if declared == {"anyone"}:
        return visit
    if visit.session is None:
        raise LoggedOut("nobody is logged in.", codes=["token_invalid"], remedy="Log in, then send the form again.")
    if not hmac.compare_digest(visit.one("_csrf").encode(), visit.session.csrf.encode()):
        raise Refused(
            "this form belongs to another login.",
            codes=["token_invalid"],
            remedy="Go back, reload the page, and send it again.",
        )
    if visit.session.over:
        kept = [(name, value) for name, values in fields.items() for value in values if not name.startswith("_")]
        held = site.sessions.hold(visit.session.identity, request.url.path, kept)
        said = "What you wrote is kept and waits for you." if held else "Copy what you wrote: it is too long to keep."
        raise LoggedOut(f"you were logged out meanwhile. {said}", codes=["token_invalid"], remedy="Log in again.")
    return visit


async def _form(request: Request) -> FormData:
    """The form of a request within the limits; a larger one is read to its end, so that the browser hears the no."""
    size, more = 0, True

    async def received() -> Message:
        nonlocal size, more
        message = await request.receive()
        more = bool(message.get("more_body"))
        size += len(message.get("body", b""))
        if size > MAX_DRAINED_BYTES:
            raise TooLarge("the form is far too large.")
        return message

    async def bounded() -> Message:
        message = await received()
        if size > MAX_FORM_BYTES:
            raise MultiPartException("too large")  # the one error upon which the parser closes its files
        return message

    try:
        return await Request(request.scope, bounded).form(max_files=4, max_fields=500, max_part_size=MAX_FIELD_BYTES)
    except (HTTPException, MultiPartException):
        if size <= MAX_FORM_BYTES:
            raise
    while more:
        await received()
    raise TooLarge(
        f"a form may hold at most {MAX_FORM_BYTES >> 20} MB.", remedy="Attach a smaller file; the draft is kept."
    )


def problem(site: Site, request: Request, error: Exception) -> Response:
    """The page for an error: what happened, and what to do next."""
    match error:
        case FederomeError():
            status, message, remedy = error.status, error.message, error.remedy
            where = error.where
        case HTTPException():
            status, message, remedy, where = error.status_code, "", "", ""
        case RequestValidationError():
            names = sorted({str(fault["loc"][-1]) for fault in error.errors()})
            status, message, remedy = 400, "a part of the address or of the form is wrong.", ""
            where = ", ".join(names)[:200]
        case _:
            raise error
    heading = HEADINGS.get(status, HEADINGS[500])
    response: Response = site.page(
        request, "error.html", status=status, heading=heading, message=message, remedy=remedy, where=where
    )
    if status in (429, 503):
        response.headers["Retry-After"] = "30"
    return response


def finished(request: Request, response: Response) -> Response:
    """The answer with the headers that every answer has, and the language that was chosen in the address."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store" if visit_of(request).session else "no-cache")
    if not response.headers["Cache-Control"].startswith("public"):  # else each login would fetch the style sheet anew
        response.headers["Vary"] = "Cookie, Accept-Language"
    asked = request.query_params.get("lang", "")
    if asked in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, asked, max_age=YEAR_S, secure=True, httponly=True, samesite="lax")
    if isinstance(response, HTMLResponse):
        response.headers["Content-Language"] = visit_of(request).language.code
    return response


def _place(request: Request) -> str:
    """The page that was asked for, to come back to after the login."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")
