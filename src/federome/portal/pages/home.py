"""The first page: what this portal is, and where to begin."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import Response

from federome.network.doors import open_to
from federome.portal.route import pages_of
from federome.portal.site import Face, Site


def pages(site: Site, first: str, **told: Any) -> Face:
    """The first page, from its template, and what the portal promises about access for everybody."""
    api = pages_of(site)

    @api.get("")
    @open_to("anyone")
    def home(request: Request) -> Response:
        return site.page(request, first, **told)

    @api.get("/accessibility")
    @open_to("anyone")
    def accessibility(request: Request) -> Response:
        return site.page(request, "accessibility.html")

    return Face(api)
