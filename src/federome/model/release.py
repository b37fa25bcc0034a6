"""What an algorithm may release, as data: rules per column, declared by the algorithm and enforced by the gate.

The same rules describe the totals of each round (what may be summed and opened) and the finished tables (what may
leave). Reviewers read them, the portal shows them, ``disclosure`` obeys them; an undeclared column is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from federome.errors import Invalid
from federome.model.strict import Document

ReleaseClass = Literal["counts", "frequencies", "summary-statistics", "model", "scalar-test", "match"]
AUTOMATIC: frozenset[ReleaseClass] = frozenset({"counts", "frequencies", "summary-statistics", "scalar-test"})


@dataclass(frozen=True, slots=True)
class Count:
    """Whole numbers. ``people=True``: each cell counts people and must reach the threshold.

    ``guard`` names the people column (same shape, or one axis fewer) whose cells decide over this column's.
    Columns with the same ``together`` are withheld together as soon as one of them is small.
    """

    people: bool = False
    guard: str = ""
    together: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """A real sum over people, summed in fixed point: ``bound`` is the largest magnitude one node may contribute.

    Resolution is 2⁻⁵² (two 64-bit limbs), so sums are exact to that step and independent of order.
    """

    bound: float = 2.0**36
    guard: str = ""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Quotient of two released columns; withheld where either is."""

    numerator: str
    denominator: str
    guard: str = ""


@dataclass(frozen=True, slots=True)
class Statistic:
    """A finished statistic (estimate, standard error, test, p value), computed from gated totals.

    ``digits`` limits the significant digits that leave.
    """

    guard: str = ""
    digits: int = 6


@dataclass(frozen=True, slots=True)
class Label:
    """A public name of a row: a variant that passed the gate, a stratum, a genome bin, a parameter's own value."""


Rule = Count | Number | Ratio | Statistic | Label


@dataclass(frozen=True, slots=True)
class Rows:
    """One table: its columns and what guards them. ``genotypes`` tables treat 0 … k−1 carriers as one state."""

    columns: Mapping[str, Rule]
    release_class: ReleaseClass = "counts"
    genotypes: bool = False
    key: tuple[str, ...] = ()
    automatic: bool = True

    def __post_init__(self) -> None:
        for name, rule in self.columns.items():
            needed = [getattr(rule, part, "") for part in ("guard", "numerator", "denominator")]
            for other in filter(None, needed):
                if other not in self.columns:
                    raise Invalid(f"column {name!r} is guarded by {other!r}, which is not declared.")


Scope = Literal["people", "variants"]


@dataclass(frozen=True, slots=True)
class Round:
    """One sum over the nodes: what ``local`` returns in it and whether its people counts are new to the gate.

    ``scope`` is ``people`` (one table for the whole cohort) or ``variants`` (one table per block of variants).
    ``gated`` rounds hold the people columns that decide which rows go on and are shown to the nodes for veto.
    """

    name: str
    scope: Scope
    totals: Rows
    gated: bool = False


@dataclass(frozen=True, slots=True)
class Policy(Document):
    """A data holder's disclosure policy, carried with the dataset; the strictest of all contributors wins.

    ``open_data`` marks public reference data whose cells need no threshold; it holds only if every contributor's
    dataset is open.
    """

    k_min: int = 10
    k_public: int = 20
    open_data: bool = False
    digits: int = 6
    parameter_share: float = 1 / 3

    def __post_init__(self) -> None:
        if self.k_min < 1 or self.k_public < self.k_min:
            raise Invalid("a policy needs 1 ≤ k_min ≤ k_public.", where="policy")

    @property
    def threshold(self) -> int:
        """People a cell needs under a permit: ``k_min``, or 1 for open data."""
        return 1 if self.open_data else self.k_min


def strictest(policies: list[Policy]) -> Policy:
    """The policy that satisfies every contributor."""
    if not policies:
        raise Invalid("no data holder's policy was given.")
    return Policy(
        k_min=max(p.k_min for p in policies),
        k_public=max(p.k_public for p in policies),
        open_data=all(p.open_data for p in policies),
        digits=min(p.digits for p in policies),
        parameter_share=min(p.parameter_share for p in policies),
    )
