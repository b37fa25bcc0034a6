"""Facts about GRCh38 that the demo's input needs: chromosome lengths, pseudo-autosomal regions, a few genes.

Also the demo's synthetic reference sequence, one base per position, so that every synthetic country agrees on
REF without a FASTA file. Used by the writers of hospital folders; nothing else in the product reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from federome.ingest.contigs import LENGTHS
from federome.model.variant import Assembly

ASSEMBLY: Assembly = "GRCh38"

# Autosomes, then X, so that index order is file order.
CHROMOSOME_LENGTHS: dict[str, int] = {
    name: length for name, length in LENGTHS[ASSEMBLY].items() if name not in ("Y", "MT")
}
CHROMOSOMES: tuple[str, ...] = tuple(CHROMOSOME_LENGTHS)
X = CHROMOSOMES.index("X")

# Pseudo-autosomal regions of X, 1-based and inclusive (Genome Reference Consortium): men are diploid here.
PSEUDO_AUTOSOMAL = ((10_001, 2_781_479), (155_701_383, 156_030_895))

BASES = "ACGT"


@dataclass(frozen=True, slots=True)
class Gene:
    """A gene region, 0-based and half-open like a BED line."""

    name: str
    chromosome: str
    start0: int
    end: int


# RefSeq positions (NCBI Gene); SHOX lies in the first pseudo-autosomal region.
KNOWN_GENES: tuple[Gene, ...] = (
    Gene("PCSK9", "1", 55_039_547, 55_064_852),
    Gene("SLCO1B1", "12", 21_131_193, 21_239_796),
    Gene("BRCA2", "13", 32_315_507, 32_400_268),
    Gene("BRCA1", "17", 43_044_294, 43_125_364),
    Gene("LDLR", "19", 11_089_462, 11_133_820),
    Gene("APOE", "19", 44_905_795, 44_909_393),
    Gene("SHOX", "X", 624_343, 659_411),
    Gene("TLR7", "X", 12_867_071, 12_890_361),
)


def is_hemizygous(chromosome: npt.NDArray[np.uint8], position: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """True where a man has one copy: on X outside the pseudo-autosomal regions.

    ``chromosome`` holds indices into ``CHROMOSOMES``; ``position`` is 1-based.
    """
    hemizygous: npt.NDArray[np.bool_] = chromosome == X
    for first, last in PSEUDO_AUTOSOMAL:
        hemizygous &= ~((position >= first) & (position <= last))
    return hemizygous


def reference_bases(chromosome: npt.NDArray[np.uint8], position: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """The synthetic reference base (index into ``BASES``) at each 1-based position: a hash, not a real genome.

    The mixing function is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    z = (chromosome.astype(np.uint64) << np.uint64(40)) + position.astype(np.uint64)
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) & np.uint64(3)).astype(np.uint8)
