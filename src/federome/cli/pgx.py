"""Commands of pharmacogenomics: ``federome pgx report``, ``call``, ``frequencies``, ``sites``, ``cases``.

They read files at home; nothing of them can be asked over the network.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federome.cli.edge import AsJson, read_text
from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.pgx.call import Call, Options
    from federome.pgx.cases import Definitions
    from federome.pgx.cohort import Genotypes
    from federome.pgx.genes import Gene, Genotype
    from federome.pgx.report import PersonReport

pgx_app = typer.Typer(no_args_is_help=True, help="Pharmacogenomics at home: genotypes, phenotypes, drugs.")

Vcf = Annotated[Path, typer.Argument(help="VCF, BCF or gVCF; GRCh38, or GRCh37 by the tables' own positions.")]
Build = Annotated[str, typer.Option("--assembly", help="GRCh37 or GRCh38; read from the header if omitted.")]
Fasta = Annotated[Path | None, typer.Option("--fasta", help="Reference sequence with .fai, to left-align indels.")]
Least = Annotated[
    float, typer.Option("--minimum", min=0, max=1, help="Share of a gene's sites that must be called to call the gene.")
]
Weights = Annotated[
    Path | None, typer.Option("--frequencies", help="Allele frequencies (gene, allele, frequency), to weigh doubts.")
]
Research = Annotated[
    bool, typer.Option("--combinations", help="Research mode: write several alleles on one strand where nothing fits.")
]
MINIMUM = 0.75


@pgx_app.command("report")
def report(
    vcf: Vcf,
    outside: Annotated[Path | None, typer.Option("--outside", help="Calls of other tools (CYP2D6, HLA …).")] = None,
    sample: Annotated[str, typer.Option("--sample", help="Which person, where the file has several.")] = "",
    assembly: Build = "",
    fasta: Fasta = None,
    minimum: Least = MINIMUM,
    frequencies: Weights = None,
    combinations: Research = False,
    as_json: AsJson = False,
    as_html: Annotated[bool, typer.Option("--html", help="Print one HTML page.")] = False,
) -> None:
    """Everything the genes of one person say about drugs. Research output: a qualified person decides."""
    from federome.pgx.report import document, html, text

    if as_json and as_html:
        raise Invalid("ask for JSON or for HTML, not for both.", where="--html")
    options = _options(minimum, combinations=combinations)
    made = one_person(vcf, sample, outside, assembly, fasta, frequencies, options)
    sys.stdout.write(json.dumps(document(made)) + "\n" if as_json else html(made) if as_html else text(made))


def one_person(
    vcf: Path,
    sample: str,
    outside: Path | None,
    assembly: str,
    fasta: Path | None,
    frequencies: Path | None,
    options: Options,
) -> PersonReport:
    """The report of one person of a file."""
    from federome.pgx.call import call
    from federome.pgx.frequency import read_frequencies
    from federome.pgx.outside import read_outside
    from federome.pgx.report import person_report
    from federome.pgx.tables import tables

    known = tables()
    calls_of = {} if outside is None else read_outside(read_text(outside), where=str(outside))
    weights = {} if frequencies is None else read_frequencies(read_text(frequencies), where=str(frequencies))
    found = _read(vcf, known.genes, assembly, fasta)
    person = _person(found.people, sample, vcf)
    calls = {name: call(gene, found.genes[name].of(person), known.rank, options) for name, gene in known.genes.items()}
    return person_report(known, found.people[person], found.assembly, calls, calls_of, weights)


@pgx_app.command("call")
def call_people(
    vcf: Vcf,
    assembly: Build = "",
    fasta: Fasta = None,
    minimum: Least = MINIMUM,
    combinations: Research = False,
    as_json: AsJson = False,
) -> None:
    """Diplotypes and phenotypes of everybody in a file."""
    from federome.pgx.cohort import call_everybody
    from federome.pgx.phenotype import from_call
    from federome.pgx.tables import tables

    known = tables()
    options = _options(minimum, combinations=combinations)
    found = _read(vcf, known.genes, assembly, fasta)
    told: list[tuple[str, list[str], Sequence[int]]] = []
    for name, gene in known.genes.items():
        calls = call_everybody(gene, found.genes[name], known.rank, options)
        results = [from_call(known, each) for each in calls.calls]
        if as_json:
            texts = [_gene_json(each, result.phenotype) for each, result in zip(calls.calls, results, strict=True)]
        else:
            texts = [_cell(each) for each in calls.calls]
        told.append((name, texts, calls.of.tolist()))
    if not as_json:
        sys.stdout.write("\t".join(["sample", *(name for name, _, _ in told)]) + "\n")
    else:
        head = {"tables": known.title, "assembly": found.assembly, "minimum": minimum}
        sys.stdout.write(json.dumps(head)[:-1] + ', "samples": [\n')
    for person, sample in enumerate(found.people):
        if as_json:
            cells = ", ".join(f'"{name}": {texts[of[person]]}' for name, texts, of in told)
            end = "\n]}\n" if person + 1 == len(found.people) else ",\n"
            sys.stdout.write(f'{{"sample": {json.dumps(sample)}, "genes": {{{cells}}}}}{end}')
        else:
            sys.stdout.write("\t".join([sample, *(texts[of[person]] for _, texts, of in told)]) + "\n")


def _cell(call: Call) -> str:
    """Diplotypes, and on how many sites they rest where that is less than a call usually needs."""
    names = " or ".join(call.names) or "-"
    there = call.sites - len(call.missing)
    return f"{names} ({there} of {call.sites} sites)" if call.called and there < MINIMUM * call.sites else names


def _gene_json(call: Call, phenotype: str) -> str:
    from federome.pgx.report import call_facts

    return json.dumps(
        {"called": call.called, "diplotypes": list(call.names), "phenotype": phenotype} | call_facts(call)
    )


@pgx_app.command("frequencies")
def frequencies(vcf: Vcf, assembly: Build = "", fasta: Fasta = None, as_json: AsJson = False) -> None:
    """Allele frequencies of a cohort, estimated where strands are unknown; for --frequencies."""
    from federome.pgx.cohort import call_everybody
    from federome.pgx.frequency import estimate
    from federome.pgx.tables import tables

    known = tables()
    found = _read(vcf, known.genes, assembly, fasta)
    options = _options(MINIMUM, combinations=False)
    tells = {
        name: estimate(call_everybody(gene, found.genes[name], known.rank, options))
        for name, gene in known.genes.items()
        if not gene.lowest_function
    }
    if as_json:
        sys.stdout.write(json.dumps({"people": len(found.people), "frequencies": tells}) + "\n")
        return
    sys.stdout.write("gene\tallele\tfrequency\n")
    for name, alleles in tells.items():
        sys.stdout.write("".join(f"{name}\t{allele}\t{value:.9g}\n" for allele, value in alleles.items()))


@pgx_app.command("sites")
def sites(assembly: Build = "GRCh38", as_json: AsJson = False) -> None:
    """Every position the tables need, to call variants at: chromosome, position, REF, ALT, rsID, gene."""
    from federome.model.variant import assembly_name, chromosome_rank
    from federome.pgx.tables import tables

    old = assembly_name(assembly) == "GRCh37"
    rows = [
        (s.chromosome, s.position37 if old else s.position, s.ref37 if old else s.ref, ",".join(s.alts), s.rsid, name)
        for name, gene in tables().genes.items()
        for s in gene.sites
    ]
    rows.sort(key=lambda row: (chromosome_rank(row[0]), row[1]))
    if as_json:
        names = ("chromosome", "position", "ref", "alts", "rsid", "gene")
        sys.stdout.write(json.dumps({"sites": [dict(zip(names, row, strict=True)) for row in rows]}) + "\n")
        return
    sys.stdout.write("".join("\t".join(str(cell) for cell in row) + "\n" for row in rows))


@pgx_app.command("cases")
def cases(
    file: Annotated[Path, typer.Argument(help="Cases as JSON; VCFs they name are in the folder vcf beside it.")],
    own: Annotated[
        bool, typer.Option("--own", help="Use the product's tables also where shared definitions are.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the cases of a matcher test suite. Ends with 1 if one fails; cases out of scope count apart."""
    from federome.pgx.cases import run_cases

    definitions = _definitions(own=own)
    listed = _cases(file)
    outcomes = run_cases(listed, definitions, vcf=lambda name: _case_vcf(file, name), read_vcf=_case_genotype)
    counts = {
        "equal": sum(each.ok is True for each in outcomes),
        "different": sum(each.ok is False for each in outcomes),
        "out_of_scope": sum(each.ok is None for each in outcomes),
    }
    if as_json:
        facts = {"definitions": definitions.title, **counts, "cases": [each.document() for each in outcomes]}
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        for each in outcomes:
            if each.ok is not True:
                sys.stdout.write(f"{each.id}: {'out of scope' if each.ok is None else 'different'} {each.note}\n")
        told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        sys.stdout.write(f"{told}. Definitions: {definitions.title}\n")
    if counts["different"]:
        raise typer.Exit(1)


def _definitions(*, own: bool) -> Definitions:
    from federome.pgx.cases import own_definitions, shared_definitions
    from federome.pgx.tables import tables

    folder = shared_folder()
    if own or folder is None:
        return own_definitions(tables())
    return shared_definitions(folder, tables())


def shared_folder() -> Path | None:
    """The pharmacogenomic part of the shared reference data, where there is one."""
    root = Path(os.environ.get("FEDEROME_SHARED") or "../shared")
    folder = root / "data" / "pgx"
    return folder if (folder / "definitions").is_dir() else None


def _cases(file: Path) -> list[Mapping[str, object]]:
    try:
        listed = json.loads(read_text(file))
    except (ValueError, RecursionError):
        raise Invalid("this is not JSON.", where=str(file), remedy="See docs/how-to/drugs-from-genes.md.") from None
    if not isinstance(listed, list) or not all(isinstance(each, dict) and "id" in each for each in listed):
        raise Invalid("this is no list of cases.", where=str(file), remedy="Each case is an object with an id.")
    return listed


def _case_vcf(file: Path, name: str) -> Path:
    folders = [file.parent / "vcf", file.parent]
    if (shared := shared_folder()) is not None:
        folders.append(shared / "cases" / "vcf")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise Invalid("a VCF that a case names is missing.", where=name, remedy=f"Put it into {folders[0]}.")


def _case_genotype(path: Path, gene: Gene) -> Genotype:
    from federome.ingest.pgx import read_genotypes

    return read_genotypes(path, {gene.name: gene}, in_order=False).genes[gene.name].of(0)


def _read(vcf: Path, genes: Mapping[str, Gene], assembly: str, fasta: Path | None) -> Genotypes:
    from federome.ingest.fasta import Fasta
    from federome.ingest.pgx import read_genotypes
    from federome.model.variant import assembly_name

    bases = None if fasta is None else Fasta.open(fasta).sequence
    return read_genotypes(vcf, genes, assembly=assembly_name(assembly) if assembly else None, bases=bases)


def _options(minimum: float, *, combinations: bool) -> Options:
    from federome.pgx.call import Options

    return Options(minimum=minimum, combinations=combinations)


def _person(people: Sequence[str], wanted: str, vcf: Path) -> int:
    if wanted in people:
        return list(people).index(wanted)
    if wanted or len(people) != 1:
        what = "nobody has that name" if wanted else f"the file holds {len(people)} people"
        raise Invalid(f"{what}.", where=str(vcf), remedy="Name one of them: --sample NAME.")
    return 0
