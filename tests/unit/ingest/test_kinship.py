"""Kinship against a slow twin, against plink2 on real families, and the rules of when it is assessed at all."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from federome.ingest.chunk import Chunk
from federome.ingest.kinship import FIRST_DEGREE, SECOND_DEGREE, KinshipSites, related_pairs


def naive(genotypes: NDArray[np.int8], first: int, second: int) -> float | None:
    """Equation 11 of Manichaikul et al. 2010, site by site."""
    opposite = both = one = other = 0
    for a, b in zip(genotypes[:, first].tolist(), genotypes[:, second].tolist(), strict=True):
        if a < 0 or b < 0:
            continue
        opposite += abs(a - b) == 2
        both += a == 1 and b == 1
        one += a == 1
        other += b == 1
    fewer = min(one, other)
    if not fewer:
        return None
    return (both - 2 * opposite) / (2 * fewer) + 0.5 - (one + other) / (4 * fewer)


def family(sites: int, people: int, *, missing: float, seed: int) -> NDArray[np.int8]:
    """Unrelated people, but the last two are child of the first two, and copy of person 2."""
    rng = np.random.default_rng(seed)
    frequency = rng.uniform(0.1, 0.5, sites)[:, None]
    haplotypes = rng.random((sites, people, 2)) < frequency[:, :, None]
    pick = rng.integers(0, 2, (2, sites))
    rows = np.arange(sites)
    haplotypes[:, -2] = np.stack([haplotypes[rows, 0, pick[0]], haplotypes[rows, 1, pick[1]]], axis=1)
    haplotypes[:, -1] = haplotypes[:, 2]
    genotypes = haplotypes.sum(axis=2).astype(np.int8)
    genotypes[rng.random(genotypes.shape) < missing] = -1
    return genotypes


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(4, 40),
    st.sampled_from([0, 0.02, 0.5]),
    st.integers(0, 2**32),
    st.floats(0.01, 0.4),
)
def test_equals_the_slow_twin(sites: int, people: int, missing: float, seed: int, limit: float) -> None:
    genotypes = family(sites, people, missing=missing, seed=seed)
    every = [(first, second) for first in range(people) for second in range(first + 1, people)]
    kinships = {pair: kinship for pair in every if (kinship := naive(genotypes, *pair)) is not None}
    expected = {pair for pair, kinship in kinships.items() if kinship >= limit}
    # a kinship within rounding of the limit may fall on either side
    near = {pair for pair, kinship in kinships.items() if abs(kinship - limit) < 1e-12}
    found = related_pairs(genotypes, limit=limit)
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert set(pairs) - near == expected - near
    assert found.kinship == pytest.approx([kinships[pair] for pair in pairs], abs=1e-12)


def test_more_people_than_a_tile_and_a_stretch() -> None:
    genotypes = family(1_000, 700, missing=0.01, seed=3)
    found = related_pairs(genotypes, limit=FIRST_DEGREE)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(0, 698), (1, 698), (2, 699)]
    assert found.kinship == pytest.approx([0.25, 0.25, 0.5], abs=0.05)


def test_nobody_and_no_sites() -> None:
    assert len(related_pairs(np.empty((0, 5), np.int8))) == 0
    assert len(related_pairs(np.full((9, 5), -1, np.int8))) == 0
    with pytest.raises(ValueError, match="positive"):
        related_pairs(np.zeros((4, 4), np.int8), limit=0)


def test_equals_plink2_on_real_families(shared: Path, tool: Callable[[str], str], tmp_path: Path) -> None:
    """All pairs of 3,202 people of whom 602 trios: the same pairs, the same coefficients."""
    folder = shared / "data" / "genotypes"
    vcf, out = folder / "1000G_hc_GRCh38_3202x1004_phased.vcf.gz", tmp_path / "king"
    psam = folder / "1000G_3202_populations_pedigree.psam"
    common = ["--vcf", str(vcf), "--psam", str(psam), "--autosome", "--maf", "0.05", "--out", str(out)]
    subprocess.run(
        [tool("plink2"), *common, "--make-king-table", "--king-table-filter", str(SECOND_DEGREE), "--make-pgen"],
        check=True,
        capture_output=True,
    )
    import pgenlib

    with pgenlib.PgenReader(str(out.with_suffix(".pgen")).encode()) as reader:
        genotypes = np.empty((reader.get_variant_ct(), reader.get_raw_sample_ct()), np.int8)
        reader.read_range(0, len(genotypes), genotypes)
    genotypes[genotypes == -9] = -1
    people = [line.split("\t")[0] for line in out.with_suffix(".psam").read_text().splitlines()[1:]]
    rows = [line.split("\t") for line in out.with_suffix(".kin0").read_text().splitlines()]
    columns = {name.lstrip("#"): number for number, name in enumerate(rows[0])}
    expected = {
        frozenset((row[columns["IID1"]], row[columns["IID2"]])): float(row[columns["KINSHIP"]]) for row in rows[1:]
    }
    found = related_pairs(genotypes)
    ours = {
        frozenset((people[first], people[second])): kinship
        for first, second, kinship in zip(found.first, found.second, found.kinship, strict=True)
    }
    assert len(expected) > 1_000
    assert ours == pytest.approx(expected, abs=1e-5)


def chunk_of(genotypes: NDArray[np.int8], *, spacing: int = 200_000, chromosome: str = "1") -> Chunk:
    carriers = [np.flatnonzero(row).astype(np.uint32) for row in genotypes]
    codes = [(row[c].view(np.uint8) & np.uint8(3)) for row, c in zip(genotypes, carriers, strict=True)]
    count = len(genotypes)
    return Chunk(
        chromosome=chromosome,
        positions=np.arange(1, count + 1, dtype=np.int64) * spacing,
        refs=["A"] * count,
        alts=["G"] * count,
        lines=np.arange(count, dtype=np.int64),
        offsets=np.concatenate([[0], np.cumsum([c.size for c in carriers])]).astype(np.int64),
        carriers=np.concatenate(carriers),
        codes=np.concatenate(codes),
        effects=[()] * count,
        not_left_aligned=np.zeros(count, np.bool_),
    )


def test_finds_relatives_while_chunks_stream_by() -> None:
    genotypes = family(4_000, 60, missing=0.01, seed=7)
    sites = KinshipSites(60)
    for number in range(20):
        sites.add(chunk_of(genotypes[200 * number : 200 * number + 200], chromosome=str(number + 1)))
    relatives = sites.related()
    assert relatives.limit == SECOND_DEGREE
    pairs = zip(relatives.pairs.first.tolist(), relatives.pairs.second.tolist(), strict=True)
    assert list(pairs) == [(0, 58), (1, 58), (2, 59)]


def test_is_not_assessed_with_too_few_sites() -> None:
    sites = KinshipSites(60)
    sites.add(chunk_of(family(100, 60, missing=0, seed=7)))
    assert sites.related().limit is None
    assert len(sites.related().pairs) == 0
    assert KinshipSites(60).related().limit is None


def test_first_degree_only_with_a_few_hundred_sites() -> None:
    sites = KinshipSites(60)
    for number in range(22):
        sites.add(chunk_of(family(30, 60, missing=0, seed=number), chromosome=str(number + 1)))
    relatives = sites.related()
    assert relatives.limit == FIRST_DEGREE
    pairs = zip(relatives.pairs.first.tolist(), relatives.pairs.second.tolist(), strict=True)
    assert list(pairs) == [(0, 58), (1, 58), (2, 59)]


def test_keeps_common_distant_uncorrelated_snps_only() -> None:
    genotypes = family(40, 500, missing=0, seed=1)

    def kept(rows: NDArray[np.int8], **place: int | str) -> int:
        sites = KinshipSites(500)
        sites.add(chunk_of(rows, **place))  # type: ignore[arg-type]
        return len(sites)

    assert kept(genotypes) == 40
    assert kept(genotypes, chromosome="X") == 0
    assert kept(genotypes, spacing=1_000) == 8
    assert kept(np.repeat(genotypes[:1], 40, axis=0)) == 1
    assert kept(np.minimum(genotypes, np.arange(500) < 20).astype(np.int8)) == 0
    unread = genotypes.copy()
    unread[:, :50] = -1
    assert kept(unread) == 0
