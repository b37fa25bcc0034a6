"""The portal of a hub: which pages it has, and what of the network layer they are given."""

from __future__ import annotations

import secrets
from typing import Final

from fastapi import APIRouter

from federome.db import engine
from federome.network.serve_hub import Hub
from federome.portal.app import own_faces, routers
from federome.portal.pages import applications, frequencies, log, queues
from federome.portal.pages.frequencies import Seek
from federome.portal.sessions import Sessions
from federome.portal.site import Face, Site

DATABASE: Final = "portal.db"


def portal_routers(hub: Hub, *, seek: Seek | None = None) -> list[APIRouter]:
    """The routers of a hub's portal. ``seek`` asks the Beacons of the network, if there are any."""
    site = Site(
        name=hub.settings.name,
        url=hub.settings.url.rstrip("/"),
        sessions=Sessions(engine(f"sqlite:///{hub.folder / DATABASE}"), hub.clock),
        register=hub.desk.register,
        clock=hub.clock,
        random=lambda: secrets.token_urlsafe(16),
        logins=hub.logins,
        operator=hub.settings.operator,
        stopping=hub.stopping.is_set,
    )
    return routers(site, faces(site, hub, seek))


def faces(site: Site, hub: Hub, seek: Seek | None) -> tuple[Face, ...]:
    """Every group of pages, in the order of the menu. Add yours here."""
    return (
        *own_faces(site),
        frequencies.pages(site, seek),
        log.pages(site, hub.exchange, hub.coordinator.members),
        applications.pages(site, hub.desk),
        queues.pages(site, hub.desk),
    )
