"""``federome node portal|citizens|pause|resume|suspend``: what a node's operator sets up, and does to it by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from federome.cli.edge import AsJson, NodeFolder, tell
from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.network.operating import Kind

out = Console(highlight=False)


def portal(
    folder: NodeFolder,
    url: Annotated[str, typer.Option(help="What people call it: https://node.example")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8444,
    operator: Annotated[str, typer.Option(help="Who runs this node, for everybody to read.")] = "",
    contact: Annotated[str, typer.Option(help="Where people can ask or complain.")] = "",
    login: Annotated[list[str] | None, typer.Option("--login", help="An operator's account: ISSUER#SUBJECT.")] = None,
    hospital: Annotated[
        list[str] | None, typer.Option("--hospital", help="An institution whose clinicians hold cases here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give this node a portal for its citizens and operators: portal.toml, and a certificate unless there is one."""
    from federome.model.registry import Identity
    from federome.network.house import PORTAL, PortalSettings, open_portal
    from federome.network.setup import node_settings

    node_settings(folder)
    named = []
    for word in login or ():
        issuer, mark, subject = word.partition("#")
        if not mark or not issuer or not subject:
            raise Invalid("an account is written ISSUER#SUBJECT.", where=word[:80])
        named.append(Identity(subject, issuer))
    open_portal(
        folder, PortalSettings(url.rstrip("/"), host, port, operator, contact, tuple(named), tuple(hospital or ()))
    )
    text = f"{folder / PORTAL}: {len(named)} operators. Next: login.toml, then federome node serve --dir {folder}"
    tell({"portal": f"{url.rstrip('/')}/portal", "operators": len(named)}, text, as_json=as_json)


def citizens(
    table: Annotated[Path, typer.Argument(help="A CSV file with the columns iss, sub, person.")],
    folder: NodeFolder,
    remove: Annotated[bool, typer.Option("--remove", help="Take these accounts out instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say which account of the national eID belongs to which person of this node's data."""
    from federome.db import engine
    from federome.model.registry import Identity
    from federome.network.citizens import CitizenBook, read_citizens
    from federome.network.holdings import unknown_people
    from federome.trust.keys import read_secret

    try:
        listed = read_citizens(table.read_text("utf-8").splitlines(), where=table.name)
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid("the table cannot be read as UTF-8 text.", where=str(table)) from error
    secret = folder / "keys" / "secret"
    if not secret.is_file():
        raise Invalid("this is not a node's folder.", where=str(folder), remedy="Run: federome node enrol")
    book = CitizenBook(engine(f"sqlite:///{folder / 'node.db'}", durable=True), secret=read_secret(secret))
    if remove:
        changed = book.remove(Identity(one.sub, one.iss) for one in listed)
        tell({"removed": changed}, f"{changed} accounts were taken out.", as_json=as_json)
        return
    missing = unknown_people(folder / "data", {one.person for one in listed})
    if missing:
        raise Invalid(f"{missing} people of the table are not in the store; nothing was changed.", where=table.name)
    changed = book.put(listed)
    tell({"accounts": book.count(), "new": changed}, f"{changed} accounts are new.", as_json=as_json)


Reason = Annotated[str, typer.Option(help="Why: kept on the node's record.")]


def pause(folder: NodeFolder, reason: Reason, as_json: AsJson = False) -> None:
    """Take no work and hand nothing in until resumed; to the hub the node is away. A step under way is finished."""
    _deed(folder, "pause", "", reason)
    tell({"paused": True}, "The node is paused. Next: federome node resume", as_json=as_json)


def resume(folder: NodeFolder, reason: Reason, as_json: AsJson = False) -> None:
    """Work on after a pause: what is not too late by now goes on where it was."""
    _deed(folder, "resume", "", reason)
    tell({"paused": False}, "The node works again.", as_json=as_json)


def suspend(
    permit: Annotated[str, typer.Argument(help="The permit's id.")],
    folder: NodeFolder,
    reason: Reason,
    off: Annotated[bool, typer.Option("--off", help="End the suspension.")] = False,
    as_json: AsJson = False,
) -> None:
    """Suspend a permit at this node, from the next step on, also of runs under way."""
    suspended = _deed(folder, "reinstate" if off else "suspend", permit, reason)
    text = f"{len(suspended)} permits are suspended at this node."
    tell({"suspended": suspended}, text, as_json=as_json)


def _deed(folder: Path, kind: Kind, about: str, reason: str) -> list[str]:
    import secrets
    import time

    from federome.network.operating import open_operating

    operating = open_operating(folder, time.time)
    operating.do(kind, about, reason=reason, by="command line", once=secrets.token_urlsafe(16))
    return operating.suspended()
