"""``federome node publish`` and ``federome beacon``: frequency tables that anybody may read, and the Beacon over them.

The Beacon is a process of its own. It is given a folder of published tables and needs nothing else of the node.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from federome.cli.edge import AsJson, NodeFolder, read_lines

beacon_app = typer.Typer(no_args_is_help=True, help="Serve published frequencies as a GA4GH Beacon.")
out = Console(highlight=False)


def node_publish(
    dataset: Annotated[str, typer.Argument(help="The dataset whose newest data release is told of.")],
    folder: NodeFolder,
    regions: Annotated[Path | None, typer.Option(help="A file of regions, chromosome:start-end a line.")] = None,
    genes: Annotated[str, typer.Option(help="Genes to publish, by commas: the regions they lie in.")] = "",
    by_sex: Annotated[bool, typer.Option("--by-sex/--no-sex", help="Also by sex.")] = True,
    tier: Annotated[str, typer.Option(help="Who may read it: public, registered or controlled.")] = "public",
    as_json: AsJson = False,
) -> None:
    """Make the table of allele frequencies that a Beacon answers from, and price it once."""
    from federome.errors import Invalid
    from federome.network.publishing import publish_into
    from federome.standards.beacon.shelf import bind

    if tier not in ("public", "registered", "controlled"):
        raise Invalid("a tier is public, registered or controlled.", where="--tier")
    about, place = publish_into(
        folder,
        dataset,
        clock=time.time,
        regions=read_lines(regions) if regions else (),
        genes=genes.split(","),
        by_sex=by_sex,
        tier=tier,  # type: ignore[arg-type]  # checked above
    )
    bind(place)
    if as_json:
        facts = about.to_document() | {"place": str(place)}
        facts.pop("genes", None)
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    priced = "open data" if about.open_data else f"a membership test would find {100 * about.power:.0f} of 100"
    out.print(
        f"{dataset}: {about.sites:,} variants of {about.people:,} people, by {', '.join(about.strata)} ({priced}). "
        f"Next: federome beacon serve --dir {folder}",
        soft_wrap=True,
    )


def node_discover(
    dataset: Annotated[str, typer.Argument(help="The dataset whose people may be counted.")],
    folder: NodeFolder,
    tier: Annotated[str, typer.Option(help="By whom: public, registered or controlled.")] = "registered",
    off: Annotated[bool, typer.Option("--off", help="Not any longer.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let the people of a dataset be counted through a Beacon: numbers only, floors, audit and budget on."""
    from federome.errors import Invalid
    from federome.network.discovery import set_opened
    from federome.store.catalogue import Store

    if tier not in ("public", "registered", "controlled"):
        raise Invalid("a tier is public, registered or controlled.", where="--tier")
    if not off:
        Store.open(folder / "data").release(dataset)
    opened = set_opened(folder, dataset, None if off else tier)  # type: ignore[arg-type]  # checked above
    if as_json:
        sys.stdout.write(json.dumps({each.dataset: each.tier for each in opened}) + "\n")
        return
    for each in opened:
        out.print(f"{each.dataset}: counted for {each.tier} questions", soft_wrap=True)
    if not opened:
        out.print("Nobody's people are counted.")


def node_desk(
    folder: NodeFolder,
    ontology: Annotated[Path | None, typer.Option(help="An installed ontology, for terms below a term.")] = None,
) -> None:
    """Answer the Beacon's questions about people, at a socket in the node's folder, until told to stop."""
    import signal
    import threading

    from federome.ingest.ontologies import load
    from federome.network.discovery import open_desk
    from federome.network.discovery_wire import SOCKET, DeskServer

    terms = load(ontology).ontology if ontology else None
    server = DeskServer(folder / SOCKET, open_desk(folder, clock=time.time, ontology=terms))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    out.print(f"The desk answers at {folder / SOCKET}.", soft_wrap=True)
    with server:
        server.serve_forever(poll_interval=0.2)
    (folder / SOCKET).unlink(missing_ok=True)


def node_htsget(
    folder: NodeFolder,
    host: Annotated[str, typer.Option(help="Address to listen on: one that workspaces reach and nobody else.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 5053,
    url: Annotated[str, typer.Option(help="What workspaces call it; the address it listens on if omitted.")] = "",
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate (PEM); plain HTTP without one.")] = None,
    key: Annotated[Path | None, typer.Option(help="Key of the certificate.")] = None,
) -> None:
    """Hand reads and variants by region to this node's secure workspaces, as htsget.toml says, until told to stop."""
    from federome.network.about import tested
    from federome.network.notices import Notices
    from federome.network.setup import node_settings, pinned_authorities
    from federome.standards.beacon.serve import run_application
    from federome.standards.htsget import SETTINGS, Htsget, Settings, application
    from federome.standards.service_info import Operator

    name = node_settings(folder).name
    base = (url or f"{'https' if certificate else 'http'}://{host}:{port}").rstrip("/")
    Settings.read(folder / SETTINGS)  # a mistake in it shows now

    def suspended() -> list[str]:
        path = folder / "suspended.json"
        by_hand = [str(each) for each in json.loads(path.read_text())] if path.is_file() else []
        return [*by_hand, *Notices(folder, time.time).suspended()]

    service = Htsget(
        name,
        f"{base}/htsget",
        Operator(f"org.federome.{name.lower()}", f"htsget of {name}", name, base, told=lambda: tested(folder)),
        lambda: Settings.read(folder / SETTINGS),
        lambda: pinned_authorities(folder),
        suspended,
        time.time,
    )
    run_application(application(service), host, port, certificate, key)


@beacon_app.command("serve")
def beacon_serve(
    folder: NodeFolder,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 5050,
    url: Annotated[str, typer.Option(help="What the outside calls it; the address it listens on if omitted.")] = "",
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate (PEM); plain HTTP without one.")] = None,
    key: Annotated[Path | None, typer.Option(help="Key of the certificate.")] = None,
    organization: Annotated[str, typer.Option(help="Who runs it.")] = "",
    apply: Annotated[str, typer.Option(help="Where people apply for access.")] = "",
    catalogue: Annotated[Path | None, typer.Option(help="Settings (TOML) of the catalogue at /fdp.")] = None,
    people: Annotated[bool, typer.Option("--people", help="Also count people, at the node's desk.")] = False,
    run: Annotated[str, typer.Option(help="Where permitted people send algorithms (the hub's WES).")] = "",
    htsget: Annotated[str, typer.Option(help="Where workspaces of this node get tickets for files.")] = "",
    capacity: Annotated[int, typer.Option(min=1, help="Requests answered at a time; others get 503.")] = 64,
    production: Annotated[bool, typer.Option("--production", help="Say that real people are in it.")] = False,
) -> None:
    """Serve the node's published tables as a Beacon v2 at /api, until told to stop."""
    from federome.network.about import tested
    from federome.network.access import NodeAccess
    from federome.network.discovery_wire import SOCKET, RemoteDesk
    from federome.network.fetching import key_sets
    from federome.network.guests import Guests
    from federome.network.publication import FOLDER
    from federome.network.setup import node_settings
    from federome.standards.beacon.documents import Identity
    from federome.standards.beacon.serve import serve
    from federome.standards.catalogue import Catalogue
    from federome.standards.service_info import Operator

    settings = node_settings(folder)
    name = settings.name
    scheme = "https" if certificate else "http"
    base = (url or f"{scheme}://{host}:{port}").rstrip("/")
    environment = "prod" if production else "test"
    operator = Operator(
        f"org.federome.{name.lower()}",
        f"Beacon of {name}",
        organization or name,
        base,
        environment=environment,
        told=lambda: tested(folder),
    )
    identity = Identity(operator, f"{base}/api", apply=apply, run=run, htsget=htsget)
    access = NodeAccess(folder, key_sets(), development=settings.network == "development")
    desk = RemoteDesk(folder / SOCKET) if people else None
    about = Catalogue.read(catalogue) if catalogue else None
    serve(
        folder / FOLDER,
        identity,
        host=host,
        port=port,
        certificate=certificate,
        key=key,
        about=about,
        desk=desk,
        capacity=capacity,
        guests=Guests(access, name, identity.url, time.time),
    )


@beacon_app.command("network")
def beacon_network(
    members: Annotated[list[str], typer.Argument(help="Members as NAME=URL of their API, without a slash at the end.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 5051,
    url: Annotated[str, typer.Option(help="What the outside calls it; the address it listens on if omitted.")] = "",
    deadline_s: Annotated[float, typer.Option("--deadline", min=0.1, max=60, help="Seconds to wait.")] = 5.0,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate (PEM); plain HTTP without one.")] = None,
    key: Annotated[Path | None, typer.Option(help="Key of the certificate.")] = None,
    ca: Annotated[
        Path | None, typer.Option(help="Certificates (PEM) that members may show besides public ones.")
    ] = None,
    organization: Annotated[str, typer.Option(help="Who runs it.")] = "Federome hub",
) -> None:
    """Serve a Beacon of Beacons: one question to all members, one answer that names who did not give one."""
    from federome.errors import Invalid
    from federome.standards.beacon.documents import Identity
    from federome.standards.beacon.network import Member
    from federome.standards.beacon.serve import serve_network
    from federome.standards.service_info import Operator

    named = [Member(*each.split("=", 1)) for each in members if "=" in each]
    if len(named) < len(members) or any(not m.name or not m.url.startswith(("http://", "https://")) for m in named):
        raise Invalid("a member is written NAME=URL.", remedy="As FI=https://beacon.example.fi/api")
    if len({member.name for member in named}) < len(named):
        raise Invalid("two members have the same name.")
    scheme = "https" if certificate else "http"
    base = (url or f"{scheme}://{host}:{port}").rstrip("/")
    operator = Operator("org.federome.network", "Beacon network", organization, base, "", "prod")
    identity = Identity(operator, f"{base}/api", "Allele frequencies of all members.")
    serve_network(
        named, identity, host=host, port=port, certificate=certificate, key=key, deadline_s=deadline_s, trusted=ca
    )
