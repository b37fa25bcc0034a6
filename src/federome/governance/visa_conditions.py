"""The ``conditions`` of a visa: a disjunction of conjunctions over the other visas of the same person.

``passports.py`` asks here once it knows which visas are valid, trusted, unconditioned and of one person.
GA4GH Passport 1.2.1, "conditions" and "Pattern Matching"; rule R6. Whatever is malformed never matches.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

MAX_CLAUSES: Final = 64
MAX_PATTERN: Final = 1024
_CLAIMS: Final = frozenset({"value", "source", "by"})


class Claims(Protocol):
    """What a clause looks at in a visa."""

    @property
    def type(self) -> str: ...

    @property
    def value(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def by(self) -> str | None: ...


def well_formed(conditions: object) -> bool:
    """Whether ``conditions`` is a list of lists of objects of bounded size; what the clauses say is judged later."""
    return (
        isinstance(conditions, list)
        and all(isinstance(clauses, list) for clauses in conditions)
        and sum(len(clauses) for clauses in conditions) <= MAX_CLAUSES
        and all(isinstance(clause, Mapping) for clauses in conditions for clause in clauses)
    )


def met(conditions: Sequence[Sequence[Mapping[str, object]]], visas: Sequence[Claims]) -> bool:
    """Whether one of the conjunctions holds: each of its clauses matches one single visa. An empty one does not."""
    return any(
        bool(clauses) and all(any(_matches(clause, visa) for visa in visas) for clause in clauses)
        for clauses in conditions
    )


def _matches(clause: Mapping[str, object], visa: Claims) -> bool:
    others = clause.keys() - {"type"}
    if clause.get("type") != visa.type or not others or not others <= _CLAIMS:
        return False
    return all(_claim_matches(clause[name], _claim(visa, name)) for name in others)


def _claim(visa: Claims, name: str) -> str | None:
    return {"value": visa.value, "source": visa.source, "by": visa.by}[name]


def _claim_matches(expected: object, actual: str | None) -> bool:
    if not isinstance(expected, str) or actual is None or len(expected) > MAX_PATTERN:
        return False
    kind, colon, text = expected.partition(":")
    match kind if colon else "":
        case "const":
            return actual == text
        case "pattern":
            return _pattern(text, actual)
        case "split_pattern":
            return any(_pattern(text, part) for part in actual.split(";"))
        case _:
            return False


def _pattern(pattern: str, text: str) -> bool:
    """``*`` any text, ``?`` one character, nothing else special; fnmatch does it without exponential backtracking."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))
