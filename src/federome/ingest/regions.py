"""Gene regions (BED or GFF3) and callable intervals (BED) of a batch folder.

Read once at the beginning of an ingest; contigs that the product does not store are left out.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from federome.errors import Invalid
from federome.ingest.contigs import check_position, stored_chromosome
from federome.model.variant import Assembly, is_position
from federome.store.stretches import GeneRegion, Interval

_GENE_TYPES = frozenset({"gene", "ncRNA_gene", "pseudogene", "protein_coding_gene"})


def read_genes(path: Path, assembly: Assembly) -> list[GeneRegion]:
    """Gene regions from BED (``.bed``) or GFF3 (``.gff``, ``.gff3``), ``.gz`` allowed; ``Invalid`` names the line."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".bed"):
        return [GeneRegion(_symbol(rest, where), *place) for place, rest, where in _bed(path, assembly)]
    if name.endswith((".gff", ".gff3")):
        return list(_gff_genes(path, assembly))
    raise Invalid("gene regions have an unknown format.", where=str(path), remedy="Use .bed, .gff or .gff3.")


def read_intervals(path: Path, assembly: Assembly) -> list[Interval]:
    """Intervals of a BED file, joined where they touch and sorted as in the file; ``Invalid`` names the line."""
    joined: list[Interval] = []
    for (chromosome, start, end), _, where in _bed(path, assembly):
        last = joined[-1] if joined and joined[-1].chromosome == chromosome else None
        if last and start < last.start:
            raise Invalid("the intervals are not sorted.", where=where, remedy="Sort them: sort -k1,1V -k2,2n")
        if last and start <= last.end + 1:
            joined[-1] = Interval(chromosome, last.start, max(end, last.end))
        else:
            joined.append(Interval(chromosome, start, end))
    return joined


def _symbol(rest: list[str], where: str) -> str:
    if not rest or not rest[0].strip():
        raise Invalid("a gene has no name.", where=where, remedy="Name it in the fourth column.")
    return rest[0].strip()


def _bed(path: Path, assembly: Assembly) -> Iterator[tuple[tuple[str, int, int], list[str], str]]:
    """(chromosome, start, end) 1-based inclusive, the further columns, and where the line stands."""
    for number, line in _lines(path):
        if line.startswith(("track", "browser")):
            continue
        where = f"{path}:{number}"
        fields = line.split("\t")
        if (
            len(fields) < 3
            or not is_position(fields[1])
            or not is_position(fields[2])
            or int(fields[1]) >= int(fields[2])
        ):
            raise Invalid(
                "a BED line needs chromosome, start and a larger end, separated by tabs.",
                where=where,
                remedy="Starts count from 0; write 0-based, half-open intervals.",
            )
        chromosome = stored_chromosome(fields[0])
        if chromosome:
            check_position(chromosome, int(fields[2]), assembly, where=where)
            yield (chromosome, int(fields[1]) + 1, int(fields[2])), fields[3:], where


def _gff_genes(path: Path, assembly: Assembly) -> Iterator[GeneRegion]:
    for number, line in _lines(path):
        where, fields = f"{path}:{number}", line.split("\t")
        if (
            len(fields) != 9
            or not is_position(fields[3])
            or not is_position(fields[4])
            or int(fields[3]) > int(fields[4])
        ):
            raise Invalid("a GFF3 line has nine columns, start before end.", where=where, remedy="See the GFF3 format.")
        chromosome = stored_chromosome(fields[0])
        if fields[2] not in _GENE_TYPES or not chromosome:
            continue
        attributes = dict(part.split("=", 1) for part in fields[8].strip().split(";") if "=" in part)
        symbol = unquote(attributes.get("Name") or attributes.get("gene_name") or attributes.get("gene") or "")
        if symbol:  # genes without a symbol cannot be asked for by name
            check_position(chromosome, int(fields[4]), assembly, where=where)
            yield GeneRegion(symbol, chromosome, int(fields[3]), int(fields[4]))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without comments and blank ones."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.name.endswith(".gz") else path.open(encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                if line.startswith("##FASTA"):
                    return
                if line.strip() and not line.startswith("#"):
                    yield number, line.rstrip("\r\n")
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile):
        raise Invalid("the file is truncated or not text.", where=str(path), remedy="Copy it again.") from None
