"""People of open datasets as Beacon records: an individual, the sample, the run and the analysis of their genotypes.

A dataset holds one sample, one run and one analysis for everybody, so all four are told of from one row. What is not
known is left out; the day of a run, which Beacon demands and a dataset may not hold, is said to be that of its release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, cast

from federome.model.discovery import DISEASES, ONSET, Person, Room
from federome.standards.beacon.filters import FIELDS, NUMBERS
from federome.trust.canonical import Json

Record = dict[str, Json]
_SEX: Final = {
    "female": {"id": "NCIT:C16576", "label": "female"},
    "male": {"id": "NCIT:C20197", "label": "male"},
    "": {"id": "NCIT:C17998", "label": "unknown"},
}
SUFFIX: Final[Mapping[str, str]] = {"individual": "", "biosample": ":sample", "run": ":run", "analysis": ":analysis"}
"""What makes the id of a record of each kind from that of its person."""
_UNITS: Final = {
    "bmi_kg_m2": "kg/m2",
    "ldl_c_mmol_l": "mmol/L",
    "sbp_mmhg": "mm[Hg]",
    "dbp_mmhg": "mm[Hg]",
    "hba1c_mmol_mol": "mmol/mol",
    "creatinine_umol_l": "umol/L",
}
_TOLD: Final = ("population", "country_of_origin", "ancestry", "case_status", "smoking", "age", ONSET)


def person_of(kind: str, name: str) -> str | None:
    """The person whose record this id is; ``None`` if it is of another kind."""
    suffix = SUFFIX[kind]
    return name.removesuffix(suffix) if name.endswith(suffix) and len(name) > len(suffix) else None


def record(kind: str, person: Person, room: Room) -> Record:
    """One record of a kind."""
    return _MAKE[kind](person, room)


def individual(person: Person, room: Room) -> Record:
    """The person."""
    values = person.values
    told: Record = {"id": person.id, "sex": cast(Json, _SEX.get(str(values.get("sex", "")), _SEX[""]))}
    diseases = [f"ICD10:{code}" for code in cast(list[str], values.get("diagnosis_icd10", []))]
    diseases += cast(list[str], values.get(DISEASES, []))
    if diseases:
        told["diseases"] = [{"diseaseCode": {"id": code, "label": code.rpartition(":")[2]}} for code in diseases]
    if codes := values.get("hpo_terms"):
        told["phenotypicFeatures"] = [{"featureType": {"id": code, "label": code}} for code in cast(list[str], codes)]
    if codes := values.get("medication_atc"):
        told["treatments"] = [
            {"treatmentCode": {"id": f"ATC:{code}", "label": code}} for code in cast(list[str], codes)
        ]
    measures: list[Json] = [
        {
            "assayCode": {"id": each.names[-1], "label": each.label},
            "measurementValue": {"unit": {"id": f"UCUM:{_UNITS[each.column]}", "label": _UNITS[each.column]},
                                 "value": cast(float, values[each.column])},
        }
        for each in NUMBERS
        if each.column in _UNITS and each.column in values
    ]  # fmt: skip
    if measures:
        told["measures"] = measures
    info: Record = {name: cast(Json, values[name]) for name in _TOLD if name in values}
    return told | {"info": {"dataset": room.dataset, **info}}


def biosample(person: Person, room: Room) -> Record:
    """The sample that was sequenced."""
    told: Record = {
        "id": person.id + SUFFIX["biosample"],
        "individualId": person.id,
        "biosampleStatus": {"id": "EFO:0009654", "label": "reference sample"},
        "sampleOriginType": {"id": "OBI:0001479", "label": "specimen from organism"},
    }
    where = str(person.values.get("sample_anatomical_location", ""))
    if where.startswith("UBERON:"):
        told["sampleOriginDetail"] = {"id": where, "label": where}
    return told | {"info": {"dataset": room.dataset}}


def run(person: Person, room: Room) -> Record:
    """The sequencing run."""
    told: Record = {
        "id": person.id + SUFFIX["run"],
        "individualId": person.id,
        "biosampleId": person.id + SUFFIX["biosample"],
        "runDate": room.released_on,
        "librarySource": {"id": "GENEPIO:0001966", "label": "genomic source"},
    }
    if target := person.values.get("sequence_target"):
        told["libraryStrategy"] = cast(Json, target)
    if platform := person.values.get("sequence_platform"):
        told["platform"] = cast(Json, platform)
    return told | {"info": {"dataset": room.dataset, "runDateIs": "the day of the data release"}}


def analysis(person: Person, room: Room) -> Record:
    """The analysis that the genotypes come from."""
    return {
        "id": person.id + SUFFIX["analysis"],
        "individualId": person.id,
        "biosampleId": person.id + SUFFIX["biosample"],
        "runId": person.id + SUFFIX["run"],
        "analysisDate": room.released_on,
        "pipelineName": "data release",
        "info": {"dataset": room.dataset, "release": room.release},
    }


_MAKE: Final[Mapping[str, Callable[[Person, Room], Record]]] = {
    "individual": individual,
    "biosample": biosample,
    "run": run,
    "analysis": analysis,
}
assert set(_TOLD) <= set(FIELDS)
