"""A clinician's reports about single patients, at the patient's own node only: what they found and what they are not.

They are made beside the node (``federome patient report --node``) for the clinician named there, and only shown here:
no genotype is read in a portal's process. Who opens one is noted first (``network/patient_reports.py``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from fastapi import Request
from fastapi.responses import Response

from federome.network.doors import Caller, open_to
from federome.network.house import House
from federome.pgx.guidance import ACTIONS
from federome.portal.languages import N_
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, visit_of

REPORTS: Final = f"{PREFIX}/reports"


def pages(site: Site, house: House) -> Face:
    """The list, and one report."""
    api = pages_of(site)

    @api.get("/reports")
    @open_to("own-clinician")
    def listed(request: Request) -> Response:
        held = house.reports.listed(visit_of(request).registered().id, now=site.clock())
        told = [(one.name, datetime.fromtimestamp(one.at, UTC)) for one in held]
        return site.page(request, "node_reports.html", reports=told)

    @api.get("/reports/one")
    @open_to("own-clinician")
    def one(request: Request, name: str = "") -> Response:
        report = house.reports.open(visit_of(request).registered().id, name, now=site.clock())
        return site.page(request, "node_report.html", name=name, report=report, actions=ACTIONS)

    to: frozenset[Caller] = frozenset({"own-clinician"})
    return Face(
        api,
        (MenuEntry(N_("Reports"), REPORTS, to, N_("What the genes of your own patients say about risks and drugs.")),),
    )
