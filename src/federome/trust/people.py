"""What a person signs with their own ES256 key: run orders, and the short-lived token that shows a hub who asks.

The client makes both. The hub learns a key's thumbprint and keeps runs apart by it; whether that key may ask anything
is the nodes' decision, who check every order for themselves (``governance/orders.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from federome.errors import Invalid, Refused
from federome.model.order import ORDER_TYPE, RunOrder
from federome.trust.canonical import Json, JsonValue, canonical, parse_object
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, PublicKey
from federome.trust.signing import (
    MAX_SEALED_BYTES,
    PERSON_ALGORITHMS,
    check_claims,
    decrypt,
    encrypt,
    peek,
    peek_sealed,
    sign,
    verify,
)

PERSON_TYPE: Final = "federome-person+jwt"
PASSPORT_TYPE: Final = "federome-passport+jwe"
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


def seal_passport(shown: Json, to: PublicKey, *, run: str, node: str) -> str:
    """A passport (a broker's token or visas) that only one node can read, for one run: what the hub carries."""
    return encrypt(canonical({"run": run, "node": node, "passport": shown}), to, typ=PASSPORT_TYPE)


def unseal_passport(sealed: str, keys: Sequence[PrivateKey], *, run: str, node: str) -> Json:
    """What was shown to this node for this run; ``Refused`` if it was sealed to another key, node or run."""
    kid = peek_sealed(sealed).get("kid")
    key = next((one for one in keys if one.kid == kid), None)
    if key is None:
        raise Refused(
            "the passport is sealed to a key that this node does not hold.", codes=["token_invalid"],
            remedy="Ask again: the client reads the member list anew.",
        )  # fmt: skip
    try:
        said = parse_object(decrypt(sealed, key, typ=PASSPORT_TYPE), max_bytes=MAX_SEALED_BYTES)
    except Invalid as error:
        raise Refused("the sealed passport cannot be read.", codes=["token_invalid"]) from error
    if said.keys() != {"run", "node", "passport"} or (said["run"], said["node"]) != (run, node):
        raise Refused("the passport was sealed for another run.", codes=["replayed"])
    return said["passport"]


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
