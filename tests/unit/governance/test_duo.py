"""Data use: all 25 terms, a plain table as oracle for the permissions, and the properties that must never break."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federome.governance.duo import EEA, EU, TERMS, VERDICTS, Use, in_region, match, months_later, record_faults
from federome.model.ontology import Terms, compile_terms
from federome.model.permit import EthicsDocument, Purpose
from federome.model.registry import DataUse, Institution, Modifier

HEART, CORONARY, CANCER = "MONDO:0005267", "MONDO:0005010", "MONDO:0004992"
ONTOLOGY = compile_terms(
    Terms(
        "mondo/test",
        {},
        {HEART: (), CORONARY: (HEART,), CANCER: ()},
        merged={"MONDO:0000009": HEART},
        obsolete=frozenset({"MONDO:0000008"}),
    )
)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
UNI = Institution("uni-a", "FI", for_profit=False)
COMPANY = Institution("pharmax", "DE")
USE = Use(Purpose("research", ("health",)), ONTOLOGY, NOW, "alice", UNI, "p1", (EthicsDocument("E", date(2026, 6, 1)),))
HMB = DataUse("HMB")


def codes(data_use: DataUse, use: Use = USE) -> list[str]:
    return sorted({reason.code for reason in match(data_use, use, dataset="D").reasons})


def purpose(*topics: str, diseases: tuple[str, ...] = (), **changes: object) -> Use:
    stated = Purpose("research", topics, diseases, **changes)  # type: ignore[arg-type]
    return replace(USE, purpose=stated)


def test_the_terms_are_those_of_the_released_ontology(shared: Path) -> None:
    with (shared / "standards" / "duo" / "duo.csv").open() as file:
        released = {row["id"]: (row["shorthand"], row["label"]) for row in csv.DictReader(file)}
    assert {term.id: (term.code, term.label) for term in TERMS} == released
    assert len(TERMS) == 25


# The whole of rule R12 as a table: which topics each permission admits, and the code where it does not.
ADMITS = {
    "NRES": {"general": "", "health": "", "population": "", "methods": "", "disease": ""},
    "GRU": {"general": "", "health": "", "population": "", "methods": "", "disease": ""},
    "HMB": {
        "general": "duo_general_on_specific",
        "health": "",
        "population": "duo_population",
        "methods": "",
        "disease": "",
    },
    "DS": {
        "general": "duo_general_on_specific",
        "health": "duo_general_on_specific",
        "population": "duo_population",
        "methods": "duo_general_on_specific",
        "disease": "",
    },
    "POA": {
        "general": "duo_population",
        "health": "duo_population",
        "population": "",
        "methods": "duo_population",
        "disease": "duo_population",
    },
}


@pytest.mark.parametrize("permission", ADMITS)
@pytest.mark.parametrize("topic", ["general", "health", "population", "methods", "disease"])
def test_permissions_admit_exactly_what_the_table_says(permission: str, topic: str) -> None:
    data_use = DataUse(permission, (HEART,) if permission == "DS" else ())
    use = purpose(topic, diseases=(CORONARY,) if topic == "disease" else ())
    expected = ADMITS[permission][topic]
    assert codes(data_use, use) == ([expected] if expected else [])


def test_no_topic_means_a_general_purpose() -> None:
    assert codes(DataUse("DS", (HEART,)), purpose()) == ["duo_general_on_specific"]


@pytest.mark.parametrize(
    ("own", "wanted", "admitted"),
    [
        ((HEART,), (HEART,), True),
        ((HEART,), (CORONARY,), True),
        ((CORONARY,), (HEART,), False),
        ((HEART,), (CORONARY, CANCER), False),
        ((HEART, CANCER), (CORONARY, CANCER), True),
        (("MONDO:0000009",), (CORONARY,), True),  # the record's id was merged into a newer one
        (("MONDO:7777777",), (CORONARY,), False),
    ],
)
def test_a_disease_dataset_admits_its_disease_and_what_is_below(
    own: tuple[str, ...], wanted: tuple[str, ...], *, admitted: bool
) -> None:
    assert (codes(DataUse("DS", own), purpose("disease", diseases=wanted)) == []) is admitted


def test_obsolete_diseases_go_back_to_a_person_in_an_application_and_are_refused_at_run_time() -> None:
    use = purpose("disease", diseases=("MONDO:0000008",))
    assert match(DataUse("GRU"), replace(use, new=True), dataset="D").verdict == "refer"
    assert match(DataUse("GRU"), use, dataset="D").verdict == "deny"
    merged = purpose("disease", diseases=("MONDO:0000009",))
    assert match(DataUse("GRU"), replace(merged, new=True), dataset="D").verdict == "refer"
    assert match(DataUse("GRU"), merged, dataset="D").verdict == "allow"
    unknown = purpose("disease", diseases=("MONDO:1234567",))
    assert match(DataUse("GRU"), replace(unknown, new=True), dataset="D").verdict == "deny"


MODIFIERS = {
    "GS": Modifier("GS", regions=("EU",)),
    "NCU": Modifier("NCU"),
    "NPU": Modifier("NPU"),
    "NPUNCU": Modifier("NPUNCU"),
    "US": Modifier("US", persons=("alice",)),
    "PS": Modifier("PS", projects=("p1",)),
    "IS": Modifier("IS", institutions=("uni-a",)),
    "TS": Modifier("TS", months=12),
    "GSO": Modifier("GSO"),
    "NMDS": Modifier("NMDS"),
    "NPOA": Modifier("NPOA"),
    "IRB": Modifier("IRB"),
    "RS": Modifier("RS", text="paediatric cardiology only"),
    "PUB": Modifier("PUB"),
    "MOR": Modifier("MOR", until=date(2026, 12, 31)),
    "COL": Modifier("COL"),
    "RTN": Modifier("RTN"),
    "CC": Modifier("CC"),
}


def test_every_modifier_of_the_ontology_is_tested_here() -> None:
    assert set(MODIFIERS) == {term.code for term in TERMS if term.kind == "modifier"}


@pytest.mark.parametrize("code", MODIFIERS)
def test_a_fitting_use_meets_every_modifier_by_shorthand_and_by_id(code: str) -> None:
    term = next(term for term in TERMS if term.code == code)
    for name in (term.code, term.id):
        answer = match(DataUse("HMB", (), (replace(MODIFIERS[code], code=name),)), USE, dataset="D")
        expected = {"RS": "refer"} | dict.fromkeys(("PUB", "MOR", "COL", "RTN"), "allow-with-obligations")
        assert answer.verdict == expected.get(code, "allow")


@pytest.mark.parametrize(
    ("code", "use", "reason"),
    [
        ("GS", replace(USE, institution=replace(UNI, country="US")), "duo_geography"),
        ("GS", replace(USE, institution=None), "duo_geography"),
        ("NCU", purpose("health", commercial=True), "duo_commercial"),
        ("NPU", replace(USE, institution=COMPANY), "duo_nonprofit_org"),
        ("NPU", replace(USE, institution=None), "duo_nonprofit_org"),
        ("US", replace(USE, person="bob"), "duo_user"),
        ("US", replace(USE, person=None), "duo_user"),
        ("PS", replace(USE, project=None), "duo_project"),
        ("IS", replace(USE, institution=COMPANY), "duo_institution"),
        ("TS", replace(USE, began=date(2025, 6, 1)), "duo_time_limit"),
        ("GSO", purpose("health", genetic=False), "duo_genetic_only"),
        ("NMDS", purpose("methods"), "duo_methods"),
        ("IRB", replace(USE, ethics=()), "duo_ethics_missing"),
        ("IRB", replace(USE, ethics=(EthicsDocument("E", date(2026, 5, 31)),)), "duo_ethics_missing"),
    ],
)
def test_an_unfitting_use_is_refused_with_its_own_reason(code: str, use: Use, reason: str) -> None:
    assert codes(DataUse("HMB", (), (MODIFIERS[code],)), use) == [reason]
    assert codes(HMB, use) == []


def test_both_halves_of_npuncu() -> None:
    use = replace(purpose("health", commercial=True), institution=COMPANY)
    assert codes(DataUse("HMB", (), (MODIFIERS["NPUNCU"],)), use) == ["duo_commercial", "duo_nonprofit_org"]


def test_ancestry_research_is_excluded_where_it_would_be_admitted() -> None:
    assert codes(DataUse("GRU", (), (MODIFIERS["NPOA"],)), purpose("population")) == ["duo_population"]


def test_the_time_limit_ends_on_the_day() -> None:
    limited = DataUse("HMB", (), (MODIFIERS["TS"],))
    began = replace(USE, began=date(2025, 6, 2))
    assert codes(limited, began) == []
    assert codes(limited, replace(began, now=datetime(2026, 6, 2, tzinfo=UTC))) == ["duo_time_limit"]


@pytest.mark.parametrize(
    ("day", "months", "later"),
    [
        (date(2026, 1, 31), 1, date(2026, 2, 28)),
        (date(2024, 1, 31), 1, date(2024, 2, 29)),
        (date(2025, 12, 15), 1, date(2026, 1, 15)),
        (date(2025, 9, 1), 12, date(2026, 9, 1)),
        (date(2025, 9, 1), 0, date(2025, 9, 1)),
    ],
)
def test_months_later(day: date, months: int, later: date) -> None:
    assert months_later(day, months) == later


def test_words_that_a_committee_has_read_need_no_second_reading() -> None:
    restricted = DataUse("HMB", (), (MODIFIERS["RS"],))
    assert codes(restricted) == ["duo_free_text"]
    assert match(restricted, replace(USE, resolved=frozenset({"DUO:0000012"})), dataset="D").verdict == "allow"


def test_care_needs_cc_and_asks_for_no_research_permission() -> None:
    care = replace(USE, purpose=Purpose("care"), ethics=())
    strict = DataUse("DS", (CANCER,), (MODIFIERS["CC"], MODIFIERS["IRB"], MODIFIERS["NMDS"], MODIFIERS["NPOA"]))
    assert match(strict, care, dataset="D").verdict == "allow"
    assert codes(DataUse("NRES"), care) == ["duo_clinical"]
    abroad = replace(care, institution=replace(UNI, country="US"))
    assert codes(DataUse("HMB", (), (MODIFIERS["CC"], MODIFIERS["GS"])), abroad) == ["duo_geography"]


@pytest.mark.parametrize(
    "record",
    [
        DataUse("XYZ"),
        DataUse("DUO:0000001"),
        DataUse("GS"),
        DataUse("DS"),
        DataUse("HMB", (HEART,)),
        DataUse("HMB", (), (Modifier("HMB"),)),
        DataUse("HMB", (), (Modifier("DUO:0000017"),)),
        DataUse("HMB", (), (Modifier("GS"),)),
        DataUse("HMB", (), (Modifier("GS", regions=("Europe",)),)),
        DataUse("HMB", (), (Modifier("TS"),)),
        DataUse("HMB", (), (Modifier("TS", months=0),)),
        DataUse("HMB", (), (Modifier("TS", months=10**9),)),
        DataUse("HMB", (), (Modifier("MOR"),)),
        DataUse("HMB", (), (Modifier("RS", text="  "),)),
        DataUse("HMB", (), (Modifier("US"),)),
        DataUse("HMB", (), (Modifier("PS"),)),
        DataUse("HMB", (), (Modifier("IS"),)),
        DataUse("POA", (), (Modifier("NPOA"),)),
    ],
    ids=str,
)
def test_a_record_that_makes_no_sense_is_refused_and_says_why(record: DataUse) -> None:
    answer = match(record, USE, dataset="D")
    assert answer.verdict == "invalid"
    assert [reason.code for reason in answer.reasons] == ["incomplete"]
    assert record_faults(record)


def test_regions() -> None:
    assert len(EU) == 27
    assert in_region("NO", "EEA")
    assert not in_region("NO", "EU")
    assert in_region("GB", "GB")
    assert not in_region("GB", "EEA")
    assert EU < EEA


def test_an_answer_explains_itself() -> None:
    answer = match(DataUse("DS", (HEART,), (MODIFIERS["MOR"],)), purpose("disease", diseases=(CANCER,)), dataset="D6")
    assert answer.explanation == (
        "D6 is consented for DS (disease specific research); MOR (publication moratorium).",
        f"D6: it is for {HEART}, and {CANCER} is not below that.",
        "Whoever uses D6 owes: no_publication_before 2026-12-31.",
    )


# --- properties -------------------------------------------------------------------------------------------------

permissions = st.sampled_from(
    [DataUse("NRES"), DataUse("GRU"), HMB, DataUse("DS", (HEART,)), DataUse("DS", (CORONARY, CANCER)), DataUse("POA")]
)
odd = st.sampled_from([Modifier("GS", regions=("US",)), Modifier("US", persons=("bob",)), Modifier("TS", months=1)])
modifiers = st.lists(st.sampled_from(list(MODIFIERS.values())) | odd, max_size=6)
purposes = st.builds(
    lambda topics, diseases, commercial, genetic: Purpose(
        "research",
        tuple(topics | ({"disease"} if diseases else set())),
        tuple(sorted(diseases)),
        commercial,
        genetic,
    ),
    st.sets(st.sampled_from(["general", "health", "population", "methods"])),
    st.sets(st.sampled_from([HEART, CORONARY, CANCER, "MONDO:0000008", "MONDO:1234567"])),
    st.booleans(),
    st.booleans(),
)
uses = st.builds(
    lambda stated, institution, person, project, ethics, began, new: Use(
        stated, ONTOLOGY, NOW, person, institution, project, ethics, began, frozenset(), new
    ),
    purposes,
    st.sampled_from([None, UNI, COMPANY, Institution("univ-c", "US", for_profit=False)]),
    st.sampled_from([None, "alice", "bob"]),
    st.sampled_from([None, "p1"]),
    st.sampled_from([(), USE.ethics, (EthicsDocument("E", date(2020, 1, 1)),)]),
    st.sampled_from([None, date(2020, 1, 1), date(2026, 1, 1)]),
    st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(base=permissions, listed=modifiers, more=st.sampled_from(list(MODIFIERS.values())) | odd, use=uses)
def test_adding_a_modifier_never_widens(base: DataUse, listed: list[Modifier], more: Modifier, use: Use) -> None:
    """For research. CC is the one modifier that adds a use, namely care."""
    before = match(replace(base, modifiers=tuple(listed)), use, dataset="D")
    after = match(replace(base, modifiers=(*listed, more)), use, dataset="D")
    assert VERDICTS.index(after.verdict) >= VERDICTS.index(before.verdict)
    if after.verdict != "invalid":
        assert set(before.reasons) <= set(after.reasons)
        assert set(before.obligations) <= set(after.obligations)


@settings(max_examples=200, deadline=None)
@given(base=permissions, listed=modifiers, use=uses, data=st.data())
def test_the_order_of_modifiers_changes_nothing(
    base: DataUse, listed: list[Modifier], use: Use, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(listed))
    first = match(replace(base, modifiers=tuple(listed)), use, dataset="D")
    second = match(replace(base, modifiers=tuple(shuffled)), use, dataset="D")
    assert (first.verdict, first.reasons, first.obligations) == (second.verdict, second.reasons, second.obligations)


@settings(max_examples=200, deadline=None)
@given(use=uses, listed=modifiers)
def test_wider_permissions_admit_what_narrower_ones_do(use: Use, listed: list[Modifier]) -> None:
    """NRES over GRU over HMB and POA; HMB over DS (rule R12)."""

    def rank(permission: str, diseases: tuple[str, ...] = ()) -> int:
        return VERDICTS.index(match(DataUse(permission, diseases, tuple(listed)), use, dataset="D").verdict)

    poa_makes_sense = not any(modifier.code == "NPOA" for modifier in listed)
    assert rank("NRES") == rank("GRU") <= rank("HMB") <= rank("DS", (HEART,))
    assert rank("GRU") <= rank("POA") or not poa_makes_sense


@settings(max_examples=200, deadline=None)
@given(use=uses, listed=modifiers, base=permissions)
def test_a_wider_purpose_is_never_easier(use: Use, listed: list[Modifier], base: DataUse) -> None:
    wider = replace(use, purpose=replace(use.purpose, topics=(*use.purpose.topics, "population"), commercial=True))
    data_use = replace(base, modifiers=tuple(listed))
    if use.purpose.topics:  # no topic at all is the widest purpose there is
        before = set(match(data_use, use, dataset="D").reasons)
        assert before <= set(match(data_use, wider, dataset="D").reasons)
