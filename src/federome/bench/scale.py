"""What cost follows: two measured curves, one block of a million people, and from it a whole genome on paper.

The curves show CPU time a variant against people with the carriers fixed, and against carriers with the people fixed.
Everything up to one block of 1,000,000 people is run; only the last rows, which say "computed", multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Final

import numpy as np
from rich.console import Console

from federome.bench import sample
from federome.bench.report import Row, at_most
from federome.bench.sample import Kind
from federome.store import kernels

COLUMNS: Final = 12
GENOME_MEGABASES: Final = 2_900
GENOME_RARE: Final = 1e9
"""Assumed variants below 0.1 % among a million people: 706,556,181 variants were called in 490,541 genomes of the UK
Biobank (doi 10.64898/2026.04.10.717786, abstract)."""
_ENOUGH_S: Final = 0.02

COUNTS, COHORT, PRODUCTS = "counts, all people", "counts, 10 % cohort", f"inner products, {COLUMNS} columns"
Costs = Mapping[str, float]


@dataclass(frozen=True)
class Curve:
    """CPU microseconds a variant along people or carriers."""

    label: str
    at: Sequence[int]
    microseconds: Sequence[float]


def scale(console: Console, out: Path, *, quick: bool) -> list[Row]:
    """Rows of the curves' ends and of the largest block; the figure is written to ``out``."""
    sizes = (10_000, 50_000, 100_000) if quick else (10_000, 100_000, 500_000, 1_000_000)
    largest = sizes[-1] if quick else 500_000
    carried = [n for n in (1, 10, 100, 1_000, 10_000, 100_000) if n <= largest // 5]
    weights = {people: _weights(people) for people in {*sizes, largest}}
    console.print(f"cost of {', '.join(f'{n:,}' for n in sizes)} people", markup=False)
    along_people: list[Curve] = []
    along_carriers: list[Curve] = []
    for carriers in (10, 1_000):
        found = [cost(people, _variants(people, carriers), carriers, weights[people]) for people in sizes]
        along_people += _curves(f"{carriers:,} carriers", sizes, found)
    for people in (10_000, largest):
        numbers = [n for n in carried if n <= people // 2]
        found = [cost(people, _variants(people, n), n, weights[people]) for n in numbers]
        along_carriers += _curves(f"{people:,} people", numbers, found)
    out.mkdir(parents=True, exist_ok=True)
    draw(along_people, along_carriers, out / "scale.png")
    console.print(f"figure: {out / 'scale.png'}", markup=False)
    rows = [_growth(curve, "people") for curve in along_people] + [_growth(c, "carriers") for c in along_carriers]
    return rows + million(sizes[-1], weights[sizes[-1]], quick=quick)


def cost(people: int, variants: int, kind: Kind, weights: kernels.Weights) -> dict[str, float]:
    """CPU microseconds a variant of each kernel, and ``bytes`` a variant, of one file."""
    made = sample.make(people, variants, kind)
    chosen = np.random.default_rng(3).random(people) < 0.1
    with made.open() as file:
        masks, everything = kernels.Masks.of(chosen), range(variants)
        work: dict[str, Callable[[], object]] = {
            COUNTS: partial(kernels.counts, file, everything),
            COHORT: partial(kernels.counts_masked, file, everything, masks),
            PRODUCTS: partial(kernels.inner_products, file, everything, weights),
        }
        found = {name: 1e6 * _seconds(each) / variants for name, each in work.items()}
    return found | {"bytes": made.pgen.stat().st_size / variants}


def million(people: int, weights: kernels.Weights, *, quick: bool) -> list[Row]:
    """One block of so many people, frequent and rare variants apart; then, computed, a genome of such blocks."""
    sizes = {"frequent": 100 if quick else 200, "rare": 4_000 if quick else 20_000}
    costs = {kind: cost(people, variants, kind, weights) for kind, variants in sizes.items()}
    rows = [
        at_most(f"{people:,} people, {kind}: {name}", value, "bytes" if name == "bytes" else "µs/variant", None)
        for kind, found in costs.items()
        for name, value in found.items()
    ]
    number = {"frequent": sample.FREQUENT_PER_MEGABASE * GENOME_MEGABASES, "rare": GENOME_RARE}
    said = f"computed, a genome of {people:,} people"
    for name in (COUNTS, COHORT, PRODUCTS):
        hours = sum(number[kind] * found[name] for kind, found in costs.items()) / 3.6e9
        rows.append(at_most(f"{said}: {name}", hours, "core hours", None))
    size = sum(number[kind] * found["bytes"] for kind, found in costs.items()) / 1e12
    return [*rows, at_most(f"{said}: genotypes", size, "TB", None)]


def draw(along_people: Sequence[Curve], along_carriers: Sequence[Curve], path: Path) -> None:
    """Both families of curves, side by side, on logarithmic axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, curves, label in ((left, along_people, "people"), (right, along_carriers, "carriers of a variant")):
        for number, curve in enumerate(curves):
            colour = ("#1f4e79", "#c0392b")[number % 2]
            style = ("-", "--")[number // 2]
            axes.plot(curve.at, curve.microseconds, style, color=colour, marker="o", markersize=4, label=curve.label)
        steepest = max(curves, key=lambda curve: curve.microseconds[0])
        guide = [steepest.microseconds[0] * at / steepest.at[0] for at in steepest.at]
        axes.plot(steepest.at, guide, ":", color="#888888", label=f"in proportion to {label.split()[0]}")
        axes.set(xscale="log", yscale="log", xlabel=label)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("CPU µs a variant, one thread")
    left.set_title("More people, the same carriers", fontsize=10)
    right.set_title("More carriers, the same people", fontsize=10)
    figure.savefig(path)


def _curves(label: str, at: Sequence[int], found: Sequence[Costs]) -> list[Curve]:
    """One curve a kernel."""
    return [Curve(f"{name}, {label}", at, [each[name] for each in found]) for name in (COHORT, PRODUCTS)]


def _growth(curve: Curve, along: str) -> Row:
    """How often as much the last point costs as the first."""
    times, more = curve.microseconds[-1] / curve.microseconds[0], curve.at[-1] / curve.at[0]
    return at_most(f"cost of {more:,.0f} times the {along}: {curve.label}", times, "times", None)


def _weights(people: int) -> kernels.Weights:
    return kernels.Weights.of(np.random.default_rng(1).normal(size=(people, COLUMNS)))


def _variants(people: int, carriers: int) -> int:
    """As many as make a call's fixed cost small, but no longer than needed."""
    if carriers > people // 100:
        return 60
    return 10_000 if carriers <= 100 else 2_000


def _seconds(work: Callable[[], object]) -> float:
    """Median CPU seconds of a call, repeated for a while."""
    work()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < _ENOUGH_S:
        started = process_time()
        work()
        taken.append(process_time() - started)
    return median(taken)
