"""Proofs that whoever uses a token holds the key it was issued for (DPoP, RFC 9449): a stolen token is of no use.

The client signs one proof for each request. The server checks method and address (the configured public address, never
what a ``Host`` header says), the time, that the proof was not seen before, and which token it goes with.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Collection
from typing import Final, Protocol
from urllib.parse import urlsplit

from federome.errors import Refused
from federome.trust.canonical import Json, JsonValue
from federome.trust.keys import PrivateKey, SigningAlgorithm
from federome.trust.signing import sign_embedded, verify_embedded

DPOP_TYPE: Final = "dpop+jwt"
ALGORITHMS: Final[tuple[SigningAlgorithm, ...]] = ("ES256", "Ed25519")
FRESH_S: Final = 60.0
MAX_PROOF_BYTES: Final = 8192
_MAX_TEXT: Final = 512


class Once(Protocol):
    """What remembers the ids of tokens that may be used once; it must be durable and atomic."""

    def remember(self, jti: str, until: float) -> bool:
        """True the first time this id is told, False ever after until ``until`` has passed."""
        ...


class NonceNeeded(Refused):
    """The proof lacks the server's nonce, or has an old one: the caller makes it again with the one that is told."""


def token_hash(token: str) -> str:
    """What ties a proof to its token (``ath``): SHA-256, base64url."""
    return urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def make_proof(
    key: PrivateKey, method: str, url: str, *, now: float, jti: str, token: str = "", nonce: str = ""
) -> str:
    """The proof for one request. ``jti`` is a fresh random text."""
    claims: dict[str, JsonValue] = {"htm": method, "htu": address(url), "iat": int(now), "jti": jti}
    if token:
        claims["ath"] = token_hash(token)
    if nonce:
        claims["nonce"] = nonce
    return sign_embedded(claims, key, typ=DPOP_TYPE)


def check_proof(
    proof: str,
    *,
    method: str,
    url: str,
    now: float,
    once: Once,
    token: str = "",
    nonces: Collection[str] = (),
) -> str:
    """The thumbprint of the key behind a proof for this very request.

    ``Refused``: ``token_invalid``, ``alg_not_allowed``, ``not_yet_valid`` and ``token_expired`` (a minute either way),
    ``audience_mismatch`` (another request or token), ``replayed``; ``NonceNeeded`` where ``nonces`` are given.
    """
    claims, key = verify_embedded(proof, typ=DPOP_TYPE, algorithms=ALGORITHMS, max_bytes=MAX_PROOF_BYTES)
    jti, issued = claims.get("jti"), claims.get("iat")
    if not isinstance(jti, str) or not 8 <= len(jti) <= _MAX_TEXT or type(issued) not in (int, float):
        raise Refused("the proof lacks its id or time.", codes=["token_invalid"])
    assert isinstance(issued, int | float)
    if issued > now + FRESH_S:
        raise Refused("the proof comes from the future.", codes=["not_yet_valid"], remedy="Set your clock.")
    if issued < now - FRESH_S:
        raise Refused("the proof is older than a minute.", codes=["token_expired"], remedy="Set your clock.")
    if claims.get("htm") != method or not _same(claims.get("htu"), url):
        raise Refused("the proof is for another request.", codes=["audience_mismatch"])
    if claims.get("ath") != (token_hash(token) if token else None):
        raise Refused("the proof goes with another token.", codes=["audience_mismatch"])
    if nonces and claims.get("nonce") not in nonces:
        raise NonceNeeded("the proof lacks the server's nonce.", codes=["token_invalid"])
    if not once.remember(f"dpop/{key.thumbprint}/{jti}", issued + 2 * FRESH_S):
        raise Refused("the proof was used before.", codes=["replayed"])
    return key.thumbprint


def address(url: str) -> str:
    """An address without query and fragment, scheme and host in small letters."""
    parts = urlsplit(url)
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path}"


def _same(claimed: Json, url: str) -> bool:
    if not isinstance(claimed, str) or len(claimed) > 2 * _MAX_TEXT:
        return False
    try:
        return address(claimed) == address(url)
    except ValueError:
        return False
