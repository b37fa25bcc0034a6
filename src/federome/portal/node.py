"""The portal of a node: which pages it has, and what of the node they are given.

It is part of the node's own process (``federome node serve``) and stands in the node's own country: what its citizens
and its operators see here never passes the hub.
"""

from __future__ import annotations

import secrets
from typing import Final

from fastapi import FastAPI

from federome.db import engine
from federome.model.registry import Identity
from federome.network.doors import Caller
from federome.network.house import House
from federome.portal.app import create_app, own_faces
from federome.portal.pages import case_questions, citizen, clinician, operate, reports, told_consents
from federome.portal.sessions import Sessions
from federome.portal.site import Face, Site

DATABASE: Final = "portal.db"


def node_application(house: House) -> FastAPI:
    """A node's portal as an application of its own."""
    site = Site(
        name=house.node.name,
        url=house.settings.url.rstrip("/"),
        sessions=Sessions(engine(f"sqlite:///{house.folder / DATABASE}"), house.clock),
        register=house.access.register,
        clock=house.clock,
        random=lambda: secrets.token_urlsafe(16),
        logins=house.logins,
        operator=house.settings.operator or house.node.name,
        beside=lambda identity: doors_of(house, identity),
        stopping=house.stopping.is_set,
    )
    return create_app(site, lambda site: faces(site, house))


def faces(site: Site, house: House) -> tuple[Face, ...]:
    """Every group of pages, in the order of the menu. Add yours here."""
    registry = clinician.Registry(house)
    return (
        *own_faces(site, "node_home.html", house=house),
        citizen.pages(site, house),
        operate.pages(site, house),
        clinician.pages(site, registry),
        case_questions.pages(site, registry),
        reports.pages(site, house),
        told_consents.routes(site, house),
    )


def doors_of(house: House, identity: Identity) -> frozenset[Caller]:
    """Which doors an account opens here that the register of people does not know of."""
    found: set[Caller] = set()
    if house.operates(identity):
        found.add("operator")
    if house.citizens.person(identity):
        found.add("citizen")
    if house.treats(identity):
        found.add("own-clinician")
    return frozenset(found)
