"""Phenotype tables: what is refused, what comes back, and cohorts against a person-by-person twin in pandas."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federome.errors import Damaged, Invalid
from federome.model.cohort import AgeBand, AnyOf, Cohort, Diagnosis, Measurement
from federome.store import phenotypes
from federome.store.layout import file_digest
from federome.store.phenotypes import Phenotypes, reference_year

DAY = date(2026, 3, 1)
PEOPLE = [f"p{i}" for i in range(8)]
SEXES = ["male", "female", "unknown", "male", "female", "female", "male", "male"]


def written(folder: Path, table: object, people: list[str] = PEOPLE, sexes: list[str] = SEXES) -> Phenotypes:
    path = folder / "phenotypes.parquet"
    phenotypes.write(table, path, people=people, sexes=sexes)  # type: ignore[arg-type]
    return Phenotypes(path, len(people), file_digest(path))


def frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"person_id": PEOPLE, **columns})


def test_a_table_may_be_a_frame_a_file_or_a_relation(tmp_path: Path) -> None:
    table = frame(bmi_kg_m2=np.arange(8) / 2, population=list("abcdefgh")).iloc[::-1]
    table.to_csv(tmp_path / "t.csv", index=False)
    with duckdb.connect(":memory:") as connection:
        connection.read_csv(str(tmp_path / "t.csv")).write_parquet(str(tmp_path / "t.parquet"))
        made = [
            written(tmp_path / name, each)
            for name, each in (
                ("a", table),
                ("b", tmp_path / "t.parquet"),
                ("c", connection.read_csv(str(tmp_path / "t.csv"))),
            )
            if (tmp_path / name).mkdir() is None
        ]
    for each in made:
        assert each.numbers("bmi_kg_m2").tolist() == (np.arange(8) / 2).tolist()
        assert each.labels("population").tolist() == list("abcdefgh")
        assert each.labels("sex").tolist() == SEXES
        assert not list(each.path.parent.glob("*.partial"))


def test_types_come_back_as_numbers_and_texts(tmp_path: Path) -> None:
    table = written(
        tmp_path,
        frame(
            whole=pd.array([1, None, 3, 4, 5, 6, 7, 8], dtype="Int16"),
            truth=pd.array([True, None] + [False] * 6, dtype="boolean"),
            real=[0.5, np.nan] + [1.0] * 6,
            words=["x", None] + ["é"] * 6,
            kinds=pd.Categorical(["u", None] + ["v"] * 6),
            codes=[["a"], [], None] + [["b"]] * 5,
            day=pd.to_datetime(["2026-01-01"] * 8).date,
        ),
    )
    assert table.numbers("whole")[[0, 2]].tolist() == [1, 3] and np.isnan(table.numbers("whole")[1])
    assert table.numbers("truth")[[0, 2]].tolist() == [1, 0] and np.isnan(table.numbers("truth")[1])
    assert np.isnan(table.numbers("real")[1])
    assert table.labels("words")[:3].tolist() == ["x", "", "é"]
    assert table.labels("kinds")[:3].tolist() == ["u", "", "v"]
    for name, read in (
        ("codes", table.labels),
        ("codes", table.numbers),
        ("words", table.numbers),
        ("real", table.labels),
    ):
        with pytest.raises(Invalid, match=f"column '{name}' holds"):
            read(name)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"person_id": PEOPLE[:7]}), "1 people of the batch have no row"),
        (pd.DataFrame({"person_id": [*PEOPLE, "stranger"]}), "1 rows are of people who are not in the batch"),
        (pd.DataFrame({"person_id": [*PEOPLE, "p0"]}), "1 people have more than one row"),
        (pd.DataFrame({"who": PEOPLE}), "no column person_id"),
        (frame(**{"Bmi": range(8)}), "column 'Bmi' cannot be kept"),
        (frame(**{'x" OR 1=1 --': range(8)}), "cannot be kept"),
        (frame(person_row=range(8)), "cannot be kept"),
        (frame(shape=[{"a": 1}] * 8), "column 'shape' holds STRUCT"),
    ],
)
def test_bad_tables_are_refused_without_naming_anybody(tmp_path: Path, table: pd.DataFrame, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        written(tmp_path, table)
    assert "stranger" not in str(caught.value) and not list(tmp_path.glob("*.parquet"))


@pytest.mark.parametrize("texts", [False, True])
def test_lists_of_numbers_keep_their_order_and_their_gaps(tmp_path: Path, texts: bool) -> None:
    """As texts, too: where one of several batches has empty lists only, joining them makes texts of all."""
    lists = [[3.5, 1.0], [], None, [2.0], [], [], [None, 7.25], []]
    told = [each and [None if v is None else str(v) for v in each] for each in lists] if texts else lists
    table = written(tmp_path, frame(later=told, nothing=[[]] * 8, codes=[["a"]] * 8))
    rows, values = table.lists("later")
    assert rows.tolist() == [0, 0, 3, 6, 6]
    np.testing.assert_array_equal(values, [3.5, 1.0, 2.0, np.nan, 7.25])
    assert not len(table.lists("nothing")[0])
    for name in ("codes", "sex"):
        with pytest.raises(Invalid, match="not lists of numbers"):
            table.lists(name)


def test_types_come_from_all_rows(tmp_path: Path) -> None:
    people = [f"n{i}" for i in range(3_000)]
    late = [None] * 2_999
    table = pd.DataFrame({"person_id": people, "words": [*late, "x"], "diagnosis_icd10": [*[[]] * 2_999, ["E11"]]})
    stored = written(tmp_path, table.astype({"words": object}), people, ["male"] * 3_000)
    assert stored.labels("words")[-1] == "x"
    asked = phenotypes.conditions(Cohort(diagnoses=(Diagnosis("E11"),)), stored.columns, released_on=DAY, ontology=None)
    assert np.flatnonzero(stored.meets(asked)).tolist() == [2_999]


def test_lists_that_are_all_empty_have_no_code(tmp_path: Path) -> None:
    table = written(tmp_path, frame(diagnosis_icd10=[[]] * 8, bmi_kg_m2=[None] * 8))
    assert set(table.columns) == {"sex", "diagnosis_icd10"}
    for present in (True, False):
        cohort = Cohort(diagnoses=(Diagnosis("E11", present=present),))
        asked = phenotypes.conditions(cohort, table.columns, released_on=DAY, ontology=None)
        assert table.meets(asked).all() != present


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("not parquet")
    with pytest.raises(Invalid, match="not a Parquet file") as caught:
        written(tmp_path, tmp_path / "t.parquet")
    assert caught.value.where == str(tmp_path / "t.parquet")


def test_a_changed_file_is_damaged(tmp_path: Path) -> None:
    table = written(tmp_path, frame(bmi_kg_m2=np.arange(8)))
    content = bytearray(table.path.read_bytes())
    content[len(content) // 2] ^= 1
    table.path.write_bytes(content)
    with pytest.raises(Damaged, match="not what was written"):
        table.numbers("bmi_kg_m2")


def test_ages_count_from_the_middle_of_the_year() -> None:
    assert reference_year(date(2026, 6, 30)) == 2025
    assert reference_year(date(2026, 7, 1)) == 2026


class Tree:
    """An ontology of three terms."""

    def descendants(self, term: str, /) -> tuple[str, ...]:
        return {"HP:0000001": ("HP:0000001", "HP:0000002", "HP:0000003"), "HP:0000002": ("HP:0000002",)}.get(term, ())


ICD = ("E11", "E11.9", "E119", "e11.65", "E10", "I10", "E1")
HPO = ("HP:0000001", "HP:0000002", "HP:0000003", "HP:0000009")
PEOPLE_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "birth_year": st.none() | st.integers(1940, 2010),
            "population": st.sampled_from([None, "FIN", "TSI", "a'b"]),
            "bmi_kg_m2": st.none() | st.floats(10, 60) | st.just(float("nan")),
            "diagnosis_icd10": st.none() | st.lists(st.sampled_from(ICD), max_size=3),
            "hpo_terms": st.none() | st.lists(st.sampled_from(HPO), max_size=3),
            "sex": st.sampled_from(["male", "female", "unknown"]),
        }
    ),
    min_size=1,
    max_size=25,
)
CODES = st.builds(
    Diagnosis, st.sampled_from([*ICD, "ICD10:E11", *HPO, "ATC:C10A", "%", "E"]), st.booleans(), st.booleans()
)
NUMBERS = st.builds(Measurement, st.just("bmi_kg_m2"), st.none() | st.floats(0, 40), st.none() | st.floats(20, 90))
COHORTS = st.builds(
    Cohort,
    any_of=st.lists(
        st.tuples(st.lists(CODES, max_size=2), st.lists(NUMBERS, max_size=2), st.booleans())
        .filter(lambda parts: bool(parts[0] or parts[1]))
        .map(lambda parts: AnyOf(tuple(parts[0]), tuple(parts[1]), parts[2])),
        max_size=2,
    ).map(tuple),
    sex=st.sampled_from([None, "male", "female"]),
    age=st.none() | st.builds(AgeBand, st.integers(0, 60), st.integers(30, 130)),
    populations=st.lists(st.sampled_from(["FIN", "TSI", "a'b", "x' OR '1'='1"]), max_size=2, unique=True).map(tuple),
    diagnoses=st.lists(CODES.filter(lambda each: not each.code.startswith("ATC:")), max_size=2).map(tuple),
    measurements=st.lists(NUMBERS, max_size=2).map(tuple),
)


def fits(row: dict, cohort: Cohort) -> bool:
    """One person against the criteria, in the plainest words."""

    def unknown(value: object) -> bool:
        return value is None or value != value

    if cohort.sex and row["sex"] != cohort.sex:
        return False
    year = row["birth_year"]
    if cohort.age and (unknown(year) or not cohort.age.low <= 2025 - year <= cohort.age.high):
        return False
    if cohort.populations and row["population"] not in cohort.populations:
        return False
    for each in (*cohort.measurements, *cohort.diagnoses):
        if holds(row, each) is not True:
            return False
    for group in cohort.any_of:
        told = [holds(row, each) for each in (*group.measurements, *group.diagnoses)]
        if group.present and True not in told:
            return False
        if not group.present and any(each is not False for each in told):
            return False
    return True


def holds(row: dict, each: Diagnosis | Measurement) -> bool | None:
    """One condition of one person; None where it is not known. Nobody's drugs are known here: there is no column."""
    if isinstance(each, Measurement):
        value = row[each.name]
        if value is None or value != value:
            return None
        return (each.low is None or value >= each.low) and (each.high is None or value <= each.high)
    if each.code.startswith("ATC:"):
        return None
    codes = row["hpo_terms" if each.code.startswith("HP:") else "diagnosis_icd10"]
    if codes is None:
        return None
    if each.code.startswith("HP:"):
        below = {each.code, *Tree().descendants(each.code)} if each.descendants else {each.code}
        has = any(code in below for code in codes)
    else:
        plain = each.code.replace("ICD10:", "").replace(".", "").upper()
        mine = [code.replace(".", "").upper() for code in codes]
        has = any(code[: len(plain)] == plain if each.descendants else code == plain for code in mine)
    return has is each.present


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(PEOPLE_ROWS, st.lists(COHORTS, min_size=4, max_size=4))
def test_cohorts_equal_the_twin(rows: list[dict], cohorts: list[Cohort]) -> None:
    """Several questions to each table: to write it takes many times as long as to ask."""
    names = [f"n{i}" for i in range(len(rows))]
    columns = {key: [row[key] for row in rows] for key in rows[0] if key != "sex"}
    table = pd.DataFrame({"person_id": names, **columns})
    # a frame of nothing but missing values has no type of its own
    table["birth_year"] = pd.array(columns["birth_year"], dtype="Int32")
    table["bmi_kg_m2"] = pd.array([np.nan if v is None else v for v in columns["bmi_kg_m2"]], dtype="float64")
    with tempfile.TemporaryDirectory() as folder:
        stored = written(Path(folder), typed(table), names, [row["sex"] for row in rows])
        for cohort in cohorts:
            asked = phenotypes.conditions(cohort, stored.columns, released_on=DAY, ontology=Tree())
            assert stored.meets(asked).tolist() == [fits(row, cohort) for row in rows]


def typed(table: pd.DataFrame) -> duckdb.DuckDBPyRelation:
    """The frame with list and text columns typed, as a batch file has them."""
    connection = duckdb.connect(":memory:")
    connection.register("t", table)
    return connection.sql(
        "SELECT person_id, birth_year, population::VARCHAR AS population, bmi_kg_m2,"
        " diagnosis_icd10::VARCHAR[] AS diagnosis_icd10, hpo_terms::VARCHAR[] AS hpo_terms FROM t"
    )


def test_criteria_that_cannot_be_answered_are_refused(tmp_path: Path) -> None:
    table = written(tmp_path, frame(diagnosis_icd10=["E11"] * 8, bmi_kg_m2=["x"] * 8, hpo_terms=[["HP:1"]] * 8))

    def ask(cohort: Cohort) -> None:
        phenotypes.conditions(cohort, table.columns, released_on=DAY, ontology=None)

    for cohort, message in (
        (Cohort(diagnoses=(Diagnosis("E11"),)), "not lists of codes"),
        (Cohort(measurements=(Measurement("bmi_kg_m2", 1, 2),)), "not numbers"),
        (Cohort(diagnoses=(Diagnosis("HP:0000001"),)), "ontology"),
        (Cohort(diagnoses=(Diagnosis("SNOMED:1"),)), "no column holds codes of 'SNOMED'"),
    ):
        with pytest.raises(Invalid, match=message):
            ask(cohort)
    ask(Cohort(diagnoses=(Diagnosis("HP:0000001", descendants=False),)))


def test_a_batch_without_the_column_knows_nothing(tmp_path: Path) -> None:
    table = written(tmp_path, frame())
    for cohort in (
        Cohort(age=AgeBand()),
        Cohort(populations=("FIN",)),
        Cohort(measurements=(Measurement("bmi_kg_m2"),)),
        Cohort(diagnoses=(Diagnosis("E11", present=False),)),
    ):
        asked = phenotypes.conditions(cohort, table.columns, released_on=DAY, ontology=None)
        assert not table.meets(asked).any()
