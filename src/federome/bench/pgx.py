"""Pharmacogenomics: how many cases and phenotypes are as another tool has them, and how fast a whole biobank is called.

Cases, definitions and phenotypes of the peer are read from the shared data folder, where it is. The cohort is drawn
here: two named alleles a person and gene, a few of them common, unphased, with single further variants and gaps. Its
seconds are CPU seconds of this one process, so that other work on the machine changes little.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import process_time
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from federome.bench.report import Row, at_most
from federome.ingest.pgx import read_genotypes
from federome.pgx.call import call
from federome.pgx.cases import Outcome, own_definitions, run_cases, shared_definitions
from federome.pgx.cohort import call_everybody
from federome.pgx.genes import Gene, Genotype, Site
from federome.pgx.phenotype import from_call, phenotype
from federome.pgx.tables import tables

GENES: Final = (
    "ABCG2",
    "CACNA1S",
    "CFTR",
    "CYP2B6",
    "CYP2C19",
    "CYP2C9",
    "CYP3A5",
    "CYP4F2",
    "DPYD",
    "IFNL3",
    "NUDT15",
    "SLCO1B1",
    "TPMT",
    "UGT1A1",
    "VKORC1",
)
PEOPLE: Final = 100_000
SECONDS_BAR: Final = 120.0
SAME: Final = ("ABCG2", "CACNA1S", "CYP2C19", "CYP2C9", "CYP3A5", "DPYD", "MT-RNR1", "NUDT15", "TPMT", "UGT1A1")
STRAY, MISSING = 0.0002, 0.0005
"""Shares of calls with a variant beside the person's alleles, and of calls that are not there."""


def measure(console: Console, quick: bool) -> list[Row]:
    """Equality first, then a panel of 15 genes for everybody; the bar holds for full size."""
    shared = Path(os.environ.get("FEDEROME_SHARED") or Path(__file__).resolve().parents[3].parent / "shared")
    folder = shared / "data" / "pgx"
    rows: list[Row] = []
    if (folder / "definitions").is_dir():
        rows += [*_cases(folder), *_example(folder), *_phenotypes(folder)]
    else:
        console.print("The shared data folder is absent: equality is left out.", markup=False)
    with tempfile.TemporaryDirectory() as scratch:
        rows += _speed(Path(scratch), PEOPLE // 20 if quick else PEOPLE, bar=None if quick else SECONDS_BAR)
    return rows


# equality


def _cases(folder: Path) -> Iterator[Row]:
    listed = json.loads((folder / "cases" / "pharmcat_cases.json").read_text())
    for title, definitions in (
        ("its definitions", shared_definitions(folder, tables())),
        ("our tables", own_definitions(tables())),
    ):
        run = partial(run_cases, listed, definitions, vcf=partial(_vcf, folder), read_vcf=_read)
        found: Sequence[Outcome] = run()
        judged = sum(each.ok is not None for each in found)
        wrong = sum(each.ok is False for each in found)
        yield at_most(f"cases with {title}: different, of {judged} judged ({len(found)} in all)", wrong, "cases", 0)


def _vcf(folder: Path, name: str) -> Path:
    return folder / "cases" / "vcf" / name


def _read(path: Path, gene: Gene) -> Genotype:
    return read_genotypes(path, {gene.name: gene}, in_order=False).genes[gene.name].of(0)


def _example(folder: Path) -> Iterator[Row]:
    definitions = shared_definitions(folder, tables())
    wanted = json.loads((folder / "example" / "pharmcat.example.match.json").read_text())["results"]
    found = read_genotypes(folder / "example" / "pharmcat.example.vcf", definitions.genes)
    wrong = 0
    for row in wanted:
        made = call(definitions.genes[row["gene"]], found.genes[row["gene"]].of(0), definitions.rank)
        told = [(each.name, each.score) for each in made.diplotypes]
        wrong += told != [(each["name"], each["score"]) for each in row["diplotypes"]]
    yield at_most(f"example sample: genes whose diplotypes or scores differ, of {len(wanted)}", wrong, "genes", 0)


def _phenotypes(folder: Path) -> Iterator[Row]:
    wrong = compared = 0
    for path in sorted((folder / "phenotypes").glob("*.json*")):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        document = json.loads(content)
        if document["gene"] not in SAME:
            continue
        known = tables().alleles[document["gene"]]
        for row in document["diplotypes"]:
            alleles = _plain(row["diplotypekey"])
            if all(allele in known for allele in alleles):
                compared += 1
                wrong += phenotype(tables(), document["gene"], alleles).lower() != row["phenotype"].lower()
    yield at_most(f"phenotypes that differ, of {compared:,} diplotypes of {len(SAME)} genes", wrong, "diplotypes", 0)


def _plain(counts: Mapping[str, float]) -> list[str]:
    """Allele names as our tables have them: single-site alleles by the site alone."""
    names = [name for name, count in counts.items() for _ in range(int(count))]
    return ["Reference" if " reference " in name else name.partition(" variant ")[0] for name in names]


# speed


def _speed(folder: Path, people: int, *, bar: float | None) -> Iterator[Row]:
    known = tables()
    genes = {name: known.genes[name] for name in GENES}
    path = folder / "cohort.vcf"
    _write(path, genes, people)
    started = process_time()
    found = read_genotypes(path, genes)
    read = process_time() - started
    distinct = 0
    for name, gene in genes.items():
        calls = call_everybody(gene, found.genes[name], known.rank)
        distinct += len(calls.calls)
        for each in calls.calls:
            from_call(known, each)
    whole = process_time() - started
    yield at_most(f"{people:,} people, 15 genes: from VCF to phenotypes, one core", whole, "s", bar)
    yield at_most(f"of it reading {path.stat().st_size / 1e6:.0f} MB of VCF", read, "s", None)
    yield at_most(f"of it calling {distinct:,} distinct genotypes", whole - read, "s", None)
    yield at_most("people a second and gene", people * len(genes) / whole, "", None)


def _write(path: Path, genes: Mapping[str, Gene], people: int) -> None:
    """Unphased genotypes in genome order."""
    draw = np.random.default_rng(7)
    calls = np.frombuffer(b"\t0/0\t0/1\t1/1\t./.", np.uint8).reshape(4, 4)
    lines = [line for gene in genes.values() for line in _lines(gene, people, draw)]
    with path.open("wb") as file:
        file.write(b"##fileformat=VCFv4.2\n")
        for chromosome in sorted({site.chromosome for site, _ in lines}):
            file.write(f"##contig=<ID=chr{chromosome}>\n".encode())
        file.write(b'##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n')
        names = "\t".join(f"P{number}" for number in range(people))
        file.write(f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}\n".encode())
        for site, copies in sorted(lines, key=lambda line: (line[0].chromosome, line[0].position)):
            place = f"chr{site.chromosome}\t{site.position}\t.\t{site.ref}\t{site.alts[0]}\t.\t.\t.\tGT"
            file.write(place.encode() + calls[copies].tobytes() + b"\n")


def _lines(gene: Gene, people: int, draw: np.random.Generator) -> list[tuple[Site, NDArray[np.int64]]]:
    """Each site with everybody's copies of its first ALT (3: not called). Frequencies of alleles fall as 1/rank."""
    weights = 1 / np.arange(1, len(gene.alleles) + 1)
    drawn = draw.choice(len(gene.alleles), size=(2, people), p=weights / weights.sum())
    carried = (gene.accepts & 2 != 0) & (gene.accepts & 1 == 0)  # the first ALT, and not REF
    lines = []
    for number, site in enumerate(gene.sites):
        copies = carried[drawn, number].sum(axis=0) + (draw.random(people) < STRAY)
        lines.append((site, np.where(draw.random(people) < MISSING, 3, np.minimum(copies, 2))))
    return lines
