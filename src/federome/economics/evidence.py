"""Inputs from the network: a share taken from the released count of an approved algorithm's run.

Reads the folder that ``federome run --save`` writes. Only released tables are seen here, never rows about people.
The count becomes a Beta distribution, so that its uncertainty is carried on; run, table digest and receipt go with it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federome.economics.distribution import from_counts
from federome.economics.model import Model, Result
from federome.errors import Damaged, Invalid
from federome.model.table import Table

MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Evidence:
    """A released count, and where it comes from."""

    count: int
    run: str
    table: str
    receipt: str

    def __str__(self) -> str:
        return f"{self.count:,} (run {self.run}, table {self.table}, receipt {self.receipt or 'missing'})"


def with_result(model: Model, parameter: str, folder: Path, *, everybody: Path | None = None) -> Model:
    """The model with one parameter taken from a saved run, or from two: those counted, and ``everybody``.

    ``Invalid`` where the parameter names no result, another algorithm ran, a cell was withheld or counts nobody;
    ``Damaged`` where a table is not the one the provenance names. Digests are compared here, signatures where a result
    is fetched, so the parameter stays marked as not verified.
    """
    known = model.parameters.get(parameter)
    if known is None or known.result is None:
        able = [name for name, each in model.parameters.items() if each.result is not None]
        raise Invalid(
            f"{parameter[:40]!r} takes no result of a run.",
            where=model.file,
            remedy=f"These do: {', '.join(able)}." if able else "No input of this model does.",
        )
    wanted = known.result
    if everybody is None and wanted.count == wanted.of:
        raise Invalid(
            f"{parameter} is a share, and this run counts only one of its two groups.",
            where=str(folder),
            remedy="Name two runs: those counted, and everybody.",
        )
    part = read_evidence(wanted, wanted.count, folder)
    whole = read_evidence(wanted, wanted.of, everybody or folder)
    return with_counts(model, parameter, part, whole, where=str(folder))


def with_counts(model: Model, parameter: str, part: Evidence, whole: Evidence, *, where: str) -> Model:
    """The model with one parameter as a share that was counted; ``Invalid`` where the counts make none."""
    known = model.parameters[parameter]
    wanted = known.result
    assert wanted is not None
    if not 0 <= part.count <= whole.count or whole.count == 0:
        raise Invalid(f"{part.count:,} of {whole.count:,} is no share.", where=where)
    changed = dataclasses.replace(
        known,
        value=part.count / whole.count,
        distribution=from_counts(part.count, whole.count),
        low=None,
        high=None,
        verified=False,
        provenance=f"{wanted.algorithm}: {part} of {whole}",
    )
    groups = tuple(each for each in model.groups if parameter not in each[0])
    return dataclasses.replace(model.replace_parameters({parameter: changed}), groups=groups)


def read_evidence(wanted: Result, column: str, folder: Path) -> Evidence:
    """The count that ``wanted`` names in this column, from a saved result."""
    provenance = _json(folder / "provenance.json")
    algorithm = _object(_object(provenance, "question"), "algorithm").get("name")
    if algorithm != wanted.algorithm:
        raise Invalid(f"the run was of {str(algorithm)[:40]!r}, and {wanted.algorithm!r} is needed.", where=str(folder))
    told = _object(provenance, "result")
    digests = told.get("tables")
    if not isinstance(digests, dict) or wanted.table not in digests:
        raise Invalid(
            f"the result has no pooled table {wanted.table!r}.",
            where=str(folder),
            remedy="Ask for one answer of all nodes, not one of each.",
        )
    data = _bytes(folder / f"{wanted.table}.federome")
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if digest != digests[wanted.table]:
        raise Damaged("the table is not the one that the provenance names.", where=str(folder))
    releaser = _object(provenance, "receipts").get("releaser")
    receipt = f"sha256:{hashlib.sha256(str(releaser).encode()).hexdigest()}" if releaser else ""
    count = cell(Table.from_bytes(data), column, wanted.where, str(folder))
    return Evidence(count, str(told.get("run", "")), digest, receipt)


def cell(table: Table, column: str, where: Mapping[str, str], folder: str) -> int:
    """The one cell of a column in the row where other columns have these values."""
    keep: NDArray[np.bool_] = np.ones(table.rows, np.bool_)
    for name, value in where.items():
        keep &= table[name].astype(np.str_) == value
    if (matches := int(keep.sum())) != 1:
        raise Invalid(f"{matches} rows of the table fit, and one is needed.", where=folder)
    row = int(np.flatnonzero(keep)[0])
    if column in table.withheld and bool(table.withheld[column][row]):
        raise Invalid(
            "the count was withheld: too few people.", where=folder, remedy="Ask for a larger group, or keep the input."
        )
    return int(table.ints(column)[row])


def _json(path: Path) -> Mapping[str, object]:
    try:
        found = json.loads(_bytes(path))
    except ValueError as error:
        raise Damaged("the provenance cannot be read.", where=str(path)) from error
    if not isinstance(found, dict):
        raise Damaged("the provenance cannot be read.", where=str(path))
    return found


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Invalid("the file is too large for a table of counts.", where=str(path))
        return path.read_bytes()
    except OSError as error:
        raise Invalid(
            "the file cannot be read.", where=str(path), remedy="Name the folder that federome run --save wrote."
        ) from error


def _object(document: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise Damaged(f"the provenance lacks {name!r}.")
    return value
