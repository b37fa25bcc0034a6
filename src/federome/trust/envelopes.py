"""DSSE envelopes with in-toto statements: documents that several people sign and any supply-chain tool can read.

Reviews, submissions, trust roots and revocation lists travel in them (``approval.py``). The envelope is that of
securesystemslib; the statement is in-toto's version 1. Everything read here comes from strangers.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Final, NoReturn

from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # public, not in __all__

from federome.errors import Invalid, Refused
from federome.trust.canonical import Json, JsonValue, canonical, parse_object
from federome.trust.keys import PrivateKey, PublicKey

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
STATEMENT_PAYLOAD: Final = "application/vnd.in-toto+json"
MAX_ENVELOPE_BYTES: Final = 1 << 20
MAX_SIGNATURES: Final = 32
_SCHEMES: Final = {"ES256": "ecdsa-sha2-nistp256", "Ed25519": "ed25519"}


def seal(document: Mapping[str, JsonValue], key: PrivateKey, *, payload_type: str) -> bytes:
    """A new envelope around the canonical bytes of ``document``, with one signature; as canonical JSON."""
    return _signed(Envelope(canonical(document), payload_type, {}), key)


def add_signature(envelope: bytes, key: PrivateKey) -> bytes:
    """The same envelope with one more signature (or a fresh one, if the key had signed before)."""
    return _signed(_read(envelope), key)


def open_envelope(
    envelope: bytes, keys: Iterable[PublicKey], *, payload_type: str
) -> tuple[dict[str, Json], frozenset[str]]:
    """The payload, and which of these keys (by id) have signed it: whether they suffice, the caller decides.

    ``Refused`` (``token_invalid``) when the envelope is malformed, of another type, or signed by none of the keys.
    """
    read = _read(envelope)
    if read.payload_type != payload_type:
        _invalid("the envelope holds another kind of document")
    signed_by = frozenset(key.kid for key in keys if _holds(read, key))
    if not signed_by:
        raise Refused("nobody whose key is pinned here signed this document.", codes=["issuer_untrusted"])
    return _object(read.payload), signed_by


def peek(envelope: bytes) -> tuple[str, dict[str, Json]]:
    """Payload type and payload of an envelope that nobody has checked: to find out what it is, and for nothing else."""
    read = _read(envelope)
    return read.payload_type, _object(read.payload)


def statement(
    subjects: Mapping[str, str], predicate: Mapping[str, JsonValue], *, predicate_type: str
) -> dict[str, JsonValue]:
    """An in-toto statement: ``subjects`` maps names to digests (``sha256:…``)."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _hex(value)}} for name, value in subjects.items()],
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def predicate_of(document: Mapping[str, Json], *, predicate_type: str, subjects: Mapping[str, str]) -> Json:
    """The predicate of a statement that must be about exactly these subjects; ``subject_of`` reads them unchecked."""
    expected = statement(subjects, {}, predicate_type=predicate_type)
    if document.keys() != expected.keys() or any(document[k] != expected[k] for k in expected if k != "predicate"):
        _invalid("the statement is of another type, or about something else than it says")
    return document["predicate"]


def claimed_predicate(document: Mapping[str, Json], *, predicate_type: str) -> Json:
    """The predicate before its subjects were compared; ``Refused`` for another type of statement."""
    if document.get("_type") != STATEMENT_TYPE or document.get("predicateType") != predicate_type:
        _invalid("the statement is of another type than expected")
    return document.get("predicate")


def _signed(envelope: Envelope, key: PrivateKey) -> bytes:
    if key.algorithm not in _SCHEMES:
        raise Invalid("this key cannot sign an envelope.", remedy="Use an ES256 or Ed25519 key.")
    secret = key.material.private_key
    assert secret is not None
    assert not isinstance(secret, X25519PrivateKey | X448PrivateKey)
    envelope.sign(CryptoSigner(secret, _named(key.public)))
    document: dict[str, JsonValue] = envelope.to_dict()
    data = canonical(document)
    if len(data) > MAX_ENVELOPE_BYTES or len(envelope.signatures) > MAX_SIGNATURES:
        raise Invalid("the envelope is too large.", remedy="Sign less.")
    return data


def _holds(envelope: Envelope, key: PublicKey) -> bool:
    if key.algorithm not in _SCHEMES:
        return False
    try:
        envelope.verify([_named(key)], 1)
    except UnverifiedSignatureError:
        return False
    return True


def _named(key: PublicKey) -> SSlibKey:
    return SSlibKey.from_crypto(key.material.public_key, keyid=key.kid, scheme=_SCHEMES[key.algorithm])


def _read(data: bytes) -> Envelope:
    document = _object(data)
    match document:
        case {"payload": str() as payload, "payloadType": str(), "signatures": list() as signatures}:
            if len(document) != 3 or not 1 <= len(signatures) <= MAX_SIGNATURES:
                _invalid("this is not a signed envelope")
        case _:
            _invalid("this is not a signed envelope")
    for signature in signatures:
        match signature:
            case {"keyid": str(), "sig": str() as sig, **more} if not more:
                _base64(sig)
            case _:
                _invalid("a signature of the envelope is malformed")
    _base64(payload)
    try:
        return Envelope.from_dict(document)
    except (FormatError, KeyError, ValueError, TypeError) as error:
        raise Refused("this is not a signed envelope.", codes=["token_invalid"]) from error


def _base64(text: str) -> bytes:
    try:
        return b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        _invalid("a part of the envelope is not base64")


def _object(data: bytes) -> dict[str, Json]:
    try:
        return parse_object(data, max_bytes=MAX_ENVELOPE_BYTES)
    except Invalid as error:
        raise Refused(f"the envelope cannot be read: {error.message}", codes=["token_invalid"]) from error


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _invalid(message: str) -> NoReturn:
    raise Refused(f"{message}.", codes=["token_invalid"])
