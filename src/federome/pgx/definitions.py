"""Reads named-allele definitions in the JSON of the ClinPGx translation files, for comparison with other tools.

The product ships tables of its own (`tables`); these files are read where somebody has them.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path

from federome.errors import Invalid
from federome.model.variant import chromosome_name
from federome.pgx.genes import Gene, NamedAllele, Site

UNKNOWN_IS_REFERENCE = frozenset({"CACNA1S", "DPYD", "G6PD", "NUDT15", "RYR1", "TPMT"})
"""Genes in which an allele no table knows reads as reference: missing a rare toxic one must not hide a common one."""

LOWEST_FUNCTION = frozenset({"DPYD", "RYR1"})
"""Genes whose variants are told one by one, the least functional one of each copy deciding."""


def read_definitions(folder: Path) -> dict[str, Gene]:
    """All genes of a folder of ``GENE_translation.json`` (or ``.json.gz``), by name."""
    exemptions = folder / "exemptions.json"
    exceptions: Mapping[str, Mapping[str, object]] = json.loads(exemptions.read_text()) if exemptions.is_file() else {}
    genes = {}
    for path in sorted(folder.glob("*_translation.json*")):
        gene = read_definition(_document(path), exceptions)
        genes[gene.name] = gene
    if not genes:
        raise Invalid("there are no allele definitions.", where=str(folder), remedy="Name a folder of translations.")
    return genes


def read_spellings(folder: Path) -> dict[str, dict[str, str]]:
    """By gene, ``site:allele`` as guidelines spell alleles, and how a VCF does."""
    found = {}
    for path in sorted(folder.glob("*_translation.json*")):
        document = _document(path)
        sites = enumerate(_rows(document["variants"]))
        found[str(document["gene"])] = {
            f"{index}:{spelled}": str(written)
            for index, row in sites
            for spelled, written in _mapping(row["cpicToVcfAlleleMap"]).items()
        }
    return found


def read_activity(folder: Path) -> dict[str, dict[str, float]]:
    """Activity values of alleles by gene, where a gene has them."""
    found = {}
    for path in sorted(folder.glob("*.json*")):
        document = _document(path)
        values = {name: str(value) for name, value in _mapping(document.get("activityValues")).items()}
        numbers = {name: float(value) for name, value in values.items() if value.replace(".", "", 1).isdigit()}
        if numbers:
            found[str(document["gene"])] = numbers
    return found


def _document(path: Path) -> Mapping[str, object]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        document: Mapping[str, object] = json.loads(text)
    except ValueError:
        raise Invalid("this is not JSON.", where=str(path), remedy="Copy the file again.") from None
    return document


def read_definition(document: Mapping[str, object], exceptions: Mapping[str, Mapping[str, object]]) -> Gene:
    """One gene from its document and the exceptions of all genes."""
    name = str(document["gene"])
    special = exceptions.get(name, {})
    sites = tuple(_site(row) for row in _rows(document["variants"]))
    alleles = tuple(_allele(row, len(sites)) for row in _rows(document["namedAlleles"]) if not row["structuralVariant"])
    required = {int(str(position)) for position in _list(special.get("requiredPositions"))}
    return Gene(
        name,
        _plain(str(document["chromosome"])),
        sites,
        alleles,
        required=frozenset(index for index, site in enumerate(sites) if site.position in required),
        ignored=frozenset(str(allele) for allele in _list(special.get("ignoredAlleles"))),
        suballeles={str(k): str(v) for k, v in _mapping(document.get("suballelesMap")).items()},
        priorities={
            frozenset(str(each) for each in _list(row["list"])): str(row["pick"])
            for row in _rows(special.get("unphasedDiplotypePriorities"))
        },
        extra=tuple(_site(row) for row in _rows(special.get("extraPositions"))),
        unknown_is_reference=name in UNKNOWN_IS_REFERENCE,
        lowest_function=name in LOWEST_FUNCTION,
        version=f"ClinPGx {document.get('version', '')}",
    )


def read_listed(folder: Path, name: str) -> Gene | None:
    """A gene without a definition file from the list of its names and the list of positions, or nothing.

    Both are in the order of the genome and every name is one variant, so the n-th name is the n-th ALT; single-base
    names say their bases and are checked (on the + strand, as RYR1 is).
    """
    listing, positions = folder / "phenotypes.tsv", folder / "pharmcat_positions.vcf.bgz"
    if not listing.is_file() or not positions.is_file():
        return None
    rows = [line.split("\t") for line in listing.read_text().splitlines()]
    names = [each for row in rows if row[0] == name for each in row[1].split(";") if each != "Reference"]
    names.sort(key=lambda each: int(re.findall(r"\d+", each)[0]))
    text = gzip.decompress(positions.read_bytes()).decode()
    lines = [line.split("\t") for line in text.splitlines() if f"PX={name}" in line]
    sites = [
        Site("" if i == "." else i, _plain(c), int(p), ref, tuple(alt.split(",")), f"g.{p}{ref}>{alt}")
        for c, p, i, ref, alt in (line[:5] for line in lines)
    ]
    places = [(number, alt) for number, site in enumerate(sites) for alt in site.alts]
    if len(places) != len(names) or not names:
        raise Invalid(f"{name} has {len(names)} names and {len(places)} variants.", where=str(listing))
    alleles = [NamedAllele("Reference", tuple(site.ref for site in sites), reference=True, whole=True)]
    for each, (number, alt) in zip(names, places, strict=True):
        change = re.search(r"([ACGT])>([ACGT])$", each)
        if change and (sites[number].ref, alt) != change.groups():
            raise Invalid(f"{name} {each} does not stand at {sites[number].label}.", where=str(listing))
        bases: list[str | None] = [None] * len(sites)
        bases[number] = alt
        alleles.append(NamedAllele(each, tuple(bases)))
    return Gene(
        name,
        sites[0].chromosome,
        tuple(sites),
        tuple(alleles),
        unknown_is_reference=name in UNKNOWN_IS_REFERENCE,
        lowest_function=name in LOWEST_FUNCTION,
        version="positions and names of ClinPGx",
    )


def _site(row: Mapping[str, object]) -> Site:
    alts = tuple(str(alt) for alt in _list(row["alts"]))
    return Site(
        str(row["rsid"] or ""),
        _plain(str(row["chromosome"])),
        int(str(row["position"])),
        str(row["ref"]),
        alts,
        str(row["chromosomeHgvsName"]),
    )


def _allele(row: Mapping[str, object], sites: int) -> NamedAllele:
    bases = tuple(None if base is None else str(base) for base in _list(row["alleles"]))
    return NamedAllele(str(row["name"]), bases, bool(row["reference"]), int(str(row["score"])) == sites)


def _plain(chromosome: str) -> str:
    return chromosome_name(chromosome)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _rows(value: object) -> list[Mapping[str, object]]:
    return [row for row in _list(value) if isinstance(row, dict)]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
