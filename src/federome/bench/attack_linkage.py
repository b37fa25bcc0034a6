"""Membership from frequencies of linked sites, for an attacker who knows how they are linked.

Sites in linkage disequilibrium look like few, and the plain likelihood ratio finds no more than from the few that are
left after pruning. Whoever weighs them by the inverse of their correlations, which any reference panel gives, finds as
many members as from so many independent sites: ``docs/adr/0019-linked-sites-count-in-full.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from federome.bench.attack_methods import Floats, Genomes, found

PANEL = 5_000
SAME = 1e-6


@dataclass(frozen=True)
class Linked:
    """Dosages of members, of others and of a reference panel, each (people, blocks, sites of a block)."""

    members: Genomes
    others: Genomes
    panel: Genomes

    @classmethod
    def drawn(cls, people: int, blocks: int, size: int, correlation: float, seed: int) -> Linked:
        """Blocks whose haplotypes follow a Gaussian chain with this ``correlation`` from site to site, cut in two."""
        rng = np.random.default_rng(seed)
        cut = norm.ppf(rng.uniform(0.1, 0.5, (blocks, 1)))
        return cls(*(_genomes(rng, number, (blocks, size), correlation, cut) for number in (people, people, PANEL)))


def _genomes(rng: np.random.Generator, people: int, shape: tuple[int, int], correlation: float, cut: Floats) -> Genomes:
    chain = rng.normal(size=(2, people, *shape))
    for site in range(1, shape[1]):
        chain[..., site] *= np.sqrt(1 - correlation**2)
        chain[..., site] += correlation * chain[..., site - 1]
    return np.asarray((chain < cut).sum(axis=0), np.int8)


def pruned(panel: Genomes, most: float) -> NDArray[np.bool_]:
    """Which sites of a block, (sites,), are left when each is dropped that has r² of ``most`` or more with one left."""
    squared = np.asarray(np.corrcoef(panel.T) ** 2, np.float64)
    left = np.zeros(panel.shape[1], np.bool_)
    for site in range(panel.shape[1]):
        left[site] = not np.any(left[:site] & (squared[site, :site] >= most))
    return left


def powers(linked: Linked) -> tuple[float, float]:
    """Power from the members' exact frequencies: of the likelihood ratio for independent sites, and of that for linked
    ones, which weighs each block by the inverse of its correlations.
    """
    mean, spread = linked.panel.mean(axis=0), linked.panel.std(axis=0)
    members, others = (np.asarray((each - mean) / spread, np.float64) for each in (linked.members, linked.others))
    told = np.asarray(members.mean(axis=0), np.float64)
    links = [np.corrcoef(linked.panel[:, block].T) for block in range(told.shape[0])]
    weights = np.stack([np.linalg.pinv(link, rcond=SAME) @ own for link, own in zip(links, told, strict=True)])
    plain, knowing = (
        found((members * each).sum(axis=(1, 2)), (others * each).sum(axis=(1, 2))) for each in (told, weights)
    )
    return plain, knowing
