"""Allele frequencies against loops over people, against plink2 on real genotypes, and under a threshold."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cyvcf2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.worlds import (
    POPULATIONS,
    MemorySite,
    MemoryView,
    Split,
    World,
    make_world,
    pass_gate,
    random_assignment,
    run,
    splits,
    threshold_gate,
)

from federome.analysis.algorithm import Table, build
from federome.analysis.allele_frequency import AlleleFrequency
from federome.errors import Invalid
from federome.model.table import Cell
from federome.model.variant import Variant

COUNTS = (
    "carriers",
    "called_people",
    "heterozygous",
    "homozygous",
    "hemizygous",
    "alternate_alleles",
    "called_alleles",
)


def frequencies(values: Mapping[str, object], sites: Sequence[MemorySite], k: int = 0) -> Table:
    gate = threshold_gate(k) if k else pass_gate
    return run(build("allele-frequency", values), sites, gate=gate)["frequencies"]


def by_person(variant: Variant, copies: int, sex: str) -> dict[str, int] | None:
    """What one person adds to a cell, straight from the rules of ploidy; ``None`` if not called."""
    place = variant.chromosome_class
    ploidy = 1 if place == "MT" else {"male": 1, "female": 2 if place == "X" else 0, "": 0}[sex] if place in "XY" else 2
    if copies < 0 or ploidy == 0 or (ploidy == 1 and copies == 1):
        return None
    alternate = copies * ploidy // 2
    return {
        "carriers": int(copies > 0),
        "called_people": 1,
        "heterozygous": int(copies == 1),
        "homozygous": int(copies == 2 and ploidy == 2),
        "hemizygous": int(copies == 2 and ploidy == 1),
        "alternate_alleles": alternate,
        "called_alleles": ploidy,
    }


def by_hand(site: MemorySite, stratum_of: Callable[[str, str], str | None]) -> dict[tuple[str, str], dict[str, int]]:
    """Every cell by a loop over people; ``stratum_of(sex, population)`` names a person's stratum."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    sexes, places = site.view.labels("sex").tolist(), site.view.labels("population").tolist()
    for variant, row in zip(site.variants, site.genotypes.tolist(), strict=True):
        for sex, place, copies in zip(sexes, places, row, strict=True):
            stratum, adds = stratum_of(sex, place), by_person(variant, copies, sex)
            if stratum is not None and adds is not None:
                cell = found.setdefault((str(variant), stratum), dict.fromkeys(COUNTS, 0))
                for name, value in adds.items():
                    cell[name] += value
    return found


def cells(table: Table) -> Iterator[tuple[tuple[str, str], dict[str, Cell]]]:
    for record in table.records():
        name = ":".join(str(record[part]) for part in ("chromosome", "position", "ref", "alt"))
        yield (name, str(record["stratum"])), record


STRATA: list[tuple[dict[str, object], Callable[[str, str], str | None]]] = [
    ({"by": "all"}, lambda sex, place: "all"),
    ({"by": "sex"}, lambda sex, place: sex or None),
    ({"by": "population", "populations": ["GBR", "FIN"]}, lambda s, place: place if place in ("FIN", "GBR") else None),
    (
        {"by": "sex-population", "populations": list(POPULATIONS)},
        lambda sex, place: f"{place}:{sex}" if sex and place else None,
    ),
]


@pytest.mark.parametrize(("values", "stratum_of"), STRATA)
@given(split=splits(max_people=40))
@settings(max_examples=10, deadline=None)
def test_every_cell_equals_a_loop_over_people(
    values: dict[str, object], stratum_of: Callable[[str, str], str | None], split: Split
) -> None:
    wanted = by_hand(split.pooled, stratum_of)
    for key, record in cells(frequencies(values, split.sites)):
        cell = wanted.pop(key, dict.fromkeys(COUNTS, 0))
        assert {name: record[name] for name in COUNTS} == cell, key
        ratio = cell["alternate_alleles"] / cell["called_alleles"] if cell["called_alleles"] else None
        assert record["frequency"] == ratio
    assert not wanted, "every cell with somebody in it has a row"


def test_strata_that_a_chromosome_cannot_have_get_no_row() -> None:
    world = make_world(seed=2, people=60, variants=16)
    table = frequencies({"by": "sex"}, [world.pooled()])
    on_y = table["chromosome"] == "Y"
    assert on_y.any()
    assert set(table["stratum"][on_y].tolist()) == {"male"}
    assert set(table["stratum"][table["chromosome"] == "MT"].tolist()) == {"female", "male"}


def one_variant(variant: str, copies: Sequence[int], male: Sequence[float]) -> MemorySite:
    people = len(copies)
    sex = np.where(np.array(male) == 1, "male", np.where(np.array(male) == 0, "female", ""))
    view = MemoryView(np.arange(people), {"male": np.array(male)}, {"sex": sex, "population": np.full(people, "FIN")})
    return MemorySite(view, (Variant.parse(variant),), np.array([copies], np.int8))


def test_ploidy_on_x_by_the_book() -> None:
    """Two women (0/1, 1/1), men ALT, REF and a stored het, one person of unknown sex: X outside the PAR."""
    site = one_variant("X:5000000:A:G", [1, 2, 2, 0, 1, 2], [0, 0, 1, 1, 1, np.nan])
    (record,) = frequencies({}, [site]).records()
    assert {name: record[name] for name in COUNTS} == {
        "carriers": 3,
        "called_people": 4,
        "heterozygous": 1,
        "homozygous": 1,
        "hemizygous": 1,
        "alternate_alleles": 4,
        "called_alleles": 6,
    }
    inside_par = one_variant("X:100000:A:G", [1, 2, 2, 0, 1, 2], [0, 0, 1, 1, 1, np.nan])
    (record,) = frequencies({}, [inside_par]).records()
    assert (record["alternate_alleles"], record["called_alleles"], record["hemizygous"]) == (8, 12, 0)


def test_both_spellings_of_a_variant_are_one_row_turned_to_alt() -> None:
    """C>A is counted by its REF (the second letter): what leaves still speaks of ALT, whoever wrote it how."""
    checked = one_variant("1:100:C:A", [0, 0, 1, 2, -1], [0] * 5)
    other = one_variant("1:100:A:C", [2, 1, 2, 2], [0] * 4)
    swapped = MemorySite(other.view, other.variants, other.genotypes, unchecked=frozenset(other.variants))
    (record,) = frequencies({}, [checked, swapped]).records()
    assert (record["ref"], record["alt"]) == ("C", "A")
    assert {name: record[name] for name in COUNTS} == {
        "carriers": 3,
        "called_people": 8,
        "heterozygous": 2,
        "homozygous": 1,
        "hemizygous": 0,
        "alternate_alleles": 4,
        "called_alleles": 16,
    }


def test_zygosity_is_withheld_together_while_the_frequency_stays() -> None:
    copies = [0] * 30 + [1] * 12 + [2] * 3  # three homozygotes would follow from carriers and alleles
    (record,) = frequencies({}, [one_variant("1:100:A:C", copies, [0] * 45)], k=10).records()
    assert [record[name] for name in ("carriers", "heterozygous", "homozygous", "hemizygous")] == [None] * 4
    assert (record["alternate_alleles"], record["called_alleles"]) == (18, 90)
    assert record["frequency"] == 0.2
    copies = [0] * 30 + [1] * 12 + [2] * 10
    (record,) = frequencies({}, [one_variant("1:100:A:C", copies, [0] * 52)], k=10).records()
    assert [record[name] for name in ("carriers", "heterozygous", "homozygous", "hemizygous")] == [22, 12, 10, 0]


@pytest.mark.parametrize("variant", ["1:100:A:C", "1:100:C:A", "1:100:A:AT", "X:100:A:C", "MT:100:C:A"])
@pytest.mark.parametrize("few", [0, 1, 9, 10])
@pytest.mark.parametrize("mirrored", [False, True])
def test_few_carriers_of_either_allele_hide_the_variant(variant: str, few: int, mirrored: bool) -> None:
    """The threshold holds for both alleles and both orientations, so that no tail shows through a flipped name."""
    copies = [2 if mirrored else 0] * 50 + [0 if mirrored else 2] * few
    site = one_variant(variant, copies, [1] * len(copies))
    men = {"cohort": {"sex": "male"}}
    assert frequencies(men, [site], k=10).rows == (1 if few == 10 else 0)
    (record,) = frequencies({"variants": [variant], **men}, [site], k=10).records()
    assert (record["frequency"] is None) == (few < 10)
    assert (record["called_people"] is None) == (few < 10)


@pytest.mark.parametrize("few", [0, 1])
def test_few_of_one_sex_hide_the_mixture_on_x(few: int) -> None:
    """Called people and called alleles give the number of women and of men: three of either are not told."""
    site = one_variant("X:5000000:A:G", [0] * 20 + [2] * 20 + [0, 2, 2], [1 - few] * 40 + [few] * 3)
    assert frequencies({}, [site], k=10).rows == 0
    (record,) = [r for r in frequencies({"by": "sex"}, [site], k=10).records() if r["called_people"] is not None]
    assert (record["called_people"], record["frequency"]) == (40, 0.5)


def test_rows_are_in_genome_order_whatever_their_tokens() -> None:
    world = make_world(seed=5, people=30, variants=60)
    shown = [Variant.parse(name) for (name, _), _ in cells(frequencies({}, [world.pooled()]))]
    assert shown == sorted(world.variants, key=lambda v: v.sort_key)


def test_only_variants_with_something_to_show_are_to_be_named() -> None:
    totals = Table(
        {name: np.zeros((3, 2), np.int64) for name in AlleleFrequency.rounds[0].totals.columns},
        {"other_carriers": np.array([[True, True], [True, False], [False, False]])},
    )
    assert AlleleFrequency(by="sex").named(totals).tolist() == [False, True, True]
    assert AlleleFrequency(by="sex", variants=("1:5:A:C",)).named(totals).tolist() == [True] * 3


def test_a_frequency_of_nobody_is_undefined() -> None:
    (record,) = frequencies({}, [one_variant("1:100:A:C", [-1, -1], [0, 1])]).records()
    assert (record["called_people"], record["frequency"]) == (0, None)
    table = frequencies({}, [one_variant("1:100:A:C", [-1, -1], [0, 1])])
    assert table.withheld["frequency"].tolist() == [True]
    assert table.floats("frequency").tolist() == [0]


@given(split=splits(max_people=60), k=st.integers(2, 8))
@settings(max_examples=25, deadline=None)
def test_nothing_small_follows_from_what_is_shown(split: Split, k: int) -> None:
    """From shown cells one can solve for genotype counts: each that is fixed so is zero by ploidy or at least k."""
    for key, record in cells(frequencies({"by": "sex"}, split.sites, k=k)):
        told = {name: int(str(record[name])) for name in COUNTS if record[name] is not None}
        assert ("carriers" in told) == ("homozygous" in told) == ("heterozygous" in told) == ("hemizygous" in told)
        if "alternate_alleles" not in told:
            assert not told, key
            continue
        assert told["called_people"] >= k
        alternate, called = told["alternate_alleles"], told["called_alleles"]
        assert alternate >= k
        assert called - alternate >= k
        if "carriers" in told:
            reference = told["called_people"] - told["carriers"]
            one_copy = 2 * told["called_people"] - called
            possible = ["hemizygous"] if one_copy else ["heterozygous", "homozygous"]
            assert min(reference, *(told[name] for name in possible)) >= k, key


def test_a_named_variant_that_nobody_knows_is_withheld_not_zero_behind_a_threshold() -> None:
    site = one_variant("1:100:A:C", [0] * 20 + [1] * 20, [0] * 40)
    table = frequencies({"variants": ["2:5:G:GT", "1:100:A:C"]}, [site], k=10)
    assert table["position"].tolist() == [100, 5]
    assert [record["called_people"] for record in table.records()] == [40, None]


def test_a_region_tells_no_name_of_a_variant_that_did_not_pass() -> None:
    world = make_world(seed=9, people=200, variants=40)
    split = world.split(random_assignment(world, sites=3, seed=1))
    shown = {key[0] for key, _ in cells(frequencies({}, split.sites, k=10))}
    assert 0 < len(shown) < len(world.variants)
    hand = by_hand(split.pooled, lambda sex, place: "all")
    for variant in world.variants:
        cell = hand.get((str(variant), "all"), dict.fromkeys(COUNTS, 0))
        if cell["carriers"] < 10:
            assert str(variant) not in shown


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"variants": ["1:5:A:C"], "regions": ["1"]}, "regions"),
        ({"variants": ["1:5:A:<DEL>"]}, "variants"),
        ({"variants": ["GRCh37:1:5:A:C"]}, "variants"),
        ({"regions": ["1:9-5"]}, "regions"),
        ({"by": "sex", "populations": ["FIN"]}, "populations"),
        ({"by": "sex-population"}, "populations"),
        ({"by": "age"}, "by"),
        ({"assembly": "GRCh36"}, "assembly"),
    ],
)
def test_contradictory_parameters_are_refused(values: dict[str, object], where: str) -> None:
    with pytest.raises(Invalid, match=rf"\b{where}\b"):
        build("allele-frequency", values)


# --- against plink2 ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared: Path) -> World:
    """1000 Genomes, GRCh38, chromosomes 1-22 and X: sex and population from the panel's own table."""
    folder = shared / "data" / "genotypes"
    lines = [line.split() for line in (folder / "1000G_3202_populations_pedigree.psam").read_text().splitlines()[1:]]
    known = {line[0]: line for line in lines}
    reader = cyvcf2.VCF(str(folder / "1000G_hc_GRCh38_3202x1004_phased.vcf.gz"), gts012=True)
    # A man's single copy on X reads as 0 or 3 (one allele of one); stored as two copies.
    variants, rows = [], []
    for record in reader:
        alleles = np.array(record.genotype.array()[:, :2], np.int8)
        copies = np.where(alleles[:, 1] == -2, 2 * alleles[:, 0], alleles.sum(axis=1))
        rows.append(np.where((alleles == -1).any(axis=1), -1, copies).astype(np.int8))
        variants.append(Variant.of("GRCh38", record.CHROM, record.POS, record.REF, record.ALT[0]))
    male = np.array([float(known[s][3] == "1") for s in reader.samples])
    texts = {
        "sex": np.where(male == 1, "male", "female"),
        "population": np.array([known[s][5] for s in reader.samples]),
    }
    view = MemoryView(np.arange(len(male)), {"male": male}, texts)
    return World(view, tuple(variants), np.array(rows))


@pytest.fixture(scope="module")
def by_plink2(shared: Path, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, out = shared / "data" / "genotypes", tmp_path_factory.mktemp("plink2")
    command = [tool("plink2"), "--vcf", str(folder / "1000G_hc_GRCh38_3202x1004_phased.vcf.gz")]
    command += ["--psam", str(folder / "1000G_3202_populations_pedigree.psam"), "--split-par", "b38", "--threads", "1"]
    command += ["--nonfounders"]
    command += ["--freq", "cols=chrom,ref,alt,altfreq,nobs", "--geno-counts", "--out", str(out / "p")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return out / "p"


def plink_rows(path: Path) -> dict[str, dict[str, str]]:
    head, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    return {row["ID"]: row for row in rows}


def test_frequencies_and_genotype_counts_equal_plink2(real: World, by_plink2: Path) -> None:
    keep = np.array([v.chromosome in ("20", "21", "22", "X") for v in real.variants])
    part = World(real.view, tuple(v for v, k in zip(real.variants, keep, strict=True) if k), real.genotypes[keep])
    split = part.split(random_assignment(part, sites=5, seed=3), swapped={1: range(0, 40), 4: range(20, 60)})
    freq, counts = (plink_rows(by_plink2.with_suffix(end)) for end in (".afreq", ".gcount"))
    table = frequencies({}, split.sites)
    assert table.rows == len(part.variants)
    for (name, _), row in cells(table):
        assert float(freq[name]["ALT_FREQS"]) == pytest.approx(row["frequency"], rel=1e-5)  # printed to 6 digits
        assert int(freq[name]["OBS_CT"]) == row["called_alleles"]
        assert int(counts[name]["MISSING_CT"]) == real.people - int(str(row["called_people"]))
        assert int(counts[name]["HET_REF_ALT_CTS"]) == row["heterozygous"]
        assert int(counts[name]["TWO_ALT_GENO_CTS"]) == row["homozygous"]
        assert int(counts[name]["HAP_ALT_CTS"]) == row["hemizygous"]


def test_x_by_sex_adds_up_to_plink2(real: World, by_plink2: Path) -> None:
    counts = plink_rows(by_plink2.with_suffix(".gcount"))
    on_x = [str(v) for v in real.variants if v.chromosome == "X"]
    split = real.split(random_assignment(real, sites=2, seed=4))
    rows = dict(cells(frequencies({"by": "sex", "variants": on_x}, split.sites)))
    assert len(rows) == 2 * len(on_x) > 0
    for name in on_x:
        women, men = rows[name, "female"], rows[name, "male"]
        assert men["hemizygous"] == int(counts[name]["HAP_ALT_CTS"]) == men["alternate_alleles"] == men["carriers"]
        assert women["homozygous"] == int(counts[name]["TWO_ALT_GENO_CTS"])
        assert women["heterozygous"] == int(counts[name]["HET_REF_ALT_CTS"])
        assert (women["hemizygous"], men["homozygous"], men["heterozygous"]) == (0, 0, 0)
