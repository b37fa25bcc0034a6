"""The matcher against a slow twin that writes down every pair of strands."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federome.pgx.call import Options, call
from federome.pgx.genes import (
    MISSING,
    NO_COPY,
    OTHER,
    PHASED,
    UNPHASED,
    Gene,
    Genotype,
    NamedAllele,
    Site,
    genotype,
)
from federome.pgx.match import best, evidence, match

SITES = tuple(Site(f"rs{n}", "1", 100 + n, "A", ("G", "T")) for n in range(4))


def _gene(rows: list[tuple[str | None, ...]], **more: object) -> Gene:
    alleles = [NamedAllele("*1", tuple(site.ref for site in SITES), reference=True, whole=True)]
    alleles += [NamedAllele(f"*{number}", row) for number, row in enumerate(rows, 2)]
    return Gene("GENE", "1", SITES, tuple(alleles), **more)  # type: ignore[arg-type]


def _twin(gene: Gene, found: Genotype) -> set[tuple[str, ...]]:
    """Every arrangement of the blocks, every named allele on each strand, base by base."""
    called = [n for n in range(len(SITES)) if found.first[n] >= 0 and found.second[n] >= 0]
    blocks = sorted({found.phase[n] if found.phase[n] != UNPHASED else -10 - n for n in called})
    pairs = set()
    for turned in product((False, True), repeat=len(blocks)):
        strands: tuple[dict[int, str], dict[int, str]] = ({}, {})
        for n in called:
            block = found.phase[n] if found.phase[n] != UNPHASED else -10 - n
            codes = found.first[n], found.second[n]
            for strand, code in zip(strands, reversed(codes) if turned[blocks.index(block)] else codes, strict=True):
                strand[n] = SITES[n].alleles[code]
        for one, other in product(_on(gene, strands[0]), _on(gene, strands[1])):
            pairs.add(tuple(sorted((one, other))))
    return pairs


def _on(gene: Gene, strand: dict[int, str]) -> list[str]:
    wobbles = {"R": "AG", "W": "AT", "K": "GT"}
    names = []
    for allele in gene.alleles:
        if not any(allele.whole or allele.bases[n] for n in strand):
            continue
        asked = {n: allele.bases[n] or "A" for n in strand}
        if all(base in wobbles.get(asked[n], asked[n]) for n, base in strand.items()):
            names.append(allele.name)
    return names


bases = st.sampled_from([None, None, "A", "G", "T", "R", "W", "K"])
rows = st.lists(st.tuples(bases, bases, bases, bases).filter(any), max_size=5, unique=True)
codes = st.sampled_from([0, 0, 1, 2])
calls = st.tuples(codes, codes, st.sampled_from([UNPHASED, UNPHASED, PHASED, 7, 8])) | st.just(
    (MISSING, MISSING, UNPHASED)
)


@given(rows, st.tuples(calls, calls, calls, calls))
def test_it_finds_what_all_arrangements_find(
    alleles: list[tuple[str | None, ...]], sample: tuple[tuple[int, ...], ...]
):
    gene = _gene(alleles)
    found = Genotype(*(tuple(row) for row in zip(*sample, strict=True)))
    expected = _twin(gene, found) if any(code >= 0 for code in found.first) else set()
    assert {tuple(sorted(each.alleles)) for each in match(gene, evidence(gene, found))} == expected


def _called(gene: Gene, *sample: tuple[int, int, int], **options: object):
    calls = dict(enumerate(sample))
    return call(gene, genotype(gene, calls), lambda *_: 1.0, Options(**options))  # type: ignore[arg-type]


REFERENCE = (0, 0, UNPHASED)
TWO = [("G", None, None, None), (None, "G", None, None)]


def test_phase_tells_strands_apart() -> None:
    gene = _gene([*TWO, ("G", "G", None, None)])
    het = (0, 1, UNPHASED)
    assert set(_called(gene, het, het, REFERENCE, REFERENCE, all_matches=True).names) == {"*1/*4", "*2/*3"}
    assert _called(gene, het, het, REFERENCE, REFERENCE).names == ("*1/*4",)
    cis, trans = (0, 1, PHASED), (1, 0, PHASED)
    assert _called(gene, cis, cis, REFERENCE, REFERENCE).names == ("*1/*4",)
    assert _called(gene, cis, trans, REFERENCE, REFERENCE).names == ("*2/*3",)
    apart = (1, 0, 900)
    assert set(_called(gene, cis, apart, REFERENCE, REFERENCE, all_matches=True).names) == {"*1/*4", "*2/*3"}


def test_a_missing_site_takes_alleles_out_and_says_so() -> None:
    found = _called(_gene(TWO), (MISSING, MISSING, UNPHASED), (0, 1, UNPHASED), REFERENCE, REFERENCE)
    assert (found.names, found.missing, found.untested) == (("*1/*3",), ("rs0",), ("*2",))


def test_half_a_call_is_missing_unless_it_shows_a_variant() -> None:
    gene = _gene(TWO)
    assert _called(gene, (0, MISSING, UNPHASED), REFERENCE, REFERENCE, REFERENCE).names == ("*1/*1",)
    found = _called(gene, (MISSING, 1, UNPHASED), REFERENCE, REFERENCE, REFERENCE)
    assert not found.called
    assert "rs0" in found.why


def test_an_unknown_allele_stops_the_call_or_reads_as_reference() -> None:
    sample = [(0, OTHER, UNPHASED), (0, 1, UNPHASED), REFERENCE, REFERENCE]
    assert "no table knows" in _called(_gene(TWO), *sample).why
    found = _called(_gene(TWO, unknown_is_reference=True), *sample)
    assert (found.names, found.unknown) == (("*1/*3",), ("rs0",))


def test_one_copy_is_one_allele_and_mixed_copies_are_no_call() -> None:
    gene = _gene(TWO)
    men = [(1, NO_COPY, UNPHASED)] + [(0, NO_COPY, UNPHASED)] * 3
    assert _called(gene, *men).names == ("*2",)
    assert "two" in _called(gene, men[0], REFERENCE, REFERENCE, REFERENCE).why


def test_a_required_site_and_a_minimum_are_held() -> None:
    gone = (MISSING, MISSING, UNPHASED)
    assert "rs0" in _called(_gene(TWO, required=frozenset({0})), gone, REFERENCE, REFERENCE, REFERENCE).why
    assert "2 of 4" in _called(_gene(TWO), gone, gone, REFERENCE, REFERENCE, minimum=0.75).why


def test_of_equal_pairs_the_listed_one_is_picked_only_where_phase_is_open() -> None:
    equal = [("G", "G", None, None), (None, None, "G", "G"), ("G", None, "G", None), (None, "G", None, "G")]
    gene = _gene(equal, priorities={frozenset({"*2/*3", "*4/*5"}): "*4/*5"})
    het = (0, 1, UNPHASED)
    assert set(_called(_gene(equal), het, het, het, het).names) == {"*2/*3", "*4/*5"}
    assert _called(gene, het, het, het, het).names == ("*4/*5",)
    phased = [(1, 0, PHASED), (1, 0, PHASED), (0, 1, PHASED), (0, 1, PHASED)]
    assert _called(gene, *phased).names == ("*2/*3",)


def test_suballeles_are_told_by_their_core_allele() -> None:
    gene = _gene([("G", "R", None, None)], suballeles={"*2": "*2core"})
    assert _called(gene, (0, 1, UNPHASED), REFERENCE, REFERENCE, REFERENCE).names == ("*1/*2core",)


@pytest.mark.parametrize(
    ("sample", "name"),
    [
        ([(0, 1, PHASED), (0, 1, PHASED), REFERENCE, REFERENCE], "*1/[*2 + *3]"),
        ([(0, 1, PHASED), REFERENCE, REFERENCE, (0, 1, PHASED)], "*1/[*2 + g.103A>G]"),
        ([REFERENCE, REFERENCE, REFERENCE, (0, 1, PHASED)], "*1/g.103A>G"),
    ],
)
def test_research_mode_writes_combinations(sample: list[tuple[int, int, int]], name: str) -> None:
    gene = _gene(TWO)
    assert not _called(gene, *sample).called
    assert _called(gene, *sample, combinations=True).names == (name,)


def test_research_mode_never_replaces_an_ordinary_call() -> None:
    het = (0, 1, UNPHASED)
    assert _called(_gene(TWO), het, het, REFERENCE, REFERENCE, combinations=True).names == ("*2/*3",)


def test_best_keeps_the_highest_score() -> None:
    gene = _gene([*TWO, ("G", "G", None, None)])
    sample = {0: (0, 1, UNPHASED), 1: (0, 1, UNPHASED), 2: REFERENCE, 3: REFERENCE}
    found = match(gene, evidence(gene, genotype(gene, sample)))
    assert [each.score for each in found] == [6, 2]
    assert best(found) == found[:1]
