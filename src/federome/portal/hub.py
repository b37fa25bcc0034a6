"""The portal of a hub: which pages it has, and what of the network layer they are given."""

from __future__ import annotations

import secrets
from typing import Final

from fastapi import APIRouter

from federome.db import engine
from federome.network.access import Register, read_register
from federome.network.serve_hub import Hub
from federome.portal.app import own_faces, routers
from federome.portal.sessions import Sessions
from federome.portal.site import Face, Site

REGISTER: Final = "register.json"
DATABASE: Final = "portal.db"


def portal_routers(hub: Hub) -> list[APIRouter]:
    """The routers of a hub's portal."""
    site = Site(
        name=hub.settings.name,
        url=hub.settings.url.rstrip("/"),
        sessions=Sessions(engine(f"sqlite:///{hub.folder / DATABASE}"), hub.clock),
        register=RegisterFile(hub).read,
        clock=hub.clock,
        random=lambda: secrets.token_urlsafe(16),
        logins=hub.logins,
        operator=hub.settings.operator,
    )
    return routers(site, faces(site, hub))


def faces(site: Site, hub: Hub) -> tuple[Face, ...]:  # noqa: ARG001 (pages to come are given parts of the hub)
    """Every group of pages, in the order of the menu. Add yours here."""
    return own_faces(site)


class RegisterFile:
    """The register of accredited people in the hub's folder, read again when it changes."""

    def __init__(self, hub: Hub) -> None:
        self._path = hub.folder / REGISTER
        self._stamp, self._held = 0, Register()

    def read(self) -> Register:
        """The register now; an empty one where there is no file."""
        stamp = self._path.stat().st_mtime_ns if self._path.is_file() else 0
        if stamp != self._stamp:
            self._held, self._stamp = read_register(self._path.read_text()) if stamp else Register(), stamp
        return self._held
