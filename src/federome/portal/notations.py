"""What the search box understands: a gene, a place, or a variant in the notations that people copy from elsewhere.

Each becomes the parameters of a Beacon question. What is not understood is an error that says what to write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from federome.errors import Invalid
from federome.model.variant import Region, Variant, assembly_name
from federome.pgx.genes import Site

MAX_TEXT: Final = 300
EXAMPLES: Final = ("BRCA1", "19:44908684:T:C", "NC_000019.10:g.44908684T>C", "NC_000019.10:44908683:T:C",
                   "17:43044295-43125364", "rs4149056")  # fmt: skip
_RS: Final = re.compile(r"rs[0-9]{1,12}", re.IGNORECASE)
_HGVS: Final = re.compile(r"[^:]{1,40}:[gm]\..+", re.IGNORECASE)
_SPDI: Final = re.compile(r"(NC_[0-9]{6}\.[0-9]{1,2}):([0-9]{1,10}):([ACGTN]+):([ACGTN]+)", re.IGNORECASE)
_GENE: Final = re.compile(r"[A-Za-z][A-Za-z0-9.-]{0,29}")
_REGION: Final = re.compile(r"[A-Za-z0-9]+:[0-9,]+(?:-[0-9,]+)?")
_WORDS: Final = re.compile(
    r"(?:(?P<assembly>GRCh3[78]|hg19|hg38)[\s:]+)?(?:chr)?(?P<chromosome>[0-9]{1,2}|X|Y|MT?)[\s:_-]+"
    r"(?P<position>[0-9,]{1,13})[\s:_-]*(?:\s(?:rs[0-9]+|\.)\s+)?(?P<ref>[ACGTN]+)[\s:>/_-]+(?P<alt>[ACGTN]+)",
    re.IGNORECASE,
)
"""Chromosome, place and alleles with what stands between them in tables, papers and the columns of a VCF."""
_CHROMOSOME: Final = re.compile(r"(?:chr)?(?:[0-9]{1,2}|X|Y|MT?)", re.IGNORECASE)


def read(text: str, assembly: str) -> Mapping[str, object]:
    """The parameters of the Beacon question that a text of the search box means, on one assembly."""
    text = text.strip()
    wanted = assembly_name(assembly)
    if not text or len(text) > MAX_TEXT:
        raise _unclear("the search text is empty." if not text else "the search text is too long.")
    if _RS.fullmatch(text):
        return _numbered(text.lower(), wanted)
    if found := _SPDI.fullmatch(text):
        sequence, before, ref, alt = found.groups()
        return _allele(sequence, int(before), ref, alt)  # the accession names the assembly
    if _HGVS.fullmatch(text):
        named = {} if text.upper().startswith("NC_") else {"assemblyId": wanted}
        return {"genomicAlleleShortForm": text} | named
    if _CHROMOSOME.fullmatch(text):
        raise _unclear("a whole chromosome is too much for one page.")
    if found := _WORDS.fullmatch(text):
        told = ":".join((found["chromosome"], found["position"].replace(",", ""), found["ref"], found["alt"]))
        return _variant(Variant.parse(told, assembly_name(found["assembly"]) if found["assembly"] else wanted))
    given, text = text, text.replace(" ", "")
    if _REGION.fullmatch(text):
        region = Region.parse(text)
        place: dict[str, object] = {"start": [region.start - 1], "end": [region.end], "assemblyId": wanted}
        return {"referenceName": region.chromosome} | place
    try:
        variant = Variant.parse(text, wanted)
    except Invalid as error:
        if _GENE.fullmatch(given):
            return {"geneId": text.upper(), "assemblyId": wanted}
        raise _unclear(error.message) from error
    return _variant(variant)


def _variant(variant: Variant) -> dict[str, object]:
    named: dict[str, object] = {"assemblyId": variant.assembly}
    return _allele(variant.chromosome, variant.position - 1, variant.ref, variant.alt) | named


def _allele(sequence: str, start: int, ref: str, alt: str) -> dict[str, object]:
    return {
        "referenceName": sequence,
        "start": [start],
        "referenceBases": ref.upper(),
        "alternateBases": alt.upper(),
    }


def _numbered(rsid: str, assembly: str) -> Mapping[str, object]:
    """An rs number of a site that drugs depend on: these come with the program, and no other list does."""
    site = _sites().get(rsid)
    if site is None:
        raise Invalid(
            f"published tables list no rs numbers, and this is none of the {len(_sites())} that drugs depend on.",
            where="q",
            remedy="Look the number up in dbSNP or Ensembl, and search for the place and alleles that it names.",
        )
    old = assembly == "GRCh37"
    position, ref = (site.position37, site.ref37) if old else (site.position, site.ref)
    named: dict[str, object] = {"assemblyId": assembly}
    if len(site.alts) == 1:
        return dict(_allele(site.chromosome, position - 1, ref, site.alts[0])) | named
    return {"referenceName": site.chromosome, "start": [position - 1], "end": [position - 1 + len(ref)]} | named


@cache
def _sites() -> Mapping[str, Site]:
    from federome.pgx.tables import tables

    return {site.rsid: site for gene in tables().genes.values() for site in gene.sites if site.rsid}


def _unclear(said: str) -> Invalid:
    return Invalid(said, where="q", remedy=f"Write a gene, a region or a variant, as one of: {'; '.join(EXAMPLES)}.")
