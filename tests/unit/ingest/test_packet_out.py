"""A person as a Phenopacket and back again is the same person, and what no field takes is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ingest.test_phenotypes import PACKET

from federome.ingest.packet_out import UNMAPPED, not_read, to_packet
from federome.ingest.phenopackets import MEASUREMENTS, read_packet

NOW = datetime(2026, 11, 27, tzinfo=UTC)
NUMBER = st.floats(1, 300).map(lambda value: repr(round(value, 3)))


@st.composite
def rows(draw: st.DrawFn) -> dict[str, str]:
    born = draw(st.integers(1930, 2005))
    codes = draw(st.lists(st.sampled_from(("I25.1", "E11.9", "C34.1", "I10")), unique=True, max_size=3))
    row = {
        "person_id": "P7",
        "birth_year": str(born),
        "administrative_gender": draw(st.sampled_from(("male", "female", "other", "unknown", "UNK", "ASKU"))),
        "case_status": draw(st.sampled_from(("solved", "unsolved", "control"))),
        "sex": draw(st.sampled_from(("male", "female", ""))),
        "sample_id": draw(st.sampled_from(("S7", ""))),
        "sample_date": draw(st.sampled_from(("2021-05-04", ""))),
        "sample_organism": draw(st.sampled_from(("NCBITaxon:9606", ""))),
        "sample_anatomical_location": draw(st.sampled_from(("UBERON:0000178", ""))),
        "sample_biospecimen_type": draw(st.sampled_from(("OBI:0000655", ""))),
        **{name: draw(st.one_of(st.just(""), NUMBER)) for name, _ in sorted(MEASUREMENTS.values())},
    }
    lists = {
        "diagnosis_icd10": ";".join(codes),
        "hpo_terms": ";".join(draw(st.lists(st.sampled_from(("HP:0001250", "HP:0001677")), unique=True))),
        "medication_atc": ";".join(draw(st.lists(st.sampled_from(("C10AA05", "B01AC06")), unique=True))),
    }
    told = {name: value for name, value in lists.items() if draw(st.booleans())}  # the others are not known
    if "diagnosis_icd10" in told and (not codes or draw(st.booleans())):
        told["diagnosis_year"] = ";".join(str(born + draw(st.integers(-1, 20))) for _ in codes)
    return {name: value for name, value in row.items() if value} | told


@given(rows())
@settings(max_examples=25, deadline=None)
def test_a_row_written_as_a_packet_is_read_as_the_same_row(row: dict[str, str]) -> None:
    packet = to_packet(row, created=NOW)
    assert read_back(packet) == row
    assert not not_read(packet)


def read_back(packet: object) -> dict[str, str]:
    return read_packet(json.loads(json.dumps(packet)), "here")


def test_a_packet_keeps_all_that_is_mapped_and_the_rest_is_named() -> None:
    row = read_back(PACKET)
    assert read_back(to_packet(row, created=NOW)) == row
    assert not_read(PACKET) == {
        "phenotypicFeatures (of no field)": 1,
        "diseases (of no field)": 2,
        "medicalActions (of no field)": 1,
        "measurements (of no field)": 1,
    }
    more = {**PACKET, "subject": {**PACKET["subject"], "vitalStatus": {"status": "DECEASED"}}}  # type: ignore[dict-item]
    assert "subject.vitalStatus.status" in not_read(more)


def test_fields_without_a_place_in_a_packet_are_those_that_are_said() -> None:
    written = to_packet({"person_id": "P7", **dict.fromkeys(UNMAPPED, "x")}, created=NOW)
    assert set(written) == {"id", "subject", "metaData"} and written["subject"] == {"id": "P7"}


def test_no_list_is_no_empty_list() -> None:
    known = to_packet({"person_id": "P7", "hpo_terms": "", "diagnosis_icd10": "I10"}, created=NOW)
    assert known["phenotypicFeatures"] == [] and "medicalActions" not in known
    other = {**known, "diseases": [{"term": {"id": "MONDO:0005010"}}], "medicalActions": []}
    row = read_back(other)
    assert row["hpo_terms"] == row["medication_atc"] == "" and "diagnosis_icd10" not in row
