"""Commands of matching: ``federome match run`` and ``query``. The package puts them on the tree."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federome.cli import cases, exchange
from federome.cli.edge import AsJson
from federome.cli.ontology import Chosen, installed
from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.analysis.match_search import Corpus, Match
    from federome.analysis.matching import Background, Explanation, Measure, Profile
    from federome.model.patient import Patient

match_app = typer.Typer(no_args_is_help=True, help="Find the second case: patients most like one.")

CorpusFiles = Annotated[list[Path], typer.Option("--corpus", help="Patients, one JSON object a line; may be repeated.")]
Top = Annotated[int, typer.Option("--top", min=1, max=100_000, help="How many candidates a query.")]
Rates = Annotated[
    Path | None,
    typer.Option("--background", help="Rates by gene: gene, tab, rate, or CSV of gene-background; else estimated."),
]
for name, command in (
    ("open", cases.open_),
    ("register", cases.register),
    ("candidates", cases.candidates),
    ("follow", cases.follow),
    ("cases", cases.cases),
    ("withdraw", cases.withdraw),
    ("find", cases.find),
    ("watch", cases.watch),
    ("send", cases.send),
    ("inbox", cases.inbox),
    ("accept", cases.accept),
    ("decline", cases.decline),
):
    match_app.command(name)(command)
match_app.command("key")(exchange.key)
match_app.command("serve")(exchange.serve)
match_app.command("ask")(exchange.ask)
MORE = {"allow_extra_args": True, "ignore_unknown_options": False}


@match_app.command("run", context_settings=MORE)
def run(
    context: typer.Context,
    corpus: CorpusFiles,
    queries: Annotated[Path, typer.Option("--queries", help="Patients to find matches for, in the same form.")],
    to: Annotated[Path, typer.Option("--out", help="Lines of query, candidate, score, separated by tabs.")],
    top: Top = 20,
    background: Rates = None,
    ontology: Chosen = None,
    as_json: AsJson = False,
) -> None:
    """Rank a corpus for every query; write the best to a file. Says what was ignored, and who cannot be matched."""
    from federome.ingest.patients import read_patients

    asked = list(read_patients(queries))
    made = _corpus([*corpus, *map(Path, context.args)], ontology)
    rates = _background(background, made)
    profiles = [made.measure.profile(patient) for patient in asked]
    unusable = [p.patient.id for p in profiles if not p.rows and not (rates and p.patient.genes)]
    lines = []
    with typer.progressbar(profiles, label="matching", file=sys.stderr, hidden=as_json) as shown:
        for profile in shown:
            lines += [f"{profile.patient.id}\t{m.patient.id}\t{m.score:.6f}\n" for m in made.rank(profile, top, rates)]
    to.write_text("".join(lines))
    silent = _silent(made.patients, made.measure)
    ignored = Counter(f"{each.term} ({each.why})" for profile in profiles for each in profile.ignored)
    facts = {
        "corpus": len(made.patients),
        "corpus_without_usable_term": silent,
        "queries": len(asked),
        "unusable_queries": unusable,
        "ignored_terms": dict(ignored),
        "notes": [f"{patient.id}: {note}" for patient in (*asked, *made.patients) for note in patient.notes],
        "lines": len(lines),
        "measure": made.measure.version,
        "background": None if rates is None else rates.source,
        "out": str(to),
    }
    _tell_run(facts, ignored, as_json=as_json)


def _tell_run(facts: dict[str, object], ignored: Counter[str], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    unusable = facts["unusable_queries"]
    assert isinstance(unusable, list)
    say = sys.stdout.write
    say(f"Queries: {facts['queries']}; cases: {facts['corpus']}; lines in {facts['out']}: {facts['lines']}.\n")
    say(f"Formula and tables: {facts['measure']}; genes: {facts['background'] or 'not used, no lists'}.\n")
    if silent := facts["corpus_without_usable_term"]:
        say(f"{silent} cases of the corpus have no usable term and can be found by genes only.\n")
    if unusable:
        say(f"No usable term or gene, so NOT matched (this is not 'no match'): {', '.join(unusable[:20])}")
        say(_more(unusable, 20) + "\n")
    notes = facts["notes"]
    assert isinstance(notes, list)
    for note in notes[:20]:
        say(f"  {note}\n")
    say(_more(notes, 20, "\n"))
    for term, times in ignored.most_common(10):
        say(f"  ignored {times}x in queries: {term}\n")
    say(_more(ignored, 10, "\n"))


def _more(listed: Sized, shown: int, end: str = "") -> str:
    """That there is more than was shown, and where all of it is."""
    return f"  and {len(listed) - shown:,} more; --json names all{end}" if len(listed) > shown else ""


@match_app.command("query")
def query(
    corpus: CorpusFiles,
    term: Annotated[list[str] | None, typer.Option("--term", help="An observed HPO term; may be repeated.")] = None,
    excluded: Annotated[list[str] | None, typer.Option("--excluded", help="A term looked for and absent.")] = None,
    gene: Annotated[list[str] | None, typer.Option("--gene", help="A candidate gene; may be repeated.")] = None,
    top: Top = 5,
    background: Rates = None,
    ontology: Chosen = None,
    as_json: AsJson = False,
) -> None:
    """Find cases like one described here, with the reasons for each."""
    from federome.analysis.match_search import LEAD_OVER
    from federome.analysis.matching import explain
    from federome.model.genes import approved
    from federome.model.patient import Patient

    made = _corpus(corpus, ontology)
    rates = _background(background, made)
    genes, notes = approved(gene or ())
    profile = made.measure.profile(Patient("\N{EM DASH}", tuple(term or ()), tuple(excluded or ()), genes))
    if genes and not rates:
        notes = (*notes, "genes were not compared: no case of the corpus has candidate genes")
    if not profile.rows and not (rates and genes):
        told = "; ".join([*(f"{each.term} ({each.why})" for each in profile.ignored), *notes]) or "none was given"
        raise Invalid(
            f"there is no usable term or gene: {told}.", where="--term", remedy="Give HPO terms of abnormalities."
        )
    listed = made.rank(profile, max(top, LEAD_OVER), rates)
    chances = made.chances(profile, listed, genes=rates is not None)[:top]
    found, silent = listed[:top], _silent(made.patients, made.measure)
    reasons = [explain(made.measure, profile, made.measure.profile(m.patient)) for m in found]
    if as_json:
        document = _document(profile, found, chances, reasons)
        sys.stdout.write(json.dumps({**document, "notes": notes, "corpus_without_usable_term": silent}) + "\n")
        return
    for each in profile.ignored:
        sys.stdout.write(f"ignored: {each.term} ({each.why})\n")
    sys.stdout.write("".join(f"{note}\n" for note in notes))
    none = f"None of {len(made.patients)} cases shares a usable term or gene.\n"
    sys.stdout.write("".join(_text(*each) for each in zip(found, chances, reasons, strict=True)) or none)
    if silent:
        sys.stdout.write(f"{silent} cases of the corpus have no usable term and can be found by genes only.\n")


def _document(
    profile: Profile, found: list[Match], chances: list[float], reasons: list[Explanation]
) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "ignored": [asdict(each) for each in profile.ignored],
        "matches": [
            {
                "id": m.patient.id,
                "score": round(m.score, 6),
                "phenotype": round(m.phenotype, 4),
                "gene_evidence": round(m.gene_evidence, 4),
                "closest": m.genetic.tier,
                "probability": round(chance, 3),
                "why": asdict(why),
            }
            for m, chance, why in zip(found, chances, reasons, strict=True)
        ],
    }


def _text(match: Match, chance: float, why: Explanation) -> str:
    head = f"{match.patient.id}: probability {chance:.0%} of a shared cause (phenotype {match.phenotype:.2f}"
    lines = [head + (f", gene {', '.join(why.genes)}: {match.gene_evidence:.1f} nats)" if match.gene_evidence else ")")]
    if match.genetic.tier not in (None, "gene"):
        lines.append(f"  closest: the same {match.genetic.tier} ({match.genetic.gene})")
    if why.copies_differ:
        lines.append(f"  copies differ (one here, both there, or the reverse): {', '.join(why.copies_differ)}")
    for name, terms in (
        ("both", why.shared),
        ("only the query", why.query_only),
        ("only the case", why.candidate_only),
        ("looked for and absent on one side", why.contradicted),
    ):
        if terms:
            told = "; ".join(
                f"{t.name} (1 in {t.one_in:,.0f}{'' if t.exact or name != 'both' else ', in general'})" for t in terms
            )
            lines.append(f"  {name}: {told}")
    return "\n".join(lines) + "\n"


def _corpus(files: list[Path], ontology: Path | None) -> Corpus:
    from federome.analysis.match_search import Corpus
    from federome.analysis.matching import Measure
    from federome.ingest.patients import read_patients

    patients = [patient for path in files for patient in read_patients(path)]
    if len({patient.id for patient in patients}) < len(patients):
        raise Invalid("two cases of the corpus have one id.", where="--corpus", remedy="Give each case its own id.")
    if not patients:
        raise Invalid("the corpus is empty.", where="--corpus")
    return Corpus.of(Measure.of(installed(ontology)), patients)


def _background(path: Path | None, corpus: Corpus) -> Background | None:
    from federome.analysis.matching import Background, estimate_background
    from federome.ingest.rates import read_rates

    if path is None:
        source = f"estimated from the lists of {len(corpus.patients)} cases"
        return estimate_background(corpus.patients, source=source) if corpus.by_gene else None
    rates = read_rates(path)
    return Background(rates, min(rates.values()), path.name)


def _silent(patients: tuple[Patient, ...], measure: Measure) -> int:
    """How many cases no phenotype can find."""
    return sum(not any(term in measure.usable for term in patient.observed) for patient in patients)
