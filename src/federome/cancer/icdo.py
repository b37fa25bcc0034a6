"""ICD-O-3 codes as written: where a tumour sits (topography) and what it is made of (morphology and behaviour).

Shapes and ranges are checked, not each code: the list of terms belongs to the WHO and is no part of this package. What
most often goes wrong is caught by name, an ICD-10 code in the place of a topography.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from federome.errors import Invalid

_TOPOGRAPHY: Final = re.compile(r"C(\d\d)(?:\.?(\d))?")
_MORPHOLOGY: Final = re.compile(r"M?-?(\d{4})/?([0-9])(?:/?([1-9]))?")
_NO_SITE: Final = frozenset({27, 28, 29, 35, 36, 43, 45, 46, 59, 78, 79})
"""Numbers between C00 and C80 that ICD-O-3 does not use."""
_INSTEAD: Final = {
    43: "Melanoma of the skin is C44 with morphology 8720/3.",
    45: "Mesothelioma is the organ's code (pleura: C38.4) with morphology 9050/3.",
    46: "Kaposi's sarcoma is the organ's code with morphology 9140/3.",
    78: "A metastasis has the topography of its primary tumour, with M1.",
    79: "A metastasis has the topography of its primary tumour, with M1.",
}
BEHAVIOURS: Final = {
    "0": "benign",
    "1": "uncertain",
    "2": "in situ",
    "3": "malignant",
    "6": "metastatic",
    "9": "malignant, primary or metastatic unknown",
}


@dataclass(frozen=True, slots=True)
class Morphology:
    """``histology`` (four digits), ``behaviour`` (a key of :data:`BEHAVIOURS`), ``grade`` or empty."""

    histology: str
    behaviour: str
    grade: str = ""


def topography(text: str) -> str:
    """``C50.9`` from ``c509``, ``C50.9`` or ``C50`` (which becomes ``C50.9``); ``Invalid`` for what is none."""
    found = _TOPOGRAPHY.fullmatch(text.strip().upper())
    number = int(found[1]) if found else -1
    if found is None or number > 80 or number in _NO_SITE:
        raise Invalid(
            f"{text[:20]!r} is no topography of ICD-O-3.",
            where="topography",
            remedy=_INSTEAD.get(number, "Write C50.9, C18.7, …: a code between C00 and C80."),
        )
    return f"C{found[1]}.{found[2] or '9'}"


def morphology(text: str) -> Morphology:
    """From ``8500/3``, ``M8500/3`` or ``8500/33`` (with grade 3); ``Invalid`` for what is none."""
    found = _MORPHOLOGY.fullmatch(text.strip().upper())
    if found is None or not 8000 <= int(found[1]) <= 9993 or found[2] not in BEHAVIOURS or found[3] in ("0",):
        raise Invalid(
            f"{text[:20]!r} is no morphology of ICD-O-3.",
            where="morphology",
            remedy="Write 8500/3: a histology between 8000 and 9993, and a behaviour of 0, 1, 2, 3, 6 or 9.",
        )
    return Morphology(found[1], found[2], found[3] or "")
