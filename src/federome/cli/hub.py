"""``federome hub``: make a hub, invite nodes, serve; and what people reach at it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federome.cli.edge import AsJson, Development, log, network, read_public_key, tell

if TYPE_CHECKING:
    from fastapi import APIRouter

    from federome.network.serve_hub import Hub

hub_app = typer.Typer(no_args_is_help=True, help="Run the hub: it routes and adds masked parts, trusted with nothing.")
HubFolder = Annotated[Path, typer.Option("--dir", help="The hub's folder.")]


@hub_app.command("init")
def hub_init(
    folder: HubFolder,
    authority: Annotated[Path, typer.Option(help="The authority's public key file (*.public.json).")],
    url: Annotated[str, typer.Option(help="What nodes and people call the hub.")] = "https://127.0.0.1:8443",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8443,
    name: Annotated[str, typer.Option(help="The hub's name, the audience of every token.")] = "hub",
    development: Development = False,
    keep_exact: Annotated[
        bool, typer.Option("--keep-exact", help="Keep unrounded results to compare (only with --development).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a hub: its keys, a TLS certificate, the pinned authority."""
    from federome.network.setup import HubSettings, init_hub

    owner, key = read_public_key(authority)
    settings = HubSettings(
        name=name, url=url, host=host, port=port, authority=owner, keep_exact=keep_exact, network=network(development)
    )
    init_hub(folder, settings, key)
    tell(
        {"hub": name, "url": url, "dir": str(folder)},
        f"Hub {name!r} is set up in {folder}. Next: federome hub invite NODE --dir {folder}",
        as_json=as_json,
    )


@hub_app.command("invite")
def hub_invite(node: str, folder: HubFolder, as_json: AsJson = False) -> None:
    """Write an invitation for one node; hand it over by another way than the hub."""
    from federome.network.setup import invite

    line = invite(folder, node).encoded()
    sys.stdout.write((json.dumps({"node": node, "invitation": line}) if as_json else line) + "\n")  # never wrapped


@hub_app.command("serve")
def hub_serve(folder: HubFolder) -> None:
    """Serve the hub until it is told to stop."""
    from federome.network.serve_hub import serve_hub

    log()
    serve_hub(folder, faces=faces)


def faces(hub: Hub, clock: Callable[[], float] = time.time) -> list[APIRouter]:
    """What people reach at the hub."""
    from federome.demo.learning import School
    from federome.network.offers import offers
    from federome.network.output_queue import CHECKERS, Checkers, OutputQueue
    from federome.portal.hub import Beside, portal_routers
    from federome.standards import applications, output_reviews, wes
    from federome.standards.beacon.hub import asker, beacons_of
    from federome.standards.catalogues import Reader
    from federome.standards.service_info import Operator

    offered, waiting = offers(), OutputQueue(hub.coordinator, Checkers(hub.folder / CHECKERS), clock)
    operator = Operator(f"org.federome.{hub.settings.name}", hub.settings.name, hub.settings.operator, hub.settings.url)
    return [
        wes.router(
            hub.coordinator,
            hub=hub.settings.name,
            clock=clock,
            operator=operator,
            offers=offered,
            stopping=hub.stopping,
            people=hub.people,
            nodes=hub.words.all,
        ),
        output_reviews.router(
            waiting,
            hub.coordinator.ledger,
            people=hub.people,
        ),
        applications.router(hub.desk, people=hub.people),
        *portal_routers(
            hub,
            offers=offered,
            runs=wes.KeyRuns(hub.coordinator),
            waiting=output_reviews.KeyChecks(waiting, hub.coordinator.ledger),
            beside=Beside(
                asker(hub.folder, operator, hub.settings.url),
                Reader(beacons_of(hub.folder).beacons, clock),
                School(hub.folder / "learning"),
            ),
        ),
    ]
