"""What one person is told of a score at home: beside the nation, the nearest reference and the model of ancestry.

The public face for reports: :func:`person_score` gives everything said about one score, as data and as sentences. A
share is never told without the reference it is of, and never without how well that reference fits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from federome.errors import Invalid
from federome.model.variant import Assembly
from federome.prs.ancestry import Panel, Standing
from federome.prs.match import Matched
from federome.prs.reference import Adjustment, Incidence, Reference, absolute_risk
from federome.prs.run import Options
from federome.prs.targets import Target, Wanted, open_target
from federome.prs.told import summary
from federome.store import kernels

PURPOSE = (
    "Research output, not a medical device and not a diagnosis. A score adds up common variants: family history, rare "
    "variants and ways of life are not in it. A qualified person reads it and decides."
)
LIFETIME = 100
"""Years from which a risk is called that of a lifetime."""
Kind = Literal["nation", "nearest", "ancestry model"]


@dataclass(frozen=True)
class Reading:
    """A score beside one reference. ``share_above`` of its people are expected to score higher; 95 % interval."""

    kind: Kind
    reference: str
    people: int
    z: float
    share_above: float
    low: float
    high: float
    method: str

    @property
    def percentile(self) -> float:
        """Percent of the reference expected to score lower."""
        return 100 * (1 - self.share_above)

    @property
    def text(self) -> str:
        """One sentence that names the reference."""
        low, high = 100 * (1 - self.high), 100 * (1 - self.low)
        return (
            f"The score is higher than that of {self.percentile:.1f} % ({low:.1f} to {high:.1f}) of {self.reference}"
            f" ({self.people:,} people)."
        )


@dataclass(frozen=True)
class Risk:
    """Absolute risk within ``years``, with a 95 % interval from the effect of the score; read beside the nation.

    Where the effect's standard error was not given, both ends are the risk, and the sentence says so.
    """

    risk: float
    low: float
    high: float
    mean: float
    years: int
    source: str

    @property
    def text(self) -> str:
        """One sentence."""
        when = "Lifetime risk" if self.years >= LIFETIME else f"Risk within {self.years} years"
        known = f"{100 * self.low:.1f} to {100 * self.high:.1f}"
        return (
            f"{when}: {100 * self.risk:.1f} % ({known if self.low < self.high else 'how uncertain is not known'}),"
            f" where the mean is {100 * self.mean:.1f} % ({self.source})."
        )


@dataclass(frozen=True)
class PersonScore:
    """Everything said about one person's score. ``ancestry`` is nothing where no panel was given."""

    accession: str
    trait: str
    value: float
    match: dict[str, object]
    readings: tuple[Reading, ...]
    ancestry: Standing | None
    risk: Risk | None
    warnings: tuple[str, ...]

    def document(self) -> dict[str, object]:
        """As plain JSON values."""
        return {
            "accession": self.accession,
            "trait": self.trait,
            "score": self.value,
            "match": self.match,
            "readings": [asdict(r) | {"percentile": r.percentile, "text": r.text} for r in self.readings],
            "ancestry": None if self.ancestry is None else asdict(self.ancestry) | {"outside": self.ancestry.outside},
            "risk": None if self.risk is None else asdict(self.risk) | {"text": self.risk.text},
            "warnings": list(self.warnings),
        }


def person_score(
    value: float,
    matched: Matched,
    reference: Reference,
    *,
    nation: str = "",
    panel: Panel | None = None,
    place: Sequence[float] = (),
    incidence: Incidence | None = None,
) -> PersonScore:
    """One score of one person. ``place`` are the person's components on ``panel``; ``nation`` names the own group.

    The absolute risk is read beside the nation, else beside the nearest reference. Raises ``Invalid`` where the
    reference is of another score or does not know the nation.
    """
    if matched.score.accession != reference.score:
        raise Invalid(f"the reference is of {reference.score[:40]}, the score is {matched.score.accession[:40]}.")
    if nation and nation not in reference.groups:
        known = ", ".join(reference.groups) or "none"
        raise Invalid(f"the reference has no group {nation[:40]!r}.", remedy=f"It has: {known}.")
    standing = panel.standing(np.array(place)) if panel is not None and len(place) else None
    readings = []
    if nation:
        readings.append(_beside(reference, nation, value, "nation"))
    if standing is not None and standing.nearest in reference.groups:
        readings.append(_beside(reference, standing.nearest, value, "nearest"))
    if reference.adjustment is not None and len(place) >= len(reference.adjustment.components):
        readings.append(modelled(reference.adjustment, reference.source, value, place))
    risk = None
    if incidence is not None and readings:
        risk = Risk(
            *absolute_risk(readings[0].z, incidence),
            mean=incidence.risk,
            years=incidence.years,
            source=incidence.source,
        )
    return PersonScore(
        accession=matched.score.accession,
        trait=matched.score.trait,
        value=value,
        match=summary(matched),
        readings=tuple(readings),
        ancestry=standing,
        risk=risk,
        warnings=tuple(_warnings(matched, reference, standing, readings)),
    )


def _beside(reference: Reference, name: str, value: float, kind: Kind) -> Reading:
    group = reference.groups[name]
    share, method = group.above(value)
    low, high = group.interval(share)
    return Reading(kind, f"{name}, {reference.source}", group.people, group.z(value), share, low, high, method)


def modelled(model: Adjustment, source: str, value: float, place: Sequence[float]) -> Reading:
    """A score beside people of the same ancestry, by the model over all nations."""
    z = model.z(value, place[: len(model.components)])
    share = float(special.ndtr(-z))
    margin = 1.959964 * np.sqrt((1 + z * z / 2) / model.people)  # of a normal quantile's place (delta method)
    low, high = float(special.ndtr(-z - margin)), float(special.ndtr(margin - z))
    text = f"people of the same ancestry by the model over all nations, {source}"
    return Reading("ancestry model", text, model.people, z, share, low, high, "normal")


def fit_warnings(standing: Standing | None, groups: Collection[str] | None) -> list[str]:
    """Doubts about whether references fit a person; ``groups`` are those that a score's reference has."""
    if standing is None:
        return ["Ancestry was not looked at: whether a reference fits this person is not known."]
    if standing.outside:
        return [
            f"This person lies outside the reference: {standing.distance:.1f} standard deviations from"
            f" {standing.nearest}, the nearest population. Shares below may not hold."
        ]
    if groups is not None and standing.nearest not in groups:
        return [f"There is no reference of this score for {standing.nearest}, the nearest population."]
    return []


def _warnings(
    matched: Matched, reference: Reference, standing: Standing | None, readings: Sequence[Reading]
) -> list[str]:
    out = fit_warnings(standing, reference.groups)
    if matched.overlap < 1:
        share, weight = matched.overlap, matched.weight_overlap
        out.append(f"{share:.1%} of the score's variants were found ({weight:.1%} by weight).")
    if any(reading.method == "normal" and reading.kind != "ancestry model" for reading in readings):
        out.append("Bins of the reference were withheld: shares come from a normal distribution instead.")
    if not readings:
        out.append("No reference fits: the score alone says nothing about a person.")
    return out


def place_of(
    panel: Panel, genotypes: Path, options: Options, scratch: Path, *, person: str = ""
) -> NDArray[np.float64]:
    """Places (people, K) on a panel of everybody in a file of genotypes, or of one person."""
    positions: dict[str, list[int]] = {}
    for chromosome, position, _, _ in panel.variants:
        positions.setdefault(chromosome, []).append(position)

    def wanted(assembly: Assembly) -> Wanted:
        if assembly != panel.assembly:
            raise Invalid(f"the panel lies on {panel.assembly}, the genotypes on {assembly}.", where=str(genotypes))
        return {chromosome: sorted(listed) for chromosome, listed in positions.items()}

    folder = scratch / "panel"
    folder.mkdir(exist_ok=True)
    target = open_target(
        genotypes, wanted, scratch=folder, assembly=options.assembly, callable_bed=options.callable_bed
    )
    try:
        held = _at_panel(panel, target)
        return panel.project(held[:, [list(target.people).index(person)]] if person else held)
    finally:
        for file in target.files:
            file.close()


def _at_panel(panel: Panel, target: Target) -> NDArray[np.int8]:
    """Copies of ALT at the panel's variants; where nothing is listed: reference if it was looked at, else missing."""
    out = np.full((len(panel.variants), len(target.people)), -1, np.int8)
    for row, (chromosome, position, ref, alt) in enumerate(panel.variants):
        sites = target.sites.get(chromosome)
        for at in sites.at(position) if sites else ():
            assert sites is not None
            held = (sites.refs[at], sites.alts[at])
            if held not in ((ref, alt), (alt, ref)):
                continue
            copies = kernels.decode(target.files[sites.file[at]], np.array([sites.number[at]], np.int64))[0]
            out[row] = copies if held == (ref, alt) else np.where(copies < 0, copies, 2 - copies)
        if (not sites or not sites.at(position)) and target.looked.at(chromosome, position, position):
            out[row] = 0
    return out
