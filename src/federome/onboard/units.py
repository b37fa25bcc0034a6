"""Units that a measurement of the profile may come in (UCUM), and how each becomes the profile's own.

A table rather than a library of units: half of the conversions are between mass and amount and need the molar mass of
the substance, which no library of units knows. Anything that is not here is refused, not guessed.

Sources: cholesterol 386.65 g/mol, creatinine 113.12 g/mol (PubChem); HbA1c NGSP = 0.09148 IFCC + 2.152 (Hoelzel et al.,
Clin Chem 2004;50:166); 1 kPa = 7.50062 mmHg.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Conversion:
    """Into the profile's unit: value x factor + offset. ``low`` and ``high`` bound what is plausible in this unit."""

    factor: float
    offset: float = 0.0

    def __call__(self, value: float) -> float:
        return value * self.factor + self.offset


_SAME: Final = Conversion(1.0)
UNITS: Final[Mapping[str, Mapping[str, Conversion]]] = {
    "bmi_kg_m2": {"kg/m2": _SAME},
    "ldl_c_mmol_l": {
        "mmol/L": _SAME,
        "umol/L": Conversion(1e-3),
        "mg/dL": Conversion(10 / 386.65),
        "g/L": Conversion(1000 / 386.65),
    },
    "sbp_mmhg": {"mm[Hg]": _SAME, "kPa": Conversion(7.50062), "cm[Hg]": Conversion(10.0)},
    "dbp_mmhg": {"mm[Hg]": _SAME, "kPa": Conversion(7.50062), "cm[Hg]": Conversion(10.0)},
    "hba1c_mmol_mol": {"mmol/mol": _SAME, "%": Conversion(1 / 0.09148, -2.152 / 0.09148)},
    "creatinine_umol_l": {
        "umol/L": _SAME,
        "mmol/L": Conversion(1000.0),
        "mg/dL": Conversion(1e4 / 113.12),
        "mg/L": Conversion(1e3 / 113.12),
    },
}
"""Field -> UCUM unit -> conversion."""

_SPELLED: Final = {
    "kg/m²": "kg/m2",
    "kg/m^2": "kg/m2",
    "mmhg": "mm[Hg]",
    "mm hg": "mm[Hg]",
    "mm[hg]": "mm[Hg]",
    "cmhg": "cm[Hg]",
    "kpa": "kPa",
    "µmol/l": "umol/L",
    "μmol/l": "umol/L",
    "umol/l": "umol/L",
    "mmol/l": "mmol/L",
    "mg/dl": "mg/dL",
    "mg/l": "mg/L",
    "g/l": "g/L",
    "percent": "%",
    "mmol/mol": "mmol/mol",
}


def ucum(text: str) -> str:
    """The UCUM code of a unit as people write it; the text itself where it is none that is known."""
    text = text.strip().removeprefix("UCUM:").strip()
    return _SPELLED.get(text.lower(), text)


def accepted(field: str) -> tuple[str, ...]:
    """The units a field may come in; empty for a field without one."""
    return tuple(UNITS.get(field, ()))


def own_unit(field: str) -> str:
    """The unit that the profile keeps the field in, empty where it has none."""
    return next(iter(UNITS.get(field, ())), "")


def spellings(field: str) -> Mapping[str, str]:
    """How people write the units of a field (in small letters) -> UCUM code."""
    known = set(UNITS.get(field, ()))
    return {unit.lower(): unit for unit in known} | {said: unit for said, unit in _SPELLED.items() if unit in known}


def unit_in(header: str, field: str) -> str:
    """The unit that a column's header speaks of, as in ``LDL (mg/dL)`` or ``creatinine_umol_l``; empty for none."""
    words = header.lower().replace("_l", "/l").replace("_dl", "/dl").replace("_mol", "/mol").replace("_m2", "/m2")
    # the longest spelling first, so that mg/dL is not taken for g/L
    for said, unit in sorted(spellings(field).items(), key=lambda item: -len(item[0])):
        if re.search(rf"(?<![a-zµμ/]){re.escape(said)}(?![a-z0-9/])", words):
            return unit
    return ""
