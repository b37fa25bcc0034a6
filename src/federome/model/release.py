"""What an algorithm may release, as data: rules per column, declared by the algorithm and enforced by the gate.

The same rules describe the totals of each round (what may be summed and opened) and the finished tables (what may
leave). Reviewers read them, the portal shows them, ``disclosure`` obeys them; an undeclared column is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from federome.errors import Invalid
from federome.model.strict import Document

ReleaseClass = Literal["counts", "frequencies", "summary-statistics", "model", "scalar-test", "match"]


@dataclass(frozen=True, slots=True)
class Count:
    """Whole numbers. ``people=True``: each cell counts people and must reach the threshold.

    ``guard`` names the people column (same shape, or one axis fewer) whose cells decide over this column's.
    Columns with the same ``together`` are withheld together as soon as one of them is small.
    ``rounded`` tells a released count to the nearest multiple: sizes of cohorts are told to the nearest 5.
    """

    people: bool = False
    guard: str = ""
    together: str = ""
    rounded: int = 1

    def __post_init__(self) -> None:
        if self.rounded < 1:
            raise Invalid("a count is rounded to a multiple of 1 or more.")


@dataclass(frozen=True, slots=True)
class Number:
    """A real sum over people, summed in fixed point: ``bound`` is the largest magnitude one node may contribute.

    Resolution is 2⁻⁵² (two 64-bit limbs), coarser where parties · bound exceeds 2⁴¹; sums are exact to that step and
    independent of order.
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


ALL = "all"
"""In a label column of a table of counts: the row stands for everybody, whatever the label of others."""

Identity = Mapping[str, int]
"""Coefficients by name, such that the weighted sum is zero in every row. See :class:`Rows`."""


@dataclass(frozen=True, slots=True)
class Rows:
    """One table: its columns and what guards them. ``genotypes`` tables treat 0 … k−1 carriers as one state.

    ``identities`` say what can be computed from what: ``{"carriers": 1, "called": -1, "others": 1}`` where the
    table holds carriers and called. A name that is no column stands for people that nobody shows but everybody could
    compute; they too must reach the threshold, else the identity's first column is withheld. With ``total`` the first
    row is the sum of all others, so that a withheld row needs company. In tables keyed by labels, ``ALL`` says so.
    """

    columns: Mapping[str, Rule]
    release_class: ReleaseClass = "counts"
    genotypes: bool = False
    key: tuple[str, ...] = ()
    automatic: bool = True
    identities: tuple[Identity, ...] = ()
    total: bool = False

    def __post_init__(self) -> None:
        for identity in self.identities:
            if len(identity) < 2 or not all(identity.values()) or next(iter(identity)) not in self.columns:
                raise Invalid("an identity has at least two names with coefficients; the first one is a column.")
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
    ``genotypes``: a round over people that reads all variants the question names, in one block of genome order.
    """

    name: str
    scope: Scope
    totals: Rows
    gated: bool = False
    genotypes: bool = False


SamePeople = Literal["refuse", "answer"]
SAME_PEOPLE: tuple[SamePeople, ...] = get_args(SamePeople)


@dataclass(frozen=True, slots=True)
class Policy(Document):
    """A data holder's disclosure policy, carried with the dataset; the strictest of all contributors wins.

    ``open_data`` marks public reference data whose cells need no threshold; it holds only if every contributor's
    dataset is open. ``parameter_share`` bounds a model's parameters per person, ``phenotype_share`` the phenotypes per
    person of which statistics leave, ``membership_power`` how often, at 5 % false alarms, somebody who holds a genome
    may recognise it in all that one grant has been told; 1 sets no limit (for people who are not real).
    ``difference_min`` is the fewest people that two cohorts which are both told of may differ by;
    ``same_people`` says whether exactly the same people are told of again where they are asked for in other words.
    ``noise`` perturbs counts of people, with P(x) ∝ exp(−|x| / noise) at each node; ``epsilon`` is what a grant may
    draw of differential privacy from perturbed counts. Zero means neither.
    """

    k_min: int = 10
    k_public: int = 20
    open_data: bool = False
    digits: int = 6
    parameter_share: float = 1 / 3
    phenotype_share: float = 0.05
    membership_power: float = 0.09
    difference_min: int = 64
    same_people: SamePeople = "refuse"
    noise: float = 0.0
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        if self.k_min < 1 or self.k_public < self.k_min:
            raise Invalid("a policy needs 1 ≤ k_min ≤ k_public.", where="policy")
        if not 1 <= self.digits <= 15 or not 0 < self.parameter_share <= 1 or not 0 < self.phenotype_share <= 1:
            raise Invalid("a policy needs 1 to 15 digits, and shares above 0 and up to 1.", where="policy")
        if self.same_people not in SAME_PEOPLE:
            raise Invalid("same_people is refuse or answer.", where="policy")
        if self.difference_min < 1:
            raise Invalid("difference_min is at least 1.", where="policy")
        if not 0 <= self.noise <= 1000 or not 0 <= self.epsilon <= 1000:
            raise Invalid("noise and epsilon are numbers from 0 to 1000.", where="policy")
        if self.epsilon and not self.noise:
            raise Invalid("a ledger of epsilon needs noise.", where="policy")
        if not 0.05 < self.membership_power <= 1:
            raise Invalid("membership_power lies above 0.05, which is guessing, up to 1.", where="policy")

    @property
    def threshold(self) -> int:
        """People a cell needs under a permit: ``k_min``; none where the data are open."""
        return 0 if self.open_data else self.k_min

    def public(self) -> Policy:
        """The policy for what anybody may read: ``k_public`` people a cell."""
        return replace(self, k_min=self.k_public)


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
        phenotype_share=min(p.phenotype_share for p in policies),
        membership_power=min(p.membership_power for p in policies),
        difference_min=max(p.difference_min for p in policies),
        same_people="refuse" if any(p.same_people == "refuse" for p in policies) else "answer",
        noise=max(p.noise for p in policies),
        epsilon=min((p.epsilon for p in policies if p.epsilon), default=0.0),
    )
