"""Changes of a protein in one spelling: ``p.V600E`` for ``V600E``, ``Val600Glu``, ``p.(Val600Glu)`` and so on.

Annotators write three letters, people one or three, with and without ``p.``; all mean the same. Which protein is meant
is not part of it: a gene is named beside it. Source: HGVS sequence variant nomenclature, protein level.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from federome.errors import Invalid

LONGEST: Final = 400
_LETTERS: Final = {
    "Ala": "A", "Arg": "R", "Asn": "N", "Asp": "D", "Cys": "C", "Gln": "Q", "Glu": "E", "Gly": "G", "His": "H",
    "Ile": "I", "Leu": "L", "Lys": "K", "Met": "M", "Phe": "F", "Pro": "P", "Pyl": "O", "Sec": "U", "Ser": "S",
    "Ter": "*", "Thr": "T", "Trp": "W", "Tyr": "Y", "Val": "V", "X": "*",
}  # fmt: skip
_ONE: Final = rf"(?:{'|'.join(_LETTERS)}|[ACDEFGHIKLMNOPQRSTUVWY*])"
_SPELLED: Final = re.compile(_ONE)
_CHANGE: Final = (
    rf"(?:p\.)?(?P<open>\()?(?P<first>{_ONE})(?P<at>[1-9][0-9]{{0,5}})"
    rf"(?:_(?P<last>{_ONE})(?P<to>[1-9][0-9]{{0,5}}))?"
    rf"(?:(?P<shift>{_ONE})?fs(?:(?:Ter|\*|X)(?P<stop>[0-9]{{1,6}}|\?))?"
    rf"|(?P<op>delins|ins)(?P<put>{_ONE}{{1,100}})|(?P<word>del|dup|=|\?)|(?P<new>{_ONE}))(?(open)\))"
)


@cache
def _change() -> re.Pattern[str]:
    return re.compile(_CHANGE)  # a tenth of a second, and most processes never come here


def protein_change(text: str) -> str:
    """The change in its one spelling. ``Invalid`` for what is none, and for one that names its protein."""
    plain = text.strip().replace("%3D", "=")
    found = _change().fullmatch(plain) if len(plain) <= LONGEST else None
    if found is None:
        raise Invalid(
            "this is not a change of a protein that can be looked up.",
            where="aminoacidChange",
            remedy="Write V600E or p.Val600Glu, and the gene as geneId; del, ins, dup, delins and fs are known.",
        )
    stem = f"p.{_letters(found['first'])}{found['at']}"
    if found["to"]:
        stem += f"_{_letters(found['last'])}{found['to']}"
    if found["op"]:
        return f"{stem}{found['op']}{_letters(found['put'])}"
    if found["word"] or found["new"]:
        return stem + (found["word"] or _letters(found["new"]))
    return f"{stem}{_letters(found['shift'] or '')}fs" + (f"*{found['stop']}" if found["stop"] else "")


def of_annotation(hgvs: str, residues: str = "", place: str = "") -> str:
    """What an annotator tells: its HGVS name (with or without the protein), or residues ``V/E`` at a place; empty where
    it tells of none, or of one that nobody could ask for.
    """
    name = hgvs.rpartition(":")[2]
    if not name and place.isdigit():
        old, _, new = residues.partition("/")
        name = f"p.{old}{place}{new or '='}" if len(old) == 1 and len(new) <= 1 else ""
    try:
        return protein_change(name) if name else ""
    except Invalid:
        return ""


def _letters(spelled: str) -> str:
    return "".join(_LETTERS.get(each, each) for each in _SPELLED.findall(spelled))
