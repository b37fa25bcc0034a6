"""The first page: what this portal is, and where to begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from federome.network.doors import open_to
from federome.portal.notations import EXAMPLES
from federome.portal.route import pages_of
from federome.portal.site import Face, Site

Figures = Callable[[], Mapping[str, int]]


def pages(site: Site, first: str, **told: Any) -> Face:
    """The first page, from its template and what it is told, and what the portal promises about access for everybody.

    ``told`` may hold ``figures``: a function that counts what the network has, under a name for each number.
    """
    figures: Figures = told.pop("figures", dict)
    api = pages_of(site)

    @api.get("")
    @open_to("anyone")
    def home(request: Request) -> Response:
        return site.page(request, first, figures=figures(), examples=EXAMPLES, **told)

    @api.get("/accessibility")
    @open_to("anyone")
    def accessibility(request: Request) -> Response:
        return site.page(request, "accessibility.html")

    return Face(api)
