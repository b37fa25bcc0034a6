"""What it costs on disk to know where each genome was called, resolved at the store's sites as ingest of gVCF does it.

Of 100 people of the 1000 Genomes Project sequenced to 30x, 95.3 to 96.5 % of the autosomes have 15 reads or more, the
depth is 32 and differs by 4.6 from place to place (median, GA4GH WGS quality metrics, benchmark resources). So most
of what is not called is the same in all people: here 4 % of the genome lies in stretches that 97 % of them miss. A
normal distribution of that depth has less than 0.1 % of places below the 10 reads that are asked: these everybody
misses elsewhere.

That is for depth alone. Counted by ingest's own rules in two real gVCF files of NA12878, on GRCh37 and GRCh38 from base
10,000,000 of chromosome 20: of 10,001 bases read by DeepVariant 1.1 (its test data, golden.postprocess_gvcf_output), 14
single ones have no good call and 27 lie inside own deletions, 0.41 %; of 4,900 bases read by GATK 3.4 (its test data,
hc_gatk3.4_gvcfmode, from 10,000,598), 17 and 10, 0.55 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.bench import sample
from federome.store.pgen import PgenWriter

GENOME: Final = 2_900_000_000
HARD, HARD_STRETCH, HARD_MISSED = 0.040, 1_000, 0.97


@dataclass(frozen=True, slots=True)
class Gaps:
    """The share of places that each misses where others do not, in stretches of how many bases."""

    own: float
    stretch: int


DERIVED: Final = Gaps(0.001, 150)
COUNTED: Final = Gaps(0.0041, 2)


def bytes_a_genome(folder: Path, people: int, bases: int, variants: int, gaps: Gaps = DERIVED) -> float:
    """What missing calls add to the records of so many sites in a stretch of so many bases, for a whole genome."""
    places = np.sort(np.random.default_rng(17).integers(0, bases, variants))
    nothing = [np.zeros(0, np.uint32)] * variants
    known, unknown = (
        _size(folder / "callability.pgen", people, each)
        for each in (nothing, list(missed(people, bases, places, gaps)))
    )
    return (unknown - known) / people * (GENOME / bases)


def missed(people: int, bases: int, places: NDArray[np.int64], gaps: Gaps = DERIVED) -> Iterator[NDArray[np.uint32]]:
    """For each place the people that are not called there, rising."""
    rng = np.random.default_rng(23)
    stretches = bases // HARD_STRETCH
    hard = set(rng.choice(stretches, round(HARD * stretches), replace=False).tolist())
    who = rng.integers(0, people, round(people * gaps.own * bases / gaps.stretch))
    starts = rng.integers(0, bases, len(who))
    first, last = np.searchsorted(places, starts), np.searchsorted(places, starts + gaps.stretch)
    sizes = last - first
    at = np.repeat(first - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
    key = np.unique(at * people + np.repeat(who, sizes))
    own = (key % people).astype(np.uint32)
    ends = np.searchsorted(key, np.arange(len(places) + 1) * people).tolist()
    here, together = -1, own[:0]
    for place, (start, stop) in zip(places.tolist(), pairwise(ends), strict=True):
        if place // HARD_STRETCH in hard:
            if place // HARD_STRETCH != here:
                here = place // HARD_STRETCH
                together = np.flatnonzero(rng.random(people) < HARD_MISSED).astype(np.uint32)
            yield np.union1d(together, own[start:stop])
        else:
            yield own[start:stop]


def with_missing(drawn: sample.Drawn, missing: NDArray[np.uint32], people: int) -> sample.Drawn:
    """A variant as `sample.draw` makes it, with some people not called: as a list where it is short, else as a row."""
    carriers, codes, dense = drawn
    if dense is None and len(missing) < people // 16:
        kept = ~np.isin(carriers, missing)
        listed = np.concatenate([carriers[kept], missing])
        order = np.argsort(listed)
        calls = np.concatenate([codes[kept], np.full(len(missing), 3, np.uint8)])
        return listed[order], calls[order], None
    row = np.zeros(people, np.int8) if dense is None else dense
    row[carriers] = codes
    row[missing] = -1
    return carriers[:0], codes[:0], row


def _size(path: Path, people: int, gaps: list[NDArray[np.uint32]]) -> int:
    """Bytes of a file of as many variants, with these people missing at each."""
    drawn = sample.draw(people, len(gaps), "mixed", seed=19)
    with PgenWriter(path, people, max_variants=len(gaps)) as writer:
        for each, missing in zip(drawn, gaps, strict=True):
            carriers, codes, dense = with_missing(each, missing, people)
            if dense is None:
                writer.append_sparse(carriers, codes)
            else:
                writer.append(dense)
    return path.stat().st_size
