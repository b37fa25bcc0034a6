"""What a node demands of people beyond permit and order: ``access.toml`` and ``register.json`` in its folder.

``access.toml`` is the node's policy (rules R3 to R9): which documents are needed, whose passports and visas count, and
where those issuers' keys are. ``register.json`` is the register of accredited people and institutions. Both are read
again when they change; a file that cannot be read refuses every question until it is mended.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from federome.errors import Invalid, Unavailable
from federome.governance.case import NodePolicy
from federome.governance.evidence import Anchors
from federome.governance.jwks import Fetch, KeyCache
from federome.model.registry import Institution, Person
from federome.model.strict import Document
from federome.network.files import changed_at, replace_file
from federome.network.setup import pinned_authorities
from federome.trust.canonical import JsonValue, parse_object
from federome.trust.keys import KeyRing

ACCESS: Final = "access.toml"
REGISTER: Final = "register.json"
MAX_FILE_BYTES: Final = 64 << 20
T = TypeVar("T")


@dataclass(frozen=True)
class AccessPolicy:
    """The policy of ``access.toml``, and key sets that stand in it, so that nothing is fetched for their addresses."""

    policy: NodePolicy = field(default_factory=NodePolicy)
    key_sets: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)


@dataclass(frozen=True)
class Register(Document):
    """Accredited people and their institutions, as the network's register has them."""

    persons: tuple[Person, ...] = ()
    institutions: tuple[Institution, ...] = ()

    def __post_init__(self) -> None:
        for listed in (self.persons, self.institutions):
            if len({one.id for one in listed}) != len(listed):
                raise Invalid("the register lists somebody twice.", where="register")
        known = [identity for person in self.persons for identity in person.identities]
        if len(set(known)) != len(known):
            raise Invalid("two people of the register share an identity.", where="register", remedy="Find out whose.")


@dataclass
class NodeAccess:
    """Both files of one folder and the keys they lead to. ``fetch`` gets a key set over the network (``key_sets``)."""

    folder: Path
    fetch: Fetch
    development: bool = False
    _held: dict[str, tuple[int, object]] = field(default_factory=dict, init=False)

    def policy(self) -> NodePolicy:
        """The policy now; the default one (permit and order, no passports) where there is no file."""
        return self._access()[0].policy

    def register(self) -> Register:
        """The register now; an empty one where there is no file."""
        return self._read(REGISTER, read_register, Register)

    def persons(self) -> Mapping[str, Person]:
        """The accredited people by id."""
        return self._read(f"{REGISTER}/persons", lambda text: _by_id(read_register(text).persons), dict)

    def institutions(self) -> Mapping[str, Institution]:
        """The institutions by id."""
        return self._read(f"{REGISTER}/institutions", lambda text: _by_id(read_register(text).institutions), dict)

    def anchors(self) -> Anchors:
        """The pinned authorities, and where the keys of trusted issuers come from."""
        authorities = self._read("authorities.json", lambda _text: pinned_authorities(self.folder), lambda: KeyRing(()))
        return Anchors(authorities, self._access()[1])

    def _access(self) -> tuple[AccessPolicy, KeyCache]:
        def made(access: AccessPolicy) -> tuple[AccessPolicy, KeyCache]:
            def fetched(url: str) -> Mapping[str, JsonValue]:
                return access.key_sets[url] if url in access.key_sets else self.fetch(url)

            return access, KeyCache(fetched, max_stale=timedelta(hours=23))

        return self._read(
            ACCESS, lambda text: made(read_access(text, development=self.development)), lambda: made(AccessPolicy())
        )

    def _read(self, name: str, read: Callable[[str], T], otherwise: Callable[[], T]) -> T:
        file = name.partition("/")[0]
        stamp = changed_at(f"{self.folder}/{file}")
        held = self._held.get(name)
        if held is None or held[0] != stamp:
            held = self._held[name] = (stamp, read(_text(self.folder / file)) if stamp else otherwise())
        return held[1]  # type: ignore[return-value]


def read_access(text: str, *, development: bool = False) -> AccessPolicy:
    """The policy that a file states; ``Invalid`` names the table.

    Keys are fetched over HTTPS only. On a development network an issuer on this machine may be reached without.
    """
    try:
        told: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"the policy cannot be read: {error}.", where=ACCESS) from error
    sets = told.pop("key_sets", {})
    if not isinstance(sets, dict) or not all(isinstance(one, dict) for one in sets.values()):
        raise Invalid("key sets stand by their address.", where=f"{ACCESS}: key_sets")
    for url, document in sets.items():
        KeyRing.from_jwks(document, owner=str(url))
    policy = NodePolicy.from_document(told, where=ACCESS)
    for issuer in policy.clearinghouse.issuers:
        for url in issuer.key_urls:
            if url not in sets:
                check_address(url, development=development)
    if "passport" in policy.required and not any(issuer.broker for issuer in policy.clearinghouse.issuers):
        raise Invalid(
            "passports are demanded, and no broker is trusted.",
            where=f"{ACCESS}: clearinghouse.issuers",
            remedy="Add an issuer with broker = true.",
        )
    return AccessPolicy(policy, sets)


def check_address(url: str, *, development: bool) -> None:
    """``Invalid`` unless keys may be fetched there: HTTPS, or this machine on a development network."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname and "@" not in parts.netloc and not parts.fragment:
        return
    if development and parts.scheme == "http" and is_loopback(parts.hostname or ""):
        return
    raise Invalid("keys are fetched over HTTPS only.", where=url[:120], remedy="Write https://…, or pin the key set.")


def is_loopback(host: str) -> bool:
    """Whether an address, written as a number, or ``localhost``, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_register(text: str) -> Register:
    """The register that a file states; ``Invalid`` names the entry."""
    return Register.from_document(parse_object(text.encode(), max_bytes=MAX_FILE_BYTES), where=REGISTER)


def install_access(folder: Path, text: str, *, development: bool = False) -> NodePolicy:
    """Check a policy and put it in force; the running node follows at its next step."""
    access = read_access(text, development=development)
    replace_file(folder / ACCESS, text.encode())
    return access.policy


def install_register(folder: Path, text: str) -> Register:
    """Check a register and put it in force."""
    register = read_register(text)
    replace_file(folder / REGISTER, text.encode())
    return register


def _by_id(listed: tuple[T, ...]) -> Mapping[str, T]:
    return {one.id: one for one in listed}  # type: ignore[attr-defined]


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Invalid("the file is too large.", where=str(path))
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable("the file cannot be read.", where=str(path)) from error
