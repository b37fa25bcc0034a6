"""Keys of people, nodes, hub and releaser: made, kept in files that only their owner can read, and pinned.

Nodes, hub and releaser sign with Ed25519, persons with ES256; foreign token issuers may use RS256. X25519 keys
receive encrypted documents. A key is named by its RFC 7638 thumbprint; a ``KeyRing`` says whose key it is and when.
"""

from __future__ import annotations

import os
import stat
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, isnan
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from federome.errors import Invalid, Refused, Unavailable
from federome.trust.canonical import Json, JsonValue, canonical, parse_object

# RFC 9864 names: "Ed25519" says which curve, where the older "EdDSA" leaves it open.
SigningAlgorithm: TypeAlias = Literal["Ed25519", "ES256", "RS256"]
AgreementAlgorithm: TypeAlias = Literal["ECDH-ES+A256KW"]
KeyAlgorithm: TypeAlias = SigningAlgorithm | AgreementAlgorithm
OwnAlgorithm: TypeAlias = Literal["Ed25519", "ES256", "ECDH-ES+A256KW"]

Material: TypeAlias = OKPKey | ECKey | RSAKey

MAX_JWKS_KEYS = 100
MAX_KEY_FILE_BYTES = 16_384
_MAX_FIELD = 2048  # characters of one JWK field; an RSA modulus of 8192 bits takes 1366
_MAX_EXPONENT = 8  # characters of an RSA exponent: a long one makes every verification slow
_FIELDS = {"OKP": ("crv", "x"), "EC": ("crv", "x", "y"), "RSA": ("n", "e")}
_TYPES: dict[str, type[OKPKey] | type[ECKey] | type[RSAKey]] = {"OKP": OKPKey, "EC": ECKey, "RSA": RSAKey}
_CURVES: dict[str, KeyAlgorithm] = {"Ed25519": "Ed25519", "X25519": "ECDH-ES+A256KW", "P-256": "ES256"}
_RSA_BITS = range(2048, 8193)
_KEY_ERRORS = (JoseError, ValueError, TypeError, KeyError, UnsupportedAlgorithm)


@dataclass(frozen=True)
class PublicKey:
    """A public key, the one algorithm it may be used with, and its name.

    ``kid`` is the RFC 7638 thumbprint, except for keys of foreign issuers that declare a name of their own.
    """

    kid: str
    algorithm: KeyAlgorithm
    material: Material = field(repr=False, compare=False)

    @classmethod
    def from_jwk(cls, document: Mapping[str, JsonValue]) -> PublicKey:
        """Read a public JWK (RFC 7517). ``Invalid`` for other key types, weak RSA keys and private keys."""
        if "d" in document or "k" in document:
            raise Invalid("a secret key stands where a public key is expected", remedy="Replace that key pair.")
        declared = document.get("kid")
        if declared is not None and not (isinstance(declared, str) and 0 < len(declared) <= 256):
            raise Invalid("the key name (kid) is not a short text")
        key = _public(_import(document))
        return key if declared is None else cls(declared, key.algorithm, key.material)

    @cached_property
    def thumbprint(self) -> str:
        """RFC 7638 SHA-256 thumbprint, base64url."""
        return self.material.thumbprint()

    def jwk(self) -> dict[str, Json]:
        """The public JWK with its ``kid``."""
        return {**{k: str(v) for k, v in self.material.as_dict(private=False).items()}, "kid": self.kid}


@dataclass(frozen=True)
class PrivateKey:
    """A key pair of ours. It never prints its secret part."""

    public: PublicKey
    material: Material = field(repr=False, compare=False)

    @property
    def kid(self) -> str:
        return self.public.kid

    @property
    def algorithm(self) -> KeyAlgorithm:
        return self.public.algorithm

    def secret_jwk(self) -> dict[str, Json]:
        """The private JWK. Secret: for key files only."""
        return {**{k: str(v) for k, v in self.material.as_dict(private=True).items()}, "kid": self.kid}

    # An identity that never changes its key: see Signer.

    @property
    def current(self) -> PrivateKey:
        """See :class:`Signer`."""
        return self

    @property
    def valid(self) -> tuple[PrivateKey, ...]:
        """See :class:`Signer`."""
        return (self,)

    def named(self, kid: str) -> PrivateKey:
        """See :class:`Signer`."""
        if kid != self.kid:
            raise Refused("this party does not hold that key.", codes=["issuer_untrusted"])
        return self


class Signer(Protocol):
    """The keys that a party signs with: a single :class:`PrivateKey`, or several that follow one another."""

    @property
    def current(self) -> PrivateKey:
        """The one that signs what begins now."""

    @property
    def valid(self) -> tuple[PrivateKey, ...]:
        """All whose word counts now, the newest first."""

    def named(self, kid: str) -> PrivateKey:
        """The one of this id, for what began under it; ``Refused`` if it is not ours."""


def generate(algorithm: OwnAlgorithm) -> PrivateKey:
    """A fresh key pair from the operating system's entropy."""
    match algorithm:
        case "Ed25519":
            return _pair(OKPKey.generate_key("Ed25519"))
        case "ES256":
            return _pair(ECKey.generate_key("P-256"))
        case "ECDH-ES+A256KW":
            return _pair(OKPKey.generate_key("X25519"))


def private_key_from_jwk(document: Mapping[str, JsonValue]) -> PrivateKey:
    """Read a private JWK; ``Invalid`` when it is public only or its halves do not belong together."""
    material = _import(document)
    if not material.is_private:
        raise Invalid("the key has no private part")
    pair = _pair(material)
    if any(document[name] != pair.public.jwk()[name] for name in _FIELDS[pair.material.key_type]):
        raise Invalid("the private and the public half of the key do not belong together")
    return pair


def save_private_key(key: PrivateKey, path: Path) -> None:
    """Write the private JWK to a new file that only its owner can read (0600), durably.

    ``Invalid`` when the file exists: a key is never overwritten, it is replaced by a newer one beside it.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")  # whoever is killed while writing leaves no half a key
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(canonical(key.secret_jwk()) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
    except FileExistsError as error:
        raise Invalid(
            "a key file is already there", where=str(path), remedy="Choose another name; keys are never replaced."
        ) from error
    finally:
        fresh.unlink()


def load_private_key(path: Path) -> PrivateKey:
    """Read a private key from a JWK or an unencrypted PEM file.

    ``Unavailable`` when the file cannot be read; ``Invalid`` when anyone but its owner may read or write it, or it
    holds no key of a supported kind. The check is made on the open file, so it cannot be swapped in between.
    """
    data = read_secret(path)
    try:
        if data.lstrip().startswith(b"{"):
            return private_key_from_jwk(parse_object(data))
        return _pair(_import_pem(data))
    except Invalid as error:
        raise Invalid(error.message, where=str(path), remedy=error.remedy) from error


@dataclass(frozen=True)
class PinnedKey:
    """A public key we trust as ``owner``'s from ``valid_from`` until before ``valid_until`` (Unix seconds)."""

    owner: str
    key: PublicKey
    valid_from: float = 0.0
    valid_until: float = inf

    def __post_init__(self) -> None:
        if not self.owner:
            raise Invalid("a pinned key has no owner")
        if isnan(self.valid_from) or isnan(self.valid_until) or self.valid_from >= self.valid_until:
            raise Invalid("a pinned key is never valid", where=self.owner, remedy="Check its two dates.")


@dataclass(frozen=True)
class KeyRing:
    """The pinned public keys of one trust decision, by key id.

    Rotation: an owner may hold several keys whose periods overlap, so a new key is pinned before the old one ends.
    ``Invalid`` when two entries share a key id.
    """

    keys: tuple[PinnedKey, ...]
    _by_kid: Mapping[str, PinnedKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_kid = {pinned.key.kid: pinned for pinned in self.keys}
        if len(by_kid) != len(self.keys):
            raise Invalid("two keys of one ring share a key id", remedy="Name each key once.")
        object.__setattr__(self, "_by_kid", by_kid)

    @classmethod
    def from_jwks(cls, document: Mapping[str, JsonValue], *, owner: str) -> KeyRing:
        """The signing keys of a JWK set (RFC 7517 §5), all owned by ``owner``.

        Keys that we cannot use are left out, as the RFC asks; a set of more than ``MAX_JWKS_KEYS`` keys, one that
        repeats a key id, or one that is no set at all, is ``Invalid``.
        """
        listed = document.get("keys")
        if not isinstance(listed, list) or len(listed) > MAX_JWKS_KEYS:
            raise Invalid(f"this is not a JWK set of at most {MAX_JWKS_KEYS} keys", where=owner)
        keys = []
        for entry in listed:
            if not isinstance(entry, Mapping):
                raise Invalid("a key of the JWK set is not an object", where=owner)
            try:
                key = PublicKey.from_jwk(entry)
            except Invalid:
                continue
            if entry.get("use", "sig") == "sig" and key.algorithm != "ECDH-ES+A256KW":
                keys.append(PinnedKey(owner, key))
        return cls(tuple(keys))

    @classmethod
    def from_document(cls, document: Mapping[str, JsonValue]) -> KeyRing:
        """Read what ``to_document`` wrote, from a file of pinned keys; ``Invalid`` names the first fault."""
        listed = document.get("pinned")
        if not isinstance(listed, list) or document.keys() != {"pinned"}:
            raise Invalid("this is not a file of pinned keys", remedy='Write {"pinned": [...]}.')
        return cls(tuple(_read_pinned(entry, f"pinned[{number}]") for number, entry in enumerate(listed)))

    def to_document(self) -> dict[str, Json]:
        """The ring as JSON: owner, public JWK, and the dates in Unix seconds (null when open)."""
        return {
            "pinned": [
                {
                    "owner": pinned.owner,
                    "key": pinned.key.jwk(),
                    "valid_from": pinned.valid_from,
                    "valid_until": None if pinned.valid_until == inf else pinned.valid_until,
                }
                for pinned in self.keys
            ]
        }

    def find(self, kid: str, *, now: float) -> PinnedKey:
        """The key of this id; ``Refused`` (``issuer_untrusted``) when unknown or outside its period."""
        pinned = self._by_kid.get(kid)
        if pinned is None:
            raise Refused("the signing key is not known here", codes=["issuer_untrusted"])
        if not pinned.valid_from <= now < pinned.valid_until:
            raise Refused(
                "the signing key is outside its period of validity", codes=["issuer_untrusted"], where=pinned.owner
            )
        return pinned

    def owned_by(self, owner: str, *, now: float) -> tuple[PublicKey, ...]:
        """The owner's keys that are valid now."""
        return tuple(
            pinned.key
            for pinned in self.keys
            if pinned.owner == owner and pinned.valid_from <= now < pinned.valid_until
        )


def _read_pinned(entry: JsonValue, where: str) -> PinnedKey:
    match entry:
        case {
            "owner": str() as owner,
            "key": dict() as key,
            "valid_from": int() | float() as valid_from,
            "valid_until": int() | float() | None as valid_until,
        }:
            try:
                until = inf if valid_until is None else valid_until
                return PinnedKey(owner, PublicKey.from_jwk(key), valid_from, until)
            except Invalid as error:
                raise Invalid(error.message, where=where, remedy=error.remedy) from error
    raise Invalid("a pinned key needs owner, key, valid_from and valid_until", where=where)


def _import(document: Mapping[str, JsonValue]) -> Material:
    kty = document.get("kty")
    if not isinstance(kty, str) or kty not in _FIELDS:
        raise Invalid("the key type is not OKP, EC or RSA")
    fields = {"kty": kty}
    for name in (*_FIELDS[kty], "d"):
        value = document.get(name)
        if value is None and name == "d":
            continue
        if not isinstance(value, str) or len(value) > (_MAX_EXPONENT if name == "e" else _MAX_FIELD):
            raise Invalid(f"the key has no proper field {name!r}")
        fields[name] = value
    try:
        if kty == "RSA" and int.from_bytes(urlsafe_b64decode(fields["n"] + "==")).bit_length() not in _RSA_BITS:
            raise Invalid("the RSA key's size is not accepted", remedy="Use one of 2048 bits or more.")
        return _TYPES[kty].import_key(dict(fields))
    except _KEY_ERRORS as error:
        raise Invalid("the key cannot be read") from error


def _import_pem(data: bytes) -> Material:
    for kind in (OKPKey, ECKey):
        try:
            material: Material = kind.import_key(data)
            if material.is_private:
                return material
        except _KEY_ERRORS:
            continue
    raise Invalid("the file holds no unencrypted Ed25519, X25519 or P-256 private key in JWK or PEM form")


def _public(material: Material) -> PublicKey:
    """The bare public half: rebuilt from the curve point, so that one key has one spelling and one thumbprint."""
    public: Material
    match material:
        case OKPKey():
            public = OKPKey.import_key(material.public_key)
            algorithm = _CURVES.get(material.curve_name)
        case ECKey():
            public = ECKey.import_key(material.public_key)
            algorithm = _CURVES.get(material.curve_name)
        case RSAKey():
            public = RSAKey.import_key(material.public_key)
            algorithm = "RS256"
    if algorithm is None:
        raise Invalid("the key's curve is not accepted", remedy="Use Ed25519, X25519 or P-256.")
    return PublicKey(public.thumbprint(), algorithm, public)


def _pair(material: Material) -> PrivateKey:
    return PrivateKey(_public(material), material)


def read_secret(path: Path, *, most: int = MAX_KEY_FILE_BYTES) -> bytes:
    """The bytes of a secret's file. ``Invalid`` where others than its owner may touch it, ``Unavailable`` if absent."""
    try:
        # Non-blocking, so that a pipe in the key's place is refused instead of waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Invalid("a key is read from an ordinary file only", where=str(path))
            if status.st_mode & 0o077:
                raise Invalid(
                    "others than its owner may read this secret",
                    where=str(path),
                    remedy=f"Run: chmod 600 {path}",
                )
            data = file.read(most + 1)
    except OSError as error:
        raise Unavailable(
            f"the key file cannot be read ({error.strerror})", where=str(path), remedy="Check path and permissions."
        ) from error
    if len(data) > most:
        raise Invalid("the file is too large to be a key", where=str(path))
    return data
