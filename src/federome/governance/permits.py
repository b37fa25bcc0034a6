"""Permits, health data requests and care contracts as signed documents.

An authority signs with a key that every node pins for itself; a node verifies here and decides in ``decide.py``.
Dates are not judged here: an expired permit is a decision with its reason, not a broken document.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final, TypeAlias, TypeVar, get_args

from federome.errors import Invalid, Refused
from federome.model.permit import HealthcareContract, HealthDataRequest, Permit
from federome.trust.canonical import JsonValue
from federome.trust.keys import KeyRing, PrivateKey, SigningAlgorithm
from federome.trust.signing import check_claims, declared_type, peek, sign, verify

Grant: TypeAlias = Permit | HealthDataRequest | HealthcareContract
G = TypeVar("G", Permit, HealthDataRequest, HealthcareContract)

ALGORITHMS: Final[tuple[SigningAlgorithm, ...]] = ("ES256", "RS256")
PERMIT_TYPE: Final = "federome-permit+jwt"
REQUEST_TYPE: Final = "federome-request+jwt"
CONTRACT_TYPE: Final = "federome-contract+jwt"


def sign_permit(permit: Grant, key: PrivateKey, *, issued: datetime) -> str:
    """The signed form of a permit, health data request or healthcare contract (compact JWS).

    Raises ``Invalid`` for a key other than ES256 or RS256.
    """
    if key.algorithm not in ALGORITHMS:
        raise Invalid("a permit is signed with ES256 or RS256.", where="signing key")
    claims: dict[str, JsonValue] = {
        "iss": permit.authority,
        "jti": permit.id,
        "iat": int(issued.timestamp()),
        "grant": permit.to_document(),
    }
    return sign(claims, key, typ=_type_of(type(permit)))


def verify_permit(token: str, ring: KeyRing, now: datetime) -> Permit:
    """The permit that a pinned authority signed.

    Raises ``Refused``: ``token_invalid`` (malformed, forged, wrong type), ``alg_not_allowed``, ``issuer_untrusted``
    (no pinned key, or the key of another authority), ``not_yet_valid`` (signed in the future).
    """
    return _verify(token, ring, now, kind=Permit)


def verify_request(token: str, ring: KeyRing, now: datetime) -> HealthDataRequest:
    """The approved health data request that a pinned authority signed; refused as ``verify_permit`` refuses."""
    return _verify(token, ring, now, kind=HealthDataRequest)


def verify_contract(token: str, ring: KeyRing, now: datetime) -> HealthcareContract:
    """The healthcare-reuse contract that a pinned authority signed; refused as ``verify_permit`` refuses."""
    return _verify(token, ring, now, kind=HealthcareContract)


def verify_grant(token: str, ring: KeyRing, now: datetime) -> Grant:
    """Whichever of the three kinds the token declares itself to be."""
    match declared_type(token):
        case str(declared) if declared == REQUEST_TYPE:
            return verify_request(token, ring, now)
        case str(declared) if declared == CONTRACT_TYPE:
            return verify_contract(token, ring, now)
        case _:
            return verify_permit(token, ring, now)


def _type_of(kind: type[Grant]) -> str:
    if kind is Permit:
        return PERMIT_TYPE
    return REQUEST_TYPE if kind is HealthDataRequest else CONTRACT_TYPE


def _verify(token: str, ring: KeyRing, now: datetime, *, kind: type[G]) -> G:
    seconds = now.timestamp()
    verified = verify(token, ring, typ=_type_of(kind), algorithms=ALGORITHMS, now=seconds)
    check_claims(verified.payload, now=seconds, require=("iss", "jti", "iat"))
    if verified.payload["iss"] != verified.owner:
        raise Refused("a permit is signed with the key of another authority.", codes=["issuer_untrusted"])
    grant = _read(token, _type_of(kind))
    assert isinstance(grant, kind)
    if grant.authority != verified.owner or grant.id != verified.payload["jti"]:
        raise Refused("a signed permit and its envelope disagree about authority or id.", codes=["token_invalid"])
    return grant


@lru_cache(maxsize=256)
def _read(token: str, typ: str) -> Grant:
    """What a token says, which depends on nothing but its text: a run shows the same one at every step."""
    kind = next(kind for kind in get_args(Grant) if _type_of(kind) == typ)
    try:
        grant: Grant = kind.from_document(peek(token).payload.get("grant"))
    except Invalid as error:
        raise Refused(f"a signed permit cannot be read: {error}", codes=["token_invalid"]) from error
    return grant
