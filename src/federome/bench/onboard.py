"""Onboarding: a table of a million people checked by columns, against a loop of pydantic models over its records.

Both read the same CSV of the same fields, hold every cell against the same value sets and ranges, and ask the same
rules over several fields. The loop is timed on a part of the people and compared by people a second.
"""

from __future__ import annotations

import csv
import re
import resource
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Final, Literal

import duckdb
from pydantic import BaseModel, ValidationError, field_validator, model_validator
from rich.console import Console

from federome.bench import quality
from federome.bench.report import Row, against, at_most
from federome.ingest.columns import COLUMNS
from federome.onboard.convert import convert, open_workbench
from federome.onboard.findings import Finding
from federome.onboard.mapping import FORMAT, FieldMapping, Plan, TableMapping
from federome.onboard.rules import check
from federome.onboard.tables import literal

TODAY: Final = date(2026, 11, 1)
SECONDS: Final = 60.0
TIMES: Final = 20.0
MEMORY_GB: Final = 2.0
FIELDS: Final = (
    "sex", "birth_year", "administrative_gender", "country_of_origin", "case_status", "diagnosis_icd10",
    "diagnosis_year", "hpo_terms", "medication_atc", "smoking", "bmi_kg_m2", "ldl_c_mmol_l", "sbp_mmhg", "dbp_mmhg",
    "hba1c_mmol_mol", "creatinine_umol_l", "sample_id", "sample_date",
)  # fmt: skip
# Fault -> SQL of the cell instead of what is right; a hundredth of a per cent of the people have each.
FAULTS: Final = {
    "sex": ("V2", "'M'"),
    "birth_year": ("V2", "'19O5'"),
    "diagnosis_icd10": ("V2", "'25.1'"),
    "hpo_terms": ("V2", "'HP:123'"),
    "bmi_kg_m2": ("V8", "'270'"),
    "ldl_c_mmol_l": ("V8", "'135'"),
    "sample_date": ("V4", "'2022-02-30'"),
    "sample_id": ("V14", "'120580-123A'"),
    "case_status": ("V5", "'solved'"),
}


def measure(console: Console, quick: bool) -> list[Row]:
    """Speed, memory and faults found: in tables, then in genotypes."""
    return [*_tables(console, quick=quick), *quality.rows(console, quick=quick)]


def _tables(console: Console, *, quick: bool) -> list[Row]:
    people = 50_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="federome-bench-") as root:
        place = Path(root)
        write_people(place / "people.csv", people)
        write_people(place / "faults.csv", people, every=10_000 if people > 100_000 else 1_000)
        write_people(place / "warm.csv", 1_000)
        validate(place / "warm.csv", place)  # compiled kernels are loaded; the models of the peer are built already
        console.print(f"{people:,} people, {(place / 'people.csv').stat().st_size / 1e6:.0f} MB of CSV")
        started = perf_counter()
        clean = validate(place / "people.csv", place)
        ours = perf_counter() - started
        part = people // 20
        started = perf_counter()
        wrong = pydantic_loop(place / "people.csv", part)
        theirs = (perf_counter() - started) * people / part
        planted = validate(place / "faults.csv", place)
    found = {(each.rule, each.column): each.count for each in planted}
    expected = people // (10_000 if people > 100_000 else 1_000)
    hit = sum(found.get((rule, field), 0) >= expected for field, (rule, _) in FAULTS.items())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform != "darwin" else 1 << 30)
    return [
        at_most(f"validation of {people:,} people", ours, "s", SECONDS if people >= 1_000_000 else None),
        against("the same", ours, "s", peer="pydantic, record by record", theirs=theirs, bar=TIMES),
        at_most("peak memory of the process", peak, "GB", MEMORY_GB),
        at_most("false findings among clean people", float(sum(f.count for f in clean) + wrong), "findings", 0),
        at_most("planted kinds of faults not found in full", float(len(FAULTS) - hit), "kinds", 0),
    ]


def plan(file: str, fields: tuple[str, ...] = FIELDS) -> Plan:
    """The columns are named as the fields."""
    return Plan(FORMAT, (TableMapping(file, "person_id", fields={name: FieldMapping(name) for name in fields}),))


def validate(path: Path, scratch: Path, *, mend: bool = False) -> list[Finding]:
    """Everything that is found in a table; constants are taken as given."""
    people = convert(open_workbench(scratch / "spill"), plan(path.name), path.parent, scratch=scratch, mend=mend)
    constants = {name: "" for name in COLUMNS if name not in FIELDS and name != "person_id"}
    return [*people.findings, *check(people, constants, "minimal-dataset", today=TODAY)]


def write_people(path: Path, people: int, *, every: int = 0, seed: int = 1) -> None:
    """A clean table; with ``every``, one row in so many has a fault, in another row for each field of ``FAULTS``."""
    cells = _cells(seed)
    if every:
        for at, (field, (_, wrong)) in enumerate(FAULTS.items()):
            cells[field] = f"CASE WHEN i % {every} = {at * 7} THEN {wrong} ELSE ({cells[field]})::VARCHAR END"
        undiagnosed = f"i % {every} = {7 * list(FAULTS).index('case_status')}"
        for field in ("diagnosis_icd10", "diagnosis_year"):
            cells[field] = f"CASE WHEN {undiagnosed} THEN '' ELSE {cells[field]} END"
    listing = ", ".join(f"{sql} AS {name}" for name, sql in cells.items())
    with duckdb.connect() as db:
        db.execute("SET threads = 2")
        query = f"SELECT {listing} FROM range({people}) t(i)"  # noqa: S608 - expressions are ours
        db.execute(f"COPY ({query}) TO {literal(str(path))} (HEADER)")


def _cells(seed: int) -> dict[str, str]:
    def draw(salt: int, below: int) -> str:
        return f"(hash(i * 31 + {salt * 1_000_003 + seed}) % {below})::INTEGER"

    case = f"({draw(1, 100)} < 6)"
    sick = f"({draw(2, 100)} < 12)"
    return {
        "person_id": "printf('P%08d', i)",
        "sex": f"CASE WHEN {draw(3, 2)} = 0 THEN 'female' ELSE 'male' END",
        "birth_year": f"1935 + {draw(4, 60)}",
        "administrative_gender": f"CASE WHEN {draw(5, 50)} = 0 THEN 'UNK' "
        f"WHEN {draw(3, 2)} = 0 THEN 'female' ELSE 'male' END",
        "country_of_origin": f"['FI', 'EE', 'SE', 'NO'][1 + {draw(6, 4)}]",
        "case_status": f"CASE WHEN {case} THEN 'unsolved' ELSE 'control' END",
        "diagnosis_icd10": f"CASE WHEN {case} AND {sick} THEN 'I25.1;E11.9' WHEN {case} THEN 'I25.1' "
        f"WHEN {sick} THEN 'I10' ELSE '' END",
        "diagnosis_year": f"CASE WHEN {case} AND {sick} THEN '2015;2019' WHEN {case} THEN '2012' "
        f"WHEN {sick} THEN '2018' ELSE '' END",
        "hpo_terms": f"CASE WHEN {case} THEN 'HP:0001677' ELSE '' END",
        "medication_atc": f"CASE WHEN {sick} THEN 'C10AA05;B01AC06' ELSE '' END",
        "smoking": f"['never', 'former', 'current'][1 + {draw(7, 3)}]",
        "bmi_kg_m2": f"18 + {draw(8, 200)} / 10",
        "ldl_c_mmol_l": f"CASE WHEN {draw(9, 40)} = 0 THEN NULL ELSE 1.5 + {draw(10, 450)} / 100 END",
        "sbp_mmhg": f"105 + {draw(11, 80)}",
        "dbp_mmhg": f"55 + {draw(12, 45)}",
        "hba1c_mmol_mol": f"28 + {draw(13, 50)}",
        "creatinine_umol_l": f"45 + {draw(14, 90)}",
        "sample_id": "printf('S%08d', i)",
        "sample_date": f"strftime(DATE '2020-01-01' + {draw(15, 1500)}, '%Y-%m-%d')",
    }


_CODE: Final = re.compile(COLUMNS["diagnosis_icd10"].pattern)
_HPO: Final = re.compile(COLUMNS["hpo_terms"].pattern)
_ATC: Final = re.compile(COLUMNS["medication_atc"].pattern)
_NAME: Final = re.compile(COLUMNS["person_id"].pattern)


class Person(BaseModel):
    """A person as one would write it for a loop: the obvious slow twin of the columns."""

    person_id: str
    sex: Literal["female", "male"]
    birth_year: int
    administrative_gender: Literal[
        "male", "female", "other", "unknown", "NI", "UNK", "NASK", "ASKU", "NAV", "MSK", "OTH"
    ]
    country_of_origin: str
    case_status: Literal["solved", "unsolved", "control"]
    diagnosis_icd10: list[str]
    diagnosis_year: list[int]
    hpo_terms: list[str]
    medication_atc: list[str]
    smoking: Literal["never", "former", "current", "NI", "UNK", "NASK", "ASKU", "NAV", "MSK", "OTH"]
    bmi_kg_m2: float | None
    ldl_c_mmol_l: float | None
    sbp_mmhg: float | None
    dbp_mmhg: float | None
    hba1c_mmol_mol: float | None
    creatinine_umol_l: float | None
    sample_id: str
    sample_date: date | None

    @field_validator("diagnosis_icd10", "diagnosis_year", "hpo_terms", "medication_atc", mode="before")
    @classmethod
    def split(cls, value: str) -> list[str]:
        """Lists are separated by semicolons."""
        return [item.strip() for item in value.split(";") if item.strip()]

    @field_validator(
        "bmi_kg_m2", "ldl_c_mmol_l", "sbp_mmhg", "dbp_mmhg", "hba1c_mmol_mol", "creatinine_umol_l", "sample_date",
        mode="before",
    )  # fmt: skip
    @classmethod
    def nothing(cls, value: str) -> str | None:
        """An empty cell is nothing."""
        return value or None

    @model_validator(mode="after")
    def whole(self) -> Person:
        """Forms, ranges, and the rules over several fields."""
        for name in ("bmi_kg_m2", "ldl_c_mmol_l", "sbp_mmhg", "dbp_mmhg", "hba1c_mmol_mol", "creatinine_umol_l"):
            value, column = getattr(self, name), COLUMNS[name]
            assert value is None or (column.low or 0) <= value <= (column.high or 0), name
        for pattern, items in ((_CODE, self.diagnosis_icd10), (_HPO, self.hpo_terms), (_ATC, self.medication_atc)):
            assert all(pattern.fullmatch(item) for item in items)
        for name in (self.person_id, self.sample_id):
            assert _NAME.fullmatch(name)
            assert not re.search(r"[^@\s]+@[^@\s]+\.[^@\s]+|[^\W\d_]{2,}[ ,]+[^\W\d_]{2,}|(^|\D)\d{10,13}($|\D)", name)
            assert not re.search(r"(^|[^0-9])[0-9]{6}[-+A ]?[0-9]{3,5}[0-9A-Z]?($|[^0-9])", name)
        assert 1850 <= self.birth_year <= TODAY.year
        assert re.fullmatch("[A-Z]{2}", self.country_of_origin)
        if self.sample_date is not None:
            assert self.sample_date <= TODAY
            assert self.sample_date.year >= self.birth_year
            assert not self.diagnosis_year or max(self.diagnosis_year) <= self.sample_date.year
        assert all(self.birth_year <= year <= TODAY.year for year in self.diagnosis_year)
        assert not self.diagnosis_year or len(self.diagnosis_year) == len(self.diagnosis_icd10)
        assert self.case_status == "control" or self.diagnosis_icd10
        assert self.dbp_mmhg is None or self.sbp_mmhg is None or self.dbp_mmhg < self.sbp_mmhg
        return self


def pydantic_loop(path: Path, people: int | None = None) -> int:
    """How many of the first so many records are wrong, one after the other."""
    return sum(1 for _ in wrong_records(path, people))


def wrong_records(path: Path, people: int | None = None) -> Iterator[int]:
    """Lines of records that are wrong, by the loop."""
    people_seen: set[str] = set()
    samples_seen: set[str] = set()
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if people is not None and number >= people:
                return
            try:
                person = Person.model_validate(row)
                assert person.person_id not in people_seen
                assert person.sample_id not in samples_seen
                people_seen.add(person.person_id)
                samples_seen.add(person.sample_id)
            except (ValidationError, AssertionError):
                yield number + 2
