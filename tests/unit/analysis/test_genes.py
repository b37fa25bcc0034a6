"""``gene-background``, ``gene-burden`` and ``gene-skat`` over five stores, against counting by hand and regression.

In the stores 16 men with a severe course, of five countries, each have a loss-of-function variant of their own in TLR7.
POLY has variants that 20 people of all countries share: of one half have a severe course, of another nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests.unit.store.small_stores import Batch, Site, manifest, put
from tests.worlds import Watched, threshold_gate

from federome.analysis.algorithm import Algorithm, View
from federome.analysis.gene_background import GeneBackground
from federome.analysis.gene_burden import GeneBurden
from federome.analysis.gene_skat import PLACES, GeneSkat
from federome.analysis.program import run_in_process
from federome.disclosure import door
from federome.errors import Invalid
from federome.model.release import Policy, Round
from federome.model.table import Table
from federome.store.batch import GeneRegion
from federome.store.catalogue import Store
from federome.store.view import StudyView

K, PEOPLE, SILENT = 10, 200, "G07"
TLR7 = GeneRegion("TLR7", "X", 12_867_072, 12_890_361)  # GRCh38, Ensembl
POLY = GeneRegion("POLY", "2", 1_000_000, 1_020_000)
REGIONS = [*(GeneRegion(f"G{n:02}", "1", n * 100_000, n * 100_000 + 20_000) for n in range(1, 40)), POLY, TLR7]
NAMES = tuple(region.symbol for region in REGIONS)
POLICY = Policy(k_min=K, k_public=20)


@dataclass(frozen=True)
class Node:
    """What one store holds, as was put in: who carries a qualifying variant of each gene, (people,)."""

    view: StudyView
    male: np.ndarray
    age: np.ndarray
    severe: np.ndarray
    carried: Mapping[str, np.ndarray]
    copies: Mapping[Site, np.ndarray]
    """Of each qualifying variant, what everybody has."""


@dataclass(frozen=True)
class StoreSite:
    """A store in the place of a node."""

    view: View

    def block(self, index: object, rows: Table | None) -> None:
        """Nobody asks for variants."""
        raise AssertionError


def make_node(folder: Path, number: int) -> Node:
    rng = np.random.default_rng(100 + number)
    male = rng.random(PEOPLE) < 0.5
    age = rng.integers(18, 50, PEOPLE).astype(float)
    severe = rng.random(PEOPLE) < 0.1 + 0.1 * male + 0.003 * (age - 18)
    genotypes: dict[Site, np.ndarray] = {}
    effects: dict[Site, tuple[tuple[str, str], ...]] = {}
    carried = {name: np.zeros(PEOPLE, bool) for name in NAMES}

    def write(gene: GeneRegion, at: int, people: np.ndarray, term: str) -> None:
        copies = np.zeros(PEOPLE, np.int8)
        copies[people] = np.where(male[people] & (gene.chromosome == "X"), 2, 1)
        site = (gene.chromosome, gene.start + at, "C", "T")
        genotypes[site], effects[site] = copies, ((gene.symbol, term),)
        if term == "stop_gained":
            carried[gene.symbol] |= copies > 0

    for gene in REGIONS:
        if gene in (TLR7, POLY) or gene.symbol == SILENT:
            continue
        for at in range(int(rng.integers(1, 9))):
            write(gene, 10 + at, rng.choice(PEOPLE, 1), "stop_gained")
        write(gene, 500, rng.choice(PEOPLE, 3), "synonymous_variant")
    for at, person in enumerate(rng.choice(np.flatnonzero(male & severe), 3 + (number == 0), replace=False)):
        write(TLR7, 10 + at, np.array([person]), "stop_gained")
    write(TLR7, 90, rng.choice(np.flatnonzero(~male & ~severe), 1), "stop_gained")
    write(TLR7, 95, rng.choice(np.flatnonzero(male & ~severe), 3), "synonymous_variant")
    own = np.random.default_rng(number)
    for at, among_severe in enumerate((2, 1, 1, 0)):
        chosen = [own.choice(np.flatnonzero(severe), among_severe, replace=False)]
        chosen.append(own.choice(np.flatnonzero(~severe), 4 - among_severe, replace=False))
        write(POLY, 10 + at, np.concatenate(chosen), "stop_gained")
    write(POLY, 20, own.choice(PEOPLE, 3, replace=False), "stop_gained")
    write(POLY, 30 + number, own.choice(PEOPLE, 2, replace=False), "stop_gained")
    copies = {site: held for site, held in genotypes.items() if effects[site][0][1] == "stop_gained"}
    common = rng.random(PEOPLE) < 0.3
    genotypes["X", TLR7.start + 99, "G", "A"] = np.where(common, 2, 0).astype(np.int8)  # common: does not qualify
    effects["X", TLR7.start + 99, "G", "A"] = (("TLR7", "stop_gained"),)
    sexes = np.where(male, "male", "female").tolist()
    batch = Batch("a", [f"n{number}-{i}" for i in range(PEOPLE)], sexes, genotypes, effects=effects)
    table = pd.DataFrame({"person_id": batch.people, "years": age, "severe": severe.astype(float)})
    store = Store.open(folder)
    # one node's gene map lacks a gene
    genes = [region for region in REGIONS if number or region.symbol != "G02"]
    release = put(store, batch, about=manifest(), phenotypes=table, genes=genes, block_variants=1_000)
    return Node(StudyView.freeze(store, [release]), male, age, severe, carried, copies)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> list[Node]:
    return [make_node(tmp_path_factory.mktemp("store"), number) for number in range(5)]


def answer(question: Algorithm, nodes: list[Node]) -> Mapping[str, Table]:
    """As released: through the real gate and the real door."""

    def gate(total: Table, due: Round) -> Table:
        return door.gate(total, due, POLICY, contributors=5)

    tables = run_in_process(question, [StoreSite(node.view) for node in nodes], [], gate=gate, names=lambda _, t: t)
    return door.release(tables, question.releases, POLICY, people=5 * PEOPLE).tables


def test_background_counts_carriers_of_rare_loss_of_function(nodes: list[Node]) -> None:
    told = answer(GeneBackground(genes=(*NAMES, "NOGENE"), rare_below=0.01), nodes)["rates"]
    frame = pd.DataFrame(list(told.records())).set_index("gene")
    small = 0
    for name in NAMES:
        here = nodes[1:] if name == "G02" else nodes
        carriers = sum(int(node.carried[name].sum()) for node in here)
        small += carriers < K
        if carriers < K:
            assert pd.isna(frame.carriers[name]) and pd.isna(frame.rate[name])
        else:
            assert frame.carriers[name] == carriers
            assert frame.rate[name] == pytest.approx(carriers / (len(here) * PEOPLE), rel=1e-5)
        assert frame.assessed[name] == len(here) * PEOPLE
    assert 0 < small < 20
    assert pd.isna(frame.carriers["NOGENE"]) and pd.isna(frame.assessed["NOGENE"])  # unknown, not nobody
    assert frame.carriers["TLR7"] == 16 + 5


def test_a_node_too_small_to_tell_what_is_rare_counts_nobody(nodes: list[Node]) -> None:
    told = answer(GeneBackground(genes=("TLR7",), rare_below=0.001), nodes)["rates"]
    assert told.withheld["assessed"].all()


def test_burden_ranks_tlr7_first(nodes: list[Node]) -> None:
    told = answer(GeneBurden(genes=NAMES, phenotype="severe", covariates=("years", "male"), rare_below=0.01), nodes)
    frame = pd.DataFrame(list(told["genes"].records())).set_index("gene")
    ranked = frame.minus_log10_p.astype(float).sort_values(ascending=False)
    assert ranked.index[0] == "TLR7" and ranked.iloc[0] > 2 * ranked.iloc[1]
    assert frame.statistic["TLR7"] > 0 and frame.test["TLR7"] == "saddle-point"
    assert frame.carriers["TLR7"] == 21
    assert pd.isna(frame.statistic[SILENT]) and frame.test[SILENT] == "none"
    assert told["summary"].floats("tested")[0] == frame.statistic.notna().sum()


def test_burden_is_the_score_test_of_the_regression_with_site_indicators(nodes: list[Node]) -> None:
    question = GeneBurden(genes=NAMES, phenotype="severe", covariates=("years", "male"), rare_below=0.01)
    sites = [StoreSite(node.view) for node in nodes]
    told = run_in_process(question, sites, [], gate=threshold_gate(K), names=lambda _, t: t)["genes"]
    design, residual, weight = null_model(nodes)
    shown = ~told.withheld["statistic"]
    compared = 0
    for at in np.flatnonzero(shown).tolist():
        name = NAMES[at]
        if name == "G02":
            continue  # unknown at one node
        carries = np.concatenate([node.carried[name] for node in nodes]).astype(float)
        inside = np.linalg.solve(design.T * weight @ design, design.T @ (weight * carries))
        left = carries - design @ inside
        expected = left @ residual / np.sqrt(left**2 @ weight)
        assert told.floats("statistic")[at] == pytest.approx(expected, abs=1e-8)
        compared += 1
    assert compared > 20


def null_model(nodes: list[Node]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariates with site indicators, and each person's outcome less its chance and the chance's variance."""
    outcome = np.concatenate([node.severe for node in nodes]).astype(float)
    columns = [np.concatenate([getattr(node, name) for node in nodes]).astype(float) for name in ("age", "male")]
    design = np.column_stack([*columns, np.kron(np.eye(len(nodes)), np.ones((PEOPLE, 1)))])
    effects = np.zeros(design.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-design @ effects))
        weight = chance * (1 - chance)
        effects += np.linalg.solve(design.T * weight @ design, design.T @ (outcome - chance))
    return design, outcome - chance, weight


def textbook(nodes: list[Node], gene: GeneRegion) -> tuple[float, float, float, float]:
    """Burden z, SKAT's Q, and p values of SKAT and ACAT-V as the papers define them, on everybody's genotypes."""
    sites = sorted({site for node in nodes for site in node.copies if site[0] == gene.chromosome})
    sites = [site for site in sites if gene.start <= site[1] <= gene.end]
    none = np.zeros(PEOPLE)
    dense = np.array([np.concatenate([node.copies.get(site, none) for node in nodes]) for site in sites], float).T
    enough = (dense > 0).sum(axis=0) >= K
    tested = dense[:, enough]
    if (rest := dense[:, ~enough].max(axis=1, initial=0)).astype(bool).sum() >= K:
        tested = np.column_stack([tested, rest])
    design, residual, weight = null_model(nodes)
    inside = np.linalg.solve(design.T * weight @ design, design.T * weight @ tested)
    left = tested - design @ inside
    score, covariance = tested.T @ residual, left.T * weight @ left
    frequency = tested.mean(axis=0) / 2
    w = stats.beta.pdf(frequency, 1, 25)
    z = w @ score / np.sqrt(w @ covariance @ w)
    q = float(((w * score) ** 2).sum())
    draws = np.random.default_rng(1).multivariate_normal(np.zeros(len(w)), covariance * np.outer(w, w), 400_000)
    single = stats.norm.sf(np.abs(score) / np.sqrt(np.diag(covariance))) * 2
    share = w**2 * frequency * (1 - frequency)
    t = share @ (1 / np.tan(single * np.pi)) / share.sum()
    return float(z), q, float(((draws**2).sum(axis=1) > q).mean()), float(stats.cauchy.sf(t))


@pytest.mark.parametrize("gene", [POLY, TLR7], ids=lambda gene: gene.symbol)
def test_skat_is_the_textbooks_on_everybodys_genotypes(nodes: list[Node], gene: GeneRegion) -> None:
    question = GeneSkat(genes=(gene.symbol, SILENT), phenotype="severe", covariates=("years", "male"), rare_below=0.01)
    told = run_in_process(
        question, [StoreSite(node.view) for node in nodes], [], gate=threshold_gate(K), names=lambda _, t: t
    )
    z, _, skat, acat_v = textbook(nodes, gene)
    row = {name: told["genes"].floats(name)[0] for name in ("burden", "skat", "acat_v", "acat_o")}
    assert row["burden"] == pytest.approx(-np.log10(2 * stats.norm.sf(abs(z))), abs=1e-6)
    assert row["acat_v"] == pytest.approx(-np.log10(acat_v), abs=1e-6)
    if gene is POLY:
        assert told["genes"].ints("variants")[0] == 5 and told["genes"].ints("others")[0] == 10
        assert 10 ** -row["skat"] == pytest.approx(skat, abs=4 * np.sqrt(skat / 400_000))
        assert row["skat"] > 2 > 1 > row["burden"]  # up and down: no burden, but a spread
    else:  # only variants of one person each: one column, whose square is tested
        assert told["genes"].ints("variants")[0] == 0 and told["genes"].ints("others")[0] == 21
        assert row["skat"] == pytest.approx(row["burden"], abs=1e-6)
    assert told["genes"].withheld["skat"][1] and told["genes"].withheld["others"][1]  # nobody, or too few: not told


def test_what_few_people_carry_is_in_no_sum_by_itself(nodes: list[Node]) -> None:
    """Without a threshold scores of single carriers reach the releaser, and tell of each whether they are severe."""
    question = GeneSkat(genes=("POLY", "TLR7"), phenotype="severe", covariates=("years", "male"), rare_below=0.01)
    alone = {}
    for k in (0, K):
        seen = Watched(threshold_gate(k))
        run_in_process(question, [StoreSite(node.view) for node in nodes], [], gate=seen, names=lambda _, t: t)
        counted = next(total for total in seen.totals if "plain" in total.columns).ints("carriers")
        scored = next(total for total in seen.totals if "cross" in total.columns)
        alone[k] = scored.rows, int(((counted > 0) & (counted < K)).sum())
    assert alone[0][0] == 5 + alone[0][1] > 10  # each of them a column
    assert alone[K][0] == 5 + 1 + 1  # five variants and the rest of POLY, the rest of TLR7


def test_too_many_genes_for_tests_of_variants_are_refused() -> None:
    with pytest.raises(Invalid, match="too many"):
        GeneSkat(genes=tuple(f"G{n}" for n in range(101)), phenotype="severe")
    assert PLACES == 1024


def test_questions_that_mean_nothing_are_refused() -> None:
    with pytest.raises(Invalid, match="twice"):
        GeneBackground(genes=("TLR7", "TLR7"))
    with pytest.raises(Invalid, match="rare_below"):
        GeneBackground(genes=("TLR7",), rare_below=0.0011)
    with pytest.raises(Invalid, match="twice"):
        GeneBurden(genes=("TLR7",), phenotype="severe", covariates=("severe",))
