"""The public register: which projects may use which data for what, with which methods, and what came of it.

Regulation (EU) 2025/327 Art. 58: permits and requests, purpose, data, and results for everybody. Nobody is named but
institutions; titles and summaries are those that applicants were told become public once access begins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Final

from fastapi import Request
from fastapi.responses import Response

from federome.errors import Missing
from federome.governance.application_course import granted
from federome.governance.applications import Application
from federome.network.desk import Desk
from federome.network.doors import open_to
from federome.portal import wording
from federome.portal.languages import N_
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site

PLACE: Final = f"{PREFIX}/register"
PUBLIC: Final = frozenset({"active", "suspended", "closing", "archived"})
Counted = Callable[[], Mapping[str, Mapping[str, int]]]
"""How many runs were answered: by permit, then by algorithm."""


@dataclass(frozen=True)
class Project:
    """One line of the register, as pages show it and as its file has it."""

    id: str
    kind: str
    state: str
    title: str
    summary: str
    question: str
    holder: str
    purpose: str
    topics: tuple[str, ...]
    datasets: tuple[tuple[str, str], ...]
    algorithms: tuple[str, ...]
    begins: date | None
    ends: date | None
    runs: Mapping[str, int]
    published: tuple[str, ...]


def projects_of(desk: Desk, counted: Counted) -> list[Project]:
    """Every project of the register, the newest first."""
    runs = counted()
    return [_project(desk, found, runs) for found in desk.book.all() if found.state in PUBLIC]


def pages(site: Site, desk: Desk, projects: Callable[[], Sequence[Project]]) -> Face:
    """The register, one project of it, and all of it as a file."""
    api = pages_of(site)

    @api.get("/register")
    @open_to("anyone")
    def listed(request: Request, dataset: str = "") -> Response:
        held = projects()
        shown = [one for one in held if not dataset or dataset in {name for _, name in one.datasets}]
        return site.page(request, "register.html", projects=shown, dataset=dataset, **wording.words())

    @api.get("/register/{project}")
    @open_to("anyone")
    def show(request: Request, project: str) -> Response:
        found = next((one for one in projects() if one.id == project), None)
        if found is None:
            raise Missing("the register has no such project.")
        titles = {offer.id: offer.title for offer in desk.settings.offers}
        return site.page(request, "project.html", project=found, titles=titles, **wording.words())

    @api.get("/register.json")
    @open_to("anyone")
    def file() -> Response:
        told = json.dumps({"projects": [asdict(one) for one in projects()]}, indent=1, default=str)
        return Response(told + "\n", media_type="application/json")

    return Face(
        api,
        (
            MenuEntry(
                N_("Public register"),
                PLACE,
                says=N_("Who may use which data, what for, how often they asked, and what came of it."),
            ),
        ),
    )


def _project(desk: Desk, found: Application, runs: Mapping[str, Mapping[str, int]]) -> Project:
    content = found.content
    assert content is not None  # nothing is granted that was not written down
    answers = desk.book.answers(content.answers)
    spoken = granted(found, desk.now(), desk.calendars)
    return Project(
        id=found.opened.id,
        kind=found.opened.kind,
        state=found.state,
        title=next(iter(answers.get("title", ())), found.opened.id),
        summary="\n".join(answers.get("summary", ())),
        question=content.question,
        holder=found.opened.institution,
        purpose=content.purpose.basis if content.purpose else "",
        topics=tuple(map(str, content.purpose.topics)) if content.purpose else (),
        datasets=tuple((grant.node, grant.dataset) for grant in spoken),
        algorithms=tuple(grant.name or str(grant.release_class) for grant in content.algorithms),
        begins=content.valid_from,
        ends=found.valid_until,
        runs=dict(sorted(runs.get(found.opened.id, {}).items())),
        published=tuple(event.reasons for event in found.of("publish") if event.reasons),
    )
