"""Verdicts: every measure of a sample or dataset held against its limit, with the reasons written down.

Pure functions over what was measured. A verdict is the worst level among its findings: refuse before refer before
accept; remarks are told and change nothing. Findings carry measure, value and limit, never a genotype.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from federome.model import verdict as told
from federome.model.strict import Document
from federome.quality.bands import EVERYBODY, Bands
from federome.quality.metrics import METRICS, STEPS, Measured
from federome.quality.policy import Level, Policy, Verdict

FORMAT: Final = "federome-quality/1"


@dataclass(frozen=True)
class Finding(Document):
    """One reason. ``check`` names the measure; ``says`` is for people; ``override`` who lifted it, if anybody did."""

    check: str
    level: Level
    says: str
    value: float | None = None
    limit: float | None = None
    override: str = ""


@dataclass(frozen=True)
class SampleVerdict(Document):
    """A sample's verdict with all its findings; ``metrics`` are what was measured, absent where unknown."""

    sample: str
    findings: tuple[Finding, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    group: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst level that nobody lifted."""
        return worst(self.findings)


@dataclass(frozen=True)
class DatasetVerdict(Document):
    """The verdict of a dataset: its own findings and those of its samples.

    ``release`` is the digest of what was assessed, empty before commit; ``unknown`` lists checks that could not be
    made, with why.
    """

    dataset: str
    assessed_on: date
    samples: tuple[SampleVerdict, ...]
    findings: tuple[Finding, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    release: str = ""
    policy: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst of the dataset's own findings; single samples are judged by themselves."""
        return worst(self.findings)

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many samples are accepted, referred and refused."""
        found = Counter(each.verdict for each in self.samples)
        return {"accept": found["accept"], "refer": found["refer"], "refuse": found["refuse"]}

    def document(self) -> dict[str, object]:
        """As JSON: the dataset's verdict first, then every sample in the GA4GH shape with its verdict."""
        return {
            "format": FORMAT,
            "dataset": self.dataset,
            "release": self.release,
            "assessed_on": self.assessed_on.isoformat(),
            "policy": self.policy,
            "verdict": self.verdict,
            "counts": self.counts,
            "findings": [each.to_document() for each in self.findings],
            "unknown": dict(self.unknown),
            "facts": dict(self.facts),
            "samples": [sample_document(each) for each in self.samples],
        }

    def told(self) -> told.Verdict:
        """As the one document that onboarding and the catalogue read: lifted findings say so and no longer count."""
        return told.Verdict(
            dataset=self.dataset,
            decision=self.verdict,
            people=len(self.samples),
            by=f"federome quality, {self.policy}",
            findings=_told(self.findings),
            samples=tuple(
                told.SampleVerdict(each.sample, each.verdict, _told(each.findings))
                for each in self.samples
                if each.findings
            ),
            unknown=dict(self.unknown),
        )

    def summary(self, *, round_to: int = 5) -> dict[str, object]:
        """What a catalogue may show: no sample, and counts rounded as published numbers of people are."""
        rounded = {name: (count + round_to // 2) // round_to * round_to for name, count in self.counts.items()}
        return {
            "verdict": self.verdict,
            "assessed_on": self.assessed_on.isoformat(),
            "policy": self.policy,
            "samples": rounded,
            "findings": sorted({each.check for each in self.findings if each.level != "remark"}),
            "unknown": sorted(self.unknown),
        }


def _told(findings: Sequence[Finding]) -> tuple[told.Finding, ...]:
    return tuple(
        told.Finding(
            metric=each.check,
            decision="accept" if each.level == "remark" or each.override else each.level,
            said=f"{each.says} Lifted by {each.override}." if each.override else each.says,
        )
        for each in findings
    )


def sample_document(each: SampleVerdict) -> dict[str, object]:
    """One sample: ``biosample.id`` and ``wgs_qc_metrics`` as the standard has them, further measures apart."""
    return {
        "biosample": {"id": each.sample},
        "wgs_qc_metrics": {name: each.metrics[name] for name in METRICS if name in each.metrics},
        "measures": {name: value for name, value in each.metrics.items() if name not in METRICS},
        "group": each.group,
        "verdict": each.verdict,
        "findings": [finding.to_document() for finding in each.findings],
    }


def worst(findings: Iterable[Finding]) -> Verdict:
    """Refuse if one finding refuses that was not lifted, else refer, else accept."""
    levels = {each.level for each in findings if not each.override}
    return "refuse" if "refuse" in levels else "refer" if "refer" in levels else "accept"


def judged(
    measured: Measured, policy: Policy, *, bands: Bands | None = None, groups: Mapping[str, str] | None = None
) -> tuple[SampleVerdict, ...]:
    """Every sample against the limits, and against the band of its group where there is one."""
    groups = groups or {}
    out = []
    for sample, values in measured.samples.items():
        group = groups.get(sample, "")
        found = [*_limits(values, policy), *_missing(values, policy)]
        if bands is not None:
            found += _banded(values, group, bands, policy)
        out.append(SampleVerdict(sample, tuple(found), dict(values), group))
    return tuple(out)


def _limits(values: Mapping[str, float], policy: Policy) -> Iterable[Finding]:
    for limit in policy.limits:
        if limit.measure not in values:
            continue
        value = values[limit.measure]
        passed = limit.level(value)
        if passed:
            level, bound = passed
            side = "below" if limit.low else "above"
            yield Finding(limit.measure, level, f"{_label(limit.measure)}: {side} {bound:g}.", value, bound)


def _missing(values: Mapping[str, float], policy: Policy) -> Iterable[Finding]:
    for name in policy.required:
        if name not in values:
            yield Finding(name, "refer", f"{_label(name)}: unknown, and required.")


def _banded(values: Mapping[str, float], group: str, bands: Bands, policy: Policy) -> Iterable[Finding]:
    """Findings of the variant metrics; a group too small for a band is remarked once."""
    known = {each.metric for each in bands.bands}
    alone = False
    for metric in sorted(known & values.keys(), key=list(METRICS).index):
        band = bands.of(metric, group)
        if band is None:
            alone = True
            continue
        away = _beyond_rounding(values[metric], metric, band.distance(values[metric]), band.spread)
        level: Level | None = "refuse" if away > policy.band_refuse else "remark" if away > policy.band_remark else None
        if level is not None:
            times = policy.band_refuse if level == "refuse" else policy.band_remark
            ends = band.reach(times)
            whose = "everybody" if band.group == EVERYBODY else f"group {band.group}"
            says = f"{_label(metric)}: outside {ends[0]:.4g} to {ends[1]:.4g} ({times:g} spreads, {whose})."
            yield Finding(metric, level, says, values[metric], ends[0] if values[metric] < ends[0] else ends[1])
    if alone:
        yield Finding("ancestry_band", "remark", "The sample's ancestry group is too small to have a band.")


def _beyond_rounding(value: float, metric: str, distance: float, spread: float) -> float:
    """The distance less what rounding of the value may have added."""
    if metric not in STEPS or not value:
        return abs(distance)
    return max(0.0, abs(distance) - math.log1p(STEPS[metric] / 2 / value) / spread)


def over_samples(samples: Sequence[SampleVerdict], policy: Policy) -> tuple[Finding, ...]:
    """What many bad samples say of the whole: some are referred, too many refuse it."""
    refused = sum(each.verdict == "refuse" for each in samples)
    if not samples:
        return (Finding("samples", "refuse", "There is no sample."),)
    share = refused / len(samples)
    if share > policy.refused_share:
        says = f"{refused:,} of {len(samples):,} samples are refused."
        return (Finding("samples", "refuse", says, share, policy.refused_share),)
    referred = sum(each.verdict == "refer" for each in samples)
    if refused or referred:
        says = f"{refused:,} samples are refused and {referred:,} referred: they wait for a decision each."
        return (Finding("samples", "refer" if refused else "remark", says, share, policy.refused_share),)
    return ()


def _label(measure: str) -> str:
    return METRICS.get(measure, measure.replace("_", " ").capitalize())
