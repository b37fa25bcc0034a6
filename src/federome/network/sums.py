"""Masked sums: nodes add numbers together so that only the total can ever be opened, and only by the releaser.

Each node encodes its numbers in the ring of integers modulo 2^64 and adds one-use random masks that it shares with
every other node (they cancel in the sum) and with the releaser (who removes them). The coordinator in between adds
what it is given and learns nothing, not even the total. After Bonawitz et al. 2017; drop-out is in ``shares``.

A run goes: ``check_roster`` and ``admit`` → ``acknowledge`` → ``RoundKey.generate`` and ``announce`` → ``open_round``
→ ``make_pads`` for the first round, a ``ratchet`` for all others; and each of its rounds:
``encode`` → ``mask`` → ``add_part`` at the coordinator → ``unmask`` → ``decode``.
Arrays are values of any shape, uint64, little-endian on the wire; wide encodings put their two limbs first.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, partial
from math import ceil, isfinite
from typing import Literal, TypeAlias

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from federome.errors import Damaged, Invalid, Refused
from federome.trust.canonical import Json, JsonValue, canonical, digest, digest_bytes, parse_object
from federome.trust.keys import KeyRing, PrivateKey
from federome.trust.signing import OWN_ALGORITHMS, Verified, sign, verify

Ring: TypeAlias = NDArray[np.uint64]
Numbers: TypeAlias = NDArray[np.integer] | NDArray[np.floating]
Total: TypeAlias = NDArray[np.int64] | NDArray[np.float64]

MIN_CONTRIBUTORS = 3  # with two, each reads the other's number off the total
MAX_CONTRIBUTORS = 40  # every pair shares a mask; beyond this a sparser graph would be needed
MAX_PART = 2**63

ACKNOWLEDGEMENT_TYP = "federome-roster-acknowledgement+jws"
ROUND_KEY_TYP = "federome-round-key+jws"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
KEY_BYTES = 32
PAD_KEY_BYTES = 16  # AES-128 matches the 128-bit strength of X25519
_WIDE_FRACTION_BITS, _LIMB_BITS = 52, 32
CHUNK = 1 << 15  # values handled at a time: 256 KiB, so that masks never leave the processor's cache
ZEROS = bytes(8 * CHUNK)


# Encodings: exact numbers in the ring


@dataclass(frozen=True)
class Encoding:
    """How one column becomes ring elements, agreed by all parties before the first value is seen.

    ``integer``: whole numbers as they are. ``fixed``: floats as round(x · 2^fraction_bits) in one ring element.
    ``wide``: the same in two, for sums of products. ``bound`` is the largest magnitude one party may contribute. Sums
    are exact whatever their order; a decoded sum is within parties · 2^-(fraction_bits + 1)
    of the true one, and correctly rounded beyond that.
    """

    kind: Literal["integer", "fixed", "wide"]
    bound: float
    fraction_bits: int = 0

    @classmethod
    def integer(cls, bound: int = 2**53 - 1) -> Encoding:
        """Counts and other whole numbers."""
        return cls("integer", bound)

    @classmethod
    def fixed(cls, fraction_bits: int, *, bound: float) -> Encoding:
        """Floats with a declared scale: parties · bound · 2^fraction_bits must stay below 2^63."""
        return cls("fixed", bound, fraction_bits)

    @classmethod
    def wide(cls, *, bound: float = 2.0**36, fraction_bits: int = _WIDE_FRACTION_BITS) -> Encoding:
        """Floats in two limbs: parties · bound · 2^fraction_bits must stay below 2^94 (bound 2^42 at 52 bits)."""
        return cls("wide", bound, fraction_bits)

    @property
    def limbs(self) -> int:
        """Ring elements per value."""
        return 2 if self.kind == "wide" else 1

    def total_limit(self, parties: int) -> int:
        """The largest magnitude of a total, in units of 2^-fraction_bits.

        ``Invalid`` when a sum over so many parties might not fit the ring.
        """
        if not (isfinite(self.bound) and self.bound > 0 and 0 <= self.fraction_bits <= 62 and parties >= 1):
            raise Invalid("an encoding needs a finite positive bound and at most 62 fraction bits")
        limit: int = parties * ceil(Fraction(self.bound) * 2**self.fraction_bits)
        capacity = 2**94 if self.kind == "wide" else 2**63
        if limit >= capacity:
            raise Invalid(
                f"the sum of {parties} contributions up to the declared bound does not fit the ring",
                remedy="Declare a smaller bound or fewer fraction bits, or use the wide encoding.",
            )
        return limit


def encode(values: Numbers, encoding: Encoding, *, parties: int) -> Ring:
    """Ring elements for ``values``: same shape, or (2, *shape) with the high limbs first when wide. Integers may come
    back as they are, in the same memory.

    ``Invalid`` for NaN, infinities, values beyond the bound, other number types than declared (integers for
    ``integer``, float32 or float64 otherwise), and encodings that ``parties`` contributions could overflow.
    """
    encoding.total_limit(parties)
    expected = "iu" if encoding.kind == "integer" else "f"
    if values.dtype.kind not in expected or values.dtype.itemsize > 8 or values.ndim < 1:
        raise Invalid(f"a column declared {encoding.kind} cannot hold a {values.ndim}-d array of {values.dtype}")
    # Widened before it is compared: NumPy would round the bound to the width of float32 values.
    numbers = np.ascontiguousarray(values, dtype=None if encoding.kind == "integer" else np.float64)
    # Extremes rather than a comparison per value: no memory is taken, and a NaN among the values is both of them.
    if numbers.size and not (numbers.max().item() <= encoding.bound and numbers.min().item() >= -encoding.bound):
        raise Invalid("a value is not finite or lies beyond the bound declared for its column")
    if encoding.kind == "integer":
        return numbers.astype(np.int64, copy=False).view(np.uint64)
    scaled: NDArray[np.float64] = np.rint(np.ldexp(numbers, encoding.fraction_bits))
    if encoding.kind == "fixed":
        return scaled.astype(np.int64).view(np.uint64)
    # A float64 holds 53 bits, so scaling, flooring and the remainder below are all exact.
    high = np.floor(np.ldexp(scaled, -_LIMB_BITS))
    low = scaled - np.ldexp(high, _LIMB_BITS)
    return np.stack([high.astype(np.int64).view(np.uint64), low.astype(np.uint64)])


def decode(total: Ring, encoding: Encoding, *, parties: int) -> Total:
    """The sum that an opened total stands for: int64, or float64 correctly rounded from the exact sum.

    ``Damaged`` when a total lies beyond what ``parties`` bounded contributions can add up to, which is what a
    missing or foreign part looks like.
    """
    limit = encoding.total_limit(parties)
    if encoding.kind == "wide":
        return _decode_wide(total, limit, parties, encoding.fraction_bits)
    signed = np.ascontiguousarray(total).view(np.int64)
    if signed.size and (signed.max() > limit or signed.min() < -limit):
        raise _does_not_open()
    if encoding.kind == "integer":
        return signed
    return np.asarray(np.ldexp(signed.astype(np.float64), -encoding.fraction_bits))


def _decode_wide(total: Ring, limit: int, parties: int, fraction_bits: int) -> NDArray[np.float64]:
    if total.ndim < 1 or total.shape[0] != 2:
        raise Invalid("a wide total has two limbs on its first axis")
    carry = total[1] >> np.uint64(_LIMB_BITS)
    low = total[1] & np.uint64(2**_LIMB_BITS - 1)
    high = np.ascontiguousarray(total[0]).view(np.int64) + carry.astype(np.int64)
    top = limit >> _LIMB_BITS
    if bool(np.any((high > top) | (high < -top - 1) | (carry >= parties))):
        raise _does_not_open()
    exact: NDArray[np.float64] = np.ldexp(high.astype(np.float64), _LIMB_BITS) + low.astype(np.float64)
    # Above 2^53 the high limb alone would be rounded; converting Python's integer rounds the whole only once.
    for place in np.argwhere(np.abs(high) > 2**53):
        at = tuple(place)
        exact[at] = float((int(high[at]) << _LIMB_BITS) + int(low[at]))
    return np.asarray(np.ldexp(exact, -fraction_bits))


def _does_not_open() -> Damaged:
    return Damaged(
        "a total lies beyond its bound: a part is missing, foreign or masked with other keys",
        remedy="Run the round again with the same roster.",
    )


# Roster: who sums what with whom


@dataclass(frozen=True, order=True)
class Member:
    """A party of a sum: its name, its pinned identity key, and the data release it answers from (contributors)."""

    name: str
    kid: str
    data_release: str = ""


@dataclass(frozen=True)
class Roster:
    """Who contributes to one run and who opens its totals; fixed for all rounds, blocks and restarts.

    ``question`` is the digest of what is asked. Construction refuses fewer than ``minimum`` (at least three)
    contributors, more than 40, and names or keys that occur twice, the releaser's included.
    """

    run: str
    question: str
    contributors: tuple[Member, ...]
    releaser: Member
    minimum: int = MIN_CONTRIBUTORS

    def __post_init__(self) -> None:
        object.__setattr__(self, "contributors", tuple(sorted(self.contributors)))
        if not max(MIN_CONTRIBUTORS, self.minimum) <= len(self.contributors) <= MAX_CONTRIBUTORS:
            raise Refused(
                f"a masked sum takes {max(MIN_CONTRIBUTORS, self.minimum)} to {MAX_CONTRIBUTORS} contributors, "
                f"not {len(self.contributors)}",
                codes=["differencing"],
                where=self.run,
            )
        names = {member.name.casefold() for member in self.members}
        kids = {member.kid for member in self.members}
        if len(names) != len(self.members) or len(kids) != len(self.members):
            raise Refused("a party or a key stands twice in the roster", codes=["token_invalid"], where=self.run)
        if not all(_NAME.fullmatch(member.name) for member in self.members):
            raise Refused("a party's name has foreign characters", codes=["token_invalid"], where=self.run)

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """All contributors and the releaser."""
        return (*self.contributors, self.releaser)

    @cached_property
    def digest(self) -> str:
        """The name of exactly this roster, in every signature and every mask."""
        return digest(self.to_document())

    @cached_property
    def constellation(self) -> str:
        """Digest of what is summed over whom: question, contributors and their data releases, without the run."""
        people = [[member.name, member.data_release] for member in self.contributors]
        return digest({"question": self.question, "contributors": people})

    def member(self, name: str) -> Member:
        """The party of this name; ``Refused`` (``issuer_untrusted``) when there is none."""
        for member in self.members:
            if member.name == name:
                return member
        raise Refused("a party is not on the roster", codes=["issuer_untrusted"], where=self.run)

    def to_document(self) -> dict[str, Json]:
        """The roster as JSON."""
        return {
            "run": self.run,
            "question": self.question,
            "contributors": [
                {"name": member.name, "kid": member.kid, "data_release": member.data_release}
                for member in self.contributors
            ],
            "releaser": {"name": self.releaser.name, "kid": self.releaser.kid},
            "minimum": self.minimum,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, JsonValue]) -> Roster:
        """Read a roster; ``Invalid`` when it is none, ``Refused`` when it is a forbidden one."""
        match document:
            case {
                "run": str() as run,
                "question": str() as question,
                "contributors": list() as contributors,
                "releaser": {"name": str() as name, "kid": str() as kid},
                "minimum": int() as minimum,
            } if len(document) == 5:
                members = tuple(_read_contributor(entry) for entry in contributors)
                return cls(run, question, members, Member(name, kid), minimum)
        raise Invalid("this is not a roster")


def _read_contributor(entry: object) -> Member:
    match entry:
        case {"name": str() as name, "kid": str() as kid, "data_release": str() as data_release}:
            return Member(name, kid, data_release)
    raise Invalid("this is not a roster: a contributor lacks name, kid or data_release")


def check_roster(roster: Roster, *, ring: KeyRing, releasers: Collection[str], now: float) -> None:
    """Refuse (``issuer_untrusted``) parties whose pinned key is another, and releasers this node does not accept."""
    if roster.releaser.name not in releasers:
        raise Refused("the releaser is not one this node accepts", codes=["issuer_untrusted"], where=roster.run)
    check_members(roster, roster.members, ring=ring, now=now)


def check_members(roster: Roster, members: Iterable[Member], *, ring: KeyRing, now: float) -> None:
    """Refuse (``issuer_untrusted``) these members of a roster if the key of one is no longer theirs."""
    for member in members:
        if ring.find(member.kid, now=now).owner != member.name:
            raise Refused("a party's key belongs to somebody else", codes=["issuer_untrusted"], where=roster.run)


def admit(roster: Roster, *, party: str, earlier: Mapping[tuple[str, str], str]) -> tuple[tuple[str, str], str]:
    """Refuse (``differencing``) a second, different circle of contributors for a question on the same data release.

    The difference of two such sums would be the value of those in one and not in the other. ``earlier`` maps
    (question, own data release) to the constellation admitted then. Returns the key and value to record before
    anything is sent; recording must be atomic. The same circle may run again: it can only give the same sum.
    """
    key = (roster.question, roster.member(party).data_release)
    if earlier.get(key, roster.constellation) != roster.constellation:
        raise Refused(
            "this question was already summed over this data release with other contributors",
            codes=["differencing"],
            where=roster.run,
            remedy="Use the earlier answer, or ask again after the next data release.",
        )
    return key, roster.constellation


def acknowledge(roster: Roster, key: PrivateKey) -> str:
    """This party's signed word that it sums with exactly this roster."""
    for member in roster.members:
        if member.kid == key.kid:
            return sign(
                {"run": roster.run, "roster": roster.digest, "party": member.name}, key, typ=ACKNOWLEDGEMENT_TYP
            )
    raise Refused("this key is not on the roster", codes=["issuer_untrusted"], where=roster.run)


def check_acknowledged(roster: Roster, tokens: Iterable[str], *, ring: KeyRing, now: float) -> None:
    """Refuse unless every member of the roster, the releaser included, acknowledged exactly this roster.

    ``incomplete`` when one is missing; ``token_invalid`` for words about another roster.
    """
    heard = {}
    for token in tokens:
        verified = verify(token, ring, typ=ACKNOWLEDGEMENT_TYP, algorithms=OWN_ALGORITHMS, now=now)
        heard[speaker(verified, roster)] = verified
    _refuse_missing(roster, heard)


def speaker(verified: Verified, roster: Roster) -> str:
    """The member who signed this. ``Refused`` when it is about another roster or signed with a key not on it."""
    said = verified.payload
    if said.get("roster") != roster.digest or said.get("run") != roster.run:
        raise Refused("a signed statement is about another roster", codes=["token_invalid"], where=roster.run)
    member = roster.member(verified.owner)
    if member.kid != verified.kid or said.get("party") != member.name:
        raise Refused("a party signed with a key not on the roster", codes=["issuer_untrusted"], where=roster.run)
    return member.name


def _refuse_missing(roster: Roster, heard: Mapping[str, object]) -> None:
    missing = [member.name for member in roster.members if member.name not in heard]
    if missing:
        raise Refused(f"nothing was heard from {', '.join(missing)}", codes=["incomplete"], where=roster.run)


# Round keys: fresh for every run, authenticated end to end


@dataclass(frozen=True)
class RoundKey:
    """One party's secret for one round, or for a ratchet from this round on. Kept until then, so that a restarted node
    can resume.
    """

    roster: str
    run: str
    round: int
    party: str
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls, roster: Roster, round: int, *, party: str) -> RoundKey:
        """A fresh X25519 secret of ``party`` for ``round`` (0, 1, …), from the operating system's entropy."""
        secret = X25519PrivateKey.generate().private_bytes_raw()
        return cls(roster.digest, roster.run, round, roster.member(party).name, secret)

    @cached_property
    def opened(self) -> X25519PrivateKey:
        """The secret as a key to exchange with; made once, because making one costs as much as an exchange."""
        return X25519PrivateKey.from_private_bytes(self.secret)

    @cached_property
    def public(self) -> bytes:
        """The X25519 public key, 32 bytes."""
        return self.opened.public_key().public_bytes_raw()

    def announce(self, identity: PrivateKey) -> str:
        """The public key, bound to run, roster, round and party and signed by the party's identity key."""
        return sign(
            {
                "run": self.run,
                "roster": self.roster,
                "round": self.round,
                "party": self.party,
                "key": b64encode(self.public).decode(),
            },
            identity,
            typ=ROUND_KEY_TYP,
        )

    def to_bytes(self) -> bytes:
        """Everything, the secret included: for the node's own protected storage only."""
        return canonical(
            {
                "run": self.run,
                "roster": self.roster,
                "round": self.round,
                "party": self.party,
                "secret": b64encode(self.secret).decode(),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> RoundKey:
        """What ``to_bytes`` wrote; ``Damaged`` when it is anything else."""
        try:
            document = parse_object(data)
        except Invalid:
            document = {}
        match document:
            case {
                "run": str() as run,
                "roster": str() as roster,
                "round": int() as round,
                "party": str() as party,
                "secret": str() as secret,
            } if len(key := _read_key(secret)) == KEY_BYTES:
                return cls(roster, run, round, party, key)
        raise Damaged("a stored round key cannot be read", remedy="Fail the run; never make a second key.")


@dataclass(frozen=True)
class RoundKeys:
    """Public keys of all members that are left, for one round. ``open_round`` makes it, after checking every one."""

    roster: Roster
    round: int
    publics: Mapping[str, bytes]


def open_round(
    roster: Roster,
    round: int,
    announcements: Iterable[str],
    *,
    ring: KeyRing,
    now: float,
    lost: Collection[str] = (),
) -> RoundKeys:
    """Check everyone's announcement against the pinned identities; this is what keeps the hub out of the middle.

    ``lost`` are contributors that the survivors signed away in an earlier round: no key of theirs is taken any more.

    ``Refused``: ``issuer_untrusted`` for keys not on the roster, ``token_invalid`` for another roster or a key that
    is none, ``replayed`` for another round, for two keys by one party and for one key by two parties,
    ``incomplete`` when a member is missing.
    """
    publics: dict[str, bytes] = {}
    for token in announcements:
        verified = verify(token, ring, typ=ROUND_KEY_TYP, algorithms=OWN_ALGORITHMS, now=now)
        name = speaker(verified, roster)
        if name in lost:
            continue
        if verified.payload.get("round") != round:
            raise Refused("a round key is from another round", codes=["replayed"], where=name)
        public = _read_key(verified.payload.get("key"))
        if len(public) != KEY_BYTES:
            raise Refused("a round key has the wrong length", codes=["token_invalid"], where=name)
        if publics.setdefault(name, public) != public:
            raise Refused("a party announced two keys for one round", codes=["replayed"], where=name)
    _refuse_missing(roster, {**dict.fromkeys(lost), **publics})
    if len(set(publics.values())) != len(publics):
        raise Refused("two parties announced the same round key", codes=["replayed"], where=roster.run)
    return RoundKeys(roster, round, publics)


def _read_key(value: object) -> bytes:
    try:
        return b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:
        return b""


# Masks


@dataclass(frozen=True)
class Pads:
    """The stream keys of one party for one round: masks it adds, and masks it subtracts. Secret."""

    added: tuple[bytes, ...] = field(repr=False)
    subtracted: tuple[bytes, ...] = field(repr=False)


def make_pads(own: RoundKey, keys: RoundKeys) -> Pads:
    """This party's stream keys: of a pair of contributors the first by name adds, and all add for the releaser.

    The releaser's pads subtract what all contributors added for it. ``Refused`` (``replayed``) when the round keys
    are not of the round, or not the ones, this party announced itself for.
    """
    check_announced(own, keys)
    return pads_with(keys.roster, own.party, keys.publics, partial(pair_key, own, keys))


def check_announced(own: RoundKey, keys: RoundKeys) -> None:
    """Refuse (``replayed``) round keys that are not of the round, or not the ones, ``own`` was announced for."""
    announced = keys.publics.get(own.party)
    if (own.roster, own.round, own.public) != (keys.roster.digest, keys.round, announced):
        raise Refused("these are not the keys of the round this party takes part in", codes=["replayed"])


def pads_with(roster: Roster, party: str, present: Collection[str], key: Callable[[str], bytes]) -> Pads:
    """The stream keys of ``party`` with those who are present, by the key that it shares with each."""
    peers = [m.name for m in roster.contributors if m.name != party and m.name in present]
    if party == roster.releaser.name:
        return Pads((), tuple(map(key, peers)))
    added = [peer for peer in peers if peer > party] + [roster.releaser.name]
    return Pads(tuple(map(key, added)), tuple(key(peer) for peer in peers if peer < party))


def pair_key(own: RoundKey, keys: RoundKeys, peer: str) -> bytes:
    """The stream key this party and ``peer`` share for the round."""
    return pair_secret(own, keys, peer, use="federome masked sum 1", length=PAD_KEY_BYTES)


def pair_secret(own: RoundKey, keys: RoundKeys, peer: str, *, use: str, length: int) -> bytes:
    """A secret that this party and ``peer`` share for the round: X25519, then HKDF-SHA256 bound to all of it."""
    parties = sorted([own.party, peer])
    info = canonical(
        {
            "use": use,
            "run": own.run,
            "roster": own.roster,
            "round": own.round,
            "parties": parties,
            "keys": [b64encode(keys.publics[party]).decode() for party in parties],
        }
    )
    try:
        public = X25519PublicKey.from_public_bytes(keys.publics[peer])
        shared = own.opened.exchange(public)
    except ValueError as error:  # a point of small order: the secret would be known to everybody
        raise Refused("a round key is no proper key", codes=["token_invalid"], where=peer) from error
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(shared)


def mask(values: Ring, pads: Pads, *, part: int, out: Ring | None = None) -> Ring:
    """``values`` plus this party's masks for ``part``, modulo 2^64; in place when ``out`` is ``values``.

    Parts (blocks, columns) are numbered by the run, so that they can be masked in any order and again after a
    restart. One part number must never carry two different contents: see ``sent_once``.
    """
    return _apply(values, pads, part, np.empty_like(values, order="C") if out is None else out)


def unmask(total: Ring, pads: Pads, *, part: int, out: Ring | None = None) -> Ring:
    """The opened total of ``part``: the releaser takes off what every contributor added for it."""
    return _apply(total, pads, part, np.empty_like(total, order="C") if out is None else out)


def add_part(accumulator: Ring, part: Ring) -> None:
    """Add one party's masked part to the coordinator's running sum, in place and modulo 2^64."""
    if accumulator.dtype != np.uint64 or part.dtype != np.uint64 or accumulator.shape != part.shape:
        raise Invalid("a masked part has another shape or type than the sum it belongs to")
    np.add(accumulator, part, out=accumulator)


def sent_once(masked: Ring, *, earlier: str | None) -> str:
    """The digest to record for (run, round, part) before sending; ``Refused`` when another content was sent before.

    The difference of two contents under one mask is the difference of the bare values. Sending the same content
    again, after a lost connection or a restart, is fine.
    """
    now = digest_bytes(np.ascontiguousarray(masked, dtype="<u8").reshape(-1).view(np.uint8).data)
    if earlier is not None and earlier != now:
        raise Refused("this part was already sent with another content", codes=["differencing"])
    return now


def _apply(values: Ring, pads: Pads, part: int, out: Ring) -> Ring:
    if not (values.dtype == out.dtype == np.uint64 and values.shape == out.shape and out.flags.c_contiguous):
        raise Invalid("masks are applied to contiguous arrays of ring elements")
    if not 0 <= part < MAX_PART:
        raise Invalid("a part number is between 0 and 2^63")
    # Key: one per pair and round. Counter block: part number, then the place in the part. So none is used twice.
    nonce = CTR(part.to_bytes(8, "big") + bytes(8))
    streams = [
        (combine, Cipher(AES(key), nonce).encryptor())
        for combine, keys in ((np.add, pads.added), (np.subtract, pads.subtracted))
        for key in keys
    ]
    source, target = values.reshape(-1), out.reshape(-1)
    buffer = bytearray(8 * min(CHUNK, target.size) + AES.block_size // 8)
    stream = np.frombuffer(buffer, dtype="<u8")
    zeros = memoryview(ZEROS)
    for start in range(0, target.size, CHUNK):
        chunk = target[start : start + CHUNK]
        held = source[start : start + CHUNK]
        for combine, cipher in streams:
            cipher.update_into(zeros[: 8 * chunk.size], buffer)
            combine(held, stream[: chunk.size], out=chunk)
            held = chunk
        if held is not chunk:
            np.copyto(chunk, held)
    return out
