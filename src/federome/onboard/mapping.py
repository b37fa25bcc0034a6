"""The mapping file: which column of which of the provider's tables is which field of the profile, in which form.

``federome onboard suggest`` writes it, a person edits it, and it is kept with the dataset. A column of a mapped table
is either mapped or left out with a reason; one that is neither stops the onboarding, so that nothing is lost unseen.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from federome.errors import Invalid
from federome.ingest.columns import COLUMNS
from federome.model.strict import Document, JsonObject
from federome.onboard.tables import Dialect
from federome.onboard.units import accepted

FORMAT: Final = "federome-mapping/1"
NAME: Final = "mapping.toml"
DATE_FORMATS: Final = ("YYYY-MM-DD", "DD.MM.YYYY", "DD/MM/YYYY", "MM/DD/YYYY", "YYYYMMDD", "YYYY", "excel")


@dataclass(frozen=True)
class FieldMapping(Document):
    """How one field is read from column ``column``.

    ``values`` translates words (to nothing: unknown), as does the file ``crosswalk`` of reviewed matches of codes;
    ``date`` is the form of its days; ``unit`` a UCUM unit; ``separator`` splits lists. ``where`` keeps rows with these
    values only, in tables of many rows a person.
    """

    column: str
    values: Mapping[str, str] = field(default_factory=dict)
    crosswalk: str = ""
    date: str = ""
    unit: str = ""
    separator: str = ""
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TableMapping(Document):
    """One file. ``person`` is the column that names people; ``leave_out`` says of other columns why they stay out."""

    file: str
    person: str
    encoding: Literal["utf-8", "utf-16", "windows-1252"] = "utf-8"
    separator: str = ","
    decimal: Literal[".", ","] = "."
    byte_order_mark: bool = False
    missing: tuple[str, ...] = ()
    fields: Mapping[str, FieldMapping] = field(default_factory=dict)
    leave_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def dialect(self) -> Dialect:
        """How the file is written."""
        return Dialect(self.encoding, self.separator, self.decimal, self.byte_order_mark)


@dataclass(frozen=True)
class Plan(Document):
    """The whole file: tables, the first of them with one row a person, and what holds for everybody."""

    format: str
    table: tuple[TableMapping, ...]
    constants: JsonObject = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise Invalid("this is another format.", where="format", remedy=f"Write {FORMAT}.")
        if not self.table:
            raise Invalid("no table is mapped.", where="table", remedy="Add [[table]].")
        seen: dict[str, str] = {}
        for table in self.table:
            for name, how in table.fields.items():
                _check_field(name, how, table.file)
                if name in seen or name in self.constants:
                    raise Invalid("the field is mapped twice.", where=f"{table.file}: {name}", remedy="Keep one.")
                seen[name] = table.file

    def fields(self) -> dict[str, tuple[TableMapping, FieldMapping]]:
        """Every mapped field with where it comes from."""
        return {name: (table, how) for table in self.table for name, how in table.fields.items()}


def _check_field(name: str, how: FieldMapping, file: str) -> None:
    where = f"{file}: {name}"
    column = COLUMNS.get(name)
    if column is None:
        raise Invalid(f"there is no field {name[:60]!r}.", where=where, remedy="See docs/reference/batch-folder.md.")
    if how.date and how.date not in DATE_FORMATS:
        raise Invalid("this form of dates is not known.", where=where, remedy=f"One of {', '.join(DATE_FORMATS)}.")
    if how.unit and how.unit not in accepted(name):
        known = ", ".join(accepted(name)) or "none: the field has no unit"
        raise Invalid(f"the field does not come in {how.unit[:20]!r}.", where=where, remedy=f"Units: {known}.")


def read_mapping(path: Path) -> Plan:
    """The mapping of a file; ``Invalid`` names file and field."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise Invalid("there is no mapping.", where=str(path), remedy="federome onboard suggest writes one.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"the mapping is not TOML: {error}.", where=str(path), remedy="See https://toml.io.") from None
    return Plan.from_document(told, where=str(path))


def check_complete(table: TableMapping, columns: Sequence[str]) -> None:
    """Every column is mapped or left out, and every mapped one is there."""
    used = {table.person, *(how.column for how in table.fields.values())}
    used |= {column for how in table.fields.values() for column in how.where}
    for name in sorted(used | set(table.leave_out)):
        if name and name not in columns:
            raise Invalid(f"there is no column {name[:60]!r}.", where=table.file, remedy="Correct the mapping.")
    loose = [name for name in columns if name not in used and name not in table.leave_out]
    if loose:
        raise Invalid(
            f"{len(loose)} columns are neither mapped nor left out: {', '.join(name[:40] for name in loose[:5])}.",
            where=table.file,
            remedy="Map them, or name them under leave_out with a reason.",
        )


def to_toml(mapping: Plan, remarks: Mapping[str, str] | None = None) -> str:
    """The mapping as a file for people; ``remarks`` are put behind the fields they speak of."""
    remarks = remarks or {}
    lines = [f'format = "{FORMAT}"']
    if mapping.constants:
        lines += ["", "[constants]", *(f"{name} = {_toml(value)}" for name, value in mapping.constants.items())]
    for table in mapping.table:
        lines += ["", "[[table]]", f"file = {_toml(table.file)}", f"person = {_toml(table.person)}"]
        plain = TableMapping("", "")
        for name in ("encoding", "separator", "decimal", "byte_order_mark", "missing"):
            value = getattr(table, name)
            if value != getattr(plain, name):
                lines.append(f"{name} = {_toml(list(value) if isinstance(value, tuple) else value)}")
        for name, how in table.fields.items():
            remark = f"  # {remarks[name]}" if name in remarks else ""
            lines += ["", f"[table.fields.{name}]{remark}", f"column = {_toml(how.column)}"]
            lines += [
                f"{key} = {_toml(value)}"
                for key in ("crosswalk", "date", "unit", "separator")
                if (value := getattr(how, key))
            ]
            for key in ("values", "where"):
                inner: Mapping[str, str] = getattr(how, key)
                if inner:
                    lines += [f"{key} = {{ {', '.join(f'{_toml(k)} = {_toml(v)}' for k, v in inner.items())} }}"]
        if table.leave_out:
            lines += ["", "[table.leave_out]", *(f"{_toml(k)} = {_toml(v)}" for k, v in table.leave_out.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            escaped = re.sub(r'(["\\])', r"\\\1", value)
            return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m[0]):04x}", escaped) + '"'
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return repr(value)
