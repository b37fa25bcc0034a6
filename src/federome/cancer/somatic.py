"""A tumour's own mutations from a VCF or BCF with tumour and normal, as callers of somatic variants write them.

What counts: FILTER is PASS, enough reads in the tumour carry it, next to none in the normal, the caller does not say
germline, and it changes a protein (by the annotation of SnpEff or VEP). A gene outside the panel was not looked at.
Everything else is counted by reason, so that nothing goes missing in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from federome.errors import Invalid
from federome.ingest.effects import EffectReader
from federome.ingest.vcf import VcfHeader, records

CHANGES: Final = frozenset(
    {
        *("missense_variant", "stop_gained", "frameshift_variant", "inframe_insertion", "inframe_deletion"),
        *("splice_acceptor_variant", "splice_donor_variant", "start_lost", "stop_lost", "protein_altering_variant"),
        *("conservative_inframe_insertion", "conservative_inframe_deletion"),
        *("disruptive_inframe_insertion", "disruptive_inframe_deletion"),
    }
)
"""Sequence Ontology terms after which a gene counts as altered."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Least depth, reads and share of reads with the variant in the tumour; most of them in the normal."""

    depth: int = 10
    reads: int = 3
    share: float = 0.05
    normal_depth: int = 8
    normal_share: float = 0.02


@dataclass
class Mutations:
    """Altered ``genes``, exact ``variants`` (``BRAF:p.V600E``), and lines left out by reason."""

    genes: set[str] = field(default_factory=set)
    variants: set[str] = field(default_factory=set)
    skipped: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: str) -> None:
        """Count a line that does not count."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class _Columns:
    """Places of tumour and normal among the samples; −1: there is no normal."""

    tumour: int
    normal: int


def read_somatic(
    path: Path,
    panel: frozenset[str],
    *,
    tumour: str = "",
    normal: str = "",
    at_least: Thresholds | None = None,
) -> Mutations:
    """A tumour's mutations in the genes of its panel; ``Invalid`` where the file does not say which sample is which.

    Sample names may be left out where the header names them (``##tumor_sample``) or they are TUMOR and NORMAL. A file
    without a normal is taken only for lines that the caller itself marks as somatic.
    """
    limits = at_least or Thresholds()
    found = Mutations()
    header = VcfHeader(path)
    columns, effects = _samples(header.people, header.lines, tumour, normal, path), EffectReader(header.lines)
    for record in records(header):
        _take(str(record).rstrip("\n").split("\t"), columns, effects, panel, limits, found)
    return found


def _samples(names: Sequence[str], header: Sequence[str], tumour: str, normal: str, path: Path) -> _Columns:
    told = {key: line.partition("=")[2].strip() for key in ("tumor", "normal") for line in header
            if line.startswith(f"##{key}_sample=")}  # fmt: skip
    usual = {name.upper(): name for name in names}
    first = tumour or told.get("tumor") or usual.get("TUMOR") or usual.get("TUMOUR") or ""
    second = normal or told.get("normal") or usual.get("NORMAL") or ""
    if not first and len(names) == 1:
        first = names[0]
    if first not in names or (second and second not in names) or first == second:
        raise Invalid(
            "it is not said which sample is the tumour and which the normal.",
            where=str(path),
            remedy="Name both as tumour and normal.",
        )
    return _Columns(names.index(first), names.index(second) if second else -1)


def _take(
    fields: Sequence[str],
    columns: _Columns,
    effects: EffectReader,
    panel: frozenset[str],
    limits: Thresholds,
    found: Mutations,
) -> None:
    alts, info = fields[4].split(","), fields[7]
    if fields[6] != "PASS":
        found.skip("not PASS")
        return
    keys = fields[8].split(":")
    tumour = dict(zip(keys, fields[9 + columns.tumour].split(":"), strict=False))
    normal = dict(zip(keys, fields[9 + columns.normal].split(":"), strict=False)) if columns.normal >= 0 else None
    state = _state(info, tumour)
    if state == "germline":
        found.skip("germline by the caller")
        return
    for number, (alt, pairs) in enumerate(zip(alts, effects.from_info(info, fields[3], alts), strict=True), 1):
        if alt in (".", "*", "<*>", "<NON_REF>"):
            continue
        reason = _reason(tumour, normal, number, state, limits)
        if reason:
            found.skip(reason)
            continue
        _name(pairs, panel, found)


def _state(info: str, tumour: dict[str, str]) -> str:
    """``somatic`` or ``germline`` where the caller says so: SOMATIC, STATUS, or SS (2 somatic; 1, 3 germline, LOH)."""
    told = dict(entry.partition("=")[::2] for entry in info.split(";"))
    status = told.get("STATUS", "").lower()
    code = told.get("SS") or tumour.get("SS") or ""
    if "SOMATIC" in told or "somatic" in status or code == "2" or code.lower() == "somatic":
        return "somatic"
    return "germline" if status in ("germline", "loh") or code in ("1", "3") or "GERMLINE" in told else ""


def _reason(tumour: dict[str, str], normal: dict[str, str] | None, number: int, state: str, limits: Thresholds) -> str:
    """Why an allele does not count, or nothing."""
    depth, reads = _depths(tumour, number)
    if depth is None or reads is None:
        return "no read depths"
    if depth < limits.depth or reads < limits.reads or reads < limits.share * depth:
        return "too few reads in the tumour"
    if normal is None:
        return "" if state == "somatic" else "no normal to compare with"
    depth, reads = _depths(normal, number)
    if depth is None or reads is None or depth < limits.normal_depth:
        return "too few reads in the normal"
    return "also in the normal" if reads > limits.normal_share * depth else ""


def _depths(sample: dict[str, str], number: int) -> tuple[int | None, float | None]:
    """Depth and reads with the allele: from AD (reads by allele), or from DP and AF."""
    try:
        by_allele = [int(each) for each in sample.get("AD", "").split(",")]
        if number < len(by_allele):
            return max(sum(by_allele), int(sample["DP"]) if sample.get("DP", ".") != "." else 0), by_allele[number]
    except ValueError:
        pass
    try:
        depth = int(sample["DP"])
        return depth, depth * float(sample["AF"].split(",")[number - 1])
    except (KeyError, ValueError, IndexError):
        return None, None


def _name(pairs: Sequence[tuple[str, str]], panel: frozenset[str], found: Mutations) -> None:
    """Put the genes whose protein changes among those altered."""
    altered = {gene for gene, term in pairs if gene and term in CHANGES}
    if not altered:
        found.skip("not annotated" if not pairs else "no change of a protein")
        return
    if not altered & panel:
        found.skip("genes outside the panel")
    found.genes |= altered & panel
    found.variants |= {f"{g}:{change}" for g, change in pairs if g in altered & panel and change.startswith("p.")}
