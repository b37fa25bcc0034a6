"""``federome node log``: what stands in a node's log, and the log as static files for whoever is to check it."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Shown

from federome.cli.edge import AsJson, NodeFolder
from federome.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from federome.trust.canonical import Json


def log(
    folder: NodeFolder,
    run: Annotated[str, typer.Option(help="Only of this run.")] = "",
    last: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 20,
    tiles: Annotated[
        Path | None, typer.Option(help="Write the whole log there as static files (C2SP tlog-tiles), to be checked.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What was asked, decided and sent here, newest last: digests, no question, no row and nobody's name.

    Refusals stand there at once, the steps of a run when it has ended here.
    """
    from federome.db import engine
    from federome.network.record import Record
    from federome.network.rotation import OwnKeys
    from federome.network.setup import MemberList, node_settings
    from federome.trust.canonical import parse_object

    name = node_settings(folder).name
    if not (path := folder / "node.db").is_file():
        raise Invalid(
            "this node has no log yet.", where=str(path), remedy=f"Start it: federome node serve --dir {folder}"
        )
    key = OwnKeys(folder / "keys", "node", party=name, clock=time.time)
    key.follow(MemberList(folder, time.time))
    record = Record(engine(f"sqlite:///{path}", durable=True), party=name, key=key)
    frontier = record.log.frontier()
    entries = [(number, parse_object(data)) for number, data in record.log.newest(run=run, limit=last)]
    if tiles is not None:
        record.write_tiles(tiles)
    facts = {
        "node": name,
        "size": frontier.size,
        "root": frontier.root().hex(),
        "entries": [{"number": number, **entry} for number, entry in entries],
        "tiles": str(tiles) if tiles is not None else None,
    }
    if as_json:
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    shown = Shown(caption=f"{len(entries):,} of {frontier.size:,} entries of {name}")
    for heading in ("entry", "UTC", "run", "step", "about"):
        shown.add_column(heading, justify="right" if heading == "entry" else "left", overflow="fold")
    for number, entry in entries:
        at = datetime.fromtimestamp(float(str(entry["at"])), UTC)
        told = (str(number), f"{at:%Y-%m-%d %H:%M:%S}", str(entry["run"]), str(entry["what"]), _about(entry))
        shown.add_row(*map(escape, told))
    out = Console(highlight=False)
    out.print(shown)
    if tiles is not None:
        out.print(f"All of it is in {escape(str(tiles))}, under a checkpoint that this node signed.", soft_wrap=True)


def _about(entry: Mapping[str, Json]) -> str:
    """What an entry says in words: the algorithm and the permit, or why not."""
    algorithm, codes = entry.get("algorithm"), entry.get("codes")
    said = []
    if isinstance(algorithm, dict):
        said.append(f"{algorithm.get('name')} {algorithm.get('version')}")
    if isinstance(permit := entry.get("permit"), str):
        said.append(f"permit {permit}")
    if isinstance(codes, list):
        said.append(", ".join(map(str, codes)))
    return "; ".join(said)
