"""Families: a pedigree, its CanRisk file with the polygenic z-score, and a segregation estimate that says it is less.

CanRisk computes risks with BOADICEA; this module hands it the family. Beside that stands Mendelian segregation of one
dominant gene under penetrances that the caller states: exact arithmetic on a much simpler picture (one gene, no
polygenic part, no risk factors), labelled so wherever it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid

Floats = NDArray[np.float64]
Factor: TypeAlias = tuple[tuple[str, ...], Floats]
Test = Literal["", "negative", "positive"]
GENES: Final = ("BRCA1", "BRCA2", "PALB2", "ATM", "CHEK2", "BARD1", "RAD51D", "RAD51C", "BRIP1", "HOXB13")
CANCERS: Final = ("BC1", "BC2", "OC", "PRO", "PAN")
LESSER: Final = (
    "One dominant gene under stated penetrances: no polygenic part, no risk factors. A lesser estimate than CanRisk's."
)
_ID = re.compile(r"[A-Za-z0-9-]{1,7}")
_RECEPTORS: Final = ("ER", "PR", "HER2", "CK14", "CK56")


@dataclass(frozen=True, slots=True)
class Member:
    """One person of a family. Ages in years, 0 where unknown; ``cancers`` by CanRisk's names, age 0 if unknown.

    ``id`` is a number within the family, never a name or national number.
    """

    id: str
    sex: Literal["F", "M"]
    father: str = ""
    mother: str = ""
    age: int = 0
    born: int = 0
    dead: bool = False
    twin: str = ""
    ashkenazi: bool = False
    cancers: Mapping[str, int] = field(default_factory=dict)
    tests: Mapping[str, Test] = field(default_factory=dict)
    receptors: Mapping[str, Literal["N", "P"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise Invalid("a member of a family has an id of up to 7 letters and digits.", where=self.id[:20])
        for name in self.cancers:
            if name not in CANCERS:
                raise Invalid(f"{name[:20]!r} is no cancer of a pedigree.", remedy=f"Known: {', '.join(CANCERS)}.")
        if not 0 <= self.age <= 125 or any(not 0 <= age <= 125 for age in self.cancers.values()):
            raise Invalid("an age lies outside 0 to 125.", where=self.id)
        if self.age and any(age > self.age for age in self.cancers.values()):
            raise Invalid("a cancer was found after the last known age.", where=self.id)


@dataclass(frozen=True)
class Pedigree:
    """A family and the member it is about. ``Invalid`` for unknown parents, wrong sexes and circles."""

    family: str
    target: str
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        known = {member.id: member for member in self.members}
        if len(known) < len(self.members) or self.target not in known:
            raise Invalid("ids of a family are unique, and the target is one of them.", where=self.family[:13])
        for member in self.members:
            if bool(member.father) != bool(member.mother):
                raise Invalid("a member has both parents or none.", where=member.id, remedy="Add the other parent.")
            for parent, sex in ((member.father, "M"), (member.mother, "F")):
                if parent and (parent not in known or known[parent].sex != sex):
                    raise Invalid("a parent is unknown or has the other sex.", where=member.id)
        _ = self.generations

    @property
    def generations(self) -> tuple[Member, ...]:
        """Members in an order in which parents come before their children."""
        placed: dict[str, Member] = {}
        waiting = list(self.members)
        while waiting:
            ready = [m for m in waiting if not m.father or (m.father in placed and m.mother in placed)]
            if not ready:
                raise Invalid("somebody is their own ancestor.", where=self.family[:13])
            placed |= {member.id: member for member in ready}
            waiting = [member for member in waiting if member.id not in placed]
        return tuple(placed.values())


def canrisk(
    pedigree: Pedigree, *, z: float | None = None, alpha: float | None = None, factors: Mapping[str, str] | None = None
) -> str:
    """The CanRisk pedigree file, version 4. ``z`` is the polygenic z-score against the national reference.

    ``alpha`` is the square root of the share of the polygenic variance that the score explains, as its publication
    states it; CanRisk cannot use a z-score without it. ``factors`` are further header fields (``menarche``, ``BMI``).
    """
    if (z is None) != (alpha is None):
        raise Invalid("a polygenic z-score needs its alpha, and the reverse.", where="alpha")
    if alpha is not None and not 0 < alpha <= 1:
        raise Invalid("alpha lies between 0 and 1.", where="alpha")
    lines = ["##CanRisk 4.0", *(f"##{name}={value}" for name, value in sorted((factors or {}).items()))]
    if z is not None:
        lines.append(f"##PRS_BC=alpha={alpha:g}, zscore={z:.6g}")
    head = ("FamID", "Name", "Target", "IndivID", "FathID", "MothID", "Sex", "MZtwin", "Dead", "Age", "Yob")
    lines.append("##" + "\t".join((*head, *CANCERS, "Ashkn", *GENES, ":".join(_RECEPTORS))))
    return "\n".join([*lines, *(_line(pedigree, member) for member in pedigree.members)]) + "\n"


def _line(pedigree: Pedigree, member: Member) -> str:
    result = {"": "0:0", "negative": "S:N", "positive": "S:P"}
    cancers = ["0" if name not in member.cancers else str(member.cancers[name] or "AU") for name in CANCERS]
    fields = [
        pedigree.family[:13],
        member.id,
        str(int(member.id == pedigree.target)),
        member.id,
        member.father or "0",
        member.mother or "0",
        member.sex,
        member.twin or "0",
        str(int(member.dead)),
        str(member.age),
        str(member.born),
        *cancers,
        str(int(member.ashkenazi)),
        *(result[member.tests.get(gene, "")] for gene in GENES),
        ":".join(member.receptors.get(name, "0") for name in _RECEPTORS),
    ]
    return "\t".join(fields)


# segregation


@dataclass(frozen=True, slots=True)
class Penetrance:
    """Cumulative risk of the cancer by age, as the caller's source states it: rising, from age 0, linear in between."""

    ages: tuple[float, ...]
    risks: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.ages, self.ages[1:], strict=False))
        falling = any(a > b for a, b in zip(self.risks, self.risks[1:], strict=False))
        if len(self.ages) != len(self.risks) or len(self.ages) < 2 or not rising or falling:
            raise Invalid("a penetrance lists rising ages with risks that do not fall.", where="penetrance")
        if self.ages[0] != 0 or self.risks[0] != 0 or self.risks[-1] >= 1:
            raise Invalid("a penetrance starts with no risk at age 0 and ends below 1.", where="penetrance")

    def by(self, age: float) -> float:
        """Risk up to an age."""
        return float(np.interp(age, self.ages, self.risks))

    def at(self, age: float) -> float:
        """Density at an age: the slope there."""
        return (self.by(age + 0.5) - self.by(age - 0.5)) or 1e-12


@dataclass(frozen=True, slots=True)
class Gene:
    """A dominant gene: frequency of its altered allele, penetrance with and without it, the test's sensitivity."""

    name: str
    frequency: float
    carriers: Penetrance
    others: Penetrance
    cancer: str = "BC1"
    sensitivity: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.frequency < 0.5 or not 0 < self.sensitivity <= 1:
            raise Invalid("an allele frequency lies in (0, 0.5), a sensitivity in (0, 1].", where=self.name[:20])


@dataclass(frozen=True, slots=True)
class Estimate:
    """What segregation says of the target; ``note`` says what it is not."""

    carrier: float
    risk: float
    by_age: int
    note: str = LESSER


def segregation(pedigree: Pedigree, gene: Gene, *, by_age: int = 80) -> Estimate:
    """Chance that the target carries the gene, and her risk from now to ``by_age``, given the whole family.

    Exact under the model (Elston and Stewart 1971), by summing members out one after another.
    """
    factors: list[Factor] = []
    for member in pedigree.generations:
        factors.append(((member.id,), _seen(member, gene)))
        if member.father:
            factors.append(((member.father, member.mother, member.id), _INHERITED))
        else:
            q = gene.frequency
            factors.append(((member.id,), np.array([(1 - q) ** 2, 2 * q * (1 - q), q**2])))
    joint = _sum_out(factors, pedigree.target)
    if joint.sum() <= 0:
        raise Invalid("the family's test results contradict each other.", where=pedigree.family[:13])
    chance = joint / joint.sum()
    carrier = float(chance[1:].sum())
    target = next(member for member in pedigree.members if member.id == pedigree.target)
    risk = sum(
        weight * (each.by(max(by_age, target.age)) - each.by(target.age)) / (1 - each.by(target.age))
        for weight, each in ((carrier, gene.carriers), (1 - carrier, gene.others))
    )
    return Estimate(carrier, float(risk), by_age)


def _inheritance() -> Floats:
    """Chance of 0, 1, 2 copies in a child by those of father and mother, (3, 3, 3)."""
    gamete = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    out = np.zeros((3, 3, 3))
    for one in range(2):
        for other in range(2):
            out[:, :, one + other] += np.outer(gamete[:, one], gamete[:, other])
    return out


_INHERITED: Final = _inheritance()


def _seen(member: Member, gene: Gene) -> Floats:
    """Likelihood of what is known of a member by copies 0, 1, 2. Only women are asked about the cancer."""
    likelihood = np.ones(3)
    test = member.tests.get(gene.name, "")
    if test:
        found = np.array([0.0, gene.sensitivity, gene.sensitivity])
        likelihood *= found if test == "positive" else 1 - found
    if member.sex == "F":
        for copies in range(3):
            curve = gene.carriers if copies else gene.others
            if gene.cancer in member.cancers:
                age = member.cancers[gene.cancer] or member.age
                likelihood[copies] *= curve.at(age) if age else curve.by(80)
            elif member.age:
                likelihood[copies] *= 1 - curve.by(member.age)
    return likelihood


def _sum_out(factors: Sequence[Factor], kept: str) -> Floats:
    """The product of all factors with every member but ``kept`` summed out, those with fewest neighbours first."""
    left = list(factors)
    names = {name for scope, _ in left for name in scope} - {kept}
    while names:
        size = {n: len({other for scope, _ in left if n in scope for other in scope}) for n in names}
        name = min(sorted(names), key=lambda n: size[n])
        if size[name] > 12:
            raise Invalid("the family's loops are too many to compute.", remedy="Leave out distant relatives.")
        touching = [f for f in left if name in f[0]]
        left = [f for f in left if name not in f[0]]
        scope, values = reduce(_times, touching)
        left.append((tuple(n for n in scope if n != name), values.sum(axis=scope.index(name))))
        names.discard(name)
    start: Factor = ((kept,), np.ones(3))
    return reduce(_times, left, start)[1]


def _times(one: Factor, other: Factor) -> Factor:
    scope = tuple(dict.fromkeys((*one[0], *other[0])))

    def spread(factor: Factor) -> Floats:
        order = sorted(range(len(factor[0])), key=lambda axis: scope.index(factor[0][axis]))
        shape = [3 if name in factor[0] else 1 for name in scope]
        return factor[1].transpose(order).reshape(shape)

    return scope, spread(one) * spread(other)


# what follows from a risk


@dataclass(frozen=True, slots=True)
class Screening:
    """A category of familial risk and what the guideline offers women in it."""

    category: Literal["near population", "moderate", "high"]
    offer: str
    source: str = "NICE guideline CG164, Familial breast cancer (2013, with later amendments)"


def screening(*, lifetime: float, forties: float) -> Screening:
    """Category by lifetime risk from age 20 and by the risk between 40 and 50; the higher of both counts."""
    if not 0 <= forties <= lifetime <= 1:
        raise Invalid("risks lie between 0 and 1, and that of ten years is not above that of a life.", where="risk")
    if lifetime >= 0.30 or forties > 0.08:
        return Screening("high", "annual mammography from 40 to 59; below 40 as a specialist decides")
    if lifetime >= 0.17 or forties >= 0.03:
        return Screening("moderate", "annual mammography from 40 to 49")
    return Screening("near population", "the population's screening programme")
