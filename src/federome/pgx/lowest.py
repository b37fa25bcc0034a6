"""Genes told variant by variant (DPYD, RYR1): what is on each strand, and the pair that decides.

Their alleles are single variants that occur together, so a strand is a list of them and the least functional one of
each strand counts. Where phase is unknown, variants are listed and the two least functional count, as if they were on
different strands: the careful reading. HapB3 of DPYD is caused by an intronic variant (rs75017182) and was long found
by an exonic one beside it (rs56038477); the intronic one decides where it is known (CPIC, DPYD guideline, update 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from federome.pgx.genes import MISSING, UNPHASED, Diplotype, Gene, Genotype, natural, pair
from federome.pgx.match import Evidence

INTRONIC, EXONIC = "rs75017182", "rs56038477"
FIRST = frozenset({"c.1129-5923C>G, c.1236G>A (HapB3)", "c.2846A>T", "c.1905+1G>A (*2A)", "c.1679T>G (*13)"})
"""Variants of DPYD that every guideline knows; of equal function they are named before others."""

MOST_ARRANGEMENTS = 1 << 12

Rank = Callable[[str], float]
"""How much function an allele has; less is worse."""


@dataclass(frozen=True, slots=True)
class Lowest:
    """``arrangements`` are all ways the strands can be, or ``listed`` the variants with copies where phase is open."""

    arrangements: tuple[Diplotype, ...]
    listed: tuple[tuple[str, int], ...]
    decides: Diplotype
    notes: tuple[str, ...] = ()


def lowest(gene: Gene, found: Evidence, genotype: Genotype, rank: Rank) -> Lowest:
    """Variants of a gene told variant by variant, and the two alleles that decide about its phenotype."""
    notes = _notes(gene, found)
    blocks = _blocks(found, genotype)
    open_phase = len(blocks) > 1 and any(genotype.phase[site] == UNPHASED for block in blocks for site in block)
    if open_phase or 1 << max(0, len(blocks) - 1) > MOST_ARRANGEMENTS:
        listed = _listed(gene, found)
        copies = sorted((name for name, count in listed for _ in range(count)), key=lambda name: _worst(name, rank))
        one, other = [*copies, gene.reference_name, gene.reference_name][:2]
        return Lowest((), listed, pair(one, other, 0, _order(one, other)), notes)
    ways: dict[str, tuple[Diplotype, Diplotype]] = {}
    for strands in _strands(found, blocks):
        sides = [on_strand(gene, codes) or [gene.reference_name] for codes in strands]
        told, deciding = ([f(side) for side in sides] for f in (_label, lambda side: min(side, key=_by(rank))))
        score = sum(len(found.called) if side == [gene.reference_name] else len(side) for side in sides)
        way = pair(told[0], told[1], score, _order(*told))
        ways[way.name] = way, pair(deciding[0], deciding[1], 0, _order(*deciding))
    ordered = sorted(ways.values(), key=lambda each: natural(each[0].name))
    decides = min((deciding for _, deciding in ordered), key=lambda d: sum(rank(name) for name in d.alleles))
    return Lowest(tuple(way for way, _ in ordered), (), decides, notes)


def on_strand(gene: Gene, codes: Sequence[int]) -> list[str]:
    """The named alleles whose variants are on a strand, in the order of the transcript."""
    names = []
    intronic, exonic = (gene.places.get(rsid, -1) for rsid in (INTRONIC, EXONIC))
    for index in _candidates(gene, codes):
        allele, sites = gene.alleles[index], gene.differs[index]
        if sites <= {intronic, exonic} or allele.name in gene.ignored:
            continue
        if all(codes[site] >= 0 and gene.accepts[index, site] & (1 << codes[site]) for site in sites):
            names.append(allele.name)
    if intronic >= 0:
        exon = exonic >= 0 and codes[exonic] > 0
        both, alone = _hapb3(gene)
        if codes[intronic] > 0:
            names.append(both if exon else alone)
        elif codes[intronic] == MISSING and exon:
            names.append(both)
    return sorted(names, key=natural)


def _candidates(gene: Gene, *strands: Sequence[int]) -> list[int]:
    """Alleles that differ from the reference where one of the strands does."""
    found: set[int] = set()
    for number, codes in enumerate(zip(*strands, strict=True)):
        if max(codes) > 0:
            found |= gene.told_by[number]
    return sorted(found)


def _hapb3(gene: Gene) -> tuple[str, str]:
    """What the haplotype is called with and without its exonic variant."""
    intronic = gene.places[INTRONIC]
    named = [(allele.name, gene.differs[index]) for index, allele in enumerate(gene.alleles)]
    alone = [name for name, sites in named if sites == {intronic}]
    both = [name for name, sites in named if intronic in sites and name not in alone[:1]]
    return (both or alone)[0], (alone or both)[0]


def _blocks(found: Evidence, genotype: Genotype) -> list[list[int]]:
    """Sites whose two strands differ, also where one is not called, by what is known of their phase."""
    blocks: dict[int, list[int]] = {}
    for site in sorted([*found.halves, *(site for block in found.blocks for site in block)]):
        phase = genotype.phase[site]
        blocks.setdefault(-2 - site if phase == UNPHASED else phase, []).append(site)
    return list(blocks.values())


def _strands(found: Evidence, blocks: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], list[int]]]:
    """Every arrangement of the blocks, the first block kept as it is."""
    for turns in product((False, True), repeat=max(0, len(blocks) - 1)):
        one, other = list(found.first), list(found.second)
        for block, turned in zip(blocks[1:], turns, strict=True):
            for site in block:
                if turned:
                    one[site], other[site] = other[site], one[site]
        yield one, other


def _listed(gene: Gene, found: Evidence) -> tuple[tuple[str, int], ...]:
    """Variants with their copies where phase is open. HapB3 takes as many exonic copies as there are intronic ones."""
    intronic, exonic = (gene.places.get(rsid, -1) for rsid in (INTRONIC, EXONIC))
    counts: dict[str, int] = {}
    both = (found.first, found.second)
    for index in _candidates(gene, *both):
        allele, sites = gene.alleles[index], gene.differs[index]
        if sites <= {intronic, exonic} or allele.name in gene.ignored:
            continue
        copies = [
            sum(codes[site] >= 0 and bool(gene.accepts[index, site] & (1 << codes[site])) for codes in both)
            for site in sites
        ]
        if min(copies):
            counts[allele.name] = min(copies)
    if intronic >= 0:
        causal = sum(codes[intronic] > 0 for codes in both)
        tagged = sum(codes[exonic] > 0 for codes in both) if exonic >= 0 else 0
        name, alone = _hapb3(gene)
        whole = tagged if all(codes[intronic] == MISSING for codes in both) else min(causal, tagged)
        for label, copies_of in ((name, whole), (alone, max(0, causal - whole))):
            if copies_of:
                counts[label] = counts.get(label, 0) + copies_of
    return tuple(sorted(counts.items(), key=lambda each: natural(each[0])))


def _notes(gene: Gene, found: Evidence) -> tuple[str, ...]:
    intronic, exonic = (gene.places.get(rsid, -1) for rsid in (INTRONIC, EXONIC))
    if intronic < 0 or exonic < 0:
        return ()
    tag = any(codes[exonic] > 0 for codes in (found.first, found.second))
    cause = [codes[intronic] for codes in (found.first, found.second)]
    if any(code > 0 for code in cause) and not tag:
        return (f"{INTRONIC} is seen without {EXONIC}; it decides, being the variant that lowers function.",)
    if tag and MISSING in cause:
        return (f"HapB3 is read from {EXONIC} because {INTRONIC} is not called.",)
    if tag and not any(code > 0 for code in cause):
        return (f"{EXONIC} is seen without the variant that causes HapB3 ({INTRONIC}); it counts as reference.",)
    return ()


def _label(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"[{' + '.join(names)}]"


def _by(rank: Rank) -> Callable[[str], tuple[float, bool, tuple[object, ...]]]:
    return lambda name: _worst(name, rank)


def _worst(name: str, rank: Rank) -> tuple[float, bool, tuple[object, ...]]:
    return rank(name), name not in FIRST, natural(name)


def _order(*names: str) -> dict[str, int]:
    """Reference first, the others as the transcript has them."""
    return {name: place for place, name in enumerate(sorted(set(names), key=lambda n: (n[0] == "[", natural(n))))}
