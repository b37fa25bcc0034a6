"""Before anybody has a permit: does any nation know variants of BRCA1? Asked as the whole world may ask it."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.request import Request, urlopen

from rich.table import Table as Grid

from federome.demo.cohorts import NodeData
from federome.demo.local import free_port, wait_for_port
from federome.demo.stage import Stage
from federome.network.consents import node_consents
from federome.network.discovery import open_desk, set_opened
from federome.network.discovery_wire import SOCKET, DeskServer
from federome.network.holdings import open_holdings
from federome.network.publication import Publication
from federome.network.publishing import publish_into

GENE: Final = "BRCA1"
PLACE: Final = ("17", 43_044_294, 43_125_364)
"""BRCA1 on GRCh38, 0-based, half-open: where the demonstration's gene map has it too."""


def discovery(stage: Stage) -> None:
    """Each node publishes a priced table; a Beacon of Beacons asks them all, then the European portal's own request."""
    stage.title(f"Does any node have {GENE} variants? Asked without a permit")
    started = time.perf_counter()
    with stage.console.status("publishing frequencies and starting a Beacon at every node"):
        url, tables = _serve(stage)
    asked = {"geneId": GENE, "requestedGranularity": "count", "includeResultsetResponses": "NONE"}
    counted = _post(url, {"requestParameters": {"geneId": GENE}, "requestedGranularity": "count"})
    portal = _post(
        url,
        {
            "filters": [],
            "includeResultsetResponses": "HIT",
            "pagination": {"skip": 0, "limit": 1000},
            "requestParameters": {
                "referenceName": PLACE[0],
                "start": [str(PLACE[1])],
                "end": [str(PLACE[2])],
                "assemblyId": "GRCh38",
            },
            "requestedGranularity": "record",
            "testMode": False,
        },
    )
    people = _people(url)
    seconds = time.perf_counter() - started
    grid = Grid(title=f"{GENE}, by gene and by the request of the European portal", title_justify="left")
    for heading in ("node", "variants", "the most frequent", "in", "price"):
        grid.add_column(heading, justify="left" if heading in ("node", "the most frequent") else "right")
    sets = {each["id"]: each for each in portal["response"]["resultSets"]}
    for data, about in zip(stage.nodes, tables, strict=True):
        found = sets.get(data.synthetic_dataset, {"results": []})["results"]
        most = max(found, key=_frequency, default=None)
        shown = ("–", "–") if most is None else (most["identifiers"]["genomicHGVSId"], f"{_frequency(most):.4f}")
        grid.add_row(data.node, str(len(found)), *shown, f"{100 * about.power:.1f} of 100")
    stage.console.print(grid)
    stage.console.print(
        f"  [green]answered[/] in {seconds:.1f} s, publishing and all processes included; "
        f"{counted['responseSummary']['numTotalResults']} variants in all. [dim]price: found by the best membership "
        "test of all who are in the table; 5 is guessing[/]"
    )
    counts = {str(each["id"]): each for each in people["response"]["resultSets"]}
    told = ", ".join(
        f"{data.node} " + (f"about {each['resultsCount']:,}" if each["exists"] else "fewer than 20")
        for data in stage.nodes
        if (each := counts.get(data.synthetic_dataset)) is not None
    )
    stage.console.print(
        "  People with coronary heart disease and LDL cholesterol of 4 mmol/L or more, counted by each node and "
        f"rounded: {told}. [dim]{len(stage.nodes) - len(counts)} of {len(stage.nodes)} withheld theirs[/]"
    )
    stage.facts.stories["discovery"] = {
        "people": {name: each["resultsCount"] for name, each in counts.items()},
        "question": asked,
        "variants": counted["responseSummary"]["numTotalResults"],
        "portal_rows": sum(len(each["results"]) for each in sets.values()),
        "nodes": counted["info"]["nodes"],
        "seconds": round(seconds, 1),
    }


def _people(url: str) -> dict[str, Any]:
    """How many people have a diagnosis and a measurement: only numbers, through each node's own door."""
    return _post(
        url.replace("g_variants", "individuals"),
        {
            "filters": [
                {"id": "ICD10:I25", "scope": "individual"},
                {"id": "LDL", "operator": ">=", "value": "4 mmol/L", "scope": "individual"},
            ],
            "includeResultsetResponses": "ALL",
            "requestedGranularity": "record",
        },
    )


def _serve(stage: Stage) -> tuple[str, list[Publication]]:
    """Beacons of all nodes and one over them, as processes; returns where that one is, and what is told of the tables.

    Each node's starts as soon as its table is there, while the next one is published.
    """
    ports = {
        f"beacon-{data.node}": stage.federation.ports.get(f"beacon-{data.node}") or free_port() for data in stage.nodes
    }
    port = ports["beacon-network"] = free_port()
    members = [f"{data.node}=http://127.0.0.1:{ports[f'beacon-{data.node}']}/api" for data in stage.nodes]
    # Members answer at once, unless the machine is busy with other things.
    told = ("--port", str(port), "--deadline", "30")
    stage.federation.start("beacon-network", "beacon", "network", *members, *told)
    with ThreadPoolExecutor(2) as pool:
        tables = list(pool.map(lambda data: _open(stage, data, ports[f"beacon-{data.node}"]), stage.nodes))
    for name, each in ports.items():
        wait_for_port("127.0.0.1", each, stage.federation.processes[name])
    return f"http://127.0.0.1:{port}/api/g_variants", tables


def _open(stage: Stage, data: NodeData, port: int) -> Publication:
    """Publish a node's frequencies, let its people be counted, and start its Beacon."""
    folder = stage.federation.node_folder(data.node)
    held, dataset = open_holdings(folder, node_consents(folder), time.time), data.synthetic_dataset
    about, _ = publish_into(folder, dataset, clock=time.time, genes=[GENE], by_sex=False, holdings=held)
    set_opened(folder, data.synthetic_dataset, "public")
    catalogue = folder / "catalogue.toml"
    catalogue.write_text(_catalogue(data.node))
    told = ("--dir", str(folder), "--port", str(port), "--catalogue", str(catalogue))
    stage.federation.start(f"beacon-{data.node}", "beacon", "serve", "--people", *told)
    desk = DeskServer(folder / SOCKET, open_desk(folder, clock=time.time, holdings=held))
    threading.Thread(target=desk.serve_forever, daemon=True).start()  # at a real node a process of its own
    return about


def _catalogue(node: str) -> str:
    """What a node's catalogue says beside its data; the hub's pages make their facets from it."""
    words = {"title": f"Genomes of {node}", "description": "Cohorts of the demonstration.", "publisher": f"Node {node}"}
    words |= {"country": node, "institute": "DEMO"}
    return "".join(f"{name} = {json.dumps(text)}\n" for name, text in words.items())


def _post(url: str, query: dict[str, object]) -> dict[str, Any]:
    body = json.dumps({"meta": {"apiVersion": "2.0"}, "query": query}).encode()
    with urlopen(Request(url, body, {"content-type": "application/json"}), timeout=60) as answer:  # noqa: S310
        told: dict[str, Any] = json.loads(answer.read())
    return told


def _frequency(record: dict[str, Any]) -> float:
    cells = record["frequencyInPopulations"][0]["frequencies"]
    return float(next(cell["alleleFrequency"] for cell in cells if cell["population"] == "Total"))
