"""A node for its operators: how it is, what it holds, what is asked of it, what it has told, and what can be done.

What is done here is what the commands do (``network/operating.py``): with a reason, once, and on the node's record.
"""

from __future__ import annotations

import platform
import shutil
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from federome import __version__
from federome.errors import Invalid, Missing
from federome.network import about
from federome.network.doors import open_to
from federome.network.holdings import shelved
from federome.network.house import House
from federome.network.spending import SqlBudgets, limit_of, metered
from federome.network.uses import Run, runs_of
from federome.portal.languages import N_
from federome.portal.pages.citizen import TIERS
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, see, visit_of
from federome.portal.wording import BASES, COURSES

OPERATE: Final = f"{PREFIX}/operate"
DEEDS: Final[Mapping[str, tuple[str, str]]] = {
    "pause": (
        N_("Pause the node"),
        N_(
            "It takes no work and hands nothing in until you resume. To the hub it is away: runs wait for it "
            "until their deadline, or go on without it. A step under way is finished first."
        ),
    ),
    "resume": (
        N_("Resume"),
        N_("The node works on: what is not too late by now goes on where it was."),
    ),
    "refuse": (
        N_("Refuse this run"),
        N_(
            "It ends at this node with its next step, and nothing of yours is in its result. Whoever asked "
            "reads your reason."
        ),
    ),
    "allow": (
        N_("Take the refusal back"),
        N_("A run that has ended meanwhile stays ended."),
    ),
    "suspend": (
        N_("Suspend the permit here"),
        N_(
            "From the next step on, every run under it is refused at this node, also those under way. Other "
            "nodes are not touched: tell the authority."
        ),
    ),
    "reinstate": (
        N_("End the suspension"),
        N_("Runs under this permit are decided by the usual rules again."),
    ),
    "self-test": (
        N_("Test the sandbox now"),
        N_(
            "Hostile programs try to get out of the sandbox; it takes some seconds. If one succeeds, restart "
            "the node: it then runs no program of others."
        ),
    ),
}
"""What each deed is called, and what it does."""
DANGER: Final = frozenset({"pause", "refuse", "suspend"})
BACK: Final = {"refuse": f"{PREFIX}/work", "allow": f"{PREFIX}/work", "suspend": f"{PREFIX}/work",
               "reinstate": f"{PREFIX}/work"}  # fmt: skip
LOOKS: Final = {"under way": "own", "answered": "good", "refused": "bad", "too late": "care", "priced": "own"}


@dataclass(frozen=True)
class Health:
    """How the node is: ``heard`` is when the hub answered last, ``None`` if it never did since the start."""

    heard: datetime | None
    trouble: str
    disk_free: int
    disk_all: int
    members: int
    versions: tuple[tuple[str, str], ...]


def pages(site: Site, house: House) -> Face:
    """Health, data, work and budget, and one page on which every deed is confirmed."""
    api = pages_of(site)

    @api.get("/operate")
    @open_to("operator")
    def operate(request: Request, done: str = "") -> Response:
        return site.page(
            request,
            "operate.html",
            house=house,
            health=health(house),
            paused=house.operating.paused(),
            sandbox=about.kept(house.folder),
            deeds=house.operating.all(),
            citizens=house.citizens.count(),
            views=house.reports.views(),
            **_words(done),
        )

    @api.get("/data")
    @open_to("operator")
    def data(request: Request) -> Response:
        held = shelved(house.holdings.store)
        return site.page(request, "operate_data.html", releases=held, consents=consents(house, site.now()), tiers=TIERS)

    @api.get("/work")
    @open_to("operator")
    def work(request: Request, done: str = "") -> Response:
        refused = {each.run for each in house.operating.refusals() if each.run}
        runs = runs_of(house.base, now=house.clock())
        return site.page(
            request,
            "operate_work.html",
            going=[run for run in runs if run.course == "under way"],
            over=[run for run in runs if run.course != "under way"],
            refused=refused,
            others=[each for each in house.operating.refusals() if not each.run],
            suspended=house.operating.suspended(),
            paused=house.operating.paused(),
            **_words(done),
        )

    @api.get("/budget")
    @open_to("operator")
    def budget(request: Request) -> Response:
        return site.page(request, "operate_budget.html", accounts=accounts(house))

    @api.get("/deed")
    @open_to("operator")
    def deed(request: Request, kind: str = "", about: str = "") -> Response:
        run = _known(house, kind, about)
        return site.page(request, "deed.html", kind=kind, thing=about, run=run, wrong="", reason="", **_words())

    @api.post("/deed")
    @open_to("operator")
    async def do(request: Request) -> Response:
        return await run_in_threadpool(_do, site, house, request)

    menu = (
        MenuEntry(
            N_("Node"), OPERATE, frozenset({"operator"}), N_("How the node is, what operators did, and the sandbox.")
        ),
        MenuEntry(
            N_("Work"),
            f"{PREFIX}/work",
            frozenset({"operator"}),
            N_("What runs and what waits. Refuse a run, or suspend a permit."),
        ),
        MenuEntry(
            N_("Data and consent"),
            f"{PREFIX}/data",
            frozenset({"operator"}),
            N_("The releases of every dataset with their verdicts, and who agreed to what."),
        ),
        MenuEntry(
            N_("Budget"),
            f"{PREFIX}/budget",
            frozenset({"operator"}),
            N_("What each grant has spent of the privacy budget."),
        ),
    )
    return Face(api, menu)


def _do(site: Site, house: House, request: Request) -> Response:
    visit = visit_of(request)
    kind, thing, reason = visit.one("kind"), visit.one("about"), visit.one("reason")
    run = _known(house, kind, thing)
    assert visit.session is not None
    who = f"{visit.session.identity.sub} ({visit.session.identity.iss})"
    try:
        new = house.operating.do(kind, thing, reason=reason, by=who, once=visit.sent_once())  # type: ignore[arg-type]
    except Invalid as fault:
        told: dict[str, Any] = {"kind": kind, "thing": thing, "run": run, "wrong": fault.message, "reason": reason}
        return site.page(request, "deed.html", status=fault.status, **told, **_words())
    if new and kind == "self-test":
        about.keep(house.folder, about.try_walls(house.folder))
    return see(f"{BACK.get(kind, OPERATE)}?{urlencode({'done': kind})}")


def _known(house: House, kind: str, thing: str) -> Run | None:
    """The run that a deed is about, if it is about one; ``Missing`` for a deed or a run that there is not."""
    if kind not in DEEDS:
        raise Missing("there is no such deed.")
    if kind not in ("refuse", "allow"):
        return None
    found = next((run for run in runs_of(house.base, now=house.clock()) if run.id == thing), None)
    if found is None:
        raise Missing("this node knows no such run.")
    return found


def health(house: House) -> Health:
    """How the node is now."""
    disk = shutil.disk_usage(house.folder)
    heard = house.party.heard
    return Health(
        heard=datetime.fromtimestamp(heard, UTC) if heard else None,
        trouble=house.party.trouble,
        disk_free=disk.free,
        disk_all=disk.total,
        members=house.matching.node.members.version,
        versions=(
            ("federome", __version__),
            ("Python", platform.python_version()),
            ("SQLite", sqlite3.sqlite_version),
        ),
    )


def consents(house: House, now: datetime) -> dict[str, Any]:
    """Who stands where, in numbers only."""
    ledger = house.consents.ledger()
    standings = ledger.standings(now).values()
    return {
        "default": ledger.default,
        "told": len(standings),
        "tiers": Counter(one.tier for one in standings if not one.withdrawn),
        "withdrawn": sum(one.withdrawn for one in standings),
        "opted_out": sum(one.opted_out for one in standings),
        "laws": [law.reference for law in ledger.overrides],
        "citizens": house.citizens.count(),
    }


def accounts(house: House) -> list[Any]:
    """What was told under each grant: the risk meter's readings."""
    budgets = house.matching.node.budgets
    assert isinstance(budgets, SqlBudgets)
    store = house.holdings.store
    limit = limit_of([store.release(name).manifest.policy for name in store.datasets()])
    own = {
        f"grant:{run.permit}": run.budget for run in runs_of(house.base, now=house.clock()) if run.budget is not None
    }
    return metered(budgets.accounts(), lambda name: min(limit, own.get(name, limit)))


def _words(done: str = "") -> dict[str, Any]:
    told = {"deed_words": DEEDS, "danger": DANGER, "bases": BASES, "courses": COURSES, "looks": LOOKS}
    return told | {"done": done if done in DEEDS else ""}
