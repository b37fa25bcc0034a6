"""A synthetic nation has what it is said to have: its files are read through pgenlib, plink2 and DuckDB."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pgenlib
import pytest

from federome.demo import synthetic
from federome.demo.genome import CHROMOSOME_LENGTHS, KNOWN_GENES, PSEUDO_AUTOSOMAL
from federome.demo.synthetic_genotypes import MISSING_RATE, MISSING_SHARE
from federome.demo.synthetic_panel import COMMON_SHARE, LIPID_GENES, MIN_VARIANTS, make_panel
from federome.demo.synthetic_people import COLUMNS, LDL_MALE, LDL_PER_YEAR
from federome.errors import Invalid

REPO = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Hospital:
    """A folder read back. ``genotypes`` is variants x people, -9 missing."""

    path: Path
    facts: synthetic.Facts

    @cached_property
    def records(self) -> list[list[str]]:
        lines = (self.path / "genotypes.pvar").read_text().splitlines()
        return [line.split("\t") for line in lines if not line.startswith("#")]

    @cached_property
    def genotypes(self) -> np.ndarray:
        people = len(self.people)
        with pgenlib.PgenReader(str(self.path / "genotypes.pgen").encode(), raw_sample_ct=people) as reader:
            rows = np.empty((reader.get_variant_ct(), people), dtype=np.int8)
            reader.read_range(0, len(rows), rows)
        return rows

    @cached_property
    def people(self) -> list[str]:
        return [line.split("\t")[0] for line in (self.path / "genotypes.psam").read_text().splitlines()[1:]]

    @cached_property
    def male(self) -> np.ndarray:
        lines = (self.path / "genotypes.psam").read_text().splitlines()[1:]
        return np.array([line.endswith("\t1") for line in lines])

    @cached_property
    def autosomal(self) -> np.ndarray:
        return np.array([record[0] != "X" for record in self.records])

    @cached_property
    def pseudo_autosomal(self) -> np.ndarray:
        return np.array([r[0] == "X" and any(a <= int(r[1]) <= b for a, b in PSEUDO_AUTOSOMAL) for r in self.records])

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {record[2]: i for i, record in enumerate(self.records)}

    @cached_property
    def frequency(self) -> np.ndarray:
        """ALT frequency among called alleles, everybody counted as diploid: right outside X."""
        called = self.genotypes >= 0
        return np.where(called, self.genotypes, 0).sum(axis=1) / (2 * called.sum(axis=1))

    def column(self, name: str) -> np.ndarray:
        order = f"SELECT {name} FROM '{self.path / 'phenotypes.parquet'}' ORDER BY person_id"
        return np.array([value for (value,) in duckdb.sql(order).fetchall()], dtype=object)


def write(folder: Path, country: str = "FI", *, people: int, variants: int, seed: int = 3) -> Hospital:
    out = folder / country
    return Hospital(out, synthetic.write_hospital(out, country, people=people, variants=variants, seed=seed))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """Few people, many variants: for kinship and X."""
    return write(tmp_path_factory.mktemp("small"), people=1_000, variants=20_000)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """As many people as a demo node, few variants: for frequencies and planted effects."""
    return write(tmp_path_factory.mktemp("large"), people=20_000, variants=4_000)


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# --- the same arguments, the same bytes ---------------------------------------------------------------------------


def test_same_arguments_give_the_same_bytes_and_others_do_not(tmp_path: Path) -> None:
    for name, country, seed in (("a", "FI", 1), ("b", "FI", 1), ("c", "FI", 2), ("d", "ES", 1)):
        synthetic.write_hospital(tmp_path / name / "x", country, people=300, variants=4_000, seed=seed)
    first = digests(tmp_path / "a")
    assert first == digests(tmp_path / "b")
    assert set(first) == {
        "x.truth.json",
        *(f"x/genotypes.{kind}" for kind in ("pgen", "pvar", "psam")),
        "x/phenotypes.parquet",
        "x/genes.bed",
        "x/callable.bed",
        "x/manifest.toml",
        "x/quality.json",
    }
    for other in ("c", "d"):
        changed = digests(tmp_path / other)
        assert all(changed[f"x/{name}"] != first[f"x/{name}"] for name in ("genotypes.pgen", "phenotypes.parquet"))


def test_countries_share_one_panel_and_have_variants_of_their_own(small: Hospital, tmp_path: Path) -> None:
    spain = write(tmp_path, "ES", people=1_000, variants=20_000)
    here, there = ({tuple(r[:2]): (r[3], r[4]) for r in hospital.records} for hospital in (small, spain))
    common = here.keys() & there.keys()
    assert all(here[site] == there[site] for site in common)
    assert min(len(here), len(there)) > 1.5 * len(common) - len(here) * 0.5
    assert len(here.keys() - there.keys()) > 0.1 * len(here)
    assert (small.path / "callable.bed").read_bytes() == (spain.path / "callable.bed").read_bytes()
    assert [p.key for p in small.facts.planted] == [p.key for p in spain.facts.planted]
    assert [p.effect for p in small.facts.planted] == [p.effect for p in spain.facts.planted]


def test_countries_differ_by_about_the_drift_that_was_set(tmp_path: Path) -> None:
    """Hudson's F_ST (Bhatia et al. 2013, doi:10.1101/gr.154831.113) over common variants: mean of the two drifts."""
    pair = [write(tmp_path, country, people=4_000, variants=20_000) for country in ("FI", "ES")]
    keys = sorted(set(pair[0].row_of) & set(pair[1].row_of))
    p, q = (h.frequency[[h.row_of[key] for key in keys]] for h in pair)
    common = (p + q > 0.1) & (p + q < 1.9) & np.array([not key.startswith("X") for key in keys])
    p, q, alleles = p[common], q[common], 8_000
    within = p * (1 - p) / (alleles - 1) + q * (1 - q) / (alleles - 1)
    fst = ((p - q) ** 2 - within).sum() / (p * (1 - q) + q * (1 - p)).sum()
    assert 0.0012 < fst < 0.0040


# --- genotypes ----------------------------------------------------------------------------------------------------


def test_nearly_all_variants_are_rare_and_all_are_carried(large: Hospital) -> None:
    assert (large.frequency < 0.01).mean() > 0.95
    assert large.facts.below_one_percent == pytest.approx((large.frequency < 0.01).mean(), abs=0.005)
    assert (large.frequency > 0).all()
    assert (large.frequency < 0.0005).mean() > 0.25
    assert large.facts.stored_variants == len(large.records) == len(large.genotypes)
    assert 0.4 < large.facts.stored_variants / large.facts.panel_variants < 0.75


def test_heterozygotes_are_as_many_as_the_frequency_implies(large: Hospital) -> None:
    p = large.frequency
    chosen = large.autosomal & (p > 0.001)
    called = (large.genotypes >= 0).sum(axis=1)
    expected = (2 * p * (1 - p) * called)[chosen]
    observed = (large.genotypes == 1).sum(axis=1)[chosen]
    assert observed.sum() == pytest.approx(expected.sum(), rel=0.005)
    assert np.abs((observed - expected) / np.sqrt(expected)).max() < 6


def test_linkage_holds_within_blocks_only(large: Hospital) -> None:
    chosen = np.flatnonzero(large.autosomal & (large.frequency > 0.05) & (large.frequency < 0.95))
    rows = np.where(large.genotypes[chosen] < 0, np.nan, large.genotypes[chosen])
    rows = np.nan_to_num(rows - np.nanmean(rows, axis=1, keepdims=True))
    r2 = np.corrcoef(rows) ** 2
    where = [(large.records[i][0], int(large.records[i][1])) for i in chosen]
    near = np.array([[a[0] == b[0] and abs(a[1] - b[1]) < 100_000 for b in where] for a in where])
    np.fill_diagonal(r2, np.nan)
    assert np.nanmean(r2[near]) > 0.05
    assert np.nanmax(r2[near]) > 0.3
    assert np.nanmean(r2[~near]) < 3 / 20_000


def test_men_have_one_x_and_women_two(small: Hospital) -> None:
    one_copy = ~small.autosomal & ~small.pseudo_autosomal
    men = small.genotypes[np.ix_(one_copy, small.male)]
    women = small.genotypes[np.ix_(one_copy, ~small.male)]
    assert set(np.unique(men)) == {-9, 0, 2}
    assert set(np.unique(women)) == {-9, 0, 1, 2}
    # men show the allele frequency directly, women by half their codes
    assert (men == 2).sum() / men.shape[1] == pytest.approx((np.maximum(women, 0).sum() / 2) / women.shape[1], rel=0.15)


def test_pseudo_autosomal_variants_are_diploid_in_men(small: Hospital) -> None:
    assert small.pseudo_autosomal.sum() >= 5
    assert (small.genotypes[np.ix_(small.pseudo_autosomal, small.male)] == 1).any()


def test_missing_calls_are_at_a_share_of_the_variants(small: Hospital) -> None:
    rate = (small.genotypes < 0).mean(axis=1)
    some = rate > 0
    assert some.mean() == pytest.approx(MISSING_SHARE, abs=0.015)
    assert rate[some].mean() == pytest.approx(np.mean(MISSING_RATE), abs=0.0005)
    assert small.facts.call_rate == pytest.approx(1 - rate.mean())


def test_no_variant_loses_its_last_carrier_to_missing_calls(small: Hospital) -> None:
    assert (np.maximum(small.genotypes, 0).sum(axis=1) > 0)[small.frequency < 0.01].all()


def pair_rows(hospital: Hospital, pairs: tuple[tuple[str, str], ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    index = {person: i for i, person in enumerate(hospital.people)}
    genotypes = hospital.genotypes.T
    return [(genotypes[index[a]], genotypes[index[b]]) for a, b in pairs]


def kinship(first: np.ndarray, second: np.ndarray) -> float:
    """KING-robust, within-family form (Manichaikul et al. 2010, doi:10.1093/bioinformatics/btq559, equation 9)."""
    called = (first >= 0) & (second >= 0)
    a, b = first[called], second[called]
    both = ((a == 1) & (b == 1)).sum()
    opposite = (np.abs(a - b) == 2).sum()
    return float((both - 2 * opposite) / ((a == 1).sum() + (b == 1).sum()))


def test_planted_relatives_are_of_first_degree_and_others_are_not(small: Hospital) -> None:
    chosen = small.autosomal
    known, sibs = (
        [kinship(a[chosen], b[chosen]) for a, b in pair_rows(small, pairs)]
        for pairs in (small.facts.parent_child, small.facts.full_sibs)
    )
    assert len(known) + len(sibs) == 1_000 // synthetic.PEOPLE_PER_PAIR
    assert np.mean(known) == pytest.approx(0.25, abs=0.03)
    assert np.mean(sibs) == pytest.approx(0.25, abs=0.05)
    assert min(known + sibs) > 0.1
    related = {person for pair in small.facts.parent_child + small.facts.full_sibs for person in pair}
    assert len(related) == 2 * (len(known) + len(sibs))
    others = [person for person in small.people if person not in related][:60]
    strangers = tuple(zip(others[::2], others[1::2], strict=True))
    unrelated = [kinship(a[chosen], b[chosen]) for a, b in pair_rows(small, strangers)]
    assert abs(np.mean(unrelated)) < 0.02 and max(unrelated) < 0.1


def test_a_child_never_contradicts_the_parent(small: Hospital) -> None:
    """Parent and child share one copy everywhere: no opposite homozygotes, on X either but between father and son."""
    index = {person: i for i, person in enumerate(small.people)}
    one_copy = ~small.autosomal & ~small.pseudo_autosomal
    seen = set()
    for parent, child in small.facts.parent_child:
        a, b = small.genotypes[:, index[parent]], small.genotypes[:, index[child]]
        opposite = (a >= 0) & (b >= 0) & (np.abs(a - b) == 2)
        assert not opposite[small.autosomal].any()
        kind = (bool(small.male[index[parent]]), bool(small.male[index[child]]))
        seen.add(kind)
        if kind != (True, True):
            assert not opposite[one_copy].any()
    assert len(seen) >= 3


def test_sisters_share_their_fathers_x(tmp_path: Path) -> None:
    hospital = write(tmp_path, people=6_000, variants=4_000)
    index = {person: i for i, person in enumerate(hospital.people)}
    one_copy = ~hospital.autosomal & ~hospital.pseudo_autosomal
    sisters = [
        (index[a], index[b])
        for a, b in hospital.facts.full_sibs
        if not hospital.male[index[a]] and not hospital.male[index[b]]
    ]
    assert len(sisters) >= 3
    for first, second in sisters:
        a, b = hospital.genotypes[one_copy][:, first], hospital.genotypes[one_copy][:, second]
        assert not ((a >= 0) & (b >= 0) & (np.abs(a - b) == 2)).any()


def test_plink2_reads_the_files_and_counts_the_same(
    small: Hospital, tool: Callable[[str], str], tmp_path: Path
) -> None:
    plink2 = tool("plink2")
    out = tmp_path / "plink"
    command = [plink2, "--pfile", str(small.path / "genotypes"), "--threads", "1", "--memory", "1000"]
    subprocess.run([*command, "--validate", "--out", str(out)], check=True, capture_output=True)
    subprocess.run([*command, "--autosome", "--geno-counts", "--out", str(out)], check=True, capture_output=True)
    lines = [line.split("\t") for line in out.with_suffix(".gcount").read_text().splitlines()]
    column = {name: i for i, name in enumerate(lines[0])}
    names = ("HOM_REF_CT", "HET_REF_ALT_CTS", "TWO_ALT_GENO_CTS", "MISSING_CT")
    theirs = {line[column["ID"]]: [int(line[column[name]]) for name in names] for line in lines[1:]}
    rows = small.genotypes[small.autosomal]
    ours = np.stack([(rows == code).sum(axis=1) for code in (0, 1, 2, -9)], axis=1)
    keys = [record[2] for record in small.records if record[0] != "X"]
    assert theirs == dict(zip(keys, ours.tolist(), strict=True))


# --- phenotypes and planted effects ---------------------------------------------------------------------------------


def dosage(hospital: Hospital, key: str) -> np.ndarray:
    row = hospital.genotypes[hospital.row_of[key]].astype(float)
    return np.where(row < 0, row[row >= 0].mean(), row)


def fit(columns: list[np.ndarray], y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Ordinary least squares: coefficients, standard errors, residual sum of squares."""
    X = np.column_stack([np.ones(len(y)), *columns])
    inverse = np.linalg.inv(X.T @ X)
    beta = inverse @ X.T @ y
    rest = float(((y - X @ beta) ** 2).sum())
    return beta, np.sqrt(np.diag(inverse) * rest / (len(y) - X.shape[1])), rest


def test_planted_variants_explain_what_was_aimed_at(large: Hospital) -> None:
    planted = [p for p in large.facts.planted if p.trait == "ldl_c_mmol_l"]
    assert len(planted) == 12
    ldl = large.column("ldl_c_mmol_l").astype(float)
    seen = ~np.isnan(ldl)
    age = 2022 - large.column("birth_year").astype(float)
    covariates = [age[seen], large.male[seen].astype(float)]
    variants = [dosage(large, p.key)[seen] for p in planted]
    beta, error, rest = fit([*covariates, *variants], ldl[seen])
    truth = np.array([p.effect for p in planted])
    assert np.abs((beta[3:] - truth) / error[3:]).max() < 4.5
    *_, without = fit(covariates, ldl[seen])
    explained = 1 - rest / without
    # blocks are few here, so planted variants are linked and the sum holds for their joint effect
    joint = float(np.var(np.column_stack(variants) @ truth) / ldl[seen].var())
    assert explained == pytest.approx(joint, abs=0.006)
    for p in planted:
        assert 0.0005 <= p.variance_explained <= 0.005
        assert p.variance_explained_here == pytest.approx(
            p.effect**2 * dosage(large, p.key).var() / ldl[seen].var(), rel=0.05
        )


def test_planted_variants_raise_and_lower_the_risk_of_disease(large: Hospital) -> None:
    planted = [p for p in large.facts.planted if p.trait == "I25"]
    assert len(planted) == 8
    case = (large.column("case_status") == "unsolved").astype(float)
    assert case.sum() == large.facts.cases
    assert 0.03 < case.mean() < 0.12
    score = sum(p.effect * dosage(large, p.key) for p in planted)
    beta, error, _ = fit([score], case)
    # on the observed scale a unit of liability is worth the normal density at the threshold
    threshold = np.sqrt(2) * 1.1
    assert beta[1] / error[1] > 5
    assert beta[1] == pytest.approx(np.exp(-(threshold**2) / 2) / np.sqrt(2 * np.pi), rel=0.5)


def test_covariates_act_on_traits(large: Hospital) -> None:
    ldl = large.column("ldl_c_mmol_l").astype(float)
    seen = ~np.isnan(ldl)
    assert 0.01 < (~seen).mean() < 0.03
    age = 2022 - large.column("birth_year").astype(float)
    beta, error, _ = fit([age[seen], large.male[seen].astype(float)], ldl[seen])
    assert np.abs((beta[1:] - (LDL_PER_YEAR, LDL_MALE)) / error[1:]).max() < 4.5
    assert (beta[1:] / error[1:] > 3).all()
    case = (large.column("case_status") == "unsolved").astype(float)
    beta, error, _ = fit([age, large.male.astype(float), (large.column("smoking") == "current").astype(float)], case)
    assert (beta[1:] / error[1:] > 3).all()


def test_table_has_the_published_columns_and_no_gap_in_mandatory_ones(large: Hospital) -> None:
    table = f"'{large.path / 'phenotypes.parquet'}'"
    described = duckdb.sql(f"DESCRIBE SELECT * FROM {table}").fetchall()
    assert {name: kind for name, kind, *_ in described} == COLUMNS
    mandatory = ("person_id", "sex", "administrative_gender", "birth_year", "country_of_origin", "case_status")
    for name in (*mandatory, "diagnosis_icd10", "sample_id", "bmi_kg_m2", "consent_tier", "population"):
        assert duckdb.sql(f"SELECT count(*) FROM {table} WHERE {name} IS NULL").fetchall() == [(0,)]
    assert list(large.column("person_id")) == large.people
    assert list(large.column("sex") == "male") == large.male.tolist()


def test_codes_measurements_and_dates_agree(large: Hospital) -> None:
    names = (
        "case_status, diagnosis_icd10, diagnosis_year, hpo_terms, medication_atc, sbp_mmhg, hba1c_mmol_mol, "
        "birth_year, sample_date"
    )
    rows = duckdb.sql(f"SELECT {names} FROM '{large.path / 'phenotypes.parquet'}'").fetchall()
    for status, codes, years, terms, drugs, pressure, hba1c, born, sampled in rows:
        assert (status == "unsolved") == ("I25.1" in codes)
        assert len(codes) == len(years) == len(terms) == len(set(codes))
        assert "" not in codes + terms + drugs
        assert ("I10" in codes) == (pressure is not None and pressure >= 150)
        assert ("E11.9" in codes) == (hba1c is not None and hba1c >= 48)
        assert "A10BA02" not in drugs or "E11.9" in codes
        assert all(born < year <= sampled.year for year in years)
    assert sum(len(codes) > 1 for _, codes, *_ in rows) > 100


def test_parents_are_older_than_their_children(large: Hospital) -> None:
    born = dict(zip(large.column("person_id"), large.column("birth_year"), strict=True))
    ages = [born[child] - born[parent] for parent, child in large.facts.parent_child]
    assert len(ages) > 100 and min(ages) >= 20 and max(ages) <= 35
    assert max(abs(born[a] - born[b]) for a, b in large.facts.full_sibs) <= 40


# --- the rest of the folder -------------------------------------------------------------------------------------------


def test_manifest_names_the_quality_report_and_says_synthetic(small: Hospital) -> None:
    manifest = tomllib.loads((small.path / "manifest.toml").read_text("utf-8"))
    report = (small.path / "quality.json").read_bytes()
    assert manifest["synthetic"] is True and "Synthetic" in manifest["dataset"]["title"]
    assert manifest["constants"]["qc_report_digest"] == f"sha256:{hashlib.sha256(report).hexdigest()}"
    assert json.loads(report)["people"] == 1_000
    assert manifest["policy"] == {"access": "controlled", "difference_min": 10, "membership_power": 1.0}
    assert not set(manifest["constants"]) & set(COLUMNS)


def test_every_field_is_documented() -> None:
    page = (REPO / "docs/reference/batch-folder.md").read_text("utf-8")
    fields = [*COLUMNS, *synthetic.CONSTANTS, "qc_report_digest", "qc_verdict"]
    assert [field for field in fields if f"`{field}`" not in page] == []
    kinds = {
        name.strip("` °"): line.split("|")[2].strip()
        for line in page.splitlines()
        if line.startswith("| `")
        for name in line.split("|")[1].split(",")
    }
    assert {name: kinds[name] for name in COLUMNS} == COLUMNS


def test_regions_and_genes_are_in_order_and_hold_the_variants(small: Hospital) -> None:
    def bed(name: str) -> list[list[str]]:
        return [line.split("\t") for line in (small.path / name).read_text().splitlines()]

    chromosomes = list(CHROMOSOME_LENGTHS)
    for name in ("genes.bed", "callable.bed"):
        rows = [(chromosomes.index(c), int(start0), int(end)) for c, start0, end, *_ in bed(name)]
        assert rows == sorted(rows)
        assert all(a[0] < b[0] or a[2] <= b[1] for a, b in pairwise(rows))
        assert all(0 <= start0 < end <= CHROMOSOME_LENGTHS[chromosomes[c]] for c, start0, end in rows)
    genes = {name: (c, int(start0), int(end)) for c, start0, end, name in bed("genes.bed")}
    for gene in KNOWN_GENES:
        assert genes[gene.name] == (gene.chromosome, gene.start0, gene.end)
    starts = [(chromosomes.index(c), int(start0)) for c, start0, _ in bed("callable.bed")]
    ends = [int(end) for _, _, end in bed("callable.bed")]
    annotated = 0
    for chromosome, position, _, ref, alt, info in small.records:
        at = np.searchsorted(
            [s[0] * 2**32 + s[1] for s in starts], chromosomes.index(chromosome) * 2**32 + int(position)
        )
        assert starts[at - 1][0] == chromosomes.index(chromosome) and int(position) <= ends[at - 1]
        assert ref != alt and {ref, alt} <= set("ACGT")
        if info != ".":
            fields = info.removeprefix("ANN=").split("|")
            assert len(fields) == 16 and fields[0] == alt
            where, start0, end = genes[fields[3]]
            assert where == chromosome and start0 < int(position) <= end
            annotated += 1
    assert 0.1 < annotated / len(small.records) < 0.3


def test_transitions_are_twice_as_many_as_transversions(small: Hospital) -> None:
    purines = [{"A", "G"}, {"C", "T"}]
    transitions = sum({record[3], record[4]} in purines for record in small.records)
    assert 1.8 < transitions / (len(small.records) - transitions) < 2.2


@pytest.mark.parametrize("seed", range(12))
def test_every_panel_has_all_its_planted_variants(seed: int) -> None:
    panel = make_panel(seed, MIN_VARIANTS)
    assert len(panel) == MIN_VARIANTS
    assert len({(c, p) for c, p in zip(panel.chromosome, panel.position, strict=True)}) == MIN_VARIANTS
    assert len({p.variant for p in panel.planted}) == 20
    assert all(panel.chromosome[p.variant] < 22 for p in panel.planted)
    assert len(panel.common) == round(COMMON_SHARE * MIN_VARIANTS)


def test_lipid_genes_hold_planted_ldl_variants() -> None:
    panel = make_panel(5, 50_000)
    genes = [panel.region_gene[panel.region[p.variant]].name for p in panel.planted if p.trait == "ldl_c_mmol_l"]
    assert set(LIPID_GENES) <= set(genes)
    blocks = [int(panel.block[p.variant]) for p in panel.planted]
    assert len(set(blocks)) == len(blocks)


def test_truth_stands_beside_the_folder_and_reads_back(small: Hospital) -> None:
    assert synthetic.truth_path(small.path) == small.path.parent / "FI.truth.json"
    assert synthetic.read_facts(small.path) == small.facts
    assert synthetic.read_facts(small.path.parent / "ES") is None
    inside = b"".join(path.read_bytes() for path in small.path.iterdir() if path.suffix in {".toml", ".json"})
    assert small.facts.planted[0].key.encode() not in inside


def test_facts_of_another_version_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = write(tmp_path, people=100, variants=4_000)
    monkeypatch.setattr(synthetic, "VERSION", "0")
    assert synthetic.read_facts(hospital.path) is None


def test_interrupted_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(synthetic, "write_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, people=100, variants=4_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("country", "people", "variants", "where"),
    [("XX", 100, 4_000, "country"), ("FI", 99, 4_000, "people"), ("FI", 100, 3_999, "variants")],
)
def test_arguments_out_of_range_are_refused(
    tmp_path: Path, country: str, people: int, variants: int, where: str
) -> None:
    with pytest.raises(Invalid) as caught:
        synthetic.write_hospital(tmp_path / "x", country, people=people, variants=variants)
    assert caught.value.where == where
    assert not (tmp_path / "x").exists()


def test_there_is_a_country_for_each_of_27_nodes() -> None:
    assert len(synthetic.COUNTRIES) >= 27
