"""The portal put together: its pages as routers for the hub's application, or as an application of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from federome.errors import Missing
from federome.network.doors import open_to
from federome.network.login import callback_router
from federome.portal.pages import account, home
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, Site

STATIC: Final = Path(__file__).parent / "static"
KINDS: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def own_faces(site: Site, first: str = "home.html", **told: Any) -> tuple[Face, ...]:
    """The pages that need nothing but the site itself; ``first`` is the first page's template, ``told`` fills it."""
    return (home.pages(site, first, **told), account.pages(site))


def routers(site: Site, faces: Sequence[Face]) -> list[APIRouter]:
    """The routers of a portal with these pages, whose menu stands in their order; the last one answers all the rest."""
    site.menu = tuple(entry for face in faces for entry in face.menu)
    return [_entrance(), _static(site), *(face.router for face in faces), _rest(site)]


def create_app(site: Site, faces: Callable[[Site], Sequence[Face]] = own_faces) -> FastAPI:
    """A portal as an ASGI application of its own: a node's, and those of tests."""
    app = FastAPI(title="Federome portal", docs_url=None, redoc_url=None, openapi_url=None)
    if site.logins is not None:
        app.include_router(callback_router(site.logins))
    for router in routers(site, faces(site)):
        app.include_router(router)
    return app


def _entrance() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    @open_to("anyone")
    def entrance() -> Response:
        return RedirectResponse(PREFIX, 303)

    return router


def _static(site: Site) -> APIRouter:
    files = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in KINDS}
    api = pages_of(site)

    @api.get("/static/{name}")
    @open_to("anyone")
    async def static(name: str) -> Response:
        if name not in files:
            raise Missing("there is no such file.")
        response = Response(files[name], media_type=KINDS[Path(name).suffix])
        response.headers["Cache-Control"] = "public, max-age=3600"
        return response

    return api


def _rest(site: Site) -> APIRouter:
    api = pages_of(site)

    @api.get("/{rest:path}")
    @open_to("anyone")
    def nothing(rest: str) -> Response:  # noqa: ARG001 (the path that nothing else answers)
        raise HTTPException(404)

    return api
