"""Measurements that were repeated, as columns of a store: each person's first value, later ones, and when.

``NAME`` is the value that holds at the diagnosis: the last one measured up to then. ``NAME_later`` and
``NAME_later_at`` are lists of the values after it and of their months, which ``cox`` reads as a value that changes.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from federome.errors import Invalid

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,50}")
LATER: Final = ("_later", "_later_at")


@dataclass
class Measurements:
    """What was measured of whom and when: by person and name, months since the diagnosis and values."""

    taken: dict[str, dict[str, dict[float, float]]] = field(default_factory=lambda: defaultdict(dict))
    names: set[str] = field(default_factory=set)

    def add(self, person: str, name: str, months: float, value: float, *, where: str) -> None:
        """One measurement; ``Invalid`` for a name that is none, or a second value at the same time."""
        if not _NAME.fullmatch(name) or name.endswith(LATER):
            raise Invalid(
                "a measurement's name cannot be a column.",
                where=where,
                remedy="Use small letters, digits and _, with the unit: psa_ng_ml.",
            )
        if not math.isfinite(months) or not math.isfinite(value):
            raise Invalid("a measurement or its time is not finite.", where=where)
        own = self.taken[person].setdefault(name, {})
        if own.setdefault(months, value) != value:
            raise Invalid(f"{name} has two values at the same time.", where=where, remedy="Keep one of them.")
        self.names.add(name)

    def columns(self, person: str, reserved: Iterable[str]) -> dict[str, float | list[float] | None]:
        """A person's columns of all names that anybody has; ``Invalid`` where one is a column of something else."""
        if taken := sorted(self.names & set(reserved)):
            raise Invalid(f"{taken[0]!r} is a column of its own.", where="measurements", remedy="Rename it.")
        told: dict[str, float | list[float] | None] = {}
        for name in sorted(self.names):
            own = sorted(self.taken.get(person, {}).get(name, {}).items())
            before = [value for months, value in own if months <= 0]
            after = [(months, value) for months, value in own if months > 0]
            told[name] = before[-1] if before else None
            told[f"{name}{LATER[0]}"] = [value for _, value in after]
            told[f"{name}{LATER[1]}"] = [months for months, _ in after]
        return told
