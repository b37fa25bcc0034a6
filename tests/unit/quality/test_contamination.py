"""Somebody else's reads: planted mixtures are found, clean samples are not accused, and no depths means unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from federome.quality.contamination import LEAST_SNPS, Reads, from_files
from federome.quality.policy import Policy

PEOPLE, SNPS, DEPTH, ERROR = 150, 5_000, 30, 0.001


def reads(shares: dict[int, float], *, snps: int = SNPS, error: float = ERROR, seed: int = 1) -> Reads:
    """Reads of PEOPLE at 30x with errors; ``shares`` of some people's reads are the next person's."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.05, 0.95, snps)
    genotypes = (rng.random((snps, PEOPLE, 2)) < p[:, None, None]).sum(axis=2).astype(np.int8)
    foreign = np.roll(genotypes, -1, axis=1)
    mixed = np.zeros(PEOPLE)
    mixed[list(shares)] = list(shares.values())
    true = (1 - mixed) * genotypes / 2 + mixed * foreign / 2
    seen = true * (1 - error) + (1 - true) * error
    depth = rng.poisson(DEPTH, genotypes.shape)
    alt = rng.binomial(depth, seen)
    found = Reads(PEOPLE)
    for at in range(0, snps, 700):  # in parts that do not divide the jackknife's blocks
        rows = slice(at, at + 700)
        found.add(genotypes[rows], (depth - alt)[rows], alt[rows])
    return found


@pytest.fixture(scope="module")
def mixtures() -> list[tuple[float, float]]:
    """(planted, estimated) of everybody in a cohort with ten 1 % and ten 5 % mixtures, and five of 0.2 %."""
    planted = (
        {7 * i: 0.01 for i in range(10)} | {7 * i + 2: 0.05 for i in range(10)} | {100 + i: 0.002 for i in range(5)}
    )
    found = reads(planted).estimates()
    assert all(each.share is not None for each in found)
    wrong = [row for row, each in enumerate(found) if each.found != (planted.get(row, 0.0) >= 0.01)]
    assert wrong == []  # every mixture of 1 % and 5 % is found, and nobody clean is accused
    refuse = Policy().limit("cross_contamination_rate").refuse  # type: ignore[union-attr]
    assert all((each.share > refuse) == (planted.get(row) == 0.05) for row, each in enumerate(found))  # type: ignore[operator]
    return [(planted.get(row, 0.0), float(each.share or 0)) for row, each in enumerate(found)]


def test_planted_mixtures_are_found_and_measured(mixtures: list[tuple[float, float]]) -> None:
    for share, tolerance in ((0.0, 0.004), (0.01, 0.004), (0.05, 0.012)):
        estimates = [found for planted, found in mixtures if planted == share]
        assert estimates == pytest.approx([share] * len(estimates), abs=tolerance)
        assert np.mean(estimates) == pytest.approx(share, abs=0.002)


def test_a_bad_sequencer_is_no_second_person() -> None:
    """Five times the errors: they do not follow the frequency of the foreign allele, another person's reads do."""
    found = reads({}, error=0.005, seed=3).estimates()
    assert not any(each.found for each in found)
    assert np.mean([each.base for each in found]) == pytest.approx(0.005, abs=0.0005)


def test_too_few_reads_are_unknown_or_say_so() -> None:
    few = reads({0: 0.05}, snps=LEAST_SNPS // 2).estimates()
    assert all(each.share is None and not each.found and not each.excluded for each in few)
    some = reads({}, snps=700, error=0.04).estimates()
    assert not any(each.found for each in some)
    assert sum(each.excluded for each in some) < PEOPLE  # 1 % is not excluded for everybody


def write(path: Path, *, depths: bool) -> NDArray[np.int8]:
    """A VCF of 30 people with AD where asked for; person 0 is mixed with person 1."""
    rng = np.random.default_rng(2)
    people, snps = 30, 1_500
    p = rng.uniform(0.1, 0.9, snps)
    genotypes = (rng.random((snps, people, 2)) < p[:, None, None]).sum(axis=2).astype(np.int8)
    true = genotypes / 2
    true[:, 0] = 0.95 * true[:, 0] + 0.05 * true[:, 1]
    alt = rng.binomial(30, true * 0.999 + (1 - true) * 0.001)
    ad = '##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Depths">\n' if depths else ""
    head = (
        f'##fileformat=VCFv4.3\n##contig=<ID=chr1>\n##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n{ad}'
    )
    columns = [
        "#CHROM",
        "POS",
        "ID",
        "REF",
        "ALT",
        "QUAL",
        "FILTER",
        "INFO",
        "FORMAT",
        *(f"P{i}" for i in range(people)),
    ]
    calls = np.array(["0/0", "0/1", "1/1"])
    with path.open("w") as file:
        file.write(head + "\t".join(columns) + "\n")
        for row in range(snps):
            told = [
                f"{calls[g]}:{30 - a},{a}" if depths else calls[g]
                for g, a in zip(genotypes[row].tolist(), alt[row].tolist(), strict=True)
            ]
            form = "GT:AD" if depths else "GT"
            file.write("\t".join(["chr1", str(1000 + 10 * row), ".", "A", "G", ".", ".", ".", form, *told]) + "\n")
    return genotypes


def test_depths_are_read_from_vcf(tmp_path: Path) -> None:
    write(tmp_path / "with.vcf", depths=True)
    told = from_files([tmp_path / "with.vcf"])
    assert told is not None
    people, found = told
    assert [name for name, each in zip(people, found, strict=True) if each.found] == ["P0"]


def test_without_depths_contamination_is_unknown(tmp_path: Path) -> None:
    write(tmp_path / "without.vcf", depths=False)
    assert from_files([tmp_path / "without.vcf"]) is None
