"""One patient as matching sees them: terms and genes by their public names. No name, date, label or address."""

from __future__ import annotations

from dataclasses import dataclass, field

from federome.model.finding import Finding


@dataclass(frozen=True, slots=True)
class Patient:
    """Observed and excluded terms, candidate genes and, of some, the variants found in them. ``group`` marks patients
    who are not independent of each other (one publication, one family): they are no second case. ``notes`` say what of
    their document was read otherwise or left out.
    """

    id: str
    observed: tuple[str, ...]
    excluded: tuple[str, ...] = ()
    genes: tuple[str, ...] = ()
    group: str = ""
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
