"""Who is told of a pathogenic variant: the treating hospital of what it asked for, the data holder of all else.

A report holds what the question was about. What turned up besides goes into the data holder's queue, a file in its own
folder, and nowhere else: no network, log or result carries it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Final

from federome.cancer.acmg import Classification
from federome.cancer.clinvar import Clinvar
from federome.model.variant import Variant

ACTIONABLE: Final = (
    *("APC", "BMPR1A", "BRCA1", "BRCA2", "MAX", "MEN1", "MLH1", "MSH2", "MSH6", "MUTYH", "NF2", "PALB2", "PMS2"),
    *("PTEN", "RB1", "RET", "SDHAF2", "SDHB", "SDHC", "SDHD", "SMAD4", "STK11", "TMEM127", "TP53", "TSC1", "TSC2"),
    *("VHL", "WT1"),
)
"""Genes of hereditary cancer in ACMG's list of secondary findings, SF v3.2 (Miller et al. 2023)."""
BIALLELIC: Final = frozenset({"MUTYH"})
"""Of these only two altered copies are a finding."""
REPORTED: Final = frozenset({"pathogenic", "likely pathogenic"})
QUEUE: Final = "incidental-findings.jsonl"


@dataclass(frozen=True, slots=True)
class Carried:
    """A variant that a person carries: ``copies`` of ALT, and the gene it alters."""

    variant: Variant
    gene: str
    copies: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one carried variant. ``conflict`` says who disagrees; it is shown, never resolved here."""

    variant: str
    gene: str
    copies: int
    verdict: str
    source: str
    stars: int | None
    evidence: tuple[str, ...]
    conflict: str = ""


@dataclass(frozen=True)
class Findings:
    """``asked`` for the treating hospital, ``incidental`` for the data holder alone."""

    asked: tuple[Finding, ...]
    incidental: tuple[Finding, ...]


def interpret(
    carried: Sequence[Carried],
    *,
    asked: Sequence[str],
    clinvar: Clinvar,
    classified: Mapping[Variant, Classification] | None = None,
) -> Findings:
    """Findings in the genes asked about, and in actionable genes besides. Silence of all sources is no finding."""
    own: list[Finding] = []
    besides: list[Finding] = []
    for each in carried:
        if each.gene not in asked and each.gene not in ACTIONABLE:
            continue
        finding = _finding(each, clinvar, (classified or {}).get(each.variant))
        if finding is None:
            continue
        (own if each.gene in asked else besides).append(finding)
    return Findings(tuple(own), tuple(besides))


def _finding(each: Carried, clinvar: Clinvar, ours: Classification | None) -> Finding | None:
    if each.copies < 1 or (each.gene in BIALLELIC and each.copies < 2):
        return None
    record = clinvar.find(each.variant)
    theirs = record.class_ if record is not None else ""
    conflict = ""
    if record is not None and theirs == "conflicting":
        conflict = f"submitters to ClinVar disagree: {record.submitted or record.words}"
    elif record is not None and ours is not None and (theirs in REPORTED) != (ours.verdict in REPORTED):
        conflict = f"ClinVar says {record.words} ({record.stars} stars), the evidence here {ours.verdict}"
    if not conflict and theirs not in REPORTED and (ours is None or ours.verdict not in REPORTED):
        return None
    verdict = "conflicting" if conflict else (ours.verdict if ours is not None else theirs)
    shown = tuple(f"{e.code} {e.strength}: {e.because}".rstrip(": ") for e in (ours.evidence if ours else ()))
    sources = [*(["ClinVar"] if record is not None else []), *(["ACMG/AMP points"] if ours is not None else [])]
    return Finding(
        variant=str(each.variant),
        gene=each.gene,
        copies=each.copies,
        verdict=verdict,
        source=" and ".join(sources),
        stars=record.stars if record is not None else None,
        evidence=shown,
        conflict=conflict,
    )


def report(person: str, findings: Findings, *, hospital: str, on: date) -> dict[str, object]:
    """For the treating hospital: what it asked about, and not even whether there was anything else."""
    return {
        "for": hospital,
        "person": person,
        "date": on.isoformat(),
        "findings": [asdict(each) for each in findings.asked],
        "note": "No finding means that none is known, not that the genes are without one.",
    }


def queue(folder: Path, person: str, findings: Findings, *, on: date) -> int:
    """Put incidental findings into the data holder's own queue, readable by its account only; how many were new."""
    path = folder / QUEUE
    held = set(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else set()
    lines = [
        json.dumps({"person": person, "date": on.isoformat(), **asdict(each)}, sort_keys=True)
        for each in findings.incidental
    ]
    fresh = [line for line in dict.fromkeys(lines) if line not in held]
    if not fresh:
        return 0
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in fresh))
        file.flush()
        os.fsync(file.fileno())
    return len(fresh)
