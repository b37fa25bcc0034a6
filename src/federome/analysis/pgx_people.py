"""Calls of pharmacogenes for everybody of a cohort, from the store's unphased genotypes: at the node, for sums only.

The store counts copies of one allele of each variant; here they become codes at the sites of a gene, men with one copy
on X, everybody with one on MT, and not called where any variant of a site is not. Equal genotypes are called once. What
a person is called is seen by nobody: algorithms add people up by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import Block, View
from federome.analysis.cohort_count import check_populations, label_codes, sex_codes
from federome.errors import Invalid
from federome.model.variant import Assembly, Variant, chromosome_class, oriented
from federome.pgx.call import Options
from federome.pgx.cohort import CohortCalls, PeopleGenotypes, call_everybody
from federome.pgx.genes import MISSING, NO_COPY, Gene, Site
from federome.pgx.tables import tables

MODULES = (
    "federome.analysis.pgx_people",
    "federome.analysis.cohort_count",
    "federome.pgx.call",
    "federome.pgx.cohort",
    "federome.pgx.combine",
    "federome.pgx.definitions",
    "federome.pgx.genes",
    "federome.pgx.guidance",
    "federome.pgx.lowest",
    "federome.pgx.match",
    "federome.pgx.outside",
    "federome.pgx.phenotype",
    "federome.pgx.tables",
)
"""Everything a call depends on; the tables' own digest is written in `federome.pgx.tables`."""

MINIMUM = 0.75
"""The share of a gene's sites that must be called in a person."""


def gene_of(name: str) -> Gene:
    """A gene whose alleles genotypes can tell; ``Invalid`` names those there are."""
    known = tables().genes
    if name not in known:
        raise Invalid(f"{name[:20]!r} cannot be told from genotypes here.", remedy=f"Genes: {', '.join(known)}.")
    return known[name]


def variants_of(genes: Iterable[Gene], assembly: Assembly) -> tuple[Variant, ...]:
    """Every variant at the sites of these genes."""
    return tuple(dict.fromkeys(each for gene in genes for site in gene.sites for each in _variants(site, assembly)))


def _variants(site: Site, assembly: Assembly) -> list[Variant]:
    position, ref = (site.position, site.ref) if assembly == "GRCh38" else (site.position37, site.ref37)
    others = [allele for allele in site.alleles if allele != ref]
    return [Variant.of(assembly, site.chromosome, position, ref, alt) for alt in others]


def call_cohort(view: View, block: Block, genes: Sequence[Gene], assembly: Assembly) -> dict[str, CohortCalls]:
    """Each gene's calls. ``block`` holds exactly the variants of `variants_of`, in genome order."""
    known = tables()
    ordered = sorted(set(variants_of(genes, assembly)), key=lambda variant: variant.sort_key)
    row = {variant: place for place, variant in enumerate(ordered)}
    if block.rows != len(row):
        raise Invalid("the block does not hold the sites of these genes.")
    dosages = block.dosages(view)
    male = sex_codes(view)
    options = Options(minimum=MINIMUM)
    found = {}
    for gene in genes:
        people = PeopleGenotypes.missing(view.people, len(gene.sites))
        for number, site in enumerate(gene.sites):
            copies = [_copies(dosages[row[each]], each) for each in _variants(site, assembly)]
            first, second = _codes(site, copies, assembly)
            people.first[:, number], people.second[:, number] = _haploid(first, second, site, male, assembly)
        found[gene.name] = call_everybody(gene, people, known.rank, options)
    return found


def _copies(counted: NDArray[np.int8], variant: Variant) -> NDArray[np.int8]:
    """Copies of ALT; the store counts the alphabetically second of two bases."""
    flipped = oriented(variant.ref, variant.alt)[2]
    return np.where((counted >= 0) & flipped, 2 - counted, counted).astype(np.int8)


def _codes(
    site: Site, copies: Sequence[NDArray[np.int8]], assembly: Assembly
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Codes of both copies at a site; missing where a variant is not called or copies do not add up."""
    ref = site.ref if assembly == "GRCh38" else site.ref37
    alts = [code for code, allele in enumerate(site.alleles) if allele != ref]
    stacked = np.stack(copies)
    unknown = (stacked < 0).any(axis=0) | (np.maximum(stacked, 0).sum(axis=0) > 2)
    base = site.alleles.index(ref) if ref in site.alleles else MISSING
    first = np.full(stacked.shape[1], base, np.int8)
    second = first.copy()
    for code, count in zip(alts, stacked, strict=True):
        second = np.where((count > 0) & (second == base), code, second)
        first = np.where((count == 2) | ((count == 1) & (second != code) & (first == base)), code, first)
    return np.where(unknown, MISSING, first).astype(np.int8), np.where(unknown, MISSING, second).astype(np.int8)


def _haploid(
    first: NDArray[np.int8], second: NDArray[np.int8], site: Site, male: NDArray[np.int64], assembly: Assembly
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """One copy where one is all there is; the store has it doubled. Of unknown sex nothing is known on X."""
    region = chromosome_class(site.chromosome, site.position if assembly == "GRCh38" else site.position37, assembly)
    if region not in ("X", "MT"):
        return first, second
    alone = np.ones(len(first), np.bool_) if region == "MT" else male == 1
    gone = (alone & (first != second)) | ((male < 0) & (region == "X"))
    first = np.where(gone, MISSING, first).astype(np.int8)
    second = np.where(gone, MISSING, np.where(alone & (first != MISSING), NO_COPY, second)).astype(np.int8)
    return first, second


def strata(populations: tuple[str, ...]) -> tuple[str, ...]:
    """The groups that get rows of their own; one of everybody without."""
    return populations or ("all",)


def stratum_of(view: View, populations: tuple[str, ...]) -> NDArray[np.int64]:
    """Each person's group, -1 for none."""
    if not populations:
        return np.zeros(view.people, np.int64)
    return label_codes(view.labels("population"), populations)


def check_strata(populations: tuple[str, ...]) -> None:
    """``Invalid`` where a population is listed twice."""
    check_populations(populations, wanted=bool(populations))


def counted(
    labels: Sequence[str], of: NDArray[np.int64], group: NDArray[np.int64], wanted: Mapping[str, int], groups: int
) -> NDArray[np.int64]:
    """People by label of their distinct call and by group, (labels, groups)."""
    cell = np.array([wanted[label] for label in labels], np.int64)[of]
    inside = group >= 0
    counts = np.bincount(cell[inside] * groups + group[inside], minlength=len(wanted) * groups)
    return counts.reshape(len(wanted), groups)
