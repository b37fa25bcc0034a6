"""FHIR bundles in the manner of mCODE as rows of a store: what is read, what is left out, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from federome.cancer.mcode import read_bundles
from federome.cancer.snomed import stages
from federome.cancer.staging import parse, stage_group
from federome.cli import app
from federome.errors import Invalid

LOINC, ICDO, AJCC = "http://loinc.org", "http://terminology.hl7.org/CodeSystem/icd-o-3", "http://cancerstaging.org"
EXTENSION = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-histology-morphology-behavior"


def concept(system: str, code: str, display: str = "") -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code} | ({"display": display} if display else {})]}


def seen(code: str, day: str, value: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    told = {"resourceType": "Observation", "status": "final", "code": concept(LOINC, code), "effectiveDateTime": day}
    return told | {"subject": {"reference": "Patient/p1"}} | ({"valueCodeableConcept": value} if value else {}) | more


def gene(symbol: str) -> dict[str, Any]:
    return {"code": concept(LOINC, "48018-6"), "valueCodeableConcept": concept("http://www.genenames.org", "H", symbol)}


def variant(symbol: str, change: str, day: str, source: str = "LA6684-0") -> dict[str, Any]:
    parts = [
        gene(symbol),
        {"code": concept(LOINC, "48005-3"), "valueCodeableConcept": concept("http://varnomen.hgvs.org", change)},
        {"code": concept(LOINC, "48002-0"), "valueCodeableConcept": concept(LOINC, source)},
    ]
    return seen("69548-6", day, concept(LOINC, "LA9633-4"), component=parts)


def bundle() -> dict[str, Any]:
    """A melanoma with BRAF V600E, treated, that carries PTEN later."""
    subject = {"reference": "Patient/p1"}
    panel = [gene("BRAF"), gene("PTEN")]
    resources = [
        {
            "resourceType": "Patient", "id": "p1", "name": [{"family": "Nobody"}],
            "deceasedDateTime": "2024-01-01T03:00:00Z",
        },
        {
            "resourceType": "Condition", "subject": subject, "onsetDateTime": "2022-01-01",
            "verificationStatus": concept("v", "confirmed"), "bodySite": [concept(ICDO, "C44.5")],
            "extension": [{"url": EXTENSION, "valueCodeableConcept": concept(ICDO, "8720/3")}],
        },
        {"resourceType": "Condition", "subject": subject, "code": concept("http://snomed.info/sct", "94225005")},
        seen("21905-5", "2022-01-03", concept(AJCC, "cT2a")),
        seen("21899-0", "2022-02-01", concept(AJCC, "ypT3b")),
        seen("21906-3", "2022-01-03", concept(AJCC, "N1a")),
        seen("21907-1", "2022-01-03", concept(AJCC, "cM0")),
        seen("21908-9", "2022-01-03", concept(AJCC, "3C")),
        seen("85319-2", "2022-01-05", concept("http://snomed.info/sct", "260385009")),
        seen("85337-4", "2022-01-05", concept("http://snomed.info/sct", "419984006")),
        seen("53041-0", "2022-01-10", None, component=panel),
        seen("53041-0", "2023-03-10", None, component=panel),
        variant("BRAF", "p.Val600Glu", "2022-01-10"),
        variant("PTEN", "p.Arg130Ter", "2023-03-10"),
        variant("TP53", "p.Arg175His", "2023-03-10"),
        variant("PTEN", "p.Arg130Gln", "2022-01-10", source="LA6683-2"),
        {
            "resourceType": "MedicationAdministration", "status": "completed", "subject": subject,
            "medicationCodeableConcept": concept("http://www.whocc.no/atc", "L01EC02", "Dabrafenib"),
        },
        {
            "resourceType": "MedicationStatement", "status": "entered-in-error", "subject": subject,
            "medicationCodeableConcept": concept("http://www.whocc.no/atc", "L01EC01", "Vemurafenib"),
        },
    ]  # fmt: skip
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in resources]}


def written(folder: Path, told: object) -> Path:
    (folder / "one.json").write_text(json.dumps(told))
    return folder


def test_a_bundle_becomes_a_row(tmp_path: Path) -> None:
    study = read_bundles(written(tmp_path, bundle()))
    (row,) = study.patients
    assert row["person_id"] == "p1"
    assert row["os_months"] == pytest.approx(730 / 365.25 * 12)
    assert (row["os_died"], row["treatments"]) == (1.0, "dabrafenib")
    assert (row["icdo_topography"], row["icdo_morphology"], row["icdo_behaviour"]) == ("C44.5", "8720", "malignant")
    assert (row["tnm_t"], row["tnm_n"], row["tnm_m"], row["stage"]) == ("3b", "1a", "0", "IIIC")
    assert str(row["tnm_kind"]).endswith("after therapy")
    assert (row["her2"], row["er"]) == ("negative", "")
    assert (row["tumour_panel"], row["tumour_genes"]) == ("BRAF;PTEN", "BRAF;PTEN")
    assert row["tumour_variants"] == "BRAF:p.Val600Glu;PTEN:p.Arg130Ter"
    assert "PTEN" in str(row["tumour_acquired"])
    assert "BRAF" not in str(row["tumour_acquired"])
    assert study.skipped == {
        "markers that are neither positive nor negative": 1,
        "variants of genes that no region studied names on that day": 1,
        "variants that are not said to be somatic": 1,
    }
    assert "Nobody" not in json.dumps(study.patients)


def test_without_a_panel_nothing_is_known_and_the_living_are_censored(tmp_path: Path) -> None:
    told = bundle()
    del told["entry"][0]["resource"]["deceasedDateTime"]
    told["entry"] = [e for e in told["entry"] if e["resource"].get("code", {}) != concept(LOINC, "53041-0")]
    (row,) = read_bundles(written(tmp_path, told)).patients
    assert (row["tumour_panel"], row["tumour_genes"]) == ("", "")
    assert (row["os_died"], row["os_months"]) == (0.0, pytest.approx(433 / 365.25 * 12))
    told["entry"][0]["resource"]["deceasedBoolean"] = True
    (row,) = read_bundles(written(tmp_path, told)).patients
    assert (row["os_died"], row["os_months"]) == (None, None), "dead, and nobody says since when"


def _changed(at: int, **changes: object) -> dict[str, Any]:
    told = bundle()
    told["entry"][at]["resource"] |= changes
    return told


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: [], "no FHIR bundle"),
        (lambda: {"resourceType": "Bundle", "entry": [{}]}, "no FHIR bundle"),
        (lambda: {"resourceType": "Patient", "entry": []}, "no FHIR bundle"),
        (lambda: {**bundle(), "entry": bundle()["entry"][:1] * 2}, "no id, or that of another"),
        (lambda: _changed(0, deceasedDateTime="2021-12-31"), "before the diagnosis"),
        (lambda: _changed(0, deceasedDateTime="2021-31-12"), "no date"),
        (lambda: _changed(1, bodySite=[concept(ICDO, "C99.9")]), "topography"),
        (lambda: _changed(4, valueCodeableConcept=concept(AJCC, "pT9")), "TNM"),
        (lambda: _changed(4, valueCodeableConcept="pT2"), "form of FHIR"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, make: Callable[[], object], says: str) -> None:
    with pytest.raises(Invalid, match=says) as raised:
        read_bundles(written(tmp_path, make()))
    assert raised.value.where.startswith("one.json")
    assert raised.value.remedy


def test_the_command_loads_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    folder = tmp_path / "bundles"
    folder.mkdir()
    words = ["mcode", str(written(folder, bundle())), "--dir", str(tmp_path / "node"), "--dataset", "melanomas"]
    done = CliRunner().invoke(app, ["cancer", *words, "--holder", "Example Hospital", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["patients"] == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(Invalid, match="no bundles"):
        read_bundles(empty)


SNOMED = "http://snomed.info/sct"


def staged(tmp_path: Path, *observed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """The row of the patient with these observations of stage and no others, and what was left out."""
    told = bundle()
    others = [each for each in told["entry"] if not each["resource"].get("code", {}).get("coding", [{}])[0]
              .get("code", "").startswith(("2189", "2190"))]  # fmt: skip
    study = read_bundles(written(tmp_path, {**told, "entry": [*others, *({"resource": each} for each in observed)]}))
    left = {why: count for why, count in study.skipped.items() if why.startswith("stages")}
    return dict(study.patients[0]), left


def test_stages_as_snomed_concepts_are_read(tmp_path: Path) -> None:
    """Of STU3 with LOINC's codes for what was observed, of STU4 with those of SNOMED CT. A pathologist's M0 is cM0."""
    day = "2022-02-01"
    row, left = staged(
        tmp_path,
        seen("21899-0", day, concept(SNOMED, "1229856007")),
        seen("21900-6", day, concept(SNOMED, "1229953003")),
        seen("21901-4", day, concept(SNOMED, "1229901006")),
        seen("21902-2", day, concept(SNOMED, "1222806003")),
    )
    assert (row["tnm_t"], row["tnm_n"], row["tnm_m"], row["tnm_kind"]) == ("2b", "1a", "0", "pathological")
    assert (row["stage"], left) == ("IIIC", {})
    row, left = staged(
        tmp_path,
        seen("x", day, concept(SNOMED, "1228938002")) | {"code": concept(SNOMED, "399504009")},
        seen("x", day, concept(SNOMED, "1222769001")) | {"code": concept(SNOMED, "399537006")},
    )
    assert (row["tnm_t"], row["tnm_kind"], row["stage"], left) == ("3", "clinical", "IIB", {})


def measured(code: str, day: str, value: object, unit: str, **more: object) -> dict[str, Any]:
    quantity = {"value": value, "code": unit, "system": "http://unitsofmeasure.org", **more}
    return {**seen(code, day, None), "valueQuantity": quantity}


def test_markers_measured_again_are_values_that_change(tmp_path: Path) -> None:
    told = bundle()
    resources = [
        measured("2857-1", "2021-12-01", 8.5, "ng/mL"),
        measured("2857-1", "2022-07-02", 2, "ug/L"),
        measured("2857-1", "2022-07-02", 3, "ng/mL"),
        measured("2857-1", "2022-08-02", 0.1, "ng/mL", comparator="<"),
        measured("2857-1", "2022-08-03", 3, "nmol/L"),
        measured("10334-1", "2022", 30, "U/mL"),
        measured("10334-1", "2022-01-01", 35, "kU/L"),
    ]
    told["entry"] += [{"resource": each} for each in resources]
    study = read_bundles(written(tmp_path, told))
    (row,) = study.patients
    assert (row["psa_ng_ml"], row["psa_ng_ml_later"]) == (8.5, [2.0])
    assert row["psa_ng_ml_later_at"] == [pytest.approx(182 / 365.25 * 12)]
    assert (row["ca125_u_ml"], row["ca125_u_ml_later"]) == (35.0, [])
    left = {why.partition(",")[0]: count for why, count in study.skipped.items() if why.startswith("markers w")}
    assert left == {
        "markers without a number": 2,
        "markers without a day": 1,
        "markers with another value on the same day": 1,
    }


@pytest.mark.parametrize(
    ("code", "value", "why"),
    [
        ("21899-0", concept(SNOMED, "1229884002"), "not known here (1229884002)"),  # ypN1
        ("21908-9", concept(SNOMED, "1222732004"), "not known here (1222732004)"),  # stage IE
        ("21908-9", concept(SNOMED, "a name, perhaps"), "not known here (no number)"),
        ("21905-5", concept(SNOMED, "1229852009"), "by other means"),  # pT2, and a clinician's observation
        (
            "21905-5",
            {"coding": [{"system": SNOMED, "code": "1228929004"}, {"system": AJCC, "code": "cT3"}]},
            "contradict",
        ),
        ("21905-5", concept("http://other", "T2"), "no category of UICC"),
    ],
)
def test_stages_that_are_not_understood_are_named(tmp_path: Path, code: str, value: dict[str, Any], why: str) -> None:
    row, left = staged(tmp_path, seen(code, "2022-02-01", value))
    assert (row["tnm_t"], row["stage"]) == ("", "")
    (said,) = left
    assert why in said


def test_the_same_stage_in_two_systems_is_one(tmp_path: Path) -> None:
    both = {"coding": [{"system": SNOMED, "code": "1222766008"}, {"system": AJCC, "code": "Stage 2A"}]}
    row, left = staged(tmp_path, seen("21908-9", "2022-02-01", both))
    assert (row["stage"], left) == ("IIA", {})


def test_concepts_are_numbers_of_snomed_and_categories_can_be_read() -> None:
    """Each has the check digit of Verhoeff (SNOMED CT, technical guide), so that none was mistyped."""
    for code, category in stages().items():
        assert verhoeff(code), category
        assert (
            stage_group(category)
            if category[0] in "0I"
            else parse(f"T0 {category}" if category[1] == "M" else category)
        )
    assert (stages()["1229967007"], len(stages())) == ("cN0", 177)  # as mCODE's notes on STU3 say


def verhoeff(number: str) -> bool:
    """Whether the last digit fits: the pentagon's dihedral group, digits permuted by their place from the right."""
    permuted, check = [*range(10)], 0
    for digit in reversed(number):
        a, b = check, permuted[int(digit)]
        turned = (a + b) % 5 if a < 5 else (a - b) % 5
        check = turned + 5 * ((a < 5) != (b < 5))
        permuted = [permuted[each] for each in (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)]
    return check == 0
