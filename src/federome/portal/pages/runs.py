"""A person's runs: what was asked, how far every node is, what it would cost, and what came out, with proofs and files.

The runs are those of the key that the register knows for whoever is logged in. Nobody else's exist.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from fastapi import Request
from fastapi.responses import Response

from federome.errors import Missing
from federome.model.registry import Person
from federome.model.sheet import csv_pieces
from federome.model.table import Table
from federome.network.doors import Caller, open_to
from federome.portal.crate import crate
from federome.portal.languages import N_
from federome.portal.results import citation, figure_of, heads_of, parquet, rows_of, stem
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, see, visit_of

PLACE: Final = f"{PREFIX}/runs"
ASKERS: Final[frozenset[Caller]] = frozenset({"researcher", "clinician"})
STATES: Final[Mapping[str, tuple[str, str]]] = {
    "QUEUED": (N_("Nodes decide"), "care"),
    "INITIALIZING": (N_("Under way"), "care"),
    "RUNNING": (N_("Under way"), "care"),
    "PAUSED": (N_("Waits for output checkers"), "care"),
    "COMPLETE": (N_("Complete"), "good"),
    "EXECUTOR_ERROR": (N_("Not answered"), "bad"),
    "CANCELED": (N_("Stopped"), "own"),
}
OVER: Final = frozenset({"COMPLETE", "EXECUTOR_ERROR", "CANCELED"})


class Runs(Protocol):
    """The hub's runs of one key (its thumbprint). ``told`` and the rest raise ``Missing`` for another's."""

    def listed(self, key: str) -> Sequence[Mapping[str, Any]]:
        """The newest runs: ``run``, ``algorithm``, ``datasets``, ``parameters``, ``state``, ``created``, ``priced``."""

    def counted(self) -> Mapping[str, Mapping[str, int]]:
        """How many runs of everybody were answered: by permit, then by algorithm."""

    def told(self, key: str, run: str) -> Mapping[str, Any]:
        """The same and ``provenance``, ``problem``, ``parts`` (each node's latest step), ``events``, ``tables``."""

    def version(self, key: str, run: str) -> str:
        """Something that changes with every piece of news."""

    def table(self, key: str, run: str, name: str, node: str) -> Table:
        """A released table."""

    def cancel(self, key: str, run: str) -> None:
        """Stop it."""


def key_of(person: Person | None) -> str:
    """The thumbprint of the key that the register knows for somebody; nothing, if it knows none."""
    return person.key.thumbprint if person is not None and person.key is not None else ""


def pages(site: Site, runs: Runs) -> Face:
    """The history, one run, and its files."""
    api = pages_of(site)

    def key(request: Request) -> str:
        held = key_of(visit_of(request).registered())
        if not held:
            raise Missing("there is no such run.")
        return held

    @api.get("/runs")
    @open_to("researcher", "clinician")
    def history(request: Request) -> Response:
        held = key_of(visit_of(request).registered())
        return site.page(request, "runs.html", runs=runs.listed(held) if held else (), states=STATES, key=held)

    @api.get("/runs/{run}")
    @open_to("named")
    def show(request: Request, run: str) -> Response:
        return site.page(request, "run.html", **_whole(site, runs, request, key(request), run))

    @api.get("/runs/{run}/news")
    @open_to("named")
    def news(request: Request, run: str) -> Response:
        held = key(request)
        runs.told(held, run)
        return site.stream(request, lambda: runs.version(held, run))

    @api.post("/runs/{run}/cancel")
    @open_to("named")
    def cancel(request: Request, run: str) -> Response:
        runs.cancel(key(request), run)
        return see(f"{PLACE}/{run}")

    @api.get("/runs/{run}/files/{name}")
    @open_to("named")
    def file(request: Request, run: str, name: str, node: str = "") -> Response:
        return _file(site, runs, key(request), run, name, node)

    return Face(
        api, (MenuEntry(N_("Runs"), PLACE, ASKERS, N_("Your questions: how far every node is, and what came out.")),)
    )


def _whole(site: Site, runs: Runs, request: Request, key: str, run: str) -> dict[str, Any]:
    told, language = runs.told(key, run), visit_of(request).language
    tables = []
    for name, node in told["tables"]:
        table = runs.table(key, run, name, node)
        tables.append(
            {
                "name": name,
                "node": node,
                "rows": rows_of(table, language),
                "heads": heads_of(table),
                "size": table.rows,
                "figure": figure_of(name, table, language),
                "stem": stem(name, node),
            }
        )
    receipts = {node: json.dumps(one) for node, one in told["provenance"].get("receipts", {}).get("logs", {}).items()}
    result = told["provenance"].get("result") or {}
    return {
        "told": told,
        "states": STATES,
        "over": told["state"] in OVER,
        "tables": tables,
        "receipts": receipts,
        "prices": result.get("prices", {}) if told["priced"] else {},
        "parameters": json.dumps(told["parameters"], indent=1),
        "citation": citation(told, site.name) if told["state"] == "COMPLETE" and not told["priced"] else "",
    }


def _file(site: Site, runs: Runs, key: str, run: str, name: str, node: str) -> Response:
    told = runs.told(key, run)
    kind = name.rpartition(".")[2]
    if name == "provenance.json":
        return _download(_json(told["provenance"]), name, "application/json")
    if name == f"{run}.crate.zip" and told["tables"]:
        held = {(table, at): runs.table(key, run, table, at) for table, at in told["tables"]}
        described = {**told, "citation": citation(told, site.name)}
        return _download(crate(described, told["provenance"], held), name, "application/zip")
    table = runs.table(key, run, name.rpartition(".")[0], node)
    match kind:
        case "csv":
            return _download("".join(csv_pieces(table)).encode(), f"{stem(name, node)}", "text/csv; charset=utf-8")
        case "parquet":
            return _download(parquet(table), f"{stem(name, node)}", "application/vnd.apache.parquet")
    raise Missing("the run released no such file.")


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _download(data: bytes, name: str, media: str) -> Response:
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)
    return Response(data, media_type=media, headers={"Content-Disposition": f'attachment; filename="{plain}"'})
