"""Key files that only their owner can read, key names, and rings with overlapping periods."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from federome.errors import Invalid, Refused, Unavailable
from federome.trust.canonical import canonical, parse_object
from federome.trust.keys import (
    KeyRing,
    OwnAlgorithm,
    PinnedKey,
    PrivateKey,
    PublicKey,
    generate,
    load_private_key,
    private_key_from_jwk,
    save_private_key,
)

OWN: list[OwnAlgorithm] = ["Ed25519", "ES256", "ECDH-ES+A256KW"]


@pytest.fixture(params=OWN)
def key(request: pytest.FixtureRequest) -> PrivateKey:
    return generate(request.param)


def test_thumbprints_of_the_rfcs() -> None:
    # RFC 7638 §3.1 (RSA) and RFC 8037 appendix A.3 (Ed25519).
    rsa = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRX"
        "jBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8"
        "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xB"
        "niIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
    }
    assert PublicKey.from_jwk(rsa).kid == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    okp = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert PublicKey.from_jwk(okp).thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_public_keys_round_trip_without_secrets(key: PrivateKey) -> None:
    document = key.public.jwk()
    assert "d" not in document
    assert PublicKey.from_jwk(document) == key.public
    assert key.kid == key.public.thumbprint


def test_a_declared_name_is_kept_and_the_thumbprint_still_known(key: PrivateKey) -> None:
    public = PublicKey.from_jwk({**key.public.jwk(), "kid": "2026-01", "use": "sig", "x5t": "whatever"})
    assert (public.kid, public.thumbprint) == ("2026-01", key.kid)
    assert set(public.jwk()) == set(key.public.jwk())


def test_key_files(key: PrivateKey, tmp_path: Path) -> None:
    path = tmp_path / "node.jwk"
    save_private_key(key, path)
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = load_private_key(path)
    assert loaded == key
    assert loaded.secret_jwk() == key.secret_jwk()
    with pytest.raises(Invalid, match="already there"):
        save_private_key(generate("Ed25519"), path)
    assert load_private_key(path) == key


def test_pem_files(key: PrivateKey, tmp_path: Path) -> None:
    path = tmp_path / "node.pem"
    path.touch(0o600)
    path.write_bytes(key.material.as_pem(private=True))
    assert load_private_key(path).kid == key.kid
    path.write_bytes(key.material.as_pem(private=True, password="x"))
    with pytest.raises(Invalid, match="unencrypted"):
        load_private_key(path)
    path.write_bytes(key.material.as_pem(private=False))
    with pytest.raises(Invalid, match="private key"):
        load_private_key(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o777])
def test_key_files_that_others_may_touch_are_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "node.jwk"
    save_private_key(generate("Ed25519"), path)
    path.chmod(mode)
    with pytest.raises(Invalid, match="chmod 600"):
        load_private_key(path)


def test_key_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        load_private_key(tmp_path / "absent")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(Invalid, match="ordinary file"):
        load_private_key(pipe)
    path = tmp_path / "file"
    path.touch(0o600)
    for content in (b"", b"{", b"{}", b"hello", b"x" * 20_000):
        path.write_bytes(content)
        with pytest.raises(Invalid) as caught:
            load_private_key(path)
        assert caught.value.where == str(path)


def test_halves_that_do_not_belong_together_are_refused() -> None:
    one, other = generate("Ed25519"), generate("Ed25519")
    with pytest.raises(Invalid, match="belong together"):
        private_key_from_jwk({**one.secret_jwk(), "x": other.public.jwk()["x"]})
    with pytest.raises(Invalid, match="no private part"):
        private_key_from_jwk(one.public.jwk())


def test_secrets_are_never_printed(key: PrivateKey) -> None:
    assert str(key.secret_jwk()["d"]) not in repr(key)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kty": "oct", "k": "AAAA"},
        {"kty": ["OKP"], "crv": "Ed25519", "x": "AA"},
        {"kty": "OKP", "crv": "Ed25519"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"},
        {"kty": "OKP", "crv": "Ed25519", "x": 5},
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        {"kty": "EC", "crv": "nope", "x": "A" * 43, "y": "A" * 43},
        {"kty": "RSA", "n": "A" * 5000, "e": "AQAB"},
        ECKey.generate_key("P-384", private=False).as_dict(),
        OKPKey.generate_key("Ed448", private=False).as_dict(),
        OKPKey.generate_key("Ed25519").as_dict(private=True),
        OctKey.generate_key(256).as_dict(private=True),
    ],
    ids=lambda document: str(document.get("crv", document.get("kty"))),
)
def test_keys_that_are_not_accepted(document: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        PublicKey.from_jwk(document)


def test_weak_and_slow_rsa_keys_are_not_accepted() -> None:
    strong = RSAKey.generate_key(2048, private=False).as_dict()
    weak = {**strong, "n": base64.urlsafe_b64encode(bytes([255] * 128)).rstrip(b"=").decode()}
    with pytest.raises(Invalid, match="size"):
        PublicKey.from_jwk(weak)
    assert PublicKey.from_jwk(strong).algorithm == "RS256"
    with pytest.raises(Invalid, match="'e'"):
        PublicKey.from_jwk({**strong, "e": strong["n"]})


@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "use", "alg"]),
        st.sampled_from(["OKP", "EC", "RSA", "Ed25519", "P-256", "AQAB", "A" * 43, "", "é", "=="])
        | st.integers()
        | st.lists(st.text(max_size=3), max_size=2)
        | st.none(),
    )
)
def test_any_jwk_is_read_or_invalid(document: dict[str, str]) -> None:
    try:
        public = PublicKey.from_jwk(document)
    except Invalid:
        return
    assert public.thumbprint


def test_ring_finds_keys_in_their_period() -> None:
    old, new = generate("Ed25519").public, generate("Ed25519").public
    ring = KeyRing((PinnedKey("FI", old, valid_until=200.0), PinnedKey("FI", new, valid_from=100.0)))
    assert ring.find(old.kid, now=199.9).owner == "FI"
    assert [len(ring.owned_by("FI", now=now)) for now in (50.0, 150.0, 250.0)] == [1, 2, 1]
    assert ring.owned_by("SE", now=150.0) == ()
    for kid, now in ((old.kid, 200.0), (new.kid, 99.0), ("unknown", 150.0)):
        with pytest.raises(Refused) as caught:
            ring.find(kid, now=now)
        assert caught.value.codes == ("issuer_untrusted",)


def test_rings_that_make_no_sense() -> None:
    key = generate("Ed25519").public
    with pytest.raises(Invalid, match="share"):
        KeyRing((PinnedKey("FI", key), PinnedKey("SE", key)))
    for start, end in ((5.0, 5.0), (6.0, 5.0), (float("nan"), 5.0)):
        with pytest.raises(Invalid, match="never valid"):
            PinnedKey("FI", key, start, end)
    with pytest.raises(Invalid, match="owner"):
        PinnedKey("", key)


def test_rings_are_kept_in_files() -> None:
    keys = [generate(algorithm).public for algorithm in OWN]
    ring = KeyRing((PinnedKey("FI", keys[0]), PinnedKey("alice", keys[1], 5, 7.5), PinnedKey("FI", keys[2], 1.0)))
    document = parse_object(canonical(ring.to_document()))
    assert KeyRing.from_document(document) == ring
    entry = {"owner": "FI", "key": keys[0].jwk(), "valid_from": 0, "valid_until": None}
    assert KeyRing.from_document({"pinned": [entry]}) == KeyRing((PinnedKey("FI", keys[0]),))
    for change in ({"owner": 5}, {"owner": ""}, {"key": {}}, {"valid_from": None}, {"valid_until": -1}):
        with pytest.raises(Invalid) as caught:
            KeyRing.from_document({"pinned": [entry, {**entry, **change}]})  # type: ignore[dict-item]
        assert caught.value.where == "pinned[1]"
    for broken in ({}, {"pinned": {}}, {"pinned": [5]}, {"pinned": [], "more": 1}):
        with pytest.raises(Invalid):
            KeyRing.from_document(broken)


def test_jwk_sets() -> None:
    signing, agreement = generate("ES256").public.jwk(), generate("ECDH-ES+A256KW").public.jwk()
    foreign = {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA"}
    listed = [signing, agreement, foreign, {**signing, "use": "enc"}, {"kty": "EC"}, {}]
    ring = KeyRing.from_jwks({"keys": listed}, owner="https://a.test")
    assert [(pinned.owner, pinned.key.kid) for pinned in ring.keys] == [("https://a.test", signing["kid"])]
    assert json.loads(canonical(signing)) == signing
    for broken in ({}, {"keys": {}}, {"keys": [1]}, {"keys": [signing] * 101}, {"keys": [signing, signing]}):
        with pytest.raises(Invalid):
            KeyRing.from_jwks(broken, owner="https://a.test")
