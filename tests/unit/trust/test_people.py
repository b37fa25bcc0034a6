"""Tokens that show who asks: only a fresh one, for this hub, signed with the key it names, is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federome.errors import Refused
from federome.trust.canonical import JsonValue
from federome.trust.keys import generate
from federome.trust.people import LIFE_S, PERSON_TYPE, check_person, person_token
from federome.trust.signing import sign

KEY = generate("ES256")
HUB = "hub.test"
NOW = 1_800_000_000.0


def forged(typ: str = PERSON_TYPE, **changes: JsonValue) -> str:
    claims: dict[str, JsonValue] = {"aud": HUB, "iat": NOW, "exp": NOW + LIFE_S, "jwk": KEY.public.jwk()}
    return sign({k: v for k, v in (claims | changes).items() if v is not None}, KEY, typ=typ)


def test_a_token_tells_the_thumbprint_of_its_key() -> None:
    assert check_person(person_token(KEY, hub=HUB, now=NOW), hub=HUB, now=NOW + 60) == KEY.public.thumbprint


def test_fractions_of_seconds_are_fine() -> None:
    assert check_person(forged(iat=NOW + 0.5, exp=NOW + 60.25), hub=HUB, now=NOW + 1) == KEY.public.thumbprint


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (forged(aud="other.test"), "audience_mismatch"),
        (forged(exp=NOW - 1), "token_expired"),
        (forged(exp=NOW + LIFE_S + 1), "token_invalid"),
        (forged(exp=NOW + LIFE_S + 0.5), "token_invalid"),
        (forged(iat=NOW + 61), "not_yet_valid"),
        (forged(aud=None), "token_invalid"),
        (forged(exp="soon"), "token_invalid"),
        (forged(exp=True), "token_invalid"),
        (forged(jwk=None), "token_invalid"),
        (forged(jwk="my key"), "token_invalid"),
        (forged(jwk={"kty": "EC"}), "token_invalid"),
        (forged(jwk={**KEY.public.jwk(), "kid": "somebody"}), "token_invalid"),
        (forged(jwk=KEY.secret_jwk()), "token_invalid"),
        (forged(jwk=generate("ES256").public.jwk()), "issuer_untrusted"),
        (forged(jwk=generate("Ed25519").public.jwk()), "issuer_untrusted"),
        (forged("federome-order+jwt"), "token_invalid"),
    ],
)
def test_what_does_not_stand_up_is_refused(token: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        check_person(token, hub=HUB, now=NOW)
    assert code in refused.value.codes


def test_nodes_keys_are_no_persons_keys() -> None:
    with pytest.raises(Refused):
        check_person(person_token(generate("Ed25519"), hub=HUB, now=NOW), hub=HUB, now=NOW)


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
KEYS = st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "kid"]), PLAIN)
JSON = PLAIN | KEYS | st.lists(PLAIN, max_size=3)


@given(st.dictionaries(st.sampled_from(["aud", "iat", "exp", "jwk"]), JSON))
def test_whatever_a_token_holds_the_answer_is_a_refusal(claims: dict[str, JsonValue]) -> None:
    with pytest.raises(Refused):
        check_person(sign(claims, KEY, typ=PERSON_TYPE), hub=HUB, now=NOW)


@given(st.text(max_size=60))
def test_whatever_is_sent_as_a_token_the_answer_is_a_refusal(token: str) -> None:
    with pytest.raises(Refused):
        check_person(token, hub=HUB, now=NOW)
