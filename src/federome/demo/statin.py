"""A scene of the demonstration: a patient's statin, chosen at home from the patient's own genotype."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from rich.table import Table as Grid

from federome.demo.stage import Stage, plain
from federome.ingest.pgx import read_genotypes
from federome.pgx.call import call
from federome.pgx.guidance import ACTIONS
from federome.pgx.report import OVERSIGHT, PersonReport, html, person_report
from federome.pgx.tables import tables

PATIENT: Final = "Justyna"
GENOTYPE: Final = {"rs4149056": "1/1", "rs2306283": "0/1", "rs12248560": "0/1", "rs3758581": "1/1"}
"""Unphased, as a laboratory gives it: SLCO1B1*5/*15, and CYP2C19*1/*17. Everything else is as most people have it."""


def statin(stage: Stage) -> None:
    """Coronary risk wants a statin; one transporter gene says which not."""
    stage.title(f"The right statin for {PATIENT}, from her own genes, at home")
    made = _report()
    transporter = made.genes["SLCO1B1"]
    avoided = [each for each in made.statins if each.action == "avoid"]
    first = [each for each in made.statins if each.place == 1]
    grid = Grid(
        title=f"{PATIENT}: SLCO1B1 {transporter.possible[0].name}, {transporter.phenotype}", title_justify="left"
    )
    for heading in ("place", "statin", "in short", "start with at most"):
        grid.add_column(heading)
    for each in made.statins:
        most = f"{each.ceiling_mg} mg a day" if each.ceiling_mg else ""
        grid.add_row(str(each.place), each.drug, ACTIONS[each.action], most)
    stage.console.print(grid)
    names = " nor ".join(each.drug for each in avoided)
    stage.console.print(
        f"  Her liver takes statins up slowly: more stays in the blood and muscles may suffer. Neither {names}; rather "
        f"{', '.join(each.drug for each in first)}, within these doses. {plain(OVERSIGHT.partition('.')[0])}."
    )
    stage.out.joinpath("statin.html").write_text(html(made))
    stage.facts.stories["statin"] = {
        "diplotype": transporter.possible[0].name,
        "phenotype": transporter.phenotype,
        "avoid": [each.drug for each in avoided],
        "first": [each.drug for each in first],
        "page": "statin.html",
    }


def _report() -> PersonReport:
    """From a VCF file, by the same way as ``federome pgx report``."""
    known = tables()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "patient.vcf"
        path.write_text(_vcf())
        found = read_genotypes(path, known.genes)
    calls = {name: call(gene, found.genes[name].of(0), known.rank) for name, gene in known.genes.items()}
    return person_report(known, PATIENT, found.assembly, calls)


def _vcf() -> str:
    sites = {(s.chromosome, s.position): s for gene in tables().genes.values() for s in gene.sites}
    head = ["##fileformat=VCFv4.2", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    head += [f"##contig=<ID={name}>" for name in sorted({chromosome for chromosome, _ in sites})]
    columns = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", PATIENT)
    lines = [*head, "\t".join(columns)]
    for (chromosome, position), site in sorted(sites.items()):
        call_ = "0" if chromosome == "MT" else GENOTYPE.get(site.rsid, "0/0")
        cells = (chromosome, str(position), ".", site.ref, site.alts[0], ".", ".", ".", "GT", call_)
        lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"
