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
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import duckdb
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
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


def _pattern(name: str) -> object:
    """A text in a field's form, as a check that is compiled."""
    return Annotated[str, StringConstraints(pattern=f"^(?:{COLUMNS[name].pattern})$")]


def _number(name: str) -> object:
    """A number in a field's range, or nothing."""
    column = COLUMNS[name]
    return Annotated[float, Field(ge=column.low, le=column.high, allow_inf_nan=False)] | Literal[""]


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(";")] if value else []


_DIRECT: Final = re.compile(
    r"[^@\s]+@[^@\s]+\.[^@\s]+|[^\W\d_]{2,}[ ,]+[^\W\d_]{2,}|(?:^|\D)\d{10,13}(?:$|\D)"
    r"|(?:^|[^0-9])[0-9]{6}[-+A ]?[0-9]{3,5}[0-9A-Z]?(?:$|[^0-9])"
)
_Year = Annotated[int, Field(ge=1850, le=2026)]
_SPLIT: Final = BeforeValidator(_items)

if TYPE_CHECKING:
    _Name = str
    _Country = str
    _Code = str
    _Hpo = str
    _Atc = str
    _Number: TypeAlias = float | Literal[""]
    _Bmi = _Number
    _Ldl = _Number
    _Sbp = _Number
    _Dbp = _Number
    _Hba1c = _Number
    _Creatinine = _Number
else:
    _Name, _Country = _pattern("person_id"), _pattern("country_of_origin")
    _Code, _Hpo, _Atc = _pattern("diagnosis_icd10"), _pattern("hpo_terms"), _pattern("medication_atc")
    _Bmi, _Ldl, _Sbp = _number("bmi_kg_m2"), _number("ldl_c_mmol_l"), _number("sbp_mmhg")
    _Dbp, _Hba1c, _Creatinine = _number("dbp_mmhg"), _number("hba1c_mmol_mol"), _number("creatinine_umol_l")


class Person(BaseModel):
    """A person as one would write it for a loop: the obvious slow twin of the columns.

    Whatever pydantic checks in compiled code is left to it: forms, value sets, ranges and days. Python splits lists,
    looks for direct identifiers, and holds fields against each other.
    """

    person_id: _Name
    sex: Literal["female", "male"]
    birth_year: _Year
    administrative_gender: Literal[
        "male", "female", "other", "unknown", "NI", "UNK", "NASK", "ASKU", "NAV", "MSK", "OTH"
    ]
    country_of_origin: _Country
    case_status: Literal["solved", "unsolved", "control"]
    diagnosis_icd10: Annotated[list[_Code], _SPLIT]
    diagnosis_year: Annotated[list[_Year], _SPLIT]
    hpo_terms: Annotated[list[_Hpo], _SPLIT]
    medication_atc: Annotated[list[_Atc], _SPLIT]
    smoking: Literal["never", "former", "current", "NI", "UNK", "NASK", "ASKU", "NAV", "MSK", "OTH"]
    bmi_kg_m2: _Bmi
    ldl_c_mmol_l: _Ldl
    sbp_mmhg: _Sbp
    dbp_mmhg: _Dbp
    hba1c_mmol_mol: _Hba1c
    creatinine_umol_l: _Creatinine
    sample_id: _Name
    sample_date: Annotated[date, Field(le=TODAY)] | Literal[""]

    @model_validator(mode="after")
    def whole(self) -> Person:
        """The rules over several fields."""
        if _DIRECT.search(self.person_id) or _DIRECT.search(self.sample_id):
            raise ValueError("V14")
        years, born = self.diagnosis_year, self.birth_year
        if self.sample_date and self.sample_date.year < born:
            raise ValueError("V4")
        if years:
            if min(years) < born or (self.sample_date and max(years) > self.sample_date.year):
                raise ValueError("V4")
            if len(years) != len(self.diagnosis_icd10):
                raise ValueError("V5")
        if self.case_status != "control" and not self.diagnosis_icd10:
            raise ValueError("V5")
        if self.dbp_mmhg and self.sbp_mmhg and self.dbp_mmhg >= self.sbp_mmhg:
            raise ValueError("V8")
        return self


def pydantic_loop(path: Path, people: int | None = None) -> int:
    """How many of the first so many records are wrong, one after the other."""
    return sum(1 for _ in wrong_records(path, people))


def wrong_records(path: Path, people: int | None = None) -> Iterator[int]:
    """Lines of records that are wrong, by the loop."""
    people_seen: set[str] = set()
    samples_seen: set[str] = set()
    validate = TypeAdapter(Person).validator.validate_python
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        for number, row in enumerate(islice(reader, people), 2):
            try:
                person = validate(dict(zip(header, row, strict=True)))
            except ValidationError:
                yield number
                continue
            if person.person_id in people_seen or person.sample_id in samples_seen:
                yield number
                continue
            people_seen.add(person.person_id)
            samples_seen.add(person.sample_id)
