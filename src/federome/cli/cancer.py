"""Commands about cancer: studies into a node's store, variants interpreted, families handed to CanRisk."""

from __future__ import annotations

import csv
import io
import json
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federome.cli.edge import AsJson, NodeFolder, read_text, tell
from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.cancer.acmg import Classification
    from federome.cancer.cbioportal import Study
    from federome.cancer.findings import Carried
    from federome.cancer.pedigree import Pedigree
    from federome.model.variant import Variant

cancer_app = typer.Typer(no_args_is_help=True, help="Cancer: tumours, variants, families.")

Family = Annotated[Path, typer.Argument(help="A family as a .toml file.")]
Dataset = Annotated[str, typer.Option("--dataset", help="The dataset's id at this node.")]
Holder = Annotated[str, typer.Option(help="The organisation that holds the data.")]
Permission = Annotated[str, typer.Option(help="Data use: GRU, HMB, POA or NRES.")]


@cancer_app.command("import")
def import_study(
    study: Annotated[Path, typer.Argument(help="A cBioPortal study folder.")],
    node: NodeFolder,
    dataset: Dataset,
    holder: Holder,
    permission: Permission = "GRU",
    as_json: AsJson = False,
) -> None:
    """Load the patients and tumours of a cBioPortal study into a node's store, as a new dataset."""
    from federome.cancer.cbioportal import read_study

    _load(read_study(study), node, dataset, holder, permission, as_json=as_json)


@cancer_app.command("tumours")
def import_tumours(
    folder: Annotated[Path, typer.Argument(help="A folder with patients.tsv, samples.tsv, panels/ and VCFs.")],
    node: NodeFolder,
    dataset: Dataset,
    holder: Holder,
    permission: Permission = "GRU",
    as_json: AsJson = False,
) -> None:
    """Load a hospital's own patients and tumours (tumour and normal VCFs) into a node's store, as a new dataset."""
    from federome.cancer.tumours import read_folder

    _load(read_folder(folder), node, dataset, holder, permission, as_json=as_json)


@cancer_app.command("mcode")
def import_bundles(
    folder: Annotated[Path, typer.Argument(help="A folder of FHIR bundles (.json) in the manner of mCODE.")],
    node: NodeFolder,
    dataset: Dataset,
    holder: Holder,
    permission: Permission = "GRU",
    as_json: AsJson = False,
) -> None:
    """Load patients with cancer from FHIR bundles into a node's store, as a new dataset."""
    from federome.cancer.mcode import read_bundles

    _load(read_bundles(folder), node, dataset, holder, permission, as_json=as_json)


def _load(found: Study, node: Path, dataset: str, holder: str, permission: str, *, as_json: bool) -> None:
    from federome.cancer.load import load_study

    people = load_study(
        found, node / "data", dataset=dataset, holder=holder, permission=permission, released_on=date.today()
    )
    facts = {"study": found.name, "dataset": dataset, "patients": people, "skipped": dict(found.skipped)}
    skipped = ", ".join(f"{count} {reason}" for reason, count in found.skipped.items()) or "nothing"
    tell(facts, f"{people:,} patients of {found.name} are now dataset {dataset}; left out: {skipped}.", as_json)


@cancer_app.command("classify")
def classify(
    codes: Annotated[list[str], typer.Argument(help="ACMG/AMP criteria that are met: PVS1 PM2_Supporting …")],
    as_json: AsJson = False,
) -> None:
    """Add up ACMG/AMP evidence as points."""
    from federome.cancer import acmg

    found = acmg.classify([acmg.evidence(code) for code in codes])
    lines = [f"{found.verdict}: {found.points} points, posterior {found.posterior:.3f}"]
    lines += [f"  {each.code} {each.strength}: {each.points:+d}" for each in found.evidence]
    if found.mixed:
        lines.append("  There is evidence on both sides: look at it before anything is reported.")
    tell(asdict(found), "\n".join(lines), as_json)


@cancer_app.command("interpret")
def interpret(
    carried: Annotated[
        Path, typer.Argument(help="The person's VCF or BCF, or tab-separated: variant, gene, copies, criteria.")
    ],
    clinvar: Annotated[Path, typer.Option(help="clinvar.vcf.gz or variant_summary.txt.gz.")],
    person: Annotated[str, typer.Option(help="The person's pseudonym.")],
    hospital: Annotated[str, typer.Option(help="The treating hospital: the only one to be told.")],
    asked: Annotated[str, typer.Option(help="The genes it asked about, with commas.")],
    holder: Annotated[Path, typer.Option(help="The data holder's folder, for its queue of incidental findings.")],
    assembly: Annotated[str, typer.Option(help="GRCh38 or GRCh37.")] = "GRCh38",
    sample: Annotated[str, typer.Option(help="The person's sample, where a VCF has several.")] = "",
    as_json: AsJson = False,
) -> None:
    """Report pathogenic findings to the treating hospital; whatever else turns up goes to the data holder's queue."""
    from federome.cancer import clinvar as source
    from federome.cancer import findings
    from federome.model.variant import ASSEMBLIES

    wanted = next((each for each in ASSEMBLIES if each == assembly), None)
    if wanted is None:
        raise Invalid(f"no assembly is called {assembly[:20]!r}.", where="--assembly", remedy="GRCh38 or GRCh37.")
    known, genes = source.read(clinvar, wanted), asked.split(",")
    classified: dict[Variant, Classification] = {}
    skipped: dict[str, int] = {}
    if carried.name.endswith((".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")):
        from federome.cancer.germline import read_germline

        person_has = read_germline(carried, wanted, known, sample=sample, asked=genes)
        listed, skipped = list(person_has.carried), dict(person_has.skipped)
    else:
        listed, classified = _carried(carried, assembly)
    found = findings.interpret(listed, asked=genes, clinvar=known, classified=classified)
    today = date.today()
    findings.queue(holder, person, found, on=today)  # said nowhere, not even how many there were
    told = {**findings.report(person, found, hospital=hospital, on=today), "left_out": skipped}
    lines = [f"Report for {hospital} on {person}, {today.isoformat()}"]
    for each in found.asked:
        lines.append(f"  {each.gene} {each.variant}, {each.copies} of 2 copies: {each.verdict} ({each.source})")
        lines += [f"    {text}" for text in (*each.evidence, *([each.conflict] if each.conflict else []))]
    if skipped:
        lines.append(f"  Left out: {', '.join(f'{count} {reason}' for reason, count in skipped.items())}.")
    tell(told, "\n".join([*lines, f"  {told['note']}"]), as_json)


def _carried(path: Path, assembly: str) -> tuple[list[Carried], dict[Variant, Classification]]:
    from federome.cancer import acmg
    from federome.cancer.findings import Carried
    from federome.model.variant import Variant

    listed: list[Carried] = []
    classified: dict[Variant, Classification] = {}
    with io.StringIO(read_text(path), newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter="\t"), 2):
            where = f"{path}:{number}"
            try:
                chromosome, position, ref, alt = str(row["variant"]).split(":")
                variant = Variant.of(assembly, chromosome, int(position), ref, alt)
                listed.append(Carried(variant, str(row["gene"]), int(str(row["copies"]))))
            except (KeyError, ValueError) as error:
                raise Invalid(
                    "a line needs variant, gene and copies.", where=where, remedy="17:43045712:G:A"
                ) from error
            if codes := str(row.get("criteria") or "").split():
                classified[variant] = acmg.classify([acmg.evidence(code) for code in codes])
    return listed, classified


@cancer_app.command("canrisk")
def canrisk(
    family: Family,
    z: Annotated[float | None, typer.Option("--z", help="Polygenic z-score against the national reference.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Alpha of that score, as its publication states it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a family as a CanRisk pedigree file (version 4) to standard output."""
    from federome.cancer.pedigree import canrisk as written

    text = written(_family(family)[0], z=z, alpha=alpha)
    sys.stdout.write(json.dumps({"canrisk": text}) + "\n" if as_json else text)


@cancer_app.command("segregation")
def segregation(
    family: Family,
    by_age: Annotated[int, typer.Option("--by-age", min=20, max=100, help="Risk up to this age.")] = 80,
    as_json: AsJson = False,
) -> None:
    """Chance to carry the file's gene, and risk of its cancer: a lesser estimate than CanRisk's, and named so."""
    import msgspec

    from federome.cancer.pedigree import Gene
    from federome.cancer.pedigree import segregation as estimated

    pedigree, document = _family(family)
    if "gene" not in document:
        raise Invalid(
            "the file states no gene.", where=str(family), remedy="Add [gene] with frequency and penetrances."
        )
    try:
        gene = msgspec.convert(document["gene"], Gene, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"gene: {error}.", where=str(family)) from None
    found = estimated(pedigree, gene, by_age=by_age)
    text = f"Carries {gene.name}: {found.carrier:.1%}. {gene.cancer} by {found.by_age}: {found.risk:.1%}.\n{found.note}"
    tell({"gene": gene.name, **asdict(found)}, text, as_json)


def _family(path: Path) -> tuple[Pedigree, Mapping[str, object]]:
    import msgspec

    from federome.cancer.pedigree import Member, Pedigree

    try:
        document = tomllib.loads(read_text(path))
        members = msgspec.convert(document.get("member", []), tuple[Member, ...])
        return Pedigree(str(document.get("family", "")), str(document.get("target", "")), members), document
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise Invalid(f"the family cannot be read: {error}.", where=str(path)) from None
