"""A folder of FHIR R4 files as tables, mapping and consents of a provider's folder, which ``federome onboard`` takes.

Resources are read one by one and spooled; DuckDB, which spills, finds whom each is about and puts them into order. All
is written aside and moved in place at the end, the mapping last; of a faulty export nothing is.
"""

from __future__ import annotations

import csv
import json
import os
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, get_args

import duckdb

from federome.errors import Invalid
from federome.onboard import consents, mapping
from federome.onboard.convert import open_workbench
from federome.onboard.fhir import FORMAT, Choices, Read, Table, not_taken, read_resource
from federome.onboard.fhir_read import SUFFIXES, Entry, place, read_entries
from federome.onboard.mapping import FieldMapping, Plan, TableMapping
from federome.onboard.tables import literal

CHOICES: Final = "fhir.toml"
NOT_TAKEN: Final = "fhir-not-taken.json"
FAULTS: Final = "fhir-faults.json"
SHOWN: Final = 1_000
"""So many faults are listed by place; all are counted."""
_KINDS: Final = 10_000
_COLUMNS: Final[Mapping[Table, tuple[str, ...]]] = {
    "people": ("named", "sex", "gender", "born"),
    "diagnoses": ("code", "year"),
    "phenotypes": ("code",),
    "medication": ("code",),
    "measurements": ("what", "value", "day"),
    "samples": ("sample", "day"),
    "consents": consents.COLUMNS[1:],
}
_PLACED: Final = ("subject", "url", "file", "entry")
# What each table becomes: its columns as SQL over the spooled rows (r) and the people (p), in the order of the file.
_LATEST: Final = "ORDER BY r.day DESC, r.seq DESC"
_FIRST_OF_EACH: Final = (
    "SELECT named AS person_id, code FROM (SELECT named, code, min(r.seq) AS seq FROM {0} r JOIN known USING (key) "
    "GROUP BY named, code) ORDER BY seq"
)
_MADE: Final[Mapping[Table, str]] = {
    "people": "SELECT named AS person_id, sex, gender, born FROM people ORDER BY seq",
    "diagnoses": "SELECT named AS person_id, code, CASE WHEN bool_and(year <> '') OVER (PARTITION BY named) THEN year "
    "ELSE '' END AS year FROM (SELECT named, code, coalesce(min(nullif(r.year, '')), '') AS year, min(r.seq) AS seq "
    "FROM diagnoses r JOIN known USING (key) GROUP BY named, code) ORDER BY seq",
    "phenotypes": _FIRST_OF_EACH.format("phenotypes"),
    "medication": _FIRST_OF_EACH.format("medication"),
    "measurements": "SELECT named AS person_id, what, value FROM (SELECT named, what, value, r.seq FROM measurements r "  # noqa: S608
    f"JOIN known USING (key) QUALIFY row_number() OVER (PARTITION BY named, what {_LATEST}) = 1) ORDER BY seq",
    "samples": "SELECT named AS person_id, sample, day FROM (SELECT named, sample, r.day, r.seq FROM samples r "  # noqa: S608
    f"JOIN known USING (key) QUALIFY row_number() OVER (PARTITION BY named {_LATEST}) = 1) ORDER BY seq",
    "consents": f"SELECT named AS person_id, {', '.join(consents.COLUMNS[1:])} FROM consents r "  # noqa: S608
    "JOIN known USING (key) ORDER BY signed, tier = 'none', r.seq",
}
_FIELDS: Final[Mapping[Table, Mapping[str, FieldMapping]]] = {
    "people": {
        "sex": FieldMapping("sex"),
        "administrative_gender": FieldMapping("gender"),
        "birth_year": FieldMapping("born"),
    },
    "diagnoses": {"diagnosis_icd10": FieldMapping("code"), "diagnosis_year": FieldMapping("year")},
    "phenotypes": {"hpo_terms": FieldMapping("code")},
    "medication": {"medication_atc": FieldMapping("code")},
    "measurements": {},
    "samples": {"sample_id": FieldMapping("sample"), "sample_date": FieldMapping("day")},
}


@dataclass
class Told:
    """What came of an export: rows of each table, and what was not taken: (type, element, reason) -> how often."""

    resources: Counter[str] = field(default_factory=Counter)
    rows: dict[Table, int] = field(default_factory=dict)
    left: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    wrong: int = 0
    unread: tuple[str, ...] = ()

    def leave(self, kind: str, element: str, reason: str, count: int = 1) -> None:
        """Count one thing that was not taken; of endless kinds of them, the later ones together."""
        key = (kind, element, reason)
        self.left[key if key in self.left or len(self.left) < _KINDS else ("(others)", "", "")] += count

    def fault(self, where: str, message: str, remedy: str) -> None:
        """Count something that must be corrected."""
        self.wrong += 1
        if len(self.faults) < SHOWN:
            self.faults.append((where, message, remedy))

    def to_json(self) -> dict[str, Any]:
        """As a JSON object: the most frequent first."""
        return {
            "resources": dict(sorted(self.resources.items())),
            "rows": dict(self.rows),
            "not_taken": [
                {"type": kind, "element": element, "reason": reason, "count": count}
                for (kind, element, reason), count in sorted(self.left.items(), key=lambda each: (-each[1], each[0]))
            ],
            "files_not_read": list(self.unread),
        }


def read_choices(folder: Path) -> Choices:
    """The operator's file beside the bundles, or what holds without one."""
    path = folder / CHOICES
    if not path.is_file():
        return Choices()
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"the file is not TOML: {error}.", where=str(path), remedy="See https://toml.io.") from None
    choices = Choices.from_document(told, where=str(path))
    if choices.format != FORMAT:
        raise Invalid("this is another format.", where=f"{path}: format", remedy=f"Write {FORMAT}.")
    return choices


def take_in(
    source: Path,
    folder: Path,
    constants: Mapping[str, Any],
    *,
    on_progress: Callable[[str, int], None] = lambda _file, _resources: None,
) -> Told:
    """Write tables, ``mapping.toml`` and ``consent.csv`` of the export in ``source`` into ``folder``."""
    choices = read_choices(source)
    files = sorted(p for p in source.iterdir() if p.is_file() and p.suffix in SUFFIXES)
    if not files:
        raise Invalid("there are no FHIR files.", where=str(source), remedy="Put .json or .ndjson into the folder.")
    taken = [name for name in (mapping.NAME, consents.NAME) if (folder / name).exists()]
    if taken:
        raise Invalid(f"there is a {taken[0]} already.", where=str(folder), remedy="Remove it first.")
    told = Told(unread=tuple(sorted(p.name for p in source.iterdir() if p not in files and p.name != CHOICES)))
    with TemporaryDirectory(prefix=".fhir-", dir=folder) as aside:
        work = Path(aside)
        _spool(files, work, choices, told, on_progress)
        connection = open_workbench(work / "spill")
        try:
            _load(connection, work)
            _whose(connection, told)
            _refuse(told, folder)
            _measure_losses(connection, told)
            _write(connection, work, folder, constants, told)
        finally:
            connection.close()
    return told


def _spool(
    files: Iterable[Path], work: Path, choices: Choices, told: Told, on_progress: Callable[[str, int], None]
) -> None:
    """Every resource once, into a file a table: what it says, whom it means, where it stood."""
    with ExitStack() as stack:
        writers = {}
        for table in get_args(Table):
            out = stack.enter_context((work / f"{table}.spool").open("w", encoding="utf-8", newline=""))
            writers[table] = csv.writer(out)
            writers[table].writerow(("seq", *_PLACED, *_COLUMNS[table]))
        at = 0
        for path in files:
            for entry in read_entries(path):
                at += 1
                read = read_resource(entry.resource, choices)
                _tell(entry, read, told)
                for row in read.rows:
                    placed = (row.subject, entry.url, entry.file, entry.number)
                    writers[row.table].writerow((at, *placed, *row.values))
                if at % 10_000 == 0:
                    on_progress(path.name, at)
            on_progress(path.name, at)


def _tell(entry: Entry, read: Read, told: Told) -> None:
    kind = entry.resource["resourceType"]
    for message, remedy in read.faults:
        told.fault(entry.where(), message, remedy)
    if not read.faults:
        told.resources[kind] += 1
        for element, reason in not_taken(entry.resource, read):
            told.leave(kind, element, reason)


def _load(connection: duckdb.DuckDBPyConnection, work: Path) -> None:
    """The spooled rows as tables; ``key`` is whom a row means: the id of a Patient, or the address of an entry."""
    for table, columns in _COLUMNS.items():
        typed = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in ("seq", *_PLACED, *columns))
        key = "subject"
        if table != "people":
            key = (
                "CASE WHEN starts_with(subject, 'urn:') THEN subject "
                r"ELSE regexp_extract(subject, '(?:^|/)Patient/([^/#|?]+)(?:/_history/[^/]+)?$', 1) END"
            )
        connection.execute(
            f"CREATE TABLE {table} AS SELECT * REPLACE (seq::BIGINT AS seq, entry::BIGINT AS entry), "  # noqa: S608
            f"{key} AS key FROM read_csv({literal(str(work / f'{table}.spool'))}, all_varchar = true, header = true, "
            f"auto_detect = false, delim = ',', quote = '\"', escape = '\"', nullstr = '\x01', "
            f"max_line_size = {64 << 20}, parallel = false, columns = {{{typed}}})"
        )


def _whose(connection: duckdb.DuckDBPyConnection, told: Told) -> None:
    """Faults across resources: nobody twice, and nothing about people whom the export does not have."""
    for column in ("subject", "named"):
        again = connection.execute(
            f"SELECT file, entry FROM people QUALIFY row_number() OVER (PARTITION BY {column} ORDER BY seq) > 1 "  # noqa: S608
            "ORDER BY seq"
        )
        what = "id" if column == "subject" else "identifier"
        for file, entry in _each(again):
            told.fault(place(file, entry), f"a Patient with this {what} stands before.", "Keep one.")
    connection.execute(
        "CREATE TABLE known AS SELECT DISTINCT key, named FROM (SELECT subject AS key, named FROM people "
        "UNION ALL SELECT url, named FROM people WHERE starts_with(url, 'urn:'))"
    )
    for table in _COLUMNS:
        if table == "people":
            continue
        lost = connection.execute(
            f"SELECT file, entry FROM {table} WHERE key NOT IN (SELECT key FROM known) ORDER BY seq"  # noqa: S608
        )
        for file, entry in _each(lost):
            told.fault(place(file, entry), "the resource is about a Patient whom the export does not have.",
                       "Export the Patient too, or leave the resource out.")  # fmt: skip


def _each(found: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, int]]:
    while rows := found.fetchmany(10_000):
        yield from ((str(file), int(entry)) for file, entry in rows)


def _refuse(told: Told, folder: Path) -> None:
    path = folder / FAULTS
    if not told.wrong:
        path.unlink(missing_ok=True)
        if not told.resources["Patient"]:
            raise Invalid("the export has no Patient.", where=str(folder), remedy="Export the people too.")
        return
    listed = [{"where": where, "message": message, "remedy": remedy} for where, message, remedy in told.faults]
    path.write_text(json.dumps({"count": told.wrong, "faults": listed}, indent=1) + "\n", encoding="utf-8")
    where, message, remedy = told.faults[0]
    raise Invalid(f"{told.wrong:,} faults in the export, the first: {message}", where=where,
                  remedy=f"{remedy} The first {len(listed):,} faults: {path}")  # fmt: skip


def _measure_losses(connection: duckdb.DuckDBPyConnection, told: Told) -> None:
    """What is lost on the way from many resources to one row a person."""
    for kind, reason, table, kept in (
        ("Observation", "a later one of the same person is taken", "measurements", "named, what"),
        ("Specimen", "a later one of the same person is taken", "samples", "named"),
        ("Condition", "the person has the diagnosis already", "diagnoses", "named, code"),
        ("Condition or Observation", "the person has the feature already", "phenotypes", "named, code"),
        ("MedicationStatement", "the person has the medicine already", "medication", "named, code"),
    ):
        (more,) = connection.execute(
            f"SELECT count(*) - count(DISTINCT ({kept})) FROM {table} JOIN known USING (key)"  # noqa: S608 - ours
        ).fetchall()[0]
        if more:
            told.leave(kind, "", reason, int(more))
    (years,) = connection.execute(
        f"SELECT count(*) FROM ({_MADE['diagnoses']}) made JOIN known k ON k.named = person_id "  # noqa: S608 - ours
        "JOIN diagnoses d ON d.key = k.key AND d.code = made.code WHERE made.year = '' AND d.year <> ''"
    ).fetchall()[0]
    if years:
        told.leave("Condition", "onsetDateTime", "another diagnosis of the person has no year", int(years))


def _write(
    connection: duckdb.DuckDBPyConnection, work: Path, folder: Path, constants: Mapping[str, Any], told: Told
) -> None:
    """The tables with the mapping that reads them, moved in place; the mapping last."""
    tables: list[TableMapping] = []
    made: list[str] = []
    for table, sql in _MADE.items():
        name = consents.NAME if table == "consents" else f"fhir-{table}.csv"
        (rows,) = connection.execute(f"SELECT count(*) FROM ({sql})").fetchall()[0]  # noqa: S608 - SQL is ours
        if not rows:
            continue
        told.rows[table] = int(rows)
        connection.execute(f"COPY ({sql}) TO {literal(str(work / name))} (FORMAT csv, HEADER true)")
        made.append(name)
        if table != "consents":
            tables.append(_mapped(connection, table, name, constants))
    plan = Plan(mapping.FORMAT, tuple(tables), dict(constants))
    (work / mapping.NAME).write_text(mapping.to_toml(plan), encoding="utf-8")
    listed = json.dumps(told.to_json(), indent=1, ensure_ascii=False)
    (work / NOT_TAKEN).write_text(listed + "\n", encoding="utf-8")
    for name in (*made, NOT_TAKEN, mapping.NAME):
        os.replace(work / name, folder / name)


def _mapped(
    connection: duckdb.DuckDBPyConnection, table: Table, name: str, constants: Mapping[str, Any]
) -> TableMapping:
    fields = dict(_FIELDS[table])
    if table == "measurements":
        held = connection.execute("SELECT DISTINCT what FROM measurements ORDER BY what").fetchall()
        fields = {what: FieldMapping("value", where={"what": what}) for (what,) in held}
    kept = {name: how for name, how in fields.items() if name not in constants}
    columns = {how.column for how in fields.values()} - {how.column for how in kept.values()}
    left = dict.fromkeys(sorted(columns), "the provider gives a constant")
    if table == "measurements" and not kept:
        left["what"] = "the provider gives a constant"
    return TableMapping(name, "person_id", fields=kept, leave_out=left)
