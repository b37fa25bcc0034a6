"""What an authority says of the present: which permits it has suspended, and which member list is its newest.

A hub hands it out as it hands out the member list, and can neither alter it nor pass an old one off as new: versions
only rise, and every notice says when it was signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from federome.errors import Invalid, Refused
from federome.model.strict import Document, Identifier
from federome.trust.canonical import JsonValue
from federome.trust.keys import KeyRing, PrivateKey
from federome.trust.members import ALGORITHMS
from federome.trust.signing import check_claims, sign, verify

NOTICE_TYPE: Final = "federome-notice+jwt"


@dataclass(frozen=True)
class Notice(Document):
    """``version`` rises with every notice; ``members`` is the version of the newest member list."""

    version: int
    members: int
    suspended: tuple[Identifier, ...] = ()


def sign_notice(notice: Notice, key: PrivateKey, *, authority: str, now: float) -> str:
    """The signed notice (compact JWS, ES256)."""
    claims: dict[str, JsonValue] = {"iss": authority, "iat": int(now), "notice": notice.to_document()}
    return sign(claims, key, typ=NOTICE_TYPE)


def verify_notice(token: str, ring: KeyRing, *, now: float) -> tuple[Notice, float]:
    """The notice and when it was signed, if a pinned authority did; else ``Refused``."""
    verified = verify(token, ring, typ=NOTICE_TYPE, algorithms=ALGORITHMS, now=now)
    check_claims(verified.payload, now=now, require=("iss", "iat"))
    if verified.payload["iss"] != verified.owner:
        raise Refused("the notice is signed with the key of another authority.", codes=["issuer_untrusted"])
    try:
        return Notice.from_document(verified.payload.get("notice")), float(str(verified.payload["iat"]))
    except Invalid as error:
        raise Refused("the notice cannot be read.", codes=["token_invalid"]) from error
