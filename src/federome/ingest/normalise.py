"""One spelling for one variant: trimmed, and left-aligned where a reference sequence is at hand.

Every source passes its alleles through here before they become keys. The algorithm is that of Tan, Abecasis and Kang
2015 (doi:10.1093/bioinformatics/btv112). Without a reference an indel can only be trimmed, and says so.
"""

from __future__ import annotations

from collections.abc import Callable

from federome.model.variant import trim

MAX_SHIFT = 1_000
"""Bases an indel moves left at most, so that a stream can be kept sorted in bounded memory. In a longer repeat it
stays where that takes it and counts as not left-aligned."""

_WINDOW = 64


def left_align(position: int, ref: str, alt: str, bases: Callable[[int, int], str]) -> tuple[int, str, str, bool]:
    """The leftmost, parsimonious form of a variant, and whether that was reached within `MAX_SHIFT` bases.

    ``bases(position, length)`` gives reference bases (1-based); REF has been checked against them.
    """
    limit = max(1, position - MAX_SHIFT)
    window, window_start = "", position
    while True:
        if len(ref) > 1 and len(alt) > 1 and ref[-1] == alt[-1]:
            ref, alt = ref[:-1], alt[:-1]
        elif ref[-1] == alt[-1] and position > limit:
            if position == window_start:
                window_start = max(limit, position - _WINDOW)
                window = bases(window_start, position - window_start)
            position -= 1
            before = window[position - window_start]
            ref, alt = before + ref[:-1], before + alt[:-1]
        else:
            break
    reached = ref[-1] != alt[-1] or limit == 1
    return *trim(position, ref, alt), reached


def is_indel(ref: str, alt: str) -> bool:
    """Whether the alleles differ in length, so that their place may depend on how they were aligned."""
    return len(ref) != len(alt)
