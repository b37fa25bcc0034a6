"""GA4GH Phenopackets 2.0 (ISO 4454) as JSON into the same fields that a phenotype table has.

Used by `phenotypes`, which then checks them like any table. Only what the minimal dataset of this product keeps is
read; what a packet says beyond that stays in the packet. Fields: phenopacket-schema 2.0, JSON names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from federome.errors import Invalid
from federome.ingest.columns import NULL_FLAVORS

_SEX = {"MALE": "male", "FEMALE": "female"}
_STATUS = {"SOLVED": "solved", "UNSOLVED": "unsolved", "IN_PROGRESS": "unsolved"}

# LOINC code -> field and the UCUM units that the field is kept in.
MEASUREMENTS: dict[str, tuple[str, frozenset[str]]] = {
    "LOINC:39156-5": ("bmi_kg_m2", frozenset({"kg/m2"})),
    "LOINC:22748-8": ("ldl_c_mmol_l", frozenset({"mmol/L"})),
    "LOINC:39469-2": ("ldl_c_mmol_l", frozenset({"mmol/L"})),
    "LOINC:8480-6": ("sbp_mmhg", frozenset({"mm[Hg]"})),
    "LOINC:8462-4": ("dbp_mmhg", frozenset({"mm[Hg]"})),
    "LOINC:59261-8": ("hba1c_mmol_mol", frozenset({"mmol/mol"})),
    "LOINC:14682-9": ("creatinine_umol_l", frozenset({"umol/L"})),
}
LISTS = ("diagnosis_icd10", "diagnosis_year", "hpo_terms", "medication_atc")
_ICD10 = re.compile(r"(?:ICD-?10)(?:-?CM|-?GM|-?WHO)?:(.+)", re.IGNORECASE)
_ATC = re.compile(r"ATC:(.+)", re.IGNORECASE)
_SNAKE = re.compile(r"_([a-z])")
_AGE = re.compile(r"P(\d+)Y")


@dataclass(frozen=True, slots=True)
class Packets:
    """One row of texts a packet, where each packet stands, and the packets as they are.

    Lists are joined by ``;`` and may be empty; a list that a packet says nothing of is not in its row.
    """

    rows: Sequence[Mapping[str, str]]
    places: Sequence[str]
    packets: Sequence[object]


class _Node:
    """A JSON object, read by lowerCamelCase names; snake_case, which the schema's tools also write, is accepted."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise Invalid("an object belongs here.", where=where, remedy="See phenopacket-schema 2.0.")
        self._values = {_SNAKE.sub(lambda m: m[1].upper(), str(name)): inner for name, inner in value.items()}
        self.where = where

    def text(self, name: str) -> str:
        value = self._values.get(name, "")
        if not isinstance(value, str):
            raise Invalid("a text belongs here.", where=f"{self.where}.{name}", remedy="See phenopacket-schema 2.0.")
        return value

    def number(self, name: str) -> float:
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Invalid("a number belongs here.", where=f"{self.where}.{name}", remedy="See phenopacket-schema 2.0.")
        return value

    def flag(self, name: str) -> bool:
        return self._values.get(name) is True

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def child(self, name: str) -> _Node:
        return _Node(self._values.get(name) or {}, f"{self.where}.{name}")

    def children(self, name: str) -> Iterator[_Node]:
        values = self._values.get(name) or []
        if not isinstance(values, list):
            raise Invalid("a list belongs here.", where=f"{self.where}.{name}", remedy="See phenopacket-schema 2.0.")
        for number, value in enumerate(values):
            yield _Node(value, f"{self.where}.{name}[{number}]")


def read_phenopackets(path: Path) -> Packets:
    """Packets of a ``.json`` file (one, or a list of them) or of all ``.json`` files of a folder, in name order."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise Invalid("the folder holds no Phenopackets.", where=str(path), remedy="Add one .json file a person.")
    rows, places, packets = [], [], []
    for file in files:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:  # also numbers and nesting without end
            line = getattr(error, "lineno", 1)
            raise Invalid(
                "the file is truncated or not JSON.", where=f"{file}:{line}", remedy="Export it again."
            ) from None
        several = isinstance(content, list)
        for number, packet in enumerate(content if several else [content], 1):
            places.append(f"{file}, packet {number}" if several else str(file))
            rows.append(read_packet(packet, places[-1]))
            packets.append(packet)
    return Packets(rows, places, packets)


def read_packet(packet: object, where: str) -> dict[str, str]:
    """One packet as a row of texts."""
    return _row(_Node(packet, where))


def _row(packet: _Node) -> dict[str, str]:
    subject = packet.child("subject")
    birth = subject.text("dateOfBirth")[:4]
    row = {
        "person_id": subject.text("id"),
        "sex": _SEX.get(subject.text("sex"), ""),
        "administrative_gender": _gender(subject),
        "birth_year": birth,
        **_diseases(packet, birth),
        **_sample(packet),
        **dict(_measurements(packet)),
        "case_status": _case_status(packet),
    }
    lists = {"hpo_terms": _features(packet), "medication_atc": _drugs(packet)}
    given = {name: ";".join(items) for name, items in lists.items() if items is not None}
    return {name: value for name, value in row.items() if value or name in LISTS} | given


def _features(packet: _Node) -> list[str] | None:
    """The HPO terms; None where the packet says nothing of them, or speaks of other ontologies only."""
    told = [(each, each.child("type").text("id")) for each in packet.children("phenotypicFeatures")]
    ours = [(each, term) for each, term in told if term.startswith("HP:")]
    if not ours and (told or not packet.has("phenotypicFeatures")):
        return None
    return [term for each, term in ours if not each.flag("excluded")]


def _gender(subject: _Node) -> str:
    """The administrative gender; packets name it as an ontology term or not at all."""
    label = subject.child("gender").text("label")
    if label.upper() in NULL_FLAVORS:
        return label.upper()
    return label.lower() if label.lower() in ("male", "female", "other") else "unknown"


def _diseases(packet: _Node, birth: str) -> dict[str, str]:
    codes, years, others, ours = [], [], False, False
    for disease in packet.children("diseases"):
        found = _ICD10.fullmatch(disease.child("term").text("id"))
        ours, others = ours or bool(found), others or not found
        if found and not disease.flag("excluded"):
            codes.append(found[1])
            years.append(_onset_year(disease.child("onset"), birth))
    if not ours and (others or not packet.has("diseases")):
        return {}
    row = {"diagnosis_icd10": ";".join(codes)}
    return row | {"diagnosis_year": ";".join(years)} if all(years) else row


def _onset_year(onset: _Node, birth: str) -> str:
    if onset.text("timestamp"):
        return onset.text("timestamp")[:4]
    age = _AGE.match(onset.child("age").text("iso8601duration"))
    return str(int(birth) + int(age[1])) if age and birth.isdigit() else ""


def _sample(packet: _Node) -> dict[str, str]:
    for sample in packet.children("biosamples"):
        return {
            "sample_id": sample.text("id"),
            "sample_date": sample.child("timeOfCollection").text("timestamp")[:10],
            "sample_organism": sample.child("taxonomy").text("id"),
            "sample_anatomical_location": sample.child("sampledTissue").text("id"),
            "sample_biospecimen_type": sample.child("sampleType").text("id"),
        }
    return {}


def _measurements(packet: _Node) -> Iterator[tuple[str, str]]:
    for measurement in packet.children("measurements"):
        known = MEASUREMENTS.get(measurement.child("assay").text("id"))
        if known is None:
            continue
        quantity = measurement.child("value").child("quantity")
        unit = quantity.child("unit").text("id").removeprefix("UCUM:")
        if unit not in known[1]:
            raise Invalid(
                f"the unit of {known[0]!r} is another one.",
                where=quantity.where,
                remedy=f"Convert it to {' or '.join(known[1])} (UCUM).",
            )
        yield known[0], repr(quantity.number("value"))


def _drugs(packet: _Node) -> list[str] | None:
    """The ATC codes; None where the packet says nothing of drugs, or in other codes only."""
    told = list(packet.children("medicalActions"))
    found = [_ATC.fullmatch(each.child("treatment").child("agent").text("id")) for each in told]
    codes = [each[1] for each in found if each]
    return codes if codes or (packet.has("medicalActions") and not told) else None


def _case_status(packet: _Node) -> str:
    """From the interpretations; a packet without diseases and interpretations is a control's."""
    for interpretation in packet.children("interpretations"):
        status = _STATUS.get(interpretation.text("progressStatus"))
        if status:
            return status
        if interpretation.text("summary") == "control":
            return "control"
    return "unsolved" if any(packet.children("diseases")) else "control"


_LEAVES = frozenset(
    (
        *(f"subject.{name}" for name in ("id", "sex", "dateOfBirth", "gender.id", "gender.label")),
        "phenotypicFeatures.type.id",
        "phenotypicFeatures.type.label",
        *(f"diseases.{name}" for name in ("term.id", "term.label", "onset.timestamp", "onset.age.iso8601duration")),
        *(f"measurements.{name}" for name in ("assay.id", "assay.label", "value.quantity.value")),
        *(f"measurements.value.quantity.unit.{name}" for name in ("id", "label")),
        *(f"medicalActions.treatment.agent.{name}" for name in ("id", "label")),
        *(f"biosamples.{name}" for name in ("id", "timeOfCollection.timestamp")),
        *(
            f"biosamples.{name}.{part}"
            for name in ("taxonomy", "sampledTissue", "sampleType")
            for part in ("id", "label")
        ),
        *(f"interpretations.{name}" for name in ("id", "progressStatus", "summary")),
    )
)
_ENVELOPE = ("id", "metaData")


def is_read(path: str) -> bool:
    """Whether a leaf of a packet, named by its path without places in lists, is read or only wraps the packet."""
    plain = _SNAKE.sub(lambda m: m[1].upper(), path)
    return plain in _LEAVES or plain.split(".")[0] in _ENVELOPE


def is_taken(path: str, item: object, at: int) -> bool:
    """Whether an item of a list becomes a field's value: of features, diseases and the like not all do."""
    if not isinstance(item, Mapping):
        return True
    node = _Node(item, path)
    match path:
        case "phenotypicFeatures" | "phenotypic_features":
            return not node.flag("excluded") and node.child("type").text("id").startswith("HP:")
        case "diseases":
            return not node.flag("excluded") and bool(_ICD10.fullmatch(node.child("term").text("id")))
        case "measurements":
            return node.child("assay").text("id") in MEASUREMENTS
        case "medicalActions" | "medical_actions":
            return bool(_ATC.fullmatch(node.child("treatment").child("agent").text("id")))
        case "biosamples":
            return at == 0
        case _:
            return True
