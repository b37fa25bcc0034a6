"""Commands of polygenic scores: ``federome prs match``, ``explain``, ``score``. The package puts them on the tree."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.prs.match import Matched
    from federome.prs.run import Options

prs_app = typer.Typer(no_args_is_help=True, help="Polygenic scores: match, explain, score; at home only.")

Files = Annotated[list[Path], typer.Argument(help="Scoring files: PGS Catalog, OmicsPred, or lists of weights.")]
Genotypes = Annotated[Path, typer.Option("--genotypes", "-g", help="A .pgen, VCF, BCF or gVCF file.")]
Assembly = Annotated[str, typer.Option("--assembly", help="GRCh37 or GRCh38, where the genotypes do not say.")]
Build = Annotated[str, typer.Option("--build", help="Assembly of scoring files that do not name theirs.")]
RulesOption = Annotated[
    str, typer.Option("--rules", help="federome, or pgsc: the rules of pgsc_calc 2, to compare with its results.")
]
DuplicatesOption = Annotated[str, typer.Option("--duplicates", help="Rows that stand twice: refuse, or first.")]
KeepAmbiguous = Annotated[
    bool, typer.Option("--keep-ambiguous", help="Read A/T and C/G variants as written where frequencies do not tell.")
]
Callable_ = Annotated[
    Path | None, typer.Option("--callable", help="BED of places that were looked at: nothing listed is reference.")
]
Reference = Annotated[Path | None, typer.Option("--reference", help="Reference sequence (FASTA with .fai).")]
Frequencies = Annotated[
    Path | None, typer.Option("--frequencies", help="A panel's frequencies: chromosome, position, REF, ALT, frequency.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def _options(
    assembly: str,
    build: str,
    rules: str,
    duplicates: str,
    keep_ambiguous: bool,
    callable_bed: Path | None,
    reference: Path | None,
    frequencies: Path | None,
) -> Options:
    from federome.prs.run import Options

    chosen: Literal["federome", "pgsc"]
    if rules == "federome":
        chosen = "federome"
    elif rules == "pgsc":
        chosen = "pgsc"
    else:
        raise Invalid("there are no such rules.", where="--rules", remedy="Say federome or pgsc.")
    if duplicates not in ("refuse", "first"):
        raise Invalid("that is not known.", where="--duplicates", remedy="Say refuse or first.")
    return Options(
        assembly=assembly,
        build=build,
        rules=chosen,
        duplicates="first" if duplicates == "first" else "refuse",
        keep_ambiguous=keep_ambiguous,
        callable_bed=callable_bed,
        reference=reference,
        frequencies=frequencies,
    )


@prs_app.command("match")
def match_command(
    files: Files,
    genotypes: Genotypes,
    assembly: Assembly = "",
    build: Build = "",
    rules: RulesOption = "federome",
    duplicates: DuplicatesOption = "refuse",
    keep_ambiguous: KeepAmbiguous = False,
    callable_bed: Callable_ = None,
    reference: Reference = None,
    frequencies: Frequencies = None,
    as_json: AsJson = False,
) -> None:
    """How much of each score the genotypes hold, by verdict."""
    from federome.prs.run import compared

    options = _options(assembly, build, rules, duplicates, keep_ambiguous, callable_bed, reference, frequencies)
    with compared(files, genotypes, options) as found:
        told = [_summary(each) for each in found.matched]
    if as_json:
        sys.stdout.write(json.dumps({"scores": told}) + "\n")
        return
    for each in told:
        sys.stdout.write(_summary_text(each))


@prs_app.command("explain")
def explain_command(
    file: Annotated[Path, typer.Argument(help="One scoring file.")],
    genotypes: Genotypes,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Only these: rsID, or chromosome:position.")
    ] = None,
    verdict: Annotated[list[str] | None, typer.Option("--verdict", help="Only rows with these verdicts.")] = None,
    assembly: Assembly = "",
    build: Build = "",
    rules: RulesOption = "federome",
    duplicates: DuplicatesOption = "refuse",
    keep_ambiguous: KeepAmbiguous = False,
    callable_bed: Callable_ = None,
    reference: Reference = None,
    frequencies: Frequencies = None,
    as_json: AsJson = False,
) -> None:
    """Why each row of a score counts or does not: its verdict, the reason, and which frequency stands in."""
    from federome.prs.run import compared
    from federome.prs.told import row_facts

    options = _options(assembly, build, rules, duplicates, keep_ambiguous, callable_bed, reference, frequencies)
    with compared([file], genotypes, options) as found:
        rows = [fact for each in found.matched for fact in row_facts(each, found.target.assembly)]
        names = set(variant or ())
        kept = [
            row
            for row in rows
            if (not names or {row["name"], row["place"]} & names) and (not verdict or row["verdict"] in verdict)
        ]
    if as_json:
        sys.stdout.write(json.dumps({"rows": kept}) + "\n")
        return
    for row in kept:
        sys.stdout.write(f"{row['line']:>6}  {row['name']:<14} {row['place']:<14} {row['verdict']:<18} {row['why']}\n")
    sys.stdout.write(f"{len(kept)} of {len(rows)} rows\n")


@prs_app.command("score")
def score_command(
    files: Files,
    genotypes: Genotypes,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write everybody's scores to this file, readable by you alone.")
    ] = None,
    min_overlap: Annotated[
        float, typer.Option("--min-overlap", min=0, max=1, help="Share of rows without which no score is computed.")
    ] = 0.75,
    without_unscorable: Annotated[
        bool, typer.Option("--without-unscorable", help="Compute what remains without rows that are no allele sums.")
    ] = False,
    assembly: Assembly = "",
    build: Build = "",
    rules: RulesOption = "federome",
    duplicates: DuplicatesOption = "refuse",
    keep_ambiguous: KeepAmbiguous = False,
    callable_bed: Callable_ = None,
    reference: Reference = None,
    frequencies: Frequencies = None,
    as_json: AsJson = False,
) -> None:
    """Compute scores; what was not found is said beside them, and too little of a score is refused."""
    from dataclasses import replace

    from federome.prs.run import compared, write_scores

    options = _options(assembly, build, rules, duplicates, keep_ambiguous, callable_bed, reference, frequencies)
    options = replace(options, min_overlap=min_overlap, without_unscorable=without_unscorable)
    with compared(files, genotypes, options) as found:
        scores = found.scores()
    told: list[dict[str, object]] = []
    for each, values in zip(scores.matched, scores.values.T.tolist(), strict=True):
        summary = _summary(each) | {"minimum_overlap": min_overlap, "people": len(scores.people)}
        told.append(summary if out else summary | {"values": values})
    if out is not None:
        write_scores(scores, out)
    if as_json:
        sys.stdout.write(json.dumps({"scores": told, "out": None if out is None else str(out)}) + "\n")
        return
    for summary in told:
        sys.stdout.write(_summary_text(summary))
    if out is not None:
        sys.stdout.write(f"Scores of {len(scores.people):,} people are in {out}\n")
        return
    names = "\t".join(each.score.accession for each in scores.matched)
    sys.stdout.write(f"person\t{names}\n")
    for person, row in zip(scores.people, scores.values.tolist(), strict=True):
        sys.stdout.write("\t".join([person, *(f"{value:.6g}" for value in row)]) + "\n")


def _summary(matched: Matched) -> dict[str, object]:
    from federome.prs.told import summary

    return summary(matched)


def _summary_text(told: dict[str, object]) -> str:
    counts = told["verdicts"]
    assert isinstance(counts, dict)
    listed = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items())
    overlap, weight = told["overlap"], told["weight_overlap"]
    trait = f" ({told['trait']})" if told["trait"] else ""
    return (
        f"{told['accession']}{trait}: {overlap:.1%} of {told['rows']:,} rows found, {weight:.1%} by weight\n"
        f"  {listed}\n"
    )
