"""Staging as SNOMED CT says it: concepts for the AJCC's categories and stage groups, which mCODE prefers since STU3.

The table beside this module says which concept is which, and where that stands. A concept that is not in it is unknown:
it is named, and never guessed from its text.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

SYSTEM: Final = "http://snomed.info/sct"
CATEGORIES: Final[Mapping[str, tuple[str, str]]] = {
    "399504009": ("c", "T"), "399534004": ("c", "N"), "399387003": ("c", "M"),
    "384625004": ("p", "T"), "371494008": ("p", "N"), "371497001": ("p", "M"),
}  # fmt: skip
"""What an observation is of, where SNOMED CT says that, too (mCODE STU4)."""
PATHOLOGICAL, CLINICAL = "399588009", "399537006"
"""The same of stage groups."""


@cache
def stages() -> Mapping[str, str]:
    """Categories as ``cT2a``, ``pN1a(sn)``, ``cM0`` and stage groups as ``IIA``, by concept."""
    text = (files("federome.cancer") / "tables" / "snomed-staging.tsv").read_text("utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {row["code"]: row["category"] for row in csv.DictReader(lines, delimiter="\t")}
