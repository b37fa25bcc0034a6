"""A folder of FHIR R4 files as tables, mapping and consents of a provider's folder, which ``federome onboard`` takes.

Resources are read one by one and spooled; DuckDB, which spills, finds whom each is about and puts them into order. All
is written aside and moved in place at the end, the mapping last; of a faulty export nothing is.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, get_args

import duckdb

from federome.errors import Invalid
from federome.onboard import consents, mapping
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
from federome.onboard.fhir import FORMAT, Choices, Read, not_taken, read_resource
from federome.onboard.fhir_read import SUFFIXES, Entry, place, read_entries
from federome.onboard.tables import literal

CHOICES: Final = "fhir.toml"
NOT_TAKEN: Final = not_taken_name("fhir")
FAULTS: Final = "fhir-faults.json"
_KINDS: Final[Mapping[Table, str]] = {
    "measurements": "Observation",
    "samples": "Specimen",
    "diagnoses": "Condition",
    "phenotypes": "Condition or Observation",
    "medication": "MedicationStatement",
}
_PLACED: Final = ("subject", "url", "file", "entry")


def take_in(
    source: Path,
    folder: Path,
    constants: Mapping[str, Any],
    *,
    on_progress: Callable[[str, int], None] = lambda _file, _resources: None,
) -> Told:
    """Write tables, ``mapping.toml`` and ``consent.csv`` of the export in ``source`` into ``folder``."""
    choices = read_choices(Choices, source / CHOICES, FORMAT)
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
            measure_losses(connection, told, _KINDS)
            write_tables(connection, work, folder, constants, told, prefix="fhir")
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
            writers[table].writerow(("seq", *_PLACED, *COLUMNS[table]))
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
    for table, columns in COLUMNS.items():
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
    for table in COLUMNS:
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
    refuse(told, folder / FAULTS)
    if not told.resources["Patient"]:
        raise Invalid("the export has no Patient.", where=str(folder), remedy="Export the people too.")
