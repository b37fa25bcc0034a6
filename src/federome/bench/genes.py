"""Finding TLR7 among 20,000 gene regions: men of five countries, each with a rare loss of function of his own.

Five stores are written and asked ``gene-burden`` through the pooled gate, in one process. TLR7 lies where GRCh38 has
it; the other regions are laid evenly over the autosomes and X. Of each gene chance decides who carries a qualifying
variant, at rates that differ between genes; a severe course depends on age, sex and, for hemizygous men, TLR7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from federome.analysis.algorithm import Block, View
from federome.analysis.gene_burden import GeneBurden
from federome.analysis.gene_skat import GeneSkat
from federome.analysis.program import run_in_process
from federome.bench.report import Row
from federome.disclosure import door
from federome.ingest.contigs import LENGTHS
from federome.model.dataset import DatasetManifest
from federome.model.index import BlockIndex
from federome.model.release import Policy, Round
from federome.model.table import Table
from federome.store.catalogue import Store
from federome.store.view import StudyView
from federome.store.writer import BatchWriter, DeclaredSex, GeneRegion, VariantInfo

NODES: Final = 5
TLR7: Final = GeneRegion("TLR7", "X", 12_867_072, 12_890_361)
HEMIZYGOUS: Final = (4, 3, 3, 3, 3)
"""Unrelated men with a severe course and a variant of their own in TLR7, at each node: sixteen."""
POLICY: Final = Policy()
MEAN_CARRIERS: Final = 4.0
"""Carriers of a gene's qualifying variants that a node has on average, log-normal over genes."""


@dataclass(frozen=True)
class _Site:
    """A store in the place of a node; no question about genes asks for blocks."""

    view: View

    def block(self, index: BlockIndex, rows: Table | None) -> Block:  # noqa: ARG002
        raise AssertionError


def measure(console: Console, quick: bool) -> list[Row]:
    """Rank of TLR7 and the time that the question takes."""
    people, genes = (500, 2_000) if quick else (2_000, 20_000)
    regions = gene_map(genes)
    with TemporaryDirectory() as made:
        console.print(f"writing {NODES} stores of {people:,} people and {genes:,} genes …", markup=False)
        nodes = [write_node(Path(made) / str(n), n, people, regions) for n in range(NODES)]
        views = [StudyView.freeze(store, [store.release("infections")]) for store in nodes]
        console.print("asking gene-burden …", markup=False)
        started = perf_counter()
        told = ask(burden([region.symbol for region in regions]), views)
        seconds = perf_counter() - started
        ranked = ranking(told["genes"])
        sets = ask(GeneSkat(genes=tuple(ranked[:20]), phenotype="severe", rare_below=0.01), views)["genes"]
    at = ranked.index("TLR7") + 1 if "TLR7" in ranked else 0
    first = ranking(sets, "acat_o")[0]
    p = [_value(told["genes"], name) for name in ranked[:2]]
    label = f"{len(regions):,} gene regions, {NODES} nodes"
    return [
        Row(f"{label}: rank of TLR7 in gene-burden, {sum(HEMIZYGOUS)} men", at, "", 1, at == 1),
        Row(f"{label}: -log10 p of TLR7", p[0], ""),
        Row(f"{label}: -log10 p of the next gene", p[1], ""),
        Row(f"{label}: genes that pass the gate", len(ranked), ""),
        Row(f"{label}: the whole question, {people:,} people a node", seconds, "s"),
        Row("first of the twenty best by ACAT-O too", float(first == "TLR7"), "", 1, first == "TLR7"),
    ]


def burden(genes: Sequence[str]) -> GeneBurden:
    """The question."""
    return GeneBurden(genes=tuple(genes), phenotype="severe", rare_below=0.01)


def ask(question: GeneBurden | GeneSkat, views: Sequence[View]) -> Mapping[str, Table]:
    """As released: through the pooled gate and the door."""

    def gate(total: Table, due: Round) -> Table:
        return door.gate(total, due, POLICY, contributors=len(views))

    tables = run_in_process(question, [_Site(view) for view in views], [], gate=gate, names=lambda _, t: t)
    return door.release(tables, question.releases, POLICY, people=sum(view.people for view in views)).tables


def ranking(genes: Table, test: str = "minus_log10_p") -> list[str]:
    """Tested genes, the smallest p value first."""
    logs = np.where(genes.withheld.get(test, False), -1.0, genes.floats(test))
    order = np.argsort(-logs, kind="stable")
    return [str(genes["gene"][i]) for i in order if logs[i] >= 0]


def _value(genes: Table, name: str) -> float:
    return float(genes.floats("minus_log10_p")[np.flatnonzero(genes["gene"] == name)[0]])


def gene_map(genes: int) -> list[GeneRegion]:
    """So many regions of 20,000 bases in genome order, TLR7 among them."""
    names = [*(str(n) for n in range(1, 23)), "X"]
    lengths = np.array([LENGTHS["GRCh38"][name] for name in names])
    ends = np.rint(np.cumsum(lengths) / lengths.sum() * (genes - 1)).astype(int).tolist()
    out = [TLR7]
    for name, length, first, stop in zip(names, lengths.tolist(), [0, *ends], ends, strict=False):
        for number, start in enumerate(np.linspace(3_000_000, length - 3_000_000, stop - first).astype(int).tolist()):
            moved = 50_000 if name == "X" and abs(start - TLR7.start) < 25_000 else 0
            out.append(GeneRegion(f"GENE{first + number + 1}", name, start + moved, start + moved + 20_000))
    return out


def write_node(folder: Path, number: int, people: int, regions: Sequence[GeneRegion]) -> Store:
    """A store of infected people. Whoever carries, carries one variant that one or two people here have."""
    rng = np.random.default_rng((6, number))
    male = rng.random(people) < 0.5
    age = rng.integers(18, 60, people)
    severe = rng.random(people) < 0.05 + 0.1 * male + 0.003 * (age - 18)
    shared = np.random.default_rng(6)  # rates of genes are the same in all countries
    rates = shared.lognormal(np.log(MEAN_CARRIERS) - 0.5, 1.0, len(regions))
    sexes: list[DeclaredSex] = ["male" if man else "female" for man in male]
    names = [f"n{number}-{i}" for i in range(people)]
    policy = Policy(k_min=1)
    about = DatasetManifest("infections", "Synthetic", "nobody", "minimal-dataset", "GRCh38", policy, synthetic=True)
    store = Store.open(folder)
    with BatchWriter.begin(store, about, "first", names, sexes) as writer:
        for chromosome in dict.fromkeys(region.chromosome for region in sorted(regions, key=_place)):
            here = [i for i, region in enumerate(regions) if region.chromosome == chromosome]
            found = [
                (regions[i], _carriers(rng, regions[i], rates[i], number, male & severe, ~male, people)) for i in here
            ]
            _add(writer, chromosome, sorted(found, key=lambda each: each[0].start), male)
        table = pd.DataFrame({"person_id": names, "birth_year": 2025 - age, "severe": severe.astype(float)})
        writer.set_phenotypes(table)
        writer.set_genes(regions)
        writer.commit(date(2026, 1, 1))
    return store


def _carriers(
    rng: np.random.Generator,
    gene: GeneRegion,
    rate: float,
    node: int,
    men: NDArray[np.bool_],
    women: NDArray[np.bool_],
    people: int,
) -> list[NDArray[np.int64]]:
    """Who carries each of the gene's variants here; in TLR7 the severely ill men, and a healthy woman or two."""
    if gene is TLR7:
        ill = rng.choice(np.flatnonzero(men), HEMIZYGOUS[node], replace=False)
        return [np.array([one]) for one in (*ill.tolist(), int(rng.choice(np.flatnonzero(women))))]
    out = []
    left = int(rng.poisson(rate))
    while left > 0:
        size = min(left, int(rng.integers(1, 3)))
        out.append(np.sort(rng.choice(people, size, replace=False)))
        left -= size
    return out


def _add(
    writer: BatchWriter,
    chromosome: str,
    found: Sequence[tuple[GeneRegion, Sequence[NDArray[np.int64]]]],
    male: NDArray[np.bool_],
) -> None:
    positions, carriers, effects = [], [], []
    for gene, variants in found:
        for at, people in enumerate(variants):
            positions.append(gene.start + 100 * (at + 1))
            carriers.append(people)
            effects.append(((gene.symbol, "stop_gained"),))
    if not positions:
        return
    who = np.concatenate(carriers)
    codes = np.where(male[who] & (chromosome == "X"), 2, 1).astype(np.uint8)
    offsets = np.cumsum([0, *(len(each) for each in carriers)])
    refs, alts = ["C"] * len(positions), ["T"] * len(positions)
    places = np.array(positions, np.int64)
    writer.add_sparse(
        chromosome, places, refs, alts, offsets, who.astype(np.uint32), codes, VariantInfo(effects=effects)
    )


def _place(region: GeneRegion) -> tuple[bool, int, int]:
    return region.chromosome == "X", int(region.chromosome) if region.chromosome != "X" else 0, region.start
