"""Clients that show themselves with a TLS certificate of their own (RFC 8705): read, and a token bound to it.

A client's self-signed certificate is registered as it is; no authority stands behind it. A token that was issued over a
connection with it works over connections with it and over no other.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.jwk import ECKey

from federome.errors import Invalid, Refused
from federome.trust.canonical import Json
from federome.trust.keys import PrivateKey
from federome.trust.signing import sign

CONFIRMED: Final = "x5t#S256"


@dataclass(frozen=True)
class ClientCertificate:
    """A certificate: its bytes, the digest that tokens are bound to, and the RFC 7638 name of its key."""

    der: bytes
    digest: str
    thumbprint: str

    @classmethod
    def from_pem(cls, pem: str, *, where: str = "") -> ClientCertificate:
        """Read one certificate with a P-256 key; ``Invalid`` for anything else."""
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            key = certificate.public_key()
        except ValueError as error:
            raise Invalid("this is no certificate.", where=where, remedy="Give one in PEM form.") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Invalid("a client's certificate has a P-256 key.", where=where)
        der = certificate.public_bytes(Encoding.DER)
        return cls(der, certificate_digest(der), ECKey.import_key(key).thumbprint())


def certificate_digest(der: bytes) -> str:
    """What ties a token to a certificate: SHA-256 of its DER form, base64url (RFC 8705 section 3.1)."""
    return urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def issue_bound(client: str, digest: str, key: PrivateKey, *, hub: str, now: float, until: float, jti: str) -> str:
    """The hub's access token for a client, bound to its certificate (``cnf``)."""
    claims: dict[str, Json] = {"iss": hub, "aud": hub, "sub": client, "idp": hub, "jti": jti}
    return sign({**claims, "iat": int(now), "exp": int(until), "cnf": {CONFIRMED: digest}}, key, typ="at+jwt")


def check_bound(said: Mapping[str, Json], digest: str) -> None:
    """``Refused`` unless a token's claims bind it to the certificate with this digest, and to nothing else."""
    if said.get("cnf") != {CONFIRMED: digest}:
        raise Refused("the token was issued for another connection.", codes=["token_invalid"])
