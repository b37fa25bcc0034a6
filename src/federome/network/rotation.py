"""A party's keys follow one another without a pause: the old key announces the new one, the authority lists both.

1. The party makes its next keys and announces them, signed by the key that the member list names and by the new one.
2. The authority's next list holds the new key, and the old one until a day that the announcement asked for.
3. The party signs with whatever that list says is its key. A run that began under the old key ends under it.

Nobody believes a key that is not in a list which the authority signed, so a hub can neither invent a rotation nor
bend one. Keys are never renamed or overwritten: which file counts is what the list says, wherever a process died.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from federome.errors import FederomeError, Invalid, Refused
from federome.model.strict import Document, Identifier
from federome.network.files import replace_file
from federome.trust.canonical import JsonValue
from federome.trust.keys import (
    KeyRing,
    OwnAlgorithm,
    PinnedKey,
    PrivateKey,
    generate,
    load_private_key,
    save_private_key,
)
from federome.trust.members import EarlierKey, Member, MemberKey, Members, MemberSource, Point
from federome.trust.signing import OWN_ALGORITHMS, check_claims, sign, sign_embedded, verify, verify_embedded

ROTATION_TYPE: Final = "federome-rotation+jwt"
SEALING_TYPE: Final = "federome-sealing+jwt"
HOLDER_TYPE: Final = "federome-rotation-holder+jwt"
MAX_ROTATION_BYTES: Final = 8192
OVERLAP_DAYS: Final = 14
MAX_OVERLAP_DAYS: Final = 90
LOOK_S: Final = 30.0
"""How long a party with a key that is not listed yet waits before it looks for a newer list again."""


@dataclass(frozen=True)
class Rotation(Document):
    """What a party announces: the key that follows its present one, where to seal to, how long both shall count."""

    party: Identifier
    key: MemberKey
    sealing: Point | None = None
    overlap_days: int = OVERLAP_DAYS

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_days <= MAX_OVERLAP_DAYS:
            raise Invalid(f"old and new key overlap for 0 to {MAX_OVERLAP_DAYS} days.", where="overlap_days")


def announce(rotation: Rotation, old: PrivateKey, new: PrivateKey, *, hub: str, now: float) -> str:
    """The signed announcement. The new key signs as well: nobody can announce a key that another party holds."""
    claims: dict[str, JsonValue] = {"iss": rotation.party, "aud": hub, "iat": int(now)}
    held = sign_embedded({**claims, "follows": old.kid}, new, typ=HOLDER_TYPE)
    return sign({**claims, "rotation": rotation.to_document(), "holder": held}, old, typ=ROTATION_TYPE)


def read_rotation(token: str | bytes, member: Member, *, hub: str, now: float) -> Rotation:
    """What this member announced. ``Refused`` unless the key that the list names as its present one signed it."""
    ring = KeyRing((PinnedKey(member.name, member.key.public),))  # an earlier key has no say in what follows
    said = verify(
        token, ring, typ=ROTATION_TYPE, algorithms=OWN_ALGORITHMS, now=now, max_bytes=MAX_ROTATION_BYTES
    ).payload
    check_claims(said, now=now, audience=hub, require=("iss", "aud", "iat"))
    try:
        rotation = Rotation.from_document(said.get("rotation"), where="rotation")
    except Invalid as error:
        raise Refused(f"the announcement of a key cannot be read: {error.message}", codes=["token_invalid"]) from error
    holder, key = verify_embedded(
        str(said.get("holder")), typ=HOLDER_TYPE, algorithms=OWN_ALGORITHMS, max_bytes=MAX_ROTATION_BYTES
    )
    follows = {"iss": member.name, "aud": hub, "iat": said["iat"], "follows": member.key.public.kid}
    if said["iss"] != member.name or rotation.party != member.name:
        raise Refused("a party announced a key for another one.", codes=["token_invalid"], where=member.name)
    if holder != follows or key.kid != rotation.key.public.kid:
        raise Refused("nobody showed to hold the announced key.", codes=["token_invalid"], where=member.name)
    return rotation


def followed(member: Member, rotation: Rotation, *, now: float) -> Member:
    """The member with its new key, and the old one for as long as it asked. Keys that have ended are left out."""
    until = datetime.fromtimestamp(int(now), UTC) + timedelta(days=rotation.overlap_days)
    earlier = (EarlierKey(member.key, until), *unended(member, now=now).earlier) if rotation.overlap_days else ()
    return Member(member.name, member.role, rotation.key, rotation.sealing or member.sealing, earlier)


def unended(member: Member, *, now: float) -> Member:
    """The member without keys that have ended."""
    left = tuple(one for one in member.earlier if now < one.until.timestamp())
    return Member(member.name, member.role, member.key, member.sealing, left)


def vouch(party: str, sealing: Point, key: PrivateKey, *, hub: str) -> str:
    """A party's word that others shall seal to this point: so that nobody in between puts one of their own there."""
    return sign({"iss": party, "aud": hub, "sealing": sealing}, key, typ=SEALING_TYPE)


def vouched(token: str, member: Member, *, hub: str, now: float) -> Member:
    """The member with the point that its own key vouches for; ``Refused`` if it does not."""
    ring = KeyRing((PinnedKey(member.name, member.key.public),))
    said = verify(token, ring, typ=SEALING_TYPE, algorithms=OWN_ALGORITHMS, now=now).payload
    if (said.get("iss"), said.get("aud")) != (member.name, hub):
        raise Refused("this word about a sealing key is another party's.", codes=["token_invalid"], where=member.name)
    try:
        return Member.from_document({**member.to_document(), "sealing": said.get("sealing")}, where=member.name)
    except Invalid as error:
        raise Refused("a sealing key cannot be read.", codes=["token_invalid"], where=member.name) from error


class Announced:
    """Announcements that wait for the authority, as files of a hub's folder: one for each party."""

    def __init__(self, folder: Path, hub: str) -> None:
        self._folder, self._hub = folder / "rotations", hub

    def take(self, token: bytes, members: Members | MemberSource, *, now: float) -> Rotation:
        """Keep an announcement; the same again is fine. ``Refused`` where another one of this party waits."""
        for member in members.named("node") + members.named("releaser") + members.named("hub"):
            try:
                rotation = read_rotation(token, member, hub=self._hub, now=now)
            except Refused as refusal:
                if "issuer_untrusted" in refusal.codes:
                    continue  # signed by another one's key
                raise
            waiting = self.of(member, now=now)
            if waiting is not None and waiting.key != rotation.key:
                raise Refused(
                    "another key of this party waits for the authority.", codes=["replayed"], where=member.name,
                    remedy="The hub's operator asks who announced it, and drops it: federome hub admit --drop",
                )  # fmt: skip
            path = self._path(member.name)
            path.parent.mkdir(exist_ok=True)
            replace_file(path, token)
            return rotation
        raise Refused("no present key of a member signed this announcement.", codes=["issuer_untrusted"])

    def of(self, member: Member, *, now: float) -> Rotation | None:
        """What waits for this member; ``None`` where that is nothing, or was followed before."""
        path = self._path(member.name)
        if not path.is_file():
            return None
        try:
            return read_rotation(path.read_bytes().strip(), member, hub=self._hub, now=now)
        except Refused as refusal:
            if "issuer_untrusted" in refusal.codes:
                return None  # of a key before the present one
            raise

    def drop(self, name: str) -> None:
        """Forget what waits for a party."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.jwt"


class OwnKeys:
    """A party's key files (``node.jwk``, ``node-2.jwk``, …). Implements ``trust.keys.Signer``.

    The present one is the one that the member list names; until there is a list that names one, the first.
    """

    def __init__(self, folder: Path, stem: str, *, party: str, clock: Callable[[], float]) -> None:
        self._folder, self._stem, self._party, self._clock = folder, stem, party, clock
        self._members: MemberSource | None = None
        self._stamp, self._looked = -1, -LOOK_S
        self._held: tuple[PrivateKey, ...] = ()

    def follow(self, members: MemberSource) -> None:
        """From now on this list says which key is the present one."""
        self._members = members

    @property
    def current(self) -> PrivateKey:
        """See ``Signer``; where a newer key is not listed yet, looks now and then whether it is."""
        held, listed = self._read(), self._listed()
        if held[-1].kid not in listed and self._members is not None and self._clock() >= self._looked + LOOK_S:
            self._looked = self._clock()
            with suppress(FederomeError):  # the list that is held does until there is another
                self._members.refresh()
            listed = self._listed()
        return next((key for kid in listed for key in held if key.kid == kid), held[0])

    @property
    def valid(self) -> tuple[PrivateKey, ...]:
        """See ``Signer``."""
        held = {key.kid: key for key in self._read()}
        return tuple(held[kid] for kid in self._listed() if kid in held) or (self.current,)

    def all(self) -> tuple[PrivateKey, ...]:
        """Every key that is here, the newest first; none where there are no files."""
        return self._read()[::-1] if any(_matches(self._folder, self._stem)) else ()

    def named(self, kid: str) -> PrivateKey:
        """See ``Signer``."""
        for key in self._read():
            if key.kid == kid:
                return key
        raise Refused("this party does not hold that key.", codes=["issuer_untrusted"], where=self._party)

    def _listed(self) -> tuple[str, ...]:
        """Ids of this party's keys that count now, the newest first; none before it is a member."""
        if self._members is None:
            return ()
        return tuple(key.kid for key in self._members.ring().owned_by(self._party, now=self._clock()))

    def _read(self) -> tuple[PrivateKey, ...]:
        """All of them, the oldest first; read again when the folder has changed."""
        stamp = self._folder.stat().st_mtime_ns
        if stamp != self._stamp:
            paths = key_files(self._folder, self._stem)
            self._held, self._stamp = tuple(load_private_key(path) for path in paths), stamp
        return self._held


def key_files(folder: Path, stem: str) -> list[Path]:
    """The files of one party's keys, the oldest first. ``Invalid`` if there is none."""
    numbered = {int(match[1] or 1): path for path, match in _matches(folder, stem)}
    if not numbered:
        raise Invalid("there is no key here.", where=str(folder / f"{stem}.jwk"), remedy="Set the folder up first.")
    return [numbered[number] for number in sorted(numbered)]


def _matches(folder: Path, stem: str) -> Iterator[tuple[Path, re.Match[str]]]:
    form = re.compile(rf"{re.escape(stem)}(?:-([2-9]|[1-9][0-9]+))?\.jwk")
    for path in folder.glob(f"{stem}*.jwk"):
        if match := form.fullmatch(path.name):
            yield path, match


@dataclass(frozen=True)
class NextKeys:
    """The key that the list names, the one to follow it, and a sealing key to go with that."""

    present: PrivateKey
    key: PrivateKey
    sealing: PrivateKey | None


def next_keys(folder: Path, stem: str, member: Member, *, sealing: str = "") -> NextKeys:
    """The key that is to follow the listed one, and a sealing key, if ``sealing`` names its files.

    Made once: what was made before a process died, or before the authority listed it, is found and given again.
    """
    held = [load_private_key(path) for path in key_files(folder, stem)]
    kids = [key.kid for key in held]
    if member.key.public.kid not in kids:
        raise Refused("the list names a key that is not in this folder.", codes=["issuer_untrusted"], where=stem)
    number = kids.index(member.key.public.kid) + 2
    box = _made(folder / f"{sealing}-{number}.jwk", "ECDH-ES+A256KW") if sealing else None
    return NextKeys(held[number - 2], _made(folder / f"{stem}-{number}.jwk", "Ed25519"), box)


def _made(path: Path, algorithm: OwnAlgorithm) -> PrivateKey:
    if not path.is_file():
        save_private_key(generate(algorithm), path)
    return load_private_key(path)
