"""``federome patient report``: one patient's risks and drugs, at the patient's own node, from files at home."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federome.cli.pgx import MINIMUM, Build, Fasta, Least, Vcf, Weights, one_person
from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.network.patient_reports import PatientReports
    from federome.patient.report import Fit, Risk
    from federome.pgx.report import PersonReport
    from federome.prs.reference import Incidence, Reference
    from federome.prs.run import Options as Scoring

patient_app = typer.Typer(no_args_is_help=True, help="A report for one patient, at the patient's own node.")


@patient_app.command("report")
def report(
    vcf: Vcf,
    score: Annotated[list[Path] | None, typer.Option("--score", help="Scoring files; again for each.")] = None,
    reference: Annotated[
        list[Path] | None, typer.Option("--reference", help="References of the scores (federome prs reference).")
    ] = None,
    home: Annotated[str, typer.Option("--home", help="The patient's own population in the references.")] = "",
    panel: Annotated[
        Path | None, typer.Option("--panel", help="Ancestry panel, to say which reference fits (federome prs panel).")
    ] = None,
    incidence: Annotated[
        Path | None, typer.Option("--incidence", help="How often the diseases come, by score.")
    ] = None,
    outside: Annotated[Path | None, typer.Option("--outside", help="Calls of other tools (CYP2D6, HLA …).")] = None,
    sample: Annotated[str, typer.Option("--sample", help="Which person, where the file has several.")] = "",
    assembly: Build = "",
    fasta: Fasta = None,
    callable_bed: Annotated[
        Path | None,
        typer.Option("--callable", help="BED of places that were looked at: nothing listed is reference (for scores)."),
    ] = None,
    min_overlap: Annotated[
        float, typer.Option("--min-overlap", min=0, max=1, help="Share of a score's rows that must be found.")
    ] = MINIMUM,
    minimum: Least = MINIMUM,
    frequencies: Weights = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="Print one HTML page.")] = False,
    node: Annotated[
        Path | None, typer.Option("--node", help="Keep it in this node's folder, for its portal, and print nothing.")
    ] = None,
    clinician: Annotated[str, typer.Option("--for", help="With --node: who alone sees it (register id).")] = "",
    name: Annotated[str, typer.Option("--name", help="With --node: what this clinician calls the patient.")] = "",
    person: Annotated[
        str, typer.Option("--person", help="With --node: the patient's id in its data; they see who opens it.")
    ] = "",
) -> None:
    """Risks against named references, drugs, and what was not tested. Research output: a qualified person decides."""
    from federome.patient.report import PatientReport, document, fit_of, html, read_incidence, text
    from federome.pgx.call import Options
    from federome.pgx.report import text as drug_text
    from federome.prs.ancestry import read_panel
    from federome.prs.reference import read_reference
    from federome.prs.run import Options as Scoring

    if as_json and as_html:
        raise Invalid("ask for JSON or for HTML, not for both.", where="--html")
    known = [read_reference(path) for path in reference or ()]
    odds = {} if incidence is None else read_incidence(incidence)
    drugs = one_person(vcf, sample, outside, assembly, fasta, frequencies, Options(minimum=minimum))
    scoring = Scoring(assembly=drugs.assembly, callable_bed=callable_bed, reference=fasta, min_overlap=min_overlap)
    fit = None
    if panel is not None:
        fit = fit_of(vcf, read_panel(panel), scoring, drugs.sample)
    risks = _risks(vcf, drugs, score or (), {each.score: each for each in known}, odds, home, fit, scoring)
    made = PatientReport(drugs, risks, fit)
    if node is not None:
        _reports(node).put(clinician, name, document(made), now=time.time(), person=person)
        told = f"The report {name} is in the node's portal, for {clinician}."
        sys.stdout.write((json.dumps({"kept": name, "for": clinician}) if as_json else told) + "\n")
    elif as_json:
        sys.stdout.write(json.dumps(document(made)) + "\n")
    else:
        sys.stdout.write(html(made) if as_html else text(made) + drug_text(drugs))


@patient_app.command("forget")
def forget(
    node: Annotated[Path, typer.Option("--node", help="The node's folder.")],
    clinician: Annotated[str, typer.Option("--for", help="Whose report it is, by id in the register.")],
    name: Annotated[str, typer.Option("--name", help="What this clinician calls the patient.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Take a report out of a node's portal. It goes by itself after ninety days."""
    _reports(node).remove(clinician, name)
    sys.stdout.write((json.dumps({"forgotten": name}) if as_json else f"{name} is gone.") + "\n")


def _reports(node: Path) -> PatientReports:
    from federome.db import engine
    from federome.network.patient_reports import PatientReports
    from federome.network.setup import node_settings

    node_settings(node)  # a folder that is no node's is refused
    return PatientReports(engine(f"sqlite:///{node / 'node.db'}", durable=True))


def _risks(
    vcf: Path,
    drugs: PersonReport,
    scores: Sequence[Path],
    references: Mapping[str, Reference],
    odds: Mapping[str, Incidence],
    home: str,
    fit: Fit | None,
    options: Scoring,
) -> list[Risk]:
    from federome.patient.report import risk_of
    from federome.prs.run import compared

    if not scores:
        _check_used([], references, "--reference")
        return []
    with compared(scores, vcf, options) as found:
        names = [each.score.accession for each in found.matched]
        _check_used(names, references, "--reference")
        _check_used(names, odds if odds.keys().isdisjoint(names) else (), "--incidence")
        return [
            risk_of(
                matched, value, references.get(matched.score.accession), odds.get(matched.score.accession), home, fit
            )
            for matched, value in found.score_of(drugs.sample)
        ]


def _check_used(scores: Sequence[str], told: Iterable[str], where: str) -> None:
    """What is told of another score is not left aside in silence."""
    for name in sorted(set(told) - set(scores)):
        raise Invalid(
            f"this is about {name[:40]!r}, which is none of the scores.",
            where=where,
            remedy=f"The scores are {', '.join(scores) or 'none: give --score'}.",
        )
