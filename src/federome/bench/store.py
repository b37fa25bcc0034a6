"""The genotype store against the tools that its users would pick instead: the same data, one thread, one run.

Values and peers are medians of CPU seconds taken in turns; peers' processes count from start to end unless a row says
"slope", which is the difference of two runs, so that starting up and reading people cost nothing. Data: ``sample``.
Rows whose peer is not installed are left out, with a note.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from federome.analysis.gwas_linear import GwasLinear
from federome.bench import sample, tools
from federome.bench.batches import DATASET, DAY, called, growing
from federome.bench.report import Row, against, at_most
from federome.bench.sample import Sample
from federome.bench.scale import scale
from federome.demo.pooled import run_pooled
from federome.model.variant import Variant
from federome.store import kernels
from federome.store.carriers import locate, reaching
from federome.store.catalogue import Store
from federome.store.pgen import PgenFile
from federome.store.records import SPARSE
from federome.store.view import Part
from federome.store.writer import BatchWriter, DeclaredSex

COVARIATES: Final = 10
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    people: int
    many_people: int
    mixed: int
    looked_up: int
    many_mixed: int
    gaps: int
    common: int
    rare: int
    bcf: int
    matrix: int
    pooled: int
    repeats: int


FULL: Final = Sizes(100_000, 500_000, 400_000, 100_000, 100_000, 5_000, 1_000, 40_000, 300, 2_000, 4_000, 5)
QUICK: Final = Sizes(20_000, 50_000, 100_000, 50_000, 40_000, 2_000, 500, 20_000, 200, 2_000, 1_000, 3)


@dataclass(frozen=True)
class Setting:
    """What every group of rows needs: sizes, a scratch folder, which peers are there."""

    size: Sizes
    folder: Path
    plink2: tools.Plink2 | None
    bcftools: bool
    bandwidth: float

    def bar(self, value: float | None) -> float | None:
        """What is asked, which holds for the full sizes only."""
        return value if self.size is FULL else None


def measure(console: Console, quick: bool) -> list[Row]:
    """All rows; figures of the curves go to ``bench-out``."""
    size = QUICK if quick else FULL
    versions = {name: tools.version(name) for name in ("plink2", "bcftools")}
    for name, found in versions.items():
        console.print(found or f"{name} is not installed: its rows are left out", markup=False)
    kernels.warm()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plink2 = tools.Plink2(folder) if versions["plink2"] else None
        setting = Setting(size, folder, plink2, bool(versions["bcftools"]), tools.memory_bandwidth())
        rows: list[Row] = [at_most("memory read by one thread", setting.bandwidth / 1e9, "GB/s", None)]
        groups = (
            counts,
            counts_at_scale,
            missing_calls,
            slow_counts,
            products,
            pooled,
            scores,
            lookup,
            batch,
            callability,
            warm_start,
        )
        for group in groups:
            started = perf_counter()
            rows += group(setting)
            console.print(f"{group.__name__.replace('_', ' ')}: {perf_counter() - started:.0f} s", markup=False)
    return rows + scale(console, Path("bench-out"), quick=quick)


# counts


def counts(setting: Setting) -> Iterator[Row]:
    """All people and a random tenth, against plink2's process and pgenlib's loop."""
    yield from _counts(setting, setting.size.people, setting.size.mixed, bars=((3, 2), (2, 1.5)))


def counts_at_scale(setting: Setting) -> Iterator[Row]:
    """The same where there are more people: never slower."""
    yield from _counts(setting, setting.size.many_people, setting.size.many_mixed, bars=((1, 1), (1, 1)))


def missing_calls(setting: Setting) -> Iterator[Row]:
    """Counts, products and a score where 1 to 3 % of calls are missing: each missing call is listed like a carrier."""
    size = setting.size
    yield from _counts(setting, size.people, size.gaps, bars=((None, None), (None, None)), kind="mixed, missing")
    made = sample.make(size.people, size.common, "common, missing")
    weights = kernels.Weights.of(Trait.draw(size.people).columns)
    effects = np.random.default_rng(7).normal(size=(made.variants, 1))
    everything, fill = range(made.variants), np.zeros(made.variants)
    with made.open() as file, sample.make(size.people, size.common, "common").open() as whole:
        for name, ours in (
            ("GWAS inner products", partial(kernels.inner_products, variants=everything, weights=weights)),
            (
                "weighted sums",
                partial(kernels.weighted_sums, variants=everything, weights=effects, fill=fill),
            ),
        ):
            mine, without = tools.medians(
                partial(tools.own_cpu, partial(ours, file)), partial(tools.own_cpu, partial(ours, whole)), repeats=3
            )
            what = f"{name}, common, 1 to 3 % of calls missing, {size.people:,}"
            mine, without = (1e6 * each / made.variants for each in (mine, without))
            yield at_most(what, mine, "µs/variant", None, peer="ours without missing calls", peer_value=without)


def _counts(
    setting: Setting,
    people: int,
    variants: int,
    *,
    bars: tuple[tuple[float | None, float | None], ...],
    kind: str = "mixed",
) -> Iterator[Row]:
    made = sample.make(people, variants, kind)
    chosen = np.sort(np.random.default_rng(3).choice(people, people // 10, replace=False)).astype(np.uint32)
    mask = np.zeros(people, np.bool_)
    mask[chosen] = True
    listed = setting.folder / "cohort.txt"
    listed.write_text("#IID\n" + "".join(f"p{i}\n" for i in chosen))
    with made.open() as file:
        masks = kernels.Masks.of(mask)
        assert np.array_equal(kernels.counts(file, range(variants)), tools.pgenlib_counts(made))
        work: tuple[tuple[str, Callable[[], object], NDArray[np.uint32] | None, tuple[object, ...]], ...] = (
            ("all people", partial(kernels.counts, file, range(variants)), None, ()),
            ("10 % cohort", partial(kernels.counts_masked, file, range(variants), masks), chosen, ("--keep", listed)),
        )
        for (name, ours, subset, keep), (plink2_bar, pgenlib_bar) in zip(work, bars, strict=True):
            measured = [
                partial(tools.own_cpu, ours),
                partial(tools.own_cpu, partial(tools.pgenlib_counts, made, subset)),
            ]
            if setting.plink2:
                measured.append(partial(setting.plink2.run, made, "--geno-counts", *keep))
            mine, theirs, *plink2 = (1e6 * s / variants for s in tools.medians(*measured, repeats=setting.size.repeats))
            what = f"counts, {name} of {people:,}" + kind.removeprefix("mixed").replace("missing", "1 to 3 % missing")
            for value in plink2:
                yield against(
                    what, mine, "µs/variant", peer="plink2 process", theirs=value, bar=setting.bar(plink2_bar)
                )
            yield against(what, mine, "µs/variant", peer="pgenlib loop", theirs=theirs, bar=setting.bar(pgenlib_bar))
            speed = made.pgen.stat().st_size / (mine * variants / 1e6)
            yield at_most(f"{what}: share of memory bandwidth", 100 * speed / setting.bandwidth, "%", None)


def slow_counts(setting: Setting) -> Iterator[Row]:
    """Against tools that decode everything: they get a slice of the same spectrum and are compared by the variant."""
    size = setting.size
    made = sample.make(size.people, size.mixed, "mixed")
    with made.open() as file:
        ours = partial(tools.own_cpu, partial(kernels.counts, file, range(made.variants)))
        decode = partial(tools.own_cpu, partial(tools.numpy_counts, made, size.matrix))
        mine, theirs = tools.medians(ours, decode, repeats=size.repeats)
    mine, theirs = 1e6 * mine / made.variants, 1e6 * theirs / size.matrix
    bar = setting.bar(1000.0)
    what = f"counts, all people of {size.people:,}"
    peer = f"matrix decode and NumPy ({size.matrix:,} variants)"
    yield against(what, mine, "µs/variant", peer=peer, theirs=theirs, bar=bar)
    if setting.plink2 and setting.bcftools:
        run = partial(_fill_tags, setting)
        slope = (run(sample.make(size.people, size.bcf, "mixed")) - run(sample.make(size.people, 1, "mixed"))) / (
            size.bcf - 1
        )
        peer = f"bcftools +fill-tags slope ({size.bcf} variants)"
        yield against(what, mine, "µs/variant", peer=peer, theirs=1e6 * slope, bar=bar)


def _fill_tags(setting: Setting, made: Sample) -> float:
    """CPU seconds of bcftools computing AC and AN of a BCF."""
    assert setting.plink2
    setting.plink2.run(made, "--export", "bcf")
    bcf = setting.plink2.path(".bcf")
    command = ("bcftools", "plugin", "fill-tags", bcf, "-Ou", "-o", "/dev/null", "--", "-t", "AC,AN")
    return tools.medians(partial(tools.child_cpu, *command), repeats=1)[0]


# regression and scores


@dataclass(frozen=True)
class Trait:
    """A made-up trait and covariates; ``columns`` are the residual trait and an orthonormal basis of the rest."""

    outcome: Floats
    covariates: Floats
    columns: Floats

    @classmethod
    def draw(cls, people: int) -> Trait:
        rng = np.random.default_rng(5)
        covariates = rng.normal(size=(people, COVARIATES))
        outcome = covariates @ rng.normal(size=COVARIATES) + rng.normal(size=people)
        basis = np.linalg.qr(np.column_stack([np.ones(people), covariates]))[0]
        return cls(outcome, covariates, np.column_stack([outcome - basis @ (basis.T @ outcome), basis]))

    @property
    def freedom(self) -> int:
        return len(self.outcome) - COVARIATES - 2


def statistics(
    file: PgenFile, tallied: NDArray[np.int32], weights: kernels.Weights, rest: float, freedom: int
) -> Floats:
    """Student's t of each variant, shape (variants,), no calls missing: residuals on residuals (Frisch & Waugh).

    ``tallied`` are the counts of everybody, which the store keeps beside the records.
    """
    found = kernels.inner_products(file, range(file.variants), weights)
    squares = tallied[:, 1] + 4 * tallied[:, 2] - (found.dosage[:, 1:] ** 2).sum(axis=1)
    slope = found.dosage[:, 0] / squares
    return np.asarray(slope / np.sqrt((rest - slope * found.dosage[:, 0]) / freedom / squares), np.float64)


def products(setting: Setting) -> Iterator[Row]:
    """Inner products with a trait and ten covariates, common and rare variants, and that the statistics agree."""
    size = setting.size
    trait = Trait.draw(size.people)
    weights = kernels.Weights.of(trait.columns)
    rest = float(trait.columns[:, 0] @ trait.columns[:, 0])
    traits = setting.folder / "traits.tsv"
    tools.write_traits(traits, trait.outcome, trait.covariates)
    for kind, variants, bar in (("common", size.common, 4.0), ("rare", size.rare, 10.0)):
        made = sample.make(size.people, variants, kind)
        what = f"GWAS inner products, {COVARIATES} covariates, {kind}, {size.people:,}"
        with made.open() as file:
            tallied = kernels.counts(file, range(variants))
            ours = partial(statistics, file, tallied, weights, rest, trait.freedom)
            own = partial(tools.own_cpu, ours)
            if not setting.plink2:
                mine = tools.medians(own, repeats=size.repeats)[0]
                yield at_most(what, 1e6 * mine / variants, "µs/variant", None)
                continue
            options = tools.glm_options(traits)
            run = partial(setting.plink2.run, made, *options)
            start = partial(setting.plink2.run, sample.make(size.people, 1, kind), *options)
            mine, whole, first = tools.medians(own, run, start, repeats=3)
            theirs = (whole - first) / (variants - 1)
            yield against(
                what,
                1e6 * mine / variants,
                "µs/variant",
                peer="plink2 --glm slope",
                theirs=1e6 * theirs,
                bar=setting.bar(bar),
            )
            run()
            yield _agreement(f"{kind}: |Δt| ÷ max(1e-4, 1e-5·|t|)", setting.plink2, ours())


def _agreement(name: str, plink2: tools.Plink2, ours: Floats) -> Row:
    """The worst difference from plink2's statistics, in units of what is allowed."""
    table = plink2.table(".y.glm.linear")
    theirs = pd.to_numeric(table["T_STAT"], errors="coerce").to_numpy(np.float64)
    there = np.isfinite(theirs)
    assert there.mean() > 0.9
    allowed = np.maximum(1e-4, 1e-5 * np.abs(theirs[there]))
    return at_most(name, float((np.abs(ours[there] - theirs[there]) / allowed).max()), "", 1.0)


def pooled(setting: Setting) -> Iterator[Row]:
    """A whole association study on one store, from freezing the cohort to the released tables."""
    size = setting.size
    if not setting.plink2:
        return
    made = sample.make(size.people, size.pooled, "common")
    trait = Trait.draw(size.people)
    traits = setting.folder / "traits.tsv"
    tools.write_traits(traits, trait.outcome, trait.covariates)
    root = _study_store(made, trait)
    names = tuple(f"c{i}" for i in range(COVARIATES))
    study = GwasLinear(phenotype="y", covariates=names, site_intercepts=False, unrelated=False)
    ours = partial(tools.own_cpu, partial(run_pooled, [(root, DATASET.id)], study))
    theirs = partial(setting.plink2.run, made, *tools.glm_options(traits))
    mine, peer = tools.medians(ours, theirs, repeats=2)
    what = f"GWAS end to end, {size.pooled:,} common variants, {size.people:,}"
    yield against(what, mine, "s", peer="plink2 --glm process", theirs=peer, bar=setting.bar(2.0))


def _study_store(made: Sample, trait: Trait) -> Path:
    root = made.prefix.with_suffix(".store")
    store = Store.open(root)
    if store.datasets():
        return root
    people = [f"p{i}" for i in range(made.people)]
    columns = {f"c{i}": trait.covariates[:, i] for i in range(COVARIATES)}
    with BatchWriter.begin(store, DATASET, "a", people, ["female"] * made.people) as writer, made.open() as file:
        places = sample.positions(made.variants)
        for start in range(0, made.variants, 500):
            stop = min(start + 500, made.variants)
            rows = kernels.decode(file, range(start, stop))
            writer.add_dense("1", places[start:stop], ["A"] * len(rows), ["C"] * len(rows), rows)
        writer.set_phenotypes(pd.DataFrame({"person_id": people, "y": trait.outcome, **columns}))
        writer.commit(DAY)
    return root


def scores(setting: Setting) -> Iterator[Row]:
    """A polygenic score of common variants, and that everybody's score agrees."""
    size = setting.size
    made = sample.make(size.people, size.common, "common")
    effects = np.random.default_rng(7).normal(size=(made.variants, 1))
    with made.open() as file:
        ours = partial(kernels.weighted_sums, file, range(made.variants), effects, np.zeros(made.variants))
        own = partial(tools.own_cpu, ours)
        what = f"weighted sums, common, {size.people:,}"
        if not setting.plink2:
            yield at_most(what, 1e6 * tools.medians(own, repeats=size.repeats)[0] / made.variants, "µs/variant", None)
            return
        listed = setting.folder / "score.txt"
        listed.write_text("".join(f"v{i}\tC\t{float(e):.17g}\n" for i, e in enumerate(effects[:, 0])))
        first = setting.folder / "first.txt"
        first.write_text(f"v0\tC\t{float(effects[0, 0]):.17g}\n")
        run = partial(setting.plink2.run, made, "--score", listed, "cols=scoresums")
        start = partial(setting.plink2.run, made, "--score", first, "cols=scoresums")
        mine, whole, little = tools.medians(own, run, start, repeats=3)
        slope = (whole - little) / (made.variants - 1)
        mine = 1e6 * mine / made.variants
        yield against(what, mine, "µs/variant", peer="plink2 --score slope", theirs=1e6 * slope, bar=setting.bar(10.0))
        run()
        theirs = setting.plink2.table(".sscore")["SCORE1_SUM"].to_numpy(np.float64)
        worst = float((np.abs(ours()[:, 0] - theirs) / np.maximum(1, np.abs(theirs))).max())
        yield at_most("weighted sums: relative difference from plink2", worst, "", 1e-5)


# the store itself


def lookup(setting: Setting) -> Iterator[Row]:
    """A rare variant by its place and alleles to its carriers, from a node's open store: as a node itself asks.

    Warm, in a loop of Python calls. pgenlib gets the number of the variant in its file for nothing.
    """
    import pgenlib

    made = sample.make(setting.size.people, setting.size.looked_up, "mixed")
    reader = pgenlib.PgenReader(bytes(made.pgen), raw_sample_ct=made.people)
    with made.open() as file:
        rare = np.flatnonzero(file.record_types & 7 == SPARSE)
    numbers = np.random.default_rng(11).choice(rare, 5_000).tolist()
    places = sample.positions(made.variants)[numbers].tolist()
    asked = [Variant("GRCh38", "1", at, "A", "C") for at in places]
    store = _listed_store(made)
    release = store.release(DATASET.id)
    part = Part(store, release, release.batches[0])

    def ours() -> None:
        for variant in asked:
            for block in reaching(part, variant.chromosome, variant.position, variant.position):
                kernels.carriers(block.pgen, locate(block, variant)[0])

    def theirs() -> None:
        for number in numbers:
            reader.read_sparse32(number)

    measured = (partial(tools.own_cpu, ours), partial(tools.own_cpu, theirs))
    mine, peer = (1e6 * s / len(asked) for s in tools.medians(*measured, repeats=setting.size.repeats))
    reader.close()
    yield at_most(
        f"position → carriers of a rare variant, {made.people:,}", mine, "µs", 10.0, peer="pgenlib", peer_value=peer
    )


def _listed_store(made: Sample) -> Store:
    """All variants of a sample in a store, 5,000 in a block: a chromosome has many blocks."""
    store = Store.open(made.prefix.with_suffix(".store"))
    if store.datasets():
        return store
    people = [f"p{i}" for i in range(made.people)]
    sexes: list[DeclaredSex] = ["female"] * made.people
    with (
        BatchWriter.begin(store, DATASET, "a", people, sexes, block_variants=5_000) as writer,
        made.open() as file,
    ):
        places = sample.positions(made.variants)
        for start in range(0, made.variants, 5_000):
            here = places[start : start + 5_000]
            carriers, codes = zip(*(kernels.carriers(file, start + i) for i in range(len(here))), strict=True)
            ends = np.cumsum([0, *map(len, carriers)])
            alleles = ["A"] * len(here), ["C"] * len(here)
            writer.add_sparse("1", here, *alleles, ends, np.concatenate(carriers), np.concatenate(codes))
        writer.commit(DAY)
    return store


def batch(setting: Setting) -> Iterator[Row]:
    """One percent more people."""
    yield from growing(setting.folder, setting.size.people)


def callability(setting: Setting) -> Iterator[Row]:
    """Bytes of a genome that say where it was called. Sites are as dense as so many people make them."""
    cohorts = ((10_000, 24_573), (100_000, 81_524)) if setting.size is FULL else ((10_000, 24_573),)
    yield from called(setting.folder, cohorts)


_WARM = """
from time import perf_counter, process_time
started = process_time()
from federome.network.warm import warm
imported, wall = process_time(), perf_counter()
warm()
print(imported - started, process_time() - imported, perf_counter() - wall)
"""


def warm_start(setting: Setting) -> Iterator[Row]:
    """A fresh process: imports, and every kernel from numba's cache."""
    taken = []
    for _ in range(setting.size.repeats):
        said = subprocess.run([sys.executable, "-c", _WARM], check=True, capture_output=True, text=True)  # noqa: S603
        taken.append([float(word) for word in said.stdout.split()])
    imports, kernels_s, wall = (median(column) for column in zip(*taken, strict=True))
    yield at_most("warm start of all kernels", kernels_s, "s", 1.0)
    yield at_most("warm start of all kernels, on the wall", wall, "s", None)
    yield at_most("imports before it", imports, "s", None)
