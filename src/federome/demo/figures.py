"""Figures of the demonstration, drawn from released tables only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from federome.model.table import Table
from federome.model.variant import CHROMOSOMES

_DARK, _LIGHT, _LEAD = "#1f4e79", "#8fb3d1", "#c0392b"


def manhattan(bins: Table, hits: Table, path: Path, *, trait: str) -> None:
    """Strongest −log10 p in each megabase along the genome, leads marked; PNG or SVG by the path's suffix."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The pseudo-autosomal regions are counted apart, but they lie on X.
    names = np.array([_drawn(name) for name in bins["chromosome"].tolist()])
    starts, strength = bins.floats("start"), bins.floats("minus_log10_p")
    figure = Figure(figsize=(11, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    offset, ticks = 0.0, []
    placed: dict[str, float] = {}
    for rank, name in enumerate(n for n in CHROMOSOMES if (names == n).any()):
        here = names == name
        placed[name] = offset
        axes.scatter(starts[here] + offset, strength[here], s=9, color=_DARK if rank % 2 == 0 else _LIGHT, linewidths=0)
        width = float(starts[here].max()) + 1e6
        ticks.append((offset + width / 2, name))
        offset += width
    for name, position, value in zip(
        hits["chromosome"].tolist(), hits.ints("position").tolist(), hits.floats("minus_log10_p").tolist(), strict=True
    ):
        if _drawn(name) in placed:
            axes.scatter([placed[_drawn(name)] + position], [value], s=28, marker="D", color=_LEAD, linewidths=0)
    axes.axhline(-np.log10(5e-8), color="#888888", linewidth=0.8, linestyle="--")
    axes.set_xticks([x for x, _ in ticks], [name for _, name in ticks], fontsize=7)
    axes.set_xlim(0, offset)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("chromosome")
    axes.set_ylabel("strongest −log₁₀ p in each megabase")
    axes.set_title(
        f"{trait}: genome-wide association over all nodes (◆ lead variants, dashed line p = 5·10⁻⁸)", fontsize=9
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _drawn(chromosome: str) -> str:
    return "X" if chromosome.startswith("PAR") else chromosome
