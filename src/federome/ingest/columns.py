"""The fields of a person: names, types, value sets, and which profile wants them, as made from the LinkML schema.

`manifest` checks the batch's constants against it, `phenotypes` every column of the table, `onboard` what hospitals
bring. To change a field, change ``schema/onemg-mds.yaml``; ``row`` is that of the 1+MG minimal dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

import msgspec

from federome.errors import Invalid
from federome.model.dataset import Profile

Kind = Literal["text", "integer", "number", "date", "texts", "integers"]
Presence = Literal["mandatory", "optional", "forbidden"]
Place = Literal["table", "constants", "either"]

NULL_FLAVORS = ("NI", "UNK", "NASK", "ASKU", "NAV", "MSK", "OTH")
"""HL7 NullFlavors that a coded field takes instead of a value."""

UNKNOWN_FLAVORS = tuple(flavor for flavor in NULL_FLAVORS if flavor != "OTH")
"""Those that say nothing is known; ``OTH`` says that the value set lacks it."""

MAX_NULL_RATE = 0.2
"""Share of people without a known value above which a dataset is refused (rule V1)."""

MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Column:
    """One field. ``values`` or ``pattern`` (RE2, whole value) restrict texts, ``low``/``high`` numbers.

    ``coded`` fields also take a NullFlavor. ``gaps`` allows a mandatory field to be empty for single persons.
    """

    name: str
    kind: Kind
    place: Place
    reference: Presence
    minimal: Presence
    row: int | None
    values: tuple[str, ...] = ()
    pattern: str = ""
    said: str = ""
    low: float | None = None
    high: float | None = None
    unit: str = ""
    coded: bool = False
    gaps: bool = False

    @property
    def listed(self) -> bool:
        """Whether a person may have several values."""
        return self.kind in ("texts", "integers")

    @property
    def expected(self) -> str:
        """What a right value looks like, in words."""
        if self.values:
            said = "one of " + ", ".join(self.values)
        elif self.low is not None:
            said = f"{self.low:g} to {self.high:g}" + (f" {self.unit}" if self.unit else "")
        else:
            said = self.said or {"date": "a day like 2026-06-01"}.get(self.kind, f"text of at most {MAX_TEXT} letters")
        return said + (" or a NullFlavor (" + ", ".join(NULL_FLAVORS) + ")" if self.coded else "")

    def presence(self, profile: Profile) -> Presence:
        """Whether a profile wants, allows or forbids it."""
        return self.reference if profile == "reference-genotypes" else self.minimal


def _columns() -> dict[str, Column]:
    """The fields as they were made from the schema (`schema.build`)."""
    table = (files("federome.ingest.schema") / "fields.json").read_bytes()
    return {column.name: column for column in msgspec.json.decode(table, type=tuple[Column, ...])}


COLUMNS: Mapping[str, Column] = _columns()


def check_names(table: Mapping[str, str], constants: Mapping[str, str], profile: Profile) -> None:
    """Raise ``Invalid`` where a field is unknown, forbidden, in the wrong place, given twice or missing.

    Both arguments map field names to where they stand (file, or file and line), for the message.
    """
    for place, names in (("table", table), ("constants", constants)):
        for name, where in names.items():
            column = COLUMNS.get(name)
            if column is None or column.presence(profile) == "forbidden":
                known = "not known" if column is None else f"not allowed in the profile {profile}"
                raise Invalid(
                    f"the field {name[:60]!r} is {known}.",
                    where=where,
                    remedy="Remove it, or use a name from docs/reference/batch-folder.md.",
                )
            if column.place not in (place, "either"):
                belongs = "[constants] of manifest.toml" if column.place == "constants" else "the phenotype table"
                raise Invalid(f"the field {name!r} belongs into {belongs}.", where=where, remedy="Move it there.")
    for name in table.keys() & constants.keys():
        raise Invalid(
            f"the field {name!r} stands in the phenotype table and in [constants].",
            where=constants[name],
            remedy="Keep one of them.",
        )
    for column in COLUMNS.values():
        if column.presence(profile) == "mandatory" and column.name not in table.keys() | constants.keys():
            raise Invalid(
                f"the mandatory field {column.name!r} is missing ({column.expected}).",
                where=f"profile {profile}",
                remedy="Add it as a column of the phenotype table"
                + (" or to [constants] of manifest.toml." if column.place != "table" else "."),
            )
