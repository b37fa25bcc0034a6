"""Tables of the OMOP common data model 5.4 as tables and mapping of a provider's folder.

Codes come of the ``concept`` table of the provider's own vocabularies: ICD-10 and ATC as the source said them, LOINC
and UCUM as standard concepts, drugs through ``concept_ancestor`` where one ATC code stands above them. Nothing is
translated that the vocabularies do not say; what is not taken is counted by code. OMOP keeps no consents.

Source: OHDSI Common Data Model 5.4 (tables, fields, concept ids of sex and operators).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb

from federome.errors import Invalid
from federome.model.strict import Document
from federome.onboard import mapping
from federome.onboard.clinical import (
    COLUMNS,
    Table,
    Told,
    measure_losses,
    not_taken_name,
    read_choices,
    refuse,
    write_tables,
)
from federome.onboard.convert import open_workbench
from federome.onboard.fhir import MEASURED, SMOKED, SMOKING
from federome.onboard.tables import TABLES, Source, broken_lines, literal, literals, open_table, quoted
from federome.onboard.units import UNITS, spellings

CHOICES: Final = "omop.toml"
FORMAT: Final = "federome-omop/1"
NOT_TAKEN: Final = not_taken_name("omop")
FAULTS: Final = "omop-faults.json"
# Fields that are read; those in front of the stroke must be there.
_READ: Final[Mapping[str, str]] = {
    "person": "person_id gender_concept_id year_of_birth | birth_datetime",
    "concept": "concept_id vocabulary_id concept_code | concept_class_id invalid_reason",
    "condition_occurrence": "person_id condition_concept_id condition_start_date | condition_source_concept_id "
    "condition_source_value",
    "measurement": "person_id measurement_concept_id measurement_date | measurement_source_concept_id value_as_number "
    "operator_concept_id unit_concept_id unit_source_value",
    "observation": "person_id observation_concept_id observation_date | observation_source_concept_id "
    "value_as_concept_id value_as_string",
    "drug_exposure": "person_id drug_concept_id drug_exposure_start_date | drug_source_concept_id",
    "specimen": "specimen_id person_id specimen_date | specimen_source_id",
    "concept_ancestor": "ancestor_concept_id descendant_concept_id |",
}
_MUST: Final = ("person", "concept")
_SEX: Final = {"8507": "male", "8532": "female"}
_EQUAL: Final = "4172703"
_KINDS: Final[Mapping[Table, str]] = {
    "measurements": "measurement",
    "samples": "specimen",
    "diagnoses": "condition_occurrence",
    "phenotypes": "condition_occurrence or observation",
    "medication": "drug_exposure",
}
_DIRECT: Final = ("person_source_value", "provider_id", "location_id", "birth_datetime", "day_of_birth")


@dataclass(frozen=True)
class Choices(Document):
    """What only the operator knows: the file ``omop.toml`` beside the tables.

    ``gender_from_sex`` takes the sex for the administrative gender too, which OMOP does not keep.
    ``diagnosis_vocabularies`` are those whose codes are read as ICD-10; ``specimen_id`` names samples.
    """

    format: str = FORMAT
    gender_from_sex: bool = False
    diagnosis_vocabularies: tuple[str, ...] = ("ICD10",)
    specimen_id: str = "specimen_source_id"


def take_in_omop(source: Path, folder: Path, constants: Mapping[str, Any]) -> Told:
    """Write tables and ``mapping.toml`` of the OMOP tables in ``source`` into ``folder``."""
    choices = _choices(source)
    if (folder / mapping.NAME).exists():
        raise Invalid(f"there is a {mapping.NAME} already.", where=str(folder), remedy="Remove it first.")
    files = {p.stem.lower(): p for p in sorted(source.iterdir()) if p.suffix in TABLES}
    for name in _MUST:
        if name not in files:
            raise Invalid(f"there is no table {name}.", where=str(source), remedy=f"Export {name}.csv or .parquet too.")
    known = {path for name, path in files.items() if name in _READ}
    told = Told(unread=tuple(p.name for p in sorted(source.iterdir()) if p not in known and p.name != CHOICES))
    with TemporaryDirectory(prefix=".omop-", dir=folder) as aside:
        work = Path(aside)
        connection = open_workbench(work / "spill")
        try:
            for name in _READ:
                _load(connection, name, files.get(name), work, told)
            _people(connection, choices, told)
            _diagnoses(connection, choices, told)
            _medication(connection, told)
            _measurements(connection, told)
            _observations(connection, told)
            _samples(connection, choices)
            _whose(connection, told)
            refuse(told, folder / FAULTS)
            measure_losses(connection, told, _KINDS)
            write_tables(connection, work, folder, constants, told, prefix="omop")
        finally:
            connection.close()
    return told


def _choices(folder: Path) -> Choices:
    path = folder / CHOICES
    choices = read_choices(Choices, path, FORMAT)
    if choices.specimen_id not in ("specimen_id", "specimen_source_id"):
        raise Invalid("samples are not named so.", where=str(path), remedy="specimen_id or specimen_source_id.")
    return choices


def _load(connection: duckdb.DuckDBPyConnection, name: str, path: Path | None, work: Path, told: Told) -> None:
    """The table ``cdm_NAME`` of texts, with the line as ``seq``; fields that are filled and not read are told."""
    must, _, may = (part.split() for part in _READ[name].partition("|"))
    fields = [*must, *may]
    if path is None:
        listing = ", ".join(f"NULL::VARCHAR AS {field}" for field in fields)
        connection.execute(f"CREATE TABLE cdm_{name} AS SELECT 0::BIGINT AS seq, {listing} WHERE false")
        return
    # Vocabulary files are written without quotation: a mark in a name is only a mark.
    source = open_table(path, None, work, quotes=not name.startswith("concept"))
    held = {column.lower(): column for column in source.columns}
    for field in must:
        if field not in held:
            raise Invalid(f"the field {field} is not there.", where=path.name, remedy="Export tables of the CDM 5.4.")
    listing = ", ".join(f"{quoted(held[f])} AS {f}" if f in held else f"NULL::VARCHAR AS {f}" for f in fields)
    rows = f"(SELECT row_number() OVER () + {source.first_line - 1} AS seq, * FROM {source.sql})"  # noqa: S608
    connection.execute(f"CREATE TABLE cdm_{name} AS SELECT seq, {listing} FROM {rows}")  # noqa: S608
    for each in broken_lines(connection, source):
        told.fault(each.where(), each.message, each.remedy)
    (count,) = connection.execute(f"SELECT count(*) FROM cdm_{name}").fetchall()[0]  # noqa: S608 - the name is ours
    if not name.startswith("concept"):
        told.resources[name] = int(count)
        _others(connection, name, source, [column for low, column in held.items() if low not in fields], told)


def _others(
    connection: duckdb.DuckDBPyConnection, name: str, source: Source, columns: Sequence[str], told: Told
) -> None:
    """Fields that hold something and are not read."""
    if not columns:
        return
    counts = ", ".join(f"count(nullif(nullif({quoted(column)}, ''), '0'))" for column in columns)
    found = connection.execute(f"SELECT {counts} FROM {source.sql}").fetchall()[0]  # noqa: S608 - names are quoted
    connection.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
    for column, count in zip(columns, found, strict=True):
        if count:
            direct = column.lower() in _DIRECT
            reason = "direct identifier, never kept" if direct else "no field of the profile"
            told.leave(name, column.lower()[:60], reason, int(count))


def _put(connection: duckdb.DuckDBPyConnection, table: Table, rows: str) -> None:
    """A spooled table: ``rows`` is SQL of seq, key, file and the columns that ``clinical`` knows of it."""
    listing = ", ".join(f"coalesce({name}, '') AS {name}" for name in COLUMNS[table])
    connection.execute(
        f"CREATE TABLE {table} AS SELECT seq, key, key AS subject, file, seq AS entry, {listing} FROM ({rows})"  # noqa: S608
    )


def _people(connection: duckdb.DuckDBPyConnection, choices: Choices, told: Told) -> None:
    sex = f"CASE gender_concept_id {' '.join(f'WHEN {literal(k)} THEN {literal(v)}' for k, v in _SEX.items())} END"
    gender = sex if choices.gender_from_sex else "''"
    _put(
        connection,
        "people",
        f"SELECT seq, coalesce(person_id, '') AS key, 'person' AS file, coalesce(person_id, '') AS named, "  # noqa: S608
        f"{sex} AS sex, {gender} AS gender, year_of_birth AS born FROM cdm_person",
    )
    for reason, test in (
        ("the person is not named.", "key = ''"),
        ("the person stands in an earlier row.",
         "key <> '' AND seq NOT IN (SELECT min(seq) FROM people GROUP BY key)"),
    ):  # fmt: skip
        for (line,) in _each(connection, f"SELECT seq FROM people WHERE {test} ORDER BY seq"):  # noqa: S608
            told.fault(f"person:{line}", reason, "Keep one row a person.")
    (unknown,) = connection.execute("SELECT count(*) FROM people WHERE sex = ''").fetchall()[0]
    if unknown:
        told.leave("person", "gender_concept_id", "neither male (8507) nor female (8532)", int(unknown))


def _diagnoses(connection: duckdb.DuckDBPyConnection, choices: Choices, told: Told) -> None:
    """A condition's code as the source said it, else as the standard concept does, if that is an ICD-10 code."""
    icd = f"IN {literals(choices.diagnosis_vocabularies)}"
    connection.execute(
        "CREATE TABLE cdm_conditions AS SELECT o.seq, o.person_id AS key, "  # noqa: S608
        f"{_year('condition_start_date')} AS year, "
        f"CASE WHEN s.vocabulary_id {icd} THEN s.concept_code WHEN c.vocabulary_id {icd} THEN c.concept_code END "
        "AS icd, "
        "CASE WHEN s.vocabulary_id = 'HPO' THEN s.concept_code WHEN c.vocabulary_id = 'HPO' THEN c.concept_code END "
        "AS hpo, coalesce(s.vocabulary_id, c.vocabulary_id, '') AS vocabulary, "
        "coalesce(s.concept_code, c.concept_code, '') AS code FROM cdm_condition_occurrence o "
        "LEFT JOIN cdm_concept c ON c.concept_id = condition_concept_id "
        "LEFT JOIN cdm_concept s ON s.concept_id = condition_source_concept_id AND condition_source_concept_id <> '0'"
    )
    _put(connection, "diagnoses", "SELECT seq, key, 'condition_occurrence' AS file, icd AS code, year "
         "FROM cdm_conditions WHERE icd IS NOT NULL")  # fmt: skip
    _unmapped(connection, "condition_occurrence", "cdm_conditions", "icd IS NULL AND hpo IS NULL", told)


def _medication(connection: duckdb.DuckDBPyConnection, told: Told) -> None:
    """ATC as the source said it, else the one ATC code that the vocabulary puts above the drug."""
    connection.execute(
        "CREATE TABLE cdm_drugs AS SELECT o.seq, o.person_id AS key, "
        "CASE WHEN s.vocabulary_id = 'ATC' THEN s.concept_code "
        "WHEN c.vocabulary_id = 'ATC' THEN c.concept_code ELSE a.one END AS atc, coalesce(a.many, 0) AS many, "
        "coalesce(c.vocabulary_id, s.vocabulary_id, '') AS vocabulary, "
        "coalesce(c.concept_code, s.concept_code, '') AS code "
        "FROM cdm_drug_exposure o LEFT JOIN cdm_concept c ON c.concept_id = drug_concept_id "
        "LEFT JOIN cdm_concept s ON s.concept_id = drug_source_concept_id AND drug_source_concept_id <> '0' LEFT JOIN ("
        "SELECT descendant_concept_id AS drug, count(DISTINCT concept_code) AS many, "
        "CASE WHEN count(DISTINCT concept_code) = 1 THEN any_value(concept_code) END AS one FROM cdm_concept_ancestor "
        "JOIN cdm_concept ON concept_id = ancestor_concept_id WHERE vocabulary_id = 'ATC' AND length(concept_code) = 7 "
        "GROUP BY 1) a ON a.drug = drug_concept_id"
    )
    _put(connection, "medication", "SELECT seq, key, 'drug_exposure' AS file, atc AS code FROM cdm_drugs "
         "WHERE atc IS NOT NULL")  # fmt: skip
    _unmapped(connection, "drug_exposure", "cdm_drugs", "atc IS NULL AND many = 0", told)
    (many,) = connection.execute("SELECT count(*) FROM cdm_drugs WHERE atc IS NULL AND many > 1").fetchall()[0]
    if many:
        told.leave("drug_exposure", "drug_concept_id", "several ATC codes stand above the drug", int(many))


def _measurements(connection: duckdb.DuckDBPyConnection, told: Told) -> None:
    """LOINC concepts with a number, converted from the row's unit into the profile's."""
    field = f"CASE c.concept_code {' '.join(f'WHEN {literal(k)} THEN {literal(v)}' for k, v in MEASURED.items())} END"
    connection.execute(
        "CREATE TABLE cdm_measured AS SELECT o.seq, o.person_id AS key, c.vocabulary_id AS vocabulary, "  # noqa: S608
        f"c.concept_code AS code, CASE WHEN c.vocabulary_id = 'LOINC' THEN {field} "
        "END AS what, value_as_number AS text, TRY_CAST(value_as_number AS DOUBLE) AS value, measurement_date AS day, "
        "coalesce(nullif(operator_concept_id, '0'), '') AS operator, "
        "coalesce(CASE WHEN u.vocabulary_id = 'UCUM' THEN u.concept_code END, unit_source_value, '') AS unit "
        "FROM cdm_measurement o LEFT JOIN cdm_concept c ON c.concept_id = measurement_concept_id "
        "LEFT JOIN cdm_concept u ON u.concept_id = unit_concept_id AND unit_concept_id <> '0'"
    )
    _unmapped(connection, "measurement", "cdm_measured", "what IS NULL", told)
    bound = f"what IS NOT NULL AND operator NOT IN ('', {literal(_EQUAL)})"
    for reason, test in (
        ("it is a bound, not a value", bound),
        ("it has no number", "what IS NOT NULL AND text IS NULL"),
    ):
        (count,) = connection.execute(f"SELECT count(*) FROM cdm_measured WHERE {test}").fetchall()[0]  # noqa: S608
        if count:
            told.leave("measurement", "", reason, int(count))
    cases = " ".join(
        f"WHEN what = {literal(name)} AND lower(trim(unit)) = {literal(said)} THEN "
        f"value * {UNITS[name][code].factor!r} + {UNITS[name][code].offset!r}"
        for name in UNITS
        for said, code in spellings(name).items()
    )
    taken = f"what IS NOT NULL AND text IS NOT NULL AND NOT ({bound})"
    connection.execute(
        f"CREATE TABLE cdm_converted AS SELECT *, round(CASE {cases} END, 6) AS own FROM cdm_measured WHERE {taken}"  # noqa: S608
    )
    for line, what, number in _each(
        connection, "SELECT seq, what, value IS NOT NULL FROM cdm_converted WHERE own IS NULL ORDER BY seq"
    ):
        message = f"the measurement of {what} has a unit that is not known for it." if number else "this is no number."
        told.fault(f"measurement:{line}", message, f"Give one of {', '.join(UNITS[str(what)])}.")
    _put(connection, "measurements", "SELECT seq, key, 'measurement' AS file, what, own::VARCHAR AS value, "
         "day FROM cdm_converted WHERE own IS NOT NULL")  # fmt: skip


def _observations(connection: duckdb.DuckDBPyConnection, told: Told) -> None:
    """HPO terms that are observed, of conditions too, and the answer on smoking."""
    smoked = f"CASE v.concept_code {' '.join(f'WHEN {literal(k)} THEN {literal(v)}' for k, v in SMOKED.items())} END"
    connection.execute(
        "CREATE TABLE cdm_observed AS SELECT o.seq, o.person_id AS key, observation_date AS day, "  # noqa: S608
        "coalesce(s.vocabulary_id, c.vocabulary_id, '') AS vocabulary, "
        "coalesce(s.concept_code, c.concept_code, '') AS code, "
        f"CASE WHEN c.vocabulary_id = 'LOINC' AND c.concept_code = {literal(SMOKING)} THEN {smoked} END AS smoking, "
        "CASE WHEN value_as_concept_id IS NULL OR value_as_concept_id IN ('0', '4181412') THEN "  # 4181412: present
        "CASE WHEN s.vocabulary_id = 'HPO' THEN s.concept_code WHEN c.vocabulary_id = 'HPO' THEN c.concept_code END "
        "END AS hpo FROM cdm_observation o LEFT JOIN cdm_concept c ON c.concept_id = observation_concept_id "
        "LEFT JOIN cdm_concept v ON v.concept_id = value_as_concept_id AND value_as_concept_id <> '0' "
        "LEFT JOIN cdm_concept s ON s.concept_id = observation_source_concept_id "
        "AND observation_source_concept_id <> '0'"
    )
    _put(connection, "phenotypes", "SELECT seq, key, file, replace(hpo, '_', ':') AS code FROM ("
         "SELECT seq, key, 'condition_occurrence' AS file, hpo FROM cdm_conditions UNION ALL "
         "SELECT seq, key, 'observation', hpo FROM cdm_observed) WHERE hpo IS NOT NULL")  # fmt: skip
    connection.execute(
        "INSERT INTO measurements SELECT seq, key, key, 'observation', seq, 'smoking', smoking, coalesce(day, '') "
        "FROM cdm_observed WHERE smoking IS NOT NULL"
    )
    _unmapped(connection, "observation", "cdm_observed", "hpo IS NULL AND smoking IS NULL", told)


def _samples(connection: duckdb.DuckDBPyConnection, choices: Choices) -> None:
    _put(connection, "samples", "SELECT seq, person_id AS key, 'specimen' AS file, "  # noqa: S608 - a name of ours
         f"coalesce({choices.specimen_id}, specimen_id) AS sample, specimen_date AS day FROM cdm_specimen")  # fmt: skip
    connection.execute("CREATE TABLE consents (seq BIGINT, key VARCHAR, " + ", ".join(
        f"{name} VARCHAR" for name in COLUMNS["consents"]) + ")")  # fmt: skip


def _unmapped(connection: duckdb.DuckDBPyConnection, name: str, table: str, test: str, told: Told) -> None:
    """Rows whose concept is of no field, by code."""
    for vocabulary, code, count in connection.execute(
        f"SELECT vocabulary, code, count(*) FROM {table} WHERE {test} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"  # noqa: S608
    ).fetchall():
        said = f"{vocabulary}|{code}"[:80] if code else "of no concept in the vocabulary"
        told.leave(name, "", f"no field for {said}" if code else said, int(count))


def _whose(connection: duckdb.DuckDBPyConnection, told: Told) -> None:
    connection.execute("CREATE TABLE known AS SELECT DISTINCT key, named FROM people")
    for table in _KINDS:
        lost = (
            f"SELECT file, seq FROM {table} WHERE key IS NULL OR key NOT IN (SELECT key FROM known) ORDER BY file, seq"  # noqa: S608
        )
        for file, line in _each(connection, lost):
            told.fault(f"{file}:{line}", "the row is about a person whom the export does not have.",
                       "Export the person too, or leave the row out.")  # fmt: skip


def _year(field: str) -> str:
    return f"CASE WHEN regexp_matches({field}, '^[0-9]{{4}}') THEN {field}[1:4] END"


def _each(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[tuple[object, ...]]:
    found = connection.cursor().execute(sql)
    while rows := found.fetchmany(10_000):
        yield from rows
