"""The sixteen metrics of the GA4GH WGS Quality Control Standards, and what is known of each sample.

Identifiers are the standard's, verbatim, ``homzygous`` included. The standard defines metrics and no thresholds
(ga4gh/quality-control-wgs, 2025); what is read into a verdict is in `policy`. A metric that nobody measured is absent
from a sample's mapping: unknown, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from federome.errors import Invalid

HET_HOM_SNV: Final = "ratio_heterozygous_homzygous_snv"
HET_HOM_INDEL: Final = "ratio_heterozygous_homzygous_indel"
TI_TV: Final = "ratio_transitions_transversions_snv"
INS_DEL: Final = "ratio_insertion_deletion"
CONTAMINATION: Final = "cross_contamination_rate"

ALIGNMENT: Final[Mapping[str, str]] = {
    "yield_bp_q30": "Bases of quality 30 or better",
    "mean_autosome_coverage": "Mean coverage of autosomes",
    "pct_autosomes_15x": "Autosomes covered 15 times or more, %",
    "mad_autosome_coverage": "Median absolute deviation of coverage",
    "pct_reads_mapped": "Reads mapped, %",
    "pct_reads_properly_paired": "Reads properly paired, %",
    "mean_insert_size": "Mean insert size",
    "insert_size_std_deviation": "Standard deviation of insert size",
    CONTAMINATION: "Share of reads from somebody else",
}
VARIANTS: Final[Mapping[str, str]] = {
    "count_snvs": "Single nucleotide variants",
    "count_insertions": "Insertions",
    "count_deletions": "Deletions",
    INS_DEL: "Insertions per deletion",
    HET_HOM_SNV: "Heterozygous per homozygous SNV",
    HET_HOM_INDEL: "Heterozygous per homozygous indel",
    TI_TV: "Transitions per transversion",
}
METRICS: Final[Mapping[str, str]] = {**ALIGNMENT, **VARIANTS}
"""All sixteen with a label for people."""

STEPS: Final[Mapping[str, float]] = {INS_DEL: 0.01, HET_HOM_SNV: 0.01, HET_HOM_INDEL: 0.01, TI_TV: 0.01}
"""To what the reference pipelines round a metric; a spread below this is only rounding."""

Values = Mapping[str, float]
"""Metrics of one sample by identifier."""


@dataclass(frozen=True)
class Measured:
    """Samples with their metrics, and which program or file each metric came from."""

    samples: Mapping[str, Values] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def of(self, sample: str) -> Values:
        """What is known of a sample; nothing of an unknown one."""
        return self.samples.get(sample, {})


def checked(values: Mapping[str, object], *, where: str) -> dict[str, float]:
    """Finite numbers that the metric can have; absent and null ones are left out. ``Invalid`` otherwise."""
    out: dict[str, float] = {}
    for name, value in values.items():
        if name not in METRICS or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise Invalid(f"{name} is no number that it can be.", where=where, remedy="Leave out what is unknown.")
        if (name.startswith("pct_") and value > 100) or (name == CONTAMINATION and value > 1):
            raise Invalid(f"{name} is larger than it can be.", where=where, remedy="Shares to 1, per cent to 100.")
        out[name] = float(value)
    return out


def joined(parts: Iterable[Measured]) -> Measured:
    """Several sources as one. ``Invalid`` where two state different values of one metric of one sample."""
    samples: dict[str, dict[str, float]] = {}
    sources: dict[str, str] = {}
    for part in parts:
        for sample, values in part.samples.items():
            held = samples.setdefault(sample, {})
            for name, value in values.items():
                if not math.isclose(held.setdefault(name, value), value, rel_tol=1e-9, abs_tol=1e-12):
                    raise Invalid(
                        f"two sources state different values of {name} for one sample.",
                        where=" and ".join(filter(None, (sources.get(name), part.sources.get(name)))),
                        remedy="Give the file that holds, and leave out the other.",
                    )
        for name, source in part.sources.items():
            sources.setdefault(name, source)
    return Measured(samples, sources)


@dataclass(frozen=True)
class Difference:
    """How two pipelines agree on one metric: samples both measured, how many differ, and the largest difference."""

    metric: str
    compared: int
    different: int
    largest: float


def compare(one: Measured, other: Measured) -> tuple[Difference, ...]:
    """Metric by metric, over the samples that both measured; equal means equal as stated."""
    shared = sorted(one.samples.keys() & other.samples.keys())
    out = []
    for name in METRICS:
        pairs = [(one.of(s)[name], other.of(s)[name]) for s in shared if name in one.of(s) and name in other.of(s)]
        gaps = [abs(a - b) for a, b in pairs]
        out.append(Difference(name, len(pairs), sum(gap > 0 for gap in gaps), max(gaps, default=0.0)))
    return tuple(out)
