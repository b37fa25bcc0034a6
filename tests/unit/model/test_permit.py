"""Permits, purposes, orders and registers as documents: read back unchanged, and strict about everything else."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from federome.errors import Invalid
from federome.model.order import RunOrder
from federome.model.permit import (
    AlgorithmGrant,
    AlgorithmRef,
    DatasetGrant,
    EthicsDocument,
    HealthcareContract,
    HealthDataRequest,
    NamedPerson,
    Permit,
    PersonKey,
    Purpose,
)
from federome.model.registry import AlgorithmApproval, ParameterBounds, Person
from federome.model.strict import MAX_ITEMS, Document, bounded

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = PersonKey.of(ECKey.generate_key("P-256").as_dict(private=False))
DIGEST = "sha256:" + "ab" * 32


def permit(**changes: object) -> Permit:
    fields: dict[str, object] = {
        "id": "P1",
        "authority": "hdab-fi",
        "holder": "uni-a",
        "persons": (NamedPerson("alice", KEY),),
        "datasets": (DatasetGrant("D1", "FI"), DatasetGrant("D2", "PT", ("RS",))),
        "purpose": Purpose("research", ("disease",), ("MONDO:0005010",)),
        "algorithms": (AlgorithmGrant("gwas", "1.2.0"), AlgorithmGrant(release_class="counts")),
        "valid_from": date(2026, 1, 1),
        "valid_until": date(2027, 12, 31),
        "ontology": "mondo/2026-05-05",
        "ethics": (EthicsDocument("E1", date(2027, 1, 1), DIGEST),),
        "budget_rho": 1.5,
    }
    return Permit(**(fields | changes))  # type: ignore[arg-type]


def order(**changes: object) -> RunOrder:
    fields: dict[str, object] = {
        "person": "alice",
        "node": "FI",
        "jti": "j1",
        "issued": NOW,
        "expires": NOW + timedelta(hours=1),
        "run": "r1",
        "roster": ("FI", "PT"),
        "permit": "P1",
        "purpose": Purpose("research"),
        "datasets": ("D1",),
        "algorithm": AlgorithmRef("gwas", "1.2.0", DIGEST),
        "quorum": 2,
        "deadline": NOW + timedelta(hours=2),
        "parameters": {"maf": 0.01, "covariates": ["age", {"power": 2}], "note": None},
        "allow_partial": True,
    }
    return RunOrder(**(fields | changes))  # type: ignore[arg-type]


REQUEST = HealthDataRequest(
    "R1",
    "hdab-pt",
    "ministry",
    (NamedPerson("frank", KEY),),
    (DatasetGrant("D1", "FI"),),
    Purpose("statistics"),
    (AlgorithmGrant("cohort-count"),),
    date(2026, 1, 1),
    date(2026, 1, 1),
    question="How many?",
)
CONTRACT = HealthcareContract(
    "K1", "hdab-fi", "hospital", ("FI",), (AlgorithmGrant("match"),), date(2026, 1, 1), date(2026, 12, 31)
)
APPROVAL = AlgorithmApproval("gwas", "1", DIGEST, "model", ("counts",), {"maf": ParameterBounds(0.1)}, NOW)


@pytest.mark.parametrize(
    "record",
    [permit(), permit(project=None, ethics=()), REQUEST, CONTRACT, APPROVAL, KEY],
    ids=lambda r: type(r).__name__,
)
def test_documents_read_back_unchanged(record: Document) -> None:
    assert type(record).from_document(record.to_document()) == record


def test_order_claims_read_back_unchanged() -> None:
    assert RunOrder.from_claims(order().to_claims()) == order()


def test_a_person_key_s_thumbprint_is_that_of_rfc_7638() -> None:
    assert ECKey.import_key(dict(KEY.jwk)).thumbprint() == KEY.thumbprint == KEY.jwk["kid"]


def test_a_permit_answers_for_persons_nodes_and_algorithms() -> None:
    held = permit()
    assert held.person("alice") is not None
    assert held.person("bob") is None
    assert held.nodes == ("FI", "PT")
    assert [grant.dataset for grant in held.at_node("PT")] == ["D2"]
    gwas = AlgorithmRef("gwas", "1.2.0", DIGEST)
    assert held.algorithms[0].covers(gwas, release_class="model")
    assert not held.algorithms[0].covers(AlgorithmRef("gwas", "1.3.0", DIGEST), release_class="model")
    assert held.algorithms[1].covers(gwas, release_class="counts")
    assert not held.algorithms[1].covers(gwas, release_class=None)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"surprise": 1}, "Permit"),
        ({"id": 7}, "Permit.id"),
        ({"id": "P1\u200b"}, "Permit.id"),  # a zero-width space
        ({"id": "Р1"}, "Permit.id"),  # a Cyrillic letter
        ({"id": ""}, "Permit.id"),
        ({"id": "x" * 256}, "Permit.id"),
        ({"persons": [{"id": "alice"}]}, "Permit.persons[0]"),
        ({"persons": {"id": "alice"}}, "Permit.persons"),
        ({"purpose": {"basis": "world-domination"}}, "Permit.purpose.basis"),
        ({"purpose": {"basis": "research", "diseases": ["MONDO:1"]}}, "Purpose.diseases"),
        ({"purpose": {"basis": "research", "topics": ["disease"]}}, "Purpose.diseases"),
        ({"valid_until": "2025-01-01"}, "valid_until"),
        ({"valid_until": "2027-02-30"}, "Permit.valid_until"),
        ({"valid_until": 20271231}, "Permit.valid_until"),
        ({"valid_until": "9999-01-01"}, "Permit.valid_until"),
        ({"algorithms": [{}]}, "AlgorithmGrant"),
        ({"algorithms": ["gwas"]}, "Permit.algorithms[0]"),
        ({"budget_rho": float("nan")}, "Permit.budget_rho"),
        ({"budget_rho": True}, "Permit.budget_rho"),
        ({"datasets": [{"dataset": "D1", "node": "FI"}] * (MAX_ITEMS + 1)}, "Permit.datasets"),
        ({"ethics": [{"id": "E", "valid_until": "2027-01-01", "digest": "md5:1"}]}, "Permit.ethics[0].digest"),
    ],
)
def test_a_permit_document_with_a_fault_names_the_field(change: dict[str, object], where: str) -> None:
    with pytest.raises(Invalid) as caught:
        Permit.from_document(permit().to_document() | change)
    assert caught.value.where == where


@pytest.mark.parametrize("name", ["id", "persons", "purpose", "valid_until"])
def test_a_missing_field_is_named(name: str) -> None:
    document = {key: value for key, value in permit().to_document().items() if key != name}
    with pytest.raises(Invalid, match=name):
        Permit.from_document(document)


def test_a_person_is_named_once() -> None:
    with pytest.raises(Invalid, match="twice"):
        permit(persons=(NamedPerson("alice", KEY), NamedPerson("alice", KEY)))


@pytest.mark.parametrize(
    "change",
    [
        {"aud": ["FI", "PT"]},
        {"aud": "SE"},
        {"roster": []},
        {"roster": ["FI", "FI"]},
        {"quorum": 0},
        {"quorum": 3},
        {"quorum": True},
        {"datasets": []},
        {"datasets": ["D1", "D1"]},
        {"exp": 0},
        {"exp": 2**60},
        {"exp": 1e9},
        {"iat": -1},
        {"parameters": []},
        {"parameters": {"x": float("inf")}},
        {"parameters": {"x": "\ud800"}},
        {"algorithm": {"name": "gwas", "version": "1", "digest": "sha256:zz"}},
        {"allow_partial": "yes"},
        {"extra": 1},
    ],
    ids=str,
)
def test_an_order_with_a_fault_is_invalid(change: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        RunOrder.from_claims(order().to_claims() | change)


def test_parameters_are_bounded_in_depth_and_number() -> None:
    deep: object = 1
    for _ in range(40):
        deep = [deep]
    for parameters in ({"x": deep}, {"x": list(range(MAX_ITEMS))}, {str(n): n for n in range(MAX_ITEMS)}):
        with pytest.raises(Invalid, match="too deeply or holds too much"):
            RunOrder.from_claims(order().to_claims() | {"parameters": parameters})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
NAMES = sorted(permit().to_document())


@settings(max_examples=150, deadline=None)
@given(document=anything | st.dictionaries(st.sampled_from(NAMES), anything, max_size=8))
def test_no_document_whatever_raises_anything_but_invalid(document: object) -> None:
    for kind in (Permit, HealthDataRequest, HealthcareContract, Person, AlgorithmApproval):
        with pytest.raises(Invalid):
            kind.from_document(document)
    with pytest.raises(Invalid):
        RunOrder.from_claims(document)


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(NAMES), value=anything)
def test_one_changed_field_gives_a_permit_or_invalid(name: str, value: object) -> None:
    try:
        read = Permit.from_document(permit().to_document() | {name: value})
    except Invalid:
        return
    assert Permit.from_document(read.to_document()) == read


@settings(max_examples=100, deadline=None)
@given(anything)
def test_bounded_json_is_either_itself_or_invalid(value: object) -> None:
    with contextlib.suppress(Invalid):
        assert bounded(value, where="x") is value


@pytest.mark.parametrize(
    ("bounds", "value", "admitted"),
    [
        (ParameterBounds(0, 1), 0.5, True),
        (ParameterBounds(0, 1), 1, True),
        (ParameterBounds(0, 1), 1.01, False),
        (ParameterBounds(0, 1), float("nan"), False),
        (ParameterBounds(0, 1), "0.5", False),
        (ParameterBounds(0, 1), None, False),
        (ParameterBounds(0, 1), [0.1, 0.2], True),
        (ParameterBounds(0, 1), [0.1, 2], False),
        (ParameterBounds(choices=("sex", "age")), ["sex", "age"], True),
        (ParameterBounds(choices=("sex", "age")), "income", False),
        (ParameterBounds(choices=("true",)), True, True),
        (ParameterBounds(choices=("true",)), False, False),
        (ParameterBounds(), {"anything": 1}, True),
    ],
)
def test_parameter_bounds(bounds: ParameterBounds, value: object, *, admitted: bool) -> None:
    assert bounds.admits(value) is admitted


def test_an_approval_begins_expires_and_is_revoked() -> None:
    held = AlgorithmApproval(
        "gwas",
        "1",
        DIGEST,
        "model",
        approved_from=NOW,
        expires=NOW + timedelta(days=2),
        revoked_at=NOW + timedelta(days=1),
    )
    assert not held.in_force(NOW - timedelta(seconds=1))
    assert held.in_force(NOW)
    assert not held.in_force(NOW + timedelta(days=2))
    assert not held.revoked(NOW)
    assert held.revoked(NOW + timedelta(days=1))
    with pytest.raises(Invalid):
        AlgorithmApproval("gwas", "1", DIGEST, "model", approved_from=NOW, expires=NOW)
