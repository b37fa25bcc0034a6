"""Signed and encrypted documents: compact JWS for what must be believed, JWE for what the hub must not read.

Every document that crosses a border is signed here and checked here. Whatever is wrong with a token, however odd,
the answer is ``Refused`` with a reason code of the access scenarios, and nothing else.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from binascii import a2b_base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NoReturn

import msgspec
from cryptography.exceptions import InvalidTag
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwe import JWERegistry
from joserfc.jws import JWSRegistry

from federome.errors import Invalid, Refused
from federome.trust.canonical import Json, JsonValue, canonical, parse_object
from federome.trust.keys import KeyRing, PrivateKey, PublicKey, SigningAlgorithm

MAX_TOKEN_BYTES = 1 << 18
MAX_SEALED_BYTES = 1 << 24
MAX_HEADER_BYTES = 2048
CLOCK_SKEW_S = 60.0

OWN_ALGORITHMS: tuple[SigningAlgorithm, ...] = ("Ed25519",)
PERSON_ALGORITHMS: tuple[SigningAlgorithm, ...] = ("ES256",)

_ECDH: Final = "ECDH-ES+A256KW"
_AES: Final = "A256GCM"
# Header members that switch a library to other rules, or bring their own key: none is ever needed here.
_DANGEROUS_HEADERS = frozenset({"b64", "crit", "jwk", "x5c", "x5u", "zip"})


@dataclass(frozen=True)
class Verified:
    """A payload whose signature was checked, whose key it was, and which key."""

    payload: dict[str, Json]
    owner: str
    kid: str


@dataclass(frozen=True)
class Unverified:
    """What a token claims before anything was checked: good for choosing a key ring, and for nothing else."""

    header: dict[str, Json]
    payload: dict[str, Json]
    parts: tuple[bytes, ...] = field(default=(), repr=False, compare=False)


def sign(document: Mapping[str, JsonValue], key: PrivateKey, *, typ: str) -> str:
    """The canonical bytes of ``document`` as a compact JWS (RFC 7515) with header ``alg``, ``kid`` and ``typ``.

    ``typ`` names the kind of document, so that one kind can never be shown as another. ``Invalid`` when the
    document is no JSON, is larger than a reader would accept, or the key is not one for signing.
    """
    signed = f"{_written_header(key.algorithm, key.kid, typ)}.{_encode(canonical(document))}"
    data = signed.encode("ascii")
    signature = sign_bytes(data, key)
    _remember(_case(data, signature, key.public))
    token = f"{signed}.{_encode(signature)}"
    if len(token) > MAX_TOKEN_BYTES:
        raise Invalid("the document is too large to be signed as a token", remedy="Sign its digest instead.")
    return token


def verify(
    token: str | bytes | Unverified,
    ring: KeyRing,
    *,
    typ: str,
    algorithms: Collection[SigningAlgorithm],
    now: float,
    max_bytes: int = MAX_TOKEN_BYTES,
) -> Verified:
    """Check a compact JWS against pinned keys and return what it says, with the key's owner.

    ``typ`` must match exactly (a missing one reads as ""); the algorithm must be in ``algorithms`` and be the
    one of the key that ``kid`` names; the key must be valid ``now`` (Unix seconds). Claims such as ``exp`` are
    not looked at: see ``check_claims``. What ``peek`` gave is not read a second time. Raises ``Refused`` with
    ``alg_not_allowed``, ``issuer_untrusted`` or ``token_invalid``, and nothing else whatever the token holds.
    """
    seen = token if isinstance(token, Unverified) else None
    parts = token.parts if isinstance(token, Unverified) else _split(token, 3, max_bytes)
    header_part, payload_part, signature_part = parts
    header = _header(header_part)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise Refused("the token's algorithm is not allowed here", codes=["alg_not_allowed"])
    if header.get("typ", "") != typ:
        _invalid("the token is of another kind than expected")
    kid = header.get("kid")
    if not isinstance(kid, str):
        _invalid("the token does not name its key")
    pinned = ring.find(kid, now=now)
    if pinned.key.algorithm != algorithm:
        raise Refused("the token's algorithm is not the one of its key", codes=["alg_not_allowed"])
    shown = (*parts, pinned.key.thumbprint)
    if (read := _READ.get(shown)) is not None:  # whose key it is, and whether it is valid now, was asked above
        return Verified(msgspec.msgpack.decode(read), pinned.owner, kid)
    if not signature_holds(header_part + b"." + payload_part, _decode(signature_part), pinned.key):
        _invalid("the signature does not hold")
    if seen:
        return Verified(seen.payload, pinned.owner, kid)
    payload = _object(_decode(payload_part), max_bytes=max_bytes)
    if len(payload_part) <= _MAX_READ_BYTES:
        if len(_READ) >= _MAX_READ:
            _READ.clear()
        _READ[shown] = msgspec.msgpack.encode(payload)
    return Verified(payload, pinned.owner, kid)


def sign_embedded(document: Mapping[str, JsonValue], key: PrivateKey, *, typ: str) -> str:
    """The same with the public key itself in the header, for whoever has never seen it (RFC 9449 §4.2)."""
    jwk = {name: value for name, value in key.public.jwk().items() if name != "kid"}
    header = canonical({"alg": key.algorithm, "jwk": jwk, "typ": typ})
    signed = f"{_encode(header)}.{_encode(canonical(document))}"
    return f"{signed}.{_encode(sign_bytes(signed.encode('ascii'), key))}"


def verify_embedded(
    token: str | bytes, *, typ: str, algorithms: Collection[SigningAlgorithm], max_bytes: int
) -> tuple[dict[str, Json], PublicKey]:
    """What a token says that brings its own key, and that key: it proves who holds the key, and nothing about them.

    ``Refused`` as ``verify`` does, whatever the token holds.
    """
    header_part, payload_part, signature_part = _split(token, 3, max_bytes)
    if len(header_part) > MAX_HEADER_BYTES:
        _invalid("the token's header is too large")
    header = _object(_decode(header_part), max_bytes=MAX_HEADER_BYTES)
    jwk, algorithm = header.get("jwk"), header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise Refused("the token's algorithm is not allowed here", codes=["alg_not_allowed"])
    if header.keys() != {"alg", "jwk", "typ"} or header["typ"] != typ or not isinstance(jwk, dict):
        _invalid("the token is of another kind than expected")
    try:
        key = PublicKey.from_jwk({name: value for name, value in jwk.items() if name != "kid"})
    except Invalid as error:
        raise Refused("the token's key cannot be read", codes=["token_invalid"]) from error
    if key.algorithm != algorithm:
        raise Refused("the token's algorithm is not the one of its key", codes=["alg_not_allowed"])
    if not signature_holds(header_part + b"." + payload_part, _decode(signature_part), key):
        _invalid("the signature does not hold")
    return _object(_decode(payload_part), max_bytes=max_bytes), key


def peek(token: str | bytes, *, max_bytes: int = MAX_TOKEN_BYTES) -> Unverified:
    """Header and payload of a token nobody has checked yet, to find out whose key ring to ask.

    ``Refused`` (``token_invalid``) when it is malformed.
    """
    header, payload, signature = _split(token, 3, max_bytes)
    parts = header, payload, signature
    return Unverified(_header(header), _object(_decode(payload), max_bytes=max_bytes), parts)


def declared_type(token: str | bytes, *, max_bytes: int = MAX_TOKEN_BYTES) -> Json:
    """The kind of document that a token claims to be, to choose its reader; ``Refused`` when it is malformed."""
    return _header(_split(token, 3, max_bytes)[0]).get("typ")


def sign_bytes(data: bytes, key: PrivateKey) -> bytes:
    """The bare signature of these bytes; ``Invalid`` when the key is not one for signing."""
    if key.algorithm == _ECDH:
        raise Invalid("this key cannot sign", remedy="Use an Ed25519 or ES256 key.")
    return _JWS.get_alg(key.algorithm).sign(data, key.material)


def signature_holds(data: bytes, signature: bytes, key: PublicKey) -> bool:
    """Whether ``signature`` is the one of these bytes by ``key``, under the key's own algorithm."""
    if key.algorithm == _ECDH:
        return False
    # A signature that held once holds for ever, and documents of a run are shown again at every step of it. Whether
    # the key is pinned and valid now, and what the document says, is for the caller to check anew each time.
    case = _case(data, signature, key)
    if case in _HELD:
        return True
    holds = _JWS.get_alg(key.algorithm).verify(data, signature, key.material)
    if holds:
        _remember(case)
    return holds


def check_claims(
    payload: Mapping[str, JsonValue],
    *,
    now: float,
    audience: str | None = None,
    require: Collection[str] = ("iat", "exp"),
) -> None:
    """Check the registered claims of RFC 7519 §4.1 and raise ``Refused`` with every code that applies.

    ``iat`` and ``nbf`` may be at most 60 s ahead (``not_yet_valid``), ``exp`` must lie ahead (``token_expired``).
    An ``aud`` that is present must name ``audience``; so must a required one (``audience_mismatch``). A required
    claim that is missing, or one of the wrong type, is ``token_invalid``.
    """
    codes: set[str] = set()
    if any(name not in payload for name in require):
        codes.add("token_invalid")
    times = {name: payload[name] for name in ("iat", "nbf", "exp") if name in payload}
    for name, value in times.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            codes.add("token_invalid")
        elif name == "exp" and now >= value:
            codes.add("token_expired")
        elif name != "exp" and value > now + CLOCK_SKEW_S:
            codes.add("not_yet_valid")
    if "aud" in payload:
        named = payload["aud"]
        audiences = [named] if isinstance(named, str) else named
        if not isinstance(audiences, list) or not all(isinstance(one, str) for one in audiences):
            codes.add("token_invalid")
        elif audience is None or audience not in audiences:
            codes.add("audience_mismatch")
    if codes:
        raise Refused("the token's claims do not hold here and now", codes=sorted(codes))


def encrypt(payload: bytes, to: PublicKey, *, typ: str) -> str:
    """Compact JWE (RFC 7516) that only the holder of ``to``'s private half can read.

    ECDH-ES with a fresh X25519 key, A256KW, A256GCM (RFC 7518 §4.6, RFC 8037). It hides, but does not say who wrote
    it: sign first, with the receiver in ``aud``, and encrypt the token. ``Invalid`` for a key of another kind
    and for more than ``MAX_SEALED_BYTES``.
    """
    if to.algorithm != _ECDH:
        raise Invalid("this key cannot receive encrypted documents", remedy="Use an X25519 key.")
    if len(payload) > MAX_SEALED_BYTES:
        raise Invalid(f"a sealed document holds at most {MAX_SEALED_BYTES} bytes", remedy="Send it in parts.")
    header = {"alg": _ECDH, "enc": _AES, "kid": to.kid, "typ": typ}
    try:
        return jwe.encrypt_compact(header, payload, to.material, registry=_JWE)
    except (JoseError, ValueError) as error:
        raise Invalid("the receiver's key cannot be used", where=to.kid) from error


def peek_sealed(token: str | bytes) -> dict[str, Json]:
    """The header of a document that ``encrypt`` sealed, to find out for which of our keys it is."""
    return _header(_split(token, 5, _MAX_JWE_BYTES)[0])


def decrypt(token: str | bytes, key: PrivateKey, *, typ: str) -> bytes:
    """The bytes that ``encrypt`` sealed for us; ``Refused`` (``token_invalid``, ``alg_not_allowed``) otherwise."""
    parts = _split(token, 5, _MAX_JWE_BYTES)
    header = _header(parts[0])
    if header.get("alg") != _ECDH or header.get("enc") != _AES:
        raise Refused("the document is encrypted with an algorithm not allowed here", codes=["alg_not_allowed"])
    if header.get("typ", "") != typ or header.get("kid") != key.kid:
        _invalid("the document is of another kind, or sealed for another key")
    _check_ephemeral_key(header)
    try:
        plaintext = jwe.decrypt_compact(b".".join(parts), key.material, registry=_JWE).plaintext
    except (JoseError, InvalidTag, ValueError, TypeError, KeyError) as error:
        raise Refused("the sealed document cannot be opened", codes=["token_invalid"]) from error
    return plaintext or b""


class _Registry(JWERegistry):
    max_protected_header_length = MAX_HEADER_BYTES
    max_ciphertext_length = 4 * (MAX_SEALED_BYTES // 3 + 1)


_JWE = _Registry(algorithms=[_ECDH, _AES])
_MAX_JWE_BYTES = _Registry.max_ciphertext_length + 2 * MAX_HEADER_BYTES
_JWS = JWSRegistry(algorithms=["Ed25519", "ES256", "RS256"])
_Case = tuple[bytes, bytes, str, str]
_MAX_HELD = 4096
_HELD: set[_Case] = set()
_MAX_READ = 1024
_MAX_READ_BYTES: Final = 1 << 14
# What tokens said whose signature held, by their parts and the key: the same bytes always say the same, and to read
# what a stranger sent takes long. Packed, so that everybody who asks gets a copy of their own.
_READ: dict[tuple[bytes | str, ...], bytes] = {}


def _case(data: bytes, signature: bytes, key: PublicKey) -> _Case:
    return hashlib.sha256(data).digest(), signature, key.algorithm, key.thumbprint


def forget_verified() -> None:
    """Let every signature be verified anew: for measurements."""
    _HELD.clear()
    _READ.clear()


def _remember(case: _Case) -> None:
    if len(_HELD) >= _MAX_HELD:
        _HELD.clear()
    _HELD.add(case)


def _check_ephemeral_key(header: Mapping[str, Json]) -> None:
    """Only the header that ``encrypt`` writes: the sender's one-use X25519 point and no further parameter."""
    point = header.get("epk")
    if header.keys() != {"alg", "enc", "kid", "typ", "epk"} or not isinstance(point, dict):
        _invalid("the sealed document has another header than expected")
    if point.keys() != {"kty", "crv", "x"} or (point["kty"], point["crv"]) != ("OKP", "X25519"):
        _invalid("the sealed document has no proper one-use key")
    if not isinstance(point["x"], str) or len(_decode(point["x"].encode())) != 32:
        _invalid("the sealed document has no proper one-use key")


def _split(token: str | bytes, parts: int, max_bytes: int) -> list[bytes]:
    if len(token) > max_bytes:
        _invalid(f"the token is larger than {max_bytes} bytes")
    try:
        data = token.encode("ascii") if isinstance(token, str) else token
    except UnicodeEncodeError:
        _invalid("the token holds foreign characters")
    pieces = data.split(b".", parts)
    if len(pieces) != parts:
        _invalid(f"the token does not have {parts} parts")
    return pieces


def _header(part: bytes) -> dict[str, Json]:
    if len(part) > MAX_HEADER_BYTES:
        _invalid("the token's header is too large")
    return dict(_read_header(part))


@lru_cache(maxsize=256)
def _read_header(part: bytes) -> Mapping[str, Json]:
    """The tokens of one issuer share their header to the byte."""
    header = _object(_decode(part), max_bytes=MAX_HEADER_BYTES)
    if not _DANGEROUS_HEADERS.isdisjoint(header):
        _invalid("the token's header asks for an extension that is not accepted")
    return header


@lru_cache(maxsize=256)
def _written_header(algorithm: str, kid: str, typ: str) -> str:
    return _encode(canonical({"alg": algorithm, "kid": kid, "typ": typ}))


def _object(data: bytes, *, max_bytes: int) -> dict[str, Json]:
    try:
        return parse_object(data, max_bytes=max_bytes)
    except Invalid as error:
        raise Refused(f"the token cannot be read: {error.message}", codes=["token_invalid"]) from error


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(part: bytes) -> bytes:
    """Strict base64url without padding: one spelling for one byte string (RFC 7515 §2, RFC 4648 §3.5)."""
    spare = len(part) % 4
    try:
        data = a2b_base64(part.translate(_URL_SAFE) + b"=" * (-len(part) % 4), strict_mode=True)
    except ValueError:
        _invalid("a part of the token is not base64url")
    # The last character may hold bits that belong to nothing: they are zero in the one right spelling.
    if spare and _encode(data[-(spare - 1) :]) != part[-spare:].decode("latin-1"):
        _invalid("a part of the token is not base64url")
    return data


# "-_" stand for "+/", and whatever base64 alone would take stands for nothing.
_URL_SAFE: Final = bytes.maketrans(b"-_+/=", b"+/!!!")


def _invalid(message: str) -> NoReturn:
    raise Refused(message, codes=["token_invalid"])
