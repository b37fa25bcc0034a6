"""Commands of polygenic scores, ``federome prs …``: matching, scoring, references, one person's report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from federome.cli.edge import AsJson
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
MinOverlap = Annotated[
    float, typer.Option("--min-overlap", min=0, max=1, help="Share of rows without which no score is computed.")
]
WithoutUnscorable = Annotated[
    bool, typer.Option("--without-unscorable", help="Compute what remains without rows that are no allele sums.")
]


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
    min_overlap: MinOverlap = 0.75,
    without_unscorable: WithoutUnscorable = False,
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
        called = found.called().T
    told: list[dict[str, object]] = []
    for each, values, shares in zip(scores.matched, scores.values.T.tolist(), called, strict=True):
        few = {"people_below_minimum": int((shares < min_overlap - 1e-9).sum()), "least_called": float(shares.min())}
        summary = _summary(each) | {"minimum_overlap": min_overlap, "people": len(scores.people)} | few
        told.append(summary if out else summary | {"values": values})
    if out is not None:
        write_scores(scores, out)
    if as_json:
        sys.stdout.write(json.dumps({"scores": told, "out": None if out is None else str(out)}) + "\n")
        return
    for summary in told:
        sys.stdout.write(_summary_text(summary))
        if summary["people_below_minimum"]:
            sys.stdout.write(
                f"  {summary['people_below_minimum']:,} of {len(scores.people):,} people have a genotype of fewer than"
                f" {min_overlap:.1%} of the rows (the least {summary['least_called']:.1%}): their scores are means of"
                " others\n"
            )
    if out is not None:
        sys.stdout.write(f"Scores of {len(scores.people):,} people are in {out}\n")
        return
    names = "\t".join(each.score.accession for each in scores.matched)
    sys.stdout.write(f"person\t{names}\n")
    for person, row in zip(scores.people, scores.values.tolist(), strict=True):
        sys.stdout.write("\t".join([person, *(f"{value:.6g}" for value in row)]) + "\n")


@prs_app.command("keep")
def keep_command(
    file: Annotated[Path, typer.Argument(help="One scoring file.")],
    folder: Annotated[Path, typer.Option("--dir", help="The node's folder.")],
    dataset: Annotated[str, typer.Option("--dataset", help="The dataset whose people are scored.")],
    trained_on: Annotated[
        Path | None,
        typer.Option("--trained-on", help="Names, one a line, of people the score was trained on: they get none."),
    ] = None,
    min_overlap: MinOverlap = 0.75,
    without_unscorable: WithoutUnscorable = False,
    keep_ambiguous: KeepAmbiguous = False,
    build: Build = "",
    as_json: AsJson = False,
) -> None:
    """Score everybody of a node's dataset, as a column that approved algorithms can read. Nothing leaves."""
    from federome.prs.files import read_names
    from federome.prs.keep import keep_score
    from federome.prs.scorefile import read_scores
    from federome.store.catalogue import Store

    store = Store.open(folder / "data")
    names = read_names(trained_on) if trained_on else frozenset()
    told: list[dict[str, object]] = []
    for score in read_scores(file, build=build):
        kept = keep_score(
            store,
            dataset,
            score,
            min_overlap=min_overlap,
            without_unscorable=without_unscorable,
            keep_ambiguous=keep_ambiguous,
            trained_on=names,
        )
        without = {"people_below_minimum": kept.few, "people_trained_on": kept.trained}
        batches = [_summary(each) for each in kept.matched]
        about = {"column": kept.column, "people": kept.people, "overlap": kept.overlap}
        told.append({**about, "minimum_overlap": min_overlap, **without, "batches": batches})
    if as_json:
        sys.stdout.write(json.dumps({"kept": told}) + "\n")
        return
    for each in told:
        sys.stdout.write(
            f"{each['column']}: {each['people']:,} people, at least {each['overlap']:.1%} of the rows found"
            " in each batch\n"
        )
        if each["people_below_minimum"]:
            sys.stdout.write(
                f"  without a score, for they have a genotype of fewer than {min_overlap:.1%} of the rows:"
                f" {each['people_below_minimum']:,}\n"
            )
        if trained_on:
            sys.stdout.write(
                f"  without a score, for it was trained on them: {each['people_trained_on']:,},"
                f" of the {len(names):,} people named in {trained_on}\n"
            )


@prs_app.command("panel")
def panel_command(
    out: Annotated[Path, typer.Option("--out", help="Where the panel goes (JSON); it holds no person.")],
    genotypes: Annotated[
        Path | None, typer.Option("--genotypes", "-g", help="A VCF or BCF of the reference's unrelated people.")
    ] = None,
    people: Annotated[
        Path | None, typer.Option("--people", help="Table of the people, tab-separated, with their labels.")
    ] = None,
    result: Annotated[
        Path | None, typer.Option("--result", help="Instead of both: folder of a saved run of ancestry-components.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="The column of labels.")] = "Population",
    components: Annotated[int, typer.Option("--components", min=1, max=20, help="How many components.")] = 10,
    leave_out: Annotated[
        Path | None, typer.Option("--leave-out", help="Regions of long-range linkage: chromosome, start, end.")
    ] = None,
    source: Annotated[str, typer.Option("--source", help="What the reference is, in words.")] = "",
    assembly: Assembly = "",
    as_json: AsJson = False,
) -> None:
    """Principal components of a public reference, or of a run over nodes, onto which people are projected at home."""
    from federome.prs.files import build_panel, panel_from_result

    if result is not None:
        panel = panel_from_result(result, source)
    elif genotypes is not None and people is not None:
        panel = build_panel(genotypes, people, by, components, leave_out, source or "public panel", assembly)
    else:
        raise Invalid("give --genotypes and --people, or --result.", where="--genotypes")
    out.write_text(json.dumps(panel.document()) + "\n")
    names = list(panel.populations)
    told = {"variants": len(panel.variants), "components": panel.components, "populations": names}
    text = f"{len(panel.variants):,} variants, {panel.components} components, {len(names)} populations: {out}\n"
    sys.stdout.write(json.dumps(told | {"out": str(out)}) + "\n" if as_json else text)


@prs_app.command("reference")
def reference_command(
    out: Annotated[Path, typer.Option("--out", help="Where the reference goes (JSON); it holds no person.")],
    score: Annotated[str, typer.Option("--score", help="Accession of the score, and its column in a table.")],
    result: Annotated[Path | None, typer.Option("--result", help="Folder of a saved run of prs-reference.")] = None,
    adjustment: Annotated[
        Path | None, typer.Option("--adjustment", help="Folder of a saved run of prs-adjustment.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", help="Or scores of public people, as federome prs score writes them.")
    ] = None,
    people: Annotated[Path | None, typer.Option("--people", help="Table of these people, with labels.")] = None,
    by: Annotated[str, typer.Option("--by", help="The column of labels.")] = "Population",
    source: Annotated[str, typer.Option("--source", help="What the reference is, in words.")] = "",
    as_json: AsJson = False,
) -> None:
    """What scores are read against: from released results of the network, or from public people."""
    from federome.prs.files import reference_from_result, reference_from_table

    if (result is None) == (table is None) or (table is not None and people is None):
        raise Invalid("a reference comes from a result, or from a table and its people.", where="--result, --table")
    if result is not None:
        made = reference_from_result(score, result, adjustment, source)
    else:
        assert table is not None
        assert people is not None
        made = reference_from_table(score, table, people, by, source or "public people")
    out.write_text(json.dumps(made.document()) + "\n")
    groups = {name: group.people for name, group in made.groups.items()}
    if as_json:
        sys.stdout.write(json.dumps({"score": score, "groups": groups, "out": str(out)}) + "\n")
        return
    sys.stdout.write(f"{score} in {len(groups)} groups of {sum(groups.values()):,} people: {out}\n")


@prs_app.command("report")
def report_command(
    file: Annotated[Path, typer.Argument(help="One scoring file.")],
    genotypes: Genotypes,
    against: Annotated[Path, typer.Option("--against", help="The reference: see federome prs reference.")],
    nation: Annotated[str, typer.Option("--nation", help="The person's own group in the reference.")] = "",
    panel: Annotated[Path | None, typer.Option("--panel", help="Ancestry panel: see federome prs panel.")] = None,
    risk: Annotated[float | None, typer.Option("--risk", help="Mean risk of the disease in the nation.")] = None,
    risk_years: Annotated[int, typer.Option("--risk-years", min=1, help="Within how many years.")] = 10,
    log_odds: Annotated[float | None, typer.Option("--log-odds", help="Log odds ratio per standard deviation.")] = None,
    log_odds_se: Annotated[float, typer.Option("--log-odds-se", min=0, help="Its standard error.")] = 0.0,
    risk_source: Annotated[str, typer.Option("--risk-source", help="Where risk and odds are from.")] = "as given",
    assembly: Assembly = "",
    build: Build = "",
    callable_bed: Callable_ = None,
    reference: Reference = None,
    frequencies: Frequencies = None,
    min_overlap: MinOverlap = 0.75,
    as_json: AsJson = False,
) -> None:
    """One person's score beside every reference that fits, with its interval, ancestry fit and match."""
    from dataclasses import replace

    from federome.prs.files import report_person
    from federome.prs.person import PURPOSE
    from federome.prs.reference import Incidence

    if (risk is None) != (log_odds is None):
        raise Invalid("a risk needs --risk and --log-odds.", where="--risk")
    incidence = None
    if risk is not None and log_odds is not None:
        incidence = Incidence(risk, log_odds, log_odds_se, risk_years, risk_source)
    options = replace(
        _options(assembly, build, "federome", "refuse", False, callable_bed, reference, frequencies),
        min_overlap=min_overlap,
    )
    found = report_person(file, genotypes, against, options, nation=nation, panel=panel, incidence=incidence)
    if as_json:
        sys.stdout.write(json.dumps(found.document() | {"purpose": PURPOSE}) + "\n")
        return
    lines = [f"{found.accession} {found.trait}".strip(), *(reading.text for reading in found.readings)]
    lines += [found.risk.text] if found.risk else []
    sys.stdout.write("\n".join([*lines, *(f"! {warning}" for warning in found.warnings), PURPOSE]) + "\n")


@prs_app.command("evaluate")
def evaluate_command(
    table: Annotated[Path, typer.Argument(help="Scores, as federome prs score writes them.")],
    score: Annotated[str, typer.Option("--score", help="The score's column.")],
    people: Annotated[Path, typer.Option("--people", help="Table of these people with phenotypes, tab-separated.")],
    phenotype: Annotated[str, typer.Option("--phenotype", help="Its 0/1 column of cases.")],
    populations: Annotated[list[str] | None, typer.Option("--population", help="Only these, each by itself.")] = None,
    by: Annotated[str, typer.Option("--by", help="The column of populations.")] = "population",
    as_json: AsJson = False,
) -> None:
    """How well a score tells cases from controls in own data; over nodes, run prs-evaluate."""
    from federome.prs.files import evaluate_table

    found = evaluate_table(table, score, people, phenotype, tuple(populations or ()), by)
    told = {name: each.records() for name, each in found.items()}
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
        return
    for row in told["groups"]:
        odds = (
            f"{row['odds_ratio']:.3f} ({row['odds_low']:.3f} to {row['odds_high']:.3f})" if row["odds_ratio"] else "-"
        )
        area = f"{row['auc']:.3f} ({row['auc_low']:.3f} to {row['auc_high']:.3f})" if row["auc"] else "-"
        cases = f"{row['cases']:,} cases, {row['controls']:,} controls"
        sys.stdout.write(f"{row['population']}: {cases}; odds per SD {odds}; AUC {area}\n")


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
