"""Signed and sealed documents, and everything a liar may send in their place."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from federome.errors import Invalid, Refused
from federome.trust import signing
from federome.trust.canonical import Json, canonical
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, PublicKey, SigningAlgorithm, generate
from federome.trust.signing import (
    check_claims,
    decrypt,
    encrypt,
    peek,
    sign,
    sign_bytes,
    signature_holds,
    verify,
)

NOW = 1_780_315_200.0  # 2026-06-01T12:00:00Z
TYP = "federome-test+jws"
ALL: tuple[SigningAlgorithm, ...] = ("Ed25519", "ES256", "RS256")
NODE, PERSON, BOX = generate("Ed25519"), generate("ES256"), generate("ECDH-ES+A256KW")
ISSUER = PrivateKey(PublicKey.from_jwk((rsa := RSAKey.generate_key(2048, private=True)).as_dict(private=False)), rsa)
RING = KeyRing((PinnedKey("FI", NODE.public), PinnedKey("alice", PERSON.public), PinnedKey("iss", ISSUER.public)))


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header: Mapping[str, Json], payload: bytes = b"{}", signature: bytes = b"") -> str:
    return f"{b64(json.dumps(header).encode())}.{b64(payload)}.{b64(signature)}"


def codes(value: str | bytes, typ: str = TYP, algorithms: tuple[SigningAlgorithm, ...] = ALL) -> tuple[str, ...]:
    with pytest.raises(Refused) as caught:
        verify(value, RING, typ=typ, algorithms=algorithms, now=NOW)
    return caught.value.codes


@pytest.mark.parametrize(("key", "owner"), [(NODE, "FI"), (PERSON, "alice"), (ISSUER, "iss")])
def test_signed_documents_are_believed(key: PrivateKey, owner: str) -> None:
    document: dict[str, Json] = {"run": "r1", "parties": ["FI", "SE"], "n": 3}
    signed = sign(document, key, typ=TYP)
    verified = verify(signed, RING, typ=TYP, algorithms=ALL, now=NOW)
    assert (verified.payload, verified.owner, verified.kid) == (document, owner, key.kid)
    assert peek(signed.encode()).header == {"alg": key.algorithm, "kid": key.kid, "typ": TYP}


@pytest.mark.parametrize("key", [NODE, PERSON, ISSUER])
def test_another_reader_and_another_writer_agree(key: PrivateKey) -> None:
    signed = sign({"a": 1}, key, typ=TYP)
    theirs = jws.deserialize_compact(signed, key.public.material, algorithms=[key.algorithm])
    assert theirs.payload == canonical({"a": 1})
    foreign = jws.serialize_compact(
        {"typ": TYP, "kid": key.kid, "alg": key.algorithm}, b'{ "a" : 1 }', key.material, [key.algorithm]
    )
    assert verify(foreign, RING, typ=TYP, algorithms=ALL, now=NOW).payload == {"a": 1}


def test_every_flipped_bit_is_noticed() -> None:
    signed = sign({"a": 1}, NODE, typ=TYP).encode()
    for position in range(len(signed)):
        for bit in range(8):
            damaged = bytearray(signed)
            damaged[position] ^= 1 << bit
            assert codes(bytes(damaged))


def test_algorithm_attacks() -> None:
    public_pem = PERSON.public.material.as_pem(private=False)
    header: dict[str, Json] = {"alg": "HS256", "kid": PERSON.kid, "typ": TYP}
    signing_input = token(header).rpartition(".")[0]
    mac = hmac.digest(public_pem, signing_input.encode(), hashlib.sha256)
    assert codes(f"{signing_input}.{b64(mac)}") == ("alg_not_allowed",)
    for algorithm in ("none", "None", "HS256", "ES256K", "EdDSA", "Ed448", "", None, 5, ["ES256"], {}):
        assert codes(token({**header, "alg": algorithm})) == ("alg_not_allowed",)
    assert codes(token({"kid": NODE.kid, "typ": TYP})) == ("alg_not_allowed",)
    # allowed in general, but not here, or not for this key
    assert codes(sign({}, NODE, typ=TYP), algorithms=("ES256", "RS256")) == ("alg_not_allowed",)
    assert codes(token({**header, "alg": "RS256"})) == ("alg_not_allowed",)


def test_strangers_and_their_own_keys() -> None:
    stranger = generate("Ed25519")
    assert codes(sign({}, stranger, typ=TYP)) == ("issuer_untrusted",)
    claims_to_be_fi = PrivateKey(PublicKey(NODE.kid, "Ed25519", stranger.public.material), stranger.material)
    assert codes(sign({}, claims_to_be_fi, typ=TYP)) == ("token_invalid",)
    own_key = {"alg": "Ed25519", "typ": TYP, "kid": NODE.kid, "jwk": stranger.public.jwk()}
    assert codes(jws.serialize_compact(own_key, b"{}", stranger.material, ["Ed25519"])) == ("token_invalid",)


def test_one_kind_of_document_is_not_another() -> None:
    assert codes(sign({}, NODE, typ="federome-permit+jws")) == ("token_invalid",)
    untyped = jws.serialize_compact({"alg": "Ed25519", "kid": NODE.kid}, b"{}", NODE.material, ["Ed25519"])
    assert codes(untyped) == ("token_invalid",)
    assert verify(untyped, RING, typ="", algorithms=ALL, now=NOW).owner == "FI"


@pytest.mark.parametrize(
    "extra", [{"crit": ["exp"]}, {"b64": False, "crit": ["b64"]}, {"x5c": ["AA"]}, {"kid": 5}, {"kid": None}]
)
def test_header_extensions_are_refused(extra: dict[str, Json]) -> None:
    assert codes(token({"alg": "Ed25519", "kid": NODE.kid, "typ": TYP, **extra})) == ("token_invalid",)


def test_payloads_that_are_no_plain_object() -> None:
    header = {"alg": "Ed25519", "kid": NODE.kid, "typ": TYP}
    for payload in (b"", b"[]", b"null", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff", b"[" * 100):
        signed = jws.serialize_compact(dict(header), payload, NODE.material, ["Ed25519"])
        assert codes(signed) == ("token_invalid",)


def test_spellings_and_sizes() -> None:
    signed = sign({"a": 1}, NODE, typ=TYP)
    head, body, tail = signed.split(".")
    for other in ("", ".", "..", "...", f"{head}.{body}", f"{signed}.", f"{head}.{body}.{tail}=", f" {signed}"):
        assert codes(other) == ("token_invalid",)
    assert codes(signed + "é") == ("token_invalid",)
    assert codes(f"{'A' * 3000}.{body}.{tail}") == ("token_invalid",)
    assert codes("A" * (signing.MAX_TOKEN_BYTES + 1)) == ("token_invalid",)
    with pytest.raises(Invalid, match="too large"):
        sign({"a": "x" * signing.MAX_TOKEN_BYTES}, NODE, typ=TYP)
    with pytest.raises(Invalid, match="cannot sign"):
        sign({}, BOX, typ=TYP)


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from([*ALL, TYP, NODE.kid, PERSON.kid]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "enc", "epk", "jku", "crit", "cty", "zip", "apu"]), JSON_LIKE
) | st.builds(
    lambda extra: {"alg": "Ed25519", "kid": NODE.kid, "typ": TYP, **extra},
    st.dictionaries(st.text(max_size=4), JSON_LIKE, max_size=2),
)


@given(HEADERS, st.binary(max_size=40), st.binary(max_size=80))
def test_forged_tokens_are_only_ever_refused(header: dict[str, Json], payload: bytes, signature: bytes) -> None:
    codes(token(header, payload, signature))


@given(st.text(max_size=60) | st.binary(max_size=60) | st.text(alphabet="eyJ.-_=", max_size=60))
def test_noise_is_only_ever_refused(noise: str | bytes) -> None:
    codes(noise)
    with pytest.raises(Refused):
        peek(noise)
    with pytest.raises(Refused):
        decrypt(noise, BOX, typ=TYP)


def test_a_token_that_is_shown_again_says_the_same_and_is_judged_anew() -> None:
    document: dict[str, Json] = {"run": "r1", "parties": ["FI", {"n": -0.5}], "n": 3, "t": True, "u": None, "x": "é"}
    signed = sign(document, NODE, typ=TYP)
    first = verify(signed, RING, typ=TYP, algorithms=ALL, now=NOW)
    parties = first.payload["parties"]
    assert isinstance(parties, list)
    parties.append("a reader's own note")
    for shown in (signed, signed.encode(), peek(signed)):
        again = verify(shown, RING, typ=TYP, algorithms=ALL, now=NOW)
        assert (again.payload, again.owner, again.kid) == (document, "FI", NODE.kid)
        assert canonical(again.payload) == canonical(document)
    assert codes(signed[:-4] + "AAAA") == ("token_invalid",)
    assert codes(signed, typ="another") == ("token_invalid",)
    assert codes(signed, algorithms=("ES256",)) == ("alg_not_allowed",)
    for ring in (KeyRing(()), KeyRing((PinnedKey("FI", NODE.public, valid_until=NOW),))):
        with pytest.raises(Refused) as caught:
            verify(signed, ring, typ=TYP, algorithms=ALL, now=NOW)
        assert caught.value.codes == ("issuer_untrusted",)
    with pytest.raises(Refused):
        verify(signed, RING, typ=TYP, algorithms=ALL, now=NOW, max_bytes=len(signed) - 1)
    namesake = PublicKey(NODE.kid, "Ed25519", generate("Ed25519").public.material)
    with pytest.raises(Refused):
        verify(signed, KeyRing((PinnedKey("FI", namesake),)), typ=TYP, algorithms=ALL, now=NOW)


def test_bare_signatures() -> None:
    for key in (NODE, PERSON, ISSUER):
        signature = sign_bytes(b"data", key)
        assert signature_holds(b"data", signature, key.public)
        assert not signature_holds(b"date", signature, key.public)
        assert not signature_holds(b"data", signature[:-1], key.public)
        assert not signature_holds(b"data", b"", key.public)
        assert not signature_holds(b"data", signature, BOX.public)


# Claims


def claim_codes(payload: Mapping[str, Json], audience: str | None = "FI") -> tuple[str, ...]:
    try:
        check_claims(payload, now=NOW, audience=audience)
    except Refused as refusal:
        return refusal.codes
    return ()


GOOD: dict[str, Json] = {"iat": NOW, "exp": NOW + 300}


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, ()),
        ({"aud": "FI"}, ()),
        ({"aud": ["SE", "FI"]}, ()),
        ({"iat": NOW + 60}, ()),
        ({"iat": NOW + 61}, ("not_yet_valid",)),
        ({"nbf": NOW + 61}, ("not_yet_valid",)),
        ({"exp": NOW}, ("token_expired",)),
        ({"exp": NOW + 0.001}, ()),
        ({"aud": "SE"}, ("audience_mismatch",)),
        ({"aud": []}, ("audience_mismatch",)),
        ({"aud": [5]}, ("token_invalid",)),
        ({"aud": None}, ("token_invalid",)),
        ({"exp": True}, ("token_invalid",)),
        ({"exp": "tomorrow"}, ("token_invalid",)),
        ({"exp": None}, ("token_invalid",)),
        ({"exp": NOW - 1, "iat": NOW + 90, "aud": "SE"}, ("audience_mismatch", "not_yet_valid", "token_expired")),
    ],
)
def test_claims(claims: dict[str, Json], expected: tuple[str, ...]) -> None:
    assert claim_codes({**GOOD, **claims}) == expected


def test_required_claims() -> None:
    assert claim_codes({"iat": NOW}) == ("token_invalid",)
    assert claim_codes({**GOOD, "aud": "FI"}, audience=None) == ("audience_mismatch",)
    with pytest.raises(Refused):
        check_claims(GOOD, now=NOW, audience="FI", require=("aud",))


# Sealed documents


@given(st.binary(max_size=200))
def test_sealed_documents_open_for_their_receiver(payload: bytes) -> None:
    assert decrypt(encrypt(payload, BOX.public, typ=TYP), BOX, typ=TYP) == payload


def test_sealed_documents_stay_closed_for_others() -> None:
    sealed = encrypt(b"HP:0001250", BOX.public, typ=TYP)
    assert "HP" not in sealed
    assert encrypt(b"HP:0001250", BOX.public, typ=TYP) != sealed
    stranger = generate("ECDH-ES+A256KW")
    with pytest.raises(Refused):
        decrypt(sealed, stranger, typ=TYP)
    renamed = PrivateKey(PublicKey(BOX.kid, "ECDH-ES+A256KW", stranger.public.material), stranger.material)
    with pytest.raises(Refused):
        decrypt(sealed, renamed, typ=TYP)
    with pytest.raises(Refused):
        decrypt(sealed, BOX, typ="other")


def test_every_damaged_character_of_a_sealed_document_is_noticed() -> None:
    sealed = encrypt(b"secret", BOX.public, typ=TYP)
    for position, character in enumerate(sealed):
        damaged = sealed[:position] + ("B" if character != "B" else "C") + sealed[position + 1 :]
        with pytest.raises(Refused):
            decrypt(damaged, BOX, typ=TYP)


EPK = json.loads(base64.urlsafe_b64decode(encrypt(b"", BOX.public, typ=TYP).split(".")[0] + "=="))["epk"]
SEALED_HEADER: dict[str, Json] = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "kid": BOX.kid, "typ": TYP, "epk": EPK}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"alg": "dir"}, "alg_not_allowed"),
        ({"alg": "PBES2-HS256+A128KW", "p2c": 2**40, "p2s": "AA"}, "alg_not_allowed"),
        ({"enc": "A128CBC-HS256"}, "alg_not_allowed"),
        ({"zip": "DEF"}, "token_invalid"),
        ({"apu": "AA"}, "token_invalid"),
        ({"epk": {"kty": "OKP", "crv": "X25519", "x": "A" * 43}}, "token_invalid"),  # the point of order one
        ({"epk": {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}}, "token_invalid"),
        ({"epk": ECKey.generate_key("P-256").as_dict(private=False)}, "token_invalid"),
        ({"epk": {"kty": "OKP", "crv": "X25519", "x": "é"}}, "token_invalid"),
        ({"epk": {"kty": "OKP", "crv": "X25519", "x": "AAAA"}}, "token_invalid"),
        ({"epk": {"kty": "OKP", "crv": "X25519", "x": 5}}, "token_invalid"),
        ({"epk": "x"}, "token_invalid"),
    ],
)
def test_sealed_headers_are_exactly_ours(change: dict[str, Json], code: str) -> None:
    rest = encrypt(b"secret", BOX.public, typ=TYP).split(".", 1)[1]
    header = b64(json.dumps({**SEALED_HEADER, **change}).encode())
    with pytest.raises(Refused) as caught:
        decrypt(f"{header}.{rest}", BOX, typ=TYP)
    assert caught.value.codes == (code,)


@given(HEADERS, st.lists(st.binary(max_size=40), min_size=4, max_size=4))
def test_forged_sealed_documents_are_only_ever_refused(header: dict[str, Json], parts: list[bytes]) -> None:
    forged = ".".join([b64(json.dumps({**SEALED_HEADER, **header}).encode()), *map(b64, parts)])
    with pytest.raises(Refused):
        decrypt(forged, BOX, typ=TYP)


@given(st.lists(st.binary(max_size=40), min_size=4, max_size=4))
def test_forged_bodies_under_a_good_header_are_only_ever_refused(parts: list[bytes]) -> None:
    forged = ".".join([b64(json.dumps(SEALED_HEADER).encode()), *map(b64, parts)])
    with pytest.raises(Refused):
        decrypt(forged, BOX, typ=TYP)


def test_keys_that_cannot_receive() -> None:
    with pytest.raises(Invalid, match="X25519"):
        encrypt(b"", NODE.public, typ=TYP)
    with pytest.raises(Invalid, match="in parts"):
        encrypt(b"\0" * (signing.MAX_SEALED_BYTES + 1), BOX.public, typ=TYP)
    low_order = PublicKey.from_jwk({"kty": "OKP", "crv": "X25519", "x": "A" * 43})
    with pytest.raises(Invalid, match="cannot be used"):
        encrypt(b"", low_order, typ=TYP)


def test_the_largest_sealed_document_opens() -> None:
    payload = bytes(signing.MAX_SEALED_BYTES)
    assert decrypt(encrypt(payload, BOX.public, typ=TYP), BOX, typ=TYP) == payload


def test_algorithms_of_own_parties() -> None:
    assert isinstance(NODE.material, OKPKey)
    assert (NODE.algorithm,) == signing.OWN_ALGORITHMS
    assert (PERSON.algorithm,) == signing.PERSON_ALGORITHMS
