"""Phenotypes of a batch: Parquet with one row a person in the order of the genotypes, queried with DuckDB.

Written once at ingest, read by column, and asked who meets the criteria of a cohort. Values that users write reach
DuckDB as parameters only, and column names only after they were found in the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import duckdb
import numpy as np
from numpy.typing import NDArray

from federome.disk import sync_folder
from federome.errors import Invalid
from federome.model.cohort import AnyOf, Cohort, Diagnosis, Measurement
from federome.model.table import Mask
from federome.store.layout import altered, file_digest, sync_file, with_part

if TYPE_CHECKING:
    import pandas as pd

ROW, PERSON = "person_row", "person_id"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NUMBERS = {
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    *("FLOAT", "DOUBLE", "BOOLEAN"),
}
_CODE_COLUMNS = {"ICD10": "diagnosis_icd10", "HP": "hpo_terms", "ATC": "medication_atc"}
_BY_LETTERS = {"diagnosis_icd10": "ICD10:", "medication_atc": "ATC:"}
"""Columns whose codes go by their letters: what begins with a code lies below it."""
_BIRTHDAY_MONTH = 7

Values: TypeAlias = "np.ma.MaskedArray[tuple[int, ...], np.dtype[np.generic]]"
Parameter = str | int | float | list[str]
Condition = tuple[str, list[Parameter]]


class Closure(Protocol):
    """An ontology that knows what lies below a term (``model.ontology.Ontology`` does)."""

    def descendants(self, term: str, /) -> Collection[str]:
        """The term and everything below it."""


def write(
    table: Path | pd.DataFrame | duckdb.DuckDBPyRelation | None,
    path: Path,
    *,
    people: Sequence[str],
    sexes: Sequence[str],
) -> None:
    """Write a batch's Parquet durably, rows in the order of ``people``; the pseudonyms themselves stay out of it.

    Raises ``Invalid`` for people who are unknown, repeated or missing, and for column names or types that the store
    does not keep.
    """
    import pandas as pd

    partial = with_part(path, ".partial")
    listed = pd.DataFrame(
        {ROW: np.arange(len(people)), PERSON: pd.Series(people, dtype=object), "sex": pd.Series(sexes, dtype=object)}
    )
    with _connect() as connection:
        connection.register("people", listed)
        if table is None:
            kept = connection.sql("SELECT person_row, sex FROM people ORDER BY person_row")
        else:
            _load(connection, table, path)
            columns = _checked_columns(connection)
            _check_people(connection, len(people))
            listing = "".join(f", {expression}" for expression in columns)
            kept = connection.sql(
                f"SELECT p.person_row, p.sex{listing} FROM people p JOIN given t"  # noqa: S608 - names checked above
                " ON CAST(t.person_id AS VARCHAR) = p.person_id ORDER BY p.person_row"
            )
        kept.create("kept")  # equal rows give equal bytes only from one kind of source
        connection.table("kept").write_parquet(str(partial), compression="zstd")
    sync_file(partial)
    partial.replace(path)
    sync_folder(path.parent)


def write_kept(
    parts: Sequence[tuple[Phenotypes, NDArray[np.int64]]], path: Path, *, people: Sequence[str], sexes: Sequence[str]
) -> None:
    """Write rows of earlier batches as one new batch; ``people`` are named part by part, in the order of the rows.

    A column that a part does not have is empty for its people. Their bytes are those that ``write`` makes of a table
    with these columns and rows.
    """
    import pandas as pd

    names = np.array(people, dtype=object)
    tables, start = [], 0
    with _connect() as connection:
        for number, (held, rows) in enumerate(parts):
            assert held.columns  # checks the file
            kept = pd.DataFrame({"kept_row": rows, PERSON: names[start : start + len(rows)]})
            start += len(rows)
            connection.register(f"kept_{number}", kept)
            connection.read_parquet(str(held.path)).create_view(f"held_{number}")
            tables.append(
                f"SELECT k.{PERSON}, h.* EXCLUDE ({ROW}, sex) FROM held_{number} h"  # noqa: S608 - names are ours
                f" JOIN kept_{number} k ON h.{ROW} = k.kept_row"
            )
        write(connection.sql(" UNION ALL BY NAME ".join(tables)), path, people=people, sexes=sexes)


def _load(
    connection: duckdb.DuckDBPyConnection, table: Path | pd.DataFrame | duckdb.DuckDBPyRelation, path: Path
) -> None:
    """Make the caller's table visible under the name ``given``."""
    if isinstance(table, duckdb.DuckDBPyRelation):  # it lives in another connection
        copy = with_part(path, ".given.partial")
        table.write_parquet(str(copy))
        connection.read_parquet(str(copy)).create("given")
        copy.unlink()
    elif isinstance(table, Path):
        try:
            connection.read_parquet(str(table)).create_view("given")
        except duckdb.Error as error:
            raise Invalid("this is not a Parquet file.", where=str(table)) from error
    else:
        # types come from all rows, not a sample; a copy, since DuckDB 2.0 cannot read a frame that runs backwards
        connection.execute(f"SET pandas_analyze_sample = {len(table) + 1}")
        connection.register("given", table.copy())


def _checked_columns(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """SQL of the columns to keep, all but the key and ``sex``; ``Invalid`` for names and types that are not kept.

    A column without a single value has no type and is left out: that says the same. Lists that are all empty or
    missing become lists of texts.
    """
    described = connection.table("given")
    types = dict(zip(described.columns, (str(kind) for kind in described.types), strict=True))
    if PERSON not in types:
        raise Invalid(f"the phenotype table has no column {PERSON}.", remedy="Add it: one pseudonym a row.")
    for name, kind in types.items():
        if not _NAME.fullmatch(name) or name == ROW:
            raise Invalid(
                f"column {name[:63]!r} cannot be kept.", remedy="Use small letters, digits and _, a letter first."
            )
        if name != PERSON and kind not in ('"NULL"', '"NULL"[]') and not _is_kept(kind):
            raise Invalid(
                f"column {name!r} holds {kind[:40]}.",
                remedy="Use numbers, truth values, dates, texts, or lists of them.",
            )
    kept = [name for name, kind in types.items() if name not in (PERSON, "sex") and kind != '"NULL"']
    empty = [name for name in kept if types[name] == '"NULL"[]']
    return [f'CAST(t."{name}" AS VARCHAR[]) AS "{name}"' if name in empty else f't."{name}"' for name in kept]


def _is_kept(kind: str) -> bool:
    kind = kind.removesuffix("[]")
    return is_number(kind) or kind in ("VARCHAR", "DATE") or kind.startswith(("ENUM", "TIMESTAMP"))


def _check_people(connection: duckdb.DuckDBPyConnection, expected: int) -> None:
    [(rows, distinct, known)] = connection.execute(
        "SELECT count(*), count(DISTINCT CAST(t.person_id AS VARCHAR)), count(p.person_id)"
        " FROM given t LEFT JOIN people p ON p.person_id = CAST(t.person_id AS VARCHAR)"
    ).fetchall()
    for count, what in (
        (rows - known, "rows are of people who are not in the batch"),
        (known - min(distinct, known), "people have more than one row"),
        (expected - distinct, "people of the batch have no row"),
    ):
        if count > 0:
            raise Invalid(f"{count} {what}.", where="phenotype table", remedy="One row for each person of the batch.")


@dataclass(frozen=True)
class Phenotypes:
    """The Parquet file of one batch of ``people`` rows; its SHA-256 is checked before the first read."""

    path: Path
    people: int
    sha256: str

    @cached_property
    def columns(self) -> dict[str, str]:
        """DuckDB type of each column by name."""
        if file_digest(self.path) != self.sha256:
            raise altered(self.path)
        found = self._ask("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet(?))", [])
        types = dict(zip(found["column_name"].tolist(), found["column_type"].tolist(), strict=True))
        return {name: kind for name, kind in types.items() if name != ROW}

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A numeric column, NaN where unknown; ``Invalid`` if it holds something else."""
        kind = self.columns[name]
        if not is_number(kind):
            raise Invalid(f"column {name!r} holds {kind}, not numbers.")
        values = self._column(f'CAST("{name}" AS DOUBLE)')
        return np.where(np.ma.getmaskarray(values), np.nan, np.ma.getdata(values).astype(np.float64))

    def labels(self, name: str) -> NDArray[np.str_]:
        """A text column, empty where unknown; ``Invalid`` if it holds lists or numbers."""
        kind = self.columns[name]
        if kind != "VARCHAR" and not kind.startswith("ENUM"):
            raise Invalid(f"column {name!r} holds {kind}, not texts.")
        texts = self._column(f"""coalesce(CAST("{name}" AS VARCHAR), '')""")
        return np.asarray(texts).astype(np.str_)

    def codes(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.str_], Mask]:
        """A column of lists as pairs of row and entry, and who has a list, shape (people,); an empty list is one."""
        kind = self.columns[name]
        if not kind.endswith("[]"):
            raise Invalid(f"column {name!r} holds {kind}, not lists.")
        known = np.ma.filled(self._column(f'"{name}" IS NOT NULL'), False).astype(np.bool_)
        found = self._ask(
            f'SELECT person_row, unnest(CAST("{name}" AS VARCHAR[])) AS v FROM read_parquet(?)',  # noqa: S608 - known
            [],
        )
        return np.asarray(found[ROW], np.int64), np.ma.filled(found["v"], "").astype(np.str_), known

    def lists(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """A column of lists of numbers as pairs of row and entry, each list in its order; unknown entries are NaN."""
        kind = self.columns[name]
        if kind != "VARCHAR[]" and not (kind.endswith("[]") and is_number(kind.removesuffix("[]"))):
            raise Invalid(f"column {name!r} holds {kind}, not lists of numbers.")
        # Lists of nothing are kept as lists of texts, and so are those beside them once batches are joined.
        given = f'SELECT person_row, unnest("{name}") AS v, generate_subscripts("{name}", 1) AS place'
        query = f"SELECT person_row, TRY_CAST(v AS DOUBLE) AS n, v IS NULL AS u FROM ({given} FROM read_parquet(?))"  # noqa: S608 - a known column
        found = self._ask(f"{query} ORDER BY person_row, place", [])
        lost = np.ma.getmaskarray(found["n"])
        if np.any(lost & ~np.ma.filled(found["u"], False).astype(np.bool_)):
            raise Invalid(f"column {name!r} holds {kind}, not lists of numbers.")
        values = np.where(lost, np.nan, np.ma.getdata(found["n"]).astype(np.float64))
        return np.asarray(found[ROW], np.int64), values

    def meets(self, conditions: Sequence[Condition]) -> Mask:
        """Rows for which every condition is true (unknown is not), shape (people,)."""
        assert self.columns
        clauses = " AND ".join(f"({sql})" for sql, _ in conditions) or "true"
        query = f"SELECT person_row FROM read_parquet(?) WHERE {clauses}"  # noqa: S608 - clauses of `conditions`
        rows = self._ask(query, [value for _, values in conditions for value in values])[ROW]
        mask = np.zeros(self.people, np.bool_)
        mask[np.asarray(rows, np.int64)] = True
        return mask

    def _column(self, expression: str) -> Values:
        query = f"SELECT {expression} AS v FROM read_parquet(?) ORDER BY person_row"  # noqa: S608 - a known column
        return self._ask(query, [])["v"]

    def _ask(self, query: str, parameters: Sequence[Parameter]) -> dict[str, Values]:
        with _reader(os.getpid()).cursor() as connection:
            found = connection.execute(query, [str(self.path), *parameters]).fetchnumpy()
        return {name: np.ma.asarray(values) for name, values in found.items()}


def is_number(kind: str) -> bool:
    """Whether a DuckDB type is read as numbers (truth values are 0 and 1)."""
    return kind in _NUMBERS or kind.startswith("DECIMAL")


def reference_year(released_on: date) -> int:
    """The year from which a birth year is subtracted to give completed years on the day of a release.

    Only the year of birth is kept. Everybody counts as born on 1 July, which is right on average over a year.
    """
    return released_on.year - (released_on.month < _BIRTHDAY_MONTH)


def conditions(
    cohort: Cohort, columns: dict[str, str], *, released_on: date, ontology: Closure | None
) -> list[Condition]:
    """What a cohort asks of phenotypes, as SQL with parameters; its carriers are not part of it.

    A batch that lacks a column knows nothing about it: nobody meets the criterion there. Raises ``Invalid`` where a
    column holds another kind of value, or a code needs an ontology that is not installed.
    """
    found: list[Condition] = []
    if cohort.sex is not None:
        found.append(("sex = ?", [cohort.sex]))
    if cohort.age is not None:
        year = reference_year(released_on)
        found.append(("? - birth_year BETWEEN ? AND ?", [year, cohort.age.low, cohort.age.high]))
    if cohort.populations:
        found.append(("list_contains(?::VARCHAR[], population)", [list(cohort.populations)]))
    found += [_measured(each, columns) for each in cohort.measurements if each.name in columns]
    found += [_diagnosed(each, columns, ontology) for each in cohort.diagnoses if code_column(each) in columns]
    found += [_any(each, columns, ontology) for each in cohort.any_of]
    if any(name not in columns for name in needed_columns(cohort)):
        return [("false", [])]
    return found


def needed_columns(cohort: Cohort) -> tuple[str, ...]:
    """The stored columns that a cohort's criteria cannot do without; of ``any_of``, any one will do."""
    return (
        *(("birth_year",) if cohort.age is not None else ()),
        *(("population",) if cohort.populations else ()),
        *(each.name for each in cohort.measurements),
        *(code_column(each) for each in cohort.diagnoses),
    )


def columns_of(alternatives: AnyOf) -> tuple[str, ...]:
    """The stored columns that conditions read of which one must hold."""
    return (
        *(code_column(each) for each in alternatives.diagnoses),
        *(each.name for each in alternatives.measurements),
    )


def _any(wanted: AnyOf, columns: dict[str, str], ontology: Closure | None) -> Condition:
    """True as soon as one is; where none is, unknown if one is unknown, such as where its column is not there."""
    asked = [_diagnosed(each, columns, ontology) for each in wanted.diagnoses if code_column(each) in columns]
    asked += [_measured(each, columns) for each in wanted.measurements if each.name in columns]
    tests = [f"({sql})" for sql, _ in asked]
    if len(asked) < len(wanted.diagnoses) + len(wanted.measurements):
        tests.append("NULL::BOOLEAN")
    whole = " OR ".join(tests)
    return whole if wanted.present else f"NOT ({whole})", [value for _, values in asked for value in values]


def code_column(diagnosis: Diagnosis) -> str:
    """The column that holds codes of a system: ICD-10 (plain, or after ``ICD10:``), HPO (``HP:``), ATC (``ATC:``)."""
    system = diagnosis.code.partition(":")[0].upper() if ":" in diagnosis.code else "ICD10"
    if system not in _CODE_COLUMNS:
        raise Invalid(
            f"no column holds codes of {system[:20]!r}.",
            remedy="Use ICD-10 codes as E11, HPO terms as HP:0001250, or drugs as ATC:C10AA.",
        )
    return _CODE_COLUMNS[system]


def _measured(criterion: Measurement, columns: dict[str, str]) -> Condition:
    name = criterion.name
    if not is_number(columns[name]):
        raise Invalid(f"column {name!r} holds {columns[name]}, not numbers.")
    value = f'CAST("{name}" AS DOUBLE)'  # found in the file, and names there are plain (`write`)
    clauses: list[str] = []
    values: list[Parameter] = []
    for operator, bound in ((">=", criterion.low), ("<=", criterion.high)):
        if bound is not None:
            clauses.append(f"{value} {operator} ?::DOUBLE")
            values.append(bound)
    inside = " AND ".join(clauses) or "true"
    return f"CASE WHEN {value} IS NULL OR isnan({value}) THEN NULL ELSE {inside} END", values


def _diagnosed(criterion: Diagnosis, columns: dict[str, str], ontology: Closure | None) -> Condition:
    """With the code or one below it; or, for ``present=False``, known (a list, maybe empty) to be without."""
    column = code_column(criterion)
    if not columns[column].endswith("[]"):
        raise Invalid(f"column {column!r} holds {columns[column]}, not lists of codes.")
    codes_held = f'CAST("{column}" AS VARCHAR[])'  # where nobody has a code, the lists may have another type
    wanted = "> 0" if criterion.present else "= 0"
    if column in _BY_LETTERS:
        code = criterion.code.upper().removeprefix(_BY_LETTERS[column]).replace(".", "")
        plain = "replace(upper(x), '.', '')"
        test = f"starts_with({plain}, ?)" if criterion.descendants else f"{plain} = ?"
        return f"len(list_filter({codes_held}, lambda x: {test})) {wanted}", [code]
    codes = {criterion.code}
    if criterion.descendants:
        if ontology is None:
            raise Invalid(
                "descendants of this code need its ontology, which is not installed here.",
                remedy="Install the ontology, or ask for the code alone (descendants: false).",
            )
        codes.update(ontology.descendants(criterion.code))
    return f"len(list_filter({codes_held}, lambda x: list_contains(?::VARCHAR[], x))) {wanted}", [sorted(codes)]


@cache
def _reader(_process: int) -> duckdb.DuckDBPyConnection:
    """One database for each process, which only reads files: opening one costs more than reading a column."""
    return _connect()


def _connect() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB of one thread that fetches no extensions and keeps nothing of files it has read."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "enable_external_file_cache": False,
    }
    return duckdb.connect(":memory:", config=settings)
