"""Research mode: strands that no single named allele explains, as several alleles or an allele and further variants.

Only asked for where there is no ordinary call: ``[*6 + *14]`` says that the variants of both are on
one strand, ``[*2 + g.94781859G>A]`` that a catalogued variant is there that makes no allele of its own. A combination
scores what its alleles score together, so a reference strand beside one long combination comes first. Variants on no
allele at all (``g.94781859G>A``) are only told where the strands are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from federome.pgx.genes import Diplotype, Gene, natural, pair, reference_code
from federome.pgx.match import Evidence

MOST_ARRANGEMENTS = 1 << 12


def combinations(gene: Gene, found: Evidence) -> tuple[Diplotype, ...]:
    """Pairs of strands written as combinations, best score first; none where phase leaves too many arrangements."""
    if found.haploid:
        parts, score, _ = strand(gene, found, found.first)
        return (Diplotype(_label(parts), "", score),)
    if 1 << max(0, len(found.blocks) - 1) > MOST_ARRANGEMENTS:
        return ()
    ways: dict[str, Diplotype] = {}
    for turns in product((False, True), repeat=max(0, len(found.blocks) - 1)):
        one, other = list(found.first), list(found.second)
        for block, turned in zip(found.blocks[1:], turns, strict=True):
            for site in block:
                if turned:
                    one[site], other[site] = other[site], one[site]
        sides = [strand(gene, found, codes) for codes in (one, other)]
        if any(bare for _, _, bare in sides) and not found.phased:
            continue
        way = pair(_label(sides[0][0]), _label(sides[1][0]), sides[0][1] + sides[1][1], gene.order)
        ways[way.name] = way
    return tuple(sorted(ways.values(), key=lambda way: (-way.score, natural(way.name))))


def strand(gene: Gene, found: Evidence, codes: Sequence[int]) -> tuple[list[str], int, bool]:
    """The parts of one strand, their score, and whether no named allele is among them."""
    called = list(found.called)
    varied = {site for site in called if codes[site] != reference_code(gene, site)}
    whole: list[tuple[int, str]] = []
    fits: dict[str, tuple[set[int], int]] = {}
    for index, allele in enumerate(gene.alleles):
        if allele.name in gene.ignored or not gene.core[index, called].any():
            continue
        accepted = {site for site in called if gene.accepts[index, site] & (1 << codes[site])}
        core = {site for site in called if gene.core[index, site]}
        name = gene.suballeles.get(allele.name, allele.name)
        if len(accepted) == len(called):
            whole.append((len(core), name))
        elif not allele.whole and core <= accepted and core & varied:
            fits[name] = core & varied, len(core)
    if whole:
        score, name = max(whole, key=lambda each: each[0])
        return [name], score, False
    parts, score, left = [], 0, set(varied)
    while fits:
        name = max(fits, key=lambda each: (len(fits[each][0] & left), -len(fits[each][0]), -gene.order[each]))
        covers, own = fits.pop(name)
        if not covers & left:
            break
        left -= covers
        parts.append(name)
        score += own
    parts.sort(key=lambda each: gene.order[each])
    return [*parts, *(gene.sites[site].change(codes[site]) for site in sorted(left))], score, not parts


def _label(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"[{' + '.join(parts)}]"
