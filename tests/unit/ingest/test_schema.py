"""The schema is the only source: what is made from it is as it would be made now, and agrees with the validator."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from federome.ingest.columns import COLUMNS
from federome.ingest.schema import build

REPO = Path(__file__).parents[3]
SCHEMA = build.read()
PERSON = {
    "person_id": "P1", "sex": "female", "birth_year": 1970, "administrative_gender": "UNK", "country_of_origin": "FI",
    "case_status": "control", "diagnosis_icd10": [], "bmi_kg_m2": 25.5, "sample_id": "S1",
    "sample_organism": "NCBITaxon:9606", "sample_anatomical_location": "UBERON:0000178", "sequence_target": "WGS",
    "sequence_platform": "OTH", "sequence_mean_depth": 30, "sequence_reference_genome": "GCA_000001405.15",
    "sequence_input_format": "EDAM:format_1930", "sequence_output_format": "EDAM:format_3016", "consent_form_id": "f",
    "consent_form_version": "1", "consent_tier": "secondary-use", "qc_report_digest": "sha256:" + "0" * 64,
    "qc_verdict": "pass",
}  # fmt: skip


@pytest.mark.parametrize("path", build.made(SCHEMA), ids=lambda path: path.name)
def test_nothing_that_is_made_from_it_has_drifted(path: Path) -> None:
    made = build.made(SCHEMA)[path]
    assert (REPO / path).read_text(encoding="utf-8") == made, "run: python -m federome.ingest.schema.build"


def test_a_change_of_the_schema_would_be_seen_everywhere() -> None:
    changed = copy.deepcopy(dict(SCHEMA))
    changed["slots"]["bmi_kg_m2"]["maximum_value"] = 90
    before, after = build.made(SCHEMA), build.made(changed)
    assert {path.name for path in before if before[path] != after[path]} == {
        "fields.json", "person.schema.json", "minimal-dataset.md",
    }  # fmt: skip


def test_the_json_schema_takes_a_right_person_and_no_other() -> None:
    schema = json.loads((REPO / "src/federome/ingest/schema/person.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    assert check.is_valid(PERSON)
    assert set(schema["required"]) == {c.name for c in COLUMNS.values() if c.minimal == "mandatory"}
    for name, wrong in {
        "sex": "M", "birth_year": 1200, "diagnosis_icd10": ["25.1"], "bmi_kg_m2": 500, "country_of_origin": "Finland",
        "sequence_target": "wgs", "qc_report_digest": "md5:1", "colour": "red",
    }.items():  # fmt: skip
        assert not check.is_valid(PERSON | {name: wrong}), name
    for name in schema["required"]:
        assert not check.is_valid({key: value for key, value in PERSON.items() if key != name}), name


def test_every_crosswalk_is_of_a_field() -> None:
    lines = (REPO / "src/federome/ingest/schema/crosswalks.tsv").read_text().splitlines()[1:]
    assert {line.split("\t")[0] for line in lines} <= set(COLUMNS)
    loinc = {code: field for field, model, code in (line.split("\t") for line in lines) if model == "exact"}
    from federome.ingest.phenopackets import MEASUREMENTS

    assert {code: field for code, field in loinc.items() if field != "smoking"}.items() <= {
        code: field for code, (field, _) in MEASUREMENTS.items()
    }.items()
