"""TNM as written (UICC, 8th edition) and the anatomical stage group that follows from it where the rule is a table.

Prefixes say how a category was found: c by examination, p by pathology, y after therapy, r at a recurrence, a at
autopsy. Stage groups are the anatomical ones; groups that also weigh biomarkers have rules of their own and are taken
as recorded, never computed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from federome.errors import Invalid

Kind = Literal["clinical", "pathological"]

_T: Final = r"(?:X|0|is(?:\((?:DCIS|LCIS|Paget|LAMN|pd|pu)\))?|a|1mi|[1-4][a-e]?[1-3]?)"
_N: Final = r"(?:X|[12]mi|[0-3][a-c]?)"
_M: Final = r"(?:X|0|1[a-d]?)"
_TAIL: Final = r"(?:\((?:sn|f|mi|i[+-]|mol[+-]|m|\d{1,2}|\d{1,3}/\d{1,3})\))*"
_PART: Final = re.compile(
    rf"(?P<prefix>[aryYR]*)(?P<by>[cp]?)(?:T(?P<t>{_T})|N(?P<n>{_N})|M(?P<m>{_M}))(?P<tail>{_TAIL})"
)
_OTHER: Final = re.compile(r"(?:G[X1-4]|L[X01]|V[X012]|Pn[X01]|R[X012]|S[X0-3])")
_GROUP: Final = re.compile(r"(?:0(?:a|is)?|I{1,3}|IV)(?:[A-D][1-3]?|S)?")


@dataclass(frozen=True, slots=True)
class Tnm:
    """Categories without their letter, ``X`` where it could not be assessed and empty where nothing was said.

    ``marks`` are what stands in brackets behind T and N: ``sn`` for the sentinel node, ``i+`` for isolated cells.
    """

    t: str
    n: str
    m: str
    kind: Kind
    after_therapy: bool
    recurrence: bool
    marks: tuple[str, ...] = ()


def parse(text: str) -> Tnm:
    """From ``pT2 pN1a(sn) cM0``, ``ypT0N0M0``, ``T4b N2 M1a G3 R0``; ``Invalid`` where it is no TNM."""
    rest, found, kinds, prefixes, marks = text.strip(), dict[str, str](), set[str](), "", list[str]()
    while rest:
        if other := _OTHER.match(rest):
            rest = rest[other.end() :].lstrip(" ,;")
            continue
        part = _PART.match(rest)
        if part is None:
            raise _wrong(text, "is no TNM")
        letter = next(name for name in "tnm" if part[name] is not None)
        if letter in found:
            raise _wrong(text, f"has two categories {letter.upper()}")
        found[letter] = part[letter]
        prefixes += part["prefix"].lower()
        kinds |= {part["by"]} if part["by"] and letter != "m" else set()
        if letter == "m" and part["by"] == "p" and part["m"] in ("0", "X"):
            raise _wrong(text, f"has pM{part['m']}, which does not exist: without a proven metastasis it is cM0")
        marks += re.findall(r"\(([^)]+)\)", part["tail"])
        rest = rest[part.end() :].lstrip(" ,;")
    if "t" not in found and "n" not in found:
        raise _wrong(text, "has neither T nor N")
    kind: Kind = "pathological" if "p" in kinds else "clinical"
    return Tnm(
        t=found.get("t", ""),
        n=found.get("n", ""),
        m=found.get("m", ""),
        kind=kind,
        after_therapy="y" in prefixes,
        recurrence="r" in prefixes,
        marks=tuple(marks),
    )


def _wrong(text: str, why: str) -> Invalid:
    return Invalid(f"{text[:40]!r} {why}.", where="tnm", remedy="Write pT2 pN1a cM0, ypT0 ypN0 M0, cT3 cN1 M1a.")


def stage_group(text: str) -> str:
    """A recorded stage group as ``IIA``, from ``Stage IIA``, ``2a``, ``IV``; ``Invalid`` for anything else."""
    plain = re.sub(r"(?i)^stage\s*", "", text.strip()).upper().replace(" ", "")
    arabic = re.fullmatch(r"([1-4])([A-D][1-3]?)?", plain)
    if arabic:
        plain = ("I", "II", "III", "IV")[int(arabic[1]) - 1] + (arabic[2] or "")
    plain = {"0A": "0a", "0IS": "0is"}.get(plain, plain)
    if _GROUP.fullmatch(plain) is None:
        raise Invalid(f"{text[:30]!r} is no stage group.", where="stage", remedy="0, I, IIA, … IV.")
    return plain


def anatomical(topography: str, tnm: Tnm) -> str:
    """The anatomical stage group by the table of that organ; empty where a category is unknown or the organ has none.

    Tables: breast (C50) and colon and rectum (C18 to C20), UICC TNM, 8th edition.
    """
    rule = _RULES.get(topography[:3])
    if rule is None or tnm.after_therapy or tnm.recurrence or tnm.m == "" or "X" in (tnm.t, tnm.n, tnm.m):
        return ""
    return rule(tnm.t, tnm.n, tnm.m)


def _breast(t: str, n: str, m: str) -> str:
    if m.startswith("1"):
        return "IV"
    if n[:1] == "3":
        return "IIIC"
    if t[:1] == "4":
        return "IIIB" if n else ""
    if n == "1mi":
        return {"0": "IB", "1": "IB"}.get(t[:1], _BREAST.get((t[:1], "1"), ""))
    return "0" if t.startswith("is") and n == "0" else _BREAST.get((t[:1], n[:1]), "")


_BREAST: Final[Mapping[tuple[str, str], str]] = {
    ("1", "0"): "IA",
    **dict.fromkeys((("0", "1"), ("1", "1"), ("2", "0")), "IIA"),
    **dict.fromkeys((("2", "1"), ("3", "0")), "IIB"),
    **dict.fromkeys((("0", "2"), ("1", "2"), ("2", "2"), ("3", "1"), ("3", "2")), "IIIA"),
}


def _colon(t: str, n: str, m: str) -> str:
    if m.startswith("1"):
        return {"a": "IVA", "b": "IVB", "c": "IVC"}.get(m[1:], "IV")
    if n == "0":
        return _COLON_ALONE.get("is" if t.startswith("is") else t, "")
    depth = {"1": 0, "2": 1, "3": 2, "4a": 3, "4b": 4}.get(t, -1)
    nodes = {"1": 0, "1a": 0, "1b": 0, "1c": 0, "2a": 1, "2b": 2}.get(n, -1)
    if depth < 0 or nodes < 0:
        return ""
    return "III" + ("AABBC", "ABBCC", "BBCCC")[nodes][depth]


_COLON_ALONE: Final = {"is": "0", "1": "I", "2": "I", "3": "IIA", "4a": "IIB", "4b": "IIC"}
_RULES: Final[Mapping[str, Callable[[str, str, str], str]]] = {
    "C50": _breast,
    **dict.fromkeys(("C18", "C19", "C20"), _colon),
}
