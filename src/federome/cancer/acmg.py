"""ACMG/AMP evidence as points (Richards 2015; Tavtigian 2018, 2020), with every piece of evidence kept in sight.

Supporting, moderate, strong and very strong evidence count 1, 2, 4 and 8 points, benign evidence as many less. Points
are a Bayesian posterior in other units: odds of 350 for very strong evidence, a prior of 0.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from federome.errors import Invalid

Verdict = Literal["pathogenic", "likely pathogenic", "uncertain", "likely benign", "benign"]
Strength = Literal["supporting", "moderate", "strong", "very strong", "stand-alone"]

POINTS: Final[dict[Strength, int]] = {"supporting": 1, "moderate": 2, "strong": 4, "very strong": 8}
_ODDS, _PRIOR = 350.0, 0.1
_USUAL: Final[dict[str, Strength]] = {
    "PVS": "very strong", "PS": "strong", "PM": "moderate", "PP": "supporting",
    "BA": "stand-alone", "BS": "strong", "BP": "supporting",
}  # fmt: skip
_LAST: Final = {"PVS": 1, "PS": 4, "PM": 6, "PP": 5, "BA": 1, "BS": 4, "BP": 7}
_CODE: Final = re.compile(r"(PVS|PS|PM|PP|BA|BS|BP)(\d)(?:_([A-Za-z ]+))?")
_WITHDRAWN: Final = {"PP5", "BP6"}


@dataclass(frozen=True, slots=True)
class Evidence:
    """One criterion that was met, how strongly, and why (for people)."""

    code: str
    strength: Strength
    because: str = ""

    @property
    def points(self) -> int:
        """What it counts; 0 for the stand-alone criterion, which is decided before points are."""
        sign = -1 if self.code.startswith("B") else 1
        return sign * POINTS.get(self.strength, 0)


def evidence(text: str, because: str = "") -> Evidence:
    """From a code as written, ``PM2`` or ``PM2_Supporting``; ``Invalid`` for criteria there are not.

    PP5 and BP6 (another source says so) are refused: they count somebody else's count of the same evidence
    (Biesecker and Harrison 2018).
    """
    found = _CODE.fullmatch(text.strip())
    if found is None or not 1 <= int(found[2]) <= _LAST[found[1]]:
        raise Invalid(f"{text[:30]!r} is no ACMG/AMP criterion.", remedy="Write PVS1, PM2, PM2_Supporting, BS1, …")
    code = found[1] + found[2]
    if code in _WITHDRAWN:
        raise Invalid(f"{code} is no longer to be used.", remedy="Count the evidence itself, once.")
    strength = _USUAL[found[1]]
    if found[3]:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", found[3]).replace("_", " ").lower().strip()
        known = next((name for name in POINTS if name.replace(" ", "") == words.replace(" ", "")), None)
        if known is None or strength == "stand-alone":
            raise Invalid(f"{found[3][:20]!r} is no strength.", remedy="Supporting, Moderate, Strong or VeryStrong.")
        strength = known
    return Evidence(code, strength, because)


@dataclass(frozen=True, slots=True)
class Classification:
    """A verdict and what it rests on. ``mixed``: there is evidence on both sides, which people must look at."""

    verdict: Verdict
    points: int
    posterior: float
    evidence: tuple[Evidence, ...]
    mixed: bool


def classify(found: Sequence[Evidence]) -> Classification:
    """Add up the points: pathogenic from 10, likely from 6, benign from −7, likely from −1 (Tavtigian 2020)."""
    codes = [each.code for each in found]
    if twice := sorted({code for code in codes if codes.count(code) > 1}):
        raise Invalid(f"{twice[0]} is counted twice.", remedy="Each criterion counts once, at one strength.")
    points = sum(each.points for each in found)
    alone = any(each.strength == "stand-alone" for each in found)
    mixed = {each.code[0] for each in found} == {"P", "B"}
    if alone:
        verdict: Verdict = "uncertain" if mixed else "benign"
    else:
        verdict = _verdict(points)
    odds = _ODDS ** (points / 8)
    return Classification(verdict, points, odds * _PRIOR / ((odds - 1) * _PRIOR + 1), tuple(found), mixed)


def _verdict(points: int) -> Verdict:
    if points >= 10:
        return "pathogenic"
    if points >= 6:
        return "likely pathogenic"
    if points >= 0:
        return "uncertain"
    return "likely benign" if points >= -6 else "benign"
