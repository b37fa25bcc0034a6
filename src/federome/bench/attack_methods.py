"""Published attacks on released answers, as an attacker would carry them out; ``attacks.py`` measures them.

Written from the papers. Attackers hold genomes, know public frequencies and every rule, and take a refusal for an
observation. Nothing here defends: defences are what the attacked answers went through.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federome.disclosure.cohorts import MemoryCohorts
from federome.disclosure.differencing import Cohorts, Members, admit
from federome.errors import Refused
from federome.model.release import Policy
from federome.model.table import Mask
from federome.model.wording import Wording

Floats = NDArray[np.float64]
Genomes = NDArray[np.int8]
SECRET = b"a node's own secret, 32 bytes ..."


@dataclass(frozen=True)
class Cohort:
    """Dosages of members and of as many people outside, (people, sites), and the frequencies everybody knows."""

    members: Genomes
    others: Genomes
    frequency: Floats

    @classmethod
    def drawn(cls, people: int, frequency: Floats, seed: int) -> Cohort:
        """Independent sites, members and others from one population."""
        rng = np.random.default_rng(seed)
        both = rng.binomial(2, frequency, (2, people, len(frequency))).astype(np.int8)
        return cls(both[0], both[1], frequency)


def common(people: int, sites: int, seed: int) -> Cohort:
    """Sites that 5 to 50 % of alleles vary at."""
    return Cohort.drawn(people, np.random.default_rng(seed).uniform(0.05, 0.5, sites), seed)


def rare(people: int, sites: int, seed: int) -> Cohort:
    """Sites with 0.02 to 4 expected alleles among ``people`` haplotypes, evenly in the logarithm."""
    rng = np.random.default_rng(seed)
    return Cohort.drawn(people, np.exp(rng.uniform(math.log(0.02), math.log(4.0), sites)) / people, seed)


def found(members: Floats, others: Floats) -> float:
    """Power at 5 % false alarms of a score that is high for members; ties count by their chance."""
    limit = np.quantile(others, 0.95, method="higher")
    above, at = (others > limit).mean(), (others == limit).mean()
    share = (0.05 - above) / at if at else 0.0
    return float((members > limit).mean() + share * (members == limit).mean())


# membership from frequencies


def homer(genome: Genomes, released: Floats, known: Floats) -> Floats:
    """Homer et al. 2008: is a genome nearer to the released frequencies than to those of the population?"""
    own = genome / 2
    distance = np.abs(own - known) - np.abs(own - released)
    return np.asarray(distance.mean(axis=1) / (distance.std(axis=1, ddof=1) / math.sqrt(genome.shape[1])), np.float64)


def likelihood_ratio(genome: Genomes, released: Floats, known: Floats) -> Floats:
    """Sankararaman et al. 2009: log-likelihood of the genome under released against known frequencies."""
    inside = np.clip(released, 1e-4, 1 - 1e-4)
    ratio = genome @ np.log(inside / known) + (2 - genome) @ np.log((1 - inside) / (1 - known))
    return np.asarray(ratio, np.float64)


def frequency_power(cohort: Cohort, sites: int, attack: Callable[..., Floats]) -> float:
    """Power of an attack on the exact frequencies of the first ``sites`` sites."""
    released = cohort.members[:, :sites].mean(axis=0) / 2
    known = cohort.frequency[:sites]
    return found(attack(cohort.members[:, :sites], released, known), attack(cohort.others[:, :sites], released, known))


# membership from yes and no


def tail(people: int, share: float, at_least: int) -> tuple[float, float]:
    """Chances of a yes without and with a person who carries the allele, by summing Poisson terms."""
    mean = people * share
    fewer = [math.exp(-mean) * mean**n / math.factorial(n) for n in range(at_least)]
    without, within = 1 - sum(fewer), 1 - sum(fewer[:-1]) * (1 - 1e-6) - sum(fewer) * 1e-6
    return min(max(without, 1e-9), 1 - 1e-12), min(max(within, 1e-9), 1 - 1e-12)


def beacon(cohort: Cohort, asked: int, at_least: int, *, rarest: bool) -> float:
    """Ask a beacon for a person's own alleles: in the order of the genome, or rarest first.

    In order, only the number of noes counts (Shringarpure & Bustamante 2015); rarest first, each answer counts by what
    its frequency makes of it (Raisaro et al. 2017).
    """
    return told_power(cohort, (cohort.members > 0).sum(axis=0) >= at_least, asked, at_least, rarest=rarest)


def told_power(cohort: Cohort, yes: Mask, asked: int, at_least: int, *, rarest: bool) -> float:
    """The same with the answers that somebody gave, site by site."""
    chance = 1 - (1 - cohort.frequency) ** 2

    def score(genomes: Genomes) -> Floats:
        out = np.zeros(len(genomes))
        for at, genome in enumerate(genomes):
            own = np.flatnonzero(genome)
            chosen = own[np.argsort(cohort.frequency[own])] if rarest else own
            for site in chosen[:asked].tolist():
                without, within = tail(len(cohort.members), chance[site], at_least)
                told = bool(yes[site])
                weight = math.log(within / without) if told else math.log((1 - within) / (1 - without))
                out[at] += weight if rarest else float(told) - 1.0
        return out

    return found(score(cohort.members), score(cohort.others))


def carriers_only(cohort: Cohort, asked: int, *, at_least: int) -> float:
    """The same on victims who carry exactly what is asked: the worst case that prices are made for."""
    rng = np.random.default_rng(asked)
    people = len(cohort.members)
    share = 1 - (1 - cohort.frequency[0]) ** 2
    without, within = tail(people, share, at_least)
    steps = math.log(within / without), math.log((1 - within) / (1 - without))
    trials = 2_000
    outside = rng.binomial(people, share, (trials, asked)) >= at_least
    inside = 1 + rng.binomial(people - 1, share, (trials, asked)) >= at_least
    return found(np.where(inside, *steps).sum(axis=1), np.where(outside, *steps).sum(axis=1))


# differencing and its relatives


class Asked:
    """A node that counts people for whoever asks, exactly, behind the differencing audit of a policy.

    ``told`` are the sizes of the cohorts that it counted in.
    """

    def __init__(self, trait: Mask, policy: Policy, *, seed: int = 0) -> None:
        self.trait, self.policy, self.asked = trait, policy, 0
        self.earlier: Cohorts = MemoryCohorts()
        self.secret = SECRET + seed.to_bytes(4, "little")
        self.told: list[int] = []

    def count(self, cohort: Mask) -> int | None:
        """People of the cohort who have the trait; ``None`` for a refusal. Each question has words of its own."""
        self.asked += 1
        try:
            by = Wording(("bench",), more=(f"question {self.asked}",))
            admit(Members.of(cohort), self.earlier, by=by, secret=self.secret, policy=self.policy)
        except Refused:
            return None
        self.told.append(int(cohort.sum()))
        return int((cohort & self.trait).sum())


Attack = Callable[[Asked, Mask, int], float]


def guesses(attack: Attack, policy: Policy, *, victims: int = 200) -> float:
    """Share of victims whose trait an attack gets right; half of all people have it, so 0.5 is guessing."""
    rng = np.random.default_rng(11)
    right = 0.0
    for victim in range(victims):
        trait = rng.random(2_000) < 0.5
        cohort = rng.random(2_000) < 0.5
        cohort[victim] = True
        chance = attack(Asked(trait, policy, seed=victim), cohort, victim)
        right += chance if trait[victim] else 1 - chance
    return right / victims


def expected(attack: Attack, policy: Policy, *, victims: int) -> float:
    """What :func:`guesses` comes to for attacks that take strangers away with the victim, without the chance in it.

    The audit decides which groups are answered; how often the victim shows among so many strangers is then binomial.
    """
    rng = np.random.default_rng(12)
    right = 0.0
    for victim in range(victims):
        cohort = rng.random(2_000) < 0.5
        cohort[victim] = True
        node = Asked(cohort, policy, seed=victim)
        attack(node, cohort, victim)
        whole, *left = node.told
        right += shown(sum(whole - size - 1 for size in left), len(left))
    return right / victims


def shown(strangers: int, times: int) -> float:
    """Chance of guessing a trait of half of all from sums over so many strangers that hold the victim ``times``."""
    from scipy.stats import binom  # half a second to load, and most processes never come here

    even = (strangers - times) / 2
    return float(binom.sf(even, strangers, 0.5) + 0.5 * binom.pmf(even, strangers, 0.5))


def without(cohort: Mask, *people: int) -> Mask:
    """The cohort less some people."""
    out = cohort.copy()
    out[list(people)] = False
    return out


def differencing(node: Asked, cohort: Mask, victim: int) -> float:
    """Everybody, then everybody but the victim."""
    both = node.count(cohort), node.count(without(cohort, victim))
    return 0.5 if None in both else float(both[0] - both[1])  # type: ignore[operator]


def wide_differencing(node: Asked, cohort: Mask, victim: int) -> float:
    """Take ever more people away with the victim until an answer comes; then guess the mean of those taken."""
    whole = node.count(cohort)
    others = np.flatnonzero(without(cohort, victim))
    for extra in range(300):
        left = node.count(without(cohort, victim, *others[:extra].tolist()))
        if whole is not None and left is not None:
            share = (whole - left) / (extra + 1)
            return 1.0 if share > 0.5 else 0.0 if share < 0.5 else 0.5
    return 0.5


def tracker(node: Asked, cohort: Mask, victim: int) -> float:
    """Denning's tracker: the cohort in two halves, and once more as a whole but with the victim left out."""
    half = np.arange(len(cohort)) % 2 == 0
    parts = node.count(cohort & half), node.count(cohort & ~half), node.count(without(cohort, victim))
    return 0.5 if None in parts else float(parts[0] + parts[1] - parts[2])  # type: ignore[operator]


def subtraction(node: Asked, cohort: Mask, victim: int) -> float:
    """All people and those outside of the cohort, so that the cohort itself is never asked about; then it, less one."""
    everybody = np.ones(len(cohort), np.bool_)
    parts = node.count(everybody), node.count(~cohort), node.count(without(cohort, victim))
    return 0.5 if None in parts else float(parts[0] - parts[1] - parts[2])  # type: ignore[operator]


def patient_differencing(node: Asked, cohort: Mask, victim: int) -> float:
    """The wide attack with one group of strangers after another, averaged: as many as the cohort has people for."""
    whole = node.count(cohort)
    others = np.flatnonzero(without(cohort, victim))
    seen: list[float] = []
    width = 2 * node.policy.difference_min
    for first in range(0, len(others) - width, width):
        left = node.count(without(cohort, victim, *others[first : first + width].tolist()))
        if whole is not None and left is not None:
            seen.append(whole - left - width / 2 - 0.5)
    mean = float(np.mean(seen)) if seen else 0.0
    return 1.0 if mean > 0 else 0.0 if mean < 0 else 0.5


def conditioned(node: Asked, cohort: Mask, victim: int) -> float:
    """The trait as a condition: those who have it, then those but for what is the victim's alone.

    A victim who has it is the one between. Of one who has not, these are the same people by other words: where these
    are told again, a refusal is an answer.
    """
    first, second = node.count(cohort & node.trait), node.count(without(cohort, victim) & node.trait)
    return 1.0 if second is None else float((first or 0) - second)


def conditioned_halves(node: Asked, cohort: Mask, victim: int) -> float:
    """The same where those who have the trait were told of in two parts, and never as a whole."""
    has, half = cohort & node.trait, np.arange(len(cohort)) % 2 == 0
    first = [node.count(has & half), node.count(has & ~half)]
    second = node.count(without(cohort, victim) & node.trait)
    return 1.0 if second is None else float(sum(part or 0 for part in first) - second)


# genotypes from statistics of many phenotypes


def recovered(people: int, phenotypes: int, seed: int) -> float:
    """How much of who carries a rare allele follows from its score statistics with known phenotypes.

    The least-squares genome behind the statistics, its largest entries taken for the carriers: the share of carriers
    that are right, less what guessing gets right.
    """
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(40):
        known = rng.normal(size=(people, phenotypes))
        carriers = rng.choice(people, people // 20, replace=False)
        genome = np.isin(np.arange(people), carriers).astype(np.float64)
        statistics = known.T @ genome
        guess = known @ np.linalg.solve(known.T @ known, statistics)
        taken = np.argsort(-guess)[: len(carriers)]
        scores.append(np.isin(taken, carriers).mean() - len(carriers) / people)
    return float(np.mean(scores))


def auc(one: Floats, other: Floats) -> float:
    """How often a time of the one kind is longer than one of the other; 0.5 tells nothing."""
    gaps = one[:, None] - other[None, :]
    return float((gaps > 0).mean() + 0.5 * (gaps == 0).mean())
