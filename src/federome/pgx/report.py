"""The report of one person: genes, drugs, statins in order, and what was not tested, as data, page or text.

The same facts in three forms. Nothing is rounded up: a drug without advice says which gene is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

from federome import __version__
from federome.model.variant import Assembly
from federome.pgx.call import Call
from federome.pgx.guidance import ACTIONS, ORDER, Advice, RankedStatin, advise, rank_statins
from federome.pgx.outside import OutsideCall
from federome.pgx.phenotype import GeneResult, Possible, from_call, from_outside
from federome.pgx.tables import Tables

PURPOSE = (
    "Research output. This is not a medical device and not a diagnosis: it has not been through the conformity "
    "assessment of Regulation (EU) 2017/745 or 2017/746, and no clinical decision may rest on it alone. It helps a "
    "physician or pharmacist who knows the patient to see what published guidelines say about the genotypes in a file."
)
OVERSIGHT = (
    "A qualified person reads it, can leave every line of it aside, and decides. Before a drug or dose is changed the "
    "genotype is to be confirmed in an accredited laboratory. Other drugs, kidney and liver, age and diagnosis are not "
    "considered. Nobody should start, stop or change a drug because of this page alone."
)
METHOD = (
    "Rules, not learning: each line follows from the sites of a file by published tables, named with their version, "
    "and gives the same result each time."
)

NEWER = "Guidelines change: those that were read are named by their PMID, and later ones are not known here."
_INDENT = "      "


@dataclass(frozen=True, slots=True)
class PersonReport:
    """Everything said about one person's genes and drugs. ``untested`` are genes that advice would need."""

    sample: str
    assembly: Assembly
    tables: str
    genes: Mapping[str, GeneResult]
    advice: Sequence[Advice]
    statins: Sequence[RankedStatin]
    untested: Mapping[str, str]
    left_out: Mapping[str, str]


def person_report(
    tables: Tables,
    sample: str,
    assembly: Assembly,
    calls: Mapping[str, Call],
    outside: Mapping[str, OutsideCall] | None = None,
    frequencies: Mapping[str, Mapping[str, float]] | None = None,
) -> PersonReport:
    """What follows from one person's calls; outside calls go before them."""
    weights = frequencies or {}
    results = {gene: from_call(tables, call, weights.get(gene)) for gene, call in calls.items() if call.called}
    results |= {gene: from_outside(tables, each) for gene, each in (outside or {}).items()}
    advice = advise(tables, results)
    needed = {gene for each in advice for gene in each.genes}
    untested = dict.fromkeys(sorted(needed - results.keys()), "only by an outside call")
    untested |= {gene: call.why for gene, call in calls.items() if not call.called and gene not in results}
    genes = {gene: results[gene] for gene in sorted(results)}
    return PersonReport(sample, assembly, tables.title, genes, advice, rank_statins(advice), untested, tables.left_out)


def document(report: PersonReport) -> dict[str, object]:
    """The report as plain JSON values."""
    return {
        "kind": "federome pgx report",
        "version": __version__,
        "purpose": PURPOSE,
        "oversight": OVERSIGHT,
        "method": METHOD,
        "sample": report.sample,
        "assembly": report.assembly,
        "tables": report.tables,
        "genes": {gene: gene_document(result) for gene, result in report.genes.items()},
        "drugs": [_advice(each) for each in report.advice],
        "statins": [
            {
                "place": each.place,
                "drug": each.drug,
                "action": each.action,
                "ceiling_mg": each.ceiling_mg,
                "words": each.words,
            }
            for each in report.statins
        ],
        "untested": dict(report.untested),
        "alleles_left_out_of_the_tables": dict(report.left_out),
    }


def gene_document(result: GeneResult) -> dict[str, object]:
    """One gene as plain JSON values."""
    call = result.call
    found: dict[str, object] = {
        "source": result.source,
        "diplotypes": list(call.names) if call else [each.name for each in result.possible if each.name],
        "possible": [_possible(each) for each in result.possible],
        "phenotype": result.phenotype,
        "activity": result.activity,
    }
    if result.others:
        found["other_arrangements"] = [_possible(each) for each in result.others]
    if call:
        found |= call_facts(call)
    if result.notes:
        found["notes"] = list(result.notes)
    return found


def call_facts(call: Call) -> dict[str, object]:
    """What a call rests on: sites, and those that are missing, half or unknown."""
    found: dict[str, object] = {"sites": call.sites}
    for name, values in (
        ("missing", call.missing),
        ("half_called", call.halves),
        ("unknown_alleles", call.unknown),
        ("not_excluded", call.untested),
    ):
        if values:
            found[name] = list(values)
    if call.why:
        found["why"] = call.why
    return found


def _possible(each: Possible) -> dict[str, object]:
    return {
        "diplotype": each.name,
        "functions": list(each.functions),
        "activity": each.activity,
        "phenotype": each.phenotype,
        "probability": each.probability,
    }


def _advice(each: Advice) -> dict[str, object]:
    return {
        "drug": each.drug,
        "action": each.action or "not assessed",
        "ceiling_mg": each.ceiling_mg,
        "because": list(each.because),
        "missing_genes": list(each.missing),
        "recommendations": [
            {"population": rule.population, "action": rule.action, "words": rule.words, "source": rule.source}
            for rule in each.rules
        ],
        "guidelines": [
            {"gene": one.gene, "url": one.url, "level": one.level, "pmids": list(one.pmids)} for one in each.published
        ],
    }


def by_severity(advice: Sequence[Advice]) -> list[Advice]:
    """Drugs for which something is to be done first, the most restrictive on top."""
    return sorted((each for each in advice if each.action in ORDER[2:]), key=lambda e: (-ORDER.index(e.action), e.drug))


STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "body{color:#111;background:#fff}"
    "table{border-collapse:collapse;margin:1rem 0;width:100%}th,td{border:1px solid #999;padding:.2rem .6rem}"
    "th,td{text-align:left;vertical-align:top}caption{text-align:left;font-weight:600}"
    ".notice{border:2px solid #111;padding:.5rem 1rem}"
)


def html(report: PersonReport) -> str:
    """The report as one page: no script, nothing fetched."""
    title = f"Pharmacogenomic report: {report.sample}"
    body = "\n".join([f"<h1>{escape(title)}</h1>", notice_html(), *sections_html(report)])
    return page(title, body)


def page(title: str, body: str) -> str:
    """A whole HTML page."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def notice_html() -> str:
    """What the page is and is not, first of all."""
    texts = "".join(f"<p>{escape(text)}</p>" for text in (PURPOSE, OVERSIGHT, METHOD))
    return f'<section class="notice" aria-label="What this is">{texts}</section>'


def sections_html(report: PersonReport) -> list[str]:
    """Statins, drugs, genes, and what was not tested, as sections."""
    attention = by_severity(report.advice)
    quiet = [each.drug for each in report.advice if each.action == "usual"]
    return [
        "<h2>Drugs to look at</h2>",
        table("Drugs", ("Drug", "In short", "Because", "What the guideline says"), [_drug_row(e) for e in attention])
        if attention
        else "<p>No drug of the tables needs attention by what was tested.</p>",
        f"<p>Use as usual: {escape(', '.join(quiet) or 'none')}.</p>",
        *(f"<p>{escape(line)}</p>" for line in _open(report.advice)),
        "<h2>Statins in order</h2>",
        table(
            "Equal places: genes give no reason to prefer one. Potency, indication and other drugs decide.",
            ("Place", "Statin", "In short", "Start with at most"),
            [
                (str(s.place), s.drug, ACTIONS[s.action], f"{s.ceiling_mg} mg" if s.ceiling_mg else "")
                for s in report.statins
            ],
        ),
        "<h2>Genes</h2>",
        table("Genes", ("Gene", "Alleles", "Phenotype", "Remarks"), [_gene_row(r) for r in report.genes.values()]),
        "<h2>Not tested</h2>",
        table("Genes without a result", ("Gene", "Why"), list(report.untested.items())),
        f"<p>Alleles the tables leave out: {escape(', '.join(report.left_out))}. Structural variants are not read.</p>",
        f"<p>Federome {__version__}; {escape(report.tables)}; {report.assembly}. {NEWER}</p>",
    ]


def _open(advice: Sequence[Advice]) -> list[str]:
    """Drugs of which nothing can be said, in sentences: no recommendation, or no result to base one on."""
    silent = [each.drug for each in advice if each.action == "none"]
    unknown = [
        f"{each.drug} ({', '.join(each.missing) or '; '.join(each.because)})" for each in advice if not each.rules
    ]
    told = (
        ("The guidelines give no recommendation for", silent),
        ("Not assessed, for the genes or results in brackets", unknown),
    )
    return [f"{what}: {', '.join(drugs)}." for what, drugs in told if drugs]


def _drug_row(each: Advice) -> tuple[str, ...]:
    words = " ".join(
        f"{rule.population.capitalize() + ': ' if rule.population else ''}{rule.words}" for rule in each.rules
    )
    if pmids := dict.fromkeys(pmid for guideline in each.published for pmid in guideline.pmids):
        words += f" [CPIC, PMID {', '.join(pmids)}]"
    elif each.rules:
        words += f" [{'; '.join(dict.fromkeys(rule.source for rule in each.rules))}]"
    missing = f" (not tested: {', '.join(each.missing)})" if each.missing else ""
    return each.drug, ACTIONS[each.action], "; ".join(each.because) + missing, words


def _gene_row(result: GeneResult) -> tuple[str, ...]:
    names = " or ".join(result.call.names if result.call else [each.name for each in result.possible if each.name])
    if result.call and result.call.listed:
        names = ", ".join(result.call.names)
    missing = len(result.call.missing) if result.call else 0
    gaps = (f"{missing} of {result.call.sites} sites not called.",) if result.call and missing else ()
    origin = ("Called by another tool.",) if result.source == "outside" else ()
    said = result.phenotype or (
        "not the same for all" if any(each.phenotype for each in result.possible) else "no phenotype in the tables"
    )
    return result.gene, names, said, " ".join([*origin, *result.notes, *gaps])


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its caption; every cell is escaped."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def text(report: PersonReport) -> str:
    """The report for a terminal."""
    lines = [f"{report.sample} ({report.assembly})", "", *wrap(f"{PURPOSE} {OVERSIGHT}", 100), "", "Genes"]
    for result in report.genes.values():
        gene, names, phenotype, remarks = _gene_row(result)
        lines.append(f"  {gene:<9}{names:<34} {phenotype}{f'  [{remarks}]' if remarks else ''}")
    lines += ["", "Drugs to look at"]
    for each in by_severity(report.advice):
        drug, short, because, words = _drug_row(each)
        lines.append(f"  {drug:<24}{short:<20} {because}")
        lines += wrap(words, 100, initial_indent=_INDENT, subsequent_indent=_INDENT)
    for line in _open(report.advice):
        lines += ["", *wrap(line, 100)]
    lines += ["", "Statins in order"]
    for statin in report.statins:
        most = f", start with at most {statin.ceiling_mg} mg" if statin.ceiling_mg else ""
        lines.append(f"  {statin.place}. {statin.drug:<16}{ACTIONS[statin.action]}{most}")
    untested = ", ".join(f"{gene} ({why})" for gene, why in report.untested.items())
    return "\n".join([*lines, "", f"Not tested: {untested or 'nothing'}", f"Tables: {report.tables}. {NEWER}"]) + "\n"
