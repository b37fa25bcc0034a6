"""People's records of a clinical model, spooled into seven tables, as the tables of a provider's folder.

FHIR and OMOP both end here: who is meant, what is said of them and when. What a model says beyond one row a person is
counted as not taken; the mapping that reads the tables is written with them.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self, TypeVar

import duckdb

from federome.errors import Invalid
from federome.onboard import consents, mapping
from federome.onboard.mapping import FieldMapping, Plan, TableMapping
from federome.onboard.tables import literal

Table = Literal["people", "diagnoses", "phenotypes", "medication", "measurements", "samples", "consents"]
SHOWN: Final = 1_000
"""So many faults are listed by place; all are counted."""
_KINDS: Final = 10_000
COLUMNS: Final[Mapping[Table, tuple[str, ...]]] = {
    "people": ("named", "sex", "gender", "born"),
    "diagnoses": ("code", "year"),
    "phenotypes": ("code",),
    "medication": ("code",),
    "measurements": ("what", "value", "day"),
    "samples": ("sample", "day"),
    "consents": consents.COLUMNS[1:],
}
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


class Choices(Protocol):
    """A file of an operator's choices, with its format."""

    @property
    def format(self) -> str:
        """Which format the file says that it has."""

    @classmethod
    def from_document(cls, document: object, *, where: str = "") -> Self:
        """Read a parsed document."""


C = TypeVar("C", bound=Choices)


def refuse(told: Told, path: Path) -> None:
    """``Invalid`` if something is wrong in the export, with the first faults listed in the file ``path``."""
    if not told.wrong:
        path.unlink(missing_ok=True)
        return
    listed = [{"where": where, "message": message, "remedy": remedy} for where, message, remedy in told.faults]
    path.write_text(json.dumps({"count": told.wrong, "faults": listed}, indent=1) + "\n", encoding="utf-8")
    where, message, remedy = told.faults[0]
    raise Invalid(f"{told.wrong:,} faults in the export, the first: {message}", where=where,
                  remedy=f"{remedy} The first {len(listed):,} faults: {path}")  # fmt: skip


def read_choices(kind: type[C], path: Path, form: str) -> C:
    """What only the operator knows of an export: a TOML file beside it, or what holds without one."""
    if not path.is_file():
        return kind()
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"the file is not TOML: {error}.", where=str(path), remedy="See https://toml.io.") from None
    choices = kind.from_document(told, where=str(path))
    if choices.format != form:
        raise Invalid("this is another format.", where=f"{path}: format", remedy=f"Write {form}.")
    return choices


def not_taken_name(prefix: str) -> str:
    """The file that lists what was not taken."""
    return f"{prefix}-not-taken.json"


def measure_losses(connection: duckdb.DuckDBPyConnection, told: Told, kinds: Mapping[Table, str]) -> None:
    """What is lost on the way from many resources to one row a person."""
    losses: tuple[tuple[Table, str, str], ...] = (
        ("measurements", "a later one of the same person is taken", "named, what"),
        ("samples", "a later one of the same person is taken", "named"),
        ("diagnoses", "the person has the diagnosis already", "named, code"),
        ("phenotypes", "the person has the feature already", "named, code"),
        ("medication", "the person has the medicine already", "named, code"),
    )
    for table, reason, kept in losses:
        (more,) = connection.execute(
            f"SELECT count(*) - count(DISTINCT ({kept})) FROM {table} JOIN known USING (key)"  # noqa: S608 - ours
        ).fetchall()[0]
        if more:
            told.leave(kinds[table], "", reason, int(more))
    (years,) = connection.execute(
        f"SELECT count(*) FROM ({_MADE['diagnoses']}) made JOIN known k ON k.named = person_id "  # noqa: S608 - ours
        "JOIN diagnoses d ON d.key = k.key AND d.code = made.code WHERE made.year = '' AND d.year <> ''"
    ).fetchall()[0]
    if years:
        told.leave(kinds["diagnoses"], "year", "another diagnosis of the person has no year", int(years))


def write_tables(
    connection: duckdb.DuckDBPyConnection,
    work: Path,
    folder: Path,
    constants: Mapping[str, Any],
    told: Told,
    *,
    prefix: str,
) -> None:
    """The tables with the mapping that reads them, moved in place; the mapping last."""
    tables: list[TableMapping] = []
    made: list[str] = []
    for table, sql in _MADE.items():
        name = consents.NAME if table == "consents" else f"{prefix}-{table}.csv"
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
    (work / not_taken_name(prefix)).write_text(listed + "\n", encoding="utf-8")
    for name in (*made, not_taken_name(prefix), mapping.NAME):
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
