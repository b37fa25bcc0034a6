"""The clearinghouse: what counts of a passport, with real keys; properties over removal and order; odd input."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import RSAKey

from federome.errors import Invalid, Refused, Unavailable
from federome.governance.jwks import KeyCache
from federome.governance.passports import (
    MAX_VISAS,
    PASSPORT_TYPE,
    Clearinghouse,
    IssuerTrust,
    Need,
    PassportView,
    VisaTrust,
    check_visas,
    find,
    open_passport,
    registered_access,
)
from federome.governance.visa_conditions import met, well_formed
from federome.model.registry import Identity
from federome.trust.canonical import JsonValue, canonical
from federome.trust.keys import PrivateKey, PublicKey, generate

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
BROKER, DAC, UNI, EVIL = "https://broker.test", "https://dac.test", "https://uni.test", "https://evil.test"
PARKING = "https://uni.test/visas/parking"
REGISTERED = "https://doi.org/10.1038/s41431-018-0219-y"


def rsa() -> PrivateKey:
    material = RSAKey.generate_key(2048, private=True)
    return PrivateKey(PublicKey.from_jwk({k: str(v) for k, v in material.as_dict(private=False).items()}), material)


KEYS = {BROKER: generate("ES256"), DAC: generate("ES256"), UNI: rsa(), EVIL: generate("ES256")}
HOUSE = Clearinghouse(
    (
        IssuerTrust(BROKER, (f"{BROKER}/jwk",), True, (VisaTrust("LinkedIdentities", (BROKER,)),)),
        IssuerTrust(DAC, (f"{DAC}/jwk",), visas=(VisaTrust("ControlledAccessGrants", (DAC,)),)),
        IssuerTrust(
            UNI,
            (f"{UNI}/jwk", f"{UNI}/jwk2"),
            visas=(
                VisaTrust("AffiliationAndRole", (UNI,)),
                VisaTrust("ResearcherStatus", (UNI,)),
                VisaTrust("AcceptedTermsAndPolicies", (UNI,)),
                VisaTrust(PARKING, (UNI,), ("system",)),
            ),
        ),
    )
)
HOLDER = Identity("a1", BROKER)


@dataclass
class Web:
    """Serves key sets from memory and remembers what was asked for."""

    asked: list[str] = field(default_factory=list)
    down: bool = False

    def fetch(self, url: str) -> Mapping[str, JsonValue]:
        self.asked.append(url)
        owner = url.rsplit("/", 1)[0]
        if self.down or owner not in KEYS:
            raise Unavailable("nobody answers.")
        return {"keys": [KEYS[owner].public.jwk()]}


def visa(
    iss: str,
    sub: str,
    kind: str,
    value: str,
    *,
    by: str | None = "system",
    source: str | None = None,
    conditions: object = None,
    asserted: timedelta = timedelta(days=-10),
    expires: timedelta = timedelta(days=30),
    header: Mapping[str, str] | None = None,
    claims: Mapping[str, JsonValue] | None = None,
    key: str | None = None,
) -> str:
    body: dict[str, object] = {
        "type": kind,
        "asserted": int((NOW + asserted).timestamp()),
        "value": value,
        "source": source or iss,
    }
    if by is not None:
        body["by"] = by
    if conditions is not None:
        body["conditions"] = conditions
    payload: dict[str, object] = {
        "iss": iss,
        "sub": sub,
        "iat": int(NOW.timestamp()) - 60,
        "exp": int((NOW + expires).timestamp()),
        "ga4gh_visa_v1": body,
    } | dict(claims or {})
    signer = KEYS[key or iss]
    head = {"alg": signer.algorithm, "typ": "vnd.ga4gh.visa+jwt", "kid": signer.kid, "jku": f"{iss}/jwk"}
    head = {name: text for name, text in (head | dict(header or {})).items() if text}
    return jws.serialize_compact(head, canonical(payload), signer.material, algorithms=["ES256", "RS256"])  # type: ignore[arg-type]


def link(value: str, sub: str = "a1", **changes: object) -> str:
    return visa(BROKER, sub, "LinkedIdentities", value, **changes)  # type: ignore[arg-type]


def grant(value: str = "D1", **changes: object) -> str:
    return visa(DAC, "9", "ControlledAccessGrants", value, **({"by": "dac"} | changes))  # type: ignore[arg-type]


def role(value: str = "faculty@uni.test", **changes: object) -> str:
    return visa(UNI, "u1", "AffiliationAndRole", value, **changes)  # type: ignore[arg-type]


ALL = link("9,https%3A%2F%2Fdac.test;u1,https%3A%2F%2Funi.test")


def view(
    *tokens: str, ttl: timedelta = timedelta(hours=1), web: Web | None = None, holder: Identity = HOLDER
) -> PassportView:
    return check_visas(tokens, holder, HOUSE, KeyCache((web or Web()).fetch), now=NOW, ttl=ttl, audience="FI")


def why(*tokens: str, ttl: timedelta = timedelta(hours=1)) -> tuple[str, ...]:
    """Why the grant for D1 is not there; empty when it is."""
    return find(view(ALL, *tokens, ttl=ttl), Need("ControlledAccessGrants", ("D1",), ("dac",))).codes


def test_all_five_types_and_a_custom_one_are_accepted() -> None:
    seen = view(
        ALL,
        grant(),
        role(),
        visa(UNI, "u1", "ResearcherStatus", REGISTERED, by="so"),
        visa(UNI, "u1", "AcceptedTermsAndPolicies", REGISTERED, by="self"),
        visa(UNI, "u1", PARKING, "lot 7"),
    )
    assert not seen.ignored
    assert len({accepted.type for accepted in seen.visas}) == 6
    pair, codes = registered_access(seen, HOUSE)
    assert pair is not None
    assert codes == ()


@pytest.mark.parametrize(
    ("token", "codes"),
    [
        (grant(), ()),
        (grant(by=None), ("by_not_accepted",)),
        (grant(by="system"), ("by_not_accepted",)),
        (grant(source=EVIL), ("source_untrusted",)),
        (grant(source=EVIL, by="self"), ("by_not_accepted", "source_untrusted")),
        (visa(EVIL, "9", "ControlledAccessGrants", "D1", by="dac"), ("issuer_untrusted",)),
        (visa(UNI, "u1", "ControlledAccessGrants", "D1", by="dac"), ("issuer_untrusted",)),
        (grant(key=EVIL), ("issuer_untrusted",)),
        (grant(header={"jku": f"{EVIL}/jwk"}), ("jku_not_allowed",)),
        (grant(header={"jku": f"{DAC}/jwk?x"}), ("jku_not_allowed",)),
        (grant(header={"jku": ""}), ("token_invalid",)),
        (grant(header={"jku": ""}, claims={"scope": "email openid"}), ()),
        (grant(claims={"scope": "openid"}), ("token_invalid",)),
        (grant(header={"typ": "JWT"}), ()),
        (grant(header={"typ": ""}), ()),
        (grant(header={"typ": "application/vnd.ga4gh.visa+jwt"}), ()),
        (grant(header={"typ": PASSPORT_TYPE}), ("token_invalid",)),
        (grant(expires=timedelta(0)), ("token_expired",)),
        (grant(expires=timedelta(hours=1)), ("ttl_exceeds_expiry",)),
        (grant(expires=timedelta(hours=1, seconds=1)), ()),
        (grant(asserted=timedelta(days=-90)), ("ttl_exceeds_expiry",)),
        (grant(asserted=timedelta(days=-90, hours=1, seconds=1)), ()),
        (grant(asserted=timedelta(seconds=61)), ("not_yet_valid",)),
        (grant(claims={"iat": int(NOW.timestamp()) + 60}), ()),
        (grant(claims={"iat": int(NOW.timestamp()) + 61}), ("not_yet_valid",)),
        (grant(claims={"aud": "FI"}), ()),
        (grant(claims={"aud": ["SE", "FI"]}), ()),
        (grant(claims={"aud": "SE"}), ("audience_mismatch",)),
        (grant(claims={"sub": 9}), ("token_invalid",)),
        (grant(claims={"exp": "soon"}), ("token_invalid",)),
        (grant(claims={"ga4gh_visa_v1": []}), ("token_invalid",)),
        (grant(claims={"ga4gh_visa_v1": {"type": "ControlledAccessGrants", "value": "D1"}}), ("token_invalid",)),
        (grant(conditions="none"), ("condition_unmet",)),
        (grant(conditions=[]), ()),
        (grant(conditions=[[]]), ("condition_unmet",)),
        ("", ("token_invalid",)),
        ("a.b.c", ("token_invalid",)),
        ("é.b.c", ("token_invalid",)),
        ("." * 400_000, ("token_invalid",)),
    ],
)  # fmt: skip
def test_a_grant_counts_or_says_why_not(token: str, codes: tuple[str, ...]) -> None:
    assert why(token) == codes
    assert (find(view(ALL, token), Need("ControlledAccessGrants", ("D1",))).visa is not None) is (codes == ())


def test_addresses_are_at_most_255_characters() -> None:
    for length, codes in ((255, ()), (256, ("token_invalid",))):
        assert find(view(ALL, grant("x" * length)), Need("ControlledAccessGrants")).codes == codes


def test_a_bad_key_address_is_never_fetched_and_neither_is_an_untrusted_issuer_s() -> None:
    web = Web()
    view(grant(header={"jku": f"{EVIL}/jwk"}), visa(EVIL, "9", "ControlledAccessGrants", "D1", by="dac"), web=web)
    assert web.asked == []
    view(ALL, grant(), role(), web=web)
    assert sorted(web.asked) == [f"{BROKER}/jwk", f"{DAC}/jwk", f"{UNI}/jwk"]


def test_an_issuer_that_is_away_costs_its_visas_and_nothing_else() -> None:
    seen = view(ALL, grant(), web=Web(down=True))
    assert seen.visas == ()
    assert {code for lost in seen.ignored for code in lost.codes} == {"token_invalid"}


def test_an_access_token_visa_counts_for_an_hour() -> None:
    young = {"scope": "openid", "iat": int(NOW.timestamp()) - 3600}
    old = {"scope": "openid", "iat": int(NOW.timestamp()) - 3601}
    assert why(grant(header={"jku": ""}, claims=young)) == ()
    assert why(grant(header={"jku": ""}, claims=old)) == ("token_expired",)


def test_links_chain_and_break() -> None:
    first, second = (
        link("x,https%3A%2F%2Fmiddle.test"),
        link("9,https%3A%2F%2Fdac.test;x,https%3A%2F%2Fmiddle.test", "z"),
    )
    need = Need("ControlledAccessGrants", ("D1",))
    assert find(view(first, second, grant()), need).visa is not None
    assert find(view(first, grant()), need).codes == ("identity_not_linked",)
    assert find(view(second, grant()), need).codes == ("identity_not_linked",)
    untrusted = visa(UNI, "u1", "LinkedIdentities", "a1,https%3A%2F%2Fbroker.test;9,https%3A%2F%2Fdac.test")
    assert find(view(untrusted, grant()), need).visa is None
    conditional = link("9,https%3A%2F%2Fdac.test", conditions=[[{"type": "AffiliationAndRole", "by": "const:system"}]])
    assert find(view(conditional, grant(), role()), need).visa is None


@pytest.mark.parametrize(
    "value", ["9,https://dac.test", "9,https%3A%2F%2Fdac.test,x", ";;;", ",", "9", "9,HTTPS%3A%2F%2Fdac.test"]
)
def test_link_values_are_uri_encoded_pairs_matched_exactly(value: str) -> None:
    linked = find(view(link(value), grant()), Need("ControlledAccessGrants", ("D1",))).visa is not None
    assert linked is (value == "9,https://dac.test")  # decoding an unencoded address gives the address


def test_conditions_are_met_by_linked_unconditioned_visas_only() -> None:
    wants_faculty = [[{"type": "AffiliationAndRole", "value": "pattern:faculty@*"}]]
    assert why(grant(conditions=wants_faculty), role()) == ()
    assert why(grant(conditions=wants_faculty), role("student@uni.test")) == ("condition_unmet",)
    assert why(grant(conditions=wants_faculty)) == ("condition_unmet",)
    conditioned_role = role(conditions=[[{"type": "LinkedIdentities", "by": "const:system"}]])
    assert why(grant(conditions=wants_faculty), conditioned_role) == ("condition_unmet",)
    stranger = visa(UNI, "somebody-else", "AffiliationAndRole", "faculty@uni.test")
    assert why(grant(conditions=wants_faculty), stranger) == ("condition_unmet",)
    either = [[{"type": "ResearcherStatus", "by": "const:so"}], *wants_faculty]
    assert why(grant(conditions=either), role()) == ()


@dataclass(frozen=True)
class Claimed:
    type: str = "AffiliationAndRole"
    value: str = "faculty@uni.test"
    source: str = "https://uni.test"
    by: str | None = "so"


@pytest.mark.parametrize(
    ("clause", "matches"),
    [
        ({"type": "AffiliationAndRole", "value": "const:faculty@uni.test"}, True),
        ({"type": "AffiliationAndRole", "value": "const:Faculty@uni.test"}, False),
        ({"type": "AffiliationAndRole", "value": "pattern:faculty@*.test"}, True),
        ({"type": "AffiliationAndRole", "value": "pattern:f?culty@uni.test"}, True),
        ({"type": "AffiliationAndRole", "value": "pattern:faculty"}, False),
        ({"type": "AffiliationAndRole", "value": "pattern:[f]aculty@uni.test"}, False),
        ({"type": "AffiliationAndRole", "value": "split_pattern:faculty@*"}, True),
        ({"type": "AffiliationAndRole", "value": "regex:.*"}, False),
        ({"type": "AffiliationAndRole", "value": "faculty@uni.test"}, False),
        ({"type": "AffiliationAndRole", "value": 7}, False),
        ({"type": "AffiliationAndRole"}, False),
        ({"value": "const:faculty@uni.test"}, False),
        ({"type": "const:AffiliationAndRole", "value": "const:faculty@uni.test"}, False),
        ({"type": "AffiliationAndRole", "asserted": "const:1"}, False),
        ({"type": "AffiliationAndRole", "conditions": "const:1"}, False),
        ({"type": "AffiliationAndRole", "by": "const:so", "source": "pattern:https://*"}, True),
        ({"type": "AffiliationAndRole", "by": "const:so", "source": "const:x"}, False),
        ({"type": "AffiliationAndRole", "by": "pattern:" + "*" * 1025}, False),
    ],
)
def test_a_condition_clause(clause: Mapping[str, object], *, matches: bool) -> None:
    assert met([[clause]], [Claimed()]) is matches
    assert met([[clause, {"type": "AffiliationAndRole", "by": "const:so"}]], [Claimed()]) is matches
    assert met([[clause], []], [Claimed()]) is matches
    assert not met([[clause]], [])


def test_all_claims_of_a_clause_match_one_and_the_same_visa() -> None:
    clause = {"type": "AffiliationAndRole", "value": "const:a@x", "by": "const:so"}
    assert not met([[clause]], [Claimed(value="a@x", by="self"), Claimed(value="b@x", by="so")])


def test_split_patterns_match_a_part_between_semicolons() -> None:
    linked = Claimed(type="LinkedIdentities", value="001,a;123,https%3A%2F%2Fexample2.org;456,b")
    clause = {"type": "LinkedIdentities", "value": "split_pattern:123,https%3A%2F%2Fexample?.org"}
    assert met([[clause]], [linked])
    assert not met([[clause | {"value": "pattern:123,https%3A%2F%2Fexample?.org"}]], [linked])


@settings(max_examples=150, deadline=None)
@given(pattern=st.text("ab*?[]", max_size=8), text=st.text("ab[]\n", max_size=8))
def test_patterns_equal_a_naive_matcher(pattern: str, text: str) -> None:
    def naive(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "*":
            return naive(p[1:], t) or (bool(t) and naive(p, t[1:]))
        return bool(t) and (p[0] == "?" or p[0] == t[0]) and naive(p[1:], t[1:])

    clause = {"type": "AffiliationAndRole", "value": f"pattern:{pattern}"}
    assert met([[clause]], [Claimed(value=text)]) is naive(pattern, text)
    fnmatch.translate(pattern)  # the library this stands on knows every such pattern


def test_conditions_are_bounded() -> None:
    assert well_formed([[{}] * 64])
    assert not well_formed([[{}] * 65])
    assert not well_formed([{}])
    assert not well_formed([["x"]])
    slow = {"type": "AffiliationAndRole", "value": "pattern:" + "a*" * 500}
    assert not met([[slow]], [Claimed(value="a" * 250 + "b")])


# --- the passport itself -----------------------------------------------------------------------------------------


def passport(*tokens: str, header: Mapping[str, str] | None = None, key: str = BROKER, **claims: JsonValue) -> str:
    payload: dict[str, JsonValue] = {
        "iss": BROKER,
        "sub": "a1",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 60,
        "ga4gh_passport_v1": list(tokens),
    }
    head = {"alg": "ES256", "typ": PASSPORT_TYPE, "kid": KEYS[key].kid} | dict(header or {})
    return jws.serialize_compact(head, canonical(payload | claims), KEYS[key].material, algorithms=["ES256"])


def test_a_passport_gives_its_holder_and_visas() -> None:
    holder, tokens = open_passport(passport("x", "y"), HOUSE, KeyCache(Web().fetch), now=NOW, audience="FI")
    assert (holder, tokens) == (HOLDER, ("x", "y"))


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (passport(iss=UNI), "issuer_untrusted"),
        (passport(iss=EVIL, key=EVIL), "issuer_untrusted"),
        (passport(key=EVIL), "issuer_untrusted"),
        (passport(header={"typ": "JWT"}), "token_invalid"),
        (passport(header={"jku": f"{BROKER}/jwk"}), "jku_not_allowed"),
        (passport(exp=int(NOW.timestamp())), "token_expired"),
        (passport(aud="SE"), "audience_mismatch"),
        (passport(ga4gh_passport_v1="x"), "token_invalid"),
        (passport(ga4gh_passport_v1=[1]), "token_invalid"),
        (passport(sub=""), "token_invalid"),
        (grant(), "issuer_untrusted"),
        ("rubbish", "token_invalid"),
    ],
)
def test_a_passport_with_a_fault_is_rejected_as_a_whole(token: str, code: str) -> None:
    with pytest.raises(Refused) as caught:
        open_passport(token, HOUSE, KeyCache(Web().fetch), now=NOW, audience="FI")
    assert code in caught.value.codes


def test_visas_from_a_broker_that_is_not_trusted_do_not_count() -> None:
    seen = view(ALL, grant(), holder=Identity("a1", UNI))
    assert seen.visas == ()
    assert {code for lost in seen.ignored for code in lost.codes} == {"issuer_untrusted"}


def test_a_flood_of_visas_is_not_looked_at() -> None:
    web = Web()
    seen = view(*(f"x{n}" for n in range(MAX_VISAS + 1)), grant(), web=web)
    assert (seen.visas, len(seen.ignored), web.asked) == ((), 1, [])


POOL = [
    ALL,
    grant(),
    grant("D2"),
    grant(conditions=[[{"type": "AffiliationAndRole", "value": "pattern:faculty@*"}]]),
    role(),
    role("student@uni.test"),
    link("u1,https%3A%2F%2Funi.test"),
    visa(UNI, "u1", "ResearcherStatus", REGISTERED, by="so"),
    visa(UNI, "u1", "AcceptedTermsAndPolicies", REGISTERED, by="self"),
    grant(by="self"),
    grant(header={"jku": f"{EVIL}/jwk"}),
    "rubbish",
]


def access(tokens: list[str]) -> set[str]:
    seen = view(*tokens)
    found = {
        f"{need.type} {need.values[0]}"
        for need in (Need("ControlledAccessGrants", ("D1",)), Need("ControlledAccessGrants", ("D2",)))
        if find(seen, need).visa is not None
    }
    return found | ({"registered"} if registered_access(seen, HOUSE)[0] else set())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(POOL), max_size=8), st.data())
def test_removing_a_visa_never_widens_access(tokens: list[str], data: st.DataObject) -> None:
    kept = [token for token in tokens if data.draw(st.booleans())]
    assert access(kept) <= access(tokens)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(POOL), max_size=8), st.data())
def test_reordering_and_repeating_changes_nothing(tokens: list[str], data: st.DataObject) -> None:
    assert view(*data.draw(st.permutations(tokens + tokens))) == view(*tokens)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.builds(lambda n, c: grant()[:n] + c + grant()[n + 1 :], st.integers(0, 300), st.characters()),
    )
)
def test_no_text_raises_anything(token: str) -> None:
    seen = view(ALL, token)
    assert len(seen.visas) + len(seen.ignored) == (1 if token == ALL else 2)


# --- key sets ----------------------------------------------------------------------------------------------------


def test_keys_are_cached_refetched_for_a_new_key_id_and_not_hammered() -> None:
    web = Web()
    cache = KeyCache(web.fetch, max_age=timedelta(hours=1), min_refetch=timedelta(minutes=1))
    url, kid = f"{DAC}/jwk", KEYS[DAC].kid

    def ask(name: str, minutes: float) -> None:
        cache.ring(url, name, owner=DAC, now=NOW + timedelta(minutes=minutes))

    ask(kid, 0)
    ask(kid, 30)
    assert len(web.asked) == 1
    for _ in range(50):
        ask("unknown", 30)
    assert len(web.asked) == 2
    ask("unknown", 31.5)
    assert len(web.asked) == 3
    ask(kid, 120)
    assert len(web.asked) == 4


def test_last_known_keys_serve_while_the_issuer_is_away_but_not_forever() -> None:
    web = Web()
    cache = KeyCache(web.fetch)
    url, kid = f"{DAC}/jwk", KEYS[DAC].kid
    cache.ring(url, kid, owner=DAC, now=NOW)
    web.down = True
    assert cache.ring(url, kid, owner=DAC, now=NOW + timedelta(hours=23)).keys
    with pytest.raises(Unavailable):
        cache.ring(url, kid, owner=DAC, now=NOW + timedelta(hours=25))


def test_an_issuer_that_never_answered_is_not_asked_again_at_once() -> None:
    web = Web(down=True)
    cache = KeyCache(web.fetch)
    for _ in range(20):
        with pytest.raises(Unavailable):
            cache.ring(f"{DAC}/jwk", "k", owner=DAC, now=NOW)
    assert len(web.asked) == 1


def test_a_key_set_of_a_million_keys_is_refused() -> None:
    cache = KeyCache(lambda _url: {"keys": [{}] * 1_000_000})
    with pytest.raises(Invalid):
        cache.ring(f"{DAC}/jwk", "k", owner=DAC, now=NOW)
