"""``federome import``: what others export becomes a node's datasets, ready to be served."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import_app = typer.Typer(no_args_is_help=True, help="Take over what another program exports.")
out = Console(highlight=False)


@import_app.callback()
def _several() -> None:
    """Keep the group a group, though it has one command."""


@import_app.command("beacon-bff")
def beacon_bff(
    source: Annotated[
        Path, typer.Argument(help="The folder of JSON files: datasets, individuals, genomicVariations …")
    ],
    folder: Annotated[Path, typer.Option("--dir", help="The node's folder; made where there is none.")],
    node: Annotated[str, typer.Option(help="The node's name, where the folder is no node yet.")] = "BEACON",
    tier: Annotated[str, typer.Option(help="Who may ask: public, registered or controlled.")] = "registered",
    open_data: Annotated[
        bool, typer.Option("--open", help="Its holder declares it open: exact, person by person.")
    ] = False,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="No real person is in it.")] = False,
    assembly: Annotated[str, typer.Option(help="Of all positions, whatever the entries say.")] = "",
    holder: Annotated[str, typer.Option(help="The organisation that holds the data.")] = "",
    fasta: Annotated[Path | None, typer.Option(help="Reference sequence (with .fai) to check REF against.")] = None,
    person_prefix: Annotated[
        str,
        typer.Option("--person-prefix", help="Put before every id of a person, where another dataset has the same."),
    ] = "",
    same_people: Annotated[
        bool,
        typer.Option("--same-people", help="Ids of another dataset of this node are the same people: one consent."),
    ] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the Beacon at once, until told to stop.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to serve.")] = 5050,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Import a Beacon in the Beacon Friendly Format, publish its frequencies, and let its people be counted."""
    from federome.errors import Invalid
    from federome.model.variant import assembly_name
    from federome.onboard.bff import Wanted, import_bff

    if tier not in ("public", "registered", "controlled"):
        raise Invalid("a tier is public, registered or controlled.", where="--tier")
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,20}", person_prefix):
        raise Invalid("a prefix is at most 20 letters, digits and . _ -", where="--person-prefix")
    wanted = Wanted(
        tier=tier,  # type: ignore[arg-type]  # checked above
        open_data=open_data,
        synthetic=synthetic,
        assembly=assembly_name(assembly) if assembly else None,
        holder=holder,
        fasta=fasta,
        person_prefix=person_prefix,
        same_people=same_people,
    )
    today = datetime.now(UTC).date()
    with Console(stderr=True).status("reading and writing"):
        found = import_bff(source, folder, wanted, node=node, today=today, clock=time.time)
    if as_json:
        told = [{**vars(each), "left_out": dict(each.left_out)} for each in found]
        sys.stdout.write(json.dumps({"datasets": told}) + "\n")
    for each in found if not as_json else ():
        name = each.dataset if each.dataset == each.called else f"{each.dataset} ({each.called})"
        out.print(
            f"{name}: {each.people:,} people, {each.variants:,} variants, {each.published:,} published", soft_wrap=True
        )
        if each.refused:
            out.print(f"  no table: {each.refused}", soft_wrap=True, markup=False)
        for kind, count in sorted(each.left_out.items()):
            out.print(f"  left out: {kind} ({count:,})", soft_wrap=True, markup=False)
    people = any(each.people for each in found)
    if serve:
        _serve(folder, port, people=people)
    elif not as_json:
        out.print(f"Next: federome beacon serve --dir {folder}{' --people' if people else ''}", soft_wrap=True)


def _serve(folder: Path, port: int, *, people: bool) -> None:
    """The Beacon in this process and, for people, the desk in one of its own, which ends with it."""
    from federome.cli.beacon import beacon_serve
    from federome.errors import Unavailable
    from federome.network.discovery_wire import SOCKET

    (folder / SOCKET).unlink(missing_ok=True)
    command = [sys.executable, "-m", "federome.cli", "node", "desk", "--dir", str(folder)]
    desk = subprocess.Popen(command) if people else None  # noqa: S603 - this program itself
    try:
        while desk is not None and not (folder / SOCKET).exists():
            if desk.poll() is not None:
                raise Unavailable("the desk did not start.", remedy=f"See: federome node desk --dir {folder}")
            time.sleep(0.05)
        out.print(f"Serving at http://127.0.0.1:{port}/api", soft_wrap=True)
        beacon_serve(folder, port=port, people=people)
    finally:
        if desk is not None:
            desk.terminate()
            desk.wait(10)
