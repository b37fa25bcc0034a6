"""Who belongs to the federation: a list of parties and their keys, signed by an authority that every node pins.

The hub hands the list out but cannot add to it, so it can invent no node, no releaser and no key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Final, Literal, Protocol

from federome.errors import Invalid, Refused
from federome.model.strict import Document, Form, Identifier
from federome.trust.canonical import JsonValue
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, PublicKey, SigningAlgorithm
from federome.trust.signing import check_claims, sign, verify

MEMBERS_TYPE: Final = "federome-members+jwt"
ALGORITHMS: Final[tuple[SigningAlgorithm, ...]] = ("ES256",)
Role = Literal["node", "releaser", "hub"]
Point = Annotated[str, Form(re.compile(r"[A-Za-z0-9_-]{43}"), "43 base64url characters (32 bytes)")]


@dataclass(frozen=True)
class MemberKey(Document):
    """An Ed25519 identity key: the public members of an OKP JWK (RFC 8037)."""

    x: Point
    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"

    @classmethod
    def of(cls, key: PublicKey) -> MemberKey:
        """The key's public members; ``Invalid`` for other kinds of key."""
        jwk = key.jwk()
        return cls.from_document({name: jwk.get(name) for name in ("x", "kty", "crv")}, where="identity key")

    @cached_property
    def public(self) -> PublicKey:
        """The key itself."""
        return PublicKey.from_jwk({"kty": self.kty, "crv": self.crv, "x": self.x})


@dataclass(frozen=True)
class EarlierKey(Document):
    """A key that its party has replaced: what it signs still counts before ``until``, and no longer."""

    key: MemberKey
    until: datetime


@dataclass(frozen=True)
class Member(Document):
    """One party: its name in orders and results, what it is, and its identity key.

    ``sealing`` is the X25519 point to which others seal what only this party may read. ``earlier`` are the keys that
    ``key`` has replaced (``rotation.py``): for a while both count.
    """

    name: Identifier
    role: Role
    key: MemberKey
    sealing: Point | None = None
    earlier: tuple[EarlierKey, ...] = ()

    def keys(self, now: float) -> tuple[PublicKey, ...]:
        """All its keys that count now, the newest first."""
        return (self.key.public, *(one.key.public for one in self.earlier if now < one.until.timestamp()))

    @property
    def box(self) -> PublicKey | None:
        """The key that others seal to; ``None`` for a party that has none."""
        if self.sealing is None:
            return None
        return PublicKey.from_jwk({"kty": "OKP", "crv": "X25519", "x": self.sealing})


@dataclass(frozen=True)
class Members(Document):
    """The list. ``version`` only ever rises; a party refuses a list older than one it has seen."""

    version: int
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        names = [m.name for m in self.members]
        keys = [key.x for m in self.members for key in (m.key, *(one.key for one in m.earlier))]
        if len(set(names)) != len(names) or len(set(keys)) != len(keys):
            raise Invalid("the member list names a party or a key twice.", where="members")

    def find(self, name: str) -> Member:
        """The member of this name; ``Refused`` (``issuer_untrusted``) if there is none."""
        for member in self.members:
            if member.name == name:
                return member
        raise Refused("a party is not a member of this federation.", codes=["issuer_untrusted"], where=name)

    def named(self, role: Role) -> tuple[Member, ...]:
        """All members of one role, in the list's order."""
        return tuple(m for m in self.members if m.role == role)

    def ring(self, *roles: Role) -> KeyRing:
        """The identity keys of members with these roles (all, if none is given)."""
        if roles not in self._rings:
            mine = [m for m in self.members if not roles or m.role in roles]
            now = tuple(PinnedKey(m.name, m.key.public) for m in mine)
            earlier = (PinnedKey(m.name, e.key.public, 0.0, e.until.timestamp()) for m in mine for e in m.earlier)
            self._rings[roles] = KeyRing((*now, *earlier))
        return self._rings[roles]

    def at_least(self, version: int) -> None:
        """See :class:`MemberSource`: this list is what it is."""

    def refresh(self) -> None:
        """See :class:`MemberSource`: this list is what it is."""

    @cached_property
    def _rings(self) -> dict[tuple[Role, ...], KeyRing]:
        return {}


class MemberSource(Protocol):
    """Where the current list can be asked: :class:`Members` itself, or a list that refreshes (``setup.MemberList``)."""

    def find(self, name: str) -> Member:
        """The member of this name; ``Refused`` if there is none."""

    def named(self, role: Role) -> tuple[Member, ...]:
        """All members of one role."""

    def ring(self, *roles: Role) -> KeyRing:
        """The identity keys of members with these roles: those that count, and until when."""

    def at_least(self, version: int) -> None:
        """There is said to be a list of this version: look for it, if the one held is older."""

    def refresh(self) -> None:
        """Look for a newer list."""

    @property
    def version(self) -> int:
        """Of the list that is held."""


def sign_members(members: Members, key: PrivateKey, *, authority: str, now: float) -> str:
    """The signed list (compact JWS, ES256)."""
    claims: dict[str, JsonValue] = {"iss": authority, "iat": int(now), "list": members.to_document()}
    return sign(claims, key, typ=MEMBERS_TYPE)


def verify_members(token: str, ring: KeyRing, *, now: float, seen_version: int = 0) -> Members:
    """The list, if a pinned authority signed it and it is no older than ``seen_version``; else ``Refused``."""
    verified = verify(token, ring, typ=MEMBERS_TYPE, algorithms=ALGORITHMS, now=now)
    check_claims(verified.payload, now=now, require=("iss", "iat"))
    if verified.payload["iss"] != verified.owner:
        raise Refused("the member list is signed with the key of another authority.", codes=["issuer_untrusted"])
    try:
        listed: Mapping[str, object] | object = verified.payload.get("list")
        members = Members.from_document(listed)
    except Invalid as error:
        raise Refused("the member list cannot be read.", codes=["token_invalid"]) from error
    if members.version < seen_version:
        raise Refused("the member list is older than one seen before.", codes=["token_invalid"])
    return members
