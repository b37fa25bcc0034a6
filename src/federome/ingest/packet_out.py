"""Rows of the minimal dataset as GA4GH Phenopackets 2.0, and what of a packet no field takes.

The other direction of `phenopackets`: a row that was written is read again as the same row, so a packet that passes
through loses nothing of what a field is mapped to. A list that is known to be empty is written as such, and one that
is not known is left out. Ages at onset are written as durations and years of birth as the
first of January, because the schema has no year.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from federome.ingest.phenopackets import MEASUREMENTS, is_read, is_taken

UNMAPPED: Final = ("population", "country_of_origin", "ancestry", "smoking")
"""Fields of a person that Phenopackets have no place for: they are not written, and whoever writes is told."""
_LISTS: Final = {
    "phenotypicFeatures": "hpo_terms",
    "diseases": "diagnosis_icd10",
    "medicalActions": "medication_atc",
}
_ONE_EACH: Final = {field: (code, sorted(units)[0]) for code, (field, units) in reversed(MEASUREMENTS.items())}

Json = Mapping[str, object]


def to_packet(row: Mapping[str, str], *, created: datetime) -> dict[str, object]:
    """The packet of one person, of a row as `read_phenopackets` gives it."""
    subject: dict[str, object] = {"id": row["person_id"]}
    if row.get("birth_year"):
        subject["dateOfBirth"] = f"{row['birth_year']}-01-01T00:00:00Z"
    if row.get("sex"):
        subject["sex"] = row["sex"].upper()
    if row.get("administrative_gender"):
        subject["gender"] = _term(f"HL7:{row['administrative_gender']}", row["administrative_gender"])
    packet: dict[str, object] = {
        "id": row["person_id"],
        "subject": subject,
        "phenotypicFeatures": [{"type": _term(code, code)} for code in _items(row, "hpo_terms")],
        "diseases": list(_diseases(row)),
        "measurements": list(_measured(row)),
        "medicalActions": [
            {"treatment": {"agent": _term(f"ATC:{code}", code)}} for code in _items(row, "medication_atc")
        ],
        "biosamples": list(_samples(row)),
        "interpretations": list(_status(row)),
        "metaData": {
            "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "createdBy": "federome",
            "resources": [],
            "phenopacketSchemaVersion": "2.0",
        },
    }
    none = {name for name, field in _LISTS.items() if field in row}
    return {name: value for name, value in packet.items() if value != [] or name in none}


def _term(code: str, label: str) -> dict[str, str]:
    return {"id": code, "label": label}


def _items(row: Mapping[str, str], name: str) -> list[str]:
    return [item for item in row.get(name, "").split(";") if item]


def _diseases(row: Mapping[str, str]) -> Iterator[Json]:
    codes, years = _items(row, "diagnosis_icd10"), _items(row, "diagnosis_year")
    for at, code in enumerate(codes):
        disease: dict[str, object] = {"term": _term(f"ICD10:{code}", code)}
        if years:
            age = int(years[at]) - int(row["birth_year"]) if row.get("birth_year") else -1
            timestamp = {"timestamp": f"{years[at]}-01-01T00:00:00Z"}
            disease["onset"] = {"age": {"iso8601duration": f"P{age}Y"}} if age >= 0 else timestamp
        yield disease


def _measured(row: Mapping[str, str]) -> Iterator[Json]:
    for field, (code, unit) in _ONE_EACH.items():
        if row.get(field):
            quantity = {"unit": _term(f"UCUM:{unit}", unit), "value": float(row[field])}
            yield {"assay": _term(code, code), "value": {"quantity": quantity}}


def _samples(row: Mapping[str, str]) -> Iterator[Json]:
    sample: dict[str, object] = {}
    if row.get("sample_id"):
        sample["id"] = row["sample_id"]
    if row.get("sample_date"):
        sample["timeOfCollection"] = {"timestamp": f"{row['sample_date']}T00:00:00Z"}
    for field, name in (
        ("sample_organism", "taxonomy"),
        ("sample_anatomical_location", "sampledTissue"),
        ("sample_biospecimen_type", "sampleType"),
    ):
        if row.get(field):
            sample[name] = _term(row[field], row[field])
    if sample:
        yield sample


def _status(row: Mapping[str, str]) -> Iterator[Json]:
    match row.get("case_status", ""):
        case "solved" | "unsolved" as status:
            yield {"id": "case-status", "progressStatus": status.upper()}
        case "control":
            # No status of the schema says that somebody is a control, and a control may have diagnoses.
            yield {"id": "case-status", "progressStatus": "UNKNOWN_PROGRESS", "summary": "control"}


def not_read(packet: object) -> Counter[str]:
    """Paths of a packet that hold something no field takes, and how often; values are never told."""
    found: Counter[str] = Counter()
    _walk(packet, "", found)
    return found


def _walk(value: object, path: str, found: Counter[str]) -> None:
    match value:
        case Mapping():
            for name, inner in value.items():
                _walk(inner, f"{path}.{name}" if path else str(name), found)
        case list():
            for at, inner in enumerate(value):
                if is_taken(path, inner, at):
                    _walk(inner, path, found)
                else:
                    found[f"{path} (of no field)"] += 1
        case None | "" | False:
            pass
        case _:
            if not is_read(path):
                found[path] += 1
