"""Components over nodes beside numpy's singular vectors and plink2's; what would draw one genome is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import cyvcf2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.worlds import pass_gate, threshold_gate
from typer.testing import CliRunner

from federome.analysis import ancestry_components
from federome.analysis.algorithm import Table
from federome.analysis.ancestry_components import AncestryComponents
from federome.analysis.program import run_in_process
from federome.cli import app
from federome.errors import Invalid, Refused
from federome.prs.ancestry import Panel, read_panel

Genotypes = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class People:
    """A view and its one block: genotypes (variants, people) count ALT, which is the alphabetically second base."""

    genotypes: Genotypes
    population: NDArray[np.str_]

    @property
    def people(self) -> int:
        return self.genotypes.shape[1]

    @property
    def rows(self) -> int:
        return len(self.genotypes)

    @property
    def view(self) -> People:
        return self

    def labels(self, name: str) -> NDArray[np.str_]:
        assert name == "population"
        return self.population

    def where(self, keep: NDArray[np.bool_]) -> People:
        return People(self.genotypes[:, keep], self.population[keep])

    def unrelated(self) -> NDArray[np.bool_]:
        return np.ones(self.people, np.bool_)

    def block(self, _index: object, _rows: object) -> People:
        return self

    def dosages(self, view: People, rows: slice = slice(None)) -> Genotypes:
        return view.genotypes[rows]


def world(seed: int = 1, variants: int = 300, each: int = 250) -> People:
    """Three populations that drifted apart; one call in a hundred is missing."""
    rng = np.random.default_rng(seed)
    ancient = rng.uniform(0.2, 0.8, variants)
    shares = [np.clip(ancient + rng.normal(0, 0.12, variants), 0.05, 0.95) for _ in range(3)]
    genotypes = np.concatenate([rng.binomial(2, share[:, None], (variants, each)) for share in shares], axis=1)
    genotypes[rng.random(genotypes.shape) < 0.01] = -1
    return People(genotypes.astype(np.int8), np.repeat(np.array(["FIN", "IBS", "TSI"]), each))


def names(variants: int) -> tuple[str, ...]:
    return tuple(f"1:{1000 + 10 * v}:A:C" for v in range(variants))


def ask(sites: Sequence[People], algorithm: AncestryComponents, gate: object = pass_gate) -> Mapping[str, Table]:
    return run_in_process(algorithm, sites, (), gate=gate, names=lambda _, rows: rows)  # type: ignore[arg-type]


def standard(genotypes: Genotypes) -> NDArray[np.float64]:
    called = np.ma.masked_less(genotypes, 0)
    f = called.mean(axis=1).data[:, None] / 2
    return np.where(genotypes >= 0, (genotypes - 2 * f) / np.sqrt(2 * f * (1 - f)), 0.0)


def loadings(tables: Mapping[str, Table]) -> NDArray[np.float64]:
    return tables["loadings"].floats("loading").reshape(-1, tables["components"].rows)


def apart(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """The largest difference, signs of columns apart."""
    return float(np.abs(found * np.sign((found * wanted).sum(axis=0)) - wanted).max())


@pytest.fixture(scope="module")
def everybody() -> People:
    return world()


@pytest.fixture(scope="module")
def question() -> AncestryComponents:
    return AncestryComponents(variants=names(300), components=2, populations=("FIN", "IBS", "TSI"))


def test_over_nodes_as_pooled_and_as_singular_vectors(everybody: People, question: AncestryComponents) -> None:
    node = np.random.default_rng(2).integers(0, 4, everybody.people)
    tables = ask([everybody.where(node == at) for at in range(4)], question)
    pooled = ask([everybody], question)
    assert apart(loadings(tables), loadings(pooled)) < 1e-8
    left, values, _ = np.linalg.svd(standard(everybody.genotypes), full_matrices=False)
    assert apart(loadings(tables), left[:, :2]) < 1e-6
    assert np.allclose(tables["components"].floats("eigenvalue"), values[:2] ** 2 / 300, rtol=1e-9)
    assert tables["people"].ints("people").tolist() == [750]


def test_a_result_is_a_panel_onto_which_people_are_placed(everybody: People, question: AncestryComponents) -> None:
    panel = Panel.of_result(ask([everybody], question), assembly="GRCh38", source="a run")
    assert (panel.populations, panel.people) == (("FIN", "IBS", "TSI"), (250, 250, 250))
    places = panel.project(everybody.genotypes)
    for at, name in enumerate(panel.populations):
        mine = places[everybody.population == name]
        assert (
            np.abs(mine.mean(axis=0) - panel.centres[at]).max() < 0.2
        )  # missing calls shrink the run's places a little
        assert np.allclose(np.cov(mine.T), panel.spreads[at], atol=0.25)
    told = [panel.standing(place).nearest for place in places]
    assert np.mean(np.array(told) == everybody.population) > 0.95


def test_a_saved_run_becomes_a_panel_on_its_own_assembly(
    everybody: People, question: AncestryComponents, tmp_path: Path
) -> None:
    tables = ask([everybody], question)
    for name, table in tables.items():
        (tmp_path / f"{name}.federome").write_bytes(table.to_bytes())
    asked = {"algorithm": {"name": "ancestry-components"}, "parameters": {"assembly": "GRCh37"}}
    told = {"question": asked, "result": {"run": "run-7", "tables": dict.fromkeys(tables, "")}}
    (tmp_path / "provenance.json").write_text(json.dumps(told))
    result = CliRunner().invoke(
        app, ["prs", "panel", "--result", str(tmp_path), "--out", str(tmp_path / "panel.json"), "--json"]
    )
    assert result.exit_code == 0, result.output
    panel = read_panel(tmp_path / "panel.json")
    assert (panel.assembly, panel.source, panel.components) == ("GRCh37", "run run-7", 2)
    assert np.array_equal(panel.loadings, loadings(tables))
    with pytest.raises(Invalid, match="give --genotypes"):
        CliRunner().invoke(app, ["prs", "panel", "--out", "x"], catch_exceptions=False, standalone_mode=False)


def test_variants_with_few_of_any_genotype_are_left_out(everybody: People) -> None:
    rare = everybody.genotypes.copy()
    rare[0] = np.where(np.arange(750) % 11 == 0, 1, 0)  # 69 with one copy, nobody with two
    question = AncestryComponents(variants=names(300), components=2, maf_min=0.01)
    tables = ask([People(rare, everybody.population)], question, threshold_gate(10))
    assert 1000 not in set(tables["loadings"]["position"].tolist()) or tables["loadings"].rows == 2 * 300
    strict = AncestryComponents(variants=names(300), components=2)
    assert 1000 not in set(ask([People(rare, everybody.population)], strict)["loadings"]["position"].tolist())


def test_a_component_of_one_genome_would_tell_it_and_is_refused(
    everybody: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve of nearly one genome, as a family that nobody told apart: undefended their loading is that genome."""
    rng = np.random.default_rng(3)
    genome = rng.choice(np.array([0, 2], np.int8), 300)
    crowd = rng.binomial(2, 0.5, (300, 400)).astype(np.int8)
    family = np.where(rng.random((300, 12)) < 0.05, 1, genome[:, None]).astype(np.int8)
    site = People(np.hstack([crowd, family]), np.full(412, "FIN"))
    question = AncestryComponents(variants=names(300), components=1)
    with pytest.raises(Refused, match="few people"):
        ask([site], question)
    monkeypatch.setattr(ancestry_components, "FEWEST", 0)
    told = loadings(ask([site], question))[:, 0]
    assert abs(np.corrcoef(told, genome)[0, 1]) > 0.95  # the attack, where nothing is refused


def test_questions_that_cannot_be_answered_are_refused(everybody: People) -> None:
    with pytest.raises(Invalid, match="not on chromosomes 1 to 22"):
        AncestryComponents(variants=(*names(30), "X:100:A:C"), components=2)
    with pytest.raises(Invalid, match="too few for 16"):
        AncestryComponents(variants=names(30), components=16)
    with pytest.raises(Invalid, match="from 100 people"):
        ask([everybody.where(np.arange(750) < 100)], AncestryComponents(variants=names(300), components=4))
    question = AncestryComponents(variants=names(300), components=3)
    assert question.tells(300) == 1200
    assert question.estimates(3) == 85


def test_real_people_lie_where_plink2_puts_them(shared: Path, tmp_path: Path) -> None:
    if which("plink2") is None:
        pytest.skip("plink2 is not installed")
    genotypes = shared / "data" / "genotypes" / "1000G_hc_GRCh38_3202x1004_phased.vcf.gz"
    table = (shared / "data" / "genotypes" / "1000G_3202_populations_pedigree.psam").read_text().splitlines()
    head = table[0].lstrip("#").split("\t")
    founders = [row.split("\t")[head.index("IID")] for row in table[1:] if row.split("\t")[head.index("PAT")] == "0"]
    (tmp_path / "founders").write_text("\n".join(founders[::4]) + "\n")
    out, plink2 = tmp_path / "p", ("plink2", "--threads", "1", "--out", str(tmp_path / "p"))
    first = ("--vcf", str(genotypes), "--maf", "0.1", "--geno", "0", "--snps-only", "--max-alleles", "2", "--autosome",
             "--keep", str(tmp_path / "founders"))  # fmt: skip
    subprocess.run([*plink2, *first, "--set-all-var-ids", "@:#:$r:$a", "--rm-dup", "force-first", "--indep-pairwise",
                    "50", "5", "0.2"], check=True, capture_output=True)  # fmt: skip
    keep = ("--set-all-var-ids", "@:#:$r:$a", "--extract", f"{out}.prune.in", "--export", "vcf", "--pca", "4")
    subprocess.run([*plink2, *first, *keep], check=True, capture_output=True)
    rows, asked = [], []
    for record in cyvcf2.VCF(f"{out}.vcf", gts012=True):
        alt = record.ALT[0] > record.REF  # else REF is counted
        rows.append(record.gt_types + 0 if alt else 2 - record.gt_types)  # copied: cyvcf2 reuses the array
        asked.append(f"1:{1000 + len(rows)}:{record.REF}:{record.ALT[0]}")
    site = People(np.array(rows, np.int8), np.full(len(rows[0]), ""))
    tables = ask([site.where(np.arange(site.people) % 3 == at) for at in range(3)],
                 AncestryComponents(variants=tuple(asked), components=4))  # fmt: skip
    lines = [line.split() for line in Path(f"{out}.eigenvec").read_text().splitlines()]
    wanted = np.array([line[-4:] for line in lines[1:]], np.float64)
    copies = np.array([record.gt_types + 0 for record in cyvcf2.VCF(f"{out}.vcf", gts012=True)], np.int8)
    places = standard(copies).T @ loadings(tables)
    places /= np.linalg.norm(places, axis=0)
    told = places.shape[1]
    assert told >= 2
    assert apart(places, wanted[:, :told]) < 1e-4
