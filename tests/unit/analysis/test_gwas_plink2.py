"""Both association algorithms over five nodes against plink2 ``--glm`` on the pooled 1000 Genomes data.

plink2 gets one indicator column per population; the nodes get one population each. Real genotypes of 22 autosomes
and X (men 0 or 2), no missing calls, simulated phenotypes.
"""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pgenlib
import pytest
from numpy.typing import NDArray
from tests.unit.analysis.gwas_twins import statistics
from tests.worlds import MemorySite, MemoryView, World, blocks_for, namer

from federome.analysis.gwas import Association
from federome.analysis.gwas_linear import GwasLinear
from federome.analysis.gwas_logistic import GwasLogistic
from federome.model.variant import Variant

pytestmark = [pytest.mark.tool("plink2"), pytest.mark.shared]

EUROPE = ("CEU", "FIN", "GBR", "IBS", "TSI")
LINES = 260
COVARIATES = ("age", "male", "pc1")


@dataclass(frozen=True)
class Study:
    """The pooled world, its nodes, and how to run plink2 on the same people."""

    world: World
    sites: tuple[MemorySite, ...]
    folder: Path
    plink2: str

    def glm(self, phenotype: str, *modifiers: str) -> Mapping[str, tuple[float, float]]:
        """plink2's test statistic and standard error by variant, for ALT."""
        out = self.folder / f"{phenotype}-{'-'.join(modifiers)}"
        sites = [f"site{i}" for i in range(1, len(EUROPE))]
        options = ["--pfile", str(self.folder / "europe"), "--pheno", str(self.folder / "table.tsv")]
        options += ["--pheno-name", phenotype, "--covar", str(self.folder / "table.tsv")]
        options += ["--covar-name", ",".join((*COVARIATES, *sites)), "--covar-variance-standardize", "age", "pc1"]
        options += ["--xchr-model", "2", "--glm", "omit-ref", "hide-covar", "no-x-sex", *modifiers, "--out", str(out)]
        run_plink2(self.plink2, options)
        (found,) = (p for p in self.folder.glob(f"{out.name}.*.glm.*") if p.suffix != ".id")
        with found.open() as lines:
            rows = list(csv.DictReader(lines, delimiter="\t"))
        se = "LOG(OR)_SE" if "LOG(OR)_SE" in rows[0] else "SE"
        stat = "T_STAT" if "T_STAT" in rows[0] else "Z_STAT"
        return {r["ID"]: (float(r[stat]), float(r[se])) for r in rows if r["ERRCODE"] == "."}

    def ours(self, algorithm: Association) -> Mapping[str, tuple[float, float]]:
        """Our statistic and standard error by variant, for ALT."""
        names = namer(self.sites, blocks_for(self.sites, algorithm.reads.variants))
        table = statistics(algorithm, self.sites)
        out = {}
        for number in np.unique(table.ints("block")).tolist():
            part = table.take(table.ints("block") == number)
            for name, found in zip(names(number, part.only("row")).records(), part.records(), strict=True):
                sign = -1 if name["flipped"] else 1
                variant = ":".join(str(name[part]) for part in ("chromosome", "position", "ref", "alt"))
                out[variant] = (sign * float(str(found["statistic"])), float(str(found["se"])))
        return out


def run_plink2(program: str, options: list[str]) -> None:
    done = subprocess.run([program, *options, "--threads", "1", "--memory", "2000"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def read(folder: Path) -> tuple[list[dict[str, str]], tuple[Variant, ...], NDArray[np.int8]]:
    with (folder / "europe.psam").open() as lines:
        people = list(csv.DictReader(lines, delimiter="\t"))
    with (folder / "europe.pvar").open() as lines:
        rows = [line.split("\t") for line in lines if not line.startswith("#")]
    variants = tuple(Variant.of("GRCh38", r[0], int(r[1]), r[3], r[4].strip()) for r in rows)
    genotypes = np.zeros((len(variants), len(people)), np.int8)
    reader = pgenlib.PgenReader(str(folder / "europe.pgen").encode())
    for line in range(len(variants)):
        reader.read(line, genotypes[line])
    reader.close()
    return people, variants, genotypes


@pytest.fixture(scope="module")
def study(shared: Path, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder, program = tmp_path_factory.mktemp("plink2"), tool("plink2")
    data = shared / "data" / "genotypes"
    source = ["--vcf", str(data / "1000G_hc_GRCh38_3202x1004_phased.vcf.gz")]
    source += ["--psam", str(data / "1000G_3202_populations_pedigree.psam")]
    source += ["--keep-if", "SuperPop", "=", "EUR", "--maf", "0.1", "--sort-vars", "--make-pgen"]
    run_plink2(program, [*source, "--out", str(folder / "all")])
    pick = ["--pfile", str(folder / "all"), "--thin-count", str(LINES), "--seed", "3", "--set-all-var-ids", "@:#:$r:$a"]
    run_plink2(program, [*pick, "--make-pgen", "--out", str(folder / "europe")])
    people, variants, genotypes = read(folder)
    world = simulated(people, variants, genotypes)
    populations = world.view.labels("population")
    where = np.searchsorted(EUROPE, populations)
    write_table(folder / "table.tsv", [p["#IID"] for p in people], world, where)
    return Study(world, world.split(where).sites, folder, program)


def simulated(people: list[dict[str, str]], variants: tuple[Variant, ...], genotypes: NDArray[np.int8]) -> World:
    rng = np.random.default_rng(17)
    size = len(people)
    age, pc1 = rng.integers(30, 80, size).astype(float), rng.normal(size=size)
    male = np.array([float(p["SEX"] == "1") for p in people])
    population = np.array([p["Population"] for p in people])
    level = np.searchsorted(EUROPE, population)
    x_line = next(i for i, v in enumerate(variants) if v.chromosome == "X")
    score = 0.4 * genotypes[0] - 0.3 * genotypes[7] + 0.3 * genotypes[x_line]
    trait = 20 + 0.05 * age + male + level + score + rng.normal(0, 1.5, size)
    case = rng.random(size) < 1 / (1 + np.exp(2.2 - 0.02 * age - 0.2 * level - 2 * score))
    few = rng.random(size) < np.where(genotypes[3] == 2, 0.25, 0.04)
    numeric = {"age": age, "male": male, "pc1": pc1, "trait": trait, "case": case.astype(float)}
    numeric["few"] = few.astype(float)
    return World(MemoryView(np.arange(size), numeric, {"population": population}), variants, genotypes)


def write_table(path: Path, names: list[str], world: World, where: NDArray[np.int64]) -> None:
    """Phenotypes and covariates for plink2: 1 control, 2 case."""
    numbers = world.view.numbers
    sites = [f"site{i}" for i in range(1, len(EUROPE))]
    with path.open("w") as out:
        out.write("\t".join(["#IID", "trait", "case", "few", *COVARIATES, *sites]) + "\n")
        for i, name in enumerate(names):
            values = [repr(float(numbers("trait")[i])), *(str(int(numbers(c)[i]) + 1) for c in ("case", "few"))]
            values += [repr(float(numbers(c)[i])) for c in COVARIATES]
            out.write("\t".join([name, *values, *(str(int(where[i] == k)) for k in range(1, len(EUROPE)))]) + "\n")


def differences(
    ours: Mapping[str, tuple[float, float]], theirs: Mapping[str, tuple[float, float]], *, least: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """|Δ| of the statistics and relative Δ of the standard errors, and plink2's statistics, where both have the row."""
    both = sorted(set(ours) & set(theirs))
    assert len(both) >= least
    a, b = np.array([ours[v] for v in both]), np.array([theirs[v] for v in both])
    return np.abs(a[:, 0] - b[:, 0]), np.abs(a[:, 1] / b[:, 1] - 1), b[:, 0]


LINEAR = GwasLinear(phenotype="trait", covariates=COVARIATES, unrelated=False, maf_min=0.05)
LOGISTIC = GwasLogistic(
    phenotype="case",
    covariates=COVARIATES,
    unrelated=False,
    maf_min=0.05,
    spa="never",
    estimate_below=0.05,
    expected_min=0,
)


def estimated(found: Mapping[str, tuple[float, float]]) -> Mapping[str, tuple[float, float]]:
    """Rows that certainly had a model of their own, not the score test alone."""
    return {variant: values for variant, values in found.items() if abs(values[0]) > 2.05}


def test_linear(study: Study) -> None:
    ours = study.ours(LINEAR)
    off, se, t = differences(ours, study.glm("trait"), least=LINES - 5)
    assert np.all(off <= np.maximum(1e-4, 1e-5 * np.abs(t)))
    assert se.max() < 1e-5
    assert sum(v.startswith("X:") for v in ours) >= 5


def test_logistic_wald(study: Study) -> None:
    ours = estimated(study.ours(replace(LOGISTIC, firth="never")))
    off, se, z = differences(ours, study.glm("case", "no-firth"), least=10)
    assert np.all(off <= np.maximum(1e-4, 1e-5 * np.abs(z)))
    assert se.max() < 1e-5
    assert any(v.startswith("X:") for v in ours)


def test_logistic_firth(study: Study) -> None:
    """plink2 ends Firth's iteration, in single precision, at steps of 1e-4; the twin has the digits beyond."""
    ours = estimated(study.ours(replace(LOGISTIC, phenotype="few", firth="always")))
    off, se, _ = differences(ours, study.glm("few", "firth"), least=8)
    assert off.max() < 5e-4
    assert se.max() < 2e-4
    plain = study.glm("few", "no-firth")
    apart, _, _ = differences(ours, plain, least=8)
    assert apart.max() > 0.02  # the penalty is there
