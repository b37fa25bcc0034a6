"""What a person signs with their own ES256 key: run orders, and the short-lived token that shows a hub who asks.

The client makes both. The hub learns a key's thumbprint and keeps runs apart by it; whether that key may ask anything
is the nodes' decision, who check every order for themselves (``governance/orders.py``).
"""

from __future__ import annotations

from typing import Final

from federome.errors import Invalid, Refused
from federome.model.order import ORDER_TYPE, RunOrder
from federome.trust.canonical import Json, JsonValue
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, PublicKey
from federome.trust.signing import PERSON_ALGORITHMS, check_claims, peek, sign, verify

PERSON_TYPE: Final = "federome-person+jwt"
VOTE_TYPE: Final = "federome-output-vote+jws"
LIFE_S: Final = 300


def sign_order(order: RunOrder, key: PrivateKey) -> str:
    """The signed order (compact JWS, ES256). Raises ``Invalid`` for any other kind of key."""
    if key.algorithm != "ES256":
        raise Invalid("a run order is signed with a person's ES256 key.", where="signing key")
    return sign(order.to_claims(), key, typ=ORDER_TYPE)


def person_token(key: PrivateKey, *, hub: str, now: float) -> str:
    """A token for one hub, valid five minutes."""
    claims: dict[str, JsonValue] = {"aud": hub, "iat": int(now), "exp": int(now) + LIFE_S, "jwk": key.public.jwk()}
    return sign(claims, key, typ=PERSON_TYPE)


def sign_vote(run: str, files: str, act: str, reasons: str, key: PrivateKey) -> str:
    """An output checker's vote on the files with this digest: approve, reject or comment."""
    return sign({"run": run, "files": files, "act": act, "reasons": reasons}, key, typ=VOTE_TYPE)


def check_person(token: str, *, hub: str, now: float) -> str:
    """The thumbprint of the key that signed the token; ``Refused`` if it does not stand up, whatever it holds."""
    key = _claimed_key(peek(token).payload.get("jwk"))
    ring = KeyRing((PinnedKey("person", key),))
    payload = verify(token, ring, typ=PERSON_TYPE, algorithms=PERSON_ALGORITHMS, now=now).payload
    check_claims(payload, now=now, audience=hub, require=("aud", "iat", "exp"))
    issued, expires = payload["iat"], payload["exp"]
    assert isinstance(issued, int | float)
    assert isinstance(expires, int | float)
    if expires - issued > LIFE_S:
        raise Refused("the token lives too long.", codes=["token_invalid"], remedy=f"At most {LIFE_S} seconds.")
    return key.thumbprint


def _claimed_key(jwk: Json) -> PublicKey:
    try:
        key = PublicKey.from_jwk(jwk) if isinstance(jwk, dict) else None
    except Invalid as error:
        raise Refused("the token's key cannot be read.", codes=["token_invalid"]) from error
    if key is None or key.kid != key.thumbprint:
        raise Refused("a person's key is named by its thumbprint.", codes=["token_invalid"])
    return key
