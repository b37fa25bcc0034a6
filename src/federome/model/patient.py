"""One patient as matching sees them: terms and genes by their public names. No name, date, label or address."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patient:
    """Observed and excluded terms, candidate genes. ``group`` marks patients who are not independent of each other
    (one publication, one family): they are no second case.
    """

    id: str
    observed: tuple[str, ...]
    excluded: tuple[str, ...] = ()
    genes: tuple[str, ...] = ()
    group: str = ""
