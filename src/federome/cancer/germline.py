"""One person's germline variants from a VCF or BCF, as far as ClinVar knows them.

Which gene a variant belongs to, ClinVar says; what it says nothing of is no finding and is counted, as is every line
that did not pass the caller's filters, and what was not called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from federome.cancer.clinvar import Clinvar
from federome.cancer.findings import ACTIONABLE, Carried
from federome.errors import Invalid
from federome.ingest.vcf import VcfHeader, genotypes_of, records
from federome.model.variant import Assembly, Variant


@dataclass(frozen=True)
class Germline:
    """What a person carries of variants that ClinVar lists, and alleles left out by reason."""

    carried: tuple[Carried, ...]
    skipped: Mapping[str, int]


def read_germline(path: Path, assembly: Assembly, clinvar: Clinvar, *, sample: str, asked: Collection[str]) -> Germline:
    """The variants of one sample; ``Invalid`` where the file lies on another assembly or does not say whose it is."""
    header = VcfHeader(path)
    if header.assemblies and assembly not in header.assemblies:
        raise Invalid(
            f"the file is for {', '.join(header.assemblies)[:40]}, not {assembly}.",
            where=str(path),
            remedy="Name its assembly.",
        )
    if not sample and len(header.people) != 1:
        raise Invalid("the file has several samples.", where=str(path), remedy="Name the person's as --sample.")
    if sample and sample not in header.people:
        raise Invalid("the file has no such sample.", where=str(path), remedy="Name one of its samples.")
    column = header.people.index(sample) if sample else 0
    found: list[Carried] = []
    skipped: Counter[str] = Counter()
    for number, record in enumerate(records(header), 1):
        alleles = genotypes_of(record, header.where, number)[column, :-1].tolist()
        if -1 in alleles:
            skipped["alleles that were not called"] += alleles.count(-1)
        for at, alt in enumerate(record.ALT, 1):
            if at not in alleles:
                continue
            if record.FILTER is not None:  # None is PASS, or no filter at all
                skipped["alleles that did not pass the filters"] += 1
                continue
            if set(alt) - set("ACGT"):
                skipped["alleles that are no sequence"] += 1
                continue
            try:
                variant = Variant.of(assembly, str(record.CHROM), int(record.POS), str(record.REF), alt)
            except Invalid:
                skipped["alleles on other contigs"] += 1
                continue
            known = clinvar.find(variant)
            if known is None:
                skipped["alleles of which ClinVar says nothing"] += 1
                continue
            genes = [gene for gene in known.genes if gene in asked or gene in ACTIONABLE]
            found += [Carried(variant, gene, alleles.count(at)) for gene in genes]
    return Germline(tuple(found), dict(skipped))
