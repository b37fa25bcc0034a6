"""Which pairs of named alleles explain a genotype: strand masks over phase blocks, no permutations.

Sites whose phase is known together form a block; a het site of unknown phase is a block of its own; a site with two
equal copies constrains both strands and needs no phase. Each block has two sides. An allele has a bit for every block
whose one side it accepts, and a bit for the other; two alleles explain the genotype when together they cover every
block, one on each side. So unphased, phased and phase-set data are the same case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federome.pgx.genes import MISSING, NO_COPY, OTHER, UNPHASED, Diplotype, Gene, Genotype, pair, reference_code

_BITS = 62
"""So many blocks fit a machine word."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A genotype made ready: sites that count, sites left out with the reason, and the blocks of unlike sites."""

    called: tuple[int, ...]
    missing: tuple[int, ...]
    halves: tuple[int, ...]  # one copy called, the other not
    unknown: tuple[int, ...]  # an allele no table knows
    same: tuple[int, ...]  # sites with two equal copies, or with one where there is one
    blocks: tuple[tuple[int, ...], ...]
    first: tuple[int, ...]
    second: tuple[int, ...]
    haploid: bool

    @property
    def phased(self) -> bool:
        """Whether both strands are known whole: at most one block."""
        return len(self.blocks) <= 1


def evidence(gene: Gene, genotype: Genotype) -> Evidence:
    """Sort the sites of a genotype. Alleles that no table knows become reference in genes that read them so."""
    first, second = list(genotype.first), list(genotype.second)
    unknown = [index for index, codes in enumerate(zip(first, second, strict=True)) if OTHER in codes]
    if gene.unknown_is_reference:
        for index in unknown:
            first[index], second[index] = (
                reference_code(gene, index) if code == OTHER else code for code in (first[index], second[index])
            )
    haploid = genotype.haploid
    missing, halves, same, blocks = [], [], [], dict[int, list[int]]()
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        if one == MISSING and other in (MISSING, NO_COPY):
            missing.append(index)
        elif one == MISSING or other == MISSING:
            halves.append(index)
        elif one == other or other == NO_COPY:
            same.append(index)
        else:
            phase = genotype.phase[index]
            blocks.setdefault(-2 - index if phase == UNPHASED else phase, []).append(index)
    called = sorted([*same, *(index for block in blocks.values() for index in block)])
    return Evidence(
        tuple(called),
        tuple(missing),
        tuple(halves),
        tuple(unknown),
        tuple(same),
        tuple(tuple(block) for block in blocks.values()),
        tuple(first),
        tuple(second),
        haploid,
    )


def match(gene: Gene, found: Evidence) -> tuple[Diplotype, ...]:
    """Every pair of named alleles that explains the evidence, best score first; scores count available sites."""
    if not found.called:
        return ()
    core = gene.core if len(found.called) == len(gene.sites) else gene.core[:, found.called]
    score = core.sum(axis=1)
    in_play = (score > 0) & gene.usable  # an allele without a called site of its own would match everybody
    same = np.array(found.same, np.int64)
    kept = in_play & _accepted(gene, same, [found.first[index] for index in found.same])
    if found.haploid:
        alone = [Diplotype(gene.alleles[index].name, "", int(score[index])) for index in np.flatnonzero(kept)]
        return _named(gene, alone)
    one, other = (_sides(gene, found, codes) for codes in (found.first, found.second))
    full = (1 << len(found.blocks)) - 1
    candidates = [int(index) for index in np.flatnonzero(kept) if one[index] | other[index] == full]
    pairs = [
        pair(gene.alleles[a].name, gene.alleles[b].name, int(score[a] + score[b]), gene.order)
        for place, a in enumerate(candidates)
        for b in candidates[place:]
        if (one[a] & other[b]) | (other[a] & one[b]) == full
    ]
    return _named(gene, pairs)


def best(diplotypes: Sequence[Diplotype]) -> tuple[Diplotype, ...]:
    """Only those with the highest score."""
    top = max((each.score for each in diplotypes), default=0)
    return tuple(each for each in diplotypes if each.score == top)


def _accepted(gene: Gene, sites: NDArray[np.int64], codes: Sequence[int]) -> NDArray[np.bool_]:
    """Which alleles accept these codes at these sites, all of them."""
    bits = np.array([1 << code if code >= 0 else 0 for code in codes], np.int64)
    accepted: NDArray[np.bool_] = ((gene.accepts[:, sites] & bits) != 0).all(axis=1)
    return accepted


def _sides(gene: Gene, found: Evidence, codes: Sequence[int]) -> list[int]:
    """For each allele the bits of the blocks whose one side, given by the codes, it accepts."""
    if not found.blocks:
        return [0] * len(gene.alleles)
    sites = [site for block in found.blocks for site in block]
    starts = np.cumsum([0, *(len(block) for block in found.blocks[:-1])])
    fits = (gene.accepts[:, sites] & np.array([1 << codes[site] for site in sites])) != 0
    whole = np.logical_and.reduceat(fits, starts, axis=1)
    if len(found.blocks) < _BITS:
        return (whole @ (1 << np.arange(len(found.blocks)))).tolist()  # type: ignore[no-any-return]
    return [sum(1 << number for number in np.flatnonzero(row).tolist()) for row in whole]


def _named(gene: Gene, diplotypes: Iterable[Diplotype]) -> tuple[Diplotype, ...]:
    """Suballeles under their core allele's name, each pair once, best first."""
    found: dict[str, Diplotype] = {}
    for each in diplotypes:
        one, other = (gene.suballeles.get(name, name) for name in (each.first, each.second))
        renamed = pair(one, other, each.score, gene.order) if other else Diplotype(one, "", each.score)
        if renamed.name not in found or found[renamed.name].score < renamed.score:
            found[renamed.name] = renamed
    order = gene.order
    return tuple(sorted(found.values(), key=lambda d: (-d.score, order.get(d.first, 0), order.get(d.second, 0))))
