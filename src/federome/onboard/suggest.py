"""A first mapping from the headers and the kinds of values of a folder's tables; a person reads and edits it.

What a header says is taken before what its values look like. Every guess that rests on values only is marked in the
file. A column that matches no field is listed under ``leave_out``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb

from federome.errors import Invalid
from federome.ingest.columns import COLUMNS
from federome.onboard.canon import trimmed
from federome.onboard.mapping import FORMAT, FieldMapping, Plan, TableMapping
from federome.onboard.tables import Dialect, Source, open_table, quoted, sniff
from federome.onboard.units import UNITS, own_unit, unit_in

SAMPLE: Final = 20_000
"""So many rows of a table are looked at."""
MOSTLY: Final = 0.9
"""Share of different values from which a column is taken to name rows."""
LEFT_OUT: Final = "no field of the profile was recognised"

# Words of headers, in the languages whose exports were seen; whole words unless they end with *.
_WORDS: Final[Mapping[str, str]] = {
    "person_id": "person patient subject pseudonym* participant individual proband iid patientid patientno patno patnr "
    "pid mrn",
    "sex": "sex sexo sexe geschlecht genre kjonn kon sukupuoli sesso geslacht",
    "birth_year": "birth* born dob geburt* naissance nascita nacimiento syntyma* fodelse*",
    "administrative_gender": "gender administrative*",
    "country_of_origin": "country nationality origin land pais pays",
    "ancestry": "ancestry ethnicity hancestro",
    "population": "population",
    "case_status": "status case case_status casestatus",
    "diagnosis_icd10": "icd icd10 diagnosis diagnoses diagnose diagnosen",
    "hpo_terms": "hpo phenotype phenotypes phenotypic",
    "medication_atc": "atc medication medications drug drugs medikation",
    "smoking": "smok* tobacco tabac raucher",
    "bmi_kg_m2": "bmi",
    "ldl_c_mmol_l": "ldl",
    "sbp_mmhg": "sbp systol* rrsys",
    "dbp_mmhg": "dbp diastol* rrdia",
    "hba1c_mmol_mol": "hba1c a1c",
    "creatinine_umol_l": "creatinine* kreatinin* creat",
    "sample_id": "sample specimen probe tube barcode",
    "sample_date": "sampl*date samplingdate collect* entnahme*",
    "consent_tier": "tier",
}
_YEARS: Final = re.compile(r"year|jahr|annee|anno|ar\b")
_SEX: Final[Mapping[str, str]] = {
    **dict.fromkeys(("m", "male", "man", "men", "mann", "homme", "hombre", "maschio", "mannlich", "1", "mies"), "male"),
    **dict.fromkeys(("f", "female", "w", "woman", "frau", "femme", "mujer", "femmina", "weiblich", "2", "k", "nainen"),
                    "female"),
}  # fmt: skip
_SMOKING: Final[Mapping[str, str]] = {
    **dict.fromkeys(("never", "no", "n", "nein", "non", "0", "non-smoker"), "never"),
    **dict.fromkeys(("former", "ex", "ex-smoker", "past", "1"), "former"),
    **dict.fromkeys(("current", "yes", "y", "ja", "oui", "smoker", "2"), "current"),
    **dict.fromkeys(("unknown", "?", "unk"), "UNK"),
}
_CASE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("control", "healthy", "kontrolle", "0", "no"), "control"),
    **dict.fromkeys(("case", "unsolved", "patient", "fall", "1", "yes"), "unsolved"),
    "solved": "solved",
}
_VOCABULARY: Final = {"sex": _SEX, "administrative_gender": _SEX, "smoking": _SMOKING, "case_status": _CASE}
# What the values of a field look like, for columns whose header says nothing.
_LOOKS: Final = {
    "hpo_terms": r"(HP:\d{7})([;,|]\s*HP:\d{7})*",
    "diagnosis_icd10": r"([A-Z]\d\d(\.\d{1,2})?)([;,|]\s*[A-Z]\d\d(\.\d{1,2})?)*",
    "medication_atc": r"([A-Z]\d\d[A-Z]{2}\d\d)([;,|]\s*[A-Z]\d\d[A-Z]{2}\d\d)*",
    "ancestry": r"HANCESTRO:\d{4}",
}
_DAYS: Final = (
    ("YYYY-MM-DD", r"\d{4}-\d\d-\d\d"),
    ("DD.MM.YYYY", r"\d{1,2}\.\d{1,2}\.\d{4}"),
    ("YYYYMMDD", r"(19|20)\d{6}"),
    ("YYYY", r"(18|19|20)\d\d"),
    ("excel", r"[1-5]\d{4}"),
)


@dataclass(frozen=True)
class Suggestion:
    """A mapping with remarks: field -> why it should be looked at. ``missing`` are mandatory fields nobody has."""

    plan: Plan
    remarks: Mapping[str, str]
    missing: tuple[str, ...]


@dataclass
class _Table:
    """``unique`` columns name each row by another value, ``mostly`` all but a few: what stands twice is found later."""

    source: Source
    name: str
    rows: int
    values: Mapping[str, Sequence[str]]
    unique: frozenset[str]
    mostly: frozenset[str]
    fields: dict[str, FieldMapping] = field(default_factory=dict)
    person: str = ""


def suggest(
    tables: Sequence[Path], *, constants: Mapping[str, object], scratch: Path, mandatory: Sequence[str]
) -> Suggestion:
    """Look at every table and propose which of its columns are fields."""
    if not tables:
        raise Invalid("there are no tables.", where="the folder", remedy="Add the people as CSV or Parquet.")
    seen = [_look(path, scratch) for path in tables]
    remarks: dict[str, str] = {}
    for table in seen:
        table.person = _person(table)
    # The table of people names each of them once, and has the most fields.
    for table in seen:
        table.fields = dict(_fields(table, remarks))
    people = [table for table in seen if table.person in table.unique]
    people = people or [table for table in seen if table.person in table.mostly]
    if all(not table.rows for table in seen):
        raise Invalid("there are no rows below the header.", where=seen[0].name, remedy="Export the table again.")
    if not people:
        raise Invalid(
            "no table has one row a person, named in a column of its own.",
            where=", ".join(t.name for t in seen),
            remedy="Add such a table, or call its column person_id, or write mapping.toml by hand.",
        )
    main = max(people, key=lambda table: len(table.fields))
    ordered = [main, *(table for table in seen if table is not main)]
    plan = Plan(FORMAT, tuple(_mapped(ordered, constants)), dict(constants))
    found = {*plan.fields(), *constants, "person_id"}
    return Suggestion(plan, remarks, tuple(name for name in mandatory if name not in found))


def _mapped(ordered: Sequence[_Table], constants: Mapping[str, object]) -> Iterator[TableMapping]:
    taken = set(constants)
    for table in ordered:
        if not table.person:
            continue
        fields = {name: how for name, how in table.fields.items() if name not in taken}
        taken |= set(fields)
        used = {table.person, *(how.column for how in fields.values())}
        dialect = table.source.dialect or Dialect()
        yield TableMapping(
            file=table.name,
            person=table.person,
            encoding=dialect.encoding,
            separator=dialect.separator,
            decimal=dialect.decimal,
            byte_order_mark=dialect.bom,
            fields=fields,
            leave_out={name: LEFT_OUT for name in table.source.columns if name not in used},
        )


def _look(path: Path, scratch: Path) -> _Table:
    dialect = None if path.suffix == ".parquet" else sniff(path)
    source = open_table(path, dialect, scratch)
    with duckdb.connect() as connection:
        texts = ", ".join(f"{trimmed(name, ())} AS {quoted(name)}" for name in source.columns)
        connection.execute(f"CREATE TABLE seen AS SELECT {texts} FROM {source.sql} LIMIT {SAMPLE}")  # noqa: S608
        values, unique, mostly, rows = {}, set(), set(), 0
        for name in source.columns:
            column = quoted(name)
            found = connection.execute(
                f"SELECT {column}, count(*) FROM seen WHERE {column} IS NOT NULL "  # noqa: S608
                "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 500"
            ).fetchall()
            values[name] = [str(value) for value, _ in found]
            rows, distinct = connection.execute(
                f"SELECT count(*), count(DISTINCT {column}) FROM seen"  # noqa: S608
            ).fetchall()[0]
            if rows and rows == distinct:
                unique.add(name)
            if rows and distinct >= MOSTLY * rows:
                mostly.add(name)
    return _Table(source, path.name, int(rows), values, frozenset(unique), frozenset(mostly))


def _plain(header: str) -> list[str]:
    """A header's words in small letters without accents."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", header)
    ascii_ = unicodedata.normalize("NFKD", spaced).encode("ascii", "ignore").decode()
    return re.findall(r"[a-z0-9]+", ascii_.lower())


def _says(header: str, name: str) -> bool:
    words = _plain(header)
    candidates = {*words, "".join(words), "_".join(words)}
    for word in (*_WORDS.get(name, "").split(), name):
        pattern = re.escape(word).replace(r"\*", "[a-z0-9]*")
        if any(re.fullmatch(pattern, candidate) for candidate in candidates):
            return True
    return False


def _person(table: _Table) -> str:
    """The column that names people: by its header; among several, the one whose values are all different."""
    named = [name for name in table.source.columns if _says(name, "person_id")]
    for name in (*(n for n in named if n in table.mostly), *named):
        return name
    return next((name for name in table.source.columns if _plain(name) == ["id"]), "")


def _fields(table: _Table, remarks: dict[str, str]) -> Iterator[tuple[str, FieldMapping]]:
    taken = {table.person}
    for name in (*_WORDS, *(n for n in COLUMNS if n not in _WORDS)):
        if name == "person_id" or COLUMNS[name].place == "constants":
            continue
        for header in table.source.columns:
            if header not in taken and _fits(table, header, name):
                taken.add(header)
                yield name, _how(table, header, name, remarks)
                break
    for name, looks in _LOOKS.items():
        for header in table.source.columns:
            values = table.values[header]
            if header in taken or name in table.fields or not values:
                continue
            if all(re.fullmatch(looks, value) for value in values):
                taken.add(header)
                remarks[name] = "guessed from the values: check"
                yield name, _how(table, header, name, remarks)
                break


def _fits(table: _Table, header: str, name: str) -> bool:
    """Whether a header speaks of a field, and its values do not contradict it."""
    values = table.values[header]
    if name == "diagnosis_year":
        return _says(header, "diagnosis_icd10") and bool(_YEARS.search(" ".join(_plain(header))))
    if not _says(header, name):
        return False
    if name == "sample_id":
        return header in table.mostly and not _form(values)
    if name == "sample_date":
        return bool(_form(values))
    if name == "diagnosis_icd10":
        return not _YEARS.search(" ".join(_plain(header))) and any(re.match(r"[A-Za-z]\d\d", v) for v in values)
    if name in UNITS:
        return any(re.match(r"[+-]?\d", value) for value in values)
    return True


def _form(values: Sequence[str]) -> str:
    """The form of a column of days: the first that most of the values have; empty where they are none."""
    for form, pattern in _DAYS:
        if values and sum(bool(re.fullmatch(pattern, value)) for value in values) > 0.5 * len(values):
            return form
    strokes = [match for value in values if (match := re.fullmatch(r"(\d{1,2})/(\d{1,2})/\d{4}", value))]
    if values and len(strokes) > 0.5 * len(values):
        first, second = (max(int(match[part]) for match in strokes) for part in (1, 2))
        if first > 12 and second <= 12:
            return "DD/MM/YYYY"
        if second > 12 and first <= 12:
            return "MM/DD/YYYY"
    return ""


def _how(table: _Table, header: str, name: str, remarks: dict[str, str]) -> FieldMapping:
    values, column = table.values[header], COLUMNS[name]
    words: Mapping[str, str] = {}
    if name in _VOCABULARY:
        vocabulary = _VOCABULARY[name]
        words = {
            value: vocabulary.get(_joined(value), value if value in column.values else "") for value in values[:50]
        }
        if any(not word for word in words.values()):
            remarks[name] = "some words were not understood: give them a value"
        words = {value: word for value, word in words.items() if word}
        if all(value == word for value, word in words.items()):
            words = {}
    date = _form(values) if column.kind == "date" or name in ("birth_year",) else ""
    if column.kind == "date" and not date:
        remarks[name] = "the form of the days was not recognised: give it"
    unit = _unit(header, name, values, remarks) if name in UNITS else ""
    separator = ""
    if column.listed:
        separator = next((mark for mark in (";", "|", ",") if any(mark in value for value in values)), "")
    return FieldMapping(
        column=header,
        values=words,
        date="" if date == "YYYY" or (date == "YYYY-MM-DD" and column.kind == "date") else date,
        unit="" if unit == own_unit(name) else unit,
        separator="" if separator in (";", "|") else separator,
    )


def _joined(value: str) -> str:
    return value.lower() if not value.isascii() and len(value) == 1 else "".join(_plain(value)) or value


def _unit(header: str, name: str, values: Sequence[str], remarks: dict[str, str]) -> str:
    """The unit that the header names; else the one in which most values are plausible, marked as a guess."""
    said = unit_in(header, name)
    if said and not re.fullmatch(name, header):
        return said
    column = COLUMNS[name]
    numbers = [float(v.replace(",", ".")) for v in values if re.fullmatch(r"[+-]?\d+([.,]\d+)?", v)]
    if not numbers:
        return own_unit(name)
    typical = TYPICAL[name]
    for unit, convert in UNITS[name].items():
        median = sorted(convert(number) for number in numbers)[len(numbers) // 2]
        if typical[0] <= median <= typical[1]:
            if unit != own_unit(name):
                remarks[name] = f"the unit was guessed from the values ({column.unit} would be out of range): check"
            return unit
    return own_unit(name)


# Where the median of adults lies in any population that was looked at, in the profile's unit.
TYPICAL: Final[Mapping[str, tuple[float, float]]] = {
    "bmi_kg_m2": (18, 40),
    "ldl_c_mmol_l": (1.5, 5.5),
    "sbp_mmhg": (100, 165),
    "dbp_mmhg": (55, 105),
    "hba1c_mmol_mol": (25, 75),
    "creatinine_umol_l": (40, 140),
}
