"""GA4GH VRS 2.0 identifiers of alleles: the same name for the same change, however it was spelled.

An allele is normalised by spelling it over the whole stretch in which it could be placed (trim, then roll to both
sides), and its parts are digested as the specification says. Sources: VRS 2.0, conventions on allele normalisation and
computed identifiers; GA4GH sha512t24u.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

Bases = Callable[[int, int], str]
"""``bases(start, end)``: the reference between two places, counted from 0 between bases."""


@dataclass(frozen=True, slots=True)
class Allele:
    """``inserted`` stands instead of the reference from ``start`` to ``end``; of a change that repeats or drops what is
    there, ``unit`` is the length of what it repeats, and 0 otherwise.
    """

    start: int
    end: int
    inserted: str
    unit: int = 0


def normalised(start: int, end: int, inserted: str, bases: Bases, length: int) -> Allele:
    """The fully justified form of a change in a sequence of ``length`` bases."""
    replaced = bases(start, end)
    if replaced == inserted:
        return Allele(start, end, inserted, len(inserted))
    while replaced and inserted and replaced[-1] == inserted[-1]:
        replaced, inserted, end = replaced[:-1], inserted[:-1], end - 1
    while replaced and inserted and replaced[0] == inserted[0]:
        replaced, inserted, start = replaced[1:], inserted[1:], start + 1
    if replaced and inserted:
        return Allele(start, end, inserted)
    moved = replaced or inserted
    left = _rolled(moved[::-1], lambda at: bases(start - at - 1, start - at), start)
    right = _rolled(moved, lambda at: bases(end + at, end + at + 1), length - end)
    before, after = bases(start - left, start), bases(end, end + right)
    whole = before + inserted + after
    unit = len(moved) if replaced else _repeated(whole, len(moved), left + right)
    return Allele(start - left, end + right, whole, unit)


def _rolled(moved: str, base: Callable[[int], str], most: int) -> int:
    """How far a change can be rolled: as long as the reference goes on like what is moved, over and over."""
    at = 0
    while at < most and base(at) == moved[at % len(moved)]:
        at += 1
    return at


def _repeated(whole: str, inserted: int, before: int) -> int:
    """The longest part of what was put in that is no longer than ``before`` and that ``whole`` repeats; else 0."""
    for unit in range(min(inserted, before), 0, -1):
        if inserted % unit == 0 and whole[unit:] == whole[:-unit]:
            return unit
    return 0


def allele_id(refget: str, allele: Allele) -> str:
    """``ga4gh:VA.…`` of an allele on the sequence of a refget digest (``SQ.…``)."""
    location = {
        "end": allele.end,
        "sequenceReference": {"refgetAccession": refget, "type": "SequenceReference"},
        "start": allele.start,
        "type": "SequenceLocation",
    }
    state: dict[str, object] = {"sequence": allele.inserted, "type": "LiteralSequenceExpression"}
    if allele.unit:
        state = {
            "length": len(allele.inserted),
            "repeatSubunitLength": allele.unit,
            "type": "ReferenceLengthExpression",
        }
    return f"ga4gh:VA.{_digest({'location': _digest(location), 'state': state, 'type': 'Allele'})}"


def _digest(document: dict[str, object]) -> str:
    told = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    return base64.urlsafe_b64encode(hashlib.sha512(told).digest()[:24]).decode("ascii")
