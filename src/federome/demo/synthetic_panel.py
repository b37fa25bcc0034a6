"""The panel that all synthetic countries share: positions, alleles, genes, frequencies, and planted effects.

One panel follows from (seed, variants) alone, so nodes that never met agree on every variant. A country then draws
its own frequencies around it. ``synthetic_genotypes`` turns both into people.

Model. Rare variants have a base frequency with density 1/f and drift in each country by the Balding-Nichols model
(Balding & Nichols 1995, doi:10.1007/BF01441146), which leaves most of the rarest in one or few countries. Common
variants live in blocks of perfect co-inheritance: a block has ``FOUNDERS`` founder haplotypes with weights, a variant
is carried by a run of neighbouring founders, and the weights of a country are Dirichlet around the base weights.
Sums of Dirichlet weights are beta distributed, so common variants follow Balding-Nichols too, with linkage kept.
Half of the common variants share a block with others; half stand alone at even steps through the genome, like the
backbone of a genotyping array, so that kinship can be told from chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from federome.demo.genome import (
    BASES,
    CHROMOSOME_LENGTHS,
    CHROMOSOMES,
    KNOWN_GENES,
    Gene,
    X,
    is_hemizygous,
    reference_bases,
)
from federome.errors import Invalid

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Trait = Literal["ldl_c_mmol_l", "I25"]

MIN_VARIANTS = 4_000
FOUNDERS = 64
COMMON_SHARE = 0.02
COMMON_PER_BLOCK = 8
COMMON_FREQUENCY = (0.01, 0.5)
BACKBONE_SHARE = 0.5  # of the common variants
BACKBONE_FREQUENCY = (0.05, 0.5)
RARE_FREQUENCY = (4e-5, 3e-3)
LOW_FREQUENCY = 0.05  # below this a common variant is called low-frequency

# Rough distance of a country from the European average, as F_ST: countries of recent isolation stand further off
# (the pattern of Nelis et al. 2009, doi:10.1371/journal.pone.0005472; the figures are ours).
DRIFT = 0.002
MORE_DRIFT = {"CY": 0.0022, "FI": 0.0025, "IS": 0.0025, "MT": 0.0022}

LIPID_GENES = ("PCSK9", "LDLR", "APOE")
LDL_SD = 1.0  # mmol/L, all people
PLANTED: dict[Trait, tuple[int, int]] = {"ldl_c_mmol_l": (4, 8), "I25": (3, 5)}  # low-frequency, common
VARIANCE_EXPLAINED = (0.0005, 0.005)

CONSEQUENCES = ("", "synonymous_variant", "missense_variant", "stop_gained")
IMPACTS = ("", "LOW", "MODERATE", "HIGH")
# Shares of the variants inside a gene; stop_gained only among rare ones, where selection leaves them.
SYNONYMOUS, MISSENSE, STOP_GAINED = 0.08, 0.15, 0.01

# Purposes of random streams, so that no two draws share one.
_STREAM_PANEL, _STREAM_EFFECTS, _STREAM_FREQUENCIES = 1, 2, 3


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """A variant that truly acts. ``effect`` per ALT allele: mmol/L of LDL, or standard deviations of liability."""

    trait: Trait
    variant: int
    effect: float
    variance_explained: float


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """All variants of one synthetic world, sorted by chromosome and position.

    Arrays over variants unless said otherwise; ``block`` is -1 and ``carriers`` has no row for rare variants.
    ``common`` lists the variants with a row in ``carriers`` (common x FOUNDERS, 1 where the founder carries ALT).
    """

    chromosome: Bytes
    position: Ints
    ref: Bytes
    alt: Bytes
    frequency: Floats
    hemizygous: Bools
    consequence: Bytes
    region: Ints
    block: Ints
    common: Ints
    carriers: Bytes
    founder_weights: Floats  # blocks x FOUNDERS
    regions: tuple[tuple[str, int, int], ...]  # chromosome, 0-based start, end
    region_gene: tuple[Gene, ...]
    planted: tuple[Planted, ...]

    def __len__(self) -> int:
        return len(self.position)

    def key(self, variant: int) -> str:
        """The variant's name ``chromosome:position:REF:ALT``."""
        chromosome = CHROMOSOMES[self.chromosome[variant]]
        return f"{chromosome}:{self.position[variant]}:{BASES[self.ref[variant]]}:{BASES[self.alt[variant]]}"


@dataclass(frozen=True, slots=True, eq=False)
class CountryFrequencies:
    """What one country draws around the panel: frequencies of rare variants, weights of founder haplotypes."""

    rare: Floats  # over all variants; meaningful where block is -1
    founder_weights: Floats  # blocks x FOUNDERS, rows sum to 1


def make_panel(seed: int, variants: int) -> Panel:
    """The panel of a synthetic world. Raises ``Invalid`` below ``MIN_VARIANTS`` variants."""
    if variants < MIN_VARIANTS:
        raise Invalid(
            f"A synthetic panel needs at least {MIN_VARIANTS} variants, not {variants}.",
            where="variants",
            remedy=f"Ask for {MIN_VARIANTS} or more.",
        )
    rng = np.random.default_rng([seed, _STREAM_PANEL])
    genes, starts, ends, region_chromosome = _lay_regions(rng, min(max(variants // 20, 60), 20_000))
    common_count = round(COMMON_SHARE * variants)
    block_of_common, region_of_block = _lay_blocks(rng, genes, common_count)
    block = np.concatenate([block_of_common, np.full(variants - common_count, -1)])
    weight = np.cumsum(ends - starts)
    rare_region = np.searchsorted(weight, rng.integers(0, weight[-1], variants - common_count), side="right")
    region = np.concatenate([region_of_block[block_of_common], rare_region])
    position = _distinct_positions(rng, region, starts, ends)
    order = np.lexsort((position, region_chromosome[region]))
    region, block, position = region[order], block[order], position[order]

    founder_weights = rng.dirichlet(np.ones(FOUNDERS), len(region_of_block))
    common = np.flatnonzero(block >= 0)
    carriers = _founder_carriers(rng, founder_weights, block[common])
    frequency = _log_scale(RARE_FREQUENCY, rng.random(variants))
    frequency[common] = (founder_weights[block[common]] * carriers).sum(axis=1)

    chromosome = region_chromosome[region]
    ref = reference_bases(chromosome, position)
    # two substitutions in three are transitions: A<->G and C<->T differ by 2 in BASES, the others by 1 or 3
    alt = ref ^ rng.choice(np.array([2, 2, 2, 2, 1, 3], dtype=np.uint8), variants)
    return Panel(
        chromosome=chromosome,
        position=position,
        ref=ref,
        alt=alt,
        frequency=frequency,
        hemizygous=is_hemizygous(chromosome, position),
        consequence=_consequences(rng, position, genes, region, block),
        region=region,
        block=block,
        common=common,
        carriers=carriers,
        founder_weights=founder_weights,
        regions=tuple(
            (CHROMOSOMES[c], int(s), int(e)) for c, s, e in zip(region_chromosome, starts, ends, strict=True)
        ),
        region_gene=genes,
        planted=_plant(seed, genes, chromosome, region, frequency, _linked(block)),
    )


def country_frequencies(panel: Panel, seed: int, country: str) -> CountryFrequencies:
    """Draw a country's frequencies around the panel's, with the country's ``DRIFT``."""
    rng = np.random.default_rng([seed, _STREAM_FREQUENCIES, *country.encode()])
    drift = MORE_DRIFT.get(country, DRIFT)
    scale = (1 - drift) / drift
    rare = rng.beta(panel.frequency * scale, (1 - panel.frequency) * scale)
    # a Dirichlet row is gamma draws over their sum; the floor keeps a row of tiny shapes from summing to zero
    gamma = np.maximum(rng.standard_gamma(panel.founder_weights * scale), 1e-300)
    return CountryFrequencies(rare=rare, founder_weights=gamma / gamma.sum(axis=1, keepdims=True))


def _log_scale(bounds: tuple[float, float], u: Floats) -> Floats:
    """Map [0, 1) to the bounds on a logarithmic scale: a uniform ``u`` gets density 1/x."""
    low, high = bounds
    return low * (high / low) ** u


def _strata(rng: np.random.Generator, count: int) -> Floats:
    """Uniform draws, one from each of ``count`` equal strata: small panels have their share of every frequency too."""
    return (rng.permutation(count) + rng.random(count)) / count


def _lay_regions(rng: np.random.Generator, count: int) -> tuple[tuple[Gene, ...], Ints, Ints, Bytes]:
    """Panel regions in genome order, each around one gene: placeholders on a jittered grid, known genes in place.

    Returns the genes, region starts (0-based), region ends and chromosome indices.
    """
    genome = sum(CHROMOSOME_LENGTHS.values())
    flank = 5_000
    laid: list[tuple[int, int, int, Gene | None]] = []
    for index, (chromosome, length) in enumerate(CHROMOSOME_LENGTHS.items()):
        known = [gene for gene in KNOWN_GENES if gene.chromosome == chromosome]
        laid += [(index, gene.start0 - flank, gene.end + flank, gene) for gene in known]
        slots = max(1, round(count * length / genome))
        slot = (length - 200_000) // slots
        sizes = (rng.uniform(0.4, 1.0, slots) * min(0.6 * slot, 80_000)).astype(np.int64)
        starts = 100_000 + slot * np.arange(slots) + (rng.random(slots) * (slot - sizes)).astype(np.int64)
        for start0, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            end = start0 + size
            if not any(start0 < gene.end + 2 * flank and gene.start0 - 2 * flank < end for gene in known):
                laid.append((index, start0, end, None))
    laid.sort(key=lambda one: one[:2])
    genes = []
    for number, (index, start0, end, gene) in enumerate(laid, start=1):
        margin = (end - start0) * 3 // 20
        genes.append(gene or Gene(f"GENE{number:05d}", CHROMOSOMES[index], start0 + margin, end - margin))
    return (
        tuple(genes),
        np.array([start0 for _, start0, _, _ in laid], dtype=np.int64),
        np.array([end for _, _, end, _ in laid], dtype=np.int64),
        np.array([index for index, *_ in laid], dtype=np.uint8),
    )


def _lay_blocks(rng: np.random.Generator, genes: tuple[Gene, ...], common_count: int) -> tuple[Ints, Ints]:
    """Deal the common variants into blocks: block of each, and region of each block, no region with two.

    The lipid genes and random regions hold the blocks of several variants; the backbone is one variant a block, its
    regions at even steps through the genome.
    """
    alone = round(BACKBONE_SHARE * common_count)
    together = common_count - alone
    blocks = max(len(LIPID_GENES), -(-together // COMMON_PER_BLOCK))
    lipid = np.array([i for i, gene in enumerate(genes) if gene.name in LIPID_GENES], dtype=np.int64)
    rest = np.setdiff1d(np.arange(len(genes)), lipid)
    linked = np.concatenate([lipid, rng.choice(rest, blocks - len(lipid), replace=False)])
    rest = np.setdiff1d(rest, linked)
    backbone = rest[((np.arange(alone) + rng.random()) * len(rest) / alone).astype(np.int64)]
    block = np.concatenate([np.arange(together) % blocks, blocks + np.arange(alone)])
    return block, np.concatenate([linked, backbone])


def _linked(block: Ints) -> Ints:
    """The common variants that share their block with others."""
    size = np.bincount(block[block >= 0])
    return np.flatnonzero((block >= 0) & (size[block] > 1))


def _distinct_positions(rng: np.random.Generator, region: Ints, starts: Ints, ends: Ints) -> Ints:
    """A 1-based position for each variant, uniform in its region, no two the same (regions do not overlap)."""
    position = np.zeros(len(region), dtype=np.int64)
    todo = np.arange(len(region))
    while len(todo):
        size = (ends - starts)[region[todo]]
        position[todo] = starts[region[todo]] + 1 + (rng.random(len(todo)) * size).astype(np.int64)
        key = region * 2**32 + position
        _, first = np.unique(key, return_index=True)
        todo = np.setdiff1d(np.arange(len(region)), first)
    return position


def _founder_carriers(rng: np.random.Generator, weights: Floats, block: Ints) -> Bytes:
    """Which founders carry each common variant: a run from a random founder until the drawn frequency is reached."""
    target = np.empty(len(block))
    alone = np.bincount(block)[block] == 1
    low, high = BACKBONE_FREQUENCY
    target[alone] = low + (high - low) * _strata(rng, int(alone.sum()))
    target[~alone] = _log_scale(COMMON_FREQUENCY, _strata(rng, int((~alone).sum())))
    shift = rng.integers(0, FOUNDERS, len(block))
    founder = (shift[:, None] + np.arange(FOUNDERS)) % FOUNDERS
    rolled = np.take_along_axis(weights[block], founder, axis=1)
    # the run goes on while the weight before it is short of the target, so it has at least one founder
    run = (np.cumsum(rolled, axis=1) - rolled) < target[:, None]
    carriers = np.zeros_like(run, dtype=np.uint8)
    np.put_along_axis(carriers, founder, run.astype(np.uint8), axis=1)
    return carriers


def _consequences(
    rng: np.random.Generator, position: Ints, genes: tuple[Gene, ...], region: Ints, block: Ints
) -> Bytes:
    """Index into ``CONSEQUENCES`` for each variant; 0 outside genes and for most variants inside them."""
    first = np.array([gene.start0 for gene in genes])[region]
    last = np.array([gene.end for gene in genes])[region]
    inside = (position > first) & (position <= last)
    u = rng.random(len(position))
    drawn = np.zeros(len(position), dtype=np.uint8)
    drawn[u < SYNONYMOUS + MISSENSE] = 2
    drawn[u < SYNONYMOUS] = 1
    drawn[(u > 1 - STOP_GAINED) & (block < 0)] = 3
    return np.where(inside, drawn, 0).astype(np.uint8)


def _plant(
    seed: int, genes: tuple[Gene, ...], chromosome: Bytes, region: Ints, frequency: Floats, linked: Ints
) -> tuple[Planted, ...]:
    """Choose the causal variants, spread over as many blocks as there are, and size their effects.

    An additive variant of frequency f and effect b explains 2 f (1-f) b^2 of the variance under Hardy-Weinberg.
    The first LDL variants fall in the lipid genes.
    """
    rng = np.random.default_rng([seed, _STREAM_EFFECTS])
    names = np.array([gene.name for gene in genes])
    pool = rng.permutation(linked[(chromosome[linked] != X) & (frequency[linked] <= 0.6)])
    # rank within the block first, so that second choices of a block come after the first choice of every block
    by_block = np.argsort(region[pool], kind="stable")
    _, size = np.unique(region[pool], return_counts=True)
    rank = np.empty(len(pool), dtype=np.int64)
    rank[by_block] = np.arange(len(pool)) - np.repeat(np.cumsum(size) - size, size)
    lipid = np.isin(names[region[pool]], LIPID_GENES)
    pool = pool[np.lexsort((~lipid, rank))]
    planted: list[Planted] = []
    used: set[int] = set()
    for trait, (low, high) in PLANTED.items():
        scale = LDL_SD if trait == "ldl_c_mmol_l" else 1.0
        for is_low, wanted in ((False, high), (True, low)):
            fit = [int(v) for v in pool if (frequency[v] < LOW_FREQUENCY) == is_low and int(v) not in used]
            for variant in fit[:wanted]:
                share = float(_log_scale(VARIANCE_EXPLAINED, rng.random(1))[0])
                f = frequency[variant]
                sign = 1.0 if rng.random() < 0.5 else -1.0
                effect = sign * scale * float(np.sqrt(share / (2 * f * (1 - f))))
                planted.append(Planted(trait, variant, effect, share))
                used.add(variant)
    return tuple(planted)
