"""Folders of a hub and of a node: keys made where they are used, certificates, invitations, the signed member list.

A node joins in three steps: the hub's operator writes an invitation and hands it over by another way than the hub;
the node makes its keys and enrols with it; an authority signs a member list that holds the new node.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import secrets
import tomllib
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

import httpx2 as httpx

from federome.errors import FederomeError, Invalid, Refused, Unavailable
from federome.network.certificates import fetch_certificate, fingerprint, make_certificate
from federome.network.files import replace_file
from federome.network.protocol import PREFIX, Body, text
from federome.network.rotation import (
    Announced,
    Rotation,
    announce,
    followed,
    key_files,
    next_keys,
    unended,
    vouch,
    vouched,
)
from federome.network.transport import raise_for, tls_context
from federome.trust.canonical import canonical, parse_object
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, PublicKey, generate, load_private_key, save_private_key
from federome.trust.members import Member, MemberKey, Members, Role, sign_members, verify_members

Network = Literal["production", "development"]
RELEASER: Final = "releaser"
HUB: Final = "hub"
SEALING: Final = "sealing"
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class HubSettings:
    """``hub.toml``: the hub's name (audience of all tokens), where it listens, and what the outside calls it.

    ``modules`` are Python modules with further algorithms that the operator has installed. ``network`` says whether
    this is a real one: what makes demonstrations easy is refused in production, which is the default.
    """

    name: str
    url: str
    host: str = "127.0.0.1"
    port: int = 8443
    authority: str = "authority"
    operator: str = "Federome hub operator"
    keep_exact: bool = False
    decide_s: float = 10.0
    lost_s: float = 60.0
    modules: Sequence[str] = ()
    network: Network = "production"

    def __post_init__(self) -> None:
        _check_network(self.network)
        if self.keep_exact and self.network == "production":
            raise Invalid(
                "unrounded results are kept in development networks only.",
                where="keep_exact",
                remedy='Take keep_exact away, or write network = "development" if nobody\'s data is at stake.',
            )

    @property
    def hosts(self) -> tuple[str, str]:
        """What its certificates are for."""
        return httpx.URL(self.url).host, self.host


@dataclass(frozen=True)
class NodeSettings:
    """``node.toml``: the node's name, the hub it dials, and modules with further algorithms installed here.

    ``threads`` compute blocks side by side: 0 is one for each core. Each needs memory for a block of its own.
    ``network`` as for the hub.
    ``cluster`` is the address of a Dask scheduler whose workers compute them instead.
    ``authority_url`` is where the authority publishes ``notice.jwt`` and ``members.jwt`` itself, beside the hub;
    ``notice_age_h`` how old its newest notice may be (``notices.py``).
    """

    name: str
    hub: str
    hub_url: str
    modules: Sequence[str] = ()
    threads: int = 0
    cluster: str = ""
    network: Network = "production"
    authority_url: str = ""
    notice_age_h: float = 48.0

    def __post_init__(self) -> None:
        _check_network(self.network)


def _check_network(network: str) -> None:
    if network not in get_args(Network):
        raise Invalid("a network is for production or for development.", where="network")


@dataclass(frozen=True)
class Invitation:
    """What a node needs to join: where the hub is, how to recognise it, whom to believe, and a code that works once."""

    node: str
    hub: str
    url: str
    fingerprint: str
    authority: str
    authority_jwk: Body
    code: str

    def encoded(self) -> str:
        """One line to hand over."""
        return base64.urlsafe_b64encode(canonical(vars(self) | {})).rstrip(b"=").decode()

    @classmethod
    def decoded(cls, line: str) -> Invitation:
        """Read an invitation; ``Invalid`` if it is none."""
        try:
            padded = line.strip() + "=" * (-len(line.strip()) % 4)
            told = parse_object(base64.urlsafe_b64decode(padded.encode()))
            jwk = told.pop("authority_jwk")
            if not isinstance(jwk, dict):
                raise Invalid("the invitation names no authority.")
            return cls(**{name: str(value) for name, value in told.items()}, authority_jwk=jwk)
        except (ValueError, TypeError, KeyError, Invalid) as error:
            raise Invalid("this is not an invitation.", remedy="Paste the whole line that the hub printed.") from error


# hub


def init_hub(folder: Path, settings: HubSettings, authority: PublicKey) -> None:
    """Make a hub's folder: its own and its releaser's identity, a TLS certificate, the pinned authority."""
    _fresh(folder)
    keys = folder / "keys"
    keys.mkdir(mode=0o700)
    for name in (HUB, RELEASER):
        save_private_key(generate("Ed25519"), keys / f"{name}.jwk")
    make_certificate(keys, *settings.hosts)
    pin_authority(folder, settings.authority, authority)
    _write_toml(folder / "hub.toml", vars(settings))


def hub_settings(folder: Path) -> HubSettings:
    """Read ``hub.toml``; ``Invalid`` names what is wrong."""
    return _read_toml(folder / "hub.toml", HubSettings, "federome hub init")


def invite(folder: Path, node: str) -> Invitation:
    """A new invitation for one node. The hub keeps only a digest of the code."""
    settings = hub_settings(folder)
    code = secrets.token_urlsafe(24)
    owner, key, _ = max(_pinned(folder), key=lambda pinned: pinned[2])  # the one that is trusted for longest
    Enrolments(folder).expect(node, code)
    certificate = (folder / "keys" / "tls.pem").read_text()
    return Invitation(node, settings.name, settings.url, fingerprint(certificate), owner, dict(key.jwk()), code)


class Enrolments:
    """Who was invited and who has come, as files: one per node."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "enrolments"
        self._folder.mkdir(exist_ok=True)

    def expect(self, node: str, code: str) -> None:
        """A node may enrol once with this code."""
        Member(node, "node", MemberKey("A" * 43))  # checks the name
        _replace(self._path(node), {"node": node, "code": hashlib.sha256(code.encode()).hexdigest()})

    def enrol(self, node: str, code: str, key: PublicKey, sealing: str = "") -> None:
        """Pin a node's key, with its word where to seal to. ``Refused`` for a wrong or used code; again is fine."""
        path = self._path(node)
        held = json.loads(path.read_text()) if path.is_file() else {}
        given = hashlib.sha256(code.encode()).hexdigest()
        if not secrets.compare_digest(str(held.get("code", "")), given):
            raise Refused("this node was not invited with that code.", codes=["token_invalid"])
        jwk = key.jwk()
        if held.get("jwk") not in (None, jwk):
            raise Refused("this invitation was used before.", codes=["replayed"], remedy="Ask for a new one.")
        _replace(path, {**held, "jwk": jwk, **({"sealing": sealing} if sealing else {})})

    def follow(self, node: str, key: PublicKey) -> None:
        """This is the node's key from now on (``rotation.py``)."""
        held = json.loads(self._path(node).read_text())
        if held["jwk"] != key.jwk():
            _replace(self._path(node), {**held, "jwk": key.jwk(), "sealing": ""})

    def members(self, *, now: float) -> list[Member]:
        """All nodes that have enrolled, by name."""
        hub = hub_settings(self._folder.parent).name
        found = []
        for path in sorted(self._folder.glob("*.json")):
            held = json.loads(path.read_text())
            if "jwk" in held:
                member = Member(held["node"], "node", MemberKey.of(PublicKey.from_jwk(held["jwk"])))
                said = held.get("sealing")
                found.append(vouched(said, member, hub=hub, now=now) if said else member)
        return sorted(found, key=lambda member: member.name)

    def _path(self, node: str) -> Path:
        return self._folder / f"{hashlib.sha256(node.encode()).hexdigest()[:24]}.json"


def admit(
    folder: Path,
    authority: str,
    key: PrivateKey,
    *,
    now: float,
    replace: Collection[str] = (),
    end: Collection[str] = (),
    drop: Collection[str] = (),
) -> Members:
    """Sign a member list with everybody who has enrolled, the hub and its releaser. For the authority's hand.

    A key that a member announced takes the place of its present one, which counts on until the overlap is over. Any
    other change of a listed key is ``Refused``, but for nodes in ``replace``, which lost theirs and enrolled anew.
    ``end`` names members whose earlier keys end now, ``drop`` those whose announcement is not to be followed.
    """
    earlier = read_members(folder, now=now) if (folder / "members.jwt").is_file() else Members(0, ())
    roles: tuple[Role, ...] = (HUB, RELEASER)
    own = [Member(role, role, MemberKey.of(load_private_key(_first(folder, role)).public)) for role in roles]
    enrolments, announced = Enrolments(folder), Announced(folder, hub_settings(folder).name)
    for name in drop:
        announced.drop(name)
    found = [
        member if member.name in replace else _known(member, earlier, announced, now=now, end=member.name in end)
        for member in (*own, *enrolments.members(now=now))
    ]
    members = Members(earlier.version + 1, tuple(found))
    for member in members.named("node"):
        enrolments.follow(member.name, member.key.public)
    _replace_text(folder / "members.jwt", sign_members(members, key, authority=authority, now=now))
    for member in members.members:
        if announced.of(member, now=now) is None:
            announced.drop(member.name)
    return members


def _first(folder: Path, stem: str) -> Path:
    return key_files(folder / "keys", stem)[0]


def _known(found: Member, earlier: Members, announced: Announced, *, now: float, end: bool) -> Member:
    """A member as the earlier list names it, with the key that it announced since."""
    if found.name not in {member.name for member in earlier.members}:
        return found
    listed = earlier.find(found.name)
    rotation = announced.of(listed, now=now)
    member = unended(listed, now=now) if rotation is None else followed(listed, rotation, now=now)
    if found.role == "node" and found.key not in (listed.key, member.key, *(one.key for one in listed.earlier)):
        raise Refused(
            "a node has enrolled with another key than the list names.",
            codes=["issuer_untrusted"],
            where=found.name,
            remedy=f"If its operator says that the key was lost: --replace {found.name}",
        )
    return dataclasses.replace(member, earlier=()) if end else member


# node


def enrol(
    folder: Path, invitation: Invitation, *, modules: Sequence[str] = (), network: Network = "production"
) -> NodeSettings:
    """Make a node's keys and join with an invitation. Keys never leave the folder; only the public half is sent."""
    settings = NodeSettings(invitation.node, invitation.hub, invitation.url, modules, network=network)
    make_keys(folder)
    keys = folder / "keys"
    certificate = fetch_certificate(invitation.url, invitation.fingerprint)
    _replace_text(keys / "hub.pem", certificate)
    pin_authority(folder, invitation.authority, PublicKey.from_jwk(invitation.authority_jwk))
    if not (keys / f"{SEALING}.jwk").is_file():
        save_private_key(generate("ECDH-ES+A256KW"), keys / f"{SEALING}.jwk")
    own, box = load_private_key(keys / "node.jwk"), load_private_key(keys / f"{SEALING}.jwk").public
    sealing = vouch(settings.name, str(box.jwk()["x"]), own, hub=settings.hub)
    body = canonical({"node": settings.name, "code": invitation.code, "jwk": own.public.jwk(), "sealing": sealing})
    try:
        with httpx.Client(verify=tls_context(keys / "hub.pem"), timeout=20) as client:
            raise_for(client.post(f"{invitation.url.rstrip('/')}{PREFIX}/enrol", content=body))
    except httpx.TransportError as error:
        raise Unavailable("the hub is out of reach.", where=invitation.url, remedy="Is it being served?") from error
    _write_toml(folder / "node.toml", vars(settings))
    return settings


def make_keys(folder: Path) -> Path:
    """A node's own key and secret, unless it has them; the folder may take in data before it joins a network."""
    keys = folder / "keys"
    if not (keys / "node.jwk").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        keys.mkdir(mode=0o700, exist_ok=True)
        (keys / "secret").touch(mode=0o600)
        (keys / "secret").write_bytes(secrets.token_bytes(32))
        save_private_key(generate("Ed25519"), keys / "node.jwk")
    return keys


def node_settings(folder: Path) -> NodeSettings:
    """Read ``node.toml``; ``Invalid`` names what is wrong."""
    return _read_toml(folder / "node.toml", NodeSettings, "federome node enrol")


def rotate_node(folder: Path, *, overlap_days: int, now: float) -> Rotation:
    """Make a node's next keys and announce them at its hub. May be done again until the authority has listed them."""
    settings, keys = node_settings(folder), folder / "keys"
    place = f"{settings.hub_url.rstrip('/')}{PREFIX}"
    try:
        with httpx.Client(verify=tls_context(keys / "hub.pem"), timeout=20) as client:
            members = MemberList(folder, lambda: now, lambda: _shown(client, f"{place}/members"))
            member = members.find(settings.name)
            rotation, token = _next(keys, "node", member, settings.hub, overlap_days, now=now, sealing=SEALING)
            raise_for(client.post(f"{place}/rotate", content=token.encode()))
    except httpx.TransportError as error:
        raise Unavailable("the hub is out of reach.", where=settings.hub_url, remedy="Is it being served?") from error
    return rotation


def _shown(client: httpx.Client, address: str) -> str:
    answer = client.get(address)
    raise_for(answer)
    return answer.text


def rotate_hub(folder: Path, role: Role, *, overlap_days: int, now: float) -> Rotation:
    """The same for the hub, or for its releaser."""
    members, hub = read_members(folder, now=now), hub_settings(folder).name
    rotation, token = _next(folder / "keys", role, members.find(role), hub, overlap_days, now=now)
    Announced(folder, hub).take(token.encode(), members, now=now)
    return rotation


def _next(
    keys: Path, stem: str, member: Member, hub: str, overlap_days: int, *, now: float, sealing: str = ""
) -> tuple[Rotation, str]:
    made = next_keys(keys, stem, member, sealing=sealing)
    point = str(made.sealing.public.jwk()["x"]) if made.sealing is not None else None
    rotation = Rotation(member.name, MemberKey.of(made.key.public), point, overlap_days)
    return rotation, announce(rotation, made.present, made.key, hub=hub, now=now)


# both


class MemberList:
    """The current signed list, asked for anew on demand; versions only rise. Looks like :class:`Members`."""

    def __init__(self, folder: Path, clock: Callable[[], float], *sources: Callable[[], str]) -> None:
        self._folder, self._clock, self._sources = folder, clock, sources
        self._stamp = 0.0
        self._members = Members(0, ())
        with suppress(FederomeError):  # what was seen before a restart counts: an older list is refused
            self._read()
        self.refresh()

    @property
    def token(self) -> str:
        """The list as it was signed."""
        path = self._folder / "members.jwt"
        return path.read_text() if path.is_file() else ""

    def refresh(self) -> None:
        """Take a newer list from a source or from the folder, if there is one."""
        if self._sources:
            token = self._newest()
            if token != self.token:
                _replace_text(self._folder / "members.jwt", token)
        self._read()

    def _read(self) -> None:
        path = self._folder / "members.jwt"
        stamp = path.stat().st_mtime if path.is_file() else 0.0
        if stamp != self._stamp:
            self._members, self._stamp = read_members(self._folder, now=self._clock()), stamp

    def _newest(self) -> str:
        """Of the lists that an authority signed the newest, by any source: what a list says of itself hides no other.

        Where nothing is handed out, the one that is held does until it is. ``Refused`` if all that is shown is wrong.
        """
        held = self.token
        found = [(self._members.version, held)] if held else []
        wrong: Refused | None = None
        shown = 0
        for source in self._sources:
            with suppress(Unavailable):
                token = source()
                try:
                    found.append((self._checked(token), token))
                    shown += 1
                except Refused as refusal:
                    wrong = refusal
        if wrong is not None and not shown:
            raise wrong
        if not found:
            raise Unavailable("nobody hands the member list out.", remedy="Is the hub being served?")
        return max(reversed(found), key=lambda each: each[0])[1]

    def _checked(self, token: str) -> int:
        """The version of a list, once it stands up. The one that is held was checked when it came."""
        if token == self.token:
            return self._members.version
        ring, seen = pinned_authorities(self._folder), self._members.version
        return verify_members(token, ring, now=self._clock(), seen_version=seen).version

    def find(self, name: str) -> Member:
        """See :meth:`Members.find`; asks for a newer list before it gives up."""
        try:
            return self._members.find(name)
        except Refused:
            self.refresh()
            return self._members.find(name)

    def named(self, role: Role) -> tuple[Member, ...]:
        """See :meth:`Members.named`."""
        return self._members.named(role)

    def ring(self, *roles: Role) -> KeyRing:
        """See :meth:`Members.ring`."""
        return self._members.ring(*roles)

    @property
    def version(self) -> int:
        """Of the list that is held."""
        return self._members.version

    def at_least(self, version: int) -> None:
        """See :class:`~federome.trust.members.MemberSource`."""
        if version > self._members.version:
            self.refresh()


def read_members(folder: Path, *, now: float) -> Members:
    """The member list of a folder, checked against its pinned authorities."""
    path = folder / "members.jwt"
    if not path.is_file():
        raise Invalid("no member list was signed yet.", where=str(path), remedy="Run: federome hub admit")
    return verify_members(path.read_text(), pinned_authorities(folder), now=now)


def pin_authority(folder: Path, name: str, key: PublicKey, *, until: datetime | None = None) -> None:
    """Trust an authority's key for permits and member lists, beside those pinned before.

    With ``until``, only up to then: what an old key has signed still counts while its successor takes over.
    """
    path = folder / "authorities.json"
    held = json.loads(path.read_text()) if path.is_file() else []
    entry: dict[str, object] = {"authority": name, "jwk": key.jwk()}
    others = [one for one in held if (one["authority"], one["jwk"]) != (name, entry["jwk"])]
    if until is not None:
        entry["until"] = until.timestamp()
    if entry not in held:
        _replace(path, [*others, entry])


def pinned_authorities(folder: Path) -> KeyRing:
    """The authorities whose word counts here."""
    return KeyRing(tuple(PinnedKey(owner, key, 0.0, until) for owner, key, until in _pinned(folder)))


def _pinned(folder: Path) -> Sequence[tuple[str, PublicKey, float]]:
    path = folder / "authorities.json"
    if not path.is_file():
        raise Invalid("no authority is pinned here.", where=str(path))
    return [
        (entry["authority"], PublicKey.from_jwk(entry["jwk"]), float(entry.get("until", inf)))
        for entry in json.loads(path.read_text())
    ]


def _fresh(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise Invalid("the folder is not empty.", where=str(folder), remedy="Name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)


def _read_toml(path: Path, kind: type[Settings], remedy: str) -> Settings:
    try:
        return kind(**tomllib.loads(path.read_text()))
    except FileNotFoundError as error:
        raise Invalid("this folder is not set up.", where=str(path), remedy=f"Run: {remedy}") from error
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise Invalid(f"the settings cannot be read: {error}.", where=str(path)) from error


def _write_toml(path: Path, values: dict[str, object]) -> None:
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    _replace_text(path, "\n".join(lines) + "\n")


def _replace(path: Path, document: object) -> None:
    _replace_text(path, json.dumps(document, indent=1))


def _replace_text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content.encode())


def enrolment(folder: Path, body: bytes) -> None:
    """The hub's side of ``enrol``: what a node posted. Raises ``Invalid`` or ``Refused``."""
    told = parse_object(body, max_bytes=16_384)
    jwk = told.get("jwk")
    if not isinstance(jwk, dict):
        raise Invalid("an enrolment holds the node's public key.")
    sealing = text(told, "sealing") if "sealing" in told else ""
    Enrolments(folder).enrol(text(told, "node"), text(told, "code"), PublicKey.from_jwk(jwk), sealing)
