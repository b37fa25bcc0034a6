"""What one patient's genes say, for the physician who knows the patient: risks against named references, and drugs.

Made at home from files at home. Every share names the people it is a share of; every number its source; what was not
tested is listed. The same facts as JSON and as a page in plain words.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from federome import __version__
from federome.errors import Invalid
from federome.pgx.report import METHOD, OVERSIGHT, PURPOSE, PersonReport, page, sections_html, table
from federome.pgx.report import document as drug_document
from federome.prs import ancestry
from federome.prs.ancestry import Panel
from federome.prs.match import Matched
from federome.prs.person import fit_warnings, modelled, place_of
from federome.prs.reference import COVERAGE, Incidence, Reference, absolute_risk
from federome.prs.run import Options
from federome.prs.told import summary

BANDS = ((0.01, "highest 1 %"), (0.05, "highest 5 %"), (0.2, "highest fifth"), (0.8, "middle"), (1.0, "lowest fifth"))
"""Where the share of people expected above a score puts it."""

MODEL = "ancestry model"

INTENDED_USE = (
    "Intended use: to support research, and the conversation between a patient and a physician about whether a test in "
    "an accredited laboratory is worth while. Not intended to diagnose, to predict an individual's disease, to choose "
    "or dose a drug, or to screen. Used so it would be a medical device (Regulations (EU) 2017/745 and 2017/746), "
    "which it is not. Deciding by itself it would be part of a high-risk AI system (Regulation (EU) 2024/1689): it "
    "decides nothing."
)
RISK_WORDS = (
    "A score counts common variants. It moves a risk up or down; it says neither yes nor no, and most of what makes "
    "people ill is not in it. It fits best the people it was made from, and is told here against several references, "
    "because one person can stand high in one and ordinary in another."
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A score against one reference population: the share of its people expected above, with an interval.

    ``kind`` says what it is to the patient: the own nation, the nearest population, the ancestry model.
    """

    population: str
    source: str
    people: int
    z: float
    above: float
    interval: tuple[float, float]
    how: str
    kind: str = ""

    @property
    def band(self) -> str:
        """In words."""
        return next(words for limit, words in BANDS if self.above <= limit or limit == 1.0)


@dataclass(frozen=True, slots=True)
class Risk:
    """One score of one patient. ``absolute`` is the risk in so many years with its interval, where one was supplied."""

    score: str
    trait: str
    value: float
    overlap: float
    facts: Mapping[str, object]
    standings: Sequence[Standing]
    absolute: tuple[float, float, float] | None
    incidence: Incidence | None
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class Fit:
    """Where the patient lies among the people of a public panel: place, standing, and what the panel is."""

    place: Sequence[float]
    standing: ancestry.Standing
    source: str

    @property
    def text(self) -> str:
        """One sentence that names the panel."""
        told, far = self.standing, 100 * self.standing.share
        return (
            f"Nearest population of {self.source}: {told.nearest}, {told.distance:.1f} standard deviations from its"
            f" centre; {'fewer than 0.1' if far < 0.1 else f'{far:.3g}'} % of its people lie as far or farther."
        )


@dataclass(frozen=True, slots=True)
class PatientReport:
    """Everything told about one patient. ``fit`` is nothing where no panel was given."""

    drugs: PersonReport
    risks: Sequence[Risk]
    fit: Fit | None = None

    @property
    def doubts(self) -> Sequence[str]:
        """Whether references fit the patient at all."""
        return fit_warnings(None if self.fit is None else self.fit.standing, None) if self.risks or self.fit else ()


def fit_of(vcf: Path, panel: Panel, options: Options, sample: str) -> Fit:
    """The ancestry of one person of a file, on a panel; ``Invalid`` where too little of the panel is called."""
    with tempfile.TemporaryDirectory() as scratch:
        (place,) = place_of(panel, vcf, options, Path(scratch), person=sample)
    return Fit(place.tolist(), panel.standing(place), panel.source)


def risk_of(
    matched: Matched,
    value: float,
    reference: Reference | None,
    incidence: Incidence | None,
    home: str,
    fit: Fit | None = None,
) -> Risk:
    """One score against every population of its reference; absolute risk against the home population's spread.

    First the own nation, then the nearest population, then the model of ancestry, then all others.
    """
    name = matched.score.accession
    if reference is not None and reference.score != name:
        raise Invalid(f"the reference is of {reference.score[:40]!r}, not of {name[:40]!r}.", where="--reference")
    groups = reference.groups if reference is not None else {}
    if home and groups and home not in groups:
        raise Invalid(
            f"the reference has no population {home[:40]!r}.",
            where="--home",
            remedy=f"It has: {', '.join(sorted(groups))}.",
        )
    standings = _standings(reference, value, home, fit) if reference is not None else []
    warnings = []
    if fit is not None and groups and not fit.standing.outside:
        warnings += fit_warnings(fit.standing, groups)
    if not standings:
        warnings.append("No reference was given: the number by itself says nothing about a person.")
    shares = [each.above for each in standings]
    if shares and max(shares) > 2 * min(shares) and max(shares) - min(shares) > 0.1:
        warnings.append("The references disagree: where the patient stands depends on whom one compares with.")
    absolute = None
    if incidence is not None:
        if not home or home not in groups:
            warnings.append("Absolute risk needs the patient's own population (--home) in the reference: left out.")
        else:
            absolute = absolute_risk(groups[home].z(value), incidence)
    overlap = float(matched.overlap)
    return Risk(name, matched.score.trait, value, overlap, summary(matched), standings, absolute, incidence, warnings)


def _standings(reference: Reference, value: float, home: str, fit: Fit | None) -> list[Standing]:
    nearest = fit.standing.nearest if fit is not None else ""
    out = []
    for group in reference.groups.values():
        share, how = group.above(value)
        kind = " and ".join(word for word, name in (("own nation", home), ("nearest", nearest)) if group.name == name)
        interval = group.interval(share)
        out.append(Standing(group.name, reference.source, group.people, group.z(value), share, interval, how, kind))
    model = reference.adjustment
    if model is not None and fit is not None and len(fit.place) >= len(model.components):
        told = modelled(model, reference.source, value, fit.place)
        interval = (told.low, told.high)
        out.append(
            Standing(
                "same ancestry", reference.source, told.people, told.z, told.share_above, interval, "normal", MODEL
            )
        )
    order = ("own nation", "nearest", MODEL)
    return sorted(out, key=lambda each: next((i for i, word in enumerate(order) if word in each.kind), len(order)))


def read_incidence(path: Path) -> dict[str, Incidence]:
    """By score: ``{"PGS…": {"risk", "log_odds_per_sd", "standard_error", "years", "source"}}``; ``Invalid`` if not."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(score): Incidence(
                float(each["risk"]),
                float(each["log_odds_per_sd"]),
                float(each["standard_error"]),
                int(each["years"]),
                str(each["source"]),
            )
            for score, each in told.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Invalid(
            "this is no file of incidences.",
            where=str(path),
            remedy="For each score: risk, log_odds_per_sd, standard_error, years, source.",
        ) from None


def document(report: PatientReport) -> dict[str, object]:
    """The report as plain JSON values."""
    return {
        "kind": "federome patient report",
        "version": __version__,
        "status": "research output",
        "intended_use": INTENDED_USE,
        "purpose": PURPOSE,
        "oversight": OVERSIGHT,
        "method": METHOD,
        "sample": report.drugs.sample,
        "ancestry": None if report.fit is None else _fit_document(report.fit),
        "warnings": list(report.doubts),
        "risks": [_risk_document(each) for each in report.risks],
        "about_scores": RISK_WORDS,
        "pharmacogenomics": drug_document(report.drugs),
    }


def _fit_document(fit: Fit) -> dict[str, object]:
    told = fit.standing
    return {
        "panel": fit.source,
        "nearest": told.nearest,
        "distance": told.distance,
        "share_as_far": told.share,
        "outside": told.outside,
        "distances": dict(told.distances),
        "text": fit.text,
    }


def _risk_document(risk: Risk) -> dict[str, object]:
    incidence = risk.incidence
    return {
        "score": risk.score,
        "trait": risk.trait,
        "value": risk.value,
        "match": dict(risk.facts),
        "standings": [
            {
                "population": each.population,
                "kind": each.kind,
                "reference": each.source,
                "people": each.people,
                "z": each.z,
                "share_above": each.above,
                "interval": list(each.interval),
                "known_from": each.how,
                "band": each.band,
            }
            for each in risk.standings
        ],
        "absolute_risk": None
        if risk.absolute is None or incidence is None
        else {
            "risk": risk.absolute[0],
            "interval": list(risk.absolute[1:]),
            "population_risk": incidence.risk,
            "years": incidence.years,
            "source": incidence.source,
        },
        "warnings": list(risk.warnings),
    }


def html(report: PatientReport) -> str:
    """The report as one page: no script, nothing fetched."""
    title = f"Report for one patient: {report.drugs.sample}"
    notice = "".join(f"<p>{escape(text)}</p>" for text in (PURPOSE, INTENDED_USE, OVERSIGHT, METHOD))
    risks = [part for each in report.risks for part in _risk_html(each)]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<section class="notice" aria-label="What this is"><p><strong>Research output</strong></p>{notice}</section>',
        "<h2>Inherited risk</h2>",
        f"<p>{escape(report.fit.text)}</p>" if report.fit else "",
        *(f"<p><strong>{escape(doubt)}</strong></p>" for doubt in report.doubts),
        *(risks or ["<p>No score was computed.</p>"]),
        f"<p>{escape(RISK_WORDS)}</p>" if risks else "",
        *sections_html(report.drugs),
    ]
    return page(title, "\n".join(body))


def _risk_html(risk: Risk) -> list[str]:
    rows = [
        (
            each.population + (f" ({each.kind})" if each.kind else ""),
            f"{each.people:,} people, {each.source}",
            each.band,
            f"about {100 * each.above:.0f} of 100 are expected above ({_percent(each.interval)})",
        )
        for each in risk.standings
    ]
    parts = [f"<h3>{escape(risk.trait or risk.score)}</h3>"]
    if rows:
        parts.append(table("Against each reference", ("Population", "Reference", "Band", "In numbers"), rows))
    if risk.absolute is not None and risk.incidence is not None:
        told, low, high = risk.absolute
        parts.append(
            f"<p>Of 100 people with this score about {100 * told:.0f} ({_percent((low, high))}) are expected to fall "
            f"ill within {risk.incidence.years} years; of all, {100 * risk.incidence.risk:.0f}. "
            f"Source: {escape(risk.incidence.source)}.</p>"
        )
    parts += [f"<p><strong>{escape(warning)}</strong></p>" for warning in risk.warnings]
    parts.append(f"<p>{escape(risk.score)}: {100 * risk.overlap:.0f} % of its variants were found.</p>")
    return parts


def _percent(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f}, {COVERAGE:.0%} interval"


def text(report: PatientReport) -> str:
    """The risks for a terminal, above the drugs."""
    lines = [report.fit.text] if report.fit else []
    lines += [*report.doubts, ""] if report.doubts or lines else []
    for risk in report.risks:
        lines.append(f"{risk.trait or risk.score} ({100 * risk.overlap:.0f} % of its variants found)")
        lines += [
            f"  {each.population:<14}{each.band:<14} {100 * each.above:5.1f} % above ({_percent(each.interval)})"
            + (f", {each.kind}" if each.kind else "")
            for each in risk.standings
        ]
        lines += [f"  {warning}" for warning in risk.warnings]
    return "\n".join(lines) + ("\n\n" if lines else "")
