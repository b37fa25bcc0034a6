"""One match as a node tells it of a patient who is alike: nothing that would say who."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Evidence = Literal["variant", "gene", "phenotype"]
"""From the strongest. ``variant``: the same change, or the same stretch lost or gained."""
Kin = Literal["", "family", "same person"]


@dataclass(frozen=True)
class Handle:
    """An opaque name for this question only, a score (1 for the best that this question could find), the evidence.

    ``kin`` says what is no second case: a relative, or the same person registered twice.
    """

    node: str
    handle: str
    score: float
    evidence: Evidence
    kin: Kin = ""
