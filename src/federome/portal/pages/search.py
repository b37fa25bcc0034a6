"""One search box for everything that is public, and the datasets that can be applied for, with facets.

What was typed is read as a gene, a place or a variant where it is one, and looked for in the words of datasets,
projects and methods in any case: nobody has to know beforehand what kind of thing they are looking for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response

from federome.errors import Invalid
from federome.model.catalogued import Catalogues
from federome.network.desk import Desk
from federome.network.doors import open_to
from federome.network.offers import Offer
from federome.portal import wording
from federome.portal.datasets import CODE, FACETS, Dataset, chosen, counted, diseases_of, joined
from federome.portal.languages import N_
from federome.portal.notations import EXAMPLES, read
from federome.portal.pages.register import Project
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, visit_of

PLACE: Final = f"{PREFIX}/datasets"
MAX_TEXT: Final = 300


@dataclass(frozen=True)
class Variants:
    """What a text means as a question about variants: where it is answered, or why it is none."""

    address: str = ""
    fault: Invalid | None = None


def pages(
    site: Site,
    desk: Desk,
    offers: Sequence[Offer],
    projects: Callable[[], Sequence[Project]],
    catalogues: Callable[[], Catalogues],
) -> Face:
    """The search, and the catalogue of datasets."""
    api = pages_of(site)

    def known() -> list[Dataset]:
        uses = Counter(dataset for project in projects() for _, dataset in project.datasets)
        return joined(desk.settings.offers, catalogues().datasets, uses)

    @api.get("/search")
    @open_to("anyone")
    def search(request: Request, q: str = "") -> Response:
        text = q.strip()[:MAX_TEXT]
        found: dict[str, Any] = {
            "variants": variants_of(text) if text else Variants(),
            "code": bool(CODE.fullmatch(text)),
            "datasets": [each for each in known() if matches(text, *each.words)],
            "projects": [each for each in projects() if matches(text, each.title, each.summary, *each.topics, each.id)],
            "methods": [each for each in offers if matches(text, each.algorithm.name, each.summary)],
        }
        return site.page(request, "search.html", q=text, examples=EXAMPLES, **found, **wording.words())

    @api.get("/datasets")
    @open_to("anyone")
    def datasets(request: Request, q: str = "") -> Response:
        text, told, say = q.strip()[:MAX_TEXT], catalogues(), visit_of(request).language.gettext
        wanted = {facet.name: request.query_params.get(facet.name, "").strip()[:MAX_TEXT] for facet in FACETS}
        found = [each for each in known() if not text or matches(text, *each.words)]
        facets = [
            (facet, [(value, f"{say(facet.said(value))} ({count})") for value, count in counted(facet, found, wanted)])
            for facet in FACETS
        ]
        values: dict[str, Any] = {"q": text, "wanted": wanted, "shown": chosen(found, wanted), "facets": facets}
        values |= {"unread": told.unread, "named": {facet.name: facet for facet in FACETS}, "codes": diseases_of}
        return site.page(request, "datasets.html", **values)

    return Face(
        api,
        (
            MenuEntry(
                N_("Datasets"),
                PLACE,
                says=N_("What can be applied for: by country, disease, size, quality and allowed use."),
            ),
        ),
    )


def matches(text: str, *words: str) -> bool:
    """Whether every word of a text stands somewhere in these; never for a text of none."""
    whole = " ".join(words).casefold()
    wanted = text.casefold().split()
    return bool(wanted) and all(word in whole for word in wanted)


def variants_of(text: str) -> Variants:
    """A text as a question about variants."""
    try:
        read(text, "GRCh38")
    except Invalid as fault:
        return Variants(fault=fault)
    return Variants(f"{PREFIX}/frequencies?{urlencode({'q': text})}")
