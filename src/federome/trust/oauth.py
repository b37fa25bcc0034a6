"""The signed pieces of OAuth 2 and OpenID Connect: code challenges, client assertions, ID tokens, bound access tokens.

Pure: no request is made and nothing is remembered here. The hub (``network/login.py``), the command line
(``client/login.py``) and the development provider (``demo/dev_idp.py``) speak through these same functions.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from federome.errors import Invalid, Refused
from federome.model.registry import Identity
from federome.trust.canonical import Json, JsonValue
from federome.trust.dpop import Once
from federome.trust.keys import KeyRing, PrivateKey, SigningAlgorithm
from federome.trust.signing import OWN_ALGORITHMS, check_claims, peek, sign, verify

FOREIGN_ALGORITHMS: Final[tuple[SigningAlgorithm, ...]] = ("ES256", "RS256")
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105
ACCESS_TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
PASSPORT_TOKEN_TYPE: Final = "urn:ga4gh:params:oauth:token-type:passport"  # noqa: S105
ASSERTION_LIFE_S: Final = 60.0
TOKEN_LIFE_S: Final = 3600.0
MAX_LOGIN_AGE_S: Final = 600.0
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Bearer:
    """Whom the hub issued an access token to: a person's identity at a provider, or a machine client, and their key."""

    subject: str
    issuer: str
    thumbprint: str
    until: float


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636 §4.2). ``Invalid`` if it is no verifier."""
    if not _VERIFIER.fullmatch(verifier):
        raise Invalid("a code verifier has 43 to 128 plain characters.", where="code_verifier")
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def is_challenge(text: str) -> bool:
    """Whether a text can be an S256 challenge."""
    return bool(_CHALLENGE.fullmatch(text))


def loopback_redirect(url: str) -> bool:
    """Whether codes may be sent there: a program on the person's own machine (RFC 8252 §7.3), by number, any port."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.username or parts.password or parts.fragment or parts.query)
    return parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1") and bool(port) and plain and len(url) < 256


def client_assertion(client: str, key: PrivateKey, *, audience: str, now: float, jti: str) -> str:
    """Who a client is, signed with its own key (``private_key_jwt``, RFC 7523): for one endpoint, once, one minute."""
    claims: dict[str, JsonValue] = {"iss": client, "sub": client, "aud": audience, "jti": jti}
    times: dict[str, JsonValue] = {"iat": int(now), "exp": int(now + ASSERTION_LIFE_S)}
    return sign(claims | times, key, typ="JWT")


def check_assertion(token: str, ring: KeyRing, *, audience: str, now: float, once: Once) -> str:
    """The client that an assertion proves. ``Refused`` otherwise; each assertion counts once."""
    verified = verify(token, ring, typ="JWT", algorithms=FOREIGN_ALGORITHMS, now=now)
    said = verified.payload
    check_claims(said, now=now, audience=audience, require=("iss", "sub", "aud", "jti", "iat", "exp"))
    jti, issued, expires = said["jti"], float(str(said["iat"])), float(str(said["exp"]))
    if said["iss"] != verified.owner or said["sub"] != verified.owner or not isinstance(jti, str):
        raise Refused("the assertion names another client.", codes=["token_invalid"])
    if expires - issued > 5 * ASSERTION_LIFE_S or len(jti) > 512:
        raise Refused("the assertion lives too long.", codes=["token_invalid"])
    if not once.remember(f"assertion/{verified.owner}/{jti}", expires):
        raise Refused("the assertion was used before.", codes=["replayed"])
    return verified.owner


def check_id_token(token: str, ring: KeyRing, *, issuer: str, client: str, nonce: str, now: float) -> Identity:
    """The person whom the provider says has just logged in here (OpenID Connect Core §3.1.3.7); ``Refused`` otherwise.

    ``ring`` holds the provider's own keys.
    """
    typ = str(peek(token).header.get("typ", ""))
    if typ not in ("JWT", ""):
        raise Refused("the provider's token is of another kind.", codes=["token_invalid"])
    said = verify(token, ring, typ=typ, algorithms=FOREIGN_ALGORITHMS, now=now).payload
    check_claims(said, now=now, audience=client, require=("iss", "sub", "aud", "iat", "exp"))
    subject = said.get("sub")
    if said["iss"] != issuer:
        raise Refused("another provider vouches for this login.", codes=["issuer_untrusted"])
    if said.get("nonce") != nonce or not nonce:
        raise Refused("the provider's token is for another login.", codes=["replayed"])
    if said.get("azp", client) != client:
        raise Refused("the provider's token is for another client.", codes=["audience_mismatch"])
    if float(str(said["iat"])) < now - MAX_LOGIN_AGE_S:
        raise Refused("the login is too long ago.", codes=["token_expired"])
    try:
        return Identity.from_document({"sub": subject, "iss": issuer}, where="id_token")
    except Invalid as error:
        raise Refused("the provider names nobody.", codes=["token_invalid"]) from error


def issue_token(bearer: Bearer, key: PrivateKey, *, hub: str, now: float, jti: str) -> str:
    """The hub's access token, bound to the bearer's key (``cnf.jkt``)."""
    claims: dict[str, JsonValue] = {
        "iss": hub,
        "aud": hub,
        "sub": bearer.subject,
        "idp": bearer.issuer,
        "jti": jti,
        "iat": int(now),
        "exp": int(bearer.until),
        "cnf": {"jkt": bearer.thumbprint},
    }
    return sign(claims, key, typ="at+jwt")


def check_token(token: str, ring: KeyRing, *, hub: str, now: float) -> Bearer:
    """Whom the hub issued a token to. Whoever shows it must also prove that they hold the key."""
    said = verify(token, ring, typ="at+jwt", algorithms=OWN_ALGORITHMS, now=now).payload
    check_claims(said, now=now, audience=hub, require=("iss", "aud", "sub", "iat", "exp"))
    match said:
        case {"sub": str() as sub, "idp": str() as idp, "cnf": {"jkt": str() as jkt}, "exp": int() | float() as until}:
            return Bearer(sub, idp, jkt, float(until))
    raise Refused("the token is not bound to a key.", codes=["token_invalid"])


def text_of(told: Mapping[str, Json], name: str) -> str:
    """A text that a token endpoint must have answered; ``Invalid`` names it."""
    value = told.get(name)
    if not isinstance(value, str) or not value:
        raise Invalid("the provider's answer lacks a text that it must have.", where=name)
    return value
