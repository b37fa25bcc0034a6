"""Drop-out for masked sums: nodes may be lost after the first part is sent, and the rest still opens exactly once.

Double masking of Bonawitz et al. 2017, §4 and §6, for a lying hub. Every node adds one more mask of its own and deals
Shamir shares of its seed and of its round key to the others. Once the nodes have signed who survived, they reveal
to the releaser the seeds of survivors and the round keys of the lost, and never both of one node.

A round runs: ``deal`` and ``with_self_mask`` → ``open_share`` at each receiver → parts are sent →
``sign_survivors`` → ``check_survivors`` → ``reveal`` → ``open_revealed`` and ``recover`` at the releaser.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from federome.errors import Damaged, Invalid, Refused
from federome.network.sums import Pads, Roster, RoundKey, RoundKeys, pair_key, speaker
from federome.trust.canonical import Json, canonical, digest
from federome.trust.keys import KeyRing, PrivateKey, PublicKey
from federome.trust.signing import OWN_ALGORITHMS, Verified, decrypt, encrypt, sign, verify

PRIME = 2**521 - 1  # a Mersenne prime with room for any 32-byte secret
SECRET_BYTES = 32
_SHARE_BYTES = 66

COMMITMENT_TYP = "federome-mask-commitment+jws"
SHARE_TYP = "federome-share+jws"
SURVIVORS_TYP = "federome-survivors+jws"
REVEALED_TYP = "federome-revealed-shares+jws"
SEALED_TYP = "federome-sealed-shares+jwe"


def threshold(contributors: int) -> int:
    """How many must agree: more than two thirds, so that no two survivor sets can both find enough signatures."""
    return 2 * contributors // 3 + 1


# Shamir's scheme (1979) over the integers modulo a prime


def split(
    secret: bytes, *, shares: int, needed: int, randbelow: Callable[[int], int] = secrets.randbelow
) -> tuple[bytes, ...]:
    """Shares 1, 2, … of a 32-byte secret: any ``needed`` of them give it back, fewer say nothing about it."""
    if len(secret) != SECRET_BYTES or not 1 <= needed <= shares:
        raise Invalid("a 32-byte secret is split into at least as many shares as are needed")
    coefficients = [int.from_bytes(secret), *(randbelow(PRIME) for _ in range(needed - 1))]
    return tuple(_polynomial(coefficients, at).to_bytes(_SHARE_BYTES) for at in range(1, shares + 1))


def join(shares: Mapping[int, bytes], *, needed: int) -> bytes:
    """The secret from shares by number (1, 2, …). ``Refused`` when too few, ``Damaged`` when they do not fit."""
    if len(shares) < needed:
        raise Refused(f"{len(shares)} of {needed} shares were revealed", codes=["incomplete"])
    points = {at: int.from_bytes(share) for at, share in sorted(shares.items())[:needed]}
    secret = 0
    for at, value in points.items():
        above = below = 1
        for other in points:
            if other != at:
                above, below = above * other % PRIME, below * (other - at) % PRIME
        secret = (secret + value * above * pow(below, -1, PRIME)) % PRIME
    if secret >= 1 << (8 * SECRET_BYTES):
        raise Damaged("the revealed shares do not belong together")
    return secret.to_bytes(SECRET_BYTES)


def _polynomial(coefficients: Sequence[int], at: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * at + coefficient) % PRIME
    return value


# Dealing


@dataclass(frozen=True)
class SelfMask:
    """A node's own mask for one round: a secret seed, kept until the round is over."""

    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> SelfMask:
        """A fresh seed from the operating system's entropy."""
        return cls(secrets.token_bytes(SECRET_BYTES))

    def commitment(self, own: RoundKey) -> str:
        """A digest that fixes the seed without showing it."""
        return _commitment(self.seed, own.roster, own.round, own.party)


@dataclass(frozen=True)
class Dealing:
    """What a node hands to the hub: its signed commitment, and for every other contributor a sealed share."""

    commitment: str
    sealed: Mapping[str, str]


@dataclass(frozen=True)
class HeldShare:
    """The shares one dealer gave us: of its own mask's seed, and of its round key. Secret; at most one is revealed."""

    dealer: str
    seed: bytes = field(repr=False)
    key: bytes = field(repr=False)


def with_self_mask(pads: Pads, self_mask: SelfMask, own: RoundKey) -> Pads:
    """The pads of ``sums.make_pads``, and the node's own mask on top."""
    return replace(pads, added=(*pads.added, _stream_key(self_mask.seed, own.roster, own.round, own.party)))


def deal(
    roster: Roster, own: RoundKey, self_mask: SelfMask, *, boxes: Mapping[str, PublicKey], identity: PrivateKey
) -> Dealing:
    """Split seed and round key among all contributors, and seal each one's share to its pinned X25519 key.

    ``boxes`` are those keys by name. The node's own share is sealed to itself as well, so that a restart loses
    nothing.
    """
    count = len(roster.contributors)
    seeds = split(self_mask.seed, shares=count, needed=threshold(count))
    keys = split(own.secret, shares=count, needed=threshold(count))
    sealed = {}
    for member, seed, key in zip(roster.contributors, seeds, keys, strict=True):
        said = _about(own) | {"to": member.name, "seed": b64encode(seed).decode(), "key": b64encode(key).decode()}
        token = sign(said, identity, typ=SHARE_TYP)
        sealed[member.name] = encrypt(token.encode(), boxes[member.name], typ=SEALED_TYP)
    commitment = sign(_about(own) | {"commitment": self_mask.commitment(own)}, identity, typ=COMMITMENT_TYP)
    return Dealing(commitment, sealed)


def open_share(
    sealed: str, roster: Roster, round: int, *, party: str, box: PrivateKey, ring: KeyRing, now: float
) -> HeldShare:
    """The share a dealer sealed for ``party``; ``Refused`` when it is not that of this round, roster and receiver."""
    verified = verify(decrypt(sealed, box, typ=SEALED_TYP), ring, typ=SHARE_TYP, algorithms=OWN_ALGORITHMS, now=now)
    dealer, said = _heard(verified, roster, round), verified.payload
    if said.get("to") != party:
        raise Refused("a share was dealt to somebody else", codes=["audience_mismatch"], where=dealer)
    return HeldShare(dealer, _share(said.get("seed")), _share(said.get("key")))


def check_commitments(
    roster: Roster, round: int, tokens: Iterable[str], *, ring: KeyRing, now: float
) -> dict[str, str]:
    """Each dealer's commitment by name; ``Refused`` when one says two things (``replayed``)."""
    found: dict[str, str] = {}
    for token in tokens:
        verified = verify(token, ring, typ=COMMITMENT_TYP, algorithms=OWN_ALGORITHMS, now=now)
        dealer, said = _heard(verified, roster, round), str(verified.payload.get("commitment"))
        if found.setdefault(dealer, said) != said:
            raise Refused("a node committed to two masks", codes=["replayed"], where=dealer)
    return found


# Survivors


@dataclass(frozen=True)
class Survivors:
    """Who is in the sum, as enough of them signed. Made by ``check_survivors``."""

    roster: Roster
    round: int
    names: tuple[str, ...]

    @property
    def constellation(self) -> str:
        """What to record for the question in place of the roster's: from now on only this circle may be summed.

        Else a later sum over the whole roster, less this one, would be the value of the lost.
        """
        return constellation(self.roster, self.names)


def sign_survivors(
    roster: Roster, round: int, names: Collection[str], *, identity: PrivateKey, earlier: str | None
) -> tuple[str, str]:
    """This node's word on who survived, given once in a run, and the record to keep before it is sent.

    ``earlier`` is the record of this run, if there is one: a second, different set is refused (``differencing``),
    in later rounds too. So are sets with fewer than two thirds of the contributors, or fewer than the roster's
    minimum, or without the signer.
    """
    kept = _without_the_lost(roster, names)
    signer = [member.name for member in kept.contributors if member.kid == identity.kid]
    if not signer:
        raise Refused("a node does not sign itself away", codes=["differencing"], where=roster.run)
    record = _record(roster, names)
    if earlier is not None and earlier != record:
        raise Refused("another set of survivors was signed in this run", codes=["differencing"], where=roster.run)
    said: dict[str, Json] = {"run": roster.run, "roster": roster.digest, "round": round, "party": signer[0]}
    return sign(said | {"survivors": [*sorted(names)]}, identity, typ=SURVIVORS_TYP), record


def check_survivors(roster: Roster, round: int, tokens: Iterable[str], *, ring: KeyRing, now: float) -> Survivors:
    """The set that more than two thirds of all contributors, each in it, signed for this round.

    ``Refused``: ``incomplete`` when too few did, ``differencing`` when they signed different sets.
    """
    sets: dict[tuple[str, ...], set[str]] = {}
    for token in tokens:
        verified = verify(token, ring, typ=SURVIVORS_TYP, algorithms=OWN_ALGORITHMS, now=now)
        name, listed = _heard(verified, roster, round), verified.payload.get("survivors")
        names = tuple(str(one) for one in listed) if isinstance(listed, list) else ()
        sets.setdefault(names, set()).add(name)
    if len(sets) > 1:
        raise Refused("nodes signed different sets of survivors", codes=["differencing"], where=roster.run)
    for names, signers in sets.items():
        kept = _without_the_lost(roster, names)
        if len(signers & {member.name for member in kept.contributors}) >= threshold(len(roster.contributors)):
            return Survivors(roster, round, tuple(member.name for member in kept.contributors))
    raise Refused("too few nodes signed who survived", codes=["incomplete"], where=roster.run)


def constellation(roster: Roster, names: Collection[str]) -> str:
    """Digest of what is summed over the survivors."""
    return _without_the_lost(roster, names).constellation


def _record(roster: Roster, names: Collection[str]) -> str:
    return digest({"roster": roster.digest, "survivors": sorted(names)})


def _without_the_lost(roster: Roster, names: Collection[str]) -> Roster:
    known = {member.name for member in roster.contributors}
    if len(names) != len(set(names)) or not set(names) <= known:
        raise Refused("the survivors are not a part of the roster", codes=["token_invalid"], where=roster.run)
    if len(names) < threshold(len(known)):
        raise Refused("too few nodes survived", codes=["differencing"], where=roster.run)
    return replace(roster, contributors=tuple(m for m in roster.contributors if m.name in names))


# Revealing


def reveal(
    own: RoundKey,
    held: Mapping[str, HeldShare],
    survivors: Survivors,
    *,
    signed: str,
    box: PublicKey,
    identity: PrivateKey,
) -> str:
    """For the releaser: our shares of the survivors' seeds and of the lost nodes' round keys, sealed to its key.

    ``signed`` is the record of the set this node signed in this run; another set is refused (``differencing``),
    because the two together could show both secrets of one node. ``incomplete`` when a share is missing.
    """
    if _record(survivors.roster, survivors.names) != signed or (own.roster, own.round) != (
        survivors.roster.digest,
        survivors.round,
    ):
        raise Refused("this is not the set of survivors that this node signed", codes=["differencing"])
    names = [member.name for member in survivors.roster.contributors]
    if missing := [name for name in names if name not in held]:
        raise Refused(f"no share was dealt by {', '.join(missing)}", codes=["incomplete"])
    shares: dict[str, Json] = {
        name: b64encode(held[name].seed if name in survivors.names else held[name].key).decode() for name in names
    }
    return encrypt(sign(_about(own) | {"shares": shares}, identity, typ=REVEALED_TYP).encode(), box, typ=SEALED_TYP)


def open_revealed(
    sealed: str, roster: Roster, round: int, *, box: PrivateKey, ring: KeyRing, now: float
) -> tuple[str, dict[str, bytes]]:
    """At the releaser: who revealed, and its share for each contributor."""
    verified = verify(decrypt(sealed, box, typ=SEALED_TYP), ring, typ=REVEALED_TYP, algorithms=OWN_ALGORITHMS, now=now)
    name, shares = _heard(verified, roster, round), verified.payload.get("shares")
    if not isinstance(shares, dict) or shares.keys() != {member.name for member in roster.contributors}:
        raise Refused("the revealed shares are not those of the roster", codes=["token_invalid"], where=name)
    return name, {dealer: _share(share) for dealer, share in shares.items()}


def recover(
    own: RoundKey,
    keys: RoundKeys,
    survivors: Survivors,
    revealed: Mapping[str, Mapping[str, bytes]],
    *,
    commitments: Mapping[str, str],
) -> Pads:
    """The releaser's pads that open the sum of the survivors' parts (with ``sums.unmask``).

    ``revealed`` holds every survivor's shares by dealer. ``Damaged`` names the dealer whose shares do not give
    what it announced; ``Refused`` (``incomplete``) when shares are too few.
    """
    roster = survivors.roster
    lost = [member.name for member in roster.contributors if member.name not in survivors.names]
    added: list[bytes] = []
    subtracted = [pair_key(own, keys, name) for name in survivors.names]
    for name in survivors.names:
        seed = _join_shares(name, roster, revealed)
        if _commitment(seed, roster.digest, keys.round, name) != commitments.get(name):
            raise Damaged("the revealed shares do not give the mask this node committed to", where=name)
        subtracted.append(_stream_key(seed, roster.digest, keys.round, name))
    for name in lost:
        key = RoundKey(roster.digest, roster.run, keys.round, name, _join_shares(name, roster, revealed))
        if key.public != keys.publics[name]:
            raise Damaged("the revealed shares do not give the round key this node announced", where=name)
        for survivor in survivors.names:  # of a pair, the first by name has added the mask, the second subtracted it
            (subtracted if survivor < name else added).append(pair_key(key, keys, survivor))
    return Pads(tuple(added), tuple(subtracted))


def _join_shares(dealer: str, roster: Roster, revealed: Mapping[str, Mapping[str, bytes]]) -> bytes:
    numbered = {
        number: revealed[member.name][dealer]
        for number, member in enumerate(roster.contributors, start=1)
        if member.name in revealed
    }
    return join(numbered, needed=threshold(len(roster.contributors)))


def _about(own: RoundKey) -> dict[str, Json]:
    return {"run": own.run, "roster": own.roster, "round": own.round, "party": own.party}


def _heard(verified: Verified, roster: Roster, round: int) -> str:
    name = speaker(verified, roster)
    if verified.payload.get("round") != round:
        raise Refused("a signed statement is from another round", codes=["replayed"], where=name)
    return name


def _share(value: object) -> bytes:
    try:
        share = b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:
        share = b""
    if len(share) != _SHARE_BYTES:
        raise Refused("this is not a share", codes=["token_invalid"])
    return share


def _commitment(seed: bytes, roster: str, round: int, party: str) -> str:
    about = canonical({"use": "federome mask commitment 1", "roster": roster, "round": round, "party": party})
    return hashlib.sha256(about + seed).hexdigest()


def _stream_key(seed: bytes, roster: str, round: int, party: str) -> bytes:
    info = canonical({"use": "federome self mask 1", "roster": roster, "round": round, "party": party})
    return HKDF(algorithm=SHA256(), length=16, salt=None, info=info).derive(seed)
