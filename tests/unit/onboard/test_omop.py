"""OMOP CDM 5.4 as a way in: what becomes of each table, what is counted as not taken, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from federome.errors import Invalid
from federome.onboard import mapping
from federome.onboard.convert import convert, open_workbench
from federome.onboard.omop import FAULTS, NOT_TAKEN, take_in_omop

CONCEPTS = """\
45600511\tAngina of the 3" kind\tICD10\tI25.1
320128\tEssential hypertension\tSNOMED\t59621000
35208414\tSeizure\tHPO\tHP:0001250
3028288\tLDL calculated\tLOINC\t13457-7
3004249\tSystolic\tLOINC\t8480-6
3023314\tHaematocrit\tLOINC\t4544-3
8840\tmg/dL\tUCUM\tmg/dL
8876\tmm Hg\tUCUM\tmm[Hg]
40766945\tSmoking status\tLOINC\t72166-2
45883458\tFormer smoker\tLOINC\tLA15920-4
1545958\tatorvastatin\tRxNorm\t83367
21601855\tatorvastatin\tATC\tC10AA05
1112807\taspirin\tRxNorm\t1191
21600001\taspirin a\tATC\tB01AC06
21600002\taspirin b\tATC\tN02BA01
21601853\tstatins\tATC\tC10AA
"""
TABLES = {
    "PERSON": """\
person_id,gender_concept_id,year_of_birth,person_source_value,race_concept_id
1,8507,1960,120580-123A,0
2,8532,1971,x,0
3,0,1980,,8527
""",
    "condition_occurrence": """\
person_id,condition_concept_id,condition_start_date,condition_source_concept_id,stop_reason
1,320128,2012-03-04,45600511,
1,320128,2013-01-01,0,
2,35208414,2014-01-01,0,
""",
    "measurement": """\
person_id,measurement_concept_id,measurement_date,value_as_number,operator_concept_id,unit_concept_id,unit_source_value
1,3028288,2020-01-01,193.325,0,8840,
1,3028288,2021-01-01,116,4172703,0,mg/dl
2,3028288,2021-01-01,70,4171756,8840,
2,3004249,2021-01-01,131,,8876,
2,3023314,2021-01-01,40,,,
""",
    "observation": """\
person_id,observation_concept_id,observation_date,value_as_concept_id
1,40766945,2020-02-02,45883458
""",
    "drug_exposure": """\
person_id,drug_concept_id,drug_exposure_start_date
1,1545958,2020-01-01
2,1112807,2020-01-01
""",
    "specimen": """\
specimen_id,person_id,specimen_date,specimen_source_id
77,1,2022-05-06,S1
78,2,2022-05-07,S2
""",
    "concept_ancestor": """\
ancestor_concept_id\tdescendant_concept_id
21601855\t1545958
21601853\t1545958
21600001\t1112807
21600002\t1112807
""",
    "visit_occurrence": "visit_occurrence_id,person_id\n1,1\n",
}


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "cdm"
    folder.mkdir()
    for name, text in TABLES.items():
        (folder / f"{name}.csv").write_text(text)
    lines = [line.split("\t") for line in CONCEPTS.splitlines()]
    table = ["concept_id\tconcept_name\tvocabulary_id\tconcept_code", *("\t".join(line) for line in lines)]
    (folder / "CONCEPT.csv").write_text("\n".join(table) + "\n")
    (folder / "omop.toml").write_text('format = "federome-omop/1"\ngender_from_sex = true\n')
    (tmp_path / "in").mkdir()
    return folder


def test_every_table_becomes_fields_of_the_profile_and_the_rest_is_listed(export: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    told = take_in_omop(export, folder, {"case_status": "control"})
    plan = mapping.read_mapping(folder / mapping.NAME)
    people = convert(open_workbench(tmp_path / "spill"), plan, folder, scratch=tmp_path / "scratch", mend=False)
    assert [(each.column, each.count) for each in people.findings] == []
    fields = ("person_id", "sex", "administrative_gender", "birth_year", "diagnosis_icd10", "diagnosis_year",
              "hpo_terms", "medication_atc", "ldl_c_mmol_l", "sbp_mmhg", "smoking", "sample_id")  # fmt: skip
    rows = people.connection.execute(f"SELECT {', '.join(fields)} FROM people ORDER BY person_id").fetchall()
    assert rows[0] == (
        "1", "male", "male", 1960, ["I25.1"], [2012], [], ["C10AA05"], pytest.approx(3.0001, abs=1e-3), None,
        "former", "S1",
    )  # fmt: skip
    assert rows[1] == (
        "2", "female", "female", 1971, [], [], ["HP:0001250"], [], None, 131.0, None, "S2",
    )  # fmt: skip
    assert rows[2][:4] == ("3", None, None, 1980)
    left = {(kind, element, reason): count for (kind, element, reason), count in told.left.items()}
    assert left == {
        ("person", "person_source_value", "direct identifier, never kept"): 2,
        ("person", "race_concept_id", "no field of the profile"): 1,
        ("person", "gender_concept_id", "neither male (8507) nor female (8532)"): 1,
        ("condition_occurrence", "", "no field for SNOMED|59621000"): 1,
        ("measurement", "", "no field for LOINC|4544-3"): 1,
        ("measurement", "", "it is a bound, not a value"): 1,
        ("measurement", "", "a later one of the same person is taken"): 1,
        ("drug_exposure", "drug_concept_id", "several ATC codes stand above the drug"): 1,
    }
    listed = json.loads((folder / NOT_TAKEN).read_text())
    assert listed["files_not_read"] == ["visit_occurrence.csv"]
    assert "120580" not in (folder / NOT_TAKEN).read_text()


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ("measurement", "1,3028288,2022-01-01,4,,,stones", "unit that is not known"),
        ("measurement", "1,3028288,2022-01-01,many,,8840,", "no number"),
        ("specimen", "79,9,2022-05-06,S9", "whom the export does not have"),
        ("PERSON", "1,8507,1960,,0", "earlier row"),
        ("condition_occurrence", "1,1", "other fields than the header"),
    ],
)
def test_what_cannot_be_right_is_refused_by_line_and_nothing_is_written(
    table: str, line: str, said: str, export: Path, tmp_path: Path
) -> None:
    with (export / f"{table}.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(Invalid, match=said) as caught:
        take_in_omop(export, tmp_path / "in", {})
    assert caught.value.where.partition(":")[2] or table == "condition_occurrence"
    assert [p.name for p in (tmp_path / "in").iterdir()] == [FAULTS]


def test_the_vocabulary_must_be_there(export: Path, tmp_path: Path) -> None:
    (export / "CONCEPT.csv").unlink()
    with pytest.raises(Invalid, match="no table concept"):
        take_in_omop(export, tmp_path / "in", {})
