"""The portal of a hub: which pages it has, and what of the network layer they are given."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter

from federome.db import engine
from federome.model.catalogued import Catalogues
from federome.network.offers import Offer, checked
from federome.network.serve_hub import Hub
from federome.network.submission_notices import open_submissions
from federome.portal.app import own_faces, routers
from federome.portal.assessments import Assessments
from federome.portal.languages import N_
from federome.portal.pages import (
    applications,
    ask,
    checks,
    frequencies,
    learn,
    log,
    policy,
    queues,
    register,
    search,
    submissions,
)
from federome.portal.pages import runs as run_pages
from federome.portal.pages.checks import Checks
from federome.portal.pages.learn import Learn
from federome.portal.pages.runs import Runs
from federome.portal.searches import Seek
from federome.portal.sessions import Sessions
from federome.portal.site import Face, Site

DATABASE: Final = "portal.db"
FIGURES: Final = (N_("Nodes"), N_("Datasets"), N_("Projects"), N_("Questions answered"))
"""What the first page counts."""


@dataclass(frozen=True)
class Beside:
    """What a hub's pages ask of the network's other faces: frequencies from its Beacons, nodes' catalogues, lessons."""

    seek: Seek | None = None
    catalogues: Callable[[], Catalogues] = Catalogues
    learn: Learn | None = None


def portal_routers(
    hub: Hub, *, offers: Sequence[Offer], runs: Runs, waiting: Checks, beside: Beside = Beside()
) -> list[APIRouter]:
    """The routers of a hub's portal: ``offers`` can be asked, ``runs`` were, and results of some are ``waiting``."""
    database = engine(f"sqlite:///{hub.folder / DATABASE}")
    site = Site(
        name=hub.settings.name,
        url=hub.settings.url.rstrip("/"),
        sessions=Sessions(database, hub.clock),
        register=hub.desk.register,
        clock=hub.clock,
        random=lambda: secrets.token_urlsafe(16),
        logins=hub.logins,
        operator=hub.settings.operator,
        stopping=hub.stopping.is_set,
    )
    return routers(site, faces(site, hub, offers, runs, waiting, beside, Assessments(database)))


def faces(
    site: Site, hub: Hub, offers: Sequence[Offer], runs: Runs, waiting: Checks, beside: Beside, saved: Assessments
) -> tuple[Face, ...]:
    """Every group of pages, in the order of the menu. Add yours here."""

    def projects() -> list[register.Project]:
        return register.projects_of(hub.desk, runs.counted)

    def figures() -> dict[str, int]:
        held, answered = hub.desk.settings, sum(sum(each.values()) for each in runs.counted().values())
        counts = (len(held.offices), len(held.offers), len(projects()), answered)
        return dict(zip(FIGURES, counts, strict=True))

    submitted = open_submissions(hub.folder, hub.desk)
    return (
        *own_faces(site, figures=figures),
        search.pages(site, hub.desk, offers, projects, beside.catalogues),
        frequencies.pages(site, beside.seek),
        learn.pages(site, offers, beside.learn),
        ask.pages(site, hub.desk, offers, checked, runs),
        run_pages.pages(site, runs),
        checks.pages(site, waiting),
        submissions.pages(site, submitted),
        policy.pages(site, runs, saved),
        register.pages(site, hub.desk, projects),
        log.pages(site, hub.exchange, hub.coordinator.members),
        applications.pages(site, hub.desk),
        queues.pages(site, hub.desk),
    )
