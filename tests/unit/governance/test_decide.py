"""Decisions at a node: evidence from signed documents, default deny, all reasons, reproducible, explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federome.errors import Damaged, Invalid, Refused
from federome.governance.case import AccessRequest, Evidence, LocalRefusal, NodePolicy, State
from federome.governance.decide import decide, reproduce
from federome.governance.decision import (
    REASON_CODES,
    Decision,
    Obligation,
    Outcome,
    Reason,
    combine,
    explain,
    outcome_of,
    worst,
)
from federome.governance.evidence import Anchors, Presented, gather
from federome.governance.orders import MAX_LIFETIME, claimed_order, consume, sign_order, verify_order
from federome.governance.permits import (
    sign_permit,
    verify_contract,
    verify_grant,
    verify_permit,
    verify_request,
)
from federome.governance.rules import RULES, within
from federome.model.ontology import Terms, compile_terms
from federome.model.order import RunOrder
from federome.model.permit import (
    AlgorithmGrant,
    AlgorithmRef,
    DatasetGrant,
    HealthcareContract,
    HealthDataRequest,
    NamedPerson,
    Permit,
    PersonKey,
    Purpose,
)
from federome.model.registry import AlgorithmApproval, Dataset, DataUse, Institution, Modifier, Person
from federome.trust.keys import KeyRing, PinnedKey, generate
from federome.trust.signing import sign

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DIGEST = "sha256:" + "0" * 64
GWAS = AlgorithmRef("gwas", "1.2.0", DIGEST)
ONTOLOGY = compile_terms(Terms("mondo/test", {}, {"MONDO:1": (), "MONDO:2": ("MONDO:1",), "MONDO:3": ()}))
ALICE, BOB, AUTHORITY, OTHER = (generate("ES256") for _ in range(4))
RING = KeyRing((PinnedKey("hdab-fi", AUTHORITY.public), PinnedKey("hdab-pt", OTHER.public)))
ANCHORS = Anchors(RING)
PERMIT = Permit(
    id="P1",
    authority="hdab-fi",
    holder="uni-a",
    persons=(NamedPerson("alice", PersonKey.of(ALICE.public.jwk())),),
    datasets=(DatasetGrant("D1", "FI"),),
    purpose=Purpose("research", ("disease",), ("MONDO:1",)),
    algorithms=(AlgorithmGrant("gwas", "1.2.0"),),
    valid_from=date(2026, 1, 1),
    valid_until=date(2026, 12, 31),
)
TOKEN = sign_permit(PERMIT, AUTHORITY, issued=NOW - HOUR)
ORDER = RunOrder(
    "alice",
    "FI",
    "j1",
    NOW,
    NOW + HOUR,
    "r1",
    ("FI", "PT"),
    "P1",
    PERMIT.purpose,
    ("D1",),
    GWAS,
    1,
    NOW + HOUR,
    {"maf": 0.01},
)
STATE = State(
    "FI",
    ONTOLOGY,
    datasets={"D1": Dataset("D1", "FI", DataUse("GRU"))},
    approvals=(AlgorithmApproval("gwas", "1.2.0", DIGEST, "summary-statistics"),),
)


class Memory:
    """Remembers used orders, as a node's database does."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def used(self, jti: str) -> bool:
        return jti in self.told

    def remember(self, jti: str, until: datetime) -> bool:
        fresh = jti not in self.told
        self.told.add(jti)
        return fresh


def case(order: RunOrder = ORDER, *, state: State = STATE, grant: str | None = TOKEN, key=ALICE, now=NOW):  # type: ignore[no-untyped-def]
    presented = Presented(order=sign_order(order, key), grant=grant)
    return gather(presented, stage="start", state=state, anchors=ANCHORS, now=now)


def judge(order: RunOrder = ORDER, *, state: State = STATE, grant: str | None = TOKEN, key=ALICE, now=NOW) -> Decision:  # type: ignore[no-untyped-def]
    request, evidence = case(order, state=state, grant=grant, key=key, now=now)
    return decide(request, evidence, state, now)


def signed(**changes: object) -> str:
    return sign_permit(replace(PERMIT, **changes), AUTHORITY, issued=NOW - HOUR)  # type: ignore[arg-type]


def test_the_default_node_asks_for_a_permit_and_an_order_and_then_allows() -> None:
    decision = judge()
    assert decision.outcome == "ALLOW"
    assert decision.codes == ()
    assert decision.until == datetime(2027, 1, 1, tzinfo=UTC)
    assert "This holds until 2027-01-01T00:00:00Z at the latest." in explain(decision)
    decision.require()
    assert {ref.kind for ref in decision.inputs} >= {"order", "grant", "dataset", "algorithm", "policy", "request"}


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({"datasets": ("D9",)}, {"incomplete", "dataset_not_in_permit"}),
        ({"algorithm": AlgorithmRef("gwas", "1.2.0", "sha256:" + "1" * 64)}, {"algorithm_digest_mismatch"}),
        ({"algorithm": AlgorithmRef("gwas", "9", DIGEST)}, {"algorithm_not_approved"}),
        ({"purpose": Purpose("research", ("disease",), ("MONDO:2",))}, set()),
        ({"purpose": Purpose("research", ("disease",), ("MONDO:3",))}, {"purpose_mismatch"}),
        ({"purpose": Purpose("research")}, {"purpose_mismatch"}),
        ({"purpose": Purpose("statistics")}, {"purpose_mismatch", "purpose_reserved_public_body"}),
        ({"purpose": Purpose("marketing")}, {"purpose_mismatch", "purpose_prohibited"}),
        ({"permit": "P2"}, {"no_permit"}),
        ({"deadline": NOW}, {"deadline_passed"}),
        ({"issued": NOW - 2 * HOUR, "expires": NOW}, {"token_expired"}),
        ({"issued": NOW + HOUR, "expires": NOW + 2 * HOUR}, {"not_yet_valid"}),
        ({"expires": NOW + MAX_LIFETIME + HOUR}, {"token_invalid", "person_not_named"}),
        ({"node": "PT"}, {"audience_mismatch"}),
        ({"person": "bob"}, {"person_not_named"}),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_said(change: dict[str, object], codes: set[str]) -> None:
    assert codes <= set(judge(replace(ORDER, **change)).codes)  # type: ignore[arg-type]
    assert judge(replace(ORDER, **change)).allowed is (not codes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("grant", "code"),
    [
        (None, "no_permit"),
        ("rubbish", "token_invalid"),
        (TOKEN[:-4] + "AAAA", "token_invalid"),
        (sign_permit(PERMIT, ALICE, issued=NOW), "issuer_untrusted"),
        (sign_permit(PERMIT, OTHER, issued=NOW), "issuer_untrusted"),
        (sign_permit(PERMIT, AUTHORITY, issued=NOW + HOUR), "not_yet_valid"),
        (signed(persons=()), "person_not_named"),
        (signed(datasets=(DatasetGrant("D1", "PT"),)), "node_not_in_permit"),
        (signed(valid_from=date(2026, 6, 2)), "permit_not_started"),
        (signed(valid_until=date(2026, 5, 31)), "permit_expired"),
        (signed(algorithms=(AlgorithmGrant("prs"),)), "algorithm_not_approved"),
        (signed(ontology="mondo/never-installed"), "incomplete"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_permit_that_is_not_one_is_refused(grant: str | None, code: str) -> None:
    assert code in judge(grant=grant).codes
    assert not judge(grant=grant).allowed


def test_permits_hold_through_their_last_day_and_not_a_second_longer() -> None:
    for at, allowed in (
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), True),
        (datetime(2027, 1, 1, tzinfo=UTC), False),
    ):
        order = replace(ORDER, issued=at, expires=at + HOUR, deadline=at + HOUR)
        assert judge(order, now=at).allowed is allowed


def test_a_stranger_s_signature_proves_nothing_and_learns_nothing_about_the_person() -> None:
    person = Person("alice", "uni-a", terms="old", blacklisted=("all",))
    state = replace(STATE, persons={"alice": person}, policy=NodePolicy(terms="new"))
    forged = judge(key=BOB, state=state)
    assert {"issuer_untrusted", "person_not_named"} <= set(forged.codes)
    assert not {"blacklisted", "terms_outdated", "user_not_accredited"} & set(forged.codes)
    genuine = judge(state=state)
    assert {"blacklisted", "terms_outdated", "user_not_accredited"} <= set(genuine.codes)


def test_an_unreadable_order_is_refused_outright() -> None:
    for order in (None, "", "a.b.c", TOKEN):
        with pytest.raises(Refused) as caught:
            gather(Presented(order=order, grant=TOKEN), stage="start", state=STATE, anchors=ANCHORS, now=NOW)
        assert caught.value.codes == ("token_invalid",)


def test_an_order_is_used_once_and_advice_does_not_use_it_up() -> None:
    seen = Memory()
    presented = Presented(order=sign_order(ORDER, ALICE), grant=TOKEN)

    def again() -> Decision:
        request, evidence = gather(presented, stage="start", state=STATE, anchors=ANCHORS, now=NOW, seen=seen)
        return decide(request, evidence, STATE, NOW)

    assert again().allowed
    assert again().allowed
    consume(ORDER, seen)
    assert again().codes == ("replayed",)
    with pytest.raises(Refused, match="used before"):
        consume(ORDER, seen)


def test_the_order_is_bound_to_what_is_asked() -> None:
    request, evidence = case()
    for changed in (
        replace(request, algorithm=replace(GWAS, version="2")),
        replace(request, parameters={"maf": 0.2}),
        replace(request, datasets=("D1", "D2")),
        replace(request, purpose=Purpose("research")),
        replace(request, person="bob"),
        replace(request, grant="P9"),
    ):
        assert "token_invalid" in decide(changed, evidence, STATE, NOW).codes


@pytest.mark.parametrize(("kind", "code"), [("accreditation", "user_not_accredited"), ("passport", "missing_grant")])
def test_a_node_may_demand_more_and_then_gets_it_or_refuses(kind: str, code: str) -> None:
    demanding = replace(STATE, policy=NodePolicy(required=("permit", "order", kind)))  # type: ignore[arg-type]
    assert judge(state=demanding).codes == (code,)


@pytest.mark.parametrize("required", [(), ("permit",), ("order", "passport", "accreditation")])
def test_no_node_demands_less_than_a_permit_and_an_order(required: tuple[str, ...]) -> None:
    with pytest.raises(Invalid, match="always demands"):
        NodePolicy(required=required)  # type: ignore[arg-type]
    request, _ = case()
    assert decide(request, Evidence(), STATE, NOW).codes == ("incomplete", "no_permit")


def test_a_node_operator_s_no_is_the_last_word() -> None:
    for refusal, applies in (
        (LocalRefusal("all of it"), True),
        (LocalRefusal("her", person="alice"), True),
        (LocalRefusal("him", person="bob"), False),
        (LocalRefusal("this", dataset="D1", algorithm="gwas"), True),
        (LocalRefusal("that", dataset="D1", algorithm="prs"), False),
        (LocalRefusal("permit", grant="P1"), True),
    ):
        decision = judge(state=replace(STATE, refusals=(refusal,)))
        assert (decision.codes == ("wrong_state",)) is applies


def test_public_bodies_mandate_others() -> None:
    ministry = Institution("ministry", "PT", public_body=True)
    agency = Institution("agency", "PT", mandated_by=("ministry",))
    purpose = Purpose("policy", ("health",))
    permit = replace(PERMIT, purpose=purpose, holder="agency")
    order = replace(ORDER, purpose=purpose)
    token = sign_permit(permit, AUTHORITY, issued=NOW)

    def with_(*institutions: Institution) -> Decision:
        return judge(order, grant=token, state=replace(STATE, institutions={i.id: i for i in institutions}))

    assert with_(ministry, agency).allowed
    assert with_(agency).codes == ("purpose_reserved_public_body",)
    assert not with_(replace(ministry, suspended_from=NOW), agency).allowed
    assert not with_(replace(ministry, public_body=False), agency).allowed


def test_geography_is_the_holder_s_country_where_no_register_says_more() -> None:
    limited = {"D1": Dataset("D1", "FI", DataUse("GRU", (), (Modifier("GS", regions=("EU",)),)))}
    for country, allowed in (("FI", True), ("US", False)):
        state = replace(STATE, datasets=limited, institutions={"uni-a": Institution("uni-a", country)})
        assert judge(state=state).allowed is allowed
    assert judge(state=replace(STATE, datasets=limited)).codes == ("duo_geography",)


def test_a_suspended_holder_stops_its_people_even_where_people_are_not_registered() -> None:
    for at, allowed in ((NOW, False), (NOW + HOUR, True)):
        holder = Institution("uni-a", "FI", suspended_from=at)
        assert judge(state=replace(STATE, institutions={"uni-a": holder})).allowed is allowed


def test_decisions_name_no_person() -> None:
    person = Person("alice", "uni-a", vetted=True, assigned=True)
    state = replace(STATE, persons={"alice": person}, institutions={"uni-a": Institution("uni-a", "FI")})
    decision = judge(state=state)
    assert decision.allowed
    assert "alice" not in str(decision.document()) + " ".join(explain(decision))


def test_stale_revocations_stop_everything() -> None:
    for hours, allowed in ((24, True), (25, False)):
        assert judge(state=replace(STATE, revocations_at=NOW - hours * HOUR)).allowed is allowed


def test_a_request_is_answered_with_aggregates_only() -> None:
    request = HealthDataRequest(**{**PERMIT.__dict__, "algorithms": (AlgorithmGrant("gwas"),)}, question="How many?")
    token = sign_permit(request, AUTHORITY, issued=NOW)
    assert judge(grant=token).allowed
    for klass in ("model", "match", "record", "anything"):
        approval = replace(STATE.approvals[0], release_class=klass)
        assert "output_class_unapproved" in judge(grant=token, state=replace(STATE, approvals=(approval,))).codes


def test_a_care_contract_is_for_clinicians_of_its_institution() -> None:
    contract = HealthcareContract(
        "K1", "hdab-fi", "hospital", ("FI",), (AlgorithmGrant("match"),), date(2026, 1, 1), date(2026, 12, 31)
    )
    token = sign_permit(contract, AUTHORITY, issued=NOW)
    erin = Person(
        "alice", "hospital", vetted=True, assigned=True, roles=("clinician",), key=PersonKey.of(ALICE.public.jwk())
    )
    state = replace(
        STATE,
        persons={"alice": erin},
        institutions={"hospital": Institution("hospital", "SE")},
        datasets={"D1": Dataset("D1", "FI", DataUse("HMB", (), (Modifier("CC"),)))},
        approvals=(AlgorithmApproval("match", "1", DIGEST, "match"),),
    )
    order = replace(ORDER, purpose=Purpose("care"), permit="K1", algorithm=AlgorithmRef("match", "1", DIGEST))

    def with_(changed: State = state, **changes: object) -> set[str]:
        held = sign_permit(replace(contract, **changes), AUTHORITY, issued=NOW)  # type: ignore[arg-type]
        return set(judge(order, grant=held, state=changed).codes)

    assert judge(order, grant=token, state=state).obligations == (
        Obligation("audit"),
        Obligation("care_purpose_only"),
        Obligation("contact_through_node"),
    )
    assert with_(institution="clinic") == {"no_healthcare_contract"}
    assert with_(nodes=("PT",)) == {"no_healthcare_contract"}
    assert with_(valid_until=date(2026, 5, 31)) == {"no_healthcare_contract"}
    assert with_(replace(state, suspended=frozenset({"K1"}))) == {"no_healthcare_contract"}
    assert with_(algorithms=(AlgorithmGrant("gwas"),)) == {"algorithm_not_approved"}
    assert with_(replace(state, persons={"alice": replace(erin, roles=("researcher",))})) == {"user_not_accredited"}
    assert "algorithm_not_approved" in with_(
        replace(state, approvals=(AlgorithmApproval("match", "1", DIGEST, "model"),))
    )
    research = replace(order, purpose=Purpose("research"))
    assert "purpose_mismatch" in judge(research, grant=token, state=state).codes


def test_custodians_have_no_right_to_data() -> None:
    for roles, allowed in (
        (("researcher",), True),
        (("administrator",), False),
        (("node-operator", "auditor"), False),
        (("administrator", "researcher"), True),
    ):
        person = Person("alice", "uni-a", vetted=True, assigned=True, roles=roles)  # type: ignore[arg-type]
        state = replace(STATE, persons={"alice": person}, institutions={"uni-a": Institution("uni-a", "FI")})
        assert judge(state=state).allowed is allowed


def test_frequencies_of_a_controlled_dataset_need_the_permit() -> None:
    request = AccessRequest("frequency", "start", "FI", "alice", ("D1",))
    assert decide(request, Evidence(), STATE, NOW).codes == ("no_permit",)
    assert decide(request, Evidence(grant=PERMIT), STATE, NOW).allowed
    opened = replace(STATE, datasets={"D1": Dataset("D1", "FI", DataUse("NRES"), "open")})
    assert decide(replace(request, person=None), Evidence(), opened, NOW).allowed


# --- purposes within purposes ------------------------------------------------------------------------------------

TOPICS = ["general", "health", "population", "methods"]
purposes = st.builds(
    lambda topics, diseases, commercial: Purpose(
        "research", tuple(sorted(topics)) + (("disease",) if diseases else ()), tuple(sorted(diseases)), commercial
    ),
    st.sets(st.sampled_from(TOPICS)),
    st.sets(st.sampled_from(["MONDO:1", "MONDO:2", "MONDO:3"])),
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(a=purposes, b=purposes, c=purposes)
def test_within_is_an_order(a: Purpose, b: Purpose, c: Purpose) -> None:
    assert within(a, a, ONTOLOGY)
    if within(a, b, ONTOLOGY) and within(b, c, ONTOLOGY):
        assert within(a, c, ONTOLOGY)


@pytest.mark.parametrize(
    ("stated", "granted", "covered"),
    [
        (Purpose("research", ("disease",), ("MONDO:2",)), Purpose("research", ("health",)), True),
        (Purpose("research", ("health",)), Purpose("research", ("disease",), ("MONDO:1",)), False),
        (Purpose("research", ("methods",)), Purpose("research", ("health",)), False),
        (Purpose("research", ("population",)), Purpose("research", ("health",)), False),
        (Purpose("research", ("population",)), Purpose("research"), True),
        (Purpose("research"), Purpose("research", ("health",)), False),
        (Purpose("research", ("health",), commercial=True), Purpose("research", ("health",)), False),
        (Purpose("research", ("health",)), Purpose("research", ("health",), commercial=True), True),
        (Purpose("education", ("health",)), Purpose("research", ("health",)), False),
    ],
    ids=str,
)
def test_a_purpose_within_another(stated: Purpose, granted: Purpose, *, covered: bool) -> None:
    assert within(stated, granted, ONTOLOGY) is covered


# --- decisions as values -----------------------------------------------------------------------------------------


def test_two_nodes_with_equal_inputs_write_equal_bytes_and_a_log_entry_can_be_checked() -> None:
    request, evidence = case()
    first = decide(request, evidence, STATE, NOW)
    second = decide(request, evidence, replace(STATE), NOW)
    assert first.document() == second.document()
    assert reproduce(first.digest, request, evidence, replace(STATE), now=NOW) == second
    for state, at in ((replace(STATE, suspended=frozenset({"P7"})), NOW), (STATE, NOW + HOUR / 2)):
        with pytest.raises(Damaged):
            reproduce(first.digest, request, evidence, state, now=at)


def test_a_decision_explains_itself_in_sentences() -> None:
    lines = explain(judge(replace(ORDER, datasets=("D9",))))
    assert lines[0] == "R1 default deny: D9 is not a dataset of this node."
    assert "R9 accreditation: not asked for here." in lines
    assert "R10 permit: permit P1 does not cover D9." in lines
    assert lines[-1] == "DENY at FI, 2026-06-01T12:00:00Z (dataset_not_in_permit, incomplete)."


def test_require_raises_with_every_code_and_what_to_read() -> None:
    with pytest.raises(Refused) as caught:
        judge(replace(ORDER, datasets=("D9",))).require()
    assert caught.value.codes == ("dataset_not_in_permit", "incomplete")
    assert "D9 is not a dataset of this node." in caught.value.message
    with pytest.raises(Refused, match="A person must decide first"):
        Decision("REFER", "start", "FI", NOW, (Reason("R13", "duo_free_text", "refer", says="read it."),)).require()


def test_private_reasons_stay_in_the_node_s_log() -> None:
    secret = Reason("R15", "consent_tier", "note", says="2 subjects", private=True)
    decision = Decision("ALLOW", "start", "FI", NOW, (secret,))
    assert decision.document()["reasons"] != []
    assert decision.document(public=True)["reasons"] == []


def node(outcome: Outcome, name: str) -> Decision:
    code = {"DENY": "no_permit", "REFER": "duo_free_text"}.get(outcome)
    effect = {"DENY": "deny", "REFER": "refer"}.get(outcome, "note")
    reasons = (Reason("R10", code, effect),) if code else ()  # type: ignore[arg-type]
    return Decision(outcome, "start", name, NOW, reasons)


@pytest.mark.parametrize(
    ("outcomes", "partial", "strict"),
    [
        ("ALLOW ALLOW", "ALLOW", "ALLOW"),
        ("ALLOW DENY", "PARTIAL", "DENY"),
        ("DENY DENY", "DENY", "DENY"),
        ("ALLOW REFER", "REFER", "REFER"),
        ("REFER DENY", "REFER", "DENY"),
        ("ALLOW REFER DENY", "REFER", "DENY"),
        ("ALLOW ALLOW DENY", "PARTIAL", "DENY"),
        ("ALLOW", "ALLOW", "ALLOW"),
    ],
)
def test_nodes_combine(outcomes: str, partial: str, strict: str) -> None:
    made = [node(outcome, f"N{n}") for n, outcome in enumerate(outcomes.split())]  # type: ignore[arg-type]
    for decisions in (made, made[::-1]):
        assert combine(decisions, allow_partial=True).outcome == partial
        assert combine(decisions, allow_partial=False).outcome == strict
        assert combine(decisions, allow_partial=True).digest == combine(made, allow_partial=True).digest
    alone = Obligation("own_release", about="N0") in combine(made, allow_partial=True).obligations
    assert alone is (outcomes == "ALLOW DENY" or outcomes == "REFER DENY")


def test_a_run_without_nodes_is_no_run() -> None:
    with pytest.raises(Invalid):
        combine([], allow_partial=True)


@given(st.lists(st.sampled_from(["ALLOW", "PARTIAL", "REFER", "DENY"]), min_size=1))
def test_the_worst_outcome_wins(outcomes: list[Outcome]) -> None:
    for name in ("DENY", "REFER", "PARTIAL", "ALLOW"):
        if name in outcomes:
            assert worst(outcomes) == name
            break
    assert worst([]) == "DENY"


@given(st.lists(st.sampled_from(["deny", "refer", "note"])))
def test_outcomes_follow_from_effects(effects: list[str]) -> None:
    reasons = [Reason("R1", "incomplete", effect) for effect in effects]  # type: ignore[arg-type]
    expected = "DENY" if "deny" in effects else "REFER" if "refer" in effects else "ALLOW"
    assert outcome_of(reasons) == expected


def test_every_rule_has_its_number_and_a_sentence() -> None:
    numbers = [int(rule.id[1:]) for rule in RULES]
    assert numbers == sorted(set(numbers))
    # The four others are decided elsewhere: consent (R15, R16) at freeze and release, R18 over nodes.
    assert set(range(1, 25)) - set(numbers) == {15, 16, 18}
    assert all((rule.check.__doc__ or "").startswith(f"{rule.id}: ") for rule in RULES)


# --- hostile documents -------------------------------------------------------------------------------------------

SIGNED = sign_order(ORDER, ALICE)
KEY = PersonKey.of(ALICE.public.jwk())
READERS: list[Callable[[str], object]] = [
    lambda token: verify_permit(token, RING, NOW),
    lambda token: verify_request(token, RING, NOW),
    lambda token: verify_contract(token, RING, NOW),
    lambda token: verify_grant(token, RING, NOW),
    lambda token: verify_order(token, KEY, node="FI", now=NOW),
    claimed_order,
]


def refused_or_read(token: str) -> None:
    for reader in READERS:
        codes: set[str] = set()
        try:
            reader(token)
        except Refused as refusal:
            codes.update(refusal.codes)
        assert codes <= REASON_CODES


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.lists(st.text("abcXYZ019_-=", max_size=30), max_size=5).map(".".join))
def test_random_texts_are_refused_and_nothing_else(token: str) -> None:
    refused_or_read(token)


@settings(max_examples=200, deadline=None)
@given(token=st.sampled_from([TOKEN, SIGNED]), place=st.integers(0, 1200), put=st.characters(), cut=st.booleans())
def test_damaged_tokens_are_refused_and_nothing_else(token: str, place: int, put: str, *, cut: bool) -> None:
    place %= len(token)
    damaged = token[:place] if cut else token[:place] + put + token[place + 1 :]
    refused_or_read(damaged)
    if damaged != token:
        for reader in READERS[:5]:
            with pytest.raises(Refused):
                reader(damaged)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=4), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from([*ORDER.to_claims(), "nbf", "extra"]), value=anything)
def test_validly_signed_nonsense_is_refused_or_an_order(name: str, value: object) -> None:
    token = sign(ORDER.to_claims() | {name: value}, ALICE, typ="federome-order+jwt")  # type: ignore[dict-item]
    refused_or_read(token)
    try:
        request, evidence = gather(
            Presented(order=token, grant=TOKEN), stage="start", state=STATE, anchors=ANCHORS, now=NOW
        )
    except Refused:
        return
    assert set(decide(request, evidence, STATE, NOW).codes) <= REASON_CODES


def test_oversized_and_deeply_nested_documents_are_refused_quickly() -> None:
    with pytest.raises(Refused):
        verify_permit("A" * 10_000_000, RING, NOW)
    nested: object = 1
    for _ in range(30):
        nested = {"x": nested}
    token = sign(ORDER.to_claims() | {"parameters": {"x": nested}}, ALICE, typ="federome-order+jwt")  # type: ignore[dict-item]
    with pytest.raises(Refused, match="nested too deeply"):
        verify_order(token, KEY, node="FI", now=NOW)


def test_only_the_right_kind_of_key_signs() -> None:
    machine = generate("Ed25519")
    with pytest.raises(Invalid):
        sign_order(ORDER, machine)
    with pytest.raises(Invalid):
        sign_permit(PERMIT, machine, issued=NOW)


def test_one_kind_of_document_is_never_another() -> None:
    request = HealthDataRequest(**PERMIT.__dict__)
    as_request = sign_permit(request, AUTHORITY, issued=NOW)
    assert verify_request(as_request, RING, NOW) == request
    assert verify_grant(as_request, RING, NOW) == request
    with pytest.raises(Refused):
        verify_permit(as_request, RING, NOW)
    with pytest.raises(Refused):
        verify_request(TOKEN, RING, NOW)
    assert verify_grant(TOKEN, RING, NOW) == PERMIT
