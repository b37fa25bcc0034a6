"""Write a hospital folder: the plain files in which a data holder hands one batch to ``federome node ingest``.

The exact format is published in ``docs/reference/batch-folder.md``. In short, a folder holds

    manifest.toml        profile, assembly, dataset, policy, data use, and the fields constant for the batch
    genotypes.pgen       hard calls, biallelic, REF first; with
    genotypes.pvar       ##contig lines, #CHROM POS ID REF ALT [INFO], sorted, contigs without "chr"
    genotypes.psam       #IID SEX (1 man, 2 woman), in the order of the .pgen
    phenotypes.parquet   or phenotypes.csv: one row a person, lists as LIST or separated by ";"
    genes.bed            gene regions: chrom, start (0-based), end, name
    callable.bed         where a variant that is absent from the .pvar is reference for everyone in the batch

The demo's two sources of people, ``real`` and ``synthetic``, both end here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from federome.demo.genome import CHROMOSOME_LENGTHS, Gene
from federome.errors import Invalid
from federome.model.dataset import Profile
from federome.model.variant import Assembly

FORMAT = "federome-batch/1"

TomlValue = str | bool | int | float | Sequence[str]
Table = Mapping[str, TomlValue]

# The order of fields of SnpEff's ANN (Cingolani et al., "Variant annotations in VCF format", 1.0, 2015).
ANN_HEADER = (
    "##INFO=<ID=ANN,Number=.,Type=String,Description=\"Functional annotations: 'Allele | Annotation | "
    "Annotation_Impact | Gene_Name | Gene_ID | Feature_Type | Feature_ID | Transcript_BioType | Rank | HGVS.c | "
    "HGVS.p | cDNA.pos / cDNA.length | CDS.pos / CDS.length | AA.pos / AA.length | Distance | "
    "ERRORS / WARNINGS / INFO'\">"
)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``out`` and rename it to ``out`` at the end: whole or not there at all.

    Raises ``Invalid`` where ``out`` exists already: data of unknown origin is never overwritten.
    """
    if out.exists():
        raise Invalid("The folder exists already.", where=str(out), remedy="Remove it or name another folder.")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # the rest of a run that was killed
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_manifest(
    path: Path, *, profile: Profile, assembly: Assembly, synthetic: bool, tables: Mapping[str, Table]
) -> None:
    """Write ``manifest.toml``: the four keys of the batch, then ``tables`` in their order."""
    lines = list(_toml_lines({"format": FORMAT, "profile": profile, "assembly": assembly, "synthetic": synthetic}))
    for title, table in tables.items():
        lines += ["", f"[{title}]", *_toml_lines(table)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_pvar(
    path: Path,
    records: Iterable[str],
    *,
    chromosomes: Iterable[str],
    assembly: Assembly,
    source: str,
    annotated: bool = False,
) -> None:
    """Write the variant table; ``records`` are finished tab-separated lines without line ends, in file order."""
    header = ["##fileformat=VCFv4.3", f"##source={source}", f"##reference={assembly}"]
    header += [f"##contig=<ID={c},length={CHROMOSOME_LENGTHS[c]},assembly={assembly}>" for c in chromosomes]
    columns = "#CHROM\tPOS\tID\tREF\tALT"
    if annotated:
        header.append(ANN_HEADER)
        columns += "\tINFO"
    path.write_text("\n".join([*header, columns, *records]) + "\n", encoding="ascii")


def write_psam(path: Path, people: Sequence[str], male: Sequence[bool]) -> None:
    """Write the sample table, one line a person in the order of the genotypes; SEX as in PLINK, 1 man, 2 woman."""
    rows = (f"{person}\t{1 if man else 2}" for person, man in zip(people, male, strict=True))
    path.write_text("\n".join(["#IID\tSEX", *rows]) + "\n", encoding="utf-8")


def write_genes(path: Path, genes: Iterable[Gene]) -> None:
    """Write gene regions as four-column BED."""
    path.write_text("".join(f"{g.chromosome}\t{g.start0}\t{g.end}\t{g.name}\n" for g in genes), encoding="ascii")


def write_regions(path: Path, regions: Iterable[tuple[str, int, int]]) -> None:
    """Write regions (chromosome, 0-based start, end) as three-column BED."""
    path.write_text("".join(f"{c}\t{start0}\t{end}\n" for c, start0, end in regions), encoding="ascii")


def _toml_lines(table: Table) -> Iterator[str]:
    for key, value in table.items():
        yield f"{key} = {_toml_value(value)}"


def _toml_value(value: TomlValue) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            # a JSON string is a TOML basic string, but for the one control character that JSON leaves as it is
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int() | float():
            return repr(value)
        case _:
            return f"[{', '.join(_toml_value(item) for item in value)}]"
