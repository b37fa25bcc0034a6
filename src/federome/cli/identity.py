"""Commands around who people are: ``federome login``, ``dev-idp``, ``node access`` and ``node register``.

People and programs log in at a hub; an operator says whose passports and visas count at their node, and keeps the
register of accredited people.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federome.cli.asking import Certificate, Hub, Key
from federome.cli.edge import AsJson, NodeFolder, read_public_key, read_text, tell
from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.network.rotation import Rotation


def node_access(
    policy: Annotated[Path, typer.Argument(help="The policy as TOML: see docs/reference/settings.md.")],
    folder: NodeFolder,
    as_json: AsJson = False,
) -> None:
    """Check what this node shall demand of people, and put it in force. Takes effect at the next step."""
    from federome.network.access import install_access
    from federome.network.setup import node_settings

    development = node_settings(folder).network == "development"
    held = install_access(folder, read_text(policy), development=development)
    issuers = [issuer.issuer for issuer in held.clearinghouse.issuers]
    needed = ", ".join(held.required)
    tell({"required": list(held.required), "issuers": issuers}, f"Demanded: {needed}.", as_json=as_json)


def node_register(
    register: Annotated[Path, typer.Argument(help="The register as JSON: see docs/reference/settings.md.")],
    folder: NodeFolder,
    as_json: AsJson = False,
) -> None:
    """Check the register of accredited people and institutions, and put it in force."""
    from federome.network.access import install_register

    held = install_register(folder, read_text(register))
    facts = {"persons": len(held.persons), "institutions": len(held.institutions)}
    text = f"{len(held.persons)} people of {len(held.institutions)} institutions are registered."
    tell(facts, text, as_json=as_json)


def login(
    hub: Hub,
    key: Key,
    certificate: Certificate = None,
    to: Annotated[
        Path | None, typer.Option("--session", envvar="FEDEROME_SESSION", help="Where the login is kept.")
    ] = None,
    client: Annotated[str, typer.Option("--client", help="Log in as this machine client, without a person.")] = "",
    tls: Annotated[
        Path | None, typer.Option("--tls-certificate", help="With --client: show this certificate (PEM), not proofs.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the address in a browser.")] = True,
    as_json: AsJson = False,
) -> None:
    """Log in at a hub: in the browser as a person, or by key alone as a machine client."""
    import time
    import webbrowser

    from federome.client.login import login as log_in
    from federome.client.login import login_certified, login_machine
    from federome.client.wire import open_http
    from federome.trust.keys import load_private_key

    own = load_private_key(key)

    def visit(address: str) -> None:
        sys.stderr.write(f"Log in here: {address}\n")
        if browser:
            webbrowser.open(address)

    if tls is not None and not client:
        raise Invalid("a certificate shows a program.", where="--tls-certificate", remedy="Name it with --client.")
    with open_http(hub, certificate, own=None if tls is None else (tls, key)) as http:
        if tls is not None:
            session = login_certified(http, client=client, certificate=tls)
        elif client:
            session = login_machine(http, client=client, key=own)
        else:
            session = log_in(http, key=own, open_browser=visit)
    place = to or session_file()
    session.save(place)
    minutes = int((session.until - time.time()) / 60)
    facts = {"session": str(place), "minutes": minutes, "passport": bool(session.passport)}
    also = " with a passport" if session.passport else ""
    tell(facts, f"Logged in{also} for {minutes} minutes: {place}", as_json=as_json)


def dev_idp(
    folder: Annotated[Path, typer.Option("--dir", help="The provider's folder: its key, and people.json.")],
    hubs: Annotated[
        list[Path], typer.Option("--hub", help="The folder of a hub, or of a node with a portal; again for each.")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 9400,
    host: Annotated[str, typer.Option(help="An address of this machine only.")] = "127.0.0.1",
) -> None:
    """A small identity provider and visa issuer for trying out. Refuses whoever is on a production network."""
    import time

    from federome.demo.dev_idp import open_idp, serve_idp

    serve_idp(open_idp(folder, tuple(hubs), port=port, clock=time.time), host=host, port=port)


def session_file() -> Path:
    """Where a login is kept, unless another place is named (XDG base directory specification)."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "federome" / "session.json"


def hub_certificate(
    folder: Annotated[Path, typer.Option("--dir", help="The hub's folder.")],
    to: Annotated[Path | None, typer.Option("--out", help="Where the certificate goes, for nodes to pin.")] = None,
    switch: Annotated[bool, typer.Option("--switch", help="Show it from now on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the hub's next certificate for nodes to pin, or (--switch) show it; a running hub goes on meanwhile."""
    from federome.network.certificates import next_certificate, switch_certificate
    from federome.network.setup import hub_settings

    hosts, keys = hub_settings(folder).hosts, folder / "keys"
    pem = switch_certificate(keys) if switch else next_certificate(keys, *hosts)
    if to is not None:
        to.write_text(pem)
    said = "The hub shows its new certificate." if switch else "The next certificate is made; nodes pin it first."
    tell({"switched": switch, "out": str(to) if to else ""}, said, as_json=as_json)


def node_certificate(
    certificate: Annotated[Path, typer.Argument(help="What federome hub certificate wrote.")],
    folder: NodeFolder,
    as_json: AsJson = False,
) -> None:
    """Trust the hub's next certificate beside the one it shows now. The node must be started again."""
    from federome.network.certificates import pin_certificate

    count = pin_certificate(folder / "keys" / "hub.pem", read_text(certificate))
    tell({"trusted": count}, f"{count} certificates of the hub are trusted.", as_json=as_json)


def pin(
    authority: Annotated[Path, typer.Argument(help="An authority's public key file (*.public.json).")],
    folder: Annotated[Path, typer.Option("--dir", help="The folder of a node or hub.")],
    until: Annotated[str, typer.Option("--until", help="Trust it up to then only, RFC 3339 with offset.")] = "",
    as_json: AsJson = False,
) -> None:
    """Trust an authority's new key beside the old one, or let an old one end. Running nodes follow at once."""
    from federome.network.consents import instant
    from federome.network.setup import pin_authority

    name, key = read_public_key(authority)
    pin_authority(folder, name, key, until=instant(until) if until else None)
    tell({"authority": name, "until": until}, f"A key of {name!r} is pinned in {folder}.", as_json=as_json)


Overlap = Annotated[
    int, typer.Option("--overlap-days", min=0, max=90, help="How long the present key counts beside the new one.")
]


def node_rotate(folder: NodeFolder, overlap_days: Overlap = 14, as_json: AsJson = False) -> None:
    """Make this node's next keys and announce them. The running node takes them up once the authority lists them."""
    import time

    from federome.network.setup import rotate_node

    _tell_rotation(rotate_node(folder, overlap_days=overlap_days, now=time.time()), as_json=as_json)


def hub_rotate(
    folder: Annotated[Path, typer.Option("--dir", help="The hub's folder.")],
    releaser: Annotated[bool, typer.Option("--releaser", help="The releaser's key, not the hub's.")] = False,
    overlap_days: Overlap = 14,
    as_json: AsJson = False,
) -> None:
    """Make the hub's (or its releaser's) next key and announce it. It is taken up once the authority lists it."""
    import time

    from federome.network.setup import rotate_hub

    _tell_rotation(
        rotate_hub(folder, "releaser" if releaser else "hub", overlap_days=overlap_days, now=time.time()),
        as_json=as_json,
    )


def _tell_rotation(rotation: Rotation, *, as_json: bool) -> None:
    kid, days = rotation.key.public.kid, rotation.overlap_days
    facts = {"party": rotation.party, "kid": kid, "overlap_days": days}
    text = (
        f"Announced for {rotation.party}: key {kid}. Read it to the authority, which lists it with: federome hub admit"
    )
    tell(facts, text, as_json=as_json)


def hub_admit(
    folder: Annotated[Path, typer.Option("--dir", help="The hub's folder.")],
    key: Annotated[Path, typer.Option("--key", help="The authority's private key file.")],
    replace: Annotated[
        list[str] | None, typer.Option("--replace", help="A node that lost its key and enrolled anew; again for each.")
    ] = None,
    end: Annotated[
        list[str] | None, typer.Option("--end", help="A member whose earlier keys end now; again for each.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="A member whose announced key is not followed; again for each.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign a member list with every node that has enrolled, and with keys that were announced (by the authority)."""
    import time

    from federome.network.setup import admit, hub_settings, read_members
    from federome.trust.keys import load_private_key

    own, now = load_private_key(key), time.time()
    before = {one.name: one.key for one in read_members(folder, now=now).members} if listed(folder) else {}
    members = admit(
        folder, hub_settings(folder).authority, own, now=now, replace=replace or (), end=end or (), drop=drop or ()
    )
    new = {one.name: one.key.public.kid for one in members.members if before.get(one.name) != one.key}
    facts = {"version": members.version, "members": [one.name for one in members.members], "new_keys": new}
    lines = [f"Member list {members.version}: {', '.join(one.name for one in members.members)}."]
    lines += [f"  new key of {name}: {kid}" for name, kid in new.items()]
    tell(facts, "\n".join(lines), as_json=as_json)


def hub_notice(
    folder: Annotated[Path, typer.Option("--dir", help="The hub's folder.")],
    key: Annotated[Path, typer.Option("--key", help="The authority's private key file.")],
    suspend: Annotated[
        list[str] | None, typer.Option("--suspend", help="A permit that does not count for now; again for each.")
    ] = None,
    lift: Annotated[
        list[str] | None, typer.Option("--lift", help="A permit that counts again; again for each.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign the authority's next notice: suspended permits and the newest member list, for nodes to fetch."""
    import time

    from federome.network.notices import give_notice
    from federome.trust.keys import load_private_key

    notice = give_notice(folder, load_private_key(key), now=time.time(), suspend=suspend or (), lift=lift or ())
    suspended = ", ".join(notice.suspended) or "none"
    text = f"Notice {notice.version}: member list {notice.members}; suspended permits: {suspended}."
    tell(notice.to_document(), f"{text} Sign the next one within a day, also where nothing changed.", as_json=as_json)


def listed(folder: Path) -> bool:
    """Whether a member list was signed here before."""
    return (folder / "members.jwt").is_file()
