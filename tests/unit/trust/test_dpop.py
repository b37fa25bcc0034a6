"""Proofs of possession and OAuth's signed pieces: for one request, once, now; all else is refused by its reason."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federome.errors import Invalid, Refused
from federome.model.registry import Identity
from federome.trust.dpop import NonceNeeded, check_proof, make_proof
from federome.trust.keys import KeyRing, PinnedKey, generate
from federome.trust.oauth import (
    Bearer,
    challenge_of,
    check_assertion,
    check_id_token,
    check_token,
    client_assertion,
    issue_token,
    loopback_redirect,
)
from federome.trust.signing import sign, sign_embedded

NOW = 1_793_610_000.0
KEY, OTHER, HUB = generate("ES256"), generate("ES256"), generate("Ed25519")
URL = "https://hub.test/ga4gh/wes/v1/runs"
COUNTER = itertools.count()


@dataclass
class Memory:
    held: set[str] = field(default_factory=set)

    def remember(self, jti: str, until: float) -> bool:
        assert until > NOW - 600
        fresh = jti not in self.held
        self.held.add(jti)
        return fresh


def proof(**changes: object) -> str:
    claims: dict[str, object] = {
        "method": "POST",
        "url": URL,
        "now": NOW,
        "jti": f"proof-{next(COUNTER):06}",
        "token": "t",
    }
    claims |= changes
    method, url = str(claims.pop("method")), str(claims.pop("url"))
    return make_proof(KEY, method, url, **claims)  # type: ignore[arg-type]


def check(text: str, once: Memory | None = None, **changes: object) -> str:
    wanted: dict[str, object] = {"method": "POST", "url": URL, "now": NOW, "token": "t"} | changes
    return check_proof(text, once=once or Memory(), **wanted)  # type: ignore[arg-type]


def test_a_proof_names_its_key() -> None:
    assert check(proof()) == KEY.public.thumbprint
    assert check(proof(url=f"{URL}?page_size=3#x", nonce="n"), nonces=("n", "m")) == KEY.public.thumbprint
    assert check(proof(token=""), token="") == KEY.public.thumbprint


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"method": "GET"}, "audience_mismatch"),
        ({"url": "https://evil.test/ga4gh/wes/v1/runs"}, "audience_mismatch"),
        ({"url": "http://hub.test/ga4gh/wes/v1/runs"}, "audience_mismatch"),
        ({"url": f"{URL}/x"}, "audience_mismatch"),
        ({"token": "another"}, "audience_mismatch"),
        ({"token": ""}, "audience_mismatch"),
        ({"now": NOW + 61}, "not_yet_valid"),
        ({"now": NOW - 61}, "token_expired"),
        ({"jti": "x"}, "token_invalid"),
        ({"jti": "x" * 600}, "token_invalid"),
    ],
)
def test_a_proof_is_for_one_request_now(changes: dict[str, object], code: str) -> None:
    with pytest.raises(Refused) as refusal:
        check(proof(**changes))
    assert refusal.value.codes == (code,)


def test_a_proof_counts_once_and_a_copied_id_of_another_key_does_not_use_it_up() -> None:
    once = Memory()
    mine = proof(jti="same-id-1")
    assert make_proof(OTHER, "POST", URL, now=NOW, jti="same-id-1", token="t") != mine
    check(make_proof(OTHER, "POST", URL, now=NOW, jti="same-id-1", token="t"), once)
    check(mine, once)
    with pytest.raises(Refused) as refusal:
        check(mine, once)
    assert refusal.value.codes == ("replayed",)


def test_a_nonce_is_asked_for() -> None:
    for bad in (proof(), proof(nonce="old")):
        with pytest.raises(NonceNeeded):
            check(bad, nonces=("new",))


def embedded(header_key: Callable[[], dict[str, object]]) -> str:
    return sign_embedded({"htm": "POST", **header_key()}, KEY, typ="dpop+jwt")  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b.c",
        "x" * 10_000,
        sign({"htm": "POST"}, KEY, typ="dpop+jwt"),  # names its key, and does not bring it
        sign_embedded({"htm": "POST"}, KEY, typ="JWT"),
        sign_embedded({}, KEY, typ="dpop+jwt"),
        sign_embedded({"jti": "12345678", "iat": True}, KEY, typ="dpop+jwt"),
        sign_embedded({"jti": ["x"], "iat": NOW}, KEY, typ="dpop+jwt"),
        "\u0430.b.c",
    ],
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        check(text)


@given(place=st.integers(0, 600), put=st.sampled_from("Ab.-_=\n"), cut=st.booleans())
@settings(max_examples=80)
def test_a_damaged_proof_is_refused_and_nothing_else(place: int, put: str, cut: bool) -> None:
    good = make_proof(KEY, "POST", URL, now=NOW, jti="12345678", token="t")
    at = place % len(good)
    bad = good[:at] if cut else good[:at] + put + good[at + 1 :]
    if bad != good:
        with pytest.raises(Refused):
            check(bad)


def test_a_private_key_in_a_proof_is_refused() -> None:
    from federome.trust.canonical import canonical
    from federome.trust.signing import _encode, sign_bytes

    header = canonical({"alg": "ES256", "jwk": KEY.secret_jwk(), "typ": "dpop+jwt"})
    signed = f"{_encode(header)}.{_encode(canonical({'htm': 'POST'}))}"
    with pytest.raises(Refused) as refusal:
        check(f"{signed}.{_encode(sign_bytes(signed.encode(), KEY))}")
    assert refusal.value.codes == ("token_invalid",)


# OAuth


def test_the_challenge_of_rfc_7636() -> None:
    assert challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    for bad in ("short", "x" * 129, "ä" * 50):
        with pytest.raises(Invalid):
            challenge_of(bad)


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://127.0.0.1:4711/callback", True),
        ("http://[::1]:4711/", True),
        ("http://localhost:4711/", False),  # RFC 8252 §8.3: a name may lead elsewhere
        ("http://127.0.0.1/", False),
        ("https://127.0.0.1:1/", False),
        ("http://evil.test:1/", False),
        ("http://127.0.0.1:1@evil.test:2/", False),
        ("http://evil@127.0.0.1:1/", False),
        ("http://127.0.0.1:99999/", False),
        ("http://127.0.0.1:1/#x", False),
        ("http://127.0.0.1.evil.test:1/", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_codes_are_sent_to_this_machine_only(url: str, good: bool) -> None:
    assert loopback_redirect(url) is good


def test_an_assertion_proves_its_client_once() -> None:
    ring, once = KeyRing((PinnedKey("robot", KEY.public),)), Memory()
    token = client_assertion("robot", KEY, audience="https://hub.test/token", now=NOW, jti="one")
    assert check_assertion(token, ring, audience="https://hub.test/token", now=NOW, once=once) == "robot"
    bad = {
        "replayed": token,
        "audience_mismatch": client_assertion("robot", KEY, audience="https://other.test", now=NOW, jti="two"),
        "token_expired": client_assertion("robot", KEY, audience="https://hub.test/token", now=NOW - 90, jti="three"),
        "token_invalid": client_assertion("someone", KEY, audience="https://hub.test/token", now=NOW, jti="four"),
        "issuer_untrusted": client_assertion("robot", OTHER, audience="https://hub.test/token", now=NOW, jti="five"),
    }
    for code, each in bad.items():
        with pytest.raises(Refused) as refusal:
            check_assertion(each, ring, audience="https://hub.test/token", now=NOW, once=once)
        assert refusal.value.codes == (code,)


ID: dict[str, object] = {
    "iss": "https://idp.test",
    "sub": "a1",
    "aud": "hub",
    "nonce": "n",
    "iat": NOW,
    "exp": NOW + 300,
}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"aud": ["hub", "more"], "azp": "hub"}, ""),
        ({"iss": "https://evil.test"}, "issuer_untrusted"),
        ({"aud": "another"}, "audience_mismatch"),
        ({"azp": "another"}, "audience_mismatch"),
        ({"nonce": "m"}, "replayed"),
        ({"nonce": None}, "replayed"),
        ({"exp": NOW}, "token_expired"),
        ({"iat": NOW - 3600}, "token_expired"),
        ({"iat": NOW + 100}, "not_yet_valid"),
        ({"sub": 3}, "token_invalid"),
        ({"sub": "Αlice"}, "token_invalid"),  # a Greek letter that looks Latin
        ({"sub": "\u202ea1"}, "token_invalid"),
    ],
)
def test_an_id_token_is_for_this_login(changes: dict[str, object], code: str) -> None:
    ring = KeyRing((PinnedKey("https://idp.test", KEY.public),))
    token = sign({**ID, **changes}, KEY, typ="JWT")  # type: ignore[dict-item]

    def read() -> Identity:
        return check_id_token(token, ring, issuer="https://idp.test", client="hub", nonce="n", now=NOW)

    if not code:
        assert read() == Identity("a1", "https://idp.test")
        return
    with pytest.raises(Refused) as refusal:
        read()
    assert code in refusal.value.codes


def test_an_access_token_is_bound_to_a_key() -> None:
    ring = KeyRing((PinnedKey("hub", HUB.public),))
    bearer = Bearer("a1", "https://idp.test", KEY.public.thumbprint, NOW + 60)
    token = issue_token(bearer, HUB, hub="hub.test", now=NOW, jti="one")
    assert check_token(token, ring, hub="hub.test", now=NOW) == bearer
    for hub, now in (("other", NOW), ("hub.test", NOW + 61)):
        with pytest.raises(Refused):
            check_token(token, ring, hub=hub, now=now)
    loose = sign({"iss": "h", "aud": "hub.test", "sub": "a", "iat": NOW, "exp": NOW + 9}, HUB, typ="at+jwt")
    with pytest.raises(Refused):
        check_token(loose, ring, hub="hub.test", now=NOW)
